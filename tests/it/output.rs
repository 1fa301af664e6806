//! What the program says, to people and to programs, and how it ends.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::program::{Ended, Program};
use crate::stage::{ALWAYS, CONTROL_PLANE, EVERYTHING, NO_PINS, Stage, closed_port, lines_of};
use crate::support::content::SetOptions;
use crate::support::{Fault, Net, Op, on};

#[test]
fn a_dry_run_prints_a_line_for_each_name_and_asks_nobody() {
    let net = Net::new();
    let trap = net.trap("trap");
    let mirror = format!("--source-mirror=registry.k8s.io=http://{}", trap.host());
    let nobody = closed_port();
    for target in [nobody.as_str(), trap.host().as_str(), "ghcr.io/acme/kubeone", "[::1]:5000/mirror"] {
        let dry = Program::new(&["--dry-run", &mirror, target, NO_PINS]).args(CONTROL_PLANE).run().expect(0);
        let lines: Vec<&str> = dry.stdout.lines().collect();
        assert_eq!(lines.len(), 8);
        assert_eq!(
            lines[0],
            format!("registry.k8s.io/kube-apiserver:v1.36.3 → {target}/kube-apiserver:v1.36.3")
        );
        let coredns = |to: &str| format!("registry.k8s.io/coredns/coredns:v1.14.2 → {target}/{to}:v1.14.2");
        assert!(lines.contains(&coredns("coredns/coredns").as_str()), "{lines:?}");
        assert!(lines.contains(&coredns("coredns").as_str()), "{lines:?}");
        assert_eq!(dry.stderr, "");
    }
    assert_eq!(net.journal().entries().len(), 0);
}

#[test]
fn a_dry_run_as_json_says_the_same_as_its_lines() {
    let dry = |more: &[&str]| Program::new(&["--dry-run", "t:1"]).args(EVERYTHING).args(more).run().expect(0);
    let pairs = dry(&["-o", "json"]).report();
    let text = |pair: &serde_json::Value, key: &str| pair[key].as_str().unwrap().to_owned();
    let line = |pair| format!("{} → {}", text(pair, "source"), text(pair, "target"));
    let from_json: Vec<String> = pairs.as_array().unwrap().iter().map(line).collect();
    assert_eq!(from_json, dry(&[]).stdout.lines().collect::<Vec<_>>());
    assert_eq!(from_json.len(), 109);
}

#[test]
fn a_dry_run_says_who_asks_for_each_image() {
    let dry =
        |more: &[&str]| Program::new(&["--dry-run", "t:1", "-k", "1.35.1,1.36.3"]).args(more).run().expect(0);
    let text = dry(&["-v"]).stdout;
    let lines: Vec<&str> = text.lines().collect();
    for expected in [
        "    base CalicoCNI of cni-canal: KubeOne 1.14, Kubernetes 1.35.1, 1.36.3",
        "    optional AzureCCM of ccm-azure: KubeOne 1.14, Kubernetes 1.36.3",
        "    control-plane kube-proxy: kubeadm, Kubernetes 1.35.1",
        "    control-plane sandbox: KubeOne 1.14, Kubernetes 1.36.3",
    ] {
        assert!(lines.contains(&expected), "{expected} is not in\n{text}");
    }
    let arrows: Vec<&str> = lines.iter().filter(|line| !line.starts_with("    ")).copied().collect();
    assert_eq!(arrows, dry(&[]).stdout.lines().collect::<Vec<_>>());
    let pairs = dry(&["-o", "json"]).report();
    let reasons = |part: &str| {
        let mut pairs = pairs.as_array().unwrap().iter();
        pairs.find(|pair| pair["source"].as_str().unwrap().contains(part)).unwrap()["reasons"].clone()
    };
    let expected = serde_json::json!([{
        "group": "optional", "resource": "HetznerCSI", "addons": ["csi-hetzner"], "kubeone": "1.14",
        "kubernetes": ["1.35.1", "1.36.3"],
    }]);
    assert_eq!(reasons("/hcloud-csi-driver:"), expected);
    // Its addon writes the registry out as well.
    let driver = reasons("/aws-ebs-csi-driver:");
    assert_eq!((driver.as_array().unwrap().len(), &driver[1]["overwritten"]), (2, &false.into()));
    assert_eq!(reasons("/pause:3.10.2").as_array().unwrap().len(), 2);
    assert!(reasons("/kube-proxy:")[0].get("kubeone").is_none());
}

#[test]
fn wrong_use_is_told_with_the_valid_choices_before_any_request() {
    let net = Net::new();
    let trap = net.trap("trap");
    let target = trap.host();
    let t = target.as_str();
    let table: &[(&[&str], &[&str])] = &[
        (&["--filter", "basic", t], &["basic", "base", "optional", "control-plane"]),
        (&["--filter", "base,nothing", t], &["nothing", "base", "optional", "control-plane"]),
        (&["-k", "1.99.0", t], &["1.99", "1.19", "1.37"]),
        (&["-k", "latest", t], &["latest", "1.37"]),
        (&["-k", "1.36.3,", t], &["version"]),
        (&["--kubeone-version", "9.9", t], &["9.9", "1.3", "1.14"]),
        (&["--kubeone-version", "1.14", "-k", "1.29.4", t], &["1.14", "1.29", "1.36"]),
        (&["not a registry"], &["not a registry", "not a valid"]),
        (&["https://registry.example.com"], &["https://registry.example.com"]),
        (&["registry.example.com:port"], &["port"]),
        (&["registry.example.com/Upper"], &["Upper"]),
        (&[], &["TARGET_REGISTRY", "registry.example.com:5000"]),
        (&[t, "--registry", "other.example"], &["two targets", "other.example"]),
        (&["-p", "0", t], &["0", "--parallel"]),
        (&["--source-mirror", "docker.io", t], &["docker.io", "HOST=PLACE"]),
        (
            &["--source-mirror", "docker.io=a", "--source-mirror", "docker.io=b", t],
            &["docker.io", "two places"],
        ),
        (&["--ca-file", "/nonexistent/ca.pem", t], &["--ca-file", "/nonexistent/ca.pem"]),
        (&["--report", "/nonexistent/report.json", "-k", "1.33", t], &["/nonexistent/report.json"]),
        (&["--report", "/tmp", "-k", "1.33", t], &["/tmp", "directory"]),
        (&["--no-such-flag", t], &["--no-such-flag"]),
        (
            &["--cni", "external", "--filter", "optional", "-k", "1.36.3", t],
            &["no image is selected", "--filter"],
        ),
    ];
    for (arguments, words) in table {
        let ended = Program::new(arguments).run();
        assert_eq!(ended.code, Some(2), "{arguments:?} {ended:?}");
        assert_eq!(ended.stdout, "", "{arguments:?}");
        for word in *words {
            assert!(ended.stderr.contains(word), "{arguments:?}: {word:?} is not in\n{}", ended.stderr);
        }
        assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
    }
    assert_eq!(net.journal().entries().len(), 0);
}

#[track_caller]
fn assert_no_controls(ended: &Ended) {
    for text in [&ended.stdout, &ended.stderr] {
        let bad = |c: &char| {
            (c.is_control() && *c != '\n')
                || matches!(*c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert_eq!(text.chars().find(bad), None, "{text:?}");
    }
}

#[test]
fn piped_output_has_no_control_characters_whatever_a_registry_says() {
    let message = "\u{1b}[2J\u{9b}31m\u{202e}\r\nall images copied\u{7f}\u{7}";
    let refusal = Fault::Status(403).error("DENIED", message);
    let rule = on(Op::ManifestGet).tag("3.10.2").then(refusal);
    for progress in ["auto", "bars", "lines", "none"] {
        let stage = Stage::new(CONTROL_PLANE);
        stage.source.fault(rule.clone());
        let run = stage.program().args(&["--progress", progress, "-vv"]).run().expect(1);
        assert_no_controls(&run);
        assert!(run.stdout.contains("403 DENIED"), "{}", run.stdout);
        let fake = run.stdout.lines().chain(run.stderr.lines()).find(|line| line.starts_with("all images"));
        assert_eq!(fake, None);
    }
}

#[test]
fn each_finished_image_has_a_line_and_the_summary_adds_up() {
    let stage = Stage::new(CONTROL_PLANE);
    let run = stage.program().run().expect(0);
    let target = stage.target.host();
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(lines.len(), 8, "{}", run.stderr);
    for (n, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("[{}/8] copied registry.k8s.io/", n + 1)), "{line}");
    }
    let head = format!("7 images under 8 names at {target}: 8 copied, 0 already there\n");
    assert!(run.stdout.starts_with(&head), "{}", run.stdout);
    assert!(run.stdout.contains(" saved by sharing; "), "{}", run.stdout);
    let again = stage.program().run().expect(0);
    assert!(again.stdout.contains(": 0 copied, 8 already there\n"), "{}", again.stdout);
    assert!(again.stdout.contains("0 B moved in 0 blobs and 0 manifests"), "{}", again.stdout);
}

#[test]
fn quiet_says_nothing_on_standard_error_when_all_is_well() {
    let stage = Stage::new(CONTROL_PLANE);
    let run = stage.program().args(&["-q"]).run().expect(0);
    assert_eq!(run.stderr, "");
}

#[test]
fn the_report_file_is_json_for_its_owner_alone() {
    let stage = Stage::new(CONTROL_PLANE);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    std::fs::write(&path, "an older report").unwrap();
    let run = stage.program().args(&["-o", "json", "--report", path.to_str().unwrap()]).run().expect(0);
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(written, run.report());
    assert_eq!(written["copied"], 8);
    assert_eq!(written["images"].as_array().unwrap().len(), 8);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    // A check and a dry run have a result as well.
    let flags = ["-o", "json", "--report", path.to_str().unwrap()];
    for (mode, field) in [("--check", "there"), ("--dry-run", "reasons")] {
        let run = stage.program().args(&flags).args(&[mode]).run().expect(0);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), run.stdout, "{mode}");
        assert!(run.stdout.contains(field), "{mode}: {}", run.stdout);
    }
}

#[test]
fn a_report_into_what_is_no_file_leaves_it_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let dry = |report: &Path| {
        Program::new(&["--dry-run", "-o", "json", "t:1", "--report", report.to_str().unwrap()])
            .args(CONTROL_PLANE)
    };
    let kind = |path: &Path| std::fs::symlink_metadata(path).unwrap().file_type();

    let pipe = place("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let unread = dry(&pipe).run().expect(1);
    assert!(unread.stderr.contains("cannot write the report to"), "{unread:?}");
    let mut reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let run = dry(&pipe).run().expect(0);
    let mut read = vec![0; run.stdout.len()];
    reader.read_exact(&mut read).unwrap();
    assert_eq!(String::from_utf8(read).unwrap(), run.stdout);
    assert!(kind(&pipe).is_fifo());

    // Where the result itself goes to a file, both are in it.
    let both = place("both");
    dry(Path::new("/dev/stdout")).after(&format!("exec >{}", both.display())).run().expect(0);
    let both = std::fs::read_to_string(both).unwrap();
    assert_eq!(both, run.stdout.repeat(2));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn a_report_that_cannot_be_written_in_the_end_is_one_exit_status_for_all() {
    let stage = Stage::new(CONTROL_PLANE);
    stage.run().expect(0);
    let directory = tempfile::tempdir().unwrap();
    // Nobody reads it.
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let nobody = closed_port();
    let here = stage.target.host();
    let table = [("--check", &here, 1), ("--dry-run", &here, 1), ("-q", &here, 1), ("--check", &nobody, 3)];
    for (mode, target, code) in table {
        let flags = [mode, "--retries", "0", "--report", pipe.to_str().unwrap()];
        let run = stage.program_to(target).args(&flags).run().expect(code);
        assert!(run.stderr.contains("cannot write the report to"), "{mode}: {run:?}");
        assert!(run.stdout.contains(target.as_str()), "{mode}: {run:?}");
    }
}

#[test]
fn the_environment_of_image_loader_works_unchanged() {
    let dry = || Program::new(&["--dry-run"]).env("TARGET_REGISTRY", "127.0.0.1:5000");
    let count = |program: Program| program.run().expect(0).stdout.lines().count();
    assert_eq!(count(dry().env("KUBERNETES_VERSION", "v1.36.3")), 109);
    let without = dry().env("KUBERNETES_VERSION", "v1.36.3").env("PULL_OPTIONAL_IMAGES", "false");
    assert_eq!(count(without), lines_of(ALWAYS).len());
    let with = dry().env("KUBERNETES_VERSION", "v1.36.3").env("PULL_OPTIONAL_IMAGES", "true");
    assert_eq!(count(with), 109);
    let two = dry().env("KUBERNETES_VERSIONS", "v1.36.3 1.35.1").args(&["--filter", "control-plane"]);
    let two = two.run().expect(0).stdout;
    assert!(two.contains("kube-proxy:v1.36.3") && two.contains("kube-proxy:v1.35.1"), "{two}");
    let flags = ["-k", "1.36.3", "--filter", "control-plane", "other.example"];
    let beaten = dry().env("KUBERNETES_VERSION", "v1.35.1").env("PULL_OPTIONAL_IMAGES", "false").args(&flags);
    let beaten = beaten.run().expect(0).stdout;
    assert!(beaten.lines().all(|line| line.contains(" → other.example/")), "{beaten}");
    assert!(beaten.contains("kube-proxy:v1.36.3") && !beaten.contains("v1.35"), "{beaten}");
    let wrong = dry().env("PULL_OPTIONAL_IMAGES", "perhaps").run().expect(2);
    assert!(wrong.stderr.contains("PULL_OPTIONAL_IMAGES") && wrong.stderr.contains("perhaps"), "{wrong:?}");
}

#[test]
fn the_environment_of_image_loader_mirrors_as_well() {
    let stage = Stage::new(CONTROL_PLANE);
    let mirror = format!("--source-mirror=registry.k8s.io=http://{}", stage.source.host());
    let program = Program::new(&["--filter", "control-plane", &mirror, NO_PINS]);
    program.env("TARGET_REGISTRY", stage.target.host()).env("KUBERNETES_VERSION", "v1.36.3").run().expect(0);
    stage.assert_mirrored();
}

#[test]
fn what_cannot_be_said_keeps_no_image_from_being_copied() {
    let stage = Stage::new(CONTROL_PLANE);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let flags = ["-vv", "--report", path.to_str().unwrap()];
    let run = stage.program().args(&flags).after("exec 2>/dev/full").run().expect(0);
    assert!(run.stdout.contains("8 copied"), "{}", run.stdout);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(report["copied"], 8);
    stage.assert_mirrored();
}

#[test]
fn standard_output_that_takes_nothing_is_told_by_whatever_writes_to_it() {
    let only_text: &[&[&str]] = &[
        &["--dry-run", "t:1"],
        &["--dry-run", "-o", "json", "t:1"],
        &["config", "-k", "1.36.3", "t:1"],
        &["catalog"],
        &["completions", "bash"],
        &["--help"],
        &["config", "--help"],
        &["--version"],
    ];
    let full = |program: Program, code| {
        let ended = program.after("exec >/dev/full").run().expect(code);
        assert!(ended.stderr.contains("error: cannot write to standard output: "), "{ended:?}");
        ended
    };
    for arguments in only_text {
        full(Program::new(arguments), 2);
    }
    let stage = Stage::new(CONTROL_PLANE);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    for (mode, field) in [("-q", "copied"), ("--check", "there")] {
        full(stage.program().args(&[mode, "-o", "json", "--report", path.to_str().unwrap()]), 1);
        // What cannot be said in one place is said in the other.
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(report[field], 8);
    }
    std::fs::remove_file(&path).unwrap();
    full(stage.program().args(&["--dry-run", "--report", path.to_str().unwrap()]), 2);
    assert!(path.exists());
    stage.assert_mirrored();
}

#[test]
fn bars_on_a_terminal_that_goes_away_keep_no_image_from_being_copied() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let slow = on(Op::UploadPut).then(Fault::DelayRequest(Duration::from_millis(300)));
    let stage = Stage::with(CONTROL_PLANE, &SetOptions::default(), |source| source, |t| t.rule(slow));
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&screen).and_then(|()| unlockpt(&screen)).unwrap();
    let terminal = ptsname(&screen, Vec::new()).unwrap().into_string().unwrap();
    let mut screen = std::fs::File::from(screen);
    let program = stage.program().args(&["-vv", "-p", "1"]).env("TERM", "xterm");
    let running = program.after(&format!("exec 2>{terminal}")).start();
    let (mut seen, mut some) = (Vec::new(), [0; 1024]);
    while !String::from_utf8_lossy(&seen).contains('█') {
        let read = screen.read(&mut some).unwrap();
        seen.extend_from_slice(&some[..read]);
    }
    drop(screen);
    let ended = running.wait().expect(0);
    assert!(ended.stdout.contains("8 copied"), "{}", ended.stdout);
    stage.assert_mirrored();
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut running = Program::new(&["--dry-run", "-k", "1.33", "t:1", NO_PINS]).start();
    drop(running.child.stdout.take());
    let ended = running.wait();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));

    let stage = Stage::new(CONTROL_PLANE);
    let mut running = stage.program().start();
    drop(running.child.stdout.take());
    drop(running.stderr.take());
    assert_eq!(running.wait().code, Some(0));
    stage.assert_mirrored();
}
