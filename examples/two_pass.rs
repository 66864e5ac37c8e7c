//! Saves the maps of one run to a file for other runs: the same mask in five colors, with one pass each instead of two.

use impasto::methods::ColorForce;
use impasto::methods::color_force::ForceRun;
use impasto::saliency::Recorded;
use impasto::{Pipeline, Result};
use impasto_report::Sheet;

fn main() -> Result<()> {
    let prompt = "1girl, eyes, hair bow, hair, skin, shirt, background";
    let pipeline = Pipeline::builder().build()?;
    let force = ColorForce::exact("hair", "tomato".parse()?);
    let forced = pipeline.request(prompt).steps(14).seed(2).guide(force).run()?;
    forced.details::<ForceRun>("hair")?.recorded()?.save("hair.safetensors".as_ref())?;

    let names = ["tomato", "gold", "teal", "orchid", "darkblue"];
    let mut outputs = Vec::new();
    for name in names {
        let again = ColorForce::exact("hair", name.parse()?).replay(Recorded::load("hair.safetensors".as_ref())?);
        outputs.push(pipeline.request(prompt).steps(14).seed(2).guide(again).run()?);
    }
    let mut sheet = Sheet::new(3).add("two passes", forced.image(0)?);
    for (name, output) in names.iter().zip(&outputs) {
        sheet = sheet.add(*name, output.image(0)?);
    }
    sheet.draw()?.save("two_pass.png")?;
    assert_eq!(outputs[0].image(0)?.bytes(), forced.image(0)?.bytes(), "tomato again is the same picture, to the bit");
    println!("two_pass.png, hair.safetensors");
    Ok(())
}
