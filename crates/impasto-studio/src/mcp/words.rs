//! [`Agent`]: errors and notes in the words of the tools, with their fields in place of the library's settings.

use impasto::wording::{Remedy, Wording};

/// The words of the tools.
pub(crate) struct Agent;

impl Wording for Agent {
    fn name<'n>(&self, name: &'n str) -> &'n str {
        match name {
            "the LoRA's name" => "the NAME of <lora:NAME> in prompt",
            "solver" => "sampler",
            "grow" => "the growth of mask_where",
            "detail" => "details",
            "details.strength" => "the strength of details",
            "hires.scale" => "the scale of hires",
            "line art" | "sketch" => "line_art",
            "paint" => "the cover of areas",
            "the area's strength" => "the strength of areas",
            "the area's phrase" => "the phrase of areas",
            "the area's mask" => "the mask of areas",
            "the control's net" => "the net of controls",
            "strength of a picture" => "the strength of ip_adapter_pictures",
            "same_as" => "the thing of same_color",
            "ColorForce" => "exact color",
            "PaintWithWords" => "painted areas",
            "ReferenceColor" => "reference",
            "Colorize" => "line art",
            "Palette" => "palette",
            "Daam" | "Daam::words" => "maps of words",
            name => name,
        }
    }

    fn remedy(&self, remedy: Remedy) -> Option<&'static str> {
        Some(match remedy {
            Remedy::Model => "the user can start the server with another --model",
            Remedy::Precision | Remedy::VaePrecision => "the user can start the server with --precision f32",
            Remedy::PrecisionOrModel => "the user can start the server with --precision f32 or another --model",
            Remedy::Vae | Remedy::NoFeedback => "the user can start the server with another --vae",
            Remedy::Shift => "the user can start the server with this --shift",
            Remedy::LoraFolder => "remove the tag; the user can start the server with a folder of LoRAs (--lora-dir)",
            Remedy::TextEncoder | Remedy::SecondTextEncoder | Remedy::ThirdTextEncoder | Remedy::ImageEncoder => {
                "the user can start the server with a --model that has this part"
            }
            Remedy::ShorterPrompt => "describe the picture in fewer words",
            Remedy::NegativePrompt => "give negative",
            Remedy::Solver => "give another sampler",
            Remedy::Start => "give the picture as start",
            Remedy::Mask => "give mask or mask_where",
            Remedy::Enlarge => "ask for a smaller size, and enlarge it by hires",
            Remedy::LessMemory => "ask for a smaller size",
            Remedy::FullPicture | Remedy::PictureAlone => "give smaller pictures",
            Remedy::Sketch => "give line_art",
            Remedy::BlankSketch => "give dark lines on white paper",
            Remedy::ExactColor => "give a phrase an exact color by forces",
            Remedy::Tolerance => "give a larger tolerance, or a map in flat colors",
            Remedy::LargerArea => "give a larger area",
            Remedy::Window => "give a larger strength, or more steps",
            Remedy::LowerCutoff | Remedy::RaiseCutoff | Remedy::Phrase => "try another phrase, or another seed",
            Remedy::OtherSeed | Remedy::MaskOrRivals => "try another seed, or best_of 4",
            Remedy::MaskOrParts => "try another seed",
            Remedy::LookAtMask => "look at the picture",
            Remedy::Color => "choose another color if that is too far",
            Remedy::IpAdapter => "the user can start the server with --ip-adapter and --image-encoder",
            Remedy::ControlNet | Remedy::T2iAdapter => "the user can start the server with --net NAME=MODEL",
            // The tools have no setting for the others.
            _ => return None,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn agent_words_name_nothing_of_the_library() {
        for words in Remedy::ALL.iter().filter_map(|remedy| Agent.remedy(*remedy)) {
            assert!(!words.contains("::") && !words.contains('`'), "{words}");
        }
    }

    #[test]
    fn agent_words_name_fields_that_exist() {
        let api: Value = serde_json::from_str(crate::OPENAPI).unwrap();
        let fields = api["components"]["schemas"]["Request"]["properties"].as_object().unwrap();
        let words = Remedy::ALL.iter().filter_map(|remedy| Agent.remedy(*remedy));
        let named = words.flat_map(|words| words.split([' ', ',', ';'])).filter(|word| word.contains('_'));
        let missing: Vec<&str> = named.filter(|word| !fields.contains_key(*word)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
