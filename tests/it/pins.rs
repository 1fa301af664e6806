//! Digests that are recorded of images, in runs, checks and dry runs.

use mirror_images::output::report::Line;
use serde_json::{Value, json};

use crate::program::Program;
use crate::scene::{Scene, place_of, two};
use crate::support::{Content, Image, Kind, Op};

const FIRST: &str = "quay.io/group/first:1";
const SECOND: &str = "quay.io/group/second:1";
const OTHER: &str = "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";

/// A file of these records, for as long as it is kept, and the flag that names it.
fn pins(records: &[Value]) -> (tempfile::NamedTempFile, &'static str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let document = json!({"version": 1, "kind": "pins", "images": records});
    std::fs::write(file.path(), document.to_string()).unwrap();
    let flag = format!("--pins={}", file.path().display());
    (file, flag.leak())
}

fn line<'r>(lines: &'r [Line], source: &str) -> &'r Line {
    lines.iter().find(|line| line.source == source).expect("it is in the report")
}

fn digest(scene: &Scene, reference: &str) -> String {
    let (repository, tag) = place_of(reference);
    scene.source.digest_of(&repository, &tag).expect("it is there")
}

#[test]
fn a_tag_that_has_moved_fails_alone_with_both_digests_until_that_is_accepted() {
    let (_file, flag) = pins(&[json!({"source": FIRST, "digest": OTHER})]);
    let scene = Scene::new(&two(9_000)).flag(flag);
    let now = digest(&scene, FIRST);
    let told =
        format!("it has moved: {OTHER} is recorded of it, and it has {now} now (--accept-moved takes it");
    let cause = scene.run().failed_alone("group/first");
    assert!(cause.contains(&told), "{cause}");
    assert_eq!(scene.target.digest_of("group/second", "1"), Some(digest(&scene, SECOND)));
    let check = scene.check();
    assert_eq!((check.failed, check.there), (1, 1), "{check}");
    assert!(check.to_string().contains(&told), "{check}");
    assert_eq!(check.images[0].pinned_digest.as_ref().unwrap().as_str(), OTHER);

    let scene = scene.flag("--accept-moved");
    let run = scene.run().done();
    assert_eq!((run.report.copied, run.report.present), (1, 1), "{}", run.report);
    assert_eq!(line(&run.report.images, FIRST).pinned_digest.as_ref().unwrap().as_str(), OTHER);
    assert_eq!(line(&run.report.images, SECOND).pinned_digest, None);
    // It is still another one than is recorded.
    let again = scene.without_flags().flag(flag);
    assert!(again.run().failed_alone("group/first").contains(&told));
}

#[test]
fn the_program_says_of_a_moved_tag_that_it_is_taken() {
    let (_file, flag) = pins(&[json!({"source": FIRST, "digest": OTHER})]);
    let scene = Scene::new(&two(9_000));
    let mirror = format!("--source-mirror=quay.io={}", scene.source.url());
    let target = scene.target.host();
    let run = |more: &[&str]| {
        Program::new(&[&target, &mirror, flag, "--image", FIRST, "-o", "json"]).args(more).run()
    };
    let failed = run(&[]).expect(1).report();
    assert_eq!(failed["images"][0]["pinned_digest"], OTHER);
    assert_eq!(failed["images"][0]["side"], "source");
    assert_eq!(failed["images"][0]["may_pass"], false);
    // Once when it is copied, and once when it is there.
    for _ in 0..2 {
        let told =
            format!("{FIRST} has moved: {OTHER} is recorded of it, and {} is taken", digest(&scene, FIRST));
        let ended = run(&["--accept-moved"]).expect(0);
        assert_eq!(ended.stderr.matches(&told).count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn a_recorded_digest_costs_no_request() {
    let requests = |records: &dyn Fn(&Scene) -> Vec<Value>| {
        let scene = Scene::new(&two(9_000));
        let (_file, flag) = pins(&records(&scene));
        let scene = scene.flag(flag);
        let count = |scene: &Scene| {
            let hosts = ["source", "target"];
            let counts = hosts.map(|host| {
                [Op::ManifestHead, Op::ManifestGet, Op::BlobGet, Op::ManifestPut]
                    .map(|op| scene.journal().count(host, op))
            });
            scene.journal().clear();
            counts
        };
        scene.run().done();
        let first = count(&scene);
        let again = scene.run().done();
        assert_eq!(again.report.present, 2);
        (first, count(&scene))
    };
    let all = requests(&|scene| {
        let record = |source| json!({"source": source, "digest": digest(scene, source)});
        [FIRST, SECOND].map(record).to_vec()
    });
    assert_eq!(all, requests(&|_| Vec::new()));
}

#[test]
fn a_tag_that_is_meant_to_move_is_not_held_to_its_record() {
    let (_file, flag) = pins(&[json!({"source": FIRST, "digest": OTHER, "moving": true})]);
    let scene = Scene::new(&two(9_000)).flag(flag);
    let run = scene.run().done();
    assert_eq!(line(&run.report.images, FIRST).pinned_digest, None);
    // And moves.
    let mut content = Content::new();
    content.add("group/first", "1", &Image::generated(Kind::Oci, 55, &[800]));
    scene.source.add(&content);
    assert_eq!(scene.run_unjudged().copied, 1);
    assert_eq!(scene.target.digest_of("group/first", "1"), Some(digest(&scene, FIRST)));
}

#[test]
fn a_dry_run_knows_digests_platforms_and_sizes_by_what_is_recorded() {
    let hex = |letter: &str| format!("sha256:{}", letter.repeat(64));
    let platform = |name: &str, letter: &str, bytes: u64| json!({"platform": name, "digest": hex(letter), "bytes": bytes});
    let (_file, flag) = pins(&[
        json!({"source": FIRST, "digest": hex("a"), "platforms": [
            platform("linux/amd64", "b", 30_000_000), platform("linux/arm64/v8", "c", 20_000_000)],
            "more": 1_000_000}),
        json!({"source": SECOND, "digest": hex("d")}),
    ]);
    let dry = |more: &[&str]| {
        let images = ["--image", FIRST, "--image", SECOND];
        Program::new(&["--dry-run", flag, "r.example"]).args(&images).args(more).run().expect(0)
    };
    let plain = dry(&[]);
    assert_eq!(plain.stdout.lines().count(), 2, "{plain:?}");
    let total = "1 of 2 images: 51.0 MB at most, layers that they share counted for each\n";
    assert_eq!(plain.stderr, total);
    assert_eq!(dry(&["-q"]).stderr, "");
    assert!(dry(&["--platform", "linux/arm64"]).stderr.contains("1 of 2 images: 21.0 MB at most"));
    let explained = dry(&["-v"]).stdout;
    let told = format!("    {}: linux/amd64 30.0 MB, linux/arm64/v8 20.0 MB, all else 1.00 MB\n", hex("a"));
    assert!(explained.contains(&told) && explained.contains(&format!("    {}\n", hex("d"))), "{explained}");
    let lines = dry(&["-o", "json", "--platform", "linux/amd64"]).report();
    assert_eq!(lines[0]["pinned_digest"], hex("a"));
    assert_eq!(
        (&lines[0]["bytes"], &lines[0]["more"], lines[0]["platforms"].as_array().unwrap().len()),
        (&json!(31_000_000), &json!(1_000_000), 1)
    );
    assert_eq!((&lines[1]["pinned_digest"], lines[1].get("bytes")), (&json!(hex("d")), None));
    let without = Program::new(&["--dry-run", "r.example", "--image", FIRST, "-o", "json"]).run().expect(0);
    assert_eq!(without.stderr, "");
    assert_eq!(without.report()[0].get("pinned_digest"), None);
}

#[test]
fn a_file_of_records_that_is_none_keeps_a_run_from_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pins.json");
    let run = || {
        let flag = format!("--pins={}", path.display());
        Program::new(&["--image", FIRST, "--dry-run", &flag, "r.example"]).run()
    };
    let double = format!("{{\"source\": \"{FIRST}\", \"digest\": \"{OTHER}\"}}");
    let double = format!("{{\"version\": 1, \"kind\": \"pins\", \"images\": [{double}, {double}]}}");
    let nested = "[".repeat(200_000);
    for (text, told) in [
        ("", "line 1 column 0"),
        ("\u{0}\u{1b}[2J", "line 1 column"),
        ("{\"version\": 1, \"version\": 1}", "duplicate field"),
        (nested.as_str(), "line 1 column"),
        (double.as_str(), "there is another one"),
    ] {
        std::fs::write(&path, text).unwrap();
        let ended = run().expect(2);
        assert!(ended.stderr.starts_with("error: --pins: ") && ended.stderr.contains(told), "{ended:?}");
        assert!(!ended.stderr.contains('\u{1b}') && ended.stdout.is_empty(), "{ended:?}");
    }
    std::fs::File::create(&path).unwrap().set_len(17 << 20).unwrap();
    assert!(run().expect(2).stderr.contains("it is larger than 16 MiB"));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(run().expect(2).stderr.contains("it is not UTF-8"));
}
