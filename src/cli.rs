//! The command line: flags, their help and nothing else.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::util::{size, text};

mod catalog;
mod inventory;

pub use inventory::InventoryArgs;

pub use catalog::{AskedArgs, CatalogArgs, CatalogCommand, InfoArgs, PinArgs, VerifyArgs, WhichArgs};

/// Mirror the container images of a KubeOne cluster into a registry of your own.
///
/// Knows, offline, which images a KubeOne cluster of a given Kubernetes version needs; pulls them from where they
/// are published and pushes them to TARGET, all platforms, byte for byte, many at once. Content that the target has
/// is not moved again, so an interrupted run is repaired by running it again.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Where the images go: a registry with an optional path, such as registry.example.com:5000,
    /// ghcr.io/acme/kubeone or [::1]:5000 (also from TARGET_REGISTRY); or files: oci:DIR, an image layout,
    /// oci-archive:FILE, the same as one tar file, or oci-archive:-, the same on standard output
    pub target: Option<String>,

    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub transfer: TransferArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What the program does besides mirroring. A target with one of these names is named by `--registry`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the catalog that the program carries, in the form that --catalog reads; tell its span and age, ask whether
    /// all of it exists, or record digests
    Catalog(Box<CatalogArgs>),
    /// Print what makes a cluster pull from TARGET what was mirrored there
    Config(Box<ConfigArgs>),
    /// Print which images and blobs a registry or a layout has, for --have
    Inventory(Box<InventoryArgs>),
    /// Print the JSON Schema of a catalog's documents, or of a lock and an inventory
    Schema { name: SchemaName },
    /// Print completions for a shell
    Completions { shell: Shell },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaName {
    /// What --catalog takes
    Catalog,
    /// What --lock and --have take, and --lock-out and inventory give
    Lock,
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Where the images were mirrored to, as for a run
    pub target: Option<String>,

    /// Whose configuration to print
    #[arg(long, value_enum, default_value_t = ConfigFormat::Kubeone)]
    pub format: ConfigFormat,

    /// The target speaks plain HTTP or shows a certificate that nobody vouches for
    #[arg(long)]
    pub insecure: bool,

    #[command(flatten)]
    pub selection: SelectionArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConfigFormat {
    /// KubeOne's registryConfiguration: one registry for all images
    Kubeone,
    /// KubeOne's containerRuntime.containerd.registries: a mirror for each upstream host
    KubeoneContainerd,
    /// containerd's hosts.toml, one file for each upstream host
    Containerd,
    /// kubeadm's ClusterConfiguration, one for each version of Kubernetes
    Kubeadm,
    /// The registries.yaml of k3s and RKE2
    K3s,
}

const AFTER_HELP: &str = "\
Examples:
  mirror-images --filter base -k v1.36.3 registry.example.com:5000
  mirror-images --dry-run -k 1.35 registry.example.com:5000/kubeone
  mirror-images --manifest kubeone.yaml registry.example.com:5000
  mirror-images --check --images-from list.txt registry.example.com
  mirror-images --check --deep --manifest kubeone.yaml registry.example.com
  mirror-images --source-mirror docker.io=cache.example.com registry.example.com
  mirror-images --lock lock.json registry.example.com
  mirror-images -k 1.36.4 --have have.json oci-archive:delta.tar
  mirror-images -k 1.36.3 --split fat32 oci-archive:/media/stick/images.tar
  mirror-images --from oci-archive:/media/stick/images.tar registry.example.com
  mirror-images -m kubeone.yaml oci-archive:- | ssh node ctr -n k8s.io images import -

Environment:
  TARGET_REGISTRY, KUBERNETES_VERSION (or KUBERNETES_VERSIONS) and
  PULL_OPTIONAL_IMAGES=false are what image-loader.sh takes; a flag beats its
  variable. REGISTRY_AUTH_FILE, DOCKER_CONFIG, HTTPS_PROXY, HTTP_PROXY,
  ALL_PROXY, NO_PROXY, SSL_CERT_FILE, NO_COLOR and RUST_LOG mean what they
  mean elsewhere.

Exit status:
  0    all done
  1    some images failed, --check or catalog verify found something, no image has a
       platform that is named, or the result or the report could not be written
  2    wrong use; nothing was requested
  3    the target refused everything (credentials, read-only, unreachable)
  130  interrupted (143 by SIGTERM, 129 by SIGHUP)";

#[derive(Debug, Args)]
#[command(next_help_heading = "Selection")]
pub struct SelectionArgs {
    /// The groups wanted, each exactly itself, together their union. Left out, or none: all three
    #[arg(long, value_enum, value_delimiter = ',', value_name = "GROUP")]
    pub filter: Vec<Filter>,

    /// Kubernetes versions, with or without v; a minor alone (1.35) is its newest known patch. Left out: every known
    /// patch of the minors that the newest KubeOne release supports
    #[arg(short, long, value_delimiter = ',', value_name = "VERSION")]
    pub kubernetes_versions: Vec<String>,

    /// Take the addons of this KubeOne release, such as 1.13, its newest patch release, or 1.13.2. Left out: for each Kubernetes version the newest
    /// release that supports it
    #[arg(long, value_name = "RELEASE")]
    pub kubeone_version: Option<String>,

    /// What this KubeOne cluster pulls: version, provider, CNI, features and addons of the manifest choose the
    /// images; its registryConfiguration is the target if none is named
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["provider", "cni"])]
    pub manifest: Option<PathBuf>,

    /// What a cluster on this cloud provider pulls: its controller manager and CSI drivers, beside the CNI and
    /// what KubeOne deploys by default (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "PROVIDER")]
    pub provider: Vec<String>,

    /// The same by CNI: canal, cilium, weavenet, or external for none; left out, canal (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "CNI")]
    pub cni: Vec<String>,

    /// The images of this addon of KubeOne's as well, such as cluster-autoscaler (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "ADDON")]
    pub addon: Vec<String>,

    /// This image, named in full or as docker takes it (repeatable). Beside other flags of this section it adds to
    /// the selection; alone it is the selection
    #[arg(long, value_name = "REF")]
    pub image: Vec<String>,

    /// The images of this list, one reference a line, # for comments; or all that the Kubernetes YAML in it
    /// names; - is standard input (repeatable)
    #[arg(long, value_name = "FILE")]
    pub images_from: Vec<PathBuf>,

    /// Take this catalog instead of the one that the program carries; mirror-images catalog prints that one
    #[arg(long, value_name = "FILE")]
    pub catalog: Option<PathBuf>,

    /// Only these platforms of each image, as os/arch[/variant] (repeatable); all is every one, also of an index that
    /// an earlier run has left partial. Left out: every one, but an index that is there is taken for whole
    #[arg(long, value_delimiter = ',', value_name = "PLATFORM")]
    pub platform: Vec<String>,

    /// Let an image whose digest is pinned get another one where the target takes no index that names platforms
    /// which are not there
    #[arg(long, requires = "platform")]
    pub platform_repin: bool,

    /// The same as TARGET, as kubeone mirror-images spells it
    #[arg(long, value_name = "TARGET")]
    pub registry: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Filter {
    /// What every cluster runs: a CNI, machine-controller, metrics-server and the like
    Base,
    /// What some clusters run: cloud providers, CSI drivers, other addons
    Optional,
    /// What kubeadm and the container runtime pull: kube-*, etcd, CoreDNS, pause
    ControlPlane,
    /// All groups, as KubeOne calls it
    None,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Transfer")]
pub struct TransferArgs {
    /// Print one SOURCE → TARGET line for each image and stop: no network
    #[arg(long)]
    pub dry_run: bool,

    /// Read both sides, write nothing: what is there, missing or different, and what a run would move. Exit 1
    /// where there is something to do. A layout alone, as in --check oci-archive:FILE, is read and hashed without asking anybody
    #[arg(long, conflicts_with = "dry_run")]
    pub check: bool,

    /// With --check or --repair, look below the tags that are right: size asks the target for each blob, bytes reads
    /// them all and holds them against their digests
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "size")]
    pub deep: Option<Deep>,

    /// Mirror, and send again what is missing or damaged below tags that are right, as --check --deep finds it
    #[arg(long)]
    pub repair: bool,

    /// Images in flight
    #[arg(short, long, visible_alias = "parallel-image-copy-limit", default_value = "10", value_name = "N")]
    pub parallel: NonZeroUsize,

    /// Take images from here instead of where they are published: from oci:DIR, an image layout, from oci-archive:FILE,
    /// the same as one tar file, or from a registry that has been filled. Without flags of the section Selection all images of a layout are taken (repeatable)
    #[arg(long, value_name = "STORE")]
    pub from: Vec<String>,

    /// When saving into a layout: leave out the layers that the other side has, by an inventory or a lock in this file, or by
    /// a layout, named oci:DIR or oci-archive:FILE (repeatable)
    #[arg(long, value_name = "FILE")]
    pub have: Vec<String>,

    /// Write an archive in parts of at most this size: fat32 (or 4GiB, which is the same), dvd, or such as 700MiB. They are
    /// FILE.001 and so on, plain cuts of the archive, with FILE.sha256 for sha256sum -c
    #[arg(long, value_name = "SIZE", value_parser = size::parse_part)]
    pub split: Option<u64>,

    #[command(flatten)]
    pub sources: SourceArgs,

    /// Hold what is mirrored to the digests in this file instead of those that the program carries; mirror-images
    /// catalog pin writes such files
    #[arg(long, value_name = "FILE")]
    pub pins: Option<PathBuf>,

    /// Mirror exactly the images of this lock, each with exactly its digest; with flags of the section Selection those of
    /// them. With --check, and without --from, the target alone is asked whether it has them
    #[arg(long, value_name = "FILE", conflicts_with = "pins")]
    pub lock: Option<PathBuf>,

    /// Write to this file which digest each image has, with its platforms, their sizes, and why it was chosen; and what
    /// is missing
    #[arg(long, value_name = "FILE")]
    pub lock_out: Option<PathBuf>,

    /// Sign a receipt of what was mirrored with this private key, P-256 or Ed25519 as openssl genpkey writes it: a Sigstore
    /// bundle beside the lock, as FILE.sigstore.json
    #[arg(long, value_name = "PEM", requires = "lock_out")]
    pub sign_key: Option<PathBuf>,

    /// Believe the lock only if the receipt beside it, FILE.sigstore.json, is signed by this public key
    #[arg(long, value_name = "PEM", requires = "lock")]
    pub verify_key: Option<PathBuf>,

    /// Take a tag that has moved away from its pinned digest, and say so
    #[arg(long)]
    pub accept_moved: bool,

    /// Write an archive although images failed; it is without them, and the report names them. For oci-archive:FILE alone
    #[arg(long)]
    pub allow_incomplete: bool,

    /// Leave what the target has under a name: where it differs, that name fails
    #[arg(long)]
    pub no_clobber: bool,

    /// Copy layers too that are marked as not to be distributed, as those of Windows: from the registry, or else from
    /// the addresses that the manifest names
    #[arg(long)]
    pub include_foreign: bool,

    /// Copy what refers to the images too: signatures, attestations and SBOMs, as the registry lists them or cosign has
    /// tagged them
    #[arg(long)]
    pub referrers: bool,

    /// The target, and only the target, may speak plain HTTP or show a certificate that nobody vouches for
    #[arg(long)]
    pub insecure: bool,

    /// Log in at the target as this user
    #[arg(long, value_name = "USER", requires = "password_stdin")]
    pub username: Option<String>,

    /// Read the password for --username from standard input
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
}

// How sources are reached, and how patiently: of a run, and of whatever asks sources alone.
#[derive(Debug, Args)]
#[command(next_help_heading = "Transfer")]
pub struct SourceArgs {
    /// Pull what belongs to HOST from PLACE, such as docker.io=cache.example.com/dockerhub (repeatable; http:// is
    /// allowed in PLACE)
    #[arg(long, value_name = "HOST=PLACE")]
    pub source_mirror: Vec<String>,

    /// Tries beyond the first for what may pass: network trouble, overload
    #[arg(long, default_value = "5", value_name = "N")]
    pub retries: u32,

    /// Longest time that a request waits because a server asks it to, such as 90s, 15m or 6h; what has to wait longer
    /// fails at once
    #[arg(long, default_value = "15m", value_name = "TIME", value_parser = text::parse_duration)]
    pub max_wait: Duration,

    /// Give a transfer up and go on with it anew where no byte has moved for so long, and a request that has no answer
    /// by then
    #[arg(long, default_value = "1m", value_name = "TIME", value_parser = text::parse_duration)]
    pub stall_timeout: Duration,

    /// Largest manifest that is read, in MiB; many registries take no larger ones
    #[arg(long, default_value_t = 4, value_name = "MIB", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub max_manifest_size: u8,

    /// Trust these certificate authorities besides the system's (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Logins, in the form of docker's config.json, looked into before all other places
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Deep {
    /// Each blob is asked for, with its size
    Size,
    /// All bytes are read as well, and held against their digests
    Bytes,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Form of the final report, the check or the dry run on standard output
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,

    /// Write the same to this file as well, as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// How progress is shown on standard error. auto: bars on a terminal, else lines
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto)]
    pub progress: ProgressMode,

    /// Form of log messages on standard error
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT", id = "log_format")]
    pub log_format: Format,

    /// Say more: retries and waits; twice, every request. In a dry run, who asks for each image; in catalog verify, every image
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    Auto,
    Bars,
    Lines,
    None,
}

impl Cli {
    /// Reads the program's own arguments.
    ///
    /// # Errors
    /// What is to be printed in their place: for `--help`, for `--version`, or about a mistake.
    pub fn from_arguments() -> Result<Self, clap::Error> {
        Self::try_parse()
    }

    /// Reads the arguments of a test.
    ///
    /// # Errors
    /// What clap would print.
    pub fn try_from_arguments<T: Into<OsString> + Clone>(
        arguments: impl IntoIterator<Item = T>,
    ) -> Result<Self, clap::Error> {
        Self::try_parse_from(arguments)
    }

    /// What makes `shell` complete the program's arguments.
    pub fn completions(shell: Shell) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Self::command(), env!("CARGO_PKG_NAME"), &mut script);
        script
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn targets_and_subcommands_stand_side_by_side() {
        let cli = |words: &[&str]| Cli::try_from_arguments([&["mirror-images"], words].concat());
        for target in ["registry", "registry:5000", "catalogue", "conf"] {
            let parsed = cli(&["--filter", "base", target]).unwrap();
            assert!(parsed.command.is_none());
            assert_eq!(parsed.target.as_deref(), Some(target));
        }
        assert_eq!(cli(&["--registry", "config"]).unwrap().selection.registry.as_deref(), Some("config"));
        assert!(matches!(cli(&["catalog"]).unwrap().command, Some(Command::Catalog(_))));
        let Some(Command::Catalog(catalog)) =
            cli(&["catalog", "verify", "--platform", "a/b,c/d"]).unwrap().command
        else {
            panic!()
        };
        let Some(CatalogCommand::Verify(verify)) = catalog.command else { panic!() };
        assert_eq!((verify.platform.len(), verify.asked.parallel.get()), (2, 16));
        assert!(cli(&["catalog", "r:5000"]).is_err());
        let Some(Command::Config(config)) = cli(&["config", "--filter", "base", "r:5000"]).unwrap().command
        else {
            panic!()
        };
        assert_eq!((config.target.as_deref(), config.selection.filter), (Some("r:5000"), vec![Filter::Base]));
        assert!(cli(&["--dry-run", "config", "r:5000"]).is_err());
        assert!(!Cli::completions(Shell::Bash).is_empty());
    }
}
