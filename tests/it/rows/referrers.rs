//! E19: signatures, SBOMs and whatever else refers to an image.

use mirror_images::output::report::{Exit, Report, Status};
use serde_json::{Value, json};

use crate::program::Program;
use crate::scene::Scene;
use crate::support::content::{Child, load, media};
use crate::support::process::{DockerRegistry, Setup, require, skopeo};
use crate::support::{Blob, Content, Fault, Image, Kind, Net, Op, on};

const NAME: &str = "quay.io/group/app:1";
const REPOSITORY: &str = "group/app";

/// An artifact about another manifest.
fn about(subject: &Image, seed: u64) -> Image {
    let config = Blob::literal("{}");
    let layer = Blob::generated(seed, 700);
    let described = |blob: &Blob, media_type: &str| json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.size });
    let value = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "artifactType": "application/vnd.example.signature",
        "config": described(&config, "application/vnd.oci.empty.v1+json"),
        "layers": [described(&layer, "application/octet-stream")],
        "subject": subject.descriptor(),
        "annotations": { "made": format!("{seed}") },
    });
    Image::from_value(media::OCI_MANIFEST, &value, vec![config, layer], vec![])
}

/// An image of two platforms, one of them, a signature of the whole, an SBOM of the one, and a signature of that.
struct Signed {
    index: Image,
    signature: Image,
    sbom: Image,
    countersignature: Image,
    platform: Image,
}

impl Signed {
    fn new() -> Self {
        let platform = Image::generated(Kind::Oci, 1, &[4_000]);
        let children = vec![
            Child::platform("linux/amd64", platform.clone()),
            Child::platform("linux/arm64", Image::generated(Kind::Oci, 2, &[4_000])),
        ];
        let index = Image::index(Kind::Oci, children);
        let (signature, sbom) = (about(&index, 10), about(&platform, 11));
        let countersignature = about(&sbom, 12);
        Self { index, signature, sbom, countersignature, platform }
    }

    fn referrers(&self) -> [(&Image, &Image); 3] {
        let (index, platform) = (&self.index, &self.platform);
        [(&self.signature, index), (&self.sbom, platform), (&self.countersignature, &self.sbom)]
    }

    /// The image at a source, with what refers to it, and with the tags that say so where `tagged`.
    fn scene(&self, tagged: bool) -> Scene {
        let scene = Scene::new(&[(NAME, self.index.clone())]);
        let mut content = Content::new();
        for (referrer, subject) in self.referrers() {
            content.add_untagged(REPOSITORY, referrer);
            if tagged {
                content.add(REPOSITORY, &tag_of(subject), &list(&[referrer]));
            }
        }
        scene.source.add(&content);
        scene.flag("--referrers")
    }
}

fn tag_of(subject: &Image) -> String {
    subject.digest().replace(':', "-")
}

fn list(referrers: &[&Image]) -> Image {
    let entries: Vec<Value> = referrers.iter().map(|image| image.descriptor()).collect();
    let value = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries });
    let children = referrers.iter().map(|image| (*image).clone()).collect();
    Image::from_value(media::OCI_INDEX, &value, vec![], children)
}

/// The digests that the target lists under the tag for `subject`.
fn listed_at_target(scene: &Scene, subject: &Image) -> Vec<String> {
    let Some(digest) = scene.target.digest_of(REPOSITORY, &tag_of(subject)) else { return Vec::new() };
    let index = scene.target.manifest(&digest).expect("what a tag names is there");
    assert_eq!(index.media_type, media::OCI_INDEX);
    let value: Value = serde_json::from_slice(&index.bytes).expect("an index is JSON");
    let entries = value["manifests"].as_array().expect("an index has entries");
    entries.iter().map(|entry| entry["digest"].as_str().expect("a digest").to_owned()).collect()
}

/// Each of these is whole at the target and told as what it is.
#[track_caller]
fn assert_brings(scene: &Scene, signed: &Signed, report: &Report) {
    assert_eq!(report.exit(), Exit::Done, "{report}");
    assert_eq!(report.images.len(), 4, "{report}");
    assert!(report.to_string().contains("1 image with 3 referrers at "), "{report}");
    for (referrer, subject) in signed.referrers() {
        let name = format!("{}/{REPOSITORY}@{}", scene.target.host(), referrer.digest());
        let line = report.images.iter().find(|line| line.target == name).expect("a line of its own");
        assert_eq!(line.refers_to, Some(subject.digest()));
        let there = scene.target.manifest(&referrer.digest()).expect("it is there");
        assert_eq!(there.bytes, referrer.manifest.bytes);
    }
    assert!(scene.target.incomplete_tags().is_empty());
    scene.journal().assert_no_authorization_outside(&[]);
}

#[track_caller]
fn assert_writes_nothing(scene: &Scene) {
    scene.journal().clear();
    let again = scene.run().report;
    assert_eq!((again.present, again.exit()), (4, Exit::Done), "{again}");
    let written = scene.journal().filter(|e| e.host == "target" && e.method != "HEAD" && e.method != "GET");
    assert!(written.is_empty(), "{}", scene.journal().dump());
}

#[test]
fn e19_what_refers_to_an_image_goes_along_where_registries_list_it() {
    let signed = Signed::new();
    let scene = signed.scene(false);
    scene.source.list_referrers(1);
    scene.target.list_referrers(100);
    assert_brings(&scene, &signed, &scene.run().report);
    for (_, subject) in signed.referrers() {
        assert_eq!(scene.target.digest_of(REPOSITORY, &tag_of(subject)), None);
    }
    assert_writes_nothing(&scene);
}

#[test]
fn e19_lists_of_many_pages_are_read_to_their_end() {
    let image = Image::generated(Kind::Oci, 1, &[4_000]);
    let scene = Scene::new(&[(NAME, image.clone())]).flag("--referrers");
    let referrers: Vec<Image> = (20..25).map(|seed| about(&image, seed)).collect();
    let mut content = Content::new();
    referrers.iter().for_each(|referrer| _ = content.add_untagged(REPOSITORY, referrer));
    scene.source.add(&content);
    scene.source.list_referrers(2);
    let report = scene.run().report;
    assert_eq!((report.copied, report.exit()), (6, Exit::Done), "{report}");
    // The target lists none itself: all of them are in the one index that is read and written for each.
    let mut listed = listed_at_target(&scene, &image);
    let mut wanted: Vec<String> = referrers.iter().map(Image::digest).collect();
    listed.sort();
    wanted.sort();
    assert_eq!(listed, wanted);
}

/// A signature that someone else has put at the target, and listed there.
fn someone_elses(signed: &Signed, scene: &Scene) -> Image {
    let theirs = about(&signed.index, 77);
    let mut content = Content::new();
    content.add(REPOSITORY, &tag_of(&signed.index), &list(&[&theirs]));
    scene.target.add(&content);
    theirs
}

#[test]
fn e19_where_registries_do_not_list_them_tags_do() {
    let signed = Signed::new();
    let scene = signed.scene(true);
    let theirs = someone_elses(&signed, &scene);
    // What others have listed is none of what the run confirms, as the judge wants it.
    assert_brings(&scene, &signed, &scene.run_unjudged());
    assert_eq!(
        listed_at_target(&scene, &signed.index),
        [theirs.digest(), signed.signature.digest()],
        "what was listed stays listed"
    );
    assert_eq!(listed_at_target(&scene, &signed.platform), [signed.sbom.digest()]);
    assert_eq!(listed_at_target(&scene, &signed.sbom), [signed.countersignature.digest()]);
    assert_writes_nothing(&scene);
    // A list that is lost is made again.
    scene.target.delete_tag(REPOSITORY, &tag_of(&signed.platform));
    let again = scene.run().report;
    assert_eq!((again.copied, again.present), (1, 3), "{again}");
    assert_eq!(listed_at_target(&scene, &signed.platform), [signed.sbom.digest()]);
}

#[test]
fn e19_between_docker_registries_tags_list_them() {
    if !require("docker-registry") || !require("skopeo") {
        return;
    }
    let (net, signed) = (Net::new(), Signed::new());
    let mut content = Content::new();
    content.add(REPOSITORY, "1", &signed.index);
    for (referrer, subject) in signed.referrers() {
        content.add(REPOSITORY, &tag_of(subject), &list(&[referrer]));
    }
    let source = DockerRegistry::start(&Setup::default()).unwrap();
    let target = DockerRegistry::start(&Setup::default()).unwrap();
    net.block_on(load(&content, &net.client(), &source.url(), None)).unwrap();
    let mirror = format!("--source-mirror=quay.io={}", source.url());
    let program =
        || Program::new(&[&target.host(), &mirror, "--image", NAME, "--referrers", "-o", "json"]).run();
    assert_eq!(program().expect(0).number("copied"), 4);
    for (referrer, subject) in signed.referrers() {
        let raw = |name: &str| {
            let name = format!("docker://{}/{REPOSITORY}{name}", target.host());
            skopeo(&["inspect", "--raw", "--tls-verify=false", &name]).unwrap()
        };
        let list = String::from_utf8(raw(&format!(":{}", tag_of(subject)))).unwrap();
        assert!(list.contains(&referrer.digest()), "{list}");
        assert_eq!(raw(&format!("@{}", referrer.digest())), referrer.manifest.bytes);
    }
    assert_eq!(program().expect(0).number("present"), 4);
}

#[test]
fn e19_that_there_is_no_list_and_no_tag_is_no_error() {
    let answers = [
        Fault::Status(404).body("text/plain", "404 page not found\n"),
        Fault::Status(400).error("UNSUPPORTED", "no"),
        Fault::Status(405),
        Fault::Status(501),
        Fault::Status(200).html("<html>a login page</html>"),
    ];
    for answer in answers {
        let scene = Scene::new(&[(NAME, Image::generated(Kind::Oci, 1, &[900]))]).flag("--referrers");
        scene.source.fault(on(Op::Referrers).then(answer));
        scene.run().done();
        assert_eq!(scene.journal().count("source", Op::Referrers), 1, "{}", scene.journal().dump());
    }
}

#[test]
fn e19_what_cosign_has_tagged_goes_along_under_its_tag() {
    let image = Image::generated(Kind::Oci, 1, &[900]);
    let scene = Scene::new(&[(NAME, image.clone())]).flag("--referrers");
    let signature = Image::generated(Kind::Oci, 2, &[300]);
    let tag = format!("{}.sig", tag_of(&image));
    let mut content = Content::new();
    content.add(REPOSITORY, &tag, &signature);
    scene.source.add(&content);
    let report = scene.run().report;
    assert_eq!((report.copied, report.exit()), (2, Exit::Done), "{report}");
    assert_eq!(scene.target.digest_of(REPOSITORY, &tag), Some(signature.digest()));
    let again = scene.run().report;
    assert_eq!((again.present, again.copied), (2, 0), "{again}");
}

#[test]
fn e19_nobody_is_asked_for_referrers_unasked() {
    let signed = Signed::new();
    let scene = signed.scene(true).without_flags();
    scene.run().done();
    let asked = scene.journal().filter(|e| e.op == Op::Referrers || e.reference.starts_with("sha256-"));
    assert!(asked.is_empty(), "{}", scene.journal().dump());
}

#[test]
fn e19_what_cannot_be_found_out_is_told_and_the_image_is_done() {
    let scene = Scene::new(&[(NAME, Image::generated(Kind::Oci, 1, &[900]))]);
    let scene = scene.retries(1).flag("--referrers");
    scene.source.fault(on(Op::Referrers).then(Fault::Status(500)));
    let report = scene.run().report;
    assert_eq!((report.copied, report.failed, report.exit()), (1, 1, Exit::SomeFailed), "{report}");
    let failed = report.images.iter().find(|line| line.result == Status::Failed).unwrap();
    let cause = failed.cause.as_ref().unwrap();
    assert!(failed.refers_to.is_some() && cause.contains("GET referrers of group/app@sha256:"), "{cause}");
}

#[test]
fn e19_a_list_that_goes_on_elsewhere_is_not_followed() {
    let net = Net::new();
    let trap = net.trap("evil");
    let images = [(NAME, Image::generated(Kind::Oci, 1, &[900]))];
    let link = format!("<{}/v2/group/app/referrers/more>; rel=\"next\"", trap.url());
    let scene = Scene::with(net, &images, |s| s, |t| t).flag("--referrers");
    scene.source.list_referrers(1);
    scene.source.fault(on(Op::Referrers).then(Fault::SetHeader("Link", link)));
    let report = scene.run().report;
    assert_eq!((report.copied, report.failed), (1, 1), "{report}");
    assert!(report.to_string().contains("on another host"), "{report}");
    assert_eq!(scene.journal().requests("evil"), 0);
}

/// So many images in repositories of their own, each with a signature, at a source that lists referrers.
fn signed_images(number: u64) -> Scene {
    let name = |n: u64| -> &'static str { format!("quay.io/group/n{n}:1").leak() };
    let images: Vec<(&'static str, Image)> =
        (0..number).map(|n| (name(n), Image::generated(Kind::Oci, 600 + n, &[900]))).collect();
    let scene = Scene::new(&images).flag("--referrers");
    let mut content = Content::new();
    for (n, (_, image)) in images.iter().enumerate() {
        content.add_untagged(&format!("group/n{n}"), &about(image, 700 + n as u64));
    }
    scene.source.add(&content);
    scene.source.list_referrers(100);
    scene
}

#[test]
fn e19_one_repository_without_a_list_says_nothing_of_the_others() {
    let unknown = Fault::Status(404).error("NAME_UNKNOWN", "repository name not known");
    for (refusal, failed) in [(Fault::Status(403), 1), (unknown, 0)] {
        let scene = signed_images(12);
        scene.source.fault(on(Op::Referrers).repo("group/n0").then(refusal));
        let report = scene.run().report;
        // Twelve images and eleven signatures; that the twelfth may not be seen is no success.
        assert_eq!((report.copied, report.failed), (23, failed), "{report}");
    }
}

#[test]
fn e19_a_list_that_cannot_be_read_is_a_failure() {
    let entry = |n: u64| json!({ "digest": format!("sha256:{n:064x}"), "size": 1 });
    let list = |entries: u64| {
        let entries: Vec<Value> = (0..entries).map(entry).collect();
        serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": entries })).unwrap()
    };
    for (body, words) in [(list(70_000), "larger than"), (list(1_001), "1000"), (b"{".to_vec(), "manifest")] {
        let scene = Scene::new(&[(NAME, Image::generated(Kind::Oci, 1, &[900]))]).flag("--referrers");
        scene.source.fault(on(Op::Referrers).then(Fault::Status(200).body(media::OCI_INDEX, body)));
        let report = scene.run().report;
        assert_eq!((report.copied, report.failed), (1, 1), "{report}");
        assert!(report.to_string().contains(words), "{words}: {report}");
    }
}

#[test]
fn e19_what_cannot_be_asked_about_a_signature_is_told_too() {
    let signed = Signed::new();
    let scene = signed.scene(false).retries(1);
    scene.source.list_referrers(100);
    let about_sbom = signed.sbom.digest();
    let asked = on(Op::Referrers).when(move |call| call.reference == about_sbom);
    scene.source.fault(asked.then(Fault::Status(500)));
    let report = scene.run().report;
    assert_eq!((report.copied, report.failed), (3, 1), "{report}");
}

#[test]
fn e19_signatures_of_platforms_are_found_though_the_target_lacks_some_platforms() {
    let signed = Signed::new();
    let scene = signed.scene(false).without_flags().flag("--platform=linux/amd64");
    scene.source.list_referrers(100);
    scene.target.list_referrers(100);
    scene.target.take_sparse_indexes();
    // The judge wants all platforms of an image.
    assert_eq!(scene.run_unjudged().exit(), Exit::Done);
    let scene = scene.without_flags().flag("--referrers");
    let report = scene.run_unjudged();
    assert_eq!((report.exit(), report.images.len()), (Exit::Done, 4), "{report}");
    assert!(scene.target.manifest(&signed.sbom.digest()).is_some());
}

#[test]
fn e19_a_source_that_does_not_do_head_has_no_tags_that_it_does_not_have() {
    let scene = Scene::new(&[(NAME, Image::generated(Kind::Oci, 1, &[900]))]).flag("--referrers");
    scene.source.fault(on(Op::ManifestHead).then(Fault::Status(405)));
    scene.run().done();
}

#[test]
fn e19_what_is_listed_and_is_no_referrer_is_left_out() {
    let image = Image::generated(Kind::Oci, 1, &[900]);
    let stranger = Image::generated(Kind::Oci, 2, &[300]);
    let scene = Scene::new(&[(NAME, image.clone())]).flag("--referrers");
    let mut content = Content::new();
    content.add(REPOSITORY, &tag_of(&image), &list(&[&stranger]));
    scene.source.add(&content);
    scene.run().done();
    assert!(scene.target.manifest(&stranger.digest()).is_none());
}

#[test]
fn e19_a_list_at_the_target_that_is_broken_is_mended_or_told() {
    // An entry that is gone, at a target that minds.
    let signed = Signed::new();
    let scene = signed.scene(true);
    let theirs = someone_elses(&signed, &scene);
    scene.target.delete_manifest(REPOSITORY, &theirs.digest());
    // What others have listed is none of what the run confirms, as the judge wants it.
    assert_brings(&scene, &signed, &scene.run_unjudged());
    assert_eq!(listed_at_target(&scene, &signed.index), [signed.signature.digest()]);
    // Something else under the tag of the list.
    let scene = signed.scene(true);
    let mut content = Content::new();
    content.add(REPOSITORY, &tag_of(&signed.index), &Image::generated(Kind::Oci, 5, &[300]));
    scene.target.add(&content);
    let report = scene.run().report;
    assert_eq!((report.copied, report.failed), (3, 1), "{report}");
    assert!(report.to_string().contains("no list of referrers"), "{report}");
}

#[test]
fn e19_two_sources_cannot_both_sign_one_image_under_one_tag() {
    let image = Image::generated(Kind::Oci, 1, &[900]);
    let names = [("quay.io/group/app:1", image.clone()), ("ghcr.io/group/app:2", image.clone())];
    let scene = Scene::new(&names).flag("--referrers");
    let tag = format!("{}.sig", tag_of(&image));
    let mut content = Content::new();
    content.add("group/app", &tag, &Image::generated(Kind::Oci, 2, &[300]));
    scene.source.add(&content);
    let report = scene.run().report;
    assert_eq!((report.copied, report.failed), (3, 1), "{report}");
    assert!(report.to_string().contains("quay.io/group/app"), "{report}");
}

#[test]
fn e19_nothing_is_said_about_an_image_that_is_left_alone() {
    let signed = Signed::new();
    let scene = signed.scene(true).flag("--no-clobber");
    let mut content = Content::new();
    content.add(REPOSITORY, "1", &Image::generated(Kind::Oci, 9, &[300]));
    scene.target.add(&content);
    let report = scene.run().report;
    assert_eq!((report.copied, report.failed), (0, 1), "{report}");
}

#[test]
fn e19_a_check_tells_of_referrers_and_writes_nothing() {
    let signed = Signed::new();
    let scene = signed.scene(true);
    let mirror = format!("--source-mirror=quay.io={}", scene.source.url());
    let arguments = [&scene.target.host(), &mirror, "--image", NAME, "--check", "--referrers", "-o", "json"];
    let ended = Program::new(&arguments).run().expect(1);
    let lines = ended.report()["images"].as_array().unwrap().clone();
    assert_eq!(lines.iter().filter(|line| line["refers_to"].is_string()).count(), 3, "{lines:?}");
    assert!(lines.iter().all(|line| line["state"] == "missing"), "{lines:?}");
}
