//! Mirroring some platforms of each image.

use serde_json::Value;

use crate::program::{Ended, Program};
use crate::stage::{CONTROL_PLANE, Line, Stage};
use crate::support::Op;

const AMD64: &[&str] = &["--platform", "linux/amd64"];
const BOTH: &[&str] = &["--platform", "linux/amd64,linux/arm64"];

fn stage() -> Stage {
    Stage::new(CONTROL_PLANE)
}

/// What the source has of a line, and what the target has.
fn at_source(stage: &Stage, line: &Line) -> Value {
    let digest = stage.content.digest_of(&line.repository, &line.tag).unwrap();
    json(&stage.source.manifest(digest).unwrap().bytes)
}

fn at_target(stage: &Stage, line: &Line) -> Value {
    let digest = stage.target.digest_of(&line.to.0, &line.to.1).expect("the tag is there");
    json(&stage.target.manifest(&digest).unwrap().bytes)
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn is_index(manifest: &Value) -> bool {
    manifest["manifests"].is_array()
}

/// Platforms of an index, attestations as `unknown`.
fn platforms(index: &Value) -> Vec<&str> {
    let entries = index["manifests"].as_array().unwrap().iter();
    entries.map(|entry| entry["platform"]["architecture"].as_str().unwrap()).collect()
}

fn indexes(stage: &Stage) -> Vec<&Line> {
    stage.lines.iter().filter(|line| is_index(&at_source(stage, line))).collect()
}

/// Whether the target has the manifest of a platform, and all that it names.
fn has(stage: &Stage, line: &Line, architecture: &str) -> bool {
    let index = at_source(stage, line);
    let mut entries = index["manifests"].as_array().unwrap().iter();
    let entry = entries.find(|entry| entry["platform"]["architecture"] == architecture).unwrap();
    let content = stage.target.content();
    let digest = entry["digest"].as_str().unwrap();
    content.repositories.get(&line.to.0).is_some_and(|held| {
        let manifest = held.manifests.contains(digest).then(|| stage.target.manifest(digest)).flatten();
        manifest.is_some_and(|manifest| {
            let config = json(&manifest.bytes)["config"]["digest"].as_str().unwrap().to_owned();
            stage.target.blob_size(&line.to.0, &config).is_some()
        })
    })
}

fn run(stage: &Stage, flags: &[&str]) -> Ended {
    stage.program().args(flags).args(&["-o", "json"]).run()
}

#[test]
fn an_index_keeps_its_digest_where_the_target_takes_it() {
    let stage = stage();
    stage.target.take_sparse_indexes();
    let ended = run(&stage, AMD64).expect(0);
    assert_eq!(ended.number("copied"), 8);
    for line in indexes(&stage) {
        assert_eq!(at_target(&stage, line), at_source(&stage, line));
        assert!(has(&stage, line, "amd64") && !has(&stage, line, "arm64"), "{line:?}");
    }
    let writes = stage.net.journal().of("target", Op::ManifestPut).len();
    assert_eq!(run(&stage, AMD64).expect(0).number("present"), 8);
    assert_eq!(stage.net.journal().of("target", Op::ManifestPut).len(), writes);
    // Another platform is added although the digest is right already.
    run(&stage, BOTH).expect(0);
    for line in indexes(&stage) {
        assert!(has(&stage, line, "amd64") && has(&stage, line, "arm64"), "{line:?}");
    }
    assert_eq!(run(&stage, BOTH).expect(0).number("present"), 8);
}

#[test]
fn elsewhere_a_trimmed_index_is_put_and_both_digests_are_told() {
    let stage = stage();
    let ended = run(&stage, AMD64).expect(0);
    assert_eq!(ended.number("copied"), 8);
    let indexes = indexes(&stage);
    assert!(!indexes.is_empty());
    for line in &indexes {
        let (source, target) = (at_source(&stage, line), at_target(&stage, line));
        let attested = platforms(&source).contains(&"unknown");
        let expected: &[&str] = if attested { &["amd64", "unknown"] } else { &["amd64"] };
        assert_eq!(platforms(&target), expected, "{line:?}");
        let there = stage.target.digest_of(&line.to.0, &line.to.1).unwrap();
        let upstream = stage.content.digest_of(&line.repository, &line.tag).unwrap();
        let told = |words: &&str| words.contains(&there) && words.contains(upstream.as_str());
        let name = format!("{}:{}", line.to.0, line.to.1);
        let mut warnings = ended.stderr.lines().filter(|warning| warning.contains(&name));
        assert!(warnings.any(|warning| told(&warning)), "{name}: {}", ended.stderr);
    }
    assert_eq!(stage.target.incomplete_tags(), Vec::<String>::new());
    assert_eq!(run(&stage, AMD64).expect(0).number("present"), 8);
}

#[test]
fn a_pinned_digest_changes_only_if_the_user_says_so() {
    let stage = stage();
    let lines = indexes(&stage);
    let line = lines[0];
    let digest = stage.content.digest_of(&line.repository, &line.tag).unwrap();
    let image = format!("{}/{}:{}@{digest}", line.host, line.repository, line.tag);
    let place = format!("--source-mirror={}=http://{}", line.host, stage.source.host());
    let run = |more: &[&str]| {
        Program::new(&["--image", &image, &place, &stage.target.host()]).args(AMD64).args(more).run()
    };
    let refused = run(&[]);
    assert!(matches!(refused.code, Some(1 | 3)), "{refused:?}");
    assert!(refused.stdout.contains("--platform-repin"), "{}", refused.stdout);
    assert_eq!(stage.target.digest_of(&line.repository, &line.tag), None);
    run(&["--platform-repin"]).expect(0);
    assert_eq!(platforms(&at_target(&stage, line))[0], "amd64");
    stage.target.take_sparse_indexes();
    stage.target.delete_tag(&line.repository, &line.tag);
    run(&[]).expect(0);
    assert_eq!(stage.target.digest_of(&line.repository, &line.tag).as_ref(), Some(digest));
}

#[test]
fn an_image_without_a_wanted_platform_is_left_out_with_a_warning() {
    let stage = stage();
    let ended = run(&stage, &["--platform", "plan9/mips"]).expect(0);
    let lines = indexes(&stage);
    assert_eq!(ended.number("copied"), (stage.lines.len() - lines.len()) as u64);
    for line in lines {
        let told = format!("{} has none of the wanted platforms", line.source);
        assert!(ended.stderr.contains(&told), "{}", ended.stderr);
        assert_eq!(stage.target.digest_of(&line.to.0, &line.to.1), None);
    }
    let wrong = Program::new(&["--platform", "amd64", "--dry-run", "r"]).run().expect(2);
    assert!(wrong.stderr.contains("--platform") && wrong.stderr.contains("linux/amd64"), "{wrong:?}");
}
