//! A git repository in a temporary directory that stands for an upstream project.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

pub struct Checkout {
    directory: TempDir,
}

impl Checkout {
    pub fn new() -> Self {
        let checkout = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        checkout.git(&["init", "--quiet"], "");
        checkout
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it is below the directory")).expect("directories");
        std::fs::write(path, text).expect("a file");
        self
    }

    pub fn files(&self, files: &[(&str, &str)]) -> &Self {
        for (path, text) in files {
            self.file(path, text);
        }
        self
    }

    /// The text of a file with each `from` replaced; all of them have to be in it.
    pub fn edit(&self, path: &str, edits: &[(&str, &str)]) -> &Self {
        let mut text = std::fs::read_to_string(self.path().join(path)).expect("the file");
        for (from, to) in edits {
            assert!(text.contains(from), "{from:?} is not in {path}");
            text = text.replace(from, to);
        }
        self.file(path, &text)
    }

    pub fn remove(&self, path: &str) -> &Self {
        std::fs::remove_file(self.path().join(path)).expect("the file");
        self
    }

    /// Commits all files and tags the commit, on that day.
    pub fn tag(&self, tag: &str, day: &str) -> &Self {
        self.git(&["add", "--all"], day);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", tag], day);
        self.git(&["tag", "--annotate", "--message", tag, tag], day);
        self
    }

    /// Another name for the newest commit, as a tag that is no object of its own.
    pub fn name(&self, tag: &str) -> &Self {
        self.git(&["tag", tag], "");
        self
    }

    /// The files of a tag once more.
    pub fn restore(&self, tag: &str) -> &Self {
        self.git(&["checkout", "--quiet", tag, "--", "."], "");
        self
    }

    pub fn forget(&self, tag: &str) -> &Self {
        self.git(&["tag", "--delete", tag], "");
        self
    }

    /// A bare copy, which has no work tree.
    pub fn bare(&self) -> TempDir {
        let bare = tempfile::tempdir().expect("a temporary directory");
        let path = bare.path().to_str().expect("UTF-8").to_owned();
        self.git(&["clone", "--quiet", "--bare", ".", &path], "");
        bare
    }

    fn git(&self, arguments: &[&str], day: &str) {
        let mut git = Command::new("git");
        // What somebody has configured for themselves is of no concern here.
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), "Upstream");
            git.env(format!("GIT_{role}_EMAIL"), "upstream@example.com");
            if !day.is_empty() {
                git.env(format!("GIT_{role}_DATE"), format!("{day}T12:00:00Z"));
            }
        }
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            git.env_remove(variable);
        }
        let output = git.arg("-C").arg(self.path()).args(arguments).output().expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
