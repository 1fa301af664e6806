//! Images carried as files: an image layout in a directory, between two registries that do not see each other.

use std::fs;
use std::path::Path;

use crate::program::Program;
use crate::single::Single;
use crate::stage::{ALWAYS, NO_PINS, Stage};
use crate::support::digest::sha256;
use crate::support::fault::{Cut, Fault, on};
use crate::support::process::{require, skopeo};
use crate::support::{Net, Op};

/// What a layout in a directory is called.
fn name_of(directory: &Path) -> String {
    format!("oci:{}", directory.display())
}

/// Loads everything from a layout.
fn load(from: &str, target: &str) -> Program {
    Program::new(&["--from", from, target, NO_PINS])
}

#[test]
fn what_is_saved_into_a_directory_and_loaded_again_is_what_was_there() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("images");
    let saved = stage.program_to(&name_of(&directory)).args(&["-o", "json"]).run().expect(0);
    assert_eq!(saved.number("copied") as usize, stage.good_lines().count() - 1, "CoreDNS has one name there");
    stage.net.journal().assert_each_blob_fetched_once("source");
    for blob in fs::read_dir(directory.join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        let hex = sha256(&fs::read(blob.path()).unwrap());
        assert_eq!(hex, format!("sha256:{}", blob.file_name().to_str().unwrap()));
    }

    stage.net.journal().clear();
    let again = stage.program_to(&name_of(&directory)).args(&["-o", "json"]).run().expect(0);
    assert_eq!((again.number("copied"), again.number("failed")), (0, 0));
    assert_eq!(stage.net.journal().count("source", Op::BlobGet), 0);

    stage.net.journal().clear();
    load(&name_of(&directory), &stage.target.host()).run().expect(0);
    stage.assert_mirrored();
    stage.net.journal().assert_tag_last("target");
    assert_eq!(stage.net.journal().requests("source"), 0, "inside nobody sees the source");
    let check = ["--check", "--deep=bytes"];
    load(&name_of(&directory), &stage.target.host()).args(&check).run().expect(0);
}

#[test]
fn a_selection_takes_only_what_it_names_and_tells_what_a_layout_lacks() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let from = name_of(&home.path().join("images"));
    stage.program_to(&from).run().expect(0);
    let one = ["--image", "registry.k8s.io/pause:3.10.2", "-o", "json"];
    let run = load(&from, &stage.target.host()).args(&one).run().expect(0);
    assert_eq!(run.number("copied"), 1);
    let lacking = ["--image", "registry.k8s.io/nothing:1", "-o", "json"];
    let run = load(&from, &stage.target.host()).args(&lacking).run().expect(1);
    let cause = run.report()["images"][0]["cause"].to_string();
    assert!(cause.contains(&from) && cause.contains("registry.k8s.io/nothing:1"), "{cause}");
}

#[test]
fn a_registry_that_has_been_filled_is_a_source_by_its_own_names() {
    let stage = Stage::new(ALWAYS);
    stage.program().run().expect(0);
    let second = stage.net.registry("second").start();
    let from = format!("{}/", stage.target.host());
    let arguments = ["--from", from.trim_end_matches('/'), &second.host(), NO_PINS];
    Program::new(&arguments).args(ALWAYS).run().expect(0);
    crate::stage::assert_mirrored(&stage.net, &second.url(), &stage.wanted());
}

#[test]
fn a_save_that_broke_goes_on_inside_a_blob() {
    let size = 4_000_000;
    let single = Single::on(Net::new(), &[size], |source| source);
    let home = tempfile::tempdir().unwrap();
    let target = name_of(&home.path().join("images"));
    let cut = Fault::CutBody { after: 3_000_000, how: Cut::Fin };
    single.source.fault(on(Op::BlobGet).range(false).then(cut));
    single.source.fault(on(Op::BlobGet).range(true).then(Fault::Status(500)));
    single.program(&target).run().expect(1);
    single.source.clear_faults();
    single.net.journal().clear();
    single.program(&target).run().expect(0);
    let read = single.net.journal().bytes_written("source");
    assert!(read < 1_200_000, "{read} of {size} bytes");
    let target = single.net.registry("target").start();
    let from = name_of(&home.path().join("images"));
    load(&from, &target.host()).run().expect(0);
    single.assert_mirrored(&target.url(), None);
}

#[test]
fn a_directory_gets_what_it_lacks_of_an_image_that_it_names() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("images");
    let save = |platform: &str| stage.program_to(&name_of(&directory)).args(&["--platform", platform]);
    save("linux/amd64").run().expect(0);
    // Nothing is begun that cannot be had whole.
    let lacking = load(&name_of(&directory), &stage.target.host()).run().expect(1);
    assert!(lacking.stdout.contains("--platform names those"), "{}", lacking.stdout);
    assert_eq!(stage.target.content().tags().count(), lacking_nothing(&stage), "{}", lacking.stdout);
    save("linux/arm64").args(&["--check"]).run().expect(1);
    save("linux/arm64").run().expect(0);
    load(&name_of(&directory), &stage.target.host()).run().expect(0);
    stage.assert_mirrored();

    // What was damaged since is found by the next run.
    let blobs: Vec<_> =
        fs::read_dir(directory.join("blobs/sha256")).unwrap().map(|blob| blob.unwrap().path()).collect();
    for (number, blob) in blobs.iter().enumerate() {
        match number % 3 {
            0 => fs::remove_file(blob).unwrap(),
            1 => fs::write(blob, vec![0; blob.metadata().unwrap().len() as usize]).unwrap(),
            _ => {}
        }
    }
    save("all").args(&["--check"]).run().expect(1);
    save("all").run().expect(0);
    for blob in blobs {
        let name = format!("sha256:{}", blob.file_name().unwrap().to_str().unwrap());
        assert_eq!(sha256(&fs::read(&blob).unwrap()), name);
    }
}

/// How many tags are of images that have one platform alone.
fn lacking_nothing(stage: &Stage) -> usize {
    let wanted = stage.wanted();
    let is_index = |digest: &String| {
        stage.source.manifest(digest).is_some_and(|manifest| {
            manifest.media_type.contains("index") || manifest.media_type.contains("list")
        })
    };
    wanted.values().filter(|digest| !is_index(digest)).count()
}

#[test]
fn skopeo_reads_what_was_saved() {
    if !require("skopeo") {
        return;
    }
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("images");
    stage.program_to(&name_of(&directory)).run().expect(0);
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(directory.join("index.json")).unwrap()).unwrap();
    let mut read = 0;
    for entry in index["manifests"].as_array().unwrap() {
        // Older ones find no other types.
        if entry["mediaType"].as_str().unwrap().contains(".oci.") {
            let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
            let raw = skopeo(&["inspect", "--raw", &format!("{}:{name}", name_of(&directory))]).unwrap();
            assert_eq!(entry["digest"], sha256(&raw), "{name}");
            read += 1;
        }
    }
    assert!(read > 3, "{read} images");
}

#[test]
fn a_check_of_a_directory_writes_nothing() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("images");
    let missing = stage.program_to(&name_of(&directory)).args(&["--check", "-o", "json"]).run().expect(1);
    assert!(missing.number("missing") > 10 && !directory.exists());
    stage.program_to(&name_of(&directory)).run().expect(0);
    let there = stage.program_to(&name_of(&directory)).args(&["--check", "-o", "json"]).run().expect(0);
    assert_eq!((there.number("missing"), there.number("different")), (0, 0));
}

#[test]
fn what_does_not_go_together_is_told_before_anything_is_asked() {
    let home = tempfile::tempdir().unwrap();
    let here = name_of(&home.path().join("images"));
    let other = home.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter"), "dear").unwrap();
    fs::create_dir(home.path().join("images")).unwrap();
    fs::write(home.path().join("images/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(home.path().join("images/index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    let image = "--image=r.invalid/a:1";
    let table: &[(&[&str], &str)] = &[
        (&["oci:"], "names no path"),
        (&["oci:a:b"], "colon"),
        (&["--from", "oci:nowhere", "r"], "there is no image layout"),
        (&["--from", &here, "r"], "holds no image"),
        (&["--from", &here, &here, image], "is the target too"),
        (&["--from", "a.example.com", "a.example.com", image], "is the target too"),
        (&["--from", &here, "--from", "a.example.com", "r", image], "stands alone"),
        (&["--from", &here, "--source-mirror", "docker.io=c.io", "r", image], "--source-mirror"),
        (&["--username", "u", "--password-stdin", &here, image], "--username"),
        (&[&name_of(&other), image], "it is not empty, and no image layout"),
        (
            &["--report", &format!("{}/images/index.json", home.path().display()), &here, image],
            "would be written into",
        ),
        (&["config", &here], "a cluster pulls from a registry"),
    ];
    for (arguments, told) in table {
        let run = Program::new(arguments).stdin("secret").run().expect(2);
        assert!(run.stderr.contains(told), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{arguments:?}");
    }
}
