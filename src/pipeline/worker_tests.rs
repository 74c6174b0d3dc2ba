use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use uuid::Uuid;

use super::*;
use crate::pipeline::{Seed, ShutdownReport, Stats};
use crate::sink::{BoxFuture, MemorySink, SinkError};

const LONG: Duration = Duration::from_secs(20);

/// What a scripted sink does with the next batch.
enum Step {
    Fail(SinkError),
    /// Stores the batch and says that it failed.
    Lie(SinkError),
    Panic,
    Stall,
}

/// What a scripted sink saw, and what it will do.
#[derive(Default)]
struct Scene {
    script: VecDeque<Step>,
    seen: Vec<(Uuid, Vec<u16>)>,
    stored: Vec<u16>,
    /// Rows with this status are refused.
    poison: Option<u16>,
    /// Batches of more rows are answered so.
    large: Option<(usize, SinkError)>,
    prepare: VecDeque<SinkError>,
    /// What is stored already is stored once, as the server does it.
    tokens: HashSet<Uuid>,
    /// Whether it tells what is stored, and how often it was asked.
    tells: bool,
    asked: usize,
}

impl Scene {
    fn store(&mut self, id: Uuid, statuses: Vec<u16>) {
        if self.tokens.insert(id) {
            self.stored.extend(statuses);
        }
    }

    fn ids(&self) -> HashSet<Uuid> {
        self.seen.iter().map(|it| it.0).collect()
    }
}

#[derive(Clone, Default)]
struct Scripted(Arc<(Mutex<Scene>, Condvar)>);

impl Scripted {
    fn with(script: impl IntoIterator<Item = Step>) -> Self {
        let it = Self::default();
        it.scene(|scene| scene.script.extend(script));
        it
    }

    fn scene<T>(&self, look: impl FnOnce(&mut Scene) -> T) -> T {
        let seen = look(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_all();
        seen
    }

    /// Waits until `done` holds.
    fn wait(&self, done: impl Fn(&Scene) -> bool) {
        let scene = self.0.0.lock().unwrap();
        let waited = self.0.1.wait_timeout_while(scene, LONG, |scene| !done(scene)).unwrap();
        assert!(!waited.1.timed_out());
    }
}

impl Sink for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        let error = self.scene(|scene| scene.prepare.pop_front());
        Box::pin(async { error.map_or(Ok(()), Err) })
    }

    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        let statuses: Vec<u16> = batch.rows().iter().map(|it| it.status).collect();
        Box::pin(async move {
            let step = self.scene(|scene| {
                scene.seen.push((batch.id(), statuses.clone()));
                scene.script.pop_front()
            });
            match step {
                Some(Step::Fail(error)) => return Err(error),
                Some(Step::Lie(error)) => {
                    self.scene(|scene| scene.store(batch.id(), statuses));
                    return Err(error);
                }
                Some(Step::Panic) => panic!("a sink's own mistake"),
                Some(Step::Stall) => std::future::pending().await,
                None => {}
            }
            self.scene(|scene| {
                if scene.poison.is_some_and(|it| statuses.contains(&it)) {
                    return Err(SinkError::rejected("a bad row"));
                }
                if let Some((most, error)) = &scene.large
                    && statuses.len() > *most
                {
                    return Err(error.clone());
                }
                scene.store(batch.id(), statuses);
                Ok(())
            })
        })
    }

    fn stored<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Option<usize>, SinkError>> {
        Box::pin(async move {
            Ok(self.scene(|scene| {
                scene.asked += 1;
                let held = |it: &&Activity| scene.stored.contains(&it.status);
                scene.tells.then(|| batch.rows().iter().filter(held).count())
            }))
        })
    }
}

struct Rig {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    handle: WorkerHandle,
    ticks: Arc<AtomicUsize>,
}

fn config() -> PipelineConfig {
    PipelineConfig { batch_interval: Duration::from_millis(1), ..PipelineConfig::default() }
}

fn rig(sink: impl Sink + 'static, config: PipelineConfig) -> Rig {
    let brief = Duration::from_millis(1);
    let pace = Pace { unavailable: brief, busy: brief, configuration: brief, longest: brief };
    let (queue, counters) = (Arc::new(Queue::new(&config)), Arc::new(Counters::new()));
    let ticks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ticks);
    let tick = Box::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        panic!("a tick's own mistake");
    });
    let handle = Worker::spawn_paced(
        Arc::clone(&queue),
        Arc::clone(&counters),
        Box::new(sink),
        config,
        tick,
        pace,
    );
    Rig { queue, counters, handle: handle.unwrap(), ticks }
}

impl Rig {
    fn push_seed(&self, seed: Box<dyn Seed>) {
        self.counters.count_created();
        self.queue.nudge();
        if let Err((reason, _)) = self.queue.push(seed) {
            self.counters.count_dropped(reason);
        }
    }

    fn push(&self, status: u16) {
        self.push_seed(Box::new(Activity { status, ..Activity::default() }));
    }

    fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let report = self.handle.shutdown(deadline);
        let Stats { created, stored, failed, dropped, queued, .. } = report.stats;
        assert_eq!((created, queued), (stored + failed + dropped.total(), 0), "{report:?}");
        report
    }
}

#[test]
fn rows_are_stored_in_order_and_counted() {
    let sink = MemorySink::new();
    let rig = rig(sink.clone(), config());
    for status in 0..1000 {
        rig.push(status);
    }
    let report = rig.shutdown(LONG);
    assert!(report.complete);
    assert_eq!(report.stats.stored, 1000);
    let statuses: Vec<u16> = sink.activities().iter().map(|it| it.status).collect();
    assert_eq!(statuses, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_batch_is_full_by_rows() {
    let sink = Scripted::default();
    let rig =
        rig(sink.clone(), PipelineConfig { batch_rows: 3, batch_interval: LONG * 10, ..config() });
    for status in 0..7 {
        rig.push(status);
    }
    sink.wait(|scene| scene.stored.len() == 6);
    rig.shutdown(LONG);
    sink.scene(|scene| {
        let sizes: Vec<usize> = scene.seen.iter().map(|(_, rows)| rows.len()).collect();
        assert_eq!(sizes, [3, 3, 1]);
    });
}

#[test]
fn a_batch_is_full_by_bytes_and_never_larger() {
    let sink = Scripted::default();
    let row = Activity::default().bytes();
    let rig = rig(
        sink.clone(),
        PipelineConfig { batch_bytes: row * 5 / 2, batch_interval: LONG * 10, ..config() },
    );
    for status in 0..5 {
        rig.push(status);
    }
    sink.wait(|scene| scene.stored.len() >= 2);
    rig.shutdown(LONG);
    sink.scene(|scene| {
        assert_eq!(scene.stored, [0, 1, 2, 3, 4]);
        assert!(scene.seen.iter().all(|(_, rows)| rows.len() <= 2));
    });
}

#[test]
fn a_batch_that_does_not_fill_goes_when_the_interval_is_over() {
    let sink = Scripted::default();
    let rig =
        rig(sink.clone(), PipelineConfig { batch_interval: Duration::from_millis(50), ..config() });
    let start = Instant::now();
    rig.push(1);
    rig.push(2);
    sink.wait(|scene| scene.stored.len() == 2);
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_eq!(sink.scene(|scene| scene.seen.len()), 1);
    rig.shutdown(LONG);
}

#[test]
fn a_retry_sends_the_same_rows_under_the_same_id() {
    let away = || Step::Fail(SinkError::retryable("away"));
    let sink = Scripted::with([
        away(),
        Step::Fail(SinkError::busy("too many parts")),
        Step::Fail(SinkError::configuration("wrong password")),
        away(),
    ]);
    sink.scene(|scene| scene.prepare.extend([SinkError::rejected("x"), SinkError::unknown("y")]));
    let rig = rig(sink.clone(), config());
    rig.push(1);
    rig.push(2);
    assert!(rig.handle.flush(LONG));
    let stats = rig.shutdown(LONG).stats;
    sink.scene(|scene| {
        let first = scene.seen[0].clone();
        assert!(scene.seen[..5].iter().all(|it| *it == first), "{:?}", scene.seen);
        assert_eq!(scene.stored, [1, 2]);
    });
    assert_eq!((stats.stored, stats.failed), (2, 0));
    assert!(stats.retries >= 4, "{stats}");
}

#[test]
fn a_refused_row_fails_alone() {
    let sink = Scripted::default();
    sink.scene(|scene| scene.poison = Some(777));
    let rig = rig(sink.clone(), PipelineConfig { batch_interval: LONG * 10, ..config() });
    for status in 0..5000 {
        rig.push(status);
    }
    let stats = rig.shutdown(LONG).stats;
    assert_eq!((stats.stored, stats.failed, stats.retries), (4999, 1, 0));
    sink.scene(|scene| {
        assert_eq!(scene.stored, (0..5000).filter(|it| *it != 777).collect::<Vec<_>>());
        assert!(scene.seen.len() <= 30, "{} requests", scene.seen.len());
        let ids: std::collections::HashSet<Uuid> = scene.seen.iter().map(|it| it.0).collect();
        assert_eq!(ids.len(), scene.seen.len(), "a part has an id of its own");
    });
}

#[test]
fn a_sink_that_refuses_everything_is_asked_a_bounded_number_of_times() {
    let sink = Scripted::with((0..5000).map(|_| Step::Fail(SinkError::rejected("no"))));
    let rig = rig(sink.clone(), PipelineConfig { batch_interval: LONG * 10, ..config() });
    for status in 0..5000 {
        rig.push(status);
    }
    let stats = rig.shutdown(LONG).stats;
    assert_eq!((stats.stored, stats.failed), (0, 5000));
    assert!(sink.scene(|scene| scene.seen.len()) <= 2001);
}

#[test]
fn an_error_that_nobody_knows_is_waited_out_however_often_it_comes() {
    let sink = Scripted::with((0..50).map(|_| Step::Fail(SinkError::unknown("odd"))));
    let rig = rig(sink.clone(), PipelineConfig { batch_interval: LONG * 10, ..config() });
    for status in 0..100 {
        rig.push(status);
    }
    assert!(rig.handle.flush(LONG));
    let stats = rig.shutdown(LONG).stats;
    assert_eq!((stats.stored, stats.failed, stats.retries), (100, 0, 50));
    sink.scene(|scene| assert_eq!((scene.ids().len(), scene.asked), (1, 0)));
}

/// Pushes rows, and expects them all to be stored once, as one batch under one id.
fn stored_once_and_whole(sink: &Scripted) -> Stats {
    let rig = rig(sink.clone(), PipelineConfig { batch_interval: LONG * 10, ..config() });
    for status in 0..100 {
        rig.push(status);
    }
    assert!(rig.handle.flush(LONG));
    let stats = rig.shutdown(LONG).stats;
    assert_eq!((stats.stored, stats.failed), (100, 0), "{stats}");
    sink.scene(|scene| {
        assert_eq!(scene.stored, (0..100).collect::<Vec<_>>());
        assert_eq!(scene.ids().len(), 1, "under other ids: {:?}", scene.seen);
    });
    stats
}

#[test]
fn what_may_be_stored_is_never_sent_under_other_ids() {
    let (odd, no) = (|| SinkError::unknown("odd"), || SinkError::rejected("no"));
    let away = || SinkError::retryable("away");
    for tells in [true, false] {
        for lie in [odd(), away(), SinkError::busy("later"), SinkError::configuration("x")] {
            let refused = (0..3).map(|_| Step::Fail(no()));
            let sink = Scripted::with([Step::Lie(lie)].into_iter().chain(refused));
            sink.scene(|scene| scene.tells = tells);
            stored_once_and_whole(&sink);
        }
        // Refused so often that it is believed, if the sink may be asked, and stored all the same.
        let refused = (0..20).map(|_| Step::Fail(no()));
        let sink = Scripted::with([Step::Lie(odd())].into_iter().chain(refused));
        sink.scene(|scene| scene.tells = tells);
        stored_once_and_whole(&sink);
    }
    for lie in [no(), no().in_doubt(), SinkError::too_large("413"), SinkError::memory("241")] {
        let sink = Scripted::with([Step::Lie(lie)]);
        sink.scene(|scene| scene.tells = true);
        stored_once_and_whole(&sink);
    }
}

#[test]
fn a_refusal_in_doubt_is_believed_when_the_batch_is_found_missing_twice() {
    let sink = Scripted::with([Step::Fail(SinkError::unknown("odd"))]);
    sink.scene(|scene| (scene.poison, scene.tells) = (Some(7), true));
    let rig = rig(sink.clone(), PipelineConfig { batch_interval: LONG * 10, ..config() });
    for status in 0..100 {
        rig.push(status);
    }
    let stats = rig.shutdown(LONG).stats;
    assert_eq!((stats.stored, stats.failed), (99, 1));
    sink.scene(|scene| {
        assert_eq!(scene.seen[..3].iter().map(|it| it.1.len()).collect::<Vec<_>>(), [100; 3]);
        assert_eq!(scene.asked, 3, "twice about the whole, once about the row");
    });
}

#[test]
fn what_goes_wrong_before_a_batch_is_sent_raises_no_doubt_about_it() {
    let sink = Scripted::default();
    sink.scene(|scene| {
        scene.poison = Some(7);
        scene.prepare.extend([SinkError::retryable("away"), SinkError::unknown("odd")]);
    });
    let rig = rig(sink.clone(), PipelineConfig { batch_interval: LONG * 10, ..config() });
    for status in 0..10 {
        rig.push(status);
    }
    let stats = rig.shutdown(LONG).stats;
    assert_eq!((stats.stored, stats.failed), (9, 1), "{stats}");
}

#[test]
fn a_batch_that_is_too_large_is_halved_and_its_size_is_remembered() {
    let row = Activity::default().bytes();
    for error in [SinkError::too_large("413"), SinkError::memory("241")] {
        let sink = Scripted::default();
        sink.scene(|scene| (scene.large, scene.tells) = (Some((600, error)), true));
        let rig = rig(
            sink.clone(),
            PipelineConfig { batch_bytes: row * 2000, batch_interval: LONG * 10, ..config() },
        );
        for status in 0..4000 {
            rig.push(status);
        }
        assert!(rig.handle.flush(LONG));
        let stats = rig.shutdown(LONG).stats;
        assert_eq!((stats.stored, stats.failed), (4000, 0), "{stats}");
        sink.scene(|scene| {
            assert_eq!(scene.stored, (0..4000).collect::<Vec<_>>());
            let sizes: Vec<usize> = scene.seen.iter().map(|it| it.1.len()).collect();
            let large = sizes.iter().filter(|size| **size > 600).count();
            assert!(large <= 6 && sizes.iter().all(|size| *size >= 300), "{sizes:?}");
        });
    }
}

#[test]
fn a_small_size_that_was_learned_does_not_slow_delivery_down() {
    let row = Activity::default().bytes();
    let sink = Scripted::default();
    sink.scene(|scene| scene.large = Some((100, SinkError::too_large("413"))));
    let config = PipelineConfig { batch_bytes: row * 1000, batch_interval: LONG * 10, ..config() };
    let rig = rig(sink.clone(), config);
    for status in 0..10_000 {
        rig.push(status);
    }
    // The interval is never over, and no flush asks: full batches go at once.
    sink.wait(|scene| scene.stored.len() >= 9800);
    rig.shutdown(LONG);
}

#[test]
fn a_row_is_not_given_up_for_want_of_memory_nor_for_a_sink_that_takes_nothing() {
    for error in [SinkError::memory("241"), SinkError::too_large("413")] {
        let sink = Scripted::with((0..40).map(|_| Step::Fail(error.clone())));
        let rig = rig(sink.clone(), PipelineConfig { batch_interval: LONG * 10, ..config() });
        rig.push(1);
        rig.push(2);
        assert!(rig.handle.flush(LONG));
        let stats = rig.shutdown(LONG).stats;
        assert_eq!((stats.stored, stats.failed), (2, 0), "{stats}");
    }
    // A large row among small ones is.
    let sink = Scripted::default();
    sink.scene(|scene| scene.tells = true);
    let rig = rig(sink.clone(), PipelineConfig { batch_interval: LONG * 10, ..config() });
    sink.scene(|scene| scene.large = Some((0, SinkError::too_large("413"))));
    rig.push_seed(Box::new(Activity { url: "x".repeat(1 << 20), ..Activity::default() }));
    let stats = rig.shutdown(LONG).stats;
    assert_eq!((stats.stored, stats.failed), (0, 1), "{stats}");
}

#[test]
fn a_busy_sink_is_sent_fewer_and_larger_batches() {
    let interval = Duration::from_millis(100);
    let busy = (0..5).map(|_| Step::Fail(SinkError::busy("too many parts")));
    let sink = Scripted::with(busy);
    let rig = rig(sink.clone(), PipelineConfig { batch_interval: interval, ..config() });
    rig.push(0);
    sink.wait(|scene| scene.stored.len() == 1);
    let start = Instant::now();
    for status in 1..20 {
        rig.push(status);
    }
    sink.wait(|scene| scene.stored.len() == 20);
    let took = start.elapsed();
    assert!(took >= interval * 16, "{took:?}");
    assert_eq!(sink.scene(|scene| scene.seen.last().unwrap().1.len()), 19);
    assert!(rig.handle.flush(LONG), "a flush waits for no interval");
    rig.handle.shutdown(LONG);
}

#[test]
fn a_closed_sink_fails_its_batch_at_once() {
    let sink = Scripted::with([Step::Fail(SinkError::closed("broken pipe"))]);
    let rig = rig(sink.clone(), PipelineConfig { batch_interval: LONG * 10, ..config() });
    rig.push(1);
    rig.push(2);
    let stats = rig.shutdown(LONG).stats;
    assert_eq!((stats.failed, sink.scene(|scene| scene.seen.len())), (2, 1));
}

#[test]
fn a_panicking_sink_is_counted_and_asked_again() {
    let sink = Scripted::with([Step::Panic, Step::Panic]);
    let rig = rig(sink.clone(), config());
    rig.push(1);
    assert!(rig.handle.flush(LONG));
    let stats = rig.shutdown(LONG).stats;
    assert!(stats.panics >= 2, "{stats}");
    assert_eq!((stats.stored, sink.scene(|scene| scene.stored.clone())), (1, vec![1]));
}

struct Odd(Option<&'static str>);

impl Seed for Odd {
    fn bytes(&self) -> usize {
        100
    }

    fn into_activity(self: Box<Self>) -> Option<Activity> {
        assert!(self.0.is_none(), "a filter's own mistake");
        None
    }
}

#[test]
fn a_panicking_filter_fails_its_activity_and_a_quiet_one_drops_it() {
    let sink = MemorySink::new();
    let rig = rig(sink.clone(), config());
    rig.push_seed(Box::new(Odd(Some("panic"))));
    rig.push_seed(Box::new(Odd(None)));
    rig.push(1);
    let stats = rig.shutdown(LONG).stats;
    assert_eq!((stats.stored, stats.failed, stats.dropped.filtered), (1, 1, 1));
    assert!(stats.panics >= 1);
}

#[test]
fn a_stalled_sink_does_not_hold_a_shutdown_beyond_its_deadline() {
    let sink = Scripted::with([Step::Stall]);
    let rig = rig(sink.clone(), PipelineConfig { batch_rows: 10, ..config() });
    for status in 0..10 {
        rig.push(status);
    }
    sink.wait(|scene| !scene.seen.is_empty());
    let sent = sink.scene(|scene| scene.seen[0].1.len()) as u64;
    for status in 10..35 {
        rig.push(status);
    }
    let start = Instant::now();
    let report = rig.shutdown(Duration::from_millis(200));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(!report.complete);
    assert_eq!((report.stats.failed, report.stats.stored), (sent, 0));
    assert_eq!(report.stats.dropped.shutdown, 35 - sent);
    rig.push(36);
    assert_eq!(rig.handle.stats().dropped.shutdown, 36 - sent);
    assert_eq!(rig.shutdown(LONG).stats.failed, sent);
}

/// A sink whose call never comes back to the runtime, as a pipe that nobody reads.
struct Blocked(Arc<(Mutex<bool>, Condvar)>);

impl Sink for Blocked {
    fn name(&self) -> &'static str {
        "blocked"
    }

    fn write<'a>(&'a mut self, _: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        let released = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(released, |released| !*released).unwrap());
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn a_blocked_thread_does_not_hold_a_shutdown_and_counts_nothing_afterwards() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let rig = rig(Blocked(Arc::clone(&gate)), config());
    for status in 0..100 {
        rig.push(status);
    }
    let report = rig.shutdown(Duration::from_millis(100));
    assert!(!report.complete);
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let deadline = Instant::now() + LONG;
    // The sink goes with the worker.
    while Arc::strong_count(&gate) > 1 && Instant::now() < deadline {
        thread::yield_now();
    }
    assert_eq!(rig.shutdown(LONG).stats, report.stats);
}

#[test]
fn a_shutdown_cuts_a_long_pause_short_for_a_last_attempt() {
    let sink = Scripted::with([Step::Fail(SinkError::configuration("wrong password"))]);
    let config = config();
    let (queue, counters) = (Arc::new(Queue::new(&config)), Arc::new(Counters::new()));
    let handle = Worker::spawn(
        Arc::clone(&queue),
        Arc::clone(&counters),
        Box::new(sink.clone()),
        config,
        Box::new(|| {}),
    )
    .unwrap();
    counters.count_created();
    assert!(queue.push(Box::new(Activity::default())).is_ok());
    sink.wait(|scene| scene.seen.len() == 1);
    let start = Instant::now();
    let report = handle.shutdown(LONG);
    assert!(report.complete && report.stats.stored == 1, "{report:?}");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn every_shutdown_gives_the_same_report_whatever_the_thread() {
    let rig = rig(MemorySink::new(), config());
    for status in 0..100 {
        rig.push(status);
    }
    let reports: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| rig.shutdown(LONG))).collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(reports.iter().all(|it| it.complete && it.stats.stored == 100), "{reports:?}");
    assert_eq!(rig.shutdown(Duration::ZERO), reports[0]);
}

#[test]
fn a_flush_waits_for_what_was_pushed_before_it_and_for_nothing_else() {
    let sink = MemorySink::new();
    let rig = rig(sink.clone(), PipelineConfig { batch_interval: LONG * 10, ..config() });
    assert!(rig.handle.flush(LONG), "nothing to wait for");
    for status in 0..10 {
        rig.push(status);
    }
    assert!(rig.handle.flush(LONG));
    assert_eq!(sink.activities().len(), 10);
    rig.shutdown(LONG);
    assert!(rig.handle.flush(Duration::ZERO), "after the end");
}

#[test]
fn a_flush_gives_up_at_its_deadline() {
    let rig = rig(Scripted::with([Step::Stall]), config());
    rig.push(1);
    assert!(!rig.handle.flush(Duration::from_millis(50)));
    assert!(!rig.shutdown(Duration::from_millis(50)).complete);
}

#[test]
fn requests_under_way_are_ticked_for_though_nothing_is_pushed() {
    let rig = rig(MemorySink::new(), config());
    rig.counters.count_created();
    rig.queue.nudge();
    let deadline = Instant::now() + LONG;
    while rig.ticks.load(Ordering::SeqCst) < 3 && Instant::now() < deadline {
        thread::yield_now();
    }
    assert!(rig.ticks.load(Ordering::SeqCst) >= 3, "the tick panics and comes again");
    let stats = rig.handle.shutdown(LONG).stats;
    assert_eq!((stats.in_flight(), stats.created), (1, 1));
}

#[test]
fn while_requests_come_and_go_none_of_them_wakes_the_worker() {
    let sink = Scripted::default();
    let rig = rig(sink.clone(), PipelineConfig { batch_interval: LONG * 10, ..config() });
    let gathers = || {
        let deadline = Instant::now() + LONG;
        while !rig.queue.is_gathering() && Instant::now() < deadline {
            thread::yield_now();
        }
        rig.queue.is_gathering()
    };
    rig.counters.count_created();
    rig.queue.nudge();
    assert!(gathers(), "it waits for a full batch, or for its timer");
    for status in 0..3 {
        rig.push(status);
    }
    // Its tick takes the mark away for a moment, no push does for longer.
    assert!(gathers());
    assert_eq!(rig.queue.len(), 3);
    assert!(rig.handle.flush(LONG));
    assert!(gathers(), "and again after a batch");
    assert_eq!(sink.scene(|scene| scene.stored.len()), 3);
}

#[test]
fn what_is_pushed_while_the_worker_looks_by_itself_goes_within_an_interval() {
    let sink = Scripted::default();
    let interval = Duration::from_millis(200);
    let rig = rig(sink.clone(), PipelineConfig { batch_interval: interval, ..config() });
    rig.counters.count_created();
    rig.queue.nudge();
    for status in 0..3 {
        rig.push(status);
        sink.wait(|scene| scene.stored.len() == usize::from(status) + 1);
    }
    rig.handle.shutdown(LONG);
}

#[test]
fn while_the_sink_is_away_the_queue_fills_and_drops_are_counted() {
    let sink = Scripted::with([Step::Stall]);
    let rig = rig(sink.clone(), PipelineConfig { queue_rows: 100, ..config() });
    rig.push(0);
    sink.wait(|scene| !scene.seen.is_empty());
    for status in 0..500 {
        rig.push(status);
    }
    let stats = rig.handle.stats();
    assert_eq!((stats.dropped.queue_full, stats.queued), (400, 100));
    rig.shutdown(Duration::ZERO);
}

/// A sink whose every answer is left to chance; what it says it stored, it stored.
struct Moody(MemorySink);

impl Sink for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            match fastrand::u8(..10) {
                0 => Err(SinkError::retryable("away")),
                1 => Err(SinkError::rejected("refused")),
                2 => Err(SinkError::unknown("odd")),
                3 => panic!("a sink's own mistake"),
                4 => {
                    tokio::task::yield_now().await;
                    self.0.write(batch).await
                }
                _ => self.0.write(batch).await,
            }
        })
    }
}

#[test]
fn every_activity_meets_exactly_one_fate_whatever_happens() {
    for round in 0..30_u64 {
        let sink = MemorySink::new();
        let config = PipelineConfig { batch_rows: 50, queue_rows: 200, ..config() };
        let rig = rig(Moody(sink.clone()), config);
        thread::scope(|scope| {
            for n in 0..4_u16 {
                let rig = &rig;
                scope.spawn(move || {
                    for status in 0..500 {
                        rig.push(n * 500 + status);
                        if status % 50 == 0 {
                            rig.push_seed(Box::new(Odd((n == 0).then_some("panic"))));
                        }
                    }
                });
            }
            // In the middle of it, sooner or later, with more or less time.
            while rig.handle.stats().created < round * 60 {
                thread::yield_now();
            }
            let _ = rig.handle.shutdown(Duration::from_millis(round));
        });
        let stats = rig.shutdown(LONG).stats;
        assert_eq!(stats.created, 4 * 510, "round {round}");
        let mut stored: Vec<u16> = sink.activities().iter().map(|it| it.status).collect();
        assert_eq!(stored.len() as u64, stats.stored, "round {round}: {stats}");
        stored.sort_unstable();
        stored.dedup();
        assert_eq!(stored.len() as u64, stats.stored, "round {round}: a row twice");
    }
}
