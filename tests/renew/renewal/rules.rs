//! What decides on addons in KubeOne's code. The `rules` of the catalog are written by hand after it; here only that is
//! found of which somebody has to be told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Result, anyhow, ensure};
use mirror_images::image::reference::{Algorithm, Hasher};
use mirror_images::selection::catalog::Minor;

use super::go::{self, Kind, Texts};
use super::upstream::{Checkout, File};

/// Files and the functions and tables in them by which a release chooses addons. Not every release has all of them.
const DECIDING: [(&str, &[&str]); 9] = [
    (
        "pkg/addons/ensure.go",
        &[
            "embeddedAddons",
            "collectAddons",
            "cleanupAddons",
            "Ensure",
            "EnsureUserAddons",
            "EnsureAddonByName",
            "ensureCSIAddons",
            "ensureCCMAddons",
        ],
    ),
    ("pkg/addons/applier.go", &["newAddonsApplier", "addonsLocalFS"]),
    ("pkg/addons/manifest.go", &["loadAddonsManifests"]),
    (
        "pkg/apis/kubeone/helpers.go",
        &["Enabled", "DeclaredAddonsOnly", "CSIMigrationSupported", "OperatingSystemManagerEnabled"],
    ),
    (
        "pkg/apis/kubeone/v1beta2/defaults.go",
        &[
            "SetDefaults_CloudProvider",
            "SetDefaults_ClusterNetwork",
            "SetDefaults_MachineController",
            "SetDefaults_OperatingSystemManager",
            "SetDefaults_Features",
        ],
    ),
    ("pkg/apis/kubeone/config/config.go", &["AllowedAPIs"]),
    // Where KubeOne 1.3 decides.
    ("pkg/tasks/cni.go", &["ensureCNI"]),
    ("pkg/templates/csi/csi.go", &["Ensure"]),
    ("pkg/templates/externalccm/ccm.go", &["Ensure"]),
];

/// The file without which nothing is known about a release.
const MAIN: &str = DECIDING[0].0;

/// Functions, by path and name, with a hash of each.
pub type Hashes = BTreeMap<(String, String), String>;

/// The functions that choose addons at `tag`, hashed over their tokens: neither comments nor formatting count.
pub fn hashes(checkout: &Checkout, tag: &str) -> Result<Hashes> {
    let mut hashes = Hashes::new();
    for (path, names) in DECIDING {
        if checkout.paths(tag, path)?.is_empty() {
            ensure!(path != MAIN, "{MAIN} is not there at {tag}");
            continue;
        }
        let file = checkout.file(tag, path)?;
        let tokens = go::tokens(&file.text).map_err(|unknown| file.unknown(&unknown))?;
        for name in names {
            let declared = go::declarations(&tokens, name).map_err(|unknown| file.unknown(&unknown))?;
            if declared.is_empty() {
                continue;
            }
            let mut hasher = Hasher::new(Algorithm::Sha256);
            for token in declared.concat() {
                let mark = if token.kind == Kind::Text { "\"" } else { "" };
                hasher.update(format!("{mark}{}\n", token.text).as_bytes());
            }
            let digest = hasher.finish().to_string();
            // As many digits as tell versions of a function apart.
            let short: String = digest.split(':').next_back().unwrap_or_default().chars().take(16).collect();
            hashes.insert((path.to_owned(), (*name).to_owned()), short);
        }
    }
    Ok(hashes)
}

/// The addons on which KubeOne alone decides: the keys of `embeddedAddons`.
pub fn embedded(ensure: &File<'_>, resources: &File<'_>) -> Result<BTreeSet<String>> {
    let names = go::tokens(&resources.text).map_err(|unknown| resources.unknown(&unknown))?;
    let texts = Texts::of(&names);
    let tokens = go::tokens(&ensure.text).map_err(|unknown| ensure.unknown(&unknown))?;
    let unknown = |unknown| ensure.unknown(&unknown);
    let declared = go::declarations(&tokens, "embeddedAddons").map_err(unknown)?;
    let table = declared.first().ok_or_else(|| ensure.wrong(1, "there is no embeddedAddons in it"))?;
    let open = table.iter().position(|token| token.is("{")).unwrap_or_default();
    let mut addons = BTreeSet::new();
    for entry in go::items(go::within(table, open).map_err(unknown)?) {
        let name = match entry {
            [package, dot, name, colon, _]
                if package.is_name("resources") && dot.is(".") && colon.is(":") =>
            {
                name
            }
            _ => {
                return Err(ensure.wrong(entry[0].line, "embeddedAddons has an entry that is not understood"));
            }
        };
        let addon = texts.named(&name.text).map_err(|why| {
            ensure.wrong(name.line, format!("{} of {}: {}", name.text, resources.path, why.why))
        })?;
        addons.insert(addon);
    }
    Ok(addons)
}

/// The hashes that stood when somebody last looked, by release: a text with a line for each function.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reviewed(pub BTreeMap<Minor, Hashes>);

const HEAD: &str = "\
# The functions of KubeOne that choose addons, as they were when the `rules` of a release were last looked at: the release,
# the file, the function, the first half of the SHA-256 over its tokens. `cargo run --example renew` writes these lines, and
# tells which functions have changed: that the `rules` still say what they do is for a reviewer to see.
";

impl Reviewed {
    pub fn parse(text: &str) -> Result<Self> {
        let mut reviewed = Self::default();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let wrong = || anyhow!("line {}: not a release, a file, a function and a hash", number + 1);
            let [release, path, name, hash] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                return Err(wrong());
            };
            let release = release.parse().map_err(|_| wrong())?;
            let hashes = reviewed.0.entry(release).or_default();
            hashes.insert((path.to_owned(), name.to_owned()), hash.to_owned());
        }
        Ok(reviewed)
    }

    /// How the functions of a release differ from those that somebody has looked at: its own, or those of the newest
    /// release before it.
    pub fn differences(&self, kubeone: Minor, now: &Hashes) -> Vec<String> {
        match self.0.range(..=kubeone).next_back() {
            Some((known, before)) if *known == kubeone => differences(before, now, "the last look"),
            Some((known, before)) => differences(before, now, &format!("KubeOne {known}")),
            None => differences(&Hashes::new(), now, "the last look"),
        }
    }
}

impl std::fmt::Display for Reviewed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(HEAD)?;
        for (release, hashes) in &self.0 {
            for ((path, name), hash) in hashes {
                writeln!(f, "{release} {path} {name} {hash}")?;
            }
        }
        Ok(())
    }
}

/// What has become of each function since `since`, as a line for the reviewer.
fn differences(before: &Hashes, now: &Hashes, since: &str) -> Vec<String> {
    let keys: BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let line = |key: &(String, String)| {
        let what = match (before.get(key), now.get(key)) {
            (None, Some(_)) => "is new",
            (Some(_), None) => "is gone",
            (before, now) if before != now => "has changed",
            _ => return None,
        };
        let mut line = String::new();
        let _ =
            write!(line, "`{}` of {} {what} since {since}: do the `rules` say what it does?", key.1, key.0);
        Some(line)
    };
    keys.into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File<'static> {
        File { tag: "v1.2.3", path: "ensure.go", text: text.to_owned() }
    }

    #[test]
    fn embedded_addons_have_the_names_of_their_constants() {
        let names = file("const (\n\tAddonA = \"a\" // mine\n\tAddonB = \"b-c\"\n)\n");
        let ensure = file(
            "var embeddedAddons = map[string]string{\n\tresources.AddonB: \"\",\n\tresources.AddonA: \"\",\n}\n",
        );
        let expected: BTreeSet<_> = ["a", "b-c"].map(str::to_owned).into();
        assert_eq!(embedded(&ensure, &names).unwrap(), expected);
        for (entry, why) in [("resources.AddonD: \"\"", "AddonD"), ("\"e\": \"\"", "not understood")] {
            let ensure = file(&format!("var embeddedAddons = map[string]string{{\n{entry},\n}}\n"));
            let error = embedded(&ensure, &names).unwrap_err().to_string();
            assert!(error.starts_with("ensure.go at v1.2.3, line 2: ") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_was_reviewed_is_read_back_as_it_was_written() {
        let key = |name: &str| ("a.go".to_owned(), name.to_owned());
        let before = Hashes::from([(key("F"), "1".to_owned()), (key("G"), "2".to_owned())]);
        let reviewed = Reviewed(BTreeMap::from([("1.14".parse().unwrap(), before.clone())]));
        assert_eq!(Reviewed::parse(&reviewed.to_string()).unwrap(), reviewed);
        assert!(Reviewed::parse("# x\n1.14 a.go F\n").unwrap_err().to_string().starts_with("line 2"));
        let now = Hashes::from([(key("F"), "3".to_owned()), (key("H"), "2".to_owned())]);
        let told = differences(&before, &now, "1.13");
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(
            told[0].contains("`F` of a.go has changed since 1.13") && told[1].contains("`G` of a.go is gone")
        );
        assert!(told[2].contains("`H` of a.go is new"));
        assert_eq!(differences(&now, &now, "1.13"), Vec::<String>::new());
    }
}
