//! The adapters of this machine, best first.

use super::error::GpuError;
use futures_util::FutureExt;
use std::fmt;

/// What kind of GPU an adapter is, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// Beside the processor, sharing its memory.
    Integrated,
    /// Lent by another machine.
    Virtual,
    /// Not told by the driver.
    Unknown,
    /// The processor, pretending.
    Software,
}

impl AdapterKind {
    fn of(kind: wgpu::DeviceType) -> Self {
        match kind {
            wgpu::DeviceType::DiscreteGpu => Self::Discrete,
            wgpu::DeviceType::IntegratedGpu => Self::Integrated,
            wgpu::DeviceType::VirtualGpu => Self::Virtual,
            wgpu::DeviceType::Other => Self::Unknown,
            wgpu::DeviceType::Cpu => Self::Software,
        }
    }
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Unknown => "unknown",
            Self::Software => "software",
        })
    }
}

/// What an adapter is and can do.
#[derive(Clone, Debug)]
pub struct AdapterInfo {
    /// Its number in `--device gpu:N`.
    pub index: usize,
    /// Its name, as the driver tells it.
    pub name: String,
    /// What kind of GPU it is.
    pub kind: AdapterKind,
    /// The interface that it is reached by, such as `Vulkan`.
    pub backend: String,
    /// The driver with its version.
    pub driver: String,
    /// Bytes of its memory, where the driver tells.
    pub memory: Option<u64>,
    /// Whether kernels may compute in f16.
    pub f16: bool,
    /// Least and most invocations of a subgroup, where kernels may use them.
    pub subgroups: Option<(u32, u32)>,
    /// Numbers of a side of the cooperative matrices that kernels may multiply, f16 with sums in
    /// f32, where there are some.
    pub matrix_side: Option<u32>,
    /// Most bytes of one buffer that a kernel reads or writes.
    pub largest_buffer: u64,
    /// Bytes that a workgroup shares.
    pub workgroup_memory: u32,
    /// Most invocations of a workgroup.
    pub workgroup_size: u32,
}

impl AdapterInfo {
    /// One that is on no machine.
    pub(super) fn imagined(name: &str, kind: AdapterKind) -> Self {
        Self {
            index: 0,
            name: name.to_owned(),
            kind,
            backend: "nothing".to_owned(),
            driver: String::new(),
            memory: None,
            f16: false,
            subgroups: None,
            matrix_side: None,
            largest_buffer: 0,
            workgroup_memory: 0,
            workgroup_size: 0,
        }
    }
}

/// An adapter, and what opens it.
pub(super) struct Found {
    pub adapter: wgpu::Adapter,
    pub info: AdapterInfo,
}

/// All adapters: a discrete one before an integrated one, software last.
pub(super) fn find(thresholds: wgpu::MemoryBudgetThresholds) -> Vec<Found> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::PRIMARY,
        memory_budget_thresholds: thresholds,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = instance
        .enumerate_adapters(wgpu::Backends::PRIMARY)
        .now_or_never()
        .unwrap_or_default();
    let mut found: Vec<Found> = adapters
        .into_iter()
        .map(|adapter| Found {
            info: described(&adapter),
            adapter,
        })
        .collect();
    found.sort_by_key(|found| found.info.kind);
    for (index, found) in found.iter_mut().enumerate() {
        found.info.index = index;
    }
    found
}

/// What adapters there are, in the order of their numbers.
pub fn adapters() -> Vec<AdapterInfo> {
    find(wgpu::MemoryBudgetThresholds::default())
        .into_iter()
        .map(|found| found.info)
        .collect()
}

/// The adapter of that number, which is not opened.
///
/// # Errors
/// A number that no adapter has.
pub fn adapter(number: usize) -> Result<AdapterInfo, GpuError> {
    let all = find(wgpu::MemoryBudgetThresholds::default());
    Ok(choose(Some(number), all)?.info)
}

/// The adapter that an author means: the one with that number, or without a number the best one
/// that is no software.
pub(super) fn choose(number: Option<usize>, mut all: Vec<Found>) -> Result<Found, GpuError> {
    let index = match number {
        Some(number) => number,
        None if all
            .first()
            .is_some_and(|best| best.info.kind != AdapterKind::Software) =>
        {
            0
        }
        None => {
            let why = match all.first() {
                Some(only) => format!(
                    "this machine has no GPU but the software one {}; name it with --device gpu:{} or use --device cpu",
                    only.info.name, only.info.index
                ),
                None => "this machine has no GPU with a driver for Vulkan, Metal or DirectX 12; install one or use --device cpu".to_owned(),
            };
            return Err(GpuError::Missing(why));
        }
    };
    if index >= all.len() {
        let there = match all.len() {
            0 => "none".to_owned(),
            1 => "gpu:0 alone".to_owned(),
            n => format!("gpu:0 to gpu:{}", n - 1),
        };
        return Err(GpuError::Missing(format!(
            "there is no GPU number {index} on this machine, which has {there}; choose another or use --device cpu"
        )));
    }
    Ok(all.swap_remove(index))
}

fn described(adapter: &wgpu::Adapter) -> AdapterInfo {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let driver = format!("{} {}", info.driver, info.driver_info);
    AdapterInfo {
        index: 0,
        kind: AdapterKind::of(info.device_type),
        backend: match info.backend {
            wgpu::Backend::Dx12 => "DirectX 12".to_owned(),
            other => format!("{other:?}"),
        },
        driver: driver.trim().to_owned(),
        memory: memory(adapter),
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: features
            .contains(wgpu::Features::SUBGROUP)
            .then_some((info.subgroup_min_size, info.subgroup_max_size)),
        matrix_side: matrix_side(adapter),
        largest_buffer: limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size),
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        workgroup_size: limits.max_compute_invocations_per_workgroup,
        name: info.name,
    }
}

/// The larger of the sides of square matrices of f16 that add up in f32.
fn matrix_side(adapter: &wgpu::Adapter) -> Option<u32> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    if !adapter.features().contains(features) {
        return None;
    }
    let all = adapter.cooperative_matrix_properties().into_iter();
    let square = all.filter(|of| of.m_size == of.n_size && of.n_size == of.k_size);
    let mixed = square.filter(|of| of.ab_type == F16 && of.cr_type == F32);
    mixed.map(|of| of.m_size).max()
}

/// Bytes of the adapter's own memory. wgpu does not tell; Vulkan does.
#[cfg(any(target_os = "linux", target_os = "windows"))]
fn memory(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the physical device is only asked for its properties, and stays the adapter's.
    let properties = unsafe {
        let adapter = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = adapter.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(adapter.raw_physical_device())
    };
    /// `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`.
    const LOCAL: u32 = 1;
    let heaps = properties.memory_heaps.iter();
    let heaps = heaps.take(properties.memory_heap_count as usize);
    let local = heaps.filter(|heap| heap.flags.as_raw() & LOCAL != 0);
    local.map(|heap| heap.size).max()
}

#[cfg(not(any(target_os = "linux", target_os = "windows")))]
fn memory(_adapter: &wgpu::Adapter) -> Option<u64> {
    None
}
