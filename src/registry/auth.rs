//! Challenges and tokens.
//!
//! A registry that wants a login says so with 401 and `WWW-Authenticate` (RFC 9110, section 11.6.1); for `Bearer`
//! a token comes from the service that the challenge names (distribution's token specification). Nothing is asked
//! for in advance: the first answer of a host teaches the rest.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::credentials::{Login, Secret};

/// A token without a lifetime is good for this long (distribution's token specification).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// A token is renewed this long before it runs out, if it lives long enough for that.
const LEEWAY: Duration = Duration::from_secs(30);
/// Longest challenge that is read, in bytes.
const CHALLENGE_MAX: usize = 16 << 10;
/// Most schemes that are told where none of them is of use.
const SCHEMES_TOLD: usize = 4;

/// What a request needs to be allowed: `repository:library/alpine:pull`, one or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scopes(BTreeSet<String>);

impl Scopes {
    pub fn pull(repository: &str) -> Self {
        Self(BTreeSet::from([format!("repository:{repository}:pull")]))
    }

    pub fn push(repository: &str) -> Self {
        Self(BTreeSet::from([format!("repository:{repository}:pull,push")]))
    }

    pub fn and(mut self, other: Scopes) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether `scope` allows nothing beyond these. Registries repeat and reorder actions (`pull,push,pull`).
    fn covers(&self, scope: &str) -> bool {
        let Some((name, actions)) = scope.rsplit_once(':') else { return self.0.contains(scope) };
        let known = self.0.iter().filter_map(|known| known.rsplit_once(':')).filter(|(n, _)| *n == name);
        let known: Vec<&str> = known.flat_map(|(_, actions)| actions.split(',')).collect();
        actions.split(',').all(|action| known.contains(&action))
    }

    /// These and what a challenge asked for, if that is more.
    fn union(&self, asked: &str) -> Option<Scopes> {
        let more: Vec<String> =
            asked.split_ascii_whitespace().filter(|s| !self.covers(s)).map(str::to_owned).collect();
        if more.is_empty() || more.len() > 16 {
            return None;
        }
        let mut all = self.clone();
        all.0.extend(more);
        Some(all)
    }
}

/// What a host wants to see before it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
}

/// Why the challenges of an answer are of no use.
#[derive(Debug, PartialEq, Eq)]
pub enum Useless {
    /// There is none.
    None,
    /// None that is spoken here; the schemes that were offered.
    Unknown(Vec<String>),
    /// A `Bearer` challenge without a usable address of a token service.
    Realm,
}

impl Challenge {
    /// The best challenge of an answer, over all its `WWW-Authenticate` lines: `Bearer` before `Basic`.
    ///
    /// # Errors
    /// [`Useless`] says why there is none.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Useless> {
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
                    _ if offered.len() < SCHEMES_TOLD => offered.push(crate::text::printable(&scheme)),
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

/// A bearer token and how long it may be used.
#[derive(Debug, Clone)]
pub struct Token {
    value: Secret,
    renew: Instant,
}

/// The answer of a token service; both names are in use.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
}

impl Token {
    /// Reads a token service's answer. Its lifetime counts from now, by a clock that nobody sets.
    ///
    /// # Errors
    /// Why it cannot be used, without a word of its content.
    pub fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let answer: TokenAnswer = serde_json::from_slice(body)
            .map_err(|_| "the token service's answer is not the JSON of a token")?;
        let value = [answer.token, answer.access_token].into_iter().flatten().find(|t| !t.is_empty());
        let value = value.ok_or("the token service's answer holds no token")?;
        if !value.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("the token service's answer holds a token with forbidden characters");
        }
        // Some say it as a number, some as text; nonsense is as good as nothing.
        let seconds = answer.expires_in.and_then(|v| v.as_u64().or_else(|| v.as_str()?.parse().ok()));
        let lifetime = match seconds {
            Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(365 * 24 * 3600)),
            _ => DEFAULT_LIFETIME,
        };
        let usable = lifetime.saturating_sub(LEEWAY).max(lifetime / 2);
        Ok(Self { value: Secret::new(value), renew: Instant::now() + usable })
    }

    fn is_fresh(&self) -> bool {
        Instant::now() < self.renew
    }

    pub fn header(&self) -> Secret {
        Secret::new(format!("Bearer {}", self.value.reveal()))
    }
}

/// A place for one token: whoever comes first fetches it, all others wait for that one request.
pub type TokenCell = Arc<OnceCell<Token>>;

/// What one host has taught so far about getting in.
#[derive(Debug, Default)]
pub struct Session {
    challenge: Mutex<Option<Challenge>>,
    tokens: Mutex<HashMap<Scopes, TokenCell>>,
    /// More than was asked for at first, by what a host said it wanted.
    widened: Mutex<HashMap<Scopes, Scopes>>,
    /// Logins that have opened something: a later 401 is about what they were to open, not about them.
    accepted: Mutex<Vec<Login>>,
    /// Logins that were refused here: they are not tried again, so that no account gets locked.
    refused: Mutex<Vec<Login>>,
    /// Origins of logins that were told to the user.
    told: Mutex<BTreeSet<String>>,
}

impl Session {
    pub fn challenge(&self) -> Option<Challenge> {
        lock(&self.challenge).clone()
    }

    pub fn learn(&self, challenge: Challenge) {
        *lock(&self.challenge) = Some(challenge);
    }

    pub fn is_refused(&self, login: &Login) -> bool {
        lock(&self.refused).contains(login)
    }

    pub fn accept(&self, login: &Login) {
        let mut accepted = lock(&self.accepted);
        if !accepted.contains(login) {
            accepted.push(login.clone());
        }
    }

    /// Notes that a login was refused, unless it is known to be good; true if that is news.
    pub fn refuse(&self, login: &Login) -> bool {
        let mut refused = lock(&self.refused);
        let news = !refused.contains(login) && !lock(&self.accepted).contains(login);
        if news {
            refused.push(login.clone());
            // Tokens that it bought are worth nothing now.
            lock(&self.tokens).clear();
        }
        news
    }

    /// Whether the user has not yet been told that a login from here is used.
    pub fn is_news(&self, origin: &str) -> bool {
        lock(&self.told).insert(origin.to_owned())
    }

    /// What to ask the token service for, and the cell that its answer goes into.
    pub fn cell(&self, scopes: &Scopes) -> (Scopes, TokenCell) {
        let wanted = lock(&self.widened).get(scopes).cloned().unwrap_or_else(|| scopes.clone());
        let mut tokens = lock(&self.tokens);
        let cell = tokens.entry(wanted.clone()).or_default();
        if cell.get().is_some_and(|token| !token.is_fresh()) {
            *cell = TokenCell::default();
        }
        (wanted, cell.clone())
    }

    /// A token was refused: the next request needs a new one, with what the challenge asked for on top.
    pub fn renew(&self, scopes: &Scopes, spent: &TokenCell, challenge: &Challenge) {
        let mut widened = lock(&self.widened);
        let wanted = widened.get(scopes).unwrap_or(scopes).clone();
        let mut tokens = lock(&self.tokens);
        // Someone else may have renewed it meanwhile; then that one is to be tried first.
        if tokens.get(&wanted).is_some_and(|cell| Arc::ptr_eq(cell, spent)) {
            tokens.remove(&wanted);
        }
        if let Challenge::Bearer { scope: Some(asked), .. } = challenge
            && let Some(more) = wanted.union(asked)
        {
            widened.insert(scopes.clone(), more);
        }
    }
}

/// The question for a token: `service` and one `scope` for each, as pairs for a query or a form.
pub fn token_question<'a>(service: Option<&'a str>, scopes: &'a Scopes) -> Vec<(&'static str, &'a str)> {
    let service = service.map(|service| ("service", service));
    service.into_iter().chain(scopes.0.iter().map(|scope| ("scope", scope.as_str()))).collect()
}

/// The form of an OAuth2 exchange (distribution's token specification, "POST /token"): one `scope`, space-separated.
pub fn exchange_form<'a>(
    service: Option<&'a str>,
    scopes: &'a Scopes,
    identity_token: &'a Secret,
) -> Vec<(&'static str, String)> {
    let all: Vec<&str> = scopes.0.iter().map(String::as_str).collect();
    vec![
        ("grant_type", "refresh_token".to_owned()),
        ("client_id", "mirror-images".to_owned()),
        ("service", service.unwrap_or_default().to_owned()),
        ("scope", all.join(" ")),
        ("refresh_token", identity_token.reveal().to_owned()),
    ]
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds this lock")
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

    #[test]
    fn tokens_are_read_in_both_names_and_never_quoted() {
        let ok = |body: &str| Token::parse(body.as_bytes()).map(|t| t.value.reveal().to_owned());
        assert_eq!(ok(r#"{"token":"a"}"#), Ok("a".into()));
        assert_eq!(ok(r#"{"token":"","access_token":"b","expires_in":"300"}"#), Ok("b".into()));
        assert!(ok(r#"{"token":null}"#).is_err());
        assert!(ok("{\"token\":\"a\\nb\"}").is_err());
        assert!(ok("<html>").is_err());
        assert!(!format!("{:?}", Token::parse(br#"{"token":"hunter2"}"#)).contains("hunter2"));
    }

    #[test]
    fn lifetimes_never_lead_to_a_loop() {
        for expires in ["0", "-1", "1", "60", "1000000000000", "\"x\"", "null"] {
            let token =
                Token::parse(format!(r#"{{"token":"a","expires_in":{expires}}}"#).as_bytes()).unwrap();
            assert!(token.is_fresh(), "{expires}");
        }
        let left = |body: &str| Token::parse(body.as_bytes()).unwrap().renew - Instant::now();
        assert!(left(r#"{"token":"a","expires_in":300}"#) > Duration::from_secs(260));
        assert!(left(r#"{"token":"a"}"#) <= Duration::from_secs(30));
    }

    #[test]
    fn the_same_actions_in_other_words_are_no_wider_scope() {
        let scopes = Scopes::push("a/b");
        assert_eq!(scopes.union("repository:a/b:pull,push,pull"), None);
        assert_eq!(scopes.union("repository:a/b:push"), None);
        assert!(
            scopes.union("repository:a/b:delete").is_some() && scopes.union("repository:c:pull").is_some()
        );
    }

    #[test]
    fn a_wider_scope_is_asked_for_once_it_is_wanted() {
        let session = Session::default();
        let scopes = Scopes::push("a/b");
        let (asked, cell) = session.cell(&scopes);
        assert_eq!(asked, scopes);
        let wants = bearer("https://t/", None, Some("repository:a/b:pull,push repository:c:pull")).unwrap();
        session.renew(&scopes, &cell, &wants);
        let (asked, _) = session.cell(&scopes);
        assert_eq!(asked, Scopes::push("a/b").and(Scopes::pull("c")));
    }

    proptest::proptest! {
        #[test]
        fn no_challenge_makes_the_parser_fail_or_hang(text in ".{0,300}") {
            let _ = parse_challenges(&text);
        }
    }
}
