//! Messages in the words of a program, and remedies as values.

use super::shipped::shipped;
use impasto::wording::{Note, Remedy, Wording};
use impasto::{Error, Pipeline, Raster, Result, Rgb, Source};
use proc_macro2::{TokenStream, TokenTree};
use std::fs;
use std::path::{Path, PathBuf};

/// Words that only a test has.
struct Loud;

impl Wording for Loud {
    fn name<'n>(&self, name: &'n str) -> &'n str {
        match name {
            "guidance_scale" => "SCALE",
            "ColorForce" => "COLOR",
            name => name,
        }
    }
    fn remedy(&self, remedy: Remedy) -> Option<&'static str> {
        (remedy != Remedy::WholeDecoding).then_some("REMEDY")
    }
}

/// Parts of the library that only its callers use. Messages may name them without a remedy.
const CALLERS: &[&str] = &[
    "AttentionSite",
    "Codec",
    "Combine",
    "Conditioning",
    "Conv",
    "Daam",
    "DaamOptions",
    "Denoised",
    "Guidance",
    "GuidanceRun",
    "ImageGuidance",
    "Input",
    "PaintWithWords",
    "Plan",
    "Recorded",
    "Region",
    "Setup",
    "StepVariance",
    "Transition",
];

/// Returns the string literals of code outside of attributes and comments.
fn literals(tokens: TokenStream, found: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            // An attribute may hold documentation.
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                tokens.next_if(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == '!'));
                let Some(TokenTree::Group(attribute)) = tokens.next() else { continue };
                let attribute = attribute.stream();
                if attribute.to_string().replace(' ', "").starts_with("error(") {
                    literals(attribute, found);
                }
            }
            TokenTree::Group(group) => literals(group.stream(), found),
            TokenTree::Literal(literal) => {
                found.extend(syn::parse_str::<syn::LitStr>(&literal.to_string()).map(|text| text.value()))
            }
            _ => {}
        }
    }
}

/// Returns the names of the library in a text, such as `Request` in "give the picture to Request::start".
fn owners(text: &str) -> Vec<&str> {
    let word = |text: &&str| text.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    let before = text.split("::").collect::<Vec<_>>();
    let owner = |pair: &[&str]| -> Option<usize> {
        let start = pair[0].rfind(|letter: char| !letter.is_alphanumeric() && letter != '_').map_or(0, |at| at + 1);
        let (name, next) = (&pair[0][start..], pair[1].split(|letter: char| !letter.is_alphanumeric()).next()?);
        (name.starts_with(char::is_uppercase) && word(&name) && !next.is_empty()).then_some(start)
    };
    before.windows(2).filter_map(|pair| Some(&pair[0][owner(pair)?..])).collect()
}

fn sources() -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "rs" => files.push(path),
                _ => {}
            }
        }
    }
    files.retain(|path| !path.ends_with("tests.rs") && !path.ends_with("src/wording/remedy.rs"));
    files
}

#[test]
fn messages_name_the_library_only_in_remedies() {
    let mut all = Vec::new();
    for file in sources() {
        let mut found = Vec::new();
        literals(shipped(fs::read_to_string(&file).expect("a file").parse().expect("tokens")), &mut found);
        for text in found.iter().filter(|text| text.contains(' ')) {
            let foreign = owners(text).into_iter().find(|name| !CALLERS.contains(name));
            all.extend(foreign.map(|name| format!("{}: {name} in {text:?}", file.display())));
        }
    }
    assert!(all.is_empty(), "give these a `Remedy`:\n{}", all.join("\n"));
}

#[test]
fn owners_are_found_in_messages() {
    assert_eq!(owners("give the picture to Request::start, or to `Origin::Picture`"), ["Request", "Origin"]);
    assert_eq!(owners("a path such as std::fs, or a::B; C :: d"), [""; 0]);
    let mut found = Vec::new();
    let code = "#[doc = \"no A::b\"] #[error(\"yes\")] fn f() { g(\"C::d\") } const Y: &str = \"Z\";";
    literals(code.parse().expect("tokens"), &mut found);
    assert_eq!(found, ["yes", "C::d", "Z"]);
}

#[test]
fn errors_are_worded_for_another_program() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let mut said = |request: &dyn Fn(&mut Pipeline) -> Result<()>| request(&mut pipeline).expect_err("an error");
    let scale = said(&|pipeline| pipeline.request("a boat").guidance_scale(-1.0).run().map(drop));
    assert!(scale.worded(&Loud).starts_with("SCALE is -1; expected a number of 0 or more"), "{scale}");
    let phrase = said(&|pipeline| pipeline.request("a boat").color_force("hat", Rgb(255, 0, 0)).run().map(drop));
    assert!(phrase.to_string().starts_with("ColorForce: phrase \"hat\" is not in the prompt"), "{phrase}");
    assert!(phrase.worded(&Loud).starts_with("COLOR: phrase \"hat\" is not in the prompt"), "{phrase}");

    let mask = Raster::flat(Rgb(255, 255, 255), (64, 64));
    let alone = said(&|pipeline| pipeline.request("a boat").mask(&mask).run().map(drop));
    assert_eq!(alone.remedy(), Some(Remedy::Start));
    assert!(alone.to_string().ends_with("; give the picture to `Request::start`"), "{alone}");
    assert_eq!(alone.worded(&Loud), "mask is given without a picture; expected a picture to repaint; REMEDY");
    let ranked = said(&|pipeline| pipeline.request("a boat").best_of(2).run().map(drop));
    assert_eq!(ranked.remedy(), Some(Remedy::ExactColor));
    Ok(())
}

#[test]
fn every_error_with_a_remedy_ends_with_it() {
    let hint = || Note { remedy: Some(Remedy::Vae), ..Note::from("without this part") };
    let (file, place, text) = (|| "a file".to_owned(), || "a place".to_owned(), || "text".to_owned());
    let errors = [
        Error::MissingFile { file: file(), place: place(), hint: hint() },
        Error::OtherKind { file: file(), contents: text(), remedy: Remedy::Lora },
        Error::Hub { repository: text(), problem: hint() },
        Error::Config { file: file(), field: text(), value: text(), expected: hint() },
        Error::parameter("guidance_scale", 1, hint()),
        Error::NonFinite { what: text(), step: 3 },
        Error::ColorNotInMap { missing: Vec::new(), palette: Vec::new(), tolerance: Some(12.0) },
    ];
    for error in errors {
        let remedy = error.remedy().expect("a remedy").to_string();
        let (own, other) = (error.to_string(), error.worded(&Loud));
        let text = own.strip_suffix(&remedy).unwrap_or_else(|| panic!("{own} does not end with {remedy}"));
        assert_eq!(other, format!("{}REMEDY", text.replace("guidance_scale", "SCALE")));
        let within = Error::Guidance { name: "ColorForce", phase: "begin", step: None, source: Box::new(error) };
        assert_eq!(within.worded(&Loud), format!("COLOR: {other}"));
        assert_eq!(within.remedy().map(|remedy| remedy.to_string()), Some(remedy));
    }
    let without = Note { remedy: Some(Remedy::WholeDecoding), ..Note::from("the picture was decoded in tiles") };
    assert_eq!(without.worded(&Loud), "the picture was decoded in tiles", "the program has no such setting");
}

#[test]
fn file_of_another_kind_names_its_use() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lora.safetensors");
    let rows = tch::Tensor::ones([4, 768], (tch::Kind::Float, tch::Device::Cpu));
    tch::Tensor::write_safetensors(&[("emb_params", rows)], &path)?;
    let error = Pipeline::builder().source(Source::file(&path)).build().expect_err("no model");
    assert_eq!(error.remedy(), Some(Remedy::Embedding));
    assert!(error.to_string().contains("the file is an embedding of 4 tokens"), "{error}");
    Ok(())
}
