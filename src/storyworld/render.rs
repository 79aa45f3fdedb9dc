//! Scenes to pixels. Backgrounds, subjects and falling rain are drawn once per size as vector
//! pictures and kept; a scene is then a copy and a few integer blends.

use std::fmt::Write;
use std::sync::OnceLock;

use image::RgbaImage;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use resvg::{tiny_skia, usvg};

use super::backdrop;
use super::cast::{SUBJECTS, SubjectId};
use super::place::{Place, Time, Weather};
use super::scene::{FALLS, LAYOUTS, MAX_SUBJECTS, SCALES, Scene, UNITS, to_pixels, unit_size};

/// Draws scenes at one size; shared by reference between threads.
pub struct Renderer {
    size: u32,
    backdrops: Vec<OnceLock<Vec<u8>>>,
    sprites: Vec<OnceLock<Sprite>>,
    falls: Vec<OnceLock<Sprite>>,
}

/// Premultiplied RGBA with the offset of its top left corner from the subject's box.
pub(super) struct Sprite {
    dx: i32,
    dy: i32,
    width: i32,
    height: i32,
    pixels: Vec<u8>,
}

fn cells<T>(count: usize) -> Vec<OnceLock<T>> {
    (0..count).map(|_| OnceLock::new()).collect()
}

impl Renderer {
    /// A renderer for square pictures of `size` pixels, 64 to 512 (other sizes are clamped).
    /// Sizes that are multiples of 128 are aligned with one another to the pixel.
    pub fn new(size: u32) -> Self {
        let places = Place::COUNT * Time::COUNT * Weather::COUNT * usize::from(LAYOUTS);
        Self {
            size: size.clamp(64, 512),
            backdrops: cells(places),
            sprites: cells(SUBJECTS * MAX_SUBJECTS * SCALES.len() * Time::COUNT),
            falls: cells(2 * usize::from(FALLS)),
        }
    }

    /// Width and height of the pictures in pixels.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// A subject alone by day, in the middle of a white picture of `size` pixels a side.
    pub fn portrait(subject: SubjectId, size: u32) -> RgbaImage {
        const SIDE: f32 = 100.0;
        let room = SIDE * 0.8;
        let aspect = subject.aspect();
        let (w, h) = match aspect > 1.0 {
            true => (room, room / aspect),
            false => (room * aspect, room),
        };
        let (x, y) = ((SIDE - w) / 2.0, (SIDE - h) / 2.0);
        let art = backdrop::embed(subject.get().svg, x, y, w, h);
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {SIDE} {SIDE}\"><rect width=\"{SIDE}\" height=\"{SIDE}\" fill=\"#ffffff\"/>{art}</svg>"
        );
        let size = size.max(1);
        // White is everywhere behind it, so nothing is left of what it is multiplied by.
        RgbaImage::from_raw(size, size, rasterise(&svg, size, size)).unwrap_or_default()
    }

    /// Draws `scene` into `rgb`, rows of `size * size * 3` bytes.
    ///
    /// # Panics
    /// If `rgb` has another length.
    pub fn draw(&self, scene: &Scene, rgb: &mut [u8]) {
        let side = self.size as usize;
        assert_eq!(
            rgb.len(),
            side * side * 3,
            "the buffer holds size * size * 3 bytes"
        );
        self.draw_backdrop(scene, rgb);
        for (i, placed) in scene.subjects.iter().enumerate() {
            let (x, y, _, _) = scene.unit_box(i);
            let sprite = self.sprite(
                placed.subject,
                scene.subjects.len(),
                placed.scale,
                scene.time,
            );
            let at = |u| to_pixels(u, self.size) as i32;
            sprite.blend(at(x), at(y), rgb, self.size as i32);
        }
        self.draw_fall(scene, rgb);
    }

    /// The place alone, at its time and in its weather, over the whole of `rgb`.
    pub(super) fn draw_backdrop(&self, scene: &Scene, rgb: &mut [u8]) {
        rgb.copy_from_slice(self.backdrop(scene));
    }

    /// Rain or snow that falls before everything else.
    pub(super) fn draw_fall(&self, scene: &Scene, rgb: &mut [u8]) {
        let fall = usize::from(scene.fall % FALLS);
        let falling = match scene.weather {
            Weather::Clear => return,
            Weather::Rain => fall,
            Weather::Snow => fall + usize::from(FALLS),
        };
        self.falls[falling]
            .get_or_init(|| {
                let svg = falling_svg(scene.weather, fall as u64);
                Sprite {
                    dx: 0,
                    dy: 0,
                    width: self.size as i32,
                    height: self.size as i32,
                    pixels: rasterise(&svg, self.size, self.size),
                }
            })
            .blend(0, 0, rgb, self.size as i32);
    }

    fn backdrop(&self, scene: &Scene) -> &[u8] {
        let layout = scene.layout % LAYOUTS;
        let index = ((scene.place.index() * Time::COUNT + scene.time.index()) * Weather::COUNT
            + scene.weather.index())
            * usize::from(LAYOUTS)
            + usize::from(layout);
        self.backdrops[index].get_or_init(|| {
            let svg = backdrop::svg(scene.place, scene.time, scene.weather, layout);
            rasterise(&svg, self.size, self.size)
                .chunks_exact(4)
                .flat_map(|p| [p[0], p[1], p[2]])
                .collect()
        })
    }

    fn sprite(&self, subject: SubjectId, count: usize, scale: u8, time: Time) -> &Sprite {
        let scale = usize::from(scale) % SCALES.len();
        let count = count.clamp(1, MAX_SUBJECTS);
        let index = ((subject.index() * MAX_SUBJECTS + count - 1) * SCALES.len() + scale)
            * Time::COUNT
            + time.index();
        self.sprites[index].get_or_init(|| self.draw_sprite(subject, count, scale as u8, time))
    }

    fn draw_sprite(&self, subject: SubjectId, count: usize, scale: u8, time: Time) -> Sprite {
        let kind = subject.get();
        let (w, h) = unit_size(subject, count, scale);
        let pad = if kind.glows { h * 2 / 3 } else { 4 };
        let (full_w, full_h) = (w + 2 * pad, h + 2 * pad);
        let mut svg =
            format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {full_w} {full_h}\">");
        let (cx, cy) = (full_w as f32 / 2.0, full_h as f32 / 2.0);
        if kind.glows {
            let strength = if time == Time::Day { 0.45 } else { 0.8 };
            let _ = write!(
                svg,
                "<radialGradient id=\"glow\"><stop offset=\"0\" stop-color=\"#ffe27a\" stop-opacity=\"{strength}\"/><stop offset=\"0.45\" stop-color=\"#ffc14d\" stop-opacity=\"{}\"/><stop offset=\"1\" stop-color=\"#ffb347\" stop-opacity=\"0\"/></radialGradient><ellipse cx=\"{cx}\" cy=\"{cy}\" rx=\"{cx}\" ry=\"{cy}\" fill=\"url(#glow)\"/>",
                strength * 0.45
            );
        }
        if !kind.sky {
            let foot = (pad + h) as f32 - 0.4;
            let _ = write!(
                svg,
                "<ellipse cx=\"{cx}\" cy=\"{foot}\" rx=\"{:.2}\" ry=\"2.6\" fill=\"#10142e\" fill-opacity=\"0.22\"/>",
                w as f32 * 0.46
            );
        }
        // What shines has its own light.
        let light = if kind.glows { Time::Day } else { time };
        let lit = backdrop::recolour(kind.svg, backdrop::subject_light(light));
        svg.push_str(&backdrop::embed(
            &lit, pad as f32, pad as f32, w as f32, h as f32,
        ));
        svg.push_str("</svg>");
        let px = |u: i32| to_pixels(u, self.size);
        let (width, height) = (px(full_w), px(full_h));
        let pixels = rasterise(&svg, width, height);
        Sprite {
            dx: -(px(pad) as i32),
            dy: -(px(pad) as i32),
            width: width as i32,
            height: height as i32,
            pixels,
        }
    }
}

impl Sprite {
    /// `map` with its corner at (dx, dy) of the subject's box.
    pub(super) fn new(map: &tiny_skia::Pixmap, dx: i32, dy: i32) -> Self {
        Self {
            dx,
            dy,
            width: map.width() as i32,
            height: map.height() as i32,
            pixels: map.data().to_vec(),
        }
    }

    /// Blends onto an RGB picture with the subject's box at (x, y), clipped at the edges.
    pub(super) fn blend(&self, x: i32, y: i32, rgb: &mut [u8], side: i32) {
        let (x, y) = (x + self.dx, y + self.dy);
        let (from, to) = ((-x).max(0), self.width.min(side - x));
        if from >= to {
            return;
        }
        for row in (-y).max(0)..self.height.min(side - y) {
            let source = ((row * self.width + from) * 4) as usize;
            let target = (((y + row) * side + x + from) * 3) as usize;
            let count = (to - from) as usize;
            let source = self.pixels[source..source + count * 4].chunks_exact(4);
            let target = rgb[target..target + count * 3].chunks_exact_mut(3);
            for (s, t) in source.zip(target) {
                match s[3] {
                    0 => {}
                    255 => t.copy_from_slice(&s[..3]),
                    alpha => {
                        let keep = 255 - u32::from(alpha);
                        for (t, s) in t.iter_mut().zip(s) {
                            *t = s.saturating_add(((u32::from(*t) * keep + 127) / 255) as u8);
                        }
                    }
                }
            }
        }
    }
}

/// Premultiplied RGBA of one of our own SVGs, stretched to `width` x `height` pixels.
pub(super) fn rasterise(svg: &str, width: u32, height: u32) -> Vec<u8> {
    // The SVGs are ours and a test draws every one of them, so they parse and have a size.
    let tree =
        usvg::Tree::from_str(svg, &usvg::Options::default()).expect("built-in SVG is well formed");
    let mut pixmap = tiny_skia::Pixmap::new(width.max(1), height.max(1)).expect("size is not zero");
    let size = tree.size();
    let scale = tiny_skia::Transform::from_scale(
        width as f32 / size.width(),
        height as f32 / size.height(),
    );
    resvg::render(&tree, scale, &mut pixmap.as_mut());
    pixmap.take()
}

fn falling_svg(weather: Weather, variant: u64) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(0xfa11 + variant);
    let mut svg =
        format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {UNITS} {UNITS}\">");
    let cells = if weather == Weather::Rain { 6 } else { 7 };
    let step = UNITS as f32 / cells as f32;
    // One drop or flake in each cell of a grid: evenly spread, never clumped.
    for i in 0..cells * cells {
        let x = (i % cells) as f32 * step + rng.random_range(0.0..step);
        let y = (i / cells) as f32 * step + rng.random_range(0.0..step);
        if weather == Weather::Rain {
            let length = rng.random_range(7.0..11.0);
            let _ = write!(
                svg,
                "<path d=\"M{x:.2} {y:.2}l{:.2} {length:.2}\" stroke=\"#d9ecff\" stroke-opacity=\"0.7\" stroke-width=\"1.4\" stroke-linecap=\"round\"/>",
                -0.32 * length
            );
        } else {
            let r = rng.random_range(1.1..2.1);
            let _ = write!(
                svg,
                "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{r:.2}\" fill=\"#ffffff\" fill-opacity=\"0.92\"/>"
            );
        }
    }
    svg + "</svg>"
}
