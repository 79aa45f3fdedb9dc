//! Places that are written down as layers instead of drawn by a function of their own.

use std::sync::Arc;

use rand::Rng;

use super::{BackdropPainter, hex, rgb};
use crate::storyworld::library::{DrawingId, SceneSetting};

/// One layer of a place: what it is, and its numbers, colours and names.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    kind: &'static str,
    arguments: Arc<[&'static str]>,
}

/// The layers of a line such as `sky 72; ground 80 #a6cf62 .85`.
pub(crate) fn layers(line: &'static str) -> Vec<Layer> {
    let layer = |part: &'static str| {
        let mut words = part.split_whitespace();
        Layer {
            kind: words.next().unwrap_or_default(),
            arguments: words.collect(),
        }
    };
    line.split(';').map(layer).collect()
}

impl Layer {
    pub(crate) fn is_sky(&self) -> bool {
        self.kind == "sky"
    }

    /// Argument `i` as a number; 0 where there is none.
    fn number(&self, i: usize) -> f32 {
        let word = self.arguments.get(i);
        word.and_then(|word| word.parse().ok()).unwrap_or(0.0)
    }

    fn word(&self, i: usize) -> &'static str {
        self.arguments.get(i).copied().unwrap_or_default()
    }

    fn colour(&self, i: usize) -> u32 {
        u32::from_str_radix(self.word(i).trim_start_matches('#'), 16).unwrap_or(0)
    }
}

/// The SVG, 128 units square, of a place made of layers.
pub(crate) fn svg(setting: &SceneSetting) -> String {
    let seed = 0x60de + 131 * setting.location.index() as u64 + 1009 * u64::from(setting.layout);
    let mut b = BackdropPainter::new(seed, setting.time, setting.weather, setting.layout);
    for layer in setting.location.more().map_or(&[][..], |p| &p.layers) {
        b.layer(layer);
    }
    b.finish()
}

/// What stands in a place: art cut to what is drawn.
fn art(name: &str) -> String {
    DrawingId::by_name(name).map_or_else(String::new, |id| id.get().cut_out())
}

impl BackdropPainter {
    fn layer(&mut self, l: &Layer) {
        let n = |i| l.number(i);
        match l.kind {
            "sky" => self.sky(n(0)),
            "hills" => self.hills(n(0), l.colour(1), n(2)),
            "ground" => self.ground(n(0), l.colour(1), n(2)),
            "gradient" => {
                let dark = |c| u32::from_str_radix(&hex(self.light(rgb(c)))[1..], 16).unwrap_or(0);
                let (top, bottom) = (dark(l.colour(0)), dark(l.colour(1)));
                self.gradient(0.0, 0.0, 128.0, 128.0, top, bottom);
            }
            "band" => {
                let fill = self.land(l.colour(2), n(3));
                self.rect(0.0, n(0), 128.0, n(1), &fill);
            }
            "wall" => {
                let fill = self.plain(l.colour(0));
                self.rect(0.0, 0.0, 128.0, n(1), &fill);
            }
            "rect" => {
                let fill = self.plain(l.colour(4));
                self.rect(self.side(n(0), n(2)), n(1), n(2), n(3), &fill);
            }
            "oval" => {
                let fill = self.plain(l.colour(4));
                self.oval(self.side(n(0), 0.0), n(1), n(2), n(3), &fill);
            }
            "path" => {
                let fill = self.plain(l.colour(1));
                self.path(&l.word(0).replace('_', " "), &fill);
            }
            "peak" => {
                let (x, h) = (self.side(n(0), 0.0) + self.jitter(-6.0, 6.0), n(1));
                let (fill, snow) = (self.plain(l.colour(2)), self.plain(0xf6faff));
                let half = h * 0.9;
                let cone = |top: f32, half: f32, foot: f32| {
                    format!("M{x:.1} {top:.1}l{half:.1} {foot:.1}h{:.1}z", -2.0 * half)
                };
                self.path(&cone(74.0 - h, half, h), &fill);
                self.path(&cone(74.0 - h, half * 0.3, h * 0.3), &snow);
            }
            "stripes" => self.stripes(l.colour(0), n(1), n(2), 0.0, n(3)),
            "stripes_low" => self.stripes(l.colour(0), n(1), n(2), n(3), 128.0),
            "tiles" => {
                let fill = self.land(l.colour(0), 0.0);
                let (step, top, bottom) = (n(1), n(2), n(3));
                let mut y = top;
                while y < bottom {
                    self.rect(0.0, y, 128.0, 0.7, &fill);
                    y += step;
                }
                let mut x = step / 2.0;
                while x < 128.0 {
                    self.rect(x, top, 0.7, bottom - top, &fill);
                    x += step;
                }
            }
            "floor" => self.floor(n(0)),
            "window" => {
                let x = self.side(n(0), n(2));
                self.window(x, n(1), n(2), n(3));
            }
            "stars_in" => {
                for _ in 0..n(0) as usize {
                    let x = self.jitter(n(1) + 14.0, n(1) + n(3) + 6.0);
                    let y = self.jitter(n(2) + 4.0, n(2) + n(4) + 18.0);
                    let r = self.jitter(0.35, 0.8);
                    self.oval(x, y, r, r, "#fff7d6");
                }
            }
            "dots" => {
                for _ in 0..220 {
                    let (x, y) = (
                        self.jitter(n(0), n(0) + n(2)),
                        self.jitter(n(1), n(1) + n(3)),
                    );
                    let colours = [0xd95f5f, 0xf2d16b, 0x6f9fd8, 0xf3efe6, 0x5aa76b];
                    let pick = colours[self.rng.random_range(0..colours.len())];
                    let fill = self.plain(pick);
                    self.oval(x, y, 1.1, 1.3, &fill);
                }
            }
            "books" => {
                let mut x = n(0);
                while x < n(2) {
                    let (w, h) = (self.jitter(2.2, 4.4), self.jitter(15.0, 21.0));
                    let colours = [0xb5413d, 0x2f6f8f, 0x3f7d4f, 0xd9a441, 0x6b4a8a, 0xc9b79a];
                    let pick = colours[self.rng.random_range(0..colours.len())];
                    let fill = self.plain(pick);
                    self.rect(x, n(1) - h, w, h, &fill);
                    x += w + 0.4;
                }
            }
            "prop" => {
                let x = self.side(n(1), 0.0) + self.jitter(-2.5, 2.5);
                self.prop(&art(l.word(0)), x, n(2), n(3), n(4));
            }
            "row" => {
                let (art, count) = (art(l.word(0)), n(1));
                for i in 0..count as usize {
                    let x = 128.0 / count * (i as f32 + 0.5) + self.jitter(-n(4), n(4) + 0.01);
                    let h = n(3) * self.jitter(0.88, 1.12);
                    self.prop(&art, x, n(2), h, n(5));
                }
            }
            _ => {
                let (art, count) = (art(l.word(0)), n(1) as usize);
                for _ in 0..count {
                    let (x, y) = (self.jitter(4.0, 124.0), self.jitter(n(2), n(3)));
                    let h = self.jitter(n(4), n(5));
                    self.prop(&art, x, y, h, n(6));
                }
            }
        }
    }

    fn stripes(&mut self, colour: u32, step: f32, width: f32, top: f32, bottom: f32) {
        let fill = self.plain(colour);
        let mut x = 2.0;
        while x < 128.0 {
            self.rect(x, top, width, bottom - top, &fill);
            x += step;
        }
    }
}
