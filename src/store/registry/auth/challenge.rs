//! Challenges: what a host says that it wants to see (RFC 9110, section 11.6.1), as far as registries keep to it.

use std::collections::HashMap;

use reqwest::Url;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// Longest challenge that is read, in bytes.
const CHALLENGE_MAX: usize = 16 << 10;
/// Most schemes that are told where none of them is of use.
const SCHEMES_TOLD: usize = 4;

/// What a host wants to see before it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
}

/// Why the challenges of an answer are of no use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Useless {
    /// There is none.
    None,
    /// None that is spoken here; the schemes that were offered.
    Unknown(Vec<String>),
    /// A `Bearer` challenge without a usable address of a token service.
    Realm,
}

impl Challenge {
    /// What the host says that the request needs to be allowed.
    pub(crate) fn scope(&self) -> Option<&str> {
        match self {
            Challenge::Basic => None,
            Challenge::Bearer { scope, .. } => scope.as_deref(),
        }
    }

    /// The best challenge of an answer, over all its `WWW-Authenticate` lines: `Bearer` before `Basic`.
    ///
    /// # Errors
    /// [`Useless`] says why there is none.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Self, Useless> {
        let mut offered = Vec::new();
        let (mut basic, mut too_long) = (false, false);
        for line in headers.get_all(WWW_AUTHENTICATE) {
            if line.len() > CHALLENGE_MAX {
                // Half an address would be another one.
                too_long = true;
                continue;
            }
            let text = String::from_utf8_lossy(line.as_bytes());
            for (scheme, mut parameters) in parse_challenges(&text) {
                match scheme.as_str() {
                    "bearer" => {
                        let realm = parameters.remove("realm").and_then(|r| usable_realm(&r));
                        return realm.ok_or(Useless::Realm).map(|realm| Challenge::Bearer {
                            realm,
                            service: parameters.remove("service"),
                            scope: parameters.remove("scope"),
                        });
                    }
                    "basic" => basic = true,
                    _ if offered.len() < SCHEMES_TOLD => offered.push(crate::util::text::printable(&scheme)),
                    _ => {}
                }
            }
        }
        match (basic, offered.is_empty()) {
            (true, _) => Ok(Challenge::Basic),
            (false, true) if too_long => Err(Useless::Realm),
            (false, true) => Err(Useless::None),
            (false, false) => Err(Useless::Unknown(offered)),
        }
    }
}

/// A token service is an absolute web address without a user in it.
fn usable_realm(text: &str) -> Option<Url> {
    let url: Url = text.parse().ok()?;
    let web = matches!(url.scheme(), "http" | "https") && url.has_host();
    (web && url.username().is_empty() && url.password().is_none()).then_some(url)
}

/// `Bearer realm="…",service="…", Basic realm="…"` → schemes in lower case with their parameters.
///
/// Lenient where registries are sloppy: what cannot be read is passed over.
fn parse_challenges(text: &str) -> Vec<(String, HashMap<String, String>)> {
    let mut challenges: Vec<(String, HashMap<String, String>)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            // A stray '=' or the end.
            match after.chars().next() {
                Some(c) => rest = &after[c.len_utf8()..],
                None => return challenges,
            }
            continue;
        }
        match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
            Some(value) => {
                let (value, remaining) = parse_value(value.trim_start_matches([' ', '\t']));
                if let Some((_, parameters)) = challenges.last_mut() {
                    parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                }
                rest = remaining;
            }
            None => {
                challenges.push((word.to_ascii_lowercase(), HashMap::new()));
                rest = after;
            }
        }
    }
}

/// A token or a quoted string (RFC 9110, section 5.6.4), and what follows it.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn challenge(lines: &[&str]) -> Result<Challenge, Useless> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        Challenge::from_headers(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<Challenge, Useless> {
        Ok(Challenge::Bearer {
            realm: realm.parse().unwrap(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    #[test]
    fn challenges_are_read_in_every_form() {
        let t = "https://auth.example.com/token";
        let table = [
            (vec![r#"Basic realm="x""#], Ok(Challenge::Basic)),
            (vec!["basic"], Ok(Challenge::Basic)),
            (
                vec![
                    r#"Bearer realm="https://auth.example.com/token",service="a, b",scope="repository:x:pull,push""#,
                ],
                bearer(t, Some("a, b"), Some("repository:x:pull,push")),
            ),
            (
                vec![r#"Basic realm="x""#, r#"Bearer realm="https://auth.example.com/token""#],
                bearer(t, None, None),
            ),
            (
                vec![r#"Basic realm="x", BEARER Realm = "https://auth.example.com/token""#],
                bearer(t, None, None),
            ),
            (
                vec![r#"Bearer realm=https://auth.example.com/token,service="q\"uoted""#],
                bearer(t, Some("q\"uoted"), None),
            ),
            (vec![], Err(Useless::None)),
            (vec!["Negotiate"], Err(Useless::Unknown(vec!["negotiate".into()]))),
            (vec!["Bearer"], Err(Useless::Realm)),
            (vec![r#"Bearer realm="not a url""#], Err(Useless::Realm)),
            (vec![r#"Bearer realm="https://user:pw@evil.example/""#], Err(Useless::Realm)),
            (vec![r#"Bearer realm="file:///etc/passwd""#], Err(Useless::Realm)),
            (vec![r#"Bearer realm="https://auth.example.com/token"#], bearer(t, None, None)),
        ];
        for (lines, expected) in table {
            assert_eq!(challenge(&lines), expected, "{lines:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_challenge_makes_the_parser_fail_or_hang(text in ".{0,300}") {
            let _ = parse_challenges(&text);
        }
    }
}
