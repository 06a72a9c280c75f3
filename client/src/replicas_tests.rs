use super::*;
use crate::runtime;

fn at(n: u16) -> Endpoint {
    Endpoint::new(&format!("127.0.0.1:{n}")).unwrap()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Three replicas and a clock.
struct Bench {
    replicas: Replicas,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let mut replicas = Replicas::default();
        (1..=3).for_each(|n| replicas.add(at(n)));
        Self { replicas, now: runtime::now() }
    }

    fn measured(round_trips_ms: [u64; 3]) -> Self {
        let mut bench = Self::new();
        for (n, round_trip) in (1..).zip(round_trips_ms) {
            bench.replicas.answered(&at(n), Some(ms(round_trip)), bench.now);
        }
        bench
    }

    /// Where `reads` reads go, sorted, each once.
    fn goes(&mut self, route: Route, reads: usize) -> Vec<Endpoint> {
        let mut seen: Vec<_> =
            (0..reads).map(|_| self.replicas.choose(route, None, None)).collect();
        seen.sort();
        seen.dedup();
        seen
    }

    fn fail(&mut self, n: u16) {
        self.replicas.failed(&at(n), Why::Down, &Consistency::eventual(), self.now, 1.0);
    }

    fn due(&mut self, route: Route) -> Vec<Endpoint> {
        self.replicas.due(route, self.now).into_iter().map(|probe| probe.endpoint).collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

#[test]
fn spread_goes_round() {
    let mut bench = Bench::new();
    assert_eq!(bench.goes(Route::Spread, 3), [at(1), at(2), at(3)]);
    let mut counts = [0; 3];
    for _ in 0..300 {
        let chosen = bench.replicas.choose(Route::Spread, None, None);
        counts[(1..=3).position(|n| at(n) == chosen).unwrap()] += 1;
    }
    assert_eq!(counts, [100; 3]);
}

#[test]
fn nearest_goes_where_answers_come_soonest_and_follows_changes() {
    let mut bench = Bench::measured([30, 10, 20]);
    assert_eq!(bench.goes(Route::Nearest, 5), [at(2)]);
    // One slow answer is no trend.
    bench.replicas.answered(&at(2), Some(ms(25)), bench.now);
    assert_eq!(bench.goes(Route::Nearest, 5), [at(2)]);
    for _ in 0..5 {
        bench.replicas.answered(&at(2), Some(ms(25)), bench.now);
    }
    assert_eq!(bench.goes(Route::Nearest, 5), [at(3)]);
}

#[test]
fn nearest_measures_what_it_does_not_know_once_at_a_time() {
    let mut bench = Bench::new();
    assert_eq!(bench.due(Route::Spread), [], "nobody needs to know");
    assert_eq!(bench.due(Route::Nearest), [at(1), at(2), at(3)]);
    assert_eq!(bench.due(Route::Nearest), [], "they are on their way");
    for n in 1..=3 {
        bench.replicas.probed(&at(n), Some(ms(5)), bench.now, 0.0);
    }
    bench.pass(MEASURE_EVERY - ms(1));
    bench.replicas.answered(&at(1), Some(ms(5)), bench.now);
    assert_eq!(bench.due(Route::Nearest), []);
    bench.pass(ms(1));
    assert_eq!(bench.due(Route::Nearest), [at(2), at(3)], "reads measured the first one");
}

#[test]
fn least_loaded_counts_what_is_unanswered() {
    let mut bench = Bench::new();
    for n in [1, 1, 2, 3, 3] {
        bench.replicas.began(&at(n));
    }
    assert_eq!(bench.goes(Route::LeastLoaded, 4), [at(2)]);
    bench.replicas.ended(&at(3));
    assert_eq!(bench.goes(Route::LeastLoaded, 4), [at(2), at(3)]);
}

#[test]
fn pinned_keys_stay_and_only_those_of_a_lost_replica_move() {
    let mut bench = Bench::new();
    let keys: Vec<_> = (0..300).map(|n| Route::pinned_by(format!("key-{n}"))).collect();
    let homes = |bench: &mut Bench| -> Vec<Endpoint> {
        keys.iter().map(|key| bench.replicas.choose(*key, None, None)).collect()
    };
    let before = homes(&mut bench);
    assert_eq!(homes(&mut bench), before);
    for n in 1..=3 {
        let share = before.iter().filter(|home| **home == at(n)).count();
        assert!((70..=130).contains(&share), "{share} of 300");
    }
    bench.fail(2);
    for (before, now) in before.iter().zip(homes(&mut bench)) {
        assert!(now != at(2) && (*before == at(2) || *before == now));
    }
}

#[test]
fn who_fails_is_left_out_until_a_probe_is_answered() {
    let mut bench = Bench::new();
    bench.fail(2);
    assert_eq!(bench.goes(Route::Spread, 9), [at(1), at(3)]);
    assert_eq!(bench.due(Route::Spread), []);
    bench.pass(EJECTED);
    assert_eq!(bench.goes(Route::Spread, 9), [at(1), at(3)], "time alone is no proof");
    assert_eq!(bench.due(Route::Spread), [at(2)]);
    assert_eq!(bench.due(Route::Spread), []);
    // Not yet; the next probe waits twice as long.
    bench.replicas.probed(&at(2), None, bench.now, 1.0);
    bench.pass(EJECTED);
    assert_eq!(bench.due(Route::Spread), []);
    bench.pass(EJECTED);
    assert_eq!(bench.due(Route::Spread), [at(2)]);
    bench.replicas.probed(&at(2), Some(ms(1)), bench.now, 1.0);
    assert_eq!(bench.goes(Route::Spread, 9), [at(1), at(2), at(3)]);
    // All is forgotten.
    bench.fail(2);
    bench.pass(EJECTED);
    assert_eq!(bench.due(Route::Spread), [at(2)]);
}

#[test]
fn ejections_are_bounded_and_do_not_add_up() {
    let mut bench = Bench::new();
    // Many calls were under way when it died.
    (0..100).for_each(|_| bench.fail(1));
    bench.pass(EJECTED);
    assert_eq!(bench.due(Route::Spread), [at(1)]);
    for _ in 0..40 {
        bench.replicas.probed(&at(1), None, bench.now, 1.0);
        bench.pass(EJECTED_MAX);
        assert_eq!(bench.due(Route::Spread), [at(1)]);
    }
}

#[test]
fn a_stale_replica_is_so_for_reads_that_ask_as_much() {
    let mut bench = Bench::new();
    let stale = |bench: &mut Bench, bound| {
        let asked = Consistency::bounded(bound);
        bench.replicas.failed(&at(3), Why::Stale(bound), &asked, bench.now, 1.0);
    };
    let serves = |bench: &mut Bench, bound| {
        (0..9).any(|_| bench.replicas.choose(Route::Spread, bound, None) == at(3))
    };
    stale(&mut bench, ms(100));
    let table = [(None, true), (Some(ms(101)), true), (Some(ms(100)), false), (Some(ms(0)), false)];
    for (bound, expected) in table {
        assert_eq!(serves(&mut bench, bound), expected, "{bound:?}");
    }
    // It got worse; what was known before is not forgotten.
    stale(&mut bench, ms(200));
    stale(&mut bench, ms(50));
    assert!(!serves(&mut bench, Some(ms(200))) && serves(&mut bench, Some(ms(201))));
    // Now it is down, which it can't be less than.
    bench.fail(3);
    stale(&mut bench, ms(900));
    assert!(!serves(&mut bench, None));
}

#[test]
fn the_probe_asks_for_what_was_missing() {
    let mut bench = Bench::measured([5, 5, 5]);
    let asked = Consistency::bounded(ms(100));
    bench.replicas.failed(&at(3), Why::Stale(ms(100)), &asked, bench.now, 1.0);
    bench.pass(EJECTED);
    let due = bench.replicas.due(Route::Spread, bench.now);
    assert_eq!(due, [Probe { endpoint: at(3), asks: asked.clone() }]);
    bench.replicas.probed(&at(3), None, bench.now, 1.0);
    bench.pass(EJECTED_MAX);
    assert_eq!(bench.replicas.due(Route::Spread, bench.now)[0].asks, asked, "still");
    // Its proof took a while, which says nothing about the way there.
    bench.replicas.probed(&at(3), Some(ms(900)), bench.now, 1.0);
    assert_eq!(bench.goes(Route::Spread, 9), [at(1), at(2), at(3)]);
    for n in 1..=2 {
        bench.replicas.answered(&at(n), Some(ms(5)), bench.now);
    }
    assert_eq!(bench.due(Route::Nearest), [at(3)], "to be measured");
}

#[test]
fn when_all_are_out_the_one_that_is_due_first_is_asked() {
    let mut bench = Bench::new();
    bench.fail(2);
    bench.pass(ms(10));
    bench.fail(1);
    bench.fail(3);
    assert_eq!(bench.goes(Route::Nearest, 3), [at(2)]);
    assert_ne!(bench.replicas.choose(Route::Nearest, None, Some(&at(2))), at(2), "it just failed");
    // Its answer keeps callers going; only a probe brings it back.
    bench.replicas.answered(&at(2), Some(ms(1)), bench.now);
    bench.pass(EJECTED);
    assert!(bench.due(Route::Spread).contains(&at(2)));
}

#[test]
fn a_slow_replica_is_left_out_measured_and_taken_back() {
    let mut bench = Bench::measured([2, 3, 200]);
    assert_eq!(bench.goes(Route::Spread, 9), [at(1), at(2)]);
    assert_eq!(bench.due(Route::Spread), []);
    bench.pass(SLOW_EVERY);
    assert_eq!(bench.due(Route::Spread), [at(3)]);
    bench.replicas.probed(&at(3), Some(ms(180)), bench.now, 0.0);
    assert_eq!(bench.goes(Route::Spread, 9), [at(1), at(2)]);
    for _ in 0..20 {
        bench.pass(SLOW_EVERY);
        bench.due(Route::Spread);
        bench.replicas.probed(&at(3), Some(ms(3)), bench.now, 0.0);
    }
    assert_eq!(bench.goes(Route::Spread, 9), [at(1), at(2), at(3)]);
    // Small differences and far but equal replicas are no reason.
    assert_eq!(Bench::measured([1, 10, 40]).goes(Route::Spread, 9).len(), 3);
    assert_eq!(Bench::measured([200, 210, 300]).goes(Route::Spread, 9).len(), 3);
}

#[test]
fn alone_is_always_asked() {
    let mut replicas = Replicas::default();
    replicas.add(at(1));
    let now = runtime::now();
    replicas.failed(&at(1), Why::Down, &Consistency::eventual(), now, 0.0);
    assert_eq!(replicas.choose(Route::Nearest, None, Some(&at(1))), at(1));
}
