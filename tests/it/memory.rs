//! Peak memory: nothing is held whole, however large it is and however much of it is under way.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::program::{Ended, Program};
use crate::rows::engine::endless;
use crate::stage::{CONTROL_PLANE, NO_PINS, Stage, lines_of};
use crate::support::{Content, Image, Keep, Kind, Net, Op};

const MIB: u64 = 1 << 20;

/// The control plane's images, with generated layers of these sizes dealt out to them in turn.
fn stage_with_layers(sizes: &[u64]) -> Stage {
    let lines = lines_of(CONTROL_PLANE);
    // CoreDNS has two names.
    let images: BTreeSet<(&String, &String)> =
        lines.iter().map(|line| (&line.repository, &line.tag)).collect();
    let mut content = Content::new();
    for (n, (repository, tag)) in images.iter().enumerate() {
        let own: Vec<u64> = sizes.iter().copied().skip(n).step_by(images.len()).collect();
        content.add(repository, tag, &Image::generated(Kind::Oci, n as u64 + 1, &own));
    }
    Stage::of(Net::new(), CONTROL_PLANE, content, |source| source, |target| target.keep(Keep::Digests))
}

/// Runs the program and returns the most memory that it ever occupied, in bytes.
fn peak_of_run(stage: &Stage, parallel: &str) -> u64 {
    let (ended, peak) = peak_of(stage.program().args(&["-p", parallel, "-q"]));
    let ended = ended.expect(0);
    assert!(ended.stdout.contains("8 copied"), "{}", ended.stdout);
    assert_eq!(stage.target.incomplete_tags(), Vec::<String>::new());
    peak
}

/// How a program ended, and the most memory that it ever occupied, in bytes.
fn peak_of(program: Program) -> (Ended, u64) {
    let running = program.start();
    let status = format!("/proc/{}/status", running.child.id());
    let watcher = std::thread::spawn(move || {
        let mut peak = 0;
        // The kernel keeps the peak itself; a process that has ended tells it no more.
        while let Some(now) = peak_in(&std::fs::read_to_string(&status).unwrap_or_default()) {
            peak = now;
            std::thread::sleep(Duration::from_millis(2));
        }
        peak
    });
    let ended = running.wait();
    (ended, watcher.join().expect("the watcher does not panic"))
}

fn peak_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[test]
fn ten_layers_of_150_mb_in_flight_take_less_than_64_mib() {
    let stage = stage_with_layers(&[150_000_000; 10]);
    let peak = peak_of_run(&stage, "10");
    assert!(peak < 64 * MIB, "{peak} bytes");
    let moved = stage.net.journal().bytes_read("target");
    assert!(moved > 1_500_000_000, "all of it went through: {moved}");
}

#[test]
fn a_save_and_a_load_of_ten_layers_of_50_mb_take_less_than_64_mib() {
    let stage = stage_with_layers(&[50_000_000; 10]);
    let home = tempfile::tempdir().unwrap();
    let archive = format!("oci-archive:{}", home.path().join("a.tar").display());
    let (ended, peak) = peak_of(stage.program_to(&archive).args(&["-q"]));
    ended.expect(0);
    assert!(peak < 64 * MIB, "{peak} bytes for a save");
    let (ended, peak) = peak_of(Program::new(&["--from", &archive, &stage.target.host(), "-q", NO_PINS]));
    ended.expect(0);
    assert!(peak < 64 * MIB, "{peak} bytes for a load");
    assert!(stage.net.journal().bytes_written("source") > 500_000_000, "all of it went through");
}

#[test]
fn thirty_two_images_in_flight_take_less_than_a_third_more_than_ten() {
    let peak = |parallel| peak_of_run(&stage_with_layers(&[20_000_000; 40]), parallel);
    let (ten, many) = (peak("10"), peak("32"));
    assert!(many < 64 * MIB, "{many} bytes");
    assert!(many * 3 < ten * 4, "{ten} bytes with 10, {many} bytes with 32");
}

/// 57 MB of manifests with 560,000 blobs.
#[test]
fn an_image_of_endless_manifests_takes_less_than_150_mib_and_no_question_about_its_blobs() {
    let net = Net::new();
    let mut content = Content::new();
    content.add("group/app", "1", &endless(14));
    let source = net.registry("source").content(&content).start();
    let target = net.registry("target").start();
    let mirror = format!("--source-mirror=quay.io={}", source.url());
    for flag in ["--check", "--retries=0"] {
        let (ended, peak) =
            peak_of(Program::new(&[&target.host(), &mirror, "--image=quay.io/group/app:1", flag]));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(peak < 150 * MIB, "{flag}: {peak} bytes");
    }
    assert_eq!(net.journal().count("target", Op::BlobHead), 0);
}
