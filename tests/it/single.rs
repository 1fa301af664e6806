//! One small image, the source that has it, and the program that mirrors it: enough where the way in matters and not
//! what is moved.
#![allow(dead_code)]

use crate::program::Program;
use crate::support::reader::{Depth, Reader};
use crate::support::registry::{Registry, RegistryBuilder};
use crate::support::{Content, Image, Kind, Net};

pub const REPOSITORY: &str = "group/app";
/// As the user names it.
pub const IMAGE: &str = "quay.io/group/app:1";

pub struct Single {
    pub net: Net,
    pub content: Content,
    pub source: Registry,
}

impl Single {
    pub fn new() -> Self {
        Self::with(|source| source)
    }

    pub fn with(source: impl FnOnce(RegistryBuilder) -> RegistryBuilder) -> Self {
        Self::on(Net::new(), &[3_000], source)
    }

    /// With layers of these sizes, on a net that has other hosts already.
    pub fn on(net: Net, layers: &[u64], source: impl FnOnce(RegistryBuilder) -> RegistryBuilder) -> Self {
        let mut content = Content::new();
        content.add(REPOSITORY, "1", &Image::generated(Kind::Oci, 1, layers));
        let source = source(net.registry("source").content(&content)).start();
        Self { net, content, source }
    }

    /// The program, about to mirror the image to `target`. Trouble is told at once, without another try.
    pub fn program(&self, target: &str) -> Program {
        Program::new(&[target]).args(&self.arguments())
    }

    pub fn arguments(&self) -> [&str; 5] {
        // Leaked once for each test: arguments are borrowed everywhere else.
        let mirror = format!("--source-mirror=quay.io={}", self.source.url());
        ["--image", IMAGE, "--retries", "0", mirror.leak()]
    }

    /// The digest that the image has to have at a target.
    pub fn digest(&self) -> String {
        self.content.digest_of(REPOSITORY, "1").expect("it was added").clone()
    }

    /// Every byte of the image can be read at `url`, with this `Authorization` where there is one.
    #[track_caller]
    pub fn assert_mirrored(&self, url: &str, authorization: Option<&str>) {
        let reader = Reader::new(self.net.client(), url);
        let reader = match authorization {
            Some(value) => reader.authorization(value),
            None => reader,
        };
        let tree = self.net.block_on(reader.read(REPOSITORY, "1", Depth::Bytes));
        assert_eq!(tree.expect("it is there, whole").root, self.digest());
    }
}
