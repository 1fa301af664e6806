//! Words of Go (<https://go.dev/ref/spec#Lexical_elements>), without comments.

use super::Unknown;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Name,
    /// The text of a string, without quotes and escapes.
    Text,
    Number,
    Sign,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub text: String,
    /// Counted from one.
    pub line: usize,
}

impl Token {
    pub fn is(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }

    pub fn is_name(&self, name: &str) -> bool {
        self.kind == Kind::Name && self.text == name
    }
}

/// Signs of more than one character that matter here; any other character is a sign of its own.
const LONG_SIGNS: [&str; 9] = [":=", "==", "!=", "<=", ">=", "&&", "||", "<-", "..."];

/// The tokens of `source`.
///
/// # Errors
/// A comment or a string does not end, or a string has an escape that no image needs.
pub fn tokens(source: &str) -> Result<Vec<Token>, Unknown> {
    let mut lexer = Lexer { rest: source, line: 1, tokens: Vec::new() };
    while lexer.next()? {}
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    rest: &'s str,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    /// Takes one token, comment or space; false at the end.
    fn next(&mut self) -> Result<bool, Unknown> {
        let Some(first) = self.rest.chars().next() else { return Ok(false) };
        if first.is_whitespace() || first == '\u{feff}' {
            self.skip(first.len_utf8());
        } else if self.rest.starts_with("//") {
            self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            let end = self.rest.find("*/").ok_or_else(|| self.unknown("a comment that does not end"))?;
            self.skip(end + 2);
        } else if first == '"' {
            self.quoted()?;
        } else if first == '`' {
            let end = self.rest[1..].find('`').ok_or_else(|| self.unknown("a text that does not end"))?;
            // Carriage returns are no part of such a text.
            let text = self.rest[1..=end].replace('\r', "");
            self.push(Kind::Text, text, end + 2);
        } else if first == '\'' {
            self.rune()?;
        } else if first.is_alphanumeric() || first == '_' {
            let is_part = |c: char| c.is_alphanumeric() || c == '_' || (first.is_ascii_digit() && c == '.');
            let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
            let kind = if first.is_ascii_digit() { Kind::Number } else { Kind::Name };
            self.push(kind, self.rest[..end].to_owned(), end);
        } else {
            let long = LONG_SIGNS.into_iter().find(|sign| self.rest.starts_with(sign));
            let length = long.map_or(first.len_utf8(), str::len);
            self.push(Kind::Sign, self.rest[..length].to_owned(), length);
        }
        Ok(true)
    }

    fn quoted(&mut self) -> Result<(), Unknown> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.push(Kind::Text, text, at + 1);
                    return Ok(());
                }
                '\n' => break,
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => text.push(c),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    // Texts with others are passages for people; a marker keeps them from being taken for an image.
                    _ => text.push('\u{fffd}'),
                },
                c => text.push(c),
            }
        }
        Err(self.unknown("a text that does not end"))
    }

    fn rune(&mut self) -> Result<(), Unknown> {
        let escaped = self.rest[1..].starts_with('\\');
        let after = if escaped { 3 } else { 2 };
        let end = self.rest.char_indices().skip(after).find(|(_, c)| *c == '\'').map(|(at, _)| at);
        let end = end.ok_or_else(|| self.unknown("a character that does not end"))?;
        self.push(Kind::Number, self.rest[..=end].to_owned(), end + 1);
        Ok(())
    }

    fn push(&mut self, kind: Kind, text: String, length: usize) {
        self.tokens.push(Token { kind, text, line: self.line });
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        self.line += self.rest[..length].matches('\n').count();
        self.rest = &self.rest[length..];
    }

    fn unknown(&self, why: &str) -> Unknown {
        Unknown::new(self.line, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<(String, usize)> {
        tokens(source).unwrap().into_iter().map(|token| (token.text, token.line)).collect()
    }

    #[test]
    fn comments_and_line_ends_of_any_kind_are_no_tokens() {
        let plain = "A: {\n\"*\": \"x\", // one \"b\"\n/* two\n lines */ },";
        let expected =
            [("A", 1), (":", 1), ("{", 1), ("*", 2), (":", 2), ("x", 2), (",", 2), ("}", 4), (",", 4)];
        let expected: Vec<_> = expected.map(|(text, line)| (text.to_owned(), line)).to_vec();
        assert_eq!(words(plain), expected);
        assert_eq!(words(&plain.replace('\n', "\r\n")), expected);
    }

    #[test]
    fn texts_lose_their_quotes_and_keep_their_slashes() {
        let found = tokens(r#"a := "https://x" + `raw // text` + "a \"b\"" + '\'' + 'x'"#).unwrap();
        let texts: Vec<_> = found.iter().filter(|t| t.kind == Kind::Text).map(|t| t.text.as_str()).collect();
        assert_eq!(texts, ["https://x", "raw // text", "a \"b\""]);
    }

    #[test]
    fn what_does_not_end_is_told_with_its_line() {
        for broken in ["\n\"abc\n", "\n/* abc", "\n`abc", "\n'a"] {
            assert_eq!(tokens(broken).unwrap_err().line, 2, "{broken:?}");
        }
    }
}
