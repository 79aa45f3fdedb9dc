//! The studio's line icons: SVG in `assets/icons`, rasterised at the screen's own resolution.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use egui::{ColorImage, Image, TextureHandle, TextureOptions};
use resvg::{tiny_skia, usvg};

macro_rules! icons {
    ($($name:ident = $file:literal),* $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Icon { $($name),* }

        impl Icon {
            #[cfg(test)]
            const ALL: &'static [Icon] = &[$(Icon::$name),*];

            fn svg(self) -> &'static [u8] {
                match self {
                    $(Icon::$name => include_bytes!(concat!("../../assets/icons/", $file, ".svg"))),*
                }
            }
        }
    };
}

icons! {
    Undo = "undo", Redo = "redo", Plus = "plus", Trash = "trash", Duplicate = "duplicate",
    Lock = "lock", Unlock = "unlock", Dice = "dice", Star = "star",
    StarOutline = "star-outline", Close = "close",
    Down = "down",
    Export = "export", Folder = "folder", Left = "left", Right = "right",
    Picture = "picture", Text = "text", Sparkle = "sparkle", Stop = "stop",
    Pencil = "pencil", Chip = "chip", Sun = "sun", Moon = "moon", Book = "book",
    Warning = "warning", Check = "check", Compare = "compare", Help = "help", Side = "side",
    Person = "person", Place = "place", Thing = "thing",
    FlipSides = "flip-sides", FlipOver = "flip-over", TurnLeft = "turn-left",
    TurnRight = "turn-right",
}

/// Textures by icon and size in physical pixels, kept in egui's memory.
type IconCache = Arc<Mutex<HashMap<(Icon, u32), TextureHandle>>>;

/// `icon` as a white picture of `points` by `points`, to be tinted by the widget that holds it.
pub(super) fn image(ctx: &egui::Context, icon: Icon, points: f32) -> Image<'static> {
    let pixels = ((points * ctx.pixels_per_point()).round() as u32).clamp(8, 256);
    let cache: IconCache = ctx.data_mut(|d| {
        d.get_temp_mut_or_default::<IconCache>(egui::Id::unique("studio icons"))
            .clone()
    });
    let known = lock(&cache).get(&(icon, pixels)).cloned();
    let texture = known.unwrap_or_else(|| {
        let texture = ctx.load_texture(
            format!("{icon:?}"),
            rasterise(icon, pixels),
            TextureOptions::LINEAR,
        );
        lock(&cache).insert((icon, pixels), texture.clone());
        texture
    });
    Image::from_texture((texture.id(), egui::vec2(points, points)))
        .fit_to_exact_size(egui::vec2(points, points))
}

/// The icon of the program's window: an open book on the accent.
pub(super) fn of_the_window() -> egui::IconData {
    let svg = include_bytes!("../../assets/icons/app.svg");
    let image = draw(svg, 128);
    egui::IconData {
        rgba: image
            .pixels
            .iter()
            .flat_map(egui::Color32::to_srgba_unmultiplied)
            .collect(),
        width: 128,
        height: 128,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic while the map was held cannot leave it torn: inserts are single steps.
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn rasterise(icon: Icon, pixels: u32) -> ColorImage {
    draw(icon.svg(), pixels)
}

fn draw(svg: &[u8], pixels: u32) -> ColorImage {
    let empty = || ColorImage::filled([pixels as usize; 2], egui::Color32::TRANSPARENT);
    // The icons are compiled in and a test parses every one, so neither step fails in practice.
    let Ok(tree) = usvg::Tree::from_data(svg, &usvg::Options::default()) else {
        return empty();
    };
    let Some(mut map) = tiny_skia::Pixmap::new(pixels, pixels) else {
        return empty();
    };
    let scale = pixels as f32 / tree.size().width();
    resvg::render(
        &tree,
        tiny_skia::Transform::from_scale(scale, scale),
        &mut map.as_mut(),
    );
    ColorImage::from_rgba_premultiplied([pixels as usize; 2], map.data())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_icon_draws_something_and_stays_inside_its_square() {
        for &icon in Icon::ALL {
            let image = rasterise(icon, 48);
            let inked = image.pixels.iter().filter(|p| p.a() > 128).count();
            assert!(
                (40..48 * 48 * 3 / 4).contains(&inked),
                "{icon:?} inks {inked} pixels"
            );
            let edge = (0..48).flat_map(|i| [i, 47 * 48 + i, i * 48, i * 48 + 47]);
            assert!(
                edge.into_iter().all(|i| image.pixels[i].a() == 0),
                "{icon:?} touches its edge"
            );
        }
    }
}
