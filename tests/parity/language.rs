//! Words, words and pictures together, and what conditions a picture.

use crate::fixture::{Fixture, Vectors, get, ids, labels, or_recorded};
use crate::report::{Error, Outcome, Stage, values};
use candle_core::{Device, Tensor};
use serde::Deserialize;
use vokenboard::llm::float::{FloatLlama, resize_rows};
use vokenboard::voken::{
    CachedLm, FloatCachedLm, InterleavedText, VistPanel, VistTask, VokenModel, vist_prompt,
};

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    decoded: String,
    decoded_skip_special: String,
}

#[derive(Deserialize)]
struct Tokens {
    len: usize,
    bos: u32,
    voken_ids: Vec<u32>,
    image_here_id: u32,
    cases: Vec<Case>,
}

pub fn tokenizer(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let want: Tokens = f.json(name)?;
    let tokenizer = f.tokenizer()?;
    stage.same("length", &tokenizer.vocabulary(), &want.len);
    stage.same("bos", &tokenizer.bos(), &want.bos);
    stage.same("vokens", &tokenizer.vokens(), &want.voken_ids);
    stage.same("<ImageHere>", &tokenizer.image_here(), &want.image_here_id);
    for case in want.cases {
        let ids = tokenizer.encode(&case.text);
        stage.same(&format!("{:?}", case.text), &ids, &case.ids);
        let text = tokenizer.decode(&case.ids, false);
        stage.same("decoded", &text, &case.decoded);
        let text = tokenizer.decode(&case.ids, true);
        stage.same("decoded without special", &text, &case.decoded_skip_special);
    }
    Ok(())
}

/// The language model with and without adapters, which are also merged.
pub fn llama(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let v = f.vectors(name)?;
    let mut model = f.loaded(f.trained(name), false)?.model;
    let tokens = ids(get(&v, "ids.input_ids")?)?;
    let embedded = model.llama.embed_ids(&tokens)?;
    for (i, state) in model.llama.states(&embedded)?.iter().enumerate() {
        let key = format!("ids.hidden_states.{i}");
        stage.close(&key, state, get(&v, &key)?)?;
    }
    forward(&model.llama, "ids", &embedded, &v, stage)?;
    padded(&model.llama, &v, stage)?;
    let prompt = interleaved(f, &model, "embeds", &v, stage)?;
    forward(&model.llama, "embeds", &prompt, &v, stage)?;
    cached(&model, &prompt, &v, stage)?;
    let merged = v.keys().any(|key| key.starts_with("merged."));
    if merged {
        model.llama.merge_lora()?;
        forward(&model.llama, "merged.ids", &embedded, &v, stage)?;
        forward(&model.llama, "merged.embeds", &prompt, &v, stage)?;
        for (key, want) in &v {
            let layer = key.strip_prefix("merged_weight.layers.");
            let Some(layer) = layer.and_then(|l| l.strip_suffix(".q_proj")) else {
                continue;
            };
            let weight = model.llama.query_weight(layer.parse()?);
            stage.close(key, &weight.ok_or("no such layer")?.t()?, want)?;
        }
    }
    Ok(())
}

fn forward(
    llama: &FloatLlama,
    name: &str,
    embedded: &Tensor,
    v: &Vectors,
    stage: &mut Stage,
) -> Outcome {
    let hidden = llama.forward(embedded, None)?;
    let key = format!("{name}.last_hidden");
    stage.close(&key, &hidden, get(v, &key)?)?;
    let key = format!("{name}.logits");
    stage.close(&key, &llama.logits(&hidden)?, get(v, &key)?)
}

/// A batch padded on the right, of which only what is not padding counts.
fn padded(llama: &FloatLlama, v: &Vectors, stage: &mut Stage) -> Outcome {
    let tokens = get(v, "padded.input_ids")?;
    let rows: Vec<Tensor> = (0..tokens.dim(0)?)
        .map(|row| Ok(llama.embed_ids(&ids(&tokens.get(row)?)?)?))
        .collect::<Result<_, Error>>()?;
    let hidden = llama.forward(&Tensor::cat(&rows, 0)?, None)?;
    let logits = llama.logits(&hidden)?;
    for row in 0..rows.len() {
        let mask = values(&get(v, "padded.attention_mask")?.get(row)?)?;
        let real = mask.iter().take_while(|m| **m == 1.0).count();
        for (key, got) in [("last_hidden", &hidden), ("logits", &logits)] {
            let want = get(v, &format!("padded.{key}"))?;
            let cut = |t: &Tensor| t.narrow(0, row, 1)?.narrow(1, 0, real);
            stage.close(&format!("padded.{key}.{row}"), &cut(got)?, &cut(want)?)?;
        }
    }
    Ok(())
}

/// The prompt's embeddings with its pictures seen by our own tower.
fn interleaved(
    f: &Fixture,
    model: &VokenModel,
    name: &str,
    v: &Vectors,
    stage: &mut Stage,
) -> Result<Tensor, Error> {
    let text = InterleavedText::prompt(ids(get(v, &format!("{name}.prompt_ids"))?)?);
    let key = format!("{name}.inputs_embeds");
    let want = get(v, &key)?;
    let got = prompt(f, model, &text, v, &format!("{name}.images"));
    let got = or_recorded(got, want)?;
    stage.close(&key, &got, want)?;
    Ok(got)
}

/// A prompt's embeddings.
pub fn prompt(
    f: &Fixture,
    model: &VokenModel,
    text: &InterleavedText,
    v: &Vectors,
    images: &str,
) -> Result<Tensor, Error> {
    let pictures = pictures(f, model, text, v, images)?;
    Ok(model.interleave(text, pictures.as_ref())?.embeddings)
}

/// A prompt that is kept, then the vokens in one pass, then one token.
fn cached(model: &VokenModel, prompt: &Tensor, v: &Vectors, stage: &mut Stage) -> Outcome {
    let mut reader = FloatCachedLm::new(model.llama.clone());
    reader.read(prompt)?;
    for name in ["voken", "next"] {
        let tokens = match name {
            "voken" => ids(get(v, "kv.voken_ids")?)?,
            _ => ids(get(v, "kv.next_id")?)?,
        };
        if name == "voken" {
            stage.same("voken ids", &model.vocabulary.ids(), &tokens);
        }
        let hidden = reader.read(&reader.embed(&tokens)?)?;
        let key = format!("kv.{name}_hidden");
        stage.close(&key, &hidden, get(v, &key)?)?;
        let logits = model.llama.logits(&hidden)?;
        stage.close("kv logits", &logits, get(v, &format!("kv.{name}_logits"))?)?;
    }
    Ok(())
}

pub fn resize_init(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let v = f.vectors(name)?;
    let base = f.base()?;
    let rows = ids(get(&v, "vocab_rows")?)?[0] as usize;
    let embed = get(&v, "embed_new_rows")?;
    let new = embed.dim(0)?;
    stage.same("new rows", &new, &(f.sizes.voken_count + 1));
    let tables = base.tables();
    for (what, table, want) in [
        ("embed_new_rows", tables.embedding.table().clone(), embed),
        (
            "lm_head_new_rows",
            tables.head.weight().t()?.contiguous()?,
            get(&v, "lm_head_new_rows")?,
        ),
    ] {
        let got = resize_rows(&table, new)?;
        // The number of rows is that after resizing in some sets and before it in others.
        let after = got.dim(0)? == rows || table.dim(0)? == rows;
        stage.same("rows", &after, &true);
        let last = got.narrow(0, got.dim(0)? - new, new)?;
        stage.close(what, &last, want)?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Sample {
    task_name: String,
    source: String,
    target: String,
}

fn story(sample: &Sample) -> (&str, usize, &str) {
    // "story_7_2-multimodal": the step is the last number, the task follows.
    let (name, task) = sample.task_name.rsplit_once('-').unwrap_or_default();
    let (story, step) = name.rsplit_once('_').unwrap_or_default();
    (story, step.parse().unwrap_or(0), task)
}

/// The three prompts of a story's data set, told anew from the story's texts.
pub fn vist_samples(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let samples: Vec<Sample> = f.json(name)?;
    for sample in &samples {
        let (own, step, task) = story(sample);
        let text = |at: usize| {
            let told = samples.iter().find(|s| {
                let (other, step, _) = story(s);
                (other, step) == (own, at)
            });
            told.and_then(said)
        };
        let history: Vec<String> = (0..step).filter_map(text).collect();
        let history: Vec<VistPanel> = history
            .iter()
            .map(|text| VistPanel {
                text,
                picture: true,
            })
            .collect();
        let own_text = text(step).unwrap_or_default();
        let task = match task {
            "gen" => VistTask::Picture(&own_text),
            "multimodal" => VistTask::Both,
            _ => VistTask::Text,
        };
        let all: Vec<String> = (0..task.count())
            .map(|wording| vist_prompt(&history, task, wording))
            .collect();
        let found = all.contains(&sample.source);
        stage.same(&format!("{} {:?}", sample.source, all), &found, &true);
    }
    Ok(())
}

/// A step's text, from its picture task.
fn said(sample: &Sample) -> Option<String> {
    let (_, said) = sample.source.rsplit_once("scene description: ")?;
    Some(said.strip_suffix(" ###Assistant:")?.to_string())
}

/// Interleaving with labels, of the samples of the story data set.
pub fn input_warp(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let v = f.vectors(name)?;
    let model = f.loaded(f.trained(name), false)?.model;
    let samples: Vec<Sample> = f.json("vist_samples").unwrap_or_default();
    let tokenizer = f.tokenizer();
    for i in 0.. {
        let Ok(tokens) = get(&v, &format!("{i}.input_ids")) else {
            break;
        };
        let (tokens, wanted) = (ids(tokens)?, labels(get(&v, &format!("{i}.labels"))?)?);
        // Everything before the first label is the prompt.
        let prompt = wanted.iter().take_while(|l| l.is_none()).count();
        let text =
            InterleavedText::training(&tokens[..prompt], &tokens[prompt..], &model.vocabulary);
        stage.same(&format!("{i}.labels"), &text.labels, &wanted);
        if let (Some(sample), Ok(tokenizer)) = (samples.get(i), &tokenizer) {
            let own = [
                tokenizer.encode(&sample.source),
                tokenizer.encode(&sample.target),
            ];
            stage.same(&format!("{i}.input_ids"), &own.concat(), &tokens);
        }
        let Some(want) = v.get(&format!("{i}.warped_embeds")) else {
            // The embeddings of later samples are not recorded: their lengths and labels are.
            let length = get(&v, &format!("{i}.warped_labels"))?.elem_count();
            let count = tokens
                .iter()
                .filter(|t| **t == model.vocabulary.picture)
                .count();
            let queries = f.sizes.vision.qformer.num_query_tokens;
            let zeros = Tensor::zeros(
                (count.max(1), queries, model.llama.config().hidden_size),
                candle_core::DType::F32,
                &Device::Cpu,
            )?;
            let got = model.interleave(&text, Some(&zeros))?;
            stage.same("length", &got.length, &length);
            let want = labels(get(&v, &format!("{i}.warped_labels"))?)?;
            stage.same("warped_labels", &got.labels, &want);
            continue;
        };
        let pictures = pictures(f, &model, &text, &v, &format!("{i}.input_images"))?;
        let got = model.interleave(&text, pictures.as_ref())?;
        stage.close(&format!("{i}.warped_embeds"), &got.embeddings, want)?;
        let want = labels(get(&v, &format!("{i}.warped_labels"))?)?;
        stage.same(&format!("{i}.warped_labels"), &got.labels, &want);
        let mask = values(get(&v, &format!("{i}.warped_attention"))?)?;
        let real = mask.iter().filter(|m| **m == 1.0).count();
        stage.same(&format!("{i}.warped_attention"), &got.length, &real);
    }
    Ok(())
}

pub fn mapper(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let v = f.vectors(name)?;
    let mut model = f.loaded(f.trained(name), false)?.model;
    f.move_to_gpu(&mut model)?;
    let mapper = &model.mapper;
    let states = get(&v, "voken_hidden")?;
    let vokens = f.sizes.voken_count;
    // On a GPU only the whole comes back.
    if f.gpu.is_none() {
        let fc = mapper.fc(states)?;
        stage.close("fc_output", &fc, get(&v, "fc_output")?)?;
        let memory = mapper.encode(&fc)?;
        stage.close("encoder_memory", &memory, get(&v, "encoder_memory")?)?;
        let zeros = mapper.fc(&mapper.zeros(1, vokens)?)?;
        stage.close("empty_fc_output", &zeros, get(&v, "empty_fc_output")?)?;
    }
    let whole = mapper.forward(states)?;
    stage.close("mapping_feature", &whole, get(&v, "mapping_feature")?)?;
    let empty = mapper.unconditional(vokens)?;
    let want = get(&v, "empty_mapping_feature")?;
    stage.close("empty_mapping_feature", &empty, want)
}

/// The embeddings of the pictures that are recorded beside a text, where the text has places for
/// pictures: a picture without a place is not looked at.
pub fn pictures(
    f: &Fixture,
    model: &VokenModel,
    text: &InterleavedText,
    v: &Vectors,
    name: &str,
) -> Result<Option<Tensor>, Error> {
    match v.get(name) {
        Some(pictures) if text.ids.contains(&model.vocabulary.picture) => {
            Ok(Some(f.see(pictures)?))
        }
        _ => Ok(None),
    }
}
