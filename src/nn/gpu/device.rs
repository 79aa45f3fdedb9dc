//! An open GPU: its queue, its kernels, and what was recorded for it.

use super::adapters::{AdapterInfo, AdapterKind, Found, choose, find};
use super::error::{GpuError, first_line, readable};
use super::pool::{Buffer, Pool};
use super::tensor::GpuTensor;
use super::work::{Counts, Work};
use candle_core::{Tensor, TensorId};
use futures_util::FutureExt;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a GPU is to be opened; tests ask for less than it could.
#[derive(Clone, Copy, Debug, Default)]
pub struct GpuOptions {
    /// Only what WebGPU guarantees everywhere: its lowest limits and no feature.
    pub lowest: bool,
    /// Per cent of the memory that is free at the start, beyond which memory is refused.
    pub budget: Option<u8>,
}

/// A GPU that networks compute on, through wgpu. Copies are the same one.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    number: u64,
    info: AdapterInfo,
    device: wgpu::Device,
    queue: wgpu::Queue,
    largest: u64,
    /// Bind group layouts by how many buffers a kernel reads.
    layouts: Vec<(wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
    kernels: Mutex<HashMap<String, wgpu::ComputePipeline>>,
    pool: Arc<Mutex<Pool>>,
    work: Mutex<Work>,
    remembered: Mutex<VecDeque<(TensorId, GpuTensor)>>,
    fault: Arc<Mutex<Option<GpuError>>>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({})", self.0.info.name)
    }
}

/// The memory of a lock whose holder panicked is as good as it was.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Most tensors whose copies are kept.
const MOST_REMEMBERED: usize = 256;

/// Most buffers that a kernel reads.
const MOST_READ: u32 = 4;

/// One run of a kernel.
pub(super) struct Run<'a> {
    /// Names the kernel and its variant.
    pub kernel: &'a str,
    /// WGSL of the variant, made where it was not compiled yet.
    pub source: &'a dyn Fn() -> String,
    /// The uniform block.
    pub sizes: &'a [u32],
    pub reads: &'a [&'a Buffer],
    pub writes: &'a Buffer,
    pub groups: [u32; 3],
    /// Floating point operations.
    pub flops: u64,
    /// The least bytes that it must read and write.
    pub bytes: u64,
    /// The bytes that it asks of the caches, what is read again by other workgroups too.
    pub asked: u64,
}

impl Gpu {
    /// Opens the adapter with that number; without one the best that is no software.
    ///
    /// # Errors
    /// No such adapter, or a driver that will not open it.
    pub fn open(number: Option<usize>, options: GpuOptions) -> Result<Self, GpuError> {
        let thresholds = wgpu::MemoryBudgetThresholds {
            for_resource_creation: options.budget,
            for_device_loss: None,
        };
        let Found { adapter, info } = choose(number, find(thresholds))?;
        let closed = |why: &str| GpuError::Closed {
            name: info.name.clone(),
            why: first_line(why),
        };
        let limits = match options.lowest {
            true => wgpu::Limits::defaults(),
            false => adapter.limits(),
        };
        let largest = limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size);
        let asked = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("networks"),
                required_limits: limits,
                memory_hints: wgpu::MemoryHints::MemoryUsage,
                ..Default::default()
            })
            .now_or_never();
        let (device, queue) = match asked {
            Some(opened) => opened.map_err(|why| closed(&why.to_string()))?,
            None => return Err(closed("the driver does not answer")),
        };
        let fault = Arc::new(Mutex::new(None));
        report(&device, &info.name, &fault);
        let layouts = (0..=MOST_READ)
            .map(|reads| layout(&device, reads))
            .collect();
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Ok(Self(Arc::new(Inner {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            layouts,
            kernels: Mutex::default(),
            pool: Arc::default(),
            work: Mutex::new(Work::new(&device, &info)),
            remembered: Mutex::default(),
            fault,
            largest,
            info,
            device,
            queue,
        })))
    }

    /// What the adapter is.
    pub fn info(&self) -> &AdapterInfo {
        &self.0.info
    }

    /// Whether both are the same open GPU.
    pub fn is(&self, other: &Gpu) -> bool {
        self.0.number == other.0.number
    }

    /// Bytes of memory of its own, for a card.
    pub fn own_memory(&self) -> Option<u64> {
        let own = self.0.info.kind == AdapterKind::Discrete;
        self.0.info.memory.filter(|_| own)
    }

    /// The largest buffer that a kernel may read or write, in bytes.
    pub fn largest(&self) -> u64 {
        self.0.largest
    }

    /// Why it can't be used any more, if so.
    pub fn fault(&self) -> Option<GpuError> {
        locked(&self.0.fault).clone()
    }

    /// What was done since it was opened.
    pub fn counts(&self) -> Counts {
        let mut counts = locked(&self.0.work).counts;
        let pool = locked(&self.0.pool);
        (counts.held, counts.most_held) = (pool.bytes, pool.most);
        counts
    }

    /// Gives memory back that was kept for the next tensors.
    pub fn trim(&self) {
        locked(&self.0.remembered).clear();
        locked(&self.0.pool).trim();
    }

    /// A copy of a tensor that changes no more and is asked for in every step, such as what
    /// conditions a picture; the last ones are kept.
    pub(super) fn remembered(&self, t: &Tensor) -> Result<GpuTensor, candle_core::Error> {
        let known = |kept: &VecDeque<(TensorId, GpuTensor)>| {
            let found = kept.iter().find(|(id, _)| *id == t.id());
            found.map(|(_, there)| there.clone())
        };
        if let Some(there) = known(&locked(&self.0.remembered)) {
            return Ok(there);
        }
        let there = GpuTensor::upload(self, t)?;
        let mut kept = locked(&self.0.remembered);
        if kept.len() == MOST_REMEMBERED {
            kept.pop_front();
        }
        kept.push_back((t.id(), there.clone()));
        Ok(there)
    }

    /// Gives the GPU up as a driver does that loses it.
    #[cfg(test)]
    pub(super) fn lose(&self) {
        self.0.device.destroy();
        let _ = self.0.device.poll(wgpu::PollType::Poll);
    }

    pub(super) fn sound(&self) -> Result<(), GpuError> {
        self.fault().map_or(Ok(()), Err)
    }

    /// A buffer of so many bytes with anything in it; `kept` for weights, which are not handed
    /// on to other tensors when they are dropped.
    pub(super) fn buffer(&self, bytes: u64, kept: bool) -> Result<Buffer, GpuError> {
        self.sound()?;
        let (name, wanted) = (|| self.0.info.name.clone(), || readable(bytes));
        if bytes > self.0.largest {
            return Err(GpuError::TooLarge {
                name: name(),
                most: readable(self.0.largest),
                wanted: wanted(),
            });
        }
        let size = Pool::size_of(bytes, kept).min(self.0.largest / 4 * 4);
        if !kept && let Some(buffer) = locked(&self.0.pool).take(size) {
            return Ok(Buffer::lent(buffer, self.0.pool.clone()));
        }
        let made = self.allocate(size).or_else(|_| {
            // What is kept for later is given back first, once the work that uses it is done.
            self.finish()?;
            self.trim();
            self.0.device.poll(wgpu::PollType::wait_indefinitely()).ok();
            self.allocate(size)
        });
        match made {
            Ok(buffer) => {
                locked(&self.0.pool).made(size);
                Ok(match kept {
                    true => Buffer::kept(buffer, self.0.pool.clone()),
                    false => Buffer::lent(buffer, self.0.pool.clone()),
                })
            }
            Err(lost @ GpuError::Lost { .. }) => Err(lost),
            Err(_) => Err(GpuError::Memory {
                name: name(),
                wanted: wanted(),
            }),
        }
    }

    fn allocate(&self, size: u64) -> Result<wgpu::Buffer, GpuError> {
        let device = &self.0.device;
        let scopes = [
            wgpu::ErrorFilter::Internal,
            wgpu::ErrorFilter::Validation,
            wgpu::ErrorFilter::OutOfMemory,
        ]
        .map(|filter| device.push_error_scope(filter));
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_DST
                | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let errors = scopes.into_iter().rev().map(popped);
        let errors: Vec<_> = errors.collect();
        self.sound()?;
        match errors.into_iter().flatten().next() {
            None => Ok(buffer),
            Some(_) => Err(GpuError::Memory {
                name: self.0.info.name.clone(),
                wanted: readable(size),
            }),
        }
    }

    /// Writes bytes, a multiple of four of them, to the beginning of a buffer.
    pub(super) fn write(&self, to: &Buffer, bytes: &[u8]) -> Result<(), GpuError> {
        // A write goes before whatever is not yet submitted, which may still read the buffer.
        self.submit()?;
        let mut work = locked(&self.0.work);
        work.counts.uploaded += bytes.len() as u64;
        self.0.queue.write_buffer(to.raw(), 0, bytes);
        // What is written is copied by the next submission; large weights should not pile up.
        work.written += bytes.len() as u64;
        if work.written > LARGEST_WRITE {
            drop(work);
            self.0.queue.submit([]);
            self.wait()?;
        }
        self.sound()
    }

    /// Reads so many bytes from the beginning of a buffer, when all that was recorded is done.
    pub(super) fn read(&self, from: &Buffer, bytes: u64) -> Result<Vec<u8>, GpuError> {
        self.submit()?;
        let device = &self.0.device;
        let staging = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(from.raw(), 0, &staging, 0, bytes);
        self.0.queue.submit([encoder.finish()]);
        staging.slice(..).map_async(wgpu::MapMode::Read, |_| {});
        self.wait()?;
        let lost = |why: &dyn std::fmt::Display| {
            self.fault().unwrap_or_else(|| GpuError::Lost {
                name: self.0.info.name.clone(),
                why: first_line(&why.to_string()),
            })
        };
        let mapped = staging.slice(..).get_mapped_range();
        let read = mapped.map_err(|why| lost(&why))?.to_vec();
        staging.unmap();
        locked(&self.0.work).counts.downloaded += bytes;
        Ok(read)
    }

    /// Records a run of a kernel; what was recorded is submitted in portions.
    pub(super) fn run(&self, run: &Run) -> Result<(), GpuError> {
        self.sound()?;
        let reads = run.reads.len();
        let pipeline = self.pipeline(run.kernel, run.source, reads)?;
        let mut work = locked(&self.0.work);
        if work.is_full() {
            self.submit_held(&mut work)?;
        }
        let (layout, _) = &self.0.layouts[reads];
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(work.block()),
        }];
        let buffers = run.reads.iter().copied().chain([run.writes]);
        entries.extend(
            buffers
                .zip(1..)
                .map(|(buffer, binding)| wgpu::BindGroupEntry {
                    binding,
                    resource: buffer.raw().as_entire_binding(),
                }),
        );
        let bound = self.0.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout,
            entries: &entries,
        });
        drop(entries);
        work.record(pipeline, bound, run);
        if work.is_enough() {
            self.submit_held(&mut work)?;
        }
        Ok(())
    }

    /// So many floating point operations are done in the time of one portion.
    pub(super) fn portion(&self) -> u64 {
        locked(&self.0.work).portion()
    }

    /// Submits what was recorded.
    pub(super) fn submit(&self) -> Result<(), GpuError> {
        self.submit_held(&mut locked(&self.0.work))
    }

    fn submit_held(&self, work: &mut Work) -> Result<(), GpuError> {
        work.submit(&self.0.device, &self.0.queue);
        self.sound()
    }

    /// Submits what was recorded and waits until it is done.
    pub fn finish(&self) -> Result<(), GpuError> {
        self.submit()?;
        self.wait()
    }

    fn wait(&self) -> Result<(), GpuError> {
        let waited = self.0.device.poll(wgpu::PollType::wait_indefinitely());
        locked(&self.0.work).settled();
        self.sound()?;
        match waited {
            Ok(_) => Ok(()),
            Err(why) => Err(GpuError::Lost {
                name: self.0.info.name.clone(),
                why: first_line(&why.to_string()),
            }),
        }
    }

    fn pipeline(
        &self,
        kernel: &str,
        source: &dyn Fn() -> String,
        reads: usize,
    ) -> Result<wgpu::ComputePipeline, GpuError> {
        let mut kernels = locked(&self.0.kernels);
        if let Some(pipeline) = kernels.get(kernel) {
            return Ok(pipeline.clone());
        }
        let device = &self.0.device;
        let scopes = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation]
            .map(|filter| device.push_error_scope(filter));
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(kernel),
            source: wgpu::ShaderSource::Wgsl(source().into()),
        });
        let (_, layout) = &self.0.layouts[reads];
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel),
            layout: Some(layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let errors: Vec<_> = scopes.into_iter().rev().map(popped).collect();
        self.sound()?;
        if let Some(error) = errors.into_iter().flatten().next() {
            return Err(GpuError::Kernel {
                name: self.0.info.name.clone(),
                kernel: kernel.to_owned(),
                why: first_line(&error.to_string()),
            });
        }
        kernels.insert(kernel.to_owned(), pipeline.clone());
        Ok(pipeline)
    }
}

/// Bytes that are written before they are submitted.
const LARGEST_WRITE: u64 = 64 << 20;

fn popped(scope: wgpu::ErrorScopeGuard) -> Option<wgpu::Error> {
    scope.pop().now_or_never().flatten()
}

/// Has whatever the driver reports later end the GPU's use.
fn report(device: &wgpu::Device, name: &str, fault: &Arc<Mutex<Option<GpuError>>>) {
    let keep = |fault: &Mutex<Option<GpuError>>, error: GpuError| {
        tracing::error!("{error}");
        locked(fault).get_or_insert(error);
    };
    let (at, of) = (fault.clone(), name.to_owned());
    device.set_device_lost_callback(move |reason, why| {
        let why = match reason {
            wgpu::DeviceLostReason::Destroyed => "it was closed".to_owned(),
            wgpu::DeviceLostReason::Unknown => first_line(&why),
        };
        let name = of.clone();
        keep(&at, GpuError::Lost { name, why });
    });
    let (at, of) = (fault.clone(), name.to_owned());
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        let name = of.clone();
        let why = first_line(&error.to_string());
        let fault = match error {
            wgpu::Error::OutOfMemory { .. } => GpuError::Memory {
                name,
                wanted: "a few bytes".to_owned(),
            },
            _ => GpuError::Lost { name, why },
        };
        keep(&at, fault);
    }));
}

/// One uniform block that moves along, `reads` buffers that are read, one that is written.
fn layout(device: &wgpu::Device, reads: u32) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
    let entry = |binding, ty, moves| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: moves,
            min_binding_size: None,
        },
        count: None,
    };
    let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
    let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true)];
    entries.extend((1..=reads).map(|binding| entry(binding, storage(true), false)));
    entries.push(entry(reads + 1, storage(false), false));
    let groups = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: None,
        entries: &entries,
    });
    let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&groups)],
        immediate_size: 0,
    });
    (groups, pipeline)
}
