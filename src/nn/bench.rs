//! The operations at named shapes, ours and candle's stock ones, to be timed side by side.

use super::{Activation, ConvOptions, FrozenLinear, Linear, Mask, Result, noise, ops, quant};
use candle_core::{D, DType, Device, Tensor, Var};

/// One operation at one shape.
pub struct OpBench {
    /// Name of the operation.
    pub name: &'static str,
    /// The shape, for people.
    pub shape: String,
    /// What a run amounts to, in `unit`s.
    pub work: f64,
    /// `GFLOP` where it computes more than it moves, `GB` (read and written once) elsewhere.
    pub unit: &'static str,
    /// A run of our operation.
    pub ours: BenchFn,
    /// candle's own operation, in candle's own layout; none where it has none.
    pub candle: Option<BenchFn>,
}

/// Runs an operation once.
pub type BenchFn = Box<dyn Fn() -> Result<()>>;

const CPU: Device = Device::Cpu;

fn draw(stream: u64, shape: &[usize]) -> Result<Tensor> {
    noise(11, stream, shape, &CPU)
}

fn run(f: impl Fn() -> Result<Tensor> + 'static) -> BenchFn {
    Box::new(move || f().map(drop))
}

/// Forward, then backward from the mean of squares, which gives every output a gradient; ours.
fn run_both_ways(f: impl Fn() -> Result<Tensor> + 'static) -> BenchFn {
    Box::new(move || ops::mean_square(&f()?)?.backward().map(drop))
}

/// As [`run_both_ways`], by candle's own operations.
fn run_stock_both_ways(f: impl Fn() -> Result<Tensor> + 'static) -> BenchFn {
    Box::new(move || f()?.sqr()?.mean_all()?.backward().map(drop))
}

fn var(t: &Tensor) -> Result<Tensor> {
    Ok(Var::from_tensor(t)?.as_tensor().clone())
}

/// Every operation that is measured.
///
/// # Errors
/// Memory that can't be had.
pub fn op_benches() -> Result<Vec<OpBench>> {
    let mut all = Vec::new();
    for (rows, inp, out) in [(1024, 1024, 1024), (8192, 320, 1280), (512, 64, 256)] {
        linear(&mut all, rows, inp, out)?;
    }
    // A language model's inner layer as training goes through it.
    frozen(&mut all, 560, 576, 1536)?;
    for (batch, side, cin, cout) in [
        (8, 64, 64, 64),
        (2, 64, 320, 320),
        (2, 16, 1280, 1280),
        (16, 16, 64, 64),
        (1, 256, 128, 128),
    ] {
        conv(&mut all, batch, side, cin, cout)?;
    }
    for (batch, tq, tk, heads, dim) in [
        (8, 256, 256, 8, 64),
        (2, 4096, 4096, 5, 64),
        (2, 4096, 77, 5, 64),
        (16, 64, 64, 4, 32),
    ] {
        attention(&mut all, batch, tq, tk, heads, dim)?;
    }
    for (batch, side, channels, groups) in [(8, 64, 64, 32), (2, 64, 320, 32), (16, 16, 64, 16)] {
        group_norm(&mut all, batch, side, channels, groups)?;
    }
    rows(&mut all, 8192, 320)?;
    Ok(all)
}

fn linear(all: &mut Vec<OpBench>, rows: usize, inp: usize, out: usize) -> Result<()> {
    let (x, w, b) = (
        draw(0, &[rows, inp])?,
        draw(1, &[inp, out])?,
        draw(2, &[out])?,
    );
    let work = 2e-9 * (rows * inp * out) as f64;
    let shape = format!("{rows}x{inp} to {out}");
    let (vx, vw, vb) = (var(&x)?, var(&w)?, var(&b)?);
    let (cx, cw, cb) = (vx.clone(), vw.clone(), vb.clone());
    all.push(OpBench {
        name: "linear",
        shape: shape.clone(),
        work,
        unit: "GFLOP",
        ours: {
            let (x, w, b) = (x.clone(), w.clone(), b.clone());
            run(move || ops::linear(&x, &w, Some(&b)))
        },
        candle: Some(run(move || x.matmul(&w)?.broadcast_add(&b))),
    });
    all.push(OpBench {
        name: "linear, forward + backward",
        shape,
        work: 3.0 * work,
        unit: "GFLOP",
        ours: run_both_ways(move || ops::linear(&vx, &vw, Some(&vb))),
        candle: Some(run_stock_both_ways(move || {
            cx.matmul(&cw)?.broadcast_add(&cb)
        })),
    });
    Ok(())
}

/// A weight that does not learn: forward and the gradient of the input. Nothing where the
/// processor has no quicker way than the plain layer.
fn frozen(all: &mut Vec<OpBench>, rows: usize, inp: usize, out: usize) -> Result<()> {
    let w = draw(1, &[inp, out])?;
    let Some(layer) = FrozenLinear::new(&Linear::new(w.clone(), None))? else {
        return Ok(());
    };
    let x = var(&draw(0, &[rows, inp])?)?;
    let cx = x.clone();
    all.push(OpBench {
        name: "frozen linear, forward + backward",
        shape: format!("{rows}x{inp} to {out}"),
        work: 4e-9 * (rows * inp * out) as f64,
        unit: "GFLOP",
        ours: run_both_ways(move || layer.forward(&x)),
        candle: Some(run_stock_both_ways(move || cx.matmul(&w))),
    });
    Ok(())
}

fn conv(all: &mut Vec<OpBench>, batch: usize, side: usize, cin: usize, cout: usize) -> Result<()> {
    let x = draw(0, &[batch, side, side, cin])?;
    let w = draw(1, &[3, 3, cin, cout])?;
    let work = 18e-9 * (batch * side * side * cin * cout) as f64;
    let shape = format!("{batch}x{side}x{side}x{cin} to {cout}");
    let same = ConvOptions::same(3);
    let first = x.permute((0, 3, 1, 2))?.contiguous()?;
    let kernel = w.permute((3, 2, 0, 1))?.contiguous()?;
    let (vx, vw) = (var(&x)?, var(&w)?);
    let (cx, cw) = (var(&first)?, var(&kernel)?);
    all.push(OpBench {
        name: "conv2d 3x3",
        shape: shape.clone(),
        work,
        unit: "GFLOP",
        ours: run(move || ops::conv2d(&x, &w, None, same)),
        candle: Some(run(move || first.conv2d(&kernel, 1, 1, 1, 1))),
    });
    all.push(OpBench {
        name: "conv2d 3x3, forward + backward",
        shape,
        work: 3.0 * work,
        unit: "GFLOP",
        ours: run_both_ways(move || ops::conv2d(&vx, &vw, None, same)),
        candle: Some(run_stock_both_ways(move || cx.conv2d(&cw, 1, 1, 1, 1))),
    });
    Ok(())
}

fn attention(
    all: &mut Vec<OpBench>,
    batch: usize,
    tq: usize,
    tk: usize,
    heads: usize,
    dim: usize,
) -> Result<()> {
    let q = draw(0, &[batch, tq, heads * dim])?;
    let k = draw(1, &[batch, tk, heads * dim])?;
    let v = draw(2, &[batch, tk, heads * dim])?;
    let work = 4e-9 * (batch * heads * tq * tk * dim) as f64;
    let shape = format!("{batch}x{heads}x{tq}x{dim} over {tk}");
    let split = |t: &Tensor, n: usize| {
        t.reshape((batch, n, heads, dim))?
            .transpose(1, 2)?
            .contiguous()
    };
    let (sq, sk, sv) = (split(&q, tq)?, split(&k, tk)?, split(&v, tk)?);
    let stock = move |q: &Tensor, k: &Tensor, v: &Tensor, fused: bool| -> Result<Tensor> {
        let scores = (q.matmul(&k.t()?)? / (dim as f64).sqrt())?;
        let shares = match fused {
            true => candle_nn::ops::softmax_last_dim(&scores)?,
            false => candle_nn::ops::softmax(&scores, D::Minus1)?,
        };
        shares.matmul(v)
    };
    let (vq, vk, vv) = (var(&q)?, var(&k)?, var(&v)?);
    let (cq, ck, cv) = (var(&sq)?, var(&sk)?, var(&sv)?);
    all.push(OpBench {
        name: "attention",
        shape: shape.clone(),
        work,
        unit: "GFLOP",
        ours: run(move || ops::attention(&q, &k, &v, heads, heads, &Mask::None)),
        candle: Some(run(move || stock(&sq, &sk, &sv, true))),
    });
    all.push(OpBench {
        name: "attention, forward + backward",
        shape,
        work: 3.5 * work,
        unit: "GFLOP",
        ours: run_both_ways(move || ops::attention(&vq, &vk, &vv, heads, heads, &Mask::None)),
        candle: Some(run_stock_both_ways(move || stock(&cq, &ck, &cv, false))),
    });
    Ok(())
}

fn group_norm(
    all: &mut Vec<OpBench>,
    batch: usize,
    side: usize,
    channels: usize,
    groups: usize,
) -> Result<()> {
    let x = draw(0, &[batch, side, side, channels])?;
    let (g, b) = (draw(1, &[channels])?, draw(2, &[channels])?);
    let bytes = 4e-9 * x.elem_count() as f64;
    let shape = format!("{batch}x{side}x{side}x{channels} in {groups} groups");
    let first = x.permute((0, 3, 1, 2))?.contiguous()?;
    let layer = |g: &Tensor, b: &Tensor| {
        candle_nn::GroupNorm::new(g.clone(), b.clone(), channels, groups, 1e-5)
    };
    let (vx, vg, vb) = (var(&x)?, var(&g)?, var(&b)?);
    let (cx, trained, frozen) = (var(&first)?, layer(&vg, &vb)?, layer(&g, &b)?);
    let norm = move |x: &Tensor, g: &Tensor, b: &Tensor| {
        ops::group_norm(x, g, b, groups, 1e-5, Activation::Silu)
    };
    all.push(OpBench {
        name: "group norm + SiLU",
        shape: shape.clone(),
        work: 2.0 * bytes,
        unit: "GB",
        ours: run(move || norm(&x, &g, &b)),
        candle: Some(run(move || first.apply(&frozen)?.silu())),
    });
    all.push(OpBench {
        name: "group norm + SiLU, forward + backward",
        shape,
        work: 5.0 * bytes,
        unit: "GB",
        ours: run_both_ways(move || norm(&vx, &vg, &vb)),
        candle: Some(run_stock_both_ways(move || cx.apply(&trained)?.silu())),
    });
    Ok(())
}

/// What works row by row or element by element.
fn rows(all: &mut Vec<OpBench>, n: usize, c: usize) -> Result<()> {
    let x = draw(0, &[n, c])?;
    let (g, b) = (draw(1, &[c])?, draw(2, &[c])?);
    let wide = draw(3, &[n, 2 * c])?;
    let bytes = 4e-9 * x.elem_count() as f64;
    let mut push = |name, work, ours: BenchFn, candle: BenchFn| {
        all.push(OpBench {
            name,
            shape: format!("{n}x{c}"),
            work,
            unit: "GB",
            ours,
            candle: Some(candle),
        });
    };
    let held = || (x.clone(), g.clone(), b.clone());
    let ((x1, g1, b1), (x2, g2, b2)) = (held(), held());
    push(
        "layer norm",
        2.0 * bytes,
        run(move || ops::layer_norm(&x1, &g1, &b1, 1e-5)),
        run(move || candle_nn::ops::layer_norm(&x2, &g2, &b2, 1e-5)),
    );
    let ((x1, g1, _), (x2, g2, _)) = (held(), held());
    push(
        "RMS norm",
        2.0 * bytes,
        run(move || ops::rms_norm(&x1, &g1, 1e-5)),
        run(move || candle_nn::ops::rms_norm(&x2, &g2, 1e-5)),
    );
    let (x1, x2) = (x.clone(), x.clone());
    push(
        "softmax",
        2.0 * bytes,
        run(move || ops::softmax(&x1)),
        run(move || candle_nn::ops::softmax_last_dim(&x2)),
    );
    let (x1, x2) = (x.clone(), x.clone());
    push(
        "SiLU",
        2.0 * bytes,
        run(move || ops::silu(&x1)),
        run(move || x2.silu()),
    );
    let (x1, x2) = (x.clone(), x.clone());
    push(
        "GELU",
        2.0 * bytes,
        run(move || ops::gelu(&x1)),
        run(move || x2.gelu_erf()),
    );
    let (w1, w2) = (wide.clone(), wide);
    push(
        "GEGLU",
        3.0 * bytes,
        run(move || ops::geglu(&w1)),
        run(move || {
            let halves = w2.chunk(2, D::Minus1)?;
            halves[0].mul(&halves[1].contiguous()?.gelu_erf()?)
        }),
    );
    let dim = 64;
    let turns = ops::rotations(n / 8, dim, 1e4, &CPU)?;
    let tokens = x.reshape((8, n / 8, c))?;
    let heads = tokens
        .reshape((8, n / 8, c / dim, dim))?
        .transpose(1, 2)?
        .contiguous()?;
    let part = |i| turns.narrow(2, i, 1)?.squeeze(2)?.contiguous();
    let (cos, sin) = (part(0)?, part(1)?);
    push(
        "rotary embedding",
        2.0 * bytes,
        run(move || ops::rotary(&tokens, &turns)),
        run(move || candle_nn::rotary_emb::rope_i(&heads, &cos, &sin)),
    );
    Ok(())
}

/// A quantised matrix `[rows, cols]` times `columns` vectors, ours and candle's: a layer of a small
/// language model.
///
/// # Errors
/// A temporary file that can't be written, or memory that can't be had.
pub fn quantised_benches() -> Result<Vec<OpBench>> {
    use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
    let (rows, cols) = (1536, 2304);
    let weights = draw(5, &[rows, cols])?;
    let mut all = Vec::new();
    for (kind, dtype) in [
        (quant::QuantType::Q4_0, GgmlDType::Q4_0),
        (quant::QuantType::Q4_1, GgmlDType::Q4_1),
        (quant::QuantType::Q8_0, GgmlDType::Q8_0),
        (quant::QuantType::Q4K, GgmlDType::Q4K),
        (quant::QuantType::Q6K, GgmlDType::Q6K),
    ] {
        let stock = QTensor::quantize(&weights, dtype)?;
        let matrix = quant::QuantMatrix::from_bytes(&stock.data()?, rows, cols, kind)
            .map_err(candle_core::Error::wrap)?;
        let stock = QMatMul::from_qtensor(stock)?;
        for columns in [1, 64] {
            let x = draw(6, &[columns, cols])?;
            let values = x.flatten_all()?.to_vec1::<f32>()?;
            let (matrix, stock) = (matrix.clone(), stock.clone());
            all.push(OpBench {
                name: match columns {
                    1 => "quantised matrix-vector",
                    _ => "quantised matrix-matrix",
                },
                shape: format!("{dtype:?} {rows}x{cols} by {columns}"),
                work: 2e-9 * (rows * cols * columns) as f64,
                unit: "GFLOP",
                ours: Box::new(move || {
                    let mut out = vec![0.0; rows * columns];
                    let matrix = &matrix;
                    let out = &mut out;
                    quant::multiply(&mut [quant::Product { matrix, out }], &values, cols);
                    Ok(())
                }),
                candle: Some(run(move || {
                    candle_core::Module::forward(&stock, &x)?.to_dtype(DType::F32)
                })),
            });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_candle_compute_the_same_kind_of_thing() {
        // The small shapes; that values agree is tested beside the operations.
        for op in op_benches().unwrap() {
            if op.work < 0.1 {
                (op.ours)().unwrap();
                op.candle.map(|run| run()).transpose().unwrap();
            }
        }
        for op in quantised_benches().unwrap() {
            (op.ours)().unwrap();
            op.candle.map(|run| run()).transpose().unwrap();
        }
    }
}
