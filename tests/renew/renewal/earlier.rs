//! How the earlier patch releases differ from the newest one, as runs of patch releases that differ alike.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;

use super::images::Images;
use super::kubeone::{Patch, same};

/// What the patch releases `from` to `to` have in place of the newest one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub from: Version,
    pub to: Version,
    /// Resources of the newest one; `None` where they do not have it yet.
    pub images: BTreeMap<String, Option<Images>>,
    /// Resources that the newest one has no more, with their addons.
    pub base: BTreeMap<String, (Vec<String>, Images)>,
    pub optional: BTreeMap<String, (Vec<String>, Images)>,
}

impl Run {
    pub fn set_addons(&mut self, of_resource: &BTreeMap<String, BTreeSet<String>>) {
        for (name, (addons, _)) in self.base.iter_mut().chain(&mut self.optional) {
            *addons = of_resource.get(name).into_iter().flatten().cloned().collect();
        }
    }
}

/// What one patch release has of a resource, where that is not what the newest has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Other {
    NotYet,
    Instead(Images),
    /// The newest has it no more.
    Gone {
        is_base: bool,
        images: Images,
    },
}

/// The runs of `patches`, which are ascending and before `newest`: by `from`, then by `to`.
pub fn runs(newest: &Patch, patches: &[Patch]) -> Vec<Run> {
    let of_earlier = patches.iter().flat_map(|patch| patch.listed.all());
    let names: BTreeSet<&String> = newest.listed.all().chain(of_earlier).map(|(name, _)| name).collect();
    let mut runs: BTreeMap<(Version, Version), Run> = BTreeMap::new();
    for name in names {
        let others: Vec<_> = patches.iter().map(|patch| other(name, newest, patch)).collect();
        let mut start = 0;
        while start < others.len() {
            let Some(first) = &others[start] else {
                start += 1;
                continue;
            };
            let alike = others[start..].iter().take_while(|o| o.as_ref() == Some(first));
            let end = start + alike.count();
            let (from, to) = (&patches[start].tag.version, &patches[end - 1].tag.version);
            let run = runs.entry((from.clone(), to.clone())).or_insert_with(|| Run {
                from: from.clone(),
                to: to.clone(),
                images: BTreeMap::new(),
                base: BTreeMap::new(),
                optional: BTreeMap::new(),
            });
            match first.clone() {
                Other::NotYet => run.images.insert(name.clone(), None).map(drop),
                Other::Instead(images) => run.images.insert(name.clone(), Some(images)).map(drop),
                Other::Gone { is_base: true, images } => {
                    run.base.insert(name.clone(), (vec![], images)).map(drop)
                }
                Other::Gone { is_base: false, images } => {
                    run.optional.insert(name.clone(), (vec![], images)).map(drop)
                }
            };
            start = end;
        }
    }
    runs.into_values().collect()
}

fn other(name: &str, newest: &Patch, patch: &Patch) -> Option<Other> {
    match (newest.listed.get(name), patch.listed.get(name)) {
        (None, None) => None,
        (Some(_), None) => Some(Other::NotYet),
        (None, Some(images)) => {
            let is_base = patch.listed.base.iter().any(|(known, _)| known == name);
            Some(Other::Gone { is_base, images: images.clone() })
        }
        (Some(now), Some(then)) => {
            // Only the minors count that this patch release supports.
            let is_same = |(minor, image): (_, &Option<String>)| match same(now) {
                Some(now) => image.as_deref() == Some(now),
                None => now.get(minor) == Some(image),
            };
            (!then.iter().all(is_same)).then(|| Other::Instead(then.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::images::Listed;
    use super::super::upstream::Tag;
    use super::*;

    /// A patch release of 1.8 that supports two minors, or with `+` three, and has these resources.
    fn patch(number: u64, resources: &[(&str, [&str; 3])]) -> Patch {
        let minors = ["1.27", "1.28", "1.29"].map(|minor| minor.parse().unwrap());
        let images = |tags: &[&str; 3]| {
            let pairs = minors.into_iter().zip(tags).filter(|(_, tag)| !tag.is_empty());
            pairs.map(|(minor, tag)| (minor, Some((*tag).to_owned()))).collect()
        };
        let base = resources.iter().map(|(name, tags)| ((*name).to_owned(), images(tags))).collect();
        let version = Version::new(1, 8, number);
        Patch {
            tag: Tag { name: format!("v{version}"), version, day: "2024-01-01".to_owned() },
            kubernetes: minors.to_vec(),
            listed: Listed { base, optional: Vec::new() },
        }
    }

    fn told(newest: &Patch, patches: &[Patch]) -> Vec<String> {
        let run = |run: Run| {
            let images: Vec<_> = run.images.keys().chain(run.base.keys()).cloned().collect();
            format!("{} to {}: {}", run.from, run.to, images.join(" "))
        };
        runs(newest, patches).into_iter().map(run).collect()
    }

    #[test]
    fn patch_releases_that_differ_alike_are_one_run() {
        let newest = patch(4, &[("A", ["3"; 3]), ("B", ["1"; 3])]);
        let patches = [
            patch(0, &[("A", ["1"; 3]), ("B", ["1"; 3])]),
            patch(1, &[("A", ["1"; 3]), ("B", ["2"; 3])]),
            patch(2, &[("A", ["2"; 3]), ("B", ["2"; 3])]),
            patch(3, &[("A", ["3"; 3]), ("B", ["1"; 3])]),
        ];
        assert_eq!(told(&newest, &patches), ["1.8.0 to 1.8.1: A", "1.8.1 to 1.8.2: B", "1.8.2 to 1.8.2: A"]);
    }

    #[test]
    fn only_the_minors_count_that_a_patch_release_supports() {
        let newest = patch(1, &[("A", ["1", "2", "3"]), ("B", ["1", "1", "1"])]);
        assert_eq!(
            told(&newest, &[patch(0, &[("A", ["1", "2", ""]), ("B", ["1", "", ""])])]),
            Vec::<String>::new()
        );
        assert_eq!(
            told(&newest, &[patch(0, &[("A", ["1", "1", ""]), ("B", ["1", "2", ""])])]),
            ["1.8.0 to 1.8.0: A B"]
        );
    }

    #[test]
    fn what_is_not_there_yet_and_what_is_no_more_are_told() {
        let newest = patch(2, &[("A", ["1"; 3])]);
        let patches = [patch(0, &[("B", ["1"; 3])]), patch(1, &[("A", ["1"; 3]), ("B", ["1"; 3])])];
        let found = runs(&newest, &patches);
        assert_eq!(told(&newest, &patches), ["1.8.0 to 1.8.0: A", "1.8.0 to 1.8.1: B"]);
        assert_eq!(found[0].images["A"], None);
        assert!(found[1].base.contains_key("B"));
    }
}
