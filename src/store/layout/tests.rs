use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::*;
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::reference::{Algorithm, Location, Reference};
use crate::record::Made;
use crate::store::memory;
use crate::store::patience::Timing;
use crate::store::{BlobOrder, Head, Held, Landed, Origin, Role, Source, Target, copy_blob};

struct Scene {
    dir: tempfile::TempDir,
    source: Arc<memory::Store>,
}

fn location(text: &str) -> Location {
    text.parse::<Reference>().unwrap().whole_names().remove(0)
}

fn policy() -> Policy {
    Policy { retries: 1, timing: Timing::default(), manifest_max: 1 << 20 }
}

fn directory_of(layout: &Layout) -> Arc<Directory> {
    let Written::Directory(directory) = &layout.written else { panic!() };
    directory.clone()
}

fn platform() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn image(text: &str) -> Manifest {
    let digest = Digest::of(Algorithm::Sha256, text.as_bytes());
    let config = json!({ "digest": digest.as_str(), "size": text.len(), "mediaType": "a/b" });
    let json = json!({ "schemaVersion": 2, "config": config, "layers": [] });
    Manifest::parse(json.to_string().into(), None, Algorithm::Sha256).unwrap()
}

impl Scene {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), source: Arc::new(memory::Store::new("source")) }
    }

    fn name(&self) -> LayoutName {
        LayoutName { form: Form::Directory, path: self.dir.path().join("layout") }
    }

    fn create(&self) -> Arc<Layout> {
        Arc::new(Layout::create(&self.name(), None, policy(), platform(), Made::default()).unwrap())
    }

    fn path(&self, below: &str) -> PathBuf {
        self.name().path.join(below)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path(&format!("blobs/{}", digest.as_str().replace(':', "/")))
    }

    /// A blob at the source.
    fn blob(&self, bytes: &[u8]) -> Descriptor {
        self.source.add_blob(&"a".parse().unwrap(), bytes.to_vec())
    }

    async fn copy(&self, layout: &Arc<Layout>, blob: &Descriptor) -> Result<Landed, Error> {
        let source = Source::memory(&self.source);
        let order = BlobOrder {
            id: 1,
            blob: blob.clone(),
            repository: "q.io/a".parse().unwrap(),
            sources: [Origin { source, repository: "a".parse().unwrap(), url: None }].into(),
            known_in: None,
            trusted: false,
            beside: Vec::new(),
            must_send: false,
            likely_absent: false,
            may_send: true,
            suspect: false,
            tried_before: false,
            look: None,
            tries: Default::default(),
            what: "a".to_owned(),
            listener: Arc::new(|_| {}),
        };
        copy_blob(&Target::layout(layout.clone()), order).await
    }

    /// Bytes that were read from the source.
    fn read(&self) -> Vec<u64> {
        let acts = self.source.done().into_iter();
        acts.filter_map(|act| match act {
            memory::Act::Read(_, _, position) => Some(position),
            _ => None,
        })
        .collect()
    }
}

#[tokio::test]
async fn an_image_is_there_for_the_next_run_once_its_name_is_written() {
    let scene = Scene::new();
    let (layout, blob, manifest) = (scene.create(), scene.blob(b"config"), image("config"));
    assert_eq!(scene.copy(&layout, &blob).await.unwrap(), Landed::Streamed);
    let at = location("q.io/a:1");
    assert_eq!(layout.named(&at), Head::Absent);
    layout.put_manifest(&at, &manifest, Role::Image).await.unwrap();
    for layout in [scene.create(), Arc::new(Layout::open(&[scene.name()], policy()).unwrap())] {
        assert_eq!(layout.named(&at), Head::Found(manifest.digest.clone()));
        assert_eq!(layout.manifest(&at, None).await.unwrap(), manifest);
        assert_eq!(layout.has(&blob).await.unwrap(), Held::Bytes(6));
    }
    assert_eq!(scene.copy(&scene.create(), &blob).await.unwrap(), Landed::Found);
    assert_eq!(scene.read(), [0]);
    assert_eq!(fs::read_dir(scene.path(".mirror-images")).unwrap().count(), 1, "the lock alone stays");
}

#[tokio::test]
async fn a_blob_goes_on_where_a_run_that_was_killed_has_stopped() {
    let scene = Scene::new();
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let (layout, blob) = (scene.create(), scene.blob(&bytes));
    let part = scene.path(&format!(".mirror-images/{}.part", blob.digest.as_str().replace(':', "-")));
    fs::write(&part, &bytes[..150_000]).unwrap();
    assert_eq!(scene.copy(&layout, &blob).await.unwrap(), Landed::Streamed);
    assert_eq!(scene.read(), [150_000]);
    assert_eq!(fs::read(scene.blob_path(&blob.digest)).unwrap(), bytes);
    assert!(!part.exists());
}

#[tokio::test]
async fn what_is_wrong_of_an_earlier_run_is_fetched_anew() {
    let scene = Scene::new();
    let (layout, bytes) = (scene.create(), vec![7; 100_000]);
    let blob = scene.blob(&bytes);
    let part = scene.path(&format!(".mirror-images/{}.part", blob.digest.as_str().replace(':', "-")));
    fs::write(&part, vec![8; 50_000]).unwrap();
    assert_eq!(scene.copy(&layout, &blob).await.unwrap(), Landed::Streamed);
    assert_eq!(fs::read(scene.blob_path(&blob.digest)).unwrap(), bytes);
    // A damaged copy counts for nothing in the next run.
    fs::write(scene.blob_path(&blob.digest), vec![9; 100_000]).unwrap();
    assert_eq!(scene.copy(&scene.create(), &blob).await.unwrap(), Landed::Streamed);
    assert_eq!(fs::read(scene.blob_path(&blob.digest)).unwrap(), bytes);
}

#[tokio::test]
async fn two_runs_add_to_one_directory() {
    let scene = Scene::new();
    let (one, two) = (scene.create(), scene.create());
    let (a, b) = (location("q.io/a:1"), location("q.io/b:1"));
    let (first, second) = (image("one"), image("two"));
    let (one, two) =
        tokio::join!(one.put_manifest(&a, &first, Role::Image), two.put_manifest(&b, &second, Role::Image));
    assert!(one.is_ok() && two.is_ok());
    let layout = scene.create();
    assert_eq!(layout.named(&a), Head::Found(first.digest));
    assert_eq!(layout.named(&b), Head::Found(second.digest));
}

#[tokio::test]
async fn a_blob_that_another_run_is_writing_is_written_beside_it() {
    let scene = Scene::new();
    let (layout, bytes) = (scene.create(), vec![7; 100_000]);
    let blob = scene.blob(&bytes);
    let other = directory_of(&layout).begin(&blob.digest, blob.size).unwrap();
    other.write_at(&bytes[..10], 0).unwrap();
    assert_eq!(scene.copy(&layout, &blob).await.unwrap(), Landed::Streamed);
    other.write_at(&bytes[10..], 10).unwrap();
    directory_of(&layout).keep(&other, &blob.digest).unwrap();
    assert_eq!(fs::read(scene.blob_path(&blob.digest)).unwrap(), bytes);
    drop(other);
    assert_eq!(fs::read_dir(scene.path(".mirror-images")).unwrap().count(), 0, "nothing stays behind");
}

#[tokio::test]
async fn a_link_is_neither_read_nor_written_through() {
    let scene = Scene::new();
    let layout = scene.create();
    let secret = scene.dir.path().join("secret");
    fs::write(&secret, b"secret").unwrap();
    let blob = scene.blob(b"secret");
    symlink(&secret, scene.blob_path(&blob.digest)).unwrap();
    let error = layout.has(&blob).await.unwrap_err();
    assert_eq!(error.kind, Kind::Invalid, "{error}");
    let part = scene.path(&format!(".mirror-images/{}.part", blob.digest.as_str().replace(':', "-")));
    fs::remove_file(scene.blob_path(&blob.digest)).unwrap();
    symlink(&secret, &part).unwrap();
    assert!(scene.copy(&layout, &blob).await.is_err());
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    fs::remove_file(part).unwrap();
    fs::remove_dir_all(scene.path("blobs")).unwrap();
    symlink(scene.dir.path(), scene.path("blobs")).unwrap();
    assert!(matches!(
        Layout::create(&scene.name(), None, policy(), platform(), Made::default()),
        Err(LayoutError::Link(_))
    ));
}

#[test]
fn only_a_layout_or_nothing_is_taken_for_one() {
    let scene = Scene::new();
    let open = || Layout::open(&[scene.name()], policy());
    assert!(matches!(open(), Err(LayoutError::NoLayout(_))));
    assert!(Layout::look(&scene.name(), policy()).is_ok());
    fs::create_dir(scene.name().path).unwrap();
    fs::write(scene.path("letter"), "dear").unwrap();
    assert!(matches!(
        Layout::create(&scene.name(), None, policy(), platform(), Made::default()),
        Err(LayoutError::SomethingElse(_))
    ));
    assert!(matches!(open(), Err(LayoutError::NoLayout(_))));
    fs::write(scene.path("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(matches!(open(), Err(LayoutError::Version(..))));
    assert!(matches!(
        Layout::create(&scene.name(), None, policy(), platform(), Made::default()),
        Err(LayoutError::Version(..))
    ));
    fs::write(scene.path("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(scene.path("index.json"), "{").unwrap();
    assert!(matches!(open(), Err(LayoutError::Index(..))));
    fs::write(scene.path("index.json"), "{\"manifests\":[]}").unwrap();
    assert!(open().is_ok());
}

#[tokio::test]
async fn several_layouts_are_one_store_unless_they_contradict() {
    let scene = Scene::new();
    let at = |name: &str| LayoutName { form: Form::Directory, path: scene.dir.path().join(name) };
    for (name, image_name, text) in
        [("a", "q.io/a:1", "one"), ("b", "q.io/b:1", "two"), ("c", "q.io/a:1", "two")]
    {
        let layout = Layout::create(&at(name), None, policy(), platform(), Made::default()).unwrap();
        layout.put_manifest(&location(image_name), &image(text), Role::Image).await.unwrap();
    }
    let both = Layout::open(&[at("a"), at("b")], policy()).unwrap();
    assert_eq!(both.manifest(&location("q.io/a:1"), None).await.unwrap(), image("one"));
    assert_eq!(both.manifest(&location("q.io/b:1"), None).await.unwrap(), image("two"));
    assert!(matches!(Layout::open(&[at("a"), at("c")], policy()), Err(LayoutError::Contradiction(_))));
}

#[tokio::test]
async fn what_refers_to_an_image_is_found_by_the_layouts_word_or_its_own() {
    let scene = Scene::new();
    let layout = scene.create();
    let about = image("about");
    let referrer = |text: &str| {
        let digest = Digest::of(Algorithm::Sha256, text.as_bytes());
        let config = json!({ "digest": digest.as_str(), "size": 1, "mediaType": "a/b" });
        let subject = json!({ "digest": about.digest.as_str(), "size": 1, "mediaType": "a/b" });
        let json = json!({ "schemaVersion": 2, "config": config, "layers": [], "subject": subject });
        Manifest::parse(json.to_string().into(), None, Algorithm::Sha256).unwrap()
    };
    let (signature, tagged) = (referrer("signature"), referrer("tagged"));
    layout.put_manifest(&location("q.io/a:1"), &about, Role::Image).await.unwrap();
    let by_digest = location(&format!("q.io/a@{}", signature.digest));
    assert_eq!(layout.named(&by_digest), Head::Absent);
    layout.put_manifest(&by_digest, &signature, Role::Referrer).await.unwrap();
    assert_eq!(layout.named(&by_digest), Head::Found(signature.digest.clone()));
    layout.put_manifest(&location("q.io/a:sig"), &tagged, Role::Image).await.unwrap();
    let mut found: Vec<Digest> =
        layout.referrers(&about.digest).await.unwrap().into_iter().map(|found| found.digest).collect();
    found.sort_unstable();
    let mut expected = [signature.digest, tagged.digest];
    expected.sort_unstable();
    assert_eq!(found, expected);
    // It has no name, so that nobody takes it for an image.
    assert_eq!(layout.names().0.len(), 2);
}

#[tokio::test]
async fn a_manifest_that_is_damaged_or_of_another_size_is_told() {
    let scene = Scene::new();
    let layout = scene.create();
    let (at, manifest) = (location("q.io/a:1"), image("one"));
    layout.put_manifest(&at, &manifest, Role::Image).await.unwrap();
    let mut bytes = manifest.bytes.to_vec();
    bytes[3] ^= 1;
    fs::write(scene.blob_path(&manifest.digest), &bytes).unwrap();
    assert_eq!(layout.manifest(&at, None).await.unwrap_err().kind, Kind::Corrupt);
    fs::write(scene.blob_path(&manifest.digest), &bytes[1..]).unwrap();
    assert_eq!(layout.manifest(&at, None).await.unwrap_err().kind, Kind::Corrupt);
    fs::remove_file(scene.blob_path(&manifest.digest)).unwrap();
    assert_eq!(layout.manifest(&at, None).await.unwrap_err().kind, Kind::NotFound);
    // Putting it again heals it.
    fs::write(scene.blob_path(&manifest.digest), &bytes).unwrap();
    layout.put_manifest(&at, &manifest, Role::Image).await.unwrap();
    assert_eq!(layout.manifest(&at, None).await.unwrap(), manifest);
}

#[tokio::test]
async fn a_directory_that_a_killed_run_has_begun_is_taken_and_several_may_make_it_at_once() {
    for begun in [&["blobs"][..], &[".mirror-images", "blobs"], &["blobs", "blobs/sha256"]] {
        let scene = Scene::new();
        fs::create_dir(scene.name().path).unwrap();
        begun.iter().for_each(|below| fs::create_dir(scene.path(below)).unwrap());
        scene.create();
        assert!(scene.path("oci-layout").exists(), "{begun:?}");
    }
    let scene = Scene::new();
    std::thread::scope(|scope| {
        (0..8).for_each(|_| _ = scope.spawn(|| scene.create()));
    });
}

#[tokio::test]
async fn a_size_that_another_image_has_told_is_not_taken_over() {
    let scene = Scene::new();
    let (layout, blob) = (scene.create(), scene.blob(&[7; 1000]));
    assert_eq!(scene.copy(&layout, &blob).await.unwrap(), Landed::Streamed);
    let lie = Descriptor { size: 1100, ..blob.clone() };
    assert_eq!(scene.copy(&layout, &lie).await.unwrap_err().kind, Kind::Corrupt);
    assert_eq!(scene.copy(&layout, &blob).await.unwrap(), Landed::Found);
}

#[tokio::test]
async fn what_is_no_file_is_not_waited_for() {
    let scene = Scene::new();
    let layout = scene.create();
    let lock = scene.path(".mirror-images/lock");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &lock, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(layout.put_manifest(&location("q.io/a:1"), &image("one"), Role::Image).await.is_err());
    fs::remove_file(&lock).unwrap();
    let elsewhere = scene.dir.path().join("elsewhere");
    symlink(&elsewhere, &lock).unwrap();
    assert!(layout.put_manifest(&location("q.io/a:1"), &image("one"), Role::Image).await.is_err());
    assert!(!elsewhere.exists());
}

#[tokio::test]
async fn damage_that_stays_is_told_by_its_file_and_not_as_a_registrys() {
    let scene = Scene::new();
    let (target, blob) = (Target::layout(scene.create()), scene.blob(b"config"));
    let advice = target.advice_on_damage(&blob.digest);
    let path = scene.blob_path(&blob.digest).display().to_string();
    assert!(advice.contains(&path) && advice.contains("is the disk sound?"), "{advice}");
    let by_digest = location(&format!("q.io/a@{}", blob.digest));
    assert!(target.remedy_for_damaged(&by_digest).to_string().contains(&path));
}
