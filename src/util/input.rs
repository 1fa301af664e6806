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
    let bytes = bytes_from(reader, max)?;
    let text =
        String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8"))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// The bytes of a file, at most `max`. What a file says of its size is not asked: a pipe or a device says 0.
pub fn read_bytes(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    bytes_from(File::open(path)?, max)
}

fn bytes_from(reader: impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {} MiB", max >> 20)));
    }
    Ok(bytes)
}
