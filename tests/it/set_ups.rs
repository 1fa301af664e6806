//! Real registries and a real proxy: what they make of every shape, and how they fail.

use std::path::Path;
use std::time::Duration;

use crate::program::{Ended, Program};
use crate::stage::{ALWAYS, CONTROL_PLANE, Stage, assert_mirrored};
use crate::support::content::{Content, SetOptions, load, odd_shapes};
use crate::support::nginx::{self, Nginx};
use crate::support::process::{DockerRegistry, Setup, require, skopeo};
use crate::support::registry::Registry;
use crate::support::tls::Ca;
use crate::support::{Fault, Image, Kind, Net, Op, on};

const SECOND: Duration = Duration::from_secs(1);

/// The program, about to mirror all tags of `content` from a host that stands for quay.io.
pub fn mirror_all(content: &Content, source: &str, target: &str, more: &[&str]) -> Ended {
    let mut arguments = vec![target.to_owned(), format!("--source-mirror=quay.io={source}")];
    for (repository, tag, _) in content.tags() {
        arguments.push(format!("--image=quay.io/{repository}:{tag}"));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Program::new(&arguments).args(&["-o", "json"]).args(more).run()
}

/// All tags of `content`, as they have to be.
pub fn wanted(content: &Content) -> std::collections::BTreeMap<(String, String), String> {
    content.tags().map(|(name, tag, digest)| ((name.to_owned(), tag.to_owned()), digest.clone())).collect()
}

/// Shapes that a docker-registry takes, each in a repository of its own, and a few ordinary images.
fn shapes() -> Content {
    let mut content = Content::new();
    for shape in odd_shapes().iter().filter(|shape| shape.distribution_takes_it) {
        content.add(&format!("shapes/{}", shape.name), "1", &shape.image);
    }
    content
}

#[test]
fn r1_every_shape_goes_through_docker_registries_and_skopeo_agrees() {
    if !require("docker-registry") || !require("skopeo") {
        return;
    }
    let net = Net::new();
    let content = shapes();
    let source = DockerRegistry::start(&Setup::default()).unwrap();
    let target = DockerRegistry::start(&Setup { relative_urls: true, ..Setup::default() }).unwrap();
    net.block_on(load(&content, &net.client(), &source.url(), None)).unwrap();
    mirror_all(&content, &source.url(), &target.host(), &[]).expect(0);
    assert_mirrored(&net, &target.url(), &wanted(&content));
    let directory = tempfile::tempdir().unwrap();
    for name in ["index", "attestations", "docker-manifest", "zero-byte-layer", "non-ascii"] {
        let from = format!("docker://{}/shapes/{name}:1", target.host());
        let to = format!("dir:{}", directory.path().join(name).display());
        skopeo(&["copy", "--all", "--preserve-digests", "--src-tls-verify=false", &from, &to]).unwrap();
    }
    // E11: once more costs no byte.
    let again = mirror_all(&content, &source.url(), &target.host(), &[]).expect(0);
    assert_eq!((again.number("copied"), again.number("bytes_copied")), (0, 0));
}

#[test]
fn r4_a_read_only_target_is_given_up_with_that_word() {
    if !require("docker-registry") {
        return;
    }
    let stage = Stage::new(ALWAYS);
    let target = DockerRegistry::start(&Setup { read_only: true, ..Setup::default() }).unwrap();
    let run = stage.program_to(&target.host()).run().expect(3);
    assert!(run.stdout.contains("read-only") && run.stdout.contains("405"), "{}", run.stdout);
}

#[test]
fn r6_a_target_that_is_killed_and_back_after_two_seconds_gets_everything() {
    if !require("docker-registry") {
        return;
    }
    for secret in [Some("one secret for all time"), None] {
        let options = SetOptions { layer_size: 200_000..=900_000, ..SetOptions::default() };
        let stage = Stage::with(CONTROL_PLANE, &options, |source| source, |target| target);
        stage.source.fault(on(Op::BlobGet).then(Fault::DelayBody(Duration::from_millis(60))));
        let mut target = DockerRegistry::start(&Setup { secret, ..Setup::default() }).unwrap();
        let mut running = stage.program_to(&target.host()).args(&["-p", "2", "-o", "json"]).start();
        running.hear("copied ");
        target.kill();
        std::thread::sleep(2 * SECOND);
        target.restart().unwrap();
        running.wait().expect(0);
        assert_mirrored(&stage.net, &target.url(), &stage.wanted());
    }
}

#[test]
fn g08_a_target_that_comes_back_with_another_certificate_is_given_up_and_keeps_its_tags() {
    if !require("docker-registry") {
        return;
    }
    let options = SetOptions { layer_size: 200_000..=900_000, ..SetOptions::default() };
    let stage = Stage::with(CONTROL_PLANE, &options, |source| source, |target| target);
    let names = ["127.0.0.1".to_owned()];
    let (ours, foreign) = (stage.net.ca().issue(&names), Ca::new("another authority").issue(&names));
    let mut target = DockerRegistry::start(&Setup { tls: Some(&ours), ..Setup::default() }).unwrap();
    let ca = stage.net.ca_file();
    let host = target.host();
    let program = || stage.program_to(&host).args(&["--ca-file", ca.to_str().unwrap(), "-p", "1"]);
    stage.source.fault(on(Op::BlobGet).then(Fault::DelayBody(Duration::from_millis(60))));
    let mut running = program().start();
    running.hear("copied ");
    target.restart_as(&foreign).unwrap();
    let ended = running.wait();
    // Something was copied before, so that not everything was refused.
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("its certificate is not trusted"), "{}", ended.stdout);
    // Unless all that was left was under way at that moment, and failed for the certificate.
    let all_tried = !ended.stdout.contains("not tried") && !ended.stdout.contains("not done");
    assert!(all_tried || ended.stdout.contains("Gave up on the target"), "{}", ended.stdout);
    // What had landed is whole, and a run at the right door does the rest.
    target.restart_as(&ours).unwrap();
    let again = program().args(&["-o", "json"]).run().expect(0);
    assert!(again.number("present") >= 1, "{}", again.stdout);
    assert_mirrored(&stage.net, &target.url(), &stage.wanted());
}

/// One image with a layer of its own, at a docker-registry that is then the source.
fn at_docker_registry() -> (Net, Content, DockerRegistry, String) {
    let net = Net::new();
    let image = Image::generated(Kind::Oci, 7, &[40_000]);
    let layer = image.blobs[1].digest.clone();
    let mut content = Content::new();
    content.add("group/first", "1", &image);
    content.add("group/second", "1", &Image::generated(Kind::Oci, 8, &[900]));
    let registry = DockerRegistry::start(&Setup::default()).unwrap();
    net.block_on(load(&content, &net.client(), &registry.url(), None)).unwrap();
    (net, content, registry, layer)
}

fn cut(path: &Path, length: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// What fails is the first image alone, and its tag is not there.
#[track_caller]
fn assert_first_failed(run: &Ended, target: &Registry, words: &[&str]) {
    assert_eq!(run.sources_by_result()["failed"], ["quay.io/group/first:1"]);
    let report = run.report();
    let mut images = report["images"].as_array().unwrap().iter();
    let cause = images.find_map(|line| line["cause"].as_str()).unwrap();
    assert!(words.iter().all(|word| cause.contains(word)), "{cause}");
    assert_eq!(target.digest_of("group/first", "1"), None);
    assert_eq!(target.incomplete_tags(), Vec::<String>::new());
}

#[test]
fn r7_a_source_whose_files_are_damaged_is_found_out() {
    if !require("docker-registry") {
        return;
    }
    for truncated in [true, false] {
        let (net, content, source, layer) = at_docker_registry();
        let target = net.registry("target").start();
        let file = source.blob_file(&layer);
        if truncated {
            cut(&file, 100)
        } else {
            flip(&file, 1_234)
        }
        let run = mirror_all(&content, &source.url(), &target.host(), &[]).expect(1);
        assert_first_failed(&run, &target, &[&layer]);
        assert_eq!(target.blob_size("group/first", &layer), None);
    }
}

#[test]
fn r7_a_source_whose_manifest_is_damaged_is_found_out_where_its_digest_is_known() {
    if !require("docker-registry") {
        return;
    }
    let net = Net::new();
    let child = Image::generated(Kind::Oci, 7, &[4_000]);
    let index =
        Image::index(Kind::Oci, vec![crate::support::content::Child::platform("linux/amd64", child.clone())]);
    let mut content = Content::new();
    content.add("group/first", "1", &index);
    content.add("group/second", "1", &Image::generated(Kind::Oci, 8, &[900]));
    let source = DockerRegistry::start(&Setup::default()).unwrap();
    net.block_on(load(&content, &net.client(), &source.url(), None)).unwrap();
    // A digit of a size, so that it stays JSON.
    let file = source.blob_file(&child.digest());
    let at = String::from_utf8(std::fs::read(&file).unwrap()).unwrap().find("4000").unwrap();
    flip(&file, at);
    let target = net.registry("target").start();
    let run = mirror_all(&content, &source.url(), &target.host(), &[]).expect(1);
    assert_first_failed(&run, &target, &[&child.digest()]);
}

#[test]
fn r7_a_target_that_lost_a_file_gets_it_again() {
    if !require("docker-registry") {
        return;
    }
    let stage = Stage::new(CONTROL_PLANE);
    let target = DockerRegistry::start(&Setup::default()).unwrap();
    stage.program_to(&target.host()).run().expect(0);
    let wanted = stage.wanted_repositories();
    let blob = wanted["etcd"].blobs.iter().next().unwrap();
    std::fs::remove_file(target.blob_file(blob)).unwrap();
    stage.delete_manifest(&target.url(), "etcd", "3.6.8-0");
    stage.program_to(&target.host()).run().expect(0);
    let of_etcd = stage.wanted().into_iter().filter(|((repository, _), _)| repository == "etcd").collect();
    assert_mirrored(&stage.net, &target.url(), &of_etcd);
}

/// docker-registry before 3.0 takes a manifest whose file it has, though the file is empty.
#[test]
fn r7_a_target_whose_disk_was_full_is_not_said_to_be_whole() {
    if !require("docker-registry") {
        return;
    }
    let net = Net::new();
    let child = Image::generated(Kind::Oci, 7, &[4_000]);
    let (single, honest) = (Image::generated(Kind::Oci, 8, &[900]), Image::generated(Kind::Oci, 9, &[900]));
    let platform = crate::support::content::Child::platform("linux/amd64", child.clone());
    let mut content = Content::new();
    content.add("group/index", "1", &Image::index(Kind::Oci, vec![platform]));
    content.add("group/single", "1", &single).add("group/good", "1", &honest);
    let source = net.registry("source").content(&content).start();
    let target = DockerRegistry::start(&Setup::default()).unwrap();
    let mirror = |more: &[&str]| mirror_all(&content, &source.url(), &target.host(), more);
    mirror(&[]).expect(0);
    for repository in ["group/index", "group/single", "group/good"] {
        std::fs::remove_dir_all(target.repositories().join(repository).join("_manifests")).unwrap();
    }
    let damaged = [("group/index", child.digest()), ("group/single", single.digest())];
    damaged.iter().for_each(|(_, digest)| cut(&target.blob_file(digest), 0));
    let again = mirror(&["--retries=1"]).expect(1);
    let failed = again.sources_by_result()["failed"].join(" ");
    assert!(failed.contains("group/index:1") && failed.contains("group/single:1"), "{failed}");
    assert_eq!(again.number("copied"), 1, "{}", again.stdout);
    for (repository, digest) in &damaged {
        assert!(again.stdout.contains(&format!("delete {repository}@{digest} there")), "{}", again.stdout);
    }
    let checked = mirror(&["--check", "--retries=1"]).expect(1);
    assert_eq!(checked.number("there"), 1, "{}", checked.stdout);
    damaged.iter().for_each(|(_, digest)| std::fs::remove_file(target.blob_file(digest)).unwrap());
    mirror(&[]).expect(0);
    assert_mirrored(&net, &target.url(), &wanted(&content));
    // A child that is damaged below a tag that is right.
    cut(&target.blob_file(&child.digest()), 0);
    let checked = mirror(&["--check", "--retries=1"]).expect(1);
    assert_eq!(checked.number("there"), 2, "{}", checked.stdout);
}

/// docker-registry keeps a damaged file whatever it is sent, and takes again what is gone.
#[test]
fn r7_a_target_whose_files_are_lost_or_damaged_below_right_tags_is_found_out_and_repaired() {
    if !require("docker-registry") {
        return;
    }
    let net = Net::new();
    let (shared, own) =
        (Image::generated(Kind::Oci, 7, &[40_000, 5_000]), Image::generated(Kind::Oci, 8, &[900]));
    let platform = crate::support::content::Child::platform("linux/amd64", shared.clone());
    let mut content = Content::new();
    content.add("group/index", "1", &Image::index(Kind::Oci, vec![platform]));
    content.add("group/shared", "1", &shared).add("group/own", "1", &own);
    let source = net.registry("source").content(&content).start();
    let target = DockerRegistry::start(&Setup::default()).unwrap();
    let mirror = |more: &[&str]| mirror_all(&content, &source.url(), &target.host(), more);
    mirror(&[]).expect(0);
    let (layer, config, child) = (&shared.blobs[1].digest, &own.blobs[0].digest, shared.digest());
    let link = |repository: &str, digest: &str| {
        let layers = target.repositories().join(repository).join("_layers");
        layers.join(digest.replace(':', "/"))
    };
    // A file that two repositories have, and the link of one repository to another file.
    std::fs::remove_file(target.blob_file(layer)).unwrap();
    std::fs::remove_dir_all(link("group/own", config)).unwrap();
    assert_eq!(mirror(&[]).expect(0).number("present"), 3);
    mirror(&["--check"]).expect(0);
    let checked = mirror(&["--check", "--deep"]).expect(1);
    assert_eq!(checked.number("partial"), 3, "{}", checked.stdout);
    let repaired = mirror(&["--repair"]).expect(0);
    assert_eq!((repaired.number("copied"), repaired.number("blobs_copied")), (3, 2), "{}", repaired.stdout);
    mirror(&["--check", "--deep=bytes"]).expect(0);
    assert_mirrored(&net, &target.url(), &wanted(&content));

    // Files of other lengths and other bytes stay as they are until they are deleted.
    for (damage, deep) in [
        (&(|path: &Path| cut(path, 100)) as &dyn Fn(&Path), "--deep"),
        (&|path: &Path| flip(path, 1_234), "--deep=bytes"),
    ] {
        damage(&target.blob_file(layer));
        let checked = mirror(&["--check", deep]).expect(1);
        assert_eq!((checked.number("partial"), checked.number("there")), (2, 1), "{}", checked.stdout);
        let failed = mirror(&["--repair", deep]).expect(1);
        assert_eq!(failed.number("failed"), 2, "{}", failed.stdout);
        assert!(
            failed.stdout.contains(layer) && failed.stdout.contains("delete it there"),
            "{}",
            failed.stdout
        );
        std::fs::remove_file(target.blob_file(layer)).unwrap();
        mirror(&["--repair", deep]).expect(0);
        mirror(&["--check", "--deep=bytes"]).expect(0);
    }

    // A manifest below two tags.
    let file = target.blob_file(&child);
    let at = String::from_utf8(std::fs::read(&file).unwrap()).unwrap().find("40000").unwrap();
    flip(&file, at);
    let checked = mirror(&["--check", "--deep"]).expect(1);
    assert_eq!(checked.number("partial"), 2, "{}", checked.stdout);
    let failed = mirror(&["--repair"]).expect(1);
    assert!(failed.stdout.contains(&format!("delete group/index@{child} there")), "{}", failed.stdout);
    std::fs::remove_file(&file).unwrap();
    mirror(&["--repair"]).expect(0);
    mirror(&["--check", "--deep=bytes"]).expect(0);
    assert_mirrored(&net, &target.url(), &wanted(&content));
}

#[test]
fn what_another_path_of_a_docker_registry_has_is_mounted_there() {
    if !require("docker-registry") {
        return;
    }
    let (net, content, registry, _) = at_docker_registry();
    let same = mirror_all(&content, &registry.url(), &registry.host(), &[]).expect(0);
    assert_eq!((same.number("present"), same.number("bytes_copied")), (2, 0), "{}", same.stdout);
    let below = format!("{}/mirror", registry.host());
    let run = mirror_all(&content, &registry.url(), &below, &[]).expect(0);
    let numbers = ["copied", "blobs_copied", "blobs_mounted"].map(|name| run.number(name));
    assert_eq!(numbers, [2, 0, 4], "{}", run.stdout);
    let wanted = wanted(&content).into_iter();
    let wanted = wanted.map(|((name, tag), digest)| ((format!("mirror/{name}"), tag), digest)).collect();
    assert_mirrored(&net, &registry.url(), &wanted);
}

/// A docker-registry behind nginx with TLS.
fn behind_nginx(net: &Net, registry: &DockerRegistry, more: &str) -> Nginx {
    let identity = net.ca().issue(&["127.0.0.1".to_owned()]);
    let to = registry.addr();
    let setup = nginx::Setup {
        to,
        tls: Some(&identity),
        client_ca: None,
        http: "",
        server: more,
        location: nginx::AS_THEY_ARE,
    };
    Nginx::start(&setup).unwrap()
}

#[test]
fn r8_a_registry_that_does_not_know_of_the_tls_before_it_is_pushed_to_over_tls() {
    if !require("docker-registry") || !require("nginx") {
        return;
    }
    for relative_urls in [false, true] {
        let stage = Stage::new(CONTROL_PLANE);
        let registry = DockerRegistry::start(&Setup { relative_urls, ..Setup::default() }).unwrap();
        let nginx = behind_nginx(&stage.net, &registry, "client_max_body_size 0;");
        let ca = stage.net.ca_file();
        stage.program_to(&nginx.host()).args(&["--ca-file", ca.to_str().unwrap()]).run().expect(0);
        assert_mirrored(&stage.net, &registry.url(), &stage.wanted());
    }
}

#[test]
fn r8_a_proxy_that_takes_one_mebibyte_gets_smaller_pieces() {
    if !require("docker-registry") || !require("nginx") {
        return;
    }
    let net = Net::new();
    let mut content = Content::new();
    content.add("group/large", "1", &Image::generated(Kind::Oci, 3, &[9 << 20, 3_000_000]));
    content.add("group/small", "1", &Image::generated(Kind::Oci, 4, &[900]));
    let source = net.registry("source").content(&content).start();
    let registry = DockerRegistry::start(&Setup::default()).unwrap();
    let nginx = behind_nginx(&net, &registry, "client_max_body_size 1m;");
    let ca = format!("--ca-file={}", net.ca_file().display());
    let run = mirror_all(&content, &source.url(), &nginx.host(), &[&ca]).expect(0);
    assert_mirrored(&net, &registry.url(), &wanted(&content));
    assert_eq!(run.stderr.matches("client_max_body_size").count(), 1, "said once:\n{}", run.stderr);
}

#[test]
fn r8_a_proxy_that_loses_patience_is_tried_again() {
    if !require("docker-registry") || !require("nginx") {
        return;
    }
    let stage = Stage::new(CONTROL_PLANE);
    let registry = DockerRegistry::start(&Setup::default()).unwrap();
    let nginx = behind_nginx(&stage.net, &registry, "client_max_body_size 0; client_body_timeout 1s;");
    stage.source.fault(on(Op::BlobGet).nth(3).then(Fault::DelayBody(2 * SECOND)));
    let ca = stage.net.ca_file();
    stage.program_to(&nginx.host()).args(&["--ca-file", ca.to_str().unwrap()]).run().expect(0);
    assert_mirrored(&stage.net, &registry.url(), &stage.wanted());
}

#[test]
fn r10_a_target_that_is_stopped_in_order_and_started_again_gets_everything() {
    if !require("docker-registry") {
        return;
    }
    let options = SetOptions { layer_size: 200_000..=900_000, ..SetOptions::default() };
    let stage = Stage::with(CONTROL_PLANE, &options, |source| source, |target| target);
    stage.source.fault(on(Op::BlobGet).then(Fault::DelayBody(Duration::from_millis(60))));
    let setup = Setup { secret: Some("kept"), drain: true, ..Setup::default() };
    let mut target = DockerRegistry::start(&setup).unwrap();
    let mut running = stage.program_to(&target.host()).args(&["-p", "2"]).start();
    running.hear("copied ");
    target.terminate();
    std::thread::sleep(SECOND);
    target.restart().unwrap();
    running.wait().expect(0);
    assert_mirrored(&stage.net, &target.url(), &stage.wanted());
}

/// The files below a directory, without what differs by the moment.
fn tree(root: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            match path.is_dir() {
                true => open.push(path),
                false if name.contains("/_manifests/") || name.ends_with("/link") => {
                    files.insert(name, std::fs::read(&path).unwrap());
                }
                false => {}
            }
        }
    }
    files
}

#[test]
fn r14_skopeo_and_this_program_leave_equal_trees() {
    if !require("docker-registry") || !require("skopeo") {
        return;
    }
    let net = Net::new();
    let mut content = Content::new();
    for shape in odd_shapes().iter().filter(|shape| {
        // skopeo 1.9 knows neither nested indexes nor artifacts.
        [
            "index",
            "attestations",
            "docker-manifest",
            "docker-list-of-oci",
            "trailing-newline",
            "crlf",
            "tabs",
            "non-ascii",
        ]
        .contains(&shape.name)
    }) {
        content.add(&format!("shapes/{}", shape.name), "1", &shape.image);
    }
    let source = DockerRegistry::start(&Setup::default()).unwrap();
    let (ours, theirs) = (
        DockerRegistry::start(&Setup::default()).unwrap(),
        DockerRegistry::start(&Setup::default()).unwrap(),
    );
    net.block_on(load(&content, &net.client(), &source.url(), None)).unwrap();
    mirror_all(&content, &source.url(), &ours.host(), &[]).expect(0);
    for (repository, tag, _) in content.tags() {
        let from = format!("docker://{}/{repository}:{tag}", source.host());
        let to = format!("docker://{}/{repository}:{tag}", theirs.host());
        let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        skopeo(&["copy", "--all", "--preserve-digests", plain[0], plain[1], &from, &to]).unwrap();
    }
    let (ours, theirs) = (tree(&ours.repositories()), tree(&theirs.repositories()));
    let names = |tree: &std::collections::BTreeMap<String, Vec<u8>>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    assert_eq!(ours, theirs);
    assert!(ours.len() > 40, "{}", ours.len());
}
