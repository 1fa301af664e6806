//! The tables of cases, `cases.txt` and `attacks.txt`, keep their word: what they name is there.

/// An id of the specification, what it is about, the tests that show it, and what remains to be said.
struct Case<'t> {
    id: &'t str,
    sentence: &'t str,
    tests: Vec<&'t str>,
    notes: Vec<&'t str>,
}

fn cases(table: &str) -> Vec<Case<'_>> {
    let mut cases: Vec<Case> = Vec::new();
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
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

/// The sources of the program and of its tests.
fn sources() -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    text_below(&root.join("src"), &mut text);
    text_below(&root.join("tests"), &mut text);
    text
}

#[test]
fn every_case_has_tests_that_exist_or_a_reason_why_not() {
    let text = sources();
    let cases = cases(include_str!("cases.txt"));
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
    for Case { id, sentence, .. } in cases(include_str!("cases.txt")) {
        let is_id = id.len() > 1 && id.starts_with(|c: char| c.is_ascii_uppercase());
        assert!(is_id && id[1..].bytes().all(|b| b.is_ascii_digit()), "{id:?} is no id");
        let is_one = sentence.ends_with('.') && !sentence.contains(". ");
        assert!(is_one && sentence.split(' ').count() >= 5, "{id}: {sentence:?} is no sentence");
        if let Some(other) = seen.insert(sentence, id) {
            panic!("{id} and {other} say the same");
        }
    }
}

#[test]
fn every_attack_has_a_number_a_sentence_and_tests_that_exist() {
    let text = sources();
    let attacks = cases(include_str!("attacks.txt"));
    assert!(attacks.len() >= 50, "{} attacks are read", attacks.len());
    let mut names = std::collections::BTreeSet::new();
    for (number, Case { id, sentence, tests, notes }) in (1_usize..).zip(attacks) {
        let (counted, name) = id.split_once(' ').unwrap_or_else(|| panic!("{id} has no number"));
        assert_eq!(counted, number.to_string(), "{id}");
        assert!(name.split('-').all(|word| word.bytes().all(|b| b.is_ascii_lowercase())), "{id}");
        assert!(names.insert(name), "{name} is there twice");
        let is_one = sentence.ends_with('.') && !sentence.contains(". ");
        // What was seen, and what must be true.
        assert!(is_one && sentence.contains("; "), "{id}: {sentence}");
        assert!(!tests.is_empty() && notes.is_empty(), "{id} is not shown by tests");
        for test in tests {
            assert!(text.contains(&format!("fn {test}(")), "{id}: there is no {test}");
        }
    }
}

#[test]
fn the_actions_of_the_workflows_are_pinned_by_commit() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut actions = 0;
    for entry in std::fs::read_dir(root.join(".github/workflows")).expect("there are workflows") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a workflow is text");
        for line in text.lines().filter_map(|line| line.split_once("uses: ")).map(|(_, action)| action) {
            let (action, version) = line.split_once(" # v").unwrap_or_else(|| panic!("{line}: no version"));
            let commit = action.split_once('@').map_or("", |(_, commit)| commit);
            assert!(commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{line}: no commit");
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{line}: no version");
            actions += 1;
        }
    }
    assert!(actions > 0);
}
