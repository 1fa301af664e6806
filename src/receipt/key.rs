//! The user's key, as `openssl genpkey` and `openssl pkey -pubout` write it: P-256 or Ed25519.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, UnparsedPublicKey,
};
use thiserror::Error;

/// Largest file of a key that is read, in bytes.
pub const KEY_MAX: usize = 64 << 10;

/// What stands before the point of a P-256 key (RFC 5480: SubjectPublicKeyInfo of id-ecPublicKey with secp256r1).
const P256_INFO: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// What stands before an Ed25519 key (RFC 8410).
const ED25519_INFO: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Bytes of an uncompressed point of P-256, and its first one.
const POINT: usize = 65;
const UNCOMPRESSED: u8 = 4;

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    #[error("it is larger than {} KiB", KEY_MAX >> 10)]
    TooLarge,
    #[error("it holds no {0} in PEM form")]
    NoPem(&'static str),
    #[error("it is encrypted: decrypt it (openssl pkey -in KEY -out OTHER)")]
    Encrypted,
    #[error("it is in an older form: convert it (openssl pkcs8 -topk8 -nocrypt -in KEY -out OTHER)")]
    OldForm,
    #[error("it is a private key, and the public one is wanted (openssl pkey -in KEY -pubout -out OTHER)")]
    Private,
    #[error(
        "it is neither a P-256 nor an Ed25519 key (openssl genpkey -algorithm ed25519, or -algorithm EC -pkeyopt \
         ec_paramgen_curve:P-256)"
    )]
    OtherKind,
    #[error("it does not sign")]
    NotSigned,
}

/// A private key.
pub struct SigningKey(Pair);

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: Kind,
    /// The point or the number itself.
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    P256,
    Ed25519,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

impl SigningKey {
    /// Reads PKCS#8 in PEM form.
    ///
    /// # Errors
    /// It is none, or of another kind of key.
    pub fn read(pem: &[u8]) -> Result<Self, KeyError> {
        let der = match block(pem, "PRIVATE KEY")? {
            Some(der) => der,
            None if block(pem, "ENCRYPTED PRIVATE KEY")?.is_some() => return Err(KeyError::Encrypted),
            None if block(pem, "EC PRIVATE KEY")?.is_some() => return Err(KeyError::OldForm),
            None => return Err(KeyError::NoPem("private key")),
        };
        // openssl writes no public key beside that of Ed25519.
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
            return Ok(Self(Pair::Ed25519(pair)));
        }
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der, &SystemRandom::new());
        pair.map(|pair| Self(Pair::P256(pair))).map_err(|_| KeyError::OtherKind)
    }

    pub fn public(&self) -> PublicKey {
        match &self.0 {
            Pair::P256(pair) => PublicKey { kind: Kind::P256, bytes: pair.public_key().as_ref().to_vec() },
            Pair::Ed25519(pair) => {
                PublicKey { kind: Kind::Ed25519, bytes: pair.public_key().as_ref().to_vec() }
            }
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.0 {
            Pair::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                signature.map(|signature| signature.as_ref().to_vec()).map_err(|_| KeyError::NotSigned)
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in PEM form.
    ///
    /// # Errors
    /// It is none, or of another kind of key.
    pub fn read(pem: &[u8]) -> Result<Self, KeyError> {
        let der = match block(pem, "PUBLIC KEY")? {
            Some(der) => der,
            None if block(pem, "PRIVATE KEY")?.is_some() => return Err(KeyError::Private),
            None => return Err(KeyError::NoPem("public key")),
        };
        match (der.strip_prefix(P256_INFO), der.strip_prefix(ED25519_INFO)) {
            (Some(point), _) if point.len() == POINT && point[0] == UNCOMPRESSED => {
                Ok(Self { kind: Kind::P256, bytes: point.to_vec() })
            }
            (_, Some(key)) if key.len() == 32 => Ok(Self { kind: Kind::Ed25519, bytes: key.to_vec() }),
            _ => Err(KeyError::OtherKind),
        }
    }

    /// As others read it: a SubjectPublicKeyInfo.
    pub(super) fn info(&self) -> Vec<u8> {
        let prefix = match self.kind {
            Kind::P256 => P256_INFO,
            Kind::Ed25519 => ED25519_INFO,
        };
        [prefix, &self.bytes].concat()
    }

    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self.kind {
            Kind::P256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.bytes).verify(message, signature)
            }
            Kind::Ed25519 => UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature),
        };
        verified.is_ok()
    }
}

/// The content of the first PEM block with this label (RFC 7468).
fn block(pem: &[u8], label: &str) -> Result<Option<Vec<u8>>, KeyError> {
    if pem.len() > KEY_MAX {
        return Err(KeyError::TooLarge);
    }
    let text = String::from_utf8_lossy(pem);
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != begin).skip(1);
    let mut content = String::new();
    loop {
        match lines.next() {
            Some(line) if line == end => return Ok(BASE64.decode(content).ok()),
            Some(line) => content += line,
            None => return Ok(None),
        }
    }
}
