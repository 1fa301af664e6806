//! Digests as registries write them: `sha256:<hex>`.

use ring::digest::{Context, SHA256, SHA512};

pub type Digest = String;

pub fn sha256(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

/// The digest of `bytes` in the algorithm that `wanted` names, if it is one we know.
pub fn same_algorithm(wanted: &str, bytes: &[u8]) -> Option<Digest> {
    let (algorithm, name) = match wanted.split_once(':')?.0 {
        "sha256" => (&SHA256, "sha256"),
        "sha512" => (&SHA512, "sha512"),
        _ => return None,
    };
    let value = ring::digest::digest(algorithm, bytes);
    Some(format!("{name}:{}", hex(value.as_ref())))
}

/// Whether the text has the form of a digest we know.
pub fn is_digest(text: &str) -> bool {
    let length = match text.split_once(':') {
        Some(("sha256", _)) => 64,
        Some(("sha512", _)) => 128,
        _ => return false,
    };
    let hex = &text[7..];
    hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// SHA-256 over a stream.
#[derive(Clone)]
pub struct Hasher(Context);

impl Default for Hasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Digest {
        format!("sha256:{}", hex(self.0.finish().as_ref()))
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
