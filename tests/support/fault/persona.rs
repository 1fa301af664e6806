//! Registries of the world as bundles of rules: what each is known to do, nothing more.

use std::collections::BTreeSet;

use super::{Fault, Form, Redirect, Rule, on};
use crate::support::journal::Op;
use crate::support::net::Plain;

const MEBIBYTE: u64 = 1024 * 1024;

/// Amazon ECR: repositories must exist, `Range` is stale, mounts are off, blobs come from storage.
pub fn ecr(existing: &[&str], storage: &Plain) -> Vec<Rule> {
    let existing: BTreeSet<String> = existing.iter().map(|name| (*name).to_owned()).collect();
    let message = "The repository does not exist in the registry with id '123456789012'";
    vec![
        on(Op::UploadStart)
            .or(Op::Mount)
            .or(Op::ManifestPut)
            .when(move |call| !existing.contains(&call.repository))
            .then(Fault::Status(404).error("NAME_UNKNOWN", message)),
        on(Op::Mount).then(Fault::IgnoreMount),
        on(Op::UploadPatch).then(Fault::SetHeader("Range", "0-10485759".to_owned())),
        on(Op::BlobGet).then(Fault::redirect(storage).get_only()),
    ]
}

/// GitHub: a PATCH over 4 MiB is refused, and of several only the last is kept.
pub fn ghcr() -> Vec<Rule> {
    let message = "request body is too large. The limit is 4.00MiB";
    let refusal = Fault::Status(416).error("SIZE_INVALID", message);
    vec![
        on(Op::UploadPatch).larger_than(4 * MEBIBYTE).then(refusal),
        on(Op::UploadPatch).then(Fault::KeepLastPatchOnly),
    ]
}

/// Docker Hub: a quota in the headers, and blobs from a CDN.
pub fn docker_hub(cdn: &Plain) -> Vec<Rule> {
    let manifests = || on(Op::ManifestHead).or(Op::ManifestGet);
    let quota = |name| Fault::SetHeader(name, "100;w=21600".to_owned());
    vec![
        manifests().then(quota("RateLimit-Limit")).then(quota("RateLimit-Remaining")),
        on(Op::BlobGet).then(Fault::redirect(cdn)),
    ]
}

/// Harbor: projects must exist, mounts out of unknown ones are answered 404, and a proxy in
/// front bounds bodies.
pub fn harbor(projects: &[&str], body_limit: u64) -> Vec<Rule> {
    let projects: BTreeSet<String> = projects.iter().map(|name| (*name).to_owned()).collect();
    let known = move |repository: &str| {
        repository.split('/').next().is_some_and(|project| projects.contains(project))
    };
    let known_source = known.clone();
    let message = "project not found";
    let too_large = "<html><head><title>413 Request Entity Too Large</title></head></html>";
    vec![
        on(Op::Mount)
            .when(move |call| !known_source(&call.param("from").unwrap_or_default()))
            .then(Fault::Status(404).error("NOT_FOUND", message)),
        on(Op::UploadStart)
            .or(Op::Mount)
            .when(move |call| !known(&call.repository))
            .then(Fault::Status(404).error("NOT_FOUND", message)),
        on(Op::UploadPut)
            .or(Op::UploadPatch)
            .larger_than(body_limit)
            .then(Fault::Status(413).html(too_large).header("Connection", "close")),
    ]
}

/// registry.k8s.io: a front door that sends everything elsewhere, with bursts of 503.
pub fn registry_k8s_io(bucket: &Plain) -> Vec<Rule> {
    let elsewhere = || -> Redirect { Fault::redirect(bucket) };
    let manifests = on(Op::ManifestGet).or(Op::ManifestHead);
    let blobs = on(Op::BlobGet).or(Op::BlobHead);
    vec![
        on(Op::ManifestGet).or(Op::BlobGet).every(7).then(Fault::Status(503)),
        manifests.then(elsewhere()),
        blobs.then(elsewhere()),
    ]
}

/// Azure: large bodies are reset without an answer, and the storage wants no `Authorization`.
pub fn acr(storage: &Plain) -> Vec<Rule> {
    vec![
        on(Op::UploadPut)
            .or(Op::UploadPatch)
            .larger_than(20 * MEBIBYTE)
            .then(Fault::ResetAfterReading(MEBIBYTE)),
        on(Op::BlobGet).then(Fault::redirect(storage)),
    ]
}

/// Google: no chunked uploads, no mounts, and a location that is long and elsewhere.
pub fn gar() -> Vec<Rule> {
    let long = |location: &str| format!("{location}&upload_id={}", "A".repeat(700));
    vec![
        on(Op::UploadPatch).then(Fault::Status(405).error("UNSUPPORTED", "chunked upload")),
        on(Op::Mount).then(Fault::IgnoreMount),
        on(Op::UploadStart).or(Op::Mount).then(Fault::Location(Form::custom(long))),
    ]
}

/// Quay: answers 502 in bursts, refuses a mount that names no source.
pub fn quay(cdn: &Plain) -> Vec<Rule> {
    vec![
        on(Op::Mount).when(|call| call.param("from").is_none()).then(Fault::Status(400)),
        on(Op::ManifestGet).or(Op::BlobGet).every(9).then(Fault::Status(502).html("<html>502</html>")),
        on(Op::BlobGet).then(Fault::redirect(cdn)),
    ]
}

/// JFrog Artifactory: a blob in the body of the closing PUT is refused as unknown, and one PATCH in a while too.
pub fn artifactory() -> Vec<Rule> {
    let unknown = || Fault::Status(404).error("BLOB_UNKNOWN", "blob unknown to registry");
    vec![
        on(Op::UploadPut).larger_than(0).then(unknown()),
        on(Op::UploadPatch).nth(2).then(Fault::Status(404).error("BLOB_UPLOAD_INVALID", "invalid")),
    ]
}

/// Sonatype Nexus: what another upload is about to store cannot be stored.
pub fn nexus() -> Vec<Rule> {
    let message = "asset cannot be updated";
    vec![
        on(Op::Mount).then(Fault::IgnoreMount),
        on(Op::UploadPut).every(4).then(Fault::Status(400).error("BLOB_UPLOAD_INVALID", message)),
    ]
}

/// GitLab: the first mount fails.
pub fn gitlab() -> Vec<Rule> {
    vec![on(Op::Mount).times(1).then(Fault::Status(404).error("NOT_FOUND", "not found"))]
}

/// Distribution 3 behind a proxy that takes bodies up to `body_limit` bytes: pieces have to say which they are.
pub fn distribution_3(body_limit: u64) -> Vec<Rule> {
    vec![
        on(Op::UploadPut).or(Op::UploadPatch).larger_than(body_limit).then(Fault::Status(413)),
        on(Op::UploadPatch)
            .when(|call| call.header("content-range").is_none())
            .then(Fault::Status(416).error("RANGE_INVALID", "invalid content range")),
    ]
}
