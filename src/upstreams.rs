//! Where each image is pulled from, and under which names it goes to the target.

use std::collections::HashMap;
use std::sync::Arc;

use crate::options::Options;
use crate::plan::{Place, Request};
use crate::reference::{Host, Reference, Spot};
use crate::registry::tls::Clients;
use crate::registry::{Peer, Scheme, Side};
use crate::store::{Source, Target};

/// The hosts of a run: one target, and the sources that its images come from.
pub(crate) struct Hosts<'o> {
    options: &'o Options,
    clients: Arc<Clients>,
    pub target: Target,
    /// By the host that references name.
    sources: HashMap<Host, Place>,
}

impl<'o> Hosts<'o> {
    pub fn new(options: &'o Options) -> Self {
        let connect = options.policy.timing.connect;
        let clients = Arc::new(Clients::new(options.trust.clone(), options.proxies.clone(), connect));
        let target = peer(options, &clients, Side::Target, &options.target.host, options.target_scheme);
        let target = Target::Registry(target);
        Self { options, clients, target, sources: HashMap::new() }
    }

    /// What is to be done for `reference`.
    pub fn request(&mut self, reference: &Reference) -> Request {
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
        let mirror = self.options.source_mirrors.iter().find(|mirror| mirror.host == *host);
        let (at, prefix, scheme) = match mirror {
            Some(mirror) => (&mirror.place.host, mirror.place.prefix.clone(), mirror.scheme),
            None => (host, None, Scheme::Https),
        };
        // Several hosts may be mirrored at one place: it is one host, with one set of connections and tokens.
        let mut known = self.sources.values().map(|place| &place.store);
        let store = match known.find(|store| store.place() == at.as_str()) {
            Some(store) => store.clone(),
            None => Source::Registry(peer(self.options, &self.clients, Side::Source, at, scheme)),
        };
        let place = Place { store, prefix };
        self.sources.insert(host.clone(), place.clone());
        place
    }
}

fn peer(options: &Options, clients: &Arc<Clients>, side: Side, host: &Host, scheme: Scheme) -> Arc<Peer> {
    let (keyring, policy) = (options.keyring.clone(), options.policy.clone());
    Arc::new(Peer::new(side, host.clone(), scheme, keyring, clients.clone(), policy))
}

/// The names of `reference` at the target, with the target's path in front.
pub fn destinations(options: &Options, reference: &Reference) -> Vec<Spot> {
    reference.destinations().iter().map(|spot| options.target.place(spot)).collect()
}
