//! A small internet for one test: named hosts on loopback that share a journal, a certificate
//! authority and a runtime of their own, so that a test may block while they answer.

pub mod call;
pub mod reply;
mod serve;
pub(super) mod wire;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::content::Blob;
use super::digest::Digest;
use super::fault::cdn::{Cdn, Signatures};
use super::fault::hook::Hooks;
use super::fault::{Rule, Rules};
use super::journal::Journal;
use super::registry::token::{TokenBuilder, TokenState};
use super::registry::{RegistryBuilder, RegistryService};
use super::tls::{Ca, Identity};
pub(super) use serve::Abort;

pub struct Net {
    runtime: Option<Runtime>,
    /// Not shared with the hosts, whose last tasks may outlive the test process's end.
    directory: tempfile::TempDir,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub handle: Handle,
    pub journal: Journal,
    pub ca: Ca,
    /// Generated blobs of any registry here, so that none needs to keep their bytes.
    pub known: Mutex<HashMap<Digest, Blob>>,
    pub signatures: Signatures,
    pub hooks: Hooks,
    next_connection: AtomicU64,
}

impl Default for Net {
    fn default() -> Self {
        Self::new()
    }
}

impl Net {
    pub fn new() -> Self {
        super::install_crypto();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime for the hosts");
        let ca = Ca::new("mirror-images test CA");
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("ca.pem"), &ca.pem).expect("the CA is written");
        let shared = Shared {
            handle: runtime.handle().clone(),
            journal: Journal::default(),
            ca,
            known: Mutex::default(),
            signatures: Signatures::default(),
            hooks: Hooks::default(),
            next_connection: AtomicU64::new(1),
        };
        Self { runtime: Some(runtime), directory, shared: Arc::new(shared) }
    }

    /// Begins a registry; `.start()` opens it.
    pub fn registry(&self, name: &str) -> RegistryBuilder {
        RegistryBuilder::new(self.shared.clone(), name)
    }

    /// Begins a token service for `Auth::Token`.
    pub fn token_service(&self, name: &str) -> TokenBuilder {
        TokenBuilder::new(self.shared.clone(), name)
    }

    /// A storage host that honours only signed URLs, for `Fault::redirect`.
    pub fn cdn(&self, name: &str) -> Plain {
        let service = Service::Cdn(Cdn::new(self.shared.clone()));
        Plain::start(&self.shared, name, service, &Endpoint::default())
    }

    /// A host that nobody should talk to: answers 404, or what its rules say.
    pub fn trap(&self, name: &str) -> Plain {
        Plain::start(&self.shared, name, Service::Trap, &Endpoint::default())
    }

    pub fn trap_tls(&self, name: &str) -> Plain {
        let endpoint = Endpoint { tls: true, ..Endpoint::default() };
        Plain::start(&self.shared, name, Service::Trap, &endpoint)
    }

    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    pub fn ca(&self) -> &Ca {
        &self.shared.ca
    }

    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Calls `act` when the `k`-th request (from 1) of this net arrives, before it is answered.
    pub fn at_request(&self, k: usize, act: impl FnOnce() + Send + 'static) {
        self.shared.hooks.at_request(k, act);
    }

    /// Runs a future in a test that is not async itself.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.as_ref().expect("there until dropped").block_on(future)
    }

    /// A client that trusts this net's CA.
    pub fn client(&self) -> reqwest::Client {
        super::http_client(Some(&self.shared.ca.pem))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // An ordinary drop would block, which an async test may not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Where and how a host listens.
#[derive(Clone, Default)]
pub struct Endpoint {
    pub tls: bool,
    pub ipv6: bool,
    /// Names in the certificate besides loopback.
    pub names: Vec<String>,
    /// Instead of a certificate for loopback and `names`.
    pub identity: Option<Arc<Identity>>,
    /// A small buffer makes "stops reading" bite early.
    pub receive_buffer: Option<u32>,
    /// Closes connections that idle for so long, without a word.
    pub idle_close: Option<Duration>,
}

pub(super) enum Service {
    Registry(RegistryService),
    Token(Arc<TokenState>),
    Cdn(Cdn),
    Trap,
}

/// One listening host.
pub(super) struct Host {
    pub name: String,
    pub addr: SocketAddr,
    pub endpoint: Endpoint,
    pub net: Arc<Shared>,
    pub rules: Rules,
    pub service: Service,
    /// False while the host refuses connections.
    pub up: watch::Sender<bool>,
}

impl Host {
    pub fn start(
        net: &Arc<Shared>,
        name: &str,
        endpoint: &Endpoint,
        make: impl FnOnce(SocketAddr) -> Service,
        rules: Vec<Rule>,
    ) -> (Arc<Self>, Guard) {
        let ip =
            if endpoint.ipv6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
        // Bound here and not in the task, so that the address is known at once.
        let _runtime = net.handle.enter();
        let address = SocketAddr::new(ip, 0);
        let listener = serve::listen(address, endpoint).expect("a free loopback port");
        let addr = listener.local_addr().expect("a bound socket");
        let host = Arc::new(Self {
            name: name.to_owned(),
            addr,
            endpoint: endpoint.clone(),
            net: net.clone(),
            rules: Rules::new(rules),
            service: make(addr),
            up: watch::Sender::new(true),
        });
        let task = net.handle.spawn(serve::run(host.clone(), listener));
        let guard = Guard(task.abort_handle());
        (host, guard)
    }

    pub fn scheme(&self) -> &'static str {
        if self.endpoint.tls { "https" } else { "http" }
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.addr)
    }

    /// Refuses connections, and drops those it has, for a time.
    pub fn down_for(self: &Arc<Self>, time: Duration) {
        self.up.send_replace(false);
        let host = self.clone();
        self.net.handle.spawn(async move {
            tokio::time::sleep(time).await;
            host.up.send_replace(true);
        });
    }
}

/// Closes its host when dropped.
pub(super) struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A host without settings of its own.
pub struct Plain {
    pub(super) inner: Arc<Host>,
    _guard: Guard,
}

impl Plain {
    fn start(net: &Arc<Shared>, name: &str, service: Service, endpoint: &Endpoint) -> Self {
        let (inner, _guard) = Host::start(net, name, endpoint, |_| service, Vec::new());
        Self { inner, _guard }
    }

    pub fn url(&self) -> String {
        self.inner.url()
    }

    pub fn host(&self) -> String {
        self.inner.addr.to_string()
    }

    pub fn fault(&self, rule: Rule) -> &Self {
        self.inner.rules.add(rule);
        self
    }

    pub fn clear_faults(&self) {
        self.inner.rules.clear();
    }
}
