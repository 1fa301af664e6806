//! Images that are named by their digest alone.

use crate::program::Program;
use crate::support::digest::Digest;
use crate::support::reader::{Depth, Reader};
use crate::support::{Content, Image, Kind, Net, Op};

const REPOSITORY: &str = "acme/app";

#[test]
fn an_image_that_is_named_by_its_digest_alone_gets_a_tag_that_nothing_else_has() {
    let net = Net::new();
    let image = Image::generated(Kind::Oci, 7, &[4_000, 2_000]);
    let mut content = Content::new();
    content.add_untagged(REPOSITORY, &image);
    let source = net.registry("source").content(&content).start();
    let target = net.registry("target").start();
    let digest: Digest = image.digest();
    let hex = digest.strip_prefix("sha256:").unwrap().to_owned();
    let tag = format!("pinned-sha256-{hex}");
    // The tag of the list of referrers, and one of cosign's, belong to others.
    let other = Image::generated(Kind::Oci, 8, &[1_000]);
    let mut theirs = Content::new();
    let tags = [format!("sha256-{hex}"), format!("sha256-{hex}.sig")];
    tags.iter().for_each(|tag| _ = theirs.add(REPOSITORY, tag, &other));
    target.add(&theirs);

    let reference = format!("quay.io/{REPOSITORY}@{digest}");
    let mirror = format!("--source-mirror=quay.io={}", source.url());
    let run =
        |more: &[&str]| Program::new(&["--image", &reference, &mirror, &target.host()]).args(more).run();
    let name = format!("{}/{REPOSITORY}:{tag}", target.host());
    assert_eq!(run(&["--dry-run"]).expect(0).stdout, format!("{reference} → {name}\n"));
    assert!(run(&["--check"]).expect(1).stdout.contains(&format!("missing   {reference} → {name}\n")));
    for (result, copied) in [("copied", 1), ("present", 0)] {
        let ended = run(&["-o", "json"]).expect(0);
        assert_eq!((ended.number("copied"), ended.number(result)), (copied, 1), "{ended:?}");
    }
    run(&["--check"]).expect(0);
    assert_eq!(target.digest_of(REPOSITORY, &tag), Some(digest.clone()));
    for tag in &tags {
        assert_eq!(target.digest_of(REPOSITORY, tag), Some(other.digest()), "{tag}");
    }
    let reader = Reader::new(net.client(), &target.url());
    let tree = net.block_on(reader.read(REPOSITORY, &tag, Depth::Bytes)).expect("it is there, whole");
    assert_eq!(tree.root, digest);
    net.journal().assert_tag_last("target");
    assert!(net.journal().of("target", Op::ManifestPut).iter().all(|put| put.path.ends_with(&tag)));
}
