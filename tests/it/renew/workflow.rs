//! The workflow that renews the catalog every week: who may do what in it, and what its scripts do.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::process::require;

const PINS: &str = "src/selection/catalog/pins.json";

fn text() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/.github/workflows/renew.yml");
    std::fs::read_to_string(path).expect("the workflow")
}

/// The steps of a job.
fn steps(job: &str) -> Vec<Value> {
    let workflow: Value = serde_saphyr::from_str(&text()).expect("it is YAML");
    workflow["jobs"][job]["steps"].as_array().expect("steps").clone()
}

/// What a step runs.
fn script(job: &str, name: &str) -> String {
    let steps = steps(job);
    let step = steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}"));
    step["run"].as_str().expect("a script").to_owned()
}

/// An action without its commit.
fn action(used: &str) -> String {
    used.split('@').next().unwrap_or_default().to_owned()
}

#[test]
fn only_the_job_that_runs_nobodys_code_may_write() {
    let text = text();
    let (renews, proposes) = text.split_once("\n  propose:\n").expect("two jobs");
    for step in ["--example renew -- --kubeone", ".ci/run", "catalog verify", "catalog pin"] {
        assert!(renews.contains(step) && !proposes.contains(step), "{step}");
    }
    assert!(!renews.contains(": write") && !renews.contains("github.token"));
    assert!(!proposes.contains("cargo"));
    assert_eq!(text.matches(": write").count(), 2, "more is granted than to push and to propose");
    // Of actions it has those that bring the project and what is to be proposed.
    let uses: Vec<_> = steps("propose").iter().filter_map(|step| step["uses"].as_str().map(action)).collect();
    assert_eq!(uses, ["actions/checkout", "actions/download-artifact"]);
    assert_eq!(steps("propose").len(), 3);
    let words = ["git ", "gh ", "if ", "else", "fi", "#", "body="];
    for line in script("propose", "Push a branch and propose it").lines().map(str::trim_start) {
        assert!(words.iter().any(|word| line.starts_with(word)), "{line}");
    }
    // What upstream has written reaches a shell as the value of a variable, never as its words.
    for script in ["renew", "propose"].into_iter().flat_map(steps).filter_map(|step| step.get("run").cloned())
    {
        assert!(!script.as_str().expect("a script").contains("${{"), "{script}");
    }
    assert!(text.contains("shell: bash"), "a failure before a pipe would pass unseen");
}

#[test]
fn moved_tags_are_looked_for_before_they_are_recorded_and_tests_see_what_is_recorded() {
    let steps = steps("renew");
    let at = |wanted: &str| {
        let runs = |step: &Value| step["run"].as_str().is_some_and(|run| run.contains(wanted));
        steps.iter().position(runs).unwrap_or_else(|| panic!("no step runs {wanted}"))
    };
    let order = ["--example renew", "catalog verify", "catalog pin", ".ci/run", "git diff --cached"].map(at);
    assert!(order.is_sorted(), "{order:?}");
    // Upstreams that do not answer, and tests that fail, keep nobody from proposing the rest.
    assert!(order[1..4].iter().all(|step| steps[*step]["continue-on-error"] == true));
    let pin = script("renew", "Record what every image is");
    for word in ["--platforms", "--prune", PINS, "timeout --signal=INT"] {
        assert!(pin.contains(word), "{word}: {pin}");
    }
}

/// A runner with two clones of a small project, one for each job.
struct Runner {
    directory: tempfile::TempDir,
}

impl Runner {
    fn new() -> Self {
        let runner = Self { directory: tempfile::tempdir().expect("a directory") };
        let seed = runner.path("seed");
        std::fs::create_dir_all(seed.join("src/selection/catalog")).expect("directories");
        std::fs::write(seed.join(PINS), "{}\n").expect("a file");
        runner.git("seed", &["init", "--quiet", "--initial-branch=main"]);
        runner.git("seed", &["add", "--all"]);
        runner.git("seed", &["commit", "--quiet", "--message=One"]);
        runner.git("", &["clone", "--quiet", "--bare", "seed", "origin"]);
        for job in ["renew", "propose"] {
            runner.git("", &["clone", "--quiet", "origin", job]);
            std::fs::create_dir_all(runner.path(&format!("{job}.temp"))).expect("a directory");
        }
        // Says what it is asked, and has the pull requests that a file names.
        let gh = "#!/bin/sh\necho \"$@\" >>\"$HOME/gh\"\n[ \"$1 $2\" != 'pr list' ] || cat \"$HOME/open\"\n";
        std::fs::create_dir(runner.path("bin")).expect("a directory");
        std::fs::write(runner.path("bin/gh"), gh).expect("a file");
        std::fs::write(runner.path("open"), "").expect("a file");
        assert!(
            Command::new("chmod").arg("+x").arg(runner.path("bin/gh")).status().expect("chmod").success()
        );
        runner
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A command in an environment that has nothing of the machine's own.
    fn command(&self, program: &str, directory: &str) -> Command {
        let paths = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").expect("a path"));
        let mut command = Command::new(program);
        command.env_clear().env("PATH", paths).env("HOME", self.directory.path());
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "a").env(format!("GIT_{who}_EMAIL"), "a@example.com");
        }
        command.current_dir(self.path(directory));
        command
    }

    fn git(&self, directory: &str, arguments: &[&str]) -> String {
        let output = self.command("git", directory).args(arguments).output().expect("git runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Runs the script of a step as `shell: bash` does.
    fn run(&self, job: &str, name: &str, environment: &[(&str, &str)]) -> Output {
        let script = self.path("script");
        std::fs::write(&script, self::script(job, name)).expect("a file");
        let mut bash = self.command("bash", job);
        bash.args(["--noprofile", "--norc", "-eo", "pipefail"]).arg(script);
        bash.env("RUNNER_TEMP", self.path(&format!("{job}.temp")));
        for file in ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"] {
            bash.env(file, self.path(file));
        }
        bash.envs(environment.iter().copied()).output().expect("bash runs")
    }

    /// What the steps before have left, and the last one of the first job.
    fn gather(&self, pinned: Option<&Value>, outcomes: [&str; 3]) -> Output {
        let temp = self.path("renew.temp");
        let _ = std::fs::remove_dir_all(temp.join("renewal"));
        let write = |name: &str, text: &str| std::fs::write(temp.join(name), text).expect("a file");
        write("review.md", "## KubeOne 1.14\n\n- changed: Net\n");
        write("verify.txt", "moved     quay.io/a/a:1: it has moved\n```\n@everyone\n");
        let failed: String = (0..300).map(|n| format!("FAILED    quay.io/c/c:{n}\n")).collect();
        write("pin.txt", &format!("{failed}\n302 images: 0 new, 1 kept, 1 moved, 300 failed\n"));
        match pinned {
            Some(pinned) => write("pin.json", &pinned.to_string()),
            None => std::fs::remove_file(temp.join("pin.json")).expect("the file"),
        }
        let [tests, verify, pin] = outcomes;
        let outcomes = [("TESTS", tests), ("VERIFY", verify), ("PIN", pin)];
        self.run("renew", "Gather what came out", &outcomes)
    }
}

/// A report about one image that has moved and one that has not.
fn moved() -> Value {
    json!({"references": [
        {"source": "quay.io/a/a:1", "result": "moved", "was": "sha256:aa", "digest": "sha256:bb"},
        {"source": "quay.io/b/b:1", "result": "kept", "digest": "sha256:cc"}]})
}

/// Whether all that the scripts call is here.
fn can_run() -> bool {
    ["git", "bash", "jq"].into_iter().all(require)
}

#[test]
fn what_was_recorded_is_proposed_and_moved_tags_head_the_text() {
    if !can_run() {
        return;
    }
    let runner = Runner::new();
    // More than one variable may hold, which is 128 KiB.
    let records: String = (0..20_000_u64)
        .map(|n| format!("{{\"source\":\"{:016x}\"}},\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    std::fs::write(runner.path("renew").join(PINS), &records).expect("a file");
    std::fs::write(runner.path("renew/new.yaml"), "new\n").expect("a file");
    let gathered = runner.gather(Some(&moved()), ["failure", "failure", "success"]);
    assert!(gathered.status.success(), "{gathered:?}");
    assert_eq!(runner.read("GITHUB_OUTPUT"), "changed=true\n");
    let body = runner.read("renew.temp/renewal/body.md");
    assert_eq!(runner.read("GITHUB_STEP_SUMMARY"), body);
    assert!(body.starts_with("## Tags that have moved\n\n"), "{body}");
    let (head, rest) = body.split_once("## KubeOne 1.14").expect("the review");
    assert!(head.ends_with("\n\n- `quay.io/a/a:1`: `sha256:aa` → `sha256:bb`\n\n"), "{head}");
    for told in [
        "tests, trial: failure\n",
        "`catalog verify`: failure\n",
        "`catalog pin`: success\n",
        "    FAILED    quay.io/c/c:98\n",
    ] {
        assert!(rest.contains(told), "{told}: {rest}");
    }
    // Of many lines the first ones and the sums.
    assert!(rest.ends_with("quay.io/c/c:98\n    302 images: 0 new, 1 kept, 1 moved, 300 failed\n"), "{rest}");
    // Nothing that somebody else has said ends the block of code that it is in.
    assert!(
        rest.contains("\n\n    moved     quay.io/a/a:1: it has moved\n    ```\n    @everyone\n"),
        "{rest}"
    );

    let hand_over = |runner: &Runner| {
        let (from, to) = (runner.path("renew.temp/renewal"), runner.path("propose.temp/renewal"));
        std::fs::create_dir_all(&to).expect("a directory");
        for name in ["renewal.patch", "body.md"] {
            std::fs::copy(from.join(name), to.join(name)).expect("a file");
        }
    };
    hand_over(&runner);
    let patch = runner.path("propose.temp/renewal/renewal.patch").metadata().expect("a file").len();
    assert!(patch > 512 << 10, "{patch}");
    let propose = || runner.run("propose", "Push a branch and propose it", &[("GH_TOKEN", "t")]);
    let proposed = propose();
    assert!(proposed.status.success(), "{proposed:?}");
    assert_eq!(runner.git("origin", &["show", &format!("renew-catalog:{PINS}")]), records);
    assert_eq!(runner.git("origin", &["show", "renew-catalog:new.yaml"]), "new\n");
    assert_eq!(runner.git("origin", &["rev-list", "--count", "main..renew-catalog"]), "1\n");
    let body = runner.path("propose.temp/renewal/body.md");
    let asked =
        format!("pr create --head renew-catalog --title Renew the catalog --body-file {}\n", body.display());
    assert!(runner.read("gh").ends_with(&asked), "{}", runner.read("gh"));

    // Last week's is still open.
    runner.git("propose", &["checkout", "--quiet", "main"]);
    runner.git("propose", &["branch", "--quiet", "-D", "renew-catalog"]);
    std::fs::write(runner.path("open"), "7\n").expect("a file");
    assert!(propose().status.success());
    let asked = format!("pr edit renew-catalog --body-file {}\n", body.display());
    assert!(runner.read("gh").ends_with(&asked), "{}", runner.read("gh"));
}

#[test]
fn a_renewal_without_a_change_fails_where_there_is_news_that_nobody_would_see() {
    if !can_run() {
        return;
    }
    let runner = Runner::new();
    let kept = json!({"references": []});
    let gathered = runner.gather(Some(&kept), ["success"; 3]);
    assert!(gathered.status.success(), "{gathered:?}");
    assert_eq!(runner.read("GITHUB_OUTPUT"), "changed=false\n");
    assert!(runner.read("GITHUB_STEP_SUMMARY").starts_with("## KubeOne 1.14\n"));
    for failed in 0..3 {
        let mut outcomes = ["success"; 3];
        outcomes[failed] = "failure";
        assert!(!runner.gather(Some(&kept), outcomes).status.success(), "{outcomes:?}");
    }
    // `catalog pin` may have ended before it had anything to report.
    std::fs::write(runner.path("renew").join(PINS), "{\"new\": 1}\n").expect("a file");
    let gathered = runner.gather(None, ["success", "success", "failure"]);
    assert!(gathered.status.success(), "{gathered:?}");
    assert!(runner.read("GITHUB_OUTPUT").ends_with("changed=true\n"));
}
