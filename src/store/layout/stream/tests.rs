use std::io::{Read as _, Seek as _};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::super::archive::tests::sample::{Maker, items};
use super::*;
use crate::image::reference::Hasher;
use crate::store::Prefix;

struct Scene {
    maker: Maker,
    whole: Vec<u8>,
    streaming: Arc<Streaming>,
    file: File,
}

impl Scene {
    fn new() -> Self {
        let mut maker = Maker::default();
        let images = [maker.multi(&["q.io/a:1"], "a"), maker.multi(&["q.io/b:1"], "b")];
        let whole = maker.archive(&images);
        let file = tempfile::tempfile().unwrap();
        let streaming = Streaming::new(&items(&images), HashSet::new(), file.try_clone().unwrap()).unwrap();
        Self { maker, whole, streaming: Arc::new(streaming), file }
    }

    fn feed(&self, number: usize) -> (Feed, Bytes) {
        let digest = &self.streaming.sequence()[number];
        let bytes = self.maker.blobs[digest].clone();
        (Feed::new(&self.streaming, digest, bytes.len() as u64).unwrap(), bytes.into())
    }

    async fn put(&self, number: usize) {
        let (mut feed, bytes) = self.feed(number);
        feed.take(bytes, None).await.unwrap();
        feed.finish().await.unwrap();
    }

    fn written(&self) -> Vec<u8> {
        let (mut file, mut bytes) = (&self.file, Vec::new());
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }
}

#[tokio::test]
async fn blobs_that_come_in_any_order_are_written_in_the_archives() {
    let scene = Arc::new(Scene::new());
    let count = scene.streaming.sequence().len();
    assert!(count > 5);
    let puts = (0..count).rev().map(|number| {
        let scene = scene.clone();
        tokio::spawn(async move { scene.put(number).await })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap();
    }
    scene.streaming.finish().unwrap();
    assert!(scene.written() == scene.whole);
}

#[tokio::test]
async fn what_is_cut_short_ends_within_an_entry_wherever_that_is() {
    let count = Scene::new().streaming.sequence().len();
    // After a blob, and once the next one has begun.
    for (cut, begun) in (0..=count).flat_map(|cut| [(cut, false), (cut, true)]) {
        let scene = Scene::new();
        for number in 0..cut {
            scene.put(number).await;
        }
        if cut < count {
            if begun {
                let (mut feed, _) = scene.feed(cut);
                feed.take(Bytes::new(), None).await.unwrap();
            }
            assert!(matches!(scene.streaming.finish(), Err(LayoutError::CutShort)));
        }
        let written = scene.written();
        if written.is_empty() {
            continue;
        }
        assert!(scene.whole.starts_with(&written) && written.len() + 512 < scene.whole.len());
        let mut tar = tar::Archive::new(written.as_slice());
        let read = tar.entries().unwrap().try_for_each(|entry| {
            std::io::copy(&mut entry?, &mut std::io::sink())?;
            Ok::<_, io::Error>(())
        });
        assert!(read.is_err(), "{cut} of {count} blobs look like all");
    }
}

#[tokio::test]
async fn only_so_much_is_read_ahead() {
    let scene = Scene::new();
    let (mut early, _) = scene.feed(1);
    let piece = Bytes::from(vec![0; AHEAD_MAX / 4]);
    for _ in 0..4 {
        early.take(piece.clone(), None).await.unwrap();
    }
    let more = early.take(piece.clone(), None);
    assert!(timeout(Duration::from_millis(50), more).await.is_err());
    assert_eq!(scene.written(), b"");
    // What has not been written can come anew, and makes room for others.
    assert!(early.forget());
    let (mut other, _) = scene.feed(2);
    other.take(piece, None).await.unwrap();
    scene.put(0).await;
    early.take(Bytes::from_static(b"x"), None).await.unwrap();
    assert!(!early.forget(), "it is its turn");
}

#[test]
fn a_blob_has_a_place_in_its_own_size_alone() {
    let scene = Scene::new();
    let digest = &scene.streaming.sequence()[0];
    let size = scene.maker.blobs[digest].len() as u64;
    let feed = Feed::new(&scene.streaming, digest, size).unwrap();
    let Prefix { length, hasher } = feed.prefix();
    assert_eq!((length, hasher.finish()), (0, Hasher::new(digest.algorithm()).finish()));
    assert!(Feed::new(&scene.streaming, digest, size + 1).is_none());
    let other = Digest::of(digest.algorithm(), b"other");
    assert!(Feed::new(&scene.streaming, &other, 5).is_none());
}
