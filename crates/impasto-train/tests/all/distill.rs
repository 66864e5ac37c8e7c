//! Tests of the distillation of the embedded UNet.

use impasto::{Result, Size};
use impasto_train::{DistillTask, ModelFolder, Parameters, Shard, Task};
use tch::{Device, Kind, Tensor};

/// Moves all weights against the gradients by a thousandth of the weights' norm.
fn descend(parameters: &Parameters, gradients: &[Tensor]) {
    let _no_grad = tch::no_grad_guard();
    for (x, gradient) in parameters.tensors().values().zip(gradients) {
        let length = 1e-3 * x.norm() / gradient.norm().clamp_min(1e-12);
        let _ = x.shallow_clone().subtract_(&(gradient * length));
    }
}

#[test]
fn student_learns_where_the_teacher_goes() -> Result<()> {
    let scratch = tempfile::tempdir().unwrap();
    let model = ModelFolder::new(scratch.path().join("model"))?;
    let task = DistillTask::new(model.clone(), 1, Kind::Float)?;
    let parameters = Parameters::new(&DistillTask::initial()?, Device::Cpu)?;
    let shard = Shard { seed: 3, step: 0, part: 0, parts: 1, progress: 0.0 };
    let mut losses = Vec::new();
    for _ in 0..3 {
        let loss = task.loss(&parameters, &shard)?;
        assert_eq!(loss.parts.iter().map(|part| part.0).collect::<Vec<_>>(), ["first", "second", "third", "fourth"]);
        assert!(
            loss.parts.iter().all(|part| part.1 > 0.0),
            "a step of guidance is not the student's: {:?}",
            loss.parts
        );
        losses.push(loss.total.double_value(&[]));
        descend(&parameters, &parameters.gradients(&loss.total)?);
    }
    assert!(losses[1] < losses[0] && losses[2] < 0.9 * losses[0], "the student does not learn: {losses:?}");

    let _no_grad = tch::no_grad_guard();
    let sheet = task.sheet(&parameters)?.expect("a sheet of pictures");
    assert!(sheet.size() != Size::new(0, 0) && model.path().join("unet/config.json").is_file());
    Ok(())
}
