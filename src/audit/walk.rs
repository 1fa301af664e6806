//! From the names of a layout down to its blobs: what each image should have, held against what was hashed.
//!
//! Each manifest is read once, however many images name it, and of what it names only that is kept which is needed to
//! judge others: an archive that is made to have all this grow is told to be too large.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::{Content, Fault, Faults};
use crate::image::manifest::{self, Descriptor, Manifest};
use crate::image::platforms::Platforms;
use crate::image::reference::Digest;
use crate::plan::Blemish;
use crate::store::Flaw;
use crate::store::layout::{Entry, Hashed};
use crate::util::text;

/// Most that is kept of what manifests name, for all images together.
const NAMED_MAX: usize = 500_000;
/// Most entries of indexes that are looked at, where many images have the same ones.
pub(super) const STEPS_MAX: usize = 5_000_000;
/// Deepest nesting of indexes that is followed.
const DEPTH_MAX: usize = 8;
/// Most platforms of one image that are told.
const PLATFORMS_MAX: usize = 32;
/// Most faults that are kept for all images together; the others are counted.
const FAULTS_MAX: usize = 100_000;

/// The bytes of a manifest, or why they cannot be had.
pub(super) type Read<'a> = &'a dyn Fn(&Digest) -> Result<Bytes, String>;

/// All that is known of the manifests of a layout.
pub(super) struct Walk<'a> {
    hashed: &'a Hashed,
    /// Those that have to be whole; where nobody has named any, one of each image.
    platforms: &'a Platforms,
    include_foreign: bool,
    nodes: HashMap<Digest, Node>,
    /// What any manifest names, as far as it is there.
    named: HashSet<Digest>,
    /// Layers that are left out by the layout's own lock, of those that a manifest names, and their sizes.
    pub(super) left_out: HashMap<Digest, u64>,
    /// The blobs of manifests that have all of theirs.
    of_whole: HashSet<Digest>,
    kept: usize,
    pub(super) steps: usize,
    faults: usize,
}

/// A manifest that is there.
enum Node {
    Index(Vec<Descriptor>),
    Image(Leaf),
    /// Its bytes are what its name says, and no manifest.
    Unreadable(String),
}

/// What is to be said of the blobs of one manifest.
#[derive(Default)]
struct Leaf {
    /// All but layers that are missing.
    faults: Faults,
    /// Layers that are not there.
    missing: Faults,
    /// Where any is missing, the layers that are there.
    present: Vec<Digest>,
}

/// What an image was found to be.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub faults: Faults,
    /// Why one of its manifests cannot be read.
    pub cause: Option<String>,
    /// Platforms whose layers are not there, as it seems on purpose.
    pub without: Vec<String>,
}

/// A manifest without some of its layers, which may have been left out.
struct Doubtful<'a> {
    digest: &'a Digest,
    platform: Option<String>,
    attests: Option<&'a str>,
}

impl<'a> Walk<'a> {
    /// Reads all manifests that are to be found below `entries`.
    ///
    /// # Errors
    /// They name more than can be kept.
    pub(super) fn new(
        hashed: &'a Hashed,
        entries: &[Entry],
        platforms: &'a Platforms,
        include_foreign: bool,
        read: Read<'_>,
    ) -> Result<Self, String> {
        let mut walk = Self {
            hashed,
            platforms,
            include_foreign,
            nodes: HashMap::new(),
            named: HashSet::new(),
            of_whole: HashSet::new(),
            left_out: HashMap::new(),
            kept: 0,
            steps: 0,
            faults: 0,
        };
        let mut next: Vec<Digest> = entries.iter().map(|entry| entry.digest.clone()).collect();
        while let Some(digest) = next.pop() {
            if !walk.hashed.sizes.contains_key(&digest) {
                continue;
            }
            walk.named.insert(digest.clone());
            if walk.hashed.flawed.contains_key(&digest) || walk.nodes.contains_key(&digest) {
                continue;
            }
            let parsed = read(&digest).and_then(|bytes| {
                Manifest::parse(bytes, None, digest.algorithm()).map_err(|error| error.to_string())
            });
            let node = match parsed.map(|manifest| manifest.content) {
                Ok(manifest::Content::Index(entries)) => {
                    walk.keep(entries.len())?;
                    next.extend(entries.iter().map(|entry| entry.digest.clone()));
                    Node::Index(entries)
                }
                Ok(manifest::Content::Image(blobs)) => Node::Image(walk.leaf(&blobs)?),
                Err(why) => Node::Unreadable(why),
            };
            walk.nodes.insert(digest, node);
        }
        Ok(walk)
    }

    /// Blobs that no image has, and those of them that are not what their names say.
    pub(super) fn unnamed(&self) -> Vec<(&'a Digest, u64, Option<Flaw>)> {
        let unnamed = self.hashed.sizes.iter().filter(|(digest, _)| !self.named.contains(*digest));
        let mut unnamed: Vec<_> =
            unnamed.map(|(digest, size)| (digest, *size, self.hashed.flawed.get(digest).copied())).collect();
        unnamed.sort_by_key(|(digest, ..)| *digest);
        unnamed
    }

    fn keep(&mut self, more: usize) -> Result<(), String> {
        self.kept += more;
        if self.kept > NAMED_MAX { Err(too_much(NAMED_MAX)) } else { Ok(()) }
    }

    /// What is wrong with what a descriptor names.
    fn flaw(&self, blob: &Descriptor) -> Option<Flaw> {
        match self.hashed.sizes.get(&blob.digest) {
            None => Some(Flaw::Missing),
            Some(there) if *there != blob.size => Some(Flaw::Size { there: *there }),
            Some(_) => self.hashed.flawed.get(&blob.digest).copied(),
        }
    }

    /// Takes a fault in, if there is room for it; it counts in any case.
    fn note(
        &mut self,
        faults: &mut Faults,
        content: Content,
        platform: Option<&str>,
        blob: &Descriptor,
        flaw: Flaw,
    ) {
        let blemish = Blemish { digest: blob.digest.clone(), size: blob.size, flaw };
        let fault = Fault { content, platform: platform.map(str::to_owned), blemish };
        self.take(faults, fault);
    }

    fn take(&mut self, faults: &mut Faults, fault: Fault) {
        if self.faults < FAULTS_MAX && faults.add(fault) {
            self.faults += 1;
        }
    }

    fn leaf(&mut self, blobs: &[Descriptor]) -> Result<Leaf, String> {
        let mut leaf = Leaf::default();
        for (number, blob) in blobs.iter().enumerate() {
            let content = if number == 0 { Content::Config } else { Content::Layer };
            match self.flaw(blob) {
                None => {
                    self.named.insert(blob.digest.clone());
                    leaf.present.extend((content == Content::Layer).then(|| blob.digest.clone()));
                }
                Some(Flaw::Missing) if blob.is_foreign() && !self.include_foreign => {}
                Some(Flaw::Missing)
                    if content == Content::Layer
                        && self.hashed.left_out.get(&blob.digest) == Some(&blob.size) =>
                {
                    self.left_out.insert(blob.digest.clone(), blob.size);
                }
                Some(Flaw::Missing) if content == Content::Layer => {
                    self.note(&mut leaf.missing, content, None, blob, Flaw::Missing);
                }
                Some(flaw) => {
                    if flaw != Flaw::Missing {
                        self.named.insert(blob.digest.clone());
                    }
                    self.note(&mut leaf.faults, content, None, blob, flaw);
                }
            }
        }
        if leaf.missing.number > 0 {
            self.keep(leaf.present.len())?;
        } else {
            let present = std::mem::take(&mut leaf.present);
            if leaf.faults.number == 0 {
                self.of_whole.extend(present);
            }
        }
        Ok(leaf)
    }

    /// What the image of an entry lacks.
    ///
    /// # Errors
    /// Indexes name the same over and over.
    pub(super) fn verdict(&mut self, entry: &Entry) -> Result<Verdict, String> {
        let mut verdict = Verdict::default();
        let root = Descriptor::of_blob(entry.digest.clone(), entry.size);
        if let Some(flaw) = self.flaw(&root) {
            self.note(&mut verdict.faults, Content::Manifest, None, &root, flaw);
            return Ok(verdict);
        }
        // What is taken out is put back: while it is looked at, faults are noted.
        let nodes = std::mem::take(&mut self.nodes);
        let done = self.judge(&nodes, &entry.digest, &mut verdict);
        self.nodes = nodes;
        done.map(|()| verdict)
    }

    fn judge(
        &mut self,
        nodes: &HashMap<Digest, Node>,
        root: &Digest,
        verdict: &mut Verdict,
    ) -> Result<(), String> {
        let names_platforms = self.platforms.are_looked_for();
        let (mut whole, mut doubtful) = (0, Vec::new());
        let mut next = vec![(root, None::<String>, None::<&str>, true, 0)];
        // What is named again is not looked at again, unless it is wanted only now.
        let mut seen: HashSet<(&Digest, bool)> = HashSet::new();
        while let Some((digest, platform, attests, is_wanted, depth)) = next.pop() {
            if !seen.insert((digest, is_wanted)) {
                continue;
            }
            let is_spared = names_platforms && !is_wanted;
            match nodes.get(digest) {
                Some(Node::Unreadable(why)) => {
                    verdict.faults.number += 1;
                    verdict.cause.get_or_insert_with(|| format!("manifest {digest}: {why}"));
                }
                Some(Node::Index(_)) if depth >= DEPTH_MAX => {
                    verdict.faults.number += 1;
                    let why = || format!("its indexes are nested deeper than {DEPTH_MAX}");
                    verdict.cause.get_or_insert_with(why);
                }
                Some(Node::Index(entries)) => {
                    self.steps += entries.len();
                    if self.steps > STEPS_MAX {
                        return Err(too_much(STEPS_MAX));
                    }
                    let kept = if names_platforms { self.platforms.keep(entries) } else { Vec::new() };
                    let kept: HashSet<&Digest> = kept.into_iter().map(|entry| &entry.digest).collect();
                    for entry in entries {
                        let platform = entry.platform.clone().or_else(|| platform.clone());
                        let is_wanted = is_wanted && (!names_platforms || kept.contains(&entry.digest));
                        match self.flaw(entry) {
                            None => {
                                let attests = entry.attests.as_deref();
                                next.push((&entry.digest, platform, attests, is_wanted, depth + 1));
                            }
                            Some(Flaw::Missing) if names_platforms && !is_wanted => {
                                verdict.leave_out(platform, entry.attests.as_deref());
                            }
                            Some(flaw) => {
                                let platform = platform.as_deref();
                                self.note(&mut verdict.faults, Content::Manifest, platform, entry, flaw);
                            }
                        }
                    }
                }
                Some(Node::Image(leaf)) => {
                    let is_fault = |fault: &&Fault| !(is_spared && fault.blemish.flaw == Flaw::Missing);
                    let faults: Vec<&Fault> = leaf.faults.listed.iter().filter(is_fault).collect();
                    let unlisted = leaf.faults.number - leaf.faults.listed.len();
                    let has_faults = !faults.is_empty() || unlisted > 0;
                    verdict.faults.number += unlisted;
                    for fault in faults {
                        self.take(&mut verdict.faults, Fault { platform: platform.clone(), ..fault.clone() });
                    }
                    match leaf.missing.number {
                        0 if has_faults || attests.is_some() => {}
                        0 => whole += 1,
                        _ if is_spared => verdict.leave_out(platform, attests),
                        _ if !names_platforms && !has_faults && self.shares_all(leaf) => {
                            doubtful.push(Doubtful { digest, platform, attests });
                        }
                        _ => self.miss(verdict, leaf, platform.as_deref()),
                    }
                }
                // A manifest that is flawed was told where it is named.
                None => {}
            }
        }
        let left_out: HashSet<&str> = doubtful.iter().map(|doubtful| doubtful.digest.as_str()).collect();
        for Doubtful { digest, platform, attests } in doubtful {
            let goes_with_it = attests.is_none_or(|about| left_out.contains(about));
            match nodes.get(digest) {
                _ if whole > 0 && goes_with_it => verdict.leave_out(platform, attests),
                Some(Node::Image(leaf)) => self.miss(verdict, leaf, platform.as_deref()),
                _ => {}
            }
        }
        verdict.without.sort();
        verdict.without.dedup();
        verdict.without.truncate(PLATFORMS_MAX);
        Ok(())
    }

    /// Whether all layers that are there are those of others too, which have all of theirs: then its own were left out.
    fn shares_all(&self, leaf: &Leaf) -> bool {
        leaf.present.iter().all(|layer| self.of_whole.contains(layer))
    }

    fn miss(&mut self, verdict: &mut Verdict, leaf: &Leaf, platform: Option<&str>) {
        verdict.faults.number += leaf.missing.number - leaf.missing.listed.len();
        for fault in &leaf.missing.listed {
            let platform = platform.map(str::to_owned);
            self.take(&mut verdict.faults, Fault { platform, ..fault.clone() });
        }
    }
}

impl Verdict {
    /// Says that a platform is not there; what is about it needs no words.
    fn leave_out(&mut self, platform: Option<String>, attests: Option<&str>) {
        if attests.is_none() {
            self.without.push(platform.unwrap_or_else(|| "an unnamed platform".to_owned()));
        }
    }
}

fn too_much(most: usize) -> String {
    format!("its manifests name more than {}", text::count(most, "piece"))
}
