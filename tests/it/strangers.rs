//! What a stranger writes or sends: text for a terminal (S07, S14), bodies without an end (S08), and files that others
//! on the machine would like to read (S10).

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, Instant};

use crate::program::{Ended, Program};
use crate::single::Single;
use crate::support::{Fault, Op, Rule, any, on};

/// Text that moves a cursor, sets a title, writes to a clipboard, hides, reverses, lies, and speaks to a CI system.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]52;c;cm0gLXJm\u{7}\u{1b}]8;;http://evil\u{7}\r\u{8}\u{9b}31m\u{202e}\u{200b}\u{feff}\
    %s{}{0}\n✅ done\n::set-output name=x::y\n::error::pwned\n##[add-mask]x\n##vso[task.complete]x\n[1/1] copied all";

/// Nothing that a terminal or a CI system would act upon, and every line is begun by this program.
#[track_caller]
fn assert_harmless(ended: &Ended, what: &str) {
    for text in [&ended.stdout, &ended.stderr] {
        for c in text.chars() {
            let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
            assert!(c == '\n' || !(c.is_control() || hidden), "{what}: {c:?} in {text:?}");
        }
        for line in text.lines() {
            let start = line.trim_start();
            let hostile = ["::", "✅", "##", "[1/1] copied"].iter().any(|begin| start.starts_with(begin));
            assert!(!hostile && !line.contains("##[") && !line.contains("##vso["), "{what}: {line:?}");
            assert!(line.chars().count() < 3_000, "{what}: a line of {}", line.len());
        }
    }
}

/// What is said first about an image is said by this program.
#[track_caller]
fn assert_begins_with_us(ended: &Ended, what: &str) {
    let first = ended.stderr.lines().find(|line| line.contains("group/app")).expect("the image is named");
    let ours = ["[1/1] FAILED quay.io/group/app:1 → ", "DEBUG ", " INFO ", " WARN ", "{\""];
    assert!(ours.iter().any(|begin| first.starts_with(begin)), "{what}: {first:?}");
}

fn escaped_json() -> String {
    serde_json::json!({ "errors": [{ "code": HOSTILE, "message": HOSTILE, "detail": HOSTILE }] }).to_string()
}

/// Everything that a registry may say and that may be shown.
fn sayings() -> Vec<(&'static str, Fault)> {
    let invalid = [b"\xff\xfe\x1b[2J\x9b31m ".as_slice(), HOSTILE.as_bytes()].concat();
    let title = format!("<html><head><title>{HOSTILE}</title>");
    let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": HOSTILE, "layers": [] }).to_string();
    let digest = serde_json::json!({
        "schemaVersion": 2, "config": { "digest": HOSTILE, "size": 1, "mediaType": HOSTILE }, "layers": [],
    });
    let platform = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "digest": format!("sha256:{}", "0".repeat(64)), "size": 1, "mediaType": HOSTILE,
            "platform": { "os": HOSTILE, "architecture": HOSTILE, "variant": HOSTILE },
        }],
    });
    let c1 = "application/vnd.x\u{9b}31m\u{202e}";
    vec![
        ("errors", Fault::Status(400).body("application/json", escaped_json())),
        ("errors of a server in trouble", Fault::Status(500).body("application/json", escaped_json())),
        ("text", Fault::Status(400).body("text/plain", HOSTILE)),
        ("bytes", Fault::Status(400).body("text/plain", invalid)),
        ("a page", Fault::Status(403).body("text/html", title)),
        ("a flood", Fault::Status(400).error("UNKNOWN", &HOSTILE.repeat(50))),
        ("many errors", Fault::Status(400).body("application/json", many_errors())),
        ("a media type", Fault::Status(200).body("application/json", manifest)),
        ("a header's media type", Fault::Status(200).body(c1, "{\"schemaVersion\":2}")),
        ("a digest", Fault::Status(200).body("application/json", digest.to_string())),
        ("a platform", Fault::Status(200).body("application/json", platform.to_string())),
        ("schemes", Fault::Status(401).header("WWW-Authenticate", &"\u{9b}31m\u{202e}x ".repeat(800))),
        ("a realm", Fault::Status(401).header("WWW-Authenticate", "Bearer realm=\"http://\u{202e}\u{9b}/\"")),
        ("a redirect", Fault::redirect_to("https://\u{202e}evil\u{200b}.invalid./%1b[2J").into()),
        ("a redirect to nowhere", Fault::redirect_to("https://127.0.0.1:1/\u{9b}31m").into()),
        ("a warning", Fault::Status(404).header("Warning", "299 - \"\u{9b}31m\u{202e}\"")),
        ("a wait", Fault::Status(429).retry_after("\u{9b}31m")),
        ("no HTTP", Fault::Raw(HOSTILE.as_bytes().to_vec().into())),
    ]
}

fn many_errors() -> String {
    let one = serde_json::json!({ "code": "c", "message": HOSTILE });
    serde_json::json!({ "errors": vec![one; 100] }).to_string()
}

/// S07, G-TERM, S14: from a source, in text and as JSON.
#[test]
fn what_a_source_says_does_nothing_to_a_terminal() {
    let single = Single::new();
    let target = single.net.registry("target").start();
    for (what, saying) in sayings() {
        single.source.fault(any().then(saying));
        let run = single.program(&target.host()).args(&["-vvv"]).run().expect(1);
        assert_harmless(&run, what);
        assert_begins_with_us(&run, what);
        let forms = ["-vvv", "-o", "json", "--log-format", "json"];
        let run = single.program(&target.host()).args(&forms).run().expect(1);
        assert_harmless(&run, what);
        let cause = run.report()["images"][0]["cause"].as_str().unwrap().to_owned();
        assert!(cause.chars().count() < 1_500, "{what}: {cause}");
        single.source.clear_faults();
    }
}

/// Requests of a kind, and those that the program puts in their place: a HEAD has no text to hear.
fn at(op: Op) -> Rule {
    match op {
        Op::ManifestHead => on(op).or(Op::ManifestGet),
        Op::UploadStart => on(op).or(Op::Mount),
        op => on(op),
    }
}

/// The same from a target, at each kind of request.
#[test]
fn what_a_target_says_does_nothing_to_a_terminal() {
    let single = Single::new();
    for op in [Op::ManifestHead, Op::UploadStart, Op::UploadPut, Op::ManifestPut] {
        for body in [escaped_json(), HOSTILE.to_owned(), many_errors()] {
            let answer = Fault::Status(400).body("application/json", body);
            let target = single.net.registry("target").rule(at(op).then(answer)).start();
            let run = single.program(&target.host()).args(&["-vvv"]).run();
            assert!(matches!(run.code, Some(1 | 3)), "{op:?}: {run:?}");
            assert_harmless(&run, &format!("{op:?}"));
            assert_begins_with_us(&run, &format!("{op:?}"));
        }
    }
    // Where the bytes are wanted, in a form that no one can read.
    for location in ["https://\u{202e}evil.invalid/\u{9b}", "ftp://\u{9b}/", "\u{9b}://", "http://[::1\u{9b}"]
    {
        let target = single.net.registry("target").rule(
            on(Op::UploadStart)
                .or(Op::Mount)
                .then(Fault::Status(202).header("Location", location).header("Content-Length", "0")),
        );
        let target = target.start();
        let run = single.program(&target.host()).args(&["-vvv"]).run();
        assert!(matches!(run.code, Some(1 | 3)), "{location:?}: {run:?}");
        assert_harmless(&run, location);
    }
}

/// The most memory that a program had, in bytes, and how it ended.
fn run_and_weigh(program: Program) -> (Ended, u64) {
    let running = program.start();
    let status = format!("/proc/{}/status", running.child.id());
    let watch = std::thread::spawn(move || {
        let mut most = 0;
        // Gone, or a zombie that has no memory any more.
        while let Some(now) = std::fs::read_to_string(&status).ok().as_deref().and_then(peak) {
            most = most.max(now);
            std::thread::sleep(Duration::from_millis(5));
        }
        most
    });
    let ended = running.wait();
    (ended, watch.join().expect("it only looks"))
}

/// `VmHWM:     12345 kB`
fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// S08: a body without an end is read as far as makes sense.
#[test]
fn a_body_without_an_end_costs_little() {
    let endless = |fault: Fault| (fault, Fault::Endless);
    let table = [
        ("a manifest", on(Op::ManifestGet), endless(Fault::Status(200).body("application/json", "{"))),
        ("an error", on(Op::ManifestGet), endless(Fault::Status(400).body("application/json", "{"))),
        ("an error's text", on(Op::ManifestGet), endless(Fault::Status(403).body("text/plain", "no"))),
        ("a redirect", on(Op::ManifestGet), endless(Fault::Status(307).body("text/plain", "no"))),
        ("a challenge", on(Op::ManifestGet), endless(Fault::Status(401).body("text/plain", "no"))),
        ("a blob", on(Op::BlobGet), (Fault::NoLength, Fault::Endless)),
    ];
    let single = Single::new();
    for (what, rule, (first, second)) in table {
        single.source.fault(rule.then(first).then(second));
        let target = single.net.registry("target").start();
        let began = Instant::now();
        let (run, peak) = run_and_weigh(single.program(&target.host()));
        assert_eq!(run.code, Some(1), "{what}: {run:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: {:?}", began.elapsed());
        assert!(peak < 150 << 20, "{what}: {peak} bytes");
        single.source.clear_faults();
    }
    // And at the other end.
    for op in [Op::ManifestHead, Op::UploadPut, Op::ManifestPut] {
        let answer = Fault::Status(400).body("text/plain", "no");
        let target = single.net.registry("target").rule(at(op).then(answer).then(Fault::Endless)).start();
        let began = Instant::now();
        let (run, peak) = run_and_weigh(single.program(&target.host()));
        assert!(matches!(run.code, Some(1 | 3)), "{op:?}: {run:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{op:?}: {:?}", began.elapsed());
        assert!(peak < 150 << 20, "{op:?}: {peak} bytes");
    }
}

/// S08: a body that is compressed, although nothing asked for that, is let grow only so far.
#[test]
fn a_body_that_grows_a_thousandfold_is_stopped() {
    let single = Single::new();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..64 {
        bomb.write_all(&[b' '; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    for op in [Op::ManifestGet, Op::BlobGet] {
        let target = single.net.registry("target").start();
        let packed = Fault::Status(200).body("application/json", bomb.clone());
        single.source.fault(on(op).then(packed.header("Content-Encoding", "gzip")));
        let began = Instant::now();
        let (run, peak) = run_and_weigh(single.program(&target.host()));
        assert_eq!(run.code, Some(1), "{op:?}: {run:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{op:?}: {:?}", began.elapsed());
        assert!(peak < 150 << 20, "{op:?}: {peak} bytes");
        single.source.clear_faults();
    }
    for entry in single.net.journal().filter(|entry| entry.host == "source") {
        assert_eq!(entry.header("accept-encoding"), Some("identity"), "{entry}");
    }
}

/// S10: the report is the user's own, whatever the umask, and does not follow a link that someone left there.
#[test]
fn a_report_is_readable_by_its_user_alone() {
    let single = Single::new();
    let target = single.net.registry("target").start();
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let victim = directory.path().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    std::fs::set_permissions(&victim, std::fs::Permissions::from_mode(0o644)).unwrap();
    symlink(&victim, &report).unwrap();
    let program = Program::with_umask_zero(&[&target.host(), "--report", report.to_str().unwrap()]);
    let program = program.args(&single.arguments()).env("TMPDIR", directory.path());
    let (ended, left) = program.start().wait_and(|home| std::fs::read_dir(home).unwrap().count());
    ended.expect(0);
    assert_eq!(left, 0, "nothing else is written");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    let meta = std::fs::symlink_metadata(&report).unwrap();
    assert!(meta.is_file(), "the link is replaced");
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    let mut names: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["report.json", "victim"]);
}

/// S14: lists of images are written by others too.
#[test]
fn a_list_of_images_cannot_speak_to_a_ci_system() {
    for line in [
        "::set-output name=x::y",
        "quay.io/a/b:1%0A::error::x",
        "quay.io/a/b:1\r::error::x",
        "##[add-mask]quay.io/a",
        "quay.io/a/b:1\u{1b}[2J",
        "quay.io/\u{202e}a/b:1",
    ] {
        let mut list = tempfile::NamedTempFile::new().unwrap();
        writeln!(list, "{line}").unwrap();
        let path = list.path().to_str().unwrap();
        let run = Program::new(&["r.example.com", "--dry-run", "--images-from", path]).run();
        // What follows a # is a comment.
        assert!(run.code == Some(2) || line.starts_with("##"), "{line:?}: {run:?}");
        assert_harmless(&run, line);
        let run = Program::new(&["r.example.com", "--dry-run", "--image", line]).run().expect(2);
        assert_harmless(&run, line);
    }
}
