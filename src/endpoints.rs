//! Where each image is pulled from, and under which names it goes to the target.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::error::Side;
use crate::image::platforms::Platforms;
use crate::image::reference::{self, Digest, Host, Reference, Repository};
use crate::options::{Access, Options, SourceMirror, Supply};
use crate::plan::{Place, Request};
use crate::record::{Blob, Image, Purpose};
use crate::selection::catalog::{Pin, SelectedImage};
use crate::selection::why::{Why, explain};
use crate::store::layout::Layout;
use crate::store::name::StoreName;
use crate::store::registry::tls::Clients;
use crate::store::registry::{Registry, Scheme};
use crate::store::{Source, Target};

/// The sources of images, each host once.
pub(crate) struct Sources {
    access: Access,
    from: Supply,
    clients: Arc<Clients>,
    /// By the host that references name.
    places: HashMap<Host, Place>,
    /// By the host that is asked, and how.
    peers: HashMap<(Host, Scheme), Arc<Registry>>,
}

impl Sources {
    /// Images are taken from where `from` says.
    fn new_from(access: Access, from: Supply) -> Self {
        Self { from, ..Self::new(access) }
    }

    pub(crate) fn new(access: Access) -> Self {
        let Access { trust, proxies, policy, .. } = &access;
        let clients = Arc::new(Clients::new(trust.clone(), proxies.clone(), policy.timing.connect));
        Self { access, from: Supply::Upstream, clients, places: HashMap::new(), peers: HashMap::new() }
    }

    /// Where images of `host` are pulled from.
    pub(crate) fn place(&mut self, host: &Host) -> Place {
        if let Some(place) = self.places.get(host) {
            return place.clone();
        }
        let (at, prefix, scheme) = match (&self.from, mirror_of(&self.access.mirrors, host)) {
            (Supply::Layouts(layout), _) => {
                return Place {
                    store: Source::Layout(layout.clone()),
                    prefix: Some(Repository::of_host(host)),
                };
            }
            (Supply::Registry(target), _) => (target.host.clone(), target.prefix.clone(), Scheme::Https),
            (Supply::Upstream, Some(mirror)) => {
                (mirror.place.host.clone(), mirror.place.prefix.clone(), mirror.scheme)
            }
            (Supply::Upstream, None) => (host.clone(), None, Scheme::Https),
        };
        // Several hosts may be mirrored at one place: it is one host, with one set of connections and tokens.
        let known = self.peers.get(&(at.clone(), scheme)).cloned();
        let registry = known.unwrap_or_else(|| {
            let registry = registry(&self.access, &self.clients, Side::Source, &at, scheme);
            self.peers.insert((at, scheme), registry.clone());
            registry
        });
        let place = Place { store: Source::Registry(registry), prefix };
        self.places.insert(host.clone(), place.clone());
        place
    }

    /// Whether another place has what belongs to `host`.
    pub(crate) fn is_mirrored(&self, host: &Host) -> bool {
        mirror_of(&self.access.mirrors, host).is_some()
    }
}

/// The hosts of a run: one target, and the sources that its images come from.
pub(crate) struct Endpoints<'o> {
    options: &'o Options,
    sources: Sources,
    pub target: Target,
    /// What is found out of images is recorded.
    is_recorded: bool,
    /// What is left out by images, and by the layouts that they are taken from.
    elsewhere: Arc<BTreeMap<Digest, Blob>>,
    assumed: Option<Arc<BTreeMap<Digest, Blob>>>,
}

impl<'o> Endpoints<'o> {
    /// Layers that are `elsewhere` are left out.
    ///
    /// # Errors
    /// The target is a layout that cannot be written to; one that is `only_read` need not be there.
    pub(crate) fn new(
        options: &'o Options,
        only_read: bool,
        elsewhere: BTreeMap<Digest, Blob>,
    ) -> Result<Self> {
        let sources = Sources::new_from(Access::of(options), options.from.clone());
        let target = match &options.target {
            StoreName::Registry(named) => {
                let (host, scheme) = (&named.host, options.target_scheme);
                let target = registry(&sources.access, &sources.clients, Side::Target, host, scheme);
                Target::registry(target)
            }
            StoreName::Layout(name) if only_read => {
                Target::layout(Arc::new(Layout::look(name, options.policy.clone())?))
            }
            StoreName::Layout(name) => {
                let (platform, made) = (options.platforms.first(), options.made.clone());
                let policy = options.policy.clone();
                Target::layout(Arc::new(Layout::create(name, options.split, policy, platform, made)?))
            }
        };
        // A layout that is written has a lock of its own.
        let is_recorded = options.lock_out.is_some() || !only_read && options.target.registry().is_none();
        let (elsewhere, assumed) = (Arc::new(elsewhere), assumed(options).map(Arc::new));
        Ok(Self { options, sources, target, is_recorded, elsewhere, assumed })
    }

    /// What is to be done for `image`.
    pub(crate) fn request(&mut self, image: &SelectedImage) -> Request {
        let reference = &image.reference;
        let purpose = || Purpose {
            names: reference.destinations(),
            reasons: explain(image).iter().map(Why::sentence).collect(),
        };
        Request {
            elsewhere: self.elsewhere.clone(),
            assumed: self.assumed.clone(),
            locked: self.locked(reference),
            purpose: self.is_recorded.then(purpose).map(Arc::new),
            source: self.source_of(reference),
            destinations: self.options.target.destinations(reference),
            reference: reference.clone(),
            platforms: self.platforms_of(reference),
            refers_to: None,
            pinned: self.options.pins.get(reference).and_then(Pin::wanted).cloned(),
        }
    }
}

impl Endpoints<'_> {
    /// Where an image is taken from. Where the target is held against a lock nobody else is asked.
    fn source_of(&mut self, reference: &Reference) -> Place {
        if self.options.by_lock {
            return Place { store: self.target.as_source().clone(), prefix: None };
        }
        self.sources.place(&reference.host)
    }

    /// What the target is held against.
    fn locked(&self, reference: &Reference) -> Option<Arc<Image>> {
        let lock = self.options.lock.as_ref().filter(|_| self.options.by_lock)?;
        lock.document.images.get(reference).cloned().map(Arc::new)
    }

    /// The platforms that are wanted of an image: where the user names none, those that a lock has of it.
    fn platforms_of(&self, reference: &Reference) -> Arc<Platforms> {
        let platforms = &self.options.platforms;
        match self.locked(reference) {
            Some(locked) if locked.sparse && platforms.is_all() => {
                let manifests = locked.platforms.iter().map(|one| one.digest.clone()).collect();
                Arc::new(platforms.of_manifests(manifests))
            }
            _ => platforms.clone(),
        }
    }
}

/// What layouts leave out that images are taken from, and where it is to be at the target.
fn assumed(options: &Options) -> Option<BTreeMap<Digest, Blob>> {
    let Supply::Layouts(layout) = &options.from else { return None };
    let prefix = options.target.registry().and_then(|target| target.prefix.as_ref());
    let at_target = |blob: &Blob| Blob(blob.0, blob.1.below(prefix));
    let base = layout.base().iter().map(|(digest, blob)| (digest.clone(), at_target(blob)));
    Some(base.collect()).filter(|base: &BTreeMap<_, _>| !base.is_empty())
}

/// The store called `name`, to be asked what it holds.
///
/// # Errors
/// It is a layout that cannot be read.
pub(crate) fn store(name: &StoreName, access: &Access, scheme: Scheme) -> Result<Target> {
    Ok(match name {
        StoreName::Registry(named) => {
            let Access { trust, proxies, policy, .. } = access;
            let clients = Arc::new(Clients::new(trust.clone(), proxies.clone(), policy.timing.connect));
            Target::registry(registry(access, &clients, Side::Target, &named.host, scheme))
        }
        StoreName::Layout(name) => {
            let layout = Layout::open(std::slice::from_ref(name), access.policy.clone())?;
            Target::layout(Arc::new(layout))
        }
    })
}

fn mirror_of<'m>(mirrors: &'m [SourceMirror], host: &Host) -> Option<&'m SourceMirror> {
    mirrors.iter().find(|mirror| mirror.host == *host)
}

/// Whether `--source-mirror` and the `hosts` of all images agree. A mirror of a host that no image has is told, for it is
/// likely mistyped.
///
/// # Errors
/// One host would be asked by HTTPS and by plain HTTP, so that credentials for the one could be read on the other.
pub(crate) fn check_mirrors(mirrors: &[SourceMirror], hosts: &BTreeSet<&Host>) -> Result<()> {
    for mirror in mirrors.iter().filter(|mirror| !hosts.contains(&mirror.host)) {
        tracing::warn!("--source-mirror: no image that is selected is of {}", mirror.host);
    }
    let place_of = |host: &Host| match mirror_of(mirrors, host) {
        Some(mirror) => (mirror.place.clone(), mirror.scheme),
        None => (reference::Target { host: host.clone(), prefix: None }, Scheme::Https),
    };
    let mut asked: BTreeMap<Host, (&Host, Scheme)> = BTreeMap::new();
    for host in hosts.iter().copied() {
        let (at, scheme) = place_of(host);
        let (first, known) = *asked.entry(at.host.clone()).or_insert((host, scheme));
        if known != scheme {
            let by_https = if scheme == Scheme::Https { host } else { first };
            let (place, _) = place_of(by_https);
            bail!(
                "{} would be asked by HTTPS and by plain HTTP, for images of {first} and of {host}: name it with one \
                 scheme in each --source-mirror, such as --source-mirror {by_https}=http://{place}",
                at.host
            );
        }
    }
    Ok(())
}

fn registry(
    access: &Access,
    clients: &Arc<Clients>,
    side: Side,
    host: &Host,
    scheme: Scheme,
) -> Arc<Registry> {
    let (keyring, policy) = (access.keyring.clone(), access.policy.clone());
    Arc::new(Registry::new(side, host.clone(), scheme, keyring, clients.clone(), policy))
}
