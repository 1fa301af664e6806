//! DSSE around a payload, and a Sigstore bundle around that (DSSE v1.0.2; Sigstore bundle v0.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::key::{KeyError, PublicKey, SigningKey};
use crate::util::text;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// How the same type was written at first.
const BUNDLE_BEFORE: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";
const PAYLOAD: &str = "application/vnd.in-toto+json";
/// Most signatures that are tried.
const SIGNATURES_MAX: usize = 8;

/// Why a payload is not to be had.
#[derive(Debug)]
pub(super) enum EnvelopeError {
    NotBundle(String),
    OtherBundle(String),
    Signature,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    #[serde(skip_serializing_if = "Option::is_none")]
    dsse_envelope: Option<Envelope>,
}

/// What says by which key it can be verified. A reader has that key from elsewhere: nothing in here is believed.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Material {
    public_key: Option<Hint>,
}

#[derive(Serialize, Deserialize)]
struct Hint {
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    sig: String,
}

/// What is signed: the payload together with its type (DSSE, "PAE").
pub(super) fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD} {} ", PAYLOAD.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// A bundle with `payload`, signed by `key`.
///
/// # Errors
/// The key does not sign.
pub(super) fn seal(key: &SigningKey, payload: &[u8]) -> Result<String, KeyError> {
    let sig = BASE64.encode(key.sign(&signed_bytes(payload))?);
    let hint = BASE64.encode(ring::digest::digest(&ring::digest::SHA256, &key.public().info()));
    let bundle = Bundle {
        media_type: BUNDLE.to_owned(),
        verification_material: Material { public_key: Some(Hint { hint }) },
        dsse_envelope: Some(Envelope {
            payload: BASE64.encode(payload),
            payload_type: PAYLOAD.to_owned(),
            signatures: vec![Signature { sig }],
        }),
    };
    let text = serde_json::to_string_pretty(&bundle).expect("a bundle can be written");
    Ok(text + "\n")
}

/// The payload of a bundle, if `key` has signed it.
///
/// # Errors
/// It has not, or there is no bundle.
pub(super) fn open(key: &PublicKey, bundle: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let not_bundle = |why: String| EnvelopeError::NotBundle(text::printable(&why));
    let bundle: Bundle = serde_json::from_slice(bundle).map_err(|error| not_bundle(error.to_string()))?;
    if ![BUNDLE, BUNDLE_BEFORE].contains(&bundle.media_type.as_str()) {
        return Err(EnvelopeError::OtherBundle(text::quoted(&bundle.media_type)));
    }
    let Some(envelope) = bundle.dsse_envelope.filter(|envelope| envelope.payload_type == PAYLOAD) else {
        return Err(not_bundle("it has no DSSE envelope with an in-toto statement".to_owned()));
    };
    let decoded = |text: &str| BASE64.decode(text).map_err(|error| not_bundle(error.to_string()));
    let payload = decoded(&envelope.payload)?;
    let signed = signed_bytes(&payload);
    for signature in envelope.signatures.iter().take(SIGNATURES_MAX) {
        if key.has_signed(&signed, &decoded(&signature.sig)?) {
            return Ok(payload);
        }
    }
    Err(EnvelopeError::Signature)
}
