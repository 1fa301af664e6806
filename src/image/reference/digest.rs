//! Content is named by its hash.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::NameError;

/// The hash functions that content is named by (image-spec, "Registered Algorithms").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn ring(self) -> &'static ring::digest::Algorithm {
        match self {
            Algorithm::Sha256 => &ring::digest::SHA256,
            Algorithm::Sha512 => &ring::digest::SHA512,
        }
    }
}

/// The name of some bytes: `sha256:` or `sha512:` and lower-case hex.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(
    /// The whole text, algorithm and all.
    Arc<str>,
);

impl Digest {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha512") { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }

    /// The first hex digits, as people quote them.
    pub fn short(&self) -> &str {
        let hex = self.0.split_once(':').map_or("", |(_, hex)| hex);
        &hex[..12]
    }

    /// The digest of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = |why| NameError::new("digest", text, why);
        let (name, hex) = text.split_once(':').ok_or_else(|| bad("it has the form sha256:HEX"))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(bad("only sha256 and sha512 are supported")),
        };
        if hex.len() != algorithm.ring().output_len() * 2 {
            return Err(bad("the hex part has the wrong length"));
        }
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad("the hex part is lower-case hexadecimal"));
        }
        Ok(Self(text.into()))
    }
}

/// Hashes a stream of bytes into a [`Digest`], with the processor's instructions where it has them.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    context: ring::digest::Context,
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, context: ring::digest::Context::new(algorithm.ring()) }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    pub fn finish(self) -> Digest {
        use std::fmt::Write as _;
        let mut text = format!("{}:", self.algorithm.name());
        for byte in self.context.finish().as_ref() {
            let _ = write!(text, "{byte:02x}");
        }
        Digest(text.into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
