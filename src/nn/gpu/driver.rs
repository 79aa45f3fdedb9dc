//! An opened device of wgpu: buffers, kernels, and what it reports.

use super::adapters::AdapterInfo;
use super::device::{Run, locked};
use super::error::{GpuError, first_line, readable};
use super::kept::Store;
use futures_util::FutureExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Most buffers that a kernel reads.
const MOST_READ: u32 = 5;

/// A compiled kernel.
#[derive(Clone)]
pub(super) struct Kernel {
    pub pipeline: wgpu::ComputePipeline,
    pub name: Arc<str>,
}

/// What belongs to an open device.
pub(super) struct Driver {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// Bind group layouts by how many buffers a kernel reads.
    layouts: Vec<(wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
    kernels: Mutex<HashMap<String, Kernel>>,
    /// Compiled kernels from earlier runs, where the driver takes them.
    cache: Option<wgpu::PipelineCache>,
    name: String,
}

impl Driver {
    /// Opens an adapter with these features and limits.
    pub(super) fn open(
        adapter: &wgpu::Adapter,
        info: &AdapterInfo,
        (features, limits): (wgpu::Features, wgpu::Limits),
        store: Option<&Store>,
        fault: &Arc<Mutex<Option<GpuError>>>,
    ) -> Result<Self, GpuError> {
        let closed = |why: &str| GpuError::Closed {
            name: info.name.clone(),
            why: first_line(why),
        };
        let experimental = match features.intersects(wgpu::Features::all_experimental_mask()) {
            // SAFETY: of what is experimental only cooperative matrices are asked for, by one kernel
            // whose matrices lie whole within workgroup memory that it wrote, and whose products are
            // compared with those of the plain kernel before they are used.
            true => unsafe { wgpu::ExperimentalFeatures::enabled() },
            false => wgpu::ExperimentalFeatures::disabled(),
        };
        let asked = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("networks"),
                required_features: features,
                experimental_features: experimental,
                required_limits: limits,
                memory_hints: wgpu::MemoryHints::MemoryUsage,
                ..Default::default()
            })
            .now_or_never();
        let (device, queue) = match asked {
            Some(opened) => opened.map_err(|why| closed(&why.to_string()))?,
            None => return Err(closed("the driver does not answer")),
        };
        report(&device, &info.name, fault);
        let layouts = (0..=MOST_READ)
            .map(|reads| layout(&device, reads))
            .collect();
        let keeps = features.contains(wgpu::Features::PIPELINE_CACHE);
        let cache = store.filter(|_| keeps).map(|store| {
            let kept = store.kernels();
            // SAFETY: what comes back is, byte by byte, what `get_data` gave for this adapter and
            // driver, or nothing: the store checks a hash of it. wgpu and the driver compare
            // adapter and driver once more.
            unsafe {
                device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                    label: Some("kernels"),
                    data: kept.as_deref(),
                    fallback: true,
                })
            }
        });
        Ok(Self {
            layouts,
            kernels: Mutex::default(),
            cache,
            name: info.name.clone(),
            device,
            queue,
        })
    }

    /// The kernels compiled so far in the driver's own form, for the next run of the program.
    pub(super) fn compiled(&self) -> Option<Vec<u8>> {
        self.cache.as_ref()?.get_data()
    }

    /// A new buffer.
    pub(super) fn allocate(&self, size: u64) -> Result<wgpu::Buffer, GpuError> {
        let device = &self.device;
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
        let errors: Vec<_> = scopes.into_iter().rev().map(popped).collect();
        match errors.into_iter().flatten().next() {
            None => Ok(buffer),
            Some(_) => Err(GpuError::Memory {
                name: self.name.clone(),
                wanted: readable(size),
            }),
        }
    }

    /// A run's kernel, compiled where it was not yet; and whether it was not.
    pub(super) fn kernel(&self, run: &Run) -> Result<(Kernel, bool), GpuError> {
        let mut kernels = locked(&self.kernels);
        if let Some(kernel) = kernels.get(run.kernel) {
            return Ok((kernel.clone(), false));
        }
        let device = &self.device;
        let scopes = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation]
            .map(|filter| device.push_error_scope(filter));
        let checks = wgpu::ShaderRuntimeChecks {
            force_loop_bounding: false,
            ..wgpu::ShaderRuntimeChecks::checked()
        };
        let text = wgpu::ShaderModuleDescriptor {
            label: Some(run.kernel),
            source: wgpu::ShaderSource::Wgsl((run.source)().into()),
        };
        // SAFETY: all that is checked while a kernel runs stays so, but that its loops end, for which
        // each turn of the innermost ones would count: every loop of ours steps towards a size, or
        // ends after one turn. On lavapipe (the least processor time of 15 rounds in turn) counting
        // makes attention by tiles take 43 % longer, layer norms 34 %, products and convolutions 2 to
        // 8 %, and a step of Sprout's UNet 6 %.
        let module = unsafe { device.create_shader_module_trusted(text, checks) };
        let (_, layout) = &self.layouts[run.reads.len()];
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(run.kernel),
            layout: Some(layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: self.cache.as_ref(),
        });
        let errors: Vec<_> = scopes.into_iter().rev().map(popped).collect();
        if let Some(error) = errors.into_iter().flatten().next() {
            tracing::error!(kernel = run.kernel, %error, "can't be compiled");
            return Err(GpuError::Kernel {
                name: self.name.clone(),
                kernel: run.kernel.to_owned(),
                why: first_line(&error.to_string()),
            });
        }
        let kernel = Kernel {
            pipeline,
            name: run.kernel.into(),
        };
        kernels.insert(run.kernel.to_owned(), kernel.clone());
        Ok((kernel, true))
    }

    /// A run's buffers behind the uniform block.
    pub(super) fn bind(&self, run: &Run, block: wgpu::BufferBinding<'_>) -> wgpu::BindGroup {
        let (layout, _) = &self.layouts[run.reads.len()];
        let buffers = run.reads.iter().copied().chain([run.writes]);
        let buffers = buffers.filter_map(|buffer| buffer.raw());
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(block),
        }];
        entries.extend(
            buffers
                .zip(1..)
                .map(|(buffer, binding)| wgpu::BindGroupEntry {
                    binding,
                    resource: buffer.as_entire_binding(),
                }),
        );
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout,
            entries: &entries,
        })
    }

    /// So many bytes from the beginning of a buffer, when all that was submitted is done.
    pub(super) fn read(&self, from: &wgpu::Buffer, bytes: u64) -> Result<Vec<u8>, GpuError> {
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(from, 0, &staging, 0, bytes);
        self.queue.submit([encoder.finish()]);
        staging.slice(..).map_async(wgpu::MapMode::Read, |_| {});
        self.wait()?;
        let mapped = staging.slice(..).get_mapped_range();
        let read = mapped.map_err(|why| self.lost(&why))?.to_vec();
        staging.unmap();
        Ok(read)
    }

    /// Waits until all that was submitted is done.
    pub(super) fn wait(&self) -> Result<(), GpuError> {
        let waited = self.device.poll(wgpu::PollType::wait_indefinitely());
        waited.map(drop).map_err(|why| self.lost(&why))
    }

    fn lost(&self, why: &dyn std::fmt::Display) -> GpuError {
        GpuError::Lost {
            name: self.name.clone(),
            why: first_line(&why.to_string()),
        }
    }
}

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
