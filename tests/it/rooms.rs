//! Which room of the sources knows which: the direction of knowledge, as the sources themselves show it.

use std::path::Path;

/// Each room names only rooms before it.
const ROOMS: &[&str] = &[
    "util",
    "redact",
    "image",
    "receipt",
    "record",
    "error",
    "events",
    "store",
    "plan",
    "mirror",
    "selection",
    "cli",
    "options",
    "endpoints",
    "output",
    "progress",
    "check",
    "audit",
    "survey",
    "inventory",
];
/// The program itself, which is above them all.
const ABOVE: &[&str] =
    &["lib", "main", "signals", "logging", "results", "catalog_commands", "inventory_command"];

/// Crates of HTTP and what it stands on.
const HTTP: &[&str] = &[
    "reqwest",
    "http",
    "hyper",
    "hyper_util",
    "tower_layer",
    "tower_service",
    "rustls",
    "httpdate",
    "webpki_root_certs",
    "dns_lookup",
];

/// A source file by its path below `src`, and its lines without comments and without tests.
struct Source {
    path: String,
    lines: Vec<String>,
}

impl Source {
    fn room(&self) -> &str {
        self.path.split(['/', '.']).next().expect("a split has a first part")
    }

    /// The names that stand behind `prefix` or in front of `suffix`.
    fn names<'s>(&'s self, prefix: &'s str) -> impl Iterator<Item = &'s str> {
        let after = self.lines.iter().flat_map(move |line| line.split(prefix).skip(1));
        after.map(|rest| rest.split(|c: char| !is_of_a_name(c)).next().expect("a split has a first part"))
    }

    /// Whether a path begins with the crate's name.
    fn uses(&self, name: &str) -> bool {
        let path = format!("{name}::");
        let begins = |line: &String| {
            line.match_indices(&path)
                .any(|(at, _)| !line[..at].ends_with(|c: char| is_of_a_name(c) || c == ':'))
        };
        self.lines.iter().any(begins)
    }
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    read_below(&root, &root, &mut sources);
    assert!(sources.len() > 100, "{} sources are read", sources.len());
    sources
}

fn read_below(root: &Path, directory: &Path, sources: &mut Vec<Source>) {
    for entry in std::fs::read_dir(directory).expect("the sources are there") {
        let path = entry.expect("an entry").path();
        let name = path.strip_prefix(root).expect("it is below").to_str().expect("names are text").to_owned();
        if path.is_dir() {
            read_below(root, &path, sources);
        } else if name.ends_with(".rs") && !name.contains("/tests") {
            let text = std::fs::read_to_string(&path).expect("a source is text");
            let code = text.split("#[cfg(test)]\nmod tests {").next().expect("a split has a first part");
            let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            sources.push(Source { path: name, lines: lines.map(str::to_owned).collect() });
        }
    }
}

#[test]
fn rooms_know_only_those_below_them() {
    let rank = |room: &str| ROOMS.iter().position(|known| *known == room);
    let mut named = 0;
    for source in sources().iter().filter(|source| !ABOVE.contains(&source.room())) {
        let own = rank(source.room()).unwrap_or_else(|| panic!("{} is in no room", source.path));
        for name in source.names("crate::") {
            let other =
                rank(name).unwrap_or_else(|| panic!("{} names {name}, which is no room", source.path));
            assert!(other <= own, "{} names {name}, which is above it", source.path);
            named += 1;
        }
    }
    assert!(named > 300, "{named} names are read");
}

#[test]
fn the_registry_alone_knows_http() {
    let mut within = 0;
    for source in sources() {
        for name in HTTP.iter().filter(|name| source.uses(name)) {
            assert!(source.path.starts_with("store/registry"), "{} uses {name}", source.path);
            within += 1;
        }
    }
    assert!(within > 20, "{within} uses are found");
}

#[test]
fn stores_and_plans_name_no_flag() {
    let is_flag = |word: &str| word.starts_with(|c: char| c.is_ascii_lowercase());
    for source in sources().iter().filter(|source| ["store", "plan", "mirror"].contains(&source.room())) {
        for line in &source.lines {
            assert!(!line.split("--").skip(1).any(is_flag), "{}: {line}", source.path);
        }
    }
}

#[test]
fn kinds_of_stores_are_told_apart_where_their_verbs_are() {
    let verbs = ["store/source.rs", "store/target.rs", "store/copy/put.rs", "store/reader.rs"];
    // Where the registries that a run needs are made.
    let makes = ["endpoints.rs"];
    for source in sources() {
        let matches = |line: &&String| {
            let kinds = ["Registry", "Layout(", "Memory"];
            let seams = ["Source::", "Put::", "Stream::"];
            seams.iter().any(|seam| kinds.iter().any(|kind| line.contains(&format!("{seam}{kind}"))))
        };
        let is_allowed = verbs.contains(&source.path.as_str()) || makes.contains(&source.path.as_str());
        if let Some(line) = source.lines.iter().find(matches).filter(|_| !is_allowed) {
            panic!("{}: {line}", source.path);
        }
    }
}

#[test]
fn requests_are_tried_again_in_one_place_and_what_is_more_than_one_in_four() {
    let waits = |source: &&Source| source.lines.iter().any(|line| line.contains("patience.next("));
    let all = sources();
    let mut places: Vec<&str> = all.iter().filter(waits).map(|source| source.path.as_str()).collect();
    places.sort_unstable();
    let upload = ["store/registry/upload/chunked.rs", "store/registry/upload/whole.rs"];
    let [pieces, gate] = upload;
    assert_eq!(places, ["store/copy.rs", "store/inspect.rs", "store/registry/retry.rs", pieces, gate]);
}
