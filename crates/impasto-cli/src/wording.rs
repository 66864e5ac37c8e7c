//! [`Terminal`]: errors and notes in the words of the command line, with options in place of the library's settings.

use clap::Command;
use impasto::Output;
use impasto::wording::{Note, Remedy, Wording};
use std::sync::OnceLock;

/// The command that this process carries out; `None` if the command line names none.
static PRESENT: OnceLock<Option<Command>> = OnceLock::new();

/// The words of a command. They name no option that the command lacks.
pub struct Terminal {
    /// `None` if the command line names no command; then the words may name all options.
    command: Option<Command>,
}

/// The library's names of settings and parts, and those of the command line.
const NAMES: [(&str, &str); 68] = [
    ("prompt", "the prompt"),
    ("the LoRA's name", "the NAME of <lora:NAME> in the prompt"),
    ("second_prompt", "--second-prompt"),
    ("third_prompt", "--third-prompt"),
    ("micro_conditioning", "--micro-conditioning"),
    ("negative", "--negative"),
    ("steps", "--steps"),
    ("images", "--images"),
    ("solver", "--sampler"),
    ("best_of", "--best-of"),
    ("guidance_scale", "--scale"),
    ("guidance_rescale", "--guidance-rescale"),
    ("reuse", "--reuse"),
    ("merge_tokens", "--merge-tokens"),
    ("memory_limit", "--memory-limit"),
    ("variation", "the SHARE of --variation"),
    ("width", "the width of --size"),
    ("height", "the height of --size"),
    ("paint", "the paint of --area"),
    ("map", "--map"),
    ("areas", "--area"),
    ("tolerance", "--tolerance"),
    ("the area's strength", "the STRENGTH of --area"),
    ("strength", "--strength"),
    ("start", "--start"),
    ("pictures", "--ip-adapter-picture"),
    ("ip_adapter_pictures", "--ip-adapter-picture"),
    ("ip_adapter_strength", "--ip-adapter-strength"),
    ("strength of a picture", "the STRENGTH of --ip-adapter-picture"),
    ("mask", "--mask"),
    ("mask, mask_where or details", "--mask, --mask-where or --detail"),
    ("mask_where", "--mask-where"),
    ("grow", "the PIXELS of --mask-where"),
    ("soften", "--soften"),
    ("feather", "--feather"),
    ("masked_content", "--masked-content"),
    ("detail", "--detail"),
    ("details.strength", "the STRENGTH of --detail"),
    ("hires", "--hires"),
    ("hires.scale", "the SCALE of --hires"),
    ("seamless", "--seamless"),
    ("conditioning_channels", "the number of channels that the NET of --control reads"),
    ("keep_colors", "--keep-colors"),
    ("controls", "--control"),
    ("the control's net", "the NET of --control"),
    ("line art", "the PICTURE of --control"),
    ("line_art", "--line-art"),
    ("strokes", "--strokes"),
    ("exact_strokes", "--exact-strokes"),
    ("sketch", "--line-art"),
    ("net", "--net"),
    ("model", "--model"),
    ("clip_skip", "--clip-skip"),
    ("device", "--device"),
    ("precision", "--precision"),
    ("shift", "--shift"),
    ("same_color", "--same-color"),
    ("same_as", "the THING of --same-color"),
    ("palette", "--palette"),
    ("palette_of", "--palette-of"),
    ("guiders", "--guide"),
    ("Palette", "palette"),
    ("ColorForce", "exact color"),
    ("PaintWithWords", "painted areas"),
    ("ReferenceColor", "reference"),
    ("Colorize", "sketch"),
    ("Daam", "maps of words"),
    ("Daam::words", "maps of words"),
];

impl Terminal {
    /// Sets the command that this process carries out, before any words are asked for.
    pub fn begin(command: Option<Command>) {
        let _ = PRESENT.set(command); // a process carries out one command
    }

    /// Returns the words of the command that this process carries out.
    pub fn present() -> Self {
        Self { command: PRESENT.get().cloned().flatten() }
    }

    /// Returns true if the command has every option that a text names. A text may name another command and its options.
    fn has_options_of(&self, text: &str) -> bool {
        let Some(command) = &self.command else { return true };
        let has = |option: &str| command.get_arguments().any(|argument| argument.get_long() == Some(option));
        text.contains("`impasto ") || options_in(text).all(has)
    }
}

/// Returns the options that a text names, without their dashes.
fn options_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-')
        .filter_map(|part| part.strip_prefix("--"))
}

impl Wording for Terminal {
    fn name<'n>(&self, name: &'n str) -> &'n str {
        let words = NAMES.iter().find(|(known, _)| *known == name).map(|(_, words)| *words);
        words.filter(|words| self.has_options_of(words)).unwrap_or(name)
    }

    fn remedy(&self, remedy: Remedy) -> Option<&'static str> {
        // The first words whose options the command has.
        let words: &[&str] = match remedy {
            Remedy::Model => &["choose another model with --model"],
            Remedy::Precision | Remedy::VaePrecision => &["use --precision f32"],
            Remedy::PrecisionOrModel => &["use --precision f32, or choose another model with --model"],
            Remedy::Shift => &["give this shift with --shift"],
            Remedy::Vae => &["add a VAE with --vae"],
            Remedy::TextEncoder => &["add a text encoder with --text-encoder"],
            Remedy::SecondTextEncoder => &["add the second text encoder with --text-encoder-2"],
            Remedy::ThirdTextEncoder => &["add T5 with --text-encoder-3"],
            Remedy::ImageEncoder => &["choose a model that has this part with --model"],
            Remedy::Lora => &["add LoRAs with --lora"],
            Remedy::UnmergedLora => &["give the LoRA with --lora-apart"],
            Remedy::LoraFolder => &["name a folder with --lora-dir, or remove the tag"],
            Remedy::Embedding => &["add embeddings of words with --embedding"],
            Remedy::ControlNet => &["give ControlNets with --control NET=PICTURE", "give ControlNets with --net"],
            Remedy::IpAdapter => &["give IP-Adapters with --ip-adapter"],
            Remedy::T2iAdapter => &["give T2I adapters with --control NET=PICTURE", "give T2I adapters with --net"],
            Remedy::RepositoryFile => {
                &["download one of them (hf download OWNER/NAME FILE), and give its path instead"]
            }
            Remedy::Cache => &["set HF_HUB_CACHE to a folder"],
            Remedy::ShorterPrompt => &["describe the picture in fewer words"],
            Remedy::NegativePrompt => &["give one with --negative"],
            Remedy::Solver => &["choose a sampler with --sampler"],
            Remedy::Start => &["only `impasto paint` with --start and --strength can begin with it"],
            Remedy::Mask => &["only `impasto paint` with --start and --mask can repaint it"],
            Remedy::Enlarge => &[
                "paint the model's own size, and a second time larger with --hires",
                "paint the model's own size, and a second time larger by `impasto paint` with --hires",
            ],
            Remedy::LessMemory => &["paint a smaller picture, or use --precision bf16"],
            Remedy::Net => &["give the ControlNet with --net"],
            Remedy::Control => &["give one --net for each ControlNet of the run"],
            Remedy::HintTypes => &["name it with --control NET=TYPE:PICTURE, such as union=depth:map.png"],
            Remedy::TensorHint | Remedy::PictureHint => &["choose a ControlNet that reads pictures"],
            Remedy::FullPicture => &["give the picture with --picture"],
            Remedy::PictureAlone => &["use smaller pictures and maps"],
            Remedy::Sketch => &["give one with --line-art"],
            Remedy::BlankSketch => &["draw dark lines on white paper"],
            Remedy::ExactColor => &["give an exact color, such as --force eyes=gold"],
            Remedy::Tolerance => &["raise --tolerance, or save the map as PNG in flat colors"],
            Remedy::LargerArea => &["paint a larger area"],
            Remedy::Window => &["raise --strength or --steps", "raise --steps"],
            Remedy::LowerCutoff | Remedy::RaiseCutoff | Remedy::Phrase => {
                &["use another phrase, or another --seed", "use another phrase"]
            }
            Remedy::LookAtMask => &["--report shows the mask"],
            Remedy::MaskOrParts => &["--report shows the mask; try another --seed"],
            Remedy::MaskOrRivals => &[
                "--report shows the mask; try --best-of 4, or another --seed",
                "--report shows the mask; try another --seed",
            ],
            Remedy::OtherSeed => &["try --best-of 4, or another --seed", "try another --seed"],
            Remedy::NoFeedback => &["choose another VAE with --vae"],
            Remedy::Color => &["choose another color if that is too far"],
            _ => &[], // The command line has no setting for the others.
        };
        words.iter().copied().find(|words| self.has_options_of(words))
    }
}

/// Puts the notes of a run in the words of the command line, for everything that prints or writes them.
pub fn worded(mut output: Output) -> Output {
    let words = Terminal::present();
    for note in &mut output.notes {
        *note = Note::from(note.worded(&words));
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use crate::failure::Failure;
    use crate::loading::Loading;
    use clap::{CommandFactory, Parser};
    use impasto::job::{Job, Nets};
    use impasto::{Raster, Rgb, Source};
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// Words that may name all options.
    const ALL: Terminal = Terminal { command: None };

    /// Returns the words of the command of this name, and the long options of the command.
    fn command(name: &str) -> (Terminal, BTreeSet<String>) {
        let command = Arguments::command().find_subcommand(name).unwrap().clone();
        let options = command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned)).collect();
        (Terminal { command: Some(command) }, options)
    }

    #[test]
    fn remedies_name_only_options_of_the_command() {
        let (_, of_paint) = command("paint");
        for name in ["paint", "again", "look", "info", "bench", "studio", "mcp"] {
            let (terminal, options) = command(name);
            for words in Remedy::ALL.iter().filter_map(|remedy| terminal.remedy(*remedy)) {
                assert!(!words.contains("::") && !words.replace("`impasto paint`", "").contains('`'), "{words}");
                let options = if words.contains("`impasto paint`") { &of_paint } else { &options };
                assert!(options_in(words).all(|option| options.contains(option)), "{name}: {words}");
            }
        }
        let look = command("look").0;
        assert_eq!(
            (look.remedy(Remedy::MaskOrRivals), look.remedy(Remedy::Phrase)),
            (None, Some("use another phrase"))
        );
        assert_eq!(command("again").0.remedy(Remedy::Window), Some("raise --steps"));
        assert_eq!((look.name("guidance_scale"), ALL.name("guidance_scale")), ("guidance_scale", "--scale"));
    }

    #[test]
    fn every_remedy_has_words_in_a_command() {
        let commands = ["paint", "again"].map(|name| command(name).0);
        let without = Remedy::ALL.iter().filter(|remedy| commands.iter().all(|words| words.remedy(**remedy).is_none()));
        let without: Vec<Remedy> = without.copied().collect();
        assert_eq!(without, [Remedy::WholeDecoding, Remedy::Resume, Remedy::OwnPart], "a remedy without words");
    }

    #[test]
    fn names_are_those_of_the_library() {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src")];
        let mut sources = String::new();
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
                match path.extension() {
                    _ if path.is_dir() => folders.push(path),
                    Some(extension) if extension == "rs" => sources.push_str(&fs::read_to_string(&path).unwrap()),
                    _ => {}
                }
            }
        }
        let is_dead = |name: &&str| !sources.contains(&format!("\"{name}\""));
        let dead: Vec<&str> = NAMES.iter().map(|(name, _)| *name).filter(is_dead).collect();
        assert!(dead.is_empty(), "names that no message has: {dead:?}");
    }

    /// The options that reach the library.
    #[derive(Parser)]
    struct Reaching {
        #[command(flatten)]
        job: Job,
        #[command(flatten)]
        loading: Loading,
    }

    /// Returns the message of painting with these options.
    fn message(options: &[&str]) -> String {
        let Reaching { mut job, loading } = Reaching::parse_from([&["impasto"], options].concat());
        let mut run = || -> Result<Output, Failure> {
            job.check()?;
            let (pipeline, mut nets) = (loading.pipeline(Source::embedded())?, Nets::default());
            nets.load(&job, pipeline.model())?;
            job.open()?;
            Ok(job.request(&pipeline, &nets)?.seed(7).run()?)
        };
        match run() {
            Ok(_) => panic!("{options:?} succeeded"),
            Err(Failure::Library(error)) => error.worded(&ALL),
            Err(failure) => failure.to_string(),
        }
    }

    /// Options that the library takes as they are, apart from files that cannot be read or are of another kind.
    const NEVER_REFUSED: [&str; 17] = [
        "offload",
        "seed",
        "syntax",
        "color_words",
        "spacing",
        "noise_kind",
        "match_tone",
        "batching",
        "mask",
        "reference",
        "lora",
        "lora_apart",
        "lora_dir",
        "embedding",
        "embedding_dir",
        "weights",
        "threads",
    ];

    #[test]
    fn errors_name_the_option_that_caused_them() {
        let folder = tempfile::tempdir().unwrap();
        let save = |name: &str, color| {
            let path = folder.path().join(name);
            Raster::flat(color, (256, 256)).save(&path).unwrap();
            path.display().to_string()
        };
        let (white, red) = (save("white.png", Rgb(255, 255, 255)), save("red.png", Rgb(255, 0, 0)));
        let mut many = Raster::flat(Rgb(0, 0, 0), (256, 257));
        (0..256).for_each(|x| (0..257).for_each(|y| many.set(x, y, Rgb(x as u8, y as u8, (y >> 8) as u8))));
        let colors = folder.path().join("many.png").display().to_string();
        many.save(&colors).unwrap();
        let long = "a ".repeat(33_000);
        let cases: [(&str, &[&str], &str); 54] = [
            ("prompt", &[&long], "the prompt is a text of 66000 bytes"),
            ("negative", &["--negative", &long], "is a text of 66000 bytes"),
            ("second_prompt", &["--second-prompt", "a hat"], "--second-prompt is"),
            ("second_negative", &["--second-negative", "a hat"], "--second-prompt is"),
            ("third_prompt", &["--third-prompt", "a hat"], "--third-prompt is"),
            ("third_negative", &["--third-negative", "a hat"], "--third-prompt is"),
            ("micro_conditioning", &["--micro-conditioning", "crop=1x1"], "--micro-conditioning is set for this"),
            (
                "negative_micro_conditioning",
                &["--negative-micro-conditioning", "crop=1"],
                "--micro-conditioning is set",
            ),
            ("steps", &["--steps", "0"], "--steps is 0"),
            ("images", &["--images", "0"], "--images is 0; expected 1 or more"),
            ("best_of", &["--best-of", "0"], "--best-of is 0"),
            ("best_of", &["--best-of", "2"], "give an exact color, such as --force"),
            ("sampler", &["--sampler", "Eulr"], "--sampler \"Eulr\" is not known"),
            ("guidance_scale", &["--scale=-1"], "--scale is -1"),
            ("guidance_rescale", &["--guidance-rescale=-1"], "--guidance-rescale is -1"),
            ("reuse", &["--reuse", "0"], "--reuse is 0"),
            ("merge_tokens", &["--merge-tokens", "0.8"], "--merge-tokens is 0.8"),
            ("size", &["--size", "100x64"], "the width of --size is 100"),
            ("memory_limit", &["--memory-limit", "1"], "--memory-limit is 1 MiB; expected"),
            ("variation", &["--variation", "7:2"], "the SHARE of --variation is 2"),
            ("forces", &["--force", "hat=red"], "exact color: phrase \"hat\" is not in the prompt"),
            ("same_color", &["--same-color", "hat=boat"], "exact color: phrase \"hat\" is not in the prompt"),
            ("palette", &["--palette", "red:-1"], "the share of a palette's color is -1"),
            ("palette_of", &["--palette", "red", "--palette-of", &red], "--palette is given beside a picture"),
            ("guiders", &["--guide", "pag:1,2"], "--guide is pag with 2 numbers"),
            ("areas", &["--map", &red, "--area", "green=boat"], "painted areas: color #008000 is not in the map"),
            ("areas", &["--map", &red, "--area", "red=boat:99"], "the STRENGTH of --area is 99"),
            ("map", &["--map", &colors, "--area", "black=boat"], "--map is a picture of 65792 colors"),
            ("controls", &["--control", &format!("nowhere={red}")], "the NET of --control is nowhere"),
            (
                "ip_adapter_pictures",
                &["--ip-adapter-picture", &red],
                "--ip-adapter-picture is given; expected no picture",
            ),
            ("ip_adapter_strength", &["--ip-adapter-strength", "1"], "--ip-adapter-strength is given without --ip"),
            ("start", &["--start", &red, "--strength", "0"], "--strength is 0"),
            ("strength", &["--start", &red, "--strength", "7"], "--strength is 7"),
            ("mask_where", &["--start", &red, "--mask-where", " , "], "--mask-where is \",\""),
            ("mask_where", &["--start", &red, "--mask-where", "boat:-1"], "the PIXELS of --mask-where is -1"),
            ("soften", &["--start", &red, "--mask-where", "boat", "--soften=-1"], "--soften is -1"),
            ("feather", &["--detail", "boat", "--feather=-1"], "--feather is -1"),
            (
                "masked_content",
                &["--start", &red, "--masked-content", "noise"],
                "--masked-content is given without --mask, --mask-where or --detail",
            ),
            ("keep_colors", &["--keep-colors"], "--keep-colors is given without --start"),
            ("details", &["--detail", "boat:2"], "the STRENGTH of --detail is 2"),
            ("hires", &["--hires", "0.5"], "the SCALE of --hires is 0.5"),
            ("seamless", &["--start", &colors, "--seamless", "both"], "--seamless is set for 256×257 pixels"),
            ("tolerance", &["--map", &red, "--area", "red=boat", "--tolerance=-1"], "--tolerance is -1"),
            ("strokes", &["--control", &format!("embedded={red}"), "--strokes", &white], "--strokes is"),
            ("exact_strokes", &["--exact-strokes"], "--exact-strokes is given without --strokes"),
            ("line_art", &["--model", "embedded-colorizer"], "--line-art is missing; expected dark lines"),
            ("model", &["--model", "nowhere"], "--model is nowhere"),
            ("vae", &["--vae", "nowhere"], "--vae is nowhere"),
            ("text_encoder", &["--text-encoder", "nowhere"], "--text-encoder is nowhere"),
            ("text_encoder_2", &["--text-encoder-2", "nowhere"], "--text-encoder-2 is nowhere"),
            ("text_encoder_3", &["--text-encoder-3", "nowhere"], "--text-encoder-3 is nowhere"),
            ("clip_skip", &["--clip-skip", "99"], "--clip-skip is 99; expected 1 to"),
            ("precision", &["--precision", "f16"], "--precision is f16 on cpu"),
            ("shift", &["--shift", "3"], "--shift is 3; expected none for this model"),
        ];
        let mut tested: Vec<&str> = NEVER_REFUSED.into();
        for (id, options, expected) in cases {
            let prompt: &[&str] = if id == "prompt" { &[] } else { &["a boat"] };
            let message = message(&[prompt, options].concat());
            assert!(message.contains(expected), "{options:?}: {message}");
            tested.push(id);
        }
        if !tch::utils::has_cuda() {
            assert!(message(&["a boat", "--device", "cuda"]).contains("--device is cuda:0; expected cpu"));
        }
        tested.push("device");
        let command = Reaching::command();
        let ids = command.get_arguments().map(|argument| argument.get_id().as_str());
        let forgotten: Vec<&str> = ids.filter(|id| !tested.contains(id)).collect();
        assert!(forgotten.is_empty(), "options without a case: {forgotten:?}");
    }

    #[test]
    fn notes_are_in_the_words_of_the_command_line() {
        let note = Note { origin: Some("ColorForce"), remedy: Some(Remedy::MaskOrRivals), ..Note::from("doubt") };
        let want = "exact color: doubt; --report shows the mask; try --best-of 4, or another --seed";
        assert_eq!(note.worded(&ALL), want);
    }
}
