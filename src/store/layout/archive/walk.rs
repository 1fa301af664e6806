//! The entries of a tar, from header to header; their contents are not touched.
//!
//! Readers of tars disagree on what is unusual, and an archive that two of them understand differently can carry past a
//! check what another one then loads. So this reader takes what all agree on and refuses the rest. The crate `tar` has
//! the fields of a header; its own walk reads extended headers of any size into memory.

use std::io;

use tar::{EntryType, Header};

use super::header::{BLOCK, in_blocks};
use super::scan::ScanError;
use crate::util::text::quoted;

/// Most headers in one archive, extended ones among them.
const HEADERS_MAX: usize = 1_000_000;
/// Largest extended header, in bytes: the same that Go reads.
const EXTENDED_MAX: u64 = 1 << 20;

/// Bytes that can be read at any place.
pub(crate) trait ReadAt {
    /// # Errors
    /// They cannot be read, or end before the buffer is full.
    fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for std::fs::File {
    fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

/// An entry.
#[derive(Debug)]
pub(super) struct Raw {
    pub name: Vec<u8>,
    pub kind: EntryType,
    /// Where its content begins, in bytes.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

impl Raw {
    /// Its name for a message.
    pub(super) fn shown(&self) -> String {
        shown(&self.name)
    }
}

fn shown(name: &[u8]) -> String {
    quoted(&String::from_utf8_lossy(name))
}

/// Whoever goes from header to header.
pub(super) struct Walk<'a, R> {
    bytes: &'a R,
    /// Of the whole file, in bytes.
    length: u64,
    /// Where the next header is.
    next: u64,
    headers: usize,
    /// The name of the entry before, for messages.
    last: Vec<u8>,
}

/// What the headers before an entry's own say of it.
#[derive(Default)]
struct Extended {
    pax: bool,
    path: Option<Vec<u8>>,
    size: Option<u64>,
    long_name: Option<Vec<u8>>,
    long_link: bool,
}

impl Extended {
    fn is_any(&self) -> bool {
        self.pax || self.long_name.is_some() || self.long_link
    }
}

impl<'a, R: ReadAt> Walk<'a, R> {
    pub(super) fn new(bytes: &'a R, length: u64) -> Self {
        Self { bytes, length, next: 0, headers: 0, last: Vec::new() }
    }

    /// The next entry; `None` at the end of the archive.
    ///
    /// # Errors
    /// It is cut off, damaged, or means different things to different readers.
    pub(super) fn next(&mut self) -> Result<Option<Raw>, ScanError> {
        let mut extended = Extended::default();
        loop {
            let Some(header) = self.header()? else {
                return if extended.is_any() { Err(self.no_end()) } else { Ok(None) };
            };
            let size = number(&header.as_old().size).ok_or_else(|| self.damaged())?;
            let kind = header.entry_type();
            match kind {
                // Solaris' form of it, which some readers heed and others skip.
                kind if kind.as_byte() == b'X' => {
                    return Err(self.ambiguous("it has an extended header of an old form"));
                }
                EntryType::XHeader if extended.pax => {
                    return Err(self.ambiguous("it has two extended headers"));
                }
                EntryType::XHeader => {
                    let records = self.content(size)?;
                    self.read_pax(&records, &mut extended)?;
                }
                EntryType::XGlobalHeader => {
                    let mut global = Extended::default();
                    let records = self.content(size)?;
                    self.read_pax(&records, &mut global)?;
                    if global.path.is_some() || global.size.is_some() {
                        return Err(self.ambiguous("a global header gives it a name or a size"));
                    }
                }
                EntryType::GNULongName if extended.long_name.is_some() => {
                    return Err(self.ambiguous("it has two long names"));
                }
                EntryType::GNULongName => {
                    let mut name = self.content(size)?;
                    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                    name.truncate(end);
                    extended.long_name = Some(name);
                }
                EntryType::GNULongLink => {
                    self.content(size)?;
                    extended.long_link = true;
                }
                _ => return self.entry(&header, size, extended).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, size: u64, extended: Extended) -> Result<Raw, ScanError> {
        let name = match (extended.path, extended.long_name) {
            (Some(_), Some(_)) => return Err(self.ambiguous("it has two long names")),
            (Some(name), None) | (None, Some(name)) => name,
            (None, None) => header.path_bytes().into_owned(),
        };
        let ambiguous = |why| Err(ScanError::Ambiguous { entry: shown(&name), why });
        let size = match extended.size {
            Some(told) if size != 0 && told != size => return ambiguous("it has two sizes"),
            Some(told) => told,
            None => size,
        };
        let kind = header.entry_type();
        if kind.is_gnu_sparse() {
            return Err(ScanError::Sparse(shown(&name)));
        }
        // For some readers these have no content, whatever their headers say, and for others they have.
        let has_none = name.ends_with(b"/")
            || kind.is_dir()
            || kind.is_symlink()
            || kind.is_hard_link()
            || kind.is_character_special()
            || kind.is_block_special()
            || kind.is_fifo();
        if has_none && size != 0 {
            return ambiguous("it has a size, and is no file");
        }
        let offset = self.next;
        let lacking = self.skip(size);
        if lacking > 0 {
            return Err(ScanError::Truncated { entry: shown(&name), lacking });
        }
        self.last.clone_from(&name);
        Ok(Raw { name, kind, offset, size })
    }

    /// The next header; `None` for what ends an archive.
    fn header(&mut self) -> Result<Option<Header>, ScanError> {
        if self.length - self.next < BLOCK {
            return Err(self.no_end());
        }
        let mut header = Header::new_old();
        self.bytes.fill_at(header.as_mut_bytes(), self.next).map_err(ScanError::Io)?;
        self.next += BLOCK;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return self.end();
        }
        self.headers += 1;
        if self.headers > HEADERS_MAX {
            return Err(ScanError::TooMany(HEADERS_MAX));
        }
        let is_whole = header.cksum().is_ok_and(|told| told == checksum(header.as_bytes()));
        if is_whole { Ok(Some(header)) } else { Err(self.damaged()) }
    }

    /// One block of zeros is there. Two end an archive; one is taken where the file ends with it.
    fn end(&mut self) -> Result<Option<Header>, ScanError> {
        if self.next == self.length {
            return Ok(None);
        }
        if self.length - self.next < BLOCK {
            return Err(self.no_end());
        }
        let mut second = [0; BLOCK as usize];
        self.bytes.fill_at(&mut second, self.next).map_err(ScanError::Io)?;
        if second.iter().all(|byte| *byte == 0) {
            Ok(None)
        } else {
            Err(self.ambiguous("a block of zeros follows it, and then there is more"))
        }
    }

    /// The content of an extended header.
    fn content(&mut self, size: u64) -> Result<Vec<u8>, ScanError> {
        if size > EXTENDED_MAX {
            return Err(ScanError::Extended(EXTENDED_MAX));
        }
        let offset = self.next;
        if self.skip(size) > 0 {
            return Err(self.no_end());
        }
        let mut content = vec![0; size as usize];
        self.bytes.fill_at(&mut content, offset).map_err(ScanError::Io)?;
        Ok(content)
    }

    /// Goes behind so many bytes and what fills up their last block; how many of them are not there.
    fn skip(&mut self, size: u64) -> u64 {
        let there = self.length - self.next;
        self.next =
            self.next.checked_add(size).and_then(in_blocks).map_or(self.length, |next| next.min(self.length));
        size.saturating_sub(there)
    }

    fn read_pax(&self, records: &[u8], extended: &mut Extended) -> Result<(), ScanError> {
        extended.pax = true;
        let unreadable = || self.ambiguous("its extended header cannot be read");
        let records = pax_records(records).ok_or_else(unreadable)?;
        for (key, value) in records {
            // An empty value takes an earlier one back.
            match key {
                _ if value.is_empty() => {}
                b"path" if extended.path.is_some() => return Err(self.ambiguous("it has two names")),
                b"path" => extended.path = Some(value.to_vec()),
                b"size" if extended.size.is_some() => return Err(self.ambiguous("it has two sizes")),
                b"size" => extended.size = Some(decimal(value).ok_or_else(unreadable)?),
                _ if key.starts_with(b"GNU.sparse.") || key == b"SCHILY.realsize" => {
                    return Err(ScanError::Sparse(self.next_one()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The entry whose name is not known yet.
    fn next_one(&self) -> String {
        let last = &self.last;
        if last.is_empty() { "number one".to_owned() } else { format!("behind {}", shown(last)) }
    }

    fn ambiguous(&self, why: &'static str) -> ScanError {
        ScanError::Ambiguous { entry: self.next_one(), why }
    }

    fn no_end(&self) -> ScanError {
        if self.headers == 0 { ScanError::NotTar } else { ScanError::NoEnd(shown(&self.last)) }
    }

    /// What should be a header is none.
    fn damaged(&self) -> ScanError {
        if self.headers <= 1 && self.last.is_empty() {
            ScanError::NotTar
        } else {
            ScanError::Damaged { last: shown(&self.last), offset: self.next - BLOCK }
        }
    }
}

/// The sum of a header's bytes, where its own field counts as spaces.
fn checksum(header: &[u8; BLOCK as usize]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&header[..148]) + 8 * u32::from(b' ') + sum(&header[156..])
}

/// A number in octal digits, or in GNU's binary form. Readers differ in what they make of anything else.
fn number(field: &[u8; 12]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (start, rest) = field.split_at(4);
        return (start == [0x80, 0, 0, 0])
            .then(|| rest.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)));
    }
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let begin = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !is_padding(byte)).map_or(begin, |last| last + 1);
    field[begin..end].iter().try_fold(0, |all, byte| match byte {
        b'0'..=b'7' => Some(all * 8 + u64::from(byte - b'0')),
        _ => None,
    })
}

fn decimal(text: &[u8]) -> Option<u64> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}

/// The records of an extended header: `LENGTH KEY=VALUE` and a line's end each.
fn pax_records(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
        let (record, rest) = bytes.split_at_checked(length)?;
        let (b'\n', record) = record.get(space + 1..)?.split_last()? else { return None };
        let equals = record.iter().position(|byte| *byte == b'=')?;
        records.push((&record[..equals], &record[equals + 1..]));
        bytes = rest;
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of an empty file, over and over.
    struct Endless(Header);

    impl ReadAt for Endless {
        fn fill_at(&self, buffer: &mut [u8], _: u64) -> io::Result<()> {
            buffer.copy_from_slice(self.0.as_bytes());
            Ok(())
        }
    }

    #[test]
    fn there_is_an_end_to_entries() {
        let mut header = Header::new_ustar();
        header.set_size(0);
        header.set_cksum();
        let endless = Endless(header);
        let mut walk = Walk { headers: HEADERS_MAX - 2, ..Walk::new(&endless, u64::MAX) };
        assert!(walk.next().is_ok() && walk.next().is_ok());
        assert!(matches!(walk.next(), Err(ScanError::TooMany(HEADERS_MAX))));
    }
}
