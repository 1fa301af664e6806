//! Images carried in several files, each small enough for what carries them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::program::Program;
use crate::single::{IMAGE, Single};
use crate::stage::{ALWAYS, NO_PINS, Stage};
use crate::support::containerd::{Containerd, is_root};
use crate::support::digest::sha256;
use crate::support::process::{require, skopeo};
use crate::support::{Net, Op};

const PART: u64 = 1 << 20;

/// A place for an archive in parts.
struct Place {
    home: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("a.tar")
    }

    fn name(&self) -> String {
        format!("oci-archive:{}", self.file().display())
    }

    fn part(&self, number: usize) -> PathBuf {
        self.home.path().join(format!("a.tar.{number:03}"))
    }

    fn count(&self) -> usize {
        (1..).take_while(|number| self.part(*number).exists()).count()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// All parts, one behind the other.
    fn joined(&self) -> Vec<u8> {
        (1..=self.count()).flat_map(|number| fs::read(self.part(number)).unwrap()).collect()
    }

    /// What `sha256sum -c` makes of them.
    fn summed(&self) -> bool {
        let mut sum = Command::new("sha256sum");
        let sum = sum.args(["--check", "--strict", "--quiet", "a.tar.sha256"]).current_dir(self.home.path());
        sum.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }
}

fn load(from: &str, target: &str) -> Program {
    Program::new(&["--from", from, target, NO_PINS])
}

#[test]
fn parts_are_plain_cuts_of_the_archive_with_their_sums() {
    let stage = Stage::new(ALWAYS);
    let place = Place::new();
    let whole = place.home.path().join("whole.tar");
    stage.program_to(&format!("oci-archive:{}", whole.display())).run().expect(0);
    stage.program_to(&place.name()).args(&["--split", "1MiB"]).run().expect(0);
    let whole = fs::read(whole).unwrap();
    assert_eq!(place.count() as u64, (whole.len() as u64).div_ceil(PART));
    assert!(place.joined() == whole);
    for number in 1..=place.count() {
        assert!(place.part(number).metadata().unwrap().len() <= PART);
    }
    // The whole one, the sums, and nothing else.
    assert_eq!(place.names().len(), place.count() + 2);
    assert!(place.summed());

    for from in [place.name(), format!("{}.001", place.name())] {
        let target = stage.net.registry(if from.ends_with("001") { "second" } else { "first" }).start();
        load(&from, &target.host()).run().expect(0);
        crate::stage::assert_mirrored(&stage.net, &target.url(), &stage.wanted());
        load(&from, &target.host()).args(&["--check", "--deep=bytes"]).run().expect(0);
    }
    let run = load(&format!("{}.002", place.name()), "r").run().expect(2);
    assert!(run.stderr.contains("not the first: name") && run.stderr.contains("a.tar.001"), "{}", run.stderr);
}

#[test]
fn what_reads_archives_takes_the_parts_one_behind_the_other() {
    if !require("skopeo") || !require("containerd") || !require("ctr") || !is_root() {
        return;
    }
    let single = Single::on(Net::new(), &[3_000_000], |source| source);
    let place = Place::new();
    single.program(&place.name()).args(&["--split", "1MiB"]).run().expect(0);
    let cat = |into: &str| {
        let script = format!("cat a.tar.[0-9]* {into}");
        let mut shell = Command::new("/bin/sh");
        let status = shell.args(["-c", &script]).current_dir(place.home.path()).status().unwrap();
        assert!(status.success());
    };
    cat("> joined.tar");
    let raw = skopeo(&[
        "inspect",
        "--raw",
        &format!("oci-archive:{}/joined.tar:{IMAGE}", place.home.path().display()),
    ]);
    assert_eq!(sha256(&raw.unwrap()), single.digest());
    let containerd = Containerd::start().unwrap();
    cat(&format!("| {}", containerd.command_line(&["images", "import", "--no-unpack", "-"])));
    assert!(containerd.ctr(&["images", "ls"]).unwrap().contains(&single.digest()));
}

#[test]
fn killed_again_and_again_a_save_in_parts_ends_with_the_same_bytes() {
    let single = Single::on(Net::new(), &[9_000_000, 4_000_000, 3_000], |source| source);
    let (place, other) = (Place::new(), Place::new());
    single.program(&other.name()).args(&["--split", "1MiB"]).run().expect(0);
    for round in 0..10_u64 {
        let mut running = single.program(&place.name()).args(&["--split", "1MiB"]).start();
        std::thread::sleep(std::time::Duration::from_millis(60 + 41 * round % 230));
        if running.child.try_wait().unwrap().is_none() {
            running.signal("KILL");
        }
        running.wait();
        assert!(!place.part(1).exists() || place.summed(), "parts have their names before all is there");
        if place.part(1).exists() && round < 7 {
            for name in place.names() {
                fs::remove_file(place.home.path().join(name)).unwrap();
            }
        }
    }
    single.program(&place.name()).args(&["--split", "1MiB"]).run().expect(0);
    assert!(place.joined() == other.joined() && place.summed());
    assert_eq!(place.names().len(), place.count() + 1, "{:?}", place.names());
}

#[test]
fn what_an_archive_in_one_file_or_in_other_parts_has_is_not_fetched_again() {
    let single = Single::on(Net::new(), &[5_000_000], |source| source);
    let place = Place::new();
    single.program(&place.name()).run().expect(0);
    let whole = fs::read(place.file()).unwrap();
    single.net.journal().clear();
    // The last one has fewer parts than what was there before.
    for split in ["2MiB", "1MiB", "3MB"] {
        single.program(&place.name()).args(&["--split", split]).run().expect(0);
        assert!(!place.file().exists(), "it would be read in place of the parts");
        assert!(place.joined() == whole && place.summed());
        assert_eq!(place.names().len(), place.count() + 1, "{:?}", place.names());
    }
    assert_eq!(single.net.journal().count("source", Op::BlobGet), 0);
    assert_eq!(place.count(), 2);
}

/// Loading ends with this before anything is asked of anybody.
fn refused(place: &Place, told: &str) {
    let run = load(&place.name(), "r.invalid").run().expect(2);
    assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
}

fn swap(one: &Path, other: &Path) {
    let bytes = fs::read(one).unwrap();
    fs::copy(other, one).unwrap();
    fs::write(other, bytes).unwrap();
}

#[test]
fn a_part_that_is_missing_swapped_cut_off_or_damaged_is_named_before_anything_is_written() {
    let single = Single::on(Net::new(), &[6_000_000], |source| source);
    let place = Place::new();
    single.program(&place.name()).args(&["--split", "1MiB"]).run().expect(0);
    let (count, sums) = (place.count(), place.home.path().join("a.tar.sha256"));
    let listed = fs::read(&sums).unwrap();
    for has_sums in [true, false] {
        if has_sums {
            fs::write(&sums, &listed).unwrap();
        } else {
            fs::remove_file(&sums).unwrap();
        }
        for number in 1..=count {
            let away = place.home.path().join("away");
            fs::rename(place.part(number), &away).unwrap();
            refused(&place, &format!("a.tar.{number:03}: this part of the archive is missing"));
            fs::rename(&away, place.part(number)).unwrap();
        }
        for number in [2, count] {
            let bytes = fs::read(place.part(number)).unwrap();
            fs::write(place.part(number), &bytes[..bytes.len() - 700]).unwrap();
            refused(&place, &format!("a.tar.{number:03}: it "));
            fs::write(place.part(number), bytes).unwrap();
        }
        // No header is in either of these: one layer goes through both.
        swap(&place.part(3), &place.part(4));
        let told = if has_sums { "a.tar.003: it is not what its checksum says" } else { "up to" };
        refused(&place, told);
        swap(&place.part(3), &place.part(4));
        swap(&place.part(1), &place.part(2));
        refused(&place, "a.tar.001: it is");
        swap(&place.part(1), &place.part(2));
    }
    let target = single.net.registry("target").start();
    load(&place.name(), &target.host()).run().expect(0);
    single.assert_mirrored(&target.url(), None);
}

#[test]
fn a_set_of_parts_that_somebody_has_made_up_is_refused_or_read_as_it_is() {
    let single = Single::on(Net::new(), &[2_000_000], |source| source);
    let place = Place::new();
    single.program(&place.name()).args(&["--split", "1MiB"]).run().expect(0);
    let first = fs::read(place.part(1)).unwrap();
    let sums = place.home.path().join("a.tar.sha256");
    // A pipe is not waited for, wherever it stands.
    for path in [place.part(2), sums.clone()] {
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        refused(&place, "it is no file");
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    // Sums of files elsewhere are none of ours.
    let text = format!("{}  ../../etc/passwd\n{}  a.tar.999\n", "0".repeat(64), "0".repeat(64));
    fs::write(&sums, text).unwrap();
    refused(&place, "a.tar.001: this part of the archive is missing");
    fs::remove_file(&sums).unwrap();
    fs::write(place.part(1), b"").unwrap();
    refused(&place, "a.tar.001: it has 0 B");
    fs::write(place.part(1), first).unwrap();
    let target = single.net.registry("target").start();
    load(&place.name(), &target.host()).run().expect(0);
    single.assert_mirrored(&target.url(), None);
}

#[test]
fn what_cannot_be_split_is_told_before_anything_is_asked() {
    let home = tempfile::tempdir().unwrap();
    let file = format!("oci-archive:{}/a.tar", home.path().display());
    let directory = format!("oci:{}/images", home.path().display());
    let image = "--image=r.invalid/a:1";
    let table: &[(&[&str], &str)] = &[
        (&["--split", "fat32", "r.invalid", image], "name oci-archive:FILE"),
        (&["--split", "fat32", &directory, image], "name oci-archive:FILE"),
        (&["--split", "dvd", &format!("{file}.001"), image], "leave out the number"),
        (&["--split", "5", &file, image], "such as 700MiB"),
        (&["--split", "10KiB", &file, image], "1 MiB at least"),
        (&["--split", &file, image], "--split"),
    ];
    for (arguments, told) in table {
        let run = Program::new(arguments).run().expect(2);
        assert!(run.stderr.contains(told), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{arguments:?}");
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}
