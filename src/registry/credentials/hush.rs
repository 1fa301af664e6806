//! Strangers' text without secrets: servers echo what they were shown, in errors that end up in logs and tickets.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

use super::{Login, Secret};

/// A secret that is shorter is part of ordinary words, and is better not blotted out of them.
const WORTH_HIDING: usize = 4;
/// Parts of a token that are shorter say nothing.
const PART_WORTH_HIDING: usize = 16;
/// What is shown instead.
const BLOT: &str = "***";

/// The secrets that were shown to someone in this run.
#[derive(Default)]
pub struct Hush(Mutex<BTreeSet<String>>);

impl fmt::Debug for Hush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hush(***)")
    }
}

impl Hush {
    pub fn learn_login(&self, login: &Login) {
        let basic = login.basic();
        self.learn(value_of(&basic), WORTH_HIDING);
        self.learn(login.password.reveal(), WORTH_HIDING);
        if let Some(token) = &login.identity_token {
            self.learn_token(token);
        }
    }

    /// A token, alone or after its scheme, and each part of a JWT.
    pub fn learn_token(&self, token: &Secret) {
        let token = value_of(token);
        self.learn(token, WORTH_HIDING);
        token.split('.').for_each(|part| self.learn(part, PART_WORTH_HIDING));
    }

    fn learn(&self, secret: &str, shortest: usize) {
        if secret.len() >= shortest {
            self.0.lock().expect("no code panics while it holds this lock").insert(secret.to_owned());
        }
    }

    /// `text` without the secrets that are known, without anything that looks like a JWT, and without the queries of
    /// addresses, where signatures are.
    pub fn apply(&self, text: &str) -> String {
        let mut secrets: Vec<String> =
            self.0.lock().expect("no code panics while it holds this lock").iter().cloned().collect();
        // One may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let mut text = text.to_owned();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), BLOT);
            }
        }
        without_jwts(&without_queries(&text))
    }
}

/// What follows the scheme in the value of an `Authorization` header.
fn value_of(secret: &Secret) -> &str {
    let text = secret.reveal();
    text.split_once(' ').map_or(text, |(_, value)| value)
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
        let hush = Hush::default();
        hush.learn_login(&Login {
            user: "u".into(),
            password: Secret::new("hunter2".into()),
            identity_token: Some(Secret::new("refresh-me".into())),
            origin: "test".into(),
        });
        hush.learn_token(&Secret::new("Bearer header-of-the-token.claims-of-the-token.signature".into()));
        let table = [
            ("bad password hunter2!", "bad password ***!"),
            ("got Basic dTpodW50ZXIy", "got Basic ***"),
            ("refresh-me is stale", "*** is stale"),
            ("header-of-the-token.claims-of-the-token.signature", "***"),
            ("claims: claims-of-the-token", "claims: ***"),
            ("GET https://s/x?X-Sig=abc&y=1 failed", "GET https://s/x?*** failed"),
            ("why? because a=b", "why? because a=b"),
            ("eyJhbGciOiJIUzI1NiJ9.e30.abc is no token", "*** is no token"),
            ("eyJ is short", "eyJ is short"),
            ("nothing", "nothing"),
        ];
        for (said, shown) in table {
            assert_eq!(hush.apply(said), shown);
        }
        assert!(!format!("{hush:?}").contains("hunter2"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_fail(text in ".{0,200}") {
            let _ = Hush::default().apply(&text);
        }
    }
}
