//! What most tests begin with: a selection of the catalog, generated content for it, a source that stands for all
//! upstreams and an empty target.

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use mirror_images::cli::Cli;
use mirror_images::options::Options;
use mirror_images::output::report::Report;
use mirror_images::selection::catalog::{SelectedImage, Selection};

use crate::program::{Ended, Program};
use crate::support::content::{Content, Repository, SetOptions, mirror_set};
use crate::support::digest::Digest;
use crate::support::net::Net;
use crate::support::reader::{Depth, Reader};
use crate::support::registry::{Registry, RegistryBuilder};

/// Seven images of one host, one of them under two names.
pub const CONTROL_PLANE: &[&str] = &["-k", "1.36.3", "--filter", "control-plane"];
/// Fifteen images of several hosts.
pub const ALWAYS: &[&str] = &["-k", "1.36.3", "--filter", "control-plane,base"];
/// All 108 images.
pub const EVERYTHING: &[&str] = &["-k", "1.36.3"];

/// One line of a dry run, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// As the program writes it.
    pub source: String,
    pub host: String,
    pub repository: String,
    pub tag: String,
    pub pinned: bool,
    /// Repository and tag at the target.
    pub to: (String, String),
}

/// The lines of a selection, as the program itself prints them.
pub fn lines_of(selection: &[&str]) -> Vec<Line> {
    let dry = Program::new(&["--dry-run", "-o", "json", "target.example"]).args(selection).run().expect(0);
    let pairs = dry.report();
    let line = |pair: &serde_json::Value| {
        let source = pair["source"].as_str().expect("a source").to_owned();
        let (named, pin) = source.split_once('@').map_or((source.as_str(), None), |(n, d)| (n, Some(d)));
        let (host, rest) = named.split_once('/').expect("a host");
        let (repository, tag) = rest.rsplit_once(':').expect("a tag");
        let target = pair["target"].as_str().expect("a target");
        let target = target.strip_prefix("target.example/").expect("the target that was named");
        let (to_repository, to_tag) = target.rsplit_once(':').expect("a tag");
        Line {
            host: host.to_owned(),
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            pinned: pin.is_some(),
            to: (to_repository.to_owned(), to_tag.to_owned()),
            source,
        }
    };
    pairs.as_array().expect("a list").iter().map(line).collect()
}

/// Content for all lines, hosts in one.
pub fn content_for(lines: &[Line], options: &SetOptions) -> Content {
    let names: BTreeSet<(&str, &str, &str)> =
        lines.iter().map(|l| (l.host.as_str(), l.repository.as_str(), l.tag.as_str())).collect();
    mirror_set(&names.into_iter().collect::<Vec<_>>(), options)
}

pub fn hosts_of(lines: &[Line]) -> BTreeSet<&str> {
    lines.iter().map(|line| line.host.as_str()).collect()
}

/// Nothing that is generated has the digest that is recorded of a real image.
pub const NO_PINS: &str = concat!("--pins=", env!("CARGO_MANIFEST_DIR"), "/tests/it/no-pins.json");

/// All hosts of the lines are mirrored at `place`, such as `http://127.0.0.1:5000`.
pub fn mirror_flags(lines: &[Line], place: &str) -> Vec<String> {
    let mirrors = hosts_of(lines).into_iter().map(|host| format!("--source-mirror={host}={place}"));
    mirrors.chain([NO_PINS.to_owned()]).collect()
}

pub struct Stage {
    selection: &'static [&'static str],
    pub net: Net,
    pub lines: Vec<Line>,
    pub content: Content,
    pub source: Registry,
    pub target: Registry,
}

impl Stage {
    pub fn new(selection: &'static [&'static str]) -> Self {
        Self::with(selection, &SetOptions::default(), |source| source, |target| target)
    }

    /// With other content, a source or a target of its own kind.
    pub fn with(
        selection: &'static [&'static str],
        options: &SetOptions,
        source: impl FnOnce(RegistryBuilder) -> RegistryBuilder,
        target: impl FnOnce(RegistryBuilder) -> RegistryBuilder,
    ) -> Self {
        Self::on(Net::new(), selection, options, source, target)
    }

    /// The same on a net that has other hosts already.
    pub fn on(
        net: Net,
        selection: &'static [&'static str],
        options: &SetOptions,
        source: impl FnOnce(RegistryBuilder) -> RegistryBuilder,
        target: impl FnOnce(RegistryBuilder) -> RegistryBuilder,
    ) -> Self {
        let content = content_for(&lines_of(selection), options);
        Self::of(net, selection, content, source, target)
    }

    /// The same with this content.
    pub fn of(
        net: Net,
        selection: &'static [&'static str],
        content: Content,
        source: impl FnOnce(RegistryBuilder) -> RegistryBuilder,
        target: impl FnOnce(RegistryBuilder) -> RegistryBuilder,
    ) -> Self {
        let lines = lines_of(selection);
        let source = source(net.registry("source").content(&content)).start();
        let target = target(net.registry("target")).start();
        Self { selection, net, lines, content, source, target }
    }

    /// The program, about to mirror the selection from the source to the target.
    pub fn program(&self) -> Program {
        self.program_to(&self.target.host())
    }

    /// The same to another target.
    pub fn program_to(&self, target: &str) -> Program {
        self.program_for(target, self.selection)
    }

    /// The same to another target, for another selection.
    pub fn program_with(&self, target: &str, selection: &[&str]) -> Program {
        self.program_for(target, selection)
    }

    /// The same for another selection, whose images are among those of this one.
    pub fn program_of(&self, selection: &[&str]) -> Program {
        self.program_for(&self.target.host(), selection)
    }

    fn program_for(&self, target: &str, selection: &[&str]) -> Program {
        let place = self.source.url();
        let place = place.strip_prefix("https://").unwrap_or(&place);
        let flags = mirror_flags(&self.lines, place);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Program::new(&[target]).args(selection).args(&flags)
    }

    /// Runs the program once.
    pub fn run(&self) -> Ended {
        self.program().args(&["-o", "json"]).run()
    }

    /// Lines that can succeed: nothing that is generated has the digest that a pin names.
    pub fn good_lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| !line.pinned)
    }

    /// What the target should have, by repository and tag.
    pub fn wanted(&self) -> BTreeMap<(String, String), Digest> {
        let digest =
            |line: &Line| self.content.digest_of(&line.repository, &line.tag).expect("all have content");
        self.good_lines().map(|line| (line.to.clone(), digest(line).clone())).collect()
    }

    /// Reads everything back that the target should have, every byte of it.
    #[track_caller]
    pub fn assert_mirrored(&self) {
        assert_mirrored(&self.net, &self.target.url(), &self.wanted());
    }

    /// What belongs to each repository at the target.
    pub fn wanted_repositories(&self) -> BTreeMap<&str, Repository> {
        let mut wanted: BTreeMap<&str, Repository> = BTreeMap::new();
        for line in self.good_lines() {
            let from = &self.content.repositories[&line.repository];
            let to = wanted.entry(&line.to.0).or_default();
            to.manifests.extend(from.manifests.iter().cloned());
            to.blobs.extend(from.blobs.iter().cloned());
            to.tags.insert(line.to.1.clone(), from.tags[&line.tag].clone());
        }
        wanted
    }

    /// Has a registry forget the manifest that it has under a tag.
    #[track_caller]
    pub fn delete_manifest(&self, registry: &str, repository: &str, tag: &str) {
        let digest = &self.wanted_repositories()[repository].tags[tag];
        let url = format!("{registry}/v2/{repository}/manifests/{digest}");
        let answer = self.net.block_on(self.net.client().delete(url).send()).expect("it answers");
        assert_eq!(answer.status(), 202, "{repository}:{tag}");
    }
}

/// A port where nobody listens.
pub fn closed_port() -> String {
    crate::support::process::free_port().expect("a free port").to_string()
}

/// Mirrors images that no catalog knows, within this process; what belongs to `docker.io`, `quay.io` and
/// `registry.k8s.io` comes from the registry at `source`.
pub fn mirror_in_process(net: &Net, references: &[&str], source: &str, target: &str) -> Report {
    let mut arguments = vec!["mirror-images".to_owned(), target.to_owned(), NO_PINS.to_owned()];
    for host in ["docker.io", "quay.io", "registry.k8s.io"] {
        arguments.push(format!("--source-mirror={host}=http://{source}"));
    }
    let cli = Cli::try_from_arguments(arguments).expect("valid arguments");
    let mut options = Options::new(cli, &|_| None).expect("valid options");
    options.policy.timing.first_pause = Duration::from_millis(20);
    let image = |text: &&str| SelectedImage::new(&text.parse().expect("a reference"));
    let images = references.iter().map(image).collect();
    let selection = Selection { images, ..Selection::default() };
    let report =
        net.block_on(mirror_images::run(&options, selection, Arc::new(|_| {}), std::future::pending()));
    report.expect("a registry is no layout")
}

/// Reads all of `wanted` back from the registry at `url` by a reader that shares no code with the program.
#[track_caller]
pub fn assert_mirrored(net: &Net, url: &str, wanted: &BTreeMap<(String, String), Digest>) {
    let reader = &Reader::new(net.client(), url);
    let read = |((repository, tag), digest): (&(String, String), &Digest)| {
        let (name, digest) = (format!("{repository}:{tag}"), digest.clone());
        let (repository, tag) = (repository.clone(), tag.clone());
        async move {
            match reader.read(&repository, &tag, Depth::Bytes).await {
                Ok(tree) => (tree.root != digest).then(|| format!("{name} is {}, not {digest}", tree.root)),
                Err(faults) => Some(format!("{name} is not right: {faults}")),
            }
        }
    };
    let reading = futures_util::stream::iter(wanted.iter().map(read)).buffer_unordered(8);
    let wrong: Vec<String> = net.block_on(reading.filter_map(std::future::ready).collect());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
