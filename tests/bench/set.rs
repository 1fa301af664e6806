//! The images that are mirrored: made up, but of the shape that the images of a cluster have. Several platforms
//! for most, layers shared by platforms, tags and whole families of images, sizes from bytes to 100 MB.

use std::collections::BTreeMap;

use crate::support::content::config_for;
use crate::support::content::{Blob, Child, Content, Image, Kind};
use crate::support::digest::Digest;

const PLATFORMS: [&str; 5] = ["linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le", "linux/arm/v7"];
/// Bytes of all blobs, about.
const FULL: f64 = 2_960e6;
const SMALL: f64 = 62e6;
const LARGEST: f64 = 104e6;

/// What images stand on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Base {
    Scratch,
    /// A few tiny layers, most of them the same on all platforms.
    Distroless,
    Alpine,
    Debian,
    Ubi,
}

use Base::{Alpine, Debian, Distroless, Scratch, Ubi};

/// Host, repository, number of tags, platforms (0: a manifest without an index), base, own layers.
type Line = (&'static str, &'static str, usize, usize, Base, usize);

const K8S: &str = "registry.k8s.io";
const QUAY: &str = "quay.io";
const HUB: &str = "docker.io";

#[rustfmt::skip]
const LINES: [Line; 35] = [
    (K8S, "kube-apiserver", 2, 4, Distroless, 1), (K8S, "kube-controller-manager", 2, 4, Distroless, 1),
    (K8S, "kube-scheduler", 2, 4, Distroless, 1), (K8S, "kube-proxy", 2, 4, Debian, 2),
    (K8S, "coredns/coredns", 1, 5, Scratch, 2), (K8S, "etcd", 1, 5, Distroless, 3), (K8S, "pause", 2, 5, Scratch, 1),
    (K8S, "metrics-server/metrics-server", 1, 4, Distroless, 1), (K8S, "dns/k8s-dns-node-cache", 1, 5, Debian, 2),
    (K8S, "provider-aws/cloud-controller-manager", 1, 4, Distroless, 1), (K8S, "sig-storage/csi-attacher", 1, 5, Distroless, 1),
    (K8S, "sig-storage/csi-provisioner", 1, 5, Distroless, 1), (K8S, "sig-storage/csi-resizer", 1, 5, Distroless, 1),
    (K8S, "sig-storage/csi-snapshotter", 1, 5, Distroless, 1), (K8S, "sig-storage/livenessprobe", 1, 5, Distroless, 1),
    (K8S, "sig-storage/snapshot-controller", 1, 5, Distroless, 1), (K8S, "autoscaling/cluster-autoscaler", 1, 4, Distroless, 1),
    (QUAY, "calico/node", 1, 4, Ubi, 2), (QUAY, "calico/cni", 1, 4, Ubi, 2), (QUAY, "calico/kube-controllers", 1, 4, Scratch, 3),
    (QUAY, "cilium/cilium", 1, 2, Debian, 5), (QUAY, "cilium/operator-generic", 1, 2, Scratch, 3),
    (QUAY, "cilium/hubble-relay", 1, 2, Distroless, 1), (QUAY, "kubermatic/machine-controller", 1, 0, Alpine, 2),
    (QUAY, "kubermatic/operating-system-manager", 1, 0, Alpine, 2), (QUAY, "kubermatic/util", 1, 0, Alpine, 2),
    (HUB, "flannel/flannel", 1, 4, Alpine, 4), (HUB, "flannel/flannel-cni-plugin", 1, 4, Alpine, 1),
    (HUB, "weaveworks/weave-kube", 1, 0, Alpine, 3), (HUB, "hetznercloud/hcloud-csi-driver", 1, 0, Alpine, 3),
    (HUB, "digitalocean/do-csi-plugin", 1, 0, Debian, 3), (HUB, "k8scloudprovider/cinder-csi-plugin", 1, 0, Debian, 2),
    ("mcr.microsoft.com", "oss/kubernetes-csi/azuredisk-csi", 1, 0, Debian, 2),
    ("public.ecr.aws", "ebs-csi-driver/aws-ebs-csi-driver", 1, 0, Ubi, 2),
    ("gcr.io", "cloud-provider-vsphere/csi/release/syncer", 1, 0, Distroless, 2),
];

/// One image of the set, by the names that it has upstream and that it is to have at the target.
#[derive(Clone, Debug)]
pub struct Named {
    pub host: &'static str,
    pub repository: &'static str,
    pub tag: String,
    pub destinations: Vec<String>,
}

pub struct Set {
    pub content: Content,
    pub images: Vec<Named>,
}

impl Set {
    pub fn new(small: bool) -> Self {
        let mut draft = Maker::new(1.0);
        draft.is_draft = true;
        draft.make();
        let drawn: f64 = draft.drawn;
        let mut maker = Maker::new(if small { SMALL } else { FULL } / drawn);
        let (content, images) = maker.make();
        Self { content, images }
    }

    /// The hosts that the images are named after.
    pub fn hosts(&self) -> Vec<&'static str> {
        let mut hosts: Vec<_> = self.images.iter().map(|image| image.host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// `(repository, tag, digest)` of all that the target is to have.
    pub fn wanted(&self) -> Vec<(&str, &str, &Digest)> {
        let wanted = self.images.iter().flat_map(|image| {
            let digest = self.content.digest_of(image.repository, &image.tag).expect("every image is tagged");
            image.destinations.iter().map(move |place| (place.as_str(), image.tag.as_str(), digest))
        });
        wanted.collect()
    }
}

struct Maker {
    scale: f64,
    state: u64,
    /// Sizes are drawn and added up, but no blob is read.
    is_draft: bool,
    drawn: f64,
    bases: BTreeMap<(Base, usize), Vec<Blob>>,
}

impl Maker {
    fn new(scale: f64) -> Self {
        Self { scale, state: 3, is_draft: false, drawn: 0.0, bases: BTreeMap::new() }
    }

    fn make(&mut self) -> (Content, Vec<Named>) {
        let mut content = Content::new();
        let mut images = Vec::new();
        for (number, &(host, repository, tags, platforms, base, own)) in LINES.iter().enumerate() {
            for tag in 0..tags {
                let tag = format!("v1.{number}.{tag}");
                let image = self.image(number, &format!("{repository}:{tag}"), platforms, base, own);
                content.add(repository, &tag, &image);
                let mut destinations = vec![repository.to_owned()];
                if repository == "coredns/coredns" {
                    destinations.push("coredns".to_owned());
                }
                images.push(Named { host, repository, tag, destinations });
            }
        }
        (content, images)
    }

    fn image(&mut self, number: usize, name: &str, platforms: usize, base: Base, own: usize) -> Image {
        let kind = if number.is_multiple_of(4) { Kind::Docker } else { Kind::Oci };
        let medians: Vec<f64> = (0..own).map(|_| self.log_normal(5e6, 1.2)).collect();
        if platforms == 0 {
            return self.platform(kind, name, 0, base, &medians);
        }
        let mut children = Vec::new();
        let mut attestations = Vec::new();
        for (platform, platform_name) in PLATFORMS.iter().enumerate().take(platforms) {
            let image = self.platform(kind, name, platform, base, &medians);
            if platforms == 2 {
                attestations.push(Child::attestation(&image, number as u64));
            }
            children.push(Child::platform(platform_name, image));
        }
        children.append(&mut attestations);
        Image::index(kind, children)
    }

    fn platform(&mut self, kind: Kind, name: &str, platform: usize, base: Base, medians: &[f64]) -> Image {
        let mut layers = self.base(base, platform);
        for median in medians {
            let size = self.log_normal(*median, 0.1);
            layers.push(self.blob(size));
        }
        let architecture = PLATFORMS[platform].split('/').nth(1).expect("a platform has two parts");
        let config = config_for(architecture, name, &layers);
        Image::single(kind, config, layers)
    }

    fn base(&mut self, base: Base, platform: usize) -> Vec<Blob> {
        if let Some(layers) = self.bases.get(&(base, platform)) {
            return layers.clone();
        }
        let sizes: &[f64] = match base {
            Scratch => &[],
            Distroless => &[800e3, 120e3],
            Alpine => &[3.4e6],
            Debian => &[29e6],
            Ubi => &[38e6, 60e3],
        };
        let mut layers: Vec<Blob> = match (base, platform) {
            (Distroless, 0) => [300e3, 800.0, 180.0, 130.0].map(|size| self.blob(size)).into(),
            // The first platform's common layers.
            (Distroless, _) => self.base(base, 0)[..4].to_vec(),
            _ => Vec::new(),
        };
        layers.extend(sizes.iter().map(|size| self.blob(*size)).collect::<Vec<_>>());
        self.bases.insert((base, platform), layers.clone());
        layers
    }

    /// A new blob of about this size before scaling.
    fn blob(&mut self, size: f64) -> Blob {
        self.drawn += size;
        let seed = self.random();
        let size = (size * self.scale).clamp(100.0, LARGEST) as u64;
        Blob::generated(seed, if self.is_draft { 0 } else { size })
    }

    fn log_normal(&mut self, median: f64, spread: f64) -> f64 {
        let uniform = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        let (a, b) = (uniform(self.random()), uniform(self.random()));
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        median * (normal * spread).exp()
    }

    /// xorshift64*
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
