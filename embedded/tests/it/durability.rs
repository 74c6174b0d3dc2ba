//! What was acknowledged is there: after restarts, after crashes, and once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use embedded_clickhouse::{Engine, WRITER, http};

use crate::support::{Folder, address, shared, until};

#[test]
fn three_restarts_keep_the_data_and_the_system_logs() {
    let _machine = shared();
    let folder = Folder::new();
    let mut logged = 0;
    for start in 0..4 {
        let engine = folder.engine();
        if start == 0 {
            engine.query("CREATE DATABASE d").unwrap();
            engine.query("CREATE TABLE d.t (x UInt64) ENGINE = MergeTree ORDER BY x").unwrap();
        }
        engine.query(&format!("INSERT INTO d.t VALUES ({start})")).unwrap();
        let sum = engine.query("SELECT count() FROM d.t").unwrap();
        assert_eq!(sum, format!("{}\n", start + 1));
        engine.query("SYSTEM FLUSH LOGS").unwrap();
        let inserts = "SELECT count() FROM system.query_log
            WHERE type = 'QueryFinish' AND query LIKE 'INSERT INTO d.t VALUES%'";
        assert_eq!(engine.query(inserts).unwrap(), format!("{}\n", start + 1));
        let parts = "SELECT count() FROM system.part_log WHERE database = 'd'";
        let now: u64 = engine.query(parts).unwrap().trim().parse().unwrap();
        assert!(now > logged, "part_log went from {logged} to {now}");
        logged = now;
        engine.stop().unwrap();
    }
}

const KILLS: u64 = 20;
const ROWS: u64 = 50;

#[test]
fn twenty_kills_under_load_lose_no_acknowledged_row() {
    let _machine = shared();
    let folder = Folder::new();
    let engine = folder.engine();
    engine.query("CREATE DATABASE d").unwrap();
    engine
        .query("CREATE TABLE d.t (batch UInt64, row UInt64) ENGINE = MergeTree ORDER BY batch")
        .unwrap();
    let mut engine = Some(engine);
    let mut acknowledged = Vec::new();
    let mut attempted = 0;
    let mut random = Random::new();
    for _ in 0..KILLS {
        let victim = engine.take().unwrap_or_else(|| folder.engine());
        let (batches, next) = insert_until_killed(victim, attempted, &mut random);
        acknowledged.extend(batches);
        attempted = next;
    }
    let engine = folder.engine();
    let rows =
        engine.query("SELECT batch, count() FROM d.t GROUP BY batch ORDER BY batch").unwrap();
    let found: HashMap<u64, u64> = rows
        .lines()
        .map(|line| {
            let (batch, count) = line.split_once('\t').unwrap();
            (batch.parse().unwrap(), count.parse().unwrap())
        })
        .collect();
    let lost: Vec<_> = acknowledged.iter().filter(|batch| !found.contains_key(batch)).collect();
    let partial: Vec<_> = found.iter().filter(|(_, count)| **count != ROWS).collect();
    println!(
        "{KILLS} kills: {attempted} batches sent, {} acknowledged, {} found",
        acknowledged.len(),
        found.len()
    );
    assert!(acknowledged.len() as u64 >= KILLS);
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(partial.is_empty(), "partial: {partial:?}");
}

/// Inserts batches numbered from `first` until the engine is killed at a random moment; the
/// numbers acknowledged, and the next one to use.
fn insert_until_killed(engine: Engine, first: u64, random: &mut Random) -> (Vec<u64>, u64) {
    let address = address(&engine);
    let count = AtomicU64::new(0);
    let killed = AtomicBool::new(false);
    let enough = 1 + random.below(30);
    let spin = Duration::from_micros(random.below(10_000));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut acknowledged = Vec::new();
            let mut batch = first;
            loop {
                let sql = format!("INSERT INTO d.t SELECT {batch}, number FROM numbers({ROWS})");
                let answer = http::query(&address, WRITER, "activity", &[], &sql);
                match answer {
                    Ok(response) => {
                        assert_eq!(response.status, 200, "{}", response.body);
                        acknowledged.push(batch);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => {
                        assert!(killed.load(Ordering::SeqCst), "{error}");
                        return (acknowledged, batch + 1);
                    }
                }
                batch += 1;
            }
        });
        until("the first batches", || count.load(Ordering::Relaxed) >= enough);
        let moment = Instant::now() + spin;
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        killed.store(true, Ordering::SeqCst);
        engine.kill();
        writer.join().unwrap()
    })
}

/// Numbers good enough to choose moments.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
        println!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        // Marsaglia, "Xorshift RNGs", 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn a_block_sent_twice_with_its_token_is_stored_once() {
    let _machine = shared();
    let folder = Folder::new();
    let engine = folder.engine();
    engine.query("CREATE DATABASE d").unwrap();
    engine
        .query(
            "CREATE TABLE d.t (x UInt64) ENGINE = MergeTree ORDER BY x
             SETTINGS non_replicated_deduplication_window = 100",
        )
        .unwrap();
    let send = |engine: &Engine, token: &str, value: u64| {
        let parameters = [("insert_deduplication_token", token), ("async_insert", "0")];
        let sql = format!("INSERT INTO d.t VALUES ({value})");
        let address = address(engine);
        let response = http::query(&address, WRITER, "activity", &parameters, &sql).unwrap();
        assert_eq!(response.status, 200, "{}", response.body);
        engine.query("SELECT count() FROM d.t").unwrap()
    };
    assert_eq!(send(&engine, "first", 1), "1\n");
    assert_eq!(send(&engine, "first", 1), "1\n");
    assert_eq!(send(&engine, "second", 1), "2\n");
    engine.stop().unwrap();
    let engine = folder.engine();
    assert_eq!(send(&engine, "first", 1), "2\n");
    engine.kill();
    let engine = folder.engine();
    assert_eq!(send(&engine, "second", 1), "2\n");
    assert_eq!(send(&engine, "third", 1), "3\n");
}
