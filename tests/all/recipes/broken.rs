//! Broken recipes are errors that name the problem.

use super::{Folder, PORTRAIT, told};
use impasto::pipeline::{Pipeline, Request};
use impasto::saliency::Daam;
use impasto::{Error, Result};

#[test]
fn broken_recipe_error_names_the_problem() -> Result<()> {
    let folder = Folder::new();
    let pipeline = Pipeline::builder().build()?;
    let output = pipeline.request(PORTRAIT).seed(7).steps(2).guide(Daam::of("eyes")).run()?;
    let good = serde_json::to_value(output.recipe()).expect("JSON");
    let changed = |field: &str, value: serde_json::Value| {
        let mut recipe = good.clone();
        *recipe.pointer_mut(field).expect("there") = value;
        recipe.to_string()
    };
    let zeros = serde_json::json!({ "shape": [1 << 26], "values": "" }); // claims to unpack to 256 MiB
    let cases = [
        (String::new(), "the recipe in the file cannot be read"),
        ("{".into(), "the recipe in the file cannot be read"),
        ("[]".into(), "the recipe in the file cannot be read"),
        (r#"{"format": 1}"#.into(), "missing field"),
        (changed("/format", 2.into()), "format 2; expected format 1"),
        (changed("/steps", "many".into()), "invalid type: string \"many\""),
        (changed("/seed", (-2).into()), "the seed is -2"),
        (changed("/sampler", "Eular".into()), "solver \"Eular\" is not known; did you mean \"Euler\""),
        (changed("/solver", serde_json::json!({ "name": "Ddim", "settings": { "eta": "x" } })), "recipe of Ddim"),
        (changed("/guidances/0/settings", serde_json::json!({ "phrase": 7 })), "recipe of Daam: invalid type"),
        (changed("/guidances/0", serde_json::json!({ "name": "PaintWithWords" })), "recipe of PaintWithWords"),
        (changed("/combine", serde_json::json!({ "name": "Cfg", "settings": [] })), "recipe of Cfg"),
        (changed("/combine", serde_json::json!([zeros, zeros, zeros])), "too large; expected at most 512 MiB"),
    ];
    for (written, problem) in cases {
        let path = folder.told(&[("impasto", &written)]);
        let error = Request::from_png(&pipeline, path).map(drop).expect_err(&written).to_string();
        assert!(error.contains(problem), "{error}\n{written}");
    }
    let unknown = changed("/solver", serde_json::json!({ "name": "Mine" }));
    let request = Request::from_png(&pipeline, folder.told(&[("impasto", &unknown)]))?;
    let notes = told(&request.notes()?);
    assert!(notes.starts_with("Mine, which is no solver in the registry, cannot be stored in a recipe"), "{notes}");
    assert!(notes.contains("add its reader to `Pipeline::registry_mut`"), "{notes}");
    drop(request);
    let error = Request::from_png(&pipeline, folder.told(&[])).map(drop).expect_err("silent").to_string();
    assert!(error.contains("the file has no recipe"), "{error}");
    assert!(matches!(Request::from_png(&pipeline, folder.file("none.png")).map(drop), Err(Error::Io { .. })));
    let error = output.save(0, folder.file("run.jpg")).expect_err("no place for texts").to_string();
    assert!(error.contains(".png"), "{error}");
    Ok(())
}
