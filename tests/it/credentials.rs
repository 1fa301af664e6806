//! Where logins come from, shown with Debian's docker-registry behind TLS and a password (R2, B07, B11, S11).

use std::time::{Duration, Instant};

use base64::Engine as _;

use crate::program::{Ended, Program, auths};
use crate::single::{REPOSITORY, Single};
use crate::stage::{CONTROL_PLANE, Stage};
use crate::support::process::{DockerRegistry, Setup, require};
use crate::support::{Fault, Op, any, on};

const USER: &str = "mirror";
const PASSWORD: &str = "pa55word-canary";

/// A target that is as closed as they come: a password, TLS, and an authority that only its users know.
struct Locked {
    single: Single,
    target: DockerRegistry,
    ca: String,
}

impl Locked {
    fn new() -> Option<Self> {
        if !require("docker-registry") || !require("htpasswd") {
            return None;
        }
        let single = Single::new();
        let identity = single.net.ca().issue(&["127.0.0.1".to_owned()]);
        let setup = Setup { tls: Some(&identity), htpasswd: Some((USER, PASSWORD)), ..Setup::default() };
        let target = DockerRegistry::start(&setup).expect("it starts");
        let ca = single.net.ca_file().to_str().expect("a path in UTF-8").to_owned();
        Some(Self { single, target, ca })
    }

    fn program(&self) -> Program {
        self.single.program(&self.target.host()).args(&["-v", "--ca-file", &self.ca])
    }

    fn auths(&self, password: &str) -> String {
        auths(&self.target.host(), USER, password)
    }

    /// It is let in, by the login from `origin`, and nothing else is said of it.
    #[track_caller]
    fn assert_opened_by(&self, program: Program, origin: &str) {
        let ended = program.run().expect(0);
        let told = format!("{}: using the login from {origin}", self.target.host());
        assert!(ended.stderr.contains(&told), "no {told:?} in\n{}", ended.stderr);
        assert_no_secret(&ended);
    }

    /// The target is given up for this reason.
    #[track_caller]
    fn assert_closed(&self, program: Program, reasons: &[&str]) {
        let began = Instant::now();
        let ended = program.run().expect(3);
        for reason in reasons {
            assert!(ended.stdout.contains(reason), "no {reason:?} in\n{}", ended.stdout);
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        assert_no_secret(&ended);
        assert_eq!(self.single.net.journal().requests("source"), 0);
    }
}

#[track_caller]
fn assert_no_secret(ended: &Ended) {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    for text in [&ended.stdout, &ended.stderr] {
        assert!(!text.contains("canary") && !text.contains(&pair), "{text}");
    }
}

/// B11: every place where docker, podman and their relatives leave a login.
#[test]
fn a_login_is_found_wherever_docker_and_podman_keep_it_and_its_place_is_told() {
    let Some(locked) = Locked::new() else { return };
    let good = locked.auths(PASSWORD);
    let program = || locked.program();
    let file = |path: &str| program().file(path, &good);
    let at = |program: &Program, path: &str| program.home(path).to_str().unwrap().to_owned();

    let authfile = file("logins.json");
    let path = at(&authfile, "logins.json");
    locked.assert_opened_by(authfile.args(&["--authfile", &path]), &path);
    locked.single.assert_mirrored(
        &locked.target.url(),
        Some(&format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"))
        )),
    );

    let named = file("elsewhere/auth.json");
    let path = at(&named, "elsewhere/auth.json");
    locked.assert_opened_by(named.env("REGISTRY_AUTH_FILE", &path), &path);

    locked.assert_opened_by(program().env("DOCKER_AUTH_CONFIG", &good), "DOCKER_AUTH_CONFIG");

    let runtime = file("run/containers/auth.json");
    let (directory, path) = (at(&runtime, "run"), at(&runtime, "run/containers/auth.json"));
    locked.assert_opened_by(runtime.env("XDG_RUNTIME_DIR", directory), &path);

    let config = file(".config/containers/auth.json");
    let path = at(&config, ".config/containers/auth.json");
    locked.assert_opened_by(config, &path);

    let docker = file("dot-docker/config.json");
    let (directory, path) = (at(&docker, "dot-docker"), at(&docker, "dot-docker/config.json"));
    locked.assert_opened_by(docker.env("DOCKER_CONFIG", directory), &path);

    let usual = file(".docker/config.json");
    let path = at(&usual, ".docker/config.json");
    locked.assert_opened_by(usual, &path);

    // The command line beats them all, and a trailing line end is none of the password.
    let wrong = locked.auths("not-this-one-canary");
    let given = program().file(".docker/config.json", wrong).args(&["--username", USER, "--password-stdin"]);
    locked.assert_opened_by(given.stdin(&format!("{PASSWORD}\r\n")), "--username");
}

/// B07: one wrong password, one request with it, exit 3, and where it came from.
#[test]
fn a_refused_login_ends_the_run_and_names_where_it_came_from() {
    let Some(locked) = Locked::new() else { return };
    let wrong = locked.auths("wrong-canary");
    let program = locked.program().file("logins.json", &wrong);
    let path = program.home("logins.json").to_str().unwrap().to_owned();
    let refused = |origin: &str| format!("the login from {origin} was refused");
    locked.target.clear_log();
    locked.assert_closed(program.args(&["--authfile", &path]), &["401", &refused(&path)]);
    // Its log trails a little.
    std::thread::sleep(Duration::from_millis(200));
    let refusals = locked.target.accesses().iter().filter(|access| access.status == 401).count();
    assert!(refusals <= 2, "asked {refusals} times: accounts get locked by that");

    let given = locked.program().args(&["--username", USER, "--password-stdin"]).stdin("wrong-canary");
    locked.assert_closed(given, &["401", &refused("--username")]);
    // It is the login that was asked to be used, so no other is tried in its place.
    let good = locked.auths(PASSWORD);
    let given = locked.program().file(".docker/config.json", good);
    let given = given.args(&["--username", USER, "--password-stdin"]).stdin("wrong-canary\n");
    locked.assert_closed(given, &["401", &refused("--username")]);

    let none = format!("no login for it is known; try docker login {}", locked.target.host());
    locked.assert_closed(locked.program(), &["401", &none]);
}

#[test]
fn a_password_without_a_user_or_without_a_word_is_wrong_use() {
    let single = Single::new();
    let program = || single.program("127.0.0.1:1");
    program().args(&["--username", USER]).run().expect(2);
    program().args(&["--password-stdin"]).stdin(PASSWORD).run().expect(2);
    let empty = program().args(&["--username", USER, "--password-stdin"]).stdin("\n").run().expect(2);
    assert!(empty.stderr.contains("standard input holds no password"), "{}", empty.stderr);
    program().args(&["--password", PASSWORD]).run().expect(2);
}

/// A file says of its size what it likes.
#[test]
fn a_file_of_logins_without_an_end_is_refused() {
    let single = Single::new();
    let run = single.program("127.0.0.1:1").args(&["--authfile", "/dev/zero"]).run().expect(2);
    assert!(run.stderr.contains("/dev/zero") && run.stderr.contains("larger than 4 MiB"), "{}", run.stderr);
}

/// A helper that knows one server and is strict about how it is asked.
fn strict_helper(server: &str, answer: &str) -> String {
    format!(
        "IFS= read -r server\n\
         [ \"$#:$1\" = 1:get ] || exit 7\n\
         [ \"$server\" = '{server}' ] || {{ echo credentials not found in native keychain; exit 1; }}\n\
         echo 'noise-canary {PASSWORD}' >&2\n\
         echo '{answer}'"
    )
}

fn answer(user: &str, secret: &str) -> String {
    serde_json::json!({ "ServerURL": "x", "Username": user, "Secret": secret }).to_string()
}

/// S11: asked with one argument and the server's name on standard input, for one host or for all.
#[test]
fn a_credential_helper_is_asked_for_the_server_by_its_name() {
    let Some(locked) = Locked::new() else { return };
    let host = locked.target.host();
    let script = strict_helper(&host, &answer(USER, PASSWORD));
    let program = || locked.program().helper("test", &script);
    for config in [
        serde_json::json!({ "credsStore": "test" }),
        serde_json::json!({ "credHelpers": { &host: "test" } }),
        // What docker leaves behind where a store has the password.
        serde_json::json!({ "auths": { &host: {} }, "credsStore": "test" }),
        // A helper for one host beats the store for all.
        serde_json::json!({ "credsStore": "not-there", "credHelpers": { &host: "test" } }),
    ] {
        let program = program().file(".docker/config.json", config.to_string());
        locked.assert_opened_by(program, "docker-credential-test");
    }
    let program = program().file(".config/containers/auth.json", r#"{"credsStore":"test"}"#);
    locked.assert_opened_by(program, "docker-credential-test");
}

/// S11: "not found" is no failure; what else the places have is looked at.
#[test]
fn a_helper_without_a_login_leaves_the_way_to_other_places() {
    let Some(locked) = Locked::new() else { return };
    let host = locked.target.host();
    let script = strict_helper("another.example.com", &answer(USER, "wrong-canary"));
    let program = || locked.program().helper("test", &script);
    let helpers = serde_json::json!({ "credHelpers": { &host: "test" } }).to_string();
    let none = format!("docker-credential-test has no login for {host}");
    locked.assert_closed(program().file(".docker/config.json", &helpers), &["401", &none]);
    let empty = locked.program().helper("test", &format!("echo '{}'", answer("", "")));
    locked.assert_closed(empty.file(".docker/config.json", &helpers), &["401", &none]);

    let store = r#"{"credsStore":"test","#.to_owned() + locked.auths(PASSWORD).strip_prefix('{').unwrap();
    let program = program().file(".docker/config.json", store);
    let path = program.home(".docker/config.json").to_str().unwrap().to_owned();
    locked.assert_opened_by(program, &path);
}

/// S11: whatever a helper does, it is named, soon, and nothing that it printed is.
#[test]
fn a_helper_that_fails_is_named_and_what_it_printed_is_not() {
    let Some(locked) = Locked::new() else { return };
    let name = "docker-credential-test";
    let shout = format!("echo canary {PASSWORD}; echo canary {PASSWORD} >&2");
    let table = [
        (format!("{shout}; exit 1"), "failed; run it by hand"),
        (format!("{shout}; kill -9 $$"), "failed; run it by hand"),
        (shout.clone(), "an answer that is not a login"),
        (format!("echo '{{\"Username\":\"{USER}\"}}'"), "an answer that is not a login"),
        ("while :; do echo canary-canary-canary-canary-canary; done".to_owned(), "it prints too much"),
        (":".to_owned(), "an answer that is not a login"),
    ];
    for (script, reason) in table {
        let program = locked.program().helper("test", &script).args(&["-vv"]);
        let program = program.file(".docker/config.json", r#"{"credsStore":"test"}"#);
        locked.assert_closed(program, &[name, reason]);
    }
    let absent = locked.program().helper("other", ":");
    let absent = absent.file(".docker/config.json", r#"{"credsStore":"test"}"#);
    locked.assert_closed(absent, &[name, "cannot be started"]);
}

/// S11: a helper that fails may take half a minute for it, so it is not asked for each image anew.
#[test]
fn a_helper_that_fails_is_asked_once() {
    let stage = Stage::new(CONTROL_PLANE);
    let refused = Fault::Status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    // Anyone may look, so that the host is known to be there before a login is wanted.
    stage.target.fault(on(Op::UploadStart).or(Op::Mount).then(refused));
    let config = serde_json::json!({ "credHelpers": { stage.target.host(): "test" } }).to_string();
    let program = stage.program().file(".docker/config.json", config);
    let running = program.helper("test", "echo asked >> \"$HOME/asked\"; exit 1").start();
    let (ended, asked) = running.wait_and(|home| std::fs::read_to_string(home.join("asked")));
    let ended = ended.expect(3);
    assert!(ended.stdout.contains("docker-credential-test failed"), "{}", ended.stdout);
    assert_eq!(asked.expect("it was asked"), "asked\n");
}

/// S11: only plain names lead to a program, and only to one on PATH.
#[test]
fn a_helper_with_a_path_for_a_name_is_never_run() {
    let Some(locked) = Locked::new() else { return };
    for name in
        ["../bin/docker-credential-test", "x/../../bin/evil", "/bin/sh", "x y; touch ran", "$(touch ran)"]
    {
        let config = serde_json::json!({ "credsStore": name }).to_string();
        let program = locked.program().helper("test", ": > \"$HOME/ran\"");
        let running = program.file(".docker/config.json", config).start();
        let (ended, ran) = running.wait_and(|home| home.join("ran").exists());
        assert!(!ran, "{name} was run");
        let ended = ended.expect(3);
        assert!(ended.stdout.contains("has no valid name"), "{}", ended.stdout);
    }
}

/// B12: a key that is scoped to a path is for what is below it, and only for that.
#[test]
fn each_repository_of_one_registry_gets_its_own_login() {
    let single = Single::new();
    let target = single.net.registry("target").start();
    let pair = |user: &str| base64::engine::general_purpose::STANDARD.encode(format!("{user}:{PASSWORD}"));
    let (ours, theirs) = (format!("Basic {}", pair("ours")), format!("Basic {}", pair("theirs")));
    let expected = [("group", ours.clone()), ("other", theirs.clone())];
    let refused = Fault::Status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    single.source.fault(
        any()
            .when(move |call| {
                let (_, right) = expected.iter().find(|(path, _)| call.repository.starts_with(path)).unwrap();
                call.header("authorization") != Some(right)
            })
            .then(refused),
    );
    let mut content = crate::support::Content::new();
    content.add(
        "other/app",
        "1",
        &crate::support::Image::generated(crate::support::Kind::Docker, 5, &[2_000]),
    );
    single.source.add(&content);
    let host = single.source.host();
    let config = serde_json::json!({ "auths": {
        format!("{host}/{REPOSITORY}"): { "auth": pair("ours") },
        format!("{host}/other"): { "auth": pair("theirs") },
        host: { "auth": pair("nobody") },
    }});
    let program = single.program(&target.host()).args(&["--image", "quay.io/other/app:1"]);
    program.file(".docker/config.json", config.to_string()).run().expect(0);
    for entry in single.net.journal().filter(|entry| entry.host == "source") {
        let wanted = if entry.repository.starts_with("group") { &ours } else { &theirs };
        assert!(entry.header("authorization").is_none_or(|shown| shown == wanted), "{entry}");
    }
}
