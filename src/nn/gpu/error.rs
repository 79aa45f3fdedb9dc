//! What can go wrong on a GPU.

/// Why a GPU can't be used, or not any more.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GpuError {
    /// No adapter has this number.
    #[error("{0}; `vokenboard devices` lists what there is")]
    Missing(String),
    /// The driver would not open it.
    #[error(
        "the GPU {name} can't be opened ({why}); bring its driver up to date or use --device cpu"
    )]
    Closed {
        /// The adapter's name.
        name: String,
        /// What the driver said.
        why: String,
    },
    /// It went away in the middle of its work.
    #[error(
        "the GPU {name} was lost in the middle of its work ({why}); start again, with --device cpu if it happens again"
    )]
    Lost {
        /// The adapter's name.
        name: String,
        /// What the driver said.
        why: String,
    },
    /// It refused memory.
    #[error(
        "the GPU {name} has not enough free memory ({wanted} more were refused); draw a smaller picture, close other programs that use it, or use --device cpu"
    )]
    Memory {
        /// The adapter's name.
        name: String,
        /// How much was asked for.
        wanted: String,
    },
    /// One tensor is larger than any buffer may be.
    #[error(
        "the GPU {name} takes at most {most} in one piece, and {wanted} were needed; draw a smaller picture or use --device cpu"
    )]
    TooLarge {
        /// The adapter's name.
        name: String,
        /// The limit.
        most: String,
        /// How much was asked for.
        wanted: String,
    },
    /// A kernel does not compile or run there.
    #[error("the GPU {name} can't run the kernel {kernel} ({why}); use --device cpu")]
    Kernel {
        /// The adapter's name.
        name: String,
        /// The kernel.
        kernel: String,
        /// What the driver said.
        why: String,
    },
}

impl From<GpuError> for candle_core::Error {
    fn from(error: GpuError) -> Self {
        candle_core::Error::Msg(error.to_string())
    }
}

/// The first line of what a driver said.
pub(super) fn first_line(said: &str) -> String {
    let line = said.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("no reason was given")
        .trim_end_matches('.')
        .to_owned()
}

/// Bytes as an author reads them.
pub(super) fn readable(bytes: u64) -> String {
    match bytes {
        ..10_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        10_000_000..10_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
