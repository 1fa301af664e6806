//! What a record tells of an image: its platforms, and all else that a run moves for it.

use std::time::{Duration, Instant};

use mirror_images::selection::catalog::{Pin, Pins};
use serde_json::{Value, json};

use super::{CNI, MOVING, OTHER, Shelf, by_source, numbers, state, two_platforms};
use crate::program::Program;
use crate::support::content::{Child, Content, Image};
use crate::support::{Fault, Kind, Op, on};

/// Puts `image` under the name of [`CNI`].
fn put_cni(shelf: &Shelf, image: &Image) {
    let mut content = Content::new();
    content.add("acme/cni", "v1", image);
    shelf.source.add(&content);
}

fn record(path: &str, source: &str) -> Pin {
    let pins = Pins::read(path.as_ref()).unwrap();
    pins.get(&source.parse().unwrap()).expect("a record").clone()
}

fn image(seed: u64, size: u64) -> Image {
    Image::generated(Kind::Oci, seed, &[size])
}

/// An index of amd64, twice by one digest, with an attestation, and of another index, which has arm64 and s390x.
fn nested() -> Image {
    let amd64 = image(700, 900);
    let inner = Image::index(
        Kind::Oci,
        vec![
            Child::platform("linux/arm64", image(701, 40_000)),
            Child::platform("linux/s390x", image(702, 50_000)),
            Child::attestation(&image(701, 40_000), 8),
        ],
    );
    let attestation = Child::attestation(&amd64, 9);
    let twice = || Child::platform("linux/amd64", amd64.clone());
    Image::index(Kind::Oci, vec![twice(), twice(), attestation, Child::plain(inner)])
}

/// The bytes of all that a tree of images has, each once.
fn whole(image: &Image) -> u64 {
    let own: u64 = image.blobs.iter().map(|blob| blob.size).sum();
    let mut below = image.children.clone();
    below.dedup_by_key(|child| child.digest().clone());
    own + image.manifest.bytes.len() as u64 + below.iter().map(whole).sum::<u64>()
}

#[test]
fn what_an_index_within_an_index_has_is_recorded_and_found() {
    let shelf = Shelf::new();
    put_cni(&shelf, &nested());
    let path = shelf.path("mine.json");
    shelf.program("pin").args(&[&path, "--platforms"]).run().expect(0);
    let pin = record(&path, CNI);
    let platforms: Vec<(&str, u64)> =
        pin.platforms.iter().map(|p| (p.platform.as_deref().unwrap(), p.bytes)).collect();
    let sizes = [whole(&image(700, 900)), whole(&image(701, 40_000)), whole(&image(702, 50_000))];
    assert_eq!(platforms, [("linux/amd64", sizes[0]), ("linux/arm64", sizes[1]), ("linux/s390x", sizes[2])]);
    // All else: both indexes and both attestations.
    let more = whole(&nested()) - sizes.iter().sum::<u64>();
    let line = std::fs::read_to_string(&path).unwrap();
    let line = line.lines().find(|line| line.contains(CNI)).unwrap();
    assert!(line.trim_end_matches(',').ends_with(&format!("],\"more\":{more}}}")), "{line}");
    let verify = |platforms: &str| shelf.verify(&["--platform", platforms]).report();
    assert_eq!(state(&verify("linux/arm64,linux/s390x,linux/amd64"), CNI), "there");
    let found = verify("linux/arm64,linux/riscv64");
    assert_eq!(by_source(&found)[CNI]["lacks"], json!(["linux/riscv64"]), "{found}");
}

#[test]
fn an_index_without_end_is_told() {
    let shelf = Shelf::new();
    let mut image = image(1, 10);
    for _ in 0..10 {
        image = Image::index(Kind::Oci, vec![Child::plain(image)]);
    }
    put_cni(&shelf, &image);
    let ended = shelf.program("pin").args(&["--platforms", "--retries", "0", &shelf.path("f.json")]).run();
    assert!(ended.expect(1).stdout.contains("nested deeper than 8"));
}

#[test]
fn an_image_that_a_run_moves_is_recorded_however_many_manifests_it_has() {
    let shelf = Shelf::new();
    let of = |number: u64| Child::platform("linux/amd64", image(1000 + number, 10));
    put_cni(&shelf, &Image::index(Kind::Oci, (0..300).map(of).collect()));
    let path = shelf.path("mine.json");
    shelf.program("pin").args(&[&path, "--platforms"]).run().expect(0);
    assert_eq!(record(&path, CNI).platforms.len(), 300);
}

#[test]
fn a_manifest_that_is_for_two_platforms_is_there_for_each() {
    let shelf = Shelf::new();
    let one = image(900, 700);
    let of = |platform: &str| Child::platform(platform, one.clone());
    put_cni(&shelf, &Image::index(Kind::Oci, vec![of("linux/amd64"), of("linux/arm64")]));
    let path = shelf.path("mine.json");
    shelf.program("pin").args(&[&path, "--platforms"]).run().expect(0);
    for more in [&["--platform", "linux/arm64"][..], &["--platform", "linux/arm64", "--pins", &path]] {
        assert_eq!(state(&shelf.verify(more).report(), CNI), "there", "{more:?}");
    }
    let dry = |platform: &str| {
        let flags =
            ["--dry-run", "-o", "json", "r.example", "--image", CNI, "--pins", &path, "--platform", platform];
        Program::new(&flags).run().expect(0).report()[0]["bytes"].as_u64().unwrap()
    };
    assert!(dry("linux/arm64") >= whole(&one));
    assert_eq!(dry("linux/arm64"), dry("all"), "what two platforms share is moved once");
}

/// A single manifest, entries that say of no platform, and an index within one: what a run takes whatever is wanted.
#[test]
fn what_no_index_divides_counts_for_every_platform() {
    let shelf = Shelf::new();
    let within = Image::index(Kind::Oci, vec![Child::platform("linux/arm64", image(930, 4_000))]);
    let path = shelf.path("mine.json");
    for whole_image in [
        image(910, 4_000),
        Image::index(
            Kind::Oci,
            vec![Child::plain(image(920, 4_000)), Child::platform("linux/arm64", image(921, 90))],
        ),
        Image::index(Kind::Oci, vec![Child::platform("linux/amd64", within)]),
    ] {
        put_cni(&shelf, &whole_image);
        shelf.program("pin").args(&[&path, "--platforms"]).run().expect(0);
        for platform in ["linux/amd64", "linux/arm64", "linux/s390x"] {
            let target = shelf.net.registry("target").rule(on(Op::Mount).then(Fault::IgnoreMount)).start();
            let mirror = format!("--source-mirror=quay.io={}", shelf.source.host());
            let flags = [&target.host(), "--image", CNI, "--pins", &path, "--platform", platform, &mirror];
            let report = |more: &[&str]| Program::new(&flags).args(&["-o", "json"]).args(more).run().report();
            let told = report(&["--dry-run"])[0]["bytes"].as_u64().unwrap();
            let moved = report(&[]);
            let moved: u64 =
                ["bytes_copied", "manifest_bytes"].map(|sum| moved[sum].as_u64().unwrap()).iter().sum();
            assert!(told >= moved, "{platform}: {told} bytes are told, and {moved} moved");
        }
    }
}

#[test]
fn records_behind_a_link_are_read_and_written_there() {
    let shelf = Shelf::new();
    let (path, link) = (shelf.pins(&[]), shelf.path("link.json"));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    shelf.program("pin").args(&[&link]).run().expect(0);
    assert!(std::path::Path::new(&link).is_symlink());
    assert_eq!(record(&path, CNI).digest.unwrap().to_string(), shelf.digest(CNI));
    std::fs::remove_file(&path).unwrap();
    let told = shelf.program("pin").args(&[&link]).run().expect(2).stderr;
    assert!(told.contains("link.json: it is a link that leads to no file"), "{told}");
    assert_eq!(shelf.net.journal().of("source", Op::ManifestHead).len(), 10, "nothing is asked before that");
}

#[test]
fn a_dry_run_tells_no_less_than_a_run_moves() {
    let shelf = Shelf::new();
    put_cni(&shelf, &nested());
    let path = shelf.path("mine.json");
    let pin = |more: &[&str]| shelf.program("pin").args(&[&path]).args(more).run().expect(0);
    pin(&["--platforms"]);
    let run = |flags: &[&str]| {
        // One that mounts nothing has to be sent all of it.
        let target = shelf.net.registry("target").rule(on(Op::Mount).then(Fault::IgnoreMount)).start();
        let pins = format!("--pins={path}");
        let catalog = shelf.path("catalog.yaml");
        let base = ["--catalog", &catalog, "-k", "1.40", &target.host(), &pins];
        let of = |host: &String| format!("--source-mirror={host}={}", shelf.source.host());
        let mirrors: Vec<String> = shelf.hosts.iter().map(of).collect();
        let program = || {
            let program = Program::new(&base).args(flags);
            program.args(&mirrors.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let dry = program().args(&["--dry-run", "-o", "json"]).run().expect(0);
        let told: u64 =
            dry.report().as_array().unwrap().iter().filter_map(|line| line["bytes"].as_u64()).sum();
        let moved = program().args(&["-o", "json"]).run();
        let totals = moved.report();
        let moved = ["bytes_copied", "manifest_bytes"].map(|sum| totals[sum].as_u64().unwrap());
        (told, moved.iter().sum::<u64>(), dry.stderr)
    };
    // Of alpine no size is told, for it may be another one by then.
    let alpine = whole(&shelf.images[MOVING]);
    for (flags, number, besides) in [
        (&["--filter", "control-plane"][..], "7 images", 0),
        (&["--filter", "control-plane", "--platform", "linux/amd64"], "7 images", 0),
        (&["--filter", "base"], "2 of 3 images", alpine),
    ] {
        let (told, moved, said) = run(flags);
        let moved = moved - besides;
        assert!(told >= moved && (flags.len() > 2 || told - moved < 500), "{flags:?}: {told} {moved}");
        let said = said.lines().last().expect("the sum");
        let (of, rest) = said.split_once(": ").unwrap();
        let (size, _) =
            rest.split_once(" kB at most, layers that they share").unwrap_or_else(|| panic!("{said}"));
        let size: f64 = size.parse().unwrap();
        assert!(of == number && (size * 1000.0 - told as f64).abs() <= 500.0, "{told}: {said}");
    }

    // Records of old do not tell all.
    let text = std::fs::read_to_string(&path).unwrap();
    let old: Vec<String> = text
        .lines()
        .map(|line| {
            line.split_once(",\"more\"").map_or(line.to_owned(), |(begin, end)| {
                format!("{begin}{}", end.trim_start_matches(|c: char| c == ':' || c.is_ascii_digit()))
            })
        })
        .collect();
    std::fs::write(&path, old.join("\n")).unwrap();
    let (_, _, said) = run(&["--filter", "base", "--image", "quay.io/acme/cni:v1"]);
    assert!(
        !said.contains("at most") && said.contains("what 2 images have beside their platforms"),
        "{said}"
    );
    // And are completed.
    let completed = pin(&["--platforms", "-o", "json"]).report();
    assert_eq!(numbers(&completed, &["new", "kept", "completed"]), [0, 0, 10], "{completed}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    // What a record never tells is said.
    for flag in ["--include-foreign", "--referrers"] {
        let (_, _, said) = run(&["--filter", "base", flag]);
        assert!(!said.contains("at most") && said.contains("without "), "{flag}: {said}");
    }
}

#[test]
fn a_platform_that_an_index_has_twice_is_shown_once() {
    let shelf = Shelf::new();
    // As Windows' images are: one for each version of the system.
    let (first, second) = (image(801, 700), image(802, 800));
    let of = |image: &Image| Child::platform("windows/amd64", image.clone());
    put_cni(&shelf, &Image::index(Kind::Oci, vec![of(&first), of(&second), of(&first)]));
    let path = shelf.path("mine.json");
    shelf.program("pin").args(&[&path, "--platforms"]).run().expect(0);
    let digests: Vec<String> = record(&path, CNI).platforms.iter().map(|p| p.digest.to_string()).collect();
    assert_eq!(digests, [first.digest().to_string(), second.digest().to_string()]);
    let dry =
        Program::new(&["--dry-run", "-v", "r.example", "--image", CNI, "--pins", &path]).run().expect(0);
    assert_eq!(dry.stdout.matches("windows/amd64").count(), 1, "{}", dry.stdout);
}

#[test]
fn tags_that_the_catalog_says_move_are_exempt_whatever_a_file_has() {
    let shelf = Shelf::new();
    let path = shelf.pins(&[]);
    let pin = || shelf.program("pin").args(&[&path, "-o", "json"]).run().expect(0).report();
    pin();
    assert!(record(&path, MOVING).moving && !record(&path, CNI).moving);
    // One that was recorded as any other.
    let path = shelf.pins(&[json!({"source": MOVING, "digest": shelf.digest(MOVING)})]);
    let found = shelf.verify(&["--pins", &path]).expect(0).report();
    assert_eq!(by_source(&found)[MOVING].get("pinned_digest"), None, "{found}");
    shelf.program("pin").args(&[&path]).run().expect(0);
    assert!(record(&path, MOVING).moving);
    // A run that takes it from a catalog is not held to such a record either.
    let path =
        shelf.pins(&[json!({"source": MOVING, "digest": OTHER}), json!({"source": CNI, "digest": OTHER})]);
    let pins = format!("--pins={path}");
    let dry = |flags: &[&str]| {
        Program::new(&["--dry-run", "-o", "json", "r:1", &pins]).args(flags).run().expect(0).report()
    };
    let pinned = |lines: &Value, source: &str| {
        let lines = lines.as_array().unwrap();
        lines
            .iter()
            .find(|line| line["source"] == source)
            .expect("it is selected")
            .get("pinned_digest")
            .is_some()
    };
    let lines = dry(&["--catalog", &shelf.path("catalog.yaml"), "-k", "1.40", "--filter", "base"]);
    assert!(!pinned(&lines, MOVING) && pinned(&lines, CNI), "{lines}");
    let lines = dry(&["-k", "1.36.3", "--filter", "optional"]);
    assert!(!pinned(&lines, MOVING), "{lines}");
    // Nor is one that takes it by its name.
    let lines = dry(&["--image", "alpine:3", "--image", CNI]);
    assert!(!pinned(&lines, MOVING) && pinned(&lines, CNI), "{lines}");
}

#[test]
fn sizes_that_are_lost_because_nobody_asked_for_them_are_told() {
    let shelf = Shelf::new();
    let path = shelf.path("mine.json");
    let pin = |more: &[&str]| shelf.program("pin").args(&[&path]).args(more).run().expect(0);
    pin(&["--platforms"]);
    put_cni(&shelf, &two_platforms(77));
    let mut content = Content::new();
    content.add("library/alpine", "3", &two_platforms(78));
    shelf.source.add(&content);
    let told = pin(&[]).stdout;
    for source in [CNI, MOVING] {
        let line = told.lines().find(|line| line.contains(source)).unwrap_or_else(|| panic!("{told}"));
        assert!(line.ends_with("its platforms are not recorded any more, which --platforms does"), "{line}");
    }
    assert!(told.contains(", 2 without the platforms that they had"), "{told}");
    let completed = pin(&["--platforms"]).stdout;
    let sums = "11 images: 0 new, 8 kept, 2 completed by their platforms, 1 gone as the catalog says\n";
    assert!(completed.ends_with(sums), "{completed}");
}

#[test]
fn two_that_record_into_one_file_lose_nothing() {
    let shelf = Shelf::new();
    let path = shelf.pins(&[json!({"source": "quay.io/acme/left:v1", "digest": OTHER})]);
    let other = shelf.path("other.yaml");
    let catalog =
        super::CATALOG.replace("SOURCE", &shelf.source.host()).replace("acme/cni:v1", "acme/other:v1");
    std::fs::write(&other, catalog).unwrap();
    let mut content = Content::new();
    content.add("acme/other", "v1", &two_platforms(55));
    shelf.source.add(&content);
    // The first one is slow, and the second one ends before it.
    let slow = Fault::DelayHeaders(Duration::from_secs(4));
    shelf.source.fault(on(Op::ManifestHead).repo("acme/cni").then(slow));
    let first = shelf.program("pin").args(&[&path]).start();
    let patience = Instant::now() + Duration::from_secs(20);
    while !shelf.net.journal().of("source", Op::ManifestHead).iter().any(|head| head.repository == "acme/cni")
    {
        assert!(Instant::now() < patience);
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut second = vec![path.as_str(), "--platforms", "--prune"];
    let mirrors: Vec<String> =
        shelf.hosts.iter().map(|host| format!("--source-mirror={host}={}", shelf.source.host())).collect();
    second.extend(mirrors.iter().map(String::as_str));
    Program::new(&["catalog", "pin", "--catalog", &other]).args(&second).run().expect(0);
    assert!(Instant::now() < patience);
    first.wait().expect(0);
    let pins = Pins::read(path.as_ref()).unwrap();
    let has = |source: &str| pins.get(&source.parse().unwrap()).cloned();
    assert!(has(CNI).is_some() && has("quay.io/acme/other:v1").is_some());
    assert!(has("quay.io/acme/left:v1").is_none(), "what the second has removed comes back");
    // And of one digest the record stays that tells more.
    assert_eq!(has("registry.k8s.io/pause:3.99").unwrap().platforms.len(), 2);
}

#[test]
fn whoever_writes_records_waits_for_another_to_have_written() {
    let shelf = Shelf::new();
    let path = shelf.pins(&[]);
    let directory = std::fs::File::open(shelf.directory.path()).unwrap();
    directory.lock().unwrap();
    let mut running = shelf.program("pin").args(&[&path]).start();
    let patience = Instant::now() + Duration::from_secs(20);
    while shelf.net.journal().of("source", Op::ManifestHead).iter().filter(|head| head.done.is_some()).count()
        < 10
    {
        assert!(Instant::now() < patience);
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(running.child.try_wait().unwrap().is_none(), "it has not waited");
    // What the other one writes by then is not lost.
    shelf.pins(&[json!({"source": "quay.io/acme/left:v1", "digest": OTHER})]);
    drop(directory);
    running.wait().expect(0);
    let pins = Pins::read(path.as_ref()).unwrap();
    assert!(pins.digest(CNI).is_some() && pins.digest("quay.io/acme/left:v1").is_some());
}
