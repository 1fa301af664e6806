use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::table::Table;
use super::super::tests::sample::{DOCUMENT, Maker, filled};
use super::*;
use crate::image::reference::Algorithm;

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)?.get(..buffer.len()));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A tar made by hand.
#[derive(Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    /// One with the two documents that have to be there.
    fn layout() -> Self {
        Self::default().file("oci-layout", DOCUMENT).file("index.json", r#"{"manifests":[]}"#)
    }

    fn raw(mut self, name: &str, kind: u8, content: &[u8], change: impl FnOnce(&mut tar::Header)) -> Self {
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

    fn entry(self, name: &str, kind: u8, content: &str) -> Self {
        self.raw(name, kind, content.as_bytes(), |_| {})
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(name, b'0', content)
    }

    fn pax(self, records: &[(&str, &str)]) -> Self {
        self.extended(b'x', records)
    }

    fn extended(self, kind: u8, records: &[(&str, &str)]) -> Self {
        let record = |(key, value): &(&str, &str)| {
            let rest = key.len() + value.len() + 3;
            let length = (rest + 1..).find(|length| *length == rest + length.to_string().len()).unwrap();
            format!("{length} {key}={value}\n")
        };
        let records: String = records.iter().map(record).collect();
        self.entry("PaxHeaders/x", kind, &records)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }

    /// Why the archive is refused once it has ended.
    fn refused(self) -> ScanError {
        refused(&self.end())
    }
}

fn scanned(tar: &Vec<u8>) -> Result<Found, ScanError> {
    scan(tar, tar.len() as u64)
}

fn refused(tar: &Vec<u8>) -> ScanError {
    scanned(tar).unwrap_err()
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

macro_rules! assert_refused {
    ($tar:expr, $pattern:pat $(if $guard:expr)?) => {
        let error = $tar;
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
    };
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
    // One block of zeros at the end, or a tape's record full of them.
    expected(Tar::layout().file(&blob, "x").0.into_iter().chain([0; 512]).collect());
    expected(Tar::layout().file(&blob, "x").end().into_iter().chain([0; 9000]).collect());
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

#[test]
fn links_and_devices_are_no_content() {
    let blob = blob_path("x");
    for (kind, told) in [
        (b'1', "a hard link"),
        (b'2', "a symbolic link"),
        (b'3', "something special"),
        (b'6', "something special"),
        (b'7', "something special"),
        (b'Z', "something special"),
        (b'5', "a directory"),
    ] {
        for name in [blob.as_str(), "index.json", "./manifest.json"] {
            let tar = Tar::layout().raw(name, kind, b"", |header| {
                header.set_link_name("/etc/shadow").unwrap();
            });
            assert_refused!(tar.refused(), ScanError::NotFile { entry, kind } if entry.contains(name) && *kind == told);
        }
    }
    // What blobs are in is where it seems to be.
    for name in ["blobs", "blobs/sha256", "."] {
        for kind in [b'2', b'0'] {
            assert_refused!(Tar::layout().entry(name, kind, "").refused(), ScanError::NotFile { .. });
        }
    }
    assert_refused!(Tar::layout().entry(&format!("{blob}/"), b'0', "").refused(), ScanError::NotFile { .. });
    // Others are as if they were not there, and so is what they lead to.
    let link = |header: &mut tar::Header| header.set_link_name("../../etc").unwrap();
    assert!(scanned(&Tar::layout().raw("other", b'2', b"", link).end()).is_ok());
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in
        ["../index.json", "/index.json", "a/../index.json", "..", "blobs/sha256/../../x", "/etc/passwd"]
    {
        assert_refused!(Tar::layout().file(name, "").refused(), ScanError::Outside(shown) if shown.contains(name));
    }
    let tar = Tar::layout().pax(&[("path", "index.json\0x")]).file("a", "");
    assert_refused!(tar.refused(), ScanError::Outside(_));
    // Two dots in a name are none.
    assert!(scanned(&Tar::layout().file("a/..b", "").end()).is_ok());
}

#[test]
fn a_name_is_there_once_however_it_is_written() {
    let blob = blob_path("x");
    for (first, second) in [
        (blob.clone(), blob.clone()),
        (blob.clone(), format!("./{blob}")),
        (blob.clone(), blob.replace('/', "//")),
        ("manifest.json".to_owned(), "././manifest.json".to_owned()),
    ] {
        let tar = Tar::layout().file(&first, "x").file(&second, "y");
        assert_refused!(tar.refused(), ScanError::Twice(shown) if shown.contains(&second));
    }
    assert_refused!(
        Tar::layout().pax(&[("path", "index.json")]).file("a", "").refused(),
        ScanError::Twice(_)
    );
    assert!(scanned(&Tar::layout().file("other", "").file("other", "").end()).is_ok());
}

#[test]
fn what_follows_the_end_is_refused() {
    for more in [b"trailer".to_vec(), Tar::layout().end(), vec![0; 9 << 20]] {
        let tar = Tar::layout().end().into_iter().chain(more).collect();
        assert_refused!(refused(&tar), ScanError::Ambiguous { .. });
    }
}

#[test]
fn what_readers_take_differently_is_refused() {
    let sized = |size: u64| move |header: &mut tar::Header| header.set_size(size);
    let layout = Tar::layout;
    let cases = [
        layout().pax(&[("size", "1"), ("size", "2")]).file("a", "x"),
        layout().pax(&[("path", "b"), ("path", "c")]).file("a", "x"),
        layout().pax(&[("size", "2")]).file("a", "x"),
        layout().pax(&[("size", "+1")]).raw("a", b'0', b"x", sized(0)),
        layout().pax(&[("size", "-1")]).raw("a", b'0', b"x", sized(0)),
        layout().pax(&[("path", "b")]).pax(&[("path", "c")]).file("a", "x"),
        layout().pax(&[("path", "b")]).entry("l", b'L', "c").file("a", "x"),
        layout().entry("l", b'L', "b").entry("l", b'L', "c").file("a", "x"),
        layout().extended(b'g', &[("path", "b")]).file("a", "x"),
        layout().extended(b'g', &[("size", "1")]).file("a", "x"),
        layout().extended(b'X', &[("path", "b")]).file("a", "x"),
        layout().entry("x", b'x', "10 path=bcd\n").file("a", "x"),
        layout().entry("x", b'x', "999999999999999999999999 path=b\n").file("a", "x"),
        layout().entry("x", b'x', "0 \n").file("a", "x"),
        layout().entry("x", b'x', "path=b\n").file("a", "x"),
        layout().entry("directory/", b'5', "x"),
        layout().entry("directory/", b'0', "x"),
        layout().entry("link", b'2', "x"),
    ];
    for (number, tar) in cases.into_iter().enumerate() {
        let error = tar.refused();
        assert!(matches!(error, ScanError::Ambiguous { .. }), "{number}: {error:?}");
    }
    // Zeros, and then more.
    let mut tar = Tar::layout();
    tar.0.extend([0; 512]);
    assert_refused!(tar.file("a", "").refused(), ScanError::Ambiguous { .. });
    // Numbers that some take for others.
    for size in [
        *b"0000000001x\0",
        *b"+0000000001\0",
        *b"00000000008\0",
        [0xff; 12],
        [0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let tar = Tar::layout().raw("a", b'0', b"x", |header| header.as_old_mut().size = size);
        assert_refused!(tar.refused(), ScanError::Damaged { .. });
    }
}

#[test]
fn files_with_holes_are_refused_in_every_form() {
    let blob = blob_path("x");
    assert_refused!(Tar::layout().entry(&blob, b'S', "x").refused(), ScanError::Sparse(shown) if shown.contains(&blob));
    for key in ["GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.size", "SCHILY.realsize"] {
        assert_refused!(Tar::layout().pax(&[(key, "1")]).file(&blob, "x").refused(), ScanError::Sparse(_));
    }
}

#[test]
fn what_is_cut_off_is_told_as_such() {
    let blob = blob_path("x");
    let tar = Tar::layout().file(&blob, &"x".repeat(3000)).file("last", "").end();
    assert!(scanned(&tar).is_ok());
    for length in 0..tar.len() - 512 {
        let cut = tar[..length].to_vec();
        let error = refused(&cut);
        let is_told = match error {
            ScanError::NotTar => length < 512,
            ScanError::Truncated { .. } | ScanError::NoEnd(_) => true,
            _ => false,
        };
        assert!(is_told, "{length}: {error:?}");
    }
    // In the middle of the blob.
    let error = refused(&tar[..tar.len() - 1024 - 512 - 1000].to_vec()).to_string();
    assert!(error.contains(&blob[..60]) && error.contains("928 B are missing"), "{error}");
    for size in [1 << 40, u64::MAX >> 1, u64::MAX] {
        let tar = Tar::layout().raw(&blob, b'0', b"x", |header| header.set_size(size));
        assert_refused!(tar.refused(), ScanError::Truncated { .. });
        let tar = Tar::layout()
            .pax(&[("size", &size.to_string())])
            .raw(&blob, b'0', b"x", |header| header.set_size(0));
        assert_refused!(tar.refused(), ScanError::Truncated { .. });
    }
}

#[test]
fn one_wrong_byte_in_a_header_is_found() {
    let tar = Tar::layout().file("a", "x").end();
    for at in (0..tar.len() - 1024).filter(|at| (at % 1024) < 512) {
        let mut tar = tar.clone();
        tar[at] ^= 0x55;
        assert!(scanned(&tar).is_err(), "{at}");
    }
}

#[test]
fn other_files_are_told_by_what_they_are() {
    let mut maker = Maker::default();
    let images = [maker.multi(&["q.io/a:1"], "a")];
    let tar = maker.archive(&images);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let error = refused(&gzip.finish().unwrap());
    assert_refused!(&error, ScanError::Compressed("gzip", _));
    assert!(error.to_string().contains("gunzip"));
    for (start, with) in [(&b"\x28\xb5\x2f\xfd"[..], "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh91AY", "bzip2")] {
        let bytes: Vec<u8> = start.iter().copied().chain([7; 2000]).collect();
        assert_refused!(refused(&bytes), ScanError::Compressed(told, _) if *told == with);
    }
    for other in [vec![], b"hello".to_vec(), vec![b'x'; 5000], b"PK\x03\x04".repeat(500)] {
        assert_refused!(refused(&other), ScanError::NotTar);
    }
    assert_refused!(refused(&vec![0; 10_240]), ScanError::NoLayout("oci-layout"));
    let docker = Tar::default().file("manifest.json", "[]").file("0123.json", "{}");
    assert_refused!(docker.refused(), ScanError::DockerArchive);
    assert_refused!(Tar::default().file("oci-layout", DOCUMENT).refused(), ScanError::NoLayout("index.json"));
    let below = Tar::default().file("d/oci-layout", DOCUMENT).file("d/index.json", "{}");
    assert_refused!(below.refused(), ScanError::NoLayout("oci-layout"));
}

#[test]
fn only_the_version_that_is_known_is_read() {
    for document in
        [r#"{"imageLayoutVersion":"1.1.0"}"#, r#"{"imageLayoutVersion":9}"#, "{}", "", "\u{202e}{"]
    {
        let tar = Tar::default().file("oci-layout", document).file("index.json", "{}");
        let error = tar.refused();
        assert_refused!(&error, ScanError::Version(_));
        assert!(!error.to_string().contains('\u{202e}'));
    }
}

#[test]
fn what_is_held_in_memory_is_bounded() {
    let file = tempfile::tempfile().unwrap();
    let with = |tar: Tar, length: u64| {
        file.set_len(0).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &tar.0, 0).unwrap();
        file.set_len(length).unwrap();
        scan(&file, length).unwrap_err()
    };
    // Holes on the disk, so that their sizes are true.
    let sized = |size: u64| move |header: &mut tar::Header| header.set_size(size);
    for kind in [b'x', b'g', b'L', b'K'] {
        let tar = Tar::layout().raw("x", kind, b"", sized(1 << 36));
        assert_refused!(with(tar, 1 << 37), ScanError::Extended(_));
    }
    let tar = Tar::default().file("oci-layout", DOCUMENT).raw("index.json", b'0', b"", sized((20 << 20) + 1));
    assert_refused!(with(tar, 1 << 30), ScanError::TooLarge("index.json", _));
    let tar = Tar::layout().raw("mirror-images.lock.json", b'0', b"", sized(1 << 33));
    assert_refused!(with(tar, 1 << 34), ScanError::TooLarge(..));
}

#[test]
fn names_of_strangers_are_shown_harmless_and_short() {
    let tar = Tar::layout()
        .pax(&[("path", &format!("../\u{1b}[2J\n::set-output {}", "x".repeat(5000)))])
        .file("a", "");
    let error = tar.refused().to_string();
    assert!(!error.contains(['\u{1b}', '\n']) && error.len() < 300, "{error}");
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
    let timed = |tar: &Vec<u8>| {
        let began = Instant::now();
        assert!(scanned(tar).is_ok());
        began.elapsed()
    };
    let (few, many) = (many(2_000), many(20_000));
    let (mut some, mut more) = (timed(&few), timed(&many));
    // The machine has other work.
    for _ in 0..9 {
        if more < 30 * some && more < Duration::from_secs(3) {
            return;
        }
        (some, more) = (some.min(timed(&few)), more.min(timed(&many)));
    }
    panic!("2,000 entries take {some:?}, 20,000 take {more:?}");
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
