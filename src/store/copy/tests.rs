use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::super::Source;
use super::super::memory::{Act, Fault, Store};
use super::*;

/// A layer of three pieces at `old` of the sources, and where it is to go.
struct Scene {
    sources: Vec<Arc<Store>>,
    target: Arc<Store>,
    blob: Descriptor,
    events: Arc<Mutex<Vec<Event>>>,
}

fn repository(name: &str) -> Repository {
    name.parse().unwrap()
}

impl Scene {
    fn new(sources: usize, target: Store) -> Self {
        let sources: Vec<Arc<Store>> =
            (0..sources).map(|n| Arc::new(Store::new(&format!("source{n}")))).collect();
        let bytes = vec![7; 150_000];
        let blobs = sources.iter().map(|source| source.add_blob(&repository("old"), bytes.clone()));
        let blob = blobs.collect::<Vec<_>>().pop().expect("there is a source");
        Self { sources, target: Arc::new(target), blob, events: Arc::default() }
    }

    fn order(&self) -> BlobOrder {
        let origin = |store: &Arc<Store>| Origin {
            source: Source::memory(store),
            repository: repository("old"),
            url: None,
        };
        let events = self.events.clone();
        BlobOrder {
            id: 1,
            blob: self.blob.clone(),
            repository: repository("new"),
            sources: self.sources.iter().map(origin).collect(),
            known_in: None,
            trusted: false,
            beside: Vec::new(),
            must_send: false,
            likely_absent: false,
            may_send: true,
            suspect: false,
            tried_before: false,
            look: None,
            tries: Tries::default(),
            what: "new".to_owned(),
            listener: Arc::new(move |event| events.lock().unwrap().push(event)),
        }
    }

    async fn copy(&self, order: BlobOrder) -> Result<Landed, Error> {
        copy_blob(&Target::memory(&self.target), order).await
    }

    fn is_there(&self) -> bool {
        self.target.blob(&repository("new"), &self.blob.digest).is_some()
    }

    fn reads(&self, source: usize) -> usize {
        let acts = self.sources[source].done();
        acts.iter().filter(|act| matches!(act, Act::Read(..))).count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_blob_is_streamed_once_and_its_positions_are_told() {
    let scene = Scene::new(1, Store::new("target"));
    assert_eq!(scene.copy(scene.order()).await.unwrap(), Landed::Streamed);
    assert_eq!((scene.is_there(), scene.target.blobs_put(), scene.target.bytes_put()), (true, 1, 150_000));
    let events = scene.events.lock().unwrap();
    assert!(matches!(events.first(), Some(Event::Started { transfer: 1, size: 150_000, .. })), "{events:?}");
    assert!(matches!(events.last(), Some(Event::Moved { position: 150_000, .. })), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_is_there_or_can_be_mounted_is_not_read() {
    let scene = Scene::new(1, Store::new("target"));
    scene.target.add_blob(&repository("holder"), vec![7; 150_000]);
    let order = BlobOrder { known_in: Some(repository("holder")), ..scene.order() };
    assert_eq!(scene.copy(order).await.unwrap(), Landed::Mounted);
    assert_eq!(scene.copy(scene.order()).await.unwrap(), Landed::Found);
    assert_eq!((scene.reads(0), scene.target.blobs_put(), scene.is_there()), (0, 0, true));
}

#[tokio::test(start_paused = true)]
async fn a_blob_in_a_store_for_all_repositories_is_found_in_each() {
    let scene = Scene::new(1, Store::new("target").shared());
    scene.target.add_blob(&repository("holder"), vec![7; 150_000]);
    assert_eq!(scene.copy(scene.order()).await.unwrap(), Landed::Found);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_may_not_send_is_refused_where_bytes_are_wanted() {
    let scene = Scene::new(1, Store::new("target").without_mounts());
    scene.target.add_blob(&repository("holder"), vec![7; 150_000]);
    let order = BlobOrder { known_in: Some(repository("holder")), may_send: false, ..scene.order() };
    assert_eq!(scene.copy(order).await.unwrap(), Landed::Refused);
    assert_eq!((scene.reads(0), scene.is_there()), (0, false));
}

#[tokio::test(start_paused = true)]
async fn what_must_be_sent_is_sent_although_it_is_there() {
    let scene = Scene::new(1, Store::new("target"));
    scene.target.add_blob(&repository("new"), vec![7; 150_000]);
    let order = BlobOrder { must_send: true, ..scene.order() };
    assert_eq!(scene.copy(order).await.unwrap(), Landed::Streamed);
    assert_eq!(scene.target.blobs_put(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_lacks_the_blob_is_passed_over_at_once() {
    let scene = Scene::new(2, Store::new("target"));
    scene.sources[0].remove_blob(&repository("old"), &scene.blob.digest);
    let began = Instant::now();
    assert_eq!(scene.copy(scene.order()).await.unwrap(), Landed::Streamed);
    assert_eq!((scene.reads(0), scene.reads(1)), (0, 3));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_source_in_trouble_is_tried_with_patience_before_another_is() {
    let scene = Scene::new(2, Store::new("target").retries(2));
    scene.sources[0].script(|_| vec![Fault::Fail(Kind::Transient)]);
    let began = Instant::now();
    assert_eq!(scene.copy(scene.order()).await.unwrap(), Landed::Streamed);
    assert_eq!((scene.sources[0].journal().len(), scene.reads(1)), (1 + 2, 3));
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_damaged_at_every_source_are_never_committed() {
    let scene = Scene::new(2, Store::new("target"));
    for source in &scene.sources {
        source.script(|act| match act {
            Act::Read(_, _, 0) => vec![Fault::Flip],
            _ => Vec::new(),
        });
    }
    let error = scene.copy(scene.order()).await.unwrap_err();
    assert_eq!((error.kind, error.side), (Kind::Corrupt, Side::Source));
    assert_eq!((scene.target.blobs_put(), scene.is_there()), (0, false));
    // Once more past all caches at the first, then the second.
    assert_eq!((scene.reads(0), scene.reads(1)), (6, 3));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_damaged_on_the_way_once_are_read_again() {
    let scene = Scene::new(1, Store::new("target"));
    let mut first = true;
    scene.sources[0].script(move |act| match act {
        Act::Read(_, _, 65_536) if std::mem::take(&mut first) => vec![Fault::Flip],
        _ => Vec::new(),
    });
    assert_eq!(scene.copy(scene.order()).await.unwrap(), Landed::Streamed);
    assert_eq!((scene.target.blobs_put(), scene.reads(0)), (1, 6));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_is_blamed_and_a_slow_one_waited_for() {
    let scene = Scene::new(1, Store::new("target"));
    let minute = Duration::from_secs(60);
    scene.target.script(move |act| match act {
        Act::PutBlob(..) => vec![Fault::Delay(minute), Fault::Fail(Kind::Denied)],
        _ => Vec::new(),
    });
    let began = Instant::now();
    let error = scene.copy(scene.order()).await.unwrap_err();
    assert_eq!((error.kind, error.side, error.place.as_str()), (Kind::Denied, Side::Target, "target"));
    assert_eq!((began.elapsed(), scene.is_there()), (minute, false));
}
