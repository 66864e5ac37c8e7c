//! Readers of the colorizer's texts and lines. `src/methods/colorize/tests.rs` has the comparison with
//! ColorizeDiffusion's networks.

use impasto::hint::standard_line_art;
use impasto::methods::colorize::Manipulation;
use impasto::{Raster, Result, Rgb};
use serde_json::Value;

#[test]
fn manipulations_are_read_and_written_as_lines() -> Result<()> {
    let lines = "[target] the girl's blonde hair; [anchor] the girl's brown hair; [control] hair; [scale] 8; [enhanced] False\n\n\
                 [target] red eyes; [anchor] none; [control] ; [scale] 2.5; [enhanced] true; [ts0] 0.1; [ts1] 0.2; [ts2] 0.3; [ts3] 0.4";
    let parsed = Manipulation::parse(lines)?;
    assert_eq!(parsed.len(), 2);
    assert_eq!((parsed[0].anchor.as_deref(), parsed[0].enhance), (Some("the girl's brown hair"), false));
    assert_eq!((&parsed[1].anchor, &parsed[1].control, parsed[1].enhance), (&None, &None, true));
    assert_eq!(parsed[1].thresholds, [0.1, 0.2, 0.3, 0.4]);
    let written = parsed.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(Manipulation::parse(&written)?, parsed);
    for (line, said) in [
        ("[anchor] a", "target is empty"),
        ("[target] a; [scale] x", "a number after [scale]"),
        ("[target] a; scale 3", "expected the form [name] value"),
        ("[target] a; [colour] red", "target, anchor, control"),
        ("[target] a; [enhanced] maybe", "True or False"),
        ("[target] a; [ts1] 0.7; [ts2] 0.6", "four rising numbers in 0..=1"),
        ("[target] a; [scale] -1", "scale is -1; expected 0..=100"),
    ] {
        let error = Manipulation::parse(line).unwrap_err().to_string();
        assert!(error.contains(said), "{line}: {error}");
    }
    Ok(())
}

#[test]
fn line_art_of_uneven_ink_is_standardized() -> Result<()> {
    let golden: Value = serde_json::from_str(include_str!("../golden/specs/line_art.json")).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let bytes =
            |name: &str| case[name].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u8).collect::<Vec<_>>();
        let size = (case["w"].as_u64().unwrap() as u32, case["h"].as_u64().unwrap() as u32);
        let lines = standard_line_art(&Raster::from_bytes(bytes("rgb"), size)?)?;
        let gray: Vec<u8> = lines.bytes().chunks_exact(3).map(|pixel| pixel[0]).collect();
        let off = gray.iter().zip(bytes("floor_u8")).filter(|(got, want)| *got != want).count();
        // Every pixel has to be equal, although sums in another order could round some pixels differently.
        let most = gray.iter().zip(bytes("floor_u8")).map(|(got, want)| got.abs_diff(want)).max();
        assert!(off == 0 && most <= Some(0), "{}: {off} pixels differ, by {most:?}", case["name"]);
    }
    assert!(standard_line_art(&Raster::flat(Rgb(0, 0, 0), (0, 4))).is_err());
    let one = standard_line_art(&Raster::flat(Rgb(9, 9, 9), (1, 1)))?;
    assert_eq!(one.pixel(0, 0), Some(Rgb(0, 0, 0)));
    Ok(())
}
