//! `--deep` and `--repair`: below tags that are right.

use mirror_images::check::{Check, Standing};
use mirror_images::output::report::Exit;

use crate::program::Program;
use crate::scene::{Scene, gets_of, own_layer, place_of, puts_of, two};
use crate::support::content::Child;
use crate::support::digest::Digest;
use crate::support::registry::Registry;
use crate::support::{Cut, Fault, Image, Kind, Op, on};

/// What both images of [`two`] have.
fn base_layer(images: &[(&'static str, Image)]) -> Digest {
    images[0].1.blobs[1].digest.clone()
}

fn config(images: &[(&'static str, Image)]) -> Digest {
    images[0].1.blobs[0].digest.clone()
}

/// Two images, mirrored; what the run asked is forgotten.
fn mirrored(images: &[(&'static str, Image)]) -> Scene {
    let scene = Scene::new(images);
    scene.run().done();
    scene.journal().clear();
    scene
}

impl Scene {
    fn flags(self, flags: &[&'static str]) -> Self {
        flags.iter().fold(self.without_flags(), |scene, flag| scene.flag(flag))
    }

    /// What a check with these flags says, which writes nothing and fetches nothing of the source but digests.
    #[track_caller]
    fn checked(self, deep: &'static str) -> (Self, Check) {
        let scene = self.flags(&["--check", deep]);
        scene.journal().clear();
        let check = scene.check();
        scene.journal().assert_read_only();
        let fetched = scene.journal().filter(|e| e.host == "source" && e.method == "GET" && e.op != Op::Ping);
        assert!(fetched.is_empty(), "{}", scene.journal().dump());
        (scene, check)
    }

    /// Mirrors with these flags; what was asked before is forgotten.
    #[track_caller]
    fn repaired(self, flags: &[&'static str]) -> Self {
        let scene = self.flags(&[&["--repair"], flags].concat());
        scene.journal().clear();
        scene.run().done();
        scene
    }
}

/// The cause for which a repository's image is partial.
#[track_caller]
fn cause<'c>(check: &'c Check, repository: &str) -> &'c str {
    let line = check.images.iter().find(|line| place_of(&line.source).0 == repository).expect("a line");
    assert_eq!(line.state, Standing::Partial, "{check}");
    line.cause.as_deref().expect("a cause")
}

#[track_caller]
fn assert_whole(check: &Check) {
    assert_eq!((check.there, check.exit()), (check.images.len(), Exit::Done), "{check}");
}

type Spoil = fn(&Registry, &Digest);

#[test]
fn what_is_missing_or_damaged_below_a_right_tag_is_found_by_a_deep_check_and_sent_again_by_a_repair() {
    let missing: Spoil = |target, digest| target.delete_blob(digest);
    let unlinked: Spoil = |target, digest| target.unlink_blob("group/first", digest);
    let short: Spoil = |target, digest| target.truncate_blob(digest, 10);
    let damaged: Spoil = |target, digest| target.flip_blob(digest, 5);
    let images = two(9_000);
    let (own, config) = (own_layer(&images), config(&images));
    for (digest, spoil, deep, words) in [
        (&own, missing, "--deep", "(9000 bytes) is missing"),
        (&own, unlinked, "--deep=size", "(9000 bytes) is missing"),
        (&own, short, "--deep", "has 10 bytes instead of 9000"),
        (&own, missing, "--deep=bytes", "(9000 bytes) is missing"),
        (&own, short, "--deep=bytes", "has 10 bytes instead of 9000"),
        (&own, damaged, "--deep=bytes", "(9000 bytes) has other bytes"),
        (&config, damaged, "--deep=bytes", "has other bytes"),
        (&config, unlinked, "--deep", "is missing"),
    ] {
        let scene = mirrored(&images);
        scene.target.replace_damaged_blobs();
        spoil(&scene.target, digest);
        // Whoever does not look believes the tag.
        assert_whole(&scene.check());
        assert_eq!(scene.run_unjudged().present, 2);

        let (scene, check) = scene.checked(deep);
        assert_eq!((check.there, check.partial, check.exit()), (1, 1, Exit::SomeFailed), "{check}");
        let cause = cause(&check, "group/first");
        for word in [digest.as_str(), words, "1 of its 3 blobs", "--repair"] {
            assert!(cause.contains(word), "{word}: {cause}");
        }
        assert_eq!((check.work.blobs_to_copy, check.work.manifests_to_copy), (1, 1), "{check}");
        assert!(check.to_string().contains("A run with --repair would pull and push"), "{check}");

        let scene = scene.repaired(&[deep]);
        assert_eq!(puts_of(scene.journal(), digest).len(), 1, "{}", scene.journal().dump());
        assert_eq!(scene.journal().count("target", Op::UploadPut), 1);
        assert_eq!(scene.journal().of("source", Op::ManifestGet).len(), 0);
        assert_whole(&scene.checked("--deep=bytes").1);
    }
}

#[test]
fn the_report_of_a_deep_check_names_each_damaged_blob_for_programs() {
    let images = two(9_000);
    let (own, base) = (own_layer(&images), base_layer(&images));
    let scene = mirrored(&images);
    scene.target.truncate_blob(&own, 10);
    scene.target.delete_blob(&base);
    let (_, check) = scene.checked("--deep");
    let json = serde_json::to_value(&check).unwrap();
    let first = &json["images"][0];
    assert_eq!((&first["state"], &first["lacks"]), (&"partial".into(), &"blobs".into()));
    let expected = serde_json::json!([
        { "digest": base, "size": 5_000, "flaw": "missing" },
        { "digest": own, "size": 9_000, "flaw": "size", "there": 10 },
    ]);
    assert_eq!(first["damaged"], expected, "{json}");
    assert_eq!(json["images"][1]["damaged"].as_array().unwrap().len(), 1);
}

#[test]
fn a_shared_layer_that_is_lost_is_sent_once_and_mounted_where_it_is_needed_besides() {
    let images = two(9_000);
    let base = base_layer(&images);
    for deep in ["--deep", "--deep=bytes"] {
        let scene = mirrored(&images);
        scene.target.delete_blob(&base);
        let (scene, check) = scene.checked(deep);
        assert_eq!(
            (check.partial, check.work.blobs_to_copy, check.work.blobs_to_mount),
            (2, 1, 1),
            "{check}"
        );
        let scene = scene.repaired(&[deep]);
        assert_eq!(puts_of(scene.journal(), &base).len(), 1, "{}", scene.journal().dump());
        // The other repository may be looked at when the file is there again.
        assert!(scene.journal().count("target", Op::Mount) <= 1);
        assert_eq!(gets_of(scene.journal(), &base).len(), 1);
    }
    // Where another repository has it, nothing is asked of the source.
    let scene = mirrored(&images);
    scene.target.unlink_blob("group/second", &base);
    let scene = scene.repaired(&[]);
    let journal = scene.journal();
    assert!(journal.count("target", Op::Mount) + puts_of(journal, &base).len() == 1, "{}", journal.dump());
}

#[test]
fn a_damaged_copy_that_a_target_keeps_is_named_with_what_helps_and_sent_once() {
    let images = two(9_000);
    let base = base_layer(&images);
    let short: Spoil = |target, digest| target.truncate_blob(digest, 10);
    let damaged: Spoil = |target, digest| target.flip_blob(digest, 5);
    for (spoil, deep, words) in [
        (short, "--deep", "10 bytes instead of 5000"),
        (short, "--deep=bytes", "10 bytes instead of 5000"),
        (damaged, "--deep=bytes", "5000 bytes that are not its own"),
    ] {
        let scene = mirrored(&images).flags(&["--repair", deep]);
        spoil(&scene.target, &base);
        let report = scene.run_unjudged();
        assert_eq!((report.failed, report.exit()), (2, Exit::SomeFailed), "{report}");
        let told = report.images[0].cause.as_deref().unwrap();
        for word in [base.as_str(), words, "delete it there", "group/first"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert_eq!(puts_of(scene.journal(), &base).len(), 1, "{}", scene.journal().dump());
        // Deleted there, it is sent.
        scene.target.delete_blob(&base);
        assert_whole(&scene.repaired(&[deep]).checked("--deep=bytes").1);
    }
}

#[test]
fn an_image_that_is_new_is_not_built_on_a_damaged_copy_where_bytes_are_looked_at() {
    let images = two(9_000);
    let base = base_layer(&images);
    let scene = mirrored(&images);
    scene.target.replace_damaged_blobs();
    let second = scene.target.digest_of("group/second", "1").unwrap();
    for repository in ["group/first", "group/second"] {
        scene.target.delete_tag(repository, "1");
    }
    scene.target.delete_manifest("group/second", &second);
    scene.target.flip_blob(&base, 5);
    // The judge of the run reads every byte.
    let scene = scene.repaired(&["--deep=bytes"]);
    assert!(!puts_of(scene.journal(), &base).is_empty(), "{}", scene.journal().dump());
}

#[test]
fn a_repair_copies_what_is_not_there_at_all_as_any_run_does() {
    let images = two(9_000);
    let scene = Scene::new(&images).repaired(&[]);
    assert_eq!(scene.journal().count("target", Op::UploadPut), scene.content.blobs.len());
    scene.target.delete_tag("group/second", "1");
    let scene = scene.repaired(&["--deep=bytes"]);
    assert_eq!(scene.journal().count("target", Op::UploadPut), 0, "{}", scene.journal().dump());
}

/// An index of two platforms in a repository, and an image in another.
fn with_index() -> (Vec<(&'static str, Image)>, [Image; 2]) {
    let parts = [1, 2].map(|seed| Image::generated(Kind::Oci, seed, &[4_000, 2_000]));
    let names = ["linux/amd64", "linux/arm64"];
    let children = parts.iter().zip(names).map(|(part, name)| Child::platform(name, part.clone()));
    let index = Image::index(Kind::Oci, children.collect());
    let single = Image::generated(Kind::Oci, 9, &[900]);
    (vec![("quay.io/group/first:1", index), ("quay.io/group/second:1", single)], parts)
}

#[test]
fn each_platform_of_an_index_is_looked_at_and_only_those_that_are_wanted() {
    let (images, parts) = with_index();
    let layer = parts[1].blobs[1].digest.clone();
    let scene = mirrored(&images);
    scene.target.delete_blob(&layer);
    let (scene, check) = scene.checked("--deep");
    assert!(cause(&check, "group/first").contains(&format!("{layer} (4000 bytes) is missing")), "{check}");
    assert!(cause(&check, "group/first").contains("1 of its 6 blobs"), "{check}");
    let scene = scene.flags(&["--check", "--deep", "--platform=linux/amd64"]);
    scene.journal().clear();
    assert_whole(&scene.check());
    let asked = scene.journal().of("target", Op::BlobHead);
    assert!(!asked.is_empty() && asked.iter().all(|e| e.reference != layer), "{}", scene.journal().dump());
    let scene = scene.repaired(&[]);
    assert_eq!(scene.journal().count("target", Op::UploadPut), 1);
}

#[test]
fn a_lost_manifest_of_a_platform_is_put_again_with_the_blobs_that_are_lost_too() {
    let (images, parts) = with_index();
    let layer = parts[0].blobs[1].digest.clone();
    for deep in ["--deep", "--deep=bytes"] {
        let scene = mirrored(&images);
        scene.target.delete_manifest("group/first", &parts[1].digest());
        scene.target.delete_blob(&layer);
        let scene = scene.flags(&["--check", deep]);
        let check = scene.check();
        assert!(
            cause(&check, "group/first").contains(&format!("{layer} (4000 bytes) is missing")),
            "{check}"
        );
        let json = serde_json::to_value(&check).unwrap();
        assert_eq!(json["images"][0]["lacks"], "platforms", "{json}");
        let scene = scene.repaired(&[deep]);
        assert_eq!(puts_of(scene.journal(), &layer).len(), 1);
        assert_eq!(scene.journal().count("target", Op::UploadPut), 1, "{}", scene.journal().dump());
        assert_whole(&scene.checked(deep).1);
    }
}

#[test]
fn a_manifest_below_a_right_tag_that_has_other_bytes_is_found_and_named_where_it_stays() {
    let (images, parts) = with_index();
    let scene = mirrored(&images);
    let child = parts[1].digest();
    scene.target.fault(on(Op::ManifestGet).digest(&child).then(Fault::FlipByte { at: 20 }));
    let scene = scene.flags(&["--check", "--deep"]);
    let check = scene.check();
    assert!(cause(&check, "group/first").contains(&child), "{check}");
    assert_eq!(check.there, 1);
    let scene = scene.flags(&["--repair"]);
    let report = scene.run_unjudged();
    let told = report.images[0].cause.as_deref().unwrap_or_default();
    assert!(told.contains(&format!("delete group/first@{child} there")), "{report}");
    assert_eq!((report.failed, report.present), (1, 1), "{report}");
}

#[test]
fn a_deep_check_asks_for_each_blob_once_in_each_repository_and_reads_it_once_at_all() {
    let base = Image::generated(Kind::Oci, 1, &[4_000, 2_000]);
    let other = Image::generated(Kind::Oci, 2, &[4_000]);
    let images = vec![
        ("quay.io/group/first:1", base.clone()),
        ("quay.io/group/first:2", base.clone()),
        ("quay.io/group/first:3", other),
        ("quay.io/group/second:1", base.clone()),
        ("quay.io/group/third:1", base),
    ];
    let scene = mirrored(&images);
    let pairs: usize = scene.content.repositories.values().map(|repository| repository.blobs.len()).sum();
    let (scene, check) = scene.checked("--deep");
    assert_whole(&check);
    assert_eq!(scene.journal().count("target", Op::BlobHead), pairs);
    assert_eq!(scene.journal().count("target", Op::BlobGet), 0);
    // One GET for each manifest, as without --deep.
    let manifests = scene.journal().count("target", Op::ManifestGet);
    let (scene, check) = scene.checked("--deep=bytes");
    assert_whole(&check);
    let blobs = scene.content.blobs.len();
    assert_eq!(scene.journal().count("target", Op::BlobGet), blobs, "{}", scene.journal().dump());
    assert_eq!(scene.journal().count("target", Op::BlobHead), pairs - blobs);
    assert_eq!(scene.journal().count("target", Op::ManifestGet), manifests);
    let scene = scene.flags(&["--check"]);
    scene.journal().clear();
    assert_whole(&scene.check());
    assert_eq!(scene.journal().count("target", Op::ManifestGet), manifests);
    assert_eq!(scene.journal().count("target", Op::BlobHead), 0);
}

#[test]
fn a_target_that_does_not_tell_sizes_is_asked_otherwise_and_believed_as_far_as_it_tells() {
    let images = two(9_000);
    let own = own_layer(&images);
    let scene = mirrored(&images);
    scene.target.fault(on(Op::BlobHead).then(Fault::RemoveHeader("Content-Length")));
    let (scene, check) = scene.checked("--deep");
    assert_whole(&check);
    scene.target.truncate_blob(&own, 10);
    let (scene, check) = scene.checked("--deep");
    assert!(cause(&check, "group/first").contains("has 10 bytes instead of 9000"), "{check}");
    let unknown = Fault::SetHeader("Content-Range", "bytes 0-0/*".to_owned());
    scene.target.fault(on(Op::BlobGet).range(true).then(unknown).then(Fault::NoLength));
    let (scene, check) = scene.checked("--deep");
    assert_whole(&check);
    let (_, check) = scene.checked("--deep=bytes");
    assert_eq!(check.partial, 1, "{check}");
}

#[test]
fn blobs_that_cannot_be_asked_for_are_a_failure_and_no_damage() {
    let images = two(9_000);
    let mut scene = mirrored(&images).retries(1);
    scene.target.fault(on(Op::BlobHead).or(Op::BlobGet).repo("group/first").then(Fault::Status(503)));
    for deep in ["--deep", "--deep=bytes"] {
        scene = scene.flags(&["--check", deep]);
        let check = scene.check();
        assert_eq!((check.failed, check.there, check.partial), (1, 1, 0), "{check}");
    }
}

#[test]
fn a_copy_that_is_damaged_on_its_way_once_is_read_again() {
    let images = two(9_000);
    let own = own_layer(&images);
    let scene = mirrored(&images);
    scene.target.fault(on(Op::BlobGet).digest(&own).times(1).then(Fault::FlipByte { at: 5 }));
    let (scene, check) = scene.checked("--deep=bytes");
    assert_whole(&check);
    assert_eq!(scene.journal().of("target", Op::BlobGet).iter().filter(|e| e.reference == own).count(), 2);
}

#[test]
fn a_blob_that_always_breaks_off_at_one_place_is_damaged_and_one_that_does_so_once_is_not() {
    let images = two(9_000);
    let own = own_layer(&images);
    let cut = || on(Op::BlobGet).digest(&own).range(false).then(Fault::CutBody { after: 100, how: Cut::Fin });
    let rest = || on(Op::BlobGet).digest(&own).range(true).then(Fault::CutBody { after: 0, how: Cut::Fin });
    let scene = mirrored(&images).retries(2);
    scene.target.fault(cut().times(1));
    let (scene, check) = scene.checked("--deep=bytes");
    assert_whole(&check);
    scene.target.fault(cut()).fault(rest());
    let (_, check) = scene.checked("--deep=bytes");
    assert!(cause(&check, "group/first").contains("can be read for 100 of 9000 bytes"), "{check}");
}

#[test]
fn a_tag_that_cannot_be_put_again_because_it_is_right_already_is_no_failure() {
    let images = two(9_000);
    let own = own_layer(&images);
    let scene = mirrored(&images);
    scene.target.delete_blob(&own);
    let immutable = Fault::Status(400).error("TAG_IMMUTABLE", "the tag is there");
    scene.target.fault(on(Op::ManifestPut).tag("1").then(immutable));
    assert_whole(&scene.repaired(&[]).checked("--deep").1);
}

#[test]
fn deep_and_repair_are_refused_where_they_mean_nothing() {
    for (flags, words) in [
        (&["--deep"][..], ["--check", "--repair"]),
        (&["--deep=bytes", "--dry-run"], ["--check", "--repair"]),
        (&["--repair", "--check"], ["--repair writes", "--check --deep"]),
        (&["--repair", "--dry-run"], ["--dry-run uses no network", "--check --deep"]),
        (&["--repair", "--check", "--deep"], ["--repair writes", "--check --deep"]),
    ] {
        let told = Program::new(&["--image", "alpine:3", "127.0.0.1:9"]).args(flags).run().expect(2);
        assert!(words.iter().all(|word| told.stderr.contains(word)), "{flags:?}: {}", told.stderr);
    }
    let told = Program::new(&["--check", "--deep=hash", "127.0.0.1:9"]).run().expect(2);
    assert!(told.stderr.contains("size, bytes"), "{}", told.stderr);
}
