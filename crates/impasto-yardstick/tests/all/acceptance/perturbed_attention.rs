//! Tests of perturbed-attention guidance: the judge must still see the objects that the prompt asks for.

use super::judge::Judge;
use impasto::diffusion::solver::Euler;
use impasto::methods::PerturbedAttention;
use impasto::{Pipeline, Result};

const OBJECTS: [&str; 8] = ["house", "tree", "boat", "star", "fish", "flower", "moon", "sun"];

/// Makes pictures of every object without classifier-free guidance. Returns the share in which the judge finds the
/// object (1 % of the picture or more).
fn found(images: usize, scale: f64) -> Result<f64> {
    let (judge, pipeline) = (Judge::new(), Pipeline::builder().build()?);
    let (mut found, mut all) = (0.0, 0.0);
    for object in OBJECTS {
        let prompt = format!("a {object}, ground, sky");
        let request = pipeline.request(&prompt).solver(Euler).guidance_scale(1.0).seed(0).images(images).steps(12);
        for picture in &request.guide(PerturbedAttention::new(scale)).run()?.images {
            let (share, ..) = judge.look(picture)?.place(object, 0..64, 0..64);
            found += f64::from(u8::from(share >= 0.01));
            all += 1.0;
        }
    }
    Ok(found / all)
}

#[test]
fn objects_stay_at_the_usual_scale() -> Result<()> {
    // The embedded model shows nearly every object without guidance. So the method can gain nothing here, but it can
    // lose objects.
    let found = found(2, 3.0)?;
    assert!(found >= 0.85, "found in {found:.2} of the pictures");
    Ok(())
}
