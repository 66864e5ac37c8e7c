//! The fuzzed functions. Each one takes any bytes and must end soon, without a panic and without much memory.
//!
//! `cargo fuzz run <name>` runs one of them (with a nightly compiler); `tests/all/limits` runs them all on mutations of
//! `corpus/`. The targets of the studio are in `request.rs` and `orders.rs`, and the studio's tests run them.

use impasto::composition::Composition;
use impasto::diffusion::SchedulerConfig;
use impasto::guidance::Guidance;
use impasto::hint::{Drawing, Sketch, Strokes};
use impasto::methods::PaintWithWords;
use impasto::methods::paint_with_words::MapColors;
use impasto::nn::anima_conditioner::{AnimaConditioner, AnimaConditionerConfig};
use impasto::nn::cosmos::{CosmosConfig, CosmosTransformer};
use impasto::nn::qwen_vae::{QwenVae, QwenVaeConfig};
use impasto::nn::qwen3::{Qwen3, Qwen3Config};
use impasto::nn::t2i_adapter::{T2iAdapter, T2iAdapterConfig};
use impasto::nn::t5::{T5, T5Config};
use impasto::nn::{
    ClipText, ClipTextConfig, ClipVision, ClipVisionConfig, ConfigFile, ControlNet, ControlNetConfig, Taesd,
    TaesdConfig, UNet, UnetConfig, Vae, VaeConfig,
};
use impasto::pipeline::{Infotext, Pipeline, Request};
use impasto::prompt::{Piece, PromptSchedule, PromptSyntax, colors, conjunction, networks, parse};
use impasto::text::{Long, SequenceTokenizer, Tokenizer};
use impasto::weights::{Embedding, Lora, Tensors, Weights, parse_safetensors, read_tensors};
use impasto::{Prompt, Raster, Result, Rgb, Source};
use std::io::Write;
use tch::{Device, Kind};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, called as its folder in `corpus/` is.
pub const TARGETS: [Target; 12] = [
    ("safetensors", safetensors),
    ("pickle", pickle),
    ("config", config),
    ("tokenizer", tokenizer),
    ("prompt", prompt),
    ("colors", prompt_colors),
    ("infotext", infotext),
    ("recipe", recipe),
    ("composition", composition),
    ("palette", palette),
    ("hint", hint),
    ("controlnet", controlnet),
];

/// A safetensors file.
pub fn safetensors(data: &[u8]) {
    if let Ok(tensors) = parse_safetensors("fuzz", data) {
        let bytes: usize = tensors.values().map(|x| x.numel() * x.kind().elt_size_in_bytes()).sum();
        assert!(bytes <= data.len());
    }
}

/// A checkpoint of PyTorch, whose numbers are all read.
pub fn pickle(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("written"); // `std::fs::write` truncates first, which takes milliseconds
    if let Ok(tensors) = read_tensors(file.path()) {
        for x in tensors.values() {
            // A tensor may repeat the numbers of its storage.
            assert!(x.numel() * x.kind().elt_size_in_bytes() <= 64 * data.len());
            let _ = x.to_kind(Kind::Double).sum(Kind::Double).double_value(&[]);
        }
    }
    let _ = (Embedding::open(file.path()), Lora::open(file.path()));
}

/// A `config.json` of any network, which is then built from no weights at all.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let w = || Weights::new("fuzz", Tensors::new(), Kind::Float, Device::Cpu);
    fn refused<T>(built: Result<T>) {
        assert!(built.is_err(), "a network without weights");
    }
    if let Ok(config) = UnetConfig::from_json("fuzz", text) {
        refused(UNet::new(&w(), &config));
    }
    if let Ok(config) = VaeConfig::from_json("fuzz", text) {
        refused(Vae::new(&w(), &config));
    }
    if let Ok(config) = ControlNetConfig::from_json("fuzz", text) {
        refused(ControlNet::new(&w(), &config));
    }
    if let Ok(config) = T2iAdapterConfig::from_json("fuzz", text) {
        refused(T2iAdapter::new(&w(), &config));
    }
    if let Ok(config) = ClipTextConfig::from_json("fuzz", text) {
        refused(ClipText::new(&w(), &config));
    }
    if let Ok(config) = ClipVisionConfig::from_json("fuzz", text) {
        refused(ClipVision::new(&w(), &config));
    }
    if let Ok(config) = TaesdConfig::from_json("fuzz", text) {
        refused(Taesd::new(&w(), &config));
    }
    if let Ok(config) = CosmosConfig::from_json("fuzz", text) {
        refused(CosmosTransformer::new(&w(), &config));
    }
    if let Ok(config) = Qwen3Config::from_json("fuzz", text) {
        refused(Qwen3::new(&w(), &config));
    }
    if let Ok(config) = AnimaConditionerConfig::from_json("fuzz", text) {
        refused(AnimaConditioner::new(&w(), &config));
    }
    if let Ok(config) = QwenVaeConfig::from_json("fuzz", text) {
        refused(QwenVae::new(&w(), &config));
    }
    if let Ok(config) = T5Config::from_json("fuzz", text) {
        refused(T5::new(&w(), &config));
    }
    if let Ok(config) = SchedulerConfig::from_json(text)
        && let Ok(schedule) = config.schedule(12)
    {
        assert!(schedule.steps().all(|step| step.from.is_finite()));
    }
}

/// A `tokenizer.json`, or `vocab.json`, `merges.txt` and perhaps `tokenizer_config.json` with zero bytes between them.
pub fn tokenizer(data: &[u8]) {
    let made = match data.split(|byte| *byte == 0).collect::<Vec<_>>().as_slice() {
        [vocab, merges, ..] => Tokenizer::from_vocab(vocab, merges, None, None),
        _ => Tokenizer::from_json(data),
    };
    if let Ok(tokenizer) = made {
        let _ = tokenizer.padded_to("1girl, naïve 猫 eyes", 77);
    }
    let made = match data.split(|byte| *byte == 0).collect::<Vec<_>>().as_slice() {
        [vocab, merges, config, ..] => SequenceTokenizer::from_vocab(vocab, merges, config),
        _ => SequenceTokenizer::from_json(data),
    };
    if let Ok(tokenizer) = made {
        let _ = tokenizer.pad_to("1girl, naïve 猫 eyes", 77);
    }
}

/// A prompt with markup.
pub fn prompt(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for piece in parse(&text) {
        if let Piece::Text { text: read, weight, source } = piece {
            let bytes: String = source.into_iter().map(|bytes| &text[bytes]).collect();
            assert!(read == bytes && weight.is_finite());
        }
    }
    let (parts, tags) = (conjunction(&text), networks(&text));
    assert!(parts.iter().map(|part| part.text.len()).sum::<usize>() <= text.len() && tags.text.len() <= text.len());
    assert!(
        parts.iter().all(|part| part.weight.is_finite()) && tags.loras.iter().all(|lora| lora.strength.is_finite())
    );
    if let Ok(schedule) = PromptSchedule::new(&text, PromptSyntax::WebUi, 4) {
        assert!(schedule.entries().last().is_some_and(|(end, _)| end == 4));
        assert!(schedule.is_parsed() || schedule.at(0) == text);
    }
    // One token a letter.
    let tokens = text.char_indices().map(|(at, letter)| at..at + letter.len_utf8()).collect();
    let prompt = Prompt::new(text.as_ref(), tokens, usize::MAX);
    let words = prompt.words();
    for (word, spans) in words.iter().take(3).chain(words.last()) {
        assert_eq!(prompt.find(word).ok().as_ref(), Some(spans), "{word:?} of {text:?}");
        let _ = prompt.with_word_before(word, "red");
    }
    let _ = (prompt.rivals(&prompt.content()), prompt.thing(&text), prompt.find(&text), prompt.content());
    if let Ok(chunks) = TOKENIZER.with(|tokenizer| tokenizer.chunks(&text, true, Long::Chunks)) {
        assert_eq!(chunks.ids.len(), chunks.weights.len());
    }
}

/// A prompt with colors.
pub fn prompt_colors(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok((read, found)) = colors(&text, |_| String::new()) {
        assert!(read.len() <= text.len() && found.iter().all(|found| text.contains(&found.written)));
    }
}

/// The web UI's text beside a picture; or a keyword, a zero byte and the text of another program.
pub fn infotext(data: &[u8]) {
    let (keyword, text) = keyword(data);
    let info = Infotext::of(&[(keyword.unwrap_or("parameters").to_owned(), text.clone())]);
    let info = info.unwrap_or_else(|| Infotext::parse(&text));
    let _ = (Infotext::parse(&info.to_string()), info.sampler());
    if !info.field("Version").is_some_and(|version| version.starts_with("impasto")) {
        let colors = colors(&info.request_prompt(), |_| String::new());
        assert!(colors.is_ok_and(|(_, found)| found.is_empty()), "other programs know no exact colors");
    }
}

/// Splits an input at its first zero byte, before which a keyword stands.
fn keyword(data: &[u8]) -> (Option<&str>, String) {
    let at = data.iter().position(|byte| *byte == 0);
    let keyword = at.and_then(|at| std::str::from_utf8(&data[..at]).ok()).filter(|word| (1..80).contains(&word.len()));
    let text = if keyword.is_some() { &data[at.map_or(0, |at| at + 1)..] } else { data };
    (keyword, String::from_utf8_lossy(text).into_owned())
}

/// The recipe inside a PNG file, behind its keyword and a zero byte if it is another program's; or, if it begins as a
/// picture, the file itself.
pub fn recipe(data: &[u8]) {
    let file = tempfile::Builder::new().suffix(".png").tempfile().expect("a temporary file");
    if [&b"\x89PNG"[..], b"\xff\xd8\xff", b"RIFF"].iter().any(|start| data.starts_with(start)) {
        std::fs::write(file.path(), data).expect("written");
    } else {
        let (named, text) = keyword(data);
        let latin = named.filter(|word| word.is_ascii());
        let keyword = latin.unwrap_or(if text.starts_with('{') { "impasto" } else { "parameters" });
        let picture = Raster::flat(Rgb(1, 2, 3), (8, 8));
        let png = picture.to_png(&[(keyword, &text)]).expect("a PNG");
        std::fs::write(file.path(), png).expect("written");
    }
    let bytes = std::fs::read(file.path()).expect("read");
    let _ = (Raster::open(file.path()), Raster::texts(&bytes));
    PIPELINE.with(|pipeline| {
        let _ = Request::from_png(pipeline, file.path()).map(|request| request.colors().is_ok());
    });
}

/// A composition as JSON, without its pictures.
pub fn composition(data: &[u8]) {
    let Ok(mut composition) = Composition::from_json(&String::from_utf8_lossy(data)) else { return };
    composition.entities.iter_mut().for_each(|entity| entity.image = None);
    if let Ok(preview) = composition.preview() {
        assert_eq!(preview.len(), 1 + composition.entities.len());
    }
    assert!(composition.regions().is_ok());
    let again = composition.to_json().and_then(|json| Composition::from_json(&json));
    assert_eq!(again.ok(), Some(composition));
}

/// A painted map, 3 bytes a pixel, and behind a zero byte what its colors stand for.
pub fn palette(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (text, pixels) = (String::from_utf8_lossy(&data[..end]), data.get(end + 1..).unwrap_or_default());
    let width = (pixels.len() / 3).clamp(1, 16) as u32;
    let height = (pixels.len() as u32 / 3 / width).max(1);
    let mut bytes = pixels.to_vec();
    bytes.resize((3 * width * height) as usize, 0);
    let map = Raster::from_bytes(bytes, (width, height)).expect("a picture");
    let colors = MapColors::of(&map);
    assert_eq!(colors.colors().iter().map(|entry| entry.pixels).sum::<usize>(), (width * height) as usize);
    assert!(colors.nearest(Rgb(7, 9, 182)).is_some());
    if let Ok(paint) = PaintWithWords::from_context_text(&map, &text)
        && paint.check().is_ok()
    {
        let _ = paint.legend((64, 64));
    }
}

/// A picture file as strokes of color and as line art, brought to the size of a small picture.
pub fn hint(data: &[u8]) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), data).expect("written");
    let strokes = Strokes::open(file.path());
    let art = Raster::open(file.path()).and_then(|picture| Sketch::of_line_art(&picture));
    if let Ok(strokes) = &strokes
        && let Ok(colors) = strokes.colors()
    {
        assert!(!colors.is_empty());
    }
    let drawing = Drawing {
        sketch: art.unwrap_or_else(|_| Sketch::blank((8, 8))),
        strokes: strokes.unwrap_or_else(|_| Strokes::new((8, 8))),
    };
    if let Ok(hint) = drawing.hint((32, 24)) {
        assert_eq!(hint.size(), [1, 5, 24, 32]);
    }
}

/// A file that says to be a ControlNet.
pub fn controlnet(data: &[u8]) {
    let file = tempfile::Builder::new().suffix(".safetensors").tempfile().expect("a temporary file");
    std::fs::write(file.path(), data).expect("written");
    PIPELINE.with(|pipeline| {
        let loaded = pipeline.model().controlnet(&Source::file(file.path()));
        assert!(loaded.is_err(), "a ControlNet of a few tensors");
    });
}

thread_local! {
    static PIPELINE: Pipeline = Pipeline::builder().build().expect("the embedded model");
    static TOKENIZER: Tokenizer = Tokenizer::clip().expect("the published vocabulary");
}
