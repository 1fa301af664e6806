//! A receipt: under a key of the user's own, which image went where, with which digest.
//!
//! It is an in-toto statement (in-toto attestation framework, "Statement v1") in a DSSE envelope, as a Sigstore bundle,
//! so that other programs verify it too. No network takes part, and no time is in it: the same run gives the same
//! statement.

mod envelope;
mod key;
mod statement;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub use self::key::{KEY_MAX, KeyError, PublicKey, SigningKey};
pub use self::statement::{Made, Outcome, Record, Statement};

use self::envelope::EnvelopeError;
use self::statement::StatementError;
use crate::image::reference::Digest;

/// Where the receipt of a lock is: beside it.
pub fn beside(lock: &Path) -> PathBuf {
    let mut name = lock.as_os_str().to_owned();
    name.push(".sigstore.json");
    name.into()
}

/// Largest receipt that is read, in bytes: the same as of other documents of a layout.
pub const BUNDLE_MAX: usize = 20 << 20;

/// Why a receipt is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReceiptError {
    #[error("it is larger than {} MiB", BUNDLE_MAX >> 20)]
    TooLarge,
    #[error("it is no Sigstore bundle: {0}")]
    NotBundle(String),
    #[error("it is a bundle of the type {0}, and only version 0.3 with a DSSE envelope is read")]
    OtherBundle(String),
    #[error("no signature in it is of this key")]
    Signature,
    #[error("what is signed is no receipt of this program: {0}")]
    Statement(String),
}

impl From<EnvelopeError> for ReceiptError {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::NotBundle(why) => Self::NotBundle(why),
            EnvelopeError::OtherBundle(found) => Self::OtherBundle(found),
            EnvelopeError::Signature => Self::Signature,
        }
    }
}

impl From<StatementError> for ReceiptError {
    fn from(error: StatementError) -> Self {
        Self::Statement(error.0)
    }
}

/// The receipt of `records` and of the lock that has the digest `lock`, as a Sigstore bundle.
///
/// # Errors
/// The key does not sign.
pub fn sign(key: &SigningKey, made: &Made, records: &[Record], lock: &Digest) -> Result<String, KeyError> {
    let statement = Statement::new(made.clone(), records.to_vec(), lock.clone());
    envelope::seal(key, &statement.to_bytes())
}

/// What `bundle` says, if it is signed by `key`.
///
/// # Errors
/// It is no bundle, is not signed by that key, or says something else than a receipt does.
pub fn verify(key: &PublicKey, bundle: &[u8]) -> Result<Statement, ReceiptError> {
    if bundle.len() > BUNDLE_MAX {
        return Err(ReceiptError::TooLarge);
    }
    let payload = envelope::open(key, bundle)?;
    Ok(Statement::read(&payload)?)
}

#[cfg(test)]
mod tests;
