//! Reading a catalog: streams, and what a wrong document is told.

use super::*;

fn stream() -> String {
    format!("# A catalog.\n---\n{KUBERNETES}---\n{KUBEONE}")
}

/// The error for the stream with `from` replaced by `to`.
fn error(from: &str, to: &str) -> String {
    let stream = stream();
    assert!(stream.contains(from), "{from}");
    Catalog::from_yaml(&stream.replacen(from, to, 1), "mine.yaml").unwrap_err().to_string()
}

#[test]
fn a_stream_is_a_catalog() {
    let catalog = Catalog::from_yaml(&stream(), "mine.yaml").unwrap();
    let selection = catalog.select(&Query::default()).unwrap();
    assert_eq!(selection.kubernetes.len(), 4);
    let names: Vec<_> = selection.images.iter().map(|i| i.reasons[0].resource.as_str()).collect();
    assert_eq!(names[..3], ["CalicoCNI", "AwsCCM", "kube-apiserver"]);
}

#[test]
fn a_stream_may_have_a_byte_order_mark_carriage_returns_and_empty_documents() {
    let text = format!("\u{feff}---\n# nothing\n---\n{}---\n", stream()).replace('\n', "\r\n");
    assert_eq!(Catalog::from_yaml(&text, "mine.yaml").unwrap().releases().count(), 1);
}

#[test]
fn the_order_of_fields_and_documents_does_not_matter() {
    let (head, groups) = KUBEONE.split_at(KUBEONE.find("base:").unwrap());
    let text = format!("{groups}{head}--- # next\n{KUBERNETES}");
    assert_eq!(Catalog::from_yaml(&text, "mine.yaml").unwrap().releases().count(), 1);
}

#[test]
fn the_embedded_catalog_survives_being_printed_and_read() {
    let read = Catalog::from_yaml(&Catalog::embedded_yaml(), "printed").unwrap();
    for kubeone in [None, Some("1.4".to_owned())] {
        let query = Query { kubeone, ..Query::default() };
        assert_eq!(read.select(&query).unwrap(), embedded().select(&query).unwrap());
    }
}

#[test]
fn only_the_releases_needed_are_parsed() {
    let catalog = embedded();
    catalog.select(&Query::default()).unwrap();
    let parsed: Vec<_> = catalog
        .releases
        .iter()
        .filter(|(_, e)| e.release.get().is_some())
        .map(|(k, _)| k.to_string())
        .collect();
    assert_eq!(parsed, ["1.14"]);
}

#[test]
fn errors_of_yaml_name_the_file_and_the_place_in_it() {
    // The line is that of the file, in which the release is the third document.
    let text = error("    addons: [cni-canal]", "    addon: [cni-canal]");
    assert!(text.starts_with("catalog mine.yaml: "), "{text}");
    assert!(text.contains("unknown field `addon`"), "{text}");
    assert!(text.contains("line 18, column 5"), "{text}");
}

#[test]
fn wrong_documents_are_told_why() {
    let double = format!("{KUBEONE}---\n{KUBEONE}");
    let without_coredns = KUBERNETES.lines().filter(|l| !l.contains("coredns")).map(|l| format!("{l}\n"));
    let cases: Vec<(&str, String, &str)> = vec![
        (KUBERNETES, String::new(), "there must be one document with `kubernetes` and no `kubeone`, not 0"),
        (KUBERNETES, format!("{KUBERNETES}---\n{KUBERNETES}"), "and no `kubeone`, not 2"),
        (KUBEONE, String::new(), "there is no KubeOne release in it"),
        (KUBEONE, double, "KubeOne 1.14 has another document as well at line 12, column 1"),
        (
            KUBERNETES,
            without_coredns.collect(),
            "1.36 lacks a `since` of 1.36.0 that names coredns, etcd and pause",
        ),
        (r#"latest: "1.36.3""#, r#"latest: "1.35.3""#.into(), "is newer than the `latest` of 1.36"),
        (r#"latest: "1.36.3""#, r#"latest: "1.36.336""#.into(), "the `latest` of 1.36 is beyond 1.36.199"),
        (r#"latest: "1.36.3""#, r#"latest: "1.37.3""#.into(), "1.37.3 stands below 1.36"),
        (
            r#"latest: "1.36.3""#,
            r#"latest: "1.36.4-rc.0""#.into(),
            r#""1.36.4-rc.0" is not a version such as 1.36.3"#,
        ),
        (
            r#"latest: "1.36.3""#,
            "latest: 1.36.3\n    verified: 1.36.4".into(),
            "1.36.4 is newer than the `latest` of 1.36",
        ),
        (r#"latest: "1.36.3""#, r#"latest: [1]"#.into(), "line 5"),
        (r#"["1.36"]"#, "[]".into(), "`kubernetes` lists minors, each once and ascending"),
        (r#"["1.36"]"#, r#"["1.36", "1.35"]"#.into(), "each once and ascending"),
        (r#"["1.36"]"#, r#"["1.36", "1.37"]"#.into(), "the image of AwsCCM must name exactly the minors"),
        (r#"["1.36"]"#, r#"["1.36.1"]"#.into(), r#""1.36.1" is not a version of two numbers such as 1.36"#),
        ("patch: v1.14.2", "patch: v1.13.2".into(), "`patch` 1.13.2 is not of KubeOne 1.14"),
        (
            "base:",
            "former_names_until: v1.13.2\nbase:".into(),
            "`former_names_until` 1.13.2 is not of KubeOne 1.14",
        ),
        ("base:", "sandbox: {}\nbase:".into(), "`sandbox` must name exactly the minors of `kubernetes`"),
        (
            "base:",
            "etcd: [{from: 1.36.0, below: 1.36.0, image: registry.k8s.io/etcd:1}]\nbase:".into(),
            "`etcd` has a `from` of 1.36.0 that is not before `below`, 1.36.0",
        ),
        ("AwsCCM:", "CalicoCNI:".into(), "CalicoCNI is in both groups"),
        (
            "quay.io/calico/cni:v3.32.0",
            "quay.io/calico/cni".into(),
            r#"in full, "quay.io/calico/cni:latest""#,
        ),
        ("quay.io/calico/cni:v3.32.0", "alpine:3".into(), r#"in full, "docker.io/library/alpine:3""#),
        ("quay.io/calico/cni:v3.32.0", "quay.io/Calico".into(), "a repository is lower case"),
        ("quay.io/calico/cni:v3.32.0", "3.32".into(), "an image reference, or one for each minor"),
        ("quay.io/calico/cni:v3.32.0", "null".into(), "an image reference, or one for each minor"),
        ("optional:\n", "optional:\n  AwsCCM: {addons: [], image: quay.io/a/b:1}\n".into(), "duplicate"),
        ("base:\n", "base: &a\n  <<: *a\n".into(), "line"),
        ("released: 2026-08-13\n", String::new(), "missing field `released`"),
        ("2026-08-13", "2028-13-31".into(), r#""2028-13-31" is not a day such as 2026-08-13"#),
        ("2026-08-13", "\"2026-08-13\\e[2J\"".into(), r#""2026-08-13\u{1b}[2J" is not a day"#),
        (
            "base:",
            "gone: [{below: a.b/c, gone: 2026-02-30, why: so}]\nbase:".into(),
            r#""2026-02-30" is not a day"#,
        ),
        (
            "base:",
            "unlisted: [{addons: [], image: quay.io/a/b:1}]\nbase:".into(),
            "`unlisted` has quay.io/a/b:1 of no addon",
        ),
        (
            "base:",
            "moving: [\"quay.io/a/b:1@sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\"]\nbase:".into(),
            "which is held to a digest by its name",
        ),
    ];
    for (from, to, expected) in cases {
        let text = error(from, &to);
        assert!(text.starts_with("catalog mine.yaml") && text.contains(expected), "{to}\n  {text}");
        let place = text.rsplit_once("line ").and_then(|(_, place)| place.split_once(", column "));
        let numbers = place.map(|(line, column)| (line.parse::<usize>(), column.parse::<usize>()));
        assert!(matches!(numbers, Some((Ok(1..), Ok(1..)))), "{to}\n  {text}");
    }
}

#[test]
fn a_file_of_one_document_is_told_what_is_wrong_in_it() {
    let kubernetes = |from, to| KUBERNETES.replacen(from, to, 1);
    let release = |from, to| KUBEONE.replacen(from, to, 1);
    let cases = [
        (
            kubernetes("latest:", "newest:"),
            "unknown field `newest`, expected one of latest, verified, since at line 3, column 5",
        ),
        (kubernetes("1.36.3", "1.35.3"), "1.36.0 is newer than the `latest` of 1.36 at line 2, column 3"),
        (
            kubernetes("", ""),
            "there is no KubeOne release in it: a document with `kubeone` is missing at line 8, column 1",
        ),
        (release("v1.14.2", "v1.13.2"), "`patch` 1.13.2 is not of KubeOne 1.14 at line 2, column 1"),
        (release("AwsCCM:", "CalicoCNI:"), "CalicoCNI is in both groups at line 10, column 3"),
        (release("", ""), "not 0, at line 13, column 1"),
        ("kubeone: \"1.14\"\n".to_owned(), "missing field"),
        ("{\"kubeone\": \"1.14\",\n \"patch\": 1}".to_owned(), "at line 2, column 11"),
        (
            release("2026-08-13", "2026-02-29"),
            "\"2026-02-29\" is not a day such as 2026-08-13 at line 3, column 11",
        ),
        ("- a\n- b\n".to_owned(), "at line 1, column 1"),
        ("text".to_owned(), "at line 1, column 1"),
        (String::new(), "not 0, at line 1, column 1"),
        ("a: \u{1b}[2J".to_owned(), "at line 1"),
    ];
    for (text, expected) in cases {
        let told = Catalog::from_yaml(&text, "mine.yaml").unwrap_err().to_string();
        assert!(told.starts_with("catalog mine.yaml: ") && told.contains(expected), "{text}\n{told}");
        assert!(!told.chars().any(char::is_control), "{told:?}");
    }
}

#[test]
fn a_release_cannot_support_a_minor_that_kubernetes_lacks() {
    let text = error(
        r#"  "1.36":
    latest: "1.36.3"
    since:
      "1.36.0""#,
        r#"  "1.35":
    latest: "1.35.3"
    since:
      "1.35.0""#,
    );
    let told = "Kubernetes 1.36 is not in the `kubernetes` document at line 15, column 1";
    assert!(text.ends_with(told), "{text}");
}

#[test]
fn minors_are_two_numbers_in_numeric_order() {
    for wrong in [
        "",
        "1",
        "1.",
        ".1",
        "v1.3",
        "1.3.0",
        "1.03",
        "+1.3",
        "1.-3",
        "1.3-rc.1",
        "1.3+k3s",
        "1.3 ",
        "1.99999999999999999999",
    ] {
        assert!(wrong.parse::<Minor>().is_err(), "{wrong:?}");
    }
    assert!(minor("1.3") < minor("1.10"));
    assert_eq!(minor("1.10").to_string(), "1.10");
}
