//! Constraints on versions as KubeOne writes them, for Masterminds/semver (<https://github.com/Masterminds/semver>).

use semver::Version;

/// All of its parts must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    operator: Operator,
    major: u64,
    minor: u64,
    /// `None` where the patch is left out or `x`.
    patch: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Constraint {
    /// Understands `*`, `1.22.x`, `>= 1.26.0`, `>= a, < b` and the like; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim() == "*" {
            return Some(Self(Vec::new()));
        }
        text.split(',').map(Part::parse).collect::<Option<Vec<_>>>().map(Self)
    }

    pub fn holds(&self, version: &Version) -> bool {
        self.0.iter().all(|part| part.holds(version))
    }
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let operators = [
            (">=", Operator::GreaterOrEqual),
            ("<=", Operator::LessOrEqual),
            (">", Operator::Greater),
            ("<", Operator::Less),
            ("=", Operator::Equal),
        ];
        let (operator, rest) = operators
            .into_iter()
            .find_map(|(sign, operator)| Some((operator, text.strip_prefix(sign)?)))
            .unwrap_or((Operator::Equal, text));
        let rest = rest.trim();
        let mut numbers = rest.strip_prefix('v').unwrap_or(rest).split('.');
        let (major, minor) = (number(numbers.next()?)?, number(numbers.next()?)?);
        let patch = match numbers.next() {
            None | Some("x" | "X" | "*") => None,
            Some(patch) => Some(number(patch)?),
        };
        numbers.next().is_none().then_some(Self { operator, major, minor, patch })
    }

    fn holds(&self, version: &Version) -> bool {
        let first = (self.major, self.minor, self.patch.unwrap_or(0));
        // Without a patch a part speaks of the whole minor: `<= 1.22` holds for 1.22.9.
        let last = (self.major, self.minor, self.patch.unwrap_or(u64::MAX));
        let version = (version.major, version.minor, version.patch);
        match self.operator {
            Operator::Equal => first <= version && version <= last,
            Operator::Less => version < first,
            Operator::LessOrEqual => version <= last,
            Operator::Greater => version > last,
            Operator::GreaterOrEqual => version >= first,
        }
    }
}

fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_hold_where_kubeone_takes_them_to() {
        let table: [(&str, &[&str], &[&str]); 9] = [
            ("*", &["1.0.0", "9.9.9"], &[]),
            ("1.22.x", &["1.22.0", "1.22.17"], &["1.21.9", "1.23.0"]),
            ("1.22", &["1.22.0", "1.22.17"], &["1.23.0"]),
            (">=1.36.x", &["1.36.0", "1.40.1"], &["1.35.9"]),
            (">= 1.19.0, < 1.20.0", &["1.19.0", "1.19.16"], &["1.18.9", "1.20.0"]),
            ("< 1.24.0", &["1.23.99"], &["1.24.0"]),
            ("<= 1.22", &["1.22.17", "1.3.0"], &["1.23.0"]),
            ("> 1.22", &["1.23.0"], &["1.22.17"]),
            ("= v1.22.3", &["1.22.3"], &["1.22.4"]),
        ];
        for (text, holds, fails) in table {
            let constraint = Constraint::parse(text).unwrap();
            let holds_for = |version: &&str| constraint.holds(&version.parse().unwrap());
            assert!(holds.iter().all(&holds_for), "{text}");
            assert!(!fails.iter().any(&holds_for), "{text}");
        }
    }

    #[test]
    fn other_constraints_are_not_guessed_at() {
        for text in [
            "",
            "~1.22",
            "^1.22.0",
            "1.22 || 1.23",
            "1.22 - 1.24",
            "!= 1.22.0",
            ">= 1",
            ">= 1.2.3.4",
            ">= 1.22.0-0",
            "1.x",
            ">=",
        ] {
            assert_eq!(Constraint::parse(text), None, "{text}");
        }
    }
}
