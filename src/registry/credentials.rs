//! Logins that the user has, as `docker login` leaves them.
//!
//! Read is the `auths` section of docker's `config.json` (`$DOCKER_CONFIG/config.json` or
//! `~/.docker/config.json`), in the form of containers-auth.json(5).

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use crate::reference::Host;

/// Largest configuration file that is read, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// Something that must not be seen: neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the one request that it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A user's login at one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Secret,
    /// Where it was found, for messages.
    pub origin: String,
}

impl Login {
    /// The value of an `Authorization: Basic` header (RFC 7617).
    pub fn basic(&self) -> Secret {
        Secret(format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password.0))))
    }
}

/// The logins of one file.
#[derive(Debug, Default)]
pub struct Logins {
    origin: String,
    /// By key, reduced to host and port.
    by_host: HashMap<String, Entry>,
}

#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    auths: Option<HashMap<String, Entry>>,
}

#[derive(Deserialize, Clone, Default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry(***)")
    }
}

impl Logins {
    /// The logins in docker's configuration; none where there is no such file.
    ///
    /// # Errors
    /// The file is there but cannot be read or is not what docker writes.
    pub fn from_docker_config() -> Result<Self> {
        let path = match std::env::var_os("DOCKER_CONFIG").filter(|d| !d.is_empty()) {
            Some(dir) => PathBuf::from(dir).join("config.json"),
            None => match std::env::home_dir() {
                Some(home) => home.join(".docker/config.json"),
                None => return Ok(Self::default()),
            },
        };
        match path.exists() {
            true => Self::from_file(&path),
            false => Ok(Self::default()),
        }
    }

    /// # Errors
    /// The file cannot be read, is too large, or is not JSON of docker's form. The message never quotes it.
    pub fn from_file(path: &Path) -> Result<Self> {
        let origin = path.display().to_string();
        let size = std::fs::metadata(path).with_context(|| format!("cannot read {origin}"))?.len();
        ensure!(size <= FILE_MAX, "{origin} is too large for a docker configuration ({size} bytes)");
        let text = std::fs::read(path).with_context(|| format!("cannot read {origin}"))?;
        let file: File = serde_json::from_slice(&text).map_err(|e| {
            anyhow::anyhow!(
                "{origin} is not a docker configuration: line {}, column {}",
                e.line(),
                e.column()
            )
        })?;
        let mut entries: Vec<_> = file.auths.unwrap_or_default().into_iter().collect();
        // Several keys may mean one host; which of them wins must not change from run to run.
        entries.sort_by(|a, b| b.0.cmp(&a.0));
        let by_host = entries.into_iter().map(|(key, entry)| (host_of_key(&key), entry)).collect();
        Ok(Self { origin, by_host })
    }

    /// The login for `host`, if there is one that can be used.
    pub fn find(&self, host: &Host) -> Option<Login> {
        let key = if host.is_docker_hub() { "index.docker.io" } else { host.as_str() };
        let entry = self.by_host.get(key)?;
        let (user, password) = match (&entry.auth, &entry.username, &entry.password) {
            (Some(auth), _, _) if !auth.is_empty() => decode(auth)?,
            (_, Some(user), Some(password)) => (user.clone(), password.clone()),
            _ => return None,
        };
        Some(Login { user, password: Secret(password), origin: self.origin.clone() })
    }
}

/// docker writes base64 of `user:password`, at times with a NUL behind it.
fn decode(auth: &str) -> Option<(String, String)> {
    let auth = auth.trim();
    let bytes = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// `https://index.docker.io/v1/` → `index.docker.io`, `host:5000` → itself; all of docker's names are one.
fn host_of_key(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let host = bare.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match host.as_str() {
        "docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "index.docker.io".to_owned(),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(json: &str) -> Logins {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        Logins::from_file(&path).unwrap()
    }

    fn found(logins: &Logins, host: &str) -> Option<(String, String)> {
        logins.find(&host.parse().unwrap()).map(|l| (l.user, l.password.0))
    }

    #[test]
    fn keys_are_found_as_docker_writes_them() {
        let pair = |u: &str, p: &str| Some((u.to_owned(), p.to_owned()));
        let l = logins(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnNlY3JldA=="},
                "reg.example.com:5000":{"auth":"dTpwOnEA"},"https://b.example.com/v2/":{"username":"b","password":"c"},
                "empty.example.com":{}},"credsStore":"x"}"#,
        );
        assert_eq!(found(&l, "docker.io"), pair("hub", "secret"));
        assert_eq!(found(&l, "reg.example.com:5000"), pair("u", "p:q"));
        assert_eq!(found(&l, "reg.example.com"), None);
        assert_eq!(found(&l, "b.example.com"), pair("b", "c"));
        assert_eq!(found(&l, "empty.example.com"), None);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let l = logins(r#"{"auths":{"a.example.com":{"auth":"dXNlcjpodW50ZXIy"}}}"#);
        let login = l.find(&"a.example.com".parse().unwrap()).unwrap();
        let shown = format!("{l:?} {login:?} {:?}", login.basic());
        assert!(!shown.contains("hunter2") && !shown.contains("dXNlcjpodW50ZXIy"), "{shown}");
    }

    #[test]
    fn a_broken_file_is_named_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, "{\"auths\":{\"a\":{\"auth\":hunter2}}}").unwrap();
        let told = format!("{:#}", Logins::from_file(&path).unwrap_err());
        assert!(
            told.contains("config.json") && told.contains("line 1") && !told.contains("hunter2"),
            "{told}"
        );
    }
}
