//! The verbs of a registry (OCI distribution-spec 1.1): manifests, blobs, uploads, mounts.
//!
//! A verb makes a call ([`client`]), which is tried as long as that makes sense ([`retry`]), by whoever is first at a host
//! ([`ping`]), with what the host wants to see ([`auth`]), through its gate ([`host`]).

mod address;
mod ahead;
mod answer;
mod auth;
mod blobs;
#[cfg(test)]
mod canned;
mod client;
mod content_coding;
pub mod credentials;
mod distance;
mod download;
mod failure;
mod held_back;
mod host;
mod http_error;
mod manifests;
mod observed;
mod pace;
mod ping;
pub mod proxies;
mod referrers;
mod retry;
pub mod tls;
mod upload;
mod warnings;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};

use reqwest::{Response, Url};

pub(crate) use self::download::Download;
pub use self::host::REQUESTS_PER_HOST;
pub(crate) use self::upload::Ladder;
pub use crate::error::{Error, Kind, Side};

use self::auth::Authenticator;
use self::client::Call;
use self::credentials::Keyring;
use self::distance::Distance;
use self::host::{Addresses, Gate};
use self::observed::Observed;
use self::ping::Ping;
use self::retry::{Attempt, Rule};
use self::tls::Clients;
use self::upload::Uploads;
use self::warnings::Warnings;
use crate::image::reference::Host;
use crate::store::patience::{Patience, Policy};
use crate::store::{Head, Held};

/// What a registry says of a manifest that it has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Whoever asks for what refers to the manifest's subject will be told of it (`OCI-Subject`).
    pub lists_referrers: bool,
}

/// What became of the wish to upload a blob.
#[derive(Debug)]
pub enum Start {
    /// The repository has it now, without a byte sent. `named`: the answer names the blob, as the specification wants it.
    There { named: bool },
    /// The bytes are wanted at this address.
    Session(Url),
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

/// A registry as this run knows it: how to reach it, how to get in, when to leave it alone.
#[derive(Debug)]
pub struct Registry {
    pub side: Side,
    pub host: Host,
    policy: Policy,
    clients: Arc<Clients>,
    keyring: Arc<Keyring>,
    addresses: Addresses,
    gate: Gate,
    ping: Ping,
    auth: Authenticator,
    observed: Observed,
    warnings: Warnings,
    /// How many connections were wished for before they were needed.
    connected_ahead: AtomicUsize,
    distance: Arc<Distance>,
    /// What it was seen to do with uploads.
    uploads: Uploads,
}

impl Registry {
    pub fn new(
        side: Side,
        host: Host,
        scheme: Scheme,
        keyring: Arc<Keyring>,
        clients: Arc<Clients>,
        policy: Policy,
    ) -> Self {
        clients.proxies.logins().for_each(|login| login.hide(&keyring.redactor));
        Self {
            side,
            addresses: Addresses::new(&host, scheme),
            auth: Authenticator::new(side, host.clone(), keyring.clone()),
            host,
            gate: Gate::new(policy.timing.first_pause),
            policy,
            clients,
            keyring,
            ping: Ping::default(),
            observed: Observed::default(),
            warnings: Warnings::default(),
            connected_ahead: AtomicUsize::new(0),
            distance: Arc::default(),
            uploads: Uploads::default(),
        }
    }

    /// A registry for a test, with pauses of a millisecond and no proxy.
    #[cfg(test)]
    fn for_test(side: Side, host: &str, scheme: Scheme, retries: u32) -> Self {
        use crate::store::patience::Timing;
        use std::time::Duration;
        let millisecond = Duration::from_millis(1);
        let timing = Timing { first_pause: millisecond, longest_pause: millisecond, ..Timing::default() };
        let policy = Policy { retries, timing, manifest_max: 1 << 20 };
        let clients = Clients::new(tls::Trust::default(), Arc::default(), Duration::from_secs(5));
        Self::new(side, host.parse().unwrap(), scheme, Arc::default(), Arc::new(clients), policy)
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Makes the call until it succeeds or there is no more hope.
    async fn ask(&self, call: &Call<'_>) -> Result<Response, Error> {
        self.retry(&mut Patience::new(&self.policy), Asking { registry: self, call }).await
    }

    /// Makes the call once, as one of not too many.
    async fn ask_in_turn(&self, call: &Call<'_>, patience: &mut Patience) -> Result<Response, Error> {
        let _place = self.gate.enter(self.requests_at_a_time()).await;
        self.try_once(call, patience).await
    }

    /// Whether `url` is at this very host, and not where it points to.
    fn is_own(&self, url: &Url) -> bool {
        self.ping.base().is_some_and(|base| base.origin() == url.origin())
    }
}

/// A call on its way.
struct Asking<'a> {
    registry: &'a Registry,
    call: &'a Call<'a>,
}

impl Attempt for Asking<'_> {
    type Done = Response;
    const RULE: Rule = Rule::Request;

    async fn make(&mut self, patience: &mut Patience) -> Result<Response, Error> {
        self.registry.ask_in_turn(self.call, patience).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds this lock")
}
