//! One file of logins.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use super::{Login, Secret};
use crate::image::reference::{Host, Repository};
use crate::util::input;

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 4 << 20;
/// What docker's own tools call Docker Hub.
const HUB_SERVER: &str = "https://index.docker.io/v1/";
const HUB_HOST: &str = "index.docker.io";

/// A docker `config.json` or a podman `auth.json`, by its parts that concern logins.
#[derive(Debug)]
pub(super) struct AuthFile {
    origin: String,
    /// By host and path, without scheme.
    auths: HashMap<String, Entry>,
    helpers: HashMap<String, String>,
    store: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    auths: Option<HashMap<String, Option<Entry>>>,
    cred_helpers: Option<HashMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Clone, Default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry(***)")
    }
}

impl AuthFile {
    /// # Errors
    /// It cannot be read, is too large, or is not what docker and podman write.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = input::read_bytes(path, FILE_MAX).context("it cannot be read")?;
        Self::parse(&text, path.display().to_string())
    }

    /// # Errors
    /// The text is not what docker and podman write. The message does not quote it.
    pub(super) fn parse(text: &[u8], origin: String) -> Result<Self> {
        let raw: Raw = serde_json::from_slice(text).map_err(|e| {
            anyhow!("{origin} is not JSON of docker's form: line {}, column {}", e.line(), e.column())
        })?;
        let mut entries: Vec<(String, Entry)> = raw
            .auths
            .unwrap_or_default()
            .into_iter()
            .map(|(key, entry)| (key, entry.unwrap_or_default()))
            .collect();
        // Several keys may mean one place; which of them wins must not change from run to run. One that holds a
        // login beats one that is only a marker, then the shorter key wins, which is the plainer one.
        entries.sort_by(|(a, x), (b, y)| (x.is_usable(), b.len(), b).cmp(&(y.is_usable(), a.len(), a)));
        let auths = entries.into_iter().map(|(key, entry)| (normalize(&key), entry)).collect();
        let helpers = raw.cred_helpers.unwrap_or_default();
        let helpers = helpers.into_iter().map(|(key, helper)| (normalize(&key), helper)).collect();
        Ok(Self { origin, auths, helpers, store: raw.creds_store.filter(|store| !store.is_empty()) })
    }

    /// The helper that this file names for `host`: its own, or the store for all.
    pub(super) fn helper_for(&self, host: &Host) -> Option<String> {
        self.helpers.get(host_key(host)).filter(|h| !h.is_empty()).or(self.store.as_ref()).cloned()
    }

    /// Whether the helper is for this very host: then nothing else in the file is.
    pub(super) fn helper_is_exclusive(&self, host: &Host) -> bool {
        self.helpers.get(host_key(host)).is_some_and(|helper| !helper.is_empty())
    }

    /// What a helper knows `host` by.
    pub(super) fn server_name(&self, host: &Host) -> String {
        if host.is_docker_hub() { HUB_SERVER.to_owned() } else { host.to_string() }
    }

    /// The login under the longest key that `repository` is below.
    pub(super) fn login_for(&self, host: &Host, repository: &Repository) -> Option<Login> {
        let mut key = format!("{}/{repository}", host_key(host));
        loop {
            if let Some(login) = self.auths.get(&key).and_then(|entry| entry.login(&self.origin)) {
                return Some(login);
            }
            key.truncate(key.rfind('/')?);
        }
    }
}

impl Entry {
    fn is_usable(&self) -> bool {
        self.login("").is_some()
    }

    fn login(&self, origin: &str) -> Option<Login> {
        let filled = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let identity_token = filled(&self.identitytoken).map(Secret::new);
        let pair = match (filled(&self.auth), &self.username, &self.password) {
            (Some(auth), _, _) => decode(&auth),
            (None, Some(user), Some(password)) => Some((user.clone(), password.clone())),
            _ => None,
        };
        let (user, password) = match (pair, &identity_token) {
            (Some(pair), _) => pair,
            (None, Some(_)) => (String::new(), String::new()),
            (None, None) => return None,
        };
        if password.is_empty() && identity_token.is_none() {
            return None;
        }
        Some(Login { user, password: Secret::new(password), identity_token, origin: origin.to_owned() })
    }
}

/// docker writes base64 of `user:password`, at times with NULs behind it.
fn decode(auth: &str) -> Option<(String, String)> {
    let auth = auth.trim();
    let bytes = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

fn host_key(host: &Host) -> &str {
    if host.is_docker_hub() { HUB_HOST } else { host.as_str() }
}

/// `https://index.docker.io/v1/` → `index.docker.io`, `Host:5000/ns/` → `host:5000/ns`; docker's many names for its
/// own registry become one.
fn normalize(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let host = match host.to_ascii_lowercase().as_str() {
        "docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => HUB_HOST.to_owned(),
        other => other.to_owned(),
    };
    match path.trim_matches('/') {
        // The path of an API, not of a repository.
        "" | "v1" | "v2" => host,
        path => format!("{host}/{path}"),
    }
}
