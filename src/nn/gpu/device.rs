//! An open GPU: its memory, its work, and what is known of it.

use super::adapters::{AdapterInfo, AdapterKind, Found, choose, find};
use super::driver::Driver;
use super::error::{GpuError, readable};
use super::kept::{Measurements, Store};
use super::pace::Pace;
use super::pool::{Buffer, Memory, Pool};
use super::tensor::GpuTensor;
use super::tile::Arithmetic;
use super::work::{Counts, KernelCounts, Work};
use candle_core::{Tensor, TensorId};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(test)]
thread_local! {
    /// Adapters that this thread opened.
    static OPENED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many adapters this thread opened.
#[cfg(test)]
pub(crate) fn opened_by_this_thread() -> usize {
    OPENED.with(std::cell::Cell::get)
}

/// How a GPU is to be opened; tests ask for less than it could.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Only what WebGPU guarantees everywhere: its lowest limits and no feature.
    pub lowest: bool,
    /// Per cent of the memory that is free at the start, beyond which memory is refused.
    pub budget: Option<u8>,
    /// How products with weights in f16 are computed where the adapter can; where it is not said, as
    /// was measured to be the quickest.
    pub arithmetic: Option<Arithmetic>,
    /// A folder where compiled kernels and measurements are kept; nothing is measured without one.
    pub store: Option<PathBuf>,
}

/// A GPU that networks compute on, through wgpu. Copies are the same one.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    number: u64,
    info: AdapterInfo,
    /// None where nothing is computed but all is counted.
    driver: Option<Driver>,
    largest: u64,
    ways: Ways,
    pool: Arc<Mutex<Pool>>,
    work: Mutex<Work>,
    remembered: Mutex<VecDeque<(TensorId, GpuTensor)>>,
    fault: Arc<Mutex<Option<GpuError>>>,
    /// The last of its failures that nobody has asked for.
    failure: Mutex<Option<GpuError>>,
    store: Option<Store>,
    /// How many kernels were compiled when these were last kept.
    kept_kernels: Mutex<Option<u64>>,
    /// The quickest variants, as measured, and whether one is new among them.
    variants: Mutex<(BTreeMap<String, String>, bool)>,
    /// The variant that runs of each kind, by its number among all.
    chosen: Mutex<HashMap<String, usize>>,
    /// Whether short runs take what was kept too.
    #[cfg(test)]
    short_too: std::sync::atomic::AtomicBool,
}

/// What kernels may do beyond what every GPU can.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways {
    /// Compute in f16.
    pub f16: bool,
    /// Multiply cooperative matrices: numbers of a side, and the least invocations of a subgroup.
    pub matrices: Option<(usize, usize)>,
    /// How products by f16 should be computed, if that was said.
    pub arithmetic: Option<Arithmetic>,
    /// Whether matrices are held in f16 where only is counted.
    pub halved: bool,
    /// Add up within a subgroup.
    pub subgroups: bool,
    /// Invocations and bytes of a workgroup.
    pub invocations: u32,
    pub shared: u32,
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
/// Bytes that are written before they are submitted.
const LARGEST_WRITE: u64 = 64 << 20;

/// One run of a kernel.
pub(super) struct Run<'a> {
    /// Names the kernel and its variant.
    pub kernel: &'a str,
    /// WGSL of the variant, made where it was not compiled yet.
    pub source: &'a dyn Fn() -> String,
    /// The uniform block behind the place of the piece.
    pub sizes: &'a [u32],
    /// Steps after any of which its workgroups may pause, what they have so far being written, and
    /// go on in a later piece. Where there are several, the last two sizes are replaced by the first
    /// step of a piece and the first of the next.
    pub steps: u32,
    pub reads: &'a [&'a Buffer],
    pub writes: &'a Buffer,
    pub groups: [u32; 3],
    /// Floating point operations.
    pub flops: u64,
    /// The least bytes that it must read and write.
    pub bytes: u64,
    /// Bytes that go between memory and a cache (`traffic.rs`).
    pub moved: u64,
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
        tracing::info!(gpu = info.name, "opening");
        #[cfg(test)]
        OPENED.with(|opened| opened.set(opened.get() + 1));
        let mut features = match options.lowest {
            true => wgpu::Features::empty(),
            false => {
                wgpu::Features::SHADER_F16
                    | wgpu::Features::SUBGROUP
                    | wgpu::Features::PIPELINE_CACHE
                    | wgpu::Features::TIMESTAMP_QUERY
            }
        };
        let matrices = matches!(options.arithmetic, None | Some(Arithmetic::Matrices));
        if matrices && info.matrix_side.is_some() && !options.lowest {
            features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        }
        let features = adapter.features() & features;
        let limits = match options.lowest {
            true => wgpu::Limits::defaults(),
            false => adapter.limits(),
        };
        let ways = Ways {
            f16: features.contains(wgpu::Features::SHADER_F16)
                && options.arithmetic != Some(Arithmetic::F32),
            matrices: info
                .matrix_side
                .zip(info.subgroups)
                .and_then(|(side, (least, _))| {
                    let all =
                        wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SUBGROUP;
                    features
                        .contains(all)
                        .then_some((side as usize, least.max(1) as usize))
                }),
            arithmetic: options.arithmetic,
            halved: false,
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            invocations: limits.max_compute_invocations_per_workgroup,
            shared: limits.max_compute_workgroup_storage_size,
        };
        let largest = limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size);
        let used = format!("{ways:?}");
        let store = options
            .store
            .map(|folder| Store::new(&folder, &info, &used));
        let fault = Arc::new(Mutex::new(None));
        let driver = Driver::open(&adapter, &info, (features, limits), store.as_ref(), &fault)?;
        Ok(Self::with(
            info,
            Some(driver),
            largest,
            ways,
            (store, fault),
        ))
    }

    /// One that computes nothing and holds nothing, and counts all that it would: what a network
    /// takes and does is known without weights and without a GPU.
    /// Matrices and kernels of convolutions are held in f16 if they are `half`.
    pub fn counting(largest: u64, half: bool) -> Self {
        let ways = Ways {
            f16: false,
            matrices: None,
            arithmetic: None,
            halved: half,
            subgroups: false,
            invocations: 256,
            shared: 16384,
        };
        let info = AdapterInfo::imagined("a GPU that only counts", AdapterKind::Discrete);
        Self::with(info, None, largest, ways, (None, Arc::default()))
    }

    fn with(
        info: AdapterInfo,
        driver: Option<Driver>,
        largest: u64,
        ways: Ways,
        (store, fault): (Option<Store>, Arc<Mutex<Option<GpuError>>>),
    ) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let known = store.as_ref().map(Store::measurements).unwrap_or_default();
        let pace = Pace::new(info.kind, known.rates);
        Self(Arc::new(Inner {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            pool: Arc::default(),
            work: Mutex::new(Work::new(driver.as_ref(), pace)),
            remembered: Mutex::default(),
            fault,
            failure: Mutex::default(),
            store,
            kept_kernels: Mutex::new(Some(0)),
            variants: Mutex::new((known.variants, false)),
            chosen: Mutex::default(),
            #[cfg(test)]
            short_too: false.into(),
            largest,
            ways,
            info,
            driver,
        }))
    }

    /// What the adapter is.
    pub fn info(&self) -> &AdapterInfo {
        &self.0.info
    }

    /// Whether both are the same open GPU.
    pub fn is(&self, other: &Gpu) -> bool {
        self.0.number == other.0.number
    }

    /// Whether it computes nothing and only counts.
    pub fn counts_only(&self) -> bool {
        self.0.driver.is_none()
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

    pub(super) fn ways(&self) -> Ways {
        self.0.ways
    }

    /// Why it can't be used any more, if so.
    pub fn fault(&self) -> Option<GpuError> {
        locked(&self.0.fault).clone()
    }

    /// Why it failed last, if it did since this was last asked: it was lost, refused memory or does
    /// not take a kernel.
    pub fn take_failure(&self) -> Option<GpuError> {
        locked(&self.0.failure).take().or_else(|| self.fault())
    }

    /// Notes a failure; the fault that ended its use goes before what came of it.
    pub(super) fn failed(&self, error: GpuError) -> GpuError {
        let error = self.fault().unwrap_or(error);
        *locked(&self.0.failure) = Some(error.clone());
        error
    }

    /// The same by kernel.
    pub fn by_kernel(&self) -> BTreeMap<String, KernelCounts> {
        locked(&self.0.work).by_kernel.clone()
    }

    /// What was done since it was opened.
    pub fn counts(&self) -> Counts {
        let mut counts = locked(&self.0.work).counts;
        let pool = locked(&self.0.pool);
        (counts.held, counts.most_held) = (pool.bytes, pool.most);
        counts.allocated = pool.made;
        counts
    }

    /// Has the longest submission that [`Gpu::counts`] tells be one from now on.
    pub fn restart_longest(&self) {
        locked(&self.0.work).counts.longest = 0.0;
    }

    /// Gives memory back that was kept for the next tensors, and keeps on the disk what was learned.
    pub fn trim(&self) {
        locked(&self.0.remembered).clear();
        locked(&self.0.pool).trim();
        self.0.keep();
    }

    /// The variant of a kind of kernel that was measured to be the quickest.
    pub(super) fn variant(&self, kind: &str) -> Option<String> {
        locked(&self.0.variants).0.get(kind).cloned()
    }

    pub(super) fn keep_variant(&self, kind: &str, variant: &str) {
        let mut variants = locked(&self.0.variants);
        variants.0.insert(kind.to_owned(), variant.to_owned());
        variants.1 = true;
        drop(variants);
        locked(&self.0.chosen).remove(kind);
    }

    /// Which variant of a kind runs, by its number among all, once that was decided.
    pub(super) fn chosen(&self, kind: &str) -> Option<usize> {
        locked(&self.0.chosen).get(kind).copied()
    }

    pub(super) fn choose(&self, kind: &str, number: usize) {
        locked(&self.0.chosen).insert(kind.to_owned(), number);
    }

    /// Keeps on the disk at once what was learned.
    pub(super) fn keep(&self) {
        self.0.keep();
    }

    /// Whether variants are measured: where what comes out of it can be kept.
    pub(super) fn measures(&self) -> bool {
        self.0.store.is_some()
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

    /// Notes that so much memory was not there.
    pub fn refuse(&self, bytes: u64) -> GpuError {
        self.failed(GpuError::Memory {
            name: self.0.info.name.clone(),
            wanted: readable(bytes),
        })
    }

    /// Has nothing known of its kernels but that they are very slow, so that they are tried in the
    /// shortest pieces.
    #[cfg(test)]
    pub(super) fn believe_slow(&self) {
        locked(&self.0.work).pace.forget(1e3);
    }

    /// Has short runs take the variant that was kept too, where others would take the first.
    #[cfg(test)]
    pub(super) fn take_kept_for_short_runs(&self) {
        self.0.short_too.store(true, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn short_too(&self) -> bool {
        self.0.short_too.load(Ordering::Relaxed)
    }

    /// Gives the GPU up as a driver does that loses it.
    #[cfg(test)]
    pub(crate) fn lose(&self) {
        if let Some(driver) = &self.0.driver {
            driver.device.destroy();
            let _ = driver.device.poll(wgpu::PollType::Poll);
        }
    }

    pub(super) fn sound(&self) -> Result<(), GpuError> {
        self.fault().map_or(Ok(()), |fault| Err(self.failed(fault)))
    }

    /// A buffer of so many bytes with anything in it; `kept` for weights, which are not handed
    /// on to other tensors when they are dropped.
    pub(super) fn buffer(&self, bytes: u64, kept: bool) -> Result<Buffer, GpuError> {
        self.sound()?;
        let (name, wanted) = (|| self.0.info.name.clone(), || readable(bytes));
        if bytes > self.0.largest {
            return Err(self.failed(GpuError::TooLarge {
                name: name(),
                most: readable(self.0.largest),
                wanted: wanted(),
            }));
        }
        let size = Pool::size_of(bytes, kept).min(self.0.largest / 4 * 4);
        let ours = |memory| Buffer::new(memory, self.0.pool.clone(), kept);
        if !kept && let Some(memory) = locked(&self.0.pool).take(size) {
            return Ok(ours(memory));
        }
        let Some(driver) = &self.0.driver else {
            locked(&self.0.pool).made(size);
            return Ok(ours(Memory { raw: None, size }));
        };
        let made = driver.allocate(size).or_else(|_| {
            // What is kept for later is given back first, once the work that uses it is done.
            self.finish()?;
            self.trim();
            self.wait()?;
            driver.allocate(size)
        });
        self.sound()?;
        let made = made.map_err(|_| {
            self.failed(GpuError::Memory {
                name: name(),
                wanted: wanted(),
            })
        })?;
        locked(&self.0.pool).made(size);
        Ok(ours(Memory {
            raw: Some(made),
            size,
        }))
    }

    /// Writes bytes, a multiple of four of them, to the beginning of a buffer.
    pub(super) fn write(&self, to: &Buffer, bytes: &[u8]) -> Result<(), GpuError> {
        // A write goes before whatever is not yet submitted, which may still read the buffer.
        self.submit()?;
        let mut work = locked(&self.0.work);
        work.counts.uploaded += bytes.len() as u64;
        let (Some(driver), Some(raw)) = (&self.0.driver, to.raw()) else {
            return Ok(());
        };
        driver.queue.write_buffer(raw, 0, bytes);
        // What is written is copied by the next submission; large weights should not pile up.
        work.written += bytes.len() as u64;
        if work.written > LARGEST_WRITE {
            drop(work);
            driver.queue.submit([]);
            self.wait()?;
        }
        self.sound()
    }

    /// Reads so many bytes from the beginning of a buffer, when all that was recorded is done;
    /// zeros where nothing is computed.
    pub(super) fn read(&self, from: &Buffer, bytes: u64) -> Result<Vec<u8>, GpuError> {
        self.submit()?;
        let read = match (&self.0.driver, from.raw()) {
            (Some(driver), Some(raw)) => {
                locked(&self.0.work).drain(driver);
                driver
                    .read(raw, bytes)
                    .map_err(|error| self.failed(error))?
            }
            _ => vec![0; bytes as usize],
        };
        self.sound()?;
        let mut work = locked(&self.0.work);
        work.settled();
        work.counts.downloaded += bytes;
        Ok(read)
    }

    /// Records a run of a kernel; what was recorded is submitted in portions.
    pub(super) fn run(&self, run: &Run) -> Result<(), GpuError> {
        self.sound()?;
        let mut work = locked(&self.0.work);
        work.count(run);
        let Some(driver) = &self.0.driver else {
            return Ok(());
        };
        let (kernel, new) = driver.kernel(run).map_err(|error| self.failed(error))?;
        if new {
            work.counts.compiled += 1;
        }
        work.run(driver, &kernel, run);
        drop(work);
        self.sound()
    }

    /// Submits what was recorded.
    pub(super) fn submit(&self) -> Result<(), GpuError> {
        if let Some(driver) = &self.0.driver {
            locked(&self.0.work).submit(driver);
        }
        self.sound()
    }

    /// Submits what was recorded and waits until it is done.
    ///
    /// # Errors
    /// A GPU that is lost.
    pub fn finish(&self) -> Result<(), GpuError> {
        self.submit()?;
        self.wait()
    }

    fn wait(&self) -> Result<(), GpuError> {
        let Some(driver) = &self.0.driver else {
            return Ok(());
        };
        let mut work = locked(&self.0.work);
        work.drain(driver);
        let waited = driver.wait();
        work.settled();
        drop(work);
        self.sound()?;
        waited.map_err(|error| self.failed(error))
    }
}

impl Inner {
    /// Keeps on the disk what is new of compiled kernels and measurements.
    fn keep(&self) {
        let Some(store) = &self.store else {
            return;
        };
        let mut work = locked(&self.work);
        let (rates, new_rates) = work.pace.rates();
        let mut variants = locked(&self.variants);
        if new_rates || std::mem::take(&mut variants.1) {
            store.keep_measurements(&Measurements {
                rates: rates.clone(),
                variants: variants.0.clone(),
            });
        }
        let compiled = work.counts.compiled;
        drop(work);
        if locked(&self.kept_kernels).replace(compiled) == Some(compiled) {
            return;
        }
        if let Some(compiled) = self.driver.as_ref().and_then(Driver::compiled) {
            store.keep_kernels(&compiled);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keep();
    }
}
