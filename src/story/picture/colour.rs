//! Colours of a picture as sRGB, whatever profile it was made in.

use image::RgbaImage;
use moxcms::{
    Chromaticity, ColorPrimaries, ColorProfile, DataColorSpace, Layout, RenderingIntent,
    ToneReprCurve, TransformOptions,
};
use png::{ScaledFloat, SourceChromaticities};

/// Profiles are at most a few megabytes long.
const LONGEST_PROFILE: usize = 16 << 20;
/// Colours that are this little apart are the same: profiles of sRGB itself differ in rounding.
const SAME: u8 = 2;

/// The gamma that programs write which mean sRGB, and how far others lie from it, as libpng counts.
const USUAL_GAMMA: f32 = 0.45455;
const SAME_GAMMA: f32 = 0.05;
/// Chromaticities `x, y` of white, red, green and blue in sRGB; those that are so little apart are
/// the same.
const SRGB: [(f32, f32); 4] = [(0.3127, 0.329), (0.64, 0.33), (0.3, 0.6), (0.15, 0.06)];
const SAME_PLACE: f32 = 0.005;

/// What gamma and chromaticities of a PNG say; `None` where they mean sRGB or nothing that can be.
pub(super) fn of_numbers(
    gamma: Option<ScaledFloat>,
    places: Option<&SourceChromaticities>,
) -> Option<ColorProfile> {
    let gamma = gamma.map(ScaledFloat::into_value);
    let gamma = gamma.filter(|gamma| (0.05..=20.0).contains(gamma));
    let places = places.map(|all| {
        [all.white, all.red, all.green, all.blue].map(|(x, y)| (x.into_value(), y.into_value()))
    });
    let places = places.filter(|all| can_be(all) && !same(all));
    let usual = gamma.is_none_or(|gamma| (gamma / USUAL_GAMMA - 1.0).abs() < SAME_GAMMA);
    if places.is_none() && usual {
        return None;
    }
    let mut profile = ColorProfile::new_srgb();
    profile.cicp = None;
    if let Some([white, red, green, blue]) =
        places.map(|all| all.map(|(x, y)| Chromaticity::new(x, y)))
    {
        let primaries = ColorPrimaries { red, green, blue };
        profile.update_rgb_colorimetry(white.to_xyyb(), primaries);
    }
    if let Some(gamma) = gamma.filter(|_| places.is_some() || !usual) {
        let curve = ToneReprCurve::Parametric(vec![1.0 / gamma]);
        profile.red_trc = Some(curve.clone());
        profile.green_trc = Some(curve.clone());
        profile.blue_trc = Some(curve);
    }
    Some(profile)
}

fn same(places: &[(f32, f32); 4]) -> bool {
    let near = |(a, b): (&(f32, f32), &(f32, f32))| {
        (a.0 - b.0).abs() <= SAME_PLACE && (a.1 - b.1).abs() <= SAME_PLACE
    };
    places.iter().zip(&SRGB).all(near)
}

/// Whether colours can be mixed of these: they span a triangle, and white is not black.
fn can_be([white, red, green, blue]: &[(f32, f32); 4]) -> bool {
    let area = (green.0 - red.0) * (blue.1 - red.1) - (blue.0 - red.0) * (green.1 - red.1);
    let seen = [white, red, green, blue].iter().all(|(x, y)| x + y <= 1.01);
    area.abs() > 0.01 && white.1 > 0.1 && seen
}

fn options() -> TransformOptions {
    TransformOptions {
        rendering_intent: RenderingIntent::RelativeColorimetric,
        ..TransformOptions::default()
    }
}

/// A profile that can be read. One that can't be says nothing of the colours, so they are taken
/// for sRGB, as other programs do.
pub(super) fn profile(icc: &[u8]) -> Option<ColorProfile> {
    (icc.len() <= LONGEST_PROFILE)
        .then(|| ColorProfile::new_from_slice(icc).ok())
        .flatten()
}

/// Changes the colours of 8-bit `picture` from those of `profile` to sRGB; they stay where the
/// profile is sRGB or is not one of pictures like it.
pub(super) fn to_srgb(picture: &mut RgbaImage, profile: &ColorProfile) {
    let srgb = ColorProfile::new_srgb();
    if profile.color_space == DataColorSpace::Gray {
        let grey = |pixel: &image::Rgba<u8>| pixel.0[0] == pixel.0[1] && pixel.0[1] == pixel.0[2];
        if !picture.pixels().all(grey) {
            return;
        }
        let Ok(transform) =
            profile.create_transform_8bit(Layout::Gray, &srgb, Layout::Rgb, options())
        else {
            return;
        };
        // There are only 256 greys.
        let greys: Vec<u8> = (0..=255).collect();
        let mut colours = vec![0; 3 * 256];
        if transform.transform(&greys, &mut colours).is_err() {
            return;
        }
        let off = |(grey, rgb): (u8, &[u8])| rgb.iter().all(|c| c.abs_diff(grey) <= SAME);
        if (0..=255).zip(colours.chunks_exact(3)).all(off) {
            return;
        }
        for pixel in picture.pixels_mut() {
            let at = 3 * usize::from(pixel.0[0]);
            pixel.0[..3].copy_from_slice(&colours[at..at + 3]);
        }
        return;
    }
    if profile.color_space != DataColorSpace::Rgb {
        return;
    }
    let Ok(transform) = profile.create_transform_8bit(Layout::Rgba, &srgb, Layout::Rgba, options())
    else {
        return;
    };
    let colours = |size: usize| (0..size).map(move |step| (step * 255 / (size - 1)) as u8);
    let grid: Vec<u8> = colours(9)
        .flat_map(|r| colours(9).flat_map(move |g| colours(9).flat_map(move |b| [r, g, b, 255])))
        .collect();
    let mut changed = vec![0; grid.len()];
    let fails = transform.transform(&grid, &mut changed).is_err();
    if fails
        || grid
            .iter()
            .zip(&changed)
            .all(|(a, b)| a.abs_diff(*b) <= SAME)
    {
        return;
    }
    let row = 4 * picture.width().max(1) as usize;
    let mut out = vec![0; row];
    for line in picture.chunks_exact_mut(row) {
        if transform.transform(line, &mut out).is_ok() {
            line.copy_from_slice(&out);
        }
    }
}

/// Changes colours of 16 bits a channel, `[r,g,b,a]` each, from those of `profile` to sRGB, before
/// they are rounded to 8 bits.
pub(super) fn to_srgb_16(pixels: &mut [u16], profile: &ColorProfile) -> bool {
    if profile.color_space != DataColorSpace::Rgb {
        return false;
    }
    let srgb = ColorProfile::new_srgb();
    let Ok(transform) =
        profile.create_transform_16bit(Layout::Rgba, &srgb, Layout::Rgba, options())
    else {
        return false;
    };
    let mut out = vec![0; 4 * 4096];
    for line in pixels.chunks_mut(4 * 4096) {
        let out = &mut out[..line.len()];
        if transform.transform(line, out).is_err() {
            return false;
        }
        line.copy_from_slice(out);
    }
    true
}

/// Inks of 8 bits `[c,m,y,k]`, 255 the most, as sRGB `[r,g,b]`. `None` where the profile is not
/// one of inks.
pub(super) fn inks_to_srgb(inks: &[u8], profile: &ColorProfile) -> Option<Vec<u8>> {
    if profile.color_space != DataColorSpace::Cmyk {
        return None;
    }
    let srgb = ColorProfile::new_srgb();
    let transform = profile
        .create_transform_8bit(Layout::Rgba, &srgb, Layout::Rgb, options())
        .ok()?;
    let mut out = vec![0; inks.len() / 4 * 3];
    transform.transform(inks, &mut out).ok()?;
    Some(out)
}
