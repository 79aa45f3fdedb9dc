//! The device that the models run on.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

/// What the author asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best device that works.
    #[default]
    Auto,
    /// This one, or an error where it does not work.
    Only(DeviceKind),
}

/// A kind of device.
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
            _ => Err(format!(
                "\"{name}\" is not a device; choose auto, cpu, cuda or metal"
            )),
        }
    }
}

/// Why the device that was asked for cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The program was built without support for the device.
    #[error(
        "this program was built without {kind}; build it with `cargo run --release --features {kind}` or use --device cpu"
    )]
    NotCompiled {
        /// The device.
        kind: DeviceKind,
    },
    /// The device is missing, or its driver fails.
    #[error("{kind} does not work on this machine ({reason}); use --device cpu")]
    NotWorking {
        /// The device.
        kind: DeviceKind,
        /// What the driver said.
        reason: String,
    },
}

/// Opens the device of `choice`: for [`DeviceChoice::Auto`] the first of CUDA, Metal and the
/// processor that this program was built with and that answers.
///
/// # Errors
/// When a device that was asked for by name is not built in or does not answer.
pub fn select(choice: DeviceChoice) -> Result<Device, DeviceError> {
    match choice {
        DeviceChoice::Only(kind) => open(kind),
        DeviceChoice::Auto => Ok(DeviceKind::ALL
            .into_iter()
            .filter(|kind| kind.compiled())
            .find_map(|kind| open(kind).ok())
            .unwrap_or(Device::Cpu)),
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
        reason: first_line(&error.to_string()),
    };
    match kind {
        DeviceKind::Cpu => Ok(Device::Cpu),
        DeviceKind::Cuda => {
            if !crate::nn::cuda_driver_is_present() {
                return Err(DeviceError::NotWorking {
                    kind,
                    reason: "no NVIDIA driver is installed".to_string(),
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
        for name in ["auto", "cpu", "cuda", "metal"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert!("gpu".parse::<DeviceChoice>().unwrap_err().contains("metal"));
    }

    #[test]
    fn auto_always_finds_a_device_that_works() {
        let device = select(DeviceChoice::Auto).unwrap();
        assert!(!device_name(&device).is_empty());
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
