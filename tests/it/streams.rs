//! Archives on standard output, for whoever reads them as they come.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::Program;
use crate::single::Single;
use crate::stage::{ALWAYS, Stage};
use crate::support::containerd::{Containerd, is_root};
use crate::support::content::SetOptions;
use crate::support::fault::{Cut, Fault, on};
use crate::support::process::require;
use crate::support::{Net, Op};

const STREAM: &str = "oci-archive:-";

/// What a run has written to standard output, in a file, and its exit status and words.
struct Streamed {
    bytes: Vec<u8>,
    code: Option<i32>,
    stderr: String,
}

fn streamed(program: Program, place: &Path) -> Streamed {
    let file = place.join("stream.tar");
    let ended = program.run_into(&file);
    Streamed { bytes: fs::read(file).unwrap(), code: ended.code, stderr: ended.stderr }
}

/// Whether another program takes it for a whole tar.
fn is_whole(bytes: &[u8]) -> bool {
    let mut tar = tar::Archive::new(bytes);
    let read = tar.entries().unwrap().try_for_each(|entry| {
        std::io::copy(&mut entry?, &mut std::io::sink())?;
        Ok::<_, std::io::Error>(())
    });
    read.is_ok()
}

#[test]
fn a_stream_has_the_bytes_of_the_file_and_nothing_else() {
    let options = SetOptions { layer_size: 100_000..=3_000_000, own_layers: 2, ..SetOptions::default() };
    let stage = Stage::with(ALWAYS, &options, |source| source, |target| target);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.tar");
    stage.program_to(&format!("oci-archive:{}", file.display())).run().expect(0);
    let report = home.path().join("report.json");
    for more in [&["-v"][..], &["-p", "1"], &["-p", "40", "-o", "json"]] {
        stage.net.journal().clear();
        let arguments = [more, &["--report", report.to_str().unwrap()]].concat();
        let run = streamed(stage.program_to(STREAM).args(&arguments), home.path());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert!(run.bytes == fs::read(&file).unwrap(), "{more:?}: other bytes");
        stage.net.journal().assert_each_blob_fetched_once("source");
        assert!(run.stderr.contains("copied, 0 already there"), "{}", run.stderr);
        let report: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        assert_eq!((report["failed"].as_u64(), report["left"].as_u64()), (Some(0), Some(0)));
    }
}

#[test]
fn what_is_in_files_is_streamed_as_well() {
    let single = Single::on(Net::new(), &[3_000_000, 1000], |source| source);
    let home = tempfile::tempdir().unwrap();
    let name = format!("oci-archive:{}/a.tar", home.path().display());
    single.program(&name).args(&["--split", "1MiB"]).run().expect(0);
    // The lock says that they are taken from there.
    let again = home.path().join("b.tar");
    Program::new(&["--from", &name, &format!("oci-archive:{}", again.display())]).run().expect(0);
    let run = streamed(Program::new(&["--from", &name, STREAM, "-q"]), home.path());
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert!(run.bytes == fs::read(again).unwrap());
}

#[test]
fn containerd_imports_a_stream_as_it_comes() {
    if !require("containerd") || !require("ctr") || !is_root() {
        return;
    }
    let single = Single::on(Net::new(), &[5_000_000], |source| source);
    let containerd = Containerd::start().unwrap();
    let arguments: Vec<String> = single.arguments().iter().map(|word| format!("'{word}'")).collect();
    let import = containerd.command_line(&["images", "import", "--no-unpack", "-"]);
    let program = env!("CARGO_BIN_EXE_mirror-images");
    let script = format!("'{program}' {STREAM} {} | {import}", arguments.join(" "));
    let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(containerd.ctr(&["images", "ls"]).unwrap().contains(&single.digest()));
}

#[test]
fn a_line_that_breaks_is_gone_on_with_inside_a_blob() {
    let single = Single::on(Net::new(), &[6_000_000, 2_000_000], |source| source);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.tar");
    single.program(&format!("oci-archive:{}", file.display())).run().expect(0);
    single
        .source
        .fault(on(Op::BlobGet).range(false).then(Fault::CutBody { after: 1_500_000, how: Cut::Fin }));
    // With as many tries as usual.
    let arguments: Vec<&str> =
        single.arguments().into_iter().filter(|word| !["--retries", "0"].contains(word)).collect();
    let run = streamed(Program::new(&[STREAM]).args(&arguments), home.path());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.bytes == fs::read(&file).unwrap());
}

#[test]
fn an_image_that_fails_on_the_way_cuts_the_stream_so_that_nobody_takes_it_for_whole() {
    let single = Single::on(Net::new(), &[3_000_000, 4_000_000, 5_000_000], |source| source);
    let home = tempfile::tempdir().unwrap();
    // What is wrong is found out before anything of it is written, in the middle of it, and at its end.
    for (told, fault) in [
        ("at once", Fault::Status(404)),
        ("on the way", Fault::CutBody { after: 2_000_000, how: Cut::Fin }),
        ("at the end", Fault::FlipByte { at: 2_500_000 }),
    ] {
        single.source.clear_faults();
        single.source.fault(on(Op::BlobGet).range(false).then(fault));
        single.source.fault(on(Op::BlobGet).range(true).then(Fault::Status(500)));
        let run = streamed(single.program(STREAM), home.path());
        assert_eq!(run.code, Some(1), "{told}: {}", run.stderr);
        assert!(!is_whole(&run.bytes) || run.bytes.is_empty(), "{told}: {} bytes", run.bytes.len());
        let word = if run.bytes.is_empty() { "nothing is written" } else { "cut short" };
        assert!(run.stderr.contains(word), "{told}: {}", run.stderr);
    }
}

#[test]
fn an_image_that_is_not_to_be_had_is_told_before_a_byte_is_written() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let run = streamed(stage.program_to(STREAM).args(&["--image", "registry.k8s.io/nothing:1"]), home.path());
    assert_eq!((run.code, run.bytes.len()), (Some(1), 0), "{}", run.stderr);
    assert!(run.stderr.contains("registry.k8s.io/nothing:1"), "{}", run.stderr);
    assert!(run.stderr.contains("nothing is written to standard output"), "{}", run.stderr);
    assert_eq!(stage.net.journal().count("source", Op::BlobGet), 0);
}

#[test]
fn a_reader_that_goes_away_ends_the_run() {
    let single = Single::on(Net::new(), &[20_000_000, 20_000_000], |source| source);
    let mut running = single.program(STREAM).start();
    let mut pipe = running.child.stdout.take().unwrap();
    let mut some = vec![0; 1_000_000];
    pipe.read_exact(&mut some).unwrap();
    drop(pipe);
    let ended = running.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("standard output takes no more (Broken pipe"), "{}", ended.stderr);
    assert!(ended.stderr.contains("cut short"), "{}", ended.stderr);
}

#[test]
fn a_reader_that_takes_its_time_gets_all_and_little_is_read_ahead() {
    let layers = [12_000_000; 12];
    let single = Single::on(Net::new(), &layers, |source| source);
    let mut running = single.program(STREAM).args(&["-p", "12"]).start();
    let mut pipe = running.child.stdout.take().unwrap();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    assert!(peak < 72 << 10, "{peak} KiB");
    let mut read = 0;
    let mut piece = vec![0; 1 << 20];
    loop {
        match pipe.read(&mut piece).unwrap() {
            0 => break,
            more => read += more as u64,
        }
    }
    assert!(read > layers.iter().sum::<u64>());
    assert_eq!(running.wait().code, Some(0));
}

#[test]
fn an_interrupted_stream_is_cut_short() {
    let single = Single::on(Net::new(), &[20_000_000], |source| source);
    single.source.fault(on(Op::BlobGet).then(Fault::StallBody { after: 5_000_000 }));
    let mut running = single.program(STREAM).start();
    let mut pipe = running.child.stdout.take().unwrap();
    let mut bytes = vec![0; 3_000_000];
    pipe.read_exact(&mut bytes).unwrap();
    running.signal("INT");
    pipe.read_to_end(&mut bytes).unwrap();
    let ended = running.wait();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(!is_whole(&bytes));
}

#[test]
fn what_would_mix_with_a_stream_is_wrong_use() {
    let image = "--image=r.invalid/a:1";
    let table: &[(&[&str], &str)] = &[
        (&[STREAM, image, "-o", "json"], "--report FILE"),
        (&[STREAM, image, "--split", "fat32"], "standard output is one"),
        (&[STREAM, image, "--check"], "--check compares"),
        (&[STREAM, "--check"], "--check compares"),
        (&[STREAM, image, "--allow-incomplete"], "oci-archive:FILE"),
        (&["--from", STREAM, "r.invalid"], "cannot come by standard input"),
    ];
    for (arguments, told) in table {
        let run = Program::new(arguments).run().expect(2);
        assert!(run.stderr.contains(told), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{arguments:?}");
    }
    // A dry run writes no archive.
    let run = Program::new(&[STREAM, image, "--dry-run"]).run().expect(0);
    assert_eq!(run.stdout, "r.invalid/a:1 \u{2192} oci-archive:-:r.invalid/a:1\n");
}

#[test]
fn a_terminal_gets_no_archive() {
    if !require("script") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let command = format!("{} {STREAM} --image=r.invalid/a:1", env!("CARGO_BIN_EXE_mirror-images"));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &command]).arg(home.path().join("typescript"));
    let output = script.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("which is a terminal"), "{output:?}");
}
