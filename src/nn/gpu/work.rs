//! What was recorded and not yet submitted, and how much is submitted at a time.
//!
//! A submission is to take some 30 ms, so that the desktop's frames go between and its watchdog
//! never fires. How much that is, is measured: submissions that came one after the other tell.

use super::adapters::{AdapterInfo, AdapterKind};
use super::device::Run;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Instant;

/// How long a submission is to take, in seconds.
const PORTION: f64 = 0.03;
/// Submissions that may wait for the GPU.
const QUEUED: usize = 2;
/// Bytes between uniform blocks, which every device allows.
const BLOCK: u64 = 256;
/// Uniform blocks of one submission.
const BLOCKS: u64 = 512;
/// Floating point operations that take about as long as moving one byte.
const FLOPS_OF_BYTE: u64 = 8;

/// What a GPU did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Runs of kernels.
    pub dispatches: u64,
    /// Submissions.
    pub submissions: u64,
    /// Bytes that went to the GPU.
    pub uploaded: u64,
    /// Bytes that came back.
    pub downloaded: u64,
    /// Floating point operations, a multiplication and an addition being two.
    pub flops: u64,
    /// The least bytes that the kernels had to read and write.
    pub bytes: u64,
    /// Bytes that they ask of the caches.
    pub asked: u64,
    /// Bytes of memory that are held.
    pub held: u64,
    /// The most that were.
    pub most_held: u64,
    /// Seconds of the longest submission, waiting for others left out.
    pub longest: f64,
}

impl Counts {
    /// What was done between `before` and now in each of `runs` runs.
    pub(super) fn since(&self, before: &Self, runs: u64) -> Self {
        Self {
            dispatches: (self.dispatches - before.dispatches) / runs,
            submissions: (self.submissions - before.submissions) / runs,
            uploaded: (self.uploaded - before.uploaded) / runs,
            downloaded: (self.downloaded - before.downloaded) / runs,
            flops: (self.flops - before.flops) / runs,
            bytes: (self.bytes - before.bytes) / runs,
            asked: (self.asked - before.asked) / runs,
            ..*self
        }
    }
}

struct Recorded {
    pipeline: wgpu::ComputePipeline,
    bound: wgpu::BindGroup,
    groups: [u32; 3],
}

struct Submitted {
    index: wgpu::SubmissionIndex,
    cost: u64,
    at: Instant,
}

pub(super) struct Work {
    recorded: Vec<Recorded>,
    blocks: Vec<u8>,
    uniform: wgpu::Buffer,
    /// What was recorded costs so many floating point operations.
    cost: u64,
    /// Floating point operations a second, as measured.
    rate: f64,
    submitted: VecDeque<Submitted>,
    /// When the submission before was done.
    done: Instant,
    /// Bytes that were written and not yet waited for.
    pub(super) written: u64,
    pub(super) counts: Counts,
}

impl Work {
    pub(super) fn new(device: &wgpu::Device, info: &AdapterInfo) -> Self {
        Self {
            recorded: Vec::new(),
            blocks: Vec::new(),
            uniform: device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: BLOCK * BLOCKS,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }),
            cost: 0,
            // A slow one of its kind to begin with.
            rate: match info.kind {
                AdapterKind::Discrete => 1e12,
                AdapterKind::Software => 5e9,
                _ => 1e11,
            },
            submitted: VecDeque::new(),
            done: Instant::now(),
            written: 0,
            counts: Counts::default(),
        }
    }

    /// The uniform block of a run; where it lies is told when it is bound.
    pub(super) fn block(&self) -> wgpu::BufferBinding<'_> {
        wgpu::BufferBinding {
            buffer: &self.uniform,
            offset: 0,
            size: NonZeroU64::new(BLOCK),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.recorded.len() as u64 == BLOCKS
    }

    pub(super) fn is_enough(&self) -> bool {
        self.cost >= self.portion()
    }

    pub(super) fn portion(&self) -> u64 {
        (self.rate * PORTION) as u64
    }

    pub(super) fn record(
        &mut self,
        pipeline: wgpu::ComputePipeline,
        bound: wgpu::BindGroup,
        run: &Run,
    ) {
        let start = self.recorded.len() * BLOCK as usize;
        self.blocks.resize(start, 0);
        for word in run.sizes {
            self.blocks.extend_from_slice(&word.to_le_bytes());
        }
        self.recorded.push(Recorded {
            pipeline,
            bound,
            groups: run.groups,
        });
        self.cost += run.flops + FLOPS_OF_BYTE * run.bytes;
        self.counts.dispatches += 1;
        self.counts.flops += run.flops;
        self.counts.bytes += run.bytes;
        self.counts.asked += run.asked;
    }

    pub(super) fn submit(&mut self, device: &wgpu::Device, queue: &wgpu::Queue) {
        if self.recorded.is_empty() {
            return;
        }
        let whole = self.recorded.len() * BLOCK as usize;
        self.blocks.resize(whole, 0);
        queue.write_buffer(&self.uniform, 0, &self.blocks);
        self.blocks.clear();
        let mut encoder = device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for (i, run) in self.recorded.drain(..).enumerate() {
                pass.set_pipeline(&run.pipeline);
                pass.set_bind_group(0, &run.bound, &[(i as u64 * BLOCK) as u32]);
                pass.dispatch_workgroups(run.groups[0], run.groups[1], run.groups[2]);
            }
        }
        self.submitted.push_back(Submitted {
            index: queue.submit([encoder.finish()]),
            cost: std::mem::take(&mut self.cost),
            at: Instant::now(),
        });
        self.counts.submissions += 1;
        self.written = 0;
        while self.submitted.len() > QUEUED {
            self.wait_for_oldest(device);
        }
    }

    /// Waits for the oldest submission and learns from it how quick the GPU is.
    fn wait_for_oldest(&mut self, device: &wgpu::Device) {
        let Some(oldest) = self.submitted.pop_front() else {
            return;
        };
        // A lost device is reported elsewhere.
        let waited = device.poll(wgpu::PollType::Wait {
            submission_index: Some(oldest.index),
            timeout: None,
        });
        let now = Instant::now();
        let seconds = (now - self.done.max(oldest.at)).as_secs_f64();
        self.done = now;
        // What was done before it was asked for says nothing.
        if waited.is_err() || seconds < 1e-4 {
            return;
        }
        self.counts.longest = self.counts.longest.max(seconds);
        let measured = oldest.cost as f64 / seconds;
        // A portion grows slowly, and shrinks at once where it took too long. A short one that was
        // slow for its size waited more than it worked.
        if measured > self.rate {
            self.rate += 0.2 * (measured - self.rate);
        } else if seconds > PORTION {
            self.rate = measured.max(1e8);
        }
    }

    /// All that was submitted is done.
    pub(super) fn settled(&mut self) {
        self.submitted.clear();
        self.done = Instant::now();
        self.written = 0;
    }
}
