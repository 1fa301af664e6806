//! Bearer tokens (distribution's token specification): what is asked for, what comes, and how long it is good for.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::image::reference::Repository;
use crate::store::registry::credentials::Secret;
use crate::store::registry::lock;

/// A token without a lifetime is good for this long (distribution's token specification).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// A token is renewed this long before it runs out, if it lives long enough for that.
const LEEWAY: Duration = Duration::from_secs(30);
/// Most repositories that one token is to be good for mounts from: it travels in a header.
const MOUNTED_FROM_MAX: usize = 16;
/// Most scopes that are asked for because one challenge names them.
const CHALLENGED_SCOPES_MAX: usize = 4;

/// What a request needs to be allowed: `repository:library/alpine:pull`, one or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Scopes(Arc<BTreeSet<String>>);

impl Scopes {
    pub(crate) fn pull(repository: &str) -> Self {
        Self(Arc::new(BTreeSet::from([format!("repository:{repository}:pull")])))
    }

    pub(crate) fn push(repository: &str) -> Self {
        Self(Arc::new(BTreeSet::from([format!("repository:{repository}:pull,push")])))
    }

    pub(crate) fn and(mut self, other: Scopes) -> Self {
        Arc::make_mut(&mut self.0).extend(other.0.iter().cloned());
        self
    }

    /// Whether `scope` allows nothing beyond these. Registries repeat and reorder actions (`pull,push,pull`).
    fn covers(&self, scope: &str) -> bool {
        let Some((name, actions)) = scope.rsplit_once(':') else { return self.0.contains(scope) };
        let known = self.0.iter().filter_map(|known| known.rsplit_once(':')).filter(|(n, _)| *n == name);
        let known: Vec<&str> = known.flat_map(|(_, actions)| actions.split(',')).collect();
        actions.split(',').all(|action| known.contains(&action))
    }

    /// Whether these allow all that `others` do.
    fn cover(&self, others: &Scopes) -> bool {
        others.0.iter().all(|scope| self.covers(scope))
    }

    /// These and what a challenge asked for, if that is more: to pull, and to push where that is wanted anyway. Other
    /// repositories are among it, since proxies ask by names of their own.
    fn union(&self, asked: &str) -> Option<Scopes> {
        let useful = asked.split_ascii_whitespace().filter_map(|scope| self.useful(scope));
        let more: BTreeSet<String> =
            useful.filter(|scope| !self.covers(scope)).take(CHALLENGED_SCOPES_MAX).collect();
        let mut all = self.clone();
        Arc::make_mut(&mut all.0).extend(more);
        (all != *self).then_some(all)
    }

    /// What of `scope` a request may need that needs these.
    fn useful(&self, scope: &str) -> Option<String> {
        let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
        let name: Repository = name.parse().ok()?;
        let pushes = self.0.iter().any(|known| known.ends_with(",push"));
        let asked = |wanted| actions.split(',').any(|action| action == wanted);
        match (asked("pull"), asked("push") && pushes) {
            (true, true) => Some(format!("repository:{name}:pull,push")),
            (true, false) => Some(format!("repository:{name}:pull")),
            (false, true) => Some(format!("repository:{name}:push")),
            (false, false) => None,
        }
    }
}

/// A bearer token and how long it may be used.
#[derive(Debug, Clone)]
pub(crate) struct Token {
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
    pub(crate) fn parse(body: &[u8]) -> Result<Self, &'static str> {
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

    pub(super) fn is_fresh(&self) -> bool {
        Instant::now() < self.renew
    }

    pub(crate) fn header(&self) -> Secret {
        Secret::new(format!("Bearer {}", self.value.reveal()))
    }
}

/// A place for one token: whoever comes first fetches it, all others wait for that one request.
pub(super) type TokenCell = Arc<OnceCell<Token>>;

/// The tokens of one host, by what they allow.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    cells: Mutex<HashMap<Scopes, TokenCell>>,
    /// More than was asked for at first, by what a host said it wanted.
    widened: Mutex<HashMap<Scopes, Scopes>>,
    mounts: Mutex<MountScopes>,
}

/// What is asked for mounts into each repository.
#[derive(Debug, Default)]
struct MountScopes {
    /// The last of it.
    unions: HashMap<Repository, Scopes>,
    /// The token service does not give a token for so much at once.
    are_refused: bool,
}

impl Tokens {
    /// What to ask the token service for, and the cell that its answer goes into.
    pub(super) fn cell(&self, scopes: &Scopes) -> (Scopes, TokenCell) {
        let wanted = lock(&self.widened).get(scopes).cloned().unwrap_or_else(|| scopes.clone());
        let mut cells = lock(&self.cells);
        let cell = cells.entry(wanted.clone()).or_default();
        if cell.get().is_some_and(|token| !token.is_fresh()) {
            *cell = TokenCell::default();
        }
        (wanted, cell.clone())
    }

    /// What a mount needs. A token for it is asked for together with those that further mounts into the same repository
    /// are likely to need, so that one is enough for all.
    pub(super) fn unite(&self, into: &Repository, from: &Repository, beside: &[Repository]) -> Scopes {
        let needed = Scopes::push(into.as_str()).and(Scopes::pull(from.as_str()));
        let mut mounts = lock(&self.mounts);
        if mounts.are_refused {
            return needed;
        }
        let union = match mounts.unions.get(into) {
            Some(union) if union.cover(&needed) => union.clone(),
            _ => {
                let others = beside.iter().filter(|other| *other != from && *other != into);
                let others = others.take(MOUNTED_FROM_MAX - 1).map(|other| Scopes::pull(other.as_str()));
                let union = others.fold(needed.clone(), Scopes::and);
                mounts.unions.insert(into.clone(), union.clone());
                union
            }
        };
        lock(&self.widened).entry(needed.clone()).or_insert(union);
        needed
    }

    /// The token service gave none for `wanted`: whether less is to be asked for instead, from now on.
    pub(super) fn narrow(&self, scopes: &Scopes, wanted: &Scopes) -> bool {
        let mut mounts = lock(&self.mounts);
        if scopes == wanted || !mounts.unions.values().any(|union| union == wanted) {
            return false;
        }
        mounts.are_refused = true;
        let mut widened = lock(&self.widened);
        widened.retain(|_, wider| !mounts.unions.values().any(|union| union == wider));
        true
    }

    /// A token was refused: the next request needs a new one, with the scope that the challenge asked for on top.
    pub(super) fn renew(&self, scopes: &Scopes, spent: &TokenCell, asked: Option<&str>) {
        let mut widened = lock(&self.widened);
        let wanted = widened.get(scopes).unwrap_or(scopes).clone();
        let mut cells = lock(&self.cells);
        // Someone else may have renewed it meanwhile; then that one is to be tried first.
        if cells.get(&wanted).is_some_and(|cell| Arc::ptr_eq(cell, spent)) {
            cells.remove(&wanted);
        }
        // Not on top of what an earlier challenge has named: a host that thinks of a new one each time gets no longer list.
        if !asked.is_some_and(|asked| asked.split_ascii_whitespace().all(|scope| wanted.covers(scope)))
            && let Some(more) = asked.and_then(|asked| scopes.union(asked))
        {
            widened.insert(scopes.clone(), more);
        }
    }

    /// Forgets all tokens.
    pub(super) fn clear(&self) {
        lock(&self.cells).clear();
    }
}

/// The question for a token: `service` and one `scope` for each, as pairs for a query or a form.
pub(super) fn token_question<'a>(
    service: Option<&'a str>,
    scopes: &'a Scopes,
) -> Vec<(&'static str, &'a str)> {
    let service = service.map(|service| ("service", service));
    service.into_iter().chain(scopes.0.iter().map(|scope| ("scope", scope.as_str()))).collect()
}

/// The form of an OAuth2 exchange (distribution's token specification, "POST /token"): one `scope`, space-separated.
pub(super) fn exchange_form<'a>(
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(scopes.union("repository:c:pull"), Some(scopes.clone().and(Scopes::pull("c"))));
    }

    #[test]
    fn a_challenge_widens_a_scope_by_what_a_request_may_need_and_no_further() {
        let pull = Scopes::pull("a/b");
        for none in [
            "registry:catalog:*",
            "repository:a/b:delete",
            "repository:a/b:*",
            "repository:c:push",
            "repository:../c:pull",
        ] {
            assert_eq!(pull.union(none), None, "{none}");
        }
        let both = pull.clone().and(Scopes::pull("c"));
        assert_eq!(pull.union("repository:c:pull,push,delete"), Some(both));
        let tokens = Tokens::default();
        for n in 0..50 {
            let many: Vec<String> = (0..9).map(|m| format!("repository:x{n}/{m}:pull")).collect();
            tokens.renew(&pull, &TokenCell::default(), Some(&many.join(" ")));
        }
        assert_eq!(tokens.cell(&pull).0.0.len(), 1 + CHALLENGED_SCOPES_MAX);
    }

    #[test]
    fn a_wider_scope_is_asked_for_once_it_is_wanted() {
        let tokens = Tokens::default();
        let scopes = Scopes::push("a/b");
        let (asked, cell) = tokens.cell(&scopes);
        assert_eq!(asked, scopes);
        tokens.renew(&scopes, &cell, Some("repository:a/b:pull,push repository:c:pull"));
        let (asked, _) = tokens.cell(&scopes);
        assert_eq!(asked, Scopes::push("a/b").and(Scopes::pull("c")));
    }

    #[test]
    fn a_token_that_was_renewed_meanwhile_is_kept() {
        let (tokens, scopes) = (Tokens::default(), Scopes::pull("a"));
        let (_, spent) = tokens.cell(&scopes);
        tokens.renew(&scopes, &spent, None);
        let (_, fresh) = tokens.cell(&scopes);
        assert!(!Arc::ptr_eq(&spent, &fresh));
        tokens.renew(&scopes, &spent, None);
        assert!(Arc::ptr_eq(&fresh, &tokens.cell(&scopes).1));
    }
}
