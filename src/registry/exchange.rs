//! One request to one host, with all that it takes: login, redirects, pauses, another try.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::{OnceCell, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::auth::{Challenge, Scopes, Session};
use super::chunks::Bodies;
use super::contact::Contact;
use super::credentials::{Keyring, Secret};
use super::error::{Answer, Error, Kind, Purpose, Side, classify, classify_elsewhere, describe};
use super::login::{Proof, sensitive};
use super::reach::{Allowed, FORBIDDEN, Reach, reach_of_host};
use super::retry::{Patience, Policy, SLOWEST, retry_after};
use super::tls::{Clients, Partner};
use super::transport::wants_login;
use crate::reference::{DOCKER_HUB, Host, Repository};
use crate::text;

/// Most requests that one host is busy with at a time; blobs that stream are counted by who starts them.
pub const REQUESTS_PER_HOST: usize = 96;
/// Most redirects that one request follows.
const HOPS_MAX: usize = 5;
/// Largest error answer that is read, in bytes.
const ERROR_BODY_MAX: usize = 64 << 10;
/// An announced pause shorter than this is not worth a line.
const PAUSE_WORTH_TELLING: Duration = Duration::from_secs(1);

/// A host as this run knows it: how to reach it, how to get in, when to leave it alone.
#[derive(Debug)]
pub struct Peer {
    pub side: Side,
    pub host: Host,
    /// Any certificate will do, and plain HTTP as well.
    insecure: bool,
    /// The addresses it may have, best first.
    pub(super) bases: Vec<Url>,
    pub(super) clients: Arc<Clients>,
    pub(super) policy: Policy,
    pub(super) keyring: Arc<Keyring>,
    pub(super) session: Session,
    pub(super) contact: watch::Sender<Contact>,
    /// What a target said when it refused the login: nothing else will come of it.
    pub(super) refusal: Mutex<Option<Error>>,
    /// Nobody asks this host for anything before then.
    closed_until: Mutex<Option<Instant>>,
    /// When it has last answered a request well, whoever made it.
    served_last: Mutex<Option<Instant>>,
    /// The address by which it has answered something, so that how to reach it is settled.
    pub(super) answered: OnceLock<Url>,
    /// How blobs are sent to it.
    pub(super) bodies: Bodies,
    /// It does not list what refers to a manifest; it has done so.
    pub(super) no_referrers_api: AtomicBool,
    pub(super) lists_referrers: AtomicBool,
    /// Held for one small request each, and for nothing else.
    slots: Semaphore,
    /// How near the host is, once someone had to know.
    reach: OnceCell<Reach>,
}

/// What a URL is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The registry itself, or the storage that it points to.
    Registry,
    /// Gets the login.
    TokenService,
    /// An address that some manifest names, which anyone may have written.
    Foreign,
}

/// A request that can be made again.
pub(super) struct Ask<'a> {
    pub purpose: Purpose,
    pub method: Method,
    pub at: At,
    /// Whose login it takes.
    pub repository: &'a Repository,
    pub scopes: &'a Scopes,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    /// For messages, e.g. `GET manifest library/alpine:3`.
    pub doing: String,
}

/// Where a request goes: a path of the API, or an address that the host gave.
#[derive(Debug, Clone)]
pub(super) enum At {
    Path(String),
    Url(Url),
}

impl Peer {
    pub fn new(
        side: Side,
        host: Host,
        scheme: Scheme,
        keyring: Arc<Keyring>,
        clients: Arc<Clients>,
        policy: Policy,
    ) -> Self {
        // Docker's registry answers under another name than images carry.
        let authority = if host.as_str() == DOCKER_HUB { "registry-1.docker.io" } else { host.as_str() };
        let base =
            |s: &str| Url::parse(&format!("{s}://{authority}")).expect("a valid host makes a valid URL");
        let bases = match scheme {
            Scheme::Http => vec![base("http")],
            Scheme::Https if host.is_loopback() => vec![base("https"), base("http")],
            Scheme::Https => vec![base("https")],
            Scheme::Insecure => vec![base("https"), base("http")],
        };
        clients.proxies.logins().for_each(|login| keyring.hush.learn_login(&login));
        Self {
            side,
            host,
            insecure: scheme == Scheme::Insecure,
            bases,
            clients,
            policy,
            keyring,
            session: Session::default(),
            contact: watch::Sender::new(Contact::Unknown),
            refusal: Mutex::default(),
            closed_until: Mutex::default(),
            served_last: Mutex::default(),
            answered: OnceLock::new(),
            bodies: Bodies::default(),
            no_referrers_api: AtomicBool::new(false),
            lists_referrers: AtomicBool::new(false),
            slots: Semaphore::new(REQUESTS_PER_HOST),
            reach: OnceCell::new(),
        }
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Makes the request until it succeeds or there is no more hope.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Response, Error> {
        self.ask_with(ask, &mut Patience::new(&self.policy)).await
    }

    /// The same where the answer's body may cost patience as well.
    pub(super) async fn ask_with(&self, ask: &Ask<'_>, patience: &mut Patience) -> Result<Response, Error> {
        loop {
            let result = {
                let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
                self.ask_once(ask, patience).await
            };
            let error = match result {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            match patience.next(&error.kind, self.is_alive()) {
                Some(pause) => self.rest(pause, &error).await,
                None => return Err(error),
            }
        }
    }

    /// Whether it has answered anything well of late: overloaded or not, it works.
    pub fn is_alive(&self) -> bool {
        lock(&self.served_last).is_some_and(|last| last.elapsed() < self.policy.timing.alive)
    }

    pub(super) fn note_served(&self) {
        *lock(&self.served_last) = Some(Instant::now());
    }

    /// One request, repeated only to present the login that the host wants to see.
    pub(super) async fn exchange(&self, base: &Url, ask: &Ask<'_>) -> Result<Response, Error> {
        let mut introduced = false;
        let mut renewed = false;
        loop {
            let proof = self.proof(ask).await?;
            let (response, own) = self.follow(base, ask, proof.header()).await?;
            if response.status() != StatusCode::UNAUTHORIZED || !own {
                if let (Proof::Login(_, login), true) = (&proof, own) {
                    self.session.accept(login);
                }
                return self.judge(ask, response).await;
            }
            let challenge = Challenge::from_headers(response.headers());
            match (&proof, challenge) {
                (Proof::Nothing, Ok(challenge)) if !introduced => {
                    introduced = true;
                    self.session.learn(challenge);
                }
                (Proof::Token(_, spent), Ok(challenge)) if !renewed => {
                    renewed = true;
                    self.session.renew(ask.scopes, spent, &challenge);
                    self.session.learn(challenge);
                }
                (Proof::Login(_, login), _) if self.may_go_on_without(login) => introduced = true,
                (proof, challenge) => {
                    let error = self.not_let_in(ask, response, proof, challenge.err()).await;
                    let login = match proof {
                        Proof::Login(_, login) => Some(login),
                        Proof::Nothing | Proof::Token(..) => None,
                    };
                    return Err(self.remember_refusal(login, error));
                }
            }
        }
    }

    /// Sends the request and follows redirects, by hand: the proof is for this host alone, wherever it points to.
    ///
    /// Returns the answer, and whether it is the host's own.
    async fn follow(
        &self,
        base: &Url,
        ask: &Ask<'_>,
        proof: Option<&Secret>,
    ) -> Result<(Response, bool), Error> {
        let mut url = match &ask.at {
            At::Path(path) => {
                base.join(path).expect("a path of the API, made of valid names, is a valid URL")
            }
            At::Url(url) => url.clone(),
        };
        for _ in 0..=HOPS_MAX {
            let own = url.origin() == base.origin();
            let role = if ask.purpose == Purpose::Foreign { Role::Foreign } else { Role::Registry };
            let client = self.client(&url, role, &ask.doing).await?;
            let mut request = client.request(ask.method.clone(), url.clone());
            request = request.headers(ask.headers.clone()).header(ACCEPT_ENCODING, "identity");
            if let Some(proof) = proof.filter(|_| own) {
                request = request.header(AUTHORIZATION, sensitive(proof));
            }
            request = match &ask.body {
                Some(body) => request.body(body.clone()),
                // Some front ends want to see that a POST has no body.
                None if ask.method == Method::POST => request.header(CONTENT_LENGTH, 0),
                None => request,
            };
            let limit = match ask.purpose {
                // A piece of a blob takes the time that the line takes.
                Purpose::Session => self.policy.timing.commit,
                _ => self.policy.timing.answer,
            };
            let response = self.send_within(limit, request, &ask.doing).await?;
            if own {
                let _ = self.answered.set(base.clone());
            }
            let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !moved || !matches!(ask.method, Method::GET | Method::HEAD) {
                return Ok((response, own));
            }
            url = self.next_hop(&url, &response, &ask.doing)?;
        }
        Err(self.error(Kind::Invalid, ask.doing.clone(), format!("more than {HOPS_MAX} redirects")))
    }

    fn next_hop(&self, from: &Url, response: &Response, doing: &str) -> Result<Url, Error> {
        let refuse = |why: &str| self.error(Kind::Invalid, doing.to_owned(), why.to_owned());
        let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
        let location = location.ok_or_else(|| refuse("a redirect without a usable address"))?;
        let next = from.join(location).map_err(|_| refuse("a redirect to something that is no address"))?;
        match (from.scheme(), next.scheme()) {
            (_, "https") | ("http", "http") => Ok(next),
            ("https", "http") => Err(refuse("a redirect from HTTPS to plain HTTP")),
            _ => Err(refuse("a redirect to an address that is not on the web")),
        }
    }

    /// The client for `url`. What the user allowed to be insecure is this host, not where it points to.
    ///
    /// # Errors
    /// TLS cannot be set up, or `url` is at an address that this host may not point to.
    pub(super) async fn client(&self, url: &Url, role: Role, doing: &str) -> Result<reqwest::Client, Error> {
        let named = self.bases.iter().any(|base| base.host() == url.host());
        let partner = match named {
            true => Partner::Registry { host: &self.host, unverified: self.insecure },
            false => {
                let own = *self.reach.get_or_init(|| reach_of_host(&self.bases[0])).await;
                let allowed = match role {
                    Role::TokenService | Role::Foreign => Allowed::as_token_service(own),
                    Role::Registry => Allowed::as_storage(own),
                };
                if !allowed.takes_literal(url) {
                    let host = text::printable(url.host_str().unwrap_or_default());
                    return Err(self.error(
                        Kind::Invalid,
                        doing.to_owned(),
                        format!("it points to {host}: {FORBIDDEN}"),
                    ));
                }
                Partner::Stranger { of: &self.host, allowed }
            }
        };
        self.clients.client(url, partner).map_err(|e| {
            self.error(Kind::Invalid, doing.to_owned(), text::printable(&format!("cannot set up TLS: {e:#}")))
        })
    }

    pub(super) async fn send(
        &self,
        request: reqwest::RequestBuilder,
        doing: &str,
    ) -> Result<Response, Error> {
        self.send_within(self.policy.timing.answer, request, doing).await
    }

    /// Sends, waiting for the head of the answer only so long, and not before the host wants to be asked again.
    async fn send_within(
        &self,
        limit: Duration,
        request: reqwest::RequestBuilder,
        doing: &str,
    ) -> Result<Response, Error> {
        self.wait_until_open().await;
        let began = Instant::now();
        let error = match timeout(limit, request.send()).await {
            Ok(Ok(response)) => {
                let host = text::printable(response.url().host_str().unwrap_or_default());
                tracing::debug!("{doing}: {} by {host} in {:?}", response.status(), began.elapsed());
                return Ok(response);
            }
            Ok(Err(error)) => self.connection_error(doing, &error).await,
            Err(_) => {
                let why = format!("no answer within {}", text::duration(limit));
                self.error(Kind::Transient, doing.to_owned(), why)
            }
        };
        tracing::debug!("{error}");
        Err(error)
    }

    /// Success, or the error that the answer stands for.
    async fn judge(&self, ask: &Ask<'_>, response: Response) -> Result<Response, Error> {
        match response.status().is_success() {
            true => {
                self.note_served();
                Ok(response)
            }
            false => {
                let error = self.failure(ask.purpose, ask.doing.clone(), response).await;
                if error.kind == Kind::NotFound {
                    // As good an answer as any.
                    self.note_served();
                }
                Err(error)
            }
        }
    }

    pub(super) async fn failure(&self, purpose: Purpose, doing: String, response: Response) -> Error {
        let status = response.status();
        let proxy = self.clients.proxies.for_url(response.url());
        let proxy = proxy.filter(|_| status == StatusCode::PROXY_AUTHENTICATION_REQUIRED).map(wants_login);
        let wish = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let wish = wish.and_then(|value| retry_after(value, SystemTime::now()));
        let storage = self.storage_host(response.url()).filter(|_| purpose != Purpose::Token);
        let (body, _) = self.read_start(response, ERROR_BODY_MAX, &doing).await;
        let answer = Answer::parse(&body, |text| self.keyring.hush.apply(text));
        let mut kind = classify(purpose, status, &answer, wish);
        let mut why = describe(status, &answer);
        if let Some(storage) = storage {
            kind = classify_elsewhere(purpose, kind);
            why = format!("{why} (said by {storage}, where it points to)");
        }
        if let Kind::RateLimited(Some(wish)) = kind
            && wish <= self.policy.timing.longest_wait
        {
            // Whoever else is about to ask should know at once, whatever the one who asked has to do first.
            self.close_for(wish);
        }
        let hint = proxy.or_else(|| self.hint(&kind, &doing, &why));
        Error { status: Some(status.as_u16()), hint, ..self.error(kind, doing, why) }
    }

    /// The host of `url` if that is not this one but one that it redirected to.
    pub(super) fn storage_host(&self, url: &Url) -> Option<String> {
        let own = self.bases.iter().any(|base| {
            base.host() == url.host() && base.port_or_known_default() == url.port_or_known_default()
        });
        (!own).then(|| text::printable(url.host_str().unwrap_or_default()))
    }

    fn hint(&self, kind: &Kind, doing: &str, why: &str) -> Option<String> {
        match (self.side, kind) {
            // nginx: "No required SSL certificate was sent", "The SSL certificate error".
            (_, Kind::Invalid) if why.contains("SSL certificate") => Some(self.client_certificate_hint()),
            // Go's server and nginx, each in its own words.
            (_, Kind::Invalid) if why.contains("to an HTTPS server") || why.contains("to HTTPS port") => {
                Some("it speaks TLS: leave out http://".to_owned())
            }
            (_, Kind::RateLimited(Some(wish))) if *wish > self.policy.timing.longest_wait => Some(format!(
                "its rate limit is used up: it asks to wait {}, longer than --max-wait",
                text::duration(*wish)
            )),
            (_, Kind::RateLimited(Some(wish))) => {
                Some(format!("its rate limit is used up: it asks to wait {}", text::duration(*wish)))
            }
            (_, Kind::RateLimited(None)) => Some("its rate limit is used up".to_owned()),
            (Side::Target, Kind::Immutable) => {
                Some("its tags are immutable, and this one names something else".to_owned())
            }
            (Side::Target, Kind::NotFound) if why.contains("registry with id") => {
                let repository = doing.rsplit(' ').next().unwrap_or_default();
                Some(format!("aws ecr create-repository --repository-name {repository}"))
            }
            (Side::Target, Kind::NotFound) => {
                Some("the repository or project may have to be created first".to_owned())
            }
            (Side::Target, Kind::Denied) => {
                Some("the login may not push there, or the project has to be created first".to_owned())
            }
            (Side::Target, Kind::TooLarge) => Some(
                "a body size limit, of the registry or of a proxy before it (nginx: client_max_body_size)"
                    .to_owned(),
            ),
            (Side::Target, Kind::Unsupported) => Some("is it read-only, or no registry at all?".to_owned()),
            _ => None,
        }
    }

    /// An error of an exchange with this host.
    pub fn error(&self, kind: Kind, doing: String, why: String) -> Error {
        Error {
            side: self.side,
            kind,
            host: self.host.to_string(),
            doing,
            why: self.keyring.hush.apply(&why),
            hint: None,
            status: None,
            spent: false,
        }
    }

    /// A body of at most `limit` bytes, which must keep coming.
    pub(super) async fn read_body(
        &self,
        response: Response,
        limit: usize,
        doing: &str,
    ) -> Result<Bytes, Error> {
        match self.read_start(response, limit, doing).await {
            (body, None) => Ok(body),
            (_, Some(error)) => Err(error),
        }
    }

    /// As much of a body as comes, up to about `limit` bytes, and why that is not all of it.
    async fn read_start(&self, mut response: Response, limit: usize, doing: &str) -> (Bytes, Option<Error>) {
        let mut body = BytesMut::new();
        let (stall, window, began) =
            (self.policy.timing.stall, self.policy.timing.slow_window, Instant::now());
        loop {
            let time = began.elapsed();
            if time > window && (body.len() as u64) < SLOWEST * time.as_secs() {
                let why = "the answer comes too slowly".to_owned();
                return (body.freeze(), Some(self.error(Kind::Transient, doing.to_owned(), why)));
            }
            let chunk = match timeout(stall, response.chunk()).await {
                Ok(Ok(None)) => return (body.freeze(), None),
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Err(error)) => return (body.freeze(), Some(self.transport_error(doing, &error))),
                Err(_) => {
                    let why = format!("the answer stalled for {}", text::duration(stall));
                    return (body.freeze(), Some(self.error(Kind::Transient, doing.to_owned(), why)));
                }
            };
            body.extend_from_slice(&chunk);
            if body.len() > limit {
                let why = format!("the answer is larger than {}", text::bytes(limit as u64));
                return (body.freeze(), Some(self.error(Kind::Invalid, doing.to_owned(), why)));
            }
        }
    }

    /// `url`, which something that this host serves names: over plain HTTP only if the host itself is spoken to so.
    pub(super) fn not_downgraded(&self, url: &Url, doing: &str) -> Result<Url, Error> {
        let plain = matches!(&*self.contact.borrow(), Contact::Known(base) if base.scheme() == "http");
        match url.scheme() == "https" || plain {
            true => Ok(url.clone()),
            false => {
                let host = text::printable(url.host_str().unwrap_or_default());
                let why = format!("its manifest names an address at plain HTTP on {host}");
                Err(self.error(Kind::Invalid, doing.to_owned(), why))
            }
        }
    }

    /// An address that the host gave, relative to `from`, made safe: on HTTPS it stays on HTTPS.
    pub(super) fn location(&self, from: &Url, headers: &HeaderMap, doing: &str) -> Result<Url, Error> {
        let refuse = |why: String| self.error(Kind::Invalid, doing.to_owned(), why);
        let text = headers.get(LOCATION).and_then(|l| l.to_str().ok());
        let text = text.ok_or_else(|| refuse("the answer names no upload location".to_owned()))?;
        let mut url = from.join(text).map_err(|_| refuse("the upload location is no address".to_owned()))?;
        if from.scheme() == "https" && url.scheme() == "http" {
            // A registry that does not know of the TLS in front of it; the host is the same, so is the way to it.
            let same = url.host() == from.host() && (url.port().is_none() || url.port() == from.port());
            let port = from.port();
            if !same || url.set_scheme("https").is_err() || url.set_port(port).is_err() {
                let host = text::printable(url.host_str().unwrap_or_default());
                return Err(refuse(format!(
                    "the upload location is at plain HTTP on {host}; the proxy before the registry has to send X-Forwarded-Proto"
                )));
            }
        }
        match url.scheme() {
            "http" | "https" => Ok(url),
            _ => Err(refuse("the upload location is not on the web".to_owned())),
        }
    }

    /// Waits before another try; where the server asked for the pause, everyone keeps it.
    pub(super) async fn rest(&self, pause: Duration, error: &Error) {
        if matches!(error.kind, Kind::RateLimited(_)) {
            self.close_for(pause);
        } else {
            tracing::info!("trying again in {}: {error}", text::duration(pause));
        }
        sleep(pause).await;
    }

    fn close_for(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut closed = lock(&self.closed_until);
        let news = closed.is_none_or(|earlier| until > earlier + PAUSE_WORTH_TELLING);
        *closed = Some(closed.map_or(until, |earlier| earlier.max(until)));
        if news && pause >= PAUSE_WORTH_TELLING {
            tracing::warn!("{} asks for fewer requests: waiting {}", self.host, text::duration(pause));
        }
    }

    pub(super) async fn wait_until_open(&self) {
        loop {
            let until = *lock(&self.closed_until);
            match until {
                Some(until) if until > Instant::now() => sleep_until(until).await,
                _ => return,
            }
        }
    }
}

/// How a host may be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// TLS with a certificate that is vouched for; loopback hosts may do without TLS.
    Https,
    /// Plain HTTP, because the user wrote `http://`.
    Http,
    /// TLS with any certificate, or plain HTTP where the host speaks no TLS.
    Insecure,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds this lock")
}
