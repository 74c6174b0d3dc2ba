//! What the layer, its running requests and the worker share.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use crossbeam_queue::ArrayQueue;
use tracing_core::Metadata;
use tracing_core::dispatcher::WeakDispatch;

use super::bridge::{Bridge, guarded};
use super::buffer::Buffer;
use super::callsite::{Callsite, Role};
use super::fields::FieldLimits;
use super::fork::Fork;
use super::mode::{Epoch, Mode};
use super::notices::{Notice, Notices};
use super::root::Root;
use super::thread::{self, with_thread};
use crate::config::{CaptureConfig, Config, HttpConfig, SamplingPolicy};
use crate::model::{Activity, ActivityId, Timestamp};
use crate::pipeline::{Counters, DropReason, Queue};
use crate::redact::Redactor;
use crate::shape::Shape;
#[cfg(feature = "tower")]
use crate::visits::Visits;
use crate::warn::print;

/// Decides whether an activity is delivered.
pub(crate) type ActivityFilter = Arc<dyn Fn(&Activity) -> bool + Send + Sync>;

/// Is shown the shape of every activity.
pub(crate) type ShapeObserver = Arc<dyn Fn(&Activity, &Shape) + Send + Sync>;

/// Tells what time it is.
pub(crate) type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Buffers and roots kept for reuse, whatever they hold.
const POOL: usize = 256;

/// Buffers kept for reuse that hold no more than [`SMALL`]: as many as wait for the worker's next
/// batch where a service is busy.
const SMALL_POOL: usize = 4096;

/// Memory of a buffer that recorded a usual request.
const SMALL: usize = 4 << 10;

/// Callsites remembered as ignored. A power of two; a program has a few hundred in use.
const IGNORED: usize = 1024;

/// Counters by which most spans are known not to be a root. A power of two.
const ROOT_IDS: usize = 8192;

/// Panics of our own callbacks after which the layer switches itself off.
const MAX_PANICS: u32 = 16;

/// What the application gives to a layer beside its configuration.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) filter: Option<ActivityFilter>,
    pub(crate) on_shape: Option<ShapeObserver>,
    pub(crate) wall: Option<WallClock>,
    /// The other tracing system whose spans stand beside ours.
    pub(crate) bridge: Option<Arc<dyn Bridge>>,
    #[cfg(feature = "tower")]
    pub(crate) visits: Option<Visits>,
}

/// The state of one layer.
///
/// Aligned so that the count of its owners, which the worker changes, is not on a cache line that
/// every request reads.
#[repr(align(128))]
pub(crate) struct Shared {
    /// Tells this layer from others in the process.
    pub(super) layer: u32,
    pub(super) config: CaptureConfig,
    pub(super) limits: FieldLimits,
    pub(super) http: HttpConfig,
    #[cfg(feature = "tower")]
    pub(super) visits: Option<Visits>,
    pub(super) redactor: Redactor,
    pub(super) mode: Mode,
    pub(super) filter: Option<ActivityFilter>,
    pub(super) on_shape: Option<ShapeObserver>,
    /// The other tracing system whose spans stand beside ours.
    pub(super) bridge: Option<Arc<dyn Bridge>>,
    /// The subscriber that this layer is part of.
    pub(super) dispatch: OnceLock<WeakDispatch>,
    pub(super) counters: Arc<Counters>,
    pub(super) queue: Arc<Queue>,
    pub(super) service: String,
    pub(super) host: String,
    pub(super) site_version: Timestamp,
    pub(super) site_revision: String,
    enabled: AtomicBool,
    /// The subscriber holds another layer, which was there first.
    is_second: AtomicBool,
    /// A request had a peer.
    #[cfg(feature = "tower")]
    has_peers: AtomicBool,
    notices: Arc<Notices>,
    panics: AtomicU32,
    /// Nothing returns to the pools any more.
    closed: AtomicBool,
    pool: ArrayQueue<Box<Buffer>>,
    in_flight: AtomicUsize,
    fork: Fork,
    /// Requests that were given up and go on.
    going_on: AtomicUsize,
    /// By a hash of their addresses, callsites that mean nothing to this layer.
    ignored: Box<[AtomicUsize; IGNORED]>,
    /// By a hash of their ids, how many root spans are open.
    root_ids: Box<[AtomicU16; ROOT_IDS]>,
    /// Every root there is, running or in the pool: to find the requests that never end.
    roots: Mutex<Vec<Weak<Root>>>,
    root_pool: ArrayQueue<Arc<Root>>,
    /// When the layer was made, by the clock.
    born: u64,
    clock: quanta::Clock,
    /// What time it is, where the application says it.
    wall: Option<WallClock>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("layer", &self.layer).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        config: &Config,
        parts: Parts,
        queue: Arc<Queue>,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        static LAYERS: AtomicU32 = AtomicU32::new(0);
        let layer = LAYERS.fetch_add(1, Ordering::Relaxed);
        let clock = quanta::Clock::new();
        Arc::new(Self {
            layer,
            limits: FieldLimits {
                fields: config.capture.max_fields,
                field_bytes: config.capture.max_field_bytes,
                row_bytes: config.capture.max_row_bytes,
            },
            config: config.capture.clone(),
            http: config.http.clone(),
            #[cfg(feature = "tower")]
            visits: parts.visits,
            redactor: Redactor::new(&config.redact),
            mode: Mode::new(config.sample.clone()),
            filter: parts.filter,
            on_shape: parts.on_shape,
            bridge: parts.bridge,
            dispatch: OnceLock::new(),
            counters,
            queue,
            service: config.service.clone(),
            host: config.host.clone(),
            site_version: config.site_version,
            site_revision: config.site_revision.clone(),
            enabled: AtomicBool::new(true),
            is_second: AtomicBool::new(false),
            #[cfg(feature = "tower")]
            has_peers: AtomicBool::new(false),
            notices: Arc::default(),
            panics: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            pool: ArrayQueue::new(SMALL_POOL),
            in_flight: AtomicUsize::new(0),
            fork: Fork::new(&clock),
            going_on: AtomicUsize::new(0),
            ignored: Box::new([const { AtomicUsize::new(0) }; IGNORED]),
            root_ids: Box::new([const { AtomicU16::new(0) }; ROOT_IDS]),
            roots: Mutex::default(),
            root_pool: ArrayQueue::new(POOL),
            born: clock.raw(),
            clock,
            wall: parts.wall,
        })
    }

    pub(crate) fn set_enabled(&self, enabled: bool) {
        if enabled {
            self.panics.store(0, Ordering::Relaxed);
        }
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// This layer does nothing: the subscriber holds another, which was there first.
    pub(super) fn yield_to_the_first(&self) {
        self.is_second.store(true, Ordering::Relaxed);
        super::installed::must_be_asked();
        self.notices.note(Notice::Second);
    }

    #[inline]
    pub(super) fn is_second(&self) -> bool {
        self.is_second.load(Ordering::Relaxed)
    }

    /// A request was met that will be no row, because the layer does not see its span.
    #[cold]
    #[cfg_attr(not(feature = "tower"), expect(dead_code, reason = "the middleware meets it"))]
    pub(super) fn hidden(&self) {
        if self.is_enabled() {
            self.counters.count_hidden();
            self.notices.note(Notice::Hidden);
        }
    }

    /// Whether as many requests are being captured as may.
    #[cfg(feature = "tower")]
    pub(super) fn is_full(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) >= self.config.max_in_flight
    }

    /// A request came whose peer is known, or is not; and somebody is to be believed.
    #[cfg(feature = "tower")]
    pub(super) fn met_peer(&self, is_known: bool) {
        if self.has_peers.load(Ordering::Relaxed) {
            return;
        }
        if is_known {
            self.has_peers.store(true, Ordering::Relaxed);
        } else {
            self.notices.note(Notice::NoPeer);
        }
    }

    /// Says what is to be said of how the layer was set up.
    pub(crate) fn say_notices(&self) {
        self.notices.say();
    }

    pub(crate) fn sampling(&self) -> SamplingPolicy {
        self.mode.current().sampler.policy().clone()
    }

    pub(crate) fn set_sampling(&self, policy: SamplingPolicy) {
        self.mode.set(policy);
    }

    /// Ticks of the clock: the processor's counter where it is steady, else nanoseconds. Only
    /// [`nanos`](Self::nanos) gives them a meaning.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.clock.raw()
    }

    /// The time of day; the system's where the application's clock panics.
    #[inline]
    pub(crate) fn wall(&self) -> Timestamp {
        let told = self.wall.as_ref().and_then(|wall| guarded(&self.counters, || wall()));
        Timestamp::from(told.unwrap_or_else(SystemTime::now))
    }

    /// What is to be done now and then for those who visit.
    #[cfg(feature = "tower")]
    pub(crate) fn tend_visits(&self) {
        if let Some(visits) = &self.visits {
            visits.tick(self.wall());
        }
    }

    /// Nanoseconds between two times; 0 when they are the other way around, as times of two
    /// processors may be by a hair.
    pub(super) fn nanos(&self, from: u64, to: u64) -> u64 {
        if to <= from { 0 } else { self.clock.delta_as_nanos(from, to) }
    }

    /// Nanoseconds from the making of the layer to this time.
    pub(super) fn age(&self, now: u64) -> u64 {
        self.nanos(self.born, now)
    }

    /// One of our callbacks panicked. That is a defect of ours; the application goes on, and
    /// after a few we do no more harm.
    pub(super) fn panicked(&self) {
        self.counters.count_panic();
        let panics = self.panics.fetch_add(1, Ordering::Relaxed) + 1;
        if panics >= MAX_PANICS {
            self.set_enabled(false);
        }
        if panics == MAX_PANICS {
            print(&format!(
                "capturing stopped after {MAX_PANICS} panics in the layer's own code: new requests have no \
                 rows until Handle::set_enabled(true) or a restart; please report the panics' messages"
            ));
        }
    }

    /// An empty buffer for what may become a request.
    pub(super) fn buffer(self: &Arc<Self>) -> Box<Buffer> {
        let mut buffer = self.pool.pop().unwrap_or_else(|| Box::new(Buffer::new(Arc::clone(self))));
        let when = self.wall();
        buffer.begin(ActivityId::new(when, random()), when);
        buffer
    }

    /// Counts a request that begins now; `false` when too many are running to capture it.
    pub(super) fn admit(&self, now: u64) -> bool {
        self.counters.count_created();
        if self.fork.is_due(now) {
            self.is_forked();
        }
        let admitted = self.in_flight.fetch_add(1, Ordering::Relaxed) < self.config.max_in_flight;
        if !admitted {
            self.ended();
            self.count_dropped(DropReason::InFlight);
        }
        self.queue.nudge();
        admitted
    }

    /// Counts a request that is left out.
    #[cold]
    pub(super) fn count_dropped(&self, reason: DropReason) {
        if let Some(reason) = self.fork.reason(reason) {
            self.counters.count_dropped(reason);
        }
    }

    /// Whether this process is a fork of the one that made the layer. Then nothing is captured any
    /// more: the thread that delivers was not taken over.
    pub(crate) fn is_forked(&self) -> bool {
        if self.fork.is_noticed(self.now()) {
            // Nobody is admitted any more, and nobody waits for a thread that is not there.
            self.in_flight.store(usize::MAX / 2, Ordering::Relaxed);
            self.queue.cut_off();
            while let Some((_, seed)) = self.queue.pop() {
                self.count_dropped(DropReason::Forked);
                drop(seed);
            }
            print(
                "this process was forked from one that captures activities, and nothing delivers its own: \
                 its requests have no rows and count as dropped (forked); call tracing_activity::init in \
                 the child, after the fork",
            );
        }
        self.fork.is_known()
    }

    /// Counts what the fork will never finish: no lock is taken, since who held it may not be here.
    pub(crate) fn settle_fork(&self) {
        self.set_enabled(false);
        if self.fork.settle() {
            let left = self.counters.snapshot(0).in_flight();
            self.counters.count_dropped_many(DropReason::Forked, left);
        }
    }

    /// Whether this callsite is known to mean nothing to this layer: the question that every span
    /// and event begins with.
    #[inline]
    pub(super) fn ignores(&self, metadata: &'static Metadata<'static>) -> bool {
        let (address, slot) = self.ignored_slot(metadata);
        slot.load(Ordering::Relaxed) ^ address <= self.mode.lean()
    }

    /// Remembers a callsite that means nothing now. It may take the place of another. The lowest bit,
    /// which no address has, marks one that only means nothing while spans are not collected.
    #[cold]
    #[inline(never)]
    pub(super) fn ignore(&self, metadata: &'static Metadata<'static>) {
        let (address, slot) = self.ignored_slot(metadata);
        let matters = Role::new(metadata, &self.config).wanted();
        slot.store(address | usize::from(matters), Ordering::Relaxed);
    }

    #[inline]
    fn ignored_slot(&self, metadata: &'static Metadata<'static>) -> (usize, &AtomicUsize) {
        let address = std::ptr::from_ref(metadata) as usize;
        // Metadata are aligned statics: the low bits say nothing.
        (address, &self.ignored[(address >> 4 ^ address >> 14) % IGNORED])
    }

    /// `false` when the span with this id is certainly no root: the cheap question where spans are
    /// not followed.
    #[inline]
    pub(super) fn may_be_root(&self, id: u64) -> bool {
        self.root_ids(id).load(Ordering::Relaxed) != 0
    }

    /// Remembers a root, where spans are not followed. Tells whether it is to be forgotten again.
    pub(super) fn remember_root(&self, id: u64) -> bool {
        let follows = self.mode.follows();
        if !follows {
            self.root_ids(id).fetch_add(1, Ordering::Relaxed);
        }
        !follows
    }

    pub(super) fn forget_root(&self, id: u64) {
        self.root_ids(id).fetch_sub(1, Ordering::Relaxed);
    }

    #[inline]
    fn root_ids(&self, id: u64) -> &AtomicU16 {
        // Fibonacci hashing: the ids of a slab differ in few bits.
        let hash = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        &self.root_ids[hash as usize % ROOT_IDS]
    }

    /// A running request ended.
    pub(super) fn ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a request that is given up may go on, and tell its end: as many as may be captured do.
    pub(super) fn goes_on(&self) -> bool {
        let may = self.going_on.fetch_add(1, Ordering::Relaxed) < self.config.max_in_flight;
        if !may {
            self.went_on();
        }
        may
    }

    /// A request that was given up ended.
    pub(super) fn went_on(&self) {
        self.going_on.fetch_sub(1, Ordering::Relaxed);
    }

    /// The record of a request of which nothing else is known: it has no fields, no fingerprint and
    /// no trace.
    #[cold]
    pub(super) fn outline(
        self: &Arc<Self>,
        id: ActivityId,
        when: Timestamp,
        callsite: &'static Callsite,
        started: u64,
    ) -> Box<Buffer> {
        let mut buffer = self.pool.pop().unwrap_or_else(|| Box::new(Buffer::new(Arc::clone(self))));
        buffer.begin(id, when);
        buffer.epoch = Epoch::NONE;
        buffer.begin_span(0, callsite, 0, started);
        buffer
    }

    /// Empties the pools for good: what they hold refers to this, and this to them.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        while self.pool.pop().is_some() {}
        while self.root_pool.pop().is_some() {}
    }

    pub(super) fn recycle(&self, mut buffer: Box<Buffer>) {
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        buffer.shrink();
        // A full pool drops the buffer.
        if self.pool.len() < POOL || buffer.bytes() <= SMALL {
            let _ = self.pool.push(buffer);
        }
    }

    /// A root for a request that begins.
    pub(super) fn root(
        self: &Arc<Self>,
        callsite: &'static Callsite,
        buffer: Box<Buffer>,
    ) -> Arc<Root> {
        let spare = with_thread(|thread| thread.take_spare(self.layer)).flatten();
        let root = spare.or_else(|| self.root_pool.pop()).unwrap_or_else(|| self.new_root());
        root.begin(callsite, buffer);
        let last = with_thread(|thread| thread.begun(Arc::clone(&root)));
        // It may be the last of its root: not while this thread's state is borrowed.
        drop(last);
        root
    }

    #[cold]
    fn new_root(self: &Arc<Self>) -> Arc<Root> {
        let root = Arc::new(Root::new(Arc::clone(self)));
        let mut roots = self.roots();
        // Those that went away leave their place to others.
        if roots.len() == roots.capacity() {
            roots.retain(|root| root.strong_count() > 0);
        }
        roots.push(Arc::downgrade(&root));
        root
    }

    /// The root span closed. If nobody else holds its root, nor has it as its newest, it may serve
    /// another request.
    pub(super) fn retire(&self, root: Arc<Root>) {
        if Arc::strong_count(&root) == 1 && !self.closed.load(Ordering::SeqCst) {
            // A full pool drops it.
            let _ = self.root_pool.push(root);
        }
    }

    fn roots(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Root>>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up every request there is, for good: nothing that comes later is delivered.
    pub(crate) fn abandon_all(&self) {
        // What this thread is inside of is known in full.
        thread::release(self.layer);
        self.abandon(Duration::ZERO, true);
    }

    /// Gives up the requests that have been running at least for `age`.
    fn abandon(&self, age: Duration, last: bool) {
        let now = self.now();
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        // Ending a request, or dropping its last root, must not happen under the lock.
        let roots: Vec<Arc<Root>> = self.roots().iter().filter_map(Weak::upgrade).collect();
        for root in roots {
            root.abandon(now, age, last);
        }
    }

    /// Gives up what has outlived the configured lifetime.
    pub(crate) fn abandon_old(&self) {
        self.abandon(self.config.max_lifetime, false);
        if let Some(bridge) = &self.bridge {
            bridge.tick();
        }
    }
}

/// 64 random bits, from a generator of this thread that the system's entropy seeded.
fn random() -> u64 {
    use std::cell::RefCell;
    use std::hash::{BuildHasher, RandomState};
    thread_local! {
        static GENERATOR: RefCell<fastrand::Rng> =
            RefCell::new(fastrand::Rng::with_seed(RandomState::new().hash_one(0)));
    }
    let next = GENERATOR.try_with(|generator| generator.borrow_mut().u64(..));
    next.unwrap_or_else(|_| RandomState::new().hash_one(1))
}
