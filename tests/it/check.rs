//! `--check`: what a run would do, told without doing it.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::program::{Ended, Program};
use crate::scene::{Scene, two};
use crate::stage::{ALWAYS, CONTROL_PLANE, NO_PINS, Stage};
use crate::support::content::media;
use crate::support::{Blob, Content, Image, Kind, Op};

fn check(stage: &Stage) -> Ended {
    stage.program().args(&["--check", "-o", "json"]).run()
}

/// That a run did, to the byte, what the check before it had said.
#[track_caller]
fn assert_told(told: &Ended, done: &Ended) {
    for (said, did) in [
        ("blobs_to_copy", "blobs_copied"),
        ("bytes_to_copy", "bytes_copied"),
        ("blobs_to_mount", "blobs_mounted"),
        ("bytes_to_mount", "bytes_mounted"),
        ("manifests_to_copy", "manifests_copied"),
        ("manifest_bytes", "manifest_bytes"),
    ] {
        assert_eq!(told.number(said), done.number(did), "{said}");
    }
    let open = told.number("missing") + told.number("different");
    assert_eq!((told.number("there"), open), (done.number("present"), done.number("copied")));
}

#[test]
fn a_check_tells_what_a_run_then_does_and_writes_nothing() {
    let stage = Stage::new(ALWAYS);
    let told = check(&stage).expect(1);
    stage.net.journal().assert_read_only();
    assert_eq!(told.number("missing"), stage.lines.len() as u64);
    assert!(told.number("bytes_to_copy") > 0 && told.number("blobs_to_mount") > 0);
    let done = stage.run().expect(0);
    assert_told(&told, &done);

    let after = check(&stage).expect(0);
    assert_eq!(after.number("there"), stage.lines.len() as u64);
    assert_eq!(after.number("bytes_to_copy"), 0);
}

#[test]
fn after_an_interrupted_run_a_check_counts_only_what_is_left() {
    let stage = Stage::new(ALWAYS);
    let program = stage.program().args(&["-p", "1"]).start();
    let pid = program.child.id();
    stage.net.at_request(150, move || {
        let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    });
    assert_eq!(program.wait().code, None);
    let uploaded = stage.net.journal().filter(|e| e.op == Op::UploadPut && e.succeeded()).len();
    assert!(uploaded > 0, "it was killed before it had done anything");
    let told = check(&stage).expect(1);
    let done = stage.run().expect(0);
    assert_told(&told, &done);
    stage.assert_mirrored();
}

#[test]
fn something_else_under_a_name_is_told_as_different() {
    let stage = Stage::new(CONTROL_PLANE);
    stage.run().expect(0);
    let line = stage.lines.iter().find(|line| line.repository == "pause").unwrap();
    // The source's tag moves on.
    let mut moved = Content::new();
    moved.add(&line.repository, &line.tag, &Image::generated(Kind::Oci, 77, &[3000]));
    stage.source.add(&moved);
    let told = check(&stage).expect(1);
    assert_eq!((told.number("different"), told.number("missing")), (1, 0));
    let done = stage.run().expect(0);
    assert_told(&told, &done);
    let shown = stage.program().args(&["--check"]).run().expect(0);
    assert!(shown.stdout.contains("there     registry.k8s.io/pause"), "{}", shown.stdout);
}

#[test]
fn a_target_that_cannot_be_asked_is_said_so() {
    let stage = Stage::new(CONTROL_PLANE);
    let nobody = crate::stage::closed_port();
    let told = stage.program_to(&nobody).args(&["--check", "--retries", "0"]).run().expect(3);
    assert!(told.stdout.contains("cannot connect"), "{}", told.stdout);
}

#[test]
fn names_that_are_to_stay_as_they_are_are_no_refusal_and_nothing_is_left_to_do() {
    let scene = Scene::new(&two(9_000));
    let mut content = Content::new();
    content.add("group/first", "1", &Image::generated(Kind::Oci, 77, &[3000]));
    scene.target.add(&content);
    let target = scene.target.host();
    let mirror = format!("--source-mirror=quay.io={}", scene.source.url());
    let first = Program::new(&[&target, &mirror, "--no-clobber", "--image", "quay.io/group/first:1"]);
    let told = first.args(&["--check"]).run().expect(1);
    assert!(told.stdout.contains("FAILED") && told.stdout.contains("--no-clobber"), "{}", told.stdout);

    let run = |images: &[&str]| {
        let program = Program::new(&[&target, &mirror, "--no-clobber"]);
        program.args(images).run().expect(1).stdout
    };
    let done = run(&["--image", "quay.io/group/first:1"]);
    assert!(done.contains("1 failed") && !done.contains("Run the same command again"), "{done}");
    let absent = run(&["--image", "quay.io/group/first:1", "--image", "quay.io/group/third:1"]);
    assert!(absent.contains("2 failed") && absent.contains("Run the same command again"), "{absent}");
}

#[test]
fn what_is_partial_is_told_with_what_it_lacks() {
    // An image with a layer that is not to be distributed, and something that refers to it.
    let layer = Blob::generated(4711, 5_000);
    let plain = Image::generated(Kind::Oci, 60, &[4_000]);
    let mut value: Value = serde_json::from_slice(&plain.manifest.bytes).unwrap();
    let described =
        |kind: &str, blob: &Blob| json!({ "mediaType": kind, "digest": blob.digest, "size": blob.size });
    value["layers"].as_array_mut().unwrap().push(described(media::DOCKER_FOREIGN, &layer));
    let blobs = plain.blobs.into_iter().chain([layer]).collect();
    let image = Image::from_value(media::OCI_MANIFEST, &value, blobs, vec![]);
    let config = Blob::literal("{}");
    let about = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "layers": [], "subject": image.descriptor(),
        "artifactType": "application/vnd.example", "config": described("application/vnd.oci.empty.v1+json", &config),
    });
    let referrer = Image::from_value(media::OCI_MANIFEST, &about, vec![config], vec![]);
    let list =
        json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [referrer.descriptor()] });
    let list = Image::from_value(media::OCI_INDEX, &list, vec![], vec![referrer]);
    let tag = image.digest().replace(':', "-");
    let scene = Scene::new(&[("quay.io/group/first:1", image)]);
    let mut content = Content::new();
    content.add("group/first", &tag, &list);
    scene.source.add(&content);

    let target = scene.target.host();
    let mirror = format!("--source-mirror=quay.io={}", scene.source.url());
    let run = |more: &[&str], code| {
        let image = ["--image", "quay.io/group/first:1"];
        Program::new(&[&target, &mirror]).args(&image).args(more).run().expect(code)
    };
    let assert_partial = |flag: &str, lack: &str, words: &str| {
        let told = run(&["--check", "-o", "json", flag], 1);
        assert_eq!(told.number("partial"), 1, "{}", told.stdout);
        let lines = told.report()["images"].as_array().unwrap().clone();
        assert!(lines.iter().any(|line| line["lacks"] == lack), "{}", told.stdout);
        let text = run(&["--check", flag], 1).stdout;
        assert!(text.contains(words) && text.contains(", 1 partial"), "{text}");
        assert!(!text.contains("platform"), "{text}");
        run(&[flag], 0);
        run(&["--check", flag], 0);
    };
    run(&["--referrers"], 0);
    assert_partial(
        "--include-foreign",
        "layers",
        ": without all of the layers that are not to be distributed",
    );
    scene.target.delete_tag("group/first", &tag);
    assert_partial("--referrers", "listing", ": without an entry in the list of referrers");
}

#[test]
fn a_list_of_images_is_mirrored_alone_or_beside_the_catalogs_selection() {
    let stage = Stage::new(CONTROL_PLANE);
    let mut list = tempfile::NamedTempFile::new().unwrap();
    writeln!(
        list,
        "# two of them\nregistry.k8s.io/pause:3.10.2\n\nregistry.k8s.io/kube-proxy:v1.36.3 # last"
    )
    .unwrap();
    let list = list.path().to_str().unwrap();
    let mirror = format!("--source-mirror=registry.k8s.io={}", stage.source.url());
    let target = stage.target.host();
    let alone =
        Program::new(&[&target, &mirror, NO_PINS, "--images-from", list, "-o", "json"]).run().expect(0);
    assert_eq!(alone.number("copied"), 2);
    // What the catalog selects as well counts once.
    let image = "registry.k8s.io/pause:3.10.2";
    let beside =
        stage.program().args(&["--image", image, "--images-from", list, "-o", "json"]).run().expect(0);
    assert_eq!(beside.number("copied") + beside.number("present"), stage.lines.len() as u64);
    assert_eq!(beside.number("present"), 2);
}

#[test]
fn two_images_for_one_name_are_refused_before_any_request() {
    let stage = Stage::new(CONTROL_PLANE);
    let told = stage.program().args(&["--image", "quay.io/pause:3.10.2"]).run().expect(2);
    for name in ["quay.io/pause:3.10.2", "registry.k8s.io/pause:3.10.2"] {
        assert!(told.stderr.contains(name), "{}", told.stderr);
    }
    assert_eq!(stage.net.journal().entries().len(), 0);
}
