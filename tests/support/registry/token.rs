//! A token service on a host of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::auth::{Scope, basic_credentials};
use super::jwt::Signer;
use crate::support::fault::Rule;
use crate::support::net::call::{Call, RequestBody};
use crate::support::net::reply::Reply;
use crate::support::net::{Endpoint, Guard, Host, Service, Shared};
use crate::support::process::TokenSetup;

pub struct TokenBuilder {
    net: Arc<Shared>,
    name: String,
    endpoint: Endpoint,
    state: TokenState,
    rules: Vec<Rule>,
}

impl TokenBuilder {
    pub(in crate::support) fn new(net: Arc<Shared>, name: &str) -> Self {
        Self {
            net,
            name: name.to_owned(),
            endpoint: Endpoint::default(),
            state: TokenState::default(),
            rules: Vec::new(),
        }
    }

    pub fn user(mut self, user: &str, password: &str) -> Self {
        self.state.users.insert(user.to_owned(), password.to_owned());
        self
    }

    /// An identity token, good as `refresh_token` at the OAuth2 endpoint.
    pub fn identity_token(mut self, token: &str) -> Self {
        self.state.identity = Some(token.to_owned());
        self
    }

    /// Tokens to pull without a login.
    pub fn anonymous_pull(mut self) -> Self {
        self.state.anonymous_pull = true;
        self
    }

    /// Without POST: 404, as older services answer.
    pub fn no_oauth2(mut self) -> Self {
        self.state.no_oauth2 = true;
        self
    }

    pub fn lifetime(self, lifetime: Duration) -> Self {
        self.state.set_lifetime(lifetime);
        self
    }

    /// Signs tokens that a docker-registry child accepts. It allows a minute of leeway, so a
    /// lifetime below that counts from a minute ago.
    pub fn signed(mut self) -> Self {
        self.state.signer = Some(Signer::new(&self.name));
        self
    }

    /// Never grants this action there.
    pub fn deny(self, repository: &str, action: &str) -> Self {
        let denied = (repository.to_owned(), action.to_owned());
        self.state.denied.lock().expect("nothing panics here").push(denied);
        self
    }

    pub fn tls(mut self) -> Self {
        self.endpoint.tls = true;
        self
    }

    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    pub fn start(self) -> TokenService {
        let state = Arc::new(self.state);
        let service = Service::Token(state.clone());
        let make = |_| service;
        let (inner, guard) = Host::start(&self.net, &self.name, &self.endpoint, make, self.rules);
        TokenService { inner, state, _guard: Arc::new(guard) }
    }
}

/// A running token service; closes when its last clone is dropped.
#[derive(Clone)]
pub struct TokenService {
    inner: Arc<Host>,
    pub(in crate::support) state: Arc<TokenState>,
    _guard: Arc<Guard>,
}

impl TokenService {
    pub fn host(&self) -> String {
        self.inner.addr.to_string()
    }

    pub fn realm(&self) -> String {
        format!("{}/token", self.inner.url())
    }

    /// What docker-registry has to be told to trust a `signed` service.
    pub fn setup<'a>(&'a self, realm: &'a str, service: &'a str) -> TokenSetup<'a> {
        let signer = self.state.signer.as_ref().expect("a signed token service");
        TokenSetup { realm, service, issuer: &signer.issuer, certificates: &signer.certificate_pem }
    }

    pub fn fault(&self, rule: Rule) -> &Self {
        self.inner.rules.add(rule);
        self
    }

    pub fn clear_faults(&self) {
        self.inner.rules.clear();
    }

    /// For tokens issued from now on.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.state.set_lifetime(lifetime);
    }

    /// All tokens issued so far are invalid.
    pub fn expire_all(&self) {
        self.state.tokens.lock().expect("nothing panics here").clear();
    }

    pub fn issued(&self) -> u64 {
        self.state.next.load(Ordering::SeqCst)
    }
}

struct Grant {
    scopes: Vec<Scope>,
    expires: Instant,
}

#[derive(Default)]
pub struct TokenState {
    users: HashMap<String, String>,
    identity: Option<String>,
    anonymous_pull: bool,
    no_oauth2: bool,
    signer: Option<Signer>,
    /// Milliseconds; zero stands for five minutes.
    lifetime: AtomicU64,
    denied: Mutex<Vec<Scope>>,
    tokens: Mutex<HashMap<String, Grant>>,
    next: AtomicU64,
}

enum Who {
    User,
    Anonymous,
}

impl TokenState {
    fn set_lifetime(&self, lifetime: Duration) {
        self.lifetime.store(lifetime.as_millis() as u64, Ordering::SeqCst);
    }

    fn lifetime(&self) -> Duration {
        match self.lifetime.load(Ordering::SeqCst) {
            0 => Duration::from_secs(300),
            millis => Duration::from_millis(millis),
        }
    }

    /// What a token allows; `None` if it is unknown or has run out.
    pub fn scopes_of(&self, token: &str) -> Option<Vec<Scope>> {
        let tokens = self.tokens.lock().expect("nothing panics here");
        let grant = tokens.get(token)?;
        (Instant::now() < grant.expires).then(|| grant.scopes.clone())
    }

    pub async fn answer(&self, call: &Call, body: &mut RequestBody) -> Reply {
        if call.path != "/token" {
            return Reply::text(404, "404 page not found\n");
        }
        match call.method.as_str() {
            "GET" => self.answer_get(call),
            "POST" if !self.no_oauth2 => self.answer_post(body).await,
            _ => Reply::text(404, "404 page not found\n"),
        }
    }

    fn answer_get(&self, call: &Call) -> Reply {
        let who = match basic_credentials(call.header("authorization")) {
            None if call.header("authorization").is_some() => return refused(),
            None => Who::Anonymous,
            Some((user, password)) if self.users.get(&user) == Some(&password) => Who::User,
            Some(_) => return refused(),
        };
        let token = self.issue(&who, &call.params());
        let seconds = self.lifetime().as_secs().max(1);
        Reply::json(
            200,
            &json!({
                "token": token, "access_token": token, "expires_in": seconds, "issued_at": now(),
            }),
        )
    }

    async fn answer_post(&self, body: &mut RequestBody) -> Reply {
        let Ok(form) = body.collect(64 * 1024).await else {
            return refused();
        };
        let form: Vec<_> = url::form_urlencoded::parse(&form).into_owned().collect();
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, v)| v.clone());
        let known = match field("grant_type").as_deref() {
            Some("refresh_token") => field("refresh_token") == self.identity && self.identity.is_some(),
            Some("password") => {
                let password = self.users.get(&field("username").unwrap_or_default());
                password.is_some() && password == field("password").as_ref()
            }
            _ => false,
        };
        if !known {
            return refused();
        }
        let token = self.issue(&Who::User, &form);
        let seconds = self.lifetime().as_secs().max(1);
        Reply::json(
            200,
            &json!({
                "access_token": token, "expires_in": seconds, "issued_at": now(),
                "scope": field("scope"), "refresh_token": self.identity,
            }),
        )
    }

    /// Grants what may be granted of what is asked, silently less if need be.
    fn issue(&self, who: &Who, params: &[(String, String)]) -> String {
        let asked = params
            .iter()
            .filter(|(key, _)| key == "scope")
            .flat_map(|(_, value)| value.split(' ').filter_map(parse_scope).flatten());
        let denied = self.denied.lock().expect("nothing panics here");
        let allowed = |scope: &Scope| match who {
            Who::User => !denied.contains(scope),
            Who::Anonymous => self.anonymous_pull && scope.1 == "pull" && !denied.contains(scope),
        };
        let scopes: Vec<_> = asked.filter(allowed).collect();
        let number = self.next.fetch_add(1, Ordering::SeqCst) + 1;
        let token = match &self.signer {
            Some(signer) => signer.sign(&service_of(params), &scopes, self.lifetime()),
            None => format!("t0ken-canary-{number:06}"),
        };
        let expires = Instant::now() + self.lifetime();
        let mut tokens = self.tokens.lock().expect("nothing panics here");
        tokens.insert(token.clone(), Grant { scopes, expires });
        token
    }
}

fn service_of(params: &[(String, String)]) -> String {
    let service = params.iter().find(|(key, _)| key == "service");
    service.map(|(_, value)| value.clone()).unwrap_or_default()
}

/// `repository:a/b:pull,push`; the name may hold a colon with a port.
fn parse_scope(text: &str) -> Option<Vec<Scope>> {
    let (name, actions) = text.strip_prefix("repository:")?.rsplit_once(':')?;
    Some(actions.split(',').map(|a| (name.to_owned(), a.to_owned())).collect())
}

fn refused() -> Reply {
    Reply::error(401, "UNAUTHORIZED", "incorrect username or password")
}

fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    rfc3339(seconds)
}

/// Days to dates by the usual civil calendar arithmetic.
pub fn rfc3339(seconds: u64) -> String {
    let (days, rest) = ((seconds / 86400) as i64 + 719_468, seconds % 86400);
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
