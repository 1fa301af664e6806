//! Images named by the user: in a list with one reference a line, or in Kubernetes YAML.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::selection::kubernetes;
use crate::selection::kubernetes::Named;
use crate::util::input;
use crate::util::text::printable;

/// Largest list that is read, in bytes.
const LIST_MAX: u64 = 16 << 20;

/// Reads the list or the YAML in `path`; `-` is standard input.
///
/// # Errors
/// The file cannot be read, is too large, or has a line that is no reference; the message names the line.
pub fn read(path: &Path) -> Result<Vec<Named>> {
    let (name, text) = if path.as_os_str() == "-" {
        ("standard input".to_owned(), input::from_reader(std::io::stdin().lock(), LIST_MAX))
    } else {
        (path.display().to_string(), input::read(path, LIST_MAX))
    };
    parse(&text.with_context(|| format!("cannot read {name}"))?, &name)
}

/// What has nothing but references is a list. Anything else that looks like YAML is that.
fn parse(text: &str, name: &str) -> Result<Vec<Named>> {
    let references = match list(text, name) {
        Err(_) if is_yaml(text) => kubernetes::images(text, name)?,
        list => list?,
    };
    if references.is_empty() {
        bail!("{} names no image", printable(name));
    }
    Ok(references)
}

/// One reference a line; blank lines and what follows a `#` are passed over.
fn list(text: &str, name: &str) -> Result<Vec<Named>> {
    let name = printable(name);
    let mut references = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = without_comment(line);
        if line.is_empty() {
            continue;
        }
        let by = format!("{name}, line {}", number + 1);
        match line.parse() {
            Ok(reference) => references.push(Named { reference, by }),
            Err(error) => bail!("{by}: {error}"),
        }
    }
    Ok(references)
}

fn without_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

/// A mistyped line of a list should be told as such, and not as what YAML makes of it.
fn is_yaml(text: &str) -> bool {
    text.lines().map(without_comment).any(|line| {
        (line.starts_with(['{', '[']) && !begins_with_address(line))
            || line.starts_with("---")
            || line.ends_with(':')
            || line.contains(": ")
    })
}

/// `[::1]:5000/app`, however wrong the address is.
fn begins_with_address(line: &str) -> bool {
    let Some((address, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) else {
        return false;
    };
    address.bytes().all(|b| b.is_ascii_hexdigit() || b":.".contains(&b)) && rest.starts_with([':', '/'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<String>> {
        Ok(parse(text, "list.txt")?.iter().map(|image| image.reference.to_string()).collect())
    }

    #[test]
    fn a_list_has_one_reference_a_line_and_comments() {
        let list = "# all of them\nalpine:3 # small\r\n\n  quay.io/a/b:v1\n";
        assert_eq!(parsed(list).unwrap(), ["docker.io/library/alpine:3", "quay.io/a/b:v1"]);
        assert_eq!(parse(list, "list.txt").unwrap()[1].by, "list.txt, line 4");
    }

    #[test]
    fn anything_else_is_kubernetes_yaml() {
        let pod = "# a pod\nkind: Pod\nspec:\n  containers:\n    - image: quay.io/a/b:v1\n";
        assert_eq!(parsed(pod).unwrap(), ["quay.io/a/b:v1"]);
        let json = "{\n\"containers\": [{\"image\": \"a/b:1\"}]}\n";
        assert_eq!(parsed(json).unwrap(), ["docker.io/a/b:1"]);
        let told = format!("{:#}", parsed("kind: ConfigMap\n").unwrap_err());
        assert!(told.contains("names no image"), "{told}");
    }

    #[test]
    fn a_wrong_line_is_named() {
        let told = format!("{:#}", parsed("alpine:3\nnot an image\n").unwrap_err());
        assert!(told.contains("list.txt, line 2"), "{told}");
        let told = format!("{:#}", parsed("alpine:3\n[0::1]:5000/a:1\n").unwrap_err());
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
