use std::io::Write as _;

use super::super::super::tests::hand::{Tar, scanned};
use super::super::super::tests::sample::{DOCUMENT, Maker};
use super::super::*;
use super::blob_path;

fn refused(tar: &Vec<u8>) -> ScanError {
    scanned(tar).unwrap_err()
}

macro_rules! assert_refused {
    ($tar:expr, $pattern:pat $(if $guard:expr)?) => {
        let error = $tar;
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
    };
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
    assert_refused!(with(tar, 1 << 30), ScanError::TooLarge("index.json"));
    let tar = Tar::layout().raw("mirror-images.lock.json", b'0', b"", sized(1 << 33));
    assert_refused!(with(tar, 1 << 34), ScanError::TooLarge(_));
}

#[test]
fn names_of_strangers_are_shown_harmless_and_short() {
    let tar = Tar::layout()
        .pax(&[("path", &format!("../\u{1b}[2J\n::set-output {}", "x".repeat(5000)))])
        .file("a", "");
    let error = tar.refused().to_string();
    assert!(!error.contains(['\u{1b}', '\n']) && error.len() < 300, "{error}");
}
