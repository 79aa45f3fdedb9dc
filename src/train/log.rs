//! What a run leaves to look at: `loss.csv` and grids of samples.

use super::{Result, TrainError, write_whole};
use image::{Rgb, RgbImage};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The log of a run folder.
pub(super) fn path(run: &Path) -> PathBuf {
    run.join("loss.csv")
}

/// Appends means over the last steps to `loss.csv` and prints them on stderr.
pub struct LossLog {
    file: std::fs::File,
    names: &'static [&'static str],
    sums: Vec<f64>,
    count: u64,
    since: Instant,
}

impl LossLog {
    /// Opens `loss.csv` in the folder of a run, with these columns, and goes on with it if it is
    /// there.
    pub fn open(run: &Path, names: &'static [&'static str]) -> Result<Self> {
        let path = self::path(run);
        let fail = |e: std::io::Error| TrainError::Write(path.clone(), e.into());
        std::fs::create_dir_all(run).map_err(fail)?;
        let new = !path.exists();
        let mut file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(fail)?;
        if new {
            writeln!(file, "step,{},samples_per_second", names.join(",")).map_err(fail)?;
        }
        Ok(Self {
            file,
            names,
            sums: vec![0.0; names.len()],
            count: 0,
            since: Instant::now(),
        })
    }

    /// Adds the losses of one step to the means of the next line.
    pub fn add(&mut self, values: &[f64]) {
        self.sums.iter_mut().zip(values).for_each(|(s, v)| *s += v);
        self.count += 1;
    }

    /// Writes a line with the means since the last one; `samples` is the batch size.
    pub fn flush(&mut self, step: u64, total: u64, samples: usize) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let means: Vec<f64> = self.sums.iter().map(|s| s / self.count as f64).collect();
        let rate = self.count as f64 * samples as f64 / self.since.elapsed().as_secs_f64();
        let row: Vec<String> = means.iter().map(|m| format!("{m:.6}")).collect();
        writeln!(self.file, "{step},{},{rate:.1}", row.join(","))
            .map_err(|e| TrainError::Write("loss.csv".into(), e.into()))?;
        let fields: Vec<String> = self
            .names
            .iter()
            .zip(&means)
            .map(|(n, m)| format!("{n} {m:.4}"))
            .collect();
        let left = (total.saturating_sub(step)) as f64 * samples as f64 / rate / 60.0;
        eprintln!(
            "step {step}/{total}: {}, {rate:.1} samples/s, {left:.0} min left",
            fields.join(", ")
        );
        self.sums.fill(0.0);
        self.count = 0;
        self.since = Instant::now();
        Ok(())
    }
}

/// A progress bar with the time left, where stderr is a terminal; `done` of `total` steps were
/// taken before.
pub fn progress(done: u64, total: u64) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(total).with_position(done);
    let style = indicatif::ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.reset_eta();
    bar
}

/// Draws every column of the run's `loss.csv` as a curve of its own, one below the other, into
/// `loss.png`. Each is as high as its largest value.
///
/// # Errors
/// When the file can't be read or written.
pub fn write_curves(run: &Path) -> Result<()> {
    const WIDTH: u32 = 640;
    const HEIGHT: u32 = 120;
    const COLOURS: [[u8; 3]; 4] = [[31, 119, 180], [214, 96, 20], [44, 140, 44], [150, 80, 170]];
    let path = self::path(run);
    let text =
        std::fs::read_to_string(&path).map_err(|e| TrainError::Write(path.clone(), e.into()))?;
    let mut lines = text.lines();
    // The first column is the step, the last the speed.
    let columns = lines.next().map_or(0, |head| head.split(',').count());
    let rows: Vec<Vec<f32>> = lines
        .map(|line| line.split(',').filter_map(|v| v.parse().ok()).collect())
        .filter(|row: &Vec<f32>| row.len() == columns)
        .collect();
    let curves: Vec<RgbImage> = (1..columns.saturating_sub(1))
        .map(|column| {
            let values: Vec<f32> = rows.iter().map(|row| row[column]).collect();
            let most = values.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
            let mut curve = RgbImage::from_pixel(WIDTH, HEIGHT, Rgb([246; 3]));
            let y = |v: f32| HEIGHT - 1 - ((v / most).clamp(0.0, 1.0) * (HEIGHT - 1) as f32) as u32;
            let mut before = values.first().map_or(0, |v| y(*v));
            for x in 0..WIDTH {
                let Some(v) = values.get(x as usize * values.len() / WIDTH as usize) else {
                    break;
                };
                let now = y(*v);
                for at in before.min(now)..=before.max(now) {
                    curve.put_pixel(x, at, Rgb(COLOURS[(column - 1) % COLOURS.len()]));
                }
                before = now;
            }
            curve
        })
        .collect();
    write_grid(&run.join("loss.png"), &curves, 1)
}

/// Writes pictures of one size as a grid, `columns` wide, as PNG.
pub fn write_grid(path: &Path, pictures: &[RgbImage], columns: usize) -> Result<()> {
    let Some(first) = pictures.first() else {
        return Ok(());
    };
    let (w, h) = first.dimensions();
    let rows = pictures.len().div_ceil(columns) as u32;
    let gap = 4;
    let mut sheet = RgbImage::from_pixel(
        columns as u32 * (w + gap) + gap,
        rows * (h + gap) + gap,
        Rgb([255; 3]),
    );
    for (i, p) in pictures.iter().enumerate() {
        let (x, y) = ((i % columns) as u32, (i / columns) as u32);
        image::imageops::replace(
            &mut sheet,
            p,
            i64::from(gap + x * (w + gap)),
            i64::from(gap + y * (h + gap)),
        );
    }
    let mut bytes = std::io::Cursor::new(Vec::new());
    sheet
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|e| TrainError::Write(path.to_owned(), e.into()))?;
    write_whole(path, bytes.get_ref())
}
