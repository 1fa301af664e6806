use std::os::unix::fs::symlink;

use super::super::contents::table_of;
use super::super::names::blob_path;
use super::super::scan::scan;
use super::super::tests::sample::{DOCUMENT, filled};
use super::*;
use crate::image::reference::Algorithm;

mod kills;

/// A place for an archive, and what is to be in it.
struct Scene {
    dir: tempfile::TempDir,
    blobs: Vec<Vec<u8>>,
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

/// So many bytes that are like no others.
fn blob(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|n| (n / 251) as u8 ^ (n as u8).wrapping_mul(seed | 1) ^ seed).collect()
}

fn items(blobs: &[Vec<u8>]) -> Vec<Item> {
    let documents = [("oci-layout", DOCUMENT), ("index.json", "{}")].map(|(path, text)| Item {
        path: path.to_owned(),
        size: text.len() as u64,
        body: Body::Known(text.into()),
    });
    let blobs = blobs.iter().map(|bytes| {
        let digest = digest(bytes);
        Item { path: blob_path(&digest), size: bytes.len() as u64, body: Body::Blob(digest) }
    });
    documents.into_iter().chain(blobs).collect()
}

impl Scene {
    fn new(sizes: &[usize]) -> Self {
        let blobs = sizes.iter().zip(1..).map(|(size, seed)| blob(seed, *size)).collect();
        Self { dir: tempfile::tempdir().unwrap(), blobs }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("images.tar")
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.dir.path().join(format!("images.tar{suffix}"))
    }

    fn items(&self) -> Vec<Item> {
        items(&self.blobs)
    }

    fn try_open(&self) -> Result<Partial, PartialError> {
        Partial::open(&self.file(), table_of(&self.items()).unwrap(), None)
    }

    fn open(&self) -> Partial {
        self.try_open().unwrap()
    }

    /// Opened, and ready to be written to.
    fn prepared(&self) -> Partial {
        let mut partial = self.open();
        partial.prepare(&self.items()).unwrap();
        partial
    }

    /// What there is of each blob.
    fn regained(&self, partial: &Partial) -> Vec<u64> {
        let slots = self.blobs.iter().map(|bytes| partial.slot(&digest(bytes)).unwrap());
        let lengths = slots.map(|slot| {
            let length = partial.regain(slot).unwrap().length;
            assert_eq!(partial.is_done(slot), length == slot.size);
            length
        });
        lengths.collect()
    }

    /// The whole archive as it has to be.
    fn expected(&self) -> Vec<u8> {
        let table = table_of(&self.items()).unwrap();
        let documents = [DOCUMENT.as_bytes(), b"{}"].into_iter();
        filled(&table, documents.chain(self.blobs.iter().map(Vec::as_slice)))
    }

    /// Which files there are.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }
}

/// Writes `bytes` from one position to another, and a mark there.
fn write(partial: &Partial, bytes: &[u8], from: usize, to: usize) {
    let slot = partial.slot(&digest(bytes)).unwrap();
    partial.write_at(slot, &bytes[from..to], from as u64).unwrap();
    if to == bytes.len() {
        partial.done(slot).unwrap();
    } else {
        partial.mark(slot, to as u64, &digest(&bytes[..to])).unwrap();
    }
}

fn write_whole(partial: &Partial, bytes: &[u8]) {
    write(partial, bytes, 0, bytes.len());
}

#[test]
fn blobs_are_written_in_any_order_and_from_many_sides() {
    let scene = Scene::new(&[5000, 1, 0, 70_000, 512, 3_000_000]);
    let partial = scene.prepared();
    std::thread::scope(|scope| {
        for bytes in scene.blobs.iter().rev() {
            scope.spawn(|| write_whole(&partial, bytes));
        }
    });
    assert!(!scene.file().exists());
    partial.finish(|_| {}).unwrap();
    assert!(fs::read(scene.file()).unwrap() == scene.expected());
    assert_eq!(scene.names(), ["images.tar"]);
}

#[test]
fn it_gets_its_name_only_once_it_is_whole_and_takes_it_from_what_was_there() {
    let scene = Scene::new(&[5000, 1]);
    fs::write(scene.file(), "of last week").unwrap();
    let partial = scene.prepared();
    write_whole(&partial, &scene.blobs[0]);
    let error = partial.finish(|_| {}).unwrap_err();
    assert!(matches!(error, PartialError::Incomplete { lacking: 1, .. }), "{error:?}");
    assert_eq!(fs::read(scene.file()).unwrap(), b"of last week");
    drop(partial);
    // Without its documents neither.
    let partial = scene.open();
    scene.regained(&partial);
    write_whole(&partial, &scene.blobs[1]);
    assert!(matches!(partial.finish(|_| {}), Err(PartialError::Incomplete { lacking: 2, .. })));
    drop(partial);
    let partial = scene.prepared();
    assert_eq!(scene.regained(&partial), [5000, 1]);
    partial.finish(|_| {}).unwrap();
    assert_eq!(fs::read(scene.file()).unwrap(), scene.expected());
}

#[test]
fn all_of_its_room_is_taken_before_the_first_blob() {
    let scene = Scene::new(&[3_000_000]);
    let partial = scene.prepared();
    let there = scene.path(".partial").metadata().unwrap();
    assert_eq!(there.len(), scene.expected().len() as u64);
    assert!(std::os::unix::fs::MetadataExt::blocks(&there) * 512 >= there.len());
    drop(partial);
}

#[test]
fn a_disk_without_room_is_told_before_anything_is_written() {
    let scene = Scene::new(&[]);
    let table = Table::new([("large".to_owned(), 1 << 55)]).unwrap();
    let error = Partial::open(&scene.file(), table, None).unwrap_err();
    let PartialError::NoRoom { needed, available, .. } = &error else { panic!("{error:?}") };
    assert!(*needed > 1 << 55 && *available > 0);
    assert!(error.to_string().contains("36029 TB"), "{error}");
    assert_eq!(scene.names(), [""; 0]);
    // What an earlier run has written stays.
    let scene = Scene::new(&[5000]);
    write_whole(&scene.prepared(), &scene.blobs[0]);
    let table = Table::new([("large".to_owned(), 1 << 55)]).unwrap();
    assert!(matches!(Partial::open(&scene.file(), table, None), Err(PartialError::NoRoom { .. })));
    let partial = scene.open();
    assert_eq!(scene.regained(&partial), [5000]);
}

#[test]
fn a_second_run_is_told_of_the_first() {
    let scene = Scene::new(&[5000]);
    let partial = scene.prepared();
    let error = scene.try_open().unwrap_err();
    let PartialError::Busy { process, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*process, Some(std::process::id()));
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    // For another archive under this name as well.
    let table = Table::new([("other".to_owned(), 1)]).unwrap();
    assert!(matches!(Partial::open(&scene.file(), table, None), Err(PartialError::Busy { .. })));
    drop(partial);
    assert!(scene.try_open().is_ok());
}

#[test]
fn what_is_not_ours_stays_as_it_is() {
    let scene = Scene::new(&[1000]);
    fs::write(scene.path(".partial"), "of another program").unwrap();
    assert!(matches!(scene.try_open(), Err(PartialError::NotOurs(path)) if path == scene.path(".partial")));
    assert_eq!(scene.names(), ["images.tar.partial"]);
    assert_eq!(fs::read(scene.path(".partial")).unwrap(), b"of another program");
    fs::write(scene.path(".partial.journal"), "my diary").unwrap();
    assert!(
        matches!(scene.try_open(), Err(PartialError::NotOurs(path)) if path == scene.path(".partial.journal"))
    );
    assert_eq!(fs::read(scene.path(".partial.journal")).unwrap(), b"my diary");
}

#[test]
fn what_is_not_ours_stays_beside_what_is() {
    let scene = Scene::new(&[1000, 2000]);
    write_whole(&scene.prepared(), &scene.blobs[0]);
    let split = |scene: &Scene| Partial::open(&scene.file(), table_of(&scene.items()).unwrap(), Some(2000));
    let strange = |scene: &Scene, suffix: &str, error: PartialError| {
        assert!(matches!(&error, PartialError::NotOurs(path) if *path == scene.path(suffix)), "{error}");
        assert_eq!(fs::read(scene.path(suffix)).unwrap(), b"another's");
        fs::remove_file(scene.path(suffix)).unwrap();
    };
    for suffix in [".partial.old", ".partial.old.journal", ".002.partial"] {
        fs::write(scene.path(suffix), "another's").unwrap();
        strange(&scene, suffix, split(&scene).unwrap_err());
    }
}

#[test]
fn where_nothing_can_be_locked_a_run_is_not_told_of_another() {
    for errno in [Errno::NOLCK, Errno::NOSYS, Errno::OPNOTSUPP] {
        assert!(ours::has_no_locks(&errno.into()), "{errno}");
    }
    for errno in [Errno::AGAIN, Errno::IO, Errno::ACCESS] {
        assert!(!ours::has_no_locks(&errno.into()), "{errno}");
    }
}

#[test]
fn no_link_is_followed() {
    let scene = Scene::new(&[1000]);
    let secret = scene.dir.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, scene.file()).unwrap();
    assert!(matches!(scene.try_open(), Err(PartialError::NotAFile(_))));
    fs::remove_file(scene.file()).unwrap();
    fs::create_dir(scene.file()).unwrap();
    assert!(matches!(scene.try_open(), Err(PartialError::NotAFile(_))));
    fs::remove_dir(scene.file()).unwrap();
    symlink(&secret, scene.path(".partial.journal")).unwrap();
    let error = scene.try_open().unwrap_err();
    assert!(error.to_string().contains("it is a link"), "{error}");
    fs::remove_file(scene.path(".partial.journal")).unwrap();
    drop(scene.open());
    fs::remove_file(scene.path(".partial")).unwrap();
    symlink(&secret, scene.path(".partial")).unwrap();
    assert!(matches!(scene.try_open(), Err(PartialError::Io(..))));
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    let nowhere =
        Partial::open(&scene.dir.path().join("no/such/file"), table_of(&scene.items()).unwrap(), None);
    assert!(matches!(nowhere, Err(PartialError::Io(..))));
}

#[test]
fn no_blob_is_written_over_its_end() {
    let scene = Scene::new(&[1000, 1000]);
    let partial = scene.prepared();
    let slot = partial.slot(&digest(&scene.blobs[0])).unwrap();
    for (length, position) in [(1, 1000), (1001, 0), (2, 999), (1, u64::MAX)] {
        assert!(partial.write_at(slot, &vec![7; length], position).is_err(), "{length} at {position}");
    }
    assert_eq!(partial.slot(&digest(b"other")), None);
}

#[test]
fn what_was_written_can_be_read_before_it_is_whole() {
    let scene = Scene::new(&[1000, 1000]);
    drop(scene.prepared());
    let file = fs::File::open(scene.path(".partial")).unwrap();
    let length = file.metadata().unwrap().len();
    assert_eq!(scan(&file, length).unwrap().blobs().count(), 2);
}
