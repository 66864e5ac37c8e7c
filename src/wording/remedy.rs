//! [`Remedy`]: a way out of what an error or a note tells.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Declares the remedies, each with its words for users of this library.
macro_rules! remedies {
    ($($(#[$doc:meta])+ $name:ident => $text:literal,)+) => {
        /// A way out of what an error or a note tells. The `Display` text is in the words of this library; other
        /// programs word a remedy by [`Wording`](crate::wording::Wording).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Remedy {
            $($(#[$doc])+ $name,)+
        }

        impl Remedy {
            /// Every remedy, for tests of a program's words.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Returns the words of this library.
            pub(crate) const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

remedies! {
    /// Load another model.
    Model => "set another checkpoint with `Builder::source`",
    /// Load the model in f32.
    Precision => "load the model in f32 with `Builder::precision`",
    /// Load the model in f32, or load another model.
    PrecisionOrModel => "use f32, or another checkpoint",
    /// Load the model with the shift that is named.
    Shift => "load the model with this shift by `LoadOptions::shift`",
    /// Load the VAE in f32.
    VaePrecision => "decode in f32 with `LoadOptions::vae_precision`",
    /// Decode pictures whole and not in tiles.
    WholeDecoding => "turn tiles off with `Tiling::whole`",
    /// Load a VAE beside the model.
    Vae => "add a VAE with `LoadOptions::vae`",
    /// Load a text encoder beside the model.
    TextEncoder => "add a text encoder with `LoadOptions::text_encoder`",
    /// Load the second text encoder of an SDXL model beside the model.
    SecondTextEncoder => "add the second text encoder with `LoadOptions::text_encoder_2`",
    /// Load T5, the third text encoder of an SD 3 model, beside the model.
    ThirdTextEncoder => "add T5 with `LoadOptions::text_encoder_3`",
    /// Load an image encoder beside the model.
    ImageEncoder => "add the vision tower that was trained with the text encoder, with `LoadOptions::image_encoder`",
    /// Load a LoRA as what it is.
    Lora => "load a model, and add LoRAs with `Model::with_lora`",
    /// Keep a LoRA beside the weights of the model.
    UnmergedLora => "add the LoRA with `Model::with_unmerged`",
    /// Name a folder of LoRAs.
    LoraFolder => "name a folder with `Pipeline::lora_folder`, or remove the tag",
    /// Load an embedding of a word as what it is.
    Embedding => "load a model, and add embeddings of words with `Model::with_embedding`",
    /// Load a ControlNet as what it is.
    ControlNet => "load a model, and load ControlNets with `Model::controlnet`",
    /// Load an IP-Adapter as what it is.
    IpAdapter => "load a model, and load IP-Adapters with `Model::ip_adapter`",
    /// Load a T2I adapter as what it is.
    T2iAdapter => "load a model, and load T2I adapters with `Model::t2i_adapter`",
    /// Name one file of a repository.
    RepositoryFile => "name one of them with `Hub::file`",
    /// Name a folder for downloaded models.
    Cache => "name a folder with `Hub::cache`",

    /// Shorten the prompt.
    ShorterPrompt => "describe the picture in fewer words, or choose `Long::Truncate`",
    /// Set a negative prompt.
    NegativePrompt => "set one with `Request::negative`",
    /// Choose a solver.
    Solver => "choose a solver with `Request::solver` or `Request::solver_named`",
    /// Give a picture to start from.
    Start => "give the picture to `Request::start`",
    /// Give the mask of the area to repaint.
    Mask => "give the mask to `Request::mask`",
    /// Give the latents of the run to resume.
    Resume => "give the latents to `Request::resume`",
    /// Paint a picture of the model's own size, enlarge it and start from it.
    Enlarge => "paint the model's own size, and a second time larger with `Request::hires`",
    /// Make a run take less memory.
    LessMemory => "paint a smaller picture, load the model in bf16 with `Builder::precision`, or decode in smaller \
                   tiles with `LoadOptions::tiling`",
    /// Give a ControlNet of a repeated run.
    Net => "attach the network with `Request::net`",
    /// Attach a ControlNet that the repeated run did not have.
    Control => "attach other networks with `Request::control`",
    /// Name the type of a hint for a ControlNet union.
    HintTypes => "name it with `Control::control_type`",
    /// Give the hint of a ControlNet as a tensor.
    TensorHint => "pass other hints as a tensor to `Control::new`",
    /// Give the lines to a ControlNet that reads pictures.
    PictureHint => "for a ControlNet with 3 channels, pass the lines with `Control::picture(&net, &sketch.raster())`",
    /// Give the full pictures of a recipe that has only thumbnails.
    FullPicture => "give the picture to `Request::from_png_with`",
    /// Save the picture without its recipe.
    PictureAlone => "use `Raster::save` to write the picture alone",
    /// Attach a part that the recipe only names.
    OwnPart => "add its reader to `Pipeline::registry_mut`, or the value with `Request::guide`, `Request::solver` or \
                `Request::combine`",

    /// Give the sketch of a model that colors sketches.
    Sketch => "add the guidance method `Colorize`",
    /// Use an empty sheet as line art.
    BlankSketch => "use `Sketch::blank` for an empty sheet",
    /// Add a guidance method that ranks pictures, such as an exact color.
    ExactColor => "add such a method, for example `ColorForce::exact`",
    /// Accept colors of a painted map that are slightly off.
    Tolerance => "set `PaintOptions::tolerance`, or save the map as PNG in flat colors",
    /// Paint a larger area.
    LargerArea => "paint a larger area, or use `Resample::Cover`",
    /// Let a guidance method act in more steps.
    Window => "widen the window",
    /// Lower the cutoff of a color force.
    LowerCutoff => "lower `saliency_cutoff`",
    /// Raise the cutoff of a color force.
    RaiseCutoff => "raise `saliency_cutoff`",
    /// Look at the mask of a color force.
    LookAtMask => "look at the mask",
    /// Look at the mask, or name parts of the thing that do not compete with it.
    MaskOrParts => "look at the mask, or name the thing's parts with `ColorForce::except`",
    /// Look at the mask, compare seeds, or name the words that compete with the thing.
    MaskOrRivals => "look at the mask, try `Request::best_of`, or name the thing's rivals with `ColorForce::among`",
    /// Compare seeds, or protect what a color force harms.
    OtherSeed => "try `Request::best_of` or another seed, or protect a thing beside it with `ColorForce::protect`",
    /// Switch off the feedback of a color force.
    NoFeedback => "set `ForceOptions::feedback` to `None`",
    /// Force another color.
    Color => "choose another color if that is too far",
    /// Name the thing by another phrase.
    Phrase => "use another phrase or saliency",
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
