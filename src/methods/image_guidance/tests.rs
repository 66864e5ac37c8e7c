//! Tests of the tween's laws, and of numbers that follow from FlexDiffuse's formulas alone. A script computed those
//! numbers in double precision, compared them with FlexDiffuse itself, and wrote `tests/golden/specs/flexdiffuse.json`.

use super::concepts::Concepts;
use super::pairing::{Pair, align, read, similarity};
use super::params::Compat;
use super::report::ConceptHit;
use super::tween::{batch, directly, put};
use super::weights::cluster_ramp;
use super::{GuidanceParams, Mapping, Space, tween};
use crate::diffusion::Noise;
use crate::error::Result;
use serde_json::Value;
use tch::{Kind, Tensor};

/// Returns a partner for each token of a prompt.
fn pair_tokens(similarity: &Tensor, mapping: Mapping) -> Result<Vec<Pair>> {
    Ok(align(&read(similarity)?, mapping, true))
}

/// Returns a prompt's tokens, [t, d], replaced by a picture's, [a, d].
fn direct_tokens(text: &Tensor, alternate: &Tensor, pull: f64) -> Result<Tensor> {
    let (text, guide) = (batch("prompt tokens", text)?, batch("guide tokens", alternate)?);
    Ok(directly(&text, &guide, text.size3()?.1, pull)?.f_squeeze_dim(0)?)
}

/// Replaces the tokens in `moved`, the result of a tween, whose `text` resembles a concept above `accept`. Also returns
/// the replacements.
fn map_concepts(
    text: &Tensor,
    moved: &Tensor,
    guide: &Tensor,
    concept: &Tensor,
    accept: f64,
) -> Result<(Tensor, Vec<ConceptHit>)> {
    let concepts = Concepts { tokens: concept.shallow_clone(), words: None, prompt: None, accept };
    let hits = concepts.hits(text, guide, 0, 100.0)?;
    Ok((put(moved, &guide.f_to_kind(moved.kind())?, &hits, 0)?, hits))
}

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/specs/flexdiffuse.json");
    serde_json::from_slice(&std::fs::read(path).expect("the file is there")).expect("it is JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().expect("a number")],
    }
}

fn integers(value: &Value) -> Vec<i64> {
    numbers(value).into_iter().map(|number| number as i64).collect()
}

/// Converts rows of numbers to an f32 matrix.
fn matrix(value: &Value) -> Tensor {
    let rows = value.as_array().expect("rows").len() as i64;
    Tensor::from_slice(&numbers(value)).to_kind(Kind::Float).reshape([rows, -1])
}

#[track_caller]
fn close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    let apart = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart <= tolerance, "{apart:e} apart, {tolerance:e} allowed");
}

#[track_caller]
fn near(got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.size(), want.size());
    let apart = (got.to_kind(Kind::Double) - want.to_kind(Kind::Double)).abs().max().double_value(&[]);
    assert!(apart <= tolerance, "{apart:e} apart, {tolerance:e} allowed");
}

fn inputs(golden: &Value) -> [Tensor; 3] {
    ["text", "alternate", "concept"].map(|name| matrix(&golden["inputs"][name]))
}

fn mapping(mode: &str, reuse: bool) -> Mapping {
    match mode {
        "best_fit" => Mapping::BestFit { reuse },
        "text_order" => Mapping::TextOrder { reuse },
        "direct" => Mapping::Direct,
        other => panic!("{other} is not a mode"),
    }
}

fn params(value: &Value, compat: Compat) -> GuidanceParams {
    let number = |name: &str| value[name].as_f64().expect("a number");
    let linear = numbers(&value["linear"]);
    GuidanceParams {
        threshold: (number("threshold_mult"), number("threshold_floor")),
        clustered: number("clustered"),
        linear: (linear[0], linear[1]),
        max_guidance: number("max_guidance"),
        header_max: number("header_max"),
        mapping: mapping(value["mode"].as_str().unwrap(), value["reuse"].as_bool().unwrap()),
        snap: value["snap"].as_bool().unwrap(),
        compat,
        ..GuidanceParams::default()
    }
}

/// Returns the partners' rows, −1 for a token without one, as in the golden file.
fn partners(pairs: impl Iterator<Item = Option<i64>>) -> Vec<i64> {
    pairs.map(|alternate| alternate.unwrap_or(-1)).collect()
}

#[test]
fn similarity_equals_the_formula() -> Result<()> {
    let golden = golden();
    let [text, alternate, _] = inputs(&golden);
    near(&similarity(&alternate, &text, 100.0)?, &matrix(&golden["similarity"]), 2e-5);
    Ok(())
}

#[test]
fn pairs_equal_the_golden_file_in_every_mode() -> Result<()> {
    let golden = golden();
    let [text, alternate, _] = inputs(&golden);
    let s = similarity(&alternate, &text, 100.0)?;
    for (name, want) in golden["assign"].as_object().unwrap() {
        let (mode, reuse) = name.rsplit_once('_').unwrap();
        if mode == "direct" {
            continue; // recorded with FlexDiffuse's shift; the tests of `tween` cover both modes
        }
        let pairs = pair_tokens(&s, mapping(mode, reuse == "reuse"))?;
        let index = partners(pairs[1..].iter().map(|pair| pair.alternate.map(|row| row as i64)));
        assert_eq!(index, integers(&want["index"]), "{name}");
        close(&pairs[1..].iter().map(|pair| pair.similarity).collect::<Vec<_>>(), &numbers(&want["sim"]), 2e-5);
        assert_eq!((pairs[0].alternate, pairs[0].similarity), (Some(0), 0.0));
    }
    let (best, order) = (Mapping::BestFit { reuse: true }, Mapping::TextOrder { reuse: true });
    assert_eq!(pair_tokens(&s, best)?, pair_tokens(&s, order)?);
    Ok(())
}

#[test]
fn cluster_ramp_counts_a_plateau_as_one_peak() {
    let golden = golden();
    for case in golden["clustered"].as_array().unwrap().iter().chain(golden["clustered_plateau"].as_array().unwrap()) {
        let number = |name: &str| case[name].as_f64().unwrap();
        match (cluster_ramp(&numbers(&case["sim"]), number("floor"), number("gain")), &case["weights"]) {
            (None, Value::Null) => {}
            (Some(got), want) => close(&got, &numbers(want), 1e-6),
            (None, want) => panic!("no peak, but {want}"),
        }
    }
}

#[test]
fn blend_equals_the_golden_file_in_both_modes() {
    for case in golden()["blend"].as_array().unwrap() {
        let (a, b) = (numbers(&case["a"]), numbers(&case["b"]));
        assert_eq!(Compat::Upstream.blend(&a, &b), numbers(&case["compat"]), "{case}");
        assert_eq!(Compat::Aligned.blend(&a, &b), numbers(&case["signed"]), "{case}");
    }
}

/// Compares one tween with its golden record.
#[track_caller]
fn agrees(text: &Tensor, alternate: &Tensor, params: &GuidanceParams, want: &Value) {
    let (moved, report) = tween(text, alternate, params).expect("it can be done");
    let tokens = &report.prompts[0].tokens;
    assert_eq!(partners(tokens.iter().map(|token| token.alternate)), integers(&want["index"]));
    close(&tokens.iter().map(|token| token.similarity).collect::<Vec<_>>(), &numbers(&want["sim"]), 2e-5);
    close(&tokens.iter().map(|token| token.weight).collect::<Vec<_>>(), &numbers(&want["weights"]), 1e-5);
    near(&moved, &matrix(&want["out"]), 2e-5);
    for (row, token) in (0..).zip(tokens).filter(|(_, token)| token.share == 0.0) {
        assert_eq!(moved.get(row), text.get(row), "token {} is not moved", token.position);
    }
    for (row, token) in (0..).zip(tokens).filter(|(_, token)| token.share == 1.0) {
        assert_eq!(moved.get(row), alternate.get(token.alternate.unwrap()), "token {row} is replaced");
    }
}

#[test]
fn tween_equals_the_golden_file_in_fifteen_settings() {
    let golden = golden();
    let [text, alternate, _] = inputs(&golden);
    let cases = golden["tween"].as_object().unwrap();
    assert_eq!(cases.len(), 15);
    for record in cases.values() {
        agrees(&text, &alternate, &params(&record["params"], Compat::Aligned), &record["aligned"]);
        agrees(&text, &alternate, &params(&record["params"], Compat::Upstream), &record["compat"]);
    }
    // The default settings are FlexDiffuse's own.
    assert_eq!(params(&cases["defaults"]["params"], Compat::Aligned), GuidanceParams::default());
    assert_eq!(params(&cases["ui_defaults"]["params"], Compat::Aligned), GuidanceParams::ui());
}

#[test]
fn tokens_without_a_partner_stay_unchanged() {
    let golden = golden();
    let [text, alternate, _] = inputs(&golden);
    let few = alternate.narrow(0, 0, golden["few_alternates"]["count"].as_i64().unwrap());
    for name in ["text_order", "best_fit", "direct"] {
        let record = &golden["few_alternates"][name];
        agrees(&text, &few, &params(&record["params"], Compat::Aligned), record);
    }
}

#[test]
fn concepts_replace_similar_tokens() -> Result<()> {
    let golden = golden();
    let [text, alternate, concept] = inputs(&golden);
    let accept = golden["concept"]["accept"].as_f64().unwrap();
    let (moved, hits) = map_concepts(&text, &text, &alternate, &concept, accept)?;
    let hits: Vec<i64> = hits.iter().flat_map(|hit| [hit.position, hit.concept, hit.alternate]).collect();
    assert_eq!(hits, integers(&golden["concept"]["hits"]));
    near(&moved, &matrix(&golden["concept"]["out"]), 2e-5);
    // The result keeps the kind of the moved tokens.
    let (half, _) = map_concepts(&text, &text.to_kind(Kind::Half), &alternate, &concept, accept)?;
    assert_eq!(half, moved.to_kind(Kind::Half));
    Ok(())
}

#[test]
fn directly_replaces_tokens_by_the_pictures_tokens() -> Result<()> {
    let golden = golden();
    let [text, alternate, _] = inputs(&golden);
    let record = &golden["direct_image"];
    assert_eq!(record["tokens"].as_i64(), Some(text.size()[0]));
    near(&direct_tokens(&text, &alternate, record["pull"].as_f64().unwrap())?, &matrix(&record["out"]), 1e-5);
    // Prompt tokens beyond the picture's last token stay.
    let few = direct_tokens(&text, &alternate.narrow(0, 0, 4), 0.85)?;
    assert_eq!((few.narrow(0, 1, 3), few.narrow(0, 4, 9)), (alternate.narrow(0, 1, 3), text.narrow(0, 4, 9)));
    Ok(())
}

/// Returns parameters that move every token by 1, apart from limits that a test adds.
fn whole() -> GuidanceParams {
    GuidanceParams { linear: (1.0, 1.0), header_max: 1.0, snap: false, ..GuidanceParams::off() }
}

fn random(seed: u64, shape: &[i64]) -> Result<Tensor> {
    Noise::shared(seed).draw(shape)
}

#[test]
fn tween_with_zero_weights_changes_nothing() -> Result<()> {
    let (text, guide) = (random(1, &[2, 7, 4])?, random(2, &[5, 4])?);
    let (moved, report) = tween(&text, &guide, &GuidanceParams::off())?;
    assert_eq!(moved, text);
    assert!(report.prompts.len() == 2 && report.prompts[0].replaced.is_empty());
    Ok(())
}

#[test]
fn prompt_guided_by_itself_stays_the_same() -> Result<()> {
    let golden = golden();
    let [text, ..] = inputs(&golden);
    let params = GuidanceParams { mapping: Mapping::Direct, ..GuidanceParams::default() };
    near(&tween(&text, &text, &params)?.0, &text, 1e-6);
    Ok(())
}

#[test]
fn larger_max_guidance_moves_nearer_to_the_guide() -> Result<()> {
    let golden = golden();
    let [text, alternate, _] = inputs(&golden);
    let mut last = f64::INFINITY;
    for most in 0..=10 {
        let params = GuidanceParams { max_guidance: f64::from(most) / 10.0, ..whole() };
        let (moved, report) = tween(&text, &alternate, &params)?;
        let rows: Vec<i64> = report.prompts[0].tokens.iter().map(|token| token.alternate.unwrap()).collect();
        let left = (moved - alternate.index_select(0, &Tensor::from_slice(&rows))).norm().double_value(&[]);
        assert!(left < last, "{left} after {last}");
        last = left;
    }
    assert_eq!(last, 0.0);
    Ok(())
}

#[test]
fn tween_of_a_batch_equals_tweens_of_its_rows() -> Result<()> {
    let (text, guide) = (random(3, &[3, 9, 6])?, random(4, &[3, 11, 6])?);
    let params = GuidanceParams::default();
    let (all, report) = tween(&text, &guide, &params)?;
    let (shared, _) = tween(&text, &guide.get(1), &params)?;
    let (fanned, _) = tween(&text.get(1), &guide, &params)?;
    for row in 0..3 {
        let (own, alone) = tween(&text.get(row), &guide.get(row), &params)?;
        near(&all.get(row), &own, 1e-6);
        assert_eq!(report.prompts[row as usize], alone.prompts[0]);
        near(&shared.get(row), &tween(&text.get(row), &guide.get(1), &params)?.0, 1e-6);
        near(&fanned.get(row), &tween(&text.get(1), &guide.get(row), &params)?.0, 1e-6);
    }
    Ok(())
}

#[test]
fn half_precision_is_computed_in_f32() -> Result<()> {
    for (kind, tolerance) in [(Kind::Half, 2e-3), (Kind::BFloat16, 2e-2)] {
        let [text, guide] = [random(5, &[9, 6])?, random(6, &[11, 6])?].map(|tokens| tokens.to_kind(kind));
        let (moved, _) = tween(&text, &guide, &GuidanceParams::default())?;
        assert_eq!(moved.kind(), kind);
        let (full, _) = tween(&text.to_kind(Kind::Float), &guide.to_kind(Kind::Float), &GuidanceParams::default())?;
        assert_eq!(moved, full.to_kind(kind));
        near(&moved, &full, tolerance);
    }
    Ok(())
}

#[test]
fn tween_refuses_bad_input_with_its_values() -> Result<()> {
    let (text, guide) = (random(7, &[9, 6])?, random(8, &[11, 6])?);
    let message = |text: &Tensor, guide: &Tensor, params: GuidanceParams| {
        tween(text, guide, &params).expect_err("it is refused").to_string()
    };
    let ok = GuidanceParams::default();
    for (params, said) in [
        (GuidanceParams { threshold: (1.5, 0.5), ..ok }, "threshold is 1.5; expected -1 to 1"),
        (GuidanceParams { threshold: (0.5, -0.1), ..ok }, "threshold floor is -0.1; expected 0 to 1"),
        (GuidanceParams { clustered: -2.0, ..ok }, "clustered is -2"),
        (GuidanceParams { linear: (f64::NAN, 0.0), ..ok }, "linear start is NaN"),
        (GuidanceParams { linear: (0.0, f64::INFINITY), ..ok }, "linear end is inf"),
        (GuidanceParams { max_guidance: 1.1, ..ok }, "max_guidance is 1.1; expected 0 to 1"),
        (GuidanceParams { header_max: -1.0, ..ok }, "header_max is -1"),
        (GuidanceParams { temperature: 0.0, ..ok }, "temperature is 0; expected a number above 0"),
        (GuidanceParams { temperature: f64::INFINITY, ..ok }, "temperature is inf"),
        (GuidanceParams { space: Space::Joint, ..ok }, "space is Joint"),
    ] {
        let got = message(&text, &guide, params);
        assert!(got.contains(said), "{got}");
    }
    let got = message(&text, &random(8, &[11, 5])?, ok);
    assert!(got.contains("[1, 11, 5]") && got.contains("a width of 6"), "{got}");
    assert!(message(&text, &random(8, &[11])?, ok).contains("[tokens, width] or [n, tokens, width]"));
    assert!(message(&random(7, &[2, 9, 6])?, &random(8, &[3, 11, 6])?, ok).contains("1 row for all images, or 2"));
    for (value, said) in [(0.0, "length 0"), (f64::NAN, "length NaN"), (f64::INFINITY, "length inf")] {
        let bad = guide.copy();
        let _ = bad.get(3).fill_(value);
        let got = message(&text, &bad, ok);
        assert!(got.contains(&format!("guide token is a vector of {said} at position 3")), "{got}");
        let got = message(&bad, &guide, ok);
        assert!(got.contains(&format!("prompt token is a vector of {said} at position 3")), "{got}");
    }
    Ok(())
}
