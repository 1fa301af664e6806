//! What the user wants, resolved: every default and every rule between flags and environment is here.

use std::io::{IsTerminal as _, Read as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::cli::{
    Cli, ConfigArgs, ConfigFormat, Deep, Format, OutputArgs, ProgressMode, SourceArgs, TransferArgs,
};
use crate::image::platforms::{Platform, Platforms};
use crate::image::reference::{Host, Target};
use crate::plan::Rules;
use crate::receipt::SigningKey;
use crate::record::Made;
use crate::selection::Choice;
use crate::selection::catalog::Pins;
use crate::store::Depth;
use crate::store::name::{Form, StoreName};
use crate::store::patience::{Policy, Timing};
use crate::store::registry::Scheme;
use crate::store::registry::credentials::{Given as GivenLogins, Keyring, Login, Secret};
use crate::store::registry::proxies::Proxies;
use crate::store::registry::tls::Trust;
use crate::util::text::quoted;

mod catalog;
mod choice;
mod inventory;
mod records;
mod supply;

pub use catalog::{Asked, PinOptions, VerifyOptions, pins};
use choice::{Given, chooses_images, chosen};
pub use inventory::InventoryOptions;
pub use records::{Have, Lock};
use records::{check_lock_out, check_without_sources, have, made, signing_key};
pub use supply::Supply;

/// Longest password that is read, in bytes.
const PASSWORD_MAX: u64 = 64 << 10;

/// Everything that a run depends on.
#[derive(Debug)]
pub struct Options {
    pub choice: Choice,
    pub platforms: Arc<Platforms>,
    pub rules: Rules,
    pub target: StoreName,
    pub target_scheme: Scheme,
    /// Most bytes of a part of an archive that is the target; `None` for one file.
    pub split: Option<u64>,
    /// Where images are taken from, if not from where they are published.
    pub from: Supply,
    /// The digests that images have to have.
    pub pins: Arc<Pins>,
    /// What the other side has of layers that are to be saved.
    pub have: Vec<Have>,
    /// The images that are to be mirrored, with their digests, by an earlier run.
    pub lock: Option<Lock>,
    /// The target is held against that alone.
    pub by_lock: bool,
    /// Where to write what the run has found out of its images.
    pub lock_out: Option<PathBuf>,
    /// What signs a receipt of that.
    pub sign_key: Option<Arc<SigningKey>>,
    /// What that says of who made it.
    pub made: Made,
    pub source_mirrors: Vec<SourceMirror>,
    pub mode: Mode,
    pub parallel: NonZeroUsize,
    pub policy: Policy,
    pub trust: Trust,
    pub proxies: Arc<Proxies>,
    pub keyring: Arc<Keyring>,
    pub output: OutputOptions,
}

/// How sources are reached.
#[derive(Debug, Clone)]
pub struct Access {
    pub mirrors: Vec<SourceMirror>,
    pub policy: Policy,
    pub trust: Trust,
    pub proxies: Arc<Proxies>,
    pub keyring: Arc<Keyring>,
}

impl Access {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            mirrors: options.source_mirrors.clone(),
            policy: options.policy.clone(),
            trust: options.trust.clone(),
            proxies: options.proxies.clone(),
            keyring: options.keyring.clone(),
        }
    }

    /// Without logins and proxies where there `is_offline` nothing to be asked.
    fn new(
        sources: &SourceArgs,
        login: Option<(Host, Login)>,
        get: Environment<'_>,
        is_offline: bool,
    ) -> Result<Self> {
        let mut trust = Trust::default().with_usual_directories();
        if let Some(path) = &sources.ca_file {
            trust = trust.with_bundle(path).context("--ca-file")?;
        }
        let (keyring, proxies) = if is_offline {
            Default::default()
        } else {
            Trust::check_environment()?;
            let given = GivenLogins { target: login, authfile: sources.authfile.clone() };
            (Keyring::new(given, get)?, Proxies::new(get)?)
        };
        Ok(Self {
            mirrors: source_mirrors(&sources.source_mirror)?,
            policy: policy(sources),
            trust,
            proxies: Arc::new(proxies),
            keyring: Arc::new(keyring),
        })
    }
}

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Name what would be done, without the network.
    DryRun,
    /// Find out what there is to do, and write nothing.
    Check,
    /// Hold a layout against its own names, and ask nobody.
    Audit,
    Mirror,
}

/// How the program talks.
#[derive(Debug, Clone)]
pub struct OutputOptions {
    pub format: Format,
    pub report: Option<PathBuf>,
    pub progress: ProgressMode,
    pub log_format: Format,
    pub verbose: u8,
    pub quiet: bool,
}

impl From<OutputArgs> for OutputOptions {
    fn from(arguments: OutputArgs) -> Self {
        Self {
            format: arguments.output,
            report: arguments.report,
            progress: arguments.progress,
            log_format: arguments.log_format,
            verbose: arguments.verbose,
            quiet: arguments.quiet,
        }
    }
}

impl OutputOptions {
    /// For what prints a text and is done.
    pub fn plain() -> Self {
        Self {
            format: Format::Text,
            report: None,
            progress: ProgressMode::None,
            log_format: Format::Text,
            verbose: 0,
            quiet: false,
        }
    }
}

/// What `mirror-images config` depends on.
#[derive(Debug)]
pub struct ConfigOptions {
    pub choice: Choice,
    pub target: Target,
    pub insecure: bool,
    pub format: ConfigFormat,
}

impl ConfigOptions {
    /// # Errors
    /// What the user has to put right, in words that say how.
    pub fn new(arguments: ConfigArgs, environment: Environment<'_>) -> Result<Self> {
        let get = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        let ConfigArgs { target, format, insecure, selection } = arguments;
        let (choice, target, insecure) =
            chosen(target.as_deref(), selection, insecure, Given::nothing(), &get)?;
        let StoreName::Registry(target) = target else {
            bail!("{target}: a cluster pulls from a registry: name the one that the images are loaded into")
        };
        Ok(Self { choice, target, insecure, format })
    }
}

/// What belongs to `host` is pulled from another place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceMirror {
    pub host: Host,
    pub place: Target,
    pub scheme: Scheme,
}

impl FromStr for SourceMirror {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (host, place) = text.split_once('=').ok_or_else(|| {
            anyhow!("it has the form HOST=PLACE, as in docker.io=cache.example.com/dockerhub")
        })?;
        let (scheme, place) = match (place.strip_prefix("http://"), place.strip_prefix("https://")) {
            (Some(place), _) => (Scheme::Http, place),
            (_, Some(place)) => (Scheme::Https, place),
            _ => (Scheme::Https, place),
        };
        Ok(Self { host: host.parse()?, place: place.parse()?, scheme })
    }
}

/// The variables of the process, or those of a test.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Options {
    /// # Errors
    /// What the user has to put right, in words that say how.
    pub fn new(cli: Cli, environment: Environment<'_>) -> Result<Self> {
        let get = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        let mode = match (cli.transfer.dry_run, cli.transfer.check) {
            (true, _) => Mode::DryRun,
            (false, true) => Mode::Check,
            (false, false) => Mode::Mirror,
        };
        let deep = deep(&cli.transfer)?;
        let chooses_nothing = !chooses_images(&cli.selection) && cli.transfer.from.is_empty();
        check_report(&cli.output)?;
        let policy = policy(&cli.transfer.sources);
        let from = Supply::new(&cli.transfer.from, &policy)?;
        let verify_key = cli.transfer.verify_key.as_deref();
        for (flag, is_given) in
            [("--accept-moved", cli.transfer.accept_moved), ("--referrers", cli.transfer.referrers)]
        {
            ensure!(
                verify_key.is_none() || !is_given,
                "{flag} takes what nobody has signed, and --verify-key believes only what is: leave one of them out"
            );
        }
        let lock = cli.transfer.lock.as_deref().map(|path| Lock::read(path, verify_key)).transpose()?;
        let given = Given { lock: lock.as_ref(), from: &from };
        let named_platforms = cli.selection.platform.clone();
        let repin = cli.selection.platform_repin;
        let (choice, target, insecure) =
            chosen(cli.target.as_deref(), cli.selection, cli.transfer.insecure, given, &get)?;
        let mode = match (mode, &target) {
            (Mode::Check, StoreName::Layout(_)) if chooses_nothing && lock.is_none() => Mode::Audit,
            (mode, _) => mode,
        };
        let platforms =
            platforms(&named_platforms, repin, mode == Mode::Check || deep.is_some() && mode != Mode::Audit)?;
        from.check_beside(&target, &cli.transfer.sources.source_mirror)?;
        let is_archive = matches!(&target, StoreName::Layout(layout) if layout.form == Form::Archive);
        ensure!(
            !cli.transfer.allow_incomplete || is_archive && matches!(mode, Mode::Mirror | Mode::DryRun),
            "--allow-incomplete has an archive written although an image failed, as in mirror-images \
             --allow-incomplete oci-archive:FILE: a registry and a directory keep what they got in any case, and \
             what has gone to standard output cannot be changed any more"
        );
        for (flag, file) in [("--report", &cli.output.report), ("--lock-out", &cli.transfer.lock_out)] {
            if let (StoreName::Layout(layout), Some(file)) = (&target, file) {
                let file_name = file.display();
                ensure!(!layout.holds(file), "{flag} {file_name} would be written into {layout}, the target");
            }
        }
        check_lock_out(cli.transfer.lock_out.as_deref(), mode)?;
        let by_lock = lock.is_some() && mode == Mode::Check && matches!(from, Supply::Upstream);
        if by_lock {
            check_without_sources(&cli.transfer)?;
        }
        let is_recorded = cli.transfer.lock_out.is_some() || target.registry().is_none();
        let have = have(&cli.transfer.have, &target)?;
        let made = made(is_recorded && mode != Mode::DryRun, &get)?;
        check_split(cli.transfer.split, &target)?;
        if target.is_stream() {
            check_stream(mode, &cli.output)?;
        }
        let offline = mode == Mode::DryRun;
        let login = if offline { None } else { login(cli.transfer.username.as_deref(), &target)? };
        let Access { mirrors, policy, trust, proxies, keyring } =
            Access::new(&cli.transfer.sources, login, &get, offline)?;
        Ok(Self {
            choice,
            // Whatever reads files may want all that an index names.
            platforms: Arc::new(match target {
                StoreName::Registry(_) => platforms,
                StoreName::Layout(_) => platforms.with_all_manifests(),
            }),
            rules: Rules {
                no_clobber: cli.transfer.no_clobber,
                include_foreign: cli.transfer.include_foreign,
                referrers: cli.transfer.referrers,
                accept_moved: cli.transfer.accept_moved,
                allow_incomplete: cli.transfer.allow_incomplete,
                // Its names say nothing of what is below them, and to read it costs nobody a request.
                deep: if target.is_stream() {
                    None
                } else {
                    deep.or(target.registry().is_none().then_some(Depth::Bytes))
                },
            },
            target_scheme: if insecure { Scheme::Insecure } else { Scheme::Https },
            target,
            split: cli.transfer.split,
            from,
            pins: match &lock {
                Some(lock) => Arc::new(Pins::of_lock(&lock.document)),
                None => pins(cli.transfer.pins.as_deref())?,
            },
            have,
            lock,
            by_lock,
            made,
            sign_key: signing_key(cli.transfer.sign_key.as_deref(), mode)?,
            lock_out: cli.transfer.lock_out,
            source_mirrors: mirrors,
            mode,
            parallel: cli.transfer.parallel,
            policy,
            trust,
            proxies,
            keyring,
            output: cli.output.into(),
        })
    }
}

fn check_report(output: &OutputArgs) -> Result<()> {
    ensure!(
        output.report.as_deref() != Some(Path::new("-")),
        "--report -: the report goes to a file; -o json prints it to standard output, and a file of that name is ./-"
    );
    Ok(())
}

/// # Errors
/// Standard output is to be an archive and something else, or nobody would read the archive there.
fn check_stream(mode: Mode, output: &OutputArgs) -> Result<()> {
    ensure!(
        !matches!(mode, Mode::Check | Mode::Audit),
        "--check compares with what is there, and oci-archive:- is not there before it is written: name a file"
    );
    if mode == Mode::DryRun {
        return Ok(());
    }
    ensure!(
        output.output == Format::Text || output.report.is_some(),
        "-o json prints the report where oci-archive:- writes the archive: --report FILE puts it into a file"
    );
    ensure!(
        !std::io::stdout().is_terminal(),
        "oci-archive:- writes to standard output, which is a terminal: pipe it into a program, as in \
         mirror-images … oci-archive:- | ctr -n k8s.io images import -, or name a file"
    );
    Ok(())
}

/// # Errors
/// What is to be split is no archive, or is called as one of its parts would be.
fn check_split(split: Option<u64>, target: &StoreName) -> Result<()> {
    let StoreName::Layout(layout) = target else {
        ensure!(
            split.is_none(),
            "--split writes an archive in parts, and {target} is none: name oci-archive:FILE"
        );
        return Ok(());
    };
    ensure!(
        split.is_none() || layout.form != Form::Stream,
        "--split writes an archive in parts, and standard output is one: name oci-archive:FILE"
    );
    ensure!(
        split.is_none() || layout.form == Form::Archive,
        "--split writes an archive in parts, and {layout} is a directory: name oci-archive:FILE"
    );
    ensure!(
        split.is_none() || !layout.is_named_as_a_part(),
        "--split gives {layout} further names such as {layout}.001: leave out the number"
    );
    Ok(())
}

fn policy(sources: &SourceArgs) -> Policy {
    let usual = Timing::default();
    let timing = Timing {
        longest_wait: sources.max_wait,
        stall: sources.stall_timeout,
        // Whoever waits no longer for a byte waits no longer for the first one. An upload's last answer has a time of its
        // own, for a registry may have much to do before it.
        answer: sources.stall_timeout.min(usual.answer),
        ..usual
    };
    Policy { retries: sources.retries, timing, manifest_max: usize::from(sources.max_manifest_size) << 20 }
}

/// How closely the target is looked at below tags that are right; `None` where they are believed.
fn deep(transfer: &TransferArgs) -> Result<Option<Depth>> {
    let TransferArgs { deep, repair, check, dry_run, .. } = *transfer;
    ensure!(
        !(repair && check),
        "--repair writes, and --check does not: --check --deep tells what --repair would find"
    );
    ensure!(
        !(repair && dry_run),
        "--repair asks the target, and --dry-run uses no network: --check --deep tells what --repair would find"
    );
    ensure!(
        deep.is_none() || repair || check,
        "--deep says how closely to look: add --check to be told what is missing or damaged, or --repair to have it \
         sent again"
    );
    let depth = |deep| match deep {
        Deep::Size => Depth::Size,
        Deep::Bytes => Depth::Bytes,
    };
    Ok(deep.or(repair.then_some(Deep::Size)).map(depth))
}

/// A check looks `closely` unasked: whoever checks wants to know.
fn platforms(named: &[String], repin: bool, closely: bool) -> Result<Platforms> {
    if named.iter().any(|text| text.trim() == "all") {
        return Ok(Platforms::every());
    }
    if named.is_empty() {
        return Ok(if closely { Platforms::every() } else { Platforms::default() });
    }
    let wanted = named.iter().map(|text| text.parse::<Platform>().context("--platform"));
    Ok(Platforms::new(wanted.collect::<Result<_>>()?, repin))
}

/// The login at the target that the command line names. The password comes by standard input, never as an argument, which
/// every process on the machine can read.
fn login(user: Option<&str>, target: &StoreName) -> Result<Option<(Host, Login)>> {
    let Some(user) = user else { return Ok(None) };
    let Some(target) = target.registry() else {
        bail!("--username is for a registry that is the target, and {target} is none")
    };
    let mut password = String::new();
    let read = std::io::stdin().lock().take(PASSWORD_MAX + 1).read_to_string(&mut password);
    let read = read.context("cannot read the password from standard input")?;
    ensure!(
        read as u64 <= PASSWORD_MAX,
        "--password-stdin: standard input holds more than the {} KiB that a password may have",
        PASSWORD_MAX >> 10
    );
    let password = password.trim_end_matches(['\r', '\n']);
    ensure!(!password.is_empty(), "--password-stdin: standard input holds no password");
    let login = Login {
        user: user.to_owned(),
        password: Secret::new(password.to_owned()),
        identity_token: None,
        origin: "--username".to_owned(),
    };
    Ok(Some((target.host.clone(), login)))
}

fn source_mirrors(texts: &[String]) -> Result<Vec<SourceMirror>> {
    let mut mirrors: Vec<SourceMirror> = Vec::new();
    for text in texts {
        let mirror: SourceMirror =
            text.parse().with_context(|| format!("--source-mirror {}", quoted(text)))?;
        if let Some(other) = mirrors.iter().find(|other| other.host == mirror.host && **other != mirror) {
            bail!(
                "--source-mirror names two places for {}: {} and {}",
                mirror.host,
                other.place,
                mirror.place
            );
        }
        mirrors.push(mirror);
    }
    Ok(mirrors)
}

#[cfg(test)]
mod tests;
