//! Paints one prompt beside a picture at several strengths, by the weights of an IP-Adapter.

use impasto::methods::IpAdapter;
use impasto::{Pipeline, Raster, Result, Source};
use impasto_report::Sheet;

const PROMPT: &str = "a portrait in a garden, best quality";
const STRENGTHS: [f64; 4] = [0.0, 0.4, 0.7, 1.0];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, adapter, encoder, picture] = arguments.as_slice() else {
        println!("usage: ip_adapter MODEL ADAPTER IMAGE_ENCODER PICTURE");
        println!("No IP-Adapter is embedded: give the files of a model, of its adapter and of an image encoder.");
        return Ok(());
    };
    let pipeline = Pipeline::builder().source(model.parse::<Source>()?).build()?;
    let net = pipeline.model().ip_adapter(adapter, &encoder.parse()?)?;
    let picture = Raster::open(picture)?;
    let mut sheet = Sheet::new(1 + STRENGTHS.len()).add("the picture", &picture);
    for strength in STRENGTHS {
        let like = IpAdapter::new(&net, &picture).strength(strength);
        let output = pipeline.request(PROMPT).seed(7).guide(like).run()?;
        sheet = sheet.add(format!("strength {strength}"), output.image(0)?);
    }
    sheet.draw()?.save("ip_adapter.png")?;
    println!("ip_adapter.png");
    Ok(())
}
