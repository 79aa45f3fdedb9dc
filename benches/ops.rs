//! Every operation of `nn` at named shapes, beside candle's stock one: `cargo bench --bench ops`

use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Duration;
use vokenboard::nn::bench::{op_benches, quantised_benches};

fn ops(c: &mut Criterion) {
    let all = op_benches().and_then(|mut ops| {
        ops.extend(quantised_benches()?);
        Ok(ops)
    });
    for op in all.expect("there is memory for the inputs") {
        let mut group = c.benchmark_group(format!("{} {}", op.name, op.shape));
        group.bench_function("ours", |b| b.iter(|| (op.ours)().expect("it runs")));
        if let Some(candle) = &op.candle {
            group.bench_function("candle", |b| b.iter(|| candle().expect("it runs")));
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2));
    targets = ops
}
criterion_main!(benches);
