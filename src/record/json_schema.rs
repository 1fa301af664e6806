//! The form of the documents, for editors and other programs, as JSON Schema (draft 2020-12), derived from the types that
//! they are read into.

use schemars::schema_for;

use super::reading::Document;

/// The schema of a lock and of an inventory.
pub fn json_schema() -> String {
    let mut schema = schema_for!(Document);
    schema.insert("title".to_owned(), "A lock or an inventory of mirror-images".into());
    serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n"
}
