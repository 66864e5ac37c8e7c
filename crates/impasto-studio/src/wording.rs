//! [`Page`]: errors and notes in the words of the page, with its labels in place of the library's settings.

use impasto::wording::{Remedy, Wording};

/// The words of the page.
pub struct Page;

impl Wording for Page {
    fn name<'n>(&self, name: &'n str) -> &'n str {
        match name {
            "prompt" => "Prompt",
            "the LoRA's name" => "Name of the LoRA in the prompt",
            "negative" => "Negative prompt",
            "images" => "Pictures",
            "steps" => "Steps",
            "sampler" | "solver" => "Sampler",
            "guidance_scale" => "Guidance scale",
            "best_of" => "Best of",
            "second_prompt" => "Second prompt",
            "third_prompt" => "Third prompt",
            "guidance_rescale" => "Guidance rescale",
            "reuse" => "Reuse of deep layers",
            "merge_tokens" => "Merging of tokens",
            "clip_skip" => "Clip skip",
            "memory_limit" => "Memory limit",
            "width" => "Width",
            "height" => "Height",
            "start" => "Start picture",
            "seed" => "Seed",
            "live" => "Name of the live view",
            "model" => "Model",
            "strength" => "Strength of the start picture",
            "mask" => "Mask",
            "mask_where" => "Word to repaint",
            "mask, mask_where or details" => "Mask or Details",
            "grow" => "Growth of the word to repaint",
            "keep_colors" => "Keep the colors as a whole",
            "soften" => "Soft edge of the mask",
            "feather" => "Feather",
            "masked_content" => "Masked content",
            "details" | "detail" => "Details",
            "details.strength" => "Strength of the details",
            "hires" | "hires.scale" => "Enlarge",
            "seamless" => "Seamless edges",
            "line_art" | "line art" | "sketch" => "Line art",
            "strokes" => "Strokes",
            "areas" => "Areas",
            "exact_strokes" => "Exact strokes",
            "map" => "Map of the areas",
            "paint" => "What the areas cover",
            "the area's strength" => "Strength of the area",
            "the area's phrase" => "Phrase of the area",
            "the area's mask" => "Mask of the area",
            "reference" => "Reference",
            "controls" => "Followed pictures",
            "the control's net" => "Network of a followed picture",
            "ip_adapter_pictures" => "Likeness",
            "ip_adapter_strength" => "Strength of the likeness",
            "strength of a picture" => "Strength of a likeness in a place",
            "same_color" | "same_as" => "Same color",
            "palette" | "Palette" => "Palette",
            "palette_of" => "Picture of the palette",
            "guiders" => "Kinds of guidance",
            "ColorForce" => "Exact color",
            "PaintWithWords" => "Areas",
            "ReferenceColor" => "Reference",
            "Colorize" => "Line art",
            "Daam::words" => "Maps of words",
            name => name,
        }
    }

    fn remedy(&self, remedy: Remedy) -> Option<&'static str> {
        Some(match remedy {
            Remedy::Model => "the program's option --model chooses another model",
            Remedy::Precision | Remedy::VaePrecision => "start the studio with --precision f32",
            Remedy::PrecisionOrModel => "start the studio with --precision f32 or another --model",
            Remedy::Vae | Remedy::NoFeedback => "start the studio with another VAE (--vae)",
            Remedy::Shift => "start the studio with this shift (--shift)",
            Remedy::LoraFolder => "start the studio with a folder of LoRAs (--lora-dir), or remove the tag",
            Remedy::ControlNet | Remedy::T2iAdapter => "start the studio with the network (--net)",
            Remedy::IpAdapter => "start the studio with an IP-Adapter (--ip-adapter and --image-encoder)",
            Remedy::TextEncoder => "start the studio with a text encoder (--text-encoder)",
            Remedy::SecondTextEncoder => "start the studio with the second text encoder (--text-encoder-2)",
            Remedy::ThirdTextEncoder => "start the studio with T5 (--text-encoder-3)",
            Remedy::ImageEncoder => "start the studio with a model that has this part (--model)",
            Remedy::ShorterPrompt => "describe the picture in fewer words",
            Remedy::NegativePrompt => "fill in the negative prompt",
            Remedy::Solver => "choose a sampler",
            Remedy::Start => "drop a start picture",
            Remedy::Mask => "paint a mask",
            Remedy::Enlarge => "paint a smaller picture, and choose a factor under Enlarge",
            Remedy::LessMemory => "paint a smaller picture, or start the studio with --precision bf16",
            Remedy::FullPicture | Remedy::PictureAlone => "use smaller pictures",
            Remedy::Sketch => "draw line art",
            Remedy::BlankSketch => "draw dark lines, or clear the layer of line art",
            Remedy::ExactColor => "give a word an exact color",
            Remedy::LargerArea => "paint a larger area",
            Remedy::Window => "raise the strength of the start picture, or the steps",
            Remedy::LowerCutoff | Remedy::RaiseCutoff | Remedy::Phrase => "try other words, or another seed",
            Remedy::OtherSeed => "try another seed",
            Remedy::LookAtMask => "click the color in the report to see its mask",
            Remedy::MaskOrParts | Remedy::MaskOrRivals => {
                "click the color in the report to see its mask, and try another seed"
            }
            Remedy::Color => "choose another color if that is too far",
            // The page has no setting for the others.
            _ => return None,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::painting::Painter;
    use crate::request::JobRequest;
    use impasto::raster::Layer;
    use impasto::sampler::CancelToken;
    use impasto::{Pipeline, Raster, Rgb, Size, Source};
    use serde_json::{Value, json};

    #[test]
    fn remedies_name_nothing_of_the_library() {
        let mut without = Vec::new();
        for remedy in Remedy::ALL {
            match Page.remedy(*remedy) {
                Some(words) => assert!(!words.contains("::") && !words.contains('`'), "{words}"),
                None => without.push(*remedy),
            }
        }
        let elsewhere = [
            Remedy::WholeDecoding,
            Remedy::Lora,
            Remedy::UnmergedLora,
            Remedy::Embedding,
            Remedy::RepositoryFile,
            Remedy::Cache,
            Remedy::Resume,
            Remedy::Net,
            Remedy::Control,
            Remedy::HintTypes,
            Remedy::TensorHint,
            Remedy::PictureHint,
            Remedy::OwnPart,
            Remedy::Tolerance,
        ];
        assert_eq!(without, elsewhere, "a remedy without words");
    }

    fn painter(source: Source) -> Painter {
        Painter::new(Pipeline::builder().source(source).build().unwrap().into(), false, &Options::default()).unwrap()
    }

    /// Returns the message of a request that fails.
    fn message(painter: &mut Painter, request: Value) -> String {
        let (options, token) = (Options::default(), CancelToken::new());
        let request = match JobRequest::read(request, &options) {
            Err(refusal) => return refusal,
            Ok(request) => request,
        };
        match painter.paint(&request, &token, |_, _| Ok(())) {
            Err(error) => error.worded(&Page),
            Ok(_) => panic!("{request:?} is accepted"),
        }
    }

    /// The fields that every value of their type is right for.
    const NEVER_REFUSED: [&str; 6] = ["syntax", "color_words", "spacing", "noise_kind", "match_tone", "batching"];

    #[test]
    fn errors_name_the_field_that_caused_them() {
        let url = |color: Rgb, size: (u32, u32)| Raster::flat(color, size).data_url().unwrap();
        let (white, red) = (url(Rgb(255, 255, 255), (64, 64)), url(Rgb(255, 0, 0), (64, 64)));
        let area = |strength: f64| json!([{ "phrase": "boat", "strength": strength, "mask": white }]);
        let strokes = serde_json::to_value(Layer::new(Size::new(64, 64))).unwrap();
        let long = "a ".repeat(2500);
        let large = Raster::flat(Rgb(0, 0, 0), (4096, 1)).data_url().unwrap();
        let phrase = json!([{ "phrase": long, "mask": white }]);
        let enlarged = |width: u32| json!({ "hires": { "scale": 2, "strength": 0.5 }, "width": width, "height": 64 });
        let map = json!({ "map": white, "areas": [{ "phrase": "boat", "color": "red" }] });
        let cases: [(&str, Value, &str); 55] = [
            ("second_prompt", json!({ "second_prompt": "a hat" }), "Second prompt is"),
            ("second_negative", json!({ "second_negative": "a hat" }), "Second prompt is"),
            ("third_prompt", json!({ "third_prompt": "a hat" }), "Third prompt is"),
            ("third_negative", json!({ "third_negative": "a hat" }), "Third prompt is"),
            ("micro_conditioning", json!({ "micro_conditioning": "crop=1x1" }), "micro_conditioning is set"),
            ("negative_micro_conditioning", json!({ "negative_micro_conditioning": {} }), "micro_conditioning is set"),
            ("best_of", json!({ "best_of": 17 }), "Best of is 17; expected 1 to 16"),
            ("guidance_rescale", json!({ "guidance_rescale": -1 }), "Guidance rescale is -1"),
            ("reuse", json!({ "reuse": 0 }), "Reuse of deep layers is 0"),
            ("merge_tokens", json!({ "merge_tokens": 0.8 }), "Merging of tokens is 0.8"),
            ("clip_skip", json!({ "clip_skip": 99 }), "Clip skip is 99; expected 1 to"),
            ("memory_limit", json!({ "memory_limit": 1 }), "Memory limit is 1 MiB; expected"),
            ("variation", json!({ "variation": [7, 2] }), "variation is 2"),
            ("until", json!({ "until": 0.5 }), "until is given"),
            ("noise", json!({ "noise": { "seed": 7 } }), "noise"),
            ("forces", json!({ "forces": ["hat=red"] }), "Exact color: phrase \"hat\" is not in the prompt"),
            ("same_color", json!({ "same_color": ["hat=boat"] }), "Exact color: phrase \"hat\" is not in the prompt"),
            ("palette", json!({ "palette": ["red:-1"] }), "the share of a palette's color is -1"),
            ("palette_of", json!({ "palette_of": large }), "Picture of the palette has 4096×1 pixels"),
            ("guiders", json!({ "guiders": ["apg", "fdg"] }), "Kinds of guidance is apg and fdg"),
            ("map", map, "Areas: color #ff0000 is not in the map"),
            ("tolerance", json!({ "tolerance": 9 }), "tolerance is given without Map of the areas"),
            (
                "controls",
                json!({ "controls": [{ "net": "other", "picture": white }] }),
                "Network of a followed picture is \"other\"",
            ),
            (
                "ip_adapter_pictures",
                json!({ "ip_adapter_pictures": [white] }),
                "Likeness is given; expected no picture",
            ),
            ("ip_adapter_strength", json!({ "ip_adapter_strength": 1 }), "Strength of the likeness is given without"),
            ("exact_strokes", json!({ "exact_strokes": true }), "Exact strokes is given without Strokes"),
            ("keep_colors", json!({ "keep_colors": true }), "Keep the colors as a whole is given without Start"),
            ("prompt", json!({ "prompt": long }), "Prompt has 5000 bytes"),
            ("negative", json!({ "negative": long }), "Negative prompt has 5000 bytes"),
            ("images", json!({ "images": 9 }), "Pictures is 9; expected 1 to 4"),
            ("steps", json!({ "steps": 0 }), "Steps is 0; expected 1 to 150"),
            ("sampler", json!({ "sampler": "Eulr" }), "Sampler \"Eulr\" is not known"),
            ("guidance_scale", json!({ "guidance_scale": -1 }), "Guidance scale is -1"),
            ("size", json!({ "width": 100, "height": 64 }), "Width is 100"),
            ("size", json!({ "width": 64, "height": 100 }), "Height is 100"),
            ("strokes", json!({ "strokes": strokes, "exact_strokes": true }), "Strokes is painted in 0 colors"),
            ("areas", json!({ "areas": area(99.0) }), "Areas: Strength of the area is 99"),
            ("start", json!({ "start": red, "strength": 0 }), "Strength of the start picture is 0"),
            ("strength", json!({ "start": red, "strength": 7 }), "Strength of the start picture is 7"),
            ("seed", json!({ "seed": 1u64 << 60 }), "Seed is 1152921504606846976"),
            ("mask", json!({ "mask": white }), "Mask is given without Start picture"),
            ("mask_where", json!({ "mask_where": "boat" }), "Word to repaint is given without Start picture"),
            ("soften", json!({ "soften": -1, "details": ["boat"] }), "Soft edge of the mask is -1"),
            ("feather", json!({ "feather": -1, "details": ["boat"] }), "Feather is -1"),
            ("masked_content", json!({ "masked_content": "noise" }), "Masked content is given without Mask or Details"),
            ("details", json!({ "details": ["boat:2"] }), "Strength of the details is 2"),
            ("hires", json!({ "hires": { "scale": 8, "strength": 0.5 } }), "Enlarge is 8; expected at most 4.00"),
            ("hires", enlarged(1016), "Enlarge is 2; expected none for 1016×64 pixels, because no side may be longer"),
            ("hires", enlarged(1024), "than 1024; the program's option --side allows longer ones"),
            (
                "seamless",
                json!({ "start": url(Rgb(0, 0, 0), (61, 64)), "width": null, "seamless": "both" }),
                "Seamless edges is set for 61×64",
            ),
            ("model", json!({ "model": "other" }), "Model is \"other\"; expected none"),
            ("live", json!({ "live": long }), "Name of the live view has 5000 bytes"),
            ("reference", json!({ "reference": large }), "Reference has 4096×1 pixels; expected sides of 1 to 2048"),
            ("areas", json!({ "areas": phrase }), "Phrase of the area has 5000 bytes"),
            ("areas", json!({ "areas": [{ "phrase": "boat", "mask": large }] }), "Mask of the area has 4096×1 pixels"),
        ];
        let mut tested = NEVER_REFUSED.to_vec();
        let mut painter = painter(Source::embedded());
        for (field, change, expected) in cases {
            let mut request = json!({ "prompt": "a boat", "seed": 7 });
            request.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let message = message(&mut painter, request);
            assert!(message.contains(expected), "{field}: {message}");
            tested.push(field);
        }
        let message = message(&mut self::painter(Source::embedded_colorizer()), json!({}));
        assert!(message.starts_with("Line art is missing"), "{message}");
        tested.push("line_art");
        let fields = serde_json::to_value(JobRequest::default()).unwrap();
        let forgotten: Vec<&String> =
            fields.as_object().unwrap().keys().filter(|field| !tested.contains(&field.as_str())).collect();
        assert!(forgotten.is_empty(), "fields without a case: {forgotten:?}");
    }
}
