//! Activations and other element-wise functions, forward and backward.

use super::lanes::{LANES, Lanes, Work, run};
use super::simd::dispatch;
use rayon::prelude::*;

/// Element-wise functions of one variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Silu,
    Gelu,
    /// By the approximation with the tangent.
    GeluTanh,
    QuickGelu,
}

/// A function of one variable and its derivative, on lanes.
trait Function {
    /// # Safety
    /// Called from [`Work::run`] only.
    unsafe fn value<L: Lanes>(x: L) -> L;
    /// # Safety
    /// Called from [`Work::run`] only.
    unsafe fn slope<L: Lanes>(x: L) -> L;
}

/// `x sigmoid(k x)` with k in thousandths: SiLU with 1000, quick GELU with 1702.
struct Swish<const K: u32>;

impl<const K: u32> Function for Swish<K> {
    #[inline(always)]
    unsafe fn value<L: Lanes>(x: L) -> L {
        // SAFETY: the trait's promise.
        unsafe { x.mul(x.mul(L::splat(K as f32 / 1000.0)).sigmoid()) }
    }

    #[inline(always)]
    unsafe fn slope<L: Lanes>(x: L) -> L {
        // SAFETY: the trait's promise.
        unsafe {
            let one = L::splat(1.0);
            let u = x.mul(L::splat(K as f32 / 1000.0));
            let s = u.sigmoid();
            s.mul(u.fma(one.sub(s), one))
        }
    }
}

type Silu = Swish<1000>;
type QuickGelu = Swish<1702>;

/// GELU by the error function.
struct Gelu;

impl Function for Gelu {
    #[inline(always)]
    unsafe fn value<L: Lanes>(x: L) -> L {
        // SAFETY: the trait's promise.
        unsafe {
            let half = x.mul(L::splat(0.5));
            let erf = x.mul(L::splat(std::f32::consts::FRAC_1_SQRT_2)).erf();
            half.fma(erf, half)
        }
    }

    #[inline(always)]
    unsafe fn slope<L: Lanes>(x: L) -> L {
        // SAFETY: the trait's promise.
        unsafe {
            let half = L::splat(0.5);
            let erf = x.mul(L::splat(std::f32::consts::FRAC_1_SQRT_2)).erf();
            let density = x
                .mul(x)
                .mul(L::splat(-0.5))
                .exp()
                .mul(L::splat(0.398_942_3));
            x.fma(density, half.fma(erf, half))
        }
    }
}

/// GELU by the tangent: `x sigmoid(2 u)` with `u = sqrt(2/pi) (x + 0.044715 x^3)`.
struct GeluTanh;

/// `2 sqrt(2/pi)`
const TWICE: f32 = 1.595_769;
const CUBE: f32 = 0.044_715;

impl Function for GeluTanh {
    #[inline(always)]
    unsafe fn value<L: Lanes>(x: L) -> L {
        // SAFETY: the trait's promise.
        unsafe {
            let bent = x.mul(x).fma(L::splat(TWICE * CUBE), L::splat(TWICE));
            x.mul(x.mul(bent).sigmoid())
        }
    }

    #[inline(always)]
    unsafe fn slope<L: Lanes>(x: L) -> L {
        // SAFETY: the trait's promise.
        unsafe {
            let (one, square) = (L::splat(1.0), x.mul(x));
            let s = x
                .mul(square.fma(L::splat(TWICE * CUBE), L::splat(TWICE)))
                .sigmoid();
            let turn = square.fma(L::splat(3.0 * TWICE * CUBE), L::splat(TWICE));
            s.mul(x.mul(turn).fma(one.sub(s), one))
        }
    }
}

/// `y = F(x)`, or `y = dy F'(x)` where there is a `dy`.
struct Apply<'a, F> {
    x: &'a [f32],
    dy: Option<&'a [f32]>,
    y: &'a mut [f32],
    function: std::marker::PhantomData<F>,
}

impl<F: Function> Work for Apply<'_, F> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let count = self.x.len().min(self.y.len());
        let whole = count / LANES * LANES;
        let (x, y) = (self.x.as_ptr(), self.y.as_mut_ptr());
        // SAFETY: both hold `count` floats, and so does `dy` (see `apply`).
        unsafe {
            match self.dy.map(<[f32]>::as_ptr) {
                None => {
                    for i in (0..whole).step_by(LANES) {
                        F::value(L::load(x.add(i), LANES)).store(y.add(i), LANES);
                    }
                    if whole < count {
                        let n = count - whole;
                        F::value(L::load(x.add(whole), n)).store(y.add(whole), n);
                    }
                }
                Some(dy) => {
                    for i in (0..whole).step_by(LANES) {
                        let slope = F::slope(L::load(x.add(i), LANES));
                        slope.mul(L::load(dy.add(i), LANES)).store(y.add(i), LANES);
                    }
                    if whole < count {
                        let n = count - whole;
                        let slope = F::slope(L::load(x.add(whole), n));
                        slope.mul(L::load(dy.add(whole), n)).store(y.add(whole), n);
                    }
                }
            }
        }
    }
}

fn apply<F: Function>(x: &[f32], dy: Option<&[f32]>, y: &mut [f32]) {
    assert!(x.len() == y.len() && dy.is_none_or(|dy| dy.len() == y.len()));
    let function = std::marker::PhantomData::<F>;
    // SAFETY: the lengths were compared.
    unsafe { run(Apply { x, dy, y, function }) };
}

fn unary_chunk(kind: Unary, x: &[f32], dy: Option<&[f32]>, y: &mut [f32]) {
    match kind {
        Unary::Silu => apply::<Silu>(x, dy, y),
        Unary::Gelu => apply::<Gelu>(x, dy, y),
        Unary::GeluTanh => apply::<GeluTanh>(x, dy, y),
        Unary::QuickGelu => apply::<QuickGelu>(x, dy, y),
    }
}

/// The sum of a chunk's squares.
struct SumSquares<'a> {
    x: &'a [f32],
    sum: &'a mut f64,
}

impl Work for SumSquares<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let whole = self.x.len() / LANES * LANES;
        // SAFETY: loads stay within `x`.
        unsafe {
            let mut sum = L::zero();
            for i in (0..whole).step_by(LANES) {
                let x = L::load(self.x.as_ptr().add(i), LANES);
                sum = x.fma(x, sum);
            }
            let rest: f32 = self.x[whole..].iter().map(|x| x * x).sum();
            *self.sum = f64::from(sum.sum() + rest);
        }
    }
}

pub(crate) fn sum_squares(x: &[f32]) -> f64 {
    let parts: Vec<f64> = x
        .par_chunks(CHUNK)
        .map(|x| {
            let mut sum = 0.0;
            // SAFETY: nothing is asked for.
            unsafe { run(SumSquares { x, sum: &mut sum }) };
            sum
        })
        .collect();
    parts.iter().sum()
}

/// `y = k x`.
pub(crate) fn scale(k: f32, x: &[f32], y: &mut [f32]) {
    x.par_chunks(CHUNK)
        .zip(y.par_chunks_mut(CHUNK))
        .for_each(|(x, y)| y.iter_mut().zip(x).for_each(|(y, x)| *y = k * x));
}

/// Elements a task takes at a time.
const CHUNK: usize = 16 * 1024;

pub(crate) fn unary(kind: Unary, x: &[f32], y: &mut [f32]) {
    x.par_chunks(CHUNK)
        .zip(y.par_chunks_mut(CHUNK))
        .for_each(|(x, y)| unary_chunk(kind, x, None, y));
}

pub(crate) fn unary_grad(kind: Unary, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    x.par_chunks(CHUNK)
        .zip(dy.par_chunks(CHUNK))
        .zip(dx.par_chunks_mut(CHUNK))
        .for_each(|((x, g), d)| unary_chunk(kind, x, Some(g), d));
}

/// A row of GEGLU: `y = a gelu(b)`.
struct Geglu<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Work for Geglu<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let c = self.y.len();
        let whole = c / LANES * LANES;
        let (a, y) = (self.x.as_ptr(), self.y.as_mut_ptr());
        // SAFETY: `x` holds 2c floats, `y` c.
        unsafe {
            for i in (0..whole).step_by(LANES) {
                let b = Gelu::value(L::load(a.add(c + i), LANES));
                L::load(a.add(i), LANES).mul(b).store(y.add(i), LANES);
            }
            if whole < c {
                let n = c - whole;
                let b = Gelu::value(L::load(a.add(c + whole), n));
                L::load(a.add(whole), n).mul(b).store(y.add(whole), n);
            }
        }
    }
}

/// Its gradient: `da = dy gelu(b)`, `db = dy a gelu'(b)`.
struct GegluGrad<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Work for GegluGrad<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let c = self.dy.len();
        let (a, dy, da) = (self.x.as_ptr(), self.dy.as_ptr(), self.dx.as_mut_ptr());
        for i in (0..c).step_by(LANES) {
            let n = LANES.min(c - i);
            // SAFETY: `x` and `dx` hold 2c floats, `dy` c.
            unsafe {
                let b = L::load(a.add(c + i), n);
                let dy = L::load(dy.add(i), n);
                dy.mul(Gelu::value(b)).store(da.add(i), n);
                let slope = L::load(a.add(i), n).mul(Gelu::slope(b));
                dy.mul(slope).store(da.add(c + i), n);
            }
        }
    }
}

/// `x [rows, 2c] -> y [rows, c]`.
pub(crate) fn geglu(c: usize, x: &[f32], y: &mut [f32]) {
    x.par_chunks(2 * c)
        .zip(y.par_chunks_mut(c))
        .with_min_len((CHUNK / c).max(1))
        .for_each(|(x, y)| {
            assert_eq!(x.len(), 2 * y.len());
            // SAFETY: the lengths were compared.
            unsafe { run(Geglu { x, y }) }
        });
}

pub(crate) fn geglu_grad(c: usize, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    x.par_chunks(2 * c)
        .zip(dy.par_chunks(c))
        .zip(dx.par_chunks_mut(2 * c))
        .with_min_len((CHUNK / c).max(1))
        .for_each(|((x, dy), dx)| {
            assert!(x.len() == 2 * dy.len() && dx.len() == x.len());
            // SAFETY: the lengths were compared.
            unsafe { run(GegluGrad { x, dy, dx }) }
        });
}

/// `y = silu(gate) up`.
struct Swiglu<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    y: &'a mut [f32],
}

impl Work for Swiglu<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let count = self.y.len();
        let (gate, up, y) = (self.gate.as_ptr(), self.up.as_ptr(), self.y.as_mut_ptr());
        for i in (0..count).step_by(LANES) {
            let n = LANES.min(count - i);
            // SAFETY: all three hold `count` floats.
            unsafe {
                let open = Silu::value(L::load(gate.add(i), n));
                open.mul(L::load(up.add(i), n)).store(y.add(i), n);
            }
        }
    }
}

/// Its gradient: `dgate = dy up silu'(gate)`, `dup = dy silu(gate)`.
struct SwigluGrad<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    dy: &'a [f32],
    dgate: &'a mut [f32],
    dup: &'a mut [f32],
}

impl Work for SwigluGrad<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let count = self.dy.len();
        let (gate, up, dy) = (self.gate.as_ptr(), self.up.as_ptr(), self.dy.as_ptr());
        let (dgate, dup) = (self.dgate.as_mut_ptr(), self.dup.as_mut_ptr());
        for i in (0..count).step_by(LANES) {
            let n = LANES.min(count - i);
            // SAFETY: all five hold `count` floats.
            unsafe {
                let (gate, dy) = (L::load(gate.add(i), n), L::load(dy.add(i), n));
                dy.mul(Silu::value(gate)).store(dup.add(i), n);
                let slope = L::load(up.add(i), n).mul(Silu::slope(gate));
                dy.mul(slope).store(dgate.add(i), n);
            }
        }
    }
}

/// `y = silu(gate) up`, all of one length.
pub(crate) fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    gate.par_chunks(CHUNK)
        .zip(up.par_chunks(CHUNK))
        .zip(y.par_chunks_mut(CHUNK))
        .for_each(|((gate, up), y)| {
            assert!(gate.len() == y.len() && up.len() == y.len());
            // SAFETY: the lengths were compared.
            unsafe { run(Swiglu { gate, up, y }) }
        });
}

pub(crate) fn swiglu_grad(
    gate: &[f32],
    up: &[f32],
    dy: &[f32],
    dgate: &mut [f32],
    dup: &mut [f32],
) {
    gate.par_chunks(CHUNK)
        .zip(up.par_chunks(CHUNK))
        .zip(dy.par_chunks(CHUNK))
        .zip(dgate.par_chunks_mut(CHUNK))
        .zip(dup.par_chunks_mut(CHUNK))
        .for_each(|((((gate, up), dy), dgate), dup)| {
            let n = dy.len();
            assert!([gate.len(), up.len(), dgate.len(), dup.len()] == [n; 4]);
            let work = SwigluGrad {
                gate,
                up,
                dy,
                dgate,
                dup,
            };
            // SAFETY: the lengths were compared.
            unsafe { run(work) }
        });
}

/// Adds `t [batch, c]` to every place of its sample in `x [batch, places, c]`.
pub(crate) fn add_channels(places: usize, c: usize, x: &[f32], t: &[f32], y: &mut [f32]) {
    let n = places * c;
    x.par_chunks(n)
        .zip(y.par_chunks_mut(n))
        .zip(t.par_chunks(c))
        .for_each(|((x, y), t)| {
            for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
                for i in 0..c {
                    y[i] = x[i] + t[i];
                }
            }
        });
}

/// Sums `dy [batch, places, c]` over its places into `dt [batch, c]`.
pub(crate) fn sum_places(places: usize, c: usize, dy: &[f32], dt: &mut [f32]) {
    dy.par_chunks(places * c)
        .zip(dt.par_chunks_mut(c))
        .for_each(|(dy, t)| {
            t.fill(0.0);
            for row in dy.chunks_exact(c) {
                t.iter_mut().zip(row).for_each(|(t, v)| *t += v);
            }
        });
}

/// The highest of a row; NaN may be passed over.
///
/// # Safety
/// Called from [`Work::run`] only; `row` is readable for `c` floats.
#[inline(always)]
pub(super) unsafe fn highest<L: Lanes>(row: *const f32, c: usize) -> f32 {
    let whole = c / LANES * LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let mut top = L::splat(f32::NEG_INFINITY);
        for i in (0..whole).step_by(LANES) {
            top = L::load(row.add(i), LANES).max(top);
        }
        let mut top = top.highest();
        for i in whole..c {
            top = top.max(*row.add(i));
        }
        top
    }
}

/// `y = e^(x scale - shift)` for a row of `c`, which may lie where it is read; their sum.
///
/// # Safety
/// Called from [`Work::run`] only; `x` is readable and `y` writable for `c` floats.
#[inline(always)]
pub(super) unsafe fn exponentials<L: Lanes>(
    x: *const f32,
    y: *mut f32,
    c: usize,
    scale: f32,
    shift: f32,
) -> f32 {
    let whole = c / LANES * LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let (scale, shift) = (L::splat(scale), L::splat(-shift));
        let mut sum = L::zero();
        for i in (0..whole).step_by(LANES) {
            let e = L::load(x.add(i), LANES).fma(scale, shift).exp();
            sum = sum.add(e);
            e.store(y.add(i), LANES);
        }
        let mut sum = sum.sum();
        if whole < c {
            let n = c - whole;
            let e = L::load(x.add(whole), n).fma(scale, shift).exp();
            e.store(y.add(whole), n);
            for i in whole..c {
                sum += *y.add(i);
            }
        }
        sum
    }
}

/// Rows of `c`. One that holds NaN, or nothing but minus infinity, becomes NaN.
struct SoftmaxRows<'a> {
    x: &'a [f32],
    c: usize,
    y: &'a mut [f32],
}

impl Work for SoftmaxRows<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let c = self.c;
        for (x, y) in self.x.chunks_exact(c).zip(self.y.chunks_exact_mut(c)) {
            // SAFETY: both hold `c` floats.
            unsafe {
                let top = highest::<L>(x.as_ptr(), c);
                let sum = exponentials::<L>(x.as_ptr(), y.as_mut_ptr(), c, 1.0, top);
                let share = L::splat(1.0 / sum);
                for i in (0..c).step_by(LANES) {
                    let n = LANES.min(c - i);
                    let at = y.as_mut_ptr().add(i);
                    L::load(at, n).mul(share).store(at, n);
                }
            }
        }
    }
}

/// Softmax of each row of `c`.
pub(crate) fn softmax(c: usize, x: &[f32], y: &mut [f32]) {
    let n = c * (CHUNK / c).max(1);
    x.par_chunks(n).zip(y.par_chunks_mut(n)).for_each(|(x, y)| {
        // SAFETY: rows are taken by their bounds.
        unsafe { run(SoftmaxRows { x, c, y }) }
    });
}

dispatch! {
    fn softmax_grad_rows(c: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((y, g), d) in y.chunks_exact(c).zip(dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
            let dot = super::norm::lanes_dot(y, g);
            for ((d, y), g) in d.iter_mut().zip(y).zip(g) {
                *d = y * (g - dot);
            }
        }
    }
}

/// dx = y * (dy - sum(y dy)).
pub(crate) fn softmax_grad(c: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let n = c * (CHUNK / c).max(1);
    y.par_chunks(n)
        .zip(dy.par_chunks(n))
        .zip(dx.par_chunks_mut(n))
        .for_each(|((y, g), d)| softmax_grad_rows(c, y, g, d));
}

/// Turns each pair of neighbours of `x [batch, positions, heads, dim]` by the angle whose cosine
/// and sine are in `turns [positions, dim/2, 2]`, the other way round with `back`.
pub(crate) fn rotate(
    turns: &[f32],
    width: usize,
    dim: usize,
    back: bool,
    x: &[f32],
    y: &mut [f32],
) {
    let positions = turns.len() / dim;
    let sign = if back { -1.0 } else { 1.0 };
    x.par_chunks(width)
        .zip(y.par_chunks_mut(width))
        .with_min_len((CHUNK / width).max(1))
        .enumerate()
        .for_each(|(row, (x, y))| {
            let turns = &turns[row % positions * dim..][..dim];
            for (x, y) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)) {
                for i in (0..dim).step_by(2) {
                    let (cos, sin) = (turns[i], sign * turns[i + 1]);
                    y[i] = x[i] * cos - x[i + 1] * sin;
                    y[i + 1] = x[i] * sin + x[i + 1] * cos;
                }
            }
        });
}
