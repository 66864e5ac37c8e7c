//! [`Manipulation`]: words that change the tokens of a reference picture.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use tch::{Kind, Tensor};

/// Factor by which the tokens that resemble the control text least move away from the target.
const RATIO: f64 = 2.0;
/// Largest scale that is accepted; ColorizeDiffusion's application stops at 15.
const LARGEST: f64 = 100.0;

/// A change of a reference's tokens towards a text: more of `target`, and less of `anchor` if there is one.
///
/// ```
/// use impasto::methods::colorize::Manipulation;
/// let blonde = Manipulation {
///     anchor: Some("the girl's brown hair".into()),
///     ..Manipulation::new("the girl's blonde hair", 8.0)
/// };
/// assert_eq!(blonde.thresholds, [0.5, 0.55, 0.65, 0.95]);
/// ```
///
/// Source: ColorizeDiffusion (arXiv 2401.01456), section "Text-based manipulation", and its code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manipulation {
    /// Text that the tokens are moved towards.
    pub target: String,
    /// Text that the tokens are moved away from.
    pub anchor: Option<String>,
    /// Text that selects the tokens to move; `None` moves all tokens alike.
    pub control: Option<String>,
    /// Projection on the target that the tokens get, 0..=100; 0 to 15 is usual.
    pub scale: f64,
    /// True to remove the tokens' projection on the anchor and then move the tokens towards the target. False to move
    /// the tokens along the difference of target and anchor, without measuring their projection on the anchor. Without
    /// an anchor, only models that read one token for the whole picture read this field: true adds `scale` times the
    /// target, and false sets the projection on the target to `scale`.
    pub enhance: bool,
    /// Upper ends of the first four of five ranges of resemblance to the control text: rising numbers in 0..=1.
    pub thresholds: [f64; 4],
}

/// TextVectors of a manipulation as unit vectors in the space of the tokens.
#[derive(Debug)]
pub(super) struct TextVectors {
    /// The vector of [`Manipulation::target`].
    pub target: Tensor,
    /// The vector of [`Manipulation::anchor`].
    pub anchor: Option<Tensor>,
    /// The vector of [`Manipulation::control`].
    pub control: Option<Tensor>,
}

impl Manipulation {
    /// Moves all tokens towards `target`, with the usual thresholds.
    pub fn new(target: impl Into<String>, scale: f64) -> Self {
        let thresholds = [0.5, 0.55, 0.65, 0.95];
        Self { target: target.into(), anchor: None, control: None, scale, enhance: false, thresholds }
    }

    /// Parses manipulations as ColorizeDiffusion's application writes them, one in each line.
    ///
    /// The form is `[target] T; [anchor] A; [control] C; [scale] S; [enhanced] True; [ts0] 0.5; [ts1] 0.55; [ts2] 0.65;
    /// [ts3] 0.95`. All fields but the target may be missing. An empty text or `none` means no text.
    ///
    /// ColorizeDiffusion takes every word after `[enhanced]` for true, even `False`; here `False` is false.
    ///
    /// # Errors
    /// [`Error::Parameter`] for an unreadable field, with the number of its line.
    pub fn parse(lines: &str) -> Result<Vec<Self>> {
        let numbered = (1..).zip(lines.lines()).filter(|(_, line)| !line.trim().is_empty());
        numbered.map(|(number, line)| Self::parse_line(number, line)).collect()
    }

    fn parse_line(number: usize, line: &str) -> Result<Self> {
        let refused = |value: &str, expected: String| {
            Error::parameter("manipulation", format!("{value:?} in line {number}"), expected)
        };
        let mut parsed = Self::new("", 0.0);
        for field in line.split(';').map(str::trim).filter(|field| !field.is_empty()) {
            let split = field.strip_prefix('[').and_then(|field| field.split_once(']'));
            let Some((name, value)) = split.map(|(name, value)| (name, value.trim())) else {
                return Err(refused(field, "the form [name] value, such as [scale] 5".into()));
            };
            let text = || (!value.is_empty() && !value.eq_ignore_ascii_case("none")).then(|| value.to_owned());
            let figure = || value.parse::<f64>().map_err(|_| refused(field, format!("a number after [{name}]")));
            match name {
                "target" => parsed.target = text().unwrap_or_default(),
                "anchor" => parsed.anchor = text(),
                "control" => parsed.control = text(),
                "scale" => parsed.scale = figure()?,
                "enhanced" => {
                    parsed.enhance = match value.to_ascii_lowercase().as_str() {
                        "true" => true,
                        "false" => false,
                        _ => return Err(refused(field, "True or False after [enhanced]".into())),
                    }
                }
                "ts0" => parsed.thresholds[0] = figure()?,
                "ts1" => parsed.thresholds[1] = figure()?,
                "ts2" => parsed.thresholds[2] = figure()?,
                "ts3" => parsed.thresholds[3] = figure()?,
                _ => {
                    return Err(refused(
                        field,
                        "one of target, anchor, control, scale, enhanced, and ts0 to ts3".into(),
                    ));
                }
            }
        }
        parsed.check()?;
        Ok(parsed)
    }

    /// Checks the settings of the manipulation.
    ///
    /// # Errors
    /// [`Error::Parameter`] for an empty target, a scale that is out of range, and thresholds that do not rise in
    /// 0..=1.
    pub(super) fn check(&self) -> Result<()> {
        if self.target.trim().is_empty() {
            return Err(Error::parameter("target", "empty", "a text to move the picture towards"));
        }
        if !(0.0..=LARGEST).contains(&self.scale) {
            return Err(Error::parameter("scale", self.scale, format!("0..={LARGEST}; 0 to 15 is usual")));
        }
        let rises = self.thresholds.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        if !rises || self.thresholds.iter().any(|threshold| !(0.0..=1.0).contains(threshold)) {
            let expected = "four rising numbers in 0..=1; .5, .55, .65 and .95 are usual";
            return Err(Error::parameter("thresholds", format!("{:?}", self.thresholds), expected));
        }
        Ok(())
    }

    /// Returns the tokens with each patch's token moved. How far the token is moved depends on the patch's resemblance
    /// to the control text; without a control text, all are moved alike. `tokens` is [n, 1 + patches, width]; the first
    /// token stands for the whole picture and is only measured.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::Error::Torch) for vectors of another width.
    pub(super) fn local(&self, tokens: &Tensor, texts: &TextVectors) -> Result<Tensor> {
        let count = tokens.size3()?.1;
        let (whole, patches) = (tokens.f_narrow(1, 0, 1)?, tokens.f_narrow(1, 1, count - 1)?);
        let has = |of: &Tensor, text: &Tensor| -> Result<Tensor> { Ok(of.f_matmul(text)?.f_unsqueeze(-1)?) };
        let measured = match &texts.anchor {
            Some(anchor) if self.enhance => anchor,
            _ => &texts.target,
        };
        // The projection that the whole picture lacks, [n, 1, 1].
        let missing = has(&whole, measured)?.f_neg()?.f_add_scalar(self.scale)?;
        let mut weights = match &texts.control {
            Some(control) => local_weights(&has(&patches, control)?, &missing, self.thresholds)?,
            None => missing.f_expand([-1, count - 1, 1], false)?,
        };
        let direction = match &texts.anchor {
            Some(anchor) => {
                if self.enhance {
                    weights = weights.f_add(&has(&patches, anchor)?)?;
                }
                texts.target.f_sub(anchor)?
            }
            None => texts.target.shallow_clone(),
        };
        Ok(Tensor::f_cat(&[whole, patches.f_add(&weights.f_mul(&direction)?)?], 1)?)
    }

    /// Moves all tokens, [n, tokens, width], alike, for models that read the token of the whole picture.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::Error::Torch) for vectors of another width.
    pub(super) fn global(&self, tokens: &Tensor, texts: &TextVectors) -> Result<Tensor> {
        let has =
            |of: &Tensor, text: &Tensor| -> Result<Tensor> { Ok(of.f_matmul(text)?.f_unsqueeze(-1)?.f_mul(text)?) };
        let TextVectors { target, anchor, .. } = texts;
        Ok(match anchor {
            Some(anchor) if !self.enhance => tokens.f_add(&target.f_sub(anchor)?.f_mul_scalar(self.scale)?)?,
            Some(anchor) => tokens.f_sub(&has(tokens, anchor)?)?.f_add(&target.f_mul_scalar(self.scale)?)?,
            None if self.enhance => tokens.f_add(&target.f_mul_scalar(self.scale)?)?,
            None => tokens.f_add(&target.f_mul_scalar(self.scale)?)?.f_sub(&has(tokens, target)?)?,
        })
    }
}

impl fmt::Display for Manipulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".into());
        let Self { target, anchor, control, scale, enhance, thresholds: [a, b, c, d] } = self;
        let enhanced = if *enhance { "True" } else { "False" };
        write!(f, "[target] {target}; [anchor] {}; [control] {}; ", text(anchor), text(control))?;
        write!(f, "[scale] {scale}; [enhanced] {enhanced}; [ts0] {a}; [ts1] {b}; [ts2] {c}; [ts3] {d}")
    }
}

/// Returns weights of patches from their resemblance to a control text, [n, patches, 1], times `missing`, [n, 1, 1].
/// `missing` is the projection that the whole picture lacks. The resemblances of a picture are scaled to 0..=1; if all
/// are equal, the weights are 0.
///
/// # Errors
/// [`Error::Torch`](crate::Error::Torch) for other shapes.
pub(super) fn local_weights(resemblances: &Tensor, missing: &Tensor, thresholds: [f64; 4]) -> Result<Tensor> {
    let n = unit(resemblances, 1)?;
    let [h0, h1, h2, h3] = thresholds;
    // One straight line per range, from the highest range down.
    let lines = [
        (h3, 0.5 / (h3 - h2), 0.5 - 0.5 * h2 / (h3 - h2)),
        (h2, 0.5 / (h2 - h1), -0.5 * h1 / (h2 - h1)),
        (h1, 1.0 / (h1 - h0), -h0 / (h1 - h0) - 1.0),
        (h0, 0.0, -RATIO),
    ];
    let mut weights = n.f_ones_like()?;
    for (end, slope, start) in lines {
        let line = n.f_mul_scalar(slope)?.f_add_scalar(start)?;
        weights = line.f_where_self(&n.f_le(end)?, &weights)?;
    }
    let differ = resemblances.f_amax([1i64], true)?.f_gt_tensor(&resemblances.f_amin([1i64], true)?)?;
    Ok(weights.f_mul(missing)?.f_mul(&differ.f_to_kind(weights.kind())?)?)
}

/// Counts the thresholds that each number reaches, 0..=4, after scaling all numbers together to 0..=1.
///
/// # Errors
/// [`Error::Torch`](crate::Error::Torch) only.
pub(super) fn levels(resemblances: &Tensor, thresholds: [f64; 4]) -> Result<Tensor> {
    let n = unit(&resemblances.f_flatten(0, -1)?.f_unsqueeze(0)?, 1)?.f_reshape(resemblances.size())?;
    let mut reached = n.f_zeros_like()?;
    for threshold in thresholds {
        reached = reached.f_add(&n.f_ge(threshold)?.f_to_kind(n.kind())?)?;
    }
    Ok(reached.f_to_kind(Kind::Uint8)?)
}

/// Scales numbers to 0..=1 along an axis; gives zeros where all are equal.
fn unit(x: &Tensor, axis: i64) -> Result<Tensor> {
    let (least, most) = (x.f_amin([axis], true)?, x.f_amax([axis], true)?);
    let range = most.f_sub(&least)?;
    let range = range.f_where_self(&range.f_gt(0.0)?, &range.f_ones_like()?)?;
    Ok(x.f_sub(&least)?.f_div(&range)?)
}
