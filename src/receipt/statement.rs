//! What a receipt says: each name at the target with its digest, where that came from, and the lock.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::image::reference::Digest;
use crate::util::text;

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "urn:mirror-images:receipt:v1";
/// What the lock is called among the subjects.
const LOCK: &str = "mirror-images.lock.json";
/// Most images of one receipt.
const RECORDS_MAX: usize = 100_000;

/// One image under one name at the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it is published, as it was asked for.
    pub source: String,
    /// The digest of what the name stands for.
    #[serde(deserialize_with = "digest")]
    pub digest: Digest,
    pub target: String,
    /// Those that went along; none named means all, or that it is not divided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    pub result: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Copied,
    /// It was there already.
    Present,
}

/// What made the receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The program's version.
    pub tool: String,
    /// The catalog by its digest, where one was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
}

/// All that a receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub made: Made,
    /// By target and source.
    pub records: Vec<Record>,
    pub lock: Digest,
}

/// Why some bytes are no such statement.
#[derive(Debug)]
pub(super) struct StatementError(pub String);

#[derive(Serialize, Deserialize)]
struct Raw {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Predicate {
    made: Made,
    images: Vec<Record>,
}

impl Statement {
    pub(super) fn new(made: Made, mut records: Vec<Record>, lock: Digest) -> Self {
        records.sort_by(|a, b| (&a.target, &a.source).cmp(&(&b.target, &b.source)));
        Self { made, records, lock }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let records = self.records.iter().map(|record| Subject::new(&record.target, &record.digest));
        let raw = Raw {
            kind: STATEMENT.to_owned(),
            subject: records.chain([Subject::new(LOCK, &self.lock)]).collect(),
            predicate_type: PREDICATE.to_owned(),
            predicate: Predicate { made: self.made.clone(), images: self.records.clone() },
        };
        serde_json::to_vec(&raw).expect("a statement can be written")
    }

    /// # Errors
    /// They are none, or its two lists are not of the same names and digests.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, StatementError> {
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|error| StatementError(text::printable(&error.to_string())))?;
        let fail = |why: &str| Err(StatementError(why.to_owned()));
        if raw.kind != STATEMENT || raw.predicate_type != PREDICATE {
            return Err(StatementError(format!("it is of the type {}", text::quoted(&raw.predicate_type))));
        }
        let Predicate { made, images } = raw.predicate;
        if images.len() > RECORDS_MAX || raw.subject.len() > RECORDS_MAX + 1 {
            return fail("it has more images than can be");
        }
        let mut lock = None;
        let mut subjects = BTreeSet::new();
        for subject in &raw.subject {
            let Some(digest) = subject.digest() else { return fail("a subject has no digest, or several") };
            match subject.name.as_str() {
                LOCK if lock.is_some() => return fail("it names two locks"),
                LOCK => lock = Some(digest),
                name => _ = subjects.insert((name.to_owned(), digest)),
            }
        }
        let told: BTreeSet<(String, Digest)> =
            images.iter().map(|record| (record.target.clone(), record.digest.clone())).collect();
        match lock {
            Some(lock) if told == subjects => Ok(Self::new(made, images, lock)),
            Some(_) => fail("its subjects are not the images that it tells of"),
            None => fail("it names no lock"),
        }
    }
}

impl Subject {
    fn new(name: &str, digest: &Digest) -> Self {
        let (algorithm, hex) = digest.as_str().split_once(':').expect("a digest has a colon");
        Self { name: name.to_owned(), digest: [(algorithm.to_owned(), hex.to_owned())].into() }
    }

    fn digest(&self) -> Option<Digest> {
        let mut all = self.digest.iter();
        match (all.next(), all.next()) {
            (Some((algorithm, hex)), None) => format!("{algorithm}:{hex}").parse().ok(),
            _ => None,
        }
    }
}

fn digest<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}
