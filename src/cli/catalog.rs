//! The flags of `mirror-images catalog`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{OutputArgs, SourceArgs};

#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub struct CatalogArgs {
    #[command(subcommand)]
    pub command: Option<CatalogCommand>,
}

/// What there is to do with a catalog besides printing it.
#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// Tell which versions the catalog knows, how old it is and what is pinned
    Info(InfoArgs),
    /// Ask, by HEAD, whether each image of the catalog exists, has its pinned digest and its platforms. Exit 1 where
    /// one does not
    Verify(VerifyArgs),
    /// Record which digest each image of the catalog has now
    Pin(PinArgs),
    /// Print the JSON Schema of a catalog's documents
    Schema,
}

// The catalog that a subcommand is about.
#[derive(Debug, Args)]
#[command(next_help_heading = "Catalog")]
pub struct WhichArgs {
    /// Take this catalog instead of the one that the program carries
    #[arg(long, value_name = "FILE")]
    pub catalog: Option<PathBuf>,
}

// The images of it that are asked for, and how many at a time.
#[derive(Debug, Args)]
#[command(next_help_heading = "Catalog")]
pub struct AskedArgs {
    /// Only the images of this KubeOne release, such as 1.13 with all its patch releases, or 1.13.2, and of the versions
    /// of Kubernetes that it supports. Left out: those of all
    #[arg(long, value_name = "RELEASE")]
    pub kubeone_version: Option<String>,

    /// Images that one host is asked for at a time
    #[arg(short, long, default_value = "16", value_name = "N")]
    pub parallel: NonZeroUsize,
}

#[derive(Debug, Args)]
pub struct InfoArgs {
    #[command(flatten)]
    pub which: WhichArgs,

    /// Count the records of this file instead of those that the program carries
    #[arg(long, value_name = "FILE")]
    pub pins: Option<PathBuf>,

    /// Form of what is told
    #[arg(short, long, value_enum, default_value_t = super::Format::Text, value_name = "FORMAT")]
    pub output: super::Format,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    #[command(flatten)]
    pub asked: AskedArgs,

    /// Compare with the digests in this file instead of those that the program carries
    #[arg(long, value_name = "FILE")]
    pub pins: Option<PathBuf>,

    /// Ask for these platforms of each image too, as os/arch[/variant] (repeatable). Left out: for those that its record
    /// has, where its tag has moved. What only a pull would tell is not asked for at Docker Hub
    #[arg(long, value_delimiter = ',', value_name = "PLATFORM")]
    pub platform: Vec<String>,

    #[command(flatten)]
    pub sources: SourceArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct PinArgs {
    /// Keep what this file has and is still so, and write the file anew; one that is not there begins with the records
    /// that the program carries. Left out: print the records
    pub file: Option<PathBuf>,

    #[command(flatten)]
    pub which: WhichArgs,
    #[command(flatten)]
    pub asked: AskedArgs,

    /// Record the platforms of each image too, with their sizes; at Docker Hub each counts as a pull
    #[arg(long)]
    pub platforms: bool,

    /// Remove the records of images that the catalog does not have
    #[arg(long, conflicts_with = "kubeone_version")]
    pub prune: bool,

    #[command(flatten)]
    pub sources: SourceArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}
