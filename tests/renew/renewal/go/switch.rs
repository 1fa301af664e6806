//! `switch` without a subject, the shape in which KubeOne decides by version.

use super::{Token, Unknown, within};

/// One case: when it holds, and which expressions it returns.
#[derive(Debug)]
pub struct Case<'t> {
    /// The condition; none for `default`.
    pub condition: Option<&'t [Token]>,
    /// What follows `return`; an earlier case may share it by `fallthrough`.
    pub returned: &'t [Token],
    pub line: usize,
}

/// The cases of the first `switch {` of `body`, in their order, `default` last.
///
/// # Errors
/// There is no such `switch`, or a case does something else than to return.
pub fn cases(body: &[Token]) -> Result<Vec<Case<'_>>, Unknown> {
    let line = body.first().map_or(1, |token| token.line);
    let start = body.windows(2).position(|pair| pair[0].is_name("switch") && pair[1].is("{"));
    let start = start.ok_or_else(|| Unknown::new(line, "no `switch {` in this function"))?;
    let inner = within(body, start + 1)?;
    let mut starts = Vec::new();
    let mut depth = 0;
    for (at, token) in inner.iter().enumerate() {
        if token.is("{") || token.is("(") {
            depth += 1;
        } else if token.is("}") || token.is(")") {
            depth -= 1;
        } else if depth == 0 && (token.is_name("case") || token.is_name("default")) {
            starts.push(at);
        }
    }
    let mut found: Vec<Case<'_>> = Vec::new();
    // From the last, whose return the ones before may fall through to.
    for (number, &at) in starts.iter().enumerate().rev() {
        let case = &inner[at..starts.get(number + 1).copied().unwrap_or(inner.len())];
        let line = case[0].line;
        let colon = case.iter().position(|token| token.is(":"));
        let colon = colon.ok_or_else(|| Unknown::new(line, "a case without a colon"))?;
        let returned = match &case[colon + 1..] {
            [only] if only.is_name("fallthrough") => found.last().map(|next| next.returned),
            [first, returned @ ..] if first.is_name("return") => Some(returned),
            _ => None,
        };
        let returned =
            returned.ok_or_else(|| Unknown::new(line, "a case that neither returns nor falls through"))?;
        let condition = case[0].is_name("case").then(|| &case[1..colon]);
        found.push(Case { condition, returned, line });
    }
    found.reverse();
    // `default` counts last, wherever it stands.
    found.sort_by_key(|case| case.condition.is_none());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::tokens;
    use super::*;

    fn returns(source: &str) -> Result<Vec<(bool, String)>, Unknown> {
        let tokens = tokens(source).unwrap();
        let cases = cases(&tokens)?;
        Ok(cases.iter().map(|case| (case.condition.is_some(), case.returned[0].text.clone())).collect())
    }

    #[test]
    fn a_case_may_fall_through_and_the_default_counts_last() {
        let source = r#"f {
switch {
default:
return "c", x
case a.Check(v):
fallthrough
case b.Check(v):
return "b", x
}
}"#;
        let expected = [(true, "b"), (true, "b"), (false, "c")];
        assert_eq!(returns(source).unwrap(), expected.map(|(is_case, text)| (is_case, text.to_owned())));
    }

    #[test]
    fn a_case_that_does_more_is_unknown_with_its_line() {
        let source = "f {\nswitch {\ncase a.Check(v):\nx = 1\nreturn \"b\"\n}\n}";
        assert_eq!(returns(source).unwrap_err().line, 3);
        assert_eq!(returns("f {\nif a {\n}\n}").unwrap_err().line, 1);
    }
}
