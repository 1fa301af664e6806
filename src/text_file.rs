//! Texts from files and standard input, no larger than they may be.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// The text of a file; `-` is no special name here.
pub fn read(path: &Path, max: u64) -> io::Result<String> {
    from_reader(File::open(path)?, max)
}

/// The text of `reader`, at most `max` bytes, without a byte-order mark.
pub fn from_reader(reader: impl Read, max: u64) -> io::Result<String> {
    let mut text = String::new();
    reader.take(max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > max {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {} MiB", max >> 20)));
    }
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}
