//! What a cluster has to be told so that it pulls from the mirror.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Result, ensure};
use semver::Version;

use crate::cli::ConfigFormat;
use crate::image::reference::{Host, Target};
use crate::options::ConfigOptions;
use crate::selection::catalog::{Minor, SelectedImage, Selection};

/// A configuration, and what else its reader has to know, a sentence each.
#[derive(Debug)]
pub struct Config {
    pub text: String,
    pub notes: Vec<String>,
}

/// The configuration for what `selection` has put at the target.
///
/// # Errors
/// The selection has nothing that the form asked for could be about.
pub fn render<'s>(options: &ConfigOptions, selection: &'s Selection) -> Result<Config> {
    let mirror = Mirror { target: &options.target, insecure: options.insecure };
    let asked = |image: &'s SelectedImage| [&image.reference.host].into_iter().chain(&image.other_hosts);
    let hosts: BTreeSet<&Host> = selection.images.iter().flat_map(asked).collect();
    let mut notes = Vec::new();
    let text = match options.format {
        ConfigFormat::Kubeone => {
            notes.extend(mirror.kubeone_notes(selection));
            mirror.kubeone()
        }
        ConfigFormat::KubeoneContainerd => mirror.kubeone_containerd(&hosts),
        ConfigFormat::Containerd => mirror.containerd(&hosts),
        ConfigFormat::K3s => mirror.k3s(&hosts),
        ConfigFormat::Kubeadm => {
            ensure!(
                !selection.kubernetes.is_empty(),
                "kubeadm's configuration is for a version: name it by -k"
            );
            notes.extend(mirror.kubeadm_note());
            mirror.kubeadm(selection)
        }
    };
    Ok(Config { text, notes })
}

struct Mirror<'t> {
    target: &'t Target,
    insecure: bool,
}

impl Mirror<'_> {
    /// How it may be spoken to, in the order in which to try. Loopback speaks plain HTTP, as with docker.
    fn schemes(&self) -> &'static [&'static str] {
        match (self.insecure, self.target.host.is_loopback()) {
            (true, _) => &["https", "http"],
            (false, true) => &["http"],
            (false, false) => &["https"],
        }
    }

    /// Its URLs, with the path of the API as far as it is a matter of the mirror.
    fn roots(&self) -> Vec<String> {
        let path = self.target.prefix.as_ref().map(|prefix| format!("/v2/{prefix}")).unwrap_or_default();
        self.schemes().iter().map(|scheme| format!("{scheme}://{}{path}", self.target.host)).collect()
    }

    fn kubeone(&self) -> String {
        let mut text = format!(
            "# For the manifest of the cluster, kubeone.k8c.io/v1beta2\n\
             registryConfiguration:\n  overwriteRegistry: \"{}\"\n",
            self.target
        );
        if self.insecure {
            text += "  insecureRegistry: true\n";
        }
        text
    }

    fn kubeone_notes(&self, selection: &Selection) -> Vec<String> {
        let mut notes = Vec::new();
        if self.insecure {
            notes.push(
                "KubeOne does not support insecureRegistry with containerd: for a cluster on containerd use \
                 --format kubeone-containerd"
                    .to_owned(),
            );
        }
        notes.extend(selection.not_overwritten(|_| false));
        if selection.images.iter().any(|image| image.reasons.is_empty()) {
            notes.push(
                "overwriteRegistry changes KubeOne's own images alone, not those that you named: \
                 --format kubeone-containerd redirects all"
                    .to_owned(),
            );
        }
        notes
    }

    fn kubeone_containerd(&self, hosts: &BTreeSet<&Host>) -> String {
        let mut text = "# For the manifest of the cluster, kubeone.k8c.io/v1beta2\n\
                        containerRuntime:\n  containerd:\n    registries:\n"
            .to_owned();
        for host in hosts {
            let _ = writeln!(text, "      \"{host}\":\n        mirrors:");
            for root in self.roots() {
                let _ = writeln!(text, "          - \"{root}\"");
            }
            if self.target.prefix.is_some() {
                text += "        overridePath: true\n";
            }
            if self.insecure {
                text += "        tlsConfig:\n          insecureSkipVerify: true\n";
            }
        }
        text
    }

    fn containerd(&self, hosts: &BTreeSet<&Host>) -> String {
        let files = hosts.iter().map(|host| {
            let upstream = if host.is_docker_hub() { "registry-1.docker.io" } else { host.as_str() };
            let mut text =
                format!("# /etc/containerd/certs.d/{host}/hosts.toml\nserver = \"https://{upstream}\"\n");
            for root in self.roots() {
                let _ = write!(text, "\n[host.\"{root}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
                if self.target.prefix.is_some() {
                    text += "  override_path = true\n";
                }
                if self.insecure && root.starts_with("https:") {
                    text += "  skip_verify = true\n";
                }
            }
            text
        });
        files.collect::<Vec<_>>().join("\n")
    }

    fn k3s(&self, hosts: &BTreeSet<&Host>) -> String {
        let mut text =
            "# /etc/rancher/k3s/registries.yaml or /etc/rancher/rke2/registries.yaml\nmirrors:\n".to_owned();
        for host in hosts {
            let _ = writeln!(text, "  \"{host}\":\n    endpoint:");
            for scheme in self.schemes() {
                let _ = writeln!(text, "      - \"{scheme}://{}\"", self.target.host);
            }
            if let Some(prefix) = &self.target.prefix {
                let _ = writeln!(text, "    rewrite:\n      \"^(.*)$\": \"{prefix}/$1\"");
            }
        }
        if self.insecure {
            let _ = writeln!(
                text,
                "configs:\n  \"{}\":\n    tls:\n      insecure_skip_verify: true",
                self.target.host
            );
        }
        text
    }

    fn kubeadm(&self, selection: &Selection) -> String {
        let documents = selection.kubernetes.iter().map(|version| {
            let mut text = String::new();
            if let Some(coredns) = coredns(selection, version) {
                let _ = writeln!(text, "# CoreDNS is pulled as {}/{coredns}", self.target);
            }
            let _ = write!(
                text,
                "apiVersion: kubeadm.k8s.io/{}\nkind: ClusterConfiguration\nkubernetesVersion: v{version}\n\
                 imageRepository: \"{}\"\n",
                kubeadm_api(Minor::of(version)),
                self.target
            );
            text
        });
        documents.collect::<Vec<_>>().join("---\n")
    }

    fn kubeadm_note(&self) -> Option<String> {
        (self.insecure || self.target.host.is_loopback()).then(|| {
            "kubeadm leaves TLS to containerd: its nodes have to be told of a registry without trusted TLS by a \
             hosts.toml of its own"
                .to_owned()
        })
    }
}

/// The newest version of kubeadm's API that kubeadm of that minor reads.
fn kubeadm_api(minor: Minor) -> &'static str {
    match (minor.major, minor.minor) {
        (1, ..=21) => "v1beta2",
        (1, ..=30) => "v1beta3",
        _ => "v1beta4",
    }
}

/// What kubeadm asks a registry of one's own for: in 1.21 for the upstream's path, else for the last part of it.
fn coredns(selection: &Selection, version: &Version) -> Option<String> {
    let asks = |image: &&SelectedImage| {
        image.reasons.iter().any(|reason| reason.resource == "coredns" && reason.kubernetes == *version)
    };
    let reference = &selection.images.iter().find(asks)?.reference;
    let path = if (version.major, version.minor) == (1, 21) { "coredns/coredns" } else { "coredns" };
    Some(format!("{path}:{}", reference.tag.as_ref()?))
}
