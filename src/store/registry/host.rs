//! A host as this run knows it: by which addresses it may be reached, and when it is to be left alone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Url;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::address::{AddressScope, scope_of_host};
use super::pace::{Load, Pace, Pass, Place, Turn};
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
    pace: Mutex<Pace>,
    /// Tells those that wait that they may have to do something else by now.
    changes: watch::Sender<()>,
    /// When it has last answered a request well, whoever made it.
    served_last: Mutex<Option<Instant>>,
    /// Held for one small request each, and for nothing else.
    slots: Semaphore,
    /// How many of these there are.
    most: AtomicUsize,
}

/// A request that is under way. Dropped, it has ended without a word about the host.
#[derive(Debug)]
pub(super) struct Passage<'a> {
    gate: &'a Gate,
    pass: Pass,
}

impl Passage<'_> {
    /// The host has taken the request, whatever it has answered.
    pub(super) fn taken(self) {
        self.gate.change(|pace| pace.taken(self.pass, Instant::now()));
    }

    /// The host has refused the request as one too many: how many it has refused since it took one, one for each pause.
    /// `None` if this one was asked before it refused another.
    pub(super) fn refused(self) -> Option<u32> {
        self.gate.change(|pace| pace.refused(self.pass, Instant::now()).then(|| pace.refusals()))
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.gate.change(|pace| pace.ended(self.pass));
    }
}

/// Someone who waits at a gate.
struct Waiting<'a> {
    gate: &'a Gate,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.change(|pace| pace.leave(self.place));
    }
}

impl Gate {
    /// Requests of a host that has refused some are never spaced by more than `longest_gap`.
    pub(super) fn new(longest_gap: Duration) -> Self {
        Self {
            pace: Mutex::new(Pace::new(longest_gap)),
            changes: watch::Sender::new(()),
            served_last: Mutex::default(),
            slots: Semaphore::new(REQUESTS_PER_HOST),
            most: AtomicUsize::new(REQUESTS_PER_HOST),
        }
    }

    /// A place among the requests that the host is busy with, which are at most so many, or as many as they were before.
    pub(super) async fn enter(&self, most: usize) -> SemaphorePermit<'_> {
        let before = self.most.fetch_max(most, Ordering::Relaxed);
        self.slots.add_permits(most.saturating_sub(before));
        self.slots.acquire().await.expect("the semaphore is never closed")
    }

    /// Waits while the host wants to be left alone, without a place among those that ask after that.
    pub(super) async fn rest(&self) {
        loop {
            let Some(until) = lock(&self.pace).closed_until(Instant::now()) else { return };
            sleep_until(until).await;
        }
    }

    /// Waits until a request may be made that brings `load`; `None` if something small has to be asked before.
    pub(super) async fn pass(&self, load: Load) -> Option<Passage<'_>> {
        let mut changes = self.changes.subscribe();
        let waiting = Waiting { gate: self, place: lock(&self.pace).queue(load) };
        loop {
            // Looked at before the turn: whatever changes after this ends the wait.
            changes.borrow_and_update();
            let turn = lock(&self.pace).turn(waiting.place, Instant::now());
            // The sender lives in self: it cannot be gone.
            match turn {
                Turn::Go(pass) => return Some(Passage { gate: self, pass }),
                Turn::AskFirst => return None,
                Turn::At(then) => _ = timeout_at(then, changes.changed()).await,
                Turn::Later => _ = changes.changed().await,
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Pace) -> T) -> T {
        let mut pace = lock(&self.pace);
        let result = change(&mut pace);
        if pace.anyone_waits() {
            self.changes.send_replace(());
        }
        result
    }

    /// Whether the host has refused a request as one too many, and taken none since.
    pub(super) fn is_doubtful(&self) -> bool {
        lock(&self.pace).is_doubtful()
    }

    /// How long it takes until the host refuses a request as one too many, if it has refused any.
    pub(super) fn refusal_takes(&self) -> Option<Duration> {
        lock(&self.pace).refusal_takes()
    }

    /// Closes the gate for all; true if that is worth telling.
    pub(super) fn close_for(&self, pause: Duration) -> bool {
        let now = Instant::now();
        let until = now + pause;
        let before = self.change(|pace| pace.close(until, now));
        let news = before.is_none_or(|before| until > before + PAUSE_WORTH_TELLING);
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

    fn gate() -> Gate {
        Gate::new(Duration::from_millis(1))
    }

    #[tokio::test]
    async fn a_closed_gate_keeps_everyone_and_the_longest_pause_counts() {
        let gate = gate();
        gate.pass(Load::Question).await.unwrap().taken();
        assert!(!gate.close_for(Duration::from_millis(40)));
        assert!(!gate.close_for(Duration::from_millis(1)));
        let began = Instant::now();
        let pass = async || gate.pass(Load::Question).await.unwrap().taken();
        tokio::join!(pass(), pass());
        assert!(began.elapsed() >= Duration::from_millis(30));
    }

    #[tokio::test(start_paused = true)]
    async fn what_wears_out_is_fetched_after_the_last_pause() {
        let gate = gate();
        let began = Instant::now();
        gate.rest().await;
        gate.close_for(Duration::from_secs(4));
        let longer = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            gate.close_for(Duration::from_secs(7));
        };
        tokio::join!(gate.rest(), longer);
        assert_eq!(began.elapsed().as_secs(), 9);
    }

    #[tokio::test]
    async fn a_blob_waits_until_something_small_was_taken_after_a_pause() {
        let gate = gate();
        gate.pass(Load::Question).await.unwrap().refused();
        assert!(gate.is_doubtful() && gate.pass(Load::Blob).await.is_none());
        let question = gate.pass(Load::Question).await.unwrap();
        let blob = async { gate.pass(Load::Blob).await.is_some() };
        let answer = async {
            tokio::task::yield_now().await;
            question.taken();
        };
        assert!(tokio::join!(blob, answer).0);
        assert!(!gate.is_doubtful());
    }

    #[tokio::test]
    async fn whoever_waits_no_more_keeps_nobody_from_passing() {
        let gate = gate();
        gate.pass(Load::Question).await.unwrap().refused();
        let probe = gate.pass(Load::Question).await.unwrap();
        let short = Duration::from_millis(5);
        assert!(tokio::time::timeout(short, gate.pass(Load::Question)).await.is_err());
        drop(probe);
        assert!(tokio::time::timeout(short, gate.pass(Load::Question)).await.is_ok());
    }

    #[tokio::test]
    async fn a_long_pause_is_told_once() {
        let gate = gate();
        assert!(gate.close_for(Duration::from_secs(60)));
        assert!(!gate.close_for(Duration::from_secs(60)));
        assert!(gate.close_for(Duration::from_secs(90)));
    }

    #[tokio::test]
    async fn a_host_is_alive_for_a_while_after_it_has_served() {
        let gate = gate();
        assert!(!gate.served_within(Duration::from_secs(60)));
        gate.note_served();
        assert!(gate.served_within(Duration::from_secs(60)) && !gate.served_within(Duration::ZERO));
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_requests() {
        let gate = gate();
        let mut inside = Vec::new();
        for _ in 0..REQUESTS_PER_HOST {
            inside.push(gate.enter(REQUESTS_PER_HOST).await);
        }
        let short = Duration::from_millis(5);
        let enter = async |most| tokio::time::timeout(short, gate.enter(most)).await.ok();
        assert!(enter(REQUESTS_PER_HOST).await.is_none());
        inside.pop();
        inside.extend(enter(REQUESTS_PER_HOST).await);
        assert_eq!(inside.len(), REQUESTS_PER_HOST);
        // It has turned out to be farther away.
        inside.extend(enter(REQUESTS_PER_HOST + 1).await);
        assert_eq!(inside.len(), REQUESTS_PER_HOST + 1);
        assert!(enter(REQUESTS_PER_HOST + 1).await.is_none());
    }
}
