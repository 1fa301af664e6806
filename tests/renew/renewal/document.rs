//! A document of the catalog as text: its keys with the comments above them, so that one can be replaced and all others
//! stay as somebody wrote them.

use anyhow::{Result, ensure};

/// The keys of a release's document, in the order in which they stand.
pub const KEYS: [&str; 15] = [
    "kubeone",
    "patch",
    "released",
    "kubernetes",
    "sandbox",
    "etcd",
    "former_names_until",
    "gone",
    "moving",
    "rules",
    "base",
    "optional",
    "unlisted",
    "patches",
    "earlier",
];

/// One key at the top of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    key: String,
    /// Comments and empty lines above it.
    above: String,
    /// The key and its value.
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    blocks: Vec<Block>,
    /// Comments below the last key.
    below: String,
}

impl Document {
    /// # Errors
    /// A line at the margin is neither a key nor a comment; the message has its number.
    pub fn parse(text: &str) -> Result<Self> {
        let mut document = Self { blocks: Vec::new(), below: String::new() };
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let is_key = line.starts_with(|c: char| c.is_ascii_lowercase());
            let is_comment = line.trim().is_empty() || line.starts_with('#');
            let is_value = line.starts_with(' ') && !line.trim().is_empty();
            ensure!(is_key || is_comment || is_value, "line {}: neither a key nor a comment", number + 1);
            if is_key {
                let key = line.split(':').next().unwrap_or_default().to_owned();
                let above = std::mem::take(&mut document.below);
                document.blocks.push(Block { key, above, text: line.to_owned() });
            } else if is_comment {
                document.below += line;
            } else if let Some(block) = document.blocks.last_mut() {
                block.text += &std::mem::take(&mut document.below);
                block.text += line;
            } else {
                ensure!(false, "line {}: a value without a key", number + 1);
            }
        }
        Ok(document)
    }

    /// The key and its value as they stand.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.blocks.iter().find(|block| block.key == key).map(|block| block.text.as_str())
    }

    /// Puts `text` in the place of a key, or where the key belongs, below `above`, if it is not there yet.
    pub fn set(&mut self, key: &str, text: String, above: &str) {
        if let Some(block) = self.blocks.iter_mut().find(|block| block.key == key) {
            block.text = text;
            return;
        }
        let place = |key: &str| KEYS.iter().position(|known| *known == key).unwrap_or(KEYS.len());
        let after = self.blocks.iter().rposition(|block| place(&block.key) < place(key));
        let block = Block { key: key.to_owned(), above: above.to_owned(), text };
        self.blocks.insert(after.map_or(0, |after| after + 1), block);
    }

    pub fn remove(&mut self, key: &str) {
        self.blocks.retain(|block| block.key != key);
    }

    /// Replaces `from` in the comment above the first key.
    pub fn rename_head(&mut self, from: &str, to: &str) {
        if let Some(first) = self.blocks.first_mut() {
            first.above = first.above.replacen(from, to, 1);
        }
    }
}

impl std::fmt::Display for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for block in &self.blocks {
            f.write_str(&block.above)?;
            f.write_str(&block.text)?;
        }
        f.write_str(&self.below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# Head.

kubeone: "1.8"
patch: v1.8.0

# Rules.
rules:
  a: b
  # inside

  c: d

base:
  A: b
# End.
"#;

    #[test]
    fn a_document_is_printed_as_it_was_read() {
        let document = Document::parse(TEXT).unwrap();
        assert_eq!(document.to_string(), TEXT);
        assert_eq!(document.get("rules").unwrap(), "rules:\n  a: b\n  # inside\n\n  c: d\n");
    }

    #[test]
    fn a_key_is_replaced_or_comes_where_it_belongs() {
        let mut document = Document::parse(TEXT).unwrap();
        document.set("patch", "patch: v1.8.1\n".to_owned(), "");
        document.set("sandbox", "sandbox:\n".to_owned(), "\n# Pause.\n");
        document.set("earlier", "earlier:\n".to_owned(), "");
        document.remove("base");
        document.rename_head("Head", "Top");
        let expected = r#"# Top.

kubeone: "1.8"
patch: v1.8.1

# Pause.
sandbox:

# Rules.
rules:
  a: b
  # inside

  c: d
earlier:
# End.
"#;
        assert_eq!(document.to_string(), expected);
    }

    #[test]
    fn a_line_that_is_nothing_known_is_told() {
        assert!(Document::parse("a: b\n- c\n").unwrap_err().to_string().starts_with("line 2"));
        assert!(Document::parse("\n  c: d\n").unwrap_err().to_string().starts_with("line 2"));
    }
}
