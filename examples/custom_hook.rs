//! Measures which word gets most of the picture's attention, with a custom hook of fifteen lines.

use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use impasto::{Branch, Codec, Pipeline, Result};
use tch::{Kind, Tensor};

#[derive(Default)]
struct TokenWeight {
    sum: Option<Tensor>,
}

impl CrossAttentionHook for TokenWeight {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if site.is_cross() && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
    }
    fn probs(&mut self, _: &At, probs: &Probs) -> Result<()> {
        let here = probs.columns(probs.tokens())?.f_mean_dim([0i64, 1, 2].as_slice(), false, Kind::Double)?;
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum.f_add(&here)?,
            None => here,
        });
        Ok(())
    }
}

fn main() -> Result<()> {
    let prompt = "a red boat, navy sky, green ground";
    let pipeline = Pipeline::builder().build()?;
    let mut weight = TokenWeight::default();
    pipeline.request(prompt).seed(7).hook(&mut weight).run()?; // the run borrows the hook
    let weights = Vec::<f64>::try_from(weight.sum.expect("every step adds to the sum"))?; // readable after the run
    let total: f64 = weights.iter().sum();
    for (bytes, weight) in pipeline.model().prompt(prompt.into())?.tokens().iter().zip(&weights[1..]) {
        println!("{:>8} {:5.2} %", &prompt[bytes.clone()], 100.0 * weight / total);
    }
    Ok(())
}
