//! Inventories of what the other side has, and archives that leave it out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::program::{Ended, Program};
use crate::stage::{NO_PINS, Stage};
use crate::support::Op;
use crate::support::containerd::{Containerd, is_root};
use crate::support::fault::{Fault, on};
use crate::support::process::require;

/// Two neighbouring patch releases, which differ in four images.
const BOTH: &[&str] = &["-k", "1.36.2,1.36.3", "--filter", "control-plane,base"];
const OLD: &[&str] = &["-k", "1.36.2", "--filter", "control-plane,base"];
const NEW: &[&str] = &["-k", "1.36.3", "--filter", "control-plane,base"];

fn archive(file: &Path) -> String {
    format!("oci-archive:{}", file.display())
}

fn load(from: &[&Path], target: &str) -> Program {
    let from: Vec<String> = from.iter().map(|file| format!("--from={}", archive(file))).collect();
    let from: Vec<&str> = from.iter().map(String::as_str).collect();
    Program::new(&[target, NO_PINS]).args(&from)
}

fn inventory(arguments: &[&str]) -> Ended {
    Program::new(&["inventory"]).args(arguments).run()
}

/// A stage whose target has the older release, and a file of its inventory.
fn with_old() -> (Stage, tempfile::TempDir, PathBuf) {
    let stage = Stage::new(BOTH);
    stage.program_of(OLD).run().expect(0);
    stage.net.journal().clear();
    let home = tempfile::tempdir().unwrap();
    let have = home.path().join("have.json");
    let taken = inventory(&[&[stage.target.host().as_str()], OLD].concat()).expect(0);
    fs::write(&have, &taken.stdout).unwrap();
    (stage, home, have)
}

/// Saves the newer release without what `have` names, and what was recorded of that.
fn save(stage: &Stage, file: &Path, have: &[&str]) -> Value {
    let have: Vec<String> = have.iter().map(|have| format!("--have={have}")).collect();
    let have: Vec<&str> = have.iter().map(String::as_str).collect();
    stage.program_with(&archive(file), NEW).args(&have).run().expect(0);
    let tar = std::process::Command::new("tar")
        .arg("-xOf")
        .arg(file)
        .arg("mirror-images.lock.json")
        .output()
        .unwrap();
    serde_json::from_slice(&tar.stdout).unwrap()
}

fn keys(blobs: &Value) -> BTreeSet<String> {
    blobs.as_object().unwrap().keys().cloned().collect()
}

/// The blobs in an archive, by another program.
fn blobs_in(file: &Path) -> BTreeSet<String> {
    let listed = std::process::Command::new("tar").arg("-tf").arg(file).output().unwrap().stdout;
    let listed = String::from_utf8(listed).unwrap();
    listed
        .lines()
        .filter_map(|line| Some(format!("sha256:{}", line.strip_prefix("blobs/sha256/")?)))
        .collect()
}

/// Manifests, configs and layers of the images that a version has.
fn parts(stage: &Stage, version: &[&str]) -> [BTreeSet<String>; 3] {
    let mut parts = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    for line in crate::stage::lines_of(version) {
        let mut next = vec![stage.content.digest_of(&line.repository, &line.tag).unwrap().clone()];
        while let Some(digest) = next.pop() {
            let manifest: Value = serde_json::from_slice(&stage.content.manifests[&digest].bytes).unwrap();
            let digests = |list: &Value| {
                let list = list.as_array().into_iter().flatten();
                list.map(|one| one["digest"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
            };
            next.extend(digests(&manifest["manifests"]));
            parts[1].extend(manifest["config"]["digest"].as_str().map(str::to_owned));
            parts[2].extend(digests(&manifest["layers"]));
            parts[0].insert(digest);
        }
    }
    parts
}

#[test]
fn an_inventory_names_what_is_there_by_heads_and_manifests_alone() {
    let (stage, home, have) = with_old();
    let journal = stage.net.journal();
    journal.assert_read_only();
    assert_eq!(journal.count("target", Op::BlobHead) + journal.count("target", Op::BlobGet), 0);
    assert_eq!(journal.requests("source"), 0);
    let taken: Value = serde_json::from_slice(&fs::read(&have).unwrap()).unwrap();
    assert_eq!((&taken["version"], &taken["kind"]), (&json!(1), &json!("inventory")));
    let [_, configs, layers] = parts(&stage, OLD);
    assert_eq!(keys(&taken["blobs"]), configs.union(&layers).cloned().collect());
    for (digest, blob) in taken["blobs"].as_object().unwrap() {
        let repository = blob[1].as_str().unwrap();
        assert!(stage.target.blob_size(repository, digest) == blob[0].as_u64(), "{digest} in {repository}");
    }
    // Whatever is asked for, what is there is told, and nothing else.
    let of = |arguments: &[&str]| -> Value {
        serde_json::from_str(&inventory(arguments).expect(0).stdout).unwrap()
    };
    let sources = |taken: &Value| -> BTreeSet<String> {
        let images = taken["images"].as_array().unwrap().iter();
        images.map(|image| image["source"].as_str().unwrap().to_owned()).collect()
    };
    let target = stage.target.host();
    let all = of(&[&target, "-k", "1.36.2,1.36.3"]);
    assert_eq!((sources(&all), keys(&all["blobs"])), (sources(&taken), keys(&taken["blobs"])));
    assert_eq!(all.get("missing"), None);
    let coredns = taken["images"]
        .as_array()
        .unwrap()
        .iter()
        .find(|image| image["names"].as_array().unwrap().len() == 2);
    assert!(coredns.unwrap()["source"].as_str().unwrap().contains("coredns"));
    // A lock may name the images, and so does a layout.
    let file = home.path().join("old.tar");
    let lock = format!("--lock-out={}/lock", home.path().display());
    stage.program_with(&archive(&file), OLD).args(&[&lock]).run().expect(0);
    let by_lock = of(&[&target, &lock.replace("lock-out", "lock")]);
    assert_eq!((sources(&by_lock), keys(&by_lock["blobs"])), (sources(&taken), keys(&taken["blobs"])));
    let of_file = of(&[&archive(&file)]);
    assert_eq!((sources(&of_file), keys(&of_file["blobs"])), (sources(&taken), keys(&taken["blobs"])));
    assert_eq!(of_file["images"], taken["images"]);
}

#[test]
fn an_inventory_of_a_registry_that_cannot_be_asked_says_so() {
    let stage = Stage::new(OLD);
    stage.target.fault(crate::support::fault::any().then(Fault::Status(403)));
    let refused = inventory(&[&[stage.target.host().as_str()], OLD].concat()).expect(3);
    assert!(refused.stderr.contains("not found out"), "{}", refused.stderr);
    let taken: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert!(taken["images"] == json!([]) && taken["missing"][0]["cause"].as_str().unwrap().contains("403"));
    for (arguments, told) in [
        (&["oci:nowhere"][..], "there is no image layout"),
        (&["r.invalid", "--platform=linux/amd64"], "leave it out"),
        (&["r.invalid", "--source-mirror=a.io=b.io"], "asks no source"),
        (&[], "no target"),
    ] {
        let run = inventory(arguments).expect(2);
        assert!(run.stderr.contains(told) && run.stdout.is_empty(), "{arguments:?}: {}", run.stderr);
    }
}

#[test]
fn a_delta_carries_the_layers_of_four_images_alone_and_loads_where_the_others_are() {
    let (stage, home, have) = with_old();
    let delta = home.path().join("delta.tar");
    let lock = save(&stage, &delta, &[have.to_str().unwrap()]);
    let ([manifests, configs, layers], [.., old_layers]) = (parts(&stage, NEW), parts(&stage, OLD));
    let new: BTreeSet<String> = layers.difference(&old_layers).cloned().collect();
    let mut wanted: BTreeSet<String> = manifests.union(&configs).cloned().collect();
    wanted.extend(new.iter().cloned());
    assert_eq!(blobs_in(&delta), wanted);
    assert_eq!(keys(&lock["base"]), layers.intersection(&old_layers).cloned().collect());
    assert_eq!(keys(&lock["blobs"]), configs.union(&new).cloned().collect());
    // Which are those of four images.
    let images = lock["images"].as_array().unwrap();
    let sources: Vec<&str> = images.iter().map(|image| image["source"].as_str().unwrap()).collect();
    let with_new = sources.iter().filter(|source| {
        let line = stage.lines.iter().find(|line| line.source == **source).unwrap();
        let blobs = &stage.content.repositories[&line.repository].blobs;
        source.contains(":v1.36.3") && blobs.iter().any(|blob| new.contains(blob))
    });
    assert_eq!(with_new.count(), 4);

    // By itself it is what it says.
    let alone = Program::new(&["--check", &archive(&delta)]).run().expect(0);
    let left_out = format!("{} layers, ", lock["base"].as_object().unwrap().len());
    assert!(
        alone.stdout.contains(&left_out) && alone.stdout.contains("left out by its lock"),
        "{}",
        alone.stdout
    );

    stage.net.journal().clear();
    let checked = load(&[&delta], &stage.target.host()).args(&["--check", "-o", "json"]).run().expect(1);
    assert_eq!(checked.number("missing"), 4);
    stage.net.journal().assert_read_only();
    stage.net.journal().clear();
    load(&[&delta], &stage.target.host()).run().expect(0);
    let journal = stage.net.journal();
    assert_eq!(journal.requests("source") + journal.count("target", Op::BlobGet), 0);
    // Before the first write each of them was asked for.
    let first = journal.filter(|entry| entry.host == "target" && entry.op.writes())[0].seq;
    let heads = journal.filter(|entry| entry.op == Op::BlobHead && entry.seq < first);
    let asked: BTreeSet<String> = heads.into_iter().map(|head| head.reference).collect();
    let needed = keys(&lock["base"]).into_iter().filter(|layer| needs(&stage, layer));
    assert_eq!(asked, needed.collect());
    stage.assert_mirrored();
    load(&[&delta], &stage.target.host()).args(&["--check", "--deep=bytes"]).run().expect(0);
}

#[test]
fn a_delta_is_refused_before_anything_is_written_where_its_base_is_not() {
    let (stage, home, have) = with_old();
    let (delta, base) = (home.path().join("delta.tar"), home.path().join("base.tar"));
    save(&stage, &delta, &[have.to_str().unwrap()]);
    stage.program_with(&archive(&base), OLD).run().expect(0);
    let empty = stage.net.registry("empty").start();
    stage.net.journal().clear();
    let run = load(&[&delta], &empty.host()).run().expect(1);
    for told in [
        "Nothing was begun",
        "that it leaves out",
        "delta.tar",
        " of ",
        "load what it builds on first",
        "--from",
    ] {
        assert!(run.stdout.contains(told), "{told}: {}", run.stdout);
    }
    let check = load(&[&delta], &empty.host()).args(&["--check"]).run().expect(1);
    assert!(check.stdout.contains("A run would begin nothing: "), "{}", check.stdout);
    stage.net.journal().assert_read_only();
    assert!(empty.content().repositories.values().all(|repository| repository.manifests.is_empty()));
    // One layer that is gone is told by itself.
    let layer = keys(&save(&stage, &delta, &[have.to_str().unwrap()])["base"]).pop_first().unwrap();
    stage.target.delete_blob(&layer);
    stage.net.journal().clear();
    let run = load(&[&delta], &stage.target.host()).run().expect(if needs(&stage, &layer) { 1 } else { 0 });
    if needs(&stage, &layer) {
        assert!(run.stdout.contains(&layer) && run.stdout.contains("1 of "), "{}", run.stdout);
        stage.net.journal().assert_read_only();
    }
    // Both are one store.
    load(&[&base, &delta], &empty.host()).run().expect(0);
    let both: Vec<&str> = NEW.to_vec();
    load(&[&base, &delta], &empty.host()).args(&["--check", "--deep"]).args(&both).run().expect(0);
    // And a directory takes both, one after the other.
    let directory = format!("oci:{}/images", home.path().display());
    let refused = load(&[&delta], &directory).run().expect(1);
    assert!(refused.stdout.contains("Nothing was begun"), "{}", refused.stdout);
    load(&[&base], &directory).run().expect(0);
    load(&[&delta], &directory).run().expect(0);
    load(&[&delta], &directory).args(&["--check", "--deep=bytes"]).run().expect(0);
}

/// Whether an image that only the newer release has needs the layer.
fn needs(stage: &Stage, layer: &str) -> bool {
    let mut lines = crate::stage::lines_of(NEW).into_iter().filter(|line| line.tag == "v1.36.3");
    lines.any(|line| {
        let digest = stage.content.digest_of(&line.repository, &line.tag).unwrap();
        let index: Value = serde_json::from_slice(&stage.content.manifests[digest].bytes).unwrap();
        let children = index["manifests"].as_array().cloned().unwrap_or_default();
        let digests = children.iter().map(|child| child["digest"].as_str().unwrap()).chain([digest.as_str()]);
        digests
            .into_iter()
            .any(|digest| String::from_utf8_lossy(&stage.content.manifests[digest].bytes).contains(layer))
    })
}

#[test]
fn below_a_path_and_without_mounts_a_delta_loads_as_well() {
    let stage = Stage::new(BOTH);
    let home = tempfile::tempdir().unwrap();
    let (have, delta) = (home.path().join("have.json"), home.path().join("delta.tar"));
    let place = format!("{}/some/path", stage.target.host());
    stage.program_with(&place, OLD).run().expect(0);
    let taken = inventory(&[&[place.as_str()], OLD].concat()).expect(0);
    fs::write(&have, &taken.stdout).unwrap();
    assert!(!taken.stdout.contains("some/path"), "what is recorded holds at any place");
    save(&stage, &delta, &[have.to_str().unwrap()]);
    stage.target.fault(on(Op::Mount).then(Fault::Status(404)));
    stage.net.journal().clear();
    load(&[&delta], &place).run().expect(0);
    // From the target itself, where else?
    assert!(stage.net.journal().count("target", Op::BlobGet) > 0);
    assert_eq!(stage.net.journal().requests("source"), 0);
    load(&[&delta], &place).args(&["--check", "--deep=bytes"]).run().expect(0);
}

#[test]
fn several_inventories_count_together_and_what_lies_leaves_nothing_out() {
    let (stage, home, have) = with_old();
    let [whole, delta, again, lied] = ["w.tar", "d.tar", "a.tar", "l.tar"].map(|name| home.path().join(name));
    save(&stage, &whole, &[]);
    // Half of it by one file, the other half by another.
    let taken: Value = serde_json::from_slice(&fs::read(&have).unwrap()).unwrap();
    let half = |number: usize| {
        let mut half = taken.clone();
        let blobs = taken["blobs"].as_object().unwrap().iter().enumerate();
        let blobs =
            blobs.filter(|(n, _)| n % 2 == number).map(|(_, (digest, blob))| (digest.clone(), blob.clone()));
        half["blobs"] = Value::Object(blobs.collect());
        let file = home.path().join(format!("half-{number}"));
        fs::write(&file, half.to_string()).unwrap();
        file.display().to_string()
    };
    save(&stage, &delta, &[&half(0), &half(1)]);
    save(&stage, &again, &[have.to_str().unwrap()]);
    assert_eq!(blobs_in(&delta), blobs_in(&again));
    // A layout, and a delta with what that itself leaves out.
    let base = home.path().join("base.tar");
    stage.program_with(&archive(&base), OLD).run().expect(0);
    let lock = save(&stage, &delta, &[&archive(&base)]);
    assert_eq!(blobs_in(&delta), blobs_in(&again));
    assert!(
        lock["base"]
            .as_object()
            .unwrap()
            .values()
            .all(|blob| stage.content.repositories.contains_key(blob[1].as_str().unwrap()))
    );
    let third = home.path().join("third.tar");
    save(&stage, &third, &[&archive(&delta)]);
    let [manifests, configs, _] = parts(&stage, NEW);
    assert_eq!(blobs_in(&third), manifests.union(&configs).cloned().collect(), "no layer is left to carry");
    // One that has other sizes than the layers have.
    let mut lying = taken.clone();
    for (_, blob) in lying["blobs"].as_object_mut().unwrap() {
        blob[0] = json!(blob[0].as_u64().unwrap() + 1);
    }
    let file = home.path().join("lying");
    fs::write(&file, lying.to_string()).unwrap();
    let lock = save(&stage, &lied, &[file.to_str().unwrap()]);
    assert_eq!((blobs_in(&lied), lock["base"].clone()), (blobs_in(&whole), json!({})));
}

#[test]
fn what_does_not_go_with_a_delta_is_told_before_anything_is_asked() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("have");
    let (have, tar) = (format!("--have={}", file.display()), archive(&home.path().join("a.tar")));
    let run = |text: &str, target: &str| {
        fs::write(&file, text).unwrap();
        Program::new(&[target, &have, "--image=r.invalid/a:1"]).run().expect(2)
    };
    let good = "{\"version\": 1, \"kind\": \"inventory\", \"images\": []}";
    let blob = |blob: &str| good.replace("[]}", &format!("[], \"blobs\": {{{blob}}}}}"));
    let digest = format!("\"sha256:{}\"", "a".repeat(64));
    for (text, target, told) in [
        (good, "r.invalid", "is a registry, which is asked itself"),
        ("", &tar, "line 1 column 0"),
        (&good.replace('1', "7"), &tar, "its version is 7"),
        (&good.replace("inventory", "pins"), &tar, "its kind is \"pins\""),
        (&blob("\"../x\": [1, \"a\"]"), &tar, "is not a valid digest"),
        (&blob(&format!("{digest}: [18446744073709551615, \"a\"]")), &tar, "more than 2^53 bytes"),
        (&blob(&format!("{digest}: [1, \"../../etc\"]")), &tar, "is not a valid repository"),
    ] {
        let run = run(text, target);
        assert!(run.stderr.contains(told) && run.stdout.is_empty(), "{told}: {}", run.stderr);
    }
    let other = |have: &str| Program::new(&[&tar, have, "--image=r.invalid/a:1"]).run().expect(2).stderr;
    assert!(other("--have=r.example.com/x").contains("mirror-images inventory STORE has printed"));
    assert!(other("--have=oci:nowhere").contains("there is no image layout"));
    assert!(other(&format!("--have={tar}")).contains("is the target too"));
}

#[test]
fn containerd_has_a_delta_whole_behind_its_base_and_not_alone() {
    if !require("containerd") || !require("ctr") || !is_root() {
        return;
    }
    let (stage, home, have) = with_old();
    let (delta, base) = (home.path().join("delta.tar"), home.path().join("base.tar"));
    save(&stage, &delta, &[have.to_str().unwrap()]);
    stage.program_with(&archive(&base), OLD).run().expect(0);
    let containerd = Containerd::start().unwrap();
    let import = |file: &Path| {
        containerd.ctr(&["images", "import", "--all-platforms", "--no-unpack", file.to_str().unwrap()])
    };
    let complete = |tag: &str| {
        let checked = containerd.ctr(&["images", "check"]).unwrap();
        let lines = checked.lines().filter(|line| line.contains(tag) && line.contains(" complete "));
        lines.count()
    };
    // Some take it alone, and find nothing of it complete.
    let _ = import(&delta);
    assert_eq!(complete(":v1.36.3 "), 0);
    import(&base).unwrap();
    import(&delta).unwrap();
    assert_eq!((complete(":v1.36.3 "), complete(":v1.36.2 ")), (4, 4));
}
