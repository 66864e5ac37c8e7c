//! Time of reading untrusted texts: 10 kB, 100 kB and 1 MB of the pieces that are hardest for each reader.
//!
//! `cargo bench --bench text`, or `cargo bench --bench text -- colors` for one reader. The printed exponent shows how
//! the time grows, 1 for linear and 2 for quadratic: it is the larger exponent of the two steps in size.

use impasto::Prompt;
use impasto::composition::Composition;
use impasto::methods::PaintWithWords;
use impasto::pipeline::{Infotext, Pipeline, Request};
use impasto::prompt::{LONGEST, colors, parse};
use impasto::text::{Long, Tokenizer};
use impasto::{Raster, Rgb};
use std::path::Path;
use std::time::Instant;

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];

/// A reader of texts.
type Read<'r> = Box<dyn FnMut(&str) + 'r>;

fn by_letter(text: &str) -> Prompt {
    Prompt::new(text, text.char_indices().map(|(at, letter)| at..at + letter.len_utf8()).collect(), usize::MAX)
}

/// Writes a PNG with a text, which compresses to a few bytes.
fn png(path: &Path, keyword: &str, text: &str) {
    let file = std::fs::File::create(path).expect("a file");
    let mut encoder = png::Encoder::new(file, 8, 8);
    encoder.set_color(png::ColorType::Rgb);
    encoder.add_ztxt_chunk(keyword.into(), text.into()).expect("a text");
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&[7; 192])).expect("written");
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let (path, tokenizer) = (folder.path().join("a.png"), Tokenizer::clip().expect("the vocabulary"));
    let pipeline = Pipeline::builder().build().expect("the embedded model");
    let map = Raster::flat(Rgb(7, 9, 182), (8, 8));
    let pieces =
        [" ", "(", "((a))", "{", ", ", "…(", "(a:1.2)", ":", "#f00 a,", "{teal} x, ", "a ", "é", "a girl with eyes, "];
    let mut readers: Vec<(&str, Vec<&str>, Read<'_>)> = vec![
        ("parse", pieces.into(), Box::new(|text| drop(parse(text)))),
        ("colors", pieces.into(), Box::new(|text| drop(colors(text, |_| "red".into())))),
        ("words", pieces.into(), Box::new(|text| drop(by_letter(text).words()))),
        ("rivals", pieces.into(), Box::new(|text| drop(by_letter(text).rivals(&[])))),
        ("find", pieces.into(), Box::new(|text| drop(by_letter(text).find("a a a a, girl")))),
        ("find itself", pieces.into(), Box::new(|text| drop(by_letter(text).find(text)))),
        (
            "infotext",
            vec![" ", "x ", "aa: \"", "aa: \"b,", "aa: b, ", "\\\""],
            Box::new(|text| drop(Infotext::parse(&format!("a\nSteps: 2, Seed: 1, Size: 8x8, {text}")))),
        ),
        (
            "context",
            vec!["(7, 9, 182): \"a,1\", ", "\"", " ", "\\"],
            Box::new(|text| drop(PaintWithWords::from_context_text(&map, &format!("{{{text}}}")))),
        ),
        ("composition", vec![" ", "[", "{\"a\":1},"], Box::new(|text| drop(Composition::from_json(text)))),
        (
            "tokenizer",
            pieces.into(),
            Box::new(|text| {
                let longest = text.get(..LONGEST).unwrap_or(text); // a longer text is refused for its length
                drop(tokenizer.chunks(longest, true, Long::Truncate));
                drop(tokenizer.chunks(text, true, Long::Truncate));
            }),
        ),
        (
            "from_png",
            vec![" ", "x ", "Sampler: x", "("],
            Box::new(|text| {
                png(&path, "parameters", &format!("{text}\nSteps: 2, Seed: 1, Size: 8x8, Sampler: {text}"));
                drop(Request::from_png(&pipeline, &path).map(|request| request.colors().is_ok()));
            }),
        ),
    ];
    println!("{:<12} {:<22} {:>9} {:>9} {:>9} {:>9}", "reader", "piece", "10 kB", "100 kB", "1 MB", "exponent");
    for (name, pieces, read) in &mut readers {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        for piece in pieces {
            let times = SIZES.map(|size| {
                let text = piece.repeat(size / piece.len());
                let once = |read: &mut Read<'_>| {
                    let begun = Instant::now();
                    read(&text);
                    begun.elapsed().as_secs_f64()
                };
                (0..3).map(|_| once(read)).fold(f64::INFINITY, f64::min)
            });
            let exponent = times.windows(2).map(|pair| (pair[1] / pair[0]).log10()).fold(f64::NEG_INFINITY, f64::max);
            let [small, middle, large] = times.map(|seconds| format!("{:.2} ms", 1e3 * seconds));
            println!("{name:<12} {:<22} {small:>9} {middle:>9} {large:>9} {exponent:>9.2}", format!("{piece:?}"));
        }
    }
}
