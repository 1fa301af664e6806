//! What of an archive is written, line by line, for the run that goes on after a kill.
//!
//! ```text
//! mirror-images-archive 1 TABLE LIMIT
//! run PROCESS
//! at DIGEST OFFSET SIZE POSITION SUM
//! done DIGEST OFFSET SIZE
//! moving | moved | void
//! ```
//!
//! TABLE is the digest of the archive's table; LIMIT is how many bytes a part of it has, or 0. SUM is the digest of a
//! blob's bytes before POSITION; a POSITION of 0 takes back what was said of the blob before. Nothing of it is believed: whoever goes on hashes the bytes anew, so that a line costs
//! neither a wait for the disk nor harm where it, or what it tells of, is lost. A line that cannot be read is none.
//!
//! The last three are in the journal of files that are put aside for another archive: they are being renamed, they have
//! been, they are being removed.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};

use super::table::Table;
use crate::image::reference::Digest;

const HEAD: &str = "mirror-images-archive 1";
/// Most bytes of a journal that are read: an archive of 600 GB has fewer.
const READ_MAX: u64 = 64 << 20;

/// What becomes of files that are put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aside {
    Moving,
    Moved,
    Void,
}

impl Aside {
    fn word(self) -> &'static str {
        match self {
            Aside::Moving => "moving",
            Aside::Moved => "moved",
            Aside::Void => "void",
        }
    }
}

/// What an earlier run says to have written of a blob.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// Where the blob begins, in bytes.
    pub offset: u64,
    /// Of the whole blob, in bytes.
    pub size: u64,
    /// What its bytes before a position hash to.
    pub marks: BTreeMap<u64, Digest>,
}

/// What a journal says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// Of which archive, and how large its parts are. `None` if it is no journal.
    pub head: Option<(Digest, u64)>,
    /// The process that wrote last.
    pub process: Option<u32>,
    pub blobs: HashMap<Digest, Noted>,
    pub aside: Option<Aside>,
}

impl Notes {
    fn parse(text: &str) -> Self {
        let mut notes = Self::default();
        let mut lines = text.split_inclusive('\n');
        let head = lines.next().and_then(|line| line.strip_suffix('\n')?.strip_prefix(HEAD));
        notes.head = head.and_then(|head| match *head.split_whitespace().collect::<Vec<_>>() {
            [table, limit] => Some((table.parse().ok()?, limit.parse().ok()?)),
            _ => None,
        });
        if notes.head.is_some() {
            for line in lines.filter_map(|line| line.strip_suffix('\n')) {
                let _ = notes.read_line(line);
            }
        }
        notes
    }

    /// How many bytes of blobs it speaks of.
    pub(super) fn bytes(&self) -> u64 {
        let last = |noted: &Noted| noted.marks.last_key_value().map_or(0, |(position, _)| *position);
        self.blobs.values().map(last).fold(0, u64::saturating_add)
    }

    fn read_line(&mut self, line: &str) -> Option<()> {
        let (digest, offset, size, position, sum) = match *line.split(' ').collect::<Vec<_>>() {
            [word] => {
                self.aside = Some(
                    [Aside::Moving, Aside::Moved, Aside::Void].into_iter().find(|it| it.word() == word)?,
                );
                return Some(());
            }
            ["run", process] => {
                self.process = Some(process.parse().ok()?);
                return Some(());
            }
            ["at", digest, offset, size, position, sum] => (digest, offset, size, position, sum),
            ["done", digest, offset, size] => (digest, offset, size, size, digest),
            _ => return None,
        };
        let (offset, size, position): (u64, u64, u64) =
            (offset.parse().ok()?, size.parse().ok()?, position.parse().ok()?);
        let (digest, sum): (Digest, Digest) = (digest.parse().ok()?, sum.parse().ok()?);
        offset.checked_add(size)?;
        if position > size || sum.algorithm() != digest.algorithm() {
            return None;
        }
        let noted = self.blobs.entry(digest).or_default();
        if (noted.offset, noted.size) != (offset, size) {
            *noted = Noted { offset, size, marks: BTreeMap::new() };
        }
        if position == 0 && size > 0 {
            noted.marks.clear();
        } else {
            noted.marks.insert(position, sum);
        }
        Some(())
    }
}

/// Whether a journal ends within its very first line: its writer was killed before anything else was.
pub(super) fn is_torn_head(bytes: &[u8]) -> bool {
    let head = HEAD.as_bytes();
    !bytes.contains(&b'\n') && (head.starts_with(bytes) || bytes.starts_with(head))
}

/// A journal that is open, and locked by whoever has it.
#[derive(Debug)]
pub(super) struct Journal(pub File);

impl Journal {
    /// What is in it, and the bytes of that.
    pub(super) fn read(&self) -> io::Result<(Notes, Vec<u8>)> {
        let mut file = &self.0;
        file.rewind()?;
        let mut bytes = Vec::new();
        file.take(READ_MAX).read_to_end(&mut bytes)?;
        Ok((Notes::parse(&String::from_utf8_lossy(&bytes)), bytes))
    }

    /// Begins anew, for another archive. The head alone is on the disk before anything else is: without it nobody could
    /// tell whose the files are that it is about.
    pub(super) fn restart(&self, table: &Table, limit: u64) -> io::Result<()> {
        self.restart_as(&table.digest(), limit)
    }

    /// The same for an archive whose table has this digest.
    pub(super) fn restart_as(&self, table: &Digest, limit: u64) -> io::Result<()> {
        self.0.set_len(0)?;
        self.line(&format!("{HEAD} {table} {limit}"))?;
        self.0.sync_all()
    }

    /// This process goes on with it.
    pub(super) fn go_on(&self, read: &[u8]) -> io::Result<()> {
        // What was torn off stays a line of its own.
        let begin = if read.last().is_none_or(|last| *last == b'\n') { "" } else { "\n" };
        self.line(&format!("{begin}run {}", std::process::id()))
    }

    pub(super) fn at(
        &self,
        digest: &Digest,
        offset: u64,
        size: u64,
        position: u64,
        sum: &Digest,
    ) -> io::Result<()> {
        self.line(&format!("at {digest} {offset} {size} {position} {sum}"))
    }

    /// What becomes of the files that it tells of.
    pub(super) fn put_aside(&self, aside: Aside) -> io::Result<()> {
        self.line(aside.word())
    }

    /// All lines of another one behind its head.
    pub(super) fn copy(&self, other: &[u8]) -> io::Result<()> {
        let head = other.iter().position(|byte| *byte == b'\n').map_or(other.len(), |end| end + 1);
        let torn: &[u8] = if other.ends_with(b"\n") { b"" } else { b"\n" };
        (&self.0).write_all(&[&other[head..], torn].concat())
    }

    pub(super) fn done(&self, digest: &Digest, offset: u64, size: u64) -> io::Result<()> {
        self.line(&format!("done {digest} {offset} {size}"))
    }

    /// Lines are written whole and at the end, by whichever thread.
    fn line(&self, line: &str) -> io::Result<()> {
        (&self.0).write_all(format!("{line}\n").as_bytes())
    }
}
