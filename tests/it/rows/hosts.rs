//! Hosts: what the first word with one decides, how hard one is pressed, and what a target is believed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mirror_images::output::report::Exit;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::scene::{Scene, puts_of};
use crate::support::registry::Auth;
use crate::support::{Blob, Cut, Fault, Image, Kind, Net, Op, any, on};

/// Images in repositories of their own, which have nothing in common; each has a layer of `size` bytes.
fn apart(count: u64, size: u64) -> Vec<(&'static str, Image)> {
    let image = |n: u64| {
        let reference: &'static str = format!("quay.io/apart/n{n}:1").leak();
        let config = Blob::literal(format!("{{\"n\":{n}}}"));
        (reference, Image::single(Kind::Oci, config, vec![Blob::generated(200 + n, size)]))
    };
    (0..count).map(image).collect()
}

/// What the first request of all is answered with fails its own image, at most.
#[test]
fn the_answer_to_the_first_request_decides_for_that_one_alone() {
    let circle = || Fault::Status(302).header("Location", "");
    let forbidden = || Fault::Status(302).header("Location", "ftp://elsewhere/");
    let faults = [circle(), forbidden(), Fault::HangUp(Cut::Rst), Fault::StallHeaders];
    for (n, fault) in faults.into_iter().enumerate() {
        for at_target in [false, true] {
            let scene = Scene::new(&apart(4, 2_000)).retries(0);
            let (host, op) =
                if at_target { (&scene.target, Op::ManifestHead) } else { (&scene.source, Op::ManifestGet) };
            let first = OnceLock::new();
            let first = move |repository: &String| first.get_or_init(|| repository.clone()) == repository;
            host.fault(on(op).when(move |call| first(&call.repository)).then(fault.clone()));
            let run = scene.run_with(|policy| policy.timing.answer = Duration::from_secs(1));
            // Whether a target has an image already is a question that may fail.
            let (failed, copied) = (run.report.failed, run.report.copied);
            assert!(failed == 1 || at_target && failed == 0, "{n} {at_target}: {}", run.report);
            assert_eq!(failed + copied, 4, "{n} {at_target}: {}", run.report);
            assert_ne!(run.report.exit(), Exit::TargetRefused, "{n} {at_target}");
        }
    }
}

#[test]
fn a_first_request_that_gets_no_answer_holds_up_no_other_image_of_its_host() {
    let patience = Duration::from_secs(25);
    let scene = Scene::new(&apart(6, 2_000)).retries(0);
    scene.source.fault(any().times(1).then(Fault::StallHeaders));
    let run = scene.run_with(|policy| policy.timing.answer = patience);
    assert_eq!((run.report.copied, run.report.failed), (5, 1), "{}", run.report);
    let first = &scene.journal().filter(|entry| entry.host == "source")[0];
    let tags = scene.journal().filter(|entry| entry.host == "target" && entry.is_tag_put());
    let late = tags.iter().filter(|put| put.at > first.at + patience).count();
    assert_eq!(late, 0, "{}", scene.journal().dump());
}

/// A door to a registry without TLS. It loses the first three requests; whoever tries TLS next hears that there is none
/// once another request was answered.
#[derive(Clone)]
struct Door {
    to: SocketAddr,
    hellos: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
    answered: watch::Sender<bool>,
}

const LOST: usize = 3;

impl Door {
    async fn open(to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (hellos, lost) = Default::default();
        let door = Self { to, hellos, lost, answered: watch::Sender::new(false) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(door.clone().pass(stream));
            }
        });
        addr
    }

    async fn pass(self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = [0; 8192];
        let read = stream.read(&mut head).await?;
        if head[0] == 0x16 {
            if self.hellos.fetch_add(1, Ordering::SeqCst) == LOST {
                let _ = self.answered.subscribe().wait_for(|answered| *answered).await;
            }
            return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        }
        if read == 0 || self.lost.fetch_add(1, Ordering::SeqCst) < LOST {
            return Ok(());
        }
        let mut inside = TcpStream::connect(self.to).await?;
        inside.write_all(&head[..read]).await?;
        let read = inside.read(&mut head).await?;
        stream.write_all(&head[..read]).await?;
        self.answered.send_replace(true);
        tokio::io::copy_bidirectional(&mut stream, &mut inside).await.map(|_| ())
    }
}

#[test]
fn a_host_without_tls_fails_no_request_that_hears_so_after_another_was_answered() {
    let scene = Scene::new(&apart(8, 2_000)).retries(2);
    let door = scene.net.block_on(Door::open(scene.source.addr()));
    scene.elsewhere_at("quay.io", &door.to_string()).run().done();
}

/// Longer than any limit of the HTTP library's own.
#[test]
fn an_upload_may_stand_still_for_as_long_as_the_stall_timeout_says() {
    let still = Duration::from_secs(33);
    let slow = on(Op::UploadPut).larger_than(1 << 20).then(Fault::DelayRequest(still));
    let scene = Scene::with(Net::new(), &apart(1, 24 << 20), |s| s, |t| t.receive_buffer(4096).rule(slow));
    let scene = scene.retries(0).budget(Duration::from_secs(120));
    let run = scene.run_with(|policy| policy.timing.stall = Duration::from_secs(90)).done();
    assert!(run.took >= still);
}

#[test]
fn bytes_sent_in_vain_for_a_blob_are_bounded_whatever_the_target_wishes() {
    for answer in [Fault::Status(429).retry_after("1"), Fault::Status(429).retry_after("0")] {
        let images = apart(1, 20 << 20);
        let scene = Scene::new(&images).retries(1);
        scene.target.fault(on(Op::UploadPut).larger_than(1 << 20).then(answer));
        assert_eq!(scene.run().report.failed, 1);
        // The fourth time is the first that is beyond 64 MiB.
        assert_eq!(puts_of(scene.journal(), &images[0].1.blobs[1].digest).len(), 4);
    }
}

/// Each challenge names other scopes, among them what no request of a mirror needs.
#[test]
fn a_challenge_widens_a_token_by_no_more_than_a_request_needs() {
    let net = Net::new();
    let tokens = net.token_service("auth").anonymous_pull().start();
    let layers: Vec<Blob> = (0..20).map(|n| Blob::generated(n, 900)).collect();
    let image = Image::single(Kind::Oci, Blob::literal("{}".to_owned()), layers.clone());
    let realm = tokens.realm();
    let scene =
        Scene::with(net, &[("quay.io/apart/one:1", image)], |s| s.auth(Auth::Token(tokens.clone())), |t| t);
    for (n, layer) in layers.iter().enumerate() {
        let more: Vec<String> = (0..8).map(|m| format!("repository:x{n}/y{m}:pull,push,delete")).collect();
        let challenge = format!(
            "Bearer realm=\"{realm}\",service=\"source\",scope=\"registry:catalog:* {}\"",
            more.join(" ")
        );
        let refusal = Fault::Status(401).header("WWW-Authenticate", &challenge);
        scene.source.fault(on(Op::BlobGet).digest(&layer.digest).times(1).then(refusal));
    }
    scene.run();
    let questions = scene.journal().of("auth", Op::Token);
    assert!(questions.len() > 5, "{}", scene.journal().dump());
    for question in questions {
        let query = question.query.unwrap_or_default();
        assert!(query.len() < 400, "{} bytes: {query}", query.len());
        for needless in ["catalog", "delete", "push"] {
            assert!(!query.contains(needless), "{query}");
        }
    }
}

/// Images in repositories of their own that share a layer.
fn sharing(count: u64) -> Vec<(&'static str, Image)> {
    let base = Blob::generated(77, 50_000);
    let image = |n: u64| {
        let reference: &'static str = format!("quay.io/sharing/n{n}:1").leak();
        let config = Blob::literal(format!("{{\"n\":{n}}}"));
        (reference, Image::single(Kind::Oci, config, vec![base.clone(), Blob::generated(300 + n, 2_000)]))
    };
    (0..count).map(image).collect()
}

#[test]
fn errors_among_good_answers_to_questions_end_no_mounts() {
    let scene = Scene::new(&sharing(12)).retries(2);
    let question =
        |call: &crate::support::net::call::Call| call.param("from").as_ref() == Some(&call.repository);
    scene.target.fault(on(Op::Mount).when(question).every(3).times(6).then(Fault::Status(500)));
    let run = scene.run().done();
    assert_eq!(run.report.totals.blobs_mounted, 11, "{}\n{}", run.report, scene.journal().dump());
}
