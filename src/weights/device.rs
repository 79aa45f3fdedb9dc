//! The device that the models run on.

use std::fmt;
use std::str::FromStr;

use candle_core::{Device, Tensor};

use crate::cause::Cause;
use crate::nn::gpu::{AdapterKind, Gpu, GpuError, GpuOptions, GpuTensor, adapters};
use crate::nn::{self, Array};

/// The device that the author chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best device that works.
    #[default]
    Auto,
    /// This one, or an error where it does not work.
    Only(DeviceKind),
    /// A GPU through wgpu: the one with this number, or the best that is no software.
    Gpu(Option<usize>),
    /// The same, and the processor where it fails.
    GpuOrCpu(Option<usize>),
}

/// A kind of device that candle knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

impl DeviceKind {
    /// Every kind, best first.
    pub const ALL: [DeviceKind; 3] = [DeviceKind::Cuda, DeviceKind::Metal, DeviceKind::Cpu];

    /// Whether this program was built with the kind.
    pub fn compiled(self) -> bool {
        match self {
            DeviceKind::Cpu => true,
            DeviceKind::Cuda => cfg!(feature = "cuda"),
            DeviceKind::Metal => cfg!(feature = "metal"),
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda => "cuda",
            DeviceKind::Metal => "metal",
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Only(kind) => kind.fmt(f),
            DeviceChoice::Gpu(None) => f.write_str("gpu"),
            DeviceChoice::Gpu(Some(number)) => write!(f, "gpu:{number}"),
            DeviceChoice::GpuOrCpu(number) => write!(f, "{},cpu", DeviceChoice::Gpu(*number)),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<DeviceChoice, String> {
        match name.to_ascii_lowercase().as_str() {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Only(DeviceKind::Cpu)),
            "cuda" => Ok(DeviceChoice::Only(DeviceKind::Cuda)),
            "metal" => Ok(DeviceChoice::Only(DeviceKind::Metal)),
            "gpu" => Ok(DeviceChoice::Gpu(None)),
            other => {
                let (gpu, or_cpu) = match other.strip_suffix(",cpu") {
                    Some(gpu) => (gpu, true),
                    None => (other, false),
                };
                let number = match gpu.strip_prefix("gpu:").map(str::parse) {
                    Some(Ok(number)) => Some(Some(number)),
                    _ => (gpu == "gpu").then_some(None),
                };
                match (number, or_cpu) {
                    (Some(number), true) => Ok(DeviceChoice::GpuOrCpu(number)),
                    (Some(number), false) => Ok(DeviceChoice::Gpu(number)),
                    (None, _) => Err(format!(
                        "\"{name}\" is not a device; choose auto, cpu, cuda, metal, gpu or a GPU by its number in `vokenboard devices`, such as gpu:0, with \",cpu\" behind it where the processor may go on when it fails"
                    )),
                }
            }
        }
    }
}

/// Why the device that was asked for cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The program was built without support for the device.
    #[error(
        "this program was built without {kind}; build it with `cargo run --release --features {kind}`, or use --device gpu or --device cpu"
    )]
    NotCompiled {
        /// The device.
        kind: DeviceKind,
    },
    /// The device is missing, or its driver fails.
    #[error("{kind} does not work on this machine ({}); use --device cpu", crate::cause::first_line(.reason))]
    NotWorking {
        /// The device.
        kind: DeviceKind,
        /// What the driver said.
        #[source]
        reason: Cause,
    },
    /// The GPU is missing, or its driver fails.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// Where models are loaded to: a device of candle's, and a GPU beside it for the networks that
/// compute there.
#[derive(Clone, Debug)]
pub struct ComputeDevices {
    /// What all tensors are on that are not the GPU's.
    pub device: Device,
    /// Where the networks of diffusion models compute instead, if there.
    pub gpu: Option<Gpu>,
    /// Why it was taken, as a part of a sentence.
    pub why: String,
    /// Whether the processor may go on where the GPU fails; without a GPU, that it did not open.
    pub falls_back: bool,
}

impl ComputeDevices {
    /// A device of candle's alone.
    pub fn of(device: &Device) -> ComputeDevices {
        ComputeDevices {
            device: device.clone(),
            gpu: None,
            why: "it was asked for".to_owned(),
            falls_back: false,
        }
    }

    /// The name of what pictures are drawn on, such as `CPU (2 threads)`.
    pub fn name(&self) -> String {
        match &self.gpu {
            Some(gpu) => format!("{} ({})", gpu.info().name, gpu.info().backend),
            None => device_name(&self.device),
        }
    }
}

/// Opens the device of `choice`: for [`DeviceChoice::Auto`] the first that answers of CUDA, Metal, a
/// GPU through wgpu that is no software, and the processor.
///
/// # Errors
/// When a device that was asked for by name is not built in or does not answer.
pub fn select(choice: DeviceChoice) -> Result<ComputeDevices, DeviceError> {
    let place = match choice {
        DeviceChoice::Only(kind) => ComputeDevices::of(&open(kind)?),
        DeviceChoice::Gpu(number) => ComputeDevices {
            gpu: Some(open_gpu(number)?),
            ..ComputeDevices::of(&Device::Cpu)
        },
        DeviceChoice::GpuOrCpu(number) => match open_gpu(number) {
            Ok(gpu) => ComputeDevices {
                gpu: Some(gpu),
                falls_back: true,
                ..ComputeDevices::of(&Device::Cpu)
            },
            Err(error) => ComputeDevices {
                why: error.to_string(),
                falls_back: true,
                ..ComputeDevices::of(&Device::Cpu)
            },
        },
        DeviceChoice::Auto => best(),
    };
    tracing::info!("computing on {}: {}", place.name(), place.why);
    Ok(place)
}

/// The best device of candle's alone: models are trained on such a one. No GPU is looked for beside
/// it, which takes a moment.
pub fn select_candle_device() -> Device {
    best_of_candle().unwrap_or(Device::Cpu)
}

/// The first of candle's GPUs that this program was built with and that answers.
fn best_of_candle() -> Option<Device> {
    let kinds = DeviceKind::ALL.into_iter();
    kinds
        .filter(|kind| kind.compiled() && *kind != DeviceKind::Cpu)
        .find_map(|kind| open(kind).ok())
}

fn best() -> ComputeDevices {
    if let Some(device) = best_of_candle() {
        let why = format!(
            "this program was built with {} and it works",
            kind_of(&device)
        );
        return ComputeDevices {
            why,
            ..ComputeDevices::of(&device)
        };
    }
    let cpu = |why: String| ComputeDevices {
        why,
        ..ComputeDevices::of(&Device::Cpu)
    };
    let all = adapters();
    let Some(first) = all.first() else {
        return cpu("no GPU has a driver for Vulkan, Metal or DirectX 12".to_owned());
    };
    if first.kind == AdapterKind::Software {
        return cpu(format!(
            "there is no GPU but the software one {}, which is slower",
            first.name
        ));
    }
    match open_gpu(Some(first.index)) {
        Ok(gpu) => ComputeDevices {
            why: format!("it is the best GPU that works ({})", first.kind),
            gpu: Some(gpu),
            falls_back: true,
            ..ComputeDevices::of(&Device::Cpu)
        },
        Err(error) => cpu(error.to_string()),
    }
}

/// Opens a GPU, which works when it gives back the right sum.
fn open_gpu(number: Option<usize>) -> Result<Gpu, GpuError> {
    // Unit tests leave the author's folder alone.
    let folder = crate::files::data_folder().filter(|_| !cfg!(test));
    let options = GpuOptions {
        store: folder.map(|folder| folder.join("gpu")),
        ..GpuOptions::default()
    };
    let gpu = Gpu::open(number, options)?;
    let sum = || -> candle_core::Result<f32> {
        let ones = Tensor::ones((1, 8), candle_core::DType::F32, &Device::Cpu)?;
        let layer = nn::Linear::new(ones.reshape((8, 1))?, None);
        let sum = GpuTensor::upload(&gpu, &ones)?.linear(&layer)?;
        sum.download()?.flatten_all()?.get(0)?.to_scalar()
    };
    let name = gpu.info().name.clone();
    match sum() {
        Ok(8.0) => Ok(gpu),
        Ok(other) => Err(GpuError::Closed {
            name,
            why: format!("it sums eight ones to {other}"),
        }),
        Err(error) => Err(gpu.fault().unwrap_or(GpuError::Closed {
            name,
            why: first_line(&error.to_string()),
        })),
    }
}

/// What kind of device it is.
pub fn kind_of(device: &Device) -> DeviceKind {
    match device {
        Device::Cpu => DeviceKind::Cpu,
        Device::Cuda(_) => DeviceKind::Cuda,
        Device::Metal(_) => DeviceKind::Metal,
    }
}

/// The name an author reads, such as `CPU (2 threads)`.
pub fn device_name(device: &Device) -> String {
    match device {
        Device::Cpu => {
            let threads = rayon::current_num_threads();
            format!(
                "CPU ({threads} thread{})",
                if threads == 1 { "" } else { "s" }
            )
        }
        Device::Cuda(_) => "CUDA".to_string(),
        Device::Metal(_) => "Metal".to_string(),
    }
}

fn open(kind: DeviceKind) -> Result<Device, DeviceError> {
    if !kind.compiled() {
        return Err(DeviceError::NotCompiled { kind });
    }
    let failed = |error: candle_core::Error| DeviceError::NotWorking {
        kind,
        reason: error.into(),
    };
    match kind {
        DeviceKind::Cpu => Ok(Device::Cpu),
        DeviceKind::Cuda => {
            if !crate::nn::cuda_driver_is_present() {
                return Err(DeviceError::NotWorking {
                    kind,
                    reason: "no NVIDIA driver is installed".into(),
                });
            }
            Device::new_cuda(0).and_then(try_out).map_err(failed)
        }
        DeviceKind::Metal => Device::new_metal(0).and_then(try_out).map_err(failed),
    }
}

/// A device works when it gives back the right sum.
fn try_out(device: Device) -> candle_core::Result<Device> {
    let ones = candle_core::Tensor::ones(8, candle_core::DType::F32, &device)?;
    let sum = ones.sum_all()?.to_scalar::<f32>()?;
    if sum == 8.0 {
        Ok(device)
    } else {
        candle_core::bail!("it sums eight ones to {sum}")
    }
}

fn first_line(message: &str) -> String {
    message
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_choices_and_back() {
        for name in [
            "auto",
            "cpu",
            "cuda",
            "metal",
            "gpu",
            "gpu:0",
            "gpu:12",
            "gpu,cpu",
            "gpu:1,cpu",
        ] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        for name in [
            "vulkan", "gpu:", "gpu:-1", "gpu:x", "gpu0", "", "cpu,gpu", "gpu,cuda", ",cpu",
            "auto,cpu",
        ] {
            let error = name.parse::<DeviceChoice>().unwrap_err();
            assert!(
                error.contains("metal") && error.contains("gpu:0"),
                "{error}"
            );
        }
    }

    #[test]
    fn auto_always_finds_a_device_that_works() {
        let place = select(DeviceChoice::Auto).unwrap();
        assert!(!place.name().is_empty() && !place.why.is_empty());
    }

    /// Nothing wakes a GPU that is not to compute.
    #[test]
    fn the_processor_opens_no_gpu() {
        use crate::nn::gpu::opened_by_this_thread;
        let before = opened_by_this_thread();
        select(DeviceChoice::Only(DeviceKind::Cpu)).unwrap();
        select_candle_device();
        let all = adapters();
        let idle = |adapter: &crate::nn::gpu::AdapterInfo| adapter.kind == AdapterKind::Software;
        if all.iter().all(idle) {
            select(DeviceChoice::Auto).unwrap();
            assert!(select(DeviceChoice::Gpu(None)).is_err());
        }
        assert_eq!(opened_by_this_thread(), before);
        if !all.is_empty() {
            select(DeviceChoice::Gpu(Some(0))).unwrap();
            assert_eq!(opened_by_this_thread(), before + 1);
        }
    }

    #[test]
    fn software_is_taken_only_by_its_number() {
        let all = adapters();
        let software = |kind| kind == AdapterKind::Software;
        if all.is_empty() || !all.iter().all(|adapter| software(adapter.kind)) {
            eprintln!("this machine has not only software adapters: nothing is tested");
            return;
        }
        let auto = select(DeviceChoice::Auto).unwrap();
        assert!(
            auto.gpu.is_none() && auto.why.contains(&all[0].name),
            "{}",
            auto.why
        );
        let error = select(DeviceChoice::Gpu(None)).unwrap_err().to_string();
        assert!(error.contains("--device gpu:0"), "{error}");
        let named = select(DeviceChoice::Gpu(Some(0))).unwrap();
        assert!(named.name().contains(&all[0].name));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_is_not_built_in_names_the_command_that_builds_it() {
        let message = select("cuda".parse().unwrap()).unwrap_err().to_string();
        assert!(
            message.contains("cargo run --release --features cuda"),
            "{message}"
        );
    }
}
