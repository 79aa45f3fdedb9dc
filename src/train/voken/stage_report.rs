//! What a voken model that draws from references makes of held-out stories: who is in each picture,
//! where they stand, where and when it plays, and how well it foretells words.

use std::fmt::Write;
use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::data::told_of_library;
use super::left_out::LeftOut;
use super::pass::{StepStory, VokenNetworks};
use crate::diffusion::SettingFeatures;
use crate::storyworld::Split;
use crate::storyworld::library::LibraryTale;
use crate::train::{Result, write_whole};

/// Held-out stories that are read.
const STORIES: u64 = 40;
/// Their seeds begin here.
const SEEDS: u64 = 1 << 40;

/// Counts over pictures that are not a story's first.
#[derive(Default)]
struct Counts {
    pictures: usize,
    /// Pictures of which everybody is known to be in or not.
    all: usize,
    names: usize,
    names_right: usize,
    /// Pictures of two or more, and those of them whose order is right.
    several: usize,
    ordered: usize,
    ground: usize,
    time: usize,
    weather: usize,
    /// Pictures of which all of this is right.
    whole: usize,
    words: f64,
}

/// Writes `stage-STEP.txt`.
///
/// # Errors
/// When the networks don't fit each other, or the file can't be written.
pub(super) fn write(nets: &VokenNetworks, run: &Path, step: u64) -> Result<()> {
    let diffusion = &nets.frozen.diffusion;
    let settings = SettingFeatures::of(
        &diffusion.text_encoder,
        &diffusion.tokenizer,
        &nets.frozen.device,
    )?;
    let mut counts = Counts::default();
    let mut wrong = String::new();
    for seed in SEEDS..SEEDS + STORIES {
        count(nets, &settings, seed, &mut counts, &mut wrong)?;
    }
    let share = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
    let c = &counts;
    let report = format!(
        "{} pictures of {STORIES} held-out stories: names right {:.1} %, everybody right {:.1} %, order {:.1} %, place {:.1} %, time {:.1} %, weather {:.1} %, all of it {:.1} %; perplexity of words {:.2}\n\n{wrong}",
        c.pictures,
        share(c.names_right, c.names),
        share(c.all, c.pictures),
        share(c.ordered, c.several),
        share(c.ground, c.pictures),
        share(c.time, c.pictures),
        share(c.weather, c.pictures),
        share(c.whole, c.pictures),
        (c.words / STORIES as f64).exp(),
    );
    write_whole(&run.join(format!("stage-{step:06}.txt")), report.as_bytes())
}

fn count(
    nets: &VokenNetworks,
    settings: &SettingFeatures,
    seed: u64,
    c: &mut Counts,
    wrong: &mut String,
) -> Result<()> {
    let tale = LibraryTale::random(seed, Split::HeldOut);
    let panels = told_of_library(&tale, &mut ChaCha8Rng::seed_from_u64(seed));
    let encoded = nets.frozen.story(&panels, &mut LeftOut::default())?;
    let reading = nets.look(&StepStory::apart(0, encoded))?;
    c.words += reading.words;
    let seen = settings.nearest(&reading.conditions, |_| 0.0)?;
    let (present, place) = match reading.stage {
        Some(scores) => (
            scores.present.to_vec1::<f32>()?,
            scores.place.to_vec1::<f32>()?,
        ),
        None => return Ok(()),
    };
    let mut at = 0;
    for (i, (panel, told)) in panels.iter().zip(&tale.panels).enumerate() {
        let own = at..at + panel.stage.len();
        at = own.end;
        if i == 0 {
            continue;
        }
        c.pictures += 1;
        let mut truth: Vec<(f32, &str)> = Vec::new();
        let mut said: Vec<(f32, &str)> = Vec::new();
        for (who, n) in panel.stage.iter().zip(own) {
            truth.extend(
                who.place
                    .map(|place| (place, who.referent.names[0].as_str())),
            );
            if present[n] > 0.0 {
                said.push((place[n], who.referent.names[0].as_str()));
            }
            c.names += 1;
            c.names_right += usize::from((present[n] > 0.0) == who.place.is_some());
        }
        let in_order = |mut all: Vec<(f32, &str)>| -> Vec<String> {
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            all.into_iter().map(|(_, name)| name.to_owned()).collect()
        };
        let (truth, said) = (in_order(truth), in_order(said));
        let everybody = truth.len() == said.len() && truth.iter().all(|name| said.contains(name));
        let ordered = truth == said;
        c.all += usize::from(everybody);
        if truth.len() > 1 && everybody {
            c.several += 1;
            c.ordered += usize::from(ordered);
        }
        let wanted = told.composition.setting;
        let right = [
            seen[i].location == wanted.location,
            seen[i].time == wanted.time,
            seen[i].weather == wanted.weather,
        ];
        c.ground += usize::from(right[0]);
        c.time += usize::from(right[1]);
        c.weather += usize::from(right[2]);
        if everybody && right == [true; 3] {
            c.whole += 1;
        } else {
            let _ = writeln!(
                wrong,
                "{}\n  shown: {}; {}\n  vokens: {}; {}",
                panel.text,
                truth.join(", "),
                wanted.description(),
                said.join(", "),
                seen[i].description(),
            );
        }
    }
    Ok(())
}
