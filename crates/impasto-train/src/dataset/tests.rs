//! Tests of properties that every drawing has.

use super::*;
use impasto::Rgb;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};

const SEEDS: std::ops::Range<u64> = 0..200;

fn drawings(size: u32) -> impl Iterator<Item = (u64, Drawing)> {
    let dataset = Dataset::new(size).unwrap();
    SEEDS.map(move |seed| (seed, dataset.draw(seed).unwrap()))
}

/// Returns the pixels of a class whose neighbors up to two pixels away have the same class.
fn interior(drawing: &Drawing, class: Class) -> Vec<Rgb> {
    let (h, w) = drawing.mask.dim();
    let inside = |y: usize, x: usize| {
        let window = |at: usize, end: usize| at.saturating_sub(2)..(at + 3).min(end);
        window(y, h).all(|y| window(x, w).all(|x| drawing.mask[[y, x]] == class.index()))
    };
    let pixels = (0..h).flat_map(|y| (0..w).map(move |x| (y, x))).filter(|&(y, x)| inside(y, x));
    pixels.map(|(y, x)| drawing.picture.pixel(x as u32, y as u32).unwrap()).collect()
}

fn median(pixels: &[Rgb]) -> Rgb {
    let channel = |channel: fn(&Rgb) -> u8| {
        let mut values: Vec<u8> = pixels.iter().map(channel).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    Rgb(channel(|color| color.0), channel(|color| color.1), channel(|color| color.2))
}

fn count(drawing: &Drawing, class: Class) -> usize {
    drawing.mask.iter().filter(|index| **index == class.index()).count()
}

/// Returns the width of a class in pixels, from its leftmost to its rightmost pixel.
fn width(drawing: &Drawing, class: Class) -> usize {
    let columns = drawing.mask.indexed_iter().filter(|(_, index)| **index == class.index()).map(|((_, x), _)| x);
    let (least, most) = columns.fold((usize::MAX, 0), |(least, most), x| (least.min(x), most.max(x)));
    most + 1 - least
}

#[test]
fn a_seed_gives_the_same_drawing() {
    let dataset = Dataset::new(256).unwrap();
    for seed in 0..8 {
        let (first, second) = (dataset.draw(seed).unwrap(), dataset.draw(seed).unwrap());
        assert_eq!((first.picture, first.mask, first.record), (second.picture, second.mask, second.record));
    }
}

#[test]
fn drawing_in_colors_of_another_has_own_layout() {
    let dataset = Dataset::new(128).unwrap();
    for seed in 0..24 {
        let first = dataset.draw(seed).unwrap();
        let second = dataset.draw_in_colors_of(&first.record, 1000 + seed).unwrap();
        let colors = |drawing: &Drawing| {
            drawing.record.colors().map(|(class, color)| (class, color.rgb)).collect::<HashMap<_, _>>()
        };
        assert_eq!(colors(&first), colors(&second), "seed {seed}");
        let moved = first.mask.iter().zip(&second.mask).filter(|(a, b)| a != b).count();
        assert!(moved > 400, "seed {seed}: {moved} of 16384 pixels are of another class");
    }
}

#[test]
fn parts_have_the_recorded_color() {
    let mut wrong = Vec::new();
    let mut seen = HashSet::new();
    for (seed, drawing) in drawings(256).step_by(2) {
        for (class, color) in drawing.record.colors() {
            let pixels = interior(&drawing, class);
            if pixels.len() < 60 {
                continue;
            }
            seen.insert(class);
            let difference = median(&pixels).delta_e(color.rgb);
            if difference > 1.5 {
                wrong.push(format!("seed {seed}: {class} is off by {difference:.1}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(seen.len(), 19, "every class but details was seen");
}

#[test]
fn parts_are_large_enough_to_color() {
    for (seed, drawing) in drawings(256) {
        let Record::Portrait { parts, .. } = &drawing.record else { continue };
        for part in parts {
            // Minimum number of 65536 pixels.
            let least = match part.class {
                Class::Eyes => 656,
                Class::HairBow => 900,
                Class::Mouth => 120,
                Class::Shirt => 1500,
                _ => 3000,
            };
            let pixels = count(&drawing, part.class);
            assert!(pixels >= least, "seed {seed}: {} has {pixels} pixels", part.class);
            let wide = width(&drawing, part.class);
            match part.class {
                Class::HairBow => assert!((40..=70).contains(&wide), "seed {seed}: the bow is {wide} pixels wide"),
                Class::Mouth => assert!(wide >= 20, "seed {seed}: the mouth is {wide} pixels wide"),
                _ => {}
            }
        }
    }
}

#[test]
fn objects_are_where_the_record_says() {
    let (mut pictures, mut objects_of) = (0, [0; 4]);
    for (seed, drawing) in drawings(256) {
        let Record::Scene { objects, .. } = &drawing.record else { continue };
        pictures += 1;
        objects_of[objects.len()] += 1;
        let classes: HashSet<Class> = objects.iter().map(|object| object.class).collect();
        assert_eq!(classes.len(), objects.len());
        for Object { class, bounds, .. } in objects {
            let edges = [
                bounds.center_x - bounds.width / 2.0,
                bounds.center_y - bounds.height / 2.0,
                1.0 - bounds.center_x - bounds.width / 2.0,
                1.0 - bounds.center_y - bounds.height / 2.0,
            ];
            assert!(edges.iter().all(|edge| *edge > 2.0 / 256.0), "seed {seed}: {class} is at the border: {edges:?}");
            assert!(bounds.width.max(bounds.height) > 0.2, "seed {seed}: {class} is small");
        }
    }
    assert!((90..=130).contains(&pictures) && objects_of[0] == 0, "{pictures}: {objects_of:?}");
    assert!(objects_of[3] < objects_of[1] + objects_of[2]);
}

#[test]
fn every_size_shows_the_same() {
    for size in [64, 200, 512] {
        let (small, usual) = (Dataset::new(size).unwrap(), Dataset::new(256).unwrap());
        for seed in 0..6 {
            let (small, usual) = (small.draw(seed).unwrap(), usual.draw(seed).unwrap());
            assert_eq!(small.record.parts(), usual.record.parts());
            assert_eq!((small.picture.size().width, small.mask.dim()), (size, (size as usize, size as usize)));
            for (class, _) in usual.record.colors() {
                let share = |drawing: &Drawing| count(drawing, class) as f64 / drawing.mask.len() as f64;
                assert!((share(&small) - share(&usual)).abs() < 0.01, "{class} at {size}");
            }
        }
    }
}

#[test]
fn other_sizes_are_refused() {
    for size in [0, 63, 513] {
        let message = Dataset::new(size).unwrap_err().to_string();
        assert!(message.contains("64..=512 pixels"), "{message}");
    }
}

/// Compares masks and records, which come from integers and from operations that IEEE 754 defines. Pictures are left
/// out, because their blending may differ by processor.
#[test]
fn drawings_have_the_stored_digest() {
    let mut digest = Sha256::new();
    for seed in 0..32 {
        let drawing = Dataset::new(256).unwrap().draw(seed).unwrap();
        digest.update(serde_json::to_string(&drawing.record).unwrap());
        digest.update(drawing.mask.as_slice().unwrap());
    }
    let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "5fecc81f3b49c107d321cc6d06342679e6fb5918347144956fb6f8c89e3da7f0");
}

#[test]
fn blueprint_shows_the_same_things_in_two_colors() {
    let dataset = Dataset::new(256).unwrap();
    for seed in 0..24 {
        let (colored, blue) = (dataset.draw(seed).unwrap(), dataset.in_style(Style::Blueprint).draw(seed).unwrap());
        assert_eq!((&colored.mask, &colored.record), (&blue.mask, &blue.record), "seed {seed}");
        let pixels: Vec<Rgb> = blue.picture.bytes().chunks(3).map(|rgb| Rgb(rgb[0], rgb[1], rgb[2])).collect();
        let (paper, chalk) = (Rgb(28, 72, 158), Rgb(240, 246, 255));
        // Between the two colors are the soft edges of lines.
        assert!(pixels.iter().all(|pixel| pixel.0 >= paper.0 && pixel.2 >= paper.2), "seed {seed}: another color");
        let share = |color: Rgb| pixels.iter().filter(|pixel| **pixel == color).count() as f64 / pixels.len() as f64;
        assert!(share(paper) > 0.6 && share(chalk) > 0.01, "seed {seed}: {} and {}", share(paper), share(chalk));
    }
}
