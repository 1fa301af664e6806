//! Whether all images of a catalog exist, are what was recorded of them, and have the platforms that they should have.

use std::fmt;

use futures_util::stream::StreamExt as _;
use serde::Serialize;

use super::{Pulls, Question, Seen, answers, told, write_counts};
use crate::error::{Error, Kind};
use crate::events::{Event, Listener};
use crate::image::manifest::Manifest;
use crate::image::platforms::Platform;
use crate::image::reference::Digest;
use crate::options::VerifyOptions;
use crate::output::report::Exit;
use crate::util::text;

/// What was found. As JSON it is what `catalog verify -o json` gives.
#[derive(Debug, Serialize)]
pub struct Verification {
    pub references: Vec<Line>,
    pub there: usize,
    pub missing: usize,
    pub moved: usize,
    pub lacking: usize,
    /// Could not be found out.
    pub failed: usize,
    /// Missing, as the catalog says.
    pub gone: usize,
    /// There again, although the catalog says that they are gone.
    pub back: usize,
    /// Compared with a recorded digest.
    pub compared: usize,
    /// Of which only a pull would tell the platforms.
    pub platforms_unknown: usize,
    pub interrupted: bool,
    /// Of which nothing is known, as that was interrupted.
    pub unknown: usize,
    /// Whether all lines are shown to people, and not only those of which something is to be said.
    #[serde(skip)]
    whole: bool,
}

/// One image.
#[derive(Debug, Serialize)]
pub struct Line {
    pub source: String,
    pub state: Standing,
    /// The digest that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The one that is recorded of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_digest: Option<Digest>,
    /// Platforms that it should have, and has not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// Only a pull would tell its platforms.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub platforms_unknown: bool,
    /// The day since which it is gone, by the catalog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Whether asking again may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_pass: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    There,
    Missing,
    /// Its tag has another digest than is recorded.
    Moved,
    /// It is without a platform that it should have.
    Lacking,
    Failed,
    /// Missing, as the catalog says.
    Gone,
    /// There, although the catalog says that it is gone.
    Back,
}

/// Asks about all of `questions`. `interrupted` ends that early, with what is known by then.
pub(crate) async fn verify(
    options: &VerifyOptions,
    questions: Vec<Question>,
    listener: &Listener,
    interrupted: impl Future<Output = ()>,
) -> Verification {
    let total = questions.len();
    listener(Event::Asking { done: 0, total });
    let ask = |question: Question| async move { question.verify(&options.platforms).await };
    let mut lines = Vec::with_capacity(total);
    let mut answers = std::pin::pin!(answers(questions, options.asked.parallel, ask));
    let mut interrupted = std::pin::pin!(interrupted);
    let is_whole = loop {
        tokio::select! {
            line = answers.next() => match line {
                Some(line) => lines.push(line),
                None => break true,
            },
            () = &mut interrupted => break false,
        }
        listener(Event::Asking { done: lines.len(), total });
    };
    let unknown = total - lines.len();
    let found = Verification::new(lines, options.asked.output.verbose > 0);
    Verification { interrupted: !is_whole, unknown, ..found }
}

impl Question {
    async fn verify(self, platforms: &[Platform]) -> Line {
        let seen = match self.look(self.algorithm(), Pulls::Spared).await {
            // Of what was deleted several registries say that nobody may see it.
            Err(error) if self.gone.is_some() && matches!(error.kind, Kind::Unauthorized | Kind::Denied) => {
                Seen::Absent
            }
            Err(error) => return self.failed(&error),
            Ok(seen) => seen,
        };
        let line = self.line();
        match seen {
            Seen::Absent if self.gone.is_some() => {
                Line { state: Standing::Gone, gone_since: self.gone_since(), ..line }
            }
            Seen::Absent => Line { state: Standing::Missing, ..line },
            Seen::Untold => {
                let cause = "its registry tells no digest without a pull; catalog pin spends one".to_owned();
                Line { state: Standing::Failed, cause: Some(cause), may_pass: Some(false), ..line }
            }
            Seen::Digest(digest, manifest) => match self.lacks(&digest, platforms, manifest.as_ref()).await {
                Ok(lacks) => self.there(digest, lacks),
                Err(error) => self.failed(&error),
            },
        }
    }

    fn gone_since(&self) -> Option<String> {
        self.gone.as_ref().map(|gone| gone.since.to_string())
    }

    /// A line about an image of which nothing else is known.
    fn line(&self) -> Line {
        Line {
            source: self.reference.to_string(),
            state: Standing::There,
            digest: None,
            pinned_digest: self.held_to().cloned(),
            lacks: Vec::new(),
            platforms_unknown: false,
            gone_since: None,
            cause: None,
            may_pass: None,
        }
    }

    fn failed(&self, error: &Error) -> Line {
        let (cause, may_pass) = told(error);
        Line { state: Standing::Failed, cause, may_pass, ..self.line() }
    }

    fn there(&self, digest: Digest, lacks: Option<Vec<String>>) -> Line {
        let line = self.line();
        let state = match &line.pinned_digest {
            _ if self.gone.is_some() && !self.is_mirrored => Standing::Back,
            Some(pinned) if *pinned != digest => Standing::Moved,
            _ if lacks.as_ref().is_some_and(|lacks| !lacks.is_empty()) => Standing::Lacking,
            _ => Standing::There,
        };
        let platforms_unknown = lacks.is_none();
        let gone_since = self.gone_since().filter(|_| state == Standing::Back);
        let lacks = lacks.unwrap_or_default();
        Line { state, digest: Some(digest), lacks, platforms_unknown, gone_since, ..line }
    }

    /// Which platforms an image of this digest is without: of those that are `wanted`, or else of those that are recorded
    /// of it. `None` where only a pull would tell.
    async fn lacks(
        &self,
        digest: &Digest,
        wanted: &[Platform],
        fetched: Option<&Manifest>,
    ) -> Result<Option<Vec<String>>, Error> {
        let recorded = || self.pin.iter().flat_map(|pin| &pin.platforms).filter_map(|p| p.platform.clone());
        let is_recorded = self.pin.as_ref().is_some_and(|pin| pin.digest.as_ref() == Some(digest));
        let wanted: Vec<Platform> = match wanted {
            [] if is_recorded => Vec::new(),
            [] => recorded().filter_map(|name| name.parse().ok()).collect(),
            named => named.to_vec(),
        };
        if wanted.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let has: Vec<String> = match fetched {
            _ if is_recorded && recorded().next().is_some() => recorded().collect(),
            Some(manifest) => self.platforms_of(manifest).await?,
            None if !self.may_fetch(Pulls::Spared) => return Ok(None),
            None => self.platforms_of(&self.manifest(digest).await?).await?,
        };
        let lacking = wanted.iter().filter(|platform| !has.iter().any(|there| platform.is(there)));
        Ok(Some(lacking.map(ToString::to_string).collect()))
    }
}

impl Verification {
    fn new(mut references: Vec<Line>, whole: bool) -> Self {
        references.sort_by(|a, b| a.source.cmp(&b.source));
        let number = |state| references.iter().filter(|line| line.state == state).count();
        let is_compared = |line: &&Line| line.digest.is_some() && line.pinned_digest.is_some();
        Self {
            there: number(Standing::There),
            missing: number(Standing::Missing),
            moved: number(Standing::Moved),
            lacking: number(Standing::Lacking),
            failed: number(Standing::Failed),
            gone: number(Standing::Gone),
            back: number(Standing::Back),
            compared: references.iter().filter(is_compared).count(),
            platforms_unknown: references.iter().filter(|line| line.platforms_unknown).count(),
            interrupted: false,
            unknown: 0,
            references,
            whole,
        }
    }

    pub fn exit(&self) -> Exit {
        match self.missing + self.moved + self.lacking + self.failed {
            _ if self.interrupted => Exit::Interrupted,
            0 => Exit::Done,
            _ => Exit::SomeFailed,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            Standing::There => "there",
            Standing::Missing => "missing",
            Standing::Moved => "moved",
            Standing::Lacking => "lacking",
            Standing::Failed => "FAILED",
            Standing::Gone => "gone",
            Standing::Back => "back",
        };
        write!(f, "{state:<10}{}", self.source)?;
        let mut told = Vec::new();
        if let (Standing::Moved, Some(pinned), Some(digest)) = (self.state, &self.pinned_digest, &self.digest)
        {
            told.push(format!("{pinned} is recorded of it, and it has {digest} now"));
        }
        if !self.lacks.is_empty() {
            told.push(format!("without {}", text::list(&self.lacks)));
        }
        told.extend(self.cause.clone());
        told.extend(self.gone_since.as_ref().map(|since| match self.state {
            Standing::Back => format!("it is there, and the catalog says that it is gone since {since}"),
            _ => format!("gone since {since}"),
        }));
        if told.is_empty() { Ok(()) } else { write!(f, ": {}", told.join("; ")) }
    }
}

/// For people: a line for each image of which something is to be said, then the sums.
impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_told = |line: &&Line| self.whole || !matches!(line.state, Standing::There | Standing::Gone);
        for line in self.references.iter().filter(is_told) {
            writeln!(f, "{line}")?;
        }
        if self.references.iter().any(|line| is_told(&line)) {
            writeln!(f)?;
        }
        write!(f, "{}: {} there", text::count(self.references.len(), "image"), self.there)?;
        let others = [
            (self.missing, "missing"),
            (self.moved, "moved"),
            (self.lacking, "lacking a platform"),
            (self.failed, "failed"),
            (self.gone, "gone as the catalog says"),
            (self.back, "there again"),
        ];
        write_counts(f, &others)?;
        writeln!(f, "; {} compared with a recorded digest", self.compared)?;
        if self.platforms_unknown > 0 {
            let images = text::count(self.platforms_unknown, "image");
            writeln!(
                f,
                "The platforms of {images} of Docker Hub are not recorded, and only a pull would tell."
            )?;
        }
        if self.interrupted {
            let all = text::count(self.references.len() + self.unknown, "image");
            writeln!(f, "Interrupted: nothing is known of {} of {all}.", self.unknown)?;
        }
        Ok(())
    }
}
