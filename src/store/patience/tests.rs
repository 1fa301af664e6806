use super::*;

fn policy(retries: u32) -> Policy {
    Policy { retries, timing: Timing::default(), manifest_max: 0 }
}

#[test]
fn only_what_may_pass_is_tried_again_and_only_so_often() {
    let mut patience = Patience::new(&policy(2));
    assert!(patience.next(&Kind::NotFound, false).is_none());
    assert!(patience.next(&Kind::Transient, false).is_some());
    assert!(patience.next(&Kind::Unreachable, false).is_some());
    assert!(patience.next(&Kind::Transient, false).is_none());
    patience.restore();
    assert!(patience.next(&Kind::Transient, false).is_some());
}

#[test]
fn a_storage_service_that_refuses_is_asked_three_times_at_most() {
    let mut patience = Patience::new(&policy(9));
    assert!(patience.next(&Kind::Storage, false).is_some() && patience.next(&Kind::Storage, false).is_some());
    assert!(patience.next(&Kind::Storage, false).is_none());
}

#[test]
fn a_servers_wish_is_kept_and_is_no_failed_try() {
    let mut patience = Patience::new(&policy(0));
    let seven = Kind::RateLimited(Some(Duration::from_secs(7)));
    for _ in 0..100 {
        assert_eq!(patience.next(&seven, false), Some(Duration::from_secs(7)));
    }
    let window = Kind::RateLimited(Some(Duration::from_secs(21_600)));
    assert_eq!(patience.next(&window, false), None);
    assert_eq!(patience.next(&Kind::RateLimited(Some(Duration::MAX)), false), None);
}

#[test]
fn a_server_that_asks_for_no_pause_is_not_obeyed_for_ever() {
    let mut patience = Patience::new(&policy(0));
    let now = Kind::RateLimited(Some(Duration::ZERO));
    let most = Timing::default().longest_wait.as_secs();
    let pauses: Vec<Duration> = (0..9_999).map_while(|_| patience.next(&now, false)).collect();
    assert!(pauses.len() as u64 <= most && pauses.iter().sum::<Duration>().as_secs() <= most);
    assert!(pauses[9..].iter().all(|pause| *pause >= BUSY_PAUSE_MAX / 2), "{pauses:?}");
}

#[test]
fn an_overloaded_host_that_is_alive_is_tried_more_often() {
    let tries = |alive| {
        let mut patience = Patience::new(&policy(2));
        (0..999).filter(|_| patience.next(&Kind::Busy, alive).is_some()).count()
    };
    assert_eq!((tries(false), tries(true)), (2, 2 + 20));
    // Once it is not any more, the usual tries are left.
    let mut patience = Patience::new(&policy(2));
    (0..5).for_each(|_| assert!(patience.next(&Kind::Busy, true).is_some()));
    assert_eq!((0..999).filter(|_| patience.next(&Kind::Busy, false).is_some()).count(), 2);
}

#[test]
fn pauses_grow_with_jitter_up_to_a_limit() {
    let timing = Timing::default();
    for failures in 1..40 {
        let whole = timing.first_pause.saturating_mul(1 << (failures - 1).min(16)).min(timing.longest_pause);
        let actual = pause(&timing, failures);
        assert!(actual >= whole / 2 && actual <= whole, "{failures}: {actual:?}");
    }
    assert_ne!(pause(&timing, 9), pause(&timing, 9));
}
