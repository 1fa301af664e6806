//! The built program, run as a user runs it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use base64::Engine as _;

/// A command line of the program, in an environment that has nothing of the machine's own.
pub struct Program {
    command: Command,
    home: tempfile::TempDir,
    stdin: Option<String>,
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
        Self { command, home, stdin: None }
    }

    /// The same under a umask that keeps nothing private by itself.
    pub fn with_umask_zero(arguments: &[&str]) -> Self {
        let mut program = Self::new(&[]);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "umask 0; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_mirror-images")]);
        command.args(arguments).env_clear().env("HOME", program.home.path()).stdin(Stdio::null());
        program.command = command;
        program
    }

    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What the program reads on standard input.
    pub fn stdin(mut self, text: &str) -> Self {
        self.command.stdin(Stdio::piped());
        self.stdin = Some(text.to_owned());
        self
    }

    /// The path of a file below the home directory, there or not.
    pub fn home(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    /// Writes a file below the home directory.
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.home(path);
        std::fs::create_dir_all(path.parent().expect("it is below the home")).expect("a home of one's own");
        std::fs::write(path, content).expect("a file of one's own");
        self
    }

    /// A credential helper on a PATH that has nothing else: a shell script.
    pub fn helper(self, name: &str, script: &str) -> Self {
        let directory = self.home("bin");
        std::fs::create_dir_all(&directory).expect("a home of one's own");
        // Written by a child: while this process had it open for writing, another test's child could inherit it, and
        // the script could not be run.
        let write = "cat > \"$0\" && chmod 700 \"$0\"";
        let mut shell = Command::new("/bin/sh")
            .args(["-c", write])
            .arg(directory.join(format!("docker-credential-{name}")))
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut stdin = shell.stdin.take().expect("it was asked for");
        write!(stdin, "#!/bin/sh\n{script}\n").expect("it reads");
        drop(stdin);
        assert!(shell.wait().expect("a shell ends").success());
        self.env("PATH", directory)
    }

    /// What `docker login` leaves behind, for one host.
    pub fn login(self, host: &str, user: &str, password: &str) -> Self {
        self.file(".docker/config.json", auths(host, user, password))
    }

    /// With so many file descriptors at most.
    pub fn with_files(self, most: u32) -> Self {
        self.after(&format!("ulimit -n {most}"))
    }

    /// With so much memory at most, in KiB.
    pub fn with_memory(self, most: u64) -> Self {
        self.after(&format!("ulimit -v {most}"))
    }

    /// In a shell that has done this before.
    pub fn after(mut self, before: &str) -> Self {
        let mut limited = Command::new("/bin/sh");
        limited.args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]);
        limited.arg(self.command.get_program()).args(self.command.get_args());
        limited.env_clear().envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        limited.stdin(Stdio::null());
        self.command = limited;
        self
    }

    pub fn run(mut self) -> Ended {
        // Temporary files have a place of their own, so that one can see what is left of them.
        let place = self.home("tmp");
        std::fs::create_dir_all(&place).expect("a directory of one's own");
        self.command.env("TMPDIR", place);
        let left = |home: &Path| std::fs::read_dir(home.join("tmp")).expect("it is still there").count();
        let (ended, left) = self.start().wait_and(left);
        assert_eq!(left, 0, "temporary files are left behind");
        ended
    }

    /// Runs it with standard output into a file.
    pub fn run_into(mut self, file: &Path) -> Ended {
        let file = std::fs::File::create(file).expect("a file of one's own");
        let output = self.command.stdout(file).stderr(Stdio::piped()).output().expect("it can be started");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        Ended { code: output.status.code(), stdout: String::new(), stderr }
    }

    /// Starts it without waiting; its output is read by [`Running::wait`].
    pub fn start(mut self) -> Running {
        let child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the program can be started");
        if let (Some(mut stdin), Some(text)) = (child.stdin.take(), self.stdin) {
            // A program that ends before it has read all of it says why by itself.
            let _ = stdin.write_all(text.as_bytes());
        }
        let stderr = child.stderr.take().map(BufReader::new);
        Running { child, stderr, heard: String::new(), home: self.home }
    }
}

/// A file of logins with one entry, as docker and podman write it.
pub fn auths(host: &str, user: &str, password: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    serde_json::json!({ "auths": { host: { "auth": pair } } }).to_string()
}

/// Killed when dropped, so that a failed test leaves nothing behind.
pub struct Running {
    pub child: Child,
    pub stderr: Option<BufReader<ChildStderr>>,
    heard: String,
    home: tempfile::TempDir,
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

    pub fn wait(self) -> Ended {
        self.wait_and(|_| ()).0
    }

    /// Looks at the home directory after the end, before it is gone.
    pub fn wait_and<T>(mut self, look: impl FnOnce(&Path) -> T) -> (Ended, T) {
        let (mut stdout, mut stderr) = (String::new(), std::mem::take(&mut self.heard));
        let (out, err) = (self.child.stdout.take(), self.stderr.take());
        std::thread::scope(|scope| {
            scope.spawn(|| err.map(|mut pipe| pipe.read_to_string(&mut stderr)));
            out.map(|mut pipe| pipe.read_to_string(&mut stdout));
        });
        let status = self.child.wait().expect("the program can be waited for");
        (Ended { code: status.code(), stdout, stderr }, look(self.home.path()))
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
