//! What was mirrored, under a signature: a receipt beside the lock, and a lock that is believed only with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::program::{Ended, Program};
use crate::saved::json;
use crate::stage::{CONTROL_PLANE, Stage};
use crate::support::digest::sha256;

/// Two keys, and places for what is written.
struct Scene {
    stage: Stage,
    home: tempfile::TempDir,
}

fn openssl(arguments: &[&str], directory: &Path) -> bool {
    let output = Command::new("openssl").args(arguments).current_dir(directory).output().expect("openssl");
    output.status.success()
}

impl Scene {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let p256 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
        for (name, how) in [("one", &["-algorithm", "ed25519"][..]), ("two", &p256)] {
            let key = format!("{name}.key");
            assert!(openssl(&[&["genpkey", "-out", &key], how].concat(), home.path()));
            let public = ["pkey", "-in", &key, "-pubout", "-out", &format!("{name}.pub")];
            assert!(openssl(&public, home.path()));
        }
        Self { stage: Stage::new(CONTROL_PLANE), home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Mirrors to `target`, with a lock and its receipt.
    fn sign(&self, target: &str, key: &str) -> Ended {
        let flags = ["--lock-out", &self.text("lock.json"), "--sign-key", &self.text(key)];
        self.stage.program_to(target).args(&flags).run()
    }

    fn archive(&self) -> String {
        format!("oci-archive:{}", self.text("a.tar"))
    }

    /// Loads from the archive what the lock says, if that is signed by a key.
    fn load(&self, key: &str) -> Ended {
        let target = self.stage.target.host();
        self.stage.net.journal().clear();
        let lock = ["--lock", &self.text("lock.json"), "--verify-key", &self.text(key)];
        Program::new(&["--from", &self.archive(), &target]).args(&lock).run()
    }
}

#[test]
fn a_receipt_says_what_went_where_and_openssl_verifies_it() {
    let scene = Scene::new();
    let target = scene.stage.target.host();
    for (key, verify) in [
        (
            "one",
            &["pkeyutl", "-verify", "-pubin", "-rawin", "-in", "signed", "-sigfile", "signature", "-inkey"][..],
        ),
        ("two", &["dgst", "-sha256", "-signature", "signature", "signed", "-verify"]),
    ] {
        scene.sign(&target, &format!("{key}.key")).expect(0);
        let bundle = json(&scene.path("lock.json.sigstore.json"));
        let decoded = |value: &Value| BASE64.decode(value.as_str().unwrap()).unwrap();
        let payload = decoded(&bundle["dsseEnvelope"]["payload"]);
        let head = format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len());
        fs::write(scene.path("signed"), [head.as_bytes(), &payload].concat()).unwrap();
        fs::write(scene.path("signature"), decoded(&bundle["dsseEnvelope"]["signatures"][0]["sig"])).unwrap();
        let public = format!("{key}.pub");
        let mut arguments = verify.to_vec();
        // The file that is signed stands last for dgst.
        match arguments.iter().position(|word| *word == "signed").filter(|_| key == "two") {
            Some(at) => {
                arguments.remove(at);
                arguments.extend([public.as_str(), "signed"]);
            }
            None => arguments.push(&public),
        }
        assert!(openssl(&arguments, scene.home.path()), "{arguments:?}");

        let statement: Value = serde_json::from_slice(&payload).unwrap();
        let subjects = statement["subject"].as_array().unwrap();
        let lock = fs::read(scene.path("lock.json")).unwrap();
        let digest = format!("sha256:{}", subjects.last().unwrap()["digest"]["sha256"].as_str().unwrap());
        assert_eq!(digest, sha256(&lock));
        for ((repository, tag), digest) in scene.stage.wanted() {
            let name = format!("{target}/{repository}:{tag}");
            let subject = subjects.iter().find(|subject| subject["name"] == name.as_str());
            let subject = subject.unwrap_or_else(|| panic!("{name}: {statement}"));
            assert_eq!(format!("sha256:{}", subject["digest"]["sha256"].as_str().unwrap()), digest);
        }
        let results: Vec<&Value> = statement["predicate"]["images"]
            .as_array()
            .unwrap()
            .iter()
            .map(|image| &image["result"])
            .collect();
        let expected = if key == "one" { "copied" } else { "present" };
        assert!(results.len() >= 7 && results.iter().all(|result| **result == expected), "{results:?}");
    }
}

#[test]
fn what_was_carried_is_believed_only_as_far_as_it_is_signed() {
    let scene = Scene::new();
    scene.sign(&scene.archive(), "one.key").expect(0);
    let whole = fs::read(scene.path("lock.json")).unwrap();
    let bundle = fs::read(scene.path("lock.json.sigstore.json")).unwrap();
    let refused = |told: &str| {
        let run = scene.load("one.pub").expect(2);
        assert!(run.stderr.contains(told), "{}", run.stderr);
        assert_eq!(scene.stage.net.journal().requests("target"), 0, "{told}");
    };
    let other = scene.load("two.pub").expect(2);
    assert!(other.stderr.contains("no signature in it is of this key"), "{}", other.stderr);
    // A lock that somebody has changed on the way, and one that came with somebody else's receipt.
    fs::write(scene.path("lock.json"), [&whole[..], b" "].concat()).unwrap();
    refused("is of another lock");
    fs::write(scene.path("lock.json"), &whole).unwrap();
    fs::write(scene.path("lock.json.sigstore.json"), "{}").unwrap();
    refused("it is no Sigstore bundle");
    fs::remove_file(scene.path("lock.json.sigstore.json")).unwrap();
    refused("lock.json.sigstore.json");
    fs::write(scene.path("lock.json.sigstore.json"), &bundle).unwrap();
    scene.load("one.pub").expect(0);
    scene.stage.assert_mirrored();
}

#[test]
fn keys_that_are_none_and_flags_that_lead_nowhere_are_told_first() {
    let scene = Scene::new();
    let lock = scene.text("lock.json");
    let (key, public, missing) = (scene.text("one.key"), scene.text("one.pub"), scene.text("none"));
    let table: &[(&[&str], &str)] = &[
        (&["--sign-key", &key], "--lock-out"),
        (&["--verify-key", &public, "--lock", "l", "--accept-moved"], "takes what nobody has signed"),
        (&["--verify-key", &public, "--lock", "l", "--referrers"], "takes what nobody has signed"),
        (&["--verify-key", &public], "--lock"),
        (&["--lock-out", &lock, "--sign-key", &public], "it holds no private key"),
        (&["--lock-out", &lock, "--sign-key", &missing], "No such file"),
        (&["--lock-out", &lock, "--sign-key", &key, "--check"], "bring nothing"),
        (&["--lock-out", &scene.text("nowhere/lock"), "--sign-key", &key], "nowhere"),
    ];
    for (arguments, told) in table {
        let run = Program::new(&["r.invalid", "--image=r.invalid/a:1"]).args(arguments).run().expect(2);
        assert!(run.stderr.contains(told), "{arguments:?}: {}", run.stderr);
    }
}
