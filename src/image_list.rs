//! Images named by the user: on the command line, or in a list with one reference a line.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::reference::Reference;
use crate::text::printable;

/// Largest list that is read, in bytes.
const LIST_MAX: u64 = 16 << 20;

/// Reads the list in `path`; `-` is standard input.
///
/// # Errors
/// The list cannot be read, is too large, or has a line that is no reference; the message names the line.
pub fn read(path: &Path) -> Result<Vec<Reference>> {
    if path.as_os_str() == "-" {
        return from_reader(std::io::stdin().lock(), "standard input");
    }
    let name = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
    from_reader(file, &name)
}

fn from_reader(reader: impl Read, name: &str) -> Result<Vec<Reference>> {
    let mut text = String::new();
    let read = reader.take(LIST_MAX + 1).read_to_string(&mut text);
    read.with_context(|| format!("cannot read {name}"))?;
    ensure!(text.len() as u64 <= LIST_MAX, "{name} is larger than {} MiB", LIST_MAX >> 20);
    parse(&text, name)
}

/// One reference a line; blank lines and what follows a `#` are passed over.
fn parse(text: &str, name: &str) -> Result<Vec<Reference>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut references = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match line.parse() {
            Ok(reference) => references.push(reference),
            Err(error) => bail!("{}, line {}: {error}", printable(name), number + 1),
        }
    }
    if references.is_empty() {
        bail!("{} names no image", printable(name));
    }
    Ok(references)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<String>> {
        Ok(parse(text, "list.txt")?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_list_has_one_reference_a_line_and_comments() {
        let list = "\u{feff}# all of them\nalpine:3 # small\r\n\n  quay.io/a/b:v1\n";
        assert_eq!(parsed(list).unwrap(), ["docker.io/library/alpine:3", "quay.io/a/b:v1"]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let told = format!("{:#}", parsed("alpine:3\nnot an image\n").unwrap_err());
        assert!(told.contains("list.txt, line 2"), "{told}");
        let told = format!("{:#}", parsed("# nothing\n").unwrap_err());
        assert!(told.contains("names no image"), "{told}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_fail(text in "(?s).{0,400}") {
            let _ = parse(&text, "list");
        }
    }
}
