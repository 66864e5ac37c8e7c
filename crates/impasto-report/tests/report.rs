//! Reports of a run as people and programs read them.

use impasto::guidance::{Curve, GuidanceRun, Picture, Report, Strip, Swatch};
use impasto::mask::Region;
use impasto::methods::{ColorForce, PaintWithWords};
use impasto::pipeline::{Output, Pipeline};
use impasto::saliency::Daam;
use impasto::wording::Note;
use impasto::{Raster, Result, Rgb};
use ndarray::Array2;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const PORTRAIT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";
const GOLD: Rgb = Rgb(255, 215, 0);

/// A user's guidance method whose report has one piece of every kind.
struct Mine;

impl GuidanceRun for Mine {
    fn report(&self) -> Result<Option<Report>> {
        let map = Tensor::from_slice(&[0.0f32, 1.0, 1.0, 0.5]).reshape([2, 2]);
        let sea = Swatch::new("the sea & sky", Rgb(0, 0, 255), Rgb(255, 0, 0));
        let wet = Picture::map("where it is wet", &map).image(0).step(1);
        let mut report = Report::new("Mine <of all>");
        report.data = serde_json::json!({ "answer": 42 });
        report.swatches = vec![Swatch { image: Some(0), ..sea }];
        report.curves = vec![Curve::new("height of waves", vec![(0, 1.0), (1, 3.0)])];
        report.strips = vec![Strip::new("the tide", vec![(0, Rgb(1, 2, 3)), (1, Rgb(4, 5, 6))])];
        report.pictures = vec![wet, Picture::new("a shell", Raster::flat(GOLD, (4, 4)))];
        Ok(Some(report))
    }

    fn notes(&self) -> Vec<Note> {
        vec!["the <sea> is rough".into()]
    }

    fn name(&self) -> &'static str {
        "Mine"
    }
}

fn output(images: usize, steps: usize) -> Result<Output> {
    let mask = Region::new(Array2::from_shape_fn((16, 16), |(row, _)| if row > 7 { 1.0 } else { 0.0 }));
    let pipeline = Pipeline::builder().build()?;
    let request = pipeline.request(PORTRAIT).negative("x < y").seed(7).steps(steps).images(images);
    let request = request.guide(ColorForce::exact("hair", Rgb(255, 99, 71))).guide(Daam::of("eyes"));
    request.guide(PaintWithWords::default().mask(mask, "shirt", 0.5)).guide(|| Mine).run()
}

/// HTML elements without an end tag.
const VOID: [&str; 3] = ["br", "img", "meta"];

/// Returns the names of a page's elements. Panics unless all tags end where they should.
fn elements(page: &str) -> Vec<String> {
    let (mut open, mut seen, mut rest) = (Vec::new(), Vec::new(), page);
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').expect("a tag ends");
        rest = after;
        if tag.starts_with('!') {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "before {after:.80}");
            continue;
        }
        let name = tag.split([' ', '/']).next().expect("a name").to_owned();
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag:.80}>");
        seen.push(name.clone());
        if name == "style" || name == "script" {
            let end = format!("</{name}>");
            rest = rest.split_once(end.as_str()).expect("it ends").1;
        } else if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} do not end");
    seen
}

#[test]
fn new_page_replaces_no_file() -> Result<()> {
    let output = Pipeline::builder().build()?.request(PORTRAIT).size((64, 64)).steps(1).run()?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [path, plain] = ["report.html", "plain.html"].map(|name| folder.path().join(name));
    std::fs::write(&plain, "kept").expect("a file");
    let error = impasto_report::save_new(&output, &plain).unwrap_err();
    let taken = |source: &std::io::Error| source.kind() == std::io::ErrorKind::AlreadyExists;
    assert!(matches!(&error, impasto::Error::Io { source, .. } if taken(source)), "{error}");
    assert_eq!(std::fs::read_to_string(&plain).expect("it is there"), "kept");
    impasto_report::save_new(&output, &path)?;
    // The page has the permissions of any other new file.
    let rights = |path| std::fs::metadata(path).expect("it is there").permissions();
    assert_eq!(rights(&path), rights(&plain));
    Ok(())
}

#[test]
fn page_loads_nothing_and_shows_every_piece() -> Result<()> {
    for images in [1, 2] {
        let output = output(images, 6)?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("report.html");
        impasto_report::save(&output, &path)?;
        let page = std::fs::read_to_string(&path).expect("it is there");
        assert!(impasto_report::save(&output, folder.path().join("no/report.html")).is_err());

        let elements = elements(&page);
        let count = |name: &str| elements.iter().filter(|element| *element == name).count();
        assert_eq!((count("h1"), count("h2"), count("link"), count("iframe")), (1, 6, 0, 0));
        for reference in ["src=\"", "url("] {
            assert!(page.split(reference).skip(1).all(|rest| rest.starts_with("data:")), "{reference}");
        }
        assert!(!page.contains("http") && !page.contains("href") && !page.contains("@import"));

        for piece in [
            "ColorForce &quot;hair&quot;",
            "Daam &quot;eyes&quot;",
            "PaintWithWords",
            "Mine &lt;of all&gt;",
            "x &lt; y",
            "the &lt;sea&gt; is rough",
            "the sea &amp; sky",
            "a different color",
            "height of waves: 1 to 3",
            "the tide",
            "where it is wet",
            "a shell",
            "#ff6347",
            "as the model saw it",
            "strength of the force",
            "mask</figcaption>",
            "per step</p>",
            "prefers-color-scheme: dark",
            "width=device-width",
            "Mine cannot be stored in a recipe or restored from one",
        ] {
            assert!(page.contains(piece), "{piece}");
        }
        assert_eq!(page.contains("image 1"), images > 1);

        let json = page.split_once("id=\"run\">").and_then(|(_, rest)| rest.split_once("</script>")).expect("JSON").0;
        let run: Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(run["recipe"]["seed"], 7);
        assert_eq!(run["timing"]["steps"].as_array().map(Vec::len), Some(6));
        assert_eq!(run["reports"][3]["data"]["answer"], 42);
        assert_eq!(run["reports"][0]["swatches"].as_array().map(Vec::len), Some(images));
        assert_eq!(run["reports"][0]["swatches"][0]["asked"], "#ff6347");
        assert_eq!(run["reports"], serde_json::to_value(&output.reports).expect("JSON"));
    }
    Ok(())
}

#[test]
fn method_section_matches_its_snapshot() -> Result<()> {
    let page = impasto_report::page(&output(1, 3)?)?;
    let begin = page.find("<section><h2>Mine").expect("the method has a section");
    let (section, _) = page[begin..].split_once("</section>").expect("it ends");
    insta::with_settings!({ filters => vec![(r#"data:image/png;base64,[^"]+"#, "[PNG]")] }, {
        insta::assert_snapshot!(section.replace("><", ">\n<"));
    });
    Ok(())
}

#[test]
fn contact_sheet_shows_picture_and_colors() -> Result<()> {
    let output = output(2, 6)?;
    let sheet = impasto_report::contact_sheet(&output, 1)?;
    // Five columns with eight pixels around them; pictures are magnified to 256.
    let picture = output.image(1)?;
    let times = 256 / picture.size().width;
    assert_eq!(sheet.size().width, 8 + 5 * (256 + 8));
    for (x, y) in [(0, 0), (64, 64), (127, 100)] {
        assert_eq!(sheet.pixel(8 + times * x, 8 + times * y), picture.pixel(x, y));
    }
    let there = |color: Rgb| sheet.bytes().chunks(3).filter(|pixel| *pixel == [color.0, color.1, color.2]).count();
    let painted = output.reports[0].swatches[1].painted;
    assert!(there(Rgb(255, 99, 71)) > 20_000 && there(painted) > 20_000);
    assert!(impasto_report::contact_sheet(&output, 2).is_err());
    Ok(())
}

#[test]
fn unfinished_run_has_a_page_without_pictures() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let output = pipeline.request(PORTRAIT).seed(7).steps(6).until(0.5).guide(Daam::of("eyes")).run()?;
    let page = impasto_report::page(&output)?;
    assert!(elements(&page).len() > 20 && page.contains("&quot;until&quot;: 0.5"));
    assert!(impasto_report::contact_sheet(&output, 0).is_err());
    Ok(())
}

#[test]
fn map_is_drawn_only_for_a_page_or_sheet() -> Result<()> {
    /// A guidance method whose map cannot be drawn.
    struct Odd;
    impl GuidanceRun for Odd {
        fn report(&self) -> Result<Option<Report>> {
            let map = Tensor::zeros([2, 2, 2], (Kind::Float, Device::Cpu));
            let mut report = Report::new("Odd");
            report.pictures = vec![Picture::map("odd", &map).image(0)];
            Ok(Some(report))
        }
    }
    let pipeline = Pipeline::builder().build()?;
    let output = pipeline.request(PORTRAIT).seed(7).steps(2).guide(|| Odd).run()?;
    let error = impasto_report::page(&output).expect_err("the map is drawn now").to_string();
    assert!(error.contains("[h, w]") && impasto_report::contact_sheet(&output, 0).is_err(), "{error}");
    Ok(())
}
