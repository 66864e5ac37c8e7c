//! Paints a portrait with gold eyes: `cargo run --release --example quick_start`.

use impasto::{Pipeline, Rgb};

fn main() -> impasto::Result<()> {
    let pipeline = Pipeline::builder().color_force("eyes", Rgb(255, 215, 0)).build()?;
    let output = pipeline.request("1girl, eyes, hair bow, hair, skin, shirt, background").seed(7).run()?;
    output.image(0)?.save("gold_eyes.png")?;
    println!("gold_eyes.png, {:.0?} a step", output.timing.step());
    Ok(())
}
