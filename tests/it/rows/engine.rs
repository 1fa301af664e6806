//! What one repository, one media type, one manifest or one blob has wrong is its own and nobody else's; and what is
//! there already is not sent.

use std::time::Duration;

use mirror_images::output::report::Exit;

use crate::scene::{Scene, parameter};
use crate::support::content::Child;
use crate::support::fault::any;
use crate::support::registry::Auth;
use crate::support::{Blob, Content, Fault, Image, Kind, Net, Op, on};

/// So many images in repositories of their own, `many/r00` and on, of the kind that their number says.
fn many(count: usize, kind: impl Fn(usize) -> Kind) -> Vec<(&'static str, Image)> {
    let name = |n: usize| &*Box::leak(format!("quay.io/many/r{n:02}:1").into_boxed_str());
    (0..count).map(|n| (name(n), Image::generated(kind(n), 500 + n as u64, &[3_000]))).collect()
}

/// All but so many were copied, and that is no reason to give anything up.
#[track_caller]
fn assert_failed_alone(scene: &Scene, failed: usize) {
    let run = scene.run();
    let copied = scene.references.len() - failed;
    assert_eq!((run.report.copied, run.report.failed), (copied, failed), "{}", run.report);
    assert_eq!(run.report.exit(), Exit::SomeFailed);
}

#[test]
fn three_repositories_that_cannot_be_asked_for_fail_alone() {
    let scene = Scene::new(&many(30, |_| Kind::Oci)).retries(1);
    for name in ["many/r00", "many/r01", "many/r02"] {
        scene.target.fault(on(Op::ManifestHead).repo(name).then(Fault::Status(500)));
    }
    assert_failed_alone(&scene, 3);
}

#[test]
fn a_media_type_that_is_refused_fails_the_images_of_that_type() {
    for refused in ["vnd.oci", "vnd.docker"] {
        let kind = |n| if (n < 10) == (refused == "vnd.oci") { Kind::Oci } else { Kind::Docker };
        let scene = Scene::new(&many(20, kind));
        let is_refused = move |call: &crate::support::net::call::Call| {
            call.header("content-type").is_some_and(|media_type| media_type.contains(refused))
        };
        scene.target.fault(on(Op::ManifestPut).when(is_refused).then(Fault::Status(415)));
        assert_failed_alone(&scene, 10);
    }
}

#[test]
fn three_projects_that_are_missing_fail_alone_though_the_answer_is_401() {
    let scene = Scene::new(&many(12, |_| Kind::Oci));
    for name in ["many/r00", "many/r01", "many/r02"] {
        let refusal = Fault::Status(401).error("UNAUTHORIZED", "project not found");
        scene.target.fault(any().repo(name).then(refusal));
    }
    assert_failed_alone(&scene, 3);
}

#[test]
fn three_blobs_that_are_not_taken_fail_their_images_while_others_land() {
    let images = many(30, |_| Kind::Oci);
    let scene = Scene::new(&images).retries(1);
    for (_, image) in &images[..3] {
        let digest = &image.blobs[1].digest;
        scene.target.fault(on(Op::UploadPut).digest(digest).then(Fault::Status(500)));
    }
    assert_failed_alone(&scene, 3);
}

#[test]
fn a_login_that_one_repository_refuses_is_shown_to_the_next() {
    let scene = Scene::with(Net::new(), &many(12, |_| Kind::Oci), |s| s, |t| t.auth(Auth::basic("u", "p")));
    let refusal = Fault::Status(401).header("WWW-Authenticate", "Basic realm=\"test registry\"");
    scene.target.fault(any().repo("many/r00").then(refusal));
    let host = scene.target.host();
    assert_failed_alone(&scene.login(&host, "u", "p"), 1);
}

#[test]
fn a_manifest_that_lies_about_the_size_of_a_blob_fails_alone() {
    let base = Blob::generated(700, 40_000);
    let image = |n: u64| {
        let config = Blob::literal(format!("{{\"n\":{n}}}"));
        Image::single(Kind::Oci, config, vec![base.clone()])
    };
    let honest = image(1);
    let mut lie: serde_json::Value = serde_json::from_slice(&honest.manifest.bytes).unwrap();
    for size in [39_999, 40_001] {
        lie["layers"][0]["size"] = size.into();
        let liar = Image::from_value(&honest.manifest.media_type, &lie, honest.blobs.clone(), vec![]);
        let images = [
            ("quay.io/liar/a:1", liar),
            ("docker.io/honest/a:1", honest.clone()),
            ("ghcr.io/honest/b:1", image(2)),
        ];
        let scene = Scene::new(&images).retries(1);
        let cause = scene.run().failed_alone("liar/a");
        assert!(!cause.contains("disagree"), "{cause}");
    }
}

/// An index of so many manifests with 40,000 layers each, none of which exists.
pub fn endless(manifests: usize) -> Image {
    let children = (0..manifests).map(|n| {
        let layers: Vec<String> = (0..40_000)
            .map(|layer| format!("{{\"digest\":\"sha256:{:064x}\",\"size\":1}}", (n << 20) + layer))
            .collect();
        let config = format!("{{\"digest\":\"sha256:{:064x}\",\"size\":1}}", 1_u64 << 60);
        let bytes = format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[{}]}}", layers.join(","));
        Image::raw("application/vnd.oci.image.manifest.v1+json", bytes, vec![], vec![])
    });
    Image::index(Kind::Oci, children.map(Child::plain).collect())
}

#[test]
fn an_image_of_too_many_blobs_fails_before_all_its_manifests_are_fetched() {
    let images =
        [("quay.io/endless/a:1", endless(8)), ("quay.io/good/b:1", Image::generated(Kind::Oci, 1, &[900]))];
    let scene = Scene::new(&images);
    let cause = scene.run().failed_alone("endless/a");
    assert!(cause.contains("over 100000"), "{cause}");
    let fetched = scene.journal().filter(|e| e.op == Op::ManifestGet && e.repository == "endless/a").len();
    assert!(fetched <= 4, "{fetched} manifests were fetched");
}

#[test]
fn what_another_path_of_the_target_has_is_mounted_and_not_sent() {
    for with_tokens in [false, true] {
        let net = Net::new();
        let tokens = net.token_service("auth").user("u", "p").start();
        let auth = || if with_tokens { Auth::Token(tokens.clone()) } else { Auth::None };
        let images = crate::scene::two(2_000_000);
        let mut content = Content::new();
        content.add("group/first", "1", &images[0].1).add("group/second", "1", &images[1].1);
        let scene = Scene::with(net, &images, |s| s, |t| t.content(&content).auth(auth()));
        let host = scene.target.host();
        let at = format!("http://{host}");
        let scene = scene.elsewhere_at("quay.io", &at).login(&host, "u", "p");
        // The same names: nothing is to be done.
        assert_eq!(scene.run().done().report.present, 2);
        scene.journal().assert_read_only();
        let scene = scene.below("mirror");
        let report = scene.run().done().report;
        let sent =
            [Op::UploadPut, Op::UploadPatch, Op::BlobGet].map(|op| scene.journal().count("target", op));
        assert_eq!((report.copied, sent), (2, [0; 3]), "{}", scene.journal().dump());
        let mounts = scene.journal().of("target", Op::Mount);
        let from: Vec<String> = mounts.iter().filter_map(|mount| parameter(mount, "from")).collect();
        assert_eq!(from.len(), 6, "{from:?}");
        assert_eq!(scene.journal().requests("source"), 0);
    }
}

#[test]
fn a_manifest_that_is_taken_and_damaged_all_the_same_is_found_out_before_it_gets_a_tag() {
    let index = |seed: u64| {
        let child = |n| {
            Child::platform(
                ["linux/amd64", "linux/arm64"][n],
                Image::generated(Kind::Oci, seed + n as u64, &[900]),
            )
        };
        Image::index(Kind::Oci, vec![child(0), child(1)])
    };
    let images = [("quay.io/group/first:1", index(10)), ("quay.io/group/second:1", index(20))];
    for damaged in [images[0].1.children[1].digest(), images[0].1.digest()] {
        let scene = Scene::new(&images).retries(1);
        scene.run().done();
        assert_eq!(
            scene.journal().count("target", Op::ManifestHead),
            2,
            "a fresh target costs no question more"
        );
        // As after a disk that was full: blobs are there, and manifests are not.
        for (reference, image) in &images {
            let (repository, _) = crate::scene::place_of(reference);
            image
                .manifests()
                .iter()
                .for_each(|manifest| scene.target.delete_manifest(&repository, &manifest.digest));
        }
        scene.journal().clear();
        scene.target.fault(on(Op::ManifestHead).tag(&damaged).then(Fault::Status(500)));
        let cause = scene.run().failed_alone("group/first");
        assert!(cause.contains(&format!("delete group/first@{damaged} there")), "{cause}");
        scene.journal().clear();
        scene.heal();
    }
}

/// Two indexes with a manifest in common, which has a tag of its own too, as `app:1-amd64` has beside `app:1`.
#[test]
fn a_manifest_below_two_indexes_that_has_a_tag_of_its_own_keeps_none_of_them_waiting() {
    let part = |seed| Image::generated(Kind::Oci, seed, &[900]);
    let index = |other| {
        let parts =
            vec![Child::platform("linux/amd64", part(1)), Child::platform("linux/arm64", part(other))];
        Image::index(Kind::Oci, parts)
    };
    let images = [
        ("quay.io/group/app:1", index(2)),
        ("quay.io/group/app:2", index(3)),
        ("quay.io/group/app:1-amd64", part(1)),
    ];
    let scene = Scene::new(&images);
    // The tag is there while the first index puts the manifest and the second waits for that.
    let shared = on(Op::ManifestPut).when(|call| call.reference.contains(':'));
    scene.target.fault(shared.then(Fault::DelayHeaders(Duration::from_millis(600))));
    scene
        .target
        .fault(on(Op::ManifestPut).tag("1-amd64").then(Fault::DelayHeaders(Duration::from_millis(200))));
    let run = scene.run().done();
    assert_eq!(run.report.copied, 3, "{}", run.report);
}

/// As where a file in the registry's storage is damaged: it is named, and what else may answer so is not.
#[test]
fn a_root_that_is_damaged_at_the_target_is_named_with_what_helps() {
    let image = Image::generated(Kind::Oci, 5, &[900]);
    let digest = image.digest();
    for whole_repository in [false, true] {
        for repairs in [false, true] {
            let images = [("quay.io/group/app:1", image.clone()), ("quay.io/group/other:1", image.clone())];
            let scene = Scene::new(&images).retries(0);
            scene.run().done();
            let scene = if repairs { scene.flag("--repair") } else { scene };
            let broken = on(Op::ManifestHead).repo("group/app");
            let name = digest.clone();
            let broken =
                broken.when(move |call| whole_repository || call.reference == "1" || call.reference == name);
            scene.target.fault(broken.then(Fault::Status(500)));
            scene.journal().clear();
            let cause = scene.run().failed_alone("group/app");
            let is_named = cause.contains(&format!("delete group/app@{digest} there"));
            assert_eq!(is_named, !whole_repository, "{cause}");
        }
    }
}
