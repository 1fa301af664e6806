//! The keys of a release's document that are renewed, in the layout that the catalog has.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mirror_images::selection::catalog::Minor;

use super::decisions::Etcd;
use super::images::Images;
use super::kubeone::{Release, same};

/// A key with its text, or none where the release has no such key; and the comment above it where the document does not
/// have it yet.
pub type Key = (&'static str, Option<String>, &'static str);

/// The keys that are upstream's.
pub fn keys(kubeone: Minor, release: &Release) -> [Key; 10] {
    let newest = &release.newest;
    let group = |name, resources: &[(String, Images)]| {
        let resource = |(name, images): &(String, Images)| {
            let addons = release.addons_of(name).join(", ");
            format!("  {name}:\n    addons: [{addons}]\n    image:{}\n", image(images, 6))
        };
        Some(format!("{name}:\n{}", resources.iter().map(resource).collect::<String>()))
    };
    [
        ("kubeone", Some(format!("kubeone: \"{kubeone}\"\n")), ""),
        ("patch", Some(format!("patch: v{}\n", newest.tag.version)), ""),
        ("released", Some(format!("released: {}\n", newest.tag.day)), ""),
        ("kubernetes", Some(format!("kubernetes: {}\n", minors(&newest.kubernetes))), ""),
        ("sandbox", release.sandbox.as_ref().map(sandbox), SANDBOX),
        ("etcd", (!release.etcd.is_empty()).then(|| etcd(&release.etcd)), ETCD),
        ("base", group("base", &newest.listed.base), "\n"),
        ("optional", group("optional", &newest.listed.optional), "\n"),
        ("patches", (!release.patches.is_empty()).then(|| patches(release)), PATCHES),
        ("earlier", (!release.earlier.is_empty()).then(|| earlier(release)), ""),
    ]
}

const SANDBOX: &str = "\n# The pause image that KubeOne sets in containerd; kubeadm's own may differ.\n";

const ETCD: &str = r#"
# The etcd that KubeOne has kubeadm run for these versions of Kubernetes, `from` to one before `below`.
"#;

const PATCHES: &str = "
# The earlier patch releases, with the minors that they support where these are others. `earlier` has what they have in
# place of the above, from `from` to `to`: `null` is a resource that is not there yet, and what has its addons with it is
# one that is there no more. All else is taken to be as above, `etcd` and `unlisted` too.
";

fn minors(minors: &[Minor]) -> String {
    format!("[{}]", minors.iter().map(|minor| format!("\"{minor}\"")).collect::<Vec<_>>().join(", "))
}

/// What follows `image:`: the image, or one for each minor below it.
fn image(images: &Images, indent: usize) -> String {
    if let Some(same) = same(images) {
        return format!(" {same}");
    }
    let mut text = String::new();
    for (minor, image) in images {
        let _ = write!(text, "\n{:indent$}\"{minor}\": {}", "", image.as_deref().unwrap_or("null"));
    }
    text
}

/// The same within braces.
fn image_inline(images: &Images) -> String {
    if let Some(same) = same(images) {
        return same.to_owned();
    }
    let pair =
        |(minor, image): (_, &Option<String>)| format!("\"{minor}\": {}", image.as_deref().unwrap_or("null"));
    format!("{{{}}}", images.iter().map(pair).collect::<Vec<_>>().join(", "))
}

fn sandbox(images: &BTreeMap<Minor, String>) -> String {
    let line = |(minor, image)| format!("  \"{minor}\": {image}\n");
    format!("sandbox:\n{}", images.iter().map(line).collect::<String>())
}

fn etcd(etcd: &[Etcd]) -> String {
    let line = |Etcd { from, below, image }: &Etcd| {
        format!("  - {{from: \"{from}\", below: \"{below}\", image: {image}}}\n")
    };
    format!("etcd:\n{}", etcd.iter().map(line).collect::<String>())
}

fn patches(release: &Release) -> String {
    let mut text = "patches:\n".to_owned();
    for patch in &release.patches {
        let _ = write!(text, "  - {{patch: v{}, released: {}", patch.tag.version, patch.tag.day);
        if patch.kubernetes != release.newest.kubernetes {
            let _ = write!(text, ", kubernetes: {}", minors(&patch.kubernetes));
        }
        text += "}\n";
    }
    text
}

fn earlier(release: &Release) -> String {
    let mut text = "earlier:\n".to_owned();
    for run in &release.earlier {
        let _ = writeln!(text, "  - from: v{}\n    to: v{}", run.from, run.to);
        if !run.images.is_empty() {
            text += "    images:\n";
        }
        for (name, images) in &run.images {
            let images = images.as_ref().map_or_else(|| " null".to_owned(), |images| image(images, 8));
            let _ = writeln!(text, "      {name}:{images}");
        }
        for (group, gone) in [("base", &run.base), ("optional", &run.optional)] {
            if !gone.is_empty() {
                let _ = writeln!(text, "    {group}:");
            }
            for (name, (addons, images)) in gone {
                let (addons, image) = (addons.join(", "), image_inline(images));
                let _ = writeln!(text, "      {name}: {{addons: [{addons}], image: {image}}}");
            }
        }
    }
    text
}
