//! D: downloads.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::scene::{Scene, gets_of, own_layer, puts_of, statuses, two};
use crate::support::digest::sha256;
use crate::support::journal::Entry;
use crate::support::registry::{Auth, Keep, RegistryBuilder};
use crate::support::{Blob, Cut, Fault, Image, Kind, Net, Op, any, on};

const SIZE: u64 = 2_000_000;
const TENTH: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

/// A scene, and the layer that its faults are for.
fn scene() -> (Scene, String) {
    let images = two(SIZE);
    let layer = own_layer(&images);
    (Scene::new(&images), layer)
}

/// What of the blob crossed the wire at the source.
fn sent(scene: &Scene, layer: &str) -> u64 {
    gets_of(scene.journal(), layer).iter().map(|get| get.written).sum()
}

#[test]
fn d01_a_blob_that_is_cut_is_continued_with_a_closed_range() {
    let cut = |how| Fault::CutBody { after: 800_000, how };
    let cuts = [
        vec![cut(Cut::Fin)],
        vec![cut(Cut::Rst)],
        vec![Fault::NoLength, cut(Cut::Fin)],
        vec![Fault::NoLength, cut(Cut::Rst)],
        vec![Fault::CloseDelimited { after: Some(800_000) }],
    ];
    for faults in cuts {
        let (scene, layer) = scene();
        let rule = on(Op::BlobGet).digest(&layer).times(1);
        scene.source.fault(faults.into_iter().fold(rule, |rule, fault| rule.then(fault)));
        scene.run().done();
        let gets = gets_of(scene.journal(), &layer);
        assert_eq!(gets.len(), 2, "{}", scene.journal().dump());
        let range = gets[1].header("range").expect("only the rest is asked for");
        assert!(range.starts_with("bytes=") && range.ends_with("-1999999"), "{range}");
        assert!(!range.starts_with("bytes=0-"), "{range}");
        assert!(sent(&scene, &layer) <= SIZE + 900_000, "{}", sent(&scene, &layer));
        assert_eq!(puts_of(scene.journal(), &layer).len(), 1, "the upload goes on");
    }
}

#[test]
fn d01_a_cut_every_so_often_is_no_end_as_long_as_bytes_come() {
    let (scene, layer) = scene();
    let scene = scene.retries(2);
    let cut = Fault::CutBody { after: 150_000, how: Cut::Rst };
    scene.source.fault(on(Op::BlobGet).digest(&layer).then(cut));
    scene.run().done();
    assert!(gets_of(scene.journal(), &layer).len() > 10);
    assert_eq!(puts_of(scene.journal(), &layer).len(), 1);
}

#[test]
fn d01_without_progress_it_ends() {
    let (scene, layer) = scene();
    let scene = scene.retries(4);
    scene.source.fault(on(Op::BlobGet).digest(&layer).then(Fault::CutBody { after: 0, how: Cut::Fin }));
    let cause = scene.run().failed_alone("group/first");
    assert!(cause.contains(&layer), "{cause}");
    assert!(gets_of(scene.journal(), &layer).len() <= 5, "{}", scene.journal().dump());
    scene.heal();
}

#[test]
fn d01_an_answer_with_another_range_is_not_joined_on() {
    let images = two(SIZE);
    let layer = own_layer(&images);
    let bytes = images[0].1.blobs[2].bytes();
    let wrong = [
        vec![Fault::SetHeader("Content-Range", "bytes 0-1999999/2000000".to_owned())],
        vec![Fault::SetHeader("Content-Range", "bytes 800000-1999998/1999999".to_owned())],
        vec![Fault::RemoveHeader("content-range")],
        vec![Fault::SetHeader("Content-Range", "nonsense".to_owned())],
        vec![Fault::Status(416)],
        // The range is ignored, which is allowed.
        vec![Fault::Status(200).body("application/octet-stream", bytes)],
    ];
    for faults in wrong {
        let scene = Scene::new(&images);
        let cut = Fault::CutBody { after: 800_000, how: Cut::Fin };
        scene.source.fault(on(Op::BlobGet).digest(&layer).range(false).times(1).then(cut));
        let rule = on(Op::BlobGet).digest(&layer).range(true);
        scene.source.fault(faults.into_iter().fold(rule, |rule, fault| rule.then(fault)));
        scene.run().done();
        assert!(gets_of(scene.journal(), &layer).len() <= 4, "{}", scene.journal().dump());
    }
}

#[test]
fn d02_a_connection_that_is_lost_after_the_last_byte_matters_to_nobody() {
    let (scene, layer) = scene();
    // The last piece of the framing never comes. (A reset could take bytes with it that have arrived.)
    let unended = on(Op::BlobGet).digest(&layer).then(Fault::NoLength);
    scene.source.fault(unended.then(Fault::CutBody { after: SIZE, how: Cut::Fin }));
    scene.run().done();
    let gets = gets_of(scene.journal(), &layer);
    assert_eq!(gets.len(), 1, "{}", scene.journal().dump());
}

#[test]
fn d03_a_body_that_is_longer_than_its_manifest_says_is_read_no_further() {
    for faults in
        [vec![Fault::ExtraBytes(50 << 20)], vec![Fault::NoLength, Fault::ExtraBytes(5)], vec![Fault::Endless]]
    {
        let (scene, layer) = scene();
        let rule = on(Op::BlobGet).digest(&layer);
        scene.source.fault(faults.into_iter().fold(rule, |rule, fault| rule.then(fault)));
        let run = scene.run();
        let cause = run.failed_alone("group/first");
        assert!(cause.contains(&layer), "{cause}");
        assert!(run.took < 5 * SECOND, "{:?}", run.took);
        // What the sockets hold is beyond anyone's control.
        let each = sent(&scene, &layer) / gets_of(scene.journal(), &layer).len() as u64;
        assert!(each <= SIZE + (20 << 20), "{each} bytes");
        assert!(puts_of(scene.journal(), &layer).iter().all(|put| put.status != Some(201)));
    }
}

/// A net whose source wants tokens.
fn behind_tokens(images: &[(&'static str, Image)]) -> Scene {
    let net = Net::new();
    let tokens = net.token_service("auth").anonymous_pull().start();
    Scene::with(net, images, |s| s.auth(Auth::Token(tokens)), |t| t)
}

#[test]
fn d05_storage_that_a_registry_redirects_to_sees_no_credentials() {
    for status in [301, 302, 303, 307, 308] {
        let scene = behind_tokens(&two(SIZE));
        let cdn = scene.net.cdn("cdn");
        scene.source.fault(on(Op::BlobGet).then(Fault::redirect(&cdn).status(status)));
        scene.run().done();
        assert_eq!(scene.journal().count("cdn", Op::BlobGet), scene.content.blobs.len());
        // It answers 400 to anyone who shows some.
        assert!(statuses(scene.journal(), "cdn", Op::BlobGet).iter().all(|status| *status == 200));
    }
}

#[test]
fn d05_redirects_are_followed_up_to_five_times() {
    let scene = behind_tokens(&two(SIZE));
    let hops: Vec<_> = ["one", "two", "three"].iter().map(|name| scene.net.cdn(name)).collect();
    scene.source.fault(on(Op::BlobGet).then(Fault::redirect(&hops[0])));
    hops[0].fault(any().then(Fault::redirect(&hops[1])));
    hops[1].fault(any().then(Fault::redirect(&hops[2])));
    scene.run().done();
    assert_eq!(scene.journal().count("three", Op::BlobGet), scene.content.blobs.len());
}

#[test]
fn d05_a_redirect_to_a_path_is_followed() {
    let (scene, layer) = scene();
    let to = format!("/v2/group/first/blobs/{layer}?again=1");
    let rule = on(Op::BlobGet).digest(&layer).when(|call| call.query.is_none());
    scene.source.fault(rule.then(Fault::redirect_to(&to)));
    scene.run().done();
}

#[test]
fn d05_a_redirect_in_a_circle_fails_one_image_and_says_so() {
    let (scene, layer) = scene();
    let to = format!("/v2/group/first/blobs/{layer}");
    scene.source.fault(on(Op::BlobGet).digest(&layer).then(Fault::redirect_to(&to)));
    let cause = scene.run().failed_alone("group/first");
    assert!(cause.contains("redirects"), "{cause}");
    assert!(gets_of(scene.journal(), &layer).len() <= 6);
    scene.heal();
}

#[test]
fn d05_a_redirect_from_https_to_plain_http_is_refused() {
    let images = two(SIZE);
    let layer = own_layer(&images);
    let net = Net::new();
    let trap = net.trap("trap");
    let to = format!("{}/x", trap.url());
    let rule = on(Op::BlobGet).digest(&layer).then(Fault::redirect_to(&to));
    let scene = Scene::with(net, &images, |s| s.tls().rule(rule), |t| t);
    let cause = scene.run().failed_alone("group/first");
    assert!(cause.contains("plain HTTP"), "{cause}");
    assert_eq!(scene.journal().requests("trap"), 0);
}

#[test]
fn d05_a_head_that_the_storage_refuses_says_nothing_about_what_is_there() {
    let scene = behind_tokens(&two(SIZE));
    scene.run().done();
    scene.journal().clear();
    let cdn = scene.net.cdn("cdn");
    scene.source.fault(on(Op::ManifestHead).or(Op::ManifestGet).then(Fault::redirect(&cdn).get_only()));
    let run = scene.run().done();
    assert_eq!(run.report.present, 2, "{}", run.report);
    assert_eq!(scene.journal().writes().len(), 0);
}

#[test]
fn d06_a_signed_address_that_has_run_out_is_asked_for_again() {
    // On the first request already.
    let (scene, layer) = scene();
    let cdn = scene.net.cdn("cdn");
    scene.source.fault(on(Op::BlobGet).digest(&layer).times(1).then(Fault::redirect(&cdn).uses(0)));
    scene.source.fault(on(Op::BlobGet).digest(&layer).then(Fault::redirect(&cdn)));
    scene.run().done();
    assert_eq!(gets_of(scene.journal(), &layer).len(), 2, "{}", scene.journal().dump());
}

#[test]
fn d06_a_download_goes_on_at_a_new_signed_address() {
    let (scene, layer) = scene();
    let cdn = scene.net.cdn("cdn");
    cdn.fault(on(Op::BlobGet).digest(&layer).nth(1).then(Fault::CutBody { after: 800_000, how: Cut::Rst }));
    scene.source.fault(on(Op::BlobGet).digest(&layer).then(Fault::redirect(&cdn).uses(1)));
    scene.run().done();
    let gets = gets_of(scene.journal(), &layer);
    assert_eq!(gets.len(), 2, "{}", scene.journal().dump());
    assert!(gets[1].header("range").is_some_and(|range| range.ends_with("-1999999")));
    assert_eq!(puts_of(scene.journal(), &layer).len(), 1);
}

#[test]
fn d07_storage_that_refuses_one_blob_fails_its_image_alone_and_is_named() {
    for (status, code) in [(403, "AccessDenied"), (404, "NoSuchKey")] {
        let (scene, layer) = scene();
        let cdn = scene.net.cdn("cdn");
        let xml = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
        let refusal = Fault::Status(status).body("application/xml", xml);
        cdn.fault(on(Op::BlobGet).digest(&layer).then(refusal));
        scene.source.fault(on(Op::BlobGet).then(Fault::redirect(&cdn)));
        let cause = scene.run().failed_alone("group/first");
        assert!(cause.contains(code) && cause.contains("127.0.0.1"), "{cause}");
        assert!(gets_of(scene.journal(), &layer).len() <= 3, "{}", scene.journal().dump());
    }
}

#[test]
fn d08_a_download_that_stalls_is_continued() {
    let (scene, layer) = scene();
    let stall = on(Op::BlobGet).digest(&layer).times(1).then(Fault::StallBody { after: 800_000 });
    scene.source.fault(stall);
    let run = scene.run_with(|policy| policy.timing.stall = 4 * TENTH).done();
    assert!(run.took >= 4 * TENTH && run.took < 5 * SECOND, "{:?}", run.took);
    let gets = gets_of(scene.journal(), &layer);
    assert!(gets[1].header("range").is_some(), "{}", scene.journal().dump());
    assert!(gets[1].at - gets[0].at < SECOND, "{}", scene.journal().dump());
}

#[test]
fn d08_the_user_says_how_long_a_stall_may_last() {
    let images = two(300_000);
    let scene = Scene::new(&images);
    scene.source.fault(
        on(Op::BlobGet).digest(&own_layer(&images)).times(1).then(Fault::StallBody { after: 100_000 }),
    );
    let mirror = format!("--source-mirror=quay.io={}", scene.source.url());
    let arguments = [&scene.target.host(), &mirror, "--stall-timeout=1s", "--image=quay.io/group/first:1"];
    let began = Instant::now();
    crate::program::Program::new(&arguments).run().expect(0);
    assert!(began.elapsed() < 30 * SECOND, "{:?}", began.elapsed());
    assert_eq!(gets_of(scene.journal(), &own_layer(&images)).len(), 2, "{}", scene.journal().dump());
}

/// The user's patience is for answers too.
#[test]
fn d08_the_user_says_how_long_an_answer_may_take_to_begin() {
    let images = two(300_000);
    let scene = Scene::new(&images);
    for op in [Op::ManifestGet, Op::BlobGet] {
        scene.source.fault(on(op).repo("group/first").times(1).then(Fault::StallHeaders));
    }
    for op in [Op::ManifestHead, Op::ManifestPut] {
        scene.target.fault(on(op).repo("group/first").times(1).then(Fault::StallHeaders));
    }
    let mirror = format!("--source-mirror=quay.io={}", scene.source.url());
    let arguments = [&scene.target.host(), &mirror, "--stall-timeout=1s", "--image=quay.io/group/first:1"];
    let began = Instant::now();
    crate::program::Program::new(&arguments).run().expect(0);
    assert!(began.elapsed() < 30 * SECOND, "{:?}", began.elapsed());
}

#[test]
fn d08_an_answer_that_never_begins_is_given_up() {
    for op in [Op::ManifestGet, Op::BlobGet] {
        let (scene, _) = scene();
        scene.source.fault(on(op).repo("group/first").times(1).then(Fault::StallHeaders));
        let run = scene.run_with(|policy| policy.timing.answer = 4 * TENTH).done();
        assert!(run.took >= 4 * TENTH && run.took < 5 * SECOND, "{:?}", run.took);
    }
    for op in [Op::ManifestHead, Op::ManifestPut, Op::UploadPut] {
        let (scene, _) = scene();
        scene.target.fault(on(op).repo("group/first").times(1).then(Fault::StallHeaders));
        let run = scene.run_with(|policy| {
            policy.timing.answer = 4 * TENTH;
            policy.timing.stall = 4 * TENTH;
            policy.timing.commit = 4 * TENTH;
        });
        assert!(run.took >= 4 * TENTH && run.took < 5 * SECOND, "{:?}", run.took);
        run.done();
    }
}

/// A listener whose queue is full: what connects to it hears nothing.
struct BlackHole {
    address: String,
    _listener: std::net::TcpListener,
    _queue: Vec<tokio::task::JoinHandle<()>>,
}

fn black_hole(net: &Net) -> BlackHole {
    let listener = net.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        socket.listen(1).expect("it listens").into_std().expect("a socket of the system")
    });
    let address = listener.local_addr().expect("a bound socket");
    let connect = || async move {
        if let Ok(stream) = tokio::net::TcpStream::connect(address).await {
            std::future::pending::<()>().await;
            drop(stream);
        }
    };
    let queue = net.block_on(async {
        let queue = (0..4).map(|_| tokio::spawn(connect())).collect();
        tokio::time::sleep(TENTH).await;
        queue
    });
    BlackHole { address: address.to_string(), _listener: listener, _queue: queue }
}

#[test]
fn d08_a_host_that_swallows_connections_is_given_up() {
    let images = [
        ("docker.io/group/first:1", Image::generated(Kind::Oci, 1, &[900])),
        ("quay.io/group/second:1", Image::generated(Kind::Oci, 2, &[900])),
    ];
    let scene = Scene::new(&images).retries(1);
    let hole = black_hole(&scene.net);
    let scene = scene.elsewhere_at("docker.io", &format!("http://{}", hole.address));
    let run = scene.run_with(|policy| policy.timing.connect = 3 * TENTH);
    let cause = run.failed_alone("group/first");
    assert!(cause.contains("cannot connect") && cause.contains(&hole.address), "{cause}");
    assert!(run.took < 3 * SECOND, "{:?}", run.took);
}

#[test]
fn d08_an_upload_that_is_no_longer_read_is_tried_again() {
    let images = two(16 << 20);
    let layer = own_layer(&images);
    let scene = Scene::new(&images);
    scene.target.fault(on(Op::UploadPut).digest(&layer).times(1).then(Fault::StopReading));
    let run = scene.run_with(|policy| policy.timing.stall = 5 * TENTH).done();
    assert!(run.took >= 5 * TENTH, "{:?}", run.took);
    assert_eq!(puts_of(scene.journal(), &layer).len(), 2);
}

#[test]
fn d08_an_upload_that_is_slow_and_healthy_is_left_alone() {
    let images = two(48 << 20);
    let layer = own_layer(&images);
    let target = |t: RegistryBuilder| t.receive_buffer(64 << 10).keep(Keep::Digests);
    let scene = Scene::with(Net::new(), &images, |s| s, target);
    let slow = Fault::ReadSlowly(Duration::from_millis(4));
    scene.target.fault(on(Op::UploadPut).digest(&layer).then(slow));
    // The system takes in some MiB at once before it says again that there is room.
    let run = scene
        .run_with(|policy| {
            policy.timing.stall = 2 * SECOND;
            policy.timing.answer = 2 * SECOND;
        })
        .done();
    assert!(run.took > 2 * SECOND, "not slow enough to say anything: {:?}", run.took);
    assert_eq!(puts_of(scene.journal(), &layer).len(), 1);
    assert_eq!(gets_of(scene.journal(), &layer).len(), 1);
}

#[test]
fn d08_a_target_may_think_about_what_it_got_for_longer_than_about_anything_else() {
    let images = two(SIZE);
    let layer = own_layer(&images);
    let scene = Scene::new(&images);
    let slow = Fault::DelayHeaders(12 * TENTH);
    scene.target.fault(on(Op::UploadPut).digest(&layer).then(slow));
    scene
        .run_with(|policy| {
            policy.timing.stall = 5 * TENTH;
            policy.timing.answer = 5 * TENTH;
        })
        .done();
    assert_eq!(puts_of(scene.journal(), &layer).len(), 1);
}

#[test]
fn d11_a_blob_that_came_damaged_once_is_fetched_past_the_caches() {
    for size in [9_000, SIZE] {
        let images = two(size);
        let layer = own_layer(&images);
        let scene = Scene::new(&images);
        scene.source.fault(on(Op::BlobGet).digest(&layer).times(1).then(Fault::FlipByte { at: 1_234 }));
        scene.run().done();
        let gets = gets_of(scene.journal(), &layer);
        assert_eq!(gets.len(), 2, "{}", scene.journal().dump());
        assert_eq!(gets[1].header("cache-control"), Some("no-cache"));
    }
}

#[test]
fn d11_a_blob_that_stays_damaged_is_named_with_both_digests_and_never_stored() {
    let images = two(SIZE);
    let layer = own_layer(&images);
    let mut flipped = images[0].1.blobs[2].bytes().to_vec();
    flipped[1_234] ^= 1;
    let short = flipped[..800_000].to_vec();
    let cases = [
        (Fault::FlipByte { at: 1_234 }, Some(sha256(&flipped))),
        // A cache that has kept the beginning and calls it the whole.
        (Fault::Status(200).body("application/octet-stream", Bytes::from(short)), None),
    ];
    for (fault, actual) in cases {
        let scene = Scene::new(&images);
        scene.source.fault(on(Op::BlobGet).digest(&layer).then(fault));
        let cause = scene.run().failed_alone("group/first");
        assert!(cause.contains(&layer) && cause.contains(&scene.source.host()), "{cause}");
        assert!(actual.is_none_or(|actual| cause.contains(&actual)), "{cause}");
        assert_eq!(scene.target.blob_size("group/first", &layer), None);
        assert!(gets_of(scene.journal(), &layer).len() <= 2, "{}", scene.journal().dump());
        scene.heal();
    }
}

#[test]
fn d11_a_manifest_that_came_damaged_is_fetched_past_the_caches() {
    let images = two(9_000);
    let child = images[0].1.clone();
    let index = Image::index(Kind::Oci, vec![crate::support::content::Child::platform("linux/amd64", child)]);
    let scene = Scene::new(&[("quay.io/group/first:1", index)]);
    let digest = images[0].1.digest();
    scene.source.fault(on(Op::ManifestGet).digest(&digest).times(1).then(Fault::FlipByte { at: 30 }));
    scene.run().done();
    let gets =
        scene.journal().filter(|e| e.host == "source" && e.op == Op::ManifestGet && e.reference == digest);
    assert_eq!(
        gets.iter().map(|get| get.header("cache-control")).collect::<Vec<_>>(),
        [None, Some("no-cache")]
    );
}

#[test]
fn d12_a_web_page_instead_of_content_is_called_one() {
    let page = || Fault::Status(200).html("<!DOCTYPE html><html><title>Please log in</title></html>");
    let (scene, _) = scene();
    scene.source.fault(on(Op::ManifestGet).repo("group/first").then(page()));
    let cause = scene.run().failed_alone("group/first");
    assert!(cause.contains("web page") || cause.contains("HTML"), "{cause}");
    scene.heal();

    let (scene, layer) = self::scene();
    scene.source.fault(on(Op::BlobGet).digest(&layer).then(page()));
    let cause = scene.run().failed_alone("group/first");
    assert!(cause.contains("web page") || cause.contains("HTML"), "{cause}");
    scene.heal();
}

#[test]
fn d13_no_encoding_is_asked_for() {
    let (scene, _) = scene();
    scene.run().done();
    let journal = scene.journal();
    let asked = journal.filter(|e| e.host == "source");
    assert!(asked.iter().all(|e| e.header("accept-encoding") == Some("identity")), "{}", journal.dump());
}

#[test]
fn d14_connections_that_break_before_the_answer_are_made_again() {
    for how in [Cut::Fin, Cut::Rst] {
        for op in [Op::ManifestGet, Op::BlobGet] {
            let (scene, _) = scene();
            scene.source.fault(on(op).repo("group/first").times(2).then(Fault::HangUp(how)));
            scene.run().done();
        }
        for op in [Op::ManifestHead, Op::UploadPut, Op::ManifestPut] {
            let (scene, _) = scene();
            scene.target.fault(on(op).repo("group/first").times(2).then(Fault::HangUp(how)));
            scene.run().done();
        }
        let (scene, _) = scene();
        let start = on(Op::Mount).or(Op::UploadStart).repo("group/first");
        scene.target.fault(start.times(2).then(Fault::HangUp(how)));
        scene.run().done();
        assert_eq!(scene.target.open_sessions(), 0, "no session is left open");
    }
}

#[test]
fn d14_connections_that_are_closed_while_idle_are_no_failure() {
    let net = Net::new();
    let soon = Duration::from_millis(150);
    let images = two(SIZE);
    let scene = Scene::with(net, &images, |s| s.idle_close(soon), |t| t.idle_close(soon)).retries(3);
    scene.target.fault(on(Op::UploadPut).then(Fault::DelayHeaders(4 * TENTH)));
    scene.run().done();
    let (scene, _) = self::scene();
    scene.source.fault(any().then(Fault::CloseAfterAnswer));
    scene.target.fault(any().then(Fault::CloseAfterAnswer));
    scene.run().done();
}

#[test]
fn d14_a_host_that_is_away_for_a_moment_is_waited_for() {
    let (scene, _) = scene();
    scene.source.fault(on(Op::BlobGet).nth(2).then(Fault::Down(3 * TENTH)));
    scene.target.fault(on(Op::ManifestPut).nth(1).then(Fault::Down(3 * TENTH)));
    scene
        .run_with(|policy| {
            policy.timing.first_pause = TENTH;
            policy.timing.longest_pause = SECOND;
        })
        .done();
}

#[test]
fn d14_a_name_that_nobody_has_fails_at_once() {
    let images = [
        ("docker.io/group/first:1", Image::generated(Kind::Oci, 1, &[900])),
        ("quay.io/group/second:1", Image::generated(Kind::Oci, 2, &[900])),
    ];
    let scene = Scene::new(&images).elsewhere_at("docker.io", "https://registry.invalid");
    let run = scene.run();
    let cause = run.failed_alone("group/first");
    assert!(cause.contains("registry.invalid"), "{cause}");
    assert!(run.took < 3 * SECOND, "{:?}", run.took);
}

#[test]
fn d09_a_download_that_trickles_is_begun_anew() {
    let (scene, layer) = scene();
    let trickle = Fault::Trickle { bytes: 1, every: Duration::from_millis(20) };
    scene.source.fault(on(Op::BlobGet).digest(&layer).times(1).then(trickle));
    let run = scene.run_with(|policy| policy.timing.slow_window = SECOND).done();
    assert!(run.took >= SECOND && run.took < 10 * SECOND, "{:?}", run.took);
    assert_eq!(gets_of(scene.journal(), &layer).len(), 2, "{}", scene.journal().dump());
}

/// What is small goes by the same rules, and the tries for its body are those of the request.
#[test]
fn d01_d09_a_manifest_that_is_cut_or_trickles_is_asked_for_again() {
    let of_first = || on(Op::ManifestGet).repo("group/first");
    let asked = |scene: &Scene| {
        let is_first = |e: &Entry| e.op == Op::ManifestGet && e.repository == "group/first";
        scene.journal().filter(|e| e.host == "source" && is_first(e)).len()
    };
    for fault in [
        Fault::CutBody { after: 100, how: Cut::Fin },
        Fault::CutBody { after: 100, how: Cut::Rst },
        // All of it would take far longer than a run may.
        Fault::Trickle { bytes: 1, every: SECOND },
    ] {
        let (scene, _) = scene();
        scene.source.fault(of_first().times(2).then(fault));
        scene.run_with(|policy| policy.timing.slow_window = 3 * SECOND).done();
        assert_eq!(asked(&scene), 3, "{}", scene.journal().dump());
    }
    let (scene, _) = scene();
    let scene = scene.retries(3);
    scene.source.fault(of_first().then(Fault::CutBody { after: 100, how: Cut::Fin }));
    scene.run().failed_alone("group/first");
    assert_eq!(asked(&scene), 4, "{}", scene.journal().dump());
}

#[test]
fn d09_a_slow_source_that_keeps_the_pace_is_left_alone() {
    let images = two(40_000);
    let layer = own_layer(&images);
    let scene = Scene::new(&images);
    let slow = Fault::Trickle { bytes: 1_000, every: Duration::from_millis(50) };
    scene.source.fault(on(Op::BlobGet).digest(&layer).then(slow));
    let run = scene.run_with(|policy| policy.timing.slow_window = SECOND / 2).done();
    assert!(run.took >= SECOND, "{:?}", run.took);
    assert_eq!(gets_of(scene.journal(), &layer).len(), 1, "{}", scene.journal().dump());
}

/// As `gzip` would write it, without making anything smaller.
fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut pieces = bytes.chunks(0xffff).peekable();
    while let Some(piece) = pieces.next() {
        let length = u16::try_from(piece.len()).unwrap();
        out.push(u8::from(pieces.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(piece);
    }
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    out.extend((!crc).to_le_bytes());
    out.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    out
}

/// A whole answer in this encoding.
fn encoded(content_type: &str, bytes: &[u8]) -> Fault {
    Fault::Status(200).body(content_type, gzipped(bytes)).header("Content-Encoding", "gzip")
}

#[test]
fn d13_an_encoding_that_nobody_asked_for_is_taken_off() {
    for size in [9_000, SIZE] {
        let images = two(size);
        let layer = own_layer(&images);
        let scene = Scene::new(&images);
        let manifest = &images[0].1.manifest;
        let answer = encoded(&manifest.media_type, &manifest.bytes);
        scene.source.fault(on(Op::ManifestGet).repo("group/first").then(answer));
        let answer = encoded("application/octet-stream", &images[0].1.blobs[2].bytes());
        scene.source.fault(on(Op::BlobGet).digest(&layer).then(answer));
        scene.run().done();
    }
}

#[test]
fn d13_a_layer_that_is_itself_compressed_stays_so() {
    // Some registries tell the layer's own compression as if it were the connection's.
    let inner = gzipped(&[7; 30_000]);
    let layer = Blob::literal(inner);
    let image = Image::single(Kind::Oci, Blob::literal("{}"), vec![layer.clone()]);
    let scene = Scene::new(&[("quay.io/group/first:1", image)]);
    let label = Fault::SetHeader("Content-Encoding", "gzip".to_owned());
    scene.source.fault(on(Op::BlobGet).digest(&layer.digest).then(label));
    scene.run().done();
}

#[test]
fn d13_an_encoding_that_unfolds_without_end_is_stopped() {
    let images = two(9_000);
    let layer = own_layer(&images);
    let scene = Scene::new(&images);
    let answer = encoded("application/octet-stream", &vec![0; 30 << 20]);
    scene.source.fault(on(Op::BlobGet).digest(&layer).then(answer));
    let run = scene.run();
    run.failed_alone("group/first");
    assert!(run.took < 5 * SECOND, "{:?}", run.took);
}
