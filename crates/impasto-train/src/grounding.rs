//! Grounding: attention to the words of things is taught to look at the things.

use super::dataset::{Class, HairStyle, Who};
use super::unet::Captions;
use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use impasto::prompt::TokenSpan;
use impasto::{Branch, Error, Result};
use tch::{Kind, Tensor};

/// Share that keeps a logarithm finite.
const TINY: f64 = 1e-8;

/// Hook that adds up the attention to every token, over all heads and over all sites that find words.
#[derive(Debug, Default)]
pub(super) struct Attention {
    /// Sums of probabilities, [n, patches, tokens].
    sums: Option<Tensor>,
}

impl CrossAttentionHook for Attention {
    fn interest(&self, site: &AttentionSite, _: Branch) -> Interest {
        if site.is_cross() && site.finds_words { Interest::PROBS } else { Interest::NONE }
    }

    fn probs(&mut self, _: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        let own = probs.over_heads()?;
        self.sums = Some(match self.sums.take() {
            Some(sums) => sums.f_add(&own)?,
            None => own,
        });
        Ok(())
    }
}

impl Attention {
    /// Returns the Kullback-Leibler divergence of the attention to words from the things that they show, in nats;
    /// `None` if the network has no such sites.
    ///
    /// Attention to a word and the square of the thing's share of each patch are distributions over the patches. Their
    /// divergence is 0 if attention is even over the thing and nowhere else. The square makes the patches at a thing's
    /// edge count little, so that maps of small things are no larger than the things. The result is the mean over all
    /// words whose things are drawn; without such a word it is 0.
    ///
    /// `shown` are those of [`shown`], and `shares` the shares of classes in patches, [n, patches, classes].
    pub(super) fn divergence(&self, shown: &Tensor, shares: &Tensor) -> Result<Option<Tensor>> {
        let Some(sums) = &self.sums else { return Ok(None) };
        let over = |x: &Tensor| x.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
        let maps = sums.f_add_scalar(TINY)?;
        let attention = maps.f_log()?.f_sub(&over(&maps)?.f_log()?)?;
        let things = shares.f_matmul(&shown.f_transpose(1, 2)?)?.f_square()?; // [n, patches, tokens]
        let drawn = over(&things)?;
        let things = things.f_div(&drawn.f_clamp_min(TINY)?)?;
        let each = over(&things.f_xlogy(&things)?.f_sub(&things.f_mul(&attention)?)?)?;
        let counts = drawn.f_gt(0.0)?.f_to_kind(Kind::Float)?;
        let count = counts.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
        Ok(Some(each.f_mul(&counts)?.f_sum(Kind::Float)?.f_div(&count)?))
    }
}

/// Returns the classes that each token of each caption shows: 1 for such a class and 0 for others,
/// [n, `length`, classes].
///
/// A thing is shown by the last word of its name, such as `bow` in "hair bow"; hair also by all words of its style. The
/// words `1girl` and `1boy` show skin. If they showed the whole person, they would compete with the names of all parts.
pub(super) fn shown(captions: &Captions, texts: &[&str], length: usize) -> Result<Tensor> {
    let count = Class::ALL.len();
    let things: Vec<Class> = [&Class::OF_PORTRAITS[..], &Class::OF_SCENES, &Class::OBJECTS].concat();
    let mut values = vec![0f32; texts.len() * length * count];
    for (row, text) in texts.iter().enumerate() {
        let prompt = captions.prompt(text)?;
        let mut mark = |spans: Result<Vec<TokenSpan>>, class: Class| -> Result<()> {
            let spans = match spans {
                Ok(spans) => spans,
                Err(Error::PhraseNotFound { .. } | Error::PhraseTruncated { .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
            for token in spans.iter().flat_map(|span| span.start..span.end) {
                let at = (row * length + token as usize) * count + usize::from(class.index());
                values.get_mut(at).into_iter().for_each(|value| *value = 1.0);
            }
            Ok(())
        };
        for class in &things {
            mark(prompt.thing(class.name()), *class)?;
        }
        for style in HairStyle::ALL {
            mark(prompt.find(style.name()), Class::Hair)?;
        }
        for who in [Who::Girl, Who::Boy] {
            mark(prompt.find(who.name()), Class::Skin)?;
        }
    }
    Ok(Tensor::f_from_slice(&values)?.f_view([texts.len() as i64, length as i64, count as i64])?)
}

#[cfg(test)]
mod tests {
    use super::super::export::ModelFolder;
    use super::*;
    use tch::Device;

    #[test]
    fn divergence_is_least_over_the_shown_thing() -> Result<()> {
        // Four patches, two tokens and two classes: the second token shows the second class.
        let shown = Tensor::from_slice(&[0f32, 0.0, 0.0, 1.0]).view([1, 2, 2]);
        let shares = Tensor::from_slice(&[1f32, 0.0, 1.0, 0.0, 0.0, 1.0, 0.5, 0.5]).view([1, 4, 2]);
        let divergence = |attention: [f32; 4]| -> Result<f64> {
            let sums = attention.iter().flat_map(|own| [1.0 - own, *own]).collect::<Vec<_>>();
            let sums = Some(Tensor::from_slice(&sums).view([1, 4, 2]));
            let divergence = Attention { sums }.divergence(&shown, &shares)?;
            Ok(divergence.map_or(f64::NAN, |divergence| divergence.double_value(&[])))
        };
        assert!(divergence([0.0, 0.0, 0.4, 0.1])?.abs() < 1e-5, "as the thing");
        assert!(divergence([0.0, 0.0, 0.04, 0.01])?.abs() < 1e-5, "weak attention counts as much");
        let even = divergence([0.25; 4])?;
        let want = 0.8 * 3.2f64.ln() + 0.2 * 0.8f64.ln();
        assert!((even - want).abs() < 1e-5, "{even} {want}");
        assert!(divergence([0.5, 0.5, 0.0, 0.0])? > 5.0, "beside the thing");
        // A thing that no word shows, and a word whose thing is not drawn.
        let any = Attention { sums: Some(Tensor::rand([1, 4, 2], (Kind::Float, Device::Cpu))) };
        for (shown, shares) in [(&shown.zeros_like(), &shares), (&shown, &shares.zeros_like())] {
            let divergence = any.divergence(shown, shares)?;
            assert_eq!(divergence.map(|divergence| divergence.double_value(&[])), Some(0.0));
        }
        assert!(Attention::default().divergence(&shown, &shares)?.is_none());
        Ok(())
    }

    #[test]
    fn things_are_shown_by_their_last_words() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|source| Error::Io { path: "scratch".into(), source })?;
        let captions = Captions::new(&ModelFolder::of_flow(folder.path().join("model"))?)?;
        let shown = shown(&captions, &["1girl, red hair bow, hair, long hair", "", "a star"], 77)?;
        assert_eq!(shown.size(), [3, 77, 20]);
        let mut found = Vec::new();
        for row in Vec::<Vec<i64>>::try_from(shown.nonzero())? {
            found.push((row[0], row[1], Class::from_index(row[2] as u8).map(Class::name).unwrap_or_default()));
        }
        // Tokens: start, 1, girl, comma, red, hair, bow, comma, hair, comma, long, hair.
        let first = [(1, "skin"), (2, "skin"), (6, "hair bow"), (8, "hair"), (10, "hair"), (11, "hair")];
        let first = first.map(|(token, class)| (0, token, class));
        assert_eq!(found, [&first[..], &[(2, 2, "star")]].concat());
        Ok(())
    }
}
