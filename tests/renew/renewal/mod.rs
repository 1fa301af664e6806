//! The catalog, renewed from the sources of KubeOne and Kubernetes.
//!
//! Upstream's files are read as they are at its tags. What a table or a decision by version says becomes a key of the
//! catalog; keys that say how KubeOne's code behaves (`rules`, `gone`, `unlisted`) and all comments stay as they are, and
//! the [`Review`] tells where upstream has changed what they describe. Nothing is guessed: what looks like an entry and is
//! not understood is an error with its file, tag and line.

mod addons;
mod comments;
mod constraint;
mod decisions;
mod document;
mod earlier;
mod go;
mod images;
mod kubeadm;
mod kubeone;
mod print;
mod review;
mod rules;
mod upstream;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use mirror_images::selection::catalog::{self, Catalog, Minor};

use document::{Document, KEYS};
use kubeone::Release;
use review::Review;
use rules::Reviewed;
use upstream::{Checkout, Tag};

/// Where the files of the catalog are in the project, and what else is renewed with them.
const CATALOG: &str = "src/selection/catalog";
const EMBEDDED: &str = "src/selection/catalog.rs";
const REVIEWED: &str = "tests/renew/reviewed.txt";
const KUBERNETES: &str = "kubernetes.yaml";

pub struct Request<'r> {
    /// The project whose catalog is renewed.
    pub project: &'r Path,
    /// A checkout of KubeOne with its tags; a bare one will do.
    pub kubeone: &'r Path,
    /// The same of Kubernetes. Without it the document about Kubernetes stays as it is.
    pub kubernetes: Option<&'r Path>,
}

pub struct Renewal {
    /// Files whose text is another now, by their paths in the project.
    pub files: BTreeMap<PathBuf, String>,
    pub review: Review,
}

impl Renewal {
    pub fn write(&self, project: &Path) -> Result<()> {
        for (path, text) in &self.files {
            let path = project.join(path);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// What the project's catalog becomes. Nothing is written.
///
/// # Errors
/// A checkout cannot be read, something in it is not understood, it is older than the catalog, or what comes out is no
/// sound catalog.
pub fn renew(request: &Request<'_>) -> Result<Renewal> {
    let before = Before::read(request.project)?;
    let mut review = Review::default();
    let mut files = BTreeMap::new();

    let kubernetes_path = Path::new(CATALOG).join(KUBERNETES);
    let mut kubernetes = before.kubernetes.clone();
    if let Some(path) = request.kubernetes {
        let (text, findings) = renew_kubernetes(&Checkout::at(path), &before)?;
        review.add("Kubernetes", findings);
        files.insert(kubernetes_path.clone(), text.clone());
        kubernetes = text;
    }

    let checkout = Checkout::at(request.kubeone);
    let mut reviewed = before.reviewed.clone();
    for (kubeone, tags) in before.tags(&checkout)? {
        let release = Release::read(&checkout, &tags).with_context(|| format!("KubeOne {kubeone}"))?;
        let (text, mut findings) = before.renew_release(kubeone, &release)?;
        let name = file_name(kubeone);
        let parsed = Catalog::from_yaml(&format!("{text}---\n{kubernetes}"), &format!("{name}, renewed"))?;
        findings.extend(reviewed.differences(kubeone, &release.hashes));
        if let Some(renewed) = parsed.release(kubeone)? {
            findings.extend(review::embedded(renewed, &release.embedded));
            findings.extend(review::unlisted(renewed, &release.written));
        }
        review.add(format!("KubeOne {kubeone}"), findings);
        reviewed.0.insert(kubeone, release.hashes);
        files.insert(Path::new(CATALOG).join(name), text);
    }
    files.insert(REVIEWED.into(), reviewed.to_string());
    files.insert(EMBEDDED.into(), before.embedded(reviewed.0.keys())?);

    files
        .retain(|path, text| std::fs::read_to_string(request.project.join(path)).ok().as_ref() != Some(text));
    Ok(Renewal { files, review })
}

fn file_name(kubeone: Minor) -> String {
    format!("kubeone-{kubeone}.yaml")
}

/// The catalog and what belongs to it, as they are.
struct Before {
    kubernetes: String,
    documents: BTreeMap<Minor, (Document, catalog::Release)>,
    /// One of the releases, for the document about Kubernetes.
    catalog: Catalog,
    reviewed: Reviewed,
    code: String,
}

impl Before {
    fn read(project: &Path) -> Result<Self> {
        let read = |path: &Path| {
            let path = project.join(path);
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let directory = Path::new(CATALOG);
        let kubernetes = read(&directory.join(KUBERNETES))?;
        let mut documents = BTreeMap::new();
        let mut any = None;
        let entries = std::fs::read_dir(project.join(directory));
        for entry in entries.with_context(|| format!("cannot read {CATALOG} of {}", project.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Some(kubeone) = name.strip_prefix("kubeone-").and_then(|rest| rest.strip_suffix(".yaml"))
            else {
                continue;
            };
            let kubeone: Minor = kubeone.parse().map_err(|why| anyhow::anyhow!("{name}: {why}"))?;
            let text = read(&directory.join(&name))?;
            let parsed = Catalog::from_yaml(&format!("{text}---\n{kubernetes}"), &name)?;
            let release =
                parsed.release(kubeone)?.with_context(|| format!("{name} is of another release"))?;
            let document = Document::parse(&text).with_context(|| name.clone())?;
            documents.insert(kubeone, (document, release.clone()));
            any = Some(parsed);
        }
        let catalog = any.with_context(|| format!("no release of KubeOne in {CATALOG}"))?;
        let reviewed = Reviewed::parse(&read(Path::new(REVIEWED))?).context(REVIEWED)?;
        Ok(Self { kubernetes, documents, catalog, reviewed, code: read(Path::new(EMBEDDED))? })
    }

    /// The releases to renew with their tags: all that the catalog has, and newer ones.
    fn tags(&self, checkout: &Checkout) -> Result<BTreeMap<Minor, Vec<Tag>>> {
        let mut tags = checkout.releases()?;
        for (kubeone, (_, release)) in &self.documents {
            let known = tags.get(kubeone).map(Vec::as_slice).unwrap_or_default();
            let patches = release.patches.iter().map(|known| &known.patch).chain([&release.patch]);
            for patch in patches {
                let is_there = known.iter().any(|tag| tag.version == patch.0);
                ensure!(is_there, "the checkout of KubeOne has no tag v{}: are its tags fetched?", patch.0);
            }
        }
        let first = self.documents.keys().next();
        tags.retain(|kubeone, _| first.is_some_and(|first| kubeone >= first));
        Ok(tags)
    }

    /// The document of a release as text, and how it is other than it was.
    fn renew_release(&self, kubeone: Minor, release: &Release) -> Result<(String, Vec<String>)> {
        let mut findings = Vec::new();
        let known = self.documents.get(&kubeone);
        let mut document = match known {
            Some((document, before)) => {
                findings.extend(review::release(before, release));
                document.clone()
            }
            None => {
                let (model, document) = self.model(kubeone)?;
                findings.push(new_release(model, release));
                document
            }
        };
        if release.sandbox.is_none() && document.get("sandbox").is_some() {
            bail!("KubeOne {kubeone}: there is no SandboxImage in its code, and `sandbox` in the catalog");
        }
        for (key, text, above) in print::keys(kubeone, release) {
            let Some(text) = text else {
                document.remove(key);
                continue;
            };
            // What a new release is begun from has comments on another one's images.
            let (text, lost) = match document.get(key).filter(|_| known.is_some()) {
                Some(before) => comments::carry(before, &text),
                None => (text, Vec::new()),
            };
            findings.extend(
                lost.into_iter().map(|comment| format!("a comment had to go from `{key}`: {comment}")),
            );
            document.set(key, text, above);
        }
        Ok((document.to_string(), findings))
    }

    /// What a release that the catalog does not have yet is begun from: the document of the newest before it.
    fn model(&self, kubeone: Minor) -> Result<(Minor, Document)> {
        let model = self.documents.range(..kubeone).next_back();
        let (model, (document, _)) =
            model.with_context(|| format!("nothing to begin KubeOne {kubeone} from"))?;
        let mut document = document.clone();
        document.rename_head(&format!("KubeOne {model}"), &format!("KubeOne {kubeone}"));
        // It is about that release's own patches.
        document.remove("former_names_until");
        Ok((*model, document))
    }

    /// The list of embedded files, with the names of `releases` in it, which are ascending.
    fn embedded<'m>(&self, releases: impl Iterator<Item = &'m Minor>) -> Result<String> {
        let mut code = self.code.clone();
        let mut before: Option<String> = None;
        for kubeone in releases {
            let line = format!("    \"{}\",\n", file_name(*kubeone));
            if !code.contains(&line) {
                let before = before.as_ref().filter(|before| code.contains(before.as_str()));
                let before = before
                    .with_context(|| format!("{EMBEDDED} has no list in which {kubeone} has a place"))?;
                code = code.replacen(before, &format!("{before}{line}"), 1);
            }
            before = Some(line);
        }
        Ok(code)
    }
}

/// The loud word on a release that the catalog did not have.
fn new_release(model: Minor, release: &Release) -> String {
    let hand = KEYS.iter().filter(|key| ["gone", "rules", "unlisted"].contains(key));
    let hand: Vec<_> = hand.map(|key| format!("`{key}`")).collect();
    format!(
        "**A new minor release, {}: its {} are those of KubeOne {model} and nobody has looked at them yet.** Compare them \
         with the functions in {REVIEWED}; README.md and the tests name the newest release too",
        release.newest.tag.name,
        mirror_images::util::text::list(&hand),
    )
}

fn renew_kubernetes(checkout: &Checkout, before: &Before) -> Result<(String, Vec<String>)> {
    let before_minors = before.catalog.kubernetes();
    let known: BTreeMap<_, _> = before_minors
        .minors
        .iter()
        .map(|(minor, patches)| (*minor, kubeadm::Known::of(patches, *minor)))
        .collect();
    let renewed = kubeadm::read(checkout, before_minors)?;
    let mut findings = review::kubernetes(&known, &renewed);
    let mut document = Document::parse(&before.kubernetes).context(KUBERNETES)?;
    let (text, lost) =
        comments::carry(document.get("kubernetes").unwrap_or_default(), &kubeadm::print(&renewed));
    findings.extend(lost.into_iter().map(|comment| format!("a comment had to go: {comment}")));
    document.set("kubernetes", text, "\n");
    Ok((document.to_string(), findings))
}
