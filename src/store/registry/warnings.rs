//! What a registry wants to be read by whoever uses it (distribution-spec, "Warnings"; RFC 7234, section 5.5).

use std::collections::HashSet;
use std::sync::Mutex;

use reqwest::header::{HeaderMap, WARNING};

use super::{Registry, lock};
use crate::util::text;

/// Most warnings of one registry that are shown.
const WARNINGS_MAX: usize = 16;

/// The warnings that were shown, each with the host that gave it.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<HashSet<(String, String)>>);

impl Warnings {
    /// Whether this is to be shown now.
    fn is_news(&self, host: &str, warning: &str) -> bool {
        let mut shown = lock(&self.0);
        shown.len() < WARNINGS_MAX && shown.insert((host.to_owned(), warning.to_owned()))
    }
}

impl Registry {
    /// Shows the warnings in an answer of `host`, each once.
    pub(super) fn note_warnings(&self, host: &str, headers: &HeaderMap) {
        for value in headers.get_all(WARNING) {
            let Some(warning) = text_of(&String::from_utf8_lossy(value.as_bytes())) else { continue };
            if self.warnings.is_news(host, &warning) {
                let warning = text::printable(&self.redactor().apply(&warning));
                tracing::warn!("{host} warns: {warning}");
            }
        }
    }
}

/// `299 - "text"` → `text`. Other codes are for caches.
fn text_of(value: &str) -> Option<String> {
    let quoted = value.trim().strip_prefix("299 ")?.trim_start().split_once(' ')?.1.trim();
    let mut text = String::new();
    let mut characters = quoted.strip_prefix('"')?.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => text.extend(characters.next()),
            character => text.push(character),
        }
    }
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_warning_is_read() {
        let text = |value| text_of(value).unwrap_or_default();
        assert_eq!(
            text(r#"299 - "say \"hello\" to the read-only mode""#),
            r#"say "hello" to the read-only mode"#
        );
        assert_eq!(text(r#"299 registry.example.com "soon" "Wed, 25 Nov 2026 00:00:00 GMT""#), "soon");
        for none in ["", "299", "299 -", "299 - bare", "299 - \"\"", "110 - \"stale\""] {
            assert_eq!(text_of(none), None, "{none}");
        }
    }

    #[test]
    fn a_warning_is_shown_once_for_each_host_and_not_without_end() {
        let warnings = Warnings::default();
        assert!(
            warnings.is_news("a", "soon") && !warnings.is_news("a", "soon") && warnings.is_news("b", "soon")
        );
        let shown = (0..100).filter(|n| warnings.is_news("a", &n.to_string())).count();
        assert_eq!(shown, WARNINGS_MAX - 2);
    }

    proptest::proptest! {
        #[test]
        fn no_warning_makes_the_parser_fail(text in ".{0,60}|299 - \".{0,40}") {
            let _ = text_of(&text);
        }
    }
}
