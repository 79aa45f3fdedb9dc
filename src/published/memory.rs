//! Amounts of memory, as people write them, and how much there is.

use candle_core::Device;
#[cfg(feature = "cuda")]
use candle_core::DeviceLocation;

/// Reads `8GB`, `512 MB` or `6.5GiB`; a bare number is bytes.
///
/// # Errors
/// When it is no amount.
///
/// ```
/// use vokenboard::published::parse_bytes;
///
/// assert_eq!(parse_bytes("10MB"), Ok(10_000_000));
/// assert!(parse_bytes("much").is_err());
/// ```
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => f64::NAN,
    };
    let bytes = number.trim().parse::<f64>().unwrap_or(f64::NAN) * factor;
    match (1.0..1e15).contains(&bytes) {
        true => Ok(bytes as u64),
        false => Err("give an amount of memory such as 8GB".to_string()),
    }
}

/// Bytes of memory that are free on `device`: on the CPU, and on a Mac's GPU which shares its
/// memory, what the system calls available, within the limit of a container; on a GPU of NVIDIA's
/// what its driver says. `None` where that cannot be told.
pub fn free_memory(device: &Device) -> Option<u64> {
    match device {
        Device::Cpu | Device::Metal(_) => available(),
        Device::Cuda(_) => free_on_cuda(device),
    }
}

/// What NVIDIA's driver says of the GPU that `device` is.
#[cfg(feature = "cuda")]
fn free_on_cuda(device: &Device) -> Option<u64> {
    let DeviceLocation::Cuda { gpu_id } = device.location() else {
        return None;
    };
    let driver = nvml_wrapper::Nvml::init().ok()?;
    let gpu = driver.device_by_index(gpu_id.try_into().ok()?).ok()?;
    gpu.memory_info().ok().map(|memory| memory.free)
}

/// There is no such device in a program that was built without CUDA.
#[cfg(not(feature = "cuda"))]
fn free_on_cuda(_device: &Device) -> Option<u64> {
    None
}

fn available() -> Option<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    // Of what a container holds only its programs' own memory counts: files that were read lately
    // leave when they must.
    let limits = system.cgroup_limits();
    let within = limits.map(|limits| limits.total_memory.saturating_sub(limits.rss));
    let free = system.available_memory();
    let free = within.map_or(free, |within| free.min(within));
    // Nothing at all is what is said where it is not known.
    (free > 0).then_some(free)
}

/// `1.5 GB`, in powers of ten.
///
/// ```
/// use vokenboard::published::{format_bytes, parse_bytes};
///
/// assert_eq!(parse_bytes(&format_bytes(6_500_000_000)), Ok(6_500_000_000));
/// ```
pub fn format_bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!(parse_bytes("8GB"), Ok(8_000_000_000));
        assert_eq!(parse_bytes(" 6.5 GiB "), Ok(6_979_321_856));
        assert_eq!(parse_bytes("1048576"), Ok(1_048_576));
        for bad in ["", "GB", "-1GB", "8 apples", "inf", "1e30"] {
            assert!(parse_bytes(bad).unwrap_err().contains("8GB"), "{bad}");
        }
    }

    #[test]
    fn the_memory_that_is_free_is_less_than_there_is() {
        let free = free_memory(&Device::Cpu).unwrap();
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        assert!((1 << 20..=system.total_memory()).contains(&free), "{free}");
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(format_bytes(999), "999 B");
        assert_eq!(format_bytes(1_500), "1.5 kB");
        assert_eq!(format_bytes(60_000_000), "60.0 MB");
        assert_eq!(format_bytes(2_500_000_000), "2.5 GB");
    }
}
