//! Buffers that are used again: a tensor that is dropped leaves its memory to the next one.
//!
//! Work runs in the order in which it was recorded, so memory may be handed on as soon as nothing
//! that is still to be recorded needs it. What a step holds at most is thus what its tensors that
//! are alive at one time take.

use super::device::locked;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Memory of one buffer: none where a GPU only counts.
pub(super) struct Memory {
    pub raw: Option<wgpu::Buffer>,
    pub size: u64,
}

/// Free buffers by size, and how much there is of all.
#[derive(Default)]
pub(super) struct Pool {
    free: HashMap<u64, Vec<Memory>>,
    /// Bytes of all buffers, free ones too.
    pub(super) bytes: u64,
    /// The most that they were.
    pub(super) most: u64,
    /// Buffers that were made.
    pub(super) made: u64,
}

impl Pool {
    /// The size that is asked for: eight steps from one power of two to the next, so that sizes
    /// meet again; weights keep their own.
    pub(super) fn size_of(bytes: u64, kept: bool) -> u64 {
        let bytes = bytes.max(256).next_multiple_of(4);
        if kept {
            return bytes;
        }
        let step = (bytes.next_power_of_two() / 16).max(256);
        bytes.next_multiple_of(step)
    }

    pub(super) fn take(&mut self, size: u64) -> Option<Memory> {
        self.free.get_mut(&size)?.pop()
    }

    pub(super) fn made(&mut self, size: u64) {
        self.made += 1;
        self.bytes += size;
        self.most = self.most.max(self.bytes);
    }

    pub(super) fn trim(&mut self) {
        for memory in std::mem::take(&mut self.free).into_values().flatten() {
            self.bytes -= memory.size;
        }
    }
}

/// A buffer that goes back to its pool.
pub(super) struct Buffer {
    memory: Option<Memory>,
    pool: Arc<Mutex<Pool>>,
    kept: bool,
}

impl Buffer {
    /// One that is handed on when it is dropped, or, if it is `kept`, whose memory is given back.
    pub(super) fn new(memory: Memory, pool: Arc<Mutex<Pool>>, kept: bool) -> Self {
        Self {
            memory: Some(memory),
            pool,
            kept,
        }
    }

    /// None where a GPU only counts.
    pub(super) fn raw(&self) -> Option<&wgpu::Buffer> {
        self.memory.as_ref()?.raw.as_ref()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else {
            return;
        };
        let mut pool = locked(&self.pool);
        match self.kept {
            true => pool.bytes -= memory.size,
            false => pool.free.entry(memory.size).or_default().push(memory),
        }
    }
}
