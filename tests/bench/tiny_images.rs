//! Any number of images that are hardly more than their manifests, so that the work for each image is what is measured.

use crate::support::content::{Blob, Child, Content, Image, Kind, config_for};

/// The host that the images are named after.
pub const HOST: &str = "registry.example.com";
/// Images of a repository, one a tag.
const TAGS: usize = 20;
/// Of so many images, one is an index of two platforms.
const INDEX: usize = 5;
/// Neighbouring repositories that stand on one layer.
const FAMILY: usize = 10;
/// Bytes of the smallest layer, and how many sizes there are.
const LAYER: (usize, usize) = (200, 1_000);

pub struct TinyImages {
    pub content: Content,
    pub count: usize,
}

impl TinyImages {
    pub fn new(count: usize) -> Self {
        let repositories = count.div_ceil(TAGS);
        let mut content = Content::new();
        for number in 0..count {
            let (repository, tag) = (number % repositories, number / repositories);
            let name = format!("team-{}/app-{repository}", repository / FAMILY);
            content.add(&name, &format!("v1.{tag}"), &image(number, repository));
        }
        Self { content, count }
    }

    /// The references, as a list of images has them.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.content.tags().map(|(repository, tag, _)| format!("{HOST}/{repository}:{tag}"))
    }
}

fn image(number: usize, repository: usize) -> Image {
    if !number.is_multiple_of(INDEX) {
        return platform(number, repository, "amd64");
    }
    let children = ["amd64", "arm64"].map(|architecture| {
        Child::platform(&format!("linux/{architecture}"), platform(number, repository, architecture))
    });
    Image::index(Kind::Oci, children.into())
}

/// A layer of its own, and for every second image one that its family shares.
fn platform(number: usize, repository: usize, architecture: &str) -> Image {
    let mut layers = Vec::new();
    if number.is_multiple_of(2) {
        layers.push(layer(&format!("family {} {architecture}", repository / FAMILY)));
    }
    layers.push(layer(&format!("image {number} {architecture}")));
    Image::single(Kind::Oci, config_for(architecture, &number.to_string(), &layers), layers)
}

/// Text in place of a compressed archive: nobody unpacks it.
fn layer(name: &str) -> Blob {
    let (least, sizes) = LAYER;
    let size = least + name.bytes().fold(0, |sum, byte| (sum * 31 + usize::from(byte)) % sizes);
    Blob::literal(format!("{name:.<size$}"))
}
