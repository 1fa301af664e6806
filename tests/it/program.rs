//! The built program, run as a user runs it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use base64::Engine as _;

/// A command line of the program, in an environment that has nothing of the machine's own.
pub struct Program {
    command: Command,
    home: tempfile::TempDir,
}

/// What a finished run said.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    pub fn new(arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a directory for the program's home");
        let mut command = Command::new(env!("CARGO_BIN_EXE_mirror-images"));
        command.args(arguments).env_clear().env("HOME", home.path()).stdin(Stdio::null());
        Self { command, home }
    }

    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What `docker login` leaves behind, for one host.
    pub fn login(self, host: &str, user: &str, password: &str) -> Self {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let config = serde_json::json!({ "auths": { host: { "auth": pair } } });
        let directory = self.home.path().join(".docker");
        std::fs::create_dir(&directory).expect("no login before");
        std::fs::write(directory.join("config.json"), config.to_string()).expect("a file of one's own");
        self
    }

    /// With so many file descriptors at most.
    pub fn with_files(mut self, most: u32) -> Self {
        let mut limited = Command::new("/bin/sh");
        limited.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")]);
        limited.arg(self.command.get_program()).args(self.command.get_args());
        limited.env_clear().envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        limited.stdin(Stdio::null());
        self.command = limited;
        self
    }

    pub fn run(mut self) -> Ended {
        self.keep_tidy();
        let ended = Ended::from(self.command.output().expect("the program can be started"));
        self.assert_tidy();
        ended
    }

    /// Temporary files have a place of their own, so that one can see what is left of them.
    fn keep_tidy(&mut self) {
        let place = self.home.path().join("tmp");
        std::fs::create_dir_all(&place).expect("a directory of one's own");
        self.command.env("TMPDIR", place);
    }

    /// Nothing is left behind, neither in the home nor among temporary files.
    #[track_caller]
    fn assert_tidy(&self) {
        let names = |path: std::path::PathBuf| {
            let entries = std::fs::read_dir(path).expect("it is still there");
            entries.map(|entry| entry.expect("an entry").file_name()).collect::<Vec<_>>()
        };
        assert_eq!(names(self.home.path().join("tmp")), Vec::<std::ffi::OsString>::new());
        let stray = names(self.home.path().to_owned());
        let ours = |name: &&std::ffi::OsString| !["tmp", ".docker"].iter().any(|ours| *name == ours);
        assert_eq!(stray.iter().filter(ours).collect::<Vec<_>>(), Vec::<&std::ffi::OsString>::new());
    }

    /// Starts it without waiting; its output is read by [`Running::wait`].
    pub fn start(mut self) -> Running {
        let child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the program can be started");
        let stderr = child.stderr.take().map(BufReader::new);
        Running { child, stderr, heard: String::new(), _home: self.home }
    }
}

/// Killed when dropped, so that a failed test leaves nothing behind.
pub struct Running {
    pub child: Child,
    pub stderr: Option<BufReader<ChildStderr>>,
    heard: String,
    _home: tempfile::TempDir,
}

impl Running {
    /// Sends a signal, such as `INT`.
    pub fn signal(&self, name: &str) {
        send_signal(self.child.id(), name);
    }

    /// Reads standard error up to the first line with this text.
    #[track_caller]
    pub fn hear(&mut self, text: &str) {
        let stderr = self.stderr.as_mut().expect("it is still open");
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            let read = stderr.read_line(&mut line).expect("standard error is UTF-8");
            self.heard.push_str(&line);
            assert!(read > 0, "it ended without {text:?}:\n{}", self.heard);
        }
    }

    pub fn wait(mut self) -> Ended {
        let (mut stdout, mut stderr) = (String::new(), std::mem::take(&mut self.heard));
        let (out, err) = (self.child.stdout.take(), self.stderr.take());
        std::thread::scope(|scope| {
            scope.spawn(|| err.map(|mut pipe| pipe.read_to_string(&mut stderr)));
            out.map(|mut pipe| pipe.read_to_string(&mut stdout));
        });
        let status = self.child.wait().expect("the program can be waited for");
        Ended { code: status.code(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// To a child that has not been waited for yet.
pub fn send_signal(process: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &process.to_string()]).status();
    assert!(status.expect("kill can be started").success(), "no signal for {process}");
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
        }
    }
}

impl Ended {
    /// The JSON report of `-o json`.
    pub fn report(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no report ({e}): {self:?}"))
    }

    pub fn number(&self, field: &str) -> u64 {
        self.report()[field].as_u64().unwrap_or_else(|| panic!("no number {field}: {self:?}"))
    }

    /// The lines of the report by result: `copied`, `present`, `failed`, `left`.
    pub fn sources_by_result(&self) -> BTreeMap<String, Vec<String>> {
        let mut lines = BTreeMap::<String, Vec<String>>::new();
        for line in self.report()["images"].as_array().expect("the report lists images") {
            let text = |key: &str| line[key].as_str().expect("a text").to_owned();
            lines.entry(text("result")).or_default().push(text("source"));
        }
        lines
    }

    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }
}
