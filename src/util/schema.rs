//! What a JSON Schema says of a value, as far as the tests of this program have to know.

use regex::Regex;
use serde_json::Value;

/// Why `value` does not have the form of `schema`; `None` if it does. Knows the words that this schema uses, and no
/// others.
pub(crate) fn complaint(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    const KNOWN: [&str; 24] = [
        "$schema",
        "$defs",
        "$ref",
        "title",
        "description",
        "default",
        "type",
        "enum",
        "const",
        "pattern",
        "items",
        "minItems",
        "properties",
        "required",
        "patternProperties",
        "additionalProperties",
        "anyOf",
        "oneOf",
        "prefixItems",
        "maxItems",
        "format",
        "minimum",
        "maximum",
        "uniqueItems",
    ];
    let schema = match schema {
        Value::Bool(true) => return None,
        Value::Bool(false) => return Some(format!("{at}: nothing may be here")),
        Value::Object(schema) => schema,
        _ => panic!("{schema} is no schema"),
    };
    let unknown = schema.keys().find(|word| !KNOWN.contains(&word.as_str()));
    assert_eq!(unknown, None, "a word that this test does not know");
    if let Some(reference) = schema.get("$ref") {
        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
        let target = root.pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer}"));
        if let Some(complaint) = complaint(root, target, value, at) {
            return Some(complaint);
        }
    }
    for word in ["anyOf", "oneOf"] {
        let Some(choices) = schema.get(word) else { continue };
        let choices = choices.as_array().unwrap();
        let complaints: Vec<String> =
            choices.iter().filter_map(|choice| complaint(root, choice, value, at)).collect();
        if complaints.len() == choices.len() {
            return Some(complaints.join(", or "));
        }
    }
    if let Some(types) = schema.get("type") {
        let is = |name: &str| match value {
            Value::Null => name == "null",
            Value::Bool(_) => name == "boolean",
            Value::Number(_) => name == "integer" || name == "number",
            Value::String(_) => name == "string",
            Value::Array(_) => name == "array",
            Value::Object(_) => name == "object",
        };
        let fits = match types {
            Value::String(name) => is(name),
            several => several.as_array().unwrap().iter().any(|name| is(name.as_str().unwrap())),
        };
        if !fits {
            return Some(format!("{at}: it is no {types}"));
        }
    }
    if let Some(constant) = schema.get("const").filter(|constant| *constant != value) {
        return Some(format!("{at}: it is not {constant}"));
    }
    if let Some(all) = schema.get("enum").filter(|all| !all.as_array().unwrap().contains(value)) {
        return Some(format!("{at}: it is not of {all}"));
    }
    match value {
        Value::String(text) => {
            let pattern = schema.get("pattern").map(|pattern| Regex::new(pattern.as_str().unwrap()).unwrap());
            pattern.filter(|pattern| !pattern.is_match(text)).map(|pattern| format!("{at}: {pattern}"))
        }
        Value::Array(items) => {
            let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or_default();
            if (items.len() as u64) < least {
                return Some(format!("{at}: it has fewer than {least}"));
            }
            if let Some(first) = schema.get("prefixItems").and_then(Value::as_array) {
                let pairs = items.iter().zip(first).enumerate();
                return pairs
                    .into_iter()
                    .find_map(|(n, (item, of))| complaint(root, of, item, &format!("{at}[{n}]")));
            }
            let of = schema.get("items")?;
            let numbered = items.iter().enumerate();
            numbered.into_iter().find_map(|(n, item)| complaint(root, of, item, &format!("{at}[{n}]")))
        }
        Value::Object(entries) => {
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            for key in required.map(|key| key.as_str().unwrap()) {
                if !entries.contains_key(key) {
                    return Some(format!("{at}: {key} is missing"));
                }
            }
            entries.iter().find_map(|(key, entry)| {
                let at = format!("{at}.{key}");
                let named = schema.get("properties").and_then(|properties| properties.get(key));
                let patterns = schema.get("patternProperties").and_then(Value::as_object);
                let matching = patterns.into_iter().flatten();
                let matching = matching.filter(|(pattern, _)| Regex::new(pattern).unwrap().is_match(key));
                let mut of: Vec<&Value> = named.into_iter().chain(matching.map(|(_, of)| of)).collect();
                if of.is_empty() {
                    of.extend(schema.get("additionalProperties"));
                }
                of.into_iter().find_map(|of| complaint(root, of, entry, &at))
            })
        }
        _ => None,
    }
}
