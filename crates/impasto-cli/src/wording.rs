//! [`Terminal`]: errors and notes in the words of the command line, with options in place of the library's settings.

use impasto::Output;
use impasto::wording::{Note, Remedy, Wording};

/// The words of the command line.
pub struct Terminal;

impl Wording for Terminal {
    fn name<'n>(&self, name: &'n str) -> &'n str {
        match name {
            "prompt" => "the prompt",
            "second prompt" => "the second prompt",
            "negative prompt" => "--negative",
            "steps" => "--steps",
            "solver" => "--sampler",
            "best_of" => "--best-of",
            "guidance scale" => "--scale",
            "width" => "the width of --size",
            "height" => "the height of --size",
            "size" => "--size",
            "paint" => "the paint of --area",
            "map" => "--map",
            "tolerance" => "--tolerance",
            "number of areas" => "the number of --area",
            "the area's strength" => "the STRENGTH of --area",
            "start" => "--start",
            "strength" => "--strength",
            "mask" => "--mask",
            "conditioning_channels" => "the number of channels that the NET of --control reads",
            "the ControlNet's scale" => "the SCALE of --control",
            "the ControlNet's hint" | "line art" => "the PICTURE of --control",
            "strokes" => "--strokes",
            "sketch" => "--sketch",
            "reference" => "--reference",
            "net" => "--net",
            "alpha" => "--opacity",
            "model" => "--model",
            "the LoRA's scale" => "the STRENGTH of --lora",
            "device" => "--device",
            "precision" => "--precision",
            "ColorForce" => "exact color",
            "PaintWithWords" => "painted areas",
            "ReferenceColor" => "reference",
            "Colorize" => "sketch",
            "Daam" | "Daam::words" => "maps of words",
            name => name,
        }
    }

    fn remedy(&self, remedy: Remedy) -> Option<&'static str> {
        Some(match remedy {
            Remedy::Model => "choose another model with --model",
            Remedy::Precision | Remedy::VaePrecision => "use --precision f32",
            Remedy::PrecisionOrModel => "use --precision f32, or choose another model with --model",
            Remedy::Vae => "add a VAE with --vae",
            Remedy::TextEncoder | Remedy::SecondTextEncoder | Remedy::ImageEncoder => {
                "choose a model that has this part with --model"
            }
            Remedy::Lora => "add LoRAs with --lora",
            Remedy::Embedding => "add embeddings of words with --embedding",
            Remedy::ControlNet => "give ControlNets with --control NET=PICTURE",
            Remedy::RepositoryFile => "download one of them (hf download OWNER/NAME FILE), and give its path instead",
            Remedy::Cache => "set HF_HUB_CACHE to a folder",
            Remedy::ShorterPrompt => "describe the picture in fewer words",
            Remedy::NegativePrompt => "give one with --negative",
            Remedy::Solver => "choose a sampler with --sampler",
            Remedy::Start => "only `impasto paint` with --start and --strength can begin with it",
            Remedy::Mask => "only `impasto paint` with --start and --mask can repaint it",
            Remedy::Enlarge => "paint the model's own size, enlarge the picture, and repaint it with --start",
            Remedy::Net => "give the ControlNet with --net",
            Remedy::Control => "give one --net for each ControlNet of the run",
            Remedy::TensorHint | Remedy::PictureHint => "choose a ControlNet that reads pictures",
            Remedy::FullPicture => "give the picture with --picture",
            Remedy::PictureAlone => "use smaller pictures and maps",
            Remedy::Sketch => "give one with --sketch",
            Remedy::BlankSketch => "draw dark lines on white paper",
            Remedy::ExactColor => "give an exact color, such as --force eyes=gold",
            Remedy::Tolerance => "set --tolerance 30, or save the map as PNG in flat colors",
            Remedy::LargerArea => "paint a larger area",
            Remedy::Window => "raise --strength or --steps",
            Remedy::LowerCutoff | Remedy::RaiseCutoff | Remedy::Phrase => "use another phrase, or another --seed",
            Remedy::LookAtMask => "--report shows the mask",
            Remedy::MaskOrParts => "--report shows the mask; try another --seed",
            Remedy::MaskOrRivals => "--report shows the mask; try --best-of 4, or another --seed",
            Remedy::NoFeedback => "choose another VAE with --vae",
            Remedy::Color => "choose another color if that is too far",
            // The command line has no setting for the others.
            _ => return None,
        })
    }
}

/// Puts the notes of a run in the words of the command line, for everything that prints or writes them.
pub fn worded(mut output: Output) -> Output {
    for note in &mut output.notes {
        *note = Note::from(note.worded(&Terminal));
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use crate::failure::Failure;
    use crate::loading::Loading;
    use crate::painting::Painting;
    use crate::pictures::{Nets, Pictures};
    use clap::{CommandFactory, Parser};
    use impasto::{Raster, Rgb, Source};
    use std::collections::BTreeSet;

    /// Returns the long options of all commands.
    fn options() -> BTreeSet<String> {
        let commands = Arguments::command();
        let arguments = commands.get_subcommands().flat_map(clap::Command::get_arguments);
        arguments.filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect()
    }

    /// Returns the options that a text names.
    fn named(text: &str) -> Vec<String> {
        let parts = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
        parts.filter(|part| part.starts_with("--")).map(str::to_owned).collect()
    }

    #[test]
    fn remedies_name_only_options_that_exist() {
        let options = options();
        let mut without = Vec::new();
        for remedy in Remedy::ALL {
            let Some(words) = Terminal.remedy(*remedy) else {
                without.push(*remedy);
                continue;
            };
            assert!(!words.contains("::") && !words.replace("`impasto paint`", "").contains('`'), "{words}");
            assert!(named(words).iter().all(|option| options.contains(option)), "{words}");
        }
        assert_eq!(without, [Remedy::WholeDecoding, Remedy::Resume, Remedy::OwnPart], "a remedy without words");
    }

    /// The options that reach the library.
    #[derive(Parser)]
    struct Reaching {
        #[command(flatten)]
        painting: Painting,
        #[command(flatten)]
        loading: Loading,
    }

    /// Returns the message of painting with these options.
    fn message(options: &[&str]) -> String {
        let Reaching { painting, loading } = Reaching::parse_from([&["impasto"], options].concat());
        let run = || -> Result<Output, Failure> {
            let (mut pipeline, mut nets) = (loading.pipeline(Source::embedded())?, Nets::default());
            nets.load(&painting, &pipeline)?;
            let pictures = Pictures::open(&painting, &nets)?;
            Ok(painting.request(&mut pipeline, &pictures, &nets, 7)?.run()?)
        };
        match run() {
            Ok(_) => panic!("{options:?} succeeded"),
            Err(failure) => failure.to_string(),
        }
    }

    /// Options that the library takes as they are, apart from files that cannot be read.
    const NEVER_REFUSED: [&str; 9] =
        ["seed", "images", "mask", "reference", "lora", "embedding", "threads", "map", "control"];

    #[test]
    fn errors_name_the_option_that_caused_them() {
        let folder = tempfile::tempdir().unwrap();
        let save = |name: &str, color| {
            let path = folder.path().join(name);
            Raster::flat(color, (256, 256)).save(&path).unwrap();
            path.display().to_string()
        };
        let (white, red) = (save("white.png", Rgb(255, 255, 255)), save("red.png", Rgb(255, 0, 0)));
        let long = "a ".repeat(33_000);
        let cases: [(&str, &[&str], &str); 19] = [
            ("prompt", &[&long], "the prompt is a text of 66000 bytes"),
            ("negative", &["--negative", &long], "is a text of 66000 bytes"),
            ("steps", &["--steps", "0"], "--steps is 0"),
            ("best_of", &["--best-of", "0"], "--best-of is 0"),
            ("best_of", &["--best-of", "2"], "give an exact color, such as --force"),
            ("sampler", &["--sampler", "Eulr"], "--sampler \"Eulr\" is not known"),
            ("scale", &["--scale=-1"], "--scale is -1"),
            ("size", &["--size", "100x64"], "the width of --size is 100"),
            ("force", &["--force", "hat=red"], "exact color: phrase \"hat\" is not in the prompt"),
            ("area", &["--map", &red, "--area", "green=boat"], "painted areas: color #008000 is not in the map"),
            ("area", &["--map", &red, "--area", "red=boat:99"], "the STRENGTH of --area is 99"),
            ("start", &["--start", &red, "--strength", "0"], "--strength is 0"),
            ("strength", &["--start", &red, "--strength", "7"], "--strength is 7"),
            ("tolerance", &["--map", &red, "--area", "red=boat", "--tolerance=-1"], "--tolerance is -1"),
            ("strokes", &["--control", &format!("embedded={red}"), "--strokes", &white], "--strokes is"),
            ("sketch", &["--model", "embedded-colorizer"], "--sketch is missing; expected a sketch"),
            ("model", &["--model", "nowhere"], "--model is nowhere"),
            ("vae", &["--vae", "nowhere"], "--vae is nowhere"),
            ("precision", &["--precision", "f16"], "--precision is f16 on cpu"),
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
        assert_eq!(note.worded(&Terminal), want);
    }
}
