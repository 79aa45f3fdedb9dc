//! What was recorded and not yet submitted, and how much is submitted at a time.
//!
//! A submission is to take some 15 ms, so that the desktop's frames go between and its watchdog
//! never fires. How much that is of each kernel, is measured ([`Pace`]): runs are cut into pieces,
//! and submissions that came one after the other tell how long they took.

use super::device::Run;
use super::driver::{Driver, Kernel};
use super::pace::{Load, PORTION, Pace, Pieces};
use super::timer::{Slot, Timer};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::ops::Range;
use std::time::Instant;

/// Submissions that may wait for the GPU.
const QUEUED: usize = 2;
/// Bytes between uniform blocks, which every device allows.
const BLOCK: u64 = 256;
/// Uniform blocks of one submission.
const BLOCKS: u64 = 512;
/// Floating point operations that take about as long as moving one byte.
pub(super) const FLOPS_OF_BYTE: u64 = 8;

/// What a GPU did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Runs of kernels.
    pub dispatches: u64,
    /// Submissions.
    pub submissions: u64,
    /// Kernels that were compiled.
    pub compiled: u64,
    /// Buffers that were made.
    pub allocated: u64,
    /// Bytes that went to the GPU.
    pub uploaded: u64,
    /// Bytes that came back.
    pub downloaded: u64,
    /// Floating point operations, a multiplication and an addition being two.
    pub flops: u64,
    /// The least bytes that the kernels had to read and write.
    pub bytes: u64,
    /// Bytes that go between memory and a cache, by the order in which workgroups run (`traffic.rs`).
    pub moved: u64,
    /// Bytes of memory that are held.
    pub held: u64,
    /// The most that were.
    pub most_held: u64,
    /// Seconds of the longest submission, by the GPU's clock where it has one, else waiting for
    /// others left out.
    pub longest: f64,
    /// The most submissions that waited for the GPU or were worked on at a time.
    pub most_waiting: u64,
}

impl Counts {
    /// What was done between `before` and now in each of `runs` runs.
    pub fn since(&self, before: &Self, runs: u64) -> Self {
        Self {
            dispatches: (self.dispatches - before.dispatches) / runs,
            submissions: (self.submissions - before.submissions) / runs,
            compiled: (self.compiled - before.compiled) / runs,
            allocated: (self.allocated - before.allocated) / runs,
            uploaded: (self.uploaded - before.uploaded) / runs,
            downloaded: (self.downloaded - before.downloaded) / runs,
            flops: (self.flops - before.flops) / runs,
            bytes: (self.bytes - before.bytes) / runs,
            moved: (self.moved - before.moved) / runs,
            ..*self
        }
    }
}

/// What the runs of one kernel did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KernelCounts {
    /// Runs.
    pub dispatches: u64,
    /// Floating point operations.
    pub flops: u64,
    /// The least bytes that they had to read and write.
    pub bytes: u64,
    /// Bytes between memory and a cache.
    pub moved: u64,
    /// How many times the least that it had to one run moved, at most.
    pub most_times: f64,
    /// The most that one workgroup does before it may pause, in floating point operations, a byte
    /// being eight.
    pub longest_step: u64,
}

impl KernelCounts {
    /// What was done between `before` and now.
    pub fn since(self, before: Self) -> Self {
        Self {
            dispatches: self.dispatches - before.dispatches,
            flops: self.flops - before.flops,
            bytes: self.bytes - before.bytes,
            moved: self.moved - before.moved,
            most_times: self.most_times,
            longest_step: self.longest_step,
        }
    }
}

struct Recorded {
    kernel: Kernel,
    bound: wgpu::BindGroup,
    extent: [u32; 3],
}

struct Submitted {
    index: wgpu::SubmissionIndex,
    timed: Option<Slot>,
    /// Cost of each kernel in it.
    done: Vec<(String, u64)>,
    at: Instant,
}

/// What waits to be submitted.
struct Waiting {
    uniform: wgpu::Buffer,
    recorded: Vec<Recorded>,
    blocks: Vec<u8>,
    /// Cost of each kernel, and the seconds that all are thought to take.
    done: Vec<(String, u64)>,
    seconds: f64,
}

pub(super) struct Work {
    /// None where nothing is computed but all is counted.
    waiting: Option<Waiting>,
    submitted: VecDeque<Submitted>,
    /// None where the GPU has no clock.
    timer: Option<Timer>,
    /// When the submission before was done.
    finished: Instant,
    /// Bytes that were written and not yet waited for.
    pub(super) written: u64,
    pub(super) pace: Pace,
    pub(super) counts: Counts,
    pub(super) by_kernel: BTreeMap<String, KernelCounts>,
}

impl Work {
    pub(super) fn new(driver: Option<&Driver>, pace: Pace) -> Self {
        let waiting = driver.map(|driver| Waiting {
            uniform: driver.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: BLOCK * BLOCKS,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }),
            recorded: Vec::new(),
            blocks: Vec::new(),
            done: Vec::new(),
            seconds: 0.0,
        });
        Self {
            waiting,
            timer: driver.and_then(|driver| Timer::new(&driver.device, &driver.queue)),
            submitted: VecDeque::new(),
            finished: Instant::now(),
            written: 0,
            pace,
            counts: Counts::default(),
            by_kernel: BTreeMap::new(),
        }
    }

    pub(super) fn count(&mut self, run: &Run) {
        self.counts.dispatches += 1;
        self.counts.flops += run.flops;
        self.counts.bytes += run.bytes;
        self.counts.moved += run.moved;
        if !self.by_kernel.contains_key(run.kernel) {
            let none = KernelCounts::default();
            self.by_kernel.insert(run.kernel.to_owned(), none);
        }
        if let Some(of) = self.by_kernel.get_mut(run.kernel) {
            of.dispatches += 1;
            of.flops += run.flops;
            of.bytes += run.bytes;
            of.moved += run.moved;
            let times = run.moved as f64 / run.bytes.max(1) as f64;
            of.most_times = of.most_times.max(times);
            let load = Load::of(run);
            let steps = load.groups * u64::from(load.steps);
            of.longest_step = of.longest_step.max(load.cost / steps.max(1));
        }
    }

    /// Records a run in pieces that are no longer than a portion; those before it are submitted as
    /// portions fill.
    pub(super) fn run(&mut self, driver: &Driver, kernel: &Kernel, run: &Run) {
        let load = Load::of(run);
        let mut pieces = Pieces::of(run.groups);
        let mut bound = None;
        // Workgroups that paused, and the step that they go on with.
        let mut paused = None;
        loop {
            let alone = self.pace.tries(run.kernel, load);
            let mut rest = pieces;
            let (first, extent, step) = match paused {
                Some(paused) => paused,
                None => match rest.next(self.pace.groups(run.kernel, load)) {
                    Some((first, extent)) => (first, extent, 0),
                    None => break,
                },
            };
            let count = extent.iter().map(|&e: &u32| u64::from(e)).product();
            let steps = self.pace.steps(run.kernel, load, count);
            let steps = step..load.steps.min(step + steps);
            let cost = self.pace.cost(load, count, steps.end - steps.start);
            let seconds = self.pace.seconds(run.kernel, cost);
            let Some(waiting) = &mut self.waiting else {
                return;
            };
            let full = waiting.recorded.len() as u64 == BLOCKS;
            let crowded = waiting.seconds + seconds > PORTION || alone;
            if !waiting.recorded.is_empty() && (crowded || full) {
                // What is learned from those before may make this piece shorter.
                self.submit(driver);
                continue;
            }
            if alone && !self.submitted.is_empty() {
                self.drain(driver);
                continue;
            }
            pieces = rest;
            paused = (steps.end < load.steps).then_some((first, extent, steps.end));
            let bound = bound.get_or_insert_with(|| {
                driver.bind(
                    run,
                    wgpu::BufferBinding {
                        buffer: &waiting.uniform,
                        offset: 0,
                        size: NonZeroU64::new(BLOCK),
                    },
                )
            });
            waiting.record(kernel, bound, run, (first, extent, steps), cost);
            waiting.seconds += seconds;
            if alone {
                self.submit(driver);
                self.drain(driver);
            }
        }
    }

    pub(super) fn submit(&mut self, driver: &Driver) {
        let Some(waiting) = &mut self.waiting else {
            return;
        };
        if waiting.recorded.is_empty() {
            return;
        }
        let whole = waiting.recorded.len() * BLOCK as usize;
        waiting.blocks.resize(whole, 0);
        driver
            .queue
            .write_buffer(&waiting.uniform, 0, &waiting.blocks);
        waiting.blocks.clear();
        waiting.seconds = 0.0;
        let mut encoder = driver.device.create_command_encoder(&Default::default());
        let timed = self.timer.as_mut().map(Timer::slot);
        let timing = self.timer.as_ref().zip(timed);
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: timing.map(|(timer, slot)| timer.writes(slot)),
            });
            for (i, run) in waiting.recorded.drain(..).enumerate() {
                pass.set_pipeline(&run.kernel.pipeline);
                pass.set_bind_group(0, &run.bound, &[(i as u64 * BLOCK) as u32]);
                pass.dispatch_workgroups(run.extent[0], run.extent[1], run.extent[2]);
            }
        }
        if let Some((timer, slot)) = timing {
            timer.resolve(&mut encoder, slot);
        }
        let index = driver.queue.submit([encoder.finish()]);
        if let Some((timer, slot)) = timing {
            timer.ask(slot);
        }
        self.submitted.push_back(Submitted {
            index,
            timed,
            done: std::mem::take(&mut waiting.done),
            at: Instant::now(),
        });
        self.counts.submissions += 1;
        self.written = 0;
        while self.submitted.len() > QUEUED {
            self.wait_for_oldest(driver);
        }
        let waiting = self.submitted.len() as u64;
        self.counts.most_waiting = self.counts.most_waiting.max(waiting);
    }

    /// Waits for all that was submitted, and learns from each.
    pub(super) fn drain(&mut self, driver: &Driver) {
        while !self.submitted.is_empty() {
            self.wait_for_oldest(driver);
        }
    }

    /// Waits for the oldest submission and learns from it how quick its kernels are.
    fn wait_for_oldest(&mut self, driver: &Driver) {
        let Some(oldest) = self.submitted.pop_front() else {
            return;
        };
        // A lost device is reported elsewhere.
        let waited = driver.device.poll(wgpu::PollType::Wait {
            submission_index: Some(oldest.index),
            timeout: None,
        });
        let now = Instant::now();
        let waited_for = (now - self.finished.max(oldest.at)).as_secs_f64();
        self.finished = now;
        let by_clock = self.by_clock(oldest.timed);
        if waited.is_err() {
            return;
        }
        let seconds = by_clock.unwrap_or(waited_for);
        self.counts.longest = self.counts.longest.max(seconds);
        self.pace.learn(&oldest.done, seconds, by_clock.is_some());
    }

    /// What a submission took that is done, by the GPU's clock.
    fn by_clock(&self, timed: Option<Slot>) -> Option<f64> {
        self.timer.as_ref()?.seconds(timed?)
    }

    /// All that was submitted is done.
    pub(super) fn settled(&mut self) {
        while let Some(done) = self.submitted.pop_front() {
            self.by_clock(done.timed);
        }
        self.finished = Instant::now();
        self.written = 0;
    }
}

impl Load {
    fn of(run: &Run) -> Self {
        Self {
            cost: run.flops + FLOPS_OF_BYTE * run.bytes,
            groups: run.groups.iter().map(|&groups| u64::from(groups)).product(),
            steps: run.steps.max(1),
        }
    }
}

impl Waiting {
    fn record(
        &mut self,
        kernel: &Kernel,
        bound: &wgpu::BindGroup,
        run: &Run,
        (first, extent, steps): ([u32; 3], [u32; 3], Range<u32>),
        cost: u64,
    ) {
        let start = self.recorded.len() * BLOCK as usize;
        self.blocks.resize(start, 0);
        let at = [first[0], first[1], first[2], run.groups[0]];
        for word in at.iter().chain(run.sizes) {
            self.blocks.extend_from_slice(&word.to_le_bytes());
        }
        if run.steps > 1 {
            self.blocks.truncate(self.blocks.len() - 8);
            self.blocks.extend_from_slice(&steps.start.to_le_bytes());
            self.blocks.extend_from_slice(&steps.end.to_le_bytes());
        }
        self.recorded.push(Recorded {
            kernel: kernel.clone(),
            bound: bound.clone(),
            extent,
        });
        match self
            .done
            .iter_mut()
            .find(|(name, _)| **name == *kernel.name)
        {
            Some((_, all)) => *all += cost,
            None => self.done.push((kernel.name.to_string(), cost)),
        }
    }
}
