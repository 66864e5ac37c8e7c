//! Chooses the words that a forced phrase competes with: the words of all other things, all except some, or the words
//! of a list.

use impasto::methods::ColorForce;
use impasto::methods::color_force::ColorReport;
use impasto::{Pipeline, Result, Rgb};
use impasto_report::Sheet;

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let prompt = "1girl, looking at viewer, hair bow, hair, eyes, skin, shirt, background, masterpiece";
    let skin = || ColorForce::exact("skin", Rgb(72, 61, 139));
    let ways = [
        ("skin", skin()),
        ("skin, eyes and all: except eyes", skin().except(["eyes"])),
        ("skin, told apart from the background alone: among background", skin().among(["background"])),
    ];
    let mut pictures = Vec::new();
    for (caption, force) in ways {
        let output = pipeline.request(prompt).steps(14).seed(2).guide(force).run()?;
        for contest in &output.details::<ColorReport>("skin")?.competitions {
            let joined: Vec<String> = contest.joined.iter().map(|(word, to)| format!("{word} ({to})")).collect();
            println!("{caption}\n  competed with {}\n  left out {}", contest.rivals.join(", "), joined.join(", "));
        }
        pictures.push((caption, output));
    }
    let mut sheet = Sheet::new(3);
    for (caption, output) in &pictures {
        sheet = sheet.add(*caption, output.image(0)?);
    }
    sheet.draw()?.save("competition.png")?;
    println!("competition.png");
    Ok(())
}
