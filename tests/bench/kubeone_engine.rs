//! Builds the peer that is written in Go: the engine of `kubeone mirror-images`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/kubeone_engine");

/// The program, built below cargo's target directory; an error says what was missing.
pub fn build() -> Result<PathBuf, String> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubeone_engine");
    let output = Command::new("go")
        .args(["build", "-mod=readonly", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(SOURCE)
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => "go is not on PATH".to_owned(),
            _ => format!("go build: {error}"),
        })?;
    if output.status.success() {
        Ok(program)
    } else {
        Err(format!("go build: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
