//! What KubeOne decides in code by the version of Kubernetes: which it supports, the pause image, etcd's tag.

use std::collections::BTreeMap;

use anyhow::Result;
use mirror_images::selection::catalog::Minor;
use semver::Version;

use super::constraint::Constraint;
use super::go::{self, Case, Texts, Token, Unknown};
use super::images::{PATCHES_MAX, in_full};
use super::upstream::File;

/// The names of the two constraints in `validation.go`, in their two spellings. Since KubeOne 1.11 those of the first are
/// made of two more constants with bare versions.
const BOUNDS: [(&str, &str); 2] =
    [("minVersionConstraint", "maxVersionConstraint"), ("lowerVersionConstraint", "upperVersionConstraint")];

/// The function that compares numbers where there are no such constraints, up to KubeOne 1.3.3.
const COMPARES: &str = "ValidateVersionConfig";

/// Minors that are tried; the major is 1 as long as Kubernetes has no other.
const MINORS_MAX: u64 = 150;

/// More at once than any release of KubeOne supports: so many mean that a bound was misread.
const SUPPORTED_MAX: usize = 12;

/// The minors of Kubernetes that a release supports, of `pkg/apis/kubeone/validation/validation.go`. Where it has no
/// upper bound, those of `newest` are one: the minors of the newest patch release.
pub fn minors(file: &File<'_>, newest: Option<&[Minor]>) -> Result<Vec<Minor>> {
    let tokens = go::tokens(&file.text).map_err(|unknown| file.unknown(&unknown))?;
    let texts = Texts::of(&tokens);
    let constraint = |name| {
        let text = texts.named(name).map_err(|unknown| file.unknown(&unknown))?;
        Constraint::parse(&text).ok_or_else(|| {
            file.wrong(texts.line(name), format!("{name} is a constraint that is not known: {text:?}"))
        })
    };
    let is_supported: Box<dyn Fn(&Minor) -> bool> =
        match BOUNDS.into_iter().find(|(least, most)| texts.has(least) && texts.has(most)) {
            Some((least, most)) => {
                let bounds = [constraint(least)?, constraint(most)?];
                Box::new(move |minor| bounds.iter().all(|bound| bound.holds(&minor.patch(0))))
            }
            None => {
                let least = least_compared(&tokens).map_err(|unknown| file.unknown(&unknown))?;
                let most = newest.and_then(<[Minor]>::last).copied();
                let most =
                    most.ok_or_else(|| file.wrong(1, "the supported versions have no upper bound in it"))?;
                Box::new(move |minor| (least..=most.minor).contains(&minor.minor))
            }
        };
    let all = (0..MINORS_MAX).map(|minor| Minor { major: 1, minor });
    let minors: Vec<_> = all.filter(is_supported).collect();
    if minors.is_empty() || minors.len() > SUPPORTED_MAX {
        let line = BOUNDS.map(|(least, _)| texts.line(least)).into_iter().max().unwrap_or_default();
        return Err(file.wrong(line, format!("{} minors of Kubernetes would be supported", minors.len())));
    }
    Ok(minors)
}

/// The lower bound in `if v.Major() != 1 || v.Minor() < 19`.
fn least_compared(tokens: &[Token]) -> Result<u64, Unknown> {
    let unknown = |line| Unknown::new(line, "the supported versions are not under any of the names known");
    let declared = go::declarations(tokens, COMPARES)?;
    let function = declared.first().ok_or_else(|| unknown(1))?;
    let compared = function.windows(5).find(|window| {
        window[0].is_name("Minor") && window[1].is("(") && window[2].is(")") && window[3].is("<")
    });
    compared.and_then(|window| window[4].text.parse().ok()).ok_or_else(|| unknown(function[0].line))
}

/// The pause image that KubeOne sets in containerd, by minor, of `SandboxImage` in `pkg/apis/kubeone/helpers.go`; none
/// where there is no such function.
pub fn sandbox(file: &File<'_>, minors: &[Minor]) -> Result<Option<BTreeMap<Minor, String>>> {
    let tokens = go::tokens(&file.text).map_err(|unknown| file.unknown(&unknown))?;
    let read = || {
        let declared = go::declarations(&tokens, "SandboxImage")?;
        // Newer ones have a method of that name as well, which calls the function.
        let decides = declared.iter().find(|body| body.iter().any(|token| token.is_name("switch")));
        let function = match (decides, declared.first()) {
            (Some(function), _) | (None, Some(function)) => function,
            (None, None) => return Ok(None),
        };
        let texts = Texts::of(&tokens).with("registry", "registry.k8s.io");
        let decision = Decision::read(function, &texts)?;
        let mut images = BTreeMap::new();
        for minor in minors {
            let image = decision.of(&minor.patch(0));
            if (1..=PATCHES_MAX).any(|patch| decision.of(&minor.patch(patch)) != image) {
                let why = format!("the pause image differs within Kubernetes {minor}");
                return Err(Unknown::new(function[0].line, why));
            }
            let image = in_full(image).map_err(|why| Unknown::new(function[0].line, why))?;
            images.insert(*minor, image);
        }
        Ok(Some(images))
    };
    read().map_err(|unknown: Unknown| file.unknown(&unknown))
}

/// Etcd of the versions from `from` to one before `below`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    pub from: Version,
    pub below: Version,
    pub image: String,
}

/// The function that decides on etcd's tag, and the variable that has it.
const ETCD_FUNCTION: &str = "etcdVersionCorruptCheckExtraArgs";
pub const ETCD_TAG: &str = "etcdImageTag";

/// The etcd that KubeOne writes into kubeadm's configuration, of `pkg/templates/kubeadm/v1beta3/kubeadm.go`.
/// `is_for` tells for which versions that API of kubeadm is used.
pub fn etcd(file: &File<'_>, minors: &[Minor], is_for: impl Fn(&Version) -> bool) -> Result<Vec<Etcd>> {
    let tokens = go::tokens(&file.text).map_err(|unknown| file.unknown(&unknown))?;
    let read = || {
        let texts = Texts::of(&tokens).with(ETCD_TAG, "");
        let declared = go::declarations(&tokens, ETCD_FUNCTION)?;
        let decision = match declared.as_slice() {
            [] => Decision::assigned(&tokens, &texts)?,
            [function, ..] => Decision::read(function, &texts)?,
        };
        Ok(ranges(minors, |version| if is_for(version) { decision.of(version) } else { "" }))
    };
    read().map_err(|unknown: Unknown| file.unknown(&unknown))
}

/// Gathers versions that follow each other and have the same tag; no tag is kubeadm's own etcd.
fn ranges<'d>(minors: &[Minor], tag: impl Fn(&Version) -> &'d str) -> Vec<Etcd> {
    let mut found: Vec<Etcd> = Vec::new();
    // Whether the last range reaches up to the version that is looked at.
    let mut is_open = false;
    for minor in minors {
        for version in (0..=PATCHES_MAX).map(|patch| minor.patch(patch)) {
            let tag = tag(&version);
            let image = format!("registry.k8s.io/etcd:{tag}");
            let goes_on = is_open && found.last().is_some_and(|last| last.image == image);
            if let Some(last) = found.last_mut().filter(|_| is_open && !goes_on) {
                last.below = version.clone();
            }
            is_open = !tag.is_empty();
            if is_open && !goes_on {
                let below = Version::new(minor.major, minor.minor + 1, 0);
                found.push(Etcd { from: version, below, image });
            } else if let Some(last) = found.last_mut().filter(|_| goes_on) {
                last.below = Version::new(minor.major, minor.minor + 1, 0);
            }
        }
    }
    found
}

/// Which text belongs to a version: the first whose constraint holds.
#[derive(Debug)]
struct Decision(Vec<(Option<Constraint>, String)>);

impl Decision {
    /// Of a function whose `switch` returns a text first.
    fn read(function: &[Token], texts: &Texts<'_>) -> Result<Self, Unknown> {
        let mut decisions = Vec::new();
        for case in go::cases(function)? {
            let Some(condition) = condition(&case, texts)? else { continue };
            let returned = go::items(case.returned);
            let first =
                returned.first().ok_or_else(|| Unknown::new(case.line, "a case that returns nothing"))?;
            decisions.push((condition, texts.text(first)?));
        }
        if decisions.last().is_none_or(|(condition, _)| condition.is_some()) {
            return Err(Unknown::new(function[0].line, "a switch without default"));
        }
        Ok(Self(decisions))
    }

    /// Of `if CONSTRAINT.Check(version) { if etcdImageTag == "" { etcdImageTag = TAG } … }`, as KubeOne 1.3 has it.
    fn assigned(tokens: &[Token], texts: &Texts<'_>) -> Result<Self, Unknown> {
        let mut decisions = Vec::new();
        for at in 1..tokens.len() {
            if !(tokens[at].is("=") && tokens[at - 1].is_name(ETCD_TAG)) {
                continue;
            }
            let line = tokens[at].line;
            let conditions = (0..at).rev().filter(|start| {
                let open = tokens[*start..at].iter().position(|token| token.is("{"));
                tokens[*start].is_name("if")
                    && open.is_some_and(|open| {
                        go::within(tokens, start + open).is_ok_and(|inner| start + open + inner.len() >= at)
                    })
            });
            let checks = conditions.filter_map(|start| match &tokens[start + 1..] {
                [constraint, dot, check, ..] if dot.is(".") && check.is_name("Check") => Some(constraint),
                _ => None,
            });
            let [constraint] = checks.collect::<Vec<_>>()[..] else {
                return Err(Unknown::new(
                    line,
                    format!("{ETCD_TAG} is set under conditions that are not known"),
                ));
            };
            let constraint = named(constraint, texts)?;
            decisions.push((Some(constraint), texts.text(&tokens[at + 1..=at + 1])?));
        }
        decisions.push((None, String::new()));
        Ok(Self(decisions))
    }

    fn of(&self, version: &Version) -> &str {
        let holds = |constraint: &Option<Constraint>| constraint.as_ref().is_none_or(|c| c.holds(version));
        self.0.iter().find(|(constraint, _)| holds(constraint)).map_or("", |(_, text)| text)
    }
}

/// The constraint of a case, `Some(None)` for `default`, and none for a case that is about the user's own choice of
/// etcd.
fn condition(case: &Case<'_>, texts: &Texts<'_>) -> Result<Option<Option<Constraint>>, Unknown> {
    match case.condition {
        None => Ok(Some(None)),
        Some([tag, differs, text]) if tag.is_name(ETCD_TAG) && differs.is("!=") && text.text.is_empty() => {
            Ok(None)
        }
        Some([constraint, dot, check, open, _, close])
            if dot.is(".") && check.is_name("Check") && open.is("(") && close.is(")") =>
        {
            named(constraint, texts).map(Some).map(Some)
        }
        Some(_) => Err(Unknown::new(case.line, "a case that is no check of a constraint")),
    }
}

fn named(name: &Token, texts: &Texts<'_>) -> Result<Constraint, Unknown> {
    let text = texts.text(std::slice::from_ref(name))?;
    Constraint::parse(&text).ok_or_else(|| {
        Unknown::new(name.line, format!("{} is a constraint that is not known: {text:?}", name.text))
    })
}
