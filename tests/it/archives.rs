//! Images carried in one file, between two registries that do not see each other, and into what reads such files.

use std::fs;
use std::path::Path;

use crate::program::Program;
use crate::single::Single;
use crate::stage::{ALWAYS, NO_PINS, Stage};
use crate::support::content::SetOptions;
use crate::support::digest::sha256;
use crate::support::fault::{Cut, Fault, on};
use crate::support::process::{require, skopeo};
use crate::support::{Net, Op};

/// What an archive in a file is called.
fn name_of(file: &Path) -> String {
    format!("oci-archive:{}", file.display())
}

fn load(from: &str, target: &str) -> Program {
    Program::new(&["--from", from, target, NO_PINS])
}

/// All files of a directory.
fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn what_is_saved_into_a_file_and_loaded_again_is_what_was_there() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let (first, second) = (home.path().join("a.tar"), home.path().join("b.tar"));
    let saved = stage.program_to(&name_of(&first)).args(&["-o", "json"]).run().expect(0);
    assert_eq!(saved.number("copied") as usize, stage.good_lines().count() - 1, "CoreDNS has one name there");
    stage.net.journal().assert_each_blob_fetched_once("source");
    stage.program_to(&name_of(&second)).run().expect(0);
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap(), "the same content, the same bytes");
    assert_eq!(files(home.path()), ["a.tar", "b.tar"], "nothing else stays");

    stage.net.journal().clear();
    load(&name_of(&first), &stage.target.host()).run().expect(0);
    stage.assert_mirrored();
    stage.net.journal().assert_tag_last("target");
    assert_eq!(stage.net.journal().requests("source"), 0, "inside nobody sees the source");
    let check = ["--check", "--deep=bytes"];
    load(&name_of(&first), &stage.target.host()).args(&check).run().expect(0);
}

/// By the kernel's account of what the program has written, whereto ever.
#[test]
fn a_save_writes_each_byte_once() {
    let single = Single::on(Net::new(), &[20_000_000; 4], |source| source);
    let home = tempfile::tempdir().unwrap();
    let (file, account) = (home.path().join("a.tar"), home.path().join("io"));
    // The shell's account has that of its children that have ended.
    let run = "\"$0\" \"$@\"; code=$?; /bin/cat /proc/$$/io >";
    let program = single.program(&name_of(&file)).after(&format!("{run}{}; exit $code", account.display()));
    program.run().expect(0);
    let account = fs::read_to_string(account).unwrap();
    let written = |field: &str| {
        let line = account.lines().find_map(|line| line.strip_prefix(field)).expect("proc(5)");
        line.trim().parse::<u64>().unwrap()
    };
    let size = fs::metadata(&file).unwrap().len();
    let most = size + size / 100;
    assert!((size..=most).contains(&written("wchar:")), "an archive of {size} bytes:\n{account}");
    assert!(written("write_bytes:") <= most, "an archive of {size} bytes:\n{account}");
}

#[test]
fn what_an_earlier_archive_has_is_not_fetched_again() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.tar");
    stage.program_to(&name_of(&file)).args(&["--filter", "control-plane"]).run().expect(0);
    stage.net.journal().clear();
    let run = stage.program_to(&name_of(&file)).args(&["-o", "json"]).run().expect(0);
    stage.net.journal().assert_each_blob_fetched_once("source");
    assert!(run.number("blobs_found") > 0, "{}", run.stdout);
    let before = fs::read(&file).unwrap();
    stage.net.journal().clear();
    stage.program_to(&name_of(&file)).run().expect(0);
    assert_eq!(stage.net.journal().count("source", Op::BlobGet), 0);
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_save_that_broke_leaves_no_archive_and_goes_on_inside_a_blob() {
    let single = Single::on(Net::new(), &[40_000_000], |source| source);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.tar");
    let cut = Fault::CutBody { after: 30_000_000, how: Cut::Fin };
    single.source.fault(on(Op::BlobGet).range(false).then(cut));
    single.source.fault(on(Op::BlobGet).range(true).then(Fault::Status(500)));
    let run = single.program(&name_of(&file)).run().expect(1);
    assert!(run.stdout.contains("1 failed"), "{}", run.stdout);
    assert_eq!(files(home.path()), ["a.tar.partial", "a.tar.partial.journal"]);
    single.source.clear_faults();
    single.net.journal().clear();
    let run = single.program(&name_of(&file)).args(&["-o", "json"]).run().expect(0);
    let read = single.net.journal().bytes_written("source");
    assert!(read < 11_000_000, "{read} bytes");
    let (resumed, moved) = (run.number("bytes_resumed"), run.number("bytes_copied"));
    assert!((29_000_000..=30_000_000).contains(&resumed), "{resumed} bytes resumed");
    assert!((10_000_000..11_100_000).contains(&moved), "{moved} bytes moved");
    assert_eq!(files(home.path()), ["a.tar"]);
    let target = single.net.registry("target").start();
    load(&name_of(&file), &target.host()).run().expect(0);
    single.assert_mirrored(&target.url(), None);
}

#[test]
fn killed_twenty_times_a_save_ends_with_the_same_bytes_and_has_fetched_little_twice() {
    let options = SetOptions { layer_size: 100_000..=600_000, own_layers: 2, ..SetOptions::default() };
    let stage = Stage::with(ALWAYS, &options, |source| source, |target| target);
    let home = tempfile::tempdir().unwrap();
    let (whole, file) = (home.path().join("whole.tar"), home.path().join("a.tar"));
    stage.program_to(&name_of(&whole)).run().expect(0);
    let unique = stage.content.blobs.len();
    let questions = stage.net.journal().count("source", Op::ManifestGet);
    let (mut kills, mut fetched) = (0, 0);
    for kill in 0..20 {
        stage.net.journal().clear();
        let (tell, hear) = std::sync::mpsc::channel();
        // After all questions of the run, and some blobs.
        stage.net.at_request(questions + 2 + kill % 5, move || {
            if let Ok(process) = hear.recv() {
                crate::program::send_signal(process, "KILL");
            }
        });
        let running = stage.program_to(&name_of(&file)).args(&["-p", "2"]).start();
        let _ = tell.send(running.child.id());
        if running.wait().code.is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        fetched += stage.net.journal().count("source", Op::BlobGet);
        kills += 1;
        assert!(!file.exists(), "it has its name before it is whole");
    }
    stage.net.journal().clear();
    stage.program_to(&name_of(&file)).run().expect(0);
    fetched += stage.net.journal().count("source", Op::BlobGet);
    assert!(kills >= 5, "it was killed {kills} times");
    assert!(fetched < unique + 12 * kills, "{fetched} blobs were asked for, and there are {unique}");
    assert!(fs::read(&file).unwrap() == fs::read(&whole).unwrap(), "other bytes");
    assert_eq!(files(home.path()), ["a.tar", "whole.tar"]);
}

#[test]
fn an_interrupted_save_goes_on_inside_a_blob() {
    let size = 60_000_000;
    let single = Single::on(Net::new(), &[size], |source| source);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.tar");
    let stalled = Fault::StallBody { after: 20_000_000 };
    single.source.fault(on(Op::BlobGet).range(false).then(stalled));
    let running = single.program(&name_of(&file)).start();
    let is_far =
        || file.with_extension("tar.partial.journal").metadata().is_ok_and(|journal| journal.len() > 1_500);
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !is_far() && std::time::Instant::now() < patience {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    running.signal("INT");
    assert_eq!(running.wait().code, Some(130));
    single.source.clear_faults();
    single.net.journal().clear();
    single.program(&name_of(&file)).run().expect(0);
    let read = single.net.journal().bytes_written("source");
    assert!(read < size - 19_000_000, "{read} of {size} bytes");
}

#[test]
fn one_image_that_fails_keeps_an_archive_from_being_taken_for_whole() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.tar");
    let extra = ["--image", "registry.k8s.io/nothing:1", "-o", "json"];
    let run = stage.program_to(&name_of(&file)).args(&extra).run().expect(1);
    assert_eq!((run.number("failed"), run.number("copied")), (1, 0), "{}", run.stdout);
    let told = run.report()["unfinished"].to_string();
    assert!(told.contains("a.tar.partial"), "{told}");
    assert_eq!(files(home.path()), ["a.tar.partial", "a.tar.partial.journal"]);
    // Without it all that is there is used.
    stage.net.journal().clear();
    stage.program_to(&name_of(&file)).run().expect(0);
    assert_eq!(stage.net.journal().count("source", Op::BlobGet), 0);
}

#[test]
fn what_is_no_archive_is_told_before_anything_is_asked() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        fs::write(&path, bytes).unwrap();
        name_of(&path)
    };
    let table = [
        (file("gzip", b"\x1f\x8b\x08\0\0\0\0\0"), "compressed with gzip"),
        (file("text", &[b'x'; 2000]), "no tar archive"),
        (file("empty", b""), "no tar archive"),
        (name_of(home.path()), "it is no file"),
        (name_of(&home.path().join("missing")), "No such file"),
    ];
    for (from, told) in &table {
        let run = load(from, "r").run().expect(2);
        assert!(run.stderr.contains(told), "{from}: {}", run.stderr);
    }
    let run = Program::new(&["--image=r.invalid/a:1", &name_of(home.path())]).run().expect(2);
    assert!(run.stderr.contains("it is a directory"), "{}", run.stderr);
    let run = Program::new(&["--image=r.invalid/a:1", "oci-archive:/dev/full"]).run().expect(2);
    assert!(run.stderr.contains("a pipe or a device"), "{}", run.stderr);
    let nowhere = home.path().join("nowhere/a.tar");
    Program::new(&["--image=r.invalid/a:1", &name_of(&nowhere)]).run().expect(2);
}

#[test]
fn skopeo_and_podman_read_what_was_saved() {
    if !require("skopeo") {
        return;
    }
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.tar");
    stage.program_to(&name_of(&file)).run().expect(0);
    let index: serde_json::Value = serde_json::from_slice(&entry(&file, "index.json")).unwrap();
    let mut read = 0;
    for entry in index["manifests"].as_array().unwrap() {
        // Older ones find no other types.
        if entry["mediaType"].as_str().unwrap().contains(".oci.") {
            let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
            let raw = skopeo(&["inspect", "--raw", &format!("{}:{name}", name_of(&file))]).unwrap();
            assert_eq!(entry["digest"], sha256(&raw), "{name}");
            read += 1;
        }
    }
    assert!(read > 3, "{read} images");
    let list: serde_json::Value = serde_json::from_slice(&entry(&file, "manifest.json")).unwrap();
    for image in list.as_array().unwrap() {
        let name = image["RepoTags"][0].as_str().unwrap();
        skopeo(&["inspect", "--raw", &format!("docker-archive:{}:{name}", file.display())]).unwrap();
    }
}

/// An entry of a tar, by another program.
fn entry(file: &Path, name: &str) -> Vec<u8> {
    let output = std::process::Command::new("tar").arg("-xOf").arg(file).arg(name).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}
