//! The images of a schedule, with the content that its draw asks for.

use std::collections::BTreeMap;

use super::draw::{Drawn, POOL, REPOSITORIES};
use crate::support::content::Child;
use crate::support::digest::Digest;
use crate::support::{Blob, Image, Kind};

/// An image under its name.
#[derive(Clone)]
pub struct Named {
    pub reference: &'static str,
    pub image: Image,
    /// The digests of its layers.
    pub layers: Vec<Digest>,
    /// Its manifest says something wrong of its first layer.
    pub is_lie: bool,
}

/// Names live for as long as the test program, and there are few.
fn reference(repository: usize, tag: usize) -> &'static str {
    const TAGS_MAX: usize = 8;
    static NAMES: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
        let tags = |repository: &'static str| (0..TAGS_MAX).map(move |tag| format!("{repository}:{tag}"));
        REPOSITORIES.into_iter().flat_map(tags).collect()
    });
    &NAMES[repository * TAGS_MAX + tag]
}

pub fn named(draws: &[Drawn]) -> Vec<Named> {
    let blobs = POOL.iter().zip(900_u64..).map(|(size, seed)| Blob::generated(seed, *size));
    let pool: Vec<Blob> = blobs.collect();
    let mut last: BTreeMap<usize, (usize, Named)> = BTreeMap::new();
    let mut named = Vec::new();
    for (n, drawn) in draws.iter().enumerate() {
        let before = last.get(&drawn.repository);
        let reference = reference(drawn.repository, before.map_or(0, |(tag, _)| tag + 1));
        let one = match before {
            Some((_, twin)) if drawn.twin => Named { reference, ..twin.clone() },
            _ => fresh(reference, n, drawn, &pool),
        };
        let tag = before.map_or(0, |(tag, _)| tag + 1);
        last.insert(drawn.repository, (tag, one.clone()));
        named.push(one);
    }
    named
}

fn fresh(reference: &'static str, n: usize, drawn: &Drawn, pool: &[Blob]) -> Named {
    let layers: Vec<Blob> = drawn.layers.iter().map(|layer| pool[*layer].clone()).collect();
    let is_lie = drawn.lie != 0 && !layers.is_empty();
    let single = |platform: usize| {
        let config = Blob::literal(format!("{{\"image\":{n},\"platform\":{platform}}}"));
        let honest = Image::single(Kind::Oci, config, layers.clone());
        if !is_lie {
            return honest;
        }
        let mut value: serde_json::Value =
            serde_json::from_slice(&honest.manifest.bytes).expect("a manifest is JSON");
        // An empty layer cannot have a byte less.
        value["layers"][0]["size"] = layers[0].size.checked_add_signed(drawn.lie).unwrap_or(1).into();
        Image::from_value(&honest.manifest.media_type, &value, honest.blobs.clone(), vec![])
    };
    let platforms = || {
        ["linux/amd64", "linux/arm64"]
            .into_iter()
            .enumerate()
            .map(|(n, platform)| Child::platform(platform, single(n)))
    };
    let image = if drawn.index { Image::index(Kind::Oci, platforms().collect()) } else { single(0) };
    Named { reference, image, layers: layers.into_iter().map(|layer| layer.digest).collect(), is_lie }
}
