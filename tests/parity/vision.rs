//! Pictures on their way in.

use crate::fixture::{Fixture, get, nhwc};
use crate::report::{Outcome, Stage, values};
use candle_core::Device;
use vokenboard::vision::{Crop, Preprocess};

/// The limit is a grey level; ours is Pillow's resize bit for bit.
pub fn preprocess(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let v = f.vectors(name)?;
    for (key, want) in &v {
        let (picture, what) = key.split_once('.').ok_or("a name without a dot")?;
        let (what, size) = what.rsplit_once('_').ok_or("a name without a size")?;
        let size: usize = size.parse()?;
        let how = match what {
            "input" => Preprocess::seen(size, Crop::Centre),
            "input_square" => Preprocess::seen(size, Crop::WhiteSquare),
            "output_train" => Preprocess::drawn(size),
            "output_test" => Preprocess {
                mean: [0.0; 3],
                std: [1.0; 3],
                ..Preprocess::drawn(size)
            },
            other => return Err(format!("{other} is no preprocessing we know").into()),
        };
        let picture = image::open(f.path(&format!("images/{picture}.png"))?)?;
        let got = how.tensor(&picture.to_rgb8(), &Device::Cpu)?;
        let want = nhwc(&want.unsqueeze(0)?)?;
        stage.close(key, &got, &want)?;
    }
    Ok(())
}

pub fn eva_vit(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let v = f.vectors(name)?;
    let vit = f.vit()?;
    let pictures = nhwc(get(&v, "pixel_values")?)?;
    let embedded = vit.embed(&pictures)?;
    stage.close("patch_plus_pos", &embedded, get(&v, "patch_plus_pos")?)?;
    let states = vit.states(&pictures)?;
    for (i, state) in states.iter().enumerate() {
        let key = format!("block.{i}");
        stage.close(&key, state, get(&v, &key)?)?;
    }
    let out = vit.forward(&pictures)?;
    stage.close("vit_output", &out, get(&v, "vit_output")?)?;
    let (norm, _) = f.qformer()?;
    let want = get(&v, "ln_vision_output")?;
    stage.close("ln_vision_output", &norm.forward(&out)?, want)
}

pub fn qformer_proj(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let v = f.vectors(name)?;
    let (_, qformer) = f.qformer()?;
    let states = qformer.states(get(&v, "image_embeds")?)?;
    for (i, state) in states.iter().enumerate() {
        let key = format!("hidden_states.{i}");
        stage.close(&key, state, get(&v, &key)?)?;
    }
    let last = &states[states.len() - 1];
    stage.close("last_hidden_state", last, get(&v, "last_hidden_state")?)?;
    let mask = values(get(&v, "encode_img_atts")?)?;
    stage.same("encode_img_atts", &mask.iter().all(|m| *m == 1.0), &true);
    let seen = f.see(get(&v, "pixel_values")?)?;
    stage.close("encode_img_output", &seen, get(&v, "encode_img_output")?)
}
