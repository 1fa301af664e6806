//! A store in memory: what a run needs of a place without a network, with faults on demand and a journal of all that
//! was done to it, in order and with the time by tokio's clock.

mod blobs;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

pub(crate) use self::blobs::{Put, Stream};

use super::{Holds, Incoming};
use crate::error::{Error, Kind, Side};
use crate::image::manifest::{Content, Descriptor, Manifest};
use crate::image::reference::{Algorithm, Digest, Location, Repository, Tag, TagOrDigest};
use crate::store::Head;
use crate::store::patience::{Policy, Timing};

/// One thing that is done to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Resolve(Location),
    GetManifest(Location),
    Referrers(Repository, Digest),
    Open(Repository, Digest),
    /// A piece of a blob, from this position on.
    Read(Repository, Digest, u64),
    Has(Repository, Digest),
    /// From the first repository into the second.
    Mount(Repository, Repository, Digest),
    PutBlob(Repository, Digest),
    PutManifest(Location, Digest),
    /// The names of all images that will come.
    Prepare(Vec<Location>),
    Finish {
        is_whole: bool,
    },
}

/// What goes wrong with an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    Fail(Kind),
    /// It takes longer.
    Delay(Duration),
    /// The first byte of a piece that is read is another.
    Flip,
}

/// Something that was tried, and whether it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub at: Instant,
    pub act: Act,
    pub done: bool,
}

type Script = Box<dyn FnMut(&Act) -> Vec<Fault> + Send>;

#[derive(Default)]
struct State {
    blobs: HashMap<Digest, Bytes>,
    /// Which repository has which blob.
    linked: HashSet<(Repository, Digest)>,
    manifests: HashMap<(Repository, Digest), Manifest>,
    tags: HashMap<(Repository, Tag), Digest>,
    script: Option<Script>,
    journal: Vec<Entry>,
    bytes_put: u64,
}

/// A place that holds images in memory.
pub(crate) struct Store {
    name: String,
    holds: Holds,
    /// A manifest may name what is not there.
    takes_unverified: bool,
    wants_all_first: bool,
    /// It is asked to mount, and never does.
    mounts: bool,
    policy: Policy,
    state: Mutex<State>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// How to make one, and what is in it.
impl Store {
    pub(crate) fn new(name: &str) -> Self {
        let policy = Policy { retries: 3, timing: Timing::default(), manifest_max: usize::MAX };
        Self {
            name: name.to_owned(),
            holds: Holds::PerRepository,
            takes_unverified: false,
            wants_all_first: false,
            mounts: true,
            policy,
            state: Mutex::default(),
        }
    }

    /// A blob that is in one repository is in all of them.
    pub(crate) fn shared(self) -> Self {
        Self { holds: Holds::Shared, ..self }
    }

    /// It is to be told of all images before anything is put there.
    pub(crate) fn wanting_all_first(self) -> Self {
        Self { wants_all_first: true, ..self }
    }

    pub(crate) fn taking_unverified(self) -> Self {
        Self { takes_unverified: true, ..self }
    }

    pub(crate) fn without_mounts(self) -> Self {
        Self { mounts: false, ..self }
    }

    /// Tries beyond the first.
    pub(crate) fn retries(mut self, retries: u32) -> Self {
        self.policy.retries = retries;
        self
    }

    /// Asks `script` before each act what is to go wrong with it.
    pub(crate) fn script(&self, script: impl FnMut(&Act) -> Vec<Fault> + Send + 'static) {
        self.lock().script = Some(Box::new(script));
    }

    /// Adds a blob without a word in the journal; its descriptor.
    pub(crate) fn add_blob(&self, repository: &Repository, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let size = bytes.len() as u64;
        let mut state = self.lock();
        state.linked.insert((repository.clone(), digest.clone()));
        state.blobs.insert(digest.clone(), bytes);
        Descriptor {
            digest,
            size,
            media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
            platform: None,
            attests: None,
            urls: Vec::new(),
        }
    }

    /// Adds a manifest under `location` without a word in the journal.
    pub(crate) fn add_manifest(&self, location: &Location, manifest: &Manifest) {
        self.lock().add_manifest(location, manifest);
    }

    pub(crate) fn remove_blob(&self, repository: &Repository, digest: &Digest) {
        self.lock().linked.remove(&(repository.clone(), digest.clone()));
    }

    /// The digest that `location` has.
    pub(crate) fn digest_of(&self, location: &Location) -> Option<Digest> {
        self.lock().digest_of(location)
    }

    pub(crate) fn blob(&self, repository: &Repository, digest: &Digest) -> Option<Bytes> {
        let state = self.lock();
        self.has_blob(&state, repository, digest).then(|| state.blobs.get(digest).cloned()).flatten()
    }

    /// All that was tried, in order.
    pub(crate) fn journal(&self) -> Vec<Entry> {
        self.lock().journal.clone()
    }

    /// All that was done, in order.
    pub(crate) fn done(&self) -> Vec<Act> {
        self.lock().journal.iter().filter(|entry| entry.done).map(|entry| entry.act.clone()).collect()
    }

    /// How many blobs were put, each time that they were.
    pub(crate) fn blobs_put(&self) -> usize {
        self.done().iter().filter(|act| matches!(act, Act::PutBlob(..))).count()
    }

    /// Bytes of the blobs that were put.
    pub(crate) fn bytes_put(&self) -> u64 {
        self.lock().bytes_put
    }
}

/// The verbs, as [`super::Source`] and [`super::Target`] describe them.
impl Store {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(super) fn holds(&self) -> Holds {
        self.holds
    }

    pub(super) async fn resolve(&self, side: Side, location: &Location) -> Result<Head, Error> {
        let act = Act::Resolve(location.clone());
        self.undergo(side, &act).await?;
        let mut state = self.lock();
        state.note(act, true);
        Ok(state.digest_of(location).map_or(Head::Absent, Head::Found))
    }

    pub(super) async fn manifest(
        &self,
        side: Side,
        location: &Location,
        size: Option<u64>,
    ) -> Result<Manifest, Error> {
        let act = Act::GetManifest(location.clone());
        self.undergo(side, &act).await?;
        let mut state = self.lock();
        let digest = state.digest_of(location);
        let found = digest.and_then(|d| state.manifests.get(&(location.repository.clone(), d)).cloned());
        state.note(act.clone(), found.is_some());
        let manifest = found.ok_or_else(|| self.error(side, Kind::NotFound, &act, "there is none"))?;
        if size.is_some_and(|size| size != manifest.bytes.len() as u64) {
            return Err(self.error(side, Kind::Corrupt, &act, "it has another size"));
        }
        Ok(manifest)
    }

    pub(super) async fn referrers(
        &self,
        side: Side,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let act = Act::Referrers(repository.clone(), subject.clone());
        self.undergo(side, &act).await?;
        let mut state = self.lock();
        state.note(act, true);
        let here = state.manifests.iter().filter(|((place, _), _)| place == repository);
        let about = here.filter(|(_, m)| m.as_referrer().is_some_and(|(about, _)| about == *subject));
        Ok(about.map(|(_, manifest)| descriptor_of(manifest)).collect())
    }

    pub(super) async fn open(
        self: &Arc<Self>,
        side: Side,
        repository: &Repository,
        blob: &Descriptor,
        position: u64,
    ) -> Result<Stream, Error> {
        let act = Act::Open(repository.clone(), blob.digest.clone());
        self.undergo(side, &act).await?;
        let bytes = self.blob(repository, &blob.digest);
        self.lock().note(act.clone(), bytes.is_some());
        let bytes = bytes.ok_or_else(|| self.error(side, Kind::NotFound, &act, "it is not there"))?;
        let (repository, digest) = (repository.clone(), blob.digest.clone());
        let bytes = bytes.slice((position as usize).min(bytes.len())..);
        Ok(Stream::new(self.clone(), side, repository, digest, bytes, position))
    }

    pub(super) async fn has(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Error> {
        let act = Act::Has(repository.clone(), digest.clone());
        self.undergo(Side::Target, &act).await?;
        let size = self.blob(repository, digest).map(|bytes| bytes.len() as u64);
        self.lock().note(act, true);
        Ok(size)
    }

    pub(super) async fn put_manifest(&self, location: &Location, manifest: &Manifest) -> Result<(), Error> {
        let act = Act::PutManifest(location.clone(), manifest.digest.clone());
        self.undergo(Side::Target, &act).await?;
        let mut state = self.lock();
        let lacking = self.lacking(&state, &location.repository, manifest).filter(|_| !self.takes_unverified);
        state.note(act.clone(), lacking.is_none());
        if let Some(lacking) = lacking {
            return Err(self.error(
                Side::Target,
                Kind::BlobUnknown(vec![lacking]),
                &act,
                "content is lacking",
            ));
        }
        state.add_manifest(location, manifest);
        Ok(())
    }

    pub(super) fn wants_all_first(&self) -> bool {
        self.wants_all_first
    }

    pub(super) async fn prepare(&self, images: Vec<Incoming>) -> Result<(), Error> {
        let act = Act::Prepare(images.into_iter().flat_map(|image| image.names).collect());
        self.undergo(Side::Target, &act).await?;
        self.lock().note(act, true);
        Ok(())
    }

    pub(super) async fn finish(&self, is_whole: bool) -> Result<(), Error> {
        if !self.wants_all_first {
            return Ok(());
        }
        let act = Act::Finish { is_whole };
        self.undergo(Side::Target, &act).await?;
        self.lock().note(act.clone(), is_whole);
        let lacking = || self.error(Side::Target, Kind::Invalid, &act, "something is lacking");
        if is_whole { Ok(()) } else { Err(lacking()) }
    }

    /// The first of what `manifest` names that is not in `repository`.
    fn lacking(&self, state: &State, repository: &Repository, manifest: &Manifest) -> Option<Digest> {
        let there = |descriptor: &Descriptor| match &manifest.content {
            Content::Image(_) => {
                descriptor.is_foreign() || self.has_blob(state, repository, &descriptor.digest)
            }
            Content::Index(_) => {
                state.manifests.contains_key(&(repository.clone(), descriptor.digest.clone()))
            }
        };
        let (Content::Index(named) | Content::Image(named)) = &manifest.content;
        named.iter().find(|descriptor| !there(descriptor)).map(|descriptor| descriptor.digest.clone())
    }

    fn has_blob(&self, state: &State, repository: &Repository, digest: &Digest) -> bool {
        match self.holds {
            Holds::Shared => state.blobs.contains_key(digest),
            Holds::PerRepository => state.linked.contains(&(repository.clone(), digest.clone())),
        }
    }

    /// What the script has for `act`: a failure is noted in the journal.
    async fn undergo(&self, side: Side, act: &Act) -> Result<Vec<Fault>, Error> {
        let faults = {
            let mut state = self.lock();
            state.script.as_mut().map_or(Vec::new(), |script| script(act))
        };
        for fault in &faults {
            match fault {
                Fault::Delay(time) => sleep(*time).await,
                Fault::Fail(kind) => {
                    self.lock().note(act.clone(), false);
                    return Err(self.error(side, kind.clone(), act, "as scripted"));
                }
                Fault::Flip => {}
            }
        }
        Ok(faults)
    }

    fn error(&self, side: Side, kind: Kind, act: &Act, why: &str) -> Error {
        self.error_of(side, kind, format!("{act:?}"), why.to_owned())
    }

    pub(super) fn error_of(&self, side: Side, kind: Kind, doing: String, why: String) -> Error {
        Error::of_test(side, kind, &self.name, doing, why)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

impl State {
    fn note(&mut self, act: Act, done: bool) {
        self.journal.push(Entry { at: Instant::now(), act, done });
    }

    fn digest_of(&self, location: &Location) -> Option<Digest> {
        let there = |digest: &Digest| {
            self.manifests
                .contains_key(&(location.repository.clone(), digest.clone()))
                .then(|| digest.clone())
        };
        match &location.name {
            TagOrDigest::Digest(digest) => there(digest),
            TagOrDigest::Tag(tag) => there(self.tags.get(&(location.repository.clone(), tag.clone()))?),
        }
    }

    fn add_manifest(&mut self, location: &Location, manifest: &Manifest) {
        self.manifests.insert((location.repository.clone(), manifest.digest.clone()), manifest.clone());
        if let TagOrDigest::Tag(tag) = &location.name {
            self.tags.insert((location.repository.clone(), tag.clone()), manifest.digest.clone());
        }
    }
}

fn descriptor_of(manifest: &Manifest) -> Descriptor {
    Descriptor {
        digest: manifest.digest.clone(),
        size: manifest.bytes.len() as u64,
        media_type: manifest.media_type.clone(),
        platform: None,
        attests: None,
        urls: Vec::new(),
    }
}
