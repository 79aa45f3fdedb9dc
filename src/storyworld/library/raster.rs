//! Compositions and references to pixels.

use resvg::tiny_skia::{self, Pixmap, Transform};

use super::composition::{CANVAS_CELLS, CELLS, HUES, MIDDLE};
use super::{Composition, Drawing, Figure, Ground, SceneSetting};
use crate::storyworld::backdrop;
use crate::storyworld::place::{Time, Weather};
use crate::storyworld::render::{self, Renderer, Sprite};
use crate::storyworld::scene::{LAYOUTS, UNITS, to_pixels};
use std::sync::OnceLock;

/// What lies behind a drawing in its reference.
pub const PAPER: [u8; 3] = [150, 152, 160];

/// Draws compositions and references at one size; shared by reference between threads.
pub struct CompositionRenderer {
    backdrops: Renderer,
    /// Of the places that are no story's.
    more: Vec<OnceLock<Vec<u8>>>,
    size: u32,
}

impl CompositionRenderer {
    /// For square pictures of `size` pixels, a multiple of 128.
    pub fn new(size: u32) -> Self {
        let backdrops = Renderer::new(size);
        let many = Ground::all().count() * Time::COUNT * Weather::COUNT * usize::from(LAYOUTS);
        Self {
            size: backdrops.size(),
            more: (0..many).map(|_| OnceLock::new()).collect(),
            backdrops,
        }
    }

    /// Width and height of a picture in pixels.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Width and height of a reference in pixels.
    pub fn reference_size(&self) -> u32 {
        self.size / CELLS as u32 * CANVAS_CELLS as u32
    }

    /// The composition as RGB rows of `size * size * 3` bytes.
    pub fn draw(&self, composition: &Composition) -> Vec<u8> {
        let side = self.size as i32;
        let mut rgb = vec![0; (self.size * self.size * 3) as usize];
        self.draw_backdrop(&composition.setting, &mut rgb);
        let time = composition.setting.time;
        for figure in &composition.figures {
            let (x, y, _, _) = figure.unit_box();
            let (x, y) = (self.pixels(x), self.pixels(y));
            if !figure.drawing.get().sky {
                self.shadow(figure).blend(x, y, &mut rgb, side);
            }
            self.sprite(figure, time).blend(x, y, &mut rgb, side);
        }
        let scene = composition.setting.scene();
        self.backdrops.draw_fall(&scene, &mut rgb);
        rgb
    }

    fn draw_backdrop(&self, setting: &SceneSetting, rgb: &mut [u8]) {
        if let Ground::Story(_) = setting.ground {
            return self.backdrops.draw_backdrop(&setting.scene(), rgb);
        }
        let place = setting.ground.index() * Time::COUNT + setting.time.index();
        let index = (place * Weather::COUNT + setting.weather.index()) * usize::from(LAYOUTS)
            + usize::from(setting.layout % LAYOUTS);
        let drawn = self.more[index].get_or_init(|| {
            let svg = backdrop::svg_of_layers(setting);
            let rgba = render::rasterise(&svg, self.size, self.size);
            rgba.chunks_exact(4)
                .flat_map(|p| [p[0], p[1], p[2]])
                .collect()
        });
        rgb.copy_from_slice(drawn);
    }

    /// The figure by daylight, alone on [`PAPER`], in its canvas: RGB rows of
    /// `reference_size * reference_size * 3` bytes.
    pub fn reference(&self, figure: &Figure) -> Vec<u8> {
        let side = self.reference_size() as i32;
        let mut rgb = PAPER.repeat((side * side) as usize);
        let (x, y) = figure.in_canvas();
        self.sprite(figure, Time::Day)
            .blend(self.pixels(x), self.pixels(y), &mut rgb, side);
        rgb
    }

    fn pixels(&self, units: i32) -> i32 {
        // Beyond the left or upper edge, too.
        to_pixels(units + UNITS, self.size) as i32 - self.size as i32
    }

    fn sprite(&self, figure: &Figure, time: Time) -> Sprite {
        let size = (self.pixels(figure.width), self.pixels(figure.height));
        let mut map = rasterise(figure.drawing.get(), size, figure.mirrored);
        let turn = turned(figure.hue);
        let light = backdrop::subject_light(time);
        for pixel in map.data_mut().chunks_exact_mut(4) {
            let alpha = f32::from(pixel[3]) / 255.0;
            if alpha == 0.0 {
                continue;
            }
            let colour = [0, 1, 2].map(|i| f32::from(pixel[i]) / alpha);
            let mixed = turn.map(|row| {
                let v: f32 = row.iter().zip(colour).map(|(m, c)| m * c).sum();
                v.clamp(0.0, 255.0)
            });
            let (r, g, b) = light((mixed[0], mixed[1], mixed[2]));
            for (out, value) in pixel.iter_mut().zip([r, g, b]) {
                *out = (value.clamp(0.0, 255.0) * alpha).round() as u8;
            }
        }
        Sprite::new(&map, 0, 0)
    }

    fn shadow(&self, figure: &Figure) -> Sprite {
        let (width, height) = (figure.width + 4, 6);
        let (w, h) = (self.pixels(width), self.pixels(height));
        let mut map = pixmap(w, h);
        let mut ink = tiny_skia::Paint::default();
        ink.set_color_rgba8(0x10, 0x14, 0x2e, 56);
        ink.anti_alias = true;
        let (w, h) = (w as f32, h as f32);
        let oval = tiny_skia::Rect::from_xywh(w * 0.06, h * 0.07, w * 0.88, h * 0.86)
            .and_then(tiny_skia::PathBuilder::from_oval);
        if let Some(oval) = oval {
            let rule = tiny_skia::FillRule::Winding;
            map.fill_path(&oval, &ink, rule, Transform::identity(), None);
        }
        let down = self.pixels(figure.height) - self.pixels(height / 2);
        Sprite::new(&map, -self.pixels(2), down)
    }
}

fn pixmap(width: i32, height: i32) -> Pixmap {
    Pixmap::new(width.max(1) as u32, height.max(1) as u32).expect("the size is not zero")
}

/// The drawing, cut to what is drawn on and stretched to (width, height) pixels.
fn rasterise(drawing: &Drawing, (width, height): (i32, i32), mirrored: bool) -> Pixmap {
    let mut map = pixmap(width, height);
    let [x, y, w, h] = drawing.bounds();
    let (sx, sy) = (width as f32 / w, height as f32 / h);
    let fit = Transform::from_translate(-x, -y).post_scale(sx, sy);
    let fit = match mirrored {
        true => fit.post_scale(-1.0, 1.0).post_translate(width as f32, 0.0),
        false => fit,
    };
    resvg::render(drawing.tree(), fit, &mut map.as_mut());
    map
}

/// The matrix that turns a colour's hue: a rotation of RGB about grey.
fn turned(hue: u8) -> [[f32; 3]; 3] {
    let angle = f32::from(hue) / f32::from(HUES) * std::f32::consts::TAU;
    let (sin, cos) = angle.sin_cos();
    let (same, apart) = ((1.0 - cos) / 3.0, sin / 3f32.sqrt());
    let (a, b, c) = (cos + same, same - apart, same + apart);
    [[a, b, c], [c, a, b], [b, c, a]]
}

const _: () = assert!(MIDDLE * 2 * CELLS == CANVAS_CELLS * UNITS);
