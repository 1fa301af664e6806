//! Each fault strikes once, seen by a client that knows nothing of them.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, Response};

use crate::support::content::media;
use crate::support::fault::Form;
use crate::support::{Blob, Content, Cut, Fault, Image, Kind, Net, Op, Registry, Rule, any, on};

const SECOND: Duration = Duration::from_secs(1);

/// A registry with one image, and a client for it.
struct Bench {
    net: Net,
    registry: Registry,
    client: Client,
    image: Image,
}

impl Bench {
    fn new(rule: Rule) -> Self {
        let net = Net::new();
        let image = Image::generated(Kind::Oci, 42, &[100_000, 2_000]);
        let mut content = Content::new();
        content.add("a/b", "v1", &image);
        let registry = net.registry("r").content(&content).rule(rule).start();
        let client = net.client();
        Self { net, registry, client, image }
    }

    fn layer(&self) -> &Blob {
        &self.image.blobs[1]
    }

    fn blob_url(&self) -> String {
        format!("{}/v2/a/b/blobs/{}", self.registry.url(), self.layer().digest)
    }

    async fn get(&self) -> reqwest::Result<Response> {
        self.client.get(self.blob_url()).send().await
    }

    async fn head(&self) -> reqwest::Result<Response> {
        self.client.head(self.blob_url()).send().await
    }

    async fn body(&self) -> reqwest::Result<Vec<u8>> {
        Ok(self.get().await?.bytes().await?.to_vec())
    }

    /// The bytes that came before the body broke, and whether it broke.
    async fn partial(&self) -> (usize, bool) {
        let mut answer = self.get().await.unwrap();
        let mut got = 0;
        loop {
            match tokio::time::timeout(SECOND / 2, answer.chunk()).await {
                Ok(Ok(Some(chunk))) => got += chunk.len(),
                Ok(Ok(None)) => return (got, false),
                Ok(Err(_)) | Err(_) => return (got, true),
            }
        }
    }

    async fn manifest(&self, tag: &str) -> reqwest::Result<Response> {
        let url = format!("{}/v2/a/b/manifests/{tag}", self.registry.url());
        self.client.get(url).header("Accept", media::OCI_MANIFEST).send().await
    }

    async fn start_upload(&self) -> reqwest::Result<Response> {
        self.client.post(format!("{}/v2/n/blobs/uploads/", self.registry.url())).send().await
    }

    async fn location(&self) -> String {
        header(&self.start_upload().await.unwrap(), "location").unwrap()
    }
}

fn header(answer: &Response, name: &str) -> Option<String> {
    Some(answer.headers().get(name)?.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn rules_count_what_they_match() {
    let rule = on(Op::BlobHead).repo("a/b").nth(2).then(Fault::Status(503));
    let fired = rule.fired();
    let bench = Bench::new(rule);
    bench.registry.fault(any().with_header("x-odd").then(Fault::Status(418)));
    bench.registry.fault(on(Op::BlobGet).range(true).after(1).times(1).then(Fault::Status(500)));
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(bench.head().await.unwrap().status().as_u16());
    }
    assert_eq!((seen, fired.get()), (vec![200, 503, 200], 1));
    let odd = bench.client.get(bench.blob_url()).header("x-odd", "1").send().await.unwrap();
    assert_eq!(odd.status(), 418);
    let mut ranged = Vec::new();
    for _ in 0..3 {
        let get = bench.client.get(bench.blob_url()).header("range", "bytes=0-1");
        ranged.push(get.send().await.unwrap().status().as_u16());
    }
    assert_eq!(ranged, [206, 500, 206]);
    assert_eq!(bench.get().await.unwrap().status(), 200);
}

#[tokio::test]
async fn chance_is_reproducible() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let bench = Bench::new(on(Op::BlobHead).chance(0.5, 7).then(Fault::Status(503)));
        let mut seen = Vec::new();
        for _ in 0..12 {
            seen.push(bench.head().await.unwrap().status().as_u16());
        }
        runs.push(seen);
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].contains(&200) && runs[0].contains(&503));
}

#[tokio::test]
async fn an_answer_carries_what_was_written() {
    let fault = Fault::Status(429).retry_after("7").html("<h1>slow</h1>").header("x", "1").header("x", "2");
    let bench = Bench::new(on(Op::BlobGet).times(1).then(fault));
    let answer = bench.get().await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(header(&answer, "retry-after").unwrap(), "7");
    assert_eq!(header(&answer, "content-type").unwrap(), "text/html");
    assert_eq!(answer.headers().get_all("x").iter().count(), 2);
    assert_eq!(answer.text().await.unwrap(), "<h1>slow</h1>");
    assert_eq!(bench.body().await.unwrap(), bench.layer().bytes());
    bench.registry.fault(on(Op::BlobGet).then(Fault::Status(503).retry_after_date(SECOND * 9)));
    let date = header(&bench.get().await.unwrap(), "retry-after").unwrap();
    assert!(httpdate::parse_http_date(&date).is_ok());
}

#[tokio::test]
async fn answers_can_be_late_or_never_come() {
    let pause = Duration::from_millis(150);
    for fault in [Fault::DelayRequest(pause), Fault::DelayHeaders(pause), Fault::DelayBody(pause)] {
        let bench = Bench::new(on(Op::BlobGet).then(fault));
        let start = Instant::now();
        assert_eq!(bench.body().await.unwrap().len(), 100_000);
        assert!(start.elapsed() >= pause);
    }
    for fault in [Fault::StallHeaders, Fault::StopReading] {
        let bench = Bench::new(on(Op::BlobGet).then(fault));
        assert!(tokio::time::timeout(pause, bench.get()).await.is_err());
    }
}

#[tokio::test]
async fn connections_end_before_the_answer() {
    for fault in [
        Fault::HangUp(Cut::Fin),
        Fault::HangUp(Cut::Rst),
        Fault::LoseAnswer(Cut::Fin),
        Fault::LoseAnswer(Cut::Rst),
    ] {
        let bench = Bench::new(on(Op::BlobGet).times(1).then(fault));
        assert!(bench.get().await.is_err());
        assert_eq!(bench.get().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_lost_answer_leaves_the_work_done() {
    let bench = Bench::new(on(Op::UploadPut).then(Fault::LoseAnswer(Cut::Rst)));
    let put = format!("{}&digest={}", bench.location().await, bench.layer().digest);
    assert!(bench.client.put(put).body(bench.layer().bytes()).send().await.is_err());
    assert_eq!(bench.registry.blob_size("n", &bench.layer().digest), Some(100_000));
}

#[tokio::test]
async fn bodies_are_cut_where_told() {
    for how in [Cut::Fin, Cut::Rst] {
        let bench = Bench::new(on(Op::BlobGet).times(1).then(Fault::CutBody { after: 70_000, how }));
        assert_eq!(bench.partial().await, (70_000, true), "{how:?}");
        assert_eq!(bench.partial().await, (100_000, false));
    }
    let chunked = on(Op::BlobGet).then(Fault::NoLength);
    let bench = Bench::new(chunked.then(Fault::CutBody { after: 10, how: Cut::Fin }));
    assert_eq!(bench.partial().await, (10, true));
    let bench = Bench::new(on(Op::BlobGet).then(Fault::StallBody { after: 500 }));
    assert_eq!(bench.partial().await, (500, true));
    assert_eq!(bench.net.journal().entries()[0].done, None);
    let bench = Bench::new(on(Op::BlobGet).then(Fault::ClaimLength(100_001)));
    assert_eq!(bench.partial().await, (100_000, true));
}

#[tokio::test]
async fn a_body_that_ends_by_the_close_is_no_error_to_the_client() {
    let bench = Bench::new(on(Op::BlobGet).then(Fault::CloseDelimited { after: Some(60_000) }));
    let answer = bench.get().await.unwrap();
    assert_eq!(header(&answer, "content-length"), None);
    assert_eq!(header(&answer, "transfer-encoding"), None);
    assert_eq!(answer.bytes().await.unwrap().len(), 60_000);
    let bench = Bench::new(on(Op::BlobGet).then(Fault::CloseDelimited { after: None }));
    assert_eq!(bench.body().await.unwrap(), bench.layer().bytes());
}

#[tokio::test]
async fn bodies_are_changed() {
    let bench = Bench::new(on(Op::BlobGet).times(1).then(Fault::FlipByte { at: 99_999 }));
    let body = bench.body().await.unwrap();
    let right = bench.layer().bytes();
    assert_eq!(body[..99_999], right[..99_999]);
    assert_eq!(body[99_999], right[99_999] ^ 1);
    let swap = Fault::SwapBody { content_type: "text/html", body: "<html>".into() };
    let bench = Bench::new(on(Op::BlobGet).then(swap));
    assert_eq!(bench.body().await.unwrap(), b"<html>");
    let bench = Bench::new(on(Op::BlobGet).then(Fault::ExtraBytes(7)));
    assert_eq!(bench.body().await.unwrap().len(), 100_007);
    let bench = Bench::new(on(Op::BlobGet).then(Fault::NoLength));
    assert_eq!(bench.body().await.unwrap(), right);
    assert_eq!(header(&bench.get().await.unwrap(), "content-length"), None);
}

#[tokio::test]
async fn bodies_are_slow_or_never_end() {
    let every = Duration::from_millis(20);
    let bench = Bench::new(on(Op::BlobGet).then(Fault::Trickle { bytes: 10_000, every }));
    let start = Instant::now();
    assert_eq!(bench.body().await.unwrap(), bench.layer().bytes());
    assert!(start.elapsed() >= every * 9);
    let bench = Bench::new(on(Op::BlobGet).then(Fault::Endless));
    let mut answer = bench.get().await.unwrap();
    let mut got = 0;
    while got < 5_000_000 {
        got += answer.chunk().await.unwrap().unwrap().len();
    }
}

#[tokio::test]
async fn headers_lie() {
    let bench = Bench::new(on(Op::BlobHead).then(Fault::SetHeader("Content-Length", "7".to_owned())));
    assert_eq!(header(&bench.head().await.unwrap(), "content-length").unwrap(), "7");
    let bench = Bench::new(on(Op::BlobHead).then(Fault::RemoveHeader("Content-Length")));
    assert_eq!(header(&bench.head().await.unwrap(), "content-length"), None);
    let bench = Bench::new(on(Op::ManifestGet).then(Fault::RemoveHeader("Docker-Content-Digest")));
    assert_eq!(header(&bench.manifest("v1").await.unwrap(), "docker-content-digest"), None);
    let raw = Fault::Raw("HTTP/1.1 200 Fine\r\nX: y\r\nX: z\r\nContent-Length: 1\r\n\r\n!".into());
    let bench = Bench::new(on(Op::BlobGet).then(raw));
    let answer = bench.get().await.unwrap();
    assert_eq!(answer.headers().get_all("x").iter().count(), 2);
    assert_eq!(answer.text().await.unwrap(), "!");
}

#[tokio::test]
async fn early_answers_reach_those_who_linger() {
    let put = |bench: &Bench, location: String| {
        let url = format!("{location}&digest={}", bench.layer().digest);
        bench.client.put(url).body(vec![0; 64 << 20]).send()
    };
    let fault = Fault::Status(413).early(1000, SECOND);
    let bench = Bench::new(on(Op::UploadPut).then(fault));
    let answer = put(&bench, bench.location().await).await.unwrap();
    assert_eq!(answer.status(), 413);
    assert!(bench.net.journal().bytes_read("r") < 1 << 20);
    for fault in [Fault::Status(413).early_reset(1000), Fault::ResetAfterReading(1000)] {
        let bench = Bench::new(on(Op::UploadPut).then(fault));
        // The answer may or may not win the race against the reset.
        match put(&bench, bench.location().await).await {
            Ok(answer) => assert_eq!(answer.status(), 413),
            Err(error) => assert!(!error.is_timeout(), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_reading_stops_the_client() {
    let net = Net::new();
    let rule = on(Op::UploadPut).then(Fault::StopReading);
    let registry = net.registry("r").receive_buffer(16 * 1024).rule(rule).start();
    let client = net.client();
    let start = client.post(format!("{}/v2/n/blobs/uploads/", registry.url())).send().await.unwrap();
    let url = format!("{}&digest=sha256:00", header(&start, "location").unwrap());
    let put = client.put(url).body(vec![0; 64 << 20]).send();
    assert!(tokio::time::timeout(SECOND / 2, put).await.is_err());
    assert_eq!(net.journal().bytes_read("r"), 0);
}

#[tokio::test]
async fn part_of_a_patch_is_taken() {
    let bench = Bench::new(on(Op::UploadPatch).times(1).then(Fault::AcceptOnly(500)));
    let blob = bench.layer().clone();
    let patch = bench.client.patch(bench.location().await).body(blob.read(0..1000));
    let answer = patch.send().await.unwrap();
    assert_eq!(header(&answer, "range").unwrap(), "0-499");
    let url = format!("{}&digest={}", header(&answer, "location").unwrap(), blob.digest);
    let put = bench.client.put(url).body(blob.read(500..100_000)).send().await.unwrap();
    assert_eq!(put.status(), 201);
}

#[tokio::test]
async fn only_the_last_patch_is_kept() {
    let bench = Bench::new(on(Op::UploadPatch).then(Fault::KeepLastPatchOnly));
    let blob = bench.layer().clone();
    let patch = |location: String, from: u64, to: u64| {
        let range = format!("{from}-{}", to - 1);
        bench.client.patch(location).header("Content-Range", range).body(blob.read(from..to)).send()
    };
    let first = patch(bench.location().await, 0, 50_000).await.unwrap();
    let second = patch(header(&first, "location").unwrap(), 50_000, 100_000).await.unwrap();
    assert_eq!(header(&second, "range").unwrap(), "0-99999");
    let url = format!("{}&digest={}", header(&second, "location").unwrap(), blob.digest);
    let answer = bench.client.put(url).send().await.unwrap();
    assert!(answer.text().await.unwrap().contains("DIGEST_INVALID"));
}

#[tokio::test]
async fn sessions_and_ranges_get_lost() {
    let rule = on(Op::UploadPatch).nth(2).then(Fault::DropSession);
    let bench = Bench::new(rule);
    bench.registry.fault(on(Op::UploadPatch).nth(1).then(Fault::RemoveHeader("Range")));
    let first = bench.client.patch(bench.location().await).body("x").send().await.unwrap();
    assert_eq!((first.status().as_u16(), header(&first, "range")), (202, None));
    let second = bench.client.patch(header(&first, "location").unwrap()).body("y").send().await.unwrap();
    assert_eq!(second.status(), 404);
    assert_eq!(bench.registry.open_sessions(), 0);
}

#[tokio::test]
async fn locations_take_every_form_and_lead_on() {
    let relative = |answer: &Response| {
        let location = header(answer, "location").unwrap();
        (answer.url().join(&location).unwrap().to_string(), location)
    };
    for form in [
        Form::PathOnly,
        Form::NoLeadingSlash,
        Form::SchemeRelative,
        Form::Scheme("http"),
        Form::ExtraQuery("&a=%2F+&a=&b"),
        Form::Fragment,
        Form::custom(|location| location.replace('?', "?first=1&")),
    ] {
        let bench = Bench::new(on(Op::UploadStart).then(Fault::Location(form)));
        let (url, _) = relative(&bench.start_upload().await.unwrap());
        let patch = bench.client.patch(url).body("x").send().await.unwrap();
        assert_eq!(patch.status(), 202);
    }
    let form = Form::Host("evil.test:1".to_owned());
    let bench = Bench::new(on(Op::UploadStart).then(Fault::Location(form)));
    assert!(bench.location().await.starts_with("http://evil.test:1/v2/n/blobs/uploads/"));
}

#[tokio::test]
async fn redirects_lead_to_signed_urls_that_run_out() {
    let bench = Bench::new(any().nth(9999).then(Fault::Status(500)));
    let cdn = bench.net.cdn("cdn");
    bench.registry.fault(on(Op::BlobGet).then(Fault::redirect(&cdn).uses(2).get_only()));
    let url = header(&bench.get().await.unwrap(), "location").unwrap();
    assert!(url.starts_with(&cdn.url()));
    assert_eq!(bench.client.head(&url).send().await.unwrap().status(), 403);
    let basic = bench.client.get(&url).header("Authorization", "Bearer x");
    assert_eq!(basic.send().await.unwrap().status(), 400);
    for status in [206, 206, 403] {
        let get = bench.client.get(&url).header("Range", "bytes=5-9").send().await.unwrap();
        assert_eq!(get.status(), status);
    }
    bench.registry.clear_faults();
    bench.registry.fault(on(Op::BlobGet).then(Fault::redirect(&cdn).ttl(Duration::from_millis(1))));
    let url = header(&bench.get().await.unwrap(), "location").unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let late = bench.client.get(&url).send().await.unwrap();
    assert!(late.text().await.unwrap().contains("Request has expired"));
}

#[tokio::test]
async fn redirects_chain_and_carry_manifests() {
    let bench = Bench::new(any().nth(9999).then(Fault::Status(500)));
    let (first, second) = (bench.net.cdn("one"), bench.net.cdn("two"));
    bench.registry.fault(on(Op::ManifestGet).then(Fault::redirect(&first).status(302)));
    first.fault(any().then(Fault::redirect(&second)));
    let hop = bench.manifest("v1").await.unwrap();
    assert_eq!(hop.status(), 302);
    let hop = bench.client.get(header(&hop, "location").unwrap()).send().await.unwrap();
    let last = bench.client.get(header(&hop, "location").unwrap()).header("Accept", media::OCI_MANIFEST);
    assert_eq!(last.send().await.unwrap().bytes().await.unwrap(), bench.image.manifest.bytes);
}

#[tokio::test]
async fn blobs_are_forgotten_and_tags_move() {
    let bench = Bench::new(on(Op::BlobHead).nth(1).then(Fault::ForgetBlob));
    assert_eq!(bench.head().await.unwrap().status(), 200);
    assert_eq!(bench.head().await.unwrap().status(), 404);
    let other = Image::generated(Kind::Oci, 43, &[10]);
    let mut content = Content::new();
    content.add_untagged("a/b", &other);
    bench.registry.add(&content);
    bench.registry.fault(on(Op::ManifestGet).tag("v1").nth(2).then(Fault::MoveTag(other.digest())));
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(header(&bench.manifest("v1").await.unwrap(), "docker-content-digest").unwrap());
    }
    assert_eq!(seen, [bench.image.digest(), bench.image.digest(), other.digest()]);
}

#[tokio::test]
async fn mounts_are_ignored() {
    let bench = Bench::new(on(Op::Mount).then(Fault::IgnoreMount));
    let query = format!("mount={}&from=a/b", bench.layer().digest);
    let url = format!("{}/v2/c/blobs/uploads/?{query}", bench.registry.url());
    assert_eq!(bench.client.post(url).send().await.unwrap().status(), 202);
    assert_eq!(bench.registry.blob_size("c", &bench.layer().digest), None);
}

#[tokio::test]
async fn a_host_goes_down_and_comes_back() {
    let bench = Bench::new(on(Op::BlobGet).nth(1).then(Fault::Down(Duration::from_millis(200))));
    assert!(bench.get().await.is_err());
    assert!(bench.get().await.unwrap_err().is_connect());
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(bench.get().await.unwrap().status(), 200);
}

#[test]
fn connections_close_without_a_word() {
    let request = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n";
    let talk = |addr| {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(SECOND * 5)).unwrap();
        stream.write_all(request).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.to_lowercase()
    };
    let bench = Bench::new(on(Op::Ping).then(Fault::CloseAfterAnswer));
    let idle = bench.net.registry("idle").idle_close(Duration::from_millis(50)).start();
    for addr in [bench.registry.addr(), idle.addr()] {
        let text = talk(addr);
        assert!(text.starts_with("http/1.1 200") && !text.contains("connection: close"));
    }
}

#[tokio::test]
async fn hooks_and_callbacks_are_called_at_their_request() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let run = move |_: &_| {
        seen.fetch_add(10, Ordering::SeqCst);
    };
    let bench = Bench::new(on(Op::BlobHead).nth(1).then(Fault::Run(Arc::new(run))));
    let seen = calls.clone();
    bench.net.at_request(2, move || {
        seen.fetch_add(1, Ordering::SeqCst);
    });
    for expected in [10, 11, 11] {
        bench.head().await.unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), expected);
    }
}
