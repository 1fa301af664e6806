use super::*;

/// A home with files in it, and the variables that go with it.
struct Home {
    directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
    given: Given,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_str().unwrap().to_owned();
        Self { directory, variables: vec![("HOME".into(), home)], given: Given::default() }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn file(self, file: &str, content: &str) -> Self {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// A variable whose value is the path of `file`.
    fn points(mut self, variable: &str, file: &str) -> Self {
        let path = self.path(file).to_str().unwrap().to_owned();
        self.variables.push((variable.into(), path));
        self
    }

    fn says(mut self, variable: &str, value: &str) -> Self {
        self.variables.push((variable.into(), value.into()));
        self
    }

    fn keyring(self) -> Result<Keyring> {
        let get = |name: &str| self.variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        Keyring::new(self.given, &get)
    }

    /// `user:password` for an image's place, or nothing.
    fn finds(self, place: &str) -> Option<String> {
        let keyring = self.keyring().unwrap();
        let reference: crate::image::reference::Reference = place.parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let login = runtime.block_on(keyring.find(&reference.host, &reference.repository)).unwrap();
        login.map(|l| format!("{}:{}", l.user, l.password.0))
    }
}

fn entry(key: &str, user: &str, password: &str) -> String {
    format!(r#""{key}":{{"auth":"{}"}}"#, STANDARD.encode(format!("{user}:{password}")))
}

fn auths(entries: &[(&str, &str)]) -> String {
    let entries: Vec<String> = entries.iter().map(|(key, user)| entry(key, user, "pw")).collect();
    format!(r#"{{"auths":{{{}}}}}"#, entries.join(","))
}

#[test]
fn keys_are_found_as_docker_and_podman_write_them() {
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, Option<&'a str>);
    let table: [Row; 16] = [
        (&[("https://index.docker.io/v1/", "u")], "alpine", Some("u:pw")),
        (&[("index.docker.io", "u")], "alpine", Some("u:pw")),
        (&[("docker.io", "u")], "docker.io/a/b", Some("u:pw")),
        (&[("registry-1.docker.io", "u")], "alpine", Some("u:pw")),
        (&[("docker.io/a", "u")], "docker.io/a/b", Some("u:pw")),
        (&[("docker.io/a", "u")], "docker.io/c/b", None),
        (&[("r.example.com", "u")], "r.example.com/a", Some("u:pw")),
        (&[("r.example.com:5000", "u")], "r.example.com:5000/a", Some("u:pw")),
        (&[("r.example.com", "u")], "r.example.com:5000/a", None),
        (&[("R.Example.com", "u")], "r.example.com/a", Some("u:pw")),
        (&[("https://r.example.com/v2/", "u")], "r.example.com/a", Some("u:pw")),
        (&[("http://r.example.com/", "u")], "r.example.com/a", Some("u:pw")),
        (
            &[("r.example.com", "wide"), ("r.example.com/ns/app", "deep"), ("r.example.com/ns", "ns")],
            "r.example.com/ns/app",
            Some("deep:pw"),
        ),
        (&[("r.example.com", "wide"), ("r.example.com/ns", "ns")], "r.example.com/ns/other", Some("ns:pw")),
        (
            &[("r.example.com", "wide"), ("r.example.com/ns", "ns")],
            "r.example.com/nsx/other",
            Some("wide:pw"),
        ),
        (&[("[::1]:5000", "u")], "[::1]:5000/a", Some("u:pw")),
    ];
    for (entries, place, expected) in table {
        let home = Home::new().file(".docker/config.json", &auths(entries));
        assert_eq!(home.finds(place).as_deref(), expected, "{entries:?} {place}");
    }
}

#[test]
fn entries_are_read_in_every_form() {
    let table = [
        (r#"{"username":"u","password":"p"}"#.to_owned(), Some("u:p")),
        (format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("u:p:q")), Some("u:p:q")),
        (format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("u:p\0\0")), Some("u:p")),
        (format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("u:p").trim_end_matches('=')), Some("u:p")),
        (r#"{"auth":""}"#.to_owned(), None),
        (r#"{"auth":"%%%"}"#.to_owned(), None),
        ("{}".to_owned(), None),
        ("null".to_owned(), None),
        (r#"{"identitytoken":"t"}"#.to_owned(), Some(":")),
    ];
    for (entry, expected) in table {
        let home =
            Home::new().file(".docker/config.json", &format!(r#"{{"auths":{{"r.example.com":{entry}}}}}"#));
        assert_eq!(home.finds("r.example.com/a").as_deref(), expected, "{entry}");
    }
}

#[test]
fn places_are_looked_into_in_the_documented_order() {
    let all = [
        "authfile.json",
        "registry.json",
        "run/containers/auth.json",
        ".config/containers/auth.json",
        "d/config.json",
    ];
    // With every place filled, then with the first removed, and so on.
    for (removed, first) in
        ["authfile", "registry", "variable", "run", "config", "docker"].into_iter().enumerate()
    {
        let mut home = Home::new();
        let mut rank = 0;
        let mut next = |user: &str| {
            rank += 1;
            (rank > removed).then(|| auths(&[("r.example.com", user)]))
        };
        if let Some(json) = next("authfile") {
            home = home.file(all[0], &json);
            home.given.authfile = Some(home.path(all[0]));
        }
        if let Some(json) = next("registry") {
            home = home.file(all[1], &json).points("REGISTRY_AUTH_FILE", all[1]);
        }
        if let Some(json) = next("variable") {
            home = home.says("DOCKER_AUTH_CONFIG", &json);
        }
        if let Some(json) = next("run") {
            home = home.file(all[2], &json);
        }
        if let Some(json) = next("config") {
            home = home.file(all[3], &json);
        }
        home = home.file(all[4], &next("docker").unwrap());
        home = home.points("XDG_RUNTIME_DIR", "run").points("DOCKER_CONFIG", "d");
        assert_eq!(home.finds("r.example.com/a"), Some(format!("{first}:pw")));
    }
}

#[test]
fn the_login_of_the_command_line_is_for_the_target_alone() {
    let mut home =
        Home::new().file(".docker/config.json", &auths(&[("r.example.com", "file"), ("s.example.com", "s")]));
    let login = Login {
        user: "given".into(),
        password: Secret::new("pw".into()),
        identity_token: None,
        origin: "--username".into(),
    };
    home.given.target = Some(("r.example.com".parse().unwrap(), login));
    let keyring = home.keyring().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let user = |host: &str| {
        let found = runtime.block_on(keyring.find(&host.parse().unwrap(), &"a".parse().unwrap()));
        found.unwrap().map(|login| login.user)
    };
    assert_eq!(user("r.example.com").as_deref(), Some("given"));
    assert_eq!(user("s.example.com").as_deref(), Some("s"));
}

#[test]
fn one_of_several_equal_keys_wins_every_time() {
    let json =
        auths(&[("https://index.docker.io/v1/", "long"), ("docker.io", "short"), ("index.docker.io", "mid")]);
    for _ in 0..20 {
        let home = Home::new().file(".docker/config.json", &json);
        assert_eq!(home.finds("alpine"), Some("short:pw".into()));
    }
    // A key without a login, as helpers leave it behind, does not hide one with it.
    let json =
        format!(r#"{{"auths":{{"docker.io":{{}},{}}}}}"#, entry("https://index.docker.io/v1/", "u", "pw"));
    assert_eq!(Home::new().file(".docker/config.json", &json).finds("alpine"), Some("u:pw".into()));
}

#[test]
fn a_named_file_has_to_be_there_and_a_broken_one_is_named_and_not_quoted() {
    let missing = Home::new().points("REGISTRY_AUTH_FILE", "nowhere.json").keyring();
    assert!(format!("{:#}", missing.unwrap_err()).contains("nowhere.json"));
    let broken = Home::new().file(".docker/config.json", "{\"auths\":{\"a\":{\"auth\":hunter2}}}").keyring();
    let told = format!("{:#}", broken.unwrap_err());
    assert!(told.contains("config.json") && told.contains("line 1") && !told.contains("hunter2"), "{told}");
}

#[test]
fn nothing_secret_is_printed() {
    let json = format!(r#"{{"auths":{{{}}}}}"#, entry("r.example.com", "u", "hunter2"));
    let keyring = Home::new().file(".docker/config.json", &json).keyring().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let login = runtime.block_on(keyring.find(&"r.example.com".parse().unwrap(), &"a".parse().unwrap()));
    let login = login.unwrap().unwrap();
    let shown = format!("{keyring:?} {login:?} {:?}", login.basic());
    assert!(!shown.contains("hunter2") && !shown.contains(&STANDARD.encode("u:hunter2")), "{shown}");
}

#[test]
fn helpers_without_a_plain_name_are_not_run() {
    for name in ["../../tmp/x", "x y; rm", "/bin/sh", "a\u{0}b"] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = runtime.block_on(helper::get(name, "r.example.com")).unwrap_err().to_string();
        assert!(told.contains("no valid name"), "{told}");
    }
}

#[test]
fn a_helper_that_hangs_is_not_waited_for_and_ends_with_all_that_it_started() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let note = directory.path().join("child");
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "sleep 60 & echo $! > \"$0\"; wait"]).arg(&note);
    let began = std::time::Instant::now();
    let limit = std::time::Duration::from_secs(2);
    let asked = async { helper::ask(&mut command, "the-helper".into(), "r.example.com", limit).await };
    let told = runtime.block_on(asked).unwrap_err().to_string();
    assert!(told.contains("the-helper did not answer"), "{told}");
    let child = std::fs::read_to_string(note).unwrap();
    while is_alive(child.trim()) {
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "{child} is still there");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Whether a process runs; one that has ended may not have been waited for yet.
fn is_alive(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

proptest::proptest! {
    #[test]
    fn no_logins_make_the_parser_fail_or_be_quoted(
        garbage in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        key in ".{0,40}",
        auth in "hunter2.{0,40}|[A-Za-z0-9+/=]{0,40}",
    ) {
        let _ = AuthFile::parse(&garbage, "x".to_owned());
        let json = serde_json::json!({ "auths": { key: { "auth": auth } } }).to_string();
        let (host, repository) = ("r.example.com".parse().unwrap(), "a/b".parse().unwrap());
        for text in [&json[..], &json[..json.len() - 1]] {
            match AuthFile::parse(text.as_bytes(), "x".to_owned()) {
                Ok(file) => _ = file.login_for(&host, &repository),
                Err(error) => {
                    let quoted = format!("{error:#}").contains("hunter2");
                    proptest::prop_assert!(!quoted);
                }
            }
        }
    }
}
