//! The world's registries, played by one.

use std::time::Duration;

use mirror_images::image::reference::Reference;
use mirror_images::selection::catalog::{SelectedImage, Selection};

use crate::judge::Name;
use crate::support::content::{Content, SetOptions, mirror_set};
use crate::support::{Fault, Net, Op, Registry, any, on};

/// Every so many images, one has large layers.
const LARGE_ONES: usize = 9;
/// How far away it seems.
const LATENCY: Duration = Duration::from_millis(15);
/// How fast each of its connections seems: 5 MB/s.
const PIECE: (usize, Duration) = (80_000, Duration::from_millis(16));

pub struct Upstream {
    /// The catalog's selection, with pins that fit the generated content.
    pub selection: Selection,
    pub content: Content,
    /// How many images have such a pin.
    pub pinned: usize,
    pub registry: Registry,
    pub net: Net,
}

impl Upstream {
    pub fn start(mut selection: Selection) -> Self {
        let content = generate(&selection.images);
        let pinned = pin(&mut selection.images, &content);
        let net = Net::new();
        let (bytes, every) = PIECE;
        let registry = net
            .registry("upstream")
            .content(&content)
            .rule(any().then(Fault::DelayHeaders(LATENCY)))
            .rule(on(Op::BlobGet).then(Fault::Trickle { bytes, every }))
            .start();
        Self { selection, content, pinned, registry, net }
    }

    /// Where each image should be at the target. By the rule as users know it, not by the program's code: the path
    /// without the host, and CoreDNS under kubeadm's name as well.
    pub fn names(&self) -> Vec<Name> {
        let mut names = Vec::new();
        for image in &self.selection.images {
            let (_, repository, tag) = parts(&image.reference);
            let mut name = Name { source: repository.clone(), target: repository, tag };
            names.push(name.clone());
            if name.source == "coredns/coredns" {
                name.target = "coredns".to_owned();
                names.push(name);
            }
        }
        names
    }
}

/// Small images mostly, and a few that are worth a bar of their own.
fn generate(images: &[SelectedImage]) -> Content {
    let names: Vec<_> = images.iter().map(|image| parts(&image.reference)).collect();
    let numbered = || names.iter().cloned().enumerate();
    let is_large = |n: usize| n.is_multiple_of(LARGE_ONES);
    let small: Vec<_> = numbered().filter(|(n, _)| !is_large(*n)).map(|(_, name)| name).collect();
    let large: Vec<_> = numbered().filter(|(n, _)| is_large(*n)).map(|(_, name)| name).collect();
    let options = SetOptions { layer_size: 30_000..=400_000, ..SetOptions::default() };
    let mut content = mirror_set(&small, &options);
    let options = SetOptions { seed: 2, bases: 2, layer_size: 1_500_000..=5_000_000, ..options };
    content.merge(&mirror_set(&large, &options));
    content
}

/// Content for a digest cannot be generated, but a digest for the content can be pinned.
fn pin(images: &mut [SelectedImage], content: &Content) -> usize {
    let mut pinned = 0;
    for reference in images.iter_mut().map(|image| &mut image.reference).filter(|r| r.digest.is_some()) {
        let (_, repository, tag) = parts(reference);
        let digest = content.digest_of(&repository, &tag).expect("the content was made for this selection");
        reference.digest = Some(digest.parse().expect("a digest"));
        pinned += 1;
    }
    pinned
}

/// Host, repository and tag; the catalog's images all have a tag.
fn parts(reference: &Reference) -> (String, String, String) {
    let tag = reference.tag.as_ref().expect("the catalog's images have tags");
    (reference.host.to_string(), reference.repository.to_string(), tag.to_string())
}
