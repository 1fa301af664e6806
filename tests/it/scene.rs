//! A few images between two registries of one test, mirrored within this process, and judged after every run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use mirror_images::check::Check;
use mirror_images::cli::Cli;
use mirror_images::options::Options;
use mirror_images::output::report::{Exit, Line, Report, Status};
use mirror_images::selection::catalog::{SelectedImage, Selection};
use mirror_images::store::patience::Policy;

use crate::support::digest::Digest;
use crate::support::journal::{Entry, Journal};
use crate::support::reader::{Depth, Reader};
use crate::support::registry::{Registry, RegistryBuilder};
use crate::support::{Content, Image, Kind, Net, Op};

/// No run of a scene takes longer, whatever goes wrong in it and however busy the machine is.
const BUDGET: Duration = Duration::from_secs(120);

pub struct Scene {
    pub net: Net,
    /// In full, as a user names them.
    pub references: Vec<String>,
    pub content: Content,
    pub source: Registry,
    pub target: Registry,
    /// A second door to the target, where no fault waits.
    judge: Registry,
    /// A path at the target.
    prefix: Option<&'static str>,
    /// What belongs to these hosts is at these places, and not at `source`.
    elsewhere: BTreeMap<&'static str, String>,
    logins: BTreeMap<String, String>,
    /// May be shown credentials.
    trusted: Vec<&'static str>,
    retries: Option<u32>,
    flags: Vec<&'static str>,
    budget: Duration,
}

/// A run that has been judged.
#[derive(Debug)]
pub struct Run {
    pub report: Report,
    pub took: Duration,
}

/// Two images in two repositories that share their base layer; the first one's own layer has `size` bytes.
pub fn two(size: u64) -> Vec<(&'static str, Image)> {
    let base = crate::support::Blob::generated(77, 5_000);
    let image = |seed: u64, own: u64| {
        let own = crate::support::Blob::generated(seed, own);
        let config = crate::support::Blob::literal(format!("{{\"architecture\":\"amd64\",\"n\":{seed}}}"));
        Image::single(Kind::Oci, config, vec![base.clone(), own])
    };
    vec![("quay.io/group/first:1", image(1, size)), ("quay.io/group/second:1", image(2, 7_000))]
}

/// The digest of the layer that only the first image has.
pub fn own_layer(images: &[(&'static str, Image)]) -> Digest {
    images[0].1.blobs[2].digest.clone()
}

/// Repository and tag of a reference, without its host and pin.
pub fn place_of(reference: &str) -> (String, String) {
    let named = reference.split_once('@').map_or(reference, |(named, _)| named);
    let (_, path) = named.split_once('/').expect("a host");
    let (repository, tag) = path.rsplit_once(':').expect("a tag");
    (repository.to_owned(), tag.to_owned())
}

impl Scene {
    pub fn new(images: &[(&'static str, Image)]) -> Self {
        Self::with(Net::new(), images, |source| source, |target| target)
    }

    /// On a net that has other hosts already; with a source or a target of its own kind.
    pub fn with(
        net: Net,
        images: &[(&'static str, Image)],
        source: impl FnOnce(RegistryBuilder) -> RegistryBuilder,
        target: impl FnOnce(RegistryBuilder) -> RegistryBuilder,
    ) -> Self {
        let mut content = Content::new();
        for (reference, image) in images {
            let (repository, tag) = place_of(reference);
            if reference.contains('@') {
                content.add_untagged(&repository, image)
            } else {
                content.add(&repository, &tag, image)
            };
        }
        let source = source(net.registry("source").content(&content)).start();
        let target = target(net.registry("target")).start();
        let judge = net.registry("judge").share(&target).start();
        Self {
            references: images.iter().map(|(reference, _)| (*reference).to_owned()).collect(),
            content,
            source,
            target,
            judge,
            net,
            prefix: None,
            elsewhere: BTreeMap::new(),
            logins: BTreeMap::new(),
            trusted: vec!["source", "target", "auth"],
            retries: None,
            flags: Vec::new(),
            budget: BUDGET,
        }
    }

    /// Everything goes below this path of the target.
    pub fn below(mut self, prefix: &'static str) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// What belongs to `host` comes from another registry.
    pub fn elsewhere(self, host: &'static str, registry: &Registry) -> Self {
        self.elsewhere_at(host, &registry.url())
    }

    pub fn elsewhere_at(mut self, host: &'static str, url: &str) -> Self {
        self.elsewhere.insert(host, url.to_owned());
        self
    }

    pub fn login(mut self, host: &str, user: &str, password: &str) -> Self {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.logins.insert(host.to_owned(), pair);
        self
    }

    /// This host may be shown credentials too.
    pub fn trusting(mut self, host: &'static str) -> Self {
        self.trusted.push(host);
        self
    }

    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// What else a user would say.
    pub fn flag(mut self, flag: &'static str) -> Self {
        self.flags.push(flag);
        self
    }

    pub fn without_flags(mut self) -> Self {
        self.flags.clear();
        self
    }

    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    pub fn journal(&self) -> &Journal {
        self.net.journal()
    }

    /// Repository and tag that a reference has at the target.
    pub fn destination(&self, reference: &str) -> (String, String) {
        let (repository, tag) = place_of(reference);
        let repository = self.prefix.map_or(repository.clone(), |prefix| format!("{prefix}/{repository}"));
        (repository, tag)
    }

    /// The digest that a reference stands for.
    fn wanted(&self, reference: &str) -> Digest {
        let (repository, tag) = place_of(reference);
        match reference.split_once('@') {
            Some((_, pin)) => pin.to_owned(),
            None => self.content.digest_of(&repository, &tag).expect("content of this scene").clone(),
        }
    }

    fn options(&self, policy: impl FnOnce(&mut Policy)) -> Options {
        let mut file = tempfile::NamedTempFile::new().expect("a file for the logins");
        let auths: BTreeMap<&String, serde_json::Value> =
            self.logins.iter().map(|(host, pair)| (host, serde_json::json!({ "auth": pair }))).collect();
        write!(file, "{}", serde_json::json!({ "auths": auths })).expect("it takes the logins");

        let target = match self.prefix {
            Some(prefix) => format!("{}/{prefix}", self.target.host()),
            None => self.target.host(),
        };
        let mut arguments = vec!["mirror-images".to_owned(), target];
        arguments.push(format!("--authfile={}", file.path().display()));
        arguments.push(format!("--ca-file={}", self.net.ca_file().display()));
        arguments.extend(self.flags.iter().map(|flag| (*flag).to_owned()));
        let hosts: BTreeSet<&str> =
            self.references.iter().filter_map(|r| Some(r.split_once('/')?.0)).collect();
        for host in hosts {
            let place = self.elsewhere.get(host).cloned().unwrap_or_else(|| self.source.url());
            arguments.push(format!("--source-mirror={host}={place}"));
        }
        let cli = Cli::try_from_arguments(arguments).expect("valid arguments");
        let mut options = Options::new(cli, &|_| None).expect("valid options");
        let timing = &mut options.policy.timing;
        timing.first_pause = Duration::from_millis(10);
        timing.longest_pause = Duration::from_millis(80);
        timing.connect = Duration::from_secs(5);
        for limit in [&mut timing.answer, &mut timing.stall, &mut timing.commit] {
            *limit = Duration::from_secs(10);
        }
        options.policy.retries = self.retries.unwrap_or(options.policy.retries);
        policy(&mut options.policy);
        options
    }

    #[track_caller]
    pub fn run(&self) -> Run {
        self.run_with(|_| {})
    }

    /// Mirrors all references and judges what has become of the target.
    #[track_caller]
    pub fn run_with(&self, policy: impl FnOnce(&mut Policy)) -> Run {
        self.run_until(std::future::pending(), policy)
    }

    /// The same, interrupted once `interrupted` has come.
    #[track_caller]
    pub fn run_until(&self, interrupted: impl Future<Output = ()>, policy: impl FnOnce(&mut Policy)) -> Run {
        let before = Before::of(self);
        let began = Instant::now();
        let report = self.mirror(policy, interrupted);
        let run = Run { report, took: began.elapsed() };
        self.judge(&before, &run);
        run
    }

    /// For what the judge cannot know; the test has to look at the target itself.
    #[track_caller]
    pub fn run_unjudged(&self) -> Report {
        self.mirror(|_| {}, std::future::pending())
    }

    /// What `--check` says.
    pub fn check(&self) -> Check {
        let (options, selection) = (self.options(|_| {}), self.selection());
        self.net
            .block_on(mirror_images::check(&options, selection, Arc::new(|_| {})))
            .expect("a registry is no layout")
    }

    fn selection(&self) -> Selection {
        let image = |text: &String| SelectedImage::new(&text.parse().expect("a reference"));
        let images = self.references.iter().map(image).collect();
        Selection { images, ..Selection::default() }
    }

    #[track_caller]
    fn mirror(&self, policy: impl FnOnce(&mut Policy), interrupted: impl Future<Output = ()>) -> Report {
        let (options, selection) = (self.options(policy), self.selection());
        let run = mirror_images::run(&options, selection, Arc::new(|_| {}), interrupted);
        let report = self.net.block_on(async { tokio::time::timeout(self.budget, run).await });
        let report =
            report.unwrap_or_else(|_| panic!("no end within {:?}\n{}", self.budget, self.journal().dump()));
        report.expect("a registry is no layout")
    }

    /// What is true after every run, whatever went wrong in it.
    #[track_caller]
    fn judge(&self, before: &Before, run: &Run) {
        let report = &run.report;
        let (images, referrers): (Vec<&Line>, Vec<&Line>) =
            report.images.iter().partition(|line| line.refers_to.is_none());
        assert_eq!(images.len(), self.references.len(), "{report}");
        let counted = [report.copied, report.present, report.failed, report.left];
        assert_eq!(counted.iter().sum::<usize>(), report.images.len(), "{report}");
        assert_eq!(report.exit() == Exit::Done, report.failed + report.left == 0, "{report}");
        images.into_iter().for_each(|line| self.judge_line(before, line));
        referrers.into_iter().for_each(|line| self.judge_referrer(line));
        let broken: Vec<String> = self.target.incomplete_tags();
        let news: Vec<&String> = broken.iter().filter(|tag| !before.incomplete.contains(tag)).collect();
        assert!(news.is_empty(), "incomplete: {news:?}\n{}", self.journal().dump());
        self.journal().assert_tag_last("target");
        self.journal().assert_no_authorization_outside(&self.trusted);
        self.judge_mounts();
    }

    #[track_caller]
    fn judge_line(&self, before: &Before, line: &Line) {
        let (repository, tag) = self.destination(&line.source);
        assert_eq!(line.target, format!("{}/{repository}:{tag}", self.target.host()));
        if !matches!(line.result, Status::Copied | Status::Present) {
            let there = self.target.digest_of(&repository, &tag);
            let was = before.tags.get(&(repository.clone(), tag.clone())).cloned();
            assert_eq!(there, was, "{repository}:{tag} failed, and yet its tag has moved");
            let cause = line.cause.as_deref().expect("what is not done has a cause");
            assert!(cause.len() <= 1024 && !cause.contains('\n'), "{} bytes: {cause}", cause.len());
            return;
        }
        let reader = Reader::new(self.net.client(), &self.judge.url());
        match self.net.block_on(reader.read(&repository, &tag, Depth::Bytes)) {
            Ok(tree) => assert_eq!(tree.root, self.wanted(&line.source), "{repository}:{tag}"),
            Err(faults) => {
                panic!("{repository}:{tag} is said to be there: {faults}\n{}", self.journal().dump())
            }
        }
    }

    /// What is about an image is whole, or has a cause.
    #[track_caller]
    fn judge_referrer(&self, line: &Line) {
        if !matches!(line.result, Status::Copied | Status::Present) {
            assert!(line.cause.is_some(), "{}", line.target);
            return;
        }
        let (_, path) = line.target.split_once('/').expect("a host");
        let (repository, name) = path.split_once('@').or_else(|| path.split_once(':')).expect("a name");
        let reader = Reader::new(self.net.client(), &self.judge.url());
        match self.net.block_on(reader.read(repository, name, Depth::Bytes)) {
            Ok(tree) => assert!(name.contains(".sig") || tree.root == name, "{}: {}", line.target, tree.root),
            Err(faults) => panic!("{} is said to be there: {faults}", line.target),
        }
    }

    /// A mount names where from, and that is a repository of the target.
    #[track_caller]
    fn judge_mounts(&self) {
        let mut ours: BTreeSet<String> =
            self.references.iter().map(|reference| self.destination(reference).0).collect();
        ours.extend(self.target.content().repositories.into_keys());
        for mount in self.journal().of("target", Op::Mount) {
            let from = parameter(&mount, "from");
            assert!(from.as_ref().is_some_and(|from| ours.contains(from)), "{mount}");
        }
    }

    /// Reads everything back, and counts: what a second, undisturbed run does.
    #[track_caller]
    pub fn heal(&self) {
        self.source.clear_faults();
        self.target.clear_faults();
        let again = self.run();
        assert_eq!(again.report.failed + again.report.left, 0, "{}", again.report);
    }
}

/// A parameter of a query.
pub fn parameter(entry: &Entry, name: &str) -> Option<String> {
    let query = entry.query.as_deref().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The target before a run.
struct Before {
    tags: BTreeMap<(String, String), Digest>,
    incomplete: Vec<String>,
}

impl Before {
    fn of(scene: &Scene) -> Self {
        let content = scene.target.content();
        let tags = content
            .tags()
            .map(|(repository, tag, digest)| ((repository.to_owned(), tag.to_owned()), digest.clone()));
        Self { tags: tags.collect(), incomplete: scene.target.incomplete_tags() }
    }
}

impl Run {
    /// Everything is there, one way or the other.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!((self.report.failed, self.report.left), (0, 0), "{}", self.report);
        self
    }

    /// Only the image of this repository failed; its cause.
    #[track_caller]
    pub fn failed_alone(&self, repository: &str) -> String {
        let failed: Vec<&Line> =
            self.report.images.iter().filter(|line| line.result == Status::Failed).collect();
        assert_eq!(failed.len(), 1, "{}", self.report);
        assert_eq!(place_of(&failed[0].source).0, repository, "{}", self.report);
        assert_eq!(self.report.left, 0, "{}", self.report);
        failed[0].cause.clone().expect("a failure has a cause")
    }

    /// The cause for which this repository's image failed.
    #[track_caller]
    pub fn cause(&self, repository: &str) -> String {
        let mut lines = self.report.images.iter();
        let line = lines.find(|line| place_of(&line.source).0 == repository);
        let cause = line.and_then(|line| line.cause.clone());
        cause.unwrap_or_else(|| panic!("{repository} did not fail: {}", self.report))
    }
}

/// The statuses that a host gave to one kind of request, in order.
pub fn statuses(journal: &Journal, host: &str, op: Op) -> Vec<u16> {
    journal.of(host, op).into_iter().filter_map(|entry| entry.status).collect()
}

/// What the target was asked to store of this blob, by its uploads' closing requests.
pub fn puts_of(journal: &Journal, digest: &str) -> Vec<Entry> {
    journal.filter(|e| e.host == "target" && e.op == Op::UploadPut && e.digest.as_deref() == Some(digest))
}

/// What the source was asked of this blob.
pub fn gets_of(journal: &Journal, digest: &str) -> Vec<Entry> {
    journal.filter(|e| e.host == "source" && e.op == Op::BlobGet && e.reference == digest)
}
