//! Images as files: the OCI image layout.

// Nothing reads or writes an archive yet.
#[allow(dead_code)]
mod archive;
#[allow(dead_code)]
mod docker;
