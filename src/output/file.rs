//! Files that results go to: each stays whole until the new one is.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::OFlags;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Names of images and hosts, for the user alone.
    Report,
    /// Records that are to be shared: as readable as the one before, or as files are.
    Pins,
    /// The same of one run's images.
    Lock,
}

/// Writes `text` to `path`. What is there stays whole until the new one is. What is there and is no file, such as a pipe,
/// is written to and stays what it is.
///
/// # Errors
/// It or its directory cannot be written to.
pub fn write(path: &Path, text: &str, holds: Holds) -> Result<()> {
    let cannot = || cannot_write(path, holds);
    if is_written_to(path) {
        return write_into(path, text).with_context(cannot);
    }
    let mut file = file_beside(path, holds).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    file.persist(path).with_context(cannot)?;
    Ok(())
}

/// Finds out beforehand whether something can be written at the end.
///
/// # Errors
/// It cannot.
pub fn check_place(path: &Path, holds: Holds) -> Result<()> {
    ensure!(!path.is_dir(), "{}: it is a directory", cannot_write(path, holds));
    // To open a pipe and close it again would be its end to the reader.
    if is_written_to(path) {
        return Ok(());
    }
    file_beside(path, holds).map(drop).with_context(|| cannot_write(path, holds))
}

/// Whether a new file must not take the place of what is there: a pipe or a device. A link is not followed, for anybody
/// may have left it there, but for those that the system itself has, such as /dev/stdout.
fn is_written_to(path: &Path) -> bool {
    let directory = directory_of(path);
    let is_systems = ["/dev", "/dev/fd"].iter().any(|place| directory == Path::new(place));
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_symlink() => (is_systems || directory.starts_with("/proc")) && path.exists(),
        Ok(there) => !there.is_file(),
        Err(_) => false,
    }
}

fn write_into(path: &Path, text: &str) -> io::Result<()> {
    // A pipe that nobody reads is not waited for, one that is read slowly is.
    let flags = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits();
    let mut file = OpenOptions::new().append(true).custom_flags(flags.cast_signed()).open(path)?;
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    file.write_all(text.as_bytes())
}

/// Keeps other runs of this program from changing `path` until it is dropped, once none does. It is its directory that is
/// locked: the file itself is replaced, and one beside it would stay behind. Where the file system has no such locks,
/// nobody is kept.
///
/// # Errors
/// Its directory cannot be opened.
pub fn lock(path: &Path) -> Result<fs::File> {
    let cannot = || cannot_write(path, Holds::Pins);
    let directory = fs::File::open(directory_of(path)).with_context(cannot)?;
    if let Err(error) = directory.lock() {
        tracing::debug!("{} cannot be locked: {error}", directory_of(path).display());
    }
    Ok(directory)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn file_beside(path: &Path, holds: Holds) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    if holds != Holds::Report {
        let there = fs::symlink_metadata(path).ok().filter(|there| there.is_file());
        let mode = there.map_or(0o666, |there| there.permissions().mode() & 0o777);
        builder.permissions(Permissions::from_mode(mode));
    }
    builder.tempfile_in(directory_of(path))
}

fn cannot_write(path: &Path, holds: Holds) -> String {
    let what = match holds {
        Holds::Report => "report",
        Holds::Pins => "records",
        Holds::Lock => "lock",
    };
    format!("cannot write the {what} to {}", path.display())
}
