//! The flags of `mirror-images inventory`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::{Format, ProgressMode, SelectionArgs, SourceArgs};

#[derive(Debug, Args)]
pub struct InventoryArgs {
    /// The place to ask: a registry with an optional path, oci:DIR or oci-archive:FILE. Without flags of the section
    /// Selection a registry is asked for the images of every version of the newest KubeOne, and all of a layout is taken
    pub store: Option<String>,

    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Ask for the images of this lock
    #[arg(long, value_name = "FILE", help_heading = "Selection")]
    pub lock: Option<PathBuf>,

    /// Images that are asked for at a time
    #[arg(short, long, default_value = "16", value_name = "N", help_heading = "Transfer")]
    pub parallel: NonZeroUsize,

    #[command(flatten)]
    pub sources: SourceArgs,

    /// The registry may speak plain HTTP or show a certificate that nobody vouches for
    #[arg(long, help_heading = "Transfer")]
    pub insecure: bool,

    /// Log in there as this user
    #[arg(long, value_name = "USER", requires = "password_stdin", help_heading = "Transfer")]
    pub username: Option<String>,

    /// Read the password for --username from standard input
    #[arg(long, requires = "username", help_heading = "Transfer")]
    pub password_stdin: bool,

    /// How progress is shown on standard error. auto: bars on a terminal, else lines
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto, help_heading = "Output")]
    pub progress: ProgressMode,

    /// Form of log messages on standard error
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT", help_heading = "Output")]
    pub log_format: Format,

    /// Say more: retries and waits; twice, every request
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,

    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub quiet: bool,
}
