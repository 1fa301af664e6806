//! The program alone in the root of a file system, as in a container that has nothing else (H05).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::Ended;
use crate::single::Single;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mirror-images");

/// Ways to change the root directory: as root, as root of a namespace of one's own, by leave of the machine.
const WAYS: [&[&str]; 3] =
    [&["chroot"], &["unshare", "--map-root-user", "chroot"], &["sudo", "-n", "chroot"]];

struct EmptyRoot {
    directory: tempfile::TempDir,
    way: &'static [&'static str],
}

impl EmptyRoot {
    /// None, and said so, where this user may not change the root directory.
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory for the root");
        let place = directory.path().join("mirror-images");
        std::fs::hard_link(PROGRAM, &place).unwrap_or_else(|_| copy(&[PROGRAM.into()], &[], &place));
        copy(&libraries(), &["--parents"], directory.path());
        let works = |way: &&&[&str]| {
            let run = command(way, directory.path()).arg("--version").output();
            run.is_ok_and(|output| output.status.success())
        };
        if let Some(way) = WAYS.iter().find(works) {
            return Some(Self { way, directory });
        }
        let hint = "this user may not change the root directory (by chroot, unshare or sudo)";
        assert!(!std::env::var("CI").is_ok_and(|value| value == "true"), "{hint}");
        eprintln!("SKIPPED: {hint}");
        None
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let output =
            command(self.way, self.directory.path()).args(arguments).output().expect("it ran before");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

fn command(way: &[&str], root: &Path) -> Command {
    let mut command = Command::new(way[0]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(&way[1..]).arg(root).arg("/mirror-images");
    command
}

/// What the program is linked with, if it is not static.
fn libraries() -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(PROGRAM).output().expect("ldd comes with the C library");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// By a child: a file that this process had open for writing could not be run while another child inherits it.
fn copy(files: &[PathBuf], options: &[&str], to: &Path) {
    if !files.is_empty() {
        let status = Command::new("cp").arg("--dereference").args(options).args(files).arg(to).status();
        assert!(status.expect("cp can be started").success(), "{files:?}");
    }
}

/// How many public authorities the program says it carries.
#[track_caller]
fn carried(ended: &Ended) -> usize {
    let told = "this system has no certificate authorities: trusting the ";
    let (_, rest) = ended.stderr.split_once(told).unwrap_or_else(|| panic!("no {told:?} in {ended:?}"));
    rest.split(' ').next().and_then(|count| count.parse().ok()).expect("a number")
}

/// The public roots are there, an authority of one's own is added to them, and that there are no others is told.
#[test]
fn a_system_without_authorities_gets_the_public_ones_that_the_program_carries() {
    let Some(root) = EmptyRoot::new() else { return };
    let single = Single::new();
    let target = single.net.registry("target").tls().start();
    let host = target.host();
    let arguments: Vec<&str> = [host.as_str(), "-v"].into_iter().chain(single.arguments()).collect();
    let run = root.run(&arguments).expect(3);
    assert!(carried(&run) > 100, "{}", run.stderr);
    assert!(run.stdout.contains("UnknownIssuer"), "{}", run.stdout);
    assert!(run.stdout.contains("this system has none, so only public ones are"), "{}", run.stdout);

    std::fs::write(root.directory.path().join("ca.pem"), &single.net.ca().pem).expect("a file of one's own");
    let run = root.run(&[&arguments[..], &["--ca-file", "/ca.pem"]].concat()).expect(0);
    assert!(carried(&run) > 100, "{}", run.stderr);
    single.assert_mirrored(&target.url(), None);
}
