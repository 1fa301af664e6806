//! Programs that take images from files as a node does: containerd with its `ctr`, and podman.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Failure;

/// A containerd of its own, with nothing in it; killed when dropped.
pub struct Containerd {
    child: Child,
    address: PathBuf,
    _directory: tempfile::TempDir,
}

impl Containerd {
    /// Starts it and waits until it answers.
    pub fn start() -> Result<Self, Failure> {
        let directory = tempfile::tempdir()?;
        let [root, state, address, config] =
            ["root", "state", "c.sock", "c.toml"].map(|name| directory.path().join(name));
        // The part for the kubelet would look for more than images.
        let without =
            ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"];
        std::fs::write(&config, format!("version = 2\ndisabled_plugins = {without:?}\n"))?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(config).arg("--root").arg(root).arg("--state").arg(state);
        command.arg("--address").arg(&address).stdout(Stdio::null()).stderr(Stdio::null());
        let containerd = Self { child: command.spawn()?, address, _directory: directory };
        let patience = Instant::now() + Duration::from_secs(30);
        while containerd.ctr(&["version"]).is_err() {
            if Instant::now() > patience {
                return Err("containerd does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(containerd)
    }

    /// The same as a shell takes it.
    pub fn command_line(&self, arguments: &[&str]) -> String {
        format!("ctr --address '{}' --namespace k8s.io {}", self.address.display(), arguments.join(" "))
    }

    /// Runs ctr where the kubelet's images are, and returns its output.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.address).args(["--namespace", "k8s.io"]);
        output_of(command.args(arguments))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs podman with a storage of its own below `directory`, and returns its output.
pub fn podman(directory: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new("podman");
    command.arg("--root").arg(directory.join("root")).arg("--runroot").arg(directory.join("run"));
    output_of(command.args(["--storage-driver", "vfs"]).args(arguments))
}

fn output_of(command: &mut Command) -> Result<String, Failure> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Whether this user may start what only root may.
pub fn is_root() -> bool {
    let root = rustix::process::getuid().is_root();
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(root || !in_ci, "containerd and podman are started as root");
    if !root {
        eprintln!("SKIPPED: containerd and podman are started as root");
    }
    root
}
