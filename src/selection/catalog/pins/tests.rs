use super::*;

const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn document(records: &str) -> String {
    format!("{{\"version\": 1, \"kind\": \"pins\", \"images\": [{}]}}", records.replace("HEX", HEX))
}

#[test]
fn the_embedded_records_are_sound_and_written_as_they_are_read() {
    let pins = Pins::embedded();
    assert_eq!(pins.to_json(), EMBEDDED);
    // With all that only the reading of a whole file looks at.
    assert_eq!(Pins::from_json(EMBEDDED, "f").unwrap().to_json(), EMBEDDED);
    for moving in ["docker.io/library/alpine:3", "docker.io/library/alpine:3.23"] {
        assert!(pins.get(&moving.parse().unwrap()).is_none_or(|pin| pin.moving), "{moving}");
    }
    let mut moving = pins.iter().filter(|pin| pin.moving).map(|pin| pin.source.to_string());
    assert!(moving.all(|source| pins.digest(&source).is_none()));
}

#[test]
fn a_run_reads_no_other_records_than_it_asks_for() {
    let whole = document(
        "\n{\"source\":\"quay.io/a/a:1\",\"digest\":\"sha256:HEX\"},\n{\"source\":\"quay.io/b/b:1\",BROKEN}\n",
    );
    let pins = Pins::unread(whole.leak());
    assert_eq!(pins.digest("quay.io/a/a:1").unwrap().to_string(), format!("sha256:{HEX}"));
    assert!(pins.digest("quay.io/a/a:2").is_none());
    assert!(std::panic::catch_unwind(|| pins.digest("quay.io/b/b:1").is_some()).is_err());
}

#[test]
fn only_records_of_the_images_that_are_named_are_kept() {
    let record = |name| format!("{{\"source\":\"quay.io/{name}\",\"digest\":\"sha256:HEX\"}}");
    let records = ["a/a:1", "a/a:2", "b/b:1"].map(record).join(",");
    let mut pins = Pins::from_json(&document(&records), "f").unwrap();
    let named = ["quay.io/a/a:2", "quay.io/c/c:1"].map(str::to_owned);
    assert_eq!(pins.keep(&named.into()), ["quay.io/a/a:1", "quay.io/b/b:1"]);
    assert_eq!(pins.iter().count(), 1);
}

#[test]
fn what_kubeone_pins_itself_is_recorded() {
    let pins = Pins::embedded();
    let all = super::super::Catalog::embedded().unwrap().references(None).unwrap();
    let mut recorded = 0;
    for (reference, gone) in all.references.iter().filter(|(reference, _)| reference.digest.is_some()) {
        if gone.is_some() {
            continue;
        }
        recorded += 1;
        let pin = pins.get(reference).unwrap_or_else(|| panic!("no record of {reference}"));
        assert_eq!(pin.digest, reference.digest);
    }
    assert!(recorded >= 82, "{recorded}");
}

#[test]
fn records_are_sorted_and_have_a_line_each() {
    let read = Pins::from_json(
        &document(
            r#"{"source":"quay.io/b/b:1","digest":"sha256:HEX","mediaType":"x/y","size":7,
                "platforms":[{"platform":"linux/amd64","digest":"sha256:HEX","bytes":9},{"digest":"sha256:HEX","bytes":1}],"more":5},
               {"source":"quay.io/a/a:1","digest":"sha256:HEX","names":["of a lock"]}"#,
        ),
        "f",
    )
    .unwrap();
    let written = read.to_json();
    let lines: Vec<&str> = written.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[1].starts_with(r#"{"source":"quay.io/a/a:1","digest":"sha256:aaa"#), "{written}");
    assert!(
        lines[2].contains(r#""size":7,"platforms":[{"platform":"linux/amd64","digest":"#)
            && lines[2].ends_with(r#","bytes":1}],"more":5}"#),
        "{written}"
    );
    assert_eq!(Pins::from_json(&written, "f").unwrap().to_json(), written);
}

#[test]
fn what_is_no_file_of_records_is_refused_with_its_place() {
    let told = |text: &str| Pins::from_json(text, "f").unwrap_err().to_string();
    let of = |record: &str| told(&document(record));
    let cases = [
        (told("{"), "f: EOF while parsing an object at line 1 column 1"),
        (told(""), "line 1 column 0"),
        (told("{\"version\": 2, \"kind\": \"pins\", \"images\": []}"), "its version is 2"),
        (told("{\"version\": 1, \"kind\": \"lo\\u001bck\", \"images\": []}"), "kind is \"lo\\u{1b}ck\""),
        (of("\n{\"source\":\"quay.io/a/a:1\"}"), "record of quay.io/a/a:1: it has no digest"),
        (of("\n{\"source\":\"a:1\",\"digest\":\"sha256:HEX\"}"), "written in full"),
        (of("\n{\"source\":\"quay.io/a/a:1\",\"digest\":\"sha256:abc\"}"), "line 2 column"),
        (of("\n{\"source\":\"quay.io/a/\\u001b[2Ja:1\",\"digest\":\"sha256:HEX\"}"), "\\u{1b}[2J"),
        (
            of(r#"{"source":"quay.io/a/a:1","digest":"sha256:HEX"},"#.repeat(2).trim_end_matches(',')),
            "there is another one",
        ),
        (
            of(&format!(r#"{{"source":"quay.io/a/a:1@sha256:{}","digest":"sha256:HEX"}}"#, "b".repeat(64))),
            "its digest is not the one that the reference names",
        ),
        (
            of(
                r#"{"source":"quay.io/a/a:1","digest":"sha256:HEX","platforms":[{"digest":"sha256:HEX","bytes":18446744073709551615}]}"#,
            ),
            "more than 2^53 bytes",
        ),
        (
            of(
                r#"{"source":"quay.io/a/a:1","digest":"sha256:HEX","platforms":[{"platform":"linux/\u001b","digest":"sha256:HEX","bytes":1}]}"#,
            ),
            "not of the form os/arch",
        ),
        (
            of(r#"{"source":"quay.io/a/a:1","moving":true,"platforms":[{"digest":"sha256:HEX","bytes":1}]}"#),
            "no digest",
        ),
        (of(r#"{"source":"quay.io/a/a:1","moving":true,"more":1}"#), "no digest"),
        (
            of(r#"{"source":"quay.io/a/a:1","digest":"sha256:HEX","size":1,"more":9007199254740992}"#),
            "more than 2^53 bytes",
        ),
        (of(r#"{"source":"quay.io/a/a:1","digest":"sha256:HEX","more":-1}"#), "invalid value"),
    ];
    for (told, wanted) in cases {
        assert!(told.contains(wanted), "{told}");
        assert!(!told.chars().any(char::is_control), "{told:?}");
    }
}

#[test]
fn what_one_keeps_and_another_removes_stays() {
    let record = |hex: &str| {
        let text = document(&format!(r#"{{"source":"quay.io/a/a:1","digest":"sha256:{}"}}"#, hex.repeat(64)));
        Pins::from_json(&text, "f").unwrap()
    };
    let (mine, theirs) = (record("a"), record("b"));
    let keep =
        || BTreeMap::from([("quay.io/a/a:1".to_owned(), Change::Keep(mine.iter().next().unwrap().clone()))]);
    let mut gone = Pins::default();
    gone.apply(keep());
    assert_eq!(gone.to_json(), mine.to_json());
    let mut newer = theirs.clone();
    newer.apply(keep());
    assert_eq!(newer.to_json(), theirs.to_json(), "what has been recorded since is not put back");
}
