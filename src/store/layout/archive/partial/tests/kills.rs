//! Runs that are killed, and the ones that go on.

use std::fs;

use proptest::prelude::*;

use super::super::super::scan::ReadAt as _;
use super::super::Partial;
use super::{Scene, blob, digest, write, write_whole};
use crate::store::Prefix;

#[test]
fn what_a_killed_run_has_written_is_hashed_and_gone_on_with() {
    let scene = Scene::new(&[100_000, 100_000, 100_000, 0]);
    let partial = scene.prepared();
    write_whole(&partial, &scene.blobs[0]);
    write(&partial, &scene.blobs[1], 0, 40_000);
    write(&partial, &scene.blobs[1], 40_000, 60_000);
    // After the last mark.
    let slot = partial.slot(&digest(&scene.blobs[1])).unwrap();
    partial.write_at(slot, &scene.blobs[1][60_000..70_000], 60_000).unwrap();
    drop(partial);
    let partial = scene.open();
    assert_eq!(scene.regained(&partial), [100_000, 60_000, 0, 0]);
    // The hasher goes on where it is.
    let slot = partial.slot(&digest(&scene.blobs[1])).unwrap();
    let Prefix { length, mut hasher } = partial.regain(slot).unwrap();
    hasher.update(&scene.blobs[1][length as usize..]);
    assert_eq!(hasher.finish(), digest(&scene.blobs[1]));
    drop(partial);
    let partial = scene.prepared();
    scene.regained(&partial);
    write(&partial, &scene.blobs[1], 60_000, 100_000);
    write_whole(&partial, &scene.blobs[2]);
    write_whole(&partial, &scene.blobs[3]);
    partial.finish(|_| {}).unwrap();
    assert!(fs::read(scene.file()).unwrap() == scene.expected());
}

/// Changes one byte of a blob in the file of an unfinished archive.
fn damage(scene: &Scene, partial: &Partial, blob: usize, position: u64) {
    let slot = partial.slot(&digest(&scene.blobs[blob])).unwrap();
    let mut byte = [0];
    partial.space.read_exact_at(&mut byte, slot.offset + position).unwrap();
    partial.space.write_all_at(&[byte[0] ^ 1], slot.offset + position).unwrap();
}

#[test]
fn bytes_that_a_power_cut_has_taken_are_not_counted() {
    let scene = Scene::new(&[100_000, 100_000, 100_000]);
    let partial = scene.prepared();
    write_whole(&partial, &scene.blobs[0]);
    for (from, to) in [(0, 30_000), (30_000, 60_000), (60_000, 90_000)] {
        write(&partial, &scene.blobs[1], from, to);
        write(&partial, &scene.blobs[2], from, to);
    }
    damage(&scene, &partial, 0, 99_999);
    damage(&scene, &partial, 1, 50_000);
    damage(&scene, &partial, 2, 10);
    drop(partial);
    let partial = scene.open();
    // As far as all before it is right.
    assert_eq!(scene.regained(&partial), [0, 30_000, 0]);
}

#[test]
fn a_journal_with_a_torn_line_or_nonsense_in_it_says_the_rest() {
    let scene = Scene::new(&[10_000, 10_000, 10_000]);
    let partial = scene.prepared();
    write_whole(&partial, &scene.blobs[0]);
    write_whole(&partial, &scene.blobs[1]);
    drop(partial);
    let journal = scene.path(".partial.journal");
    let text = fs::read_to_string(&journal).unwrap();
    let torn = &text[..text.len() - 5];
    fs::write(&journal, torn).unwrap();
    let partial = scene.prepared();
    // A blob without a word of it is found where all of it is there.
    assert_eq!(scene.regained(&partial), [10_000, 10_000, 0]);
    // What is written after it is a line of its own.
    write_whole(&partial, &scene.blobs[2]);
    drop(partial);
    let partial = scene.open();
    assert_eq!(scene.regained(&partial), [10_000, 10_000, 10_000]);
    drop(partial);
    let digest = digest(&scene.blobs[1]);
    let nonsense = [
        "done".to_owned(),
        format!("done {digest} 18446744073709551615 10000"),
        format!("at {digest} 0 10000 10001 {digest}"),
        format!("at {digest} 0 10000 5 sha512:{}", "0".repeat(128)),
        format!("at {digest} 0 -1 5 {digest}"),
        "run x".to_owned(),
        "\0\0\0".to_owned(),
        "x".repeat(100_000),
    ];
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, format!("{text}{}\n", nonsense.join("\n"))).unwrap();
    let partial = scene.open();
    assert_eq!(scene.regained(&partial), [10_000, 10_000, 10_000]);
}

#[test]
fn a_journal_that_has_lost_its_lines_costs_only_what_was_under_way() {
    let scene = Scene::new(&[10_000, 10_000, 10_000, 3]);
    let partial = scene.prepared();
    write_whole(&partial, &scene.blobs[0]);
    write(&partial, &scene.blobs[1], 0, 6000);
    write_whole(&partial, &scene.blobs[3]);
    drop(partial);
    let journal = scene.path(".partial.journal");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, &text[..=text.find('\n').unwrap()]).unwrap();
    let partial = scene.open();
    assert_eq!(scene.regained(&partial), [10_000, 0, 0, 3]);
}

#[test]
fn what_was_wrong_is_not_held_against_what_came_after_it() {
    let scene = Scene::new(&[10_000]);
    let partial = scene.prepared();
    let slot = partial.slot(&digest(&scene.blobs[0])).unwrap();
    partial.write_at(slot, &[7; 5000], 0).unwrap();
    partial.mark(slot, 5000, &digest(&[7; 5000])).unwrap();
    partial.forget(slot).unwrap();
    write(&partial, &scene.blobs[0], 0, 6000);
    drop(partial);
    assert_eq!(scene.regained(&scene.open()), [6000]);
}

#[test]
fn another_archive_under_the_same_name_takes_over_what_fits() {
    let mut scene = Scene::new(&[100_000, 100_000, 50_000, 700]);
    let partial = scene.prepared();
    for bytes in &scene.blobs[..3] {
        write_whole(&partial, &bytes[..]);
    }
    drop(partial);
    let partial = scene.prepared();
    let slot = partial.slot(&digest(&scene.blobs[3])).unwrap().clone();
    partial.write_at(&slot, &scene.blobs[3][..300], 0).unwrap();
    partial.mark(&slot, 300, &digest(&scene.blobs[3][..300])).unwrap();
    damage(&scene, &partial, 2, 7);
    drop(partial);
    // The first one is not wanted any more, and a new one comes before all.
    scene.blobs[0] = blob(77, 1234);
    scene.blobs.rotate_right(1);
    let partial = scene.open();
    // By their order now: the begun one, the new one, the whole one, the damaged one.
    let kept = [300, 0, 100_000, 0];
    assert_eq!(scene.regained(&partial), kept);
    drop(partial);
    // A kill in the middle of that costs nothing, and what was taken over is no longer needed there.
    let partial = scene.prepared();
    assert_eq!(scene.names(), ["images.tar.partial", "images.tar.partial.journal"]);
    assert_eq!(scene.regained(&partial), kept);
    write(&partial, &scene.blobs[0], 300, 700);
    write_whole(&partial, &scene.blobs[1]);
    write_whole(&partial, &scene.blobs[3]);
    partial.finish(|_| {}).unwrap();
    assert!(fs::read(scene.file()).unwrap() == scene.expected());
    assert_eq!(scene.names(), ["images.tar"]);
}

#[test]
fn a_blob_that_is_taken_over_is_gone_on_with_after_a_kill_in_the_middle_of_it() {
    let mut scene = Scene::new(&[100_000, 1000]);
    let partial = scene.prepared();
    for (from, to) in [(0, 40_000), (40_000, 70_000), (70_000, 100_000)] {
        write(&partial, &scene.blobs[0], from, to);
    }
    drop(partial);
    scene.blobs[1] = blob(60, 10);
    // The first piece is here, and no longer there.
    let partial = scene.open();
    write(&partial, &scene.blobs[0], 0, 40_000);
    partial.earlier.as_ref().unwrap().give_back(&digest(&scene.blobs[0]), 0, 40_000);
    drop(partial);
    let mut partial = scene.open();
    assert_eq!(scene.regained(&partial), [100_000, 0]);
    partial.prepare(&scene.items()).unwrap();
    write_whole(&partial, &scene.blobs[1]);
    partial.finish(|_| {}).unwrap();
    assert!(fs::read(scene.file()).unwrap() == scene.expected());
}

#[test]
fn of_two_earlier_archives_the_one_that_has_more_is_taken_over() {
    let mut scene = Scene::new(&[1000, 2000]);
    write_whole(&scene.prepared(), &scene.blobs[0]);
    scene.blobs.push(blob(50, 3000));
    // Killed before anything is taken over.
    drop(scene.open());
    assert!(scene.path(".partial.old").exists());
    scene.blobs.push(blob(51, 4000));
    // The second one has nothing.
    let mut partial = scene.open();
    assert_eq!(scene.regained(&partial), [1000, 0, 0, 0]);
    write_whole(&partial, &scene.blobs[3]);
    drop(partial);
    // The third one has more than the first.
    scene.blobs.push(blob(52, 5000));
    partial = scene.open();
    assert_eq!(scene.regained(&partial), [1000, 0, 0, 4000, 0]);
    drop(partial);
    drop(scene.prepared());
    assert_eq!(scene.names(), ["images.tar.partial", "images.tar.partial.journal"]);
}

#[test]
fn a_kill_while_the_earlier_archive_is_put_aside_costs_nothing() {
    let mut scene = Scene::new(&[1000, 2000]);
    write_whole(&scene.prepared(), &scene.blobs[1]);
    let journal = fs::read_to_string(scene.path(".partial.journal")).unwrap();
    let (head, rest) = journal.split_at(journal.find('\n').unwrap() + 1);
    scene.blobs[0] = blob(60, 10);
    let states = [
        // The journal was made, begun, and the file renamed; what is told of it was copied.
        (false, String::new()),
        (false, head[..20].to_owned()),
        (false, format!("{head}moving\n")),
        (true, format!("{head}moving\n")),
        (true, format!("{head}moving\n{}", &rest[..30])),
        (true, format!("{head}moving\n{rest}")),
        (true, format!("{head}moving\n{rest}moved\n")),
    ];
    let file = fs::read(scene.path(".partial")).unwrap();
    for (is_renamed, text) in states {
        for name in scene.names() {
            fs::remove_file(scene.dir.path().join(name)).unwrap();
        }
        fs::write(scene.path(".partial.journal"), &journal).unwrap();
        fs::write(scene.path(if is_renamed { ".partial.old" } else { ".partial" }), &file).unwrap();
        fs::write(scene.path(".partial.old.journal"), &text).unwrap();
        let partial = scene.open();
        assert_eq!(scene.regained(&partial), [0, 2000], "{is_renamed} {text}");
        drop(partial);
        let partial = scene.prepared();
        write_whole(&partial, &scene.blobs[0]);
        assert_eq!(scene.regained(&partial), [10, 2000], "{is_renamed} {text}");
        assert_eq!(scene.names(), ["images.tar.partial", "images.tar.partial.journal"]);
    }
}

#[test]
fn a_kill_while_the_earlier_archive_is_removed_leaves_nothing_that_is_believed() {
    let mut scene = Scene::new(&[1000, 2000]);
    write_whole(&scene.prepared(), &scene.blobs[1]);
    scene.blobs[0] = blob(60, 10);
    let partial = scene.open();
    assert_eq!(scene.regained(&partial), [0, 2000]);
    drop(partial);
    // Its files are gone, and its journal is not.
    let journal = scene.path(".partial.old.journal");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, format!("{text}void\n")).unwrap();
    fs::remove_file(scene.path(".partial.old")).unwrap();
    scene.blobs[0] = blob(61, 20);
    let mut partial = scene.open();
    assert_eq!(scene.regained(&partial), [0, 2000]);
    partial.prepare(&scene.items()).unwrap();
    assert_eq!(scene.names(), ["images.tar.partial", "images.tar.partial.journal"]);
}

/// What a run does before it is killed: for some blobs, how many more bytes it writes.
fn run() -> impl Strategy<Value = Vec<(usize, usize)>> {
    proptest::collection::vec((0..4_usize, 1..40_000_usize), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_number_of_kills_gives_the_same_bytes(
        runs in proptest::collection::vec((run(), any::<bool>(), 0..200_usize), 0..8),
    ) {
        let mut scene = Scene::new(&[30_000, 60_000, 1, 100_000]);
        for (number, (steps, changes, torn)) in runs.into_iter().enumerate() {
            if changes {
                // A tag has moved meanwhile.
                scene.blobs[2] = blob(number as u8 + 10, 20 + number);
            }
            let mut partial = scene.open();
            let mut there: Vec<usize> = scene.regained(&partial).into_iter().map(|length| length as usize).collect();
            partial.prepare(&scene.items()).unwrap();
            for (number, more) in steps {
                let (bytes, from) = (&scene.blobs[number], there[number]);
                let to = bytes.len().min(from + more);
                if from < bytes.len() {
                    write(&partial, bytes, from, to);
                    there[number] = to;
                }
            }
            drop(partial);
            let journal = scene.path(".partial.journal");
            let text = fs::read(&journal).unwrap();
            let head = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            fs::write(&journal, &text[..head.max(text.len().saturating_sub(torn))]).unwrap();
        }
        let partial = scene.prepared();
        for (bytes, there) in scene.blobs.iter().zip(scene.regained(&partial)) {
            if there < bytes.len() as u64 {
                write(&partial, bytes, there as usize, bytes.len());
            }
        }
        partial.finish(|_| {}).unwrap();
        prop_assert!(fs::read(scene.file()).unwrap() == scene.expected());
        prop_assert_eq!(scene.names(), ["images.tar"]);
    }
}
