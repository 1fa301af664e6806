use super::*;
use crate::error::Side;
use crate::store::patience::{Policy, Timing};
use crate::store::registry::Scheme;

fn policy(retries: u32) -> Policy {
    Policy { retries, timing: Timing::default(), manifest_max: 0 }
}

#[test]
fn each_failure_of_each_kind_of_work_has_one_step() {
    use Rule::*;
    let limited = Kind::RateLimited(Some(Duration::from_secs(7)));
    let table = [
        (Request, Kind::Transient, false, Step::Wait),
        (Request, Kind::Busy, false, Step::Wait),
        (Request, Kind::Corrupt, false, Step::Wait),
        (Ping, Kind::Unreachable, true, Step::Wait),
        (Ping, Kind::Transient, false, Step::Stop),
        (Ping, Kind::Busy, false, Step::Stop),
        (Ping, limited.clone(), false, Step::Stop),
        (Manifest, Kind::Corrupt, false, Step::Once),
        (Manifest, Kind::Busy, false, Step::Wait),
        (Manifest, limited.clone(), false, Step::Wait),
        (Download, Kind::Transient, false, Step::Wait),
        (Download, Kind::Corrupt, false, Step::Wait),
        (Download, limited.clone(), false, Step::Wait),
        (Upload, Kind::Busy, false, Step::Wait),
        (Upload, Kind::Transient, false, Step::Stop),
        (Upload, Kind::Unreachable, true, Step::Stop),
        (Upload, limited, false, Step::Stop),
    ];
    for (rule, kind, out_of_reach, step) in table {
        assert_eq!(rule.step(&kind, out_of_reach), step, "{rule:?} {kind:?} {out_of_reach}");
    }
}

/// Fails in these ways, one after the other, and then succeeds; a rule by its number, as all else is alike.
struct Failing<'a, const RULE: usize> {
    registry: &'a Registry,
    kinds: &'a [Kind],
    tries: &'a mut usize,
}

const RULES: [Rule; 3] = [Rule::Request, Rule::Manifest, Rule::Download];

impl<const R: usize> Attempt for Failing<'_, R> {
    type Done = ();
    const RULE: Rule = RULES[R];

    async fn make(&mut self, _: &mut Patience) -> Result<(), Error> {
        *self.tries += 1;
        let kind = self.kinds.get(*self.tries - 1).cloned();
        kind.map_or(Ok(()), |kind| Err(self.registry.error(kind, "GET".to_owned(), "no")))
    }
}

/// Tries at a host that nobody asks anything, with pauses of a millisecond.
async fn run<const R: usize>(retries: u32, kinds: &[Kind]) -> (usize, Result<(), Error>) {
    let registry = Registry::for_test(Side::Source, "r.example.com", Scheme::Https, retries);
    let mut tries = 0;
    let attempt = Failing::<R> { registry: &registry, kinds, tries: &mut tries };
    let result = registry.retry(&mut Patience::new(registry.policy()), attempt).await;
    (tries, result)
}

#[tokio::test]
async fn the_loop_ends_with_success_or_with_patience() {
    let transient = vec![Kind::Transient; 9];
    let (tries, result) = run::<0>(5, &transient[..3]).await;
    assert!(tries == 4 && result.is_ok());
    let (tries, result) = run::<0>(2, &transient).await;
    assert!(tries == 3 && result.is_err());
    let (tries, result) = run::<0>(2, &[Kind::NotFound]).await;
    assert!(tries == 1 && result.is_err_and(|error| error.kind == Kind::NotFound));
    let (tries, result) = run::<2>(2, &transient).await;
    assert!(tries == 3 && result.is_err());
}

#[tokio::test]
async fn a_damaged_manifest_is_fetched_once_more_besides_all_patience() {
    let (tries, result) = run::<1>(0, &[Kind::Corrupt]).await;
    assert!(tries == 2 && result.is_ok());
    let (tries, result) = run::<1>(9, &[Kind::Corrupt, Kind::Transient, Kind::Corrupt]).await;
    assert!(tries == 3 && result.is_err_and(|error| error.kind == Kind::Corrupt));
}

#[test]
fn retry_after_is_read_in_both_forms() {
    let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
    let read = |value| retry_after(value, now).map(|d| d.as_secs());
    assert_eq!(read("7"), Some(7));
    assert_eq!(read(" 0 "), Some(0));
    assert_eq!(read("Sun, 06 Nov 1994 08:49:44 GMT"), Some(7));
    assert_eq!(read("Sun, 06 Nov 1994 08:49:00 GMT"), None);
    assert_eq!(read("99999999999999999999999"), Some(u64::from(u32::MAX)));
    for nonsense in ["-1", "abc", "", "7.5", "0x7"] {
        assert_eq!(read(nonsense), None, "{nonsense}");
    }
}

proptest::proptest! {
    #[test]
    fn no_retry_after_makes_the_parser_or_the_patience_fail(text in ".{0,60}|[0-9]{0,40}", tries in 0..9_u32) {
        let wish = retry_after(&text, SystemTime::now());
        let mut patience = Patience::new(&policy(tries));
        for _ in 0..100 {
            let pause = patience.next(&Kind::RateLimited(wish), false);
            proptest::prop_assert!(pause.is_none_or(|pause| pause <= Timing::default().longest_wait));
        }
    }
}
