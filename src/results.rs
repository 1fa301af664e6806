//! Results on standard output, and in the file that the user names.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};

use anyhow::{Context as _, Result};
use mirror_images::cli::Format;
use mirror_images::options::OutputOptions;
use mirror_images::output::file::{self, Holds};
use mirror_images::output::report::{self, Exit};
use serde::Serialize;

/// Gives the result in the form and to the places that the user asked for; the exit status after that.
pub(crate) fn give<T: Display + Serialize>(output: &OutputOptions, result: &T, status: u8) -> u8 {
    let printed = in_form(output.format, result).and_then(|text| print(&text));
    write_report(output, result, after(printed, status))
}

/// The same where standard output is no place for it: what it says for people goes to standard error.
pub(crate) fn give_beside<T: Display + Serialize>(output: &OutputOptions, result: &T, status: u8) -> u8 {
    if !output.quiet || status != Exit::Done as u8 {
        let _ = write!(io::stderr(), "{result}");
    }
    write_report(output, result, status)
}

/// Writes the report of `result`, if there is to be one; the exit status after that.
pub(crate) fn write_report<T: Display + Serialize>(output: &OutputOptions, result: &T, status: u8) -> u8 {
    match &output.report {
        Some(path) => {
            let written =
                in_form(Format::Json, result).and_then(|json| file::write(path, &json, Holds::Report));
            after(written, status)
        }
        None => status,
    }
}

/// The exit status of a run whose result was to be told. The result is what it is; only its reader has to know.
pub(crate) fn after(told: Result<()>, status: u8) -> u8 {
    match told {
        Ok(()) => status,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            status.max(Exit::SomeFailed as u8)
        }
    }
}

/// The result as text or JSON.
pub(crate) fn in_form<T: Display + Serialize>(form: Format, result: &T) -> Result<String> {
    match form {
        Format::Text => Ok(result.to_string()),
        Format::Json => Ok(report::to_json(result)? + "\n"),
    }
}

/// Writes to standard output.
///
/// # Errors
/// It takes nothing, and not because its reader has seen enough.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    heard(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// What came of writing to standard output. A reader that has seen enough, such as head, is no error.
pub(crate) fn heard(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
