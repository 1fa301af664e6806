//! What is recorded of a run's images, and runs that are held to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::program::Program;
use crate::stage::{ALWAYS, NO_PINS, Stage};
use crate::support::content::{Child, Content, Image, Kind};
use crate::support::fault::{Fault, on};
use crate::support::{Net, Op};

/// Layouts by the name of their form.
fn archive(file: &Path) -> String {
    format!("oci-archive:{}", file.display())
}

fn directory(directory: &Path) -> String {
    format!("oci:{}", directory.display())
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// The lock that an archive holds, by another program.
fn in_archive(file: &Path) -> Vec<u8> {
    let output = std::process::Command::new("tar")
        .arg("-xOf")
        .arg(file)
        .arg("mirror-images.lock.json")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn images(lock: &Value) -> BTreeMap<&str, &Value> {
    let images = lock["images"].as_array().unwrap();
    images.iter().map(|image| (image["source"].as_str().unwrap(), image)).collect()
}

/// What the lock should say of each image: digest, and names at a registry.
fn wanted(stage: &Stage) -> BTreeMap<String, (String, Vec<String>)> {
    let mut wanted: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for line in stage.good_lines() {
        let digest = stage.content.digest_of(&line.repository, &line.tag).unwrap();
        let entry = wanted.entry(line.source.clone()).or_insert_with(|| (digest.clone(), Vec::new()));
        entry.1.push(format!("{}:{}", line.to.0, line.to.1));
    }
    wanted
}

#[track_caller]
fn assert_says(stage: &Stage, lock: &Value) {
    let said: BTreeMap<String, (String, Vec<String>)> = images(lock)
        .iter()
        .map(|(source, image)| {
            let names =
                image["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
            let mut names: Vec<String> = names.collect();
            names.sort_unstable();
            ((*source).to_owned(), (image["digest"].as_str().unwrap().to_owned(), names))
        })
        .collect();
    let mut wanted = wanted(stage);
    wanted.values_mut().for_each(|(_, names)| names.sort_unstable());
    assert_eq!(said, wanted);
}

#[test]
fn a_run_records_its_images_with_all_that_they_consist_of() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let [first, second, check] = ["a", "b", "c"].map(|name| home.path().join(name));
    let flag = |file: &Path| format!("--lock-out={}", file.display());
    stage.program().args(&[&flag(&first)]).run().expect(0);
    let lock = read(&first);
    assert_says(&stage, &lock);
    assert_eq!((&lock["version"], &lock["kind"]), (&json!(1), &json!("lock")));
    assert_eq!(lock.get("missing"), None);
    assert!(lock["made"]["kubeone"].as_str().unwrap().starts_with("v1."), "{}", lock["made"]);
    assert!(lock["made"]["catalog"].as_str().unwrap().starts_with("sha256:"));
    let all = images(&lock);
    let (pause, coredns) = (
        all.iter().find(|(source, _)| source.contains("/pause:")).unwrap().1,
        all.iter().find(|(source, _)| source.contains("/coredns:")).unwrap().1,
    );
    assert_eq!(coredns["names"].as_array().unwrap().len(), 2);
    assert_eq!(pause["reasons"][0], "control-plane pause: kubeadm, Kubernetes 1.36.3");
    // Every blob of the content is somewhere, in its size.
    for (digest, blob) in lock["blobs"].as_object().unwrap() {
        assert_eq!(blob[0], stage.content.blobs[digest].size, "{digest}");
        let repository = blob[1].as_str().unwrap();
        let has = |content: &Content| content.repositories[repository].blobs.contains(digest);
        assert!(has(&stage.target.content()), "{digest} in {repository}");
    }
    let at_target: std::collections::BTreeSet<String> =
        stage.target.content().repositories.values().flat_map(|one| one.blobs.iter().cloned()).collect();
    assert_eq!(lock["blobs"].as_object().unwrap().len(), at_target.len());
    for image in all.values() {
        let index: Value =
            serde_json::from_slice(&stage.content.manifests[image["digest"].as_str().unwrap()].bytes)
                .unwrap();
        let platforms = image["platforms"].as_array().unwrap();
        match index["manifests"].as_array() {
            Some(entries) => {
                let named = entries.iter().filter(|entry| entry["platform"]["os"] == "linux");
                let digests: Vec<&Value> = named.map(|entry| &entry["digest"]).collect();
                assert_eq!(platforms.iter().map(|one| &one["digest"]).collect::<Vec<_>>(), digests);
                assert!(platforms.iter().all(|one| one["platform"].as_str().unwrap().starts_with("linux/")));
            }
            None => assert_eq!(platforms[0]["digest"], image["digest"]),
        }
        assert!(platforms.iter().all(|one| one["bytes"].as_u64().unwrap() > 2_000), "{image}");
    }

    // Where all is there the same is found out by the target's own manifests, and by a check.
    stage.net.journal().clear();
    stage.program().args(&[&flag(&second)]).run().expect(0);
    assert_eq!(stage.net.journal().count("source", Op::ManifestGet), 0);
    stage.program().args(&["--check", &flag(&check)]).run().expect(0);
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    assert_eq!(fs::read(&first).unwrap(), fs::read(&check).unwrap());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3, "nothing else stays");
}

#[test]
fn what_has_failed_is_in_the_lock_as_missing() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a");
    let flag = format!("--lock-out={}", file.display());
    let failing = stage.good_lines().find(|line| line.source.contains("/pause:")).unwrap();
    let put = on(Op::ManifestPut).repo(&failing.to.0);
    stage.target.fault(put.then(Fault::Status(403)));
    let extra = ["--image", "registry.k8s.io/nothing:1", &flag];
    stage.program().args(&extra).run().expect(1);
    let lock = read(&file);
    let missing: BTreeMap<&str, &Value> = lock["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|missing| (missing["source"].as_str().unwrap(), missing))
        .collect();
    assert_eq!(missing.len(), 2, "{}", lock["missing"]);
    assert_eq!(missing["registry.k8s.io/nothing:1"]["names"], json!(["nothing:1"]));
    assert_eq!(missing["registry.k8s.io/nothing:1"]["reasons"], json!(["named by --image"]));
    assert!(missing[failing.source.as_str()]["cause"].as_str().unwrap().contains("403"));
    assert_eq!(images(&lock).len(), wanted(&stage).len() - 1);
    assert!(!images(&lock).contains_key(failing.source.as_str()));

    // It proves nothing of those, and says so on the quietest terminal too.
    let proof = ["--check", "-q", "--lock", file.to_str().unwrap(), &stage.target.host()];
    let proof = Program::new(&proof).run().expect(1);
    assert!(
        proof.stdout.contains("was written without 2 images, of which it proves nothing"),
        "{}",
        proof.stdout
    );
}

#[test]
fn every_layout_has_a_lock_of_its_own_and_a_time_only_by_the_environment() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let [tar, again, dated] = ["a.tar", "b.tar", "c.tar"].map(|name| home.path().join(name));
    let layout = home.path().join("images");
    stage.program_to(&archive(&tar)).run().expect(0);
    stage.program_to(&archive(&again)).run().expect(0);
    assert_eq!(fs::read(&tar).unwrap(), fs::read(&again).unwrap());
    let lock: Value = serde_json::from_slice(&in_archive(&tar)).unwrap();
    assert_says(&stage, &lock);
    let listed = std::process::Command::new("tar").arg("-tf").arg(&tar).output().unwrap().stdout;
    let listed = String::from_utf8(listed).unwrap();
    let first: Vec<&str> = listed.lines().take(4).collect();
    assert_eq!(first, ["oci-layout", "index.json", "manifest.json", "mirror-images.lock.json"]);
    assert_eq!(lock["made"].get("time"), None);
    stage.program_to(&archive(&dated)).env("SOURCE_DATE_EPOCH", "1700000000").run().expect(0);
    let dated: Value = serde_json::from_slice(&in_archive(&dated)).unwrap();
    assert_eq!(dated["made"]["time"], 1_700_000_000);
    let wrong = stage.program_to(&archive(&tar)).env("SOURCE_DATE_EPOCH", "yesterday").run().expect(2);
    assert!(wrong.stderr.contains("SOURCE_DATE_EPOCH is \"yesterday\""), "{}", wrong.stderr);

    // A directory's is added to by each run, and says no more than is still so.
    stage.program_with(&directory(&layout), &["-k", "1.36.3", "--filter", "base"]).run().expect(0);
    let own = layout.join("mirror-images.lock.json");
    let base = read(&own);
    assert!(images(&base).len() < images(&lock).len());
    stage.program_with(&directory(&layout), &["-k", "1.36.3", "--filter", "control-plane"]).run().expect(0);
    assert_says(&stage, &read(&own));
    let mut index = read(&layout.join("index.json"));
    let gone = index["manifests"].as_array_mut().unwrap().remove(0);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    stage.program_with(&directory(&layout), &["-k", "1.36.3", "--filter", "control-plane"]).run().expect(0);
    let name = gone["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
    let after = read(&own);
    let is_of_base = images(&base).contains_key(name);
    assert_eq!(images(&after).contains_key(name), !is_of_base, "{name}");
    // One that is none is told, and made anew.
    fs::write(&own, "{\"version\": 9, \"kind\": \"lock\"}").unwrap();
    let told = stage.program_with(&directory(&layout), &["-k", "1.36.3", "--filter", "base"]).run().expect(0);
    assert!(told.stderr.contains("its version is 9"), "{}", told.stderr);
    assert_eq!(images(&read(&own)).len(), images(&base).len());
}

/// An image of two platforms, each with a layer of its own.
fn two_platforms() -> Image {
    let children = [("linux/amd64", 1), ("linux/arm64", 2)]
        .map(|(platform, seed)| Child::platform(platform, Image::generated(Kind::Oci, seed, &[9_000])));
    Image::index(Kind::Oci, children.into())
}

#[test]
fn of_platforms_that_are_left_out_nothing_is_recorded_but_that_they_are() {
    let mut content = Content::new();
    content.add("group/two", "1", &two_platforms());
    let net = Net::new();
    let source = net.registry("source").content(&content).start();
    let target = net.registry("target").start();
    let home = tempfile::tempdir().unwrap();
    let mirror = format!("--source-mirror=quay.io={}", source.url());
    let file = home.path().join("lock");
    let flag = format!("--lock-out={}", file.display());
    let run = |target: &str, more: &[&str]| {
        Program::new(&[target, &mirror, "--image=quay.io/group/two:1", NO_PINS, &flag])
            .args(more)
            .run()
            .expect(0);
        let lock = read(&file);
        let image = lock["images"][0].clone();
        let platforms = image["platforms"].as_array().unwrap().iter();
        let platforms: Vec<String> =
            platforms.map(|one| one["platform"].as_str().unwrap().to_owned()).collect();
        (
            image["sparse"] == true,
            platforms,
            image["trimmed"].is_string(),
            lock["blobs"].as_object().unwrap().len(),
        )
    };
    let amd64 = vec!["linux/amd64".to_owned()];
    let all = vec!["linux/amd64".to_owned(), "linux/arm64".to_owned()];
    let one = ["--platform", "linux/amd64"];
    // This target takes no index that names what is not there.
    assert_eq!(run(&target.host(), &one), (true, amd64.clone(), true, 2));
    // In a layout only layers are left out.
    let tar = home.path().join("a.tar");
    assert_eq!(run(&archive(&tar), &one), (true, amd64, false, 3));
    // Whoever records an image sees to it that what is recorded is there.
    assert_eq!(run(&target.host(), &[]), (false, all, false, 4));
    // With the index that stood in for it.
    assert_eq!(target.content().repositories["group/two"].manifests.len(), 4);
    // An index that names what is not there is taken for whole by whoever records nothing.
    let sparse = net.registry("sparse").start();
    sparse.take_sparse_indexes();
    let (amd64, all) =
        (vec!["linux/amd64".to_owned()], vec!["linux/amd64".to_owned(), "linux/arm64".to_owned()]);
    assert_eq!(run(&sparse.host(), &one), (true, amd64, false, 2));
    assert_eq!(run(&sparse.host(), &[]), (false, all, false, 4));
    assert_eq!(sparse.content().repositories["group/two"].manifests.len(), 3);
}

#[test]
fn what_keeps_a_lock_from_being_written_is_told() {
    let home = tempfile::tempdir().unwrap();
    let images = home.path().join("images");
    let inside = format!("--lock-out={}/x", images.display());
    let nowhere = format!("--lock-out={}/no/x", home.path().display());
    let table: &[(&[&str], &str)] = &[
        (&["--dry-run", "--lock-out=x"], "--dry-run uses no network"),
        (&["--lock-out=-"], "a file of that name is ./-"),
        (&[&nowhere], "cannot write the lock to"),
        (&[&directory(&images), &inside], "would be written into oci:"),
    ];
    for (arguments, told) in table {
        let target =
            if arguments.len() == 2 && arguments[0].starts_with("oci:") { vec![] } else { vec!["r.invalid"] };
        let run = Program::new(&target).args(&["--image=r.invalid/a:1"]).args(arguments).run().expect(2);
        assert!(run.stderr.contains(told), "{arguments:?}: {}", run.stderr);
    }
}

/// A lock of all images of a stage, as a file that is kept with the directory.
fn locked(stage: &Stage) -> (tempfile::TempDir, String) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("lock.json");
    let good: Vec<String> = stage.good_lines().map(|line| format!("--image={}", line.source)).collect();
    let good: Vec<&str> = good.iter().map(String::as_str).collect();
    let first = stage.net.registry("first").start();
    let flag = format!("--lock-out={}", file.display());
    stage.program_with(&first.host(), &good).args(&[&flag]).run().expect(0);
    stage.net.journal().clear();
    (home, format!("--lock={}", file.display()))
}

/// The program, about to mirror what the lock holds of these flags.
fn program(stage: &Stage, lock: &str, selection: &[&str]) -> Program {
    let mirrors = crate::stage::mirror_flags(&stage.lines, &stage.source.url());
    let mirrors: Vec<&str> = mirrors.iter().map(String::as_str).filter(|flag| *flag != NO_PINS).collect();
    Program::new(&[&stage.target.host(), lock]).args(selection).args(&mirrors)
}

#[test]
fn a_run_by_a_lock_takes_exactly_its_images_or_those_of_them_that_are_selected() {
    let stage = Stage::new(ALWAYS);
    let (home, lock) = locked(&stage);
    // Whatever the environment says of versions.
    let environment = |program: Program| program.env("KUBERNETES_VERSION", "1.30");
    let run = environment(program(&stage, &lock, &["-o", "json"])).run().expect(0);
    let copied = run.number("copied") as usize;
    assert_eq!(copied, stage.good_lines().count());
    stage.assert_mirrored();
    assert!(run.report()["images"][0]["pinned_digest"].is_string());

    let dry = program(&stage, &lock, &["--dry-run", "-v"]).run().expect(0);
    assert!(
        dry.stdout.contains(&format!("named by --lock {}/lock.json", home.path().display())),
        "{}",
        dry.stdout
    );
    assert!(dry.stderr.contains("images: ") && dry.stderr.contains(" at most"), "{}", dry.stderr);

    let pause = "--image=registry.k8s.io/pause:3.10.2";
    let one = program(&stage, &lock, &[pause, "-o", "json"]).run().expect(0);
    assert_eq!((one.number("present"), one.number("copied")), (1, 0));

    stage.net.journal().clear();
    let other = ["--image=registry.k8s.io/nothing:1", pause, "--image=quay.io/x/y:2"];
    let run = program(&stage, &lock, &other).run().expect(2);
    for told in ["lock.json does not hold registry.k8s.io/nothing:1 and quay.io/x/y:2", "--lock-out"] {
        assert!(run.stderr.contains(told), "{}", run.stderr);
    }
    // Of another version all is named that is not there, and of another catalog that it is one.
    let file = home.path().join("lock.json");
    let mut older = read(&file);
    older["made"]["kubeone"] = json!("v1.2.9");
    fs::write(&file, older.to_string()).unwrap();
    let run = program(&stage, &lock, &["-k", "1.35", "--filter", "control-plane"]).run().expect(2);
    assert!(
        run.stderr.contains("kube-apiserver:v1.35") && run.stderr.contains(" more; it was made"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("up to KubeOne v1.2.9"), "{}", run.stderr);
    assert_eq!(stage.net.journal().requests("source") + stage.net.journal().requests("target"), 0);
}

#[test]
fn a_tag_that_has_moved_away_from_the_lock_fails_alone_with_both_digests_until_that_is_accepted() {
    let stage = Stage::new(ALWAYS);
    let (_home, lock) = locked(&stage);
    let line = stage.good_lines().find(|line| line.source.contains("/pause:")).unwrap();
    let was = stage.source.digest_of(&line.repository, &line.tag).unwrap();
    let mut content = Content::new();
    content.add(&line.repository, &line.tag, &Image::generated(Kind::Oci, 99, &[800]));
    stage.source.add(&content);
    let now = stage.source.digest_of(&line.repository, &line.tag).unwrap();
    let run = program(&stage, &lock, &["-o", "json"]).run().expect(1);
    let report = run.report();
    let failed: Vec<&Value> =
        report["images"].as_array().unwrap().iter().filter(|image| image["result"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{}", run.stdout);
    let cause = failed[0]["cause"].as_str().unwrap();
    for told in [was.as_str(), now.as_str(), "--accept-moved"] {
        assert!(cause.contains(told), "{cause}");
    }
    assert_eq!(stage.target.digest_of(&line.to.0, &line.to.1), None);
    let run = program(&stage, &lock, &["--accept-moved"]).run().expect(0);
    assert!(run.stderr.contains(&format!("{was} is recorded of it, and {now} is taken")), "{}", run.stderr);
    assert_eq!(stage.target.digest_of(&line.to.0, &line.to.1), Some(now));
}

#[test]
fn a_layout_is_held_to_a_lock_too() {
    let stage = Stage::new(ALWAYS);
    let (home, lock) = locked(&stage);
    let tar = home.path().join("a.tar");
    let line = stage.good_lines().find(|line| line.source.contains("/pause:")).unwrap();
    let mut content = Content::new();
    content.add(&line.repository, &line.tag, &Image::generated(Kind::Oci, 99, &[800]));
    stage.source.add(&content);
    let good: Vec<String> = stage.good_lines().map(|line| format!("--image={}", line.source)).collect();
    let good: Vec<&str> = good.iter().map(String::as_str).filter(|name| !name.contains("/etcd:")).collect();
    stage.program_with(&archive(&tar), &good).run().expect(0);
    let from = format!("--from={}", archive(&tar));
    let run = Program::new(&[&stage.target.host(), &lock, &from, "-o", "json"]).run().expect(1);
    let by_result = run.sources_by_result();
    let failed: Vec<bool> =
        by_result["failed"].iter().map(|name| name == &line.source || name.contains("/etcd:")).collect();
    assert_eq!(failed, [true, true], "{}", run.stdout);
    let whole = Program::new(&["--check", &lock, &archive(&tar)]).run().expect(1);
    assert!(
        whole.stdout.contains(" 2 missing") || whole.stdout.contains(" 1 missing, 1 different"),
        "{}",
        whole.stdout
    );
    assert!(
        run.stdout.contains("it has no image of this name") && run.stdout.contains("it has moved"),
        "{}",
        run.stdout
    );
}

#[test]
fn a_mirror_is_proved_by_a_lock_alone() {
    let stage = Stage::new(ALWAYS);
    let (_home, lock) = locked(&stage);
    let checked = |flags: &[&str], code: i32| {
        let target = format!("{}/", stage.target.host());
        stage.net.journal().clear();
        let program = Program::new(&[target.trim_end_matches('/'), &lock, "--check"]).args(flags);
        let run = program.run().expect(code);
        let hosts: Vec<String> = stage
            .net
            .journal()
            .filter(|entry| entry.host != "target")
            .iter()
            .map(|entry| entry.host.clone())
            .collect();
        assert_eq!(hosts, Vec::<String>::new());
        stage.net.journal().assert_read_only();
        run
    };
    let before = checked(&["-o", "json"], 1);
    assert_eq!(before.number("missing") as usize, stage.good_lines().count());
    program(&stage, &lock, &[]).run().expect(0);
    for flags in [&[][..], &["--deep"], &["--deep=bytes"], &["--platform", "linux/amd64"]] {
        let run = checked(flags, 0);
        assert!(!run.stdout.contains("A run would"), "{}", run.stdout);
    }
    assert_eq!(stage.net.journal().count("target", Op::BlobGet), 0);

    let find = |name: &str| stage.good_lines().find(|line| line.source.contains(name)).unwrap().to.clone();
    let [moved, gone, partial] = ["/pause:", "/etcd:", "/kube-proxy:"].map(find);
    let digest = |(repository, tag): &(String, String)| stage.target.digest_of(repository, tag).unwrap();
    let was = digest(&moved);
    let mut content = Content::new();
    content.add(&moved.0, &moved.1, &Image::generated(Kind::Oci, 99, &[800]));
    stage.target.add(&content);
    stage.target.delete_tag(&gone.0, &gone.1);
    let bytes = stage.target.manifest(&digest(&partial)).unwrap().bytes;
    let index: Value = serde_json::from_slice(&bytes).unwrap();
    stage.target.delete_manifest(&partial.0, index["manifests"][0]["digest"].as_str().unwrap());
    let run = checked(&[], 1);
    let told = format!("{}:{}: {} instead of {was}\n", moved.0, moved.1, digest(&moved));
    assert!(run.stdout.contains(&told), "{}", run.stdout);
    let report = checked(&["-o", "json"], 1).report();
    let state = |(repository, tag): &(String, String)| {
        let name = format!("/{repository}:{tag}");
        let images = report["images"].as_array().unwrap();
        images.iter().find(|image| image["target"].as_str().unwrap().ends_with(&name)).unwrap()["state"]
            .clone()
    };
    assert_eq!([&moved, &gone, &partial].map(state), ["different", "missing", "partial"], "{report}");
    assert!(run.stdout.contains("The same without --check brings what is not there."), "{}", run.stdout);
    program(&stage, &lock, &["--platform", "all"]).run().expect(0);
    checked(&[], 0);

    // Below right tags only who looks deep sees anything.
    let repositories = stage.target.content().repositories;
    let layer =
        repositories[&gone.0].blobs.iter().max_by_key(|digest| stage.content.blobs[*digest].size).unwrap();
    stage.target.flip_blob(layer, 5);
    checked(&["--deep"], 0);
    let run = checked(&["--deep=bytes"], 1);
    assert!(run.stdout.contains(layer.as_str()) && run.stdout.contains("has other bytes"), "{}", run.stdout);
    stage.target.delete_blob(layer);
    assert!(checked(&["--deep"], 1).stdout.contains("is missing"));
}

#[test]
fn of_some_platforms_a_lock_proves_those() {
    let mut content = Content::new();
    content.add("group/two", "1", &two_platforms());
    let net = Net::new();
    let source = net.registry("source").content(&content).start();
    let home = tempfile::tempdir().unwrap();
    let (file, mirror) = (home.path().join("lock"), format!("--source-mirror=quay.io={}", source.url()));
    let [out, lock] = ["lock-out", "lock"].map(|flag| format!("--{flag}={}", file.display()));
    // One of them takes an index that names what is not there, the other one gets a cut one.
    for sparse in [true, false] {
        let target = net.registry(if sparse { "sparse" } else { "trimming" }).start();
        if sparse {
            target.take_sparse_indexes();
        }
        let flags = ["--image=quay.io/group/two:1", NO_PINS, &mirror, &out, "--platform=linux/amd64"];
        Program::new(&[&target.host()]).args(&flags).run().expect(0);
        let image = read(&file)["images"][0].clone();
        assert_eq!((image["sparse"].clone(), image["trimmed"].is_string()), (json!(true), !sparse));
        let check = |more: &[&str]| Program::new(&[&target.host(), "--check", &lock]).args(more).run();
        check(&[]).expect(0);
        check(&["--deep=bytes"]).expect(0);
        check(&["--platform=linux/arm64"]).expect(1);
        // A lock that claims more than there is.
        let mut lying = read(&file);
        lying["images"][0]["platforms"][0]["digest"] = json!(format!("sha256:{}", "e".repeat(64)));
        fs::write(&file, lying.to_string()).unwrap();
        let run = check(&[]).expect(1);
        assert!(run.stdout.contains("without all of the platforms"), "{}", run.stdout);
    }
    // Nor is more believed of an image that is whole.
    let target = net.registry("whole").start();
    let flags = ["--image=quay.io/group/two:1", NO_PINS, &mirror, &out];
    Program::new(&[&target.host()]).args(&flags).run().expect(0);
    let check = || Program::new(&[&target.host(), "--check", &lock]).run();
    check().expect(0);
    let mut lying = read(&file);
    lying["images"][0]["platforms"][1]["digest"] = json!(format!("sha256:{}", "e".repeat(64)));
    fs::write(&file, lying.to_string()).unwrap();
    assert!(check().expect(1).stdout.contains("without all of the platforms"));
}

#[test]
fn locks_that_are_none_and_what_does_not_go_with_one_are_told_before_anything_is_asked() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("lock");
    let flag = format!("--lock={}", file.display());
    let digest = format!("sha256:{}", "a".repeat(64));
    let platforms = json!([{"platform": "linux/amd64", "digest": digest, "bytes": 7}]);
    let image = |source: &str, name: &str| {
        json!({
            "source": source, "names": [name], "digest": digest, "mediaType": "a/b", "size": 7, "platforms": platforms,
        })
    };
    let document = |images: Value| json!({"version": 1, "kind": "lock", "images": images}).to_string();
    let good = document(json!([image("r.invalid/a:1", "a:1")]));
    let run = |text: &str, flags: &[&str]| {
        fs::write(&file, text).unwrap();
        Program::new(&["r.invalid", &flag]).args(flags).run().expect(2)
    };
    let nested = "[".repeat(500_000);
    let pins = "{\"version\": 1, \"kind\": \"pins\", \"images\": []}";
    for (text, told) in [
        ("", "line 1 column 0"),
        ("\u{0}\u{1b}[2J", "line 1 column"),
        (nested.as_str(), "line 1 column"),
        (pins, "its kind is \"pins\", and not lock: --pins takes such a file"),
        (&good.replace("\"version\":1", "\"version\":2"), "its version is 2, and this program reads 1"),
        (&document(json!([])), "holds no image"),
        (
            &document(json!([image("r.invalid/a:1", "a:1"), image("r.invalid/a:1", "a:1")])),
            "it is there twice",
        ),
        (
            &document(json!([image("r.invalid/a:1", "../../etc/passwd:1")])),
            "is not a valid name inside a registry",
        ),
        (
            &document(json!([image("r.invalid/a:1", "a:1"), image("q.invalid/a:1", "a:1")])),
            "would both become a:1",
        ),
    ] {
        let ended = run(text, &[]);
        assert!(ended.stderr.starts_with("error: ") && ended.stderr.contains(told), "{ended:?}");
        assert!(!ended.stderr.contains('\u{1b}') && ended.stdout.is_empty(), "{ended:?}");
    }
    for (flags, told) in [
        (&["--check", "--lock-out=x"][..], "asks the target alone"),
        (&["--check", "--accept-moved"], "leave --accept-moved out"),
        (&["--check", "--referrers"], "leave --referrers out"),
        (&["--check", "--source-mirror=a.io=b.io"], "leave --source-mirror out"),
        (&[NO_PINS], "cannot be used with"),
    ] {
        let ended = run(&good, flags);
        assert!(ended.stderr.contains(told), "{flags:?}: {}", ended.stderr);
    }
}
