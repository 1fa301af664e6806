//! Archives in front of the programs that they are made for: containerd, podman, skopeo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::contents::Image;
use super::sample::Maker;
use crate::image::reference::Digest;

struct Scene {
    dir: tempfile::TempDir,
    images: Vec<Image>,
    file: PathBuf,
}

impl Scene {
    /// An archive of two images of two platforms, the second one pinned; of an image that has no tag; and of one that
    /// is no index.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut maker = Maker::default();
        let mut pinned = maker.multi(&["quay.io/cilium/cilium:v1.19.6"], "cilium");
        pinned.names.push(format!("quay.io/cilium/cilium@{}", root(&pinned)));
        let mut untagged = maker.multi(&[], "untagged");
        untagged.names.push(format!("q.io/untagged@{}", root(&untagged)));
        let single = Image {
            names: vec!["q.io/single:1".to_owned()],
            manifests: vec![maker.image("single", "amd64")],
        };
        let images = vec![maker.multi(&["registry.k8s.io/pause:3.10.2"], "pause"), pinned, untagged, single];
        let file = dir.path().join("images.tar");
        fs::write(&file, maker.archive(&images)).unwrap();
        Self { dir, images, file }
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.images.iter().flat_map(|image| image.names.iter().map(String::as_str)).collect();
        names.sort_unstable();
        names
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }
}

fn root(image: &Image) -> &Digest {
    &image.root().unwrap().digest
}

/// Whether the tests can be run at all: the programs are there, and may do what they do.
fn can(programs: &[&str]) -> bool {
    let is_there = |program: &&&str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|path| path.join(program).exists())
    };
    let missing: Vec<&str> = programs.iter().filter(|program| !is_there(program)).copied().collect();
    let lacking = if rustix::process::getuid().is_root() { missing } else { vec!["root"] };
    assert!(lacking.is_empty() || std::env::var_os("CI").is_none(), "{lacking:?} is missing");
    if !lacking.is_empty() {
        eprintln!("SKIPPED: {lacking:?} is missing");
    }
    lacking.is_empty()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines
}

struct Containerd {
    child: Child,
    address: PathBuf,
}

impl Containerd {
    fn start(scene: &Scene) -> Self {
        let [root, state, address, config] =
            ["root", "state", "c.sock", "c.toml"].map(|name| scene.path(name));
        fs::write(
            &config,
            "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\", \
             \"io.containerd.cri.v1.runtime\"]\n",
        )
        .unwrap();
        let mut command = Command::new("containerd");
        command.arg("--config").arg(config).arg("--root").arg(root).arg("--state").arg(state);
        let quiet = command.arg("--address").arg(&address).stdout(Stdio::null()).stderr(Stdio::null());
        let containerd = Self { child: quiet.spawn().unwrap(), address };
        let patience = Instant::now() + Duration::from_secs(20);
        while !containerd.ctr(&["version"]).output().unwrap().status.success() {
            assert!(Instant::now() < patience, "containerd does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        containerd
    }

    fn ctr(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.address).args(["--namespace", "k8s.io"]).args(args);
        command
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "starts containerd, as root"]
fn containerd_imports_all_names_and_all_platforms() {
    if !can(&["containerd", "ctr"]) {
        return;
    }
    let scene = Scene::new();
    let containerd = Containerd::start(&scene);
    let file = scene.file.to_str().unwrap();
    run(&mut containerd.ctr(&["images", "import", "--all-platforms", "--no-unpack", file]));
    assert_eq!(sorted(&run(&mut containerd.ctr(&["images", "ls", "-q"]))), scene.names());
    let checked = run(&mut containerd.ctr(&["images", "check"]));
    assert_eq!(checked.matches(" complete ").count(), scene.names().len(), "{checked}");
    let listed = run(&mut containerd.ctr(&["images", "ls"]));
    for line in listed.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let image =
            scene.images.iter().find(|image| image.names.iter().any(|name| name == words[0])).unwrap();
        assert_eq!(words[2], root(image).as_str(), "{line}");
    }
}

#[test]
#[ignore = "starts podman, as root"]
fn podman_loads_all_names_that_it_can_give() {
    if !can(&["podman"]) {
        return;
    }
    let scene = Scene::new();
    let podman = |args: &[&str]| {
        let mut command = Command::new("podman");
        command.arg("--root").arg(scene.path("root")).arg("--runroot").arg(scene.path("run"));
        run(command.args(["--storage-driver", "vfs"]).args(args))
    };
    podman(&["load", "--input", scene.file.to_str().unwrap()]);
    let listed = podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let expected: Vec<&str> = scene.names().into_iter().filter(|name| !name.contains('@')).collect();
    // Of the one without a tag it tells the ID.
    assert_eq!(sorted(&listed), [&["<none>:<none>"], &expected[..]].concat());
}

#[test]
#[ignore = "starts skopeo"]
fn skopeo_finds_each_image_by_its_whole_name() {
    if !can(&["skopeo"]) {
        return;
    }
    let scene = Scene::new();
    let inspect = |form: &str, file: &Path, name: &str| {
        let image = format!("{form}:{}:{name}", file.display());
        run(Command::new("skopeo").args(["inspect", "--raw"]).arg(image))
    };
    for image in &scene.images {
        for name in &image.names {
            let raw = inspect("oci-archive", &scene.file, name);
            assert_eq!(raw.as_bytes(), &image.root().unwrap().bytes[..], "{name}");
        }
    }
    inspect("docker-archive", &scene.file, "registry.k8s.io/pause:3.10.2");
}
