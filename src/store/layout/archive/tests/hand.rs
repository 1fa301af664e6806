//! Tars made by hand, as no good program makes them.

use super::super::scan::{Found, ScanError, scan};
use super::sample::DOCUMENT;

/// A tar made by hand.
#[derive(Default, Clone)]
pub(crate) struct Tar(pub Vec<u8>);

impl Tar {
    /// One with the two documents that have to be there.
    pub(crate) fn layout() -> Self {
        Self::default().file("oci-layout", DOCUMENT).file("index.json", r#"{"manifests":[]}"#)
    }

    pub(crate) fn raw(
        mut self,
        name: &str,
        kind: u8,
        content: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn entry(self, name: &str, kind: u8, content: &str) -> Self {
        self.raw(name, kind, content.as_bytes(), |_| {})
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.entry(name, b'0', content)
    }

    pub(crate) fn pax(self, records: &[(&str, &str)]) -> Self {
        self.extended(b'x', records)
    }

    pub(crate) fn extended(self, kind: u8, records: &[(&str, &str)]) -> Self {
        let record = |(key, value): &(&str, &str)| {
            let rest = key.len() + value.len() + 3;
            let length = (rest + 1..).find(|length| *length == rest + length.to_string().len()).unwrap();
            format!("{length} {key}={value}\n")
        };
        let records: String = records.iter().map(record).collect();
        self.entry("PaxHeaders/x", kind, &records)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }

    /// Why the archive is refused once it has ended.
    pub(crate) fn refused(self) -> ScanError {
        scanned(&self.end()).unwrap_err()
    }
}

pub(crate) fn scanned(tar: &Vec<u8>) -> Result<Found, ScanError> {
    scan(tar, tar.len() as u64)
}
