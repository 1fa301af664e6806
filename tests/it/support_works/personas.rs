//! Each persona shows what it is known for.

use reqwest::Response;

use crate::support::fault::persona;
use crate::support::{Blob, Content, Image, Kind, Net, Registry, Rule};

struct Stage {
    net: Net,
    registry: Registry,
    layer: Blob,
}

fn stage(rules: Vec<Rule>) -> Stage {
    stage_in(Net::new(), rules)
}

fn stage_in(net: Net, rules: Vec<Rule>) -> Stage {
    let image = Image::generated(Kind::Oci, 42, &[5_000]);
    let mut content = Content::new();
    content.add("known/b", "v1", &image);
    let registry = net.registry("r").content(&content).rules(rules).start();
    Stage { net, registry, layer: image.blobs[1].clone() }
}

impl Stage {
    async fn post(&self, repository: &str, query: &str) -> Response {
        let url = format!("{}/v2/{repository}/blobs/uploads/{query}", self.registry.url());
        self.net.client().post(url).send().await.unwrap()
    }

    async fn patch(&self, bytes: usize) -> reqwest::Result<Response> {
        let location = location(&self.post("known/new", "").await);
        self.net.client().patch(location).body(vec![0; bytes]).send().await
    }

    async fn get_blob(&self) -> Response {
        let url = format!("{}/v2/known/b/blobs/{}", self.registry.url(), self.layer.digest);
        self.net.client().get(url).send().await.unwrap()
    }

    async fn mount(&self, from: &str) -> u16 {
        let query = format!("?mount={}&from={from}", self.layer.digest);
        self.post("known/new", &query).await.status().as_u16()
    }
}

fn location(answer: &Response) -> String {
    answer.headers()["location"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn ecr_wants_repositories_to_exist() {
    let net = Net::new();
    let storage = net.cdn("s3");
    let stage = stage_in(net, persona::ecr(&["known/new"], &storage));
    let refused = stage.post("unknown", "").await;
    assert_eq!(refused.status(), 404);
    assert!(refused.text().await.unwrap().contains("NAME_UNKNOWN"));
    assert_eq!(stage.patch(10).await.unwrap().headers()["range"], "0-10485759");
    assert_eq!(stage.mount("known/b").await, 202);
    let moved = stage.get_blob().await;
    assert_eq!(moved.status(), 307);
    let body = stage.net.client().get(location(&moved)).send().await.unwrap();
    assert_eq!(body.bytes().await.unwrap(), stage.layer.bytes());
}

#[tokio::test]
async fn ghcr_takes_small_patches_only() {
    let stage = stage(persona::ghcr());
    assert_eq!(stage.patch(4 << 20).await.unwrap().status(), 202);
    let refused = stage.patch((4 << 20) + 1).await.unwrap();
    assert_eq!(refused.status(), 416);
    assert!(refused.text().await.unwrap().contains("4.00MiB"));
}

#[tokio::test]
async fn harbor_knows_projects_and_has_a_proxy_in_front() {
    let stage = stage(persona::harbor(&["known"], 1_000));
    assert_eq!(stage.post("unknown/x", "").await.status(), 404);
    assert_eq!(stage.mount("unknown/x").await, 404);
    assert_eq!(stage.mount("known/b").await, 201);
    assert_eq!(stage.patch(1_000).await.unwrap().status(), 202);
    let refused = stage.patch(1_001).await.unwrap();
    assert_eq!(refused.headers()["content-type"], "text/html");
    assert_eq!(refused.status(), 413);
}

#[tokio::test]
async fn the_kubernetes_registry_sends_everything_elsewhere() {
    let net = Net::new();
    let bucket = net.cdn("bucket");
    let mut content = Content::new();
    content.add("a", "v1", &Image::generated(Kind::Oci, 1, &[10]));
    let registry = net.registry("k8s").content(&content).rules(persona::registry_k8s_io(&bucket)).start();
    let url = format!("{}/v2/a/manifests/v1", registry.url());
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(net.client().get(&url).send().await.unwrap().status().as_u16());
    }
    assert_eq!(seen, [307, 307, 307, 307, 307, 307, 503]);
}

#[tokio::test]
async fn docker_hub_tells_its_quota() {
    let net = Net::new();
    let cdn = net.cdn("cdn");
    let mut content = Content::new();
    content.add("library/a", "v1", &Image::generated(Kind::Docker, 1, &[10]));
    let registry = net.registry("hub").content(&content).rules(persona::docker_hub(&cdn)).start();
    let url = format!("{}/v2/library/a/manifests/v1", registry.url());
    let head = net.client().head(url).send().await.unwrap();
    assert_eq!(head.headers()["ratelimit-limit"], "100;w=21600");
}

#[tokio::test]
async fn the_others_refuse_in_their_own_ways() {
    let stage_of_gar = stage(persona::gar());
    assert_eq!(stage_of_gar.patch(1).await.unwrap().status(), 405);
    assert_eq!(stage_of_gar.mount("known/b").await, 202);
    let net = Net::new();
    let storage = net.cdn("storage");
    let stage_of_acr = stage(persona::acr(&storage));
    assert_eq!(stage_of_acr.patch(1_000).await.unwrap().status(), 202);
    assert!(stage_of_acr.patch(21 << 20).await.is_err());
    let stage_of_quay = stage(persona::quay(&storage));
    let query = format!("?mount={}", stage_of_quay.layer.digest);
    assert_eq!(stage_of_quay.post("known/new", &query).await.status(), 400);
}
