//! The header of one entry of a tar, as every reader takes it: ustar, and PAX where ustar has no room
//! (POSIX.1, `pax`, "ustar Interchange Format" and "pax Extended Header").
//!
//! Nothing in it depends on who writes it, or when: same entry, same bytes.

use tar::{EntryType, Header};

/// A tar consists of blocks of so many bytes.
pub(super) const BLOCK: u64 = 512;
/// Largest size that ustar's field for it holds: eleven octal digits.
const USTAR_SIZE_MAX: u64 = 0o777_7777_7777;

/// `size` bytes in whole blocks; `None` for more than there are numbers.
pub(super) fn in_blocks(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(BLOCK)
}

/// How many bytes the header of an entry has, extended header and all.
pub(super) fn length(path: &str, size: u64) -> u64 {
    let records = records(path, size).len() as u64;
    let extended = if records == 0 { 0 } else { BLOCK + records.next_multiple_of(BLOCK) };
    extended + BLOCK
}

/// The header of a regular file of `size` bytes.
pub(super) fn bytes(path: &str, size: u64) -> Vec<u8> {
    let records = records(path, size);
    let mut bytes = Vec::new();
    if !records.is_empty() {
        let base = path.rsplit('/').next().unwrap_or_default();
        let mut extended = header(&format!("PaxHeaders/{base}"), records.len() as u64);
        extended.set_entry_type(EntryType::XHeader);
        extended.set_cksum();
        bytes.extend_from_slice(extended.as_bytes());
        bytes.extend_from_slice(&records);
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
    }
    bytes.extend_from_slice(header(path, size).as_bytes());
    bytes
}

/// The ustar header alone, with as much in it as fits: readers take what is missing from the extended one.
fn header(path: &str, size: u64) -> Header {
    let mut header = fitting(path).unwrap_or_else(|| {
        let mut header = Header::new_ustar();
        let name = &mut header.as_ustar_mut().expect("it is made as one").name;
        let start = &path.as_bytes()[..path.len().min(name.len())];
        name[..start.len()].copy_from_slice(start);
        header
    });
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    // Zero is what Go and Python write where PAX has the size; a binary number would be GNU's extension.
    header.set_size(if size > USTAR_SIZE_MAX { 0 } else { size });
    for set in [Header::set_device_major, Header::set_device_minor] {
        set(&mut header, 0).expect("a ustar header has devices");
    }
    header.set_cksum();
    header
}

/// A header with `path` in it, if ustar's name and prefix hold it.
fn fitting(path: &str) -> Option<Header> {
    let mut header = Header::new_ustar();
    header.set_path(path).ok().map(|()| header)
}

/// What does not fit into ustar, as the records of a PAX extended header.
fn records(path: &str, size: u64) -> Vec<u8> {
    let mut records = Vec::new();
    if fitting(path).is_none() {
        records.extend(record("path", path));
    }
    if size > USTAR_SIZE_MAX {
        records.extend(record("size", &size.to_string()));
    }
    records
}

/// `LENGTH KEY=VALUE`, where the length counts its own digits and the line's end.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_digits() {
        assert_eq!(record("size", "1"), b"9 size=1\n");
        assert_eq!(record("size", "12"), b"11 size=12\n");
        for length in 80..120 {
            let record = record("path", &"x".repeat(length));
            let told = String::from_utf8(record.clone()).unwrap();
            assert_eq!(told.split(' ').next().unwrap().parse(), Ok(record.len()));
        }
    }

    #[test]
    fn a_header_says_nothing_of_who_wrote_it() {
        let bytes = bytes("blobs/sha256/ab", 7);
        assert_eq!(bytes.len(), 512);
        let header = Header::from_byte_slice(&bytes);
        assert_eq!(
            (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
            (0o644, 0, 0, 0)
        );
        assert_eq!((header.username(), header.groupname()), (Ok(Some("")), Ok(Some(""))));
        assert_eq!(header.entry_size().unwrap(), 7);
        assert!(header.as_ustar().is_some() && header.entry_type().is_file());
    }

    #[test]
    fn pax_comes_in_only_where_ustar_has_no_room() {
        let (short, long) = ("a".repeat(100), format!("blobs/sha512/{}", "0".repeat(128)));
        let prefixed = format!("{}/{}", "a".repeat(155), "b".repeat(100));
        for (path, size, extended) in [
            (short.as_str(), 0, false),
            (prefixed.as_str(), USTAR_SIZE_MAX, false),
            (long.as_str(), 0, true),
            ("a", (8 << 30) - 1, false),
            ("a", 8 << 30, true),
        ] {
            let bytes = bytes(path, size);
            assert_eq!(bytes.len() as u64, length(path, size));
            assert_eq!(bytes.len(), if extended { 1536 } else { 512 }, "{path} {size}");
        }
    }
}
