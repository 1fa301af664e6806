//! Images by name and by bytes: what they are called, what their manifests say. No policy, no network.

pub mod manifest;
pub mod platforms;
pub mod reference;
