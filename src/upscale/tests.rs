//! Parity with spandrel 0.4.2 (random weights, computed in f64), and tiles.

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/upscalers")
        .join(name)
}

fn vectors() -> std::collections::HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture("vectors.safetensors"), &Device::Cpu).unwrap()
}

fn nhwc(x: &Tensor) -> Tensor {
    x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

#[test]
fn every_format_gives_the_recorded_values() {
    let vectors = vectors();
    for (name, file, scale) in [
        ("x4", "x4.pth", 4),
        ("x2", "x2.safetensors", 2),
        ("old", "old.pth", 4),
        ("compact", "compact.pth", 4),
    ] {
        let upscaler = Upscaler::open(&fixture(file), &Device::Cpu).unwrap();
        assert_eq!(upscaler.scale(), scale, "{name}");
        let x = nhwc(&vectors[&format!("{name}.in")]);
        let wanted = nhwc(&vectors[&format!("{name}.out")]);
        let got = upscaler.network.forward(&x).unwrap();
        assert_eq!(got.dims(), wanted.dims(), "{name}");
        let most = |x: &Tensor| {
            let x = x.abs().unwrap().flatten_all().unwrap();
            x.max(0).unwrap().to_scalar::<f32>().unwrap()
        };
        let off = most(&(got - &wanted).unwrap()) / most(&wanted).max(1.0);
        assert!(off < 3e-5, "{name} is off by {off}");
    }
}

#[test]
fn tiles_meet_without_a_seam() {
    let upscaler = Upscaler::open(&fixture("compact.pth"), &Device::Cpu).unwrap();
    let wide = TILE + 30;
    let picture = RgbImage::from_fn(wide, 20, |x, y| {
        image::Rgb([(x * 5 + y) as u8, (y * 11) as u8, (x ^ y) as u8])
    });
    let mut heard = Vec::new();
    let whole = upscaler.enlarge(&picture, &mut |done, of| {
        heard.push((done, of));
        ControlFlow::Continue(())
    });
    let whole = whole.unwrap().unwrap();
    assert_eq!(
        (whole.dimensions(), heard),
        ((4 * wide, 80), vec![(1, 2), (2, 2)])
    );
    // The same places read with the seam in the middle of a tile.
    let right = image::imageops::crop_imm(&picture, TILE - 40, 0, 70, 20).to_image();
    let once = upscaler.enlarge(&right, &mut |_, _| ControlFlow::Continue(()));
    let once = once.unwrap().unwrap();
    for y in 0..80 {
        for x in 80..240 {
            let (a, b) = (
                whole.get_pixel(4 * (TILE - 40) + x, y),
                once.get_pixel(x, y),
            );
            let near = |c: usize| a.0[c].abs_diff(b.0[c]) <= 1;
            assert!(near(0) && near(1) && near(2), "{x} {y}: {a:?} {b:?}");
        }
    }
    let cancelled = upscaler.enlarge(&picture, &mut |_, _| ControlFlow::Break(()));
    assert!(cancelled.unwrap().is_none());
}

#[test]
fn a_file_of_another_kind_is_named() {
    let other = fixture("vectors.safetensors");
    let why = Upscaler::open(&other, &Device::Cpu)
        .unwrap_err()
        .to_string();
    assert!(why.contains("vectors.safetensors is no upscaler"), "{why}");
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.safetensors");
    let bytes = std::fs::read(fixture("x2.safetensors")).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let why = Upscaler::open(&cut, &Device::Cpu).unwrap_err().to_string();
    assert!(why.contains("cut.safetensors"), "{why}");
}
