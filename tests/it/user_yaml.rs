//! YAML that a user hands in: whatever it is, the answer comes soon, takes little memory and names file and line (S12).

use std::time::{Duration, Instant};

use crate::program::{Ended, Program};

const CATALOG: &str = include_str!("small-catalog.yaml");
const MANIFEST: &str = "apiVersion: kubeone.k8c.io/v1beta2\nkind: KubeOneCluster\nversions:\n  kubernetes: v1.36.3\ncloudProvider:\n  aws: {}\n";
const WORKLOAD: &str = "kind: Pod\nspec:\n  containers:\n  - image: quay.io/a/b:v1\n";

/// Each flag that takes YAML, a sound text for it, and how a further key is added to that.
const DOORS: [(&str, &str, &str); 3] = [
    ("--catalog", CATALOG, "  Another: "),
    ("--manifest", MANIFEST, "extra: "),
    ("--images-from", WORKLOAD, "extra: "),
];

/// Much, for a program that was built for tests; without bounds it would not be nearly enough.
const MEMORY_MAX: u64 = 1 << 20;
const TIME_MAX: Duration = Duration::from_secs(20);

fn run(flag: &str, text: impl AsRef<[u8]>) -> Ended {
    let program = Program::new(&["--dry-run", "registry.example.com"]).file("input.yaml", text);
    let path = program.home("input.yaml").to_str().expect("UTF-8").to_owned();
    program.args(&[flag, &path]).with_memory(MEMORY_MAX).run()
}

/// It is refused soon, as wrong use, at this line.
#[track_caller]
fn assert_refused_at(flag: &str, text: &str, line: usize) {
    let began = Instant::now();
    let ended = run(flag, text).expect(2);
    assert!(began.elapsed() < TIME_MAX, "{flag}: {:?}", began.elapsed());
    let told = ended.stderr.split_once("input.yaml").map_or("", |(_, rest)| rest);
    let named = told
        .split("line ")
        .skip(1)
        .any(|rest| rest.split(|c: char| !c.is_ascii_digit()).next() == Some(&line.to_string()));
    assert!(named, "{flag}: no line {line} in {:?}", ended.stderr);
    assert!(!ended.stderr.contains("Policy"), "{flag}: the library's words: {}", ended.stderr);
    assert!(ended.stderr.len() < 2_000 && ended.stdout.is_empty(), "{flag}: {}", ended.stderr.len());
}

/// Each list holds ten of the one before: 10^9 in the last.
fn bomb() -> String {
    let ten = |item: &str| [item; 10].join(", ");
    let first = format!("&a0 [{}]", ten("x"));
    let others = (1..9).map(|n| format!("&a{n} [{}]", ten(&format!("*a{}", n - 1))));
    format!("[{}]", std::iter::once(first).chain(others).collect::<Vec<_>>().join(", "))
}

#[test]
fn what_would_take_for_ever_is_refused_at_its_line() {
    for (flag, sound, key) in DOORS {
        run(flag, sound).expect(0);
        let line = sound.lines().count() + 1;
        for (hostile, below) in [
            (bomb(), 0),
            ("[".repeat(100_000), 0),
            ("{a: 1, a: 2}".to_owned(), 0),
            ("\n\tb: 1".to_owned(), 1),
            ("[1, 2".to_owned(), 0),
        ] {
            assert_refused_at(flag, &format!("{sound}{key}{hostile}\n"), line + below);
        }
    }
}

#[test]
fn what_is_far_too_large_is_not_read_to_its_end() {
    for (flag, sound, _) in DOORS {
        let program = Program::new(&["--dry-run", "registry.example.com"]).file("input.yaml", sound);
        let path = program.home("input.yaml");
        let file = std::fs::File::options().write(true).open(&path).expect("it was written");
        file.set_len(100 << 20).expect("a hole takes no room");
        let arguments = [flag, path.to_str().expect("UTF-8")];
        let ended = program.args(&arguments).with_memory(MEMORY_MAX).run().expect(2);
        assert!(
            ended.stderr.contains("input.yaml") && ended.stderr.contains("larger than 16 MiB"),
            "{ended:?}"
        );
        let endless = Program::new(&["--dry-run", "registry.example.com", flag, "/dev/zero"]);
        let ended = endless.with_memory(MEMORY_MAX).run().expect(2);
        assert!(ended.stderr.contains("larger than 16 MiB"), "{ended:?}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    for (flag, sound, _) in DOORS {
        assert_eq!(run(flag, format!("\u{feff}{sound}")).expect(0).stdout, run(flag, sound).stdout);
        let ended = run(flag, [b"\xff\xfe".as_slice(), sound.as_bytes()].concat()).expect(2);
        assert!(ended.stderr.contains("not UTF-8"), "{}", ended.stderr);
    }
}

/// In a catalog every key is ours. A cluster's manifest and its objects have many that are not.
#[test]
fn a_key_that_is_not_known_is_told_where_all_are() {
    let line = CATALOG.lines().count() + 1;
    assert_refused_at("--catalog", &format!("{CATALOG}typo: {{}}\n"), line);
    let inside = CATALOG.replace("    addons: [cni-mine]\n", "    addons: [cni-mine]\n    imgae: x\n");
    assert_refused_at("--catalog", &inside, 19);
    for (flag, sound, key) in &DOORS[1..] {
        run(flag, format!("{sound}{key}{{}}\n")).expect(0);
    }
}

/// `1.30` is the number 1.3, and what YAML once took for a truth value is a text or an error, never a guess.
#[test]
fn numbers_and_old_truth_values_are_not_taken_for_texts() {
    let image = "    image: registry.example.com/acme/cni:v1\n";
    assert_refused_at("--catalog", &CATALOG.replace(image, "    image: 1.30\n"), 19);
    let unquoted = run("--catalog", CATALOG.replace("kubeone: \"1.18\"", "kubeone: 1.30")).expect(2);
    assert!(unquoted.stderr.contains("`patch` 1.18.0 is not of KubeOne 1.30"), "{}", unquoted.stderr);
    let unquoted = run("--manifest", MANIFEST.replace("v1.36.3", "1.30")).expect(0);
    assert!(unquoted.stdout.contains("kube-apiserver:v1.30."), "{}", unquoted.stdout);
    let registry = "registryConfiguration:\n  insecureRegistry: no\n";
    assert_refused_at("--manifest", &format!("{MANIFEST}{registry}"), 8);
    for number in ["1.30", "130", "0x1F", "1e3", "true"] {
        assert_refused_at("--images-from", &WORKLOAD.replace("quay.io/a/b:v1", number), 4);
    }
    let text = run("--images-from", WORKLOAD.replace("quay.io/a/b:v1", "no")).expect(0);
    assert!(text.stdout.starts_with("docker.io/library/no:latest → "), "{}", text.stdout);
}
