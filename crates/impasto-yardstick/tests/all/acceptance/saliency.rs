//! Tests of attention maps against the regions that the judge sees.

use super::judge::Judge;
use impasto::mask::Region;
use impasto::pipeline::Request;
use impasto::saliency::{Accumulate, Daam, DaamRun, Refine, SaliencyRun};
use impasto::{Pipeline, Result};
use impasto_yardstick::statistics::median;
use tch::{Kind, Tensor};

const PORTRAIT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";

#[test]
fn attention_along_outlines_matches_the_part() -> Result<()> {
    let (judge, pipeline) = (Judge::new(), Pipeline::builder().build()?);
    let (mut coarse, mut fine) = (vec![], vec![]);
    for seed in 0..2 {
        let parts = ["hair bow", "hair", "skin", "shirt"];
        let look = |part| {
            Daam::of(part).tune(|options| {
                options.accumulate = Accumulate::Mean;
                options.refine = Refine::contrast();
            })
        };
        let request = pipeline.request(PORTRAIT).seed(seed);
        let output = parts.map(look).into_iter().fold(request, Request::guide).run()?;
        let seen = judge.look(output.image(0)?)?;
        for part in parts {
            let truth = seen.part(part).flatten(0, -1).to_kind(Kind::Float);
            let iou = |map: Tensor| {
                let found = map.adaptive_avg_pool2d([64, 64]).ge(0.5).flatten(0, -1).to_kind(Kind::Float);
                let sum = |x: Tensor| x.sum(Kind::Double).double_value(&[]);
                sum(&found * &truth) / sum((found + &truth).clamp(0.0, 1.0)).max(1.0)
            };
            let map = output.details::<DaamRun>(part)?.map()?.expect("the run had steps");
            let region = Region::along_outlines(&map, output.image(0)?)?;
            let values: Vec<f32> = region.values().expect("a drawing").iter().copied().collect();
            let (h, w) = region.values().expect("a drawing").dim();
            let size = [h as i64, w as i64];
            coarse.push(iou(map.upsample_nearest2d(size, None, None)));
            fine.push(iou(Tensor::from_slice(&values).reshape([1, 1, size[0], size[1]])));
        }
    }
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let (before, after) = (mean(&coarse), mean(&fine));
    assert!(after > 0.65 && after > before + 0.05, "IoU {before:.2} → {after:.2}");
    Ok(())
}

#[test]
fn attention_to_eyes_lies_where_the_judge_sees_eyes() -> Result<()> {
    let (judge, pipeline) = (Judge::new(), Pipeline::builder().build()?);
    let mut inside = Vec::new();
    for seed in 0..4 {
        let output = pipeline.request(PORTRAIT).seed(seed).guide(Daam::of("eyes")).run()?;
        let eyes = judge.look(output.image(0)?)?.part("eyes");
        let map = output.details::<DaamRun>("eyes")?.heat_map(0)?.expand((64, 64))?;
        inside.push(
            map.masked_select(&eyes).mean(tch::Kind::Double).double_value(&[])
                / map.mean(tch::Kind::Double).double_value(&[]),
        );
    }
    assert!(median(inside.clone()) > 3.0, "attention in the eyes over the mean: {inside:?}");
    Ok(())
}
