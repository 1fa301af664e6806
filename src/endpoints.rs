//! Where each image is pulled from, and under which names it goes to the target.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::error::Side;
use crate::image::reference::{Host, Location, Reference};
use crate::options::{Options, SourceMirror};
use crate::plan::{Place, Request};
use crate::selection::catalog::Selection;
use crate::store::registry::tls::Clients;
use crate::store::registry::{Registry, Scheme};
use crate::store::{Source, Target};

/// The hosts of a run: one target, and the sources that its images come from.
pub(crate) struct Endpoints<'o> {
    options: &'o Options,
    clients: Arc<Clients>,
    pub target: Target,
    /// By the host that references name.
    sources: HashMap<Host, Place>,
    /// By the host that is asked, and how.
    peers: HashMap<(Host, Scheme), Arc<Registry>>,
}

impl<'o> Endpoints<'o> {
    pub(crate) fn new(options: &'o Options) -> Self {
        let connect = options.policy.timing.connect;
        let clients = Arc::new(Clients::new(options.trust.clone(), options.proxies.clone(), connect));
        let target = registry(options, &clients, Side::Target, &options.target.host, options.target_scheme);
        let target = Target::registry(target);
        Self { options, clients, target, sources: HashMap::new(), peers: HashMap::new() }
    }

    /// What is to be done for `reference`.
    pub(crate) fn request(&mut self, reference: &Reference) -> Request {
        Request {
            source: self.source(&reference.host),
            destinations: destinations(self.options, reference),
            reference: reference.clone(),
            platforms: self.options.platforms.clone(),
            refers_to: None,
        }
    }

    fn source(&mut self, host: &Host) -> Place {
        if let Some(place) = self.sources.get(host) {
            return place.clone();
        }
        let (at, prefix, scheme) = match mirror_of(self.options, host) {
            Some(mirror) => (&mirror.place.host, mirror.place.prefix.clone(), mirror.scheme),
            None => (host, None, Scheme::Https),
        };
        // Several hosts may be mirrored at one place: it is one host, with one set of connections and tokens.
        let known = self.peers.entry((at.clone(), scheme));
        let registry =
            known.or_insert_with(|| registry(self.options, &self.clients, Side::Source, at, scheme)).clone();
        let place = Place { store: Source::Registry(registry), prefix };
        self.sources.insert(host.clone(), place.clone());
        place
    }
}

fn mirror_of<'o>(options: &'o Options, host: &Host) -> Option<&'o SourceMirror> {
    options.source_mirrors.iter().find(|mirror| mirror.host == *host)
}

/// Whether `--source-mirror` and `selection` agree. A mirror of a host that no image has is told, for it is likely
/// mistyped.
///
/// # Errors
/// One host would be asked by HTTPS and by plain HTTP, so that credentials for the one could be read on the other.
pub(crate) fn check_mirrors(options: &Options, selection: &Selection) -> Result<()> {
    let hosts: BTreeSet<&Host> = selection.images.iter().map(|image| &image.reference.host).collect();
    for mirror in options.source_mirrors.iter().filter(|mirror| !hosts.contains(&mirror.host)) {
        tracing::warn!("--source-mirror: no image that is selected is of {}", mirror.host);
    }
    let mut asked: BTreeMap<&Host, (&Host, Scheme)> = BTreeMap::new();
    for host in hosts {
        let (at, scheme) = mirror_of(options, host)
            .map_or((host, Scheme::Https), |mirror| (&mirror.place.host, mirror.scheme));
        let (first, known) = *asked.entry(at).or_insert((host, scheme));
        if known != scheme {
            bail!(
                "{at} would be asked by HTTPS and by plain HTTP, for images of {first} and of {host}: name it with one \
                 scheme in each --source-mirror, such as --source-mirror {host}=http://{at}"
            );
        }
    }
    Ok(())
}

fn registry(
    options: &Options,
    clients: &Arc<Clients>,
    side: Side,
    host: &Host,
    scheme: Scheme,
) -> Arc<Registry> {
    let (keyring, policy) = (options.keyring.clone(), options.policy.clone());
    Arc::new(Registry::new(side, host.clone(), scheme, keyring, clients.clone(), policy))
}

/// The names of `reference` at the target, with the target's path in front.
pub(crate) fn destinations(options: &Options, reference: &Reference) -> Vec<Location> {
    reference.destinations().iter().map(|location| options.target.place(location)).collect()
}
