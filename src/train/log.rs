//! What a run leaves to look at: `loss.csv` and grids of samples.

use super::{Result, TrainError, write_whole};
use image::{Rgb, RgbImage};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Appends means over the last steps to `loss.csv` and says them on stderr.
pub struct LossLog {
    file: std::fs::File,
    names: &'static [&'static str],
    sums: Vec<f64>,
    count: u64,
    since: Instant,
}

impl LossLog {
    pub fn open(run: &Path, names: &'static [&'static str]) -> Result<Self> {
        let path = run.join("loss.csv");
        let fail = |e: std::io::Error| TrainError::Write(path.clone(), e.to_string());
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
            .map_err(|e| TrainError::Write("loss.csv".into(), e.to_string()))?;
        let said: Vec<String> = self
            .names
            .iter()
            .zip(&means)
            .map(|(n, m)| format!("{n} {m:.4}"))
            .collect();
        let left = (total.saturating_sub(step)) as f64 * samples as f64 / rate / 60.0;
        eprintln!(
            "step {step}/{total}: {}, {rate:.1} samples/s, {left:.0} min left",
            said.join(", ")
        );
        self.sums.fill(0.0);
        self.count = 0;
        self.since = Instant::now();
        Ok(())
    }
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
        .map_err(|e| TrainError::Write(path.to_owned(), e.to_string()))?;
    write_whole(path, bytes.get_ref())
}
