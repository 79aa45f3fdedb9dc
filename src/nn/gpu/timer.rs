//! How long submissions take by the GPU's own clock, where it has one.

use std::ops::Range;

/// Submissions that are timed at a time.
const SLOTS: usize = 4;
/// Bytes between what is resolved of each.
const APART: u64 = wgpu::QUERY_RESOLVE_BUFFER_ALIGNMENT;
/// Bytes of two moments.
const MOMENTS: u64 = 16;

/// Moments before and after submissions.
pub(super) struct Timer {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    read: Vec<wgpu::Buffer>,
    /// Seconds of a tick.
    tick: f64,
    next: usize,
}

/// Where the moments of one submission are written.
#[derive(Clone, Copy)]
pub(super) struct Slot(usize);

impl Timer {
    /// None for a device that was opened without a clock.
    pub(super) fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Option<Self> {
        if !device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return None;
        }
        let buffer = |size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage: usage | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let count = SLOTS as u64;
        let resolving = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        Some(Self {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2 * SLOTS as u32,
            }),
            resolved: buffer(APART * count, resolving),
            read: (0..SLOTS)
                .map(|_| buffer(MOMENTS, wgpu::BufferUsages::MAP_READ))
                .collect(),
            tick: f64::from(queue.get_timestamp_period()) * 1e-9,
            next: 0,
        })
    }

    /// Room for the next submission; that of the one four before must have been read.
    pub(super) fn slot(&mut self) -> Slot {
        self.next = (self.next + 1) % SLOTS;
        Slot(self.next)
    }

    fn places(slot: Slot) -> Range<u32> {
        2 * slot.0 as u32..2 * slot.0 as u32 + 2
    }

    /// Has a pass note its begin and its end.
    pub(super) fn writes(&self, slot: Slot) -> wgpu::ComputePassTimestampWrites<'_> {
        let places = Self::places(slot);
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(places.start),
            end_of_pass_write_index: Some(places.start + 1),
        }
    }

    /// Copies the moments to where they can be read.
    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder, slot: Slot) {
        let at = APART * slot.0 as u64;
        encoder.resolve_query_set(&self.queries, Self::places(slot), &self.resolved, at);
        encoder.copy_buffer_to_buffer(&self.resolved, at, &self.read[slot.0], 0, MOMENTS);
    }

    /// Asks for the moments of a submission, once it was handed over.
    pub(super) fn ask(&self, slot: Slot) {
        self.read[slot.0]
            .slice(..)
            .map_async(wgpu::MapMode::Read, |_| {});
    }

    /// The seconds between both moments, once the submission is done; none where they make no sense.
    pub(super) fn seconds(&self, slot: Slot) -> Option<f64> {
        let buffer = &self.read[slot.0];
        let moments: Vec<u64> = {
            let mapped = buffer.slice(..).get_mapped_range().ok()?;
            let words = mapped.chunks_exact(8);
            words
                .filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)))
                .collect()
        };
        buffer.unmap();
        let ticks = moments.get(1)?.checked_sub(*moments.first()?)?;
        Some(ticks as f64 * self.tick).filter(|seconds| *seconds > 0.0)
    }
}
