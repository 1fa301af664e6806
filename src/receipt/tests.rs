use std::fs;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::*;
use crate::image::reference::Algorithm;

/// A directory with keys that openssl has made.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs openssl in the directory; whether it is content.
    fn openssl(&self, arguments: &[&str]) -> bool {
        let output = Command::new("openssl").args(arguments).current_dir(self.0.path()).output();
        output.expect("openssl").status.success()
    }

    fn make(&self, name: &str, how: &[&str]) -> (SigningKey, PublicKey) {
        let (private, public) = (format!("{name}.key"), format!("{name}.pub"));
        assert!(self.openssl(&[&["genpkey", "-out", &private], how].concat()));
        assert!(self.openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]));
        let read = |name: &str| fs::read(self.path(name)).unwrap();
        (SigningKey::read(&read(&private)).unwrap(), PublicKey::read(&read(&public)).unwrap())
    }
}

const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const ED25519: &[&str] = &["-algorithm", "ed25519"];

fn digest(text: &str) -> Digest {
    Digest::of(Algorithm::Sha256, text.as_bytes())
}

fn made() -> Made {
    Made { tool: "0.2.0".to_owned(), catalog: Some(digest("catalog").to_string()) }
}

fn records() -> Vec<Record> {
    let record = |name: &str, platforms: &[&str]| Record {
        source: format!("registry.k8s.io/{name}"),
        digest: digest(name),
        target: format!("r.example.com:5000/{name}"),
        platforms: platforms.iter().map(|platform| (*platform).to_owned()).collect(),
        result: Outcome::Copied,
    };
    vec![record("pause:3.10.2", &["linux/amd64"]), record("etcd:3.6", &[])]
}

/// The statement, what is signed of it and the signature, as another program finds them in a bundle.
fn taken_apart(bundle: &str) -> (Value, Vec<u8>, Vec<u8>) {
    let bundle: Value = serde_json::from_str(bundle).unwrap();
    assert_eq!(bundle["mediaType"], "application/vnd.dev.sigstore.bundle.v0.3+json");
    assert!(bundle["verificationMaterial"]["publicKey"]["hint"].is_string());
    let envelope = &bundle["dsseEnvelope"];
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    let payload = BASE64.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let head = format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len());
    let signature = BASE64.decode(envelope["signatures"][0]["sig"].as_str().unwrap()).unwrap();
    (serde_json::from_slice(&payload).unwrap(), [head.as_bytes(), &payload].concat(), signature)
}

#[test]
fn openssl_verifies_what_is_signed_by_either_kind_of_key() {
    let keys = Keys::new();
    for (name, how) in [("p256", P256), ("ed25519", ED25519)] {
        let (private, public) = keys.make(name, how);
        let bundle = sign(&private, &made(), &records(), &digest("lock")).unwrap();
        let (_, signed, signature) = taken_apart(&bundle);
        fs::write(keys.path("signature"), &signature).unwrap();
        let verifies = |bytes: &[u8]| {
            fs::write(keys.path("signed"), bytes).unwrap();
            let public = format!("{name}.pub");
            if name == "p256" {
                keys.openssl(&["dgst", "-sha256", "-verify", &public, "-signature", "signature", "signed"])
            } else {
                let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", &public, "-rawin"];
                keys.openssl(&[&verify[..], &["-in", "signed", "-sigfile", "signature"]].concat())
            }
        };
        assert!(verifies(&signed), "{name}");
        let mut other = signed.clone();
        *other.last_mut().unwrap() ^= 1;
        assert!(!verifies(&other), "{name}");
        assert_eq!(private.public(), public);
        let statement = verify(&public, bundle.as_bytes()).unwrap();
        assert_eq!((statement.lock, statement.records.len()), (digest("lock"), 2));
        assert_eq!(statement.made, made());
    }
}

#[test]
fn a_statement_has_every_name_with_its_digest_and_the_lock_in_one_order() {
    let keys = Keys::new();
    let (private, _) = keys.make("a", ED25519);
    let bundle = |records: &[Record]| sign(&private, &made(), records, &digest("lock")).unwrap();
    let (statement, ..) = taken_apart(&bundle(&records()));
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    let hex = |text: &str| digest(text).as_str()[7..].to_owned();
    let subject = |name: &str, of: &str| json!({ "name": name, "digest": { "sha256": hex(of) } });
    let expected = json!([
        subject("r.example.com:5000/etcd:3.6", "etcd:3.6"),
        subject("r.example.com:5000/pause:3.10.2", "pause:3.10.2"),
        subject("mirror-images.lock.json", "lock"),
    ]);
    assert_eq!(statement["subject"], expected);
    let image = &statement["predicate"]["images"][1];
    assert_eq!(image["source"], "registry.k8s.io/pause:3.10.2");
    assert_eq!((&image["platforms"], &image["result"]), (&json!(["linux/amd64"]), &json!("copied")));
    let mut reversed = records();
    reversed.reverse();
    assert_eq!(bundle(&records()), bundle(&reversed), "whatever the order of the run was");
}

#[test]
fn nothing_is_believed_that_the_key_has_not_signed() {
    let keys = Keys::new();
    let (private, public) = keys.make("a", ED25519);
    let (_, other) = keys.make("b", ED25519);
    let (_, another_kind) = keys.make("c", P256);
    let bundle = sign(&private, &made(), &records(), &digest("lock")).unwrap();
    for key in [&other, &another_kind] {
        assert_eq!(verify(key, bundle.as_bytes()), Err(ReceiptError::Signature));
    }
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut bundle: Value = serde_json::from_str(&bundle).unwrap();
        change(&mut bundle);
        verify(&public, bundle.to_string().as_bytes()).unwrap_err()
    };
    let payload = |from: &str, to: &str| {
        changed(&|bundle| {
            let payload = &mut bundle["dsseEnvelope"]["payload"];
            let text = String::from_utf8(BASE64.decode(payload.as_str().unwrap()).unwrap()).unwrap();
            assert!(text.contains(from));
            *payload = BASE64.encode(text.replace(from, to)).into();
        })
    };
    assert_eq!(payload("etcd:3.6", "etcd:3.7"), ReceiptError::Signature);
    assert_eq!(payload(&digest("lock").as_str()[7..], &digest("x").as_str()[7..]), ReceiptError::Signature);
    let none = changed(&|bundle| bundle["dsseEnvelope"]["signatures"] = json!([]));
    assert_eq!(none, ReceiptError::Signature);
    let typed = changed(&|bundle| bundle["dsseEnvelope"]["payloadType"] = "text/plain".into());
    assert!(matches!(typed, ReceiptError::NotBundle(_)));
    let version =
        changed(&|bundle| bundle["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.4+json".into());
    assert!(matches!(version, ReceiptError::OtherBundle(_)));
    // One of several signatures is enough, and of very many only the first are tried.
    let mut several: Value = serde_json::from_str(&bundle).unwrap();
    let right = several["dsseEnvelope"]["signatures"][0].clone();
    several["dsseEnvelope"]["signatures"] = json!([{ "sig": "AAAA" }, right]);
    assert!(verify(&public, several.to_string().as_bytes()).is_ok());
    several["dsseEnvelope"]["signatures"] = vec![json!({ "sig": "AAAA" }); 8].into();
    several["dsseEnvelope"]["signatures"].as_array_mut().unwrap().push(right);
    assert_eq!(verify(&public, several.to_string().as_bytes()), Err(ReceiptError::Signature));
}

#[test]
fn what_is_signed_and_no_receipt_is_refused() {
    let keys = Keys::new();
    let (private, public) = keys.make("a", ED25519);
    let good: Value =
        serde_json::from_slice(&Statement::new(made(), records(), digest("lock")).to_bytes()).unwrap();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut statement = good.clone();
        change(&mut statement);
        let bundle = envelope::seal(&private, statement.to_string().as_bytes()).unwrap();
        match verify(&public, bundle.as_bytes()) {
            Err(ReceiptError::Statement(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(&|s| s["predicateType"] = "https://slsa.dev/provenance/v1".into()).contains("slsa"));
    assert!(refused(&|s| s["_type"] = "x".into()).contains("type"));
    // An image that the subjects do not have, and the other way round.
    assert!(refused(&|s| _ = s["subject"].as_array_mut().unwrap().remove(0)).contains("subjects"));
    assert!(
        refused(&|s| _ = s["predicate"]["images"].as_array_mut().unwrap().remove(0)).contains("subjects")
    );
    assert!(
        refused(&|s| s["predicate"]["images"][0]["digest"] = digest("x").as_str().into())
            .contains("subjects")
    );
    assert!(refused(&|s| s["predicate"]["images"][0]["digest"] = "sha256:../..".into()).contains("digest"));
    assert!(refused(&|s| _ = s["subject"].as_array_mut().unwrap().pop()).contains("no lock"));
    let lock = good["subject"][2].clone();
    assert!(refused(&|s| s["subject"].as_array_mut().unwrap().push(lock.clone())).contains("two locks"));
    assert!(refused(&|s| s["subject"][0]["digest"] = json!({})).contains("digest"));
    let bundle = envelope::seal(&private, b"\x1b[2J").unwrap();
    let told = verify(&public, bundle.as_bytes()).unwrap_err().to_string();
    assert!(!told.contains('\u{1b}'), "{told:?}");
}

#[test]
fn keys_are_told_by_what_they_are() {
    let keys = Keys::new();
    keys.make("good", ED25519);
    let read = |name: &str| fs::read(keys.path(name)).unwrap();
    let make = |name: &str, arguments: &[&str]| {
        assert!(keys.openssl(&[arguments, &["-out", name]].concat()), "{name}");
        read(name)
    };
    let signing = |pem: &[u8]| SigningKey::read(pem).unwrap_err();
    let p384 = make("p384", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    assert_eq!(signing(&p384), KeyError::OtherKind);
    let rsa = make("rsa", &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    assert_eq!(signing(&rsa), KeyError::OtherKind);
    let old = make("old", &["ecparam", "-name", "prime256v1", "-genkey", "-noout"]);
    assert_eq!(signing(&old), KeyError::OldForm);
    assert!(keys.openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", "old", "-out", "converted"]));
    assert!(SigningKey::read(&read("converted")).is_ok(), "what the message says helps");
    let encrypt = ["pkcs8", "-topk8", "-passout", "pass:x", "-in", "good.key"];
    assert_eq!(signing(&make("encrypted", &encrypt)), KeyError::Encrypted);
    assert_eq!(signing(&read("good.pub")), KeyError::NoPem("private key"));
    assert_eq!(signing(&vec![b'x'; KEY_LENGTH]), KeyError::TooLarge);
    assert_eq!(PublicKey::read(&read("good.key")), Err(KeyError::Private));
    assert_eq!(PublicKey::read(b"x"), Err(KeyError::NoPem("public key")));
    let public = make("rsa.pub", &["pkey", "-in", "rsa", "-pubout"]);
    assert_eq!(PublicKey::read(&public), Err(KeyError::OtherKind));
    assert_eq!(format!("{:?}", SigningKey::read(&read("good.key")).unwrap()), "SigningKey(***)");
}

/// More than a file of a key may have.
const KEY_LENGTH: usize = key::KEY_MAX + 1;

#[test]
fn a_receipt_has_a_bound() {
    let (_, public) = Keys::new().make("a", ED25519);
    assert_eq!(verify(&public, &vec![b' '; BUNDLE_MAX + 1]), Err(ReceiptError::TooLarge));
    assert!(matches!(verify(&public, &[b'['; 100_000]), Err(ReceiptError::NotBundle(_))));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_readers_fail(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = SigningKey::read(&bytes);
        let _ = PublicKey::read(&bytes);
        let _ = Statement::read(&bytes);
    }
}
