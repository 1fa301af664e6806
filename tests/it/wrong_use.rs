//! What a user can get wrong, told before anything is requested; and what is large, but not wrong.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::program::{Ended, Program};
use crate::single::{IMAGE, Single};

fn refused(program: Program) -> String {
    let ended = program.run().expect(2);
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
    ended.stderr
}

#[test]
fn a_host_that_a_url_cannot_have_or_would_change_is_refused_wherever_it_is_named() {
    for host in
        ["256.1.1.1", "foo.123", "xn--a.example.com", "127.1:5000", "0x7f.1", "[0:0::1]:5000", "r.io:080"]
    {
        let told = |program: Program| {
            let told = refused(program);
            assert!(told.contains(host), "{host}: {told}");
            told
        };
        told(Program::new(&[&format!("{host}/path")]));
        told(Program::new(&["--image", &format!("{host}/a/b:1"), "r"]));
        told(Program::new(&["--source-mirror", &format!("docker.io={host}/hub"), "r"]));
        told(Program::new(&["--source-mirror", &format!("{host}=r.example.com"), "r"]));
        let list = format!("alpine:3\n# another\n{host}/a/b:1\n");
        let line = told(Program::new(&["--images-from", "-", "r"]).stdin(&list));
        assert!(line.contains("standard input, line 3: "), "{line}");
    }
    let good = ["127.0.0.1:5000", "[::1]:5000", "xn--mnchen-3ya.example.com", "R.example.com:443", "1a.2b"];
    for host in good {
        Program::new(&["--dry-run", "--image", &format!("{host}/a/b:1"), "r"]).run().expect(0);
    }
}

#[test]
fn one_host_by_two_schemes_is_refused() {
    let dry = |arguments: &[&str]| Program::new(&["--dry-run", "r"]).args(arguments);
    let mirror = "--source-mirror=docker.io=http://c.example.com:5000/hub";
    for images in [
        ["--image=alpine:3", "--image=c.example.com:5000/a/b:1"],
        ["--image=c.example.com:5000/a/b:1", "--image=alpine:3"],
    ] {
        let told = refused(dry(&[images[0], images[1], mirror]));
        for word in ["c.example.com:5000", "docker.io", "--source-mirror"] {
            assert!(told.contains(word), "{word} is not in {told}");
        }
        let same = "--source-mirror=c.example.com:5000=http://c.example.com:5000";
        dry(&[images[0], images[1], mirror, same]).run().expect(0);
    }
    let other = "--source-mirror=quay.io=https://c.example.com:5000/quay";
    // The advice is about the one that is to change, and keeps its path.
    let both = ["--image=alpine:3", "--image=quay.io/a/b:1"];
    for images in [both, [both[1], both[0]]] {
        let told = refused(dry(&[images[0], images[1], mirror, other]));
        assert!(told.contains("such as --source-mirror quay.io=http://c.example.com:5000/quay\n"), "{told}");
        let direct = "--image=c.example.com:5000/a/b:1";
        let told = refused(dry(&[both[0], direct, mirror]));
        let advice = "such as --source-mirror c.example.com:5000=http://c.example.com:5000\n";
        assert!(told.contains(advice), "{told}");
    }
    // A mirror that no image has is not asked at all.
    dry(&["--image=alpine:3", mirror, other]).run().expect(0);
}

#[test]
fn what_would_pass_in_silence_is_told() {
    let dry = |arguments: &[&str]| Program::new(&["--dry-run", "--image", "alpine:3", "r"]).args(arguments);
    let unused = dry(&["--source-mirror=qauy.io=c.example.com"]).run().expect(0);
    assert!(unused.stderr.contains("no image that is selected is of qauy.io"), "{unused:?}");
    let told = refused(Program::new(&["--dry-run", "--filter", "base,none", "r"]));
    assert!(told.contains("--filter") && told.contains("none"), "{told}");
    let told = refused(dry(&["--report", "-"]));
    assert!(told.contains("-o json") && told.contains("./-"), "{told}");
    let single = Single::new();
    let target = single.net.registry("target").start();
    let login = |length: usize| {
        let program = single.program(&target.host()).args(&["--username", "u", "--password-stdin"]);
        program.stdin(&"p".repeat(length))
    };
    login(64 << 10).run().expect(0);
    let told = refused(login((64 << 10) + 1));
    assert!(told.contains("--password-stdin") && told.contains("64 KiB"), "{told}");
}

#[test]
fn the_environment_adds_nothing_to_images_that_are_named() {
    let named = Program::new(&["--dry-run", "--image", IMAGE, "r"]).env("KUBERNETES_VERSION", "v1.36.3");
    let ended = named.run().expect(0);
    assert_eq!((ended.stdout.lines().count(), ended.stderr.as_str()), (1, ""));
    let lines = |program: Program| program.run().expect(0).stdout.lines().count();
    let cluster = || Program::new(&["--dry-run", "--provider", "aws", "-k", "1.36.3", "r"]);
    assert_eq!(lines(cluster().env("PULL_OPTIONAL_IMAGES", "false")), lines(cluster()));
    let cut = Program::new(&["--dry-run", "-k", "1.36.3", "r"]).env("PULL_OPTIONAL_IMAGES", "false").run();
    assert!(cut.stderr.contains("PULL_OPTIONAL_IMAGES=false"), "{cut:?}");
}

/// Run time for four times as much is not sixteen times as long: the best of several runs, since the machine has other work.
#[track_caller]
fn assert_linear(run: impl Fn(usize) -> Ended, few: usize) {
    let timed = |number| {
        let began = Instant::now();
        run(number).expect(0);
        began.elapsed()
    };
    let (mut some, mut many) = (timed(few), timed(4 * few));
    for _ in 0..9 {
        if many < 8 * some + Duration::from_millis(100) {
            return;
        }
        (some, many) = (some.min(timed(few)), many.min(timed(4 * few)));
    }
    panic!("{few} take {some:?}, four times as many {many:?}");
}

#[test]
fn a_list_takes_time_in_proportion_to_its_lines() {
    let list = |line: fn(usize) -> String| {
        move |number: usize| {
            let list: String = (0..number).map(line).collect();
            Program::new(&["--dry-run", "--images-from", "-", "r"]).stdin(&list).run()
        }
    };
    assert_linear(list(|n| format!("quay.io/group/image-{n}:1\n")), 5_000);
    assert_linear(list(|n| format!("host-{n}.example.com/group/image-{n}:1\n")), 5_000);
    assert_linear(list(|_| "quay.io/group/image:1\n".to_owned()), 10_000);
}

#[test]
fn kubernetes_yaml_may_be_as_large_as_a_list() {
    // What kubectl writes about a pod is much beside its containers.
    let mut pods = String::from("kind: List\nitems:\n");
    for pod in 0..500 {
        let _ = write!(pods, "- kind: Pod\n  metadata:\n    labels:\n");
        for label in 0..300 {
            let _ = writeln!(pods, "      l{label}: v");
        }
        let _ = write!(
            pods,
            "  spec:\n    containers:\n    - {{name: c, image: 'quay.io/group/app:{}'}}\n",
            pod % 7
        );
    }
    let documents: String = (0..5_000)
        .map(|n| {
            format!("kind: Pod\nspec: {{containers: [{{image: 'quay.io/group/app:{}'}}]}}\n---\n", n % 7)
        })
        .collect();
    for yaml in [pods, documents] {
        let program =
            Program::new(&["--dry-run", "--images-from", "pods.yaml", "r"]).file("pods.yaml", &yaml);
        let home = program.home("");
        let ended = program.after(&format!("cd {}; ulimit -v 2000000", home.display())).run().expect(0);
        assert_eq!(ended.stdout.lines().count(), 7);
    }
}
