//! A canary in every place where a secret can be, and nobody hears it sing (S09, G-SECRET).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::program::{Ended, Program, auths};
use crate::single::Single;
use crate::support::journal::Entry;
use crate::support::proxy::Proxy;
use crate::support::registry::{Auth, Registry};
use crate::support::{Content, Cut, Fault, Image, Kind, Net, Op, any, on};

const PASSWORD: &str = "pa55word-canary";

/// One secret and the hosts that may see it.
struct Canary {
    user: &'static str,
    secret: &'static str,
    hosts: &'static [&'static str],
}

const CANARIES: [Canary; 6] = [
    Canary { user: "config-user", secret: "c0nfig-canary-11", hosts: &["by-config"] },
    Canary { user: "authfile-user", secret: "authf1le-canary-22", hosts: &["by-authfile"] },
    Canary { user: "helper-user", secret: "he1per-canary-33", hosts: &["by-helper", "auth"] },
    Canary { user: "stdin-user", secret: "std1n-canary-44", hosts: &["target"] },
    Canary { user: "proxy-user", secret: "pr0xy-canary-55", hosts: &[] },
    Canary { user: "<token>", secret: "1dentity-canary-66", hosts: &["auth-by-post"] },
];

fn pair(canary: &Canary) -> String {
    STANDARD.encode(format!("{}:{}", canary.user, canary.secret))
}

/// A token that looks like those of the world: three parts, of which none may be seen.
fn jwt() -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = r#"{"sub":"jwt-canary-77","access":[]}"#;
    format!("{}.{}.{}", part(r#"{"alg":"ES256","typ":"JWT"}"#), part(claims), part("signature-canary-88"))
}

/// Everything that may nowhere be seen.
fn unspeakable() -> Vec<String> {
    let mut texts: Vec<String> = jwt().split('.').map(str::to_owned).collect();
    // Tokens of the test's own services, and signatures of its storage.
    texts.extend(["t0ken-canary".to_owned(), "s1gnature".to_owned(), "X-Amz-Signature=".to_owned()]);
    for canary in &CANARIES {
        let bare = [STANDARD.encode(canary.secret), URL_SAFE_NO_PAD.encode(canary.secret)];
        texts.extend([canary.secret.to_owned(), pair(canary)]);
        texts.extend(bare.map(|text| text.trim_end_matches('=').to_owned()));
    }
    texts
}

/// A registry with one image, for each way to know a login; all behind one proxy's door where they have a name.
struct Canaries {
    net: Net,
    target: Registry,
    by_config: Registry,
    by_authfile: Registry,
    by_helper: Registry,
    by_identity: Registry,
    by_jwt: Registry,
    proxied: Registry,
    proxy: Proxy,
}

impl Canaries {
    fn new() -> Self {
        let net = Net::new();
        let [config, authfile, helper, stdin, _, identity] = &CANARIES;
        let basic = |canary: &Canary| Auth::basic(canary.user, canary.secret);
        let cdn = net.cdn("cdn");
        let tokens = net.token_service("auth").user(helper.user, helper.secret).start();
        let exchange = net.token_service("auth-by-post").identity_token(identity.secret).start();
        let jwts = net.trap("auth-of-jwt");
        let answer = format!(r#"{{"token":"{}"}}"#, jwt());
        jwts.fault(any().then(Fault::Status(200).body("application/json", answer)));
        let registry = |name: &str| {
            let mut content = Content::new();
            let seed = name.len() as u64 + u64::from(name.as_bytes()[name.len() - 1]);
            content.add(&format!("{name}/app"), "1", &Image::generated(Kind::Oci, seed, &[3_000]));
            net.registry(name).content(&content)
        };
        let challenge = format!("Bearer realm=\"{}/token\",service=\"s\"", jwts.url());
        let refused = Fault::Status(401).header("WWW-Authenticate", &challenge);
        let bearer = format!("Bearer {}", jwt());
        let stranger = any().when(move |call| call.header("authorization") != Some(&bearer)).then(refused);
        let proxied = registry("proxied").tls_names(&["registry.invalid"]).start();
        let this = Self {
            target: net.registry("target").auth(basic(stdin)).start(),
            by_config: registry("by-config").auth(basic(config)).start(),
            by_authfile: registry("by-authfile").auth(basic(authfile)).start(),
            by_helper: registry("by-helper").auth(Auth::Token(tokens)).start(),
            by_identity: registry("by-identity").auth(Auth::Token(exchange)).start(),
            by_jwt: registry("by-jwt").rule(stranger).start(),
            proxy: Proxy::start(&net, proxied.addr()),
            proxied,
            net,
        };
        // Signed addresses; the storage host lives as long as its net.
        this.by_helper.fault(on(Op::BlobGet).with_header("authorization").then(Fault::redirect(&cdn)));
        std::mem::forget((cdn, jwts));
        this
    }

    fn sources(&self) -> [&Registry; 6] {
        [&self.by_config, &self.by_authfile, &self.by_helper, &self.by_identity, &self.by_jwt, &self.proxied]
    }

    fn program(&self) -> Program {
        let [config, authfile, helper, stdin, proxy, identity] = &CANARIES;
        let mut program = Program::new(&[&self.target.host(), "-vvv", "--retries", "1"]);
        for source in self.sources() {
            let name = source.name();
            if name == "proxied" {
                program = program.args(&["--image", "registry.invalid/proxied/app:1"]);
            } else {
                let mirror = format!("--source-mirror={name}.example.com={}", source.url());
                program = program.args(&["--image", &format!("{name}.example.com/{name}/app:1"), &mirror]);
            }
        }
        let answer = format!(r#"{{"Username":"{}","Secret":"{}"}}"#, helper.user, helper.secret);
        let script = format!("echo {} >&2; echo '{answer}'", helper.secret);
        let settings = serde_json::json!({
            "auths": {
                self.by_config.host(): { "auth": pair(config) },
                self.by_identity.host(): { "identitytoken": identity.secret },
                // Not asked for: --username is for the target.
                self.target.host(): { "auth": STANDARD.encode("nobody:unused-canary") },
            },
            "credHelpers": { self.by_helper.host(): "test" },
        });
        let program = program
            .helper("test", &script)
            .file(".docker/config.json", settings.to_string())
            .file("logins.json", auths(&self.by_authfile.host(), authfile.user, authfile.secret))
            .env("HTTPS_PROXY", self.proxy.url_with(proxy.user, proxy.secret))
            .env("SSL_CERT_FILE", self.net.ca_file())
            .args(&["--username", stdin.user, "--password-stdin"])
            .stdin(stdin.secret);
        let (logins, report) = (program.home("logins.json"), program.home("report.json"));
        let program = program.args(&["--authfile", logins.to_str().unwrap()]);
        program.args(&["--report", report.to_str().unwrap()])
    }

    /// Runs it and looks at every byte that it leaves: output, report, and its line in the process list.
    #[track_caller]
    fn run(&self, program: Program, what: &str) -> Ended {
        let running = program.start();
        let arguments = std::fs::read(format!("/proc/{}/cmdline", running.child.id()));
        let arguments = String::from_utf8_lossy(&arguments.expect("it runs")).into_owned();
        let (ended, report) = running.wait_and(|home| std::fs::read_to_string(home.join("report.json")));
        let report = report.unwrap_or_default();
        assert!(ended.code.is_some(), "{what}: {ended:?}");
        let texts = [("stdout", &ended.stdout), ("stderr", &ended.stderr), ("the report", &report)];
        for secret in unspeakable() {
            for (place, text) in texts.into_iter().chain([("the process list", &arguments)]) {
                assert!(!text.contains(&secret), "{what}: {secret} is in {place}:\n{text}");
            }
        }
        self.assert_only_the_right_hosts_know(what);
        ended
    }

    /// Each login was seen by its own host and token service, and nobody else.
    #[track_caller]
    fn assert_only_the_right_hosts_know(&self, what: &str) {
        let seen = |entry: &Entry| {
            let headers = entry.headers.iter().map(|(_, value)| String::from_utf8_lossy(value.as_bytes()));
            let query = entry.query.clone().unwrap_or_default();
            headers.map(|value| value.into_owned()).chain([query]).collect::<Vec<_>>().join("\n")
        };
        for entry in self.net.journal().entries() {
            let text = seen(&entry);
            for canary in &CANARIES {
                let leaked = text.contains(&pair(canary)) || text.contains(canary.secret);
                let allowed = canary.hosts.contains(&entry.host.as_str());
                assert!(
                    !leaked || allowed,
                    "{what}: {} saw the secret of {}: {entry}",
                    entry.host,
                    canary.user
                );
            }
            let tokens = text.contains("t0ken-canary") || text.contains(&jwt());
            let allowed = ["by-helper", "by-identity", "by-jwt"].contains(&entry.host.as_str());
            assert!(!tokens || allowed, "{what}: {} saw a token: {entry}", entry.host);
        }
        for head in self.proxy.heads() {
            let foreign = CANARIES.iter().filter(|canary| canary.user != "proxy-user");
            for canary in foreign {
                assert!(!head.contains(&pair(canary)) && !head.contains(canary.secret), "{what}: {head}");
            }
        }
    }
}

/// S09, G-SECRET: all goes well, at every level of detail, in every form of output.
#[test]
fn no_secret_is_written_where_all_goes_well() {
    for (form, log) in [("text", "text"), ("json", "json")] {
        let canaries = Canaries::new();
        let forms = ["-o", form, "--log-format", log];
        let run = canaries.run(canaries.program().args(&forms).env("RUST_LOG", "trace"), form);
        assert_eq!(run.code, Some(0), "{run:?}");
        let journal = canaries.net.journal();
        assert!(journal.count("cdn", Op::BlobGet) > 0 && !canaries.proxy.heads().is_empty());
        assert!(journal.of("auth-by-post", Op::Token).iter().any(|entry| entry.method == "POST"));
        let check = canaries.run(canaries.program().args(&["--check"]), "--check");
        assert_eq!(check.code, Some(0), "{check:?}");
        canaries.run(canaries.program().args(&["--dry-run"]), "--dry-run");
    }
}

/// So long after the first request every host has been shown its token.
const ISSUED: std::time::Duration = std::time::Duration::from_millis(400);

/// What a server says that echoes all that it was shown.
fn echo(canary: &Canary, tokens: &str) -> String {
    format!(
        "you sent Authorization: Basic {}, that is {}:{}; Bearer {}; {tokens}; see \
         https://storage.example.com/x?X-Amz-Signature=s1gnature000001&y=1",
        pair(canary),
        canary.user,
        canary.secret,
        jwt()
    )
}

/// S09, G-SECRET: each failure path, with servers that say back what they were shown.
#[test]
fn no_secret_is_written_where_things_fail() {
    let own =
        |name: &str| CANARIES.iter().find(|canary| canary.hosts.contains(&name)).unwrap_or(&CANARIES[5]);
    for status in [400, 401, 403, 404, 429, 500, 503] {
        for (kind, form) in [("json", "text"), ("text", "json")] {
            let canaries = Canaries::new();
            for host in canaries.sources().into_iter().chain([&canaries.target]) {
                let said = echo(own(host.name()), "Bearer t0ken-canary-000001");
                let answer = match kind {
                    "json" => Fault::Status(status).error("UNKNOWN", &said),
                    _ => Fault::Status(status).body("text/plain", said),
                };
                let late = [Op::BlobGet, Op::UploadPut, Op::ManifestPut];
                let rule = late.into_iter().fold(on(Op::UploadPatch), |rule, op| rule.or(op));
                // By then all have shown what they have: nobody can say back what was not issued yet.
                let rule = rule.with_header("authorization").then(Fault::DelayRequest(ISSUED));
                host.fault(rule.then(answer.retry_after("100000")));
            }
            let what = format!("{status} {kind}");
            let run = canaries.run(canaries.program().args(&["-o", form, "--log-format", form]), &what);
            assert_ne!(run.code, Some(0), "{what}: {run:?}");
            assert!(
                run.stdout.contains("***") || status == 401,
                "{what}: nothing was echoed\n{}",
                run.stdout
            );
        }
    }
}

/// S09: refused logins, broken tokens, damaged blobs behind signed addresses, connections that break.
#[test]
fn no_secret_is_written_where_logins_tokens_and_blobs_are_bad() {
    let broken = Fault::Status(200).body("application/json", format!("{{\"token\":\"{}", jwt()));
    let shouting = Fault::Status(500).body("text/plain", format!("internal: issued {}", jwt()));
    let refusing = |canary: &Canary| Fault::Status(401).error("DENIED", &echo(canary, ""));
    let everywhere: Vec<(&str, Fault)> = vec![
        ("refused", refusing(&CANARIES[2])),
        ("broken", broken),
        ("shouting", shouting),
        ("cut", Fault::HangUp(Cut::Rst)),
        ("raw", Fault::Raw(format!("HTTP/1.1 999 {}\r\n\r\n", echo(&CANARIES[2], "")).into())),
    ];
    for (what, fault) in everywhere {
        let net = Net::new();
        let helper = &CANARIES[2];
        let tokens = net.token_service("auth").user(helper.user, helper.secret).start();
        tokens.fault(on(Op::Token).then(fault));
        let single = Single::on(net, &[3_000], |source| source);
        let target = single.net.registry("target").auth(Auth::Token(tokens)).start();
        let program = single.program(&target.host()).args(&["-vvv"]).env("RUST_LOG", "trace");
        let run = program.login(&target.host(), helper.user, helper.secret).run();
        assert_ne!(run.code, Some(0), "{what}: {run:?}");
        for secret in unspeakable() {
            assert!(!run.stdout.contains(&secret) && !run.stderr.contains(&secret), "{what}: {run:?}");
        }
    }
    let canaries = Canaries::new();
    let spoiled = [Fault::FlipByte { at: 100 }, Fault::CutBody { after: 100, how: Cut::Rst }];
    for (source, fault) in [&canaries.by_config, &canaries.by_jwt].into_iter().zip(spoiled) {
        source.fault(on(Op::BlobGet).with_header("authorization").then(fault));
    }
    // What is behind the signed address is not what it should be.
    let digest = canaries.by_helper.content().blobs.keys().next().unwrap().clone();
    canaries.by_helper.flip_blob(&digest, 10);
    let run = canaries.run(canaries.program(), "damaged");
    assert_eq!(run.code, Some(1), "{run:?}");
    let damaged = run.stdout.lines().filter(|line| line.contains("damaged")).count();
    assert!(damaged > 0, "{}", run.stdout);
}

/// S09: what a user mistypes is quoted back, but for the password in it.
#[test]
fn a_password_in_an_address_on_the_command_line_is_not_quoted() {
    let place = format!("u:{PASSWORD}@registry.example.com");
    for arguments in [
        vec![place.clone()],
        vec![format!("https://{place}")],
        vec!["r.example.com".to_owned(), "--registry".to_owned(), place.clone()],
        vec!["r.example.com".to_owned(), format!("--source-mirror=docker.io={place}/x")],
        vec!["r.example.com".to_owned(), format!("--source-mirror=docker.io=http://{place}/x")],
        vec!["r.example.com".to_owned(), format!("--image={place}/app:1")],
        vec!["r.example.com".to_owned(), format!("--image=https://{place}/app:1")],
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let run = Program::new(&arguments).args(&["--dry-run"]).run().expect(2);
        assert!(!run.stderr.contains("canary"), "{}", run.stderr);
        assert!(run.stderr.contains("registry.example.com"), "{}", run.stderr);
    }
}
