//! What there is to do, without doing it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::ready;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use serde::Serialize;

use crate::error::Remedy;
use crate::error::{Error, Side};
use crate::events::{Event, Listener};
use crate::image::manifest::Trimmed;
use crate::image::reference::{Digest, Location, Repository};
use crate::mirror::Limits;
use crate::output::report::{self, Exit};
use crate::plan::{
    Blemish, BlobId, DeliveryId, Fate, ImageId, Lack, News, Plan, Request, Resolution, Rules, State, Ticket,
    Tree,
};
use crate::record::{Contents, Draft, Inventory};
use crate::selection::catalog::Pins;
use crate::store::Target;
use crate::util::text;

/// Both sides compared, and what a run would move. As JSON it is what `--check -o json` gives.
#[derive(Debug, Serialize)]
pub struct Check {
    pub target: String,
    pub images: Vec<Line>,
    pub there: usize,
    pub missing: usize,
    /// The manifest is there, but not all of what is wanted with it.
    pub partial: usize,
    pub different: usize,
    /// Could not be found out.
    pub failed: usize,
    /// Left out of the selection, because they can be had nowhere any more.
    #[serde(skip_serializing_if = "report::is_none_left_out")]
    pub gone: usize,
    /// Platforms that `--platform` names and no index has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms_not_found: Vec<String>,
    #[serde(flatten)]
    pub work: Work,
    /// Why a run would begin nothing: the target lacks what the source leaves out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// What is to be written of the images, if anything is.
    #[serde(skip)]
    pub lock: Option<Inventory>,
    /// The target was held against a lock, and nobody else asked.
    #[serde(skip)]
    pub by_lock: bool,
    /// Images that the lock itself says were missing when it was written, so that it proves nothing of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_locked: Vec<String>,
}

/// One image under one name at the target.
#[derive(Debug, Serialize)]
pub struct Line {
    pub source: String,
    pub target: String,
    /// The digest of the image that it is about, for signatures and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refers_to: Option<String>,
    /// The digest that is recorded of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_digest: Option<Digest>,
    /// The digest that its name has there, where that is of another image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_digest: Option<Digest>,
    pub state: Standing,
    /// What is missing of what is partial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lacks: Option<Lack>,
    /// Blobs that are missing or damaged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Blemish>,
    /// The index is there with all platforms that are wanted, but not with all that it names.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
    #[serde(flatten)]
    pub trimmed: Option<Trimmed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// The target would not take it, which is not so where the user wanted to leave it alone.
    #[serde(skip)]
    refused: bool,
    /// A run repairs what is damaged without being asked to.
    #[serde(skip)]
    is_always_repaired: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    There,
    Missing,
    Partial,
    Different,
    Failed,
}

/// What a run would move, in numbers and bytes, in the same terms as the report of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Blobs to pull and to push, each once.
    pub blobs_to_copy: usize,
    pub bytes_to_copy: u64,
    /// Blobs to mount from other repositories of the target, and the bytes that this saves.
    pub blobs_to_mount: usize,
    pub bytes_to_mount: u64,
    /// Manifests to push.
    pub manifests_to_copy: usize,
    pub manifest_bytes: u64,
}

/// Compares both sides for `requests`, each of which is told of as soon as it is known.
pub(crate) async fn check(
    name: String,
    requests: Vec<Request>,
    target: Target,
    rules: Rules,
    limits: Limits,
    listener: &Listener,
) -> (Check, Draft) {
    let inspector = limits.inspector(&target, rules, listener);
    let assumed = requests.first().and_then(|request| request.assumed.clone());
    if inspector.is_some() {
        // What is read is shown as what is moved would be.
        listener(Event::Planned { bytes: 0, deliveries: 0 });
    }
    let mut resolution = Resolution::new(requests, target.clone(), rules, limits.small, inspector);
    let mut plan = Plan::new(&target, rules);
    let mut manifests = Manifests::default();
    let mut lines: HashMap<ImageId, Vec<Line>> = HashMap::new();
    let mut recorded: HashMap<ImageId, (Option<Arc<Contents>>, Vec<Fate>)> = HashMap::new();
    while let Some(news) = resolution.next(true).await {
        match news {
            News::Found(image, found) => {
                let request = resolution.request(image).clone();
                recorded.insert(image, (found.contents.clone(), found.states.iter().map(fate).collect()));
                let admitted = plan.admit(&request, found);
                if let Some(tree) = &admitted.tree {
                    resolution.look_for_held();
                    manifests.add(&request, tree, &admitted.deliveries);
                }
                let states = admitted.deliveries.iter().zip(&request.destinations);
                let told = states.map(|((_, state), location)| Line::new(&request, location, state, &target));
                lines.insert(image, told.collect());
                listener(Event::Resolving { done: lines.len(), total: resolution.total() });
            }
            News::Joined(_) => {}
            News::Held(repository, blobs) => {
                let repository = plan.ledger.repository_id(&repository);
                blobs
                    .iter()
                    .for_each(|(digest, size)| _ = plan.ledger.held_before(digest, *size, repository));
            }
        }
    }
    let mut base = None;
    if let Some(assumed) = assumed {
        match plan.look_for_base(&assumed, &target, limits.small).await {
            Ok(found) => {
                for (blob, repository) in &found.there {
                    let (digest, size) = (plan.blob(*blob).digest.clone(), plan.blob(*blob).size);
                    let repository = plan.ledger.repository_id(repository);
                    plan.ledger.held_before(&digest, size, repository);
                }
                base = found.told(target.place()).map(|why| format!("{why} ({})", Remedy::Base));
            }
            Err(error) => base = Some(error.to_string()),
        }
    }
    let mut work = Work::of(&plan, &look_for_found(&plan, &target, limits).await);
    (work.manifests_to_copy, work.manifest_bytes) = (manifests.number, manifests.bytes);
    let mut images: Vec<ImageId> = resolution.images().collect();
    images.sort_by_key(|image| resolution.rank(*image));
    let mut draft = Draft::default();
    for image in &images {
        if let Some((contents, fates)) = recorded.remove(image) {
            resolution.request(*image).record(&mut draft, contents.as_deref(), fates);
        }
    }
    let lines = images.iter().flat_map(|image| lines.remove(image).unwrap_or_default()).collect();
    (Check { base, ..Check::new(name, lines, work) }, draft)
}

/// What a run would make of a name, by what is known of it.
fn fate(state: &State) -> Fate {
    match state {
        State::Failed(error) => Fate::Missing(error.to_string()),
        State::Trimmed(trimmed) => Fate::There(Some(trimmed.target.clone())),
        State::Present(_)
        | State::Sparse(_)
        | State::Partial(_)
        | State::Damaged(_)
        | State::Missing
        | State::Different(_) => Fate::There(None),
    }
}

/// Which of the blobs that are to be moved the target has from an interrupted run, as a run itself would find out while
/// it moves them.
async fn look_for_found(plan: &Plan, target: &Target, limits: Limits) -> HashSet<BlobId> {
    let unknown = plan.blobs().filter(|(id, _)| !plan.ledger.is_held(*id));
    let looks = unknown.filter_map(|(id, blob)| {
        let repository = plan.ledger.needs(id).next()?;
        if plan.ledger.is_distrusted(Ticket { blob: id, repository }) {
            return None;
        }
        let repository = plan.ledger.repository(repository);
        Some(async move {
            let held = target.has(repository, &blob.descriptor()).await;
            held.is_ok_and(|held| held.may_be(blob.size)).then_some(id)
        })
    });
    stream::iter(looks).buffer_unordered(limits.small.get()).filter_map(ready).collect().await
}

/// The manifests that a run would push.
#[derive(Default)]
struct Manifests {
    put: HashSet<(Repository, Digest)>,
    number: usize,
    bytes: u64,
}

impl Manifests {
    fn add(&mut self, request: &Request, tree: &Tree, deliveries: &[(DeliveryId, State)]) {
        let names = request.destinations.iter().zip(deliveries);
        for (location, _) in names.filter(|(_, (_, state))| state.is_wanted()) {
            for manifest in tree.manifests() {
                // A root is put under each of its names.
                let is_new = self.put.insert((location.repository.clone(), manifest.digest.clone()));
                if is_new || manifest.digest == tree.root().digest {
                    self.number += 1;
                    self.bytes += manifest.bytes.len() as u64;
                }
            }
        }
    }
}

impl Line {
    fn new(request: &Request, location: &Location, state: &State, target: &Target) -> Self {
        let (found, trimmed, error) = match state {
            State::Present(_) | State::Sparse(_) => (Standing::There, None, None),
            State::Trimmed(trimmed) => (Standing::There, Some(trimmed.clone()), None),
            State::Missing => (Standing::Missing, None, None),
            State::Partial(_) | State::Damaged(_) => (Standing::Partial, None, None),
            State::Different(_) => (Standing::Different, None, None),
            State::Failed(error) => (Standing::Failed, None, Some(error)),
        };
        let (lacks, damage) = match state {
            State::Partial(lack) => (Some(*lack), None),
            State::Damaged(damage) => (Some(damage.lack()), Some(damage)),
            _ => (None, None),
        };
        let is_always_repaired = target.is_always_repaired();
        let remedy = if is_always_repaired { Remedy::RunAgain } else { Remedy::Repair };
        Self {
            source: request.reference.to_string(),
            target: target.full_name(location),
            refers_to: request.refers_to.as_ref().map(ToString::to_string),
            pinned_digest: None,
            other_digest: match state {
                State::Different(there) => Some(there.clone()),
                _ => None,
            },
            state: found,
            lacks,
            sparse: matches!(state, State::Sparse(_)),
            trimmed,
            cause: error.map(ToString::to_string).or_else(|| Some(format!("{} ({remedy})", damage?.told()?))),
            damaged: damage.map_or(Vec::new(), |damage| damage.blobs.clone()),
            side: error.map(|error| error.side),
            refused: error.is_some_and(Error::is_refusal),
            is_always_repaired,
        }
    }
}

impl Line {
    /// Whether something of it is missing or damaged that only a repair notices.
    fn wants_repair(&self) -> bool {
        self.state == Standing::Partial && self.cause.is_some() && !self.is_always_repaired
    }
}

impl Check {
    fn new(target: String, images: Vec<Line>, work: Work) -> Self {
        let number = |state| images.iter().filter(|line| line.state == state).count();
        Self {
            target,
            there: number(Standing::There),
            missing: number(Standing::Missing),
            partial: number(Standing::Partial),
            different: number(Standing::Different),
            failed: number(Standing::Failed),
            gone: 0,
            platforms_not_found: Vec::new(),
            base: None,
            lock: None,
            by_lock: false,
            not_locked: Vec::new(),
            work,
            images,
        }
    }

    /// As [`report::Report::without`].
    pub fn without(self, gone: usize, platforms_not_found: Vec<String>) -> Self {
        Self { gone, platforms_not_found, ..self }
    }

    /// As [`report::Report::with_pins`].
    #[must_use]
    pub fn with_pins(mut self, pins: &Pins) -> Self {
        for line in self.images.iter_mut().filter(|line| line.refers_to.is_none()) {
            line.pinned_digest = pins.digest(&line.source).cloned();
        }
        self
    }

    pub fn exit(&self) -> Exit {
        match () {
            () if self.there == self.images.len()
                && self.platforms_not_found.is_empty()
                && self.not_locked.is_empty() =>
            {
                Exit::Done
            }
            () if self.there == self.images.len() => Exit::SomeFailed,
            () if self.images.iter().all(|line| line.refused) => Exit::TargetRefused,
            () => Exit::SomeFailed,
        }
    }
}

impl Work {
    /// The blobs of a plan, but for those that were `found` at the target.
    fn of(plan: &Plan, found: &HashSet<BlobId>) -> Self {
        let mut work = Self::default();
        for (id, blob) in plan.blobs() {
            let holder =
                if found.contains(&id) { plan.ledger.needs(id).next() } else { plan.ledger.holder(id) };
            let copied = usize::from(holder.is_none() && plan.ledger.needs(id).next().is_some());
            // Of a blob that is there, the repository that has it may be among those that need it.
            let there = plan.ledger.needs(id).filter(|need| Some(*need) == holder).count();
            let mounted = plan.ledger.needs(id).count().saturating_sub(copied + there);
            work.blobs_to_copy += copied;
            work.bytes_to_copy = work.bytes_to_copy.saturating_add(blob.size * copied as u64);
            work.blobs_to_mount += mounted;
            let bytes = blob.size.saturating_mul(mounted as u64);
            work.bytes_to_mount = work.bytes_to_mount.saturating_add(bytes);
        }
        work
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lack::Platforms => "all of the platforms",
            Lack::Layers => "all of the layers that are not to be distributed",
            Lack::Listing => "an entry in the list of referrers",
            Lack::Manifests => "all of the manifests",
            Lack::Blobs => "all of the blobs",
        })
    }
}

/// For people: a line for each name, then the sums.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.images {
            let state = match line.state {
                Standing::There => "there",
                Standing::Missing => "missing",
                Standing::Partial => "partial",
                Standing::Different => "different",
                Standing::Failed => "FAILED",
            };
            write!(f, "{state:<10}{} → {}", line.source, line.target)?;
            match (&line.cause, &line.lacks) {
                (Some(cause), Some(Lack::Blobs | Lack::Manifests) | None) => writeln!(f, ": {cause}")?,
                (Some(cause), Some(lack)) => writeln!(f, ": without {lack}; {cause}")?,
                (None, Some(lack)) => writeln!(f, ": without {lack}")?,
                (None, None) if self.by_lock => match (&line.pinned_digest, &line.other_digest) {
                    (Some(locked), Some(there)) => writeln!(f, ": {there} instead of {locked}")?,
                    _ => writeln!(f)?,
                },
                (None, None) => writeln!(f)?,
            }
        }
        writeln!(f)?;
        let (there, missing, different) = (self.there, self.missing, self.different);
        write!(f, "{}: {there} there, {missing} missing, {different} different", self.target)?;
        if self.partial > 0 {
            write!(f, ", {} partial", self.partial)?;
        }
        match self.failed {
            0 => writeln!(f)?,
            failed => writeln!(f, ", {failed} failed")?,
        }
        report::write_gone(f, self.gone)?;
        report::write_not_found(f, &self.platforms_not_found)?;
        if let Some(why) = &self.base {
            writeln!(f, "A run would begin nothing: {why}")?;
            return Ok(());
        }
        let work = &self.work;
        if self.images.iter().any(|line| line.lacks == Some(Lack::Platforms)) {
            writeln!(
                f,
                "Missing platforms are added by --platform all, or by naming those that are wanted."
            )?;
        }
        if self.by_lock {
            if self.there < self.images.len() {
                writeln!(f, "The same without --check brings what is not there.")?;
            }
            if !self.not_locked.is_empty() {
                let images = text::count(self.not_locked.len(), "image");
                let some = text::list(&self.not_locked[..self.not_locked.len().min(3)]);
                writeln!(f, "The lock was written without {images}, of which it proves nothing: {some}")?;
            }
            return Ok(());
        }
        let with = if self.images.iter().any(Line::wants_repair) { " with --repair" } else { "" };
        if self.missing + self.partial + self.different > 0 {
            writeln!(
                f,
                "A run{with} would pull and push {} in {}, mount {} ({}) and push {} ({}).",
                text::bytes(work.bytes_to_copy),
                text::count(work.blobs_to_copy, "blob"),
                text::count(work.blobs_to_mount, "blob"),
                text::bytes(work.bytes_to_mount),
                text::count(work.manifests_to_copy, "manifest"),
                text::bytes(work.manifest_bytes),
            )?;
        }
        Ok(())
    }
}
