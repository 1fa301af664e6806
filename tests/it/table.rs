//! The table of cases, `cases.txt`, keeps its word: what it names is there.

/// An id of the specification, what it is about, the tests that show it, and what remains to be said.
struct Case<'t> {
    id: &'t str,
    sentence: &'t str,
    tests: Vec<&'t str>,
    notes: Vec<&'t str>,
}

fn cases() -> Vec<Case<'static>> {
    let mut cases: Vec<Case> = Vec::new();
    let lines = include_str!("cases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        match (line.strip_prefix("  - "), line.strip_prefix("  ")) {
            (Some(note), _) => cases.last_mut().expect("an id comes first").notes.push(note),
            (None, Some(test)) => cases.last_mut().expect("an id comes first").tests.push(test),
            (None, None) => {
                let (id, sentence) = line.split_once(": ").unwrap_or((line, ""));
                cases.push(Case { id, sentence, tests: Vec::new(), notes: Vec::new() });
            }
        }
    }
    cases
}

/// All of the text below a directory.
fn text_below(directory: &std::path::Path, text: &mut String) {
    for entry in std::fs::read_dir(directory).expect("the sources are there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            text_below(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("a source is text"));
        }
    }
}

#[test]
fn every_case_has_tests_that_exist_or_a_reason_why_not() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    text_below(&root.join("src"), &mut text);
    text_below(&root.join("tests"), &mut text);
    let cases = cases();
    assert!(cases.len() > 100, "{} cases are read", cases.len());
    for Case { id, tests, notes, .. } in cases {
        assert!(!tests.is_empty() || !notes.is_empty(), "{id} is neither shown nor explained");
        for test in tests {
            assert!(text.contains(&format!("fn {test}(")), "{id}: there is no {test}");
        }
    }
}

#[test]
fn every_case_says_in_one_sentence_of_its_own_what_it_is_about() {
    let mut seen = std::collections::BTreeMap::new();
    for Case { id, sentence, .. } in cases() {
        let is_id = id.len() > 1 && id.starts_with(|c: char| c.is_ascii_uppercase());
        assert!(is_id && id[1..].bytes().all(|b| b.is_ascii_digit()), "{id:?} is no id");
        let is_one = sentence.ends_with('.') && !sentence.contains(". ");
        assert!(is_one && sentence.split(' ').count() >= 5, "{id}: {sentence:?} is no sentence");
        if let Some(other) = seen.insert(sentence, id) {
            panic!("{id} and {other} say the same");
        }
    }
}
