//! The registries of a benchmark, and the way to them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};

use crate::options::Options;
use crate::relay::Relay;
use crate::set::Set;
use crate::support::content::load_repository;
use crate::support::process::{Access, DockerRegistry, Setup};
use crate::support::tls::Identity;
use crate::support::{Failure, Net};
use crate::usage::cpu_of;

/// How many repositories of the source are filled at once.
const FILL_AT_ONCE: usize = 4;
const KEPT_MARK: &str = "complete";

/// What everything happens on.
pub struct Arena<'o> {
    pub options: &'o Options,
    pub net: Net,
    identity: Option<Identity>,
    pub source: Place,
    /// Goes away with the arena, unless it is to be kept.
    _data: Option<tempfile::TempDir>,
}

/// A registry and the address that tools are given for it.
pub struct Place {
    pub registry: DockerRegistry,
    relay: Option<Relay>,
}

/// What a registry has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub requests: u64,
    /// Bytes of manifests and blobs that it gave out.
    pub served: u64,
    /// Bytes of blobs that it took in.
    pub taken: u64,
    pub cpu: Duration,
}

impl<'o> Arena<'o> {
    /// Starts the source and fills it.
    pub fn start(options: &'o Options, set: &Set) -> Result<Self, Failure> {
        let net = Net::new();
        let names =
            [Ipv4Addr::LOCALHOST.into(), far_address(options.tls)].map(|addr: IpAddr| addr.to_string());
        let identity = options.tls.then(|| net.ca().issue(&names));
        let (data, temporary) = source_data(options)?;
        let mark = data.join(KEPT_MARK);
        let content = fingerprint(set);
        let kept = std::fs::read_to_string(&mark).is_ok_and(|found| found == content);
        if !kept && data.exists() && options.keep.is_some() && data.read_dir()?.next().is_some() {
            return Err(format!("{} holds something else; name another directory", data.display()).into());
        }
        let setup = Setup { tls: identity.as_ref(), data: Some(&data), ..Setup::default() };
        let source = Place::start(&setup, options.delay(), options.rate)?;
        if !kept {
            fill(&net, set, &source.registry.url())?;
            std::fs::write(&mark, content)?;
        }
        Ok(Self { options, net, identity, source, _data: temporary })
    }

    /// A fresh target.
    pub fn target(&self) -> Result<Place, Failure> {
        let setup = Setup {
            tls: self.identity.as_ref(),
            program: self.options.target_program.as_deref(),
            ..Setup::default()
        };
        Place::start(&setup, self.options.delay(), None)
    }
}

impl Place {
    fn start(setup: &Setup<'_>, delay: Duration, rate: Option<u64>) -> Result<Self, Failure> {
        let registry = DockerRegistry::start(setup)?;
        let far = !delay.is_zero() || rate.is_some();
        let at = far_address(setup.tls.is_some());
        let relay = far.then(|| Relay::start(at, registry.addr(), delay, rate)).transpose()?;
        Ok(Self { registry, relay })
    }

    /// Where tools reach it.
    pub fn addr(&self) -> SocketAddr {
        self.relay.as_ref().map_or(self.registry.addr(), |relay| relay.addr)
    }

    /// Its log so far. Waits for what trails the answers a little.
    fn settled(&self) -> Vec<Access> {
        let mut accesses = self.registry.accesses();
        loop {
            sleep(Duration::from_millis(100));
            let now = self.registry.accesses();
            if now.len() == accesses.len() {
                return now;
            }
            accesses = now;
        }
    }

    /// How long after `began` it had handed out a blob, if it ever did.
    pub fn first_blob(&self, began: Instant) -> Option<Duration> {
        let accesses = self.settled().into_iter().filter(|access| access.at >= began);
        let mut blobs = accesses.filter(|access| {
            access.method == "GET" && matches!(access.status, 200 | 206) && access.path.contains("/blobs/")
        });
        blobs.next().map(|access| access.at - began)
    }

    /// What it has done so far.
    pub fn traffic(&self, set: &Set) -> Traffic {
        let accesses = self.settled();
        let cpu = self.registry.id().map(cpu_of).unwrap_or_default();
        let mut traffic = Traffic { requests: accesses.len() as u64, cpu, ..Traffic::default() };
        for access in accesses {
            match access.method.as_str() {
                "GET" if matches!(access.status, 200 | 206) => traffic.served += access.bytes,
                "PUT" if access.status == 201 => traffic.taken += uploaded(&access, set),
                _ => {}
            }
        }
        traffic
    }
}

/// Where a distant registry is reached: at an address of this machine that is no loopback, since tools treat those in
/// ways of their own, if it has one. Without TLS it is loopback, which all of them let be.
fn far_address(tls: bool) -> IpAddr {
    let route = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        // Nothing is sent: this only asks which address would be used.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        socket.local_addr().ok().map(|addr| addr.ip())
    };
    let own = tls.then(route).flatten().filter(|addr| !addr.is_unspecified());
    own.unwrap_or(Ipv4Addr::LOCALHOST.into())
}

impl std::ops::Sub for Traffic {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            requests: self.requests - earlier.requests,
            served: self.served - earlier.served,
            taken: self.taken - earlier.taken,
            cpu: self.cpu.saturating_sub(earlier.cpu),
        }
    }
}

/// The size of the blob whose upload this request completes.
fn uploaded(access: &Access, set: &Set) -> u64 {
    let query = access.path.split_once('?').map_or("", |(_, query)| query);
    let digest = query.split('&').find_map(|pair| pair.strip_prefix("digest="));
    let digest = digest.map(|digest| digest.replace("%3A", ":"));
    digest.and_then(|digest| set.content.blobs.get(&digest)).map_or(0, |blob| blob.size)
}

fn source_data(options: &Options) -> Result<(PathBuf, Option<tempfile::TempDir>), Failure> {
    if let Some(place) = &options.keep {
        let place = place.join(if options.small { "small" } else { "full" });
        std::fs::create_dir_all(&place)?;
        return Ok((place.canonicalize()?, None));
    }
    let temporary = tempfile::tempdir()?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

/// Tells one set from another.
fn fingerprint(set: &Set) -> String {
    let tags = set.content.tags().map(|(repository, tag, digest)| format!("{repository}:{tag}@{digest}\n"));
    tags.collect()
}

fn fill(net: &Net, set: &Set, url: &str) -> Result<(), Failure> {
    let client = net.client();
    net.block_on(async {
        let names = set.content.repositories.keys();
        let mut filling = stream::iter(names)
            .map(|name| load_repository(&set.content, name, &client, url, None))
            .buffer_unordered(FILL_AT_ONCE);
        while let Some(done) = filling.next().await {
            done?;
        }
        Ok(())
    })
}
