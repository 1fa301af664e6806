//! An archive on its way: `FILE.partial`, as large as the archive will be, and a journal of what is in it by now.
//!
//! The journal begins with the name of the table, so that a later run knows whether all is to be where it was. What is
//! called done, and what a blob has reached, is believed only once it was read and hashed again: nothing is made durable
//! on the way. An earlier archive, or a partial one of another plan, gives what it has of the same blobs.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::super::files::{is_at, open_regular};
use super::table::Table;
use crate::image::reference::Digest;

/// Bytes of a large blob between two notes of how far it is.
pub(in crate::store::layout) const NOTE_EVERY: u64 = 1 << 20;
/// Largest journal that is read, in bytes: a line for each blob and for each MiB.
const JOURNAL_MAX: u64 = 64 << 20;
const FIRST_WORDS: &str = "mirror-images journal 1";

/// Why an archive cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum PartialError {
    #[error("another run{} is writing it", .0.map(|pid| format!(", process {pid},")).unwrap_or_default())]
    Busy(Option<u32>),
    #[error("it needs {} and the disk has {} left", crate::util::text::bytes(*.needed), crate::util::text::bytes(*.free))]
    NoRoom { needed: u64, free: u64 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What an earlier run has left of the same archive.
#[derive(Debug, Default)]
pub(in crate::store::layout) struct Left {
    /// Blobs that it called done.
    pub done: HashSet<Digest>,
    /// How far others had come, in bytes.
    pub reached: HashMap<Digest, u64>,
}

/// The file, held by this run alone.
#[derive(Debug)]
pub(in crate::store::layout) struct Partial {
    /// What it is going to be called.
    path: PathBuf,
    partial: PathBuf,
    file: File,
    journal: Mutex<File>,
}

impl Partial {
    /// Makes the file in its whole size, with all that is known before a blob has moved; or goes on with what is there.
    ///
    /// # Errors
    /// Another run holds it, there is no room for it, or it cannot be written.
    pub(in crate::store::layout) fn begin(path: &Path, table: &Table) -> Result<(Self, Left), PartialError> {
        let partial = beside(path, ".partial");
        let file = loop {
            let file = open(&partial)?;
            if file.try_lock().is_err() {
                return Err(PartialError::Busy(read_journal(path)?.map(|journal| journal.process)));
            }
            // Whoever held it may have given it its name meanwhile.
            if is_at(&file, &partial)? {
                break file;
            }
        };
        let digest = table.digest();
        let known = read_journal(path)?.filter(|known| known.table == digest.as_str());
        let left = match known {
            Some(journal) if file.metadata()?.len() == table.size() => journal.left,
            _ => {
                // It may be of use, as another archive.
                if file.metadata()?.len() > 0 {
                    fs::rename(&partial, beside(path, ".partial.old"))?;
                    drop(file);
                    return Self::begin(path, table);
                }
                Left::default()
            }
        };
        if let Err(error) = reserve(&file, table.size()) {
            if left.done.is_empty() && left.reached.is_empty() {
                let _ = fs::remove_file(&partial);
            }
            return Err(error);
        }
        for (place, bytes) in table.gaps() {
            file.write_all_at(&bytes, place)?;
        }
        let journal = begin_journal(path, &digest, &left)?;
        Ok((Self { path: path.to_owned(), partial, file, journal: Mutex::new(journal) }, left))
    }

    pub(in crate::store::layout) fn file(&self) -> &File {
        &self.file
    }

    /// Where it is until it is whole.
    pub(in crate::store::layout) fn place(&self) -> &Path {
        &self.partial
    }

    /// Notes that a blob is in its place.
    pub(in crate::store::layout) fn note_done(&self, digest: &Digest) -> io::Result<()> {
        self.note(format!("done {digest}\n"))
    }

    /// Notes that so many bytes of a blob are in their place.
    pub(in crate::store::layout) fn note_reached(&self, digest: &Digest, bytes: u64) -> io::Result<()> {
        self.note(format!("at {digest} {bytes}\n"))
    }

    fn note(&self, line: String) -> io::Result<()> {
        self.journal.lock().expect("no code panics while it holds this lock").write_all(line.as_bytes())
    }

    /// Gives the file its name, for good.
    pub(in crate::store::layout) fn finish(&self) -> io::Result<()> {
        self.file.sync_data()?;
        fs::rename(&self.partial, &self.path)?;
        File::open(directory_of(&self.path))?.sync_all()?;
        for rest in [".partial.journal", ".partial.old"] {
            match fs::remove_file(beside(&self.path, rest)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Files that may have blobs of an archive that is to be at `path`: one that was whole, and a partial one of another plan.
pub(in crate::store::layout) fn donors(path: &Path) -> [PathBuf; 2] {
    [path.to_owned(), beside(path, ".partial.old")]
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Takes all the room that the file needs, before anything is asked for.
fn reserve(file: &File, size: u64) -> Result<(), PartialError> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        Err(Errno::NOSPC | Errno::FBIG) => Err(PartialError::NoRoom { needed: size, free: room(file)? }),
        // Some file systems cannot.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let free = room(file)?;
            if free < size {
                return Err(PartialError::NoRoom { needed: size, free });
            }
            Ok(file.set_len(size)?)
        }
        Err(error) => Err(PartialError::Io(error.into())),
    }
}

/// Bytes that the file system has left, with those that the file has already.
fn room(file: &File) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let system = rustix::fs::fstatvfs(file)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize).saturating_add(file.metadata()?.blocks() * 512))
}

struct Journal {
    table: String,
    process: u32,
    left: Left,
}

/// The journal of an earlier run, as far as it was written: its last line may be torn.
fn read_journal(path: &Path) -> io::Result<Option<Journal>> {
    let file = match open_regular(&beside(path, ".partial.journal")) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(JOURNAL_MAX).read_to_end(&mut bytes)?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

fn parse(text: &str) -> Option<Journal> {
    let whole = &text[..=text.rfind('\n')?];
    let mut lines = whole.lines();
    let mut first = lines.next()?.strip_prefix(FIRST_WORDS)?.split_whitespace();
    let (table, process) = (first.next()?.to_owned(), first.next()?.parse().ok()?);
    let mut left = Left::default();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["done", digest] => {
                if let Ok(digest) = digest.parse::<Digest>() {
                    left.reached.remove(&digest);
                    left.done.insert(digest);
                }
            }
            ["at", digest, bytes] => {
                if let (Ok(digest), Ok(bytes)) = (digest.parse::<Digest>(), bytes.parse()) {
                    left.reached.insert(digest, bytes);
                }
            }
            _ => {}
        }
    }
    Some(Journal { table, process, left })
}

/// Writes what is known anew, so that the journal does not grow with every run.
fn begin_journal(path: &Path, table: &Digest, left: &Left) -> io::Result<File> {
    let mut text = format!("{FIRST_WORDS} {table} {}\n", std::process::id());
    for digest in &left.done {
        text.push_str(&format!("done {digest}\n"));
    }
    for (digest, bytes) in &left.reached {
        text.push_str(&format!("at {digest} {bytes}\n"));
    }
    let journal = beside(path, ".partial.journal");
    let mut file = tempfile::NamedTempFile::new_in(directory_of(path))?;
    file.write_all(text.as_bytes())?;
    file.persist(&journal)?;
    OpenOptions::new().append(true).open(journal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::reference::Algorithm;

    fn table(entries: &[(&str, u64)]) -> Table {
        Table::new(entries.iter().map(|(path, size)| ((*path).to_owned(), *size))).unwrap()
    }

    fn digest(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    #[test]
    fn what_a_killed_run_has_noted_is_known_to_the_next_one_of_the_same_plan_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.tar");
        let plan = table(&[("a", 1000), ("b", 70_000)]);
        let (partial, left) = Partial::begin(&path, &plan).unwrap();
        assert!(left.done.is_empty() && left.reached.is_empty());
        assert_eq!(partial.file().metadata().unwrap().len(), plan.size());
        partial.note_reached(&digest("b"), 10).unwrap();
        partial.note_reached(&digest("b"), 20).unwrap();
        partial.note_reached(&digest("a"), 5).unwrap();
        partial.note_done(&digest("a")).unwrap();
        assert!(
            matches!(Partial::begin(&path, &plan), Err(PartialError::Busy(Some(pid))) if pid == std::process::id())
        );
        partial.note("at sha256:torn".to_owned()).unwrap();
        drop(partial);
        for _ in 0..2 {
            let (_, left) = Partial::begin(&path, &plan).unwrap();
            assert_eq!(left.done, HashSet::from([digest("a")]));
            assert_eq!(left.reached, HashMap::from([(digest("b"), 20)]));
        }
        let (other, left) = Partial::begin(&path, &table(&[("a", 1000), ("b", 70_001)])).unwrap();
        assert!(left.done.is_empty());
        assert!(donors(&path)[1].exists(), "the other one is kept to take blobs from");
        other.finish().unwrap();
        let names: Vec<_> =
            fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["a.tar"]);
    }

    #[test]
    fn a_disk_without_room_is_told_before_anything_is_written() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.tar");
        let error = Partial::begin(&path, &table(&[("a", 1 << 60)])).unwrap_err();
        match error {
            PartialError::NoRoom { needed, .. } => assert!(needed > 1 << 60),
            // More than the file system lets a file have.
            PartialError::Io(error) => assert_eq!(error.kind(), ErrorKind::FileTooLarge, "{error}"),
            PartialError::Busy(_) => panic!("{error}"),
        }
        assert!(!path.exists() && !home.path().join("a.tar.partial").exists() || !path.exists());
    }

    #[test]
    fn a_journal_that_is_none_is_worth_nothing() {
        for text in [
            "",
            "\n",
            "mirror-images journal 2 x 1\n",
            "mirror-images journal 1\n",
            "mirror-images journal 1 x y\n",
        ] {
            assert!(parse(text).is_none(), "{text:?}");
        }
        let journal = parse("mirror-images journal 1 x 7\ndone nothing\nat a b\nat c\n\u{0}\n").unwrap();
        assert!(journal.left.done.is_empty() && journal.left.reached.is_empty());
    }
}
