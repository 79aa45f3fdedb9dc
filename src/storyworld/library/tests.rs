use super::*;
use crate::storyworld::Split;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn compositions(seed: u64, n: usize, options: &CompositionOptions) -> Vec<Composition> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| Composition::random(&mut rng, options))
        .collect()
}

fn any(split: Split) -> CompositionOptions {
    CompositionOptions {
        figures: 1..=MAX_FIGURES,
        split,
        recoloured: 0.4,
    }
}

#[test]
fn every_drawing_is_whole_and_looks_like_something() {
    let renderer = CompositionRenderer::new(128);
    let mut seen = std::collections::HashSet::new();
    for id in DrawingId::all() {
        let drawing = id.get();
        assert_eq!(DrawingId::by_name(drawing.name), Some(id));
        assert!((0.5..1.3).contains(&drawing.scale), "{}", drawing.name);
        let figure = Figure::new(CompositionSubject::Drawing(id), 1, 1.0, (4, 7));
        let picture = renderer.reference(&figure);
        let inked = picture.chunks_exact(3).filter(|p| **p != PAPER).count();
        assert!(inked > 60, "{} is hardly there: {inked}", drawing.name);
        assert!(seen.insert(picture), "{} is drawn twice", drawing.name);
    }
    assert!(seen.len() >= 800);
}

#[test]
fn a_fifth_is_held_out_and_never_in_a_training_scene() {
    let held_out = DrawingId::all().filter(|id| id.held_out()).count();
    assert!((150..=200).contains(&held_out), "{held_out}");
    let twin = |a: &str, b: &str| {
        let held = |name| DrawingId::by_name(name).unwrap().held_out();
        assert_eq!(held(a), held(b), "{a} and {b} look alike");
    };
    twin("man-farmer", "woman-farmer");
    twin("cat", "cat-face");
    for (split, wanted) in [(Split::Training, false), (Split::HeldOut, true)] {
        for made in compositions(1, 500, &any(split)) {
            let held_out = |figure: &Figure| match &figure.subject {
                CompositionSubject::Drawing(drawing) => drawing.held_out(),
                CompositionSubject::Picture { .. } => !wanted,
            };
            assert!(made.figures.iter().all(|f| held_out(f) == wanted));
        }
    }
}

/// What a reference shows stands in the picture to the pixel, but for light, shadow and weather.
#[test]
fn a_figure_looks_in_its_reference_as_in_the_picture() {
    let renderer = CompositionRenderer::new(256);
    let cell = 256 / CELLS as usize;
    let mut compared = 0;
    for made in compositions(2, 40, &any(Split::Any)) {
        let setting = &made.setting;
        if made.figures.len() > 1
            || setting.time != crate::storyworld::Time::Day
            || setting.weather != crate::storyworld::Weather::Clear
        {
            continue;
        }
        let picture = renderer.draw(&made);
        let figure = &made.figures[0];
        let reference = renderer.reference(figure);
        let side = renderer.reference_size() as usize;
        let (mut same, mut inked) = (0, 0);
        for (i, ink) in reference.chunks_exact(3).enumerate() {
            let x = (i % side) as i32 + figure.x * cell as i32;
            let y = (i / side) as i32 + figure.y * cell as i32;
            if ink == PAPER || !(0..256).contains(&x) || !(0..256).contains(&y) {
                continue;
            }
            inked += 1;
            let at = (y as usize * 256 + x as usize) * 3;
            same += usize::from(picture[at..at + 3] == *ink);
        }
        // Its edges are mixed with what is behind.
        assert!(same * 100 > inked * 75, "{same} of {inked}: {figure:?}");
        compared += 1;
    }
    assert!(compared > 2);
}

#[test]
fn figures_keep_to_their_canvas_and_to_the_picture() {
    for made in compositions(3, 2000, &any(Split::Any)) {
        for (figure, b) in made.figures.iter().zip(made.boxes(256)) {
            let (x, y) = figure.in_canvas();
            assert!(x >= 1 && x + figure.width <= 63, "{figure:?}");
            assert!(y >= 1 && y + figure.height <= 63, "{figure:?}");
            let whole = (figure.width * 2) as u32;
            assert!(b.width + 2 >= whole, "{figure:?} is cut off: {b:?}");
        }
        let corners: Vec<i32> = made.figures.iter().map(|f| f.x).collect();
        assert!(corners.is_sorted(), "{corners:?}");
    }
}

#[test]
fn there_are_forty_places_and_each_looks_like_no_other() {
    use crate::storyworld::{LAYOUTS, Time, Weather, words};
    let renderer = CompositionRenderer::new(64);
    let known: std::collections::HashSet<String> = vocabulary().into_iter().collect();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut seen = std::collections::HashSet::new();
    let mut names = std::collections::HashSet::new();
    for location in Location::all() {
        assert!(names.insert(location.name()), "{}", location.name());
        for (&time, layout) in Time::ALL
            .iter()
            .flat_map(|t| (0..LAYOUTS).map(move |l| (t, l)))
        {
            let setting = SceneSetting {
                location,
                time,
                weather: Weather::Clear,
                layout,
                fall: 0,
            };
            let caption = setting.caption(&mut rng);
            assert!(
                words(&caption).all(|word| known.contains(&word)),
                "{caption}"
            );
            let figures = Vec::new();
            let picture = renderer.draw(&Composition { setting, figures });
            assert!(seen.insert(picture), "{setting:?}");
        }
    }
    assert!(names.len() >= 40, "{}", names.len());
    let places = include_str!("../../../assets/library/places.txt");
    for layer in places
        .lines()
        .filter(|l| !l.starts_with('#'))
        .flat_map(|l| l.split(';'))
    {
        let mut parts = layer
            .rsplit('|')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        if let (Some("prop" | "row" | "scatter"), Some(name)) = (parts.next(), parts.next()) {
            assert!(DrawingId::by_name(name).is_some(), "{name}");
        }
    }
}

#[test]
fn nouns_find_the_drawing_that_fits() {
    let drawn = |text: &str| -> Vec<(String, &str, NounFit)> {
        let found = drawn_nouns(text).into_iter();
        found
            .map(|n| (n.noun, n.drawing.get().name, n.fit))
            .collect()
    };
    for (text, noun, drawing) in [
        ("my grandmother sang", "grandmother", "old-woman"),
        ("Two WOLVES howled", "wolves", "wolf"),
        ("the fire engine came", "fire engine", "fire-engine"),
        ("a dog and a key", "key", "key"),
        ("The wizard's tower", "wizard", "man-mage"),
    ] {
        let all = drawn(text);
        assert!(
            all.contains(&(noun.into(), drawing, NounFit::Same)),
            "{text}: {all:?}"
        );
    }
    let nouns = |text: &str| -> Vec<String> {
        drawn_nouns(text)
            .into_iter()
            .map(|found| found.noun)
            .collect()
    };
    assert_eq!(
        nouns("The little dragon saw a mirror"),
        ["dragon", "mirror"]
    );
    assert_eq!(nouns("He took a rusty saw"), ["saw"]);
    assert_eq!(nouns("A chick tries it, so that she can see"), ["chick"]);
    assert_eq!(nouns("The brave little one bows before a can"), ["can"]);
    assert_eq!(nouns("They found that one bow"), ["bow"]);
    assert_eq!(
        nouns("Noah the man in an electric wheelchair"),
        ["man in an electric wheelchair"]
    );
    assert_eq!(
        nouns("The pirate captain sat in the apple tree"),
        ["pirate", "apple tree"]
    );
    let (_, name, fit) = drawn("a spaniel")[0].clone();
    assert_eq!((name, fit), ("dog", NounFit::Kind));
    let (_, name, fit) = drawn("a lighthouse")[0].clone();
    assert_eq!((name, fit), ("tokyo-tower", NounFit::Near));
    assert_eq!(drawn("justice and mercy prevailed"), []);
}

#[test]
fn stories_say_what_they_show() {
    assert!(library_plot_count() >= 20);
    let mut plots = std::collections::HashSet::new();
    let mut later = (0, 0);
    for seed in 0..400 {
        let tale = LibraryTale::random(seed, Split::Training);
        plots.insert(tale.title);
        assert!((3..=8).contains(&tale.panels.len()), "{}", tale.title);
        for (i, panel) in tale.panels.iter().enumerate() {
            let text = &panel.text;
            assert!(!text.contains(['{', '}']), "{}: {text}", tale.title);
            let ended = text.trim_end_matches('"').ends_with(['.', '!', '?']);
            assert!(ended, "{}: {text}", tale.title);
            assert_eq!(panel.shown.len(), panel.composition.figures.len());
            assert!(!panel.shown.is_empty() && panel.known <= tale.members.len());
            for (number, figure) in panel.shown.iter().zip(&panel.composition.figures) {
                assert!(*number < panel.known);
                let CompositionSubject::Drawing(drawing) = figure.subject else {
                    panic!("{}", tale.title);
                };
                assert_eq!(tale.members[*number].drawing, drawing);
                assert!(!drawing.held_out(), "{}", tale.title);
            }
            if i > 0 {
                later.0 += usize::from(tale.refers(panel));
                later.1 += 1;
            }
        }
        let again = LibraryTale::random(seed, Split::Training);
        assert!(
            again
                .panels
                .iter()
                .map(|p| &p.text)
                .eq(tale.panels.iter().map(|p| &p.text))
        );
    }
    assert!(2 * later.0 >= later.1, "{later:?}");
    assert!(2 * plots.len() > library_plot_count(), "{}", plots.len());
    for seed in 0..20 {
        let tale = LibraryTale::random(seed, Split::HeldOut);
        assert!(tale.members.iter().any(|member| member.drawing.held_out()));
    }
}

/// What a text names beside its cast would be drawn, too, and stand in the way.
#[test]
fn sentences_of_the_plots_name_nobody_who_does_not_play() {
    let mut strangers = std::collections::BTreeMap::<String, usize>::new();
    let mut all = 0;
    for seed in 0..600 {
        let tale = LibraryTale::random(seed, Split::Training);
        for panel in &tale.panels {
            all += 1;
            let places = SettingMentions::of(&panel.text).places;
            for found in drawn_nouns(&panel.text) {
                let plays = tale.members.iter().any(|member| {
                    let by_noun = drawn_nouns(member.noun);
                    member.drawing == found.drawing
                        || member.noun.contains(&found.noun)
                        || by_noun.iter().any(|named| named.drawing == found.drawing)
                });
                // They speak of those who play.
                let plays =
                    plays || ["friend", "friends", "someone"].contains(&found.noun.as_str());
                let place = places
                    .iter()
                    .any(|place| found.at.start < place.end && place.start < found.at.end);
                if !plays && !place {
                    *strangers.entry(found.noun).or_default() += 1;
                }
            }
        }
    }
    let count: usize = strangers.values().sum();
    assert!(40 * count <= all, "{count} of {all}: {strangers:?}");
}

/// What a drawing shows differs from the paper, or the UNet could not tell it from nothing.
#[test]
fn hardly_anything_of_a_drawing_has_the_colour_of_the_paper() {
    let (mut like, mut all) = (0, 0);
    for id in DrawingId::all() {
        let picture = drawing(id, 48);
        let inked = picture.pixels().filter(|pixel| pixel[3] == u8::MAX);
        let apart = inked.map(|pixel| {
            let squares = PAPER.iter().zip(pixel.0);
            let squares = squares.map(|(paper, ink)| i32::from(*paper) - i32::from(ink));
            squares.map(|off| off * off).sum::<i32>()
        });
        let near: Vec<bool> = apart.map(|squares| squares < 50 * 50).collect();
        let of_paper = near.iter().filter(|near| **near).count();
        assert!(10 * of_paper < near.len(), "{}", id.get().name);
        (like, all) = (like + of_paper, all + near.len());
    }
    assert!(all > 500_000 && 500 * like < all, "{like} of {all}");
}
