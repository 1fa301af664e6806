//! A host as this run knows it: by which addresses it may be reached, and when it is to be left alone.

use std::sync::Mutex;
use std::time::Duration;

use reqwest::Url;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use super::address::{AddressScope, scope_of_host};
use super::proxies::is_loopback;
use super::{Scheme, lock};
use crate::image::reference::{DOCKER_HUB, Host};
use crate::util::text;

/// Most requests that one host is busy with at a time; blobs that stream are counted by who starts them.
pub const REQUESTS_PER_HOST: usize = 96;
/// An announced pause shorter than this is not worth a line.
const PAUSE_WORTH_TELLING: Duration = Duration::from_secs(1);

/// The addresses of a registry.
#[derive(Debug)]
pub(super) struct Addresses {
    /// Best first; never empty.
    bases: Vec<Url>,
    /// Any certificate will do.
    pub unverified: bool,
    /// How near the host is, once someone had to know.
    scope: OnceCell<AddressScope>,
}

impl Addresses {
    pub(super) fn new(host: &Host, scheme: Scheme) -> Self {
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
        Self { bases, unverified: scheme == Scheme::Insecure, scope: OnceCell::new() }
    }

    pub(super) fn bases(&self) -> &[Url] {
        &self.bases
    }

    /// Whether `url` is at this host, on whatever port.
    pub(super) fn names_host_of(&self, url: &Url) -> bool {
        self.bases.iter().any(|base| base.host() == url.host())
    }

    /// The host of `url` if that is not this one but one that it points to; another port is another host.
    pub(super) fn elsewhere(&self, url: &Url) -> Option<String> {
        let own = self.bases.iter().any(|base| {
            base.host() == url.host() && base.port_or_known_default() == url.port_or_known_default()
        });
        (!own).then(|| text::printable(url.host_str().unwrap_or_default()))
    }

    /// Whether a token service may be shown the login, and its answer is worth as much: plain HTTP is only for where the
    /// user has allowed it, which is this very host, or this machine.
    pub(super) fn may_get_login(&self, realm: &Url) -> bool {
        let mut plain = self.bases.iter().filter(|base| base.scheme() == "http");
        realm.scheme() == "https" || plain.any(|base| base.host() == realm.host() || is_loopback(realm))
    }

    pub(super) async fn scope(&self) -> AddressScope {
        *self.scope.get_or_init(|| scope_of_host(&self.bases[0])).await
    }
}

/// When and how often a host is asked, by all who ask it.
#[derive(Debug)]
pub(super) struct Gate {
    /// Nobody asks this host for anything before then.
    closed_until: Mutex<Option<Instant>>,
    /// When it has last answered a request well, whoever made it.
    served_last: Mutex<Option<Instant>>,
    /// Held for one small request each, and for nothing else.
    slots: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            closed_until: Mutex::default(),
            served_last: Mutex::default(),
            slots: Semaphore::new(REQUESTS_PER_HOST),
        }
    }
}

impl Gate {
    /// A place among the requests that the host is busy with.
    pub(super) async fn enter(&self) -> SemaphorePermit<'_> {
        self.slots.acquire().await.expect("the semaphore is never closed")
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

    /// Closes the gate for all; true if that is worth telling.
    pub(super) fn close_for(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut closed = lock(&self.closed_until);
        let news = closed.is_none_or(|earlier| until > earlier + PAUSE_WORTH_TELLING);
        *closed = Some(closed.map_or(until, |earlier| earlier.max(until)));
        news && pause >= PAUSE_WORTH_TELLING
    }

    pub(super) fn note_served(&self) {
        *lock(&self.served_last) = Some(Instant::now());
    }

    /// Whether the host has answered anything well in this time: overloaded or not, it works.
    pub(super) fn served_within(&self, time: Duration) -> bool {
        lock(&self.served_last).is_some_and(|last| last.elapsed() < time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(host: &str, scheme: Scheme) -> Addresses {
        Addresses::new(&host.parse().unwrap(), scheme)
    }

    #[test]
    fn only_loopback_and_who_is_allowed_to_may_do_without_tls() {
        let table = [
            ("quay.io", Scheme::Https, vec!["https://quay.io/"]),
            ("quay.io", Scheme::Http, vec!["http://quay.io/"]),
            ("quay.io", Scheme::Insecure, vec!["https://quay.io/", "http://quay.io/"]),
            ("127.0.0.1:5000", Scheme::Https, vec!["https://127.0.0.1:5000/", "http://127.0.0.1:5000/"]),
            ("docker.io", Scheme::Https, vec!["https://registry-1.docker.io/"]),
        ];
        for (host, scheme, expected) in table {
            let addresses = addresses(host, scheme);
            let bases: Vec<&str> = addresses.bases().iter().map(Url::as_str).collect();
            assert_eq!(bases, expected, "{host} {scheme:?}");
        }
    }

    #[test]
    fn a_login_goes_to_no_plain_token_service_that_was_not_allowed() {
        let table = [
            ("quay.io", Scheme::Https, "https://auth.quay.io/token", true),
            ("quay.io", Scheme::Https, "http://quay.io/token", false),
            ("quay.io", Scheme::Http, "http://quay.io:5001/token", true),
            ("quay.io", Scheme::Http, "http://auth.quay.io/token", false),
            ("quay.io", Scheme::Insecure, "http://127.0.0.1:1/token", true),
            ("127.0.0.1:5000", Scheme::Https, "http://127.0.0.1:5001/token", true),
        ];
        for (host, scheme, realm, allowed) in table {
            let may = addresses(host, scheme).may_get_login(&realm.parse().unwrap());
            assert_eq!(may, allowed, "{host} {scheme:?} {realm}");
        }
    }

    #[test]
    fn another_port_is_elsewhere() {
        let own = addresses("r.example.com:5000", Scheme::Insecure);
        let at = |url: &str| own.elsewhere(&url.parse().unwrap());
        assert_eq!(at("https://r.example.com:5000/x"), None);
        assert_eq!(at("https://r.example.com/x").as_deref(), Some("r.example.com"));
        assert!(own.names_host_of(&"https://r.example.com/x".parse().unwrap()));
        assert_eq!(at("https://s3.example.com/x").as_deref(), Some("s3.example.com"));
    }

    #[tokio::test]
    async fn a_closed_gate_keeps_everyone_and_the_longest_pause_counts() {
        let gate = Gate::default();
        gate.wait_until_open().await;
        assert!(!gate.close_for(Duration::from_millis(40)));
        assert!(!gate.close_for(Duration::from_millis(1)));
        let began = Instant::now();
        tokio::join!(gate.wait_until_open(), gate.wait_until_open());
        assert!(began.elapsed() >= Duration::from_millis(30));
    }

    #[tokio::test]
    async fn a_long_pause_is_told_once() {
        let gate = Gate::default();
        assert!(gate.close_for(Duration::from_secs(60)));
        assert!(!gate.close_for(Duration::from_secs(60)));
        assert!(gate.close_for(Duration::from_secs(90)));
    }

    #[tokio::test]
    async fn a_host_is_alive_for_a_while_after_it_has_served() {
        let gate = Gate::default();
        assert!(!gate.served_within(Duration::from_secs(60)));
        gate.note_served();
        assert!(gate.served_within(Duration::from_secs(60)) && !gate.served_within(Duration::ZERO));
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_requests() {
        let gate = Gate::default();
        let mut inside = Vec::new();
        for _ in 0..REQUESTS_PER_HOST {
            inside.push(gate.enter().await);
        }
        let short = Duration::from_millis(5);
        assert!(tokio::time::timeout(short, gate.enter()).await.is_err());
        inside.pop();
        assert!(tokio::time::timeout(short, gate.enter()).await.is_ok());
    }
}
