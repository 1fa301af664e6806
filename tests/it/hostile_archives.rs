//! Archives and directories that are made to deceive (S03 to S06): nothing outside of the named place is read or written,
//! nothing of them is pushed, and no memory and no time is lost over them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{Ended, Program};
use crate::stage::NO_PINS;
use crate::support::content::media;
use crate::support::digest::sha256;
use crate::support::registry::Registry;
use crate::support::{Net, Op};

const NAME: &str = "q.io/a:1";
/// More than any of these takes, unoptimised and on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(90);
/// Address space of the program, in KiB: its threads' stacks alone have a good part of that.
const MEMORY: u64 = 1_500_000;

/// A tar made by hand.
#[derive(Clone, Default)]
struct Tar(Vec<u8>);

impl Tar {
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

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.raw(name, b'0', content.as_ref(), |_| {})
    }

    fn link(self, name: &str, kind: u8, to: &str) -> Self {
        self.raw(name, kind, b"", |header| header.set_link_name(to).unwrap())
    }

    fn pax(self, key: &str, value: &str) -> Self {
        let rest = key.len() + value.len() + 3;
        let length = (rest + 1..).find(|length| *length == rest + length.to_string().len()).unwrap();
        self.raw("PaxHeaders/x", b'x', format!("{length} {key}={value}\n").as_bytes(), |_| {})
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

fn path_of(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// A layout, before anybody has laid hands on it.
#[derive(Clone, Default)]
struct Parts {
    blobs: BTreeMap<String, Vec<u8>>,
    entries: Vec<Value>,
}

impl Parts {
    fn add(&mut self, media_type: &str, content: impl AsRef<[u8]>) -> Value {
        let digest = sha256(content.as_ref());
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": content.as_ref().len() });
        self.blobs.insert(digest, content.as_ref().to_vec());
        descriptor
    }

    fn manifest(&mut self, layer: &str) -> Value {
        let config = self.add(media::OCI_CONFIG, "{}");
        let layer = self.add(media::OCI_LAYER, layer);
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        self.add(media::OCI_MANIFEST, manifest.to_string())
    }

    fn index(&mut self, children: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children });
        self.add(media::OCI_INDEX, index.to_string())
    }

    fn name(mut self, name: &str, mut descriptor: Value) -> Self {
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        self.entries.push(descriptor);
        self
    }

    /// One image of one layer.
    fn whole() -> Self {
        let mut parts = Self::default();
        let manifest = parts.manifest("layer");
        parts.name(NAME, manifest)
    }

    fn index_json(&self) -> String {
        json!({ "schemaVersion": 2, "manifests": self.entries }).to_string()
    }

    /// All but the end of it.
    fn tar(&self) -> Tar {
        let tar = Tar::default().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        let tar = tar.file("index.json", self.index_json());
        self.blobs.iter().fold(tar, |tar, (digest, bytes)| tar.file(&path_of(digest), bytes))
    }

    fn write(&self, directory: &Path) {
        fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(directory.join("index.json"), self.index_json()).unwrap();
        for (digest, bytes) in &self.blobs {
            fs::write(directory.join(path_of(digest)), bytes).unwrap();
        }
    }
}

/// A place for what is hostile, a file beside it that nobody is to read, and a target.
struct Scene {
    home: tempfile::TempDir,
    net: Net,
    target: Registry,
}

impl Scene {
    fn new() -> Self {
        let net = Net::new();
        let target = net.registry("target").start();
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("secret"), "layer").unwrap();
        Self { home, net, target }
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("a.tar")
    }

    fn directory(&self) -> PathBuf {
        self.home.path().join("images")
    }

    /// All that is there, with its length, its type and when it was changed.
    fn all(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut next = vec![self.home.path().to_owned()];
        while let Some(directory) = next.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let about = entry.path().symlink_metadata().unwrap();
                let changed = about.modified().unwrap();
                all.push(format!(
                    "{} {:?} {} {changed:?}",
                    entry.path().display(),
                    about.file_type(),
                    about.len()
                ));
                if about.is_dir() {
                    next.push(entry.path());
                }
            }
        }
        all.sort();
        all
    }

    /// Runs the program on a place, which changes nothing on the disk and takes little memory and time.
    fn run(&self, arguments: &[&str]) -> Ended {
        let before = self.all();
        let began = Instant::now();
        // Where relative names would lead to.
        let enter = format!("cd {}", self.home.path().display());
        let run = Program::new(arguments).with_memory(MEMORY).after(&enter).run();
        assert!(began.elapsed() < PATIENCE, "{arguments:?}: {:?}", began.elapsed());
        assert_eq!(self.all(), before, "{arguments:?}");
        run
    }

    fn load(&self, from: &str) -> Ended {
        self.net.journal().clear();
        self.run(&["--from", from, &self.target.host(), NO_PINS])
    }

    /// What cannot be read as a layout is refused before anybody is asked, and a check says why.
    #[track_caller]
    fn assert_refused(&self, what: &str, place: &str, told: &str) {
        let run = self.load(place).expect(2);
        assert!(run.stderr.contains(told), "{what}: {}", run.stderr);
        assert_eq!(self.net.journal().requests("target"), 0, "{what}");
        let run = self.run(&["--check", place]).expect(1);
        assert!(run.stdout.contains(told), "{what}: {}", run.stdout);
    }

    #[track_caller]
    fn assert_archive_refused(&self, what: &str, tar: impl AsRef<[u8]>, told: &str) {
        fs::write(self.file(), tar).unwrap();
        self.assert_refused(what, &format!("oci-archive:{}", self.file().display()), told);
    }

    /// What is in two forms the same is in neither of them pushed.
    #[track_caller]
    fn assert_nothing_pushed(&self, what: &str, parts: &Parts, told: &str) {
        fs::write(self.file(), parts.tar().end()).unwrap();
        let _ = fs::remove_dir_all(self.directory());
        parts.write(&self.directory());
        for place in
            [format!("oci-archive:{}", self.file().display()), format!("oci:{}", self.directory().display())]
        {
            let run = self.load(&place).expect(1);
            assert!(run.stdout.contains(told), "{what}: {}", run.stdout);
            assert_eq!(self.net.journal().count("target", Op::ManifestPut), 0, "{what}");
            self.run(&["--check", &place]).expect(1);
        }
    }
}

#[test]
fn what_is_not_hostile_is_loaded() {
    let scene = Scene::new();
    fs::write(scene.file(), Parts::whole().tar().end()).unwrap();
    Parts::whole().write(&scene.directory());
    for place in ["oci-archive:a.tar", "oci:images"] {
        scene.load(place).expect(0);
        scene.run(&["--check", place]).expect(0);
    }
}

/// S04: names that lead elsewhere, links, devices and holes.
#[test]
fn an_archive_with_entries_that_lead_elsewhere_is_refused() {
    let scene = Scene::new();
    let whole = Parts::whole();
    let blob = path_of(&sha256(b"layer"));
    let bare = || {
        let mut bare = whole.clone();
        bare.blobs.remove(&sha256(b"layer"));
        bare.tar()
    };
    let secret = scene.home.path().join("secret");
    let secret = secret.to_str().unwrap();
    for name in ["../evil", "/tmp/evil", "a/../../evil", "blobs/sha256/../../../evil", ".."] {
        let tar = whole.tar().file(name, "evil").end();
        scene.assert_archive_refused(name, tar, "would lie outside of it");
        let tar = whole.tar().pax("path", name).file("a", "evil").end();
        scene.assert_archive_refused(name, tar, "would lie outside of it");
        let tar = whole.tar().raw("././@LongLink", b'L', format!("{name}\0").as_bytes(), |_| {});
        scene.assert_archive_refused(name, tar.file("a", "evil").end(), "would lie outside of it");
    }
    let kinds = [
        (b'1', "a hard link"),
        (b'2', "a symbolic link"),
        (b'3', "something special"),
        (b'4', "something special"),
        (b'6', "something special"),
    ];
    for (kind, told) in kinds {
        for to in [secret, "secret", "../../secret"] {
            scene.assert_archive_refused(told, bare().link(&blob, kind, to).end(), told);
        }
    }
    // A chain: a directory that is a link, and a file behind it.
    for name in ["blobs", "blobs/sha256"] {
        let tar = bare().link(name, b'2', "..").file(&blob, "layer").end();
        scene.assert_archive_refused(name, tar, "a symbolic link");
    }
    let tar = bare().link("x", b'2', "..").file("x/secret", "changed").file(&blob, "layer").end();
    fs::write(scene.file(), tar).unwrap();
    scene.load("oci-archive:a.tar").expect(0);
    let tar = bare().raw(&blob, b'S', b"layer", |_| {}).end();
    scene.assert_archive_refused("sparse", tar, "has holes");
    let tar = bare().pax("GNU.sparse.map", "0,5").file(&blob, "layer").end();
    scene.assert_archive_refused("sparse in PAX", tar, "has holes");
}

/// S04: what two readers would read in two ways.
#[test]
fn an_archive_that_can_be_read_in_two_ways_is_refused() {
    let scene = Scene::new();
    let whole = Parts::whole();
    let blob = path_of(&sha256(b"layer"));
    let other = r#"{"schemaVersion":2,"manifests":[]}"#;
    let terabyte = |header: &mut tar::Header| header.set_size(1 << 40);
    let twice = "do not use this archive";
    let cases = [
        ("an index twice", whole.tar().file("index.json", other), twice),
        ("the same by another path", whole.tar().file("./index.json", other), twice),
        ("the same by PAX", whole.tar().pax("path", "index.json").file("a", other), twice),
        ("a blob twice", whole.tar().file(&blob, "other"), twice),
        (
            "a blob twice with a long name",
            whole.tar().raw("l", b'L', blob.as_bytes(), |_| {}).file("a", "x"),
            twice,
        ),
        ("two sizes", whole.tar().pax("size", "6").file("a", "x"), "two sizes"),
        (
            "two names",
            whole.tar().pax("path", "b").raw("l", b'L', b"c", |_| {}).file("a", "x"),
            "two long names",
        ),
        ("a size past the end", whole.tar().raw("a", b'0', b"", terabyte), "is cut off"),
        (
            "a size past the end by PAX",
            whole.tar().pax("size", "18446744073709551615").raw("a", b'0', b"", |_| {}),
            "is cut off",
        ),
        ("a long header", whole.tar().pax("comment", &"x".repeat(2 << 20)).file("a", ""), "extended header"),
        ("a NUL in a name", whole.tar().pax("path", "index.json\0x").file("a", ""), "outside"),
    ];
    for (what, tar, told) in cases {
        scene.assert_archive_refused(what, tar.end(), told);
    }
    scene.assert_archive_refused(
        "more behind its end",
        [whole.tar().end(), whole.tar().end()].concat(),
        "end",
    );
    // Control characters of a name do nothing to a terminal.
    let run = whole.tar().pax("path", "../\x1b[2J\n::error::x").file("a", "");
    scene.assert_archive_refused("controls", run.end(), "outside");
    let told = scene.load("oci-archive:a.tar").expect(2).stderr;
    assert!(!told.contains('\x1b') && !told.contains("\n::error"), "{told:?}");
}

/// S04: a million entries are read and no more, in bounded memory.
#[test]
fn an_archive_with_more_entries_than_can_be_is_refused_soon() {
    let scene = Scene::new();
    let mut file = BufWriter::with_capacity(1 << 20, fs::File::create(scene.file()).unwrap());
    file.write_all(&Parts::whole().tar().0).unwrap();
    let entry = Tar::default().file("x", "").0;
    for _ in 0..1_000_001 {
        file.write_all(&entry).unwrap();
    }
    file.write_all(&[0; 1024]).unwrap();
    drop(file);
    let run = scene.load("oci-archive:a.tar").expect(2);
    assert!(run.stderr.contains("more than 1000000 entries"), "{}", run.stderr);
}

/// S03, S05: digests and names that would be paths, or none.
#[test]
fn digests_and_names_that_are_none_lead_nowhere() {
    let scene = Scene::new();
    let hex = "0".repeat(64);
    for digest in [
        "sha256:../../../secret".to_owned(),
        format!("sha256:{hex}/../../secret"),
        format!("sha256:{}\0", &hex[1..]),
        format!("sha256:{}", "a".repeat(300)),
        format!("md5:{hex}"),
        "secret".to_owned(),
    ] {
        let mut parts = Parts::whole();
        parts.entries[0]["digest"] = digest.clone().into();
        parts.write(&scene.directory());
        scene.assert_refused(&digest, "oci:images", "no digest and size that can be");
        scene.assert_archive_refused(&digest, parts.tar().end(), "no digest and size that can be");
        // The same in a manifest.
        let mut parts = Parts::default();
        let config = parts.add(media::OCI_CONFIG, "{}");
        let layer = json!({ "mediaType": media::OCI_LAYER, "digest": digest, "size": 5 });
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        let manifest = parts.add(media::OCI_MANIFEST, manifest.to_string());
        scene.assert_nothing_pushed(&digest, &parts.name(NAME, manifest), "descriptor in it is wrong");
    }
    for name in [
        "../../evil",
        "x;rm -rf",
        "q.io/../evil:1",
        "q.io/a@sha256:bad",
        "q.io/a:1\n::error::x",
        &format!("q.io/{}:1", "a".repeat(10_000)),
    ] {
        let mut parts = Parts::default();
        let manifest = parts.manifest("layer");
        let parts = parts.name(name, manifest);
        fs::write(scene.file(), parts.tar().end()).unwrap();
        let run = scene.load("oci-archive:a.tar").expect(2);
        assert!(run.stderr.contains("name with a host"), "{name}: {}", run.stderr);
        assert!(!run.stderr.contains("\n::error"), "{}", run.stderr);
        assert_eq!(scene.net.journal().requests("target"), 0, "{name}");
        scene.run(&["--check", "oci-archive:a.tar"]).expect(0);
    }
    let mut parts = Parts::default();
    let (one, two) = (parts.manifest("one"), parts.manifest("two"));
    let tar = parts.clone().name(NAME, one.clone()).name(NAME, two.clone()).tar();
    scene.assert_archive_refused("one name, two images", tar.end(), "two entries have the name");
    // Names count in index.json alone.
    let mut named = two.clone();
    named["annotations"] = json!({ "org.opencontainers.image.ref.name": "q.io/evil:1" });
    let index = parts.index(&[one, named]);
    fs::write(scene.file(), parts.name(NAME, index).tar().end()).unwrap();
    scene.load("oci-archive:a.tar").expect(0);
    assert_eq!(scene.target.content().tags().count(), 1);
}

/// S04: content under a name that is not its own.
#[test]
fn a_blob_that_is_not_what_its_name_says_is_not_pushed() {
    for (what, content) in [("layer", "other"), ("{}", "[]")] {
        let scene = Scene::new();
        let mut parts = Parts::whole();
        parts.blobs.insert(sha256(what.as_bytes()), content.into());
        scene.assert_nothing_pushed(what, &parts, "its bytes are damaged");
    }
    let scene = Scene::new();
    let mut parts = Parts::whole();
    let digest = parts.entries[0]["digest"].as_str().unwrap().to_owned();
    let manifest = parts.blobs.get_mut(&digest).unwrap();
    *manifest.last_mut().unwrap() = b' ';
    scene.assert_nothing_pushed("a manifest", &parts, "its bytes are damaged");
    // Shorter and longer than the manifest says.
    for content in ["laye", "layers"] {
        let mut parts = Parts::whole();
        parts.blobs.insert(sha256(b"layer"), content.into());
        scene.assert_nothing_pushed(content, &parts, "bytes where its manifest says 5");
    }
}

/// Documents that are made to have a reader sink in them.
#[test]
fn documents_without_measure_are_refused_soon() {
    let scene = Scene::new();
    let with_index = |index: &[u8]| {
        let tar = Tar::default().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        tar.file("index.json", index).end()
    };
    let deep = [b"{\"manifests\":".to_vec(), vec![b'['; 5_000_000]].concat();
    scene.assert_archive_refused("depth", with_index(&deep), "it is no JSON");
    scene.assert_archive_refused("size", with_index(&vec![b' '; (20 << 20) + 1]), "larger than");
    let entry = json!({ "digest": sha256(b"x"), "size": 1 }).to_string();
    let many = format!("{{\"manifests\":[{}]}}", vec![entry; 100_001].join(","));
    scene.assert_archive_refused("entries", with_index(many.as_bytes()), "more than 100000 entries");
    let version = Tar::default().file("oci-layout", r#"{"imageLayoutVersion":"9"}"#);
    scene.assert_archive_refused("version", version.file("index.json", "{}").end(), "not of version 1.0.0");

    let mut nested = Parts::default();
    let mut child = nested.manifest("layer");
    for _ in 0..40 {
        child = nested.index(&[child]);
    }
    scene.assert_nothing_pushed("nesting", &nested.name(NAME, child), "nested deeper than");
    let mut wide = Parts::default();
    let mut children: Vec<Value> = (0..50).map(|number| wide.manifest(&number.to_string())).collect();
    for _ in 0..5 {
        let index = wide.index(&children);
        children = vec![index; 1000];
    }
    let root = wide.index(&children);
    fs::write(scene.file(), wide.name(NAME, root).tar().end()).unwrap();
    scene.load("oci-archive:a.tar");
    scene.run(&["--check", "oci-archive:a.tar"]);
    let mut json_bomb = Parts::default();
    let manifest = json_bomb.add(media::OCI_MANIFEST, vec![b'['; 3_000_000]);
    scene.assert_nothing_pushed("a manifest's depth", &json_bomb.name(NAME, manifest), "no manifest");
    let mut large = Parts::default();
    let manifest = large.add(media::OCI_MANIFEST, vec![b' '; 5 << 20]);
    scene.assert_nothing_pushed(
        "a manifest's size",
        &large.name(NAME, manifest),
        "more than a manifest may have",
    );
}

/// S06: links, pipes and endless files in a directory.
#[test]
fn a_directory_with_links_and_pipes_makes_nobody_read_them() {
    let scene = Scene::new();
    let secret = scene.home.path().join("secret");
    let begin = || {
        let _ = fs::remove_dir_all(scene.directory());
        Parts::whole().write(&scene.directory());
    };
    begin();
    let blob = scene.directory().join(path_of(&sha256(b"layer")));
    // Even where it leads to the right bytes.
    fs::remove_file(&blob).unwrap();
    symlink(&secret, &blob).unwrap();
    for _ in 0..2 {
        scene.load("oci:images").expect(1);
        scene.net.journal().assert_read_only();
        let told = scene.run(&["--check", "oci:images"]).expect(1).stdout;
        assert!(told.contains("is missing") && told.contains("lies among the blobs and is none"), "{told}");
        // The second time a pipe, which has no end and no writer.
        fs::remove_file(&blob).unwrap();
        assert!(Command::new("mkfifo").arg(&blob).status().unwrap().success());
    }
    for below in ["blobs", "blobs/sha256"] {
        begin();
        let elsewhere = scene.home.path().join("elsewhere");
        let _ = fs::remove_dir_all(&elsewhere);
        fs::rename(scene.directory().join(below), &elsewhere).unwrap();
        symlink(&elsewhere, scene.directory().join(below)).unwrap();
        scene.assert_refused(below, "oci:images", "it is a link or a file");
    }
    for document in ["index.json", "oci-layout"] {
        begin();
        let path = scene.directory().join(document);
        fs::rename(&path, scene.home.path().join("moved")).unwrap();
        symlink(scene.home.path().join("moved"), &path).unwrap();
        let run = scene.load("oci:images").expect(2);
        assert!(run.stderr.contains(document), "{}", run.stderr);
        fs::remove_file(&path).unwrap();
        // A gigabyte that takes no room.
        fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
        let run = scene.load("oci:images").expect(2);
        assert!(run.stderr.contains("larger than 20 MiB"), "{}", run.stderr);
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        scene.load("oci:images").expect(2);
    }
    begin();
    fs::write(scene.directory().join("oci-layout"), r#"{"imageLayoutVersion":"9"}"#).unwrap();
    scene.assert_refused("version", "oci:images", "not of version 1.0.0");
}
