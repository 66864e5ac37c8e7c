//! Colors, and the visible difference between two of them.
//!
//! ```
//! use impasto::color::Rgb;
//! let gold: Rgb = "gold".parse()?;
//! assert_eq!(gold, Rgb(255, 215, 0));
//! assert!(gold.delta_e(Rgb(255, 210, 10)) < 2.0); // just visible side by side
//! # Ok::<(), impasto::Error>(())
//! ```

mod rgb;

pub use rgb::Rgb;

use crate::error::{Error, Result};
use palette::color_difference::Ciede2000;
use palette::white_point::D65;
use palette::{IntoColor, LinSrgb, Srgb};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::str::FromStr;
use tch::{Device, Kind, Tensor};

impl Rgb {
    /// Returns red, green and blue in linear light, each 0..=1. Means of colors are taken in linear light, because
    /// light adds.
    pub fn to_linear(self) -> [f64; 3] {
        let light: LinSrgb<f64> = Srgb::new(self.0, self.1, self.2).into_linear();
        light.into()
    }

    /// Returns the color nearest to a value in linear light; channels outside 0..=1 are clamped.
    pub fn from_linear(light: [f64; 3]) -> Self {
        let clamped = LinSrgb::from(light.map(|channel| channel.clamp(0.0, 1.0)));
        let exact: Srgb<f64> = Srgb::from_linear(clamped);
        let color = exact.into_format::<u8>();
        Self(color.red, color.green, color.blue)
    }

    /// Returns the color in CIE L\*a\*b\*, white D65.
    pub fn lab(self) -> Lab {
        Lab::from_linear(self.to_linear())
    }

    /// Returns the CIEDE2000 difference of two colors. A difference below 1 is hardly visible, 2 is visible side by
    /// side, and 10 is visible at a glance. From black to white the difference is 100.
    pub fn delta_e(self, other: Self) -> f64 {
        self.lab().delta_e(other.lab())
    }
}

impl FromStr for Rgb {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] if the text is neither `#rgb`, `#rrggbb` nor the name of a color.
    fn from_str(text: &str) -> Result<Self> {
        let wanted = text.trim().to_ascii_lowercase();
        let color = match wanted.strip_prefix('#') {
            Some(digits) if digits.is_ascii() => digits.parse::<Srgb<u8>>().ok(),
            Some(_) => None,
            None => palette::named::from_str(&wanted),
        };
        color
            .map(|color| Self(color.red, color.green, color.blue))
            .ok_or_else(|| Error::parameter("color", text, "#rgb, #rrggbb or a CSS name such as gold"))
    }
}

/// The forms in which a file may write a color.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Channels([u8; 3]),
}

impl<'de> Deserialize<'de> for Rgb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
            Written::Channels([red, green, blue]) => Ok(Self(red, green, blue)),
        }
    }
}

impl Serialize for Rgb {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A color in CIE L\*a\*b\* (2° observer, white D65), where distances are close to visible differences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lab {
    /// Lightness, 0..=100.
    pub l: f64,
    /// Green to red, about -128..=127.
    pub a: f64,
    /// Blue to yellow, about -128..=127.
    pub b: f64,
}

impl Lab {
    /// Converts red, green and blue in linear light, each 0..=1. The mean of an area thus needs no rounding to 8 bits.
    pub fn from_linear(light: [f64; 3]) -> Self {
        let palette::Lab { l, a, b, .. }: palette::Lab<D65, f64> = LinSrgb::from(light).into_color();
        Self { l, a, b }
    }

    /// Returns the color in sRGB, each channel in 0..=1; channels outside are clamped.
    pub(crate) fn to_srgb(self) -> [f64; 3] {
        let light: LinSrgb<f64> = palette::Lab::<D65, f64>::new(self.l, self.a, self.b).into_color();
        srgb(light.into())
    }

    /// Returns the CIEDE2000 difference, in the units of [`Rgb::delta_e`].
    ///
    /// Source: Sharma, Wu, Dalal, "The CIEDE2000 Color-Difference Formula" (2005).
    pub fn delta_e(self, other: Self) -> f64 {
        let palette = |lab: Self| palette::Lab::<D65, f64>::new(lab.l, lab.a, lab.b);
        palette(self).difference(palette(other))
    }
}

/// Converts linear light to sRGB, each channel in 0..=1; channels outside are clamped.
pub(crate) fn srgb(light: [f64; 3]) -> [f64; 3] {
    let color: Srgb<f64> = Srgb::from_linear(LinSrgb::from(light.map(|channel| channel.clamp(0.0, 1.0))));
    color.into()
}

/// Converts pixels, sRGB in -1..=1 of any shape, to linear light in 0..=1. Values outside the range are clamped.
pub(crate) fn linear(pixels: &Tensor) -> Result<Tensor> {
    let srgb = pixels.f_add_scalar(1.0)?.f_div_scalar(2.0)?.f_clamp(0.0, 1.0)?;
    // IEC 61966-2-1: v/12.92 up to .04045, ((v + .055)/1.055)^2.4 above.
    let dark = srgb.f_div_scalar(12.92)?;
    let bright = srgb.f_add_scalar(0.055)?.f_div_scalar(1.055)?.f_pow_tensor_scalar(2.4)?;
    Ok(bright.f_where_self(&srgb.f_gt(0.04045)?, &dark)?)
}

/// Returns the mean of pixels in linear light. `pixels` is [3, any] of sRGB in -1..=1, the range of pictures in
/// tensors.
///
/// # Errors
/// [`Error::Shape`] for other shapes.
pub fn linear_mean(pixels: &Tensor) -> Result<[f64; 3]> {
    let linear = linear(&pixels.f_to_kind(Kind::Double)?)?;
    let mean = Vec::<f64>::try_from(linear.f_mean_dim([1i64].as_slice(), false, Kind::Double)?)?;
    mean.try_into().map_err(|_| Error::Shape {
        what: "pixels",
        got: pixels.size(),
        expected: "[3, number of pixels]".into(),
    })
}

/// Returns the colors of a picture, [3, H, W] in -1..=1, row by row, after rounding to 8 bits.
pub(crate) fn labs(picture: &Tensor) -> Result<Vec<Lab>> {
    let bytes = picture.f_add_scalar(1.0)?.f_mul_scalar(127.5)?.f_clamp(0.0, 255.0)?.f_round()?;
    let bytes = bytes.f_to_kind(Kind::Uint8)?.f_permute([1, 2, 0])?.f_contiguous()?.f_flatten(0, -1)?;
    let bytes = Vec::<u8>::try_from(&bytes.f_to_device(Device::Cpu)?)?;
    let (pixels, _) = bytes.as_chunks::<3>();
    Ok(pixels.iter().map(|[r, g, b]| Rgb(*r, *g, *b).lab()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Reference values, made with numpy in double precision.
    fn golden() -> Value {
        serde_json::from_str(include_str!("../../tests/golden/specs/color.json")).unwrap()
    }

    fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> T {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn close(got: f64, want: f64, tolerance: f64) {
        assert!((got - want).abs() <= tolerance, "{got} is not {want}");
    }

    fn lab([l, a, b]: [f64; 3]) -> Lab {
        Lab { l, a, b }
    }

    #[test]
    fn lab_equals_the_reference() {
        let golden = golden();
        for (name, want) in golden["lab"].as_object().unwrap() {
            let (got, want) = (numbers::<Rgb>(&golden["rgb"][name]).lab(), lab(numbers(want)));
            close(got.l, want.l, 1e-4);
            close(got.a, want.a, 1e-4);
            close(got.b, want.b, 1e-4);
        }
    }

    #[test]
    fn differences_equal_the_published_table() {
        let golden = golden();
        for pair in golden["de2000"].as_array().unwrap() {
            let got = lab(numbers(&pair["a"])).delta_e(lab(numbers(&pair["b"])));
            close(got, numbers(&pair["published"]), 1e-4);
        }
        close(Rgb(255, 215, 0).delta_e(Rgb(255, 210, 10)), numbers(&golden["de_gold_vs_255_210_10"]), 1e-4);
    }

    #[test]
    fn shaded_areas_mean_is_taken_in_linear_light() {
        let golden = golden();
        for (name, rows) in golden["shaded_region"].as_object().unwrap() {
            let color: Rgb = numbers(&golden["rgb"][name]);
            for row in rows.as_array().unwrap() {
                let mean: [f64; 3] = numbers(&row["mean_rgb"]);
                let light: LinSrgb<f64> = Srgb::from(mean.map(|channel| channel / 255.0)).into_linear();
                close(Lab::from_linear(light.into()).delta_e(color.lab()), numbers(&row["de"]), 1e-3);
            }
        }
    }

    #[test]
    fn linear_light_converts_back_to_the_same_color() {
        for byte in 0..=255 {
            let color = Rgb(byte, 255 - byte, byte / 2);
            assert_eq!(Rgb::from_linear(color.to_linear()), color);
        }
        assert_eq!(Rgb::from_linear([-1.0, 2.0, 0.0]), Rgb(0, 255, 0));
    }

    #[test]
    fn colors_are_read_as_people_write_them() -> Result<()> {
        for gold in ["#ffd700", "#FFD700", "gold", " Gold "] {
            assert_eq!(gold.parse::<Rgb>()?, Rgb(255, 215, 0));
        }
        assert_eq!("#f0a".parse::<Rgb>()?, Rgb(255, 0, 170));
        assert_eq!(Rgb(255, 215, 0).to_string(), "#ffd700");
        for wrong in ["", "#", "#ff", "#gggggg", "#äöü", "€", "goldish", "ffd700"] {
            let message = wrong.parse::<Rgb>().expect_err(wrong).to_string();
            assert!(message.contains("expected #rgb, #rrggbb or a CSS name"), "{message}");
        }
        Ok(())
    }

    #[test]
    fn serde_writes_hex_and_reads_channels_too() {
        assert_eq!(serde_json::to_string(&Rgb(255, 215, 0)).unwrap(), "\"#ffd700\"");
        for written in ["\"gold\"", "\"#ffd700\"", "[255, 215, 0]"] {
            assert_eq!(serde_json::from_str::<Rgb>(written).unwrap(), Rgb(255, 215, 0));
        }
        assert!(serde_json::from_str::<Rgb>("[256, 0, 0]").is_err());
    }
}
