//! [`Piece`]: the place of a tensor in a module of a LoRA file, which the ending of the tensor's name shows.

/// The place of a tensor in a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::weights) enum Piece {
    Down,
    Mid,
    Up,
    HadaW1A,
    HadaW1B,
    HadaW2A,
    HadaW2B,
    HadaT1,
    HadaT2,
    LokrW1,
    LokrW1A,
    LokrW1B,
    LokrW2,
    LokrW2A,
    LokrW2B,
    LokrT2,
    Diff,
    DiffOfBias,
    Scale,
    OnInput,
    OftBlocks,
    Rescale,
    GloraA1,
    GloraA2,
    GloraB1,
    GloraB2,
    DoraScale,
    MagnitudeVector,
    Alpha,
}

/// Endings of tensor names, each with the tensor's place. The first ending of a place names it in messages.
const ENDINGS: &[(&str, Piece)] = &[
    (".lora_down.weight", Piece::Down),
    (".lora_mid.weight", Piece::Mid),
    (".lora_up.weight", Piece::Up),
    (".lora.down.weight", Piece::Down),
    (".lora.up.weight", Piece::Up),
    (".lora_linear_layer.down.weight", Piece::Down),
    (".lora_linear_layer.up.weight", Piece::Up),
    ("_lora.down.weight", Piece::Down),
    ("_lora.up.weight", Piece::Up),
    (".diff", Piece::Diff),
    (".diff_b", Piece::DiffOfBias),
    // Norms have their own endings for the same differences.
    (".w_norm", Piece::Diff),
    (".b_norm", Piece::DiffOfBias),
    (ON_INPUT, Piece::OnInput),
    (".oft_blocks", Piece::OftBlocks),
    (".rescale", Piece::Rescale),
    (".a1.weight", Piece::GloraA1),
    (".a2.weight", Piece::GloraA2),
    (".b1.weight", Piece::GloraB1),
    (".b2.weight", Piece::GloraB2),
    (".dora_scale", Piece::DoraScale),
    (".alpha", Piece::Alpha),
];

/// PEFT's names of matrices, before `.weight`. The adapter's name may stand between: `….lora_A.default.weight`.
const PEFT: &[(&str, Piece)] = &[(".lora_A", Piece::Down), (".lora_B", Piece::Up)];

/// Names of parameters, after which PEFT may write the adapter's name, `.weight` or both.
const PARAMETERS: &[(&str, Piece)] = &[
    (".lora_magnitude_vector", Piece::MagnitudeVector),
    (".hada_w1_a", Piece::HadaW1A),
    (".hada_w1_b", Piece::HadaW1B),
    (".hada_w2_a", Piece::HadaW2A),
    (".hada_w2_b", Piece::HadaW2B),
    (".hada_t1", Piece::HadaT1),
    (".hada_t2", Piece::HadaT2),
    (".lokr_w1", Piece::LokrW1),
    (".lokr_w1_a", Piece::LokrW1A),
    (".lokr_w1_b", Piece::LokrW1B),
    (".lokr_w2", Piece::LokrW2),
    (".lokr_w2_a", Piece::LokrW2A),
    (".lokr_w2_b", Piece::LokrW2B),
    (".lokr_t2", Piece::LokrT2),
];

/// The ending of the tensor that tells IA3's side. The factors end in `.weight`, as the tensors of a model do, so they
/// are told by this neighbor.
const ON_INPUT: &str = ".on_input";
const SCALE: &str = ".weight";

/// Parts of tensor names that only unsupported algorithms have, and the names of these algorithms.
const UNSUPPORTED: &[(&str, &str)] = &[
    (".oft_R", "PEFT's OFT"),
    (".oft_r", "PEFT's old OFT"),
    (".boft_", "PEFT's BOFT"),
    (".ia3_l", "PEFT's IA3"),
    (".hra_u", "HRA"),
    (".vera_lambda_", "VeRA"),
];

/// Returns the unsupported algorithm that a tensor of this name belongs to; `None` if there is none.
pub(super) fn other_algorithm(name: &str) -> Option<&'static str> {
    UNSUPPORTED.iter().find(|(part, _)| name.contains(part)).map(|(_, algorithm)| *algorithm)
}

/// Returns true if only a LoRA or a related adapter has a tensor of this name.
pub(in crate::weights) fn adapts(name: &str) -> bool {
    let is_sure = |(_, piece): (&str, Piece)| !matches!(piece, Piece::Alpha | Piece::Rescale);
    other_algorithm(name).is_some() || split(name).is_some_and(is_sure)
}

/// Splits a tensor's name into the name of its module and the tensor's place; `None` if no supported form of LoRA has
/// such a tensor. IA3's factors need [`split_scale`].
pub(in crate::weights) fn split(name: &str) -> Option<(&str, Piece)> {
    let peft = |(marker, piece): &(&'static str, Piece)| {
        let (module, rest) = name.split_once(marker)?;
        (rest.starts_with('.') && rest.ends_with(".weight")).then_some((module, *piece))
    };
    let parameter = |(marker, piece): &(&'static str, Piece)| {
        let (module, rest) = name.split_once(marker)?;
        let adapter = rest.strip_suffix(".weight").unwrap_or(rest);
        (adapter.is_empty() || adapter.starts_with('.') && adapter.matches('.').count() == 1)
            .then_some((module, *piece))
    };
    let ending = |(ending, piece): &(&'static str, Piece)| Some((name.strip_suffix(ending)?, *piece));
    let found = PEFT.iter().find_map(peft).or_else(|| ENDINGS.iter().find_map(ending));
    found.or_else(|| PARAMETERS.iter().find_map(parameter))
}

/// Splits the name of IA3's factors as [`split`] does; `None` if the module has no tensor that tells IA3's side.
pub(super) fn split_scale(name: &str, has: impl Fn(&str) -> bool) -> Option<(&str, Piece)> {
    let module = name.strip_suffix(SCALE)?;
    has(&format!("{module}{ON_INPUT}")).then_some((module, Piece::Scale))
}

/// Returns true if a module of this name changes the layer of a network that reads the context for keys or values.
pub(in crate::weights) fn reads_context(module: &str) -> bool {
    let name = module.replace('.', "_").replace("_processor", "");
    let of_cosmos = |end: &str| name.ends_with(end) && !name.contains("llm_adapter");
    name.ends_with("attn2_to_k")
        || name.ends_with("attn2_to_v")
        || of_cosmos("cross_attn_k_proj")
        || of_cosmos("cross_attn_v_proj")
}

impl Piece {
    /// Returns the end of the tensor's name, as most files write it.
    pub(super) fn name(self) -> &'static str {
        let names = ENDINGS.iter().chain(PARAMETERS).find(|(_, piece)| *piece == self);
        names.map_or(SCALE, |(ending, _)| *ending).trim_start_matches('.')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_contain_the_adapter() {
        for (end, piece) in [
            ("lora_A.weight", Piece::Down),
            ("lora_B.default.weight", Piece::Up),
            ("lora_B.my.adapter.weight", Piece::Up),
            ("lora_magnitude_vector", Piece::MagnitudeVector),
            ("lora_magnitude_vector.weight", Piece::MagnitudeVector),
            ("lora_magnitude_vector.default", Piece::MagnitudeVector),
            ("lora_magnitude_vector.default.weight", Piece::MagnitudeVector),
            ("hada_w1_a.default", Piece::HadaW1A),
            ("lokr_w1", Piece::LokrW1),
            ("lokr_w1_a", Piece::LokrW1A),
            ("lokr_w2_b.default", Piece::LokrW2B),
            ("lokr_t2", Piece::LokrT2),
        ] {
            assert_eq!(split(&format!("unet.conv_in.{end}")), Some(("unet.conv_in", piece)), "{end}");
        }
        for end in ["lora_A", "lora_A.default.bias", "lora_Away.weight", "lokr_w1_c", "lokr_w3", "weight", "on_input.x"]
        {
            assert_eq!(split(&format!("unet.conv_in.{end}")), None, "{end}");
        }
    }

    #[test]
    fn factors_of_ia3_need_their_neighbor() {
        let found = |neighbor: &str| split_scale("conv_in.weight", |name| name == neighbor);
        assert_eq!(found("conv_in.on_input"), Some(("conv_in", Piece::Scale)));
        assert_eq!(found("conv_out.on_input"), None);
        assert_eq!(
            (Piece::Scale.name(), Piece::LokrT2.name(), Piece::Down.name()),
            ("weight", "lokr_t2", "lora_down.weight")
        );
    }
}
