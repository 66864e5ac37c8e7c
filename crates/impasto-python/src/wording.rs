//! [`Python`]: errors and notes in the words of the Python package, with its arguments in place of the library's
//! settings.

use impasto::wording::{Remedy, Wording};

/// The words of the Python package.
pub struct Python;

impl Wording for Python {
    fn name<'n>(&self, name: &'n str) -> &'n str {
        match name {
            "solver" => "sampler",
            "the control's net" => "the net of controls",
            "the LoRA's name" => "the name of <lora:name> in the prompt",
            "same_as" => "the thing of same_color",
            "hires.scale" => "the scale of hires",
            "details.strength" => "the strength of details",
            "detail" => "details",
            "sketch" | "line art" => "line_art",
            name => name,
        }
    }

    fn remedy(&self, remedy: Remedy) -> Option<&'static str> {
        Some(match remedy {
            Remedy::Model => "name another model with Pipeline(model=…)",
            Remedy::Precision | Remedy::VaePrecision => "load the model with Pipeline(precision=\"f32\")",
            Remedy::PrecisionOrModel => "use Pipeline(precision=\"f32\"), or another model",
            Remedy::Vae | Remedy::NoFeedback => "name another VAE with Pipeline(vae=…)",
            Remedy::TextEncoder => "add a text encoder with Pipeline(text_encoder=…)",
            Remedy::SecondTextEncoder => "add the second text encoder with Pipeline(text_encoder_2=…)",
            Remedy::ThirdTextEncoder => "add T5 with Pipeline(text_encoder_3=…)",
            Remedy::ImageEncoder => "name a model that has an image encoder with Pipeline(model=…)",
            Remedy::IpAdapter => "give IP-Adapters with Pipeline(ip_adapter=…, image_encoder=…)",
            Remedy::Lora => {
                "load a model, and add LoRAs by their names in the prompt, such as <lora:ink:0.8>, from the folders of \
                 Pipeline(lora_folders=[…])"
            }
            Remedy::LoraFolder => "name a folder with Pipeline(lora_folders=[…]), or remove the tag",
            Remedy::Embedding => "load a model, and name the file's folder with Pipeline(embedding_folders=[…])",
            Remedy::ControlNet | Remedy::T2iAdapter => "load a model, and give the network in controls=[…]",
            Remedy::Cache => "set HF_HUB_CACHE to a folder",
            Remedy::RepositoryFile => "download one of them (hf download OWNER/NAME FILE), and give its path instead",
            Remedy::ShorterPrompt => "describe the picture in fewer words",
            Remedy::NegativePrompt => "give one with negative=…",
            Remedy::Solver => "choose a sampler with sampler=…",
            Remedy::Start => "give the picture with start=…",
            Remedy::Mask => "give the mask with mask=…",
            Remedy::Enlarge => "paint the model's own size, and a second time larger with hires=…",
            Remedy::LessMemory => "paint a smaller picture, or use Pipeline(precision=\"bf16\")",
            Remedy::HintTypes => "name it with control_type in controls=[…]",
            Remedy::TensorHint | Remedy::PictureHint => "choose a ControlNet that reads pictures",
            Remedy::PictureAlone => "save `image` with Pillow, without the recipe",
            Remedy::Sketch => "give one with line_art=…",
            Remedy::BlankSketch => "draw dark lines on white paper",
            Remedy::ExactColor => "give an exact color, such as forces=[\"eyes=gold\"]",
            Remedy::Tolerance => "raise tolerance, or save the map as PNG in flat colors",
            Remedy::LargerArea => "paint a larger area",
            Remedy::Window => "raise strength or steps",
            Remedy::LowerCutoff | Remedy::RaiseCutoff | Remedy::Phrase => "use another phrase, or another seed",
            Remedy::LookAtMask => "look at the mask in `maps`",
            Remedy::MaskOrParts => "look at the mask in `maps`; try another seed",
            Remedy::MaskOrRivals => "look at the mask in `maps`; try best_of=4, or another seed",
            Remedy::OtherSeed => "try best_of=4, or another seed",
            Remedy::Color => "choose another color if that is too far",
            // Python has no setting for the others.
            _ => return None,
        })
    }
}
