//! Many images at once, the way a cluster's image list looks: several platforms, shared base
//! layers, a mix of formats.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::blob::mix;
use super::image::{Child, Image, Kind, config_for};
use super::{Blob, Content};

#[derive(Clone, Debug)]
pub struct SetOptions {
    pub seed: u64,
    pub platforms: Vec<&'static str>,
    /// Base images that the set is built on; each has `base_layers` layers a platform.
    pub bases: usize,
    pub base_layers: usize,
    /// Layers that only one image has, a platform.
    pub own_layers: usize,
    pub layer_size: RangeInclusive<u64>,
    /// Attestations in every third OCI index.
    pub attestations: bool,
}

impl Default for SetOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            platforms: vec!["linux/amd64", "linux/arm64"],
            bases: 5,
            base_layers: 2,
            own_layers: 2,
            layer_size: 2_000..=60_000,
            attestations: true,
        }
    }
}

/// Content for `(host, repository, tag)` references, all hosts in one.
pub fn mirror_set<S: AsRef<str>>(references: &[(S, S, S)], options: &SetOptions) -> Content {
    let mut all = Content::new();
    for content in mirror_set_by_host(references, options).values() {
        all.merge(content);
    }
    all
}

/// The same, kept apart by host.
pub fn mirror_set_by_host<S: AsRef<str>>(
    references: &[(S, S, S)],
    options: &SetOptions,
) -> BTreeMap<String, Content> {
    let mut maker = Maker::new(options);
    let mut hosts: BTreeMap<String, Content> = BTreeMap::new();
    for (n, (host, repository, tag)) in references.iter().enumerate() {
        let image = maker.image(n, &format!("{}:{}", repository.as_ref(), tag.as_ref()));
        let content = hosts.entry(host.as_ref().to_owned()).or_default();
        content.add(repository.as_ref(), tag.as_ref(), &image);
    }
    hosts
}

struct Maker<'a> {
    options: &'a SetOptions,
    state: u64,
    /// Base layers by platform, then base.
    bases: Vec<Vec<Vec<Blob>>>,
}

impl<'a> Maker<'a> {
    fn new(options: &'a SetOptions) -> Self {
        let mut maker = Self { options, state: options.seed, bases: Vec::new() };
        for _ in &options.platforms {
            let bases = (0..options.bases.max(1)).map(|_| maker.layers(options.base_layers));
            let bases = bases.collect();
            maker.bases.push(bases);
        }
        maker
    }

    fn layers(&mut self, count: usize) -> Vec<Blob> {
        let (low, high) = self.options.layer_size.clone().into_inner();
        let layer = |_| {
            let size = low + mix(&mut self.state) % (high - low + 1);
            Blob::generated(mix(&mut self.state), size)
        };
        (0..count).map(layer).collect()
    }

    /// Of five images, three are OCI, one is a Docker list, and one has a single platform.
    fn image(&mut self, n: usize, name: &str) -> Image {
        match n % 5 {
            2 => self.index(n, name, Kind::Docker),
            3 if n.is_multiple_of(2) => self.platform(n, name, 0, Kind::Oci),
            3 => self.platform(n, name, 0, Kind::Docker),
            _ => self.index(n, name, Kind::Oci),
        }
    }

    fn index(&mut self, n: usize, name: &str, kind: Kind) -> Image {
        let mut children = Vec::new();
        let mut attestations = Vec::new();
        for (p, platform) in self.options.platforms.iter().enumerate() {
            let image = self.platform(n, name, p, kind);
            if self.options.attestations && kind == Kind::Oci && n.is_multiple_of(3) {
                attestations.push(Child::attestation(&image, n as u64));
            }
            children.push(Child::platform(platform, image));
        }
        children.append(&mut attestations);
        Image::index(kind, children)
    }

    fn platform(&mut self, n: usize, name: &str, platform: usize, kind: Kind) -> Image {
        let mut layers = self.bases[platform][n % self.options.bases.max(1)].clone();
        layers.append(&mut self.layers(self.options.own_layers));
        let architecture = self.options.platforms[platform].split('/').nth(1);
        let config = config_for(architecture.unwrap_or("amd64"), name, &layers);
        Image::single(kind, config, layers)
    }
}
