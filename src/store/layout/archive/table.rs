//! Where each entry of a tar is, from their names and sizes alone.

use thiserror::Error;

use super::header::{self, BLOCK, in_blocks};
use crate::image::reference::{Algorithm, Digest, Hasher};

/// What ends a tar: two blocks of zeros. No reader needs it filled up to a record of 10 KiB, as for a tape.
const END: u64 = 2 * BLOCK;

/// More bytes than a file may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("its images have more bytes together than a file can have")]
pub struct TooLarge;

/// An entry and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Where its header begins, in bytes.
    pub header: u64,
    /// Where its content begins.
    pub data: u64,
}

/// All entries of a tar, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    entries: Vec<Placed>,
    size: u64,
}

impl Table {
    /// # Errors
    /// The tar would be larger than files can be.
    pub(crate) fn new(entries: impl IntoIterator<Item = (String, u64)>) -> Result<Self, TooLarge> {
        let mut placed = Vec::new();
        let mut end: u64 = 0;
        for (path, size) in entries {
            let header = end;
            let data = header.checked_add(header::length(&path, size)).ok_or(TooLarge)?;
            end = in_blocks(size).and_then(|size| data.checked_add(size)).ok_or(TooLarge)?;
            placed.push(Placed { path, size, header, data });
        }
        let size = end.checked_add(END).filter(|size| i64::try_from(*size).is_ok()).ok_or(TooLarge)?;
        Ok(Self { entries: placed, size })
    }

    pub(crate) fn entries(&self) -> &[Placed] {
        &self.entries
    }

    /// Bytes of the whole tar.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// What stands between the contents of entries, each with its place: first what is before the first one, last what
    /// is behind the last one. With the contents they fill the whole tar.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let mut end = 0;
        let headers = self.entries.iter().map(Some).chain([None]);
        headers.map(move |entry| {
            let begin = end;
            let next = entry.map_or(self.size - END, |entry| entry.header);
            let mut bytes = vec![0; (next - begin) as usize];
            match entry {
                Some(entry) => {
                    bytes.extend(header::bytes(&entry.path, entry.size));
                    end = entry.data + entry.size;
                }
                None => bytes.resize(bytes.len() + END as usize, 0),
            }
            (begin, bytes)
        })
    }

    /// A name for this very order of these names and sizes.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(b"mirror-images archive table, version 1\n");
        for entry in &self.entries {
            hasher.update(format!("{} {}\n", entry.size, entry.path).as_bytes());
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::Command;

    use proptest::prelude::*;

    use super::super::tests::sample::filled;
    use super::*;

    fn table(entries: &[(&str, u64)]) -> Table {
        Table::new(entries.iter().map(|(path, size)| ((*path).to_owned(), *size))).unwrap()
    }

    #[test]
    fn each_entry_has_its_place_before_anything_is_written() {
        let long = format!("blobs/sha512/{}", "0".repeat(128));
        let table =
            table(&[("oci-layout", 30), ("index.json", 512), ("empty", 0), (&long, 513), ("last", 1)]);
        let places: Vec<_> = table.entries().iter().map(|entry| (entry.header, entry.data)).collect();
        assert_eq!(places, [(0, 512), (1024, 1536), (2048, 2560), (2560, 4096), (5120, 5632)]);
        assert_eq!(table.size(), 6144 + 1024);
    }

    #[test]
    fn more_than_a_file_can_have_is_no_table() {
        for size in [u64::MAX, u64::MAX - 511, i64::MAX as u64] {
            assert_eq!(Table::new([("a".to_owned(), size)]), Err(TooLarge));
        }
        let half = i64::MAX as u64 / 2;
        let many = ["a", "b", "c"].map(|path| (path.to_owned(), half));
        assert_eq!(Table::new(many), Err(TooLarge));
        assert!(Table::new([("a".to_owned(), half)]).is_ok());
    }

    #[test]
    fn a_table_has_a_name_of_its_own() {
        let of = |entries: &[(&str, u64)]| table(entries).digest();
        let all = [
            of(&[]),
            of(&[("a", 1), ("b", 2)]),
            of(&[("b", 2), ("a", 1)]),
            of(&[("a", 2), ("b", 2)]),
            of(&[("a", 1)]),
        ];
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(of(&[("a", 1)]), all[4]);
    }

    fn entries() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
        let path = prop_oneof![
            "[a-z0-9.-]{1,100}",
            "[a-z]{1,20}/[a-z0-9]{1,20}/[a-f0-9]{64}",
            "b/[a-f0-9]{101,160}"
        ];
        let content = proptest::collection::vec(any::<u8>(), 0..1600);
        proptest::collection::btree_map(path, content, 0..12).prop_map(|map| {
            // As a name and as a directory of others at once, no file system can have one.
            let paths: Vec<String> = map.keys().cloned().collect();
            let is_parent = |path: &String| paths.iter().any(|other| other.starts_with(&format!("{path}/")));
            map.into_iter().filter(|(path, _)| !is_parent(path) && path != "." && path != "..").collect()
        })
    }

    proptest! {
        #[test]
        fn other_readers_find_in_it_what_was_put_there(entries in entries()) {
            let table = Table::new(entries.iter().map(|(path, content)| (path.clone(), content.len() as u64))).unwrap();
            let content: Vec<Vec<u8>> = entries.iter().map(|(_, content)| content.clone()).collect();
            let tar = filled(&table, content.iter().map(Vec::as_slice));
            let mut archive = tar::Archive::new(tar.as_slice());
            let mut read = Vec::new();
            for (entry, placed) in archive.entries().unwrap().zip(table.entries()) {
                let mut entry = entry.unwrap();
                prop_assert_eq!(entry.raw_file_position(), placed.data);
                let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                read.push((path, content));
            }
            prop_assert_eq!(read, entries);
        }
    }

    #[test]
    fn gnu_tar_lists_it_without_a_word_of_complaint_and_reads_each_entry() {
        let long = format!("blobs/sha512/{}", "0".repeat(128));
        let entries = [("oci-layout", 30), ("blobs/sha256/aa", 1024), (&long, 513), ("empty", 0)];
        let content: Vec<Vec<u8>> =
            entries.iter().enumerate().map(|(n, (_, size))| vec![n as u8; *size as usize]).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), filled(&table(&entries), content.iter().map(Vec::as_slice))).unwrap();
        let tar = |args: &[&str]| {
            let mut command = Command::new("tar");
            let output = command.env("TZ", "UTC").arg(args[0]).arg(file.path()).args(&args[1..]).output();
            let output = output.expect("tar can be started");
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
            output.stdout
        };
        let listed = String::from_utf8(tar(&["-tvf"])).unwrap();
        let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected: Vec<Vec<String>> = entries
            .iter()
            .map(|(path, size)| {
                let size = size.to_string();
                ["-rw-r--r--", "0/0", &size, "1970-01-01", "00:00", path].map(str::to_owned).to_vec()
            })
            .collect();
        assert_eq!(lines, expected);
        for ((path, _), content) in entries.iter().zip(content) {
            assert_eq!(tar(&["-xOf", path]), content);
        }
    }

    #[test]
    fn gnu_tar_reads_what_is_larger_than_ustar_has_room_for() {
        // Nothing of it is on the disk but the headers.
        let table = table(&[("large", 9 << 30), ("after", 3)]);
        let file = tempfile::NamedTempFile::new().unwrap();
        for (at, gap) in table.gaps() {
            std::os::unix::fs::FileExt::write_all_at(file.as_file(), &gap, at).unwrap();
        }
        let mut tar = Command::new("tar");
        let output = tar.args(["-tvf"]).arg(file.path()).output().expect("tar can be started");
        let listed = String::from_utf8(output.stdout).unwrap();
        assert!(listed.contains(" 9663676416 ") && listed.lines().count() == 2, "{listed}");
    }
}
