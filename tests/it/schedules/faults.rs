//! What the faults of a schedule do to requests, and which images they touch for good.

use std::collections::BTreeSet;
use std::time::Duration;

use super::draw::{Mounts, Place, Planned, What};
use super::images::Named;
use crate::support::fault::Rule;
use crate::support::net::call::Call;
use crate::support::{Fault, Op, on};

/// Most strikes of faults that pass, over all of a schedule: a run survives so many of one request.
const STRIKES_MAX: usize = 8;

/// What a run can only be expected to survive so often.
#[derive(Default)]
pub struct Rations {
    pub strikes: usize,
    /// Damage on the way.
    flips: usize,
    forgotten: usize,
    tokens: usize,
    /// Wrong sizes of copies that the target has.
    sizes: usize,
}

/// A fault, and the images that it may keep from being copied.
pub struct Effect {
    /// At the registry of this reference's host, or else at the target.
    pub at_source_of: Option<&'static str>,
    pub rule: Rule,
    pub touched: BTreeSet<&'static str>,
}

/// What the fault does, where it makes sense at its place. `realm` is where tokens come from, if they are asked for.
pub fn effect(
    planned: &Planned,
    images: &[Named],
    realm: Option<&str>,
    unverified: bool,
    rations: &mut Rations,
) -> Option<Effect> {
    let named = &images[planned.repository % images.len()];
    let (repository, _) = crate::scene::place_of(named.reference);
    let (rule, at_source) = match planned.place {
        Place::SourceManifest => (on(Op::ManifestGet), true),
        Place::SourceBlob => (on(Op::BlobGet), true),
        Place::TargetHead => (on(Op::ManifestHead), false),
        Place::Start => (on(Op::Mount).or(Op::UploadStart), false),
        Place::Upload => (on(Op::UploadPut), false),
        Place::Piece => (on(Op::UploadPatch), false),
        Place::Manifest => (on(Op::ManifestPut), false),
        Place::BlobHead => (on(Op::BlobHead), false),
    };
    let mut rule = rule.repo(&repository).after(planned.after);
    let mut touched: BTreeSet<&'static str> = images
        .iter()
        .filter(|image| crate::scene::place_of(image.reference).0 == repository)
        .map(|image| image.reference)
        .collect();
    if let Some(narrow) = planned.narrow {
        let of_it: Vec<&Named> = images.iter().filter(|i| touched.contains(i.reference)).collect();
        let chosen = of_it[narrow % of_it.len()];
        match planned.place {
            Place::SourceManifest | Place::TargetHead | Place::Manifest => {
                rule = rule.tag(&crate::scene::place_of(chosen.reference).1);
                touched = BTreeSet::from([chosen.reference]);
            }
            Place::SourceBlob | Place::Upload if !chosen.layers.is_empty() => {
                let digest = &chosen.layers[0];
                rule = rule.digest(digest);
                touched.retain(|reference| {
                    images.iter().any(|i| i.reference == *reference && i.layers.contains(digest))
                });
            }
            _ => {}
        }
    }
    let for_ever = planned.for_ever && can_stay(planned);
    let (fault, times) = fault(planned, for_ever, &repository, realm, unverified, rations)?;
    if for_ever {
        rule = rule.then(fault);
    } else {
        let times = times.min(STRIKES_MAX.saturating_sub(rations.strikes));
        rations.strikes += times;
        rule = rule.times(times).then(fault);
        touched.clear();
    }
    Some(Effect { at_source_of: at_source.then_some(named.reference), rule, touched })
}

/// Whether it can stay for ever without a tag being moved behind the program's back.
fn can_stay(planned: &Planned) -> bool {
    match planned.what {
        What::Status(_) | What::Refusal(_) | What::Limited | What::Page | What::HangUp(_) => true,
        What::Flip | What::WrongSize(_) => planned.place == Place::SourceBlob,
        _ => false,
    }
}

/// The fault, and how often it strikes if it passes.
fn fault(
    planned: &Planned,
    for_ever: bool,
    repository: &str,
    realm: Option<&str>,
    unverified: bool,
    rations: &mut Rations,
) -> Option<(Fault, usize)> {
    let (place, times) = (planned.place, planned.times);
    let is_source_blob = place == Place::SourceBlob;
    let allowed = |count: &mut usize| {
        *count += 1;
        for_ever || *count <= 1
    };
    let fault = match planned.what {
        What::Status(status) => (Fault::Status(status).html("<html>busy</html>"), times),
        What::Refusal(status) if for_ever => (Fault::Status(status), times),
        What::Page if for_ever => (Fault::Status(200).html("<html>log in</html>"), times),
        What::Limited => (Fault::Status(429).retry_after("0"), times),
        What::HangUp(how) => (Fault::HangUp(how), times),
        What::LoseAnswer(how) => (Fault::LoseAnswer(how), times),
        What::FailAfterwards(status) if place == Place::Upload => (Fault::FailAfterwards(status), times),
        What::Late => (Fault::DelayHeaders(Duration::from_millis(60)), times),
        What::Closed => (Fault::CloseAfterAnswer, times),
        What::Stall if is_source_blob => (Fault::StallBody { after: 500 }, 1),
        What::Stall => (Fault::StallHeaders, 1),
        What::CutBody(at, how) if is_source_blob => (Fault::CutBody { after: at * 300, how }, times),
        What::Unchunked(at) if is_source_blob => (Fault::CloseDelimited { after: Some(at * 3) }, times),
        What::Flip if is_source_blob && allowed(&mut rations.flips) => (Fault::FlipByte { at: 1 }, 1),
        What::WrongSize(size) if is_source_blob && allowed(&mut rations.flips) => {
            (Fault::ExtraBytes(size), 1)
        }
        What::WrongSize(size) if place == Place::BlobHead && allowed(&mut rations.sizes) => {
            (Fault::SetHeader("Content-Length", size.to_string()), 1)
        }
        What::DropSession if matches!(place, Place::Upload | Place::Piece) => (Fault::DropSession, times),
        What::Forget if place == Place::Upload && !unverified && allowed(&mut rations.forgotten) => {
            (Fault::ForgetBlob, 1)
        }
        What::Reset(after) if matches!(place, Place::Upload | Place::Piece) => {
            (Fault::ResetAfterReading(after), times)
        }
        What::TokenGone if allowed(&mut rations.tokens) => {
            let actions = match place {
                Place::SourceManifest | Place::SourceBlob => "pull",
                _ => "pull,push",
            };
            let challenge = format!(
                "Bearer realm=\"{}\",service=\"x\",scope=\"repository:{repository}:{actions}\",error=\"invalid_token\"",
                realm?
            );
            (Fault::Status(401).header("WWW-Authenticate", &challenge), 1)
        }
        _ => return None,
    };
    Some(fault)
}

/// What the target does with mounts from one repository into another.
pub fn mounts(mounts: Mounts, images: &[Named], unverified: bool) -> Option<Rule> {
    let between = on(Op::Mount).when(|call: &Call| call.param("from").as_ref() != Some(&call.repository));
    let into = |repository: Option<usize>| match repository {
        Some(n) => between.clone().repo(&crate::scene::place_of(images[n % images.len()].reference).0),
        None => between.clone(),
    };
    Some(match mounts {
        Mounts::True => return None,
        Mounts::Refused(repository) => into(repository).then(Fault::IgnoreMount),
        Mounts::Error(status, repository) => into(repository).then(Fault::Status(status)),
        Mounts::Lie { proper, after } => {
            // Nothing could find out a lie in proper form after true ones, where manifests are taken unseen.
            let after = if unverified && proper { 0 } else { after };
            let lie = if proper { Fault::ForgetBlob } else { Fault::Status(201) };
            between.after(after).then(lie)
        }
    })
}
