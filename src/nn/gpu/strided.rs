//! Copies: parts of tensors, tensors joined, axes turned, places repeated.

use super::device::Run;
use super::elementwise::Spread;
use super::tensor::GpuTensor;
use crate::nn::Result;

/// Axes that the kernel knows.
const AXES: usize = 8;

/// How far it is from one place to the next along each axis of a contiguous tensor.
fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// Places of a tensor: the first of them, and how far it is to the next along each axis.
struct Places<'a> {
    first: usize,
    strides: &'a [usize],
}

fn copy(x: &GpuTensor, y: &GpuTensor, dims: &[usize], from: Places, to: Places) -> Result<()> {
    let count: usize = dims.iter().product();
    if count == 0 {
        return Ok(());
    }
    if dims.len() > AXES {
        candle_core::bail!("tensors of {} axes can't be copied on a GPU", dims.len());
    }
    let mut sizes = [count, from.first, to.first, 0]
        .map(|size| size as u32)
        .to_vec();
    for (of, rest) in [(dims, 1), (from.strides, 0), (to.strides, 0)] {
        sizes.extend(std::iter::repeat_n(rest, AXES - of.len()));
        sizes.extend(of.iter().map(|&size| size as u32));
    }
    let spread = Spread::of(x.gpu(), count);
    x.gpu().run(&Run {
        kernel: &format!("strided copy{}", spread.name),
        source: &|| spread.source(include_str!("kernels/strided.wgsl")),
        sizes: &sizes,
        steps: 1,
        reads: &[x.buffer()],
        writes: y.buffer(),
        groups: spread.groups,
        flops: 0,
        bytes: 8 * count as u64,
        moved: 8 * count as u64,
    })?;
    Ok(())
}

/// Places `start .. start + len` of an axis.
pub(super) fn narrow(x: &GpuTensor, axis: usize, start: usize, len: usize) -> Result<GpuTensor> {
    let mut dims = x.dims().to_vec();
    if axis >= dims.len() || start + len > dims[axis] {
        candle_core::bail!("{start}..{} of axis {axis} of {:?}", start + len, x.dims());
    }
    let read = strides(&dims);
    dims[axis] = len;
    let y = GpuTensor::new(x.gpu(), dims.clone())?;
    let first = start * read[axis];
    let from = Places {
        first,
        strides: &read,
    };
    let write = strides(&dims);
    let to = Places {
        first: 0,
        strides: &write,
    };
    copy(x, &y, &dims, from, to)?;
    Ok(y)
}

/// Writes the rows of `x [1,T,C]` into `to [1,N,C]` from row `at` on.
pub(super) fn write_rows(x: &GpuTensor, to: &GpuTensor, at: usize) -> Result<()> {
    let (&[1, tokens, width], &[1, rows, wide]) = (x.dims(), to.dims()) else {
        candle_core::bail!("{:?} written into {:?}", x.dims(), to.dims());
    };
    if width != wide || at + tokens > rows {
        candle_core::bail!("{:?} written into {:?} from {at} on", x.dims(), to.dims());
    }
    let places = strides(x.dims());
    let from = Places {
        first: 0,
        strides: &places,
    };
    let first = at * width;
    copy(
        x,
        to,
        x.dims(),
        from,
        Places {
            first,
            strides: &places,
        },
    )
}

/// One behind the other along an axis.
pub(super) fn cat(parts: &[&GpuTensor], axis: usize) -> Result<GpuTensor> {
    let Some(first) = parts.first() else {
        candle_core::bail!("nothing to join");
    };
    let mut dims = first.dims().to_vec();
    let fits = |part: &&GpuTensor| {
        part.dims().len() == dims.len()
            && (0..dims.len()).all(|at| at == axis || part.dims()[at] == dims[at])
    };
    if axis >= dims.len() || !parts.iter().all(fits) {
        let all: Vec<_> = parts.iter().map(|part| part.dims()).collect();
        candle_core::bail!("{all:?} can't be joined along axis {axis}");
    }
    dims[axis] = parts.iter().map(|part| part.dims()[axis]).sum();
    let y = GpuTensor::new(first.gpu(), dims.clone())?;
    let write = strides(&dims);
    let mut at = 0;
    for part in parts {
        let read = strides(part.dims());
        let from = Places {
            first: 0,
            strides: &read,
        };
        let first = at * write[axis];
        let to = Places {
            first,
            strides: &write,
        };
        copy(part, &y, part.dims(), from, to)?;
        at += part.dims()[axis];
    }
    Ok(y)
}

/// Some places of an axis, in any order: each is copied by itself, runs of neighbours together.
pub(super) fn select(x: &GpuTensor, places: &[u32], axis: usize) -> Result<GpuTensor> {
    let mut dims = x.dims().to_vec();
    if axis >= dims.len() || places.iter().any(|&place| place as usize >= dims[axis]) {
        candle_core::bail!("places {places:?} of axis {axis} of {:?}", x.dims());
    }
    let read = strides(&dims);
    dims[axis] = places.len();
    let y = GpuTensor::new(x.gpu(), dims.clone())?;
    let write = strides(&dims);
    let mut at = 0;
    for run in places.chunk_by(|a, b| a + 1 == *b) {
        dims[axis] = run.len();
        let first = run[0] as usize * read[axis];
        let from = Places {
            first,
            strides: &read,
        };
        let first = at * write[axis];
        let to = Places {
            first,
            strides: &write,
        };
        copy(x, &y, &dims, from, to)?;
        at += run.len();
    }
    Ok(y)
}

/// Axis `i` of the new tensor is axis `axes[i]` of the old.
pub(super) fn permute(x: &GpuTensor, axes: &[usize]) -> Result<GpuTensor> {
    let read = strides(x.dims());
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..x.dims().len()) {
        candle_core::bail!("{axes:?} are not the axes of {:?}", x.dims());
    }
    let dims: Vec<usize> = axes.iter().map(|&axis| x.dims()[axis]).collect();
    let read: Vec<usize> = axes.iter().map(|&axis| read[axis]).collect();
    gathered(x, dims, &read)
}

/// Repeats axes of size 1 so that the shape becomes `dims`.
pub(super) fn broadcast(x: &GpuTensor, dims: &[usize]) -> Result<GpuTensor> {
    if x.dims() == dims {
        return Ok(x.clone());
    }
    let own = x.dims();
    let fits = own.len() == dims.len() && own.iter().zip(dims).all(|(a, b)| a == b || *a == 1);
    if !fits {
        candle_core::bail!("{own:?} can't be repeated to {dims:?}");
    }
    let mut read = strides(own);
    for (stride, size) in read.iter_mut().zip(own) {
        if *size == 1 {
            *stride = 0;
        }
    }
    gathered(x, dims.to_vec(), &read)
}

/// Doubles height and width of `x [B,H,W,C]`.
pub(super) fn upsample_nearest(x: &GpuTensor) -> Result<GpuTensor> {
    let &[b, h, w, c] = x.dims() else {
        candle_core::bail!("{:?} is no picture", x.dims());
    };
    let doubled = broadcast(&x.reshape(&[b, h, 1, w, 1, c])?, &[b, h, 2, w, 2, c])?;
    doubled.reshape(&[b, 2 * h, 2 * w, c])
}

fn gathered(x: &GpuTensor, dims: Vec<usize>, read: &[usize]) -> Result<GpuTensor> {
    let y = GpuTensor::new(x.gpu(), dims.clone())?;
    let write = strides(&dims);
    let from = Places {
        first: 0,
        strides: read,
    };
    let to = Places {
        first: 0,
        strides: &write,
    };
    copy(x, &y, &dims, from, to)?;
    Ok(y)
}
