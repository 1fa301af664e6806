//! Mirroring some platforms of each image.

use serde_json::{Value, json};

use crate::program::{Ended, Program};
use crate::scene::Scene;
use crate::stage::{CONTROL_PLANE, Line, Stage};
use crate::support::content::{Child, media};
use crate::support::digest::sha256;
use crate::support::process::{DockerRegistry, Setup, require, skopeo, skopeo_inspect_raw};
use crate::support::{Image, Kind, Op};

const AMD64: &[&str] = &["--platform", "linux/amd64"];
const BOTH: &[&str] = &["--platform", "linux/amd64,linux/arm64"];

fn stage() -> Stage {
    Stage::new(CONTROL_PLANE)
}

/// What the source has of a line, and what the target has.
fn at_source(stage: &Stage, line: &Line) -> Value {
    let digest = stage.content.digest_of(&line.repository, &line.tag).unwrap();
    parsed(&stage.source.manifest(digest).unwrap().bytes)
}

fn at_target(stage: &Stage, line: &Line) -> Value {
    let digest = stage.target.digest_of(&line.to.0, &line.to.1).expect("the tag is there");
    parsed(&stage.target.manifest(&digest).unwrap().bytes)
}

fn parsed(bytes: &[u8]) -> Value {
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
            let config = parsed(&manifest.bytes)["config"]["digest"].as_str().unwrap().to_owned();
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
    let indexes_told = |ended: &Ended| {
        let report = ended.report();
        report["images"].as_array().unwrap().iter().filter(|line| line["sparse"] == true).count()
    };
    assert_eq!(indexes_told(&ended), indexes(&stage).len());
    for line in indexes(&stage) {
        assert_eq!(at_target(&stage, line), at_source(&stage, line));
        assert!(has(&stage, line, "amd64") && !has(&stage, line, "arm64"), "{line:?}");
    }
    let writes = stage.net.journal().of("target", Op::ManifestPut).len();
    let again = run(&stage, AMD64).expect(0);
    assert_eq!((again.number("present"), indexes_told(&again)), (8, indexes(&stage).len()));
    let text = stage.program().args(AMD64).run().expect(0).stdout;
    assert!(text.contains("more platforms than are there: --platform all"), "{text}");
    assert_eq!(stage.net.journal().of("target", Op::ManifestPut).len(), writes);
    // Another platform is added although the digest is right already.
    run(&stage, BOTH).expect(0);
    for line in indexes(&stage) {
        assert!(has(&stage, line, "amd64") && has(&stage, line, "arm64"), "{line:?}");
    }
    let whole = run(&stage, BOTH).expect(0);
    assert_eq!((whole.number("present"), indexes_told(&whole)), (8, 0));
}

#[test]
fn what_a_sparse_index_lacks_is_found_by_a_check_and_added_by_all_platforms() {
    let stage = stage();
    stage.target.take_sparse_indexes();
    run(&stage, AMD64).expect(0);
    let partial = indexes(&stage).len() as u64;
    // A run that names no platforms goes by the digests alone.
    stage.net.journal().clear();
    assert_eq!(run(&stage, &[]).expect(0).number("present"), 8);
    assert_eq!(stage.net.journal().filter(|entry| entry.host == "target").len(), 8);
    stage.net.journal().clear();
    let check = |flags: &[&str]| stage.program().args(&["--check", "-o", "json"]).args(flags).run();
    let told = check(&[]).expect(1);
    assert_eq!((told.number("partial"), told.number("there")), (partial, 8 - partial), "{}", told.stdout);
    assert!(told.number("bytes_to_copy") > 0);
    let text = stage.program().args(&["--check"]).run().expect(1).stdout;
    assert!(text.contains("partial   registry.k8s.io/") && text.contains("--platform all"), "{text}");
    assert!(text.contains(": without all of the platforms\n"), "{text}");
    stage.net.journal().assert_read_only();
    assert_eq!(check(AMD64).expect(0).number("there"), 8);
    assert_eq!(check(BOTH).expect(1).number("partial"), partial);
    let all = run(&stage, &["--platform", "all"]).expect(0);
    assert_eq!((all.number("copied"), all.number("present")), (partial, 8 - partial));
    assert_eq!(all.number("bytes_copied"), told.number("bytes_to_copy"));
    stage.assert_mirrored();
    // What is whole costs the source no more than ever.
    stage.net.journal().clear();
    check(&[]).expect(0);
    assert_eq!(run(&stage, &["--platform", "all"]).expect(0).number("present"), 8);
    assert_eq!(stage.net.journal().count("source", Op::ManifestGet), 0);
    stage.net.journal().assert_read_only();
}

#[test]
fn what_a_sparse_target_holds_is_mounted_and_not_moved_again() {
    let stage = stage();
    stage.target.take_sparse_indexes();
    run(&stage, AMD64).expect(0);
    let held = stage.target.content().repositories;
    let blobs = |line: &Line| held[&line.to.0].blobs.clone();
    let others = |line: &Line| {
        indexes(&stage).into_iter().filter(|other| other.to != line.to).flat_map(blobs).collect()
    };
    let shared = |line: &&Line| !blobs(line).is_disjoint(&others(line));
    let line = indexes(&stage).into_iter().find(shared).expect("two indexes with one base");
    stage.target.delete_tag(&line.to.0, &line.to.1);
    for blob in &blobs(line) {
        stage.target.unlink_blob(&line.to.0, blob);
    }
    let again = run(&stage, AMD64).expect(0);
    assert_eq!(again.number("copied"), 1);
    assert_eq!(again.number("blobs_mounted") as usize, blobs(line).intersection(&others(line)).count());
    assert!(has(&stage, line, "amd64"));
}

#[test]
fn a_cut_index_is_replaced_by_a_run_for_all_platforms() {
    let stage = stage();
    run(&stage, AMD64).expect(0);
    let cut = indexes(&stage).len() as u64;
    assert_eq!(run(&stage, &[]).expect(0).number("copied"), cut);
    stage.assert_mirrored();
}

#[test]
fn elsewhere_a_trimmed_index_is_put_and_both_digests_are_told() {
    let stage = stage();
    let ended = run(&stage, AMD64).expect(0);
    let again = run(&stage, AMD64).expect(0);
    assert_eq!(again.number("present"), 8);
    let check = stage.program().args(AMD64).args(&["--check", "-o", "json"]).run().expect(0);
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
        assert_ne!(there, *upstream);
        let name = format!("{}/{}:{}", stage.target.host(), line.to.0, line.to.1);
        for ended in [&ended, &again, &check] {
            let report = ended.report();
            let told =
                report["images"].as_array().unwrap().iter().find(|told| told["target"] == name).unwrap();
            assert_eq!((&told["source_digest"], &told["target_digest"]), (&json!(upstream), &json!(there)));
        }
    }
    let told = ended.report()["images"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|l| l["source_digest"].is_string())
        .count();
    assert_eq!(told, indexes.len(), "whole images have no second digest");
    assert_eq!(stage.target.incomplete_tags(), Vec::<String>::new());
    let line = indexes[0];
    stage.target.delete_tag(&line.to.0, &line.to.1);
    let text = stage.program().args(AMD64).run().expect(0).stdout;
    let upstream = stage.content.digest_of(&line.repository, &line.tag).unwrap();
    let there = stage.target.digest_of(&line.to.0, &line.to.1).unwrap();
    let said = format!("  {}/{}:{}: {upstream} → {there}\n", stage.target.host(), line.to.0, line.to.1);
    assert!(text.contains("1 name with a cut index") && text.contains(&said), "{text}");
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
fn an_index_within_an_index_is_left_sparse_or_refused_with_advice() {
    let platform = |name: &str, seed| Child::platform(name, Image::generated(Kind::Oci, seed, &[2_000]));
    let children = vec![platform("linux/amd64", 1), platform("linux/arm64", 2)];
    let inner = Image::index(Kind::Oci, children);
    let value =
        json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [inner.descriptor()] });
    let outer = Image::from_value(media::OCI_INDEX, &value, vec![], vec![inner]);
    let digest = outer.digest();
    let images = [
        ("quay.io/group/nested:1", outer),
        ("quay.io/group/other:1", Image::generated(Kind::Oci, 3, &[900])),
    ];
    let scene = Scene::new(&images).flag("--platform=linux/amd64");
    let refused = scene.run_unjudged();
    assert_eq!((refused.copied, refused.failed), (1, 1), "{refused}");
    assert!(refused.to_string().contains("an index within an index cannot be cut"), "{refused}");
    let puts = scene.journal().filter(|e| e.op == Op::ManifestPut && e.repository == "group/nested");
    assert_eq!(puts.iter().filter(|put| put.status != Some(201)).count(), 1, "{}", scene.journal().dump());
    assert!(scene.target.incomplete_tags().is_empty());

    scene.target.take_sparse_indexes();
    for _ in 0..2 {
        let report = scene.run_unjudged();
        assert_eq!(report.failed, 0, "{report}");
        let sparse: Vec<bool> = report.images.iter().map(|line| line.sparse).collect();
        assert_eq!(sparse, [true, false], "{report}");
        assert_eq!(scene.target.digest_of("group/nested", "1"), Some(digest.clone()));
    }
}

#[test]
fn an_image_without_a_wanted_platform_is_left_out_with_a_warning() {
    let stage = stage();
    let ended = run(&stage, &["--platform", "plan9/mips"]).expect(1);
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

#[test]
fn debians_docker_registry_gets_cut_indexes_that_skopeo_reads_whole() {
    if !require("docker-registry") || !require("skopeo") {
        return;
    }
    let stage = stage();
    let target = DockerRegistry::start(&Setup::default()).unwrap();
    let run = || stage.program_to(&target.host()).args(AMD64).args(&["-o", "json"]).run().expect(0);
    let first = run();
    assert_eq!(first.number("copied"), 8);
    let mut attestations = 0;
    for (line, told) in stage.lines.iter().zip(first.report()["images"].as_array().unwrap()) {
        let place = format!("{}/{}", target.host(), line.to.0);
        let name = format!("{place}:{}", line.to.1);
        let raw = skopeo_inspect_raw(&name).unwrap();
        let (source, there) = (at_source(&stage, line), parsed(&raw));
        if is_index(&source) {
            assert_eq!((&told["target"], &told["target_digest"]), (&json!(name), &json!(sha256(&raw))));
            let wanted = ["amd64", "unknown"];
            let attested = platforms(&source).contains(&"unknown");
            assert_eq!(platforms(&there), wanted[..1 + usize::from(attested)], "{name}");
            attestations += usize::from(attested);
        } else {
            assert_eq!(there, source, "{name}");
        }
        for entry in there["manifests"].as_array().into_iter().flatten() {
            let digest = entry["digest"].as_str().unwrap();
            let bytes = skopeo_inspect_raw(&format!("{place}@{digest}")).unwrap();
            assert_eq!(bytes, stage.source.manifest(digest).unwrap().bytes, "{name}");
        }
        // Reads and checks every blob of every platform that the index has.
        let copy = tempfile::tempdir().unwrap();
        let (from, to) = (format!("docker://{name}"), format!("dir:{}", copy.path().display()));
        skopeo(&["--insecure-policy", "copy", "-q", "--all", "--src-tls-verify=false", &from, &to]).unwrap();
    }
    assert!(attestations > 0, "nothing here has an attestation");

    target.clear_log();
    assert_eq!(run().number("present"), 8);
    std::thread::sleep(std::time::Duration::from_millis(100));
    let methods: Vec<String> = target.accesses().into_iter().map(|access| access.method).collect();
    assert!(methods.len() >= 8 && methods.iter().all(|method| ["GET", "HEAD"].contains(&method.as_str())));
}

#[test]
fn a_named_platform_that_no_image_has_is_told_and_is_no_success() {
    let stage = stage();
    stage.target.take_sparse_indexes();
    let told = |ended: &Ended| ended.report()["platforms_not_found"].clone();
    for mode in [&["-q"][..], &["--check"]] {
        let alone = run(&stage, &[mode, &["--platform", "linux/x86_64"]].concat()).expect(1);
        assert_eq!(told(&alone), json!(["linux/x86_64"]), "{alone:?}");
    }
    let beside = ["--platform", "linux/amd64,linux/x86_64"];
    let text = stage.program().args(&beside).run().expect(1).stdout;
    assert!(text.contains("No image has the platform linux/x86_64: "), "{text}");
    // Nor later, when all that there is has been copied.
    for mode in [&["-q"][..], &["--check"]] {
        let again = run(&stage, &[mode, &beside].concat()).expect(1);
        assert_eq!(told(&again), json!(["linux/x86_64"]), "{again:?}");
        assert_eq!(told(&run(&stage, &[mode, AMD64].concat()).expect(0)), Value::Null);
    }
}
