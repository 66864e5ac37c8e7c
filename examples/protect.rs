//! Forces a color that leaves another part alone: blue skin, with and without the eyes protected.

use impasto::methods::ColorForce;
use impasto::{Pipeline, Result, Rgb};
use impasto_report::Sheet;

fn main() -> Result<()> {
    let prompt = "1girl, eyes, hair bow, hair, skin, shirt, background";
    let pipeline = Pipeline::builder().build()?;
    let plain = pipeline.request(prompt).steps(14).seed(2).run()?;
    // A cutoff this low also takes cells near the skin. Without `material`, all of these cells are forced.
    let skin = || {
        let force = ColorForce::exact("skin", Rgb(0, 0, 139)).saliency_cutoff(0.03);
        force.tune(|options| options.material = false)
    };
    let bleeding = pipeline.request(prompt).steps(14).seed(2).guide(skin()).run()?;
    let protected = pipeline
        .request(prompt)
        .steps(14)
        .seed(2)
        .guide(skin().protect("eyes").tune(|options| options.protect_grow = 0))
        .run()?;
    for note in &protected.notes {
        println!("{note}");
    }
    let sheet = Sheet::new(3).add("plain", plain.image(0)?).add("blue skin", bleeding.image(0)?);
    sheet.add("eyes protected", protected.image(0)?).draw()?.save("protect.png")?;
    println!("protect.png");
    Ok(())
}
