//! Strangers' text without secrets: servers echo what they were shown, in errors that end up in logs and tickets.
//!
//! A text is searched only when it is shown to somebody. Most error answers never are: that a name is absent is an
//! answer like any other.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{RwLock, RwLockReadGuard};

/// A secret that is shorter is part of ordinary words, and is better not blotted out of them.
const WORTH_HIDING: usize = 4;
/// Parts of a token that are shorter say nothing.
const PART_WORTH_HIDING: usize = 16;
/// What is shown instead.
const BLOT: &str = "***";

/// The last bytes of a secret. Tokens begin alike, their signatures end each in its own way.
type Ending = [u8; WORTH_HIDING];

/// The secrets that were shown to someone in this run, by their endings: how long a search takes depends on the text
/// that is searched, and not on how many secrets there are.
#[derive(Default)]
pub(crate) struct Redactor {
    secrets: RwLock<HashMap<Ending, Vec<String>>>,
    #[cfg(test)]
    searches: std::sync::atomic::AtomicUsize,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor(***)")
    }
}

impl Redactor {
    /// A password, or anything else that is secret as a whole.
    pub(crate) fn learn(&self, secret: &str) {
        let Some(ending) = secret.as_bytes().last_chunk::<WORTH_HIDING>() else { return };
        let known = |secrets: &HashMap<Ending, Vec<String>>| {
            secrets.get(ending).is_some_and(|alike| alike.iter().any(|known| known == secret))
        };
        if known(&self.read()) {
            return;
        }
        let mut secrets = self.secrets.write().expect("no code panics while it holds this lock");
        if !known(&secrets) {
            secrets.entry(*ending).or_default().push(secret.to_owned());
        }
    }

    /// A token, and each part of it where it is a JWT.
    pub(crate) fn learn_token(&self, token: &str) {
        self.learn(token);
        token.split('.').filter(|part| part.len() >= PART_WORTH_HIDING).for_each(|part| self.learn(part));
    }

    /// `text` without the secrets that are known, without anything that looks like a JWT, and without the queries of
    /// addresses, where signatures are.
    pub(crate) fn apply(&self, text: &str) -> String {
        #[cfg(test)]
        self.searches.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        without_jwts(&without_queries(&without(text, &self.found(text))))
    }

    /// Where secrets are in `text`.
    fn found(&self, text: &str) -> Vec<Range<usize>> {
        let (bytes, secrets) = (text.as_bytes(), self.read());
        let mut found = Vec::new();
        for (start, ending) in bytes.windows(WORTH_HIDING).enumerate() {
            let end = start + WORTH_HIDING;
            let alike = secrets.get(ending).map(Vec::as_slice).unwrap_or_default();
            let here = alike.iter().filter(|secret| bytes[..end].ends_with(secret.as_bytes()));
            found.extend(here.map(|secret| end - secret.len()..end));
        }
        found
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Ending, Vec<String>>> {
        self.secrets.read().expect("no code panics while it holds this lock")
    }

    /// How many texts were searched so far.
    #[cfg(test)]
    pub(crate) fn searches(&self) -> usize {
        self.searches.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// `text` with a blot for each of `places`; one for those that overlap.
fn without(text: &str, places: &[Range<usize>]) -> String {
    let mut places = places.to_vec();
    places.sort_by_key(|place| place.start);
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for place in places {
        if place.start >= done {
            out.push_str(&text[done..place.start]);
            out.push_str(BLOT);
        }
        done = done.max(place.end);
    }
    out + &text[done..]
}

/// `https://storage/x?Signature=…` → `https://storage/x?***`
fn without_queries(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('?') {
        let (head, tail) = rest.split_at(at + 1);
        out.push_str(head);
        let end = tail.find(|c: char| c.is_whitespace() || c == '"' || c == '<' || c == '>' || c == '\'');
        let (query, after) = tail.split_at(end.unwrap_or(tail.len()));
        out.push_str(if query.contains('=') { BLOT } else { query });
        rest = after;
    }
    out + rest
}

/// A JSON object in base64 begins like this, and so does the header of every JWT.
const JWT_START: &str = "eyJ";

fn without_jwts(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(JWT_START) {
        let (head, tail) = rest.split_at(at);
        let part_of_jwt =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | '+' | '/');
        let end = tail.find(|c| !part_of_jwt(c)).unwrap_or(tail.len());
        out.push_str(head);
        out.push_str(if end >= PART_WORTH_HIDING { BLOT } else { &tail[..end] });
        rest = &tail[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_is_not_shown_again() {
        let redactor = Redactor::default();
        redactor.learn("hunter2");
        redactor.learn_token("header-of-the-token.claims-of-the-token.signature");
        let table = [
            ("bad password hunter2!", "bad password ***!"),
            ("hunter2hunter2", "******"),
            ("header-of-the-token.claims-of-the-token.signature", "***"),
            ("claims: claims-of-the-token", "claims: ***"),
            ("GET https://s/x?X-Sig=abc&y=1 failed", "GET https://s/x?*** failed"),
            ("why? because a=b", "why? because a=b"),
            ("eyJhbGciOiJIUzI1NiJ9.e30.abc is no token", "*** is no token"),
            ("eyJ is short", "eyJ is short"),
            ("nothing", "nothing"),
        ];
        for (said, shown) in table {
            assert_eq!(redactor.apply(said), shown);
        }
        assert!(!format!("{redactor:?}").contains("hunter2"));
    }

    #[test]
    fn secrets_that_overlap_leave_nothing_between_them() {
        let redactor = Redactor::default();
        ["abcdef", "efgh", "cdefghij", "ünïcödé"].iter().for_each(|secret| redactor.learn(secret));
        assert_eq!(redactor.apply("xabcdefghijx ünïcödéx efg"), "x***x ***x efg");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_fail_and_no_secret_is_left(text in ".{0,200}", secret in ".{2,8}") {
            let redactor = Redactor::default();
            redactor.learn(&secret);
            let shown = redactor.apply(&format!("{text}{secret}{text}"));
            proptest::prop_assert!(secret.len() < WORTH_HIDING || secret.contains('*') || !shown.contains(&secret));
        }
    }
}
