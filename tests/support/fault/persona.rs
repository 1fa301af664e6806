//! Registries of the world as bundles of rules.
