//! The tools that are compared, and how each is told to mirror the set.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arena::{Arena, Place};
use crate::kubeone_engine;
use crate::options::Options;
use crate::set::Set;
use crate::support::Failure;

/// This tool's name in tables.
pub const OURS: &str = env!("CARGO_PKG_NAME");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    Crane,
    Skopeo,
    Regctl,
    Regsync,
    KubeOne,
}

#[derive(Clone, Debug)]
pub struct Tool {
    kind: Kind,
    pub name: &'static str,
    program: PathBuf,
    pub version: String,
}

/// What a tool is to do, ready to be run; files that it reads are in `home`.
pub struct Orders {
    pub commands: Vec<Command>,
    pub at_once: usize,
    _home: tempfile::TempDir,
}

/// This tool, and those of the others that are there.
pub fn find(options: &Options) -> Vec<Tool> {
    let mut tools = builds(options);
    let others = [
        (Kind::Crane, "crane", "version"),
        (Kind::Skopeo, "skopeo", "--version"),
        (Kind::Regctl, "regctl", "version"),
        (Kind::Regsync, "regsync", "version"),
    ];
    for (kind, name, how) in others.into_iter().filter(|(_, name, _)| options.wants_peer(name)) {
        match on_path(name) {
            Some(program) => tools.push(Tool { kind, name, version: version(&program, how), program }),
            None => eprintln!("{name} is skipped: it is not on PATH"),
        }
    }
    if options.wants_peer("kubeone") {
        let (kind, name) = (Kind::KubeOne, "kubeone's engine");
        match kubeone_engine::build() {
            Ok(program) => tools.push(Tool { kind, name, version: version(&program, "version"), program }),
            Err(why) => eprintln!("{name} is skipped: {why}"),
        }
    }
    tools
}

/// This tool, and another build of it if one was named.
pub fn builds(options: &Options) -> Vec<Tool> {
    let ours = PathBuf::from(env!("CARGO_BIN_EXE_mirror-images"));
    let programs = [(OURS, Some(ours)), ("rival", options.rival.clone())];
    let programs = programs.into_iter().filter_map(|(name, program)| Some((name, program?)));
    programs
        .map(|(name, program)| Tool {
            kind: Kind::Ours,
            name,
            version: version(&program, "--version"),
            program,
        })
        .collect()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).map(|place| place.join(name)).find(|program| program.is_file())
}

/// The first thing that looks like a version in what the program says.
pub fn version(program: &Path, how: &str) -> String {
    let output = Command::new(program).arg(how).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let number = |word: &&str| {
        let word = word.trim_start_matches('v');
        word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit())
    };
    said.split_whitespace().find(number).unwrap_or("of unknown version").to_owned()
}

impl Tool {
    /// Mirrors the whole set from the source to `target`.
    pub fn orders(&self, arena: &Arena<'_>, set: &Set, target: &Place) -> Result<Orders, Failure> {
        let home = tempfile::tempdir()?;
        let (from, to) = (arena.source.addr().to_string(), target.addr().to_string());
        let way = Way { options: arena.options, ca: &arena.net.ca_file(), from: &from, to: &to };
        let job = Job { tool: self, way, home: home.path() };
        let names =
            set.images.iter().map(|image| format!("{}/{}:{}", image.host, image.repository, image.tag));
        let (commands, at_once) = match self.kind {
            Kind::Ours => (vec![job.ours(names, &set.hosts())?], 1),
            Kind::Regsync => (vec![job.regsync(set)?], 1),
            Kind::KubeOne => (vec![job.kubeone(set)], 1),
            _ => (job.one_by_one(set)?, arena.options.parallel),
        };
        Ok(Orders { commands, at_once, _home: home })
    }

    /// Mirrors images of these names, all on `host`; for builds of this tool.
    pub fn mirror(
        &self,
        way: Way<'_>,
        names: impl Iterator<Item = String>,
        host: &str,
    ) -> Result<Orders, Failure> {
        let home = tempfile::tempdir()?;
        let command = Job { tool: self, way, home: home.path() }.ours(names, &[host])?;
        Ok(Orders { commands: vec![command], at_once: 1, _home: home })
    }
}

/// From which address to which, and how.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    pub options: &'a Options,
    /// The file with the authority that both sides have their certificates of.
    pub ca: &'a Path,
    pub from: &'a str,
    pub to: &'a str,
}

struct Job<'a> {
    tool: &'a Tool,
    way: Way<'a>,
    home: &'a Path,
}

impl Job<'_> {
    /// In an environment that has nothing of the machine's own.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.tool.program);
        command.env_clear().env("HOME", self.home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if self.way.options.tls {
            command.env("SSL_CERT_FILE", self.way.ca);
        }
        command
    }

    fn ours(&self, names: impl Iterator<Item = String>, hosts: &[&str]) -> Result<Command, Failure> {
        let list = self.home.join("images");
        std::fs::write(&list, names.map(|name| name + "\n").collect::<String>())?;
        let scheme = if self.way.options.tls { "https" } else { "http" };
        let mut command = self.command();
        command.arg("--images-from").arg(list).args(["--progress", "none"]);
        command.arg(format!("--parallel={}", self.way.options.parallel));
        for host in hosts {
            command.arg(format!("--source-mirror={host}={scheme}://{}", self.way.from));
        }
        command.arg(self.way.to);
        Ok(command)
    }

    fn kubeone(&self, set: &Set) -> Command {
        let mut command = self.command();
        command.arg(format!("-p={}", self.way.options.parallel));
        command.args(self.pairs(set).flat_map(|(from, to)| [from, to]));
        command
    }

    /// A process for each image and name.
    fn one_by_one(&self, set: &Set) -> Result<Vec<Command>, Failure> {
        let plain = !self.way.options.tls;
        if self.tool.kind == Kind::Regctl && plain {
            let hosts =
                [self.way.from, self.way.to].map(|host| format!("\"{host}\": {{\"tls\": \"disabled\"}}"));
            std::fs::write(
                self.home.join("regctl.json"),
                format!("{{\"hosts\": {{{}}}}}", hosts.join(", ")),
            )?;
        }
        let pairs = self.pairs(set);
        let commands = pairs.map(|(from, to)| {
            let mut command = self.command();
            match self.tool.kind {
                Kind::Crane => {
                    command.arg("copy").args(plain.then_some("--insecure")).args([from, to]);
                }
                Kind::Skopeo => {
                    // Without this it compresses again what is no gzip, which generated layers are not.
                    command.args(["copy", "--all", "--preserve-digests"]);
                    if plain {
                        command.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
                    }
                    command.args([format!("docker://{from}"), format!("docker://{to}")]);
                }
                _ => {
                    command.env("REGCTL_CONFIG", self.home.join("regctl.json"));
                    command.args(["image", "copy", &from, &to]);
                }
            }
            command
        });
        Ok(commands.collect())
    }

    fn regsync(&self, set: &Set) -> Result<Command, Failure> {
        let parallel = self.way.options.parallel;
        let mut text = format!("version: 1\ndefaults:\n  parallel: {parallel}\n");
        if !self.way.options.tls {
            text += "creds:\n";
            for host in [self.way.from, self.way.to] {
                writeln!(text, "  - registry: {host:?}\n    tls: disabled")?;
            }
        }
        text += "sync:\n";
        for (from, to) in self.pairs(set) {
            writeln!(text, "  - source: {from:?}\n    target: {to:?}\n    type: image")?;
        }
        let file = self.home.join("regsync.yaml");
        std::fs::write(&file, text)?;
        let mut command = self.command();
        command.args(["once", "--config"]).arg(file);
        Ok(command)
    }

    fn pairs<'s>(&'s self, set: &'s Set) -> impl Iterator<Item = (String, String)> + 's {
        set.images.iter().flat_map(move |image| {
            let from = format!("{}/{}:{}", self.way.from, image.repository, image.tag);
            let to = image.destinations.iter().map(|place| format!("{}/{place}:{}", self.way.to, image.tag));
            to.map(move |to| (from.clone(), to))
        })
    }
}
