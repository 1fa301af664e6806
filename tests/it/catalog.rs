//! What the catalog says of images, as a user sees it.

use crate::cluster::Manifest;
use crate::program::Program;
use crate::stage::{NO_PINS, closed_port};

const VSPHERE: [&str; 6] = ["-k", "1.22", "--provider", "vsphere", "--filter", "optional"];
const GONE: &str = "gcr.io/cloud-provider-vsphere/";

#[test]
fn what_is_gone_is_left_out_counted_and_explained() {
    let dry = |more: &[&str]| Program::new(&["--dry-run", "r:1"]).args(&VSPHERE).args(more).run().expect(0);
    let plain = dry(&[]);
    assert!(!plain.stdout.contains(GONE) && plain.stdout.contains("sig-storage"), "{plain:?}");
    assert!(plain.stderr.contains("and 2 other images are left out, gone since 2024-09-17"), "{plain:?}");
    let explained = dry(&["-v"]).stdout;
    let told = format!(
        "{GONE}csi/release/driver:v2.6.0 is left out, gone since 2024-09-17\n    optional VsphereCSIDriver"
    );
    assert!(explained.contains(&told), "{explained}");
    let mirrored = dry(&["--source-mirror", "gcr.io=cache.example", NO_PINS]);
    assert_eq!(mirrored.stdout.matches(GONE).count(), 3, "{mirrored:?}");
    assert!(mirrored.stderr.is_empty(), "{mirrored:?}");
    let named = dry(&["--image", "gcr.io/cloud-provider-vsphere/csi/release/driver:v2.6.0"]);
    assert_eq!(named.stdout.matches(GONE).count(), 1, "{named:?}");
    let target = closed_port();
    for mode in [&["--check"][..], &[]] {
        let run = |more: &[&str]| {
            Program::new(mode).args(&VSPHERE).args(&["--retries", "0", &target]).args(more).run()
        };
        let report = run(&["-o", "json"]).expect(3).report();
        assert_eq!(report["gone"], 3, "{report}");
        assert!(run(&[]).stdout.contains("3 images left out, gone upstream\n"), "{mode:?}");
    }
}

#[test]
fn a_selection_of_which_all_is_gone_says_so() {
    let vsphere =
        ["-k", "1.22", "--kubeone-version", "1.3", "--addon", "ccm-vsphere", "--filter", "optional"];
    for command in [&["--dry-run", "r:1"][..], &["--check", "r:1"], &["r:1"]] {
        let told = Program::new(command).args(&vsphere).run().expect(2).stderr;
        for part in ["no image is left", "gone upstream", "--source-mirror gcr.io=PLACE"] {
            assert!(told.contains(part), "{command:?}: {part}: {told}");
        }
        assert!(!told.contains("the groups of --filter"), "{told}");
    }
    let kept = Program::new(&["--dry-run", "r:1", "--source-mirror", "gcr.io=r.example"])
        .args(&vsphere)
        .run()
        .expect(0);
    assert_eq!(kept.stdout.lines().count(), 1, "{kept:?}");
}

/// The embedded catalog's documents of releases.
fn releases() -> Vec<serde_json::Value> {
    let text = Program::new(&["catalog"]).run().expect(0).stdout;
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).expect("it is YAML");
    documents.into_iter().filter(|document| document["kubeone"].is_string()).collect()
}

fn dry_run(flags: &[&str]) -> Vec<serde_json::Value> {
    let ended = Program::new(&["--dry-run", "-o", "json", "r:1"]).args(flags).run().expect(0);
    ended.report().as_array().expect("a list").clone()
}

#[test]
fn an_addon_that_is_named_brings_images_that_kubeones_own_list_lacks() {
    let mut unlisted = 0;
    for release in releases() {
        let kubeone = release["kubeone"].as_str().unwrap();
        let minor = release["kubernetes"][0].as_str().unwrap();
        for entry in release["unlisted"].as_array().into_iter().flatten() {
            let (addon, image) = (entry["addons"][0].as_str().unwrap(), entry["image"].as_str().unwrap());
            let flags = ["-k", minor, "--kubeone-version", kubeone, "--addon", addon, "--filter", "optional"];
            let lines = dry_run(&flags);
            let line = lines.iter().find(|line| line["source"] == image);
            let line = line.unwrap_or_else(|| panic!("KubeOne {kubeone} {addon}: no {image}"));
            let reasons = line["reasons"].as_array().unwrap();
            let reason = reasons.iter().find(|reason| reason["resource"] == "unlisted").unwrap();
            assert_eq!(reason["addons"], serde_json::json!([addon]), "{line}");
            assert_eq!(reason["overwritten"], entry["overwritten"], "{line}");
            unlisted += 1;
        }
    }
    assert_eq!(unlisted, 48);
    // Without an addon that is asked for, the selection is KubeOne's list.
    let whole = dry_run(&["-k", "1.27", "--kubeone-version", "1.7", "--filter", "optional"]);
    assert!(!whole.iter().any(|line| line["source"] == "docker.io/library/alpine:3.12.4"));
}

#[test]
fn what_overwrite_registry_does_not_reach_is_said_with_what_does() {
    let manifest = |kubernetes: &str, more: &str| {
        Manifest::new(&format!(
            "apiVersion: kubeone.k8c.io/v1beta2\nkind: KubeOneCluster\nversions: {{kubernetes: {kubernetes}}}\n\
             cloudProvider: {{aws: {{}}}}\n{more}"
        ))
    };
    let run = |manifest: &Manifest, arguments: &[&str]| {
        Program::new(arguments).args(&["-m", manifest.path().to_str().unwrap(), "r.example"]).run().expect(0)
    };
    let upgrades = "addons: {enable: true, addons: [{name: unattended-upgrades}]}\n";
    let registry = "registryConfiguration: {overwriteRegistry: r.example}\n";
    let alpine = "does not reach docker.io/library/alpine:3.12.4 of unattended-upgrades";
    let driver = "does not reach public.ecr.aws/ebs-csi-driver/aws-ebs-csi-driver:v1.61.1 of csi-aws-ebs";
    for (manifest, told) in [
        (manifest("1.26.15", &format!("{upgrades}{registry}")), alpine),
        (manifest("1.36.3", registry), driver),
    ] {
        let dry = run(&manifest, &["--dry-run"]);
        assert!(dry.stderr.contains(told) && dry.stderr.contains("--format kubeone-containerd"), "{dry:?}");
        let config = run(&manifest, &["config"]);
        assert!(config.stderr.contains(told), "{config:?}");
        let containerd = run(&manifest, &["config", "--format", "kubeone-containerd"]);
        assert!(!containerd.stderr.contains("does not reach"), "{containerd:?}");
        let host = told.split(['/', ' ']).nth(3).unwrap();
        assert!(containerd.stdout.contains(&format!("\"{host}\":")), "{containerd:?}");
    }
    // A cluster that does not overwrite, or redirects the host beside it, is not bothered.
    let redirects =
        "containerRuntime: {containerd: {registries: {public.ecr.aws: {mirrors: ['https://r.example']}}}}\n";
    for more in [String::new(), format!("{registry}{redirects}")] {
        let dry = run(&manifest("1.36.3", &more), &["--dry-run"]);
        assert!(!dry.stderr.contains("does not reach"), "{dry:?}");
    }
    let whole = Program::new(&["config", "-k", "1.36.3", "r.example"]).run().expect(0);
    assert!(whole.stderr.contains(driver), "{whole:?}");
}
