//! Inputs of the network at a step, and its predictions from them.

use super::backbone::NetworkInput;
use super::rows::{one, rows};
use super::{Model, colorizer, sdxl, size_numbers};
use crate::attention::Tap;
use crate::conditioning::{FreeUFactors, SkippedBlocks};
use crate::diffusion::{Denoiser, Input, Predictions};
use crate::error::{Error, Result};
use crate::nn::time::Sinusoids;
use crate::nn::unet::Deep;
use crate::nn::{AddedConditions, UNet};
use crate::step::Step;
use tch::{Device, Kind, Tensor};

impl Model {
    /// Stacks the network's inputs.
    pub(super) fn given(&self, step: &Step, inputs: &[Input<'_>]) -> Result<NetworkInput> {
        let latents: Vec<&Tensor> = inputs.iter().map(|input| input.x).collect();
        if let Some([first, other]) = latents.windows(2).find_map(|pair| match pair {
            [a, b] if a.size() != b.size() => Some([a, b]),
            _ => None,
        }) {
            let expected = format!("{:?}, the shape of the other inputs", first.size());
            return Err(Error::Shape { what: "Input::x", got: other.size(), expected });
        }
        let x = Tensor::f_cat(&latents, 0)?;
        let (context, sample) = (self.contexts(inputs)?.f_to_kind(self.kind)?, self.sample(&x, inputs, step)?);
        let timestep = Tensor::f_from_slice(&[self.backbone.time(step) as f32])?.f_to_device(self.device)?;
        let mut added = self.added(inputs)?;
        // Rows are shared only if nothing but the prompt differs. Other conditions may differ by input, and latents
        // with gradients need rows of their own.
        let alike = !self.inpaints() && added.is_none() && !x.requires_grad() && one(&latents);
        let same = colorizer::add_features(self.colorizes(), inputs, &mut added)?;
        if let Some(factors) = inputs.iter().find_map(|input| input.conditioning.extras.get::<FreeUFactors>()) {
            self.backbone.unet_for("FreeU")?;
            added.get_or_insert_default().free_u = Some(*factors);
        }
        let pooled = match self.backbone.blocks() {
            Some(_) => Some(rows(inputs, "Conditioning::pooled", |conditioning| conditioning.pooled.as_ref())?),
            None => None,
        };
        // All inputs leave out the same blocks; see `Model::denoise`.
        let skipped = inputs.first().and_then(|input| input.conditioning.extras.get::<SkippedBlocks>());
        let skipped = skipped.map(|skipped| skipped.0.clone()).unwrap_or_default();
        let distinct = latents.first().filter(|_| alike && same).unwrap_or(&&x).size4()?.0;
        Ok(NetworkInput { x, distinct, sample, timestep, context, added, pooled, skipped })
    }

    /// Evaluates the network on stacked inputs.
    pub(super) fn predictions(
        &self,
        step: &Step,
        inputs: &[Input<'_>],
        given: &NetworkInput,
        deep: Deep<'_>,
        tap: &mut Tap<'_>,
    ) -> Result<Predictions> {
        let out = self.backbone.forward(given, deep, tap)?.f_to_kind(Kind::Float)?;
        let x0 = self.prediction().x0(&out, &given.x, step.sigma)?;
        let each = x0.f_chunk(inputs.len() as i64, 0)?;
        Ok(Predictions::new(step, inputs, each).of(self.prediction()))
    }

    /// Stacks the contexts of all inputs, [rows, tokens, width].
    fn contexts(&self, inputs: &[Input<'_>]) -> Result<Tensor> {
        let mut all: Vec<Tensor> = Vec::with_capacity(inputs.len());
        for input in inputs {
            let (images, context) = (input.x.size4()?.0, &input.conditioning.context);
            let tokens = context.size3()?.1;
            if let Some(first) = all.first().filter(|first| first.size().get(1) != Some(&tokens)) {
                let expected = format!(
                    "the number of tokens of {:?}, the first context; `Conditioning::equalize` gives all contexts the \
                     same number of tokens",
                    first.size()
                );
                return Err(Error::Shape { what: "Conditioning::context", got: context.size(), expected });
            }
            all.push(match context.size().first() {
                Some(1) => context.f_expand([images, -1, -1], false)?,
                Some(rows) if *rows == images => context.shallow_clone(),
                _ => {
                    let expected = format!("1 row, or one for each of the {images} images");
                    return Err(Error::Shape { what: "Conditioning::context", got: context.size(), expected });
                }
            });
        }
        Ok(Tensor::f_cat(&all, 0)?)
    }

    /// Scales latents from sigma space to the network's input. For an inpainting model, appends the
    /// extra channels.
    fn sample(&self, x: &Tensor, inputs: &[Input<'_>], step: &Step) -> Result<Tensor> {
        // Latents are converted to the network's kind only here.
        let sample = x.f_mul_scalar(self.prediction().input_scale(step.sigma))?.f_to_kind(self.kind)?;
        if !self.inpaints() {
            return Ok(sample);
        }
        let beside = rows(inputs, "Conditioning::concat", |conditioning| conditioning.concat.as_ref())?;
        Ok(Tensor::f_cat(&[sample, beside.f_to_device(self.device)?.f_to_kind(self.kind)?], 1)?)
    }

    /// Computes the conditions that LCM and SDXL read beside the prompt.
    fn added(&self, inputs: &[Input<'_>]) -> Result<Option<AddedConditions>> {
        let Some(config) = self.backbone.unet().map(UNet::config) else { return Ok(None) };
        let timestep_cond = match config.time_cond_proj_dim {
            Some(width) => Some(guidances(inputs, width)?),
            None => None,
        };
        let added = match size_numbers(config, &self.texts) {
            Some(count) => Some(sdxl::added(inputs, count, self.vae.config().factor(), self.device)?),
            None => timestep_cond.is_some().then(AddedConditions::default),
        };
        Ok(added.map(|added| AddedConditions { timestep_cond, ..added }))
    }
}

/// Computes the embedding of each row's guidance scale, [rows, width].
fn guidances(inputs: &[Input<'_>], width: i64) -> Result<Tensor> {
    let mut told = Vec::new();
    for Input { x, conditioning, .. } in inputs {
        let times_1000 = (1000.0 * conditioning.guidance.unwrap_or_default()) as f32;
        told.extend(vec![times_1000; x.size4()?.0 as usize]);
    }
    Sinusoids::new(width, true, 1.0, Device::Cpu)?.of(&Tensor::f_from_slice(&told)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{At, AttentionSite, Call, CrossAttentionHook, HookTable, Interest, KvCache, Probs, Scores};
    use crate::branch::Branch;
    use crate::conditioning::Codec;
    use crate::diffusion::Noise;
    use crate::step::Grid;
    use crate::weights::Source;
    use tch::Device;

    #[test]
    fn branches_with_one_latent_share_rows() -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let model = Model::load(&Source::embedded())?;
        let words = [model.text("".into())?, model.text("1girl, red hair".into())?];
        let step = Step::new(0, 1, 3.0, 0.0, 600.0);
        for images in [1, 2] {
            let [x, other] = [1, 2].map(|seed| Noise::seeded(seed).draw(&[images, 4, 16, 12]).unwrap() * 3.0);
            for (own, distinct) in [(&x, images), (&x.copy(), 2 * images), (&other, 2 * images)] {
                let inputs = [(Branch::Uncond, &x), (Branch::Cond, own)];
                let inputs = [0, 1].map(|i| Input::new(inputs[i].0, inputs[i].1, &words[i]));
                assert_eq!(model.given(&step, &inputs)?.distinct, distinct);
                let together = model.denoise(&step, &inputs, &mut Tap::none())?;
                for input in &inputs {
                    let alone = model.denoise(&step, std::slice::from_ref(input), &mut Tap::none())?;
                    let apart = (together.x0(input.branch)? - alone.x0(input.branch)?).abs().max().double_value(&[]);
                    assert!(apart < 1e-4, "{:?} of {images} images: {apart}", input.branch);
                }
            }
        }
        Ok(())
    }

    /// A hook that asks for one phase of self-attention in one branch. The hook changes tensors that are mutable, and
    /// keeps tensors that are read-only.
    struct Adds(Interest, Vec<Tensor>);

    impl CrossAttentionHook for Adds {
        fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
            if site.is_cross() || branch != Branch::Cond { Interest::NONE } else { self.0 }
        }

        fn bias(&mut self, at: &At<'_>, _: &Scores<'_>) -> Result<Option<Tensor>> {
            Ok(Some(Tensor::arange(at.grid.cells(), (Kind::Float, Device::Cpu)).sin().reshape([1, 1, 1, -1])))
        }

        fn context(&mut self, _: &At<'_>, context: &mut Tensor) -> Result<()> {
            let _ = context.f_mul_scalar_(1.1)?;
            Ok(())
        }

        fn scores(&mut self, _: &At<'_>, scores: &mut Tensor) -> Result<()> {
            let _ = scores.f_mul_scalar_(1.1)?;
            Ok(())
        }

        fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
            let seen = probs.over_heads()?;
            assert_eq!(seen.size3()?.0, at.images.end - at.images.start);
            self.1.push(seen);
            Ok(())
        }

        fn output(&mut self, _: &At<'_>, output: &mut Tensor) -> Result<()> {
            let _ = output.f_add_scalar_(0.1)?;
            Ok(())
        }
    }

    #[test]
    fn hooks_on_shared_rows_affect_their_branch_only() -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let model = Model::load(&Source::embedded())?;
        let words = [model.text("".into())?, model.text("1girl, red hair".into())?];
        let step = Step::new(0, 1, 3.0, 0.0, 600.0);
        let branches = [Branch::Uncond, Branch::Cond];
        let off = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        for images in [1, 2] {
            let x = Noise::seeded(1).draw(&[images, 4, 16, 12])? * 3.0;
            let predicted = |own: &Tensor, phase: Interest| -> Result<([Tensor; 2], Vec<Tensor>)> {
                let inputs = [Input::new(branches[0], &x, &words[0]), Input::new(branches[1], own, &words[1])];
                let mut hook = Adds(phase, Vec::new());
                let mut cache = KvCache::default();
                let table = HookTable::new(&[&mut hook], model.sites(), &branches)?;
                let call = Call { step: &step, branches: &branches, images: 0..images, grid: Grid::new(16, 12) };
                let mut tap = Tap::new(call, vec![&mut hook], &table, &mut cache)?;
                let predictions = model.denoise(&step, &inputs, &mut tap)?;
                let both = [predictions.x0(branches[0])?.shallow_clone(), predictions.x0(branches[1])?.shallow_clone()];
                Ok((both, hook.1))
            };
            let (bare, _) = predicted(&x, Interest::NONE)?;
            let ((read, shared), (_, apart)) =
                (predicted(&x, Interest::PROBS)?, predicted(&x.copy(), Interest::PROBS)?);
            assert_eq!(read, bare, "a hook that only reads changes nothing");
            assert_eq!(shared.len(), model.sites().iter().filter(|site| !site.is_cross()).count());
            assert!(shared.iter().zip(&apart).all(|(a, b)| off(a, b) < 1e-5), "{images} images");
            for phase in [Interest::BIAS, Interest::SCORES, Interest::OUTPUT, Interest::CONTEXT] {
                let ((shared, _), (apart, _)) = (predicted(&x, phase)?, predicted(&x.copy(), phase)?);
                assert!(off(&shared[0], &bare[0]) < 1e-4 && off(&shared[1], &bare[1]) > 1e-3, "{phase:?}");
                assert!(off(&shared[1], &apart[1]) < 1e-4, "{phase:?} of {images} images");
            }
        }
        Ok(())
    }

    #[test]
    fn inputs_that_contradict_the_call_are_refused() -> Result<()> {
        let model = Model::load(&Source::embedded())?;
        let (words, x) = (model.text("".into())?, Tensor::zeros([1, 4, 8, 8], (Kind::Float, Device::Cpu)));
        let step = Step::new(0, 1, 3.0, 0.0, 600.0);
        let branches = [Branch::Cond];
        let call = Call { step: &step, branches: &branches, images: 0..2, grid: Grid::new(8, 8) };
        let (table, mut cache) = (HookTable::new(&[], model.sites(), &branches)?, KvCache::default());
        let twice = [Input::new(Branch::Cond, &x, &words), Input::new(Branch::Uncond, &x, &words)];
        let three = [Input::new(Branch::Cond, &x, &words), twice[0], twice[1]];
        model.denoise(&step, &twice, &mut Tap::new(call.clone(), Vec::new(), &table, &mut cache)?)?;
        let error = model.denoise(&step, &three, &mut Tap::new(call, Vec::new(), &table, &mut cache)?).unwrap_err();
        assert!(error.to_string().contains("expected 2 rows: 2 images for each of 1 branches"), "{error}");
        Ok(())
    }

    #[test]
    fn context_with_wrong_number_of_rows_is_refused() -> Result<()> {
        let model = Model::load(&Source::embedded())?;
        let mut two = model.text("1girl".into())?;
        two.context = two.context.repeat([2, 1, 1]);
        let x = Tensor::zeros([1, 4, 8, 8], (Kind::Float, Device::Cpu));
        let inputs = [Input::new(Branch::Cond, &x, &two)];
        let error = model.denoise(&Step::new(0, 1, 3.0, 0.0, 600.0), &inputs, &mut Tap::none()).unwrap_err();
        assert!(error.to_string().contains("expected 1 row, or one for each of the 1 images"), "{error}");
        Ok(())
    }
}
