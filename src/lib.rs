//! Mirrors the container images of a KubeOne cluster into a registry.

pub mod catalog;
pub mod reference;
