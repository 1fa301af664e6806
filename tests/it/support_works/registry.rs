use std::time::Duration;

use serde_json::Value;

use crate::support::content::{SetOptions, load, media, mirror_set, odd_shapes};
use crate::support::reader::{Depth, Reader};
use crate::support::{Auth, Blob, Content, Fault, Image, Keep, Kind, Net, Op, on};

use super::content::references;

fn image() -> (Content, Image) {
    let image = Image::generated(Kind::Oci, 42, &[100_000, 2_000]);
    let mut content = Content::new();
    content.add("a/b", "v1", &image);
    (content, image)
}

#[tokio::test]
async fn every_shape_is_pushed_and_read_back_byte_for_byte() {
    let net = Net::new();
    let target = net.registry("target").start();
    let mut content = Content::new();
    for shape in odd_shapes() {
        content.add("shapes", shape.name, &shape.image);
    }
    load(&content, &net.client(), &target.url(), None).await.unwrap();
    let reader = Reader::new(net.client(), &target.url());
    for (repository, tag, digest) in content.tags() {
        let tree = reader.read(repository, tag, Depth::Bytes).await.unwrap();
        assert_eq!(tree.root, *digest, "{tag}");
        assert_eq!(target.manifest(digest), content.manifests.get(digest).cloned());
    }
    net.journal().assert_tag_last("nobody");
    assert_eq!(target.open_sessions(), 0);
}

#[tokio::test]
async fn a_set_is_mirrored_without_keeping_its_bytes() {
    let net = Net::new();
    let content = mirror_set(&references(10), &SetOptions::default());
    let target = net.registry("target").keep(Keep::Digests).tls().start();
    let source = net.registry("source").content(&content).ipv6().start();
    load(&content, &net.client(), &target.url(), None).await.unwrap();
    net.journal().assert_tag_last("target");
    assert_eq!(net.journal().bytes_written("target"), 0, "201 has no body");
    assert!(net.journal().bytes_read("target") > content.blob_bytes());
    for registry in [&source, &target] {
        let reader = Reader::new(net.client(), &registry.url());
        for (repository, tag, digest) in content.tags() {
            let tree = reader.read(repository, tag, Depth::Bytes).await.unwrap();
            assert_eq!(tree.root, *digest);
        }
    }
}

#[tokio::test]
async fn manifests_are_hidden_from_clients_that_do_not_accept_them() {
    let net = Net::new();
    let (content, image) = image();
    let source = net.registry("source").content(&content).start();
    let get = |path: String| net.client().get(format!("{}{path}", source.url()));
    let by_tag = "/v2/a/b/manifests/v1".to_owned();
    let answer = get(by_tag.clone()).header("Accept", "*/*").send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let request = get(by_tag).header("Accept", format!("text/x, {};q=1", media::OCI_MANIFEST));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["docker-content-digest"], image.digest().as_str());
    assert_eq!(answer.headers()["content-type"], media::OCI_MANIFEST);
    assert_eq!(answer.bytes().await.unwrap(), image.manifest.bytes);
    for (path, code) in [
        ("/v2/a/b/manifests/v2", "MANIFEST_UNKNOWN"),
        ("/v2/none/manifests/v1", "NAME_UNKNOWN"),
        ("/v2/a/b/blobs/sha256:00", "BLOB_UNKNOWN"),
    ] {
        let answer = get(path.to_owned()).send().await.unwrap();
        assert_eq!(answer.status(), 404);
        assert_eq!(error_code(&answer.text().await.unwrap()), code);
    }
}

fn error_code(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap();
    value["errors"][0]["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn ranges_of_blobs_are_served() {
    let net = Net::new();
    let (content, image) = image();
    let source = net.registry("source").content(&content).start();
    let layer = &image.blobs[1];
    let url = format!("{}/v2/a/b/blobs/{}", source.url(), layer.digest);
    let get = |range: &str| net.client().get(&url).header("Range", range).send();
    let answer = get("bytes=10-19").await.unwrap();
    assert_eq!(answer.status(), 206);
    assert_eq!(answer.headers()["content-range"], "bytes 10-19/100000");
    assert_eq!(answer.bytes().await.unwrap(), layer.read(10..20));
    let answer = get("bytes=99990-").await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), layer.read(99_990..100_000));
    let answer = get("bytes=100000-").await.unwrap();
    assert_eq!(answer.status(), 416);
    let head = net.client().head(&url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "100000");
    assert_eq!(net.journal().of("source", Op::BlobGet)[0].written, 10);
}

#[tokio::test]
async fn an_upload_changes_its_address_at_every_step() {
    let net = Net::new();
    let target = net.registry("target").start();
    let client = net.client();
    let blob = Blob::generated(3, 3_000);
    let start = format!("{}/v2/x/blobs/uploads/", target.url());
    let location = |answer: &reqwest::Response| answer.headers()["location"].to_str().unwrap().to_owned();
    let first = location(&client.post(&start).send().await.unwrap());
    assert!(first.starts_with(&target.url()));
    let patch = client.patch(&first).header("Content-Range", "0-999").body(blob.read(0..1000));
    let answer = patch.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["range"]), (202, &"0-999".parse().unwrap()));
    let second = location(&answer);
    let stale = client.patch(&first).body("x").send().await.unwrap();
    assert_eq!(stale.status(), 404);
    assert_eq!(error_code(&stale.text().await.unwrap()), "BLOB_UPLOAD_INVALID");
    let gap = client.patch(&second).header("Content-Range", "2000-2999").body(blob.read(2000..3000));
    assert_eq!(gap.send().await.unwrap().status(), 416);
    let status = client.get(&second).send().await.unwrap();
    assert_eq!((status.status().as_u16(), &status.headers()["range"]), (204, &"0-999".parse().unwrap()));
    let wrong = format!("{second}&digest=sha256:{}", "0".repeat(64));
    let put = client.put(format!("{second}&digest={}", blob.digest)).body(blob.read(1000..3000));
    assert_eq!(put.send().await.unwrap().status(), 201);
    assert_eq!(client.put(wrong).send().await.unwrap().status(), 404);
    assert_eq!(target.blob_bytes("x", &blob.digest).unwrap(), blob.bytes());
}

#[tokio::test]
async fn mounts_need_the_blob_in_the_repository_they_name() {
    let net = Net::new();
    let (content, image) = image();
    let target = net.registry("target").content(&content).start();
    let digest = &image.blobs[1].digest;
    let mount =
        |query: String| net.client().post(format!("{}/v2/c/blobs/uploads/?{query}", target.url())).send();
    for (query, status) in [
        (format!("mount={digest}"), 202),
        (format!("mount={digest}&from=none"), 202),
        (format!("mount={digest}&from=a/b"), 201),
    ] {
        assert_eq!(mount(query).await.unwrap().status(), status);
    }
    assert_eq!(target.blob_size("c", digest), Some(100_000));
    assert_eq!(net.journal().count("target", Op::Mount), 3);
}

#[tokio::test]
async fn a_manifest_with_missing_parts_is_refused() {
    let net = Net::new();
    let (content, image) = image();
    let target = net.registry("target").content(&content).start();
    let put = |repository: &str| {
        let url = format!("{}/v2/{repository}/manifests/v9", target.url());
        let request = net.client().put(url).header("Content-Type", media::OCI_MANIFEST);
        request.body(image.manifest.bytes.clone()).send()
    };
    let answer = put("c").await.unwrap();
    assert_eq!(answer.status(), 400);
    let text = answer.text().await.unwrap();
    assert_eq!(error_code(&text), "MANIFEST_BLOB_UNKNOWN");
    assert!(text.contains(&image.blobs[0].digest));
    assert_eq!(put("a/b").await.unwrap().status(), 201);
    assert_eq!(target.digest_of("a/b", "v9"), Some(image.digest()));
}

#[tokio::test]
async fn tokens_are_issued_checked_and_run_out() {
    let net = Net::new();
    let (content, _) = image();
    let tokens = net.token_service("auth").user("u", "p").identity_token("r").anonymous_pull().start();
    let source = net.registry("source").content(&content).auth(Auth::Token(tokens.clone())).start();
    let client = net.client();
    let tags = format!("{}/v2/a/b/tags/list", source.url());
    let answer = client.get(&tags).send().await.unwrap();
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap().to_owned();
    assert!(challenge.contains(&tokens.realm()) && challenge.contains("repository:a/b:pull\""));
    let realm = format!("{}?service=source&scope=repository:a/b:pull,push", tokens.realm());
    let token = |text: String| {
        let value: Value = serde_json::from_str(&text).unwrap();
        format!("Bearer {}", value["access_token"].as_str().unwrap())
    };
    let anonymous = token(client.get(&realm).send().await.unwrap().text().await.unwrap());
    let get = client.get(&tags).header("Authorization", &anonymous);
    assert_eq!(get.send().await.unwrap().status(), 200);
    let upload = format!("{}/v2/a/b/blobs/uploads/", source.url());
    let push = client.post(&upload).header("Authorization", &anonymous).send().await.unwrap();
    assert_eq!(push.status(), 401);
    assert!(push.headers()["www-authenticate"].to_str().unwrap().contains("insufficient_scope"));
    let form = "grant_type=refresh_token&refresh_token=r&service=source&scope=repository:a/b:pull,push";
    let full = token(client.post(tokens.realm()).body(form).send().await.unwrap().text().await.unwrap());
    let push = client.post(&upload).header("Authorization", &full).send().await.unwrap();
    assert_eq!(push.status(), 202);
    tokens.set_lifetime(Duration::from_millis(1));
    let short = token(client.get(&realm).send().await.unwrap().text().await.unwrap());
    tokio::time::sleep(Duration::from_millis(10)).await;
    let late = client.get(&tags).header("Authorization", &short).send().await.unwrap();
    assert!(late.headers()["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    net.journal().assert_no_authorization_outside(&["source"]);
}

#[tokio::test]
async fn a_basic_login_is_checked() {
    let net = Net::new();
    let (content, _) = image();
    let source = net.registry("source").content(&content).auth(Auth::basic("u", "p")).start();
    let url = format!("{}/v2/", source.url());
    let refused = net.client().get(&url).send().await.unwrap();
    assert!(refused.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    let shown = net.client().get(&url).header("Authorization", "Basic dTpw").send().await.unwrap();
    assert_eq!(shown.status(), 200);
}

#[tokio::test]
async fn damage_is_served_and_seen_by_the_reader() {
    let net = Net::new();
    let (content, image) = image();
    let target = net.registry("target").content(&content).start();
    let reader = Reader::new(net.client(), &target.url());
    let layer = &image.blobs[1];
    target.flip_blob(&layer.digest, 70_000);
    assert!(reader.read("a/b", "v1", Depth::Sizes).await.is_ok());
    assert!(reader.read("a/b", "v1", Depth::Bytes).await.is_err());
    target.truncate_blob(&layer.digest, 0);
    assert!(reader.read("a/b", "v1", Depth::Sizes).await.is_err());
    load(&content, &net.client(), &target.url(), None).await.unwrap();
    assert_eq!(target.blob_size("a/b", &layer.digest), Some(0), "pushing again heals nothing");
    target.delete_blob(&layer.digest);
    load(&content, &net.client(), &target.url(), None).await.unwrap();
    assert!(reader.read("a/b", "v1", Depth::Bytes).await.is_ok());
}

#[test]
fn a_host_answers_a_blocking_test_and_comes_back_after_being_down() {
    let net = Net::new();
    let target = net.registry("target").start();
    assert!(std::net::TcpStream::connect(target.addr()).is_ok());
    target.go_down();
    let refused = || std::net::TcpStream::connect(target.addr()).is_err();
    wait_until(refused);
    target.come_up();
    wait_until(|| !refused());
}

fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("did not happen in two seconds");
}

/// Whether a claim on the journal panics.
fn is_refused(claim: impl FnOnce() + std::panic::UnwindSafe) -> bool {
    std::panic::catch_unwind(claim).is_err()
}

async fn put_tag(net: &Net, base: &str, image: &Image) {
    let url = format!("{base}/v2/a/b/manifests/v1");
    let put = net.client().put(url).header("Content-Type", media::OCI_MANIFEST);
    let answer = put.body(image.manifest.bytes.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 201);
}

#[tokio::test]
async fn the_journal_tells_when_the_order_is_wrong() {
    let net = Net::new();
    let (content, image) = image();
    let target = net.registry("target").content(&content).start();
    let journal = net.journal();
    put_tag(&net, &target.url(), &image).await;
    let claim = journal.clone();
    assert!(is_refused(move || claim.assert_tag_last("target")), "nothing was confirmed before");
    let claim = journal.clone();
    assert!(is_refused(move || claim.assert_read_only()));
    journal.clear();
    for blob in &image.blobs {
        let url = format!("{}/v2/a/b/blobs/{}", target.url(), blob.digest);
        net.client().head(url).send().await.unwrap();
    }
    put_tag(&net, &target.url(), &image).await;
    journal.assert_tag_last("target");
    for (from, into) in [("a/b", "c/d"), ("c/d", "a/b")] {
        let mount = format!("/v2/{into}/blobs/uploads/?mount={}&from={from}", image.blobs[1].digest);
        net.client().post(target.url() + &mount).send().await.unwrap();
    }
    // The journal learns of an answer a little later than who has it.
    wait_until(|| {
        let claim = journal.clone();
        is_refused(move || claim.assert_tag_last("target"))
    });
}

#[tokio::test]
async fn the_journal_tells_of_waste_leaks_and_haste() {
    let net = Net::new();
    let (content, image) = image();
    let limited = on(Op::ManifestGet).then(Fault::Status(429));
    let source = net.registry("source").content(&content).rule(limited).start();
    let journal = net.journal();
    let url = format!("{}/v2/a/b/blobs/{}", source.url(), image.blobs[1].digest);
    for _ in 0..2 {
        journal.assert_each_blob_fetched_once("source");
        let get = net.client().get(&url).header("Authorization", "Bearer x");
        get.send().await.unwrap().bytes().await.unwrap();
    }
    let claim = journal.clone();
    assert!(is_refused(move || claim.assert_each_blob_fetched_once("source")));
    let claim = journal.clone();
    assert!(is_refused(move || claim.assert_no_authorization_outside(&["target"])));
    journal.assert_read_only();
    for _ in 0..2 {
        let manifest = format!("{}/v2/a/b/manifests/v1", source.url());
        net.client().get(manifest).send().await.unwrap();
    }
    let claim = journal.clone();
    assert!(is_refused(move || claim.assert_gap_after("source", 429, Duration::from_secs(1))));
}

#[test]
fn an_image_is_complete_or_named() {
    let net = Net::new();
    let content = mirror_set(&references(2), &SetOptions::default());
    let target = net.registry("target").start();
    net.block_on(load(&content, &net.client(), &target.url(), None)).unwrap();
    assert!(target.incomplete_tags().is_empty());
    let (repository, tag, digest) = content.tags().next().unwrap();
    let blob = content.repositories[repository].blobs.first().unwrap();
    target.delete_blob(blob);
    assert_eq!(target.incomplete_tags(), [format!("{repository}:{tag}")], "{digest}");
}

#[tokio::test]
async fn a_second_door_opens_on_the_same_store() {
    let net = Net::new();
    let (content, image) = image();
    let front = net.registry("front").content(&content).start();
    let expired = net.ca().issue_with(&["127.0.0.1".to_owned()], |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let back = net.registry("back").share(&front).tls_identity(expired).start();
    assert_eq!(back.digest_of("a/b", "v1"), Some(image.digest()));
    assert!(net.client().get(back.url()).send().await.unwrap_err().is_connect());
}
