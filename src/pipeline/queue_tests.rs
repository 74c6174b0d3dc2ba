use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::*;

/// A seed of a given size that tells when it is dropped.
struct Sized(usize, Arc<AtomicUsize>);

impl Seed for Sized {
    fn bytes(&self) -> usize {
        self.0
    }

    fn into_activity(self: Box<Self>) -> Option<Activity> {
        None
    }
}

impl Drop for Sized {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

fn queue(rows: usize, bytes: usize) -> Queue {
    Queue::new(&PipelineConfig {
        queue_rows: rows,
        queue_bytes: bytes,
        ..PipelineConfig::default()
    })
}

fn seed(bytes: usize) -> Box<dyn Seed> {
    Box::new(Sized(bytes, Arc::default()))
}

fn reason(result: Result<(), (DropReason, Box<dyn Seed>)>) -> Option<DropReason> {
    result.err().map(|(reason, _)| reason)
}

#[test]
fn rows_and_bytes_are_bounded_exactly_under_eight_threads() {
    const ROWS: usize = 100;
    const BYTES: usize = 1000;
    let (queue, gone) = (queue(ROWS, BYTES), Arc::new(AtomicUsize::new(0)));
    let (taken, refused, popped) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let pushers: Vec<_> = (0..8)
            .map(|n| {
                let (queue, gone, taken, refused) = (&queue, &gone, &taken, &refused);
                scope.spawn(move || {
                    for size in 0..20_000_usize {
                        match queue.push(Box::new(Sized((size * 7 + n) % 31, Arc::clone(gone)))) {
                            Ok(()) => taken.fetch_add(1, Ordering::SeqCst),
                            Err(_) => refused.fetch_add(1, Ordering::SeqCst),
                        };
                    }
                })
            })
            .collect();
        let drainer = scope.spawn(|| {
            loop {
                let finished = done.load(Ordering::SeqCst);
                while queue.pop().is_some() {
                    popped.fetch_add(1, Ordering::SeqCst);
                }
                if finished {
                    return;
                }
            }
        });
        let watch = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                assert!(queue.len() <= ROWS && queue.bytes() <= BYTES, "{queue:?}");
            }
        });
        for pusher in pushers {
            pusher.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        drainer.join().unwrap();
        watch.join().unwrap();
    });
    let (taken, refused) = (taken.into_inner(), refused.into_inner());
    assert_eq!((taken + refused, popped.into_inner()), (160_000, taken));
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
    assert_eq!(gone.load(Ordering::SeqCst), 160_000);
}

#[test]
fn a_push_that_does_not_fit_says_which_bound_and_gives_the_seed_back() {
    let by_rows = queue(2, 1000);
    assert!(by_rows.push(seed(1)).is_ok() && by_rows.push(seed(0)).is_ok());
    let (reason_of_third, back) = by_rows.push(seed(7)).unwrap_err();
    assert_eq!((reason_of_third, back.bytes()), (DropReason::QueueFull, 7));
    assert_eq!((by_rows.len(), by_rows.bytes()), (2, 2));

    let by_bytes = queue(10, 100);
    assert!(by_bytes.push(seed(60)).is_ok());
    assert_eq!(reason(by_bytes.push(seed(41))), Some(DropReason::QueueBytes));
    assert!(by_bytes.push(seed(40)).is_ok());
    assert_eq!(by_bytes.pop().map(|(bytes, _)| bytes), Some(60));
    assert_eq!(reason(by_bytes.push(seed(usize::MAX))), Some(DropReason::QueueBytes));
    assert!(by_bytes.push(seed(60)).is_ok());
}

#[test]
fn a_closed_queue_refuses_and_still_gives_out_what_it_took() {
    let queue = queue(10, 1000);
    assert!(queue.push(seed(1)).is_ok());
    queue.close();
    assert_eq!(reason(queue.push(seed(1))), Some(DropReason::Shutdown));
    assert!(queue.pop().is_some() && queue.pop().is_none());
    assert!(!queue.sleep(Sleep::Idle), "nobody would wake the worker");
}

#[test]
fn a_worker_that_sleeps_is_woken_once_and_only_when_it_matters() {
    let queue = Queue::new(&PipelineConfig { batch_rows: 3, ..PipelineConfig::default() });
    let mut woken = Box::pin(queue.woken());
    let mut is_woken = || {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let ready = woken.as_mut().poll(&mut cx).is_ready();
        if ready {
            woken = Box::pin(queue.woken());
        }
        ready
    };
    assert!(queue.sleep(Sleep::Idle));
    queue.nudge();
    assert!(!is_woken(), "a timer runs already");
    assert!(queue.push(seed(1)).is_ok());
    assert!(is_woken());
    assert!(!queue.sleep(Sleep::Idle), "a seed waits");
    assert!(queue.sleep(Sleep::Gathering));
    assert!(queue.push(seed(1)).is_ok());
    assert!(!is_woken(), "the batch is not full");
    assert!(queue.push(seed(1)).is_ok());
    assert!(is_woken(), "the batch is full");
    assert!(!queue.sleep(Sleep::Gathering));
    while queue.pop().is_some() {}
    assert!(queue.sleep(Sleep::Untimed));
    queue.nudge();
    assert!(is_woken());
    queue.nudge();
    assert!(!is_woken(), "it is awake");
}

/// One pusher and one drainer that sleeps whenever it can, a hundred thousand times: a lost wake-up
/// leaves both waiting for each other.
#[test]
fn a_wake_up_is_never_lost() {
    const ROUNDS: usize = 100_000;
    let queue = Arc::new(queue(16, 1 << 20));
    let seen = Arc::new(AtomicUsize::new(0));
    let drainer = {
        let (queue, seen) = (Arc::clone(&queue), Arc::clone(&seen));
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                while seen.load(Ordering::SeqCst) < ROUNDS {
                    if queue.pop().is_some() {
                        seen.fetch_add(1, Ordering::SeqCst);
                    } else if queue.sleep(Sleep::Idle) {
                        let woken = tokio::time::timeout(Duration::from_secs(20), queue.woken());
                        assert!(woken.await.is_ok(), "{queue:?}");
                        queue.awake();
                    }
                }
            });
        })
    };
    for round in 0..ROUNDS {
        assert!(queue.push(seed(1)).is_ok());
        while seen.load(Ordering::SeqCst) <= round {
            if drainer.is_finished() {
                break;
            }
            thread::yield_now();
        }
    }
    drainer.join().unwrap();
}
