//! What the catalog says of images, as a user sees it.

use crate::program::Program;
use crate::stage::closed_port;

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
    let mirrored = dry(&["--source-mirror", "gcr.io=cache.example"]);
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
