//! Credential helpers: programs that keep logins (docker-credential-helpers' protocol).

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{Login, Secret};
use crate::text::printable;

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

/// Asks `docker-credential-HELPER get` for the login at `server`; `None` if it has none.
///
/// # Errors
/// What went wrong, for the user; never what the helper wrote to its standard error, which may hold secrets.
pub(super) async fn get(helper: &str, server: &str) -> Result<Option<Login>, String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if helper.is_empty() || !helper.bytes().all(valid) {
        return Err(format!("the credential helper {:?} has no valid name", printable(helper)));
    }
    let program = format!("docker-credential-{helper}");
    ask(Command::new(&program).arg("get"), program, server, TIME_MAX).await
}

/// Runs `command`, which is called `program` in messages, and waits for its answer for so long.
pub(super) async fn ask(
    command: &mut Command,
    program: String,
    server: &str,
    limit: Duration,
) -> Result<Option<Login>, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("the credential helper {program} cannot be started: {e}"))?;
    let (succeeded, output) = timeout(limit, converse(&mut child, server))
        .await
        .map_err(|_| format!("the credential helper {program} did not answer within {} s", limit.as_secs()))?
        .map_err(|e| format!("the credential helper {program} failed: {e}"))?;
    if !succeeded {
        let said = String::from_utf8_lossy(&output).to_ascii_lowercase();
        // The helpers' common library says it like this; some others in their own words.
        return match said.contains("credentials not found") || said.contains("no credentials") {
            true => Ok(None),
            false => Err(format!(
                "the credential helper {program} failed; run it by hand: echo {server} | {program} get"
            )),
        };
    }
    let answer: Answer = serde_json::from_slice(&output)
        .map_err(|_| format!("the credential helper {program} gave an answer that is not a login"))?;
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
