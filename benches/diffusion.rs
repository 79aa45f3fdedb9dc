//! Random models of the built-in model's size: what drawing a picture and a step of training cost.

use candle_core::{Device, Tensor};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use vokenboard::diffusion::{
    DownBlockKind, PerBlock, Unet, UnetConfig, UpBlockKind, Vae, VaeConfig,
};
use vokenboard::nn::{Params, noise};

const CPU: Device = Device::Cpu;

/// The UNet widths that were counted for the built-in model, finest first.
const WIDTHS: [[usize; 3]; 2] = [[48, 128, 192], [64, 160, 256]];

fn unet_config(widths: [usize; 3]) -> UnetConfig {
    use DownBlockKind::{CrossAttnDownBlock2D, DownBlock2D};
    use UpBlockKind::{CrossAttnUpBlock2D, UpBlock2D};
    UnetConfig {
        sample_size: 16,
        block_out_channels: widths.to_vec(),
        down_block_types: vec![DownBlock2D, CrossAttnDownBlock2D, CrossAttnDownBlock2D],
        up_block_types: vec![CrossAttnUpBlock2D, CrossAttnUpBlock2D, UpBlock2D],
        attention_head_dim: PerBlock::All(4),
        cross_attention_dim: 256,
        use_linear_projection: true,
        norm_num_groups: 16,
        class_embed_type: Some("simple_projection".into()),
        projection_class_embeddings_input_dim: Some(256),
        ..Default::default()
    }
}

/// The same parameters without a graph, as when they are loaded to draw.
fn frozen(p: &Params) -> Params {
    Params::from_tensors(p.to_file_layout(None).unwrap(), false, &CPU)
}

fn unet(c: &mut Criterion) {
    for widths in WIDTHS {
        let params = Params::init(1, &CPU);
        let unet = Unet::new(unet_config(widths), params.clone()).unwrap();
        let drawing = Unet::new(unet_config(widths), frozen(&params)).unwrap();
        let inputs = |batch: usize| {
            (
                noise(2, 0, &[batch, 16, 16, 4], &CPU).unwrap(),
                Tensor::full(500f32, batch, &CPU).unwrap(),
                noise(2, 1, &[batch, 32, 256], &CPU).unwrap(),
                noise(2, 2, &[batch, 256], &CPU).unwrap(),
            )
        };
        let (x, t, text, pooled) = inputs(2);
        c.bench_function(&format!("unet {widths:?} one guided step"), |b| {
            b.iter(|| black_box(drawing.forward(&x, &t, &text, Some(&pooled)).unwrap()));
        });
        let (x, t, text, pooled) = inputs(16);
        c.bench_function(&format!("unet {widths:?} training, batch 16"), |b| {
            b.iter(|| {
                let y = unet.forward(&x, &t, &text, Some(&pooled)).unwrap();
                black_box(y.sqr().unwrap().mean_all().unwrap().backward().unwrap())
            });
        });
    }
}

fn vae(c: &mut Criterion) {
    let config = VaeConfig {
        block_out_channels: vec![16, 32, 64, 96],
        decoder_block_out_channels: Some(vec![16, 24, 48, 64, 96]),
        norm_num_groups: 8,
        ..Default::default()
    };
    let params = Params::init(1, &CPU);
    let vae = Vae::new(config.clone(), params.clone()).unwrap();
    let drawing = Vae::new(config, frozen(&params)).unwrap();
    let x = noise(3, 0, &[8, 128, 128, 3], &CPU).unwrap();
    let z = noise(3, 1, &[1, 16, 16, 4], &CPU).unwrap();
    c.bench_function("autoencoder, decode 256 px", |b| {
        b.iter(|| black_box(drawing.decode(&z).unwrap()));
    });
    c.bench_function("autoencoder, training on 8 of 128 px", |b| {
        b.iter(|| {
            let y = vae.decode(&vae.encode(&x).unwrap().mean).unwrap();
            black_box(y.sqr().unwrap().mean_all().unwrap().backward().unwrap())
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5));
    targets = unet, vae
}
criterion_main!(benches);
