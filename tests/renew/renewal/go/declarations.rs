//! Where in a file something is declared, and what is between two brackets.

use super::{Token, Unknown};

fn depth_change(token: &Token) -> i32 {
    if ["(", "[", "{"].iter().any(|sign| token.is(sign)) {
        1
    } else if [")", "]", "}"].iter().any(|sign| token.is(sign)) {
        -1
    } else {
        0
    }
}

/// The tokens between the bracket at `open` and the one that closes it.
pub fn within(tokens: &[Token], open: usize) -> Result<&[Token], Unknown> {
    if tokens.get(open).map(depth_change) != Some(1) {
        let line = tokens.get(open).or(tokens.last()).map_or(1, |token| token.line);
        return Err(Unknown::new(line, "no bracket where one is expected"));
    }
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        depth += depth_change(token);
        if depth == 0 {
            return Ok(&tokens[open + 1..at]);
        }
    }
    Err(Unknown::new(tokens[open].line, "a bracket that is not closed"))
}

/// Parts of `tokens` that commas outside of any bracket separate; none is empty.
pub fn items(tokens: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0;
    let is_comma = |token: &Token| {
        depth += depth_change(token);
        depth == 0 && token.is(",")
    };
    tokens.split(is_comma).filter(|part| !part.is_empty()).collect()
}

/// Each function or method `name`, and each variable at the top of the file that is a literal in braces: its tokens
/// from its name to its last brace.
pub fn declarations<'t>(tokens: &'t [Token], name: &str) -> Result<Vec<&'t [Token]>, Unknown> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].is("{") {
            // Inside of a body nothing is declared that counts.
            at += within(tokens, at)?.len() + 2;
            continue;
        }
        if tokens[at].is_name(name) && is_declared(tokens, at) {
            let brace = body(tokens, at)?;
            let end = brace + within(tokens, brace)?.len() + 2;
            found.push(&tokens[at..end]);
            at = end;
            continue;
        }
        at += 1;
    }
    Ok(found)
}

/// `func NAME`, `func (receiver) NAME`, or `NAME =`.
fn is_declared(tokens: &[Token], at: usize) -> bool {
    let is_func = |before: Option<usize>| before.is_some_and(|before| tokens[before].is_name("func"));
    let is_variable = tokens.get(at + 1).is_some_and(|next| next.is("="));
    is_variable || is_func(at.checked_sub(1)) || is_func(before_receiver(tokens, at))
}

/// The token before the brackets that end right before `at`.
fn before_receiver(tokens: &[Token], at: usize) -> Option<usize> {
    let mut depth = 0;
    for before in (0..at).rev() {
        depth += depth_change(&tokens[before]);
        if depth >= 0 {
            return (before + 1 < at).then(|| before.checked_sub(1))?;
        }
    }
    None
}

/// The brace that opens the body of what is declared at `at`, beyond its parameters, results and types.
fn body(tokens: &[Token], at: usize) -> Result<usize, Unknown> {
    let mut next = at + 1;
    while let Some(token) = tokens.get(next) {
        if token.is("(") || token.is("[") {
            next += within(tokens, next)?.len() + 2;
            continue;
        }
        let is_type = ["struct", "interface"].iter().any(|word| tokens[next - 1].is_name(word));
        if token.is("{") && is_type {
            next += within(tokens, next)?.len() + 2;
            continue;
        }
        if token.is("{") {
            return Ok(next);
        }
        next += 1;
    }
    Err(Unknown::new(tokens[at].line, format!("{} has no body in braces", tokens[at].text)))
}

#[cfg(test)]
mod tests {
    use super::super::tokens;
    use super::*;

    fn lines(source: &str, name: &str) -> Vec<(usize, usize)> {
        let tokens = tokens(source).unwrap();
        let found = declarations(&tokens, name).unwrap();
        found.iter().map(|found| (found[0].line, found.last().unwrap().line)).collect()
    }

    #[test]
    fn functions_methods_and_variables_are_found_and_calls_are_not() {
        let source = r#"var (
	Known = map[string]string{
	}
)
func (a *pkg.T[map[string]int]) Known(x func(int) int) (b, c int) {
	Known(1)
}
func Known() map[string]struct{} {
}
func other() {
	Known = nil
	Known()
}
"#;
        assert_eq!(lines(source, "Known"), [(2, 3), (5, 7), (8, 9)]);
        assert_eq!(lines(source, "Unknown"), []);
    }

    #[test]
    fn commas_within_brackets_do_not_separate() {
        let tokens = tokens("a: {b, c}, f(d, e),\n").unwrap();
        let lengths: Vec<_> = items(&tokens).iter().map(|item| item.len()).collect();
        assert_eq!(lengths, [7, 6]);
    }
}
