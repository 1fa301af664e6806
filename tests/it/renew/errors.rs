//! What stops a renewal.

use super::project::{CATALOG, Project};
use super::renewed;
use super::upstream::{
    CONSTANTS, ENSURE, HELPERS, IMAGES, KUBEADM, NAMES, NET, UNIX_CONSTANTS, VALIDATION, images, kubeone,
    kubernetes,
};
use crate::support::process::require;

#[test]
fn what_is_not_understood_is_an_error_with_its_file_tag_and_line_and_changes_nothing() {
    if !require("git") {
        return;
    }
    let one_more = |line: &str| images("\t\tNet: {\"*\": \"acme/net:v4\"},\n", &format!("{line}\n"));
    let volume = "addons/volume/volume.yml";
    let table: [(&str, &str, &str, usize, &str); 18] = [
        (
            IMAGES,
            "",
            &one_more("\t\tNew: {\"~> 1.22\": \"acme/new:v1\"},"),
            18,
            "New has a constraint that is not known",
        ),
        (IMAGES, "", &one_more("\t\tNew: {\"*\": newImage},"), 18, "New has an image that is not a text"),
        (
            IMAGES,
            "",
            &one_more("\t\tNew: everywhere(\"acme/new:v1\"),"),
            18,
            "\"New\" does not begin an entry",
        ),
        (
            IMAGES,
            "",
            &one_more("\t\tNew: {\n\t\t\t\"*\": \"acme/new\",\n\t\t},"),
            19,
            "\"acme/new\" has no tag",
        ),
        (
            IMAGES,
            "",
            &one_more("\t\tNew: {\"< 1.22.5\": \"acme/new:v1\"},"),
            18,
            "differs within Kubernetes 1.22",
        ),
        (IMAGES, "return ret", "return ret /*", 34, "a comment that does not end"),
        (IMAGES, "func optionalResources", "func otherResources", 1, "0 functions optionalResources"),
        (
            VALIDATION,
            "MaximumSupportedVersion = \"1.23\"",
            "MaximumSupportedVersion = newest()",
            3,
            "newest ( )",
        ),
        (
            VALIDATION,
            "\">= %s\"",
            "\"~> %s\"",
            6,
            "minVersionConstraint is a constraint that is not known: \"~> 1.21\"",
        ),
        (VALIDATION, "maxVersionConstraint", "newestConstraint", 1, "not under any of the names known"),
        (
            HELPERS,
            "return fmt.Sprintf(\"%s/pause:3.4\", registry), nil",
            "return pause(registry), nil",
            17,
            "pause ( registry )",
        ),
        (
            HELPERS,
            "case v121Constraint.Check(kubeSemVer):",
            "case kubeSemVer.Minor() == 21:",
            16,
            "no check of a constraint",
        ),
        (KUBEADM, "return \"\", etcdExtraArgs", "x = 1", 26, "neither returns nor falls through"),
        (
            ENSURE,
            "resources.AddonNet: \"\"",
            "resources.AddonNew: \"\"",
            6,
            "AddonNew of pkg/templates/resources",
        ),
        (NAMES, "\"net\"", "netName()", 6, "AddonNet of pkg/templates/resources"),
        (NET, "\"Net\"", "\"New\"", 2, "New is no resource of KubeOne's list"),
        (NET, ".InternalImages.Get \"Net\"", ".Params.net", 2, "not understood: \"{{ .Params.net }}\""),
        (volume, "Get \"Volume\"", "Tag \"Volume\"", 1, "in a way that is not known"),
    ];
    let kubernetes = kubernetes();
    let upstream = kubeone();
    let project = Project::new();
    for (path, from, to, line, why) in table {
        upstream.restore("v1.4.1");
        if from.is_empty() {
            upstream.file(path, to);
        } else {
            upstream.edit(path, &[(from, to)]);
        }
        upstream.tag("v1.4.2", "2022-05-01");
        let error = project.renew(upstream.path(), Some(kubernetes.path())).expect_err(why);
        let error = format!("{error:#}");
        let place = if path == NAMES { ENSURE } else { path };
        assert!(
            error.starts_with(&format!("KubeOne 1.4: {place} at v1.4.2, line {line}: ")),
            "{why}: {error}"
        );
        assert!(error.contains(why), "{why}: {error}");
        upstream.forget("v1.4.2");
    }
    let untouched = Project::new();
    for file in ["kubernetes.yaml", "kubeone-1.3.yaml"].map(|name| format!("{CATALOG}/{name}")) {
        assert_eq!(project.read(&file), untouched.read(&file));
    }
}

#[test]
fn another_api_of_kubeadm_or_one_that_sets_etcd_too_is_an_error() {
    if !require("git") {
        return;
    }
    let upstream = kubeone();
    let project = Project::new();
    for (path, why) in [
        (
            "pkg/templates/kubeadm/v1beta5/kubeadm.go",
            "line 1: v1beta5 is an API of kubeadm that is not known",
        ),
        ("pkg/templates/kubeadm/v1beta4/kubeadm.go", "line 2: sets etcd's tag for v1beta4"),
    ] {
        upstream
            .restore("v1.4.1")
            .file(path, "package p\nvar etcdImageTag = \"3.5.0-0\"\n")
            .tag("v1.4.2", "2022-05-01");
        let error = format!("{:#}", project.renew(upstream.path(), None).expect_err(why));
        assert!(error.contains(why), "{error}");
        upstream.forget("v1.4.2").remove(path);
    }
}

#[test]
fn a_file_that_is_gone_or_a_directory_that_is_no_checkout_is_an_error_that_names_it() {
    if !require("git") {
        return;
    }
    let project = Project::new();
    for path in [IMAGES, VALIDATION, HELPERS, NAMES, ENSURE, KUBEADM] {
        let upstream = kubeone();
        if path == KUBEADM {
            upstream.remove("pkg/templates/kubeadm/v1beta4/kubeadm.go");
        }
        upstream.remove(path).tag("v1.4.2", "2022-05-01");
        let error = format!("{:#}", project.renew(upstream.path(), None).expect_err(path));
        let named = if path == KUBEADM { "pkg/templates/kubeadm at v1.4.2" } else { path };
        assert!(error.starts_with("KubeOne 1.4: ") && error.contains(named), "{error}");
    }
    let nothing = tempfile::tempdir().expect("a temporary directory");
    let error = format!("{:#}", project.renew(&nothing.path().join("no"), None).expect_err("no checkout"));
    assert!(error.contains(&nothing.path().join("no").display().to_string()), "{error}");
}

#[test]
fn a_checkout_that_is_older_than_the_catalog_is_an_error() {
    let Some((project, kubeone, kubernetes, _)) = renewed() else { return };
    kubeone.forget("v1.3.0");
    let error = project.renew(kubeone.path(), Some(kubernetes.path())).expect_err("a tag is missing");
    assert_eq!(error.to_string(), "the checkout of KubeOne has no tag v1.3.0: are its tags fetched?");
    kubernetes.forget("v1.23.0");
    let error = project.renew(kubeone.path(), Some(kubernetes.path())).expect_err("a tag is missing");
    let expected = "the checkout of Kubernetes has no tag of 1.23 or newer: are its tags fetched?";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_release_for_a_kubernetes_that_the_catalog_lacks_wants_its_checkout() {
    if !require("git") {
        return;
    }
    let error = Project::new().renew(kubeone().path(), None).expect_err("1.23 is not known");
    let error = error.to_string();
    assert!(
        error.contains("kubeone-1.4.yaml, renewed") && error.contains("Kubernetes 1.23 is not in"),
        "{error}"
    );
}

#[test]
fn constants_of_kubeadm_that_are_not_understood_are_an_error_with_their_line() {
    if !require("git") {
        return;
    }
    let (upstream, kubeone) = (kubernetes(), kubeone());
    for (from, to, line, why) in [
        ("23: \"3.5.1-0\"", "23: newest", 16, "SupportedEtcdVersion has an entry that is not understood"),
        ("SupportedEtcdVersion = ", "Supported = ", 1, "no SupportedEtcdVersion"),
        ("\"v1.8.0\"", "version()", 6, "version ( )"),
    ] {
        upstream.restore("v1.23.0").edit(CONSTANTS, &[(from, to)]).tag("v1.23.1", "2022-01-01");
        let error = Project::new().renew(kubeone.path(), Some(upstream.path())).expect_err(why).to_string();
        assert!(error.starts_with(&format!("{CONSTANTS} at v1.23.1, line {line}: ")), "{error}");
        assert!(error.contains(why), "{error}");
        upstream.forget("v1.23.1");
    }
    upstream.restore("v1.23.0").edit(CONSTANTS, &[("PauseVersion", "OtherVersion")]);
    upstream.tag("v1.23.1", "2022-01-01");
    let error = Project::new().renew(kubeone.path(), Some(upstream.path())).expect_err("no pause");
    let told = format!(
        "{CONSTANTS} at v1.23.1 has no PauseVersion: {UNIX_CONSTANTS} at v1.23.1, line 1: no PauseVersion in it"
    );
    assert_eq!(format!("{error:#}"), told);
    upstream.remove(UNIX_CONSTANTS).forget("v1.23.1").tag("v1.23.1", "2022-01-01");
    let error = Project::new().renew(kubeone.path(), Some(upstream.path())).expect_err("no such file");
    assert!(format!("{error:#}").starts_with(&format!("{CONSTANTS} at v1.23.1 has no PauseVersion: ")));
}
