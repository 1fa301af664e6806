//! Tokens as docker-registry wants them: JWT, ES256, with the certificate in the header.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::json;

use super::auth::Scope;

/// docker-registry accepts tokens for so long after their end.
const LEEWAY: u64 = 60;

pub struct Signer {
    key: EcdsaKeyPair,
    header: String,
    pub issuer: String,
    pub certificate_pem: String,
    next: AtomicU64,
}

impl Signer {
    pub fn new(issuer: &str) -> Self {
        let pair = KeyPair::generate().expect("a P-256 key pair");
        let params = CertificateParams::new(vec![issuer.to_owned()]).expect("a valid name");
        let certificate = params.self_signed(&pair).expect("a certificate");
        let random = SystemRandom::new();
        let der = pair.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random);
        let chain = [STANDARD.encode(certificate.der())];
        Self {
            key: key.expect("rcgen and ring agree on PKCS #8"),
            header: part(&json!({ "typ": "JWT", "alg": "ES256", "x5c": chain })),
            issuer: issuer.to_owned(),
            certificate_pem: certificate.pem(),
            next: AtomicU64::new(1),
        }
    }

    pub fn sign(&self, service: &str, scopes: &[Scope], lifetime: Duration) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let back = if lifetime.as_secs() < LEEWAY { LEEWAY } else { 0 };
        let entry =
            |(name, action): &Scope| json!({ "type": "repository", "name": name, "actions": [action] });
        let claims = json!({
            "iss": self.issuer, "sub": "tester", "aud": service,
            "exp": now + lifetime.as_secs() - back, "nbf": now - back - 10, "iat": now - back,
            "jti": self.next.fetch_add(1, Ordering::SeqCst).to_string(),
            "access": scopes.iter().map(entry).collect::<Vec<_>>(),
        });
        let signed = format!("{}.{}", self.header, part(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.expect("signing needs only random numbers");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn part(value: &serde_json::Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
