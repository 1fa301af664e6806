//! Texts that a file fixes: constants, and what `fmt.Sprintf` and the parsers of constraints make of them.

use std::collections::BTreeMap;

use super::{Kind, Token, Unknown, items, within};

/// What names stand for, as tokens that are read when a name is asked for.
pub struct Texts<'t> {
    bound: BTreeMap<&'t str, &'t [Token]>,
    given: BTreeMap<&'static str, &'static str>,
}

/// Constants are defined by constants; upstream does so twice.
const DEPTH_MAX: usize = 8;

impl<'t> Texts<'t> {
    /// The names that are bound in a file, by `=` or `:=`; the first binding of a name counts.
    pub fn of(tokens: &'t [Token]) -> Self {
        let mut bound = BTreeMap::new();
        for (at, token) in tokens.iter().enumerate() {
            let is_binding = token.is("=") || token.is(":=");
            let Some(name) = at.checked_sub(1).map(|before| &tokens[before]).filter(|_| is_binding) else {
                continue;
            };
            let before = |steps: usize| at.checked_sub(steps).map(|before| &tokens[before]);
            // `NAME, err := …`, `NAME Type = …` or `NAME = …`.
            let name = match (before(2), before(3)) {
                (Some(comma), Some(first)) if comma.is(",") => first,
                (Some(first), _)
                    if first.kind == Kind::Name && first.line == name.line && !is_word(first) =>
                {
                    first
                }
                _ => name,
            };
            if name.kind == Kind::Name {
                bound.entry(name.text.as_str()).or_insert_with(|| expression(&tokens[at + 1..]));
            }
        }
        Self { bound, given: BTreeMap::new() }
    }

    /// The same where `name` is known to be `text`.
    pub fn with(mut self, name: &'static str, text: &'static str) -> Self {
        self.given.insert(name, text);
        self
    }

    pub fn has(&self, name: &str) -> bool {
        self.bound.contains_key(name)
    }

    /// The text of the constant `name`.
    pub fn named(&self, name: &str) -> Result<String, Unknown> {
        let value = self.bound.get(name).ok_or_else(|| Unknown::new(1, format!("no {name} in it")))?;
        self.text_at(value, 0)
    }

    /// The line of the constant `name`, 0 if there is none.
    pub fn line(&self, name: &str) -> usize {
        self.bound.get(name).and_then(|value| value.first()).map_or(1, |token| token.line)
    }

    /// The text that an expression has.
    pub fn text(&self, expression: &[Token]) -> Result<String, Unknown> {
        self.text_at(expression, 0)
    }

    fn text_at(&self, expression: &[Token], depth: usize) -> Result<String, Unknown> {
        let line = expression.first().map_or(1, |token| token.line);
        let unknown = || Unknown::new(line, format!("not understood as a text: {}", source(expression)));
        if depth > DEPTH_MAX {
            return Err(unknown());
        }
        if let Some(plus) = expression.iter().position(|token| token.is("+")) {
            let (left, right) = (&expression[..plus], &expression[plus + 1..]);
            return Ok(self.text_at(left, depth + 1)? + &self.text_at(right, depth + 1)?);
        }
        match expression {
            [text] if text.kind == Kind::Text => Ok(text.text.clone()),
            [name] if name.kind == Kind::Name => match self.given.get(name.text.as_str()) {
                Some(given) => Ok((*given).to_owned()),
                None => self.text_at(self.bound.get(name.text.as_str()).ok_or_else(unknown)?, depth + 1),
            },
            [.., last] if last.is(")") => {
                let open = expression.iter().position(|token| token.is("(")).ok_or_else(unknown)?;
                let called = open.checked_sub(1).map(|name| expression[name].text.as_str());
                let inner = within(expression, open)?;
                if open + inner.len() + 2 != expression.len() {
                    return Err(unknown());
                }
                let arguments = items(inner).into_iter().map(|argument| self.text_at(argument, depth + 1));
                let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
                match (called.map(str::to_lowercase).as_deref(), arguments.as_slice()) {
                    (Some("mustparseconstraint" | "newconstraint"), [constraint]) => Ok(constraint.clone()),
                    (Some("sprintf"), [format, values @ ..]) => filled(format, values).ok_or_else(unknown),
                    _ => Err(unknown()),
                }
            }
            _ => Err(unknown()),
        }
    }
}

/// Words that may stand before a name and are no name.
fn is_word(token: &Token) -> bool {
    ["const", "var", "return", "if", "else", "case", "range"].iter().any(|word| token.is_name(word))
}

/// The expression that `tokens` begin with: to the end of the line, or further where brackets or an operator say so.
fn expression(tokens: &[Token]) -> &[Token] {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        if ["(", "[", "{"].iter().any(|sign| token.is(sign)) {
            depth += 1;
        } else if [")", "]", "}"].iter().any(|sign| token.is(sign)) {
            depth -= 1;
        }
        if depth < 0 {
            return &tokens[..at];
        }
        let goes_on = token.kind == Kind::Sign && ![")", "]", "}"].iter().any(|sign| token.is(sign));
        let next_line =
            tokens.get(at + 1).is_none_or(|next| next.line > token.line || next.is(";") || next.is("{"));
        if depth == 0 && next_line && !goes_on {
            return &tokens[..=at];
        }
    }
    tokens
}

/// `format` with each `%s` replaced by one of `values`.
fn filled(format: &str, values: &[String]) -> Option<String> {
    let parts: Vec<_> = format.split("%s").collect();
    if parts.len() != values.len() + 1 || parts.iter().any(|part| part.contains('%')) {
        return None;
    }
    let mut text = parts[0].to_owned();
    for (value, part) in values.iter().zip(&parts[1..]) {
        text += value;
        text += part;
    }
    Some(text)
}

/// Tokens as somebody could have written them, for messages.
fn source(tokens: &[Token]) -> String {
    let shown = tokens.iter().take(20).map(|token| match token.kind {
        Kind::Text => format!("{:?}", token.text),
        _ => token.text.clone(),
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::tokens;
    use super::*;

    const SOURCE: &str = r#"
const (
	least = "1.33"
	Least string = "1.34"
)
var (
	atLeast = semverutil.MustParseConstraint(fmt.Sprintf(">= %s", least))
	joined  = "a" +
		least // the end
	wrong   = os.Getenv("X")
)
func f() {
	local, err := semver.NewConstraint(least)
	if x := least; x == "" {
	}
}
"#;

    #[test]
    fn constants_are_followed_through_calls() {
        let tokens = tokens(SOURCE).unwrap();
        let texts = Texts::of(&tokens);
        for (name, text) in [
            ("least", "1.33"),
            ("Least", "1.34"),
            ("atLeast", ">= 1.33"),
            ("joined", "a1.33"),
            ("local", "1.33"),
        ] {
            assert_eq!(texts.named(name).unwrap(), text, "{name}");
        }
    }

    #[test]
    fn what_only_a_run_could_tell_is_unknown_with_its_line() {
        let tokens = tokens(SOURCE).unwrap();
        let texts = Texts::of(&tokens);
        let unknown = texts.named("wrong").unwrap_err();
        assert_eq!((unknown.line, unknown.why.contains("os . Getenv")), (10, true), "{unknown}");
        assert!(texts.named("nobody").is_err());
    }

    #[test]
    fn a_constant_that_is_defined_by_itself_ends() {
        let tokens = tokens("a = b\nb = a\n").unwrap();
        assert!(Texts::of(&tokens).named("a").is_err());
    }

    #[test]
    fn a_format_wants_as_many_values_as_it_has() {
        assert_eq!(filled("%s/pause:%s", &["r".to_owned(), "3".to_owned()]).unwrap(), "r/pause:3");
        assert_eq!(filled("%s/pause:%d", &["r".to_owned()]), None);
        assert_eq!(filled("%s", &[]), None);
    }
}
