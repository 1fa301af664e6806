//! The registries of the large clouds, by what their credential helpers print and what they then want to see (B09, S11).

use base64::Engine as _;

use crate::program::{Ended, Program};
use crate::single::{REPOSITORY, Single};
use crate::support::fault::persona;
use crate::support::registry::Registry;
use crate::support::{Auth, Net, Op};

const SECRET: &str = "cl0ud-canary-0123456789";

/// A helper of this name, which knows `host` and nothing else, and prints what the real one prints.
fn with_helper(program: Program, helper: &str, host: &str, user: &str) -> Program {
    let answer = serde_json::json!({ "ServerURL": host, "Username": user, "Secret": SECRET });
    let script = format!(
        "IFS= read -r server\n\
         [ \"$#:$1:$server\" = '1:get:{host}' ] || exit 7\n\
         echo '{answer}'"
    );
    let config = serde_json::json!({ "credHelpers": { host: helper } });
    program.helper(helper, &script).file(".docker/config.json", config.to_string()).args(&["-vvv"])
}

/// The image is there, whose login it was is told, and what it was is not.
#[track_caller]
fn assert_let_in(ended: Ended, target: &Registry, origin: &str) {
    let ended = ended.expect(0);
    let told = format!("{}: using the login from {origin}", target.host());
    assert!(ended.stderr.contains(&told), "no {told:?} in\n{}", ended.stderr);
    for text in [&ended.stdout, &ended.stderr] {
        assert!(!text.contains("canary"), "{text}");
    }
    assert!(target.digest_of(REPOSITORY, "1").is_some());
}

#[test]
fn ecr_is_shown_what_its_helper_prints_with_each_request() {
    let net = Net::new();
    let storage = net.cdn("s3");
    let single = Single::on(net, &[3_000], |source| source);
    let rules = persona::ecr(&[REPOSITORY], &storage);
    let target = single.net.registry("target").rules(rules).auth(Auth::basic("AWS", SECRET)).start();
    let program = with_helper(single.program(&target.host()), "ecr-login", &target.host(), "AWS");
    assert_let_in(program.run(), &target, "docker-credential-ecr-login");
    single.net.journal().assert_no_authorization_outside(&["target"]);
}

/// The helper of ECR says "not found" wherever it cannot reach AWS: then it is the one to look at.
#[test]
fn a_helper_for_one_host_that_has_no_login_is_named() {
    let single = Single::new();
    let target = single.net.registry("target").auth(Auth::basic("AWS", SECRET)).start();
    let config = serde_json::json!({ "credHelpers": { target.host(): "ecr-login" } }).to_string();
    let program = single.program(&target.host()).file(".docker/config.json", config);
    let script = "echo credentials not found in native keychain; exit 1";
    let run = program.helper("ecr-login", script).run().expect(3);
    let told = format!("docker-credential-ecr-login has no login for {}", target.host());
    assert!(run.stdout.contains(&told), "no {told:?} in\n{}", run.stdout);
}

#[test]
fn google_sells_tokens_for_what_its_helpers_print() {
    for (helper, user) in [("gcloud", "_dcgcloud_token"), ("gcr", "oauth2accesstoken")] {
        let net = Net::new();
        let tokens = net.token_service("auth").user(user, SECRET).start();
        let single = Single::on(net, &[3_000], |source| source);
        let target = single.net.registry("target").rules(persona::gar()).auth(Auth::Token(tokens)).start();
        let program = with_helper(single.program(&target.host()), helper, &target.host(), user);
        assert_let_in(program.run(), &target, &format!("docker-credential-{helper}"));
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{SECRET}"));
        let asked = single.net.journal().of("auth", Op::Token);
        let basic = format!("Basic {pair}");
        assert!(!asked.is_empty() && asked.iter().all(|a| a.header("authorization") == Some(&*basic)));
        assert!(asked.iter().all(|asked| asked.method == "GET"));
    }
}

/// From the helper, and from what `az acr login` makes docker write.
#[test]
fn azure_exchanges_an_identity_token() {
    let nobody = "00000000-0000-0000-0000-000000000000:";
    let auth = base64::engine::general_purpose::STANDARD.encode(nobody);
    for by_helper in [true, false] {
        let net = Net::new();
        let tokens = net.token_service("auth").identity_token(SECRET).start();
        let storage = net.cdn("storage");
        let single = Single::on(net, &[3_000], |source| source);
        let target = single.net.registry("target").rules(persona::acr(&storage)).auth(Auth::Token(tokens));
        let target = target.start();
        let host = target.host();
        let program = single.program(&host);
        if by_helper {
            let program = with_helper(program, "acr-env", &host, "<token>");
            assert_let_in(program.run(), &target, "docker-credential-acr-env");
        } else {
            let entry = serde_json::json!({ "auth": auth, "identitytoken": SECRET });
            let config = serde_json::json!({ "auths": { &host: entry } }).to_string();
            let program = program.file(".docker/config.json", config).args(&["-vvv"]);
            let path = program.home(".docker/config.json").to_str().expect("UTF-8").to_owned();
            assert_let_in(program.run(), &target, &path);
        }
        let asked = single.net.journal().of("auth", Op::Token);
        assert!(!asked.is_empty() && asked.iter().all(|asked| asked.method == "POST"), "{asked:?}");
        single.net.journal().assert_no_authorization_outside(&["target"]);
    }
}
