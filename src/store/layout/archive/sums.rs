//! The checksums of an archive's parts, as `sha256sum -c` reads them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use super::scan::ReadAt;
use crate::image::reference::{Algorithm, Digest, Hasher};

/// Bytes that are read at a time.
const PIECE: u64 = 1 << 20;
/// Largest file of sums that is read: a thousand parts have fewer bytes.
pub(super) const READ_MAX: u64 = 1 << 20;

/// The SHA-256 of the first `length` bytes; `moved` hears how many have been read.
pub(super) fn hash(bytes: &impl ReadAt, length: u64, moved: impl Fn(u64)) -> io::Result<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut piece = vec![0; length.min(PIECE) as usize];
    let mut position = 0;
    while position < length {
        let piece = &mut piece[..(length - position).min(PIECE) as usize];
        bytes.read_exact_at(piece, position)?;
        hasher.update(piece);
        position += piece.len() as u64;
        moved(position);
    }
    Ok(hasher.finish())
}

/// The line of a file of this name in the same directory.
pub(super) fn line(name: &OsStr, sum: &Digest) -> Vec<u8> {
    let mut line = Vec::new();
    let mut escaped = Vec::new();
    for byte in name.as_bytes() {
        match byte {
            b'\\' => escaped.extend(b"\\\\"),
            b'\n' => escaped.extend(b"\\n"),
            b'\r' => escaped.extend(b"\\r"),
            byte => escaped.push(*byte),
        }
    }
    if escaped != name.as_bytes() {
        line.push(b'\\');
    }
    line.extend(hex(sum).as_bytes());
    line.extend(b"  ");
    line.extend(escaped);
    line.push(b'\n');
    line
}

fn hex(sum: &Digest) -> &str {
    sum.as_str().split_once(':').map_or("", |(_, hex)| hex)
}

/// The names and sums in a file of them; lines that are none are passed over.
pub(super) fn parse(bytes: &[u8]) -> Vec<(OsString, Digest)> {
    let parse = |line: &[u8]| {
        let (line, is_escaped) = line.strip_prefix(b"\\").map_or((line, false), |line| (line, true));
        let (hex, name) = line.split_at_checked(64)?;
        let name = name.strip_prefix(b"  ").or_else(|| name.strip_prefix(b" *"))?;
        let name = if is_escaped { unescape(name) } else { name.to_vec() };
        let sum = format!("sha256:{}", std::str::from_utf8(hex).ok()?).parse().ok()?;
        Some((OsString::from_vec(name), sum))
    };
    bytes.split(|byte| *byte == b'\n').filter_map(parse).collect()
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let mut bytes = name.iter().copied();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                other => other.unwrap_or(b'\\'),
            },
            byte => byte,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn sha256sum_takes_them_whatever_the_names() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["images.tar.001", "with space", "back\\slash", "two\nlines", "*star", " ä"];
        let mut text = Vec::new();
        for name in names {
            let path = dir.path().join(name);
            std::fs::write(&path, name.repeat(9)).unwrap();
            let file = std::fs::File::open(path).unwrap();
            let sum = hash(&file, name.len() as u64 * 9, |_| {}).unwrap();
            text.extend(line(OsStr::new(name), &sum));
        }
        std::fs::write(dir.path().join("sums"), &text).unwrap();
        let mut command = Command::new("sha256sum");
        let output = command.args(["-c", "sums"]).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap().matches(": OK").count(), names.len());
        let read: Vec<OsString> = parse(&text).into_iter().map(|(name, _)| name).collect();
        assert_eq!(read, names.map(OsString::from));
        assert_eq!(parse(b"\nno sum\n0123  short\n\xff\n"), []);
    }
}
