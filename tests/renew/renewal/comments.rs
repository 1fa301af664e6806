//! Comments within a value that is written anew: they stay with the line that they belong to.

/// `new` with the comments of `old`, and those that had to be left out because their line has changed or gone.
pub fn carry(old: &str, new: &str) -> (String, Vec<String>) {
    let mut comments = Comments::of(old);
    let mut text = String::new();
    for (path, line) in paths(new) {
        let found = comments.0.iter().position(|comment| comment.path == path);
        let comment = found.map(|found| comments.0.remove(found));
        if let Some(comment) = &comment {
            text += &comment.above;
        }
        text += line.trim_end();
        if let Some(Comment { beside, code, .. }) = comment
            && !beside.is_empty()
        {
            if code == line.trim() {
                text += &format!(" {beside}");
            } else {
                comments.0.push(Comment { beside, code, path: Vec::new(), above: String::new() });
            }
        }
        text.push('\n');
    }
    let lost = comments.0.iter().flat_map(|comment| comment.above.lines().chain([comment.beside.as_str()]));
    (text, lost.map(str::trim).filter(|comment| !comment.is_empty()).map(str::to_owned).collect())
}

struct Comment {
    /// The keys that lead to the line.
    path: Vec<String>,
    /// The lines of comment above it.
    above: String,
    /// The comment at its end, with `#`.
    beside: String,
    /// The line without that.
    code: String,
}

struct Comments(Vec<Comment>);

impl Comments {
    fn of(text: &str) -> Self {
        let mut found = Vec::new();
        let mut above = String::new();
        let without: String = text.split_inclusive('\n').filter(|line| !is_comment(line)).collect();
        let mut lines = paths(&without).into_iter();
        for line in text.split_inclusive('\n') {
            if is_comment(line) {
                above += line;
                continue;
            }
            let Some((path, _)) = lines.next() else { break };
            let (code, beside) = split(line);
            if !(above.is_empty() && beside.is_empty()) {
                let above = std::mem::take(&mut above);
                found.push(Comment { path, above, beside: beside.to_owned(), code: code.to_owned() });
            }
        }
        if !above.is_empty() {
            found.push(Comment { path: Vec::new(), above, beside: String::new(), code: String::new() });
        }
        Self(found)
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// A line and the comment at its end. No reference and no addon has a space in it.
fn split(line: &str) -> (&str, &str) {
    match line.find(" #") {
        Some(at) => (line[..at].trim(), line[at + 1..].trim_end()),
        None => (line.trim(), ""),
    }
}

/// Each line of a value with the keys that lead to it, by the lines' indentation.
fn paths(text: &str) -> Vec<(Vec<String>, &str)> {
    let mut stack: Vec<(usize, String)> = Vec::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        stack.retain(|(above, _)| *above < indent);
        let (code, _) = split(line);
        // A key, or what begins an item of a list.
        let key = code.split(": ").next().unwrap_or_default().trim_end_matches(':');
        let key = if code.starts_with("- ") { code } else { key };
        stack.push((indent, key.to_owned()));
        found.push((stack.iter().map(|(_, key)| key.clone()).collect(), line));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"base:
  # Above A.
  A:
    image:
      "1.20": null # Not for 1.20
      "1.21": b:v1
  B:
    image: c:v1 # Old
"#;

    #[test]
    fn a_comment_stays_with_its_line() {
        let bare = OLD.replace(" # Not for 1.20", "").replace(" # Old", "").replace("  # Above A.\n", "");
        assert_eq!(carry(OLD, &bare), (OLD.to_owned(), vec![]));
        let new =
            "base:\n  Z:\n    image: a:v1\n  A:\n    image:\n      \"1.20\": null\n      \"1.21\": b:v2\n";
        let expected = r#"base:
  Z:
    image: a:v1
  # Above A.
  A:
    image:
      "1.20": null # Not for 1.20
      "1.21": b:v2
"#;
        assert_eq!(carry(OLD, new), (expected.to_owned(), vec!["# Old".to_owned()]));
    }

    #[test]
    fn a_comment_whose_line_says_another_thing_is_told() {
        let new = "base:\n  B:\n    image: c:v2\n";
        let (text, lost) = carry(OLD, new);
        assert_eq!(text, new);
        assert_eq!(lost, ["# Above A.", "# Not for 1.20", "# Old"]);
    }
}
