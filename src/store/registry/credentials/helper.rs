//! Credential helpers: programs that keep logins (docker-credential-helpers' protocol).

use std::collections::HashSet;
use std::io::ErrorKind;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{Login, Secret};
use crate::util::text::printable;

/// A helper may ask the cloud or the user's key store, but not for ever.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Most that is read of what it prints, in bytes.
const OUTPUT_MAX: u64 = 64 << 10;
/// The user name that says: the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Why a helper gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HelperError {
    /// There is no such program.
    #[error("the credential helper {0} cannot be started: it is not on the PATH")]
    Absent(String),
    #[error("{0}")]
    Failed(String),
}

/// The process groups of helpers that are under way.
static GROUPS: Mutex<Option<HashSet<Pid>>> = Mutex::new(None);

/// Ends all helpers that are under way, and all that they have started: for a program that is about to end itself.
pub fn end_helpers() {
    let groups = GROUPS.lock().ok().and_then(|mut groups| groups.take());
    for group in groups.into_iter().flatten() {
        // It may have ended meanwhile.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// The process group of a helper, which ends when this is dropped, unless the helper has ended by itself. A helper is
/// often a script, and to end the shell alone would leave what it waits for.
struct Group(Pid);

impl Group {
    fn of(child: &Child) -> Option<Self> {
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()))?;
        if let Ok(mut groups) = GROUPS.lock() {
            groups.get_or_insert_default().insert(group);
        }
        Some(Self(group))
    }

    /// Leaves what the helper has left running on purpose, such as an agent.
    fn has_ended(self) {
        self.forget();
        std::mem::forget(self);
    }

    fn forget(&self) {
        if let Ok(mut groups) = GROUPS.lock() {
            groups.iter_mut().for_each(|groups| _ = groups.remove(&self.0));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
        self.forget();
    }
}

/// Asks `docker-credential-HELPER get` for the login at `server`; `None` if it has none.
///
/// # Errors
/// What went wrong, for the user; never what the helper wrote to its standard error, which may hold secrets.
pub(super) async fn get(helper: &str, server: &str) -> Result<Option<Login>, HelperError> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if helper.is_empty() || !helper.bytes().all(valid) {
        let why = format!("the credential helper {:?} has no valid name", printable(helper));
        return Err(HelperError::Failed(why));
    }
    let program = format!("docker-credential-{helper}");
    ask(Command::new(&program).arg("get"), program, server, TIME_MAX).await
}

/// Runs `command`, which is called `program` in messages, and waits for its answer for so long. It has a process group
/// of its own, which ends with it at the time limit, or where its answer is not waited for any more.
pub(super) async fn ask(
    command: &mut Command,
    program: String,
    server: &str,
    limit: Duration,
) -> Result<Option<Login>, HelperError> {
    let failed = |why: String| HelperError::Failed(format!("the credential helper {program} {why}"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| match e.kind() {
            ErrorKind::NotFound => HelperError::Absent(program.clone()),
            _ => failed(format!("cannot be started: {e}")),
        })?;
    let group = Group::of(&child);
    let (succeeded, output) = timeout(limit, converse(&mut child, server))
        .await
        .map_err(|_| failed(format!("did not answer within {} s", limit.as_secs())))?
        .map_err(|e| failed(format!("failed: {e}")))?;
    if let Some(group) = group {
        group.has_ended();
    }
    if !succeeded {
        let said = String::from_utf8_lossy(&output).to_ascii_lowercase();
        // The protocol has no other sign than these words of its own library, which clients compare (docker-credential-helpers,
        // `errCredentialsNotFoundMessage` in credentials/error.go); "no credentials" is what some others say.
        return if said.contains("credentials not found") || said.contains("no credentials") {
            Ok(None)
        } else {
            Err(failed(format!("failed; run it by hand: echo {server} | {program} get")))
        };
    }
    let answer: Answer = serde_json::from_slice(&output)
        .map_err(|_| failed("gave an answer that is not a login".to_owned()))?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    let is_token = answer.username == TOKEN_USER;
    let (password, token) =
        if is_token { (String::new(), Some(answer.secret)) } else { (answer.secret, None) };
    Ok(Some(Login {
        user: if is_token { String::new() } else { answer.username },
        password: Secret::new(password),
        identity_token: token.map(Secret::new),
        origin: program,
    }))
}

/// The server's name in, what the helper prints out, at most so much of it.
async fn converse(child: &mut Child, server: &str) -> std::io::Result<(bool, Vec<u8>)> {
    let mut stdin = child.stdin.take().expect("it was asked for");
    // A helper that does not read is no reason to fail: what counts is what it says.
    let _ = stdin.write_all(server.as_bytes()).await;
    drop(stdin);
    let mut output = Vec::new();
    let stdout = child.stdout.take().expect("it was asked for");
    stdout.take(OUTPUT_MAX + 1).read_to_end(&mut output).await?;
    if output.len() as u64 > OUTPUT_MAX {
        let _ = child.start_kill();
        return Err(std::io::Error::other("it prints too much"));
    }
    Ok((child.wait().await?.success(), output))
}
