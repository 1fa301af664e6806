//! What a save leaves behind that did not come to its end, and what the next one makes of it.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::program::{Ended, Program};
use crate::support::fault::{Cut, Fault, on};
use crate::support::registry::Registry;
use crate::support::{Content, Image, Kind, Net, Op};

/// A source of some images with one layer each, and a place for an archive.
struct Place {
    net: Net,
    source: Registry,
    home: tempfile::TempDir,
}

impl Place {
    fn new(sizes: &[u64]) -> Self {
        let net = Net::new();
        let mut content = Content::new();
        for (number, size) in (1..).zip(sizes) {
            content.add("group/app", &number.to_string(), &Image::generated(Kind::Oci, number, &[*size]));
        }
        let source = net.registry("source").content(&content).start();
        Self { net, source, home: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("a.tar")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.home.path().join(format!("a.tar{suffix}"))
    }

    /// Saves the images with these tags.
    fn save(&self, tags: &[u64]) -> Program {
        let target = format!("oci-archive:{}", self.file().display());
        Program::new(&[&target]).args(&self.arguments(tags))
    }

    fn arguments(&self, tags: &[u64]) -> Vec<&'static str> {
        let image = |tag: &u64| format!("--image=quay.io/group/app:{tag}");
        let mirror = format!("--source-mirror=quay.io={}", self.source.url());
        let all = tags.iter().map(image).chain([mirror, "--retries=0".to_owned()]);
        // Leaked once for each test: arguments are borrowed everywhere else.
        all.map(|argument| &*argument.leak()).collect()
    }

    /// Layers end after so many bytes, and do not go on.
    fn break_off(&self, after: u64) {
        self.source.fault(on(Op::BlobGet).range(false).then(Fault::CutBody { after, how: Cut::Fin }));
        self.source.fault(on(Op::BlobGet).range(true).then(Fault::Status(500)));
    }

    fn mend(&self) {
        self.source.clear_faults();
        self.net.journal().clear();
    }

    fn bytes_sent(&self) -> u64 {
        self.net.journal().bytes_written("source")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// What is in the archive is right, to the last byte.
    fn assert_whole(&self) {
        let target = self.net.registry("target").start();
        let from = format!("oci-archive:{}", self.file().display());
        Program::new(&["--from", &from, &target.host()]).run().expect(0);
    }
}

fn megabytes(number: u64) -> u64 {
    number * 1_000_000
}

#[test]
fn a_file_of_somebody_elses_is_left_alone_and_told() {
    let place = Place::new(&[1000]);
    for suffix in [".partial", ".partial.journal"] {
        fs::write(place.beside(suffix), "dear diary").unwrap();
        let run = place.save(&[1]).run().expect(3);
        let told = format!("{}: it is there, and no run of this program", place.beside(suffix).display());
        assert!(run.stdout.contains(&told) && run.stdout.contains("remove it"), "{}", run.stdout);
        assert_eq!(place.names(), [format!("a.tar{suffix}")]);
        assert_eq!(fs::read_to_string(place.beside(suffix)).unwrap(), "dear diary");
        fs::remove_file(place.beside(suffix)).unwrap();
    }
    place.save(&[1]).run().expect(0);
}

#[test]
fn a_plan_that_changes_time_and_again_loses_nothing_of_what_is_there() {
    let place = Place::new(&[megabytes(8), megabytes(2), megabytes(2), megabytes(2)]);
    place.break_off(megabytes(1));
    place.save(&[1, 2]).run().expect(1);
    place.mend();
    // It has the large one, and breaks at another.
    for (wanted, lacking) in [([1, 2], 2), ([1, 3], 3), ([1, 4], 4), ([1, 2], 2)] {
        let read = place.bytes_sent();
        let tags = [&wanted[..], &[99]].concat();
        place.save(&tags).run().expect(1);
        let more = place.bytes_sent() - read;
        let most = if lacking == 2 && read == 0 { megabytes(10) } else { megabytes(3) };
        assert!(more < most, "{more} bytes for {wanted:?}");
        assert_eq!(place.names(), ["a.tar.partial", "a.tar.partial.journal"]);
    }
    place.save(&[1, 2]).run().expect(0);
    assert_eq!(place.names(), ["a.tar"]);
    place.assert_whole();
}

#[test]
fn a_plan_that_changed_needs_no_more_room_than_one_archive() {
    let place = Place::new(&[megabytes(10), megabytes(4), megabytes(4)]);
    let disk = place.home.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let target = format!("oci-archive:{}/a.tar", disk.display());
    let run = |tags: &[u64]| {
        let arguments: Vec<String> = place.arguments(tags).iter().map(|word| format!("'{word}'")).collect();
        format!("'{}' '{target}' {} >&2", env!("CARGO_BIN_EXE_mirror-images"), arguments.join(" "))
    };
    // Room for one and a half of it.
    let script = format!(
        "mount -t tmpfs -o size=21M none '{0}' && {1}; {2}; status=$?; ls '{0}'; exit $status",
        disk.display(),
        run(&[1, 2, 99]),
        run(&[1, 3])
    );
    let mut unshare = Command::new("unshare");
    let output = unshare.args(["--mount", "--map-root-user", "/bin/sh", "-c", &script]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if told.contains("unshare failed") || told.contains("mount:") {
        assert!(!std::env::var("CI").is_ok_and(|value| value == "true"), "{told}");
        eprintln!("SKIPPED: this user may not mount anything: {told}");
        return;
    }
    assert!(output.status.success(), "{told}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a.tar\n", "{told}");
    let read = place.bytes_sent();
    assert!(read < megabytes(19), "{read} bytes: the large one came twice");
}

#[test]
fn two_savers_of_one_archive_do_not_meet() {
    let place = Place::new(&[megabytes(3)]);
    place.source.fault(on(Op::BlobGet).then(Fault::StallBody { after: megabytes(1) }));
    let first = place.save(&[1]).start();
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !place.beside(".partial").exists() && std::time::Instant::now() < patience {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let second = place.save(&[1]).run().expect(3);
    let told = format!("another run is writing it (process {})", first.child.id());
    assert!(second.stdout.contains(&told), "{}", second.stdout);
    drop(first);
    place.mend();
    place.save(&[1]).run().expect(0);
    place.assert_whole();
}

#[test]
fn a_file_that_may_not_be_so_large_is_told_with_what_helps() {
    let place = Place::new(&[megabytes(3)]);
    // In blocks of half a KiB or of a whole one, as the shell has it.
    let run = place.save(&[1]).after("ulimit -f 1000").run().expect(3);
    assert!(run.stdout.contains("more than one file can have there"), "{}", run.stdout);
    assert!(run.stdout.contains("--split fat32"), "{}", run.stdout);
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn a_prefix_that_a_disk_has_damaged_costs_only_what_is_behind_the_damage() {
    let place = Place::new(&[megabytes(40)]);
    place.break_off(megabytes(30));
    place.save(&[1]).run().expect(1);
    place.mend();
    let partial = fs::OpenOptions::new().read(true).write(true).open(place.beside(".partial")).unwrap();
    let mut byte = [0];
    partial.read_exact_at(&mut byte, megabytes(20)).unwrap();
    partial.write_all_at(&[byte[0] ^ 1], megabytes(20)).unwrap();
    place.save(&[1]).run().expect(0);
    let read = place.bytes_sent();
    assert!((megabytes(20)..megabytes(24)).contains(&read), "{read} bytes");
    place.assert_whole();
}

#[test]
fn a_journal_that_was_cut_short_costs_only_what_was_under_way() {
    let place = Place::new(&[megabytes(10), megabytes(2)]);
    place.save(&[1, 2, 99]).run().expect(1);
    place.mend();
    let journal = place.beside(".partial.journal");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, &text[..=text.find('\n').unwrap()]).unwrap();
    place.save(&[1, 2]).run().expect(0);
    assert_eq!(place.net.journal().count("source", Op::BlobGet), 0);
    place.assert_whole();
}

#[test]
fn kills_and_changes_of_the_plan_give_the_same_bytes() {
    let place = Place::new(&[megabytes(6), megabytes(3), megabytes(3)]);
    let whole = {
        place.save(&[1, 2]).run().expect(0);
        let bytes = fs::read(place.file()).unwrap();
        fs::remove_file(place.file()).unwrap();
        bytes
    };
    for round in 0..12_u64 {
        let tags = if round % 3 == 1 { [1, 3] } else { [1, 2] };
        let running = place.save(&tags).start();
        std::thread::sleep(std::time::Duration::from_millis(30 + 37 * round % 190));
        let ended = killed(running);
        if ended.code.is_some() {
            let _ = fs::remove_file(place.file());
        }
    }
    place.save(&[1, 2]).run().expect(0);
    assert!(fs::read(place.file()).unwrap() == whole, "other bytes");
    assert_eq!(place.names(), ["a.tar"]);
}

/// Ended at once, unless it has ended by itself.
fn killed(mut running: crate::program::Running) -> Ended {
    if running.child.try_wait().unwrap().is_none() {
        running.signal("KILL");
    }
    running.wait()
}
