//! Images that can be had nowhere any more.

use super::select::select;
use super::*;

fn is_gone(image: &SelectedImage) -> bool {
    image.reference.to_string().starts_with("gcr.io/cloud-provider-vsphere/")
}

#[test]
fn a_run_for_old_versions_has_nothing_that_is_gone_and_says_so_once() {
    let mut references = BTreeSet::new();
    let runs: [(Option<&str>, &[&str]); 5] = [
        (None, &["1.19", "1.20", "1.21", "1.22", "1.23", "1.24"]),
        (Some("1.3"), &[]),
        (Some("1.4"), &[]),
        (Some("1.5"), &[]),
        (Some("1.6"), &[]),
    ];
    for (kubeone, kubernetes) in runs {
        let mut selection = select(&[], kubernetes, kubeone);
        assert!(selection.images.iter().all(|image| image.gone.is_some() == is_gone(image)));
        selection.leave_out_gone(|_| false);
        assert!(!selection.images.iter().any(is_gone));
        assert_eq!(selection.warnings.len(), 1, "{:?}", selection.warnings);
        let count =
            format!(" and {} other images are left out, gone since 2024-09-17: ", selection.gone.len() - 1);
        assert!(selection.warnings[0].contains(&count), "{:?}", selection.warnings);
        assert!(selection.warnings[0].ends_with("--source-mirror gcr.io=PLACE"), "{:?}", selection.warnings);
        references.extend(selection.gone.into_iter().map(|image| image.reference));
    }
    assert_eq!(references.len(), 19);
}

#[test]
fn what_an_earlier_patch_release_misspells_is_left_out() {
    let mut selection = select(&[], &["1.33"], Some("1.12.0"));
    selection.leave_out_gone(|_| false);
    assert!(selection.gone.len() == 1 && selection.gone[0].reference.to_string().starts_with(MISSPELT));
    assert!(
        selection.warnings[0].contains("KubeOne 1.12.0 misspells cilium-envoy"),
        "{:?}",
        selection.warnings
    );
    for patch in ["1.12.1", "1.7.5", "1.7.6", "1.8.2", "1.8.3"] {
        let newest = if patch.starts_with("1.12") { "1.33" } else { "1.27" };
        let selection = select(&[], &[newest], Some(patch));
        let is_old = ["1.7.5", "1.8.2"].contains(&patch);
        let gone = selection.images.iter().filter(|image| image.gone.is_some()).count();
        assert_eq!(gone, if is_old { 3 } else { 0 }, "KubeOne {patch}");
    }
}

#[test]
fn what_is_gone_is_taken_where_a_mirror_has_its_host_or_the_user_names_it() {
    let mut selection = select(&[], &["1.22"], None);
    let before = selection.clone();
    selection.leave_out_gone(|host| host.as_str() == "gcr.io");
    assert_eq!(selection, before);
    let named = selection.images.iter_mut().find(|image| is_gone(image)).unwrap();
    named.named_by.push("--image".to_owned());
    let named = named.reference.clone();
    selection.leave_out_gone(|host| host.as_str() == "docker.io");
    let left: Vec<_> = selection.images.iter().filter(|image| is_gone(image)).map(|i| &i.reference).collect();
    assert_eq!((left, selection.gone.len()), (vec![&named], 2));
}
