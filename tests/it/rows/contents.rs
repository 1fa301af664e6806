//! E: manifests and the shapes of content.

use std::time::Duration;

use serde_json::{Value, json};

use mirror_images::output::report::Exit;

use crate::scene::{Scene, gets_of, two};
use crate::support::content::{Child, media, odd_shapes};
use crate::support::{Blob, Content, Fault, Image, Kind, Net, Op, on};

fn image(seed: u64) -> Image {
    Image::generated(Kind::Oci, seed, &[4_000, 900])
}

/// A manifest with one changed part.
fn changed(seed: u64, change: impl FnOnce(&mut Value)) -> Image {
    let plain = image(seed);
    let mut value: Value = serde_json::from_slice(&plain.manifest.bytes).unwrap();
    change(&mut value);
    Image::from_value(media::OCI_MANIFEST, &value, plain.blobs, vec![])
}

#[test]
fn e01_a_pinned_image_is_pulled_by_its_digest_and_pushed_under_its_tag() {
    let (pinned, newer) = (image(1), image(2));
    let reference: &'static str = format!("quay.io/cilium/cilium:v1.19.6@{}", pinned.digest()).leak();
    let scene = Scene::new(&[(reference, pinned.clone())]);
    let mut content = crate::support::Content::new();
    content.add("cilium/cilium", "v1.19.6", &newer);
    scene.source.add(&content);
    scene.run().done();
    assert_eq!(scene.target.digest_of("cilium/cilium", "v1.19.6"), Some(pinned.digest()));
    assert!(scene.target.content().repositories["cilium/cilium"].manifests.contains(&pinned.digest()));
    let by_tag = scene.journal().filter(|e| e.host == "source" && e.reference == "v1.19.6");
    assert!(by_tag.is_empty(), "{}", scene.journal().dump());
    // A registry that gives something else for the digest gets nowhere.
    let scene = Scene::new(&[(reference, pinned)]);
    let other = Fault::Status(200).body(media::OCI_MANIFEST, newer.manifest.bytes.clone());
    scene.source.fault(on(Op::ManifestGet).then(other));
    let cause = scene.run().failed_alone("cilium/cilium");
    assert!(cause.contains("digest"), "{cause}");
}

/// Two images of two platforms each, for one tag; they share nothing.
fn two_versions() -> (Image, Image) {
    let version = |seed| {
        let children = vec![
            Child::platform("linux/amd64", image(seed)),
            Child::platform("linux/arm64", image(seed + 1)),
        ];
        Image::index(Kind::Oci, children)
    };
    (version(10), version(20))
}

#[test]
fn e03_a_tag_that_moves_meanwhile_gives_one_image_and_never_a_mix() {
    let (old, new) = two_versions();
    for (op, to) in [(Op::ManifestHead, &new), (Op::ManifestGet, &old)] {
        let scene = Scene::new(&[("quay.io/group/moving:1", old.clone())]);
        let mut content = crate::support::Content::new();
        content.add_untagged("group/moving", &new);
        scene.source.add(&content);
        // Something is there already, so that a HEAD asks whether it is the same.
        let mut before = crate::support::Content::new();
        before.add("group/moving", "1", &image(99));
        scene.target.add(&before);
        scene.source.fault(on(op).tag("1").times(1).then(Fault::MoveTag(new.digest())));
        let report = scene.run_unjudged();
        assert_eq!(report.copied, 1, "{report}");
        assert_eq!(scene.target.digest_of("group/moving", "1"), Some(to.digest()), "{op:?}");
        assert_eq!(scene.target.incomplete_tags(), Vec::<String>::new());
        let gets = scene.journal().of("source", Op::ManifestGet);
        assert_eq!(gets.iter().filter(|get| get.reference == "1").count(), 1, "the rest is by digest");
        scene.journal().assert_tag_last("target");
    }
}

#[test]
fn e03_a_digest_that_head_tells_is_a_hint_and_the_bytes_are_what_counts() {
    let images = two(900);
    let scene = Scene::new(&images);
    let lie = format!("sha256:{}", "0".repeat(64));
    let lying = |op| on(op).repo("group/first").then(Fault::SetHeader("Docker-Content-Digest", lie.clone()));
    scene.source.fault(lying(Op::ManifestHead));
    scene.run().done();
    scene.run().done();
    // Of the very bytes that come with it, it is none.
    let scene = Scene::new(&images);
    scene.source.fault(lying(Op::ManifestGet));
    scene.run().failed_alone("group/first");
}

#[test]
fn e05_an_index_with_a_missing_child_fails_whole_and_names_the_platform() {
    let (broken, whole) = two_versions();
    let child = broken.children[1].digest();
    let images = [("quay.io/group/broken:1", broken.clone()), ("quay.io/group/whole:1", whole)];
    let scene = Scene::new(&images);
    let mut before = crate::support::Content::new();
    before.add("group/broken", "1", &image(98));
    scene.target.add(&before);
    scene.source.delete_manifest("group/broken", &child);
    let cause = scene.run().failed_alone("group/broken");
    assert!(cause.contains(&child) && cause.contains("linux/arm64"), "{cause}");
    assert!(!scene.target.content().repositories["group/broken"].manifests.contains(&broken.digest()));
    scene.source.add(&scene.content);
    scene.heal();
}

#[test]
fn e05_an_index_whose_childs_blob_is_gone_fails_whole() {
    let (broken, whole) = two_versions();
    let layer = broken.children[1].blobs[1].digest.clone();
    let images = [("quay.io/group/broken:1", broken), ("quay.io/group/whole:1", whole)];
    let scene = Scene::new(&images);
    scene.source.delete_blob(&layer);
    let cause = scene.run().failed_alone("group/broken");
    assert!(cause.contains(&layer) && cause.contains("404"), "{cause}");
    assert_eq!(scene.target.digest_of("group/broken", "1"), None);
    scene.source.add(&scene.content);
    scene.heal();
}

/// An image with one layer that is elsewhere.
#[test]
fn e08_every_shape_arrives_byte_for_byte_at_every_level() {
    let shapes = odd_shapes();
    let images: Vec<(&'static str, Image)> = shapes
        .iter()
        .map(|shape| {
            let reference: &'static str = format!("quay.io/shapes/{0}:{0}", shape.name).leak();
            (reference, shape.image.clone())
        })
        .collect();
    let scene = Scene::new(&images);
    // The judge compares digests from the root down, so that one byte's difference would be seen.
    scene.run().done();
    for manifest in scene.content.manifests.values() {
        let there = scene.target.manifest(&manifest.digest).expect("every level is there");
        assert_eq!(there, *manifest, "bytes and type");
    }
}

#[test]
fn e08_a_shape_that_the_target_refuses_is_not_made_to_fit() {
    let images = [("quay.io/group/first:1", image(1)), ("quay.io/group/second:1", image(2))];
    let scene = Scene::new(&images);
    let refusal = Fault::Status(400).error("MANIFEST_INVALID", "manifest invalid");
    scene.target.fault(on(Op::ManifestPut).repo("group/first").then(refusal));
    scene.run().failed_alone("group/first");
    let puts = scene.journal().filter(|e| e.op == Op::ManifestPut && e.repository == "group/first");
    let length = images[0].1.manifest.bytes.len().to_string();
    assert_eq!(puts.len(), 1);
    assert_eq!(puts[0].header("content-length"), Some(length.as_str()));
    assert_eq!(puts[0].header("content-type"), Some(media::OCI_MANIFEST));
}

#[test]
fn e09_a_target_that_does_not_take_a_type_fails_that_image_and_names_the_type() {
    let (index, _) = two_versions();
    for refusal in [
        Fault::Status(415),
        Fault::Status(400).error("MANIFEST_INVALID", "unknown media type"),
        Fault::Status(404).error("NOT_FOUND", "no"),
    ] {
        let images = [("quay.io/group/index:1", index.clone()), ("quay.io/group/plain:1", image(3))];
        let scene = Scene::new(&images);
        let oci =
            |call: &crate::support::net::call::Call| call.header("content-type") == Some(media::OCI_INDEX);
        scene.target.fault(on(Op::ManifestPut).when(oci).then(refusal));
        let cause = scene.run().failed_alone("group/index");
        assert!(cause.contains(media::OCI_INDEX), "{cause}");
        let types = scene.journal().of("target", Op::ManifestPut).into_iter();
        let roots = types.filter(|put| put.repository == "group/index" && put.is_tag_put());
        assert!(roots.into_iter().all(|put| put.header("content-type") == Some(media::OCI_INDEX)));
    }
}

#[test]
fn e10_schema_1_is_refused_with_advice() {
    let bytes = r#"{"schemaVersion":1,"name":"a","tag":"1","architecture":"amd64","fsLayers":[{"blobSum":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}],"history":[],"signatures":[]}"#;
    for kind in ["v1+json", "v1+prettyjws"] {
        let scene = Scene::new(&[("quay.io/group/first:1", image(1)), ("quay.io/group/second:1", image(2))]);
        let kind = format!("application/vnd.docker.distribution.manifest.{kind}");
        let answer = Fault::Status(200).body(&kind, bytes);
        scene.source.fault(on(Op::ManifestGet).repo("group/first").then(answer));
        let cause = scene.run().failed_alone("group/first");
        assert!(cause.contains("schema 1") && cause.contains("group/first"), "{cause}");
        let writes = scene.journal().writes();
        assert!(writes.iter().all(|write| write.repository != "group/first"), "{}", scene.journal().dump());
    }
}

#[test]
fn e11_what_is_the_same_costs_one_question_and_what_differs_is_replaced() {
    let images = two(9_000);
    let scene = Scene::new(&images);
    scene.run().done();
    scene.journal().clear();
    let again = scene.run().done();
    assert_eq!(again.report.present, 2);
    assert_eq!(
        (scene.journal().count("target", Op::ManifestHead), scene.journal().requests("target")),
        (2, 2)
    );
    let mut scene = scene;
    scene.content.add("group/first", "1", &image(7));
    scene.source.add(&scene.content);
    scene.journal().clear();
    let run = scene.run().done();
    assert_eq!((run.report.copied, run.report.present), (1, 1));
}

#[test]
fn e11_a_tag_that_may_not_be_changed_is_said_to_be_immutable() {
    let refusals = [
        Fault::Status(400).error(
            "TAG_INVALID",
            "The image tag '1' already exists and cannot be overwritten because the repository is immutable.",
        ),
        Fault::Status(409).error("CONFLICT", "tag is immutable"),
        Fault::Status(412).error("PRECONDITION", "configured as immutable"),
    ];
    for refusal in refusals {
        let scene = Scene::new(&two(9_000));
        scene.target.fault(on(Op::ManifestPut).repo("group/first").tag("1").then(refusal));
        let cause = scene.run().failed_alone("group/first");
        assert!(cause.contains("immutable"), "{cause}");
        let puts = scene.journal().filter(|e| e.op == Op::ManifestPut && e.repository == "group/first");
        assert_eq!(puts.len(), 1);
    }
}

#[test]
fn e11_what_the_target_has_is_left_alone_if_the_user_wants_that() {
    let images = two(9_000);
    let scene = Scene::new(&images).flag("--no-clobber");
    let other = image(7);
    let mut content = Content::new();
    content.add("group/first", "1", &other);
    scene.target.add(&content);
    let run = scene.run();
    let cause = run.failed_alone("group/first");
    assert!(cause.contains(&other.digest()) && cause.contains("--no-clobber"), "{cause}");
    assert_eq!((run.report.copied, run.report.exit()), (1, Exit::SomeFailed));
    let written = scene.journal().filter(|e| e.host == "target" && e.repository == "group/first");
    // What is there is looked at, for the blobs that it has.
    let reads = [Op::ManifestHead, Op::ManifestGet];
    assert!(written.iter().all(|e| reads.contains(&e.op)), "{}", scene.journal().dump());
    // What is the same is there, and no failure.
    let again = scene.run();
    assert_eq!((again.report.present, again.report.failed), (1, 1));
}

#[test]
fn e11_a_target_that_does_not_let_us_see_is_not_written_to_blindly() {
    let scene = Scene::new(&two(9_000)).flag("--no-clobber");
    scene.target.fault(on(Op::ManifestHead).repo("group/first").then(Fault::Status(403)));
    let cause = scene.run().failed_alone("group/first");
    assert!(cause.contains("403"), "{cause}");
    assert_eq!(scene.target.digest_of("group/first", "1"), None);
}

#[test]
fn e12_one_source_twice_is_one_image() {
    let image = image(5);
    let scene = Scene::new(&[("docker.io/library/alpine:3", image)]);
    let target = scene.target.host();
    let mirror = format!("--source-mirror=docker.io={}", scene.source.url());
    let names =
        ["--image", "alpine:3", "--image", "docker.io/alpine:3", "--image", "docker.io/library/alpine:3"];
    let program = crate::program::Program::new(&[&target, &mirror, "-o", "json"]).args(&names);
    let ended = program.run().expect(0);
    assert_eq!((ended.number("copied"), ended.report()["images"].as_array().unwrap().len()), (1, 1));
}

#[test]
fn e12_two_sources_for_one_name_are_refused_before_the_first_request() {
    let net = Net::new();
    let target = net.registry("target").start();
    let names = ["--image", "quay.io/a/b:v1", "--image", "ghcr.io/a/b:v1"];
    let ended = crate::program::Program::new(&[&target.host()]).args(&names).run().expect(2);
    assert!(ended.stderr.contains("quay.io/a/b:v1") && ended.stderr.contains("ghcr.io/a/b:v1"), "{ended:?}");
    assert_eq!(net.journal().entries().len(), 0);
}

#[test]
fn e13_a_manifest_that_contradicts_itself_or_its_header_is_refused() {
    let both = changed(1, |value| value["manifests"] = json!([]));
    let other = changed(2, |value| value["mediaType"] = media::DOCKER_MANIFEST.into());
    for image in [both, other] {
        let scene = Scene::new(&[("quay.io/group/odd:1", image), ("quay.io/group/plain:1", self::image(3))]);
        let cause = scene.run().failed_alone("group/odd");
        assert!(cause.contains("ambiguous"), "{cause}");
        let writes = scene.journal().writes();
        assert!(writes.iter().all(|write| write.repository != "group/odd"), "{}", scene.journal().dump());
    }
}

#[test]
fn e13_a_header_that_says_nothing_is_passed_over() {
    let types = ["text/plain", "application/json", "application/octet-stream"];
    let with_parameter = format!("{}; charset=utf-8", media::OCI_MANIFEST);
    for header in types.iter().copied().chain([with_parameter.as_str()]) {
        let scene = Scene::new(&two(900));
        let fault = Fault::SetHeader("Content-Type", header.to_owned());
        scene.source.fault(on(Op::ManifestGet).then(fault));
        scene.run().done();
    }
    let scene = Scene::new(&two(900));
    scene.source.fault(on(Op::ManifestGet).then(Fault::RemoveHeader("content-type")));
    scene.run().done();
}

#[test]
fn e14_heads_that_are_odd_are_made_up_for_by_one_get() {
    let faults = || {
        vec![
            Fault::Status(405),
            Fault::RemoveHeader("content-length"),
            Fault::RemoveHeader("docker-content-digest"),
            Fault::RemoveHeader("content-type"),
            Fault::SetHeader("Docker-Content-Digest", format!("sha512:{}", "0".repeat(128))),
            Fault::SetHeader("Docker-Content-Digest", format!("sha256:{}", "0".repeat(64))),
            Fault::SetHeader("Docker-Content-Digest", "nonsense".to_owned()),
        ]
    };
    for (n, fault) in faults().into_iter().enumerate() {
        for at_source in [true, false] {
            let scene = Scene::new(&two(900));
            scene.run().done();
            scene.journal().clear();
            let registry = if at_source { &scene.source } else { &scene.target };
            registry.fault(on(Op::ManifestHead).then(fault.clone()));
            // A lie at the target may cost a copy, never the image.
            scene.run().done();
            let gets = scene.journal().count(if at_source { "source" } else { "target" }, Op::ManifestGet);
            assert!(gets <= 2, "fault {n}: {}", scene.journal().dump());
            assert_eq!(scene.journal().count("target", Op::UploadPut), 0, "fault {n}");
        }
    }
}

#[test]
fn e14_a_head_that_denies_what_a_get_gives_is_not_believed_at_the_source() {
    let scene = Scene::new(&two(900));
    scene.run().done();
    scene.source.fault(on(Op::ManifestHead).then(Fault::Status(404)));
    assert_eq!(scene.run().done().report.present, 2);
    // The target's word costs at most a push of manifests.
    let scene = Scene::new(&two(900));
    scene.run().done();
    scene.journal().clear();
    scene.target.fault(on(Op::ManifestHead).then(Fault::Status(404)));
    scene.run().done();
    assert_eq!(scene.journal().count("target", Op::UploadPut), 0);
}

#[test]
fn e15_a_digest_that_is_none_is_refused_before_any_request_with_it() {
    let short = format!("sha256:{}", "a".repeat(63));
    let upper = format!("sha256:{}", "A".repeat(64));
    let long = format!("sha256:{}", "a".repeat(10_000));
    let odd = ["sha256:../../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e", &short, &upper, &long];
    for digest in odd {
        let bad = changed(1, |value| value["layers"][0]["digest"] = digest.into());
        let scene = Scene::new(&[("quay.io/group/odd:1", bad), ("quay.io/group/plain:1", image(3))]);
        scene.run().failed_alone("group/odd");
        let asked = scene.journal().filter(|e| e.repository == "group/odd" && e.op != Op::ManifestGet);
        assert!(asked.iter().all(|e| e.op == Op::ManifestHead), "{}", scene.journal().dump());
        assert!(scene.journal().entries().iter().all(|e| !e.path.contains("..") && e.path.len() < 300));
    }
}

#[test]
fn e15_sha512_digests_are_kept_and_verified() {
    let layer = Blob::generated(31, 3_000);
    let bytes = layer.bytes();
    let sha512 =
        crate::support::digest::same_algorithm(&format!("sha512:{}", "0".repeat(128)), &bytes).unwrap();
    let named = Blob::stored(&sha512, bytes);
    let image = Image::single(Kind::Oci, Blob::literal("{}"), vec![named]);
    let scene = Scene::new(&[("quay.io/group/long:1", image)]);
    scene.source.fault(on(Op::BlobGet).digest(&sha512).times(1).then(Fault::FlipByte { at: 5 }));
    let report = scene.run_unjudged();
    assert_eq!(report.copied, 1, "{report}");
    assert_eq!(gets_of(scene.journal(), &sha512).len(), 2, "the flipped byte was seen");
    assert_eq!(scene.target.incomplete_tags(), Vec::<String>::new());
}

#[test]
fn e16_manifests_beyond_all_measure_are_refused_soon() {
    let padded = |bytes: usize| changed(1, |value| value["annotations"] = json!({ "p": "x".repeat(bytes) }));
    let over = padded(4 << 20);
    let many = {
        let entry = |n: u64| json!({ "digest": format!("sha256:{n:064x}"), "size": 1 });
        let value = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX,
            "manifests": (0..2_500).map(entry).collect::<Vec<_>>() });
        Image::from_value(media::OCI_INDEX, &value, vec![], vec![])
    };
    for odd in [over, many] {
        let scene = Scene::new(&[("quay.io/group/odd:1", odd), ("quay.io/group/plain:1", image(3))]);
        let run = scene.run();
        run.failed_alone("group/odd");
        assert!(run.took < Duration::from_secs(3), "{:?}", run.took);
    }
    let scene = Scene::new(&[("quay.io/group/odd:1", image(1)), ("quay.io/group/plain:1", image(3))]);
    scene.source.fault(on(Op::ManifestGet).repo("group/odd").then(Fault::Endless));
    let run = scene.run();
    run.failed_alone("group/odd");
    assert!(run.took < Duration::from_secs(3), "{:?}", run.took);
}

#[test]
fn e16_a_larger_manifest_is_read_if_the_user_allows_it() {
    let large = changed(1, |value| value["annotations"] = json!({ "p": "x".repeat(5 << 20) }));
    let scene = Scene::new(&[("quay.io/group/large:1", large)]);
    scene.target.take_manifests_up_to(8 << 20);
    let cause = scene.run().failed_alone("group/large");
    assert!(cause.contains("--max-manifest-size"), "{cause}");
    scene.flag("--max-manifest-size=8").run().done();
}

#[test]
fn e16_indexes_are_followed_eight_levels_deep_and_each_once() {
    let nested = |levels: usize| {
        let leaf = Image::index(Kind::Oci, vec![Child::plain(image(1))]);
        (0..levels).fold(leaf, |below, _| Image::index(Kind::Oci, vec![Child::plain(below)]))
    };
    let scene = Scene::new(&[("quay.io/group/deep:1", nested(30)), ("quay.io/group/plain:1", image(3))]);
    scene.run().failed_alone("group/deep");
    assert!(scene.journal().count("source", Op::ManifestGet) <= 12, "{}", scene.journal().dump());
    // Two ways at each level: 2^5 ways to the leaf, which is fetched once.
    let leaf = Image::index(Kind::Oci, vec![Child::plain(image(1))]);
    let diamond = (0..5).fold(leaf, |below, n| {
        let detour = Image::index(Kind::Docker, vec![Child::plain(below.clone())]);
        match n % 2 {
            0 => Image::index(Kind::Oci, vec![Child::plain(below.clone()), Child::plain(below)]),
            _ => Image::index(Kind::Oci, vec![Child::plain(below), Child::plain(detour)]),
        }
    });
    let scene = Scene::new(&[("quay.io/group/diamond:1", diamond)]);
    scene.run().done();
    let mut gets: Vec<String> =
        scene.journal().of("source", Op::ManifestGet).into_iter().map(|get| get.reference).collect();
    gets.sort();
    assert!(gets.windows(2).all(|pair| pair[0] != pair[1]), "{gets:?}");
}

#[test]
fn e17_configurations_are_bytes_like_all_others() {
    for config in ["not json at all", "{}", "[1,2", "{\"rootfs\":null}"] {
        let odd = Image::single(Kind::Oci, Blob::literal(config), vec![Blob::generated(1, 100)]);
        let scene = Scene::new(&[("quay.io/group/odd:1", odd)]);
        scene.run().done();
    }
    // But a size that lies would make the copy look damaged for ever.
    let lie = changed(1, |value| value["config"]["size"] = 7.into());
    let scene = Scene::new(&[("quay.io/group/odd:1", lie), ("quay.io/group/plain:1", image(3))]);
    scene.run().failed_alone("group/odd");
}

#[test]
fn e18_every_manifest_is_asked_for_with_all_types_in_one_header() {
    let (index, _) = two_versions();
    let scene = Scene::new(&[("quay.io/group/index:1", index)]);
    scene.run().done();
    scene.run().done();
    let asked =
        scene.journal().filter(|e| matches!(e.op, Op::ManifestGet | Op::ManifestHead) && e.host != "judge");
    assert!(!asked.is_empty());
    for entry in asked {
        let values: Vec<_> = entry.headers.get_all("accept").iter().collect();
        assert_eq!(values.len(), 1);
        let list = values[0].to_str().unwrap();
        for media_type in [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_LIST, media::DOCKER_MANIFEST]
        {
            assert!(list.contains(media_type), "{list}");
        }
        let last = list.rsplit(',').next().unwrap().trim();
        assert!(last.starts_with("*/*"), "{list}");
    }
}
