//! A model whose UNet sees mask and picture (9 channels), in a region and around a picture.

use super::*;
use candle_core::{Device, Tensor};
use vokenboard::nn::noise;

/// The tiny model with a UNet that reads nine channels.
fn nine_channels(disk: &Disk) -> PathBuf {
    let folder = disk.path("nine");
    copy(&Path::new(FIXTURES).join("01-sd1-pndm/model"), &folder);
    let unet = folder.join("unet");
    let config = fs::read_to_string(unet.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["in_channels"] = 9.into();
    fs::write(unet.join("config.json"), config.to_string()).unwrap();
    let file = unet.join("diffusion_pytorch_model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let name = "conv_in.weight";
    let own = &tensors[name];
    let more = noise(4, 0, &[own.dim(0).unwrap(), 5, 3, 3], &Device::Cpu).unwrap();
    let both = Tensor::cat(&[own, &(more * 0.2).unwrap()], 1).unwrap();
    tensors.insert(name.into(), both);
    candle_core::safetensors::save(&tensors, &file).unwrap();
    folder
}

#[test]
fn a_model_for_inpainting_draws_in_a_region_and_around_a_picture() {
    let disk = Disk::new();
    let folder = nine_channels(&disk);
    let known = disk.command(&["models", "identify"]).arg(&folder).assert();
    known.success().stdout(contains("inpainting"));
    disk.run(&["models", "add"], &[&folder]);
    let out = disk.path("story-of-nine");
    let flags = [
        "tell",
        OPENING,
        "--model",
        "nine",
        "--writer",
        "tiny-writer",
        "--panels",
        "1",
        "--seed",
        "5",
        "--steps",
        "3",
        "--size",
        "32x24",
        "--out",
    ];
    disk.run(&flags, &[&out]);
    let mask = GrayImage::from_fn(32, 24, |x, y| {
        Luma([255 * u8::from((10..18).contains(&x) && (6..14).contains(&y))])
    });
    let file = disk.path("mask.png");
    mask.save(&file).unwrap();
    let file = file.display().to_string();
    let draw = |more: &[&str]| {
        let seed = [&["--seed", "5"], more].concat();
        disk.regenerate(&out, &seed).assert().success();
    };
    // Cut out, enlarged, drawn at full resolution and blended back; then by the record alone.
    draw(&["--mask", &file, "--region", "4", "--feather", "1"]);
    draw(&[]);
    // At strength 1 nothing is left of what was there, and what is around it is still seen.
    draw(&["--mask", &file, "--region", "4", "--strength", "1"]);
    let all = takes(&out);
    assert_eq!(all[1], all[2]);
    for take in [&all[1], &all[3]] {
        let mut changed = 0;
        for (x, y, pixel) in take.enumerate_pixels() {
            match mask.get_pixel(x, y).0[0] {
                0 => assert_eq!(pixel, all[0].get_pixel(x, y), "{x} {y}"),
                _ => changed += usize::from(pixel != all[0].get_pixel(x, y)),
            }
        }
        assert!(changed > 40, "{changed}");
    }
    draw(&["--from", "current", "--outpaint", "right=8,top=4"]);
    draw(&[]);
    let all = takes(&out);
    assert_eq!(all[4].dimensions(), (40, 28));
    assert_eq!(all[4], all[5]);
    for (x, y, pixel) in all[3].enumerate_pixels() {
        assert_eq!(pixel, all[4].get_pixel(x, y + 4), "{x} {y}");
    }
    let margin: Vec<_> = (32..40).map(|x| *all[4].get_pixel(x, 15)).collect();
    assert!(margin.iter().any(|pixel| pixel != &margin[0]));
}
