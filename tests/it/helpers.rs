//! Credential helpers that are not there, or that do not end.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::program::Program;
use crate::single::Single;
use crate::support::registry::Registry;
use crate::support::{Auth, Fault, Net, any};

const STORE: &str = r#"{"credsStore":"test"}"#;

/// A target that lets nobody in without a login.
fn closed(single: &Single) -> Registry {
    let target = single.net.registry("target").start();
    target.fault(any().then(Fault::Status(401).header("WWW-Authenticate", "Basic realm=\"x\"")));
    target
}

#[test]
fn a_store_of_logins_that_is_not_installed_keeps_no_public_source_from_being_read() {
    let net = Net::new();
    let tokens = net.token_service("auth").anonymous_pull().start();
    let public = Auth::Token(tokens);
    let single = Single::on(net, &[2_000, 3_000], |source| source.auth(public));
    let target = single.net.registry("target").start();
    let to = |target: &Registry| {
        // A PATH that has another helper, and nothing else.
        single.program(&target.host()).file(".docker/config.json", STORE).helper("other", ":")
    };
    let ended = to(&target).run().expect(0);
    let told = "docker-credential-test, which keeps logins, is not installed";
    assert_eq!(ended.stderr.matches(told).count(), 1, "{}", ended.stderr);
    single.assert_mirrored(&target.url(), None);
    // A target does not do without.
    let ended = to(&closed(&single)).run().expect(3);
    assert!(
        ended.stdout.contains("docker-credential-test cannot be started: it is not on the PATH"),
        "{ended:?}"
    );
    // A login beside the store is found all the same.
    let login = crate::program::auths(&single.source.host(), "u", "canary").replacen(
        '{',
        "{\"credsStore\":\"test\",",
        1,
    );
    let ended = to(&target).file(".docker/config.json", login).args(&["-v"]).run();
    assert!(ended.stderr.contains("using the login from"), "{ended:?}");
}

#[test]
fn what_a_helper_has_started_ends_with_the_program() {
    let single = Single::new();
    let target = closed(&single);
    let script =
        "/bin/sleep 60 & echo $! > \"$HOME/child.part\"; /bin/mv \"$HOME/child.part\" \"$HOME/child\"; wait";
    for mode in ["-q", "--check"] {
        let program: Program = single.program(&target.host()).file(".docker/config.json", STORE);
        let program = program.helper("test", script).args(&[mode]);
        let note = program.home("child");
        let running = program.start();
        let child = wait_for(&note);
        assert!(is_alive(&child), "{child}");
        running.signal("INT");
        assert_eq!(running.wait().code, Some(130), "{mode}");
        let patience = Instant::now() + Duration::from_secs(20);
        while is_alive(&child) {
            assert!(Instant::now() < patience, "{mode}: process {child} is still there");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn wait_for(note: &Path) -> String {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(text) = std::fs::read_to_string(note) {
            return text.trim().to_owned();
        }
        assert!(Instant::now() < patience, "the helper was never asked");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs; one that has ended may not have been waited for yet.
fn is_alive(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}
