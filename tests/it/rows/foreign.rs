//! E07: layers that are marked as not to be distributed.

use serde_json::{Value, json};

use crate::scene::{Scene, gets_of, puts_of};
use crate::support::content::media;
use crate::support::journal::Entry;
use crate::support::registry::{Auth, Registry};
use crate::support::{Blob, Content, Fault, Image, Kind, Net, Op, on};

const NAME: &str = "quay.io/group/windows:1";
const OCI_FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";

fn layer() -> Blob {
    Blob::generated(4711, 5_000)
}

/// An image with a layer of this type more than it has blobs, which is to be had at `urls`.
fn image(media_type: &str, urls: &[String]) -> Image {
    let plain = Image::generated(Kind::Oci, 60, &[4_000, 900]);
    let mut value: Value = serde_json::from_slice(&plain.manifest.bytes).unwrap();
    let mut entry = json!({ "mediaType": media_type, "digest": layer().digest, "size": layer().size });
    if !urls.is_empty() {
        entry["urls"] = json!(urls);
    }
    value["layers"].as_array_mut().unwrap().push(entry);
    Image::from_value(media::OCI_MANIFEST, &value, plain.blobs, vec![])
}

/// The same where the registry has the layer too.
fn image_with_layer(media_type: &str, urls: &[String]) -> Image {
    let mut image = image(media_type, urls);
    image.blobs.push(layer());
    image
}

/// A host beside the registry that has the layer, and its address there.
fn elsewhere(net: &Net, auth: Option<Auth>) -> (Registry, String) {
    let mut content = Content::new();
    content.add("base", "1", &Image::single(Kind::Oci, Blob::literal("{}"), vec![layer()]));
    let registry = net.registry("elsewhere").content(&content);
    let registry = match auth {
        Some(auth) => registry.auth(auth).start(),
        None => registry.start(),
    };
    let url = format!("{}/v2/base/blobs/{}", registry.url(), layer().digest);
    (registry, url)
}

#[track_caller]
fn assert_layer_at_target(scene: &Scene) {
    let there = scene.target.blob_bytes("group/windows", &layer().digest);
    assert_eq!(there, Some(layer().bytes()), "{}", scene.journal().dump());
}

#[test]
fn e07_foreign_layers_stay_where_they_are_and_the_manifest_as_it_is() {
    for media_type in [media::DOCKER_FOREIGN, OCI_FOREIGN] {
        for urls in [vec!["https://elsewhere.example/layer".to_owned()], vec![]] {
            let image = image(media_type, &urls);
            let scene = Scene::new(&[(NAME, image.clone())]);
            scene.run().done();
            let digest = layer().digest;
            let concerns = |e: &Entry| e.digest.as_ref() == Some(&digest) || e.reference == digest;
            let asked = scene.journal().filter(concerns);
            assert!(asked.is_empty(), "{}", scene.journal().dump());
            let there = scene.target.manifest(&image.digest()).unwrap();
            assert_eq!(there.bytes, image.manifest.bytes);
        }
    }
}

#[test]
fn e07_an_ordinary_layer_is_copied_whatever_its_urls_say() {
    let image = image_with_layer(media::OCI_LAYER, &["https://elsewhere.example/layer".to_owned()]);
    let scene = Scene::new(&[(NAME, image)]);
    scene.run().done();
    assert_eq!(puts_of(scene.journal(), &layer().digest).len(), 1);
}

#[test]
fn e07_a_foreign_layer_that_is_wanted_comes_from_the_registry_first() {
    for media_type in [media::DOCKER_FOREIGN, OCI_FOREIGN] {
        let net = Net::new();
        let (_elsewhere, url) = elsewhere(&net, None);
        let images = [(NAME, image_with_layer(media_type, &[url]))];
        let scene = Scene::with(net, &images, |s| s, |t| t).flag("--include-foreign");
        scene.run().done();
        assert_layer_at_target(&scene);
        assert_eq!(scene.journal().requests("elsewhere"), 0, "{}", scene.journal().dump());
        scene.journal().clear();
        assert_eq!(scene.run().done().report.present, 1);
        assert!(gets_of(scene.journal(), &layer().digest).is_empty());
        assert_eq!(scene.journal().requests("source"), 1, "{}", scene.journal().dump());
    }
}

#[test]
fn e07_what_the_registry_lacks_comes_from_the_addresses_in_the_manifest() {
    let net = Net::new();
    let (_elsewhere, url) = elsewhere(&net, None);
    let odd = ["ftp://elsewhere.example/x".to_owned(), "not an address".to_owned()];
    let urls = [&odd[..], &["http://127.0.0.1:9/nobody".to_owned(), url]].concat();
    let scene = Scene::with(net, &[(NAME, image(OCI_FOREIGN, &urls))], |s| s, |t| t);
    let scene = scene.retries(0).flag("--include-foreign");
    scene.run().done();
    assert_layer_at_target(&scene);
}

#[test]
fn e07_a_run_that_wants_foreign_layers_adds_them_to_what_is_there() {
    let images = [(NAME, image_with_layer(OCI_FOREIGN, &[]))];
    let scene = Scene::new(&images);
    scene.run().done();
    let scene = scene.flag("--include-foreign").flag("--no-clobber");
    scene.journal().clear();
    assert_eq!(scene.run().done().report.copied, 1);
    assert_layer_at_target(&scene);
    assert_eq!(scene.journal().count("target", Op::UploadPut), 1, "{}", scene.journal().dump());
}

#[test]
fn e07_an_address_in_a_manifest_gets_no_login_and_its_bytes_are_checked() {
    // The scene's judge looks that no credentials go there.
    let net = Net::new();
    let (_elsewhere, url) = elsewhere(&net, Some(Auth::basic("u", "p")));
    let images = [(NAME, image(OCI_FOREIGN, std::slice::from_ref(&url)))];
    let scene = Scene::with(net, &images, |s| s.auth(Auth::basic("u", "p")), |t| t);
    let host = scene.source.host();
    let scene = scene.login(&host, "u", "p").flag("--include-foreign");
    let cause = scene.run().failed_alone("group/windows");
    assert!(cause.contains("401"), "{cause}");
    assert_eq!(scene.target.blob_bytes("group/windows", &layer().digest), None);

    let net = Net::new();
    let (elsewhere, url) = self::elsewhere(&net, None);
    elsewhere.fault(on(Op::BlobGet).then(Fault::FlipByte { at: 7 }));
    let scene = Scene::with(net, &[(NAME, image(OCI_FOREIGN, &[url]))], |s| s, |t| t);
    let cause = scene.flag("--include-foreign").run().failed_alone("group/windows");
    assert!(cause.contains("damaged"), "{cause}");
}

#[test]
fn e07_an_address_that_asks_for_fewer_requests_does_not_stop_the_registry() {
    let net = Net::new();
    let (elsewhere, url) = elsewhere(&net, None);
    elsewhere.fault(on(Op::BlobGet).then(Fault::Status(429).retry_after("60")));
    let plain = Image::generated(Kind::Oci, 61, &[4_000]);
    let images = [(NAME, image(OCI_FOREIGN, &[url])), ("quay.io/group/plain:1", plain)];
    let scene = Scene::with(net, &images, |s| s, |t| t).flag("--include-foreign");
    let run = scene.run();
    run.failed_alone("group/windows");
    assert!(run.took < std::time::Duration::from_secs(5), "{:?}", run.took);
}

#[test]
fn e07_the_same_layer_may_be_foreign_to_one_image_only() {
    let net = Net::new();
    let (_elsewhere, url) = elsewhere(&net, None);
    let ordinary = image_with_layer(media::OCI_LAYER, &[]);
    let images = [("quay.io/group/plain:1", ordinary), (NAME, image(OCI_FOREIGN, &[url]))];
    let scene = Scene::with(net, &images, |s| s, |t| t).flag("--include-foreign");
    // Where the first one's repository has lost it, the address that the second one names has it still.
    scene.source.unlink_blob("group/plain", &layer().digest);
    scene.run().done();
}

#[test]
fn e07_a_registry_over_https_sends_nobody_to_plain_http() {
    let net = Net::new();
    let (_elsewhere, url) = elsewhere(&net, None);
    let images = [(NAME, image(OCI_FOREIGN, &[url]))];
    let scene = Scene::with(net, &images, |s| s.tls(), |t| t).flag("--include-foreign");
    let cause = scene.run().failed_alone("group/windows");
    assert!(cause.contains("plain HTTP"), "{cause}");
    assert_eq!(scene.journal().requests("elsewhere"), 0);
}
