//! Grounding: attention to the names of things is taught to look at the things.

use super::dataset::Class;
use super::unet::Captions;
use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
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
    /// Returns the Kullback-Leibler divergence of the attention to names from the things that they name, in nats; `None`
    /// if the network has no such sites.
    ///
    /// Attention to a name and the thing's share of each patch are distributions over the patches. Their divergence is
    /// 0 if attention is even over the thing and nowhere else. The result is the mean over all things that are both
    /// named and drawn; without such a thing it is 0.
    ///
    /// `names` are those of [`names`], and `shares` the shares of classes in patches, [n, patches, classes].
    pub(super) fn divergence(&self, names: &Tensor, shares: &Tensor) -> Result<Option<Tensor>> {
        let Some(sums) = &self.sums else { return Ok(None) };
        let over = |x: &Tensor, dim: i64| x.f_sum_dim_intlist([dim].as_slice(), true, Kind::Float);
        let maps = sums.f_matmul(names)?.f_add_scalar(TINY)?;
        let attention = maps.f_log()?.f_sub(&over(&maps, 1)?.f_log()?)?;
        let drawn = over(shares, 1)?;
        let things = shares.f_div(&drawn.f_clamp_min(TINY)?)?;
        let each = over(&things.f_xlogy(&things)?.f_sub(&things.f_mul(&attention)?)?, 1)?;
        let counts = over(names, 1)?.f_gt(0.0)?.f_logical_and(&drawn.f_gt(0.0)?)?.f_to_kind(Kind::Float)?;
        let count = counts.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
        Ok(Some(each.f_mul(&counts)?.f_sum(Kind::Float)?.f_div(&count)?))
    }
}

/// Returns the tokens that name each class in each caption: 1 for such a token and 0 for others,
/// [n, `length`, classes]. A thing is named by the last word of its name, such as `bow` in "hair bow".
pub(super) fn names(captions: &Captions, texts: &[&str], length: usize) -> Result<Tensor> {
    let classes = Class::ALL.len();
    let named = || Class::OF_PORTRAITS.iter().chain(&Class::OF_SCENES).chain(&Class::OBJECTS);
    let mut values = vec![0f32; texts.len() * length * classes];
    for (row, text) in texts.iter().enumerate() {
        let prompt = captions.prompt(text)?;
        for class in named() {
            let spans = match prompt.thing(class.name()) {
                Ok(spans) => spans,
                Err(Error::PhraseNotFound { .. } | Error::PhraseTruncated { .. }) => continue,
                Err(error) => return Err(error),
            };
            for token in spans.iter().flat_map(|span| span.start..span.end) {
                let at = (row * length + token as usize) * classes + usize::from(class.index());
                values.get_mut(at).into_iter().for_each(|value| *value = 1.0);
            }
        }
    }
    let shape = [texts.len() as i64, length as i64, classes as i64];
    Ok(Tensor::f_from_slice(&values)?.f_view(shape)?)
}

#[cfg(test)]
mod tests {
    use super::super::export::ModelFolder;
    use super::*;
    use tch::Device;

    #[test]
    fn divergence_is_least_over_the_named_thing() -> Result<()> {
        // Four patches, two tokens and two classes: the second token names the second class.
        let names = Tensor::from_slice(&[0f32, 0.0, 0.0, 1.0]).view([1, 2, 2]);
        let shares = Tensor::from_slice(&[1f32, 0.0, 1.0, 0.0, 0.0, 1.0, 0.5, 0.5]).view([1, 4, 2]);
        let divergence = |attention: [f32; 4]| -> Result<f64> {
            let sums = attention.iter().flat_map(|own| [1.0 - own, *own]).collect::<Vec<_>>();
            let sums = Some(Tensor::from_slice(&sums).view([1, 4, 2]));
            let divergence = Attention { sums }.divergence(&names, &shares)?;
            Ok(divergence.map_or(f64::NAN, |divergence| divergence.double_value(&[])))
        };
        assert!(divergence([0.0, 0.0, 0.5, 0.25])?.abs() < 1e-5, "as the thing");
        assert!(divergence([0.0, 0.0, 0.02, 0.01])?.abs() < 1e-5, "weak attention counts as much");
        let even = divergence([0.25; 4])?;
        let want = 2.0 / 3.0 * (8.0f64 / 3.0).ln() + 1.0 / 3.0 * (4.0f64 / 3.0).ln();
        assert!((even - want).abs() < 1e-5, "{even} {want}");
        assert!(divergence([0.5, 0.5, 0.0, 0.0])? > 5.0, "beside the thing");
        // The class of an unnamed thing, and a name without a thing.
        let unnamed = Attention { sums: Some(Tensor::rand([1, 4, 2], (Kind::Float, Device::Cpu))) };
        for (names, shares) in [(&names.zeros_like(), &shares), (&names, &shares.zeros_like())] {
            let divergence = unnamed.divergence(names, shares)?;
            assert_eq!(divergence.map(|divergence| divergence.double_value(&[])), Some(0.0));
        }
        assert!(Attention::default().divergence(&names, &shares)?.is_none());
        Ok(())
    }

    #[test]
    fn names_are_the_last_words_of_things() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|source| Error::Io { path: "scratch".into(), source })?;
        let captions = Captions::new(&ModelFolder::of_flow(folder.path().join("model"))?)?;
        let names = names(&captions, &["1girl, red hair bow, hair", "", "a star"], 77)?;
        assert_eq!(names.size(), [3, 77, 20]);
        let mut found = Vec::new();
        for row in Vec::<Vec<i64>>::try_from(names.nonzero())? {
            let class = Class::from_index(row[2] as u8).map(Class::name);
            found.push((row[0], row[1], class.unwrap_or_default()));
        }
        // Tokens: start, 1, girl, comma, red, hair, bow, comma, hair.
        assert_eq!(found, [(0, 6, "hair bow"), (0, 8, "hair"), (2, 2, "star")]);
        Ok(())
    }
}
