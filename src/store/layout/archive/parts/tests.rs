use std::fs;
use std::process::Command;

use super::super::contents::{Body, table_of};
use super::super::partial::{Partial, PartialError};
use super::super::tests::sample::{Maker, items};
use super::*;

const LIMIT: u64 = 5000;

/// A directory with an archive in parts, and what it is as a whole.
struct Scene {
    dir: tempfile::TempDir,
    maker: Maker,
    whole: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let mut maker = Maker::default();
        let images = [maker.multi(&["q.io/a:1"], "a"), maker.multi(&["q.io/b:1"], "b")];
        let scene = Self { dir: tempfile::tempdir().unwrap(), whole: maker.archive(&images), maker };
        scene.save(&images, Some(LIMIT)).unwrap();
        scene
    }

    fn save(&self, images: &[super::super::contents::Image], limit: Option<u64>) -> Result<(), PartialError> {
        let items = items(images);
        let mut partial = Partial::open(&self.file(), table_of(&items).unwrap(), limit)?;
        partial.prepare(&items)?;
        for item in &items {
            if let Body::Blob(digest) = &item.body {
                let slot = partial.slot(digest).unwrap().clone();
                if partial.regain(&slot)?.length < slot.size {
                    partial.write_at(&slot, self.maker.bytes(item), 0).unwrap();
                    partial.done(&slot).unwrap();
                }
            }
        }
        partial.finish(|_| {})
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("images.tar")
    }

    fn part(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("images.tar.{number:03}"))
    }

    fn count(&self) -> usize {
        self.whole.len().div_ceil(LIMIT as usize)
    }

    fn forget_sums(&self) {
        fs::remove_file(self.dir.path().join("images.tar.sha256")).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    fn refused(&self) -> OpenError {
        Parts::open(&self.file()).unwrap_err()
    }
}

macro_rules! assert_refused {
    ($error:expr, $pattern:pat $(if $guard:expr)?) => {
        let error = $error;
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
    };
}

#[test]
fn the_parts_are_plain_cuts_with_their_checksums() {
    let scene = Scene::new();
    assert!(scene.count() > 5);
    let joined: Vec<u8> =
        (1..=scene.count()).flat_map(|number| fs::read(scene.part(number)).unwrap()).collect();
    assert!(joined == scene.whole);
    for number in 1..=scene.count() {
        assert!(scene.part(number).metadata().unwrap().len() <= LIMIT);
    }
    let mut command = Command::new("sha256sum");
    let output = command.args(["-c", "images.tar.sha256"]).current_dir(scene.dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), scene.count());
    // Nothing else is there: the archive's own name neither.
    assert_eq!(scene.names().len(), scene.count() + 1);
}

#[test]
fn they_are_read_as_one_whichever_way_the_archive_is_called() {
    let scene = Scene::new();
    for path in [scene.file(), scene.part(1)] {
        let (parts, found) = Parts::open(&path).unwrap();
        for (digest, bytes) in &scene.maker.blobs {
            let span = found.blob(digest).unwrap();
            let mut read = vec![0; span.size as usize];
            parts.read_exact_at(&mut read, span.offset).unwrap();
            assert_eq!(read, *bytes);
        }
        let index = parts.document(&found, Document::Index).unwrap().unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&index).is_ok());
        assert_eq!(parts.wrong().unwrap(), None);
        assert_eq!(parts.path_at(LIMIT), scene.part(2));
    }
    assert_refused!(Parts::open(&scene.part(2)).unwrap_err(), OpenError::NotFirst { first, .. } if *first == scene.part(1));
    // A whole one of that name goes before.
    fs::write(scene.file(), &scene.whole).unwrap();
    assert_eq!(Parts::open(&scene.file()).unwrap().0.paths, [scene.file()]);
}

#[test]
fn a_missing_part_is_named() {
    for number in 1..=Scene::new().count() {
        let scene = Scene::new();
        fs::remove_file(scene.part(number)).unwrap();
        let error = Parts::open(&scene.part(1)).unwrap_err();
        assert_refused!(error, OpenError::Missing(path) if *path == scene.part(number));
        scene.forget_sums();
        let error = Parts::open(&scene.part(1)).unwrap_err();
        // Where it is the last one, all that is there is of full size, and has no end.
        assert_refused!(error, OpenError::Missing(path) if *path == scene.part(number));
    }
    let scene = Scene::new();
    for number in 1..=scene.count() {
        fs::remove_file(scene.part(number)).unwrap();
    }
    assert_refused!(Parts::open(&scene.part(1)).unwrap_err(), OpenError::Missing(_));
    assert_refused!(scene.refused(), OpenError::Missing(path) if *path == scene.part(1));
    scene.forget_sums();
    assert_refused!(scene.refused(), OpenError::Io(..));
}

#[test]
fn a_part_in_the_place_of_another_is_named() {
    let swap = |scene: &Scene, one: usize, other: usize| {
        let [one, other] = [scene.part(one), scene.part(other)];
        let bytes = fs::read(&one).unwrap();
        fs::copy(&other, &one).unwrap();
        fs::write(other, bytes).unwrap();
    };
    for (one, other) in [(1, 2), (2, 3), (3, 5)] {
        let scene = Scene::new();
        swap(&scene, one, other);
        assert_refused!(scene.refused(), OpenError::Sum(path) if *path == scene.part(one));
    }
    // The last one is shorter.
    let scene = Scene::new();
    let (last, size) = (scene.count(), scene.whole.len() as u64 % LIMIT);
    assert_ne!(size, 0);
    swap(&scene, 2, last);
    assert_refused!(scene.refused(), OpenError::Size { path, size: told, .. } if *path == scene.part(2) && *told == size);
}

#[test]
fn a_part_that_is_cut_off_or_damaged_is_named() {
    let scene = Scene::new();
    let cut = |number: usize| {
        let bytes = fs::read(scene.part(number)).unwrap();
        fs::write(scene.part(number), &bytes[..bytes.len() - 600]).unwrap();
        bytes
    };
    let bytes = cut(3);
    assert_refused!(scene.refused(), OpenError::Size { path, .. } if *path == scene.part(3));
    fs::write(scene.part(3), bytes).unwrap();
    let last = scene.count();
    cut(last);
    assert_refused!(scene.refused(), OpenError::Sum(path) if *path == scene.part(last));
    scene.forget_sums();
    assert_refused!(scene.refused(), OpenError::Scan(path, ScanError::NoEnd(_) | ScanError::Truncated { .. }) if *path == scene.part(last));
    // In a blob's content nothing is seen of it before the blob is read.
    let scene = Scene::new();
    let (parts, found) = Parts::open(&scene.file()).unwrap();
    let span = found.blob(scene.maker.blobs.keys().next().unwrap()).unwrap();
    let (number, at) = ((span.offset / LIMIT) as usize + 1, (span.offset % LIMIT) as usize);
    drop(parts);
    let mut bytes = fs::read(scene.part(number)).unwrap();
    bytes[at] ^= 1;
    fs::write(scene.part(number), bytes).unwrap();
    let (parts, _) = Parts::open(&scene.file()).unwrap();
    assert_eq!(parts.wrong().unwrap(), Some(scene.part(number).as_path()));
    assert_eq!(parts.path_at(span.offset), scene.part(number));
}

#[test]
fn another_archive_in_fewer_parts_takes_the_place_of_all() {
    let mut scene = Scene::new();
    let before = scene.count();
    let images = [scene.maker.multi(&["q.io/c:1"], "c")];
    scene.whole = scene.maker.archive(&images);
    scene.save(&images, Some(LIMIT)).unwrap();
    assert!(scene.count() < before);
    assert_eq!(scene.names().len(), scene.count() + 1);
    assert!(Parts::open(&scene.file()).is_ok());
    // What only looks like a part, and is in no list, stays and is not read.
    fs::write(scene.part(scene.count() + 1), "other").unwrap();
    assert!(Parts::open(&scene.file()).is_ok());
    scene.save(&images, Some(LIMIT)).unwrap();
    assert!(scene.part(scene.count() + 1).exists());
}

#[test]
fn a_kill_while_parts_get_their_names_costs_nothing() {
    let scene = Scene::new();
    let images = {
        let mut maker = Maker::default();
        [maker.multi(&["q.io/a:1"], "a"), maker.multi(&["q.io/b:1"], "b")]
    };
    let items = items(&images);
    let table = table_of(&items).unwrap();
    // As if the first part had not got its name yet.
    let partial = Partial::open(&scene.file(), table.clone(), Some(LIMIT)).unwrap();
    for item in &items {
        if let Body::Blob(digest) = &item.body {
            partial.done(partial.slot(digest).unwrap()).unwrap();
        }
    }
    drop(partial);
    for number in 1..=scene.count() {
        fs::remove_file(format!("{}.partial", scene.part(number).display())).unwrap();
    }
    fs::rename(scene.part(1), format!("{}.partial", scene.part(1).display())).unwrap();
    let partial = Partial::open(&scene.file(), table, Some(LIMIT)).unwrap();
    for item in &items {
        if let Body::Blob(digest) = &item.body {
            let slot = partial.slot(digest).unwrap();
            assert_eq!(partial.regain(slot).unwrap().length, slot.size);
        }
    }
}

#[test]
fn an_archive_in_other_parts_is_taken_over_too() {
    let scene = Scene::new();
    let images = {
        let mut maker = Maker::default();
        [maker.multi(&["q.io/d:1"], "d")]
    };
    let mut maker = Maker::default();
    maker.multi(&["q.io/d:1"], "d");
    let items = items(&images);
    let table = || table_of(&items).unwrap();
    let slots = |partial: &Partial| -> Vec<_> {
        let digests = items.iter().filter_map(|item| match &item.body {
            Body::Blob(digest) => Some(digest),
            Body::Known(_) => None,
        });
        digests.map(|digest| partial.slot(digest).unwrap().clone()).collect()
    };
    let mut partial = Partial::open(&scene.file(), table(), None).unwrap();
    partial.prepare(&items).unwrap();
    for slot in slots(&partial) {
        partial.write_at(&slot, &maker.blobs[&slot.digest], 0).unwrap();
        partial.done(&slot).unwrap();
    }
    drop(partial);
    for limit in [Some(1000), Some(3000), None] {
        let mut partial = Partial::open(&scene.file(), table(), limit).unwrap();
        for slot in slots(&partial) {
            assert_eq!(partial.regain(&slot).unwrap().length, slot.size, "{limit:?}");
        }
        partial.prepare(&items).unwrap();
    }
    assert!(
        !scene.names().iter().any(|name| name.contains(".old") || name.contains(".001.partial")),
        "{:?}",
        scene.names()
    );
}

#[test]
fn more_parts_than_can_be_numbered_are_refused() {
    let scene = Scene::new();
    let mut maker = Maker::default();
    let images = [maker.multi(&["q.io/a:1"], "a")];
    let error = scene.save(&images, Some(10)).unwrap_err();
    assert!(matches!(error, PartialError::TooManyParts { limit: 10, .. }), "{error:?}");
    assert!(scene.names().iter().all(|name| !name.contains("partial")));
}
