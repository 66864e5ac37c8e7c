//! Joint attention: the tokens of the picture and of the prompt attend to both in one softmax.

use super::Tap;
use super::attached::{Attached, CallSite, Softmax};
use crate::attention::{AttentionSite, Interest, kernel};
use crate::branch::Branch;
use crate::error::Result;
use tch::Tensor;

/// Queries, keys and values of a stream of tokens, [b, heads, tokens, d] each. If nothing reads the results of the
/// stream, it has no queries (0 tokens).
#[derive(Debug)]
pub(crate) struct Stream {
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
}

impl Stream {
    /// Applies `f` to each tensor.
    fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { q: f(&self.q)?, k: f(&self.k)?, v: f(&self.v)? })
    }

    /// Returns the number of tokens.
    fn tokens(&self) -> Result<i64> {
        Ok(self.k.size4()?.2)
    }

    /// Appends the tokens of another stream.
    fn join(&self, other: &Self) -> Result<Self> {
        let both = |a: &Tensor, b: &Tensor| Tensor::f_cat(&[a, b], 2);
        Ok(Self { q: both(&self.q, &other.q)?, k: both(&self.k, &other.k)?, v: both(&self.v, &other.v)? })
    }
}

impl Tap<'_> {
    /// Runs one call of joint attention with all its phases → the results of the tokens of `picture` and of `text`,
    /// [b, queries, heads · head_dim] each. Hooks take part in the attention of the picture to the text.
    ///
    /// `project` makes keys and values of other tokens of the text's width.
    ///
    /// # Errors
    /// As [`attend`](Self::attend).
    pub(crate) fn attend_joint(
        &mut self,
        site: &AttentionSite,
        picture: &Stream,
        text: &Stream,
        project: impl Fn(&Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<[Tensor; 2]> {
        let Some(live) = &mut self.0 else {
            let both = picture.join(text)?;
            return split(&kernel::plain(&both.q, &both.k, &both.v)?, picture.tokens()?);
        };
        let branches = live.call.branches;
        let site = live.sites.and_then(|sites| sites.get(site.index)).unwrap_or(site);
        let stack = |stream: &Stream| stream.map(|x| live.stack(site, x, "the tokens of a site"));
        let (picture, text) = (stack(picture)?, stack(text)?);
        let spot = CallSite { site, wanted: live.wanted(site, branches), project: &project, text_output: None };
        if [Interest::NONE, Interest::PROBS].contains(&spot.wanted) {
            return live.run_joint(&spot, branches, &picture, &text);
        }
        // Changed scores are computed by hand, so branches that no hook changes are computed apart from the others.
        let (mut pictures, mut texts) = (Vec::new(), Vec::new());
        for (row, branch) in branches.iter().enumerate() {
            let own = |stream: &Stream| stream.map(|x| live.rows(x, row));
            let (picture, text) = (own(&picture)?, own(&text)?);
            let wanted = live.wanted(site, &[*branch]);
            let [x, y] = live.run_joint(&CallSite { wanted, ..spot }, &[*branch], &picture, &text)?;
            pictures.push(x);
            texts.push(y);
        }
        Ok([Tensor::f_cat(&pictures, 0)?, Tensor::f_cat(&texts, 0)?])
    }
}

impl Attached<'_> {
    /// Runs every phase of a joint attention, for `branches` stacked in both streams.
    fn run_joint(
        &mut self,
        spot: &CallSite<'_>,
        branches: &[Branch],
        picture: &Stream,
        text: &Stream,
    ) -> Result<[Tensor; 2]> {
        let wants = |phase| spot.wanted.contains(phase);
        let (edited, seen) = (wants(Interest::SCORES), (&picture.q, &text.k, &text.v));
        let scores = match edited || wants(Interest::BIAS) {
            true => Some(kernel::scores(&picture.q, &text.k)?),
            false => None,
        };
        let (all, rows) = (0..branches.len(), 0..picture.q.size4()?.0);
        let seen_by = (branches, all.clone());
        let bias = if wants(Interest::BIAS) { self.bias(spot, seen_by, seen, scores.as_ref())? } else { None };
        let changed = match (scores, &bias) {
            (Some(scores), Some(bias)) => Some(kernel::add_bias(&scores, rows, bias)?),
            (scores, None) => scores.filter(|_| edited),
            (None, _) => None,
        };
        let changed = match changed {
            Some(scores) if edited => Some(self.edit(spot, branches, seen, &scores)?),
            changed => changed,
        };
        let (output, whole) = match changed {
            Some(scores) => weigh(picture, text, &scores)?,
            None => {
                let both = picture.join(text)?;
                (kernel::plain(&both.q, &both.k, &both.v)?, None)
            }
        };
        if wants(Interest::PROBS) {
            let (bias, whole) = (bias.as_ref(), whole.as_ref());
            let beside = Some([&picture.k, &text.q]);
            self.read(spot, branches, seen, &Softmax { covered: all, bias, whole, edited, beside })?;
        }
        let [picture, text] = split(&output, picture.tokens()?)?;
        // A hook of the output sees one branch, whose rows are all rows of the text.
        let spot = CallSite { text_output: Some(&text), ..*spot };
        let picture = self.change_output(&spot, branches, seen, picture)?;
        Ok([picture, text])
    }
}

/// Splits a result into those of the first `tokens` tokens and of the others.
fn split(output: &Tensor, tokens: i64) -> Result<[Tensor; 2]> {
    let all = output.size3()?.1;
    Ok([output.f_narrow(1, 0, tokens)?, output.f_narrow(1, tokens, all - tokens)?])
}

/// Computes joint attention where `scores` are the scores of the text's tokens for the picture's → [b, tokens of both,
/// heads · head_dim], and the probabilities of these scores. Rows of the picture are computed in blocks that bound the
/// memory.
fn weigh(picture: &Stream, text: &Stream, scores: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
    let (both, tokens) = (picture.join(text)?, picture.tokens()?);
    let (mut outputs, mut probs) = (Vec::new(), Vec::new());
    for (start, rows) in kernel::chunks(&picture.q, &both.k)? {
        let own = kernel::scores(&picture.q.f_narrow(2, start, rows)?, &picture.k)?;
        let all = Tensor::f_cat(&[own, scores.f_narrow(2, start, rows)?], 3)?;
        let (output, weights) = kernel::weigh(&all, &both.v)?;
        outputs.push(output);
        probs.push(weights.f_narrow(3, tokens, text.tokens()?)?.f_contiguous()?); // lets go of the other weights
    }
    outputs.push(kernel::plain(&text.q, &both.k, &both.v)?);
    Ok((Tensor::f_cat(&outputs, 1)?, Some(Tensor::f_cat(&probs, 2)?)))
}

#[cfg(test)]
mod tests {
    use super::super::{Call, HookTable};
    use super::*;
    use crate::attention::{At, CrossAttentionHook, KvCache, Place, Probs, Scores, SiteKind};
    use crate::error::Error;
    use crate::step::{Grid, Step};
    use tch::{Device, Kind};

    const BRANCHES: [Branch; 2] = [Branch::Uncond, Branch::Cond];
    /// Numbers of tokens of the picture and of the text.
    const TOKENS: [i64; 2] = [6, 5];

    /// A hook that takes part in some phases of `Cond`, and adds the same bias in each phase that can change scores.
    struct Changes {
        phases: Interest,
        seen: Vec<Tensor>,
    }

    impl CrossAttentionHook for Changes {
        fn interest(&self, _: &AttentionSite, branch: Branch) -> Interest {
            if branch == Branch::Cond { self.phases } else { Interest::NONE }
        }
        fn bias(&mut self, _: &At<'_>, scores: &Scores<'_>) -> Result<Option<Tensor>> {
            assert_eq!(scores.full()?.size(), [1, 2, TOKENS[0], TOKENS[1]]);
            Ok(Some(bias()))
        }
        fn scores(&mut self, _: &At<'_>, scores: &mut Tensor) -> Result<()> {
            *scores = scores.f_add(&bias())?;
            Ok(())
        }
        fn probs(&mut self, _: &At<'_>, probs: &Probs<'_>) -> Result<()> {
            self.seen.push(probs.columns(probs.tokens())?);
            Ok(())
        }
        fn output(&mut self, at: &At<'_>, output: &mut Tensor) -> Result<()> {
            assert_eq!(at.text_output().map(Tensor::size), Some(vec![1, TOKENS[1], 8]));
            *output = output.f_add_scalar(1.0)?;
            Ok(())
        }
    }

    fn wave(shape: &[i64], phase: f64) -> Tensor {
        let cells: Vec<f32> =
            (0..shape.iter().product()).map(|i: i64| (i as f64 * 0.37 + phase).sin() as f32 * 2.0).collect();
        Tensor::from_slice(&cells).reshape(shape)
    }

    fn bias() -> Tensor {
        wave(&[1, 1, TOKENS[0], TOKENS[1]], 3.0)
    }

    fn streams() -> [Stream; 2] {
        TOKENS.map(|tokens| {
            let x = |phase| wave(&[2, 2, tokens, 4], phase + tokens as f64);
            Stream { q: x(0.0), k: x(1.0), v: x(2.0) }
        })
    }

    /// Runs one call with a hook. Returns both results, the probabilities that the hook saw, and the kernel calls.
    fn attend(phases: Interest) -> Result<([Tensor; 2], Vec<Tensor>, usize)> {
        let site = AttentionSite::new("attn", SiteKind::Joint, Place::Layer(0), 1, 2);
        let (mut hook, [picture, text]) = (Changes { phases, seen: Vec::new() }, streams());
        let table = HookTable::new(&[&mut hook], std::slice::from_ref(&site), &BRANCHES)?;
        let (step, mut cache) = (Step::new(0, 1, 1.0, 0.0, 0.0), KvCache::default());
        let call = Call { step: &step, branches: &BRANCHES, images: 0..1, grid: Grid::new(4, 6) };
        let mut tap = Tap::new(call, vec![&mut hook], &table, &mut cache)?;
        let project = |x: &Tensor| Ok((x.shallow_clone(), x.shallow_clone()));
        let (calls, both) = kernel::count::during(|| tap.attend_joint(&site, &picture, &text, project));
        Ok((both?, hook.seen, calls))
    }

    /// Returns both results and the probabilities of the text for the picture, with the bias added in `Cond`.
    fn expected() -> Result<([Tensor; 2], Tensor)> {
        let [picture, text] = streams();
        let (both, [n, m]) = (picture.join(&text)?, TOKENS);
        let mask = Tensor::zeros([2, 1, n + m, n + m], (Kind::Float, Device::Cpu));
        mask.get(1).narrow(1, 0, n).narrow(2, n, m).copy_(&bias().get(0));
        let probs = kernel::probs(&(kernel::scores(&both.q, &both.k)? + mask))?;
        let output = probs.matmul(&both.v).transpose(1, 2).reshape([2, n + m, 8]);
        Ok((split(&output, n)?, probs.narrow(0, 1, 1).narrow(2, 0, n).narrow(3, n, m)))
    }

    fn apart(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn readers_change_no_bit_of_joint_attention() -> Result<()> {
        let [picture, text] = streams();
        let (bare, seen, calls) = attend(Interest::NONE)?;
        assert_eq!((seen.len(), calls), (0, 1));
        let site = AttentionSite::new("attn", SiteKind::Joint, Place::Layer(0), 1, 2);
        let project = |x: &Tensor| Ok((x.shallow_clone(), x.shallow_clone()));
        assert_eq!(Tap::none().attend_joint(&site, &picture, &text, project)?, bare);
        let (read, seen, _) = attend(Interest::PROBS)?;
        assert_eq!(read, bare);
        let both = picture.join(&text)?;
        let probs = kernel::probs(&kernel::scores(&both.q, &both.k)?)?;
        let want = probs.narrow(0, 1, 1).narrow(2, 0, TOKENS[0]).narrow(3, TOKENS[0], TOKENS[1]);
        assert!(seen.len() == 1 && apart(&seen[0], &want) < 1e-6);
        Ok(())
    }

    #[test]
    fn bias_acts_before_the_one_softmax() -> Result<()> {
        let ([picture, text], probs) = expected()?;
        for phases in [Interest::BIAS, Interest::SCORES] {
            let (got, seen, _) = attend(phases | Interest::PROBS)?;
            assert!(apart(&got[0], &picture) < 1e-5 && apart(&got[1], &text) < 1e-5, "{phases:?}");
            assert!(apart(&seen[0], &probs) < 1e-6, "{phases:?}");
        }
        Ok(())
    }

    #[test]
    fn output_hook_changes_the_picture_alone() -> Result<()> {
        let ([bare, bare_text], ..) = attend(Interest::NONE)?;
        let ([picture, text], ..) = attend(Interest::OUTPUT)?;
        assert!(apart(&picture.get(1), &(bare.get(1) + 1.0)) < 1e-5 && apart(&picture.get(0), &bare.get(0)) < 1e-5);
        assert!(apart(&text, &bare_text) < 1e-5);
        Ok(())
    }

    #[test]
    fn context_phase_is_refused_in_joint_attention() {
        let error = attend(Interest::CONTEXT).map(drop).unwrap_err();
        assert!(matches!(error, Error::Parameter { .. }) && error.to_string().contains("attn"), "{error}");
    }
}
