//! A host: an async runtime of its own, whose paused clock the world moves, at the host's own rate.
//!
//! All code of a node runs on its host's runtime, unchanged: a crash drops the runtime with all
//! tasks in it, a pause keeps it from being run while its clock goes on, drift moves its clock by
//! more or less than a tick per tick.
//!
//! Not simulated: a host that is stopped in the middle of a task. Tasks run to their next await.

use std::{cell::RefCell, collections::BTreeMap, future::Future, time::Duration};

use quorate_jepsen_core::seed::Seed;
use quorate_raft_node::clock::{BootInstant, Clock};
use quorate_state_machine::planted;
use tokio::{
    runtime::{Builder, Handle, RngSeed, Runtime},
    time::Instant,
};

use crate::world::{self, HostId};

thread_local! {
    static HANDLES: RefCell<BTreeMap<HostId, Handle>> = const { RefCell::new(BTreeMap::new()) };
}

/// Starts a task on a host. Nothing happens if it is down.
pub fn spawn(host: HostId, task: impl Future<Output = ()> + Send + 'static) {
    let handle = HANDLES.with_borrow(|handles| handles.get(&host).cloned());
    if let Some(handle) = handle {
        drop(handle.spawn(task));
    }
}

/// A running host.
pub struct Host {
    id: HostId,
    runtime: Option<Runtime>,
    /// On the runtime's clock.
    started: Instant,
    /// Time of its own since the start, in microseconds.
    elapsed_us: u64,
    /// How long it was stopped so far.
    stopped_ms: u64,
    /// Its clock goes so much faster, in millionths.
    pub rate_ppm: i64,
}

impl Host {
    /// Starts a host; `life` counts its starts.
    #[must_use]
    pub fn start(id: HostId, life: u64, seed: &Seed) -> Self {
        let mut seed = seed.fork(&format!("host-{id}-{life}"));
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(&seed.next_u64().to_le_bytes()))
            .build()
            .expect("a runtime without I/O needs nothing of the system");
        HANDLES.with_borrow_mut(|handles| handles.insert(id, runtime.handle().clone()));
        let started = runtime.block_on(async { Instant::now() });
        Self { id, runtime: Some(runtime), started, elapsed_us: 0, stopped_ms: 0, rate_ppm: 0 }
    }

    /// Runs `future` to its end, with time as long as it takes. For starting things.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.within(|runtime| runtime.block_on(future))
    }

    fn within<T>(&self, work: impl FnOnce(&Runtime) -> T) -> T {
        let before = world::current();
        world::enter(self.id);
        planted::set_unseen_ms(self.stopped_ms);
        let done = work(self.runtime.as_ref().expect("a host has a runtime until it is dropped"));
        world::enter(before);
        done
    }

    /// Lets a tick of the world pass.
    pub fn step(&mut self) {
        let us = 1000 + self.rate_ppm / 1000;
        self.elapsed_us += u64::try_from(us).expect("no clock runs backwards");
        // Timers have a granularity of a millisecond.
        let target = self.started + Duration::from_millis(self.elapsed_us / 1000);
        self.within(|runtime| runtime.block_on(async { tokio::time::sleep_until(target).await }));
    }

    /// It was stopped for so long: its clock went on, and everything that is overdue is so at once.
    pub fn jump(&mut self, ticks: u64) {
        self.elapsed_us += ticks * 1000;
        self.stopped_ms += ticks;
        let target = self.started + Duration::from_millis(self.elapsed_us / 1000);
        self.within(|runtime| {
            runtime.block_on(async {
                let ahead = target.saturating_duration_since(Instant::now());
                tokio::time::advance(ahead).await;
            });
        });
    }
}

impl Drop for Host {
    /// As a process dies: every task is gone, wherever it was.
    fn drop(&mut self) {
        HANDLES.with_borrow_mut(|handles| handles.remove(&self.id));
        let before = world::current();
        world::enter(self.id);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        world::enter(before);
    }
}

/// A host's clocks. They survive a restart of the process; and of the machine too, as a boot clock
/// that goes back would only make proofs older.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    /// When the process started, on the world's clock.
    started_tick: u64,
    started: Instant,
    host: HostId,
}

thread_local! {
    /// Differences between hosts' wall clocks and the truth.
    static WALL_OFFSETS: RefCell<BTreeMap<HostId, i64>> = const { RefCell::new(BTreeMap::new()) };
}

/// From here on a host's wall clock is wrong by so much.
pub fn set_wall_offset(host: HostId, ms: i64) {
    WALL_OFFSETS.with_borrow_mut(|offsets| offsets.insert(host, ms));
}

/// The world begins at this time.
const EPOCH_MS: u64 = 1_750_000_000_000;

/// Boot clocks begin here, so that nothing is ever before boot.
const BOOT_MS: u64 = 100_000;

impl HostClock {
    /// The clock of a process that starts now, on its own host.
    #[must_use]
    pub fn start(host: HostId) -> Self {
        Self { started_tick: world::tick(), started: Instant::now(), host }
    }

    fn ms(&self) -> u64 {
        let elapsed = Instant::now().saturating_duration_since(self.started);
        self.started_tick + u64::try_from(elapsed.as_millis()).expect("runs are short")
    }
}

impl Clock for HostClock {
    fn wall_ms(&self) -> u64 {
        let truth = i64::try_from(EPOCH_MS + self.ms()).expect("far in the future");
        let offset = WALL_OFFSETS.with_borrow(|offsets| offsets.get(&self.host).copied());
        u64::try_from(truth + offset.unwrap_or(0)).expect("after 1970")
    }

    fn boot(&self) -> BootInstant {
        BootInstant::at(Duration::from_millis(BOOT_MS + self.ms()))
    }
}
