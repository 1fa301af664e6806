//! Tokens: bought once, renewed when they die, asked for with the right scopes, and never for ever (B01 to B09, R3).

use std::time::{Duration, Instant};

use base64::Engine as _;

use crate::program::{Ended, Program};
use crate::single::{REPOSITORY, Single};
use crate::stage::{CONTROL_PLANE, Stage};
use crate::support::content::SetOptions;
use crate::support::process::{DockerRegistry, Setup, require};
use crate::support::registry::TokenService;
use crate::support::{Auth, Content, Fault, Image, Journal, Kind, Net, Op, any, on};

const PASSWORD: &str = "pa55word-canary";

/// Uploads that were begun. A request for one that has met a dead token began nothing.
fn starts(journal: &Journal) -> usize {
    let starts = [Op::UploadStart, Op::Mount].map(|op| journal.of("target", op));
    starts.iter().flatten().filter(|start| start.status == Some(202)).count()
}

#[track_caller]
fn assert_no_secret(ended: &Ended) {
    for text in [&ended.stdout, &ended.stderr] {
        assert!(!text.contains("canary") && !text.contains("eyJ"), "{text}");
    }
}

/// A target whose tokens all die at a certain request, though they were said to live for five minutes.
fn dying_at(op: Op) -> (Single, TokenService, crate::support::Registry) {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", PASSWORD).start();
    let single = Single::on(net, &[2_000_000], |source| source);
    let target = single.net.registry("target").auth(Auth::Token(tokens.clone())).start();
    let killed = tokens.clone();
    target.fault(on(op).times(1).then(Fault::Run(std::sync::Arc::new(move |_| killed.expire_all()))));
    (single, tokens, target)
}

/// B01: 401 `invalid_token` on the PUT that ends an upload. The session goes on with a new token.
#[test]
fn a_token_that_dies_before_the_end_of_an_upload_is_renewed_within_the_same_session() {
    let (single, tokens, target) = dying_at(Op::UploadPut);
    let program = single.program(&target.host()).args(&["-vvv"]).login(&target.host(), "u", PASSWORD);
    assert_no_secret(&program.run().expect(0));
    let journal = single.net.journal();
    let puts = journal.of("target", Op::UploadPut);
    let refused: Vec<_> = puts.iter().filter(|put| put.status == Some(401)).collect();
    assert!(!refused.is_empty(), "{}", journal.dump());
    for put in refused {
        let again = puts.iter().find(|p| p.seq > put.seq && p.path == put.path);
        assert_eq!(again.and_then(|p| p.status), Some(201), "another session\n{}", journal.dump());
    }
    assert_eq!(starts(journal), single.content.blobs.len(), "{}", journal.dump());
    assert_eq!(tokens.issued(), 2, "{}", journal.dump());
    journal.assert_tag_last("target");
    assert_eq!(target.digest_of(REPOSITORY, "1"), Some(single.digest()));
    assert_eq!(target.incomplete_tags(), Vec::<String>::new());
}

/// B01: the same between two pieces of a blob, where the target takes no larger ones. What it has is not sent again.
#[test]
fn a_token_that_dies_between_two_pieces_is_renewed_within_the_same_session() {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", PASSWORD).start();
    let single = Single::on(net, &[11_000_000], |source| source);
    let target = single.net.registry("target").auth(Auth::Token(tokens.clone())).start();
    target.fault(on(Op::UploadPut).larger_than(5_000_000).then(Fault::Status(413)));
    let killed = tokens.clone();
    let kill = Fault::Run(std::sync::Arc::new(move |_| killed.expire_all()));
    target.fault(on(Op::UploadPatch).nth(2).then(kill));
    let program = single.program(&target.host()).args(&["-vvv"]).login(&target.host(), "u", PASSWORD);
    assert_no_secret(&program.run().expect(0));
    let journal = single.net.journal();
    let pieces = journal.of("target", Op::UploadPatch);
    let statuses: Vec<_> = pieces.iter().map(|piece| piece.status).collect();
    assert_eq!(statuses, [Some(202), Some(401), Some(202), Some(202)], "{}", journal.dump());
    assert_eq!(tokens.issued(), 2, "{}", journal.dump());
    assert_eq!(target.digest_of(REPOSITORY, "1"), Some(single.digest()));
    assert_eq!(target.incomplete_tags(), Vec::<String>::new());
}

/// B01: the same on the manifest, the last request of all.
#[test]
fn a_token_that_dies_before_the_manifest_is_renewed_and_no_blob_is_sent_again() {
    let (single, tokens, target) = dying_at(Op::ManifestPut);
    single.program(&target.host()).login(&target.host(), "u", PASSWORD).run().expect(0);
    let journal = single.net.journal();
    let statuses: Vec<_> = journal.of("target", Op::ManifestPut).iter().map(|put| put.status).collect();
    assert_eq!(statuses, [Some(401), Some(201)]);
    assert_eq!((starts(journal), journal.count("target", Op::UploadPut)), (2, 2), "{}", journal.dump());
    assert_eq!(tokens.issued(), 2);
    assert_eq!(target.digest_of(REPOSITORY, "1"), Some(single.digest()));
}

/// A docker-registry that takes the tokens of `tokens`.
fn docker_registry(tokens: &TokenService) -> DockerRegistry {
    let realm = tokens.realm();
    let setup = Setup { token: Some(tokens.setup(&realm, "real")), ..Setup::default() };
    DockerRegistry::start(&setup).expect("it starts")
}

/// B01, R3: Debian's docker-registry, tokens that live for three seconds, and an upload that takes longer.
#[test]
fn an_upload_that_outlives_its_tokens_ends_well_at_a_docker_registry() {
    if !require("docker-registry") {
        return;
    }
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", PASSWORD).signed();
    let tokens = tokens.lifetime(Duration::from_secs(3)).start();
    let slow = Fault::Trickle { bytes: 50_000, every: Duration::from_millis(100) };
    let single = Single::on(net, &[2_500_000], |source| source.rule(on(Op::BlobGet).then(slow)));
    let target = docker_registry(&tokens);
    let began = Instant::now();
    let program = single.program(&target.host()).args(&["-vvv"]).login(&target.host(), "u", PASSWORD);
    assert_no_secret(&program.run().expect(0));
    assert!(began.elapsed() > Duration::from_secs(4), "it was not slow at all: {:?}", began.elapsed());
    assert!(tokens.issued() >= 2, "the first one was dead by then");
    // Blobs go up once each, whatever their tokens do.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(target.count("POST", "/blobs/uploads/"), single.content.blobs.len());
    let bearer = net_token(&single, &tokens);
    single.assert_mirrored(&target.url(), Some(&bearer));
}

/// A token to pull with, bought the way that the tests' own reader does.
fn net_token(single: &Single, tokens: &TokenService) -> String {
    tokens.set_lifetime(Duration::from_secs(300));
    let url = format!("{}?service=real&scope=repository:{REPOSITORY}:pull", tokens.realm());
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("u:{PASSWORD}"));
    let client = single.net.client();
    let body = single.net.block_on(async {
        let answer = client.get(url).header("Authorization", format!("Basic {pair}")).send().await?;
        answer.text().await
    });
    let value: serde_json::Value = serde_json::from_str(&body.expect("an answer")).expect("JSON");
    format!("Bearer {}", value["token"].as_str().expect("a token"))
}

/// Two images in two repositories with a layer in common.
fn shared_layer() -> Content {
    let layer = crate::support::Blob::generated(77, 40_000);
    let mut content = Content::new();
    for (n, name) in ["group/one", "group/two"].into_iter().enumerate() {
        let config = crate::support::Blob::literal(format!("{{\"n\":{n}}}"));
        content.add(name, "1", &Image::single(Kind::Oci, config, vec![layer.clone()]));
    }
    content
}

const SHARED: &[&str] = &["--image", "quay.io/group/one:1", "--image", "quay.io/group/two:1"];

fn program_for_shared(target: &str, source: &str) -> Program {
    let mirror = format!("--source-mirror=quay.io={source}");
    Program::new(&[target, &mirror, "--retries", "0"]).args(SHARED)
}

/// L10: docker-registry mounts only for a token that may pull where the blob is.
#[test]
fn a_mount_at_a_docker_registry_has_the_scopes_of_both_repositories() {
    if !require("docker-registry") {
        return;
    }
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", PASSWORD).signed().start();
    let source = net.registry("source").content(&shared_layer()).start();
    let target = docker_registry(&tokens);
    let program = program_for_shared(&target.host(), &source.url());
    let run = program.args(&["-o", "json"]).login(&target.host(), "u", PASSWORD).run().expect(0);
    assert_eq!((run.number("copied"), run.number("blobs_mounted")), (2, 1), "{}", run.stdout);
    let scopes: Vec<String> =
        net.journal().of("auth", Op::Token).into_iter().filter_map(|entry| entry.query).collect();
    let both = scopes.iter().any(|query| query.contains("group%2Fone") && query.contains("group%2Ftwo"));
    assert!(both, "{scopes:#?}");
    assert_eq!(net.journal().count("source", Op::BlobGet), 3);
}

/// B04: a mount that is refused whatever token it has is no end: the blob is sent.
#[test]
fn a_mount_for_which_no_scope_is_enough_becomes_an_upload() {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", PASSWORD).start();
    let source = net.registry("source").content(&shared_layer()).start();
    let target = net.registry("target").auth(Auth::Token(tokens.clone())).start();
    let challenge = format!(
        "Bearer realm=\"{}\",service=\"target\",scope=\"repository:group/one:pull \
         repository:group/two:pull,push\",error=\"insufficient_scope\"",
        tokens.realm()
    );
    let elsewhere =
        |call: &crate::support::net::call::Call| call.param("from").as_ref() != Some(&call.repository);
    target
        .fault(on(Op::Mount).when(elsewhere).then(Fault::Status(401).header("WWW-Authenticate", &challenge)));
    let program = program_for_shared(&target.host(), &source.url());
    let run = program.args(&["-o", "json"]).login(&target.host(), "u", PASSWORD).run().expect(0);
    assert_eq!((run.number("copied"), run.number("blobs_mounted")), (2, 0), "{}", run.stdout);
    assert_eq!(target.incomplete_tags(), Vec::<String>::new());
    assert!(tokens.issued() <= 5, "{} tokens\n{}", tokens.issued(), net.journal().dump());
}

/// A source that lets in whoever shows `Bearer good`, and a token service in full control of the test.
fn scripted(scope: &str) -> (Single, crate::support::net::Plain) {
    let single = Single::new();
    let auth = single.net.trap("auth");
    let scope = if scope.is_empty() { String::new() } else { format!(",scope=\"{scope}\"") };
    let challenge = format!("Bearer realm=\"{}/token\",service=\"s\"{scope}", auth.url());
    let refused = Fault::Status(401).header("WWW-Authenticate", &challenge);
    single.source.fault(any().when(|call| call.header("authorization") != Some("Bearer good")).then(refused));
    (single, auth)
}

fn json(body: &str) -> Fault {
    Fault::Status(200).body("application/json", body.to_owned())
}

/// B04: a registry that wants more than was asked for, as proxy caches do, gets the union, once.
#[test]
fn a_scope_that_the_challenge_adds_is_asked_for_as_well() {
    let (single, auth) = scripted("repository:upstream/app:pull");
    let target = single.net.registry("target").start();
    let has_it = |call: &crate::support::net::call::Call| {
        let scopes: Vec<_> = call.params().into_iter().filter(|(key, _)| key == "scope").collect();
        scopes.iter().any(|(_, scope)| scope.contains("upstream/app")) && scopes.len() == 2
    };
    auth.fault(any().when(has_it).then(json(r#"{"token":"good"}"#)));
    auth.fault(any().then(json(r#"{"token":"narrow"}"#)));
    single.program(&target.host()).run().expect(0);
    assert_eq!(single.net.journal().requests("auth"), 2);
}

/// B04, B07: a registry that no token satisfies is left after two of them.
#[test]
fn a_registry_that_no_token_satisfies_is_left_soon() {
    let (single, auth) = scripted("repository:upstream/app:pull");
    let target = single.net.registry("target").start();
    auth.fault(any().then(json(r#"{"token":"bad"}"#)));
    let run = single.program(&target.host()).run().expect(1);
    assert!(run.stdout.contains("401"), "{}", run.stdout);
    let journal = single.net.journal();
    assert!(journal.requests("auth") <= 2 && journal.requests("source") <= 3, "{}", journal.dump());
}

/// B02: a lifetime is what a token service says it is, however odd, and never a reason to ask without end.
#[test]
fn odd_lifetimes_lead_to_no_loop() {
    let far = ["1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "yesterday"];
    let lifetimes =
        ["1", "0", "-1", "1000000000000", "99999999999999999999999", "1.5", "\"300\"", "\"x\"", "null"];
    let bodies =
        lifetimes.map(|lifetime| format!(r#"{{"token":"good","expires_in":{lifetime}}}"#)).into_iter();
    let bodies = bodies
        .chain(far.map(|at| format!(r#"{{"token":"good","expires_in":300,"issued_at":"{at}"}}"#)))
        .chain([r#"{"token":"good"}"#.to_owned()]);
    let (single, auth) = scripted("");
    for body in bodies {
        let target = single.net.registry("target").start();
        auth.fault(any().then(json(&body)));
        single.net.journal().clear();
        let run = single.program(&target.host()).run();
        assert_eq!(run.code, Some(0), "{body}: {run:?}");
        let journal = single.net.journal();
        let (asked, served) = (journal.requests("auth"), journal.requests("source"));
        let most = if body.contains(":1}") { served } else { 1 };
        assert!(asked <= most, "{body}: {asked} tokens for {served} requests");
        auth.clear_faults();
    }
}

/// B05: either name of the token will do; anything else is told with the service's host and not quoted.
#[test]
fn an_answer_without_a_usable_token_is_told_and_not_quoted() {
    let (single, auth) = scripted("");
    let large = format!(r#"{{"token":"{}"}}"#, "canary".repeat(1_000_000));
    let useless = [
        json("{}"),
        json("null"),
        json("[]"),
        json(r#"{"token":null,"access_token":""}"#),
        json(r#"{"token":"canary"#),
        json(r#"{"token":"canary canary"}"#),
        json(r#"{"token":7}"#),
        Fault::Status(200).html("<html>canary</html>"),
        Fault::Status(204),
        json(&large),
        Fault::Endless,
    ];
    for (n, answer) in useless.into_iter().enumerate() {
        let target = single.net.registry("target").start();
        if matches!(answer, Fault::Endless) {
            auth.fault(any().then(json(r#"{"token":"good"}"#)).then(Fault::Endless));
        } else {
            auth.fault(any().then(answer));
        }
        let began = Instant::now();
        let run = single.program(&target.host()).args(&["-vvv"]).run();
        assert_eq!(run.code, Some(1), "{n}: {run:?}");
        assert!(run.stdout.contains("asking 127.0.0.1 for a token"), "{n}: {}", run.stdout);
        assert_no_secret(&run);
        assert!(began.elapsed() < Duration::from_secs(20), "{n}: {:?}", began.elapsed());
        auth.clear_faults();
    }
    for body in [
        r#"{"access_token":"good"}"#,
        r#"{"token":"","access_token":"good"}"#,
        r#"{"token":"good","access_token":"x"}"#,
    ] {
        let target = single.net.registry("target").start();
        auth.fault(any().then(json(body)));
        single.program(&target.host()).run().expect(0);
        auth.clear_faults();
    }
}

/// B08: a public source refuses a login that has gone stale and serves without one. The user is told which it is.
#[test]
fn a_stale_login_at_a_public_source_is_told_and_done_without() {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "the new one").anonymous_pull().start();
    let options = SetOptions::default();
    let stage = Stage::on(net, CONTROL_PLANE, &options, |s| s.auth(Auth::Token(tokens)), |target| target);
    let program = stage.program().login(&stage.source.host(), "u", PASSWORD);
    let path = program.home(".docker/config.json").to_str().unwrap().to_owned();
    let run = program.run().expect(0);
    let told = format!("refuses the login from {path}: it may be stale; going on without it");
    assert_eq!(run.stderr.matches(&told).count(), 1, "{}", run.stderr);
    assert_no_secret(&run);
    let shown = stage.net.journal().filter(|e| e.host == "auth" && e.header("authorization").is_some());
    assert_eq!(shown.len(), 1, "a refused login is not shown again");
    stage.assert_mirrored();
}

/// The same at a target is a failed login, even where anyone may read.
#[test]
fn a_stale_login_at_a_target_is_a_failed_login() {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "the new one").anonymous_pull().start();
    let single = Single::on(net, &[1_000], |source| source);
    let target = single.net.registry("target").auth(Auth::Token(tokens)).start();
    let run = single.program(&target.host()).login(&target.host(), "u", PASSWORD).run().expect(3);
    assert!(run.stdout.contains("was refused"), "{}", run.stdout);
    let asked = single.net.journal().of("auth", Op::Token);
    assert!(asked.iter().all(|entry| entry.header("authorization").is_some()), "no silent anonymous try");
}

const IDENTITY: &str = "identity-canary-0123456789";

/// As docker writes what Azure gives: a placeholder of a user, and the token beside it.
fn identity_config(host: &str) -> String {
    let auth = base64::engine::general_purpose::STANDARD.encode("<token>:");
    serde_json::json!({ "auths": { host: { "auth": auth, "identitytoken": IDENTITY } } }).to_string()
}

/// B09: an identity token is exchanged by POST, and where that is unknown, shown by GET.
#[test]
fn an_identity_token_is_exchanged_by_post_or_else_by_get() {
    for (refusal, expected) in
        [(None, vec!["POST"]), (Some(404), vec!["POST", "GET"]), (Some(405), vec!["POST", "GET"])]
    {
        let net = Net::new();
        let tokens = net.token_service("auth").identity_token(IDENTITY).user("<token>", IDENTITY).start();
        if let Some(status) = refusal {
            tokens.fault(on(Op::Token).when(|call| call.method == "POST").then(Fault::Status(status)));
        }
        let single = Single::on(net, &[1_000], |source| source);
        let target = single.net.registry("target").auth(Auth::Token(tokens)).start();
        let program = single.program(&target.host()).args(&["-vvv"]);
        let run = program.file(".docker/config.json", identity_config(&target.host())).run().expect(0);
        assert_no_secret(&run);
        let asked = single.net.journal().of("auth", Op::Token);
        let methods: Vec<_> = asked.iter().map(|entry| entry.method.as_str()).collect();
        assert_eq!(methods, expected);
        assert!(asked.iter().all(|entry| !entry.query.as_deref().unwrap_or_default().contains("canary")));
    }
    let net = Net::new();
    let tokens = net.token_service("auth").identity_token("another").start();
    let single = Single::on(net, &[1_000], |source| source);
    let target = single.net.registry("target").auth(Auth::Token(tokens)).start();
    // A helper says the same with a name that no user has.
    let helper = format!("echo '{{\"Username\":\"<token>\",\"Secret\":\"{IDENTITY}\"}}'");
    let program = single.program(&target.host()).args(&["-vvv"]).helper("test", &helper);
    let run = program.file(".docker/config.json", r#"{"credsStore":"test"}"#).run().expect(3);
    assert!(run.stdout.contains("the login from docker-credential-test was refused"), "{}", run.stdout);
    assert_no_secret(&run);
    assert_eq!(single.net.journal().requests("auth"), 1);
}
