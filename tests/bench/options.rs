//! What can be asked of the benchmark.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Mirrors one generated set of images with this tool and with others, in turn, and compares what it costs.
///
/// The others are crane, skopeo, regctl and regsync, where they are on PATH, and "kubeone's engine": the crane.Copy of
/// go-containerregistry for all images in one process, built from a few lines of Go (tests/bench/kubeone_engine) where Go
/// is on PATH and its module proxy in reach. KubeOne itself copies one image at a time, which --parallel 1 shows.
///
/// The table has medians. "First blob after" is the time from the start of the program until the source has handed out
/// its first blob, in round trips where --delay makes them; it is read off the source's log, so by its end and not its
/// beginning. With --rate the share of the line that was filled is told below the table.
///
/// With --scale nothing is compared, but this tool (and --rival) measured against the number of images: a config and one or
/// two tiny layers each, some shared, every fifth image with two platforms, in a twentieth as many repositories, all of it
/// from and into registries inside the benchmark. It shows time and CPU for each image, which should stay the same
/// whatever their number, and the memory, which should be at most 64 MiB and 2 KiB for each image.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench mirror --", bin_name = "cargo bench --bench mirror --")]
pub struct Options {
    /// The same images with blobs of a fiftieth of the size
    #[arg(long)]
    pub small: bool,

    /// How often each tool has its turn
    #[arg(long, default_value = "3", value_name = "N")]
    pub rounds: usize,

    /// Images at a time: of this tool by its flag, of others by so many processes
    #[arg(long, default_value = "10", value_name = "N")]
    pub parallel: usize,

    /// Time that a round trip to either registry takes
    #[arg(long, default_value = "0", value_name = "MS")]
    delay: u64,

    /// What the line to the source carries, over all connections
    #[arg(long, value_name = "MBIT")]
    pub rate: Option<u64>,

    /// Speak TLS on both sides
    #[arg(long)]
    pub tls: bool,

    /// Another registry program for the target, such as distribution 3; started as PROGRAM serve CONFIG
    #[arg(long, value_name = "PROGRAM")]
    pub target_program: Option<PathBuf>,

    /// Only these of the other tools (crane, skopeo, regctl, regsync, kubeone); none for this tool alone
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub peers: Option<Vec<String>>,

    /// Keep the source's data here, for the next time
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,

    /// Another build of this tool to have its turn as well
    #[arg(long, value_name = "PROGRAM")]
    pub rival: Option<PathBuf>,

    /// Instead of the comparison: so many tiny images, first into nothing and then again
    #[arg(long, value_delimiter = ',', value_name = "N", conflicts_with_all = ["small", "peers", "keep", "target_program"])]
    pub scale: Vec<NonZeroUsize>,

    /// Says cargo, to tell a benchmark from a test
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// `None` unless this is meant to be a benchmark: `cargo test --benches` runs the program as well.
    pub fn from_arguments() -> Option<Self> {
        std::env::args().any(|argument| argument == "--bench" || argument == "--help").then(Self::parse)
    }

    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.delay)
    }

    pub fn wants_peer(&self, name: &str) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.iter().any(|peer| peer == name))
    }

    /// The conditions, in words.
    pub fn conditions(&self) -> String {
        let set = if !self.scale.is_empty() {
            "tiny images"
        } else if self.small {
            "small variant"
        } else {
            "full set"
        };
        let mut words = vec![set.to_owned()];
        words.push(if self.tls { "TLS" } else { "plain HTTP" }.to_owned());
        words.push(match self.delay {
            0 => "loopback".to_owned(),
            delay => format!("{delay} ms round trips"),
        });
        words.extend(self.rate.map(|rate| format!("{rate} Mbit/s from the source")));
        words.push(format!("{} images at a time, {} rounds", self.parallel, self.rounds));
        words.join(", ")
    }
}
