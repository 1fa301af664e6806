use std::process::Command;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::table::Table;
use super::super::tests::hand::{Tar, scanned};
use super::super::tests::sample::{DOCUMENT, Maker, filled};
use super::*;
use crate::image::reference::Algorithm;

mod hostile;

impl ReadAt for Vec<u8> {
    fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)?.get(..buffer.len()));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn digest(text: &str) -> Digest {
    Digest::of(Algorithm::Sha256, text.as_bytes())
}

fn blob_path(text: &str) -> String {
    format!("blobs/sha256/{}", &digest(text).as_str()[7..])
}

fn content(tar: &[u8], span: Span) -> &[u8] {
    &tar[span.offset as usize..][..span.size as usize]
}

#[test]
fn what_was_written_is_found_at_its_place() {
    let mut maker = Maker::default();
    let images = [maker.multi(&["q.io/a:1"], "a"), maker.multi(&["q.io/b:1"], "b")];
    let tar = maker.archive(&images);
    let found = scanned(&tar).unwrap();
    for (digest, bytes) in &maker.blobs {
        assert_eq!(content(&tar, found.blob(digest).unwrap()), bytes.as_slice());
    }
    for part in images.iter().flat_map(|image| &image.manifests) {
        assert_eq!(content(&tar, found.blob(&part.manifest.digest).unwrap()), &part.manifest.bytes[..]);
    }
    assert_eq!(found.blobs().count(), maker.blobs.len() + 8);
    assert_eq!(read(&tar, &found, Document::Layout).unwrap().unwrap(), DOCUMENT.as_bytes());
    let index = read(&tar, &found, Document::Index).unwrap().unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&index).is_ok());
    assert_eq!(read(&tar, &found, Document::Lock).unwrap(), None);
}

#[test]
fn the_archives_of_other_programs_are_read() {
    let blob = blob_path("x");
    let expected = |tar: Vec<u8>| {
        let found = scanned(&tar).unwrap();
        assert_eq!(content(&tar, found.blob(&digest("x")).unwrap()), b"x");
        assert_eq!(found.documents.len(), 2 + usize::from(found.document(Document::Docker).is_some()));
    };
    // `tar -C directory -c .`
    expected(
        Tar::default()
            .entry("./", b'5', "")
            .file("./oci-layout", DOCUMENT)
            .file("./index.json", "{}")
            .entry("./blobs/", b'5', "")
            .entry("./blobs/sha256/", b'5', "")
            .file(&format!("./{blob}"), "x")
            .end(),
    );
    // docker save, with what it has from old times beside the layout: links too.
    expected(
        Tar::layout()
            .entry("blobs", b'5', "")
            .file(&blob, "x")
            .file("manifest.json", "[]")
            .file("repositories", "{}")
            .raw("0123/layer.tar", b'2', b"", |header| header.set_link_name("../x/layer.tar").unwrap())
            .file("blobs/sha256/not-a-digest", "")
            .end(),
    );
    // What names are too long for ustar, times that it has no room for, comments on the whole.
    expected(
        Tar::default()
            .extended(b'g', &[("comment", "made by hand\nin two lines")])
            .pax(&[("mtime", "1.5"), ("path", "oci-layout")])
            .file("o", DOCUMENT)
            .file("index.json", "{}")
            .entry("././@LongLink", b'L', &format!("{blob}\0"))
            .file("b", "x")
            .end(),
    );
    // A tar of the oldest form, whose type is no digit.
    expected(Tar::layout().raw(&blob, 0, b"x", |header| header.as_mut_bytes()[257..265].fill(0)).end());
    // One block of zeros at the end, or a tape's record full of them, or something else behind.
    expected(Tar::layout().file(&blob, "x").0.into_iter().chain([0; 512]).collect());
    expected(Tar::layout().file(&blob, "x").end().into_iter().chain([0; 9000]).collect());
    expected(Tar::layout().file(&blob, "x").end().into_iter().chain(*b"trailer").collect());
    // The size as PAX has it, and as GNU has it.
    let in_pax = |told: u64| move |header: &mut tar::Header| header.set_size(told);
    expected(Tar::layout().pax(&[("size", "1")]).raw(&blob, b'0', b"x", in_pax(0)).end());
    expected(Tar::layout().pax(&[("size", "1")]).raw(&blob, b'0', b"x", in_pax(1)).end());
    let binary = |header: &mut tar::Header| {
        header.as_old_mut().size = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    };
    expected(Tar::layout().raw(&blob, b'0', b"x", binary).end());
    let spaced = |header: &mut tar::Header| header.as_old_mut().size = *b"          1 ";
    expected(Tar::layout().raw(&blob, b'0', b"x", spaced).end());
}

/// An archive of so many small blobs.
fn many(number: usize) -> Vec<u8> {
    let paths = (0..number).map(|n| (format!("blobs/sha256/{n:064x}"), 1));
    let documents = [("oci-layout".to_owned(), DOCUMENT.len() as u64), ("index.json".to_owned(), 2)];
    let table = Table::new(documents.into_iter().chain(paths)).unwrap();
    let contents = [DOCUMENT.as_bytes(), b"{}"].into_iter().chain(std::iter::repeat_n(&b"x"[..], number));
    filled(&table, contents)
}

#[test]
fn many_entries_are_read_in_proportion() {
    let best = |tar: &Vec<u8>| {
        let took = (0..3).map(|_| {
            let began = Instant::now();
            assert!(scanned(tar).is_ok());
            began.elapsed()
        });
        took.min().unwrap()
    };
    let (some, more) = (best(&many(2_000)), best(&many(20_000)));
    assert!(more < 30 * some, "2,000 entries take {some:?}, 20,000 take {more:?}");
    assert!(more < Duration::from_secs(3), "20,000 entries take {more:?}");
}

#[test]
#[ignore = "a measurement: run it in release"]
fn an_index_of_a_hundred_thousand_blobs() {
    let file = tempfile::tempfile().unwrap();
    let tar = many(100_000);
    std::os::unix::fs::FileExt::write_all_at(&file, &tar, 0).unwrap();
    let length = tar.len() as u64;
    drop(tar);
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    let began = Instant::now();
    let found = scan(&file, length).unwrap();
    eprintln!(
        "{} blobs in {:?}, {} kB",
        found.blobs().count(),
        began.elapsed(),
        resident().saturating_sub(before)
    );
}

fn entries() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let digest = prop_oneof![
        "[0-9a-f]{64}".prop_map(|hex| format!("blobs/sha256/{hex}")),
        "[0-9a-f]{128}".prop_map(|hex| format!("blobs/sha512/{hex}")),
        "[a-z]{1,8}(/[a-z.]{1,120}[a-z]){0,2}",
    ];
    let content = proptest::collection::vec(any::<u8>(), 0..1600);
    proptest::collection::btree_map(digest, content, 0..10).prop_map(|all| {
        let documents = [("oci-layout", DOCUMENT), ("index.json", "{}")];
        let documents = documents.map(|(path, content)| (path.to_owned(), content.as_bytes().to_vec()));
        documents.into_iter().chain(all.into_iter().filter(|(path, _)| path != "blobs")).collect()
    })
}

proptest! {
    #[test]
    fn every_table_is_read_back(entries in entries()) {
        let table = Table::new(entries.iter().map(|(path, content)| (path.clone(), content.len() as u64))).unwrap();
        let tar = filled(&table, entries.iter().map(|(_, content)| content.as_slice()));
        let found = scanned(&tar).unwrap();
        let mut blobs = 0;
        for (path, bytes) in &entries {
            if let Some(Known::Blob(digest)) = Known::parse(path) {
                blobs += 1;
                prop_assert_eq!(content(&tar, found.blob(&digest).unwrap()), bytes.as_slice());
            }
        }
        prop_assert_eq!(found.blobs().count(), blobs);
    }

    #[test]
    fn no_bytes_make_the_reader_fail(
        kinds in proptest::collection::vec("[0-9xgLKSXDVM\0]", 0..6),
        sizes in proptest::collection::vec(0..3000_u64, 6),
        contents in proptest::collection::vec("([0-9]{1,3} (path|size|GNU.sparse.map)=[a-z./0-9]{0,9}\n){0,3}", 6),
        wrong in proptest::collection::vec((0..6000_usize, any::<u8>()), 0..4),
    ) {
        let mut tar = Tar::layout();
        for ((kind, size), content) in kinds.iter().zip(sizes).zip(contents) {
            tar = tar.raw("blobs/a", kind.as_bytes()[0], content.as_bytes(), |header| {
                if size < 1500 { header.set_size(size) }
            });
        }
        let mut tar = tar.end();
        for (at, byte) in wrong {
            if let Some(there) = tar.get_mut(at) { *there = byte }
        }
        let _ = scanned(&tar);
    }
}

#[test]
fn what_gnu_tar_writes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = |below: &str| dir.path().join("layout").join(below);
    std::fs::create_dir_all(path("blobs/sha512")).unwrap();
    std::fs::write(path("oci-layout"), DOCUMENT).unwrap();
    std::fs::write(path("index.json"), "{}").unwrap();
    let digest = Digest::of(Algorithm::Sha512, b"x");
    std::fs::write(path(&digest.as_str().replace(':', "/").replace("sha512/", "blobs/sha512/")), "x")
        .unwrap();
    for format in ["gnu", "pax", "oldgnu"] {
        let file = dir.path().join(format);
        let mut command = Command::new("tar");
        let command =
            command.arg("-C").arg(path("")).arg(format!("--format={format}")).arg("-cf").arg(&file).arg(".");
        assert!(command.status().unwrap().success());
        let tar = std::fs::read(file).unwrap();
        let found = scanned(&tar).unwrap();
        assert_eq!(content(&tar, found.blob(&digest).unwrap()), b"x", "{format}");
    }
}
