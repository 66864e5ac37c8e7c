//! Prompts in the web UI's syntax: schedules, turns, `AND`, LoRAs and learned words, and methods that find their words.

use super::with;
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Noise, Predictions, Schedule, Spacing, TrainingSchedule};
use impasto::guidance::{GuidanceRun, Setup};
use impasto::mask::Region;
use impasto::methods::color_force::ColorReport;
use impasto::methods::{ColorForce, PaintWithWords};
use impasto::pipeline::{Hires, Output, Request};
use impasto::prompt::PromptSyntax;
use impasto::saliency::{Daam, DaamRun};
use impasto::sampler::{Sampler, Start};
use impasto::testing::ToyModel;
use impasto::weights::{Embedding, Lora};
use impasto::wording::Note;
use impasto::{
    Branch, BranchInfo, Codec, Conditioning, Error, Grid, Model, Pipeline, Raster, Result, Rgb, Source, Step, Window,
};
use std::path::Path;
use tch::{Device, Kind, Tensor};

const GOLD: Rgb = Rgb(255, 215, 0);
const SIDE: (u32, u32) = (64, 64);

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

/// A guidance method that reads one text up to a step, and another text from then on, without the syntax of prompts.
struct Texts {
    first: &'static str,
    steps: std::ops::Range<usize>,
}

impl GuidanceRun for Texts {
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        if branch.branch != Branch::Cond {
            return Ok(());
        }
        let first = codec.text(self.first.into())?;
        conditioning.during(self.steps.clone(), |part| {
            part.context = first.context.shallow_clone();
            Ok(())
        })
    }
}

fn small<'p>(pipeline: &'p Pipeline, prompt: &str) -> Request<'p> {
    pipeline.request(prompt).size(SIDE).seed(7).steps(4)
}

#[test]
fn switch_reads_the_text_of_each_step() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let mut texts = Texts { first: "1girl, red hair, eyes", steps: 0..3 };
    let want = small(&pipeline, "1girl, blue hair, eyes").attach(&mut texts).run()?;
    let got = small(&pipeline, "1girl, [red:blue:0.5] hair, eyes").run()?;
    assert_eq!(got.images, want.images, "calls 0, 1 and 2 are not after step 2");
    // Texts of other lengths keep their tokens in another order, which changes the rounding alone.
    let mut texts = Texts { first: "1girl, red hair, eyes", steps: 0..3 };
    let want = small(&pipeline, "1girl, blue shirt, red hat, black hair, eyes").attach(&mut texts).run()?;
    let got = small(&pipeline, "1girl, [red:blue shirt, red hat, black:2] hair, eyes").run()?;
    assert!(apart(&got.latents, &want.latents) < 1e-3, "{}", apart(&got.latents, &want.latents));
    let plain = small(&pipeline, "1girl, red hair, eyes").run()?;
    assert!(apart(&got.latents, &plain.latents) > 0.02, "{}", apart(&got.latents, &plain.latents));
    Ok(())
}

/// Returns the map of a phrase in the steps of a window.
fn map(request: Request<'_>, phrase: &str, window: Window) -> Result<Tensor> {
    let output = request.guide(Daam::of(phrase).window(window)).run()?;
    Ok(output.details::<DaamRun>(phrase)?.heat_map(0)?.values.shallow_clone())
}

#[test]
fn words_are_found_at_every_step() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let late = Window::progress(0.75..=1.0);
    for phrase in ["hair", "eyes", "hat", "blue shirt"] {
        let mut texts = Texts { first: "1girl, red hair, eyes", steps: 0..3 };
        let request = small(&pipeline, "1girl, blue shirt, red hat, black hair, eyes").attach(&mut texts);
        let want = map(request, phrase, late)?;
        let got = map(small(&pipeline, "1girl, [red:blue shirt, red hat, black:2] hair, eyes"), phrase, late)?;
        assert!(apart(&got, &want) < 1e-3 * want.max().double_value(&[]), "{phrase}: {}", apart(&got, &want));
    }
    Ok(())
}

#[test]
fn word_counts_in_the_steps_that_have_it() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let request = || small(&pipeline, "1girl, [hat, :1] eyes");
    let (all, late) = (map(request(), "hat", Window::WHOLE)?, map(request(), "hat", Window::progress(0.5..=1.0))?);
    // Steps 0 and 1 lack the hat.
    assert!(apart(&(all * 2.0), &late) < 1e-6);
    let turns = map(small(&pipeline, "1girl, [red|black] hair"), "black", Window::WHOLE)?;
    assert!(turns.max().double_value(&[]) > 0.0);
    Ok(())
}

/// Returns the difference of the painted color of a phrase from the asked one.
fn delta(output: &Output, phrase: &str) -> Result<f64> {
    Ok(output.details::<ColorReport>(phrase)?.painted[0].delta_e)
}

#[test]
fn exact_colors_meet_a_changing_prompt() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    for prompt in [
        "1girl, [long red:white:0.3] hair, #ffd700 eyes, blue shirt",
        "1girl, hair, [black eyes:#ffd700 eyes:0.4], blue shirt",
        "1girl, hair, [#1e5aff eyes:#ffd700 eyes:0.3], blue shirt",
    ] {
        let output = pipeline.request(prompt).seed(7).steps(10).run()?;
        assert!(delta(&output, "eyes")? < 3.0, "{prompt}: {}", delta(&output, "eyes")?);
        assert_eq!(output.recipe().config.prompt, prompt);
    }
    Ok(())
}

#[test]
fn words_behind_and_are_found_in_their_branch() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let prompt = "1girl, red hair, shirt AND 1girl, #ffd700 eyes, hair :0.8";
    let output = pipeline.request(prompt).seed(7).steps(10).run()?;
    assert!(delta(&output, "eyes")? < 3.0, "{}", delta(&output, "eyes")?);
    let force = ColorForce::exact("hat", GOLD);
    let error = small(&pipeline, "1girl, hair AND eyes").guide(force).run().expect_err("no hat").to_string();
    assert!(error.contains("phrase \"hat\" is not in the prompt"), "{error}");
    for phrase in ["hair", "eyes"] {
        let area = PaintWithWords::default().mask(Region::rect(0.0..0.5, 0.0..1.0), phrase, 1.0);
        let output = small(&pipeline, "1girl, [red|blue] hair AND eyes").guide(area).run()?;
        assert!(output.notes.is_empty(), "{:?}", output.notes);
    }
    Ok(())
}

/// A reader that counts the branches of every evaluation, and keeps the text that each step reads.
#[derive(Default)]
struct Probe {
    branches: Vec<usize>,
    contexts: Vec<Vec<Tensor>>,
    steps: usize,
}

impl GuidanceRun for Probe {
    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        self.steps = setup.schedule.steps().count();
        Ok(())
    }
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        if branch.branch == Branch::Cond {
            self.contexts.push((0..self.steps).map(|step| conditioning.at(step).context.copy()).collect());
        }
        Ok(())
    }
    fn predicted(&mut self, _: &Step, predictions: &mut Predictions) -> Result<()> {
        self.branches.push(predictions.branches().count());
        Ok(())
    }
}

#[test]
fn parts_of_and_are_branches() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let count = |prompt: &str, scale: f64| -> Result<(usize, Output)> {
        let mut probe = Probe::default();
        let output = small(&pipeline, prompt).guidance_scale(scale).attach(&mut probe).run()?;
        Ok((probe.branches[0], output))
    };
    assert_eq!(count("1girl, hair AND eyes AND shirt", 5.0)?.0, 4);
    assert_eq!(count("1girl, hair AND eyes", 1.0)?.0, 3, "the empty prompt takes part without guidance too");
    let (branches, twice) = count("1girl, hair AND 1girl, hair", 3.0)?;
    assert_eq!(branches, 2, "equal prompts share an evaluation");
    let (_, doubled) = count("1girl, hair :2", 3.0)?;
    let (_, scaled) = count("1girl, hair", 6.0)?;
    assert_eq!(twice.images, doubled.images);
    assert!(apart(&doubled.latents, &scaled.latents) < 1e-3);
    let (_, nothing) = count("1girl, hair AND eyes :0", 3.0)?;
    let (_, alone) = count("1girl, hair", 3.0)?;
    assert!(apart(&nothing.latents, &alone.latents) < 1e-3);
    let error = small(&pipeline, &"a AND b".repeat(40)).run().expect_err("too many").to_string();
    assert!(error.contains("41 prompts with AND; expected at most 32"), "{error}");
    Ok(())
}

#[test]
fn second_run_counts_through_both_runs() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let [red, blue] = ["1girl, red hair", "1girl, blue hair"].map(|text| pipeline.model().text(text.into()));
    let [red, blue] = [red?.context, blue?.context];
    let read = |prompt: &str| -> Result<Vec<String>> {
        let mut probe = Probe::default();
        let request = small(&pipeline, prompt)
            .tune(|config| config.hires = Some(with(Hires::new(1.5, 1.0), |hires| hires.steps = Some(6))));
        request.attach(&mut probe).run()?;
        let letter = |context: &Tensor| match context {
            context if *context == red => 'r',
            context if *context == blue => 'b',
            _ => '?',
        };
        Ok(probe.contexts.iter().map(|steps| steps.iter().map(letter).collect()).collect())
    };
    assert_eq!(read("1girl, [red:blue:0.5] hair")?, ["rrrb", "bbbbbb"]);
    assert_eq!(read("1girl, [red:blue:1.5] hair")?, ["rrrr", "rrrrbb"]);
    assert_eq!(read("1girl, [red:blue:6] hair")?, ["rrrr", "rrrbbb"]);
    assert_eq!(read("1girl, [red|blue] hair")?, ["rrbr", "rrbrbr"]);
    Ok(())
}

#[test]
fn part_of_a_schedule_counts_its_own_steps() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let picture = Raster::flat(GOLD, SIDE);
    let read = |prompt: &str| -> Result<usize> {
        let mut probe = Probe::default();
        let request = small(&pipeline, prompt).steps(8).start(&picture, 0.5);
        request.attach(&mut probe).run()?;
        let contexts = &probe.contexts[0];
        Ok(contexts.iter().filter(|context| **context == contexts[0]).count())
    };
    assert_eq!(read("1girl, [red:blue:0.5] hair")?, 4, "half of eight steps is after the four that are run");
    assert_eq!(read("1girl, [red:blue:0.25] hair")?, 3);
    // A run that continues another run counts through both.
    let first = small(&pipeline, "1girl, [red:blue:2] hair").until(0.5).run()?;
    let mut probe = Probe::default();
    small(&pipeline, "1girl, [red:blue:2] hair").resume(&first.latents, 0.5).attach(&mut probe).run()?;
    assert!(probe.contexts[0][0] != probe.contexts[0][1], "the third step is red, and the fourth is blue");
    Ok(())
}

/// Writes a LoRA of the model's first query layers of UNet and text encoder.
fn write_lora(model: &Model, file: &Path, seed: i64) -> Result<()> {
    let mut tensors = Vec::new();
    for (part, ending) in [("unet", "attn2.to_q.weight"), ("text_encoder", "q_proj.weight")] {
        let all = model.tensors(part).expect("a part");
        let mut names: Vec<&String> = all.keys().filter(|name| name.ends_with(ending)).collect();
        names.sort();
        let (name, weight) = (names[0], &all[names[0]]);
        let module = format!("{part}.{}", name.trim_end_matches(".weight"));
        let wave = |sizes: [i64; 2], by: i64| {
            (Tensor::arange(sizes[0] * sizes[1], (Kind::Float, Device::Cpu)) * by as f64).sin().reshape(sizes) * 0.3
        };
        tensors.push((format!("{module}.lora_A.weight"), wave([2, weight.size()[1]], seed)));
        tensors.push((format!("{module}.lora_B.weight"), wave([weight.size()[0], 2], seed + 1)));
    }
    Ok(Tensor::write_safetensors(&tensors, file)?)
}

#[test]
fn tags_add_loras_of_a_folder() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Model::load(&Source::embedded())?;
    let [ink, oil] = ["ink", "oil"].map(|name| folder.path().join(format!("{name}.safetensors")));
    write_lora(&model, &ink, 3)?;
    write_lora(&model, &oil, 8)?;
    let loras = [Lora::open(&ink)?.scale(0.8).text_scale(0.5), Lora::open(&oil)?];
    let changed = Pipeline::new(model.with_lora(&loras)?);
    let pipeline = Pipeline::new(model).lora_folder(folder.path());
    let prompt = "1girl<lora:ink:0.5:0.8>, red hair<lora:oil>";
    let output = small(&pipeline, prompt).run()?;
    assert_eq!(output.images, small(&changed, "1girl, red hair").run()?.images);
    let plain = small(&pipeline, "1girl, red hair").run()?;
    assert!(apart(&plain.latents, &output.latents) > 0.01);
    assert_eq!(small(&pipeline, prompt).run()?.images, output.images, "the adapted model is kept");

    // The file of the picture has the tags, and the model without them.
    let recipe = output.recipe();
    assert_eq!((recipe.config.prompt.as_str(), &recipe.model), (prompt, &pipeline.model().identity()?));
    assert!(recipe.infotext().to_string().starts_with(prompt));
    let file = folder.path().join("out.png");
    output.save(0, &file)?;
    let again = Request::from_png(&pipeline, &file)?;
    assert!(again.notes()?.is_empty());
    assert_eq!(again.run()?.images, output.images);

    let refused = |prompt: &str| small(&pipeline, prompt).run().expect_err("refused").to_string();
    assert!(
        refused("a <lora:inks:1>")
            .contains("\"inks\"; expected a name of a file in a folder of LoRAs, such as \"ink\"")
    );
    let none = Pipeline::builder().build()?;
    assert!(small(&none, "a <lora:ink>").run().expect_err("no folder").to_string().contains("`Pipeline::lora_folder`"));
    let own = Pipeline::new(ToyModel::new(1)?).lora_folder(folder.path());
    let error = own.request("a <lora:ink>").steps(1).run().expect_err("no model").to_string();
    assert!(error.contains("this network has no weights to change"), "{error}");
    Ok(())
}

#[test]
fn colors_and_words_are_found_with_loras() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Model::load(&Source::embedded())?;
    write_lora(&model, &folder.path().join("ink.safetensors"), 3)?;
    let pipeline = Pipeline::new(model).lora_folder(folder.path());
    let prompt = "1girl, hair<lora:ink:0.05>, #ffd700 eyes, [red:blue:0.5] shirt";
    let output = pipeline.request(prompt).seed(7).steps(10).guide(Daam::of("shirt")).detail("eyes").run()?;
    assert!(output.details::<DaamRun>("shirt")?.heat_map(0)?.max()? > 0.0);
    assert!(delta(&output, "eyes")? < 3.0, "{}", delta(&output, "eyes")?);
    assert!(small(&pipeline, prompt).hires(1.5, 0.5).estimate()?.rows > 0);
    Ok(())
}

#[test]
fn words_of_a_folder_are_learned() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Model::load(&Source::embedded())?;
    let table = &model.tensors("text_encoder").expect("a part")["text_model.embeddings.token_embedding.weight"];
    let rows = table.narrow(0, 5, 2) * 1.5;
    let file = folder.path().join("Gilded-Style.safetensors");
    Tensor::write_safetensors(&[("emb_params", &rows)], &file)?;
    std::fs::write(folder.path().join("hair.safetensors"), std::fs::read(&file).expect("read")).expect("written");
    std::fs::write(folder.path().join("unused.safetensors"), "no weights").expect("written");
    let learned = Pipeline::new(model.with_embedding(&Embedding::open(&file)?.called("gilded-style"))?);
    let pipeline = Pipeline::new(model).embedding_folder(folder.path());
    let want = small(&learned, "1girl, gilded-style").negative("gilded-style").run()?;
    let got = small(&pipeline, "1girl, gilded-style").negative("embedding:gilded-style").run()?;
    assert_eq!(got.images, want.images);
    // A word of the vocabulary stays what it is.
    let output = small(&pipeline, "1girl, hair").run()?;
    let told = output.notes.iter().any(|note| note.text.contains("hair") && note.text.contains("is not used"));
    assert!(told, "{:?}", output.notes);
    let plain = Pipeline::builder().build()?;
    assert_eq!(output.images, small(&plain, "1girl, hair").run()?.images);
    Ok(())
}

#[test]
fn words_that_do_not_fit_the_model_stay_text() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("easynegative.safetensors");
    Tensor::write_safetensors(&[("emb_params", &Tensor::ones([2, 1024], (Kind::Float, Device::Cpu)))], &file)?;
    std::fs::write(folder.path().join("blurred.safetensors"), "no weights").expect("written");
    let plain = Pipeline::builder().build()?;
    let pipeline = Pipeline::builder().build()?.embedding_folder(folder.path());
    for negative in ["easynegative, hat", "embedding:easynegative, hat"] {
        let run = |pipeline: &Pipeline| small(pipeline, "1girl").negative(negative).run();
        let (output, want) = (run(&pipeline)?, run(&plain)?);
        assert_eq!(output.images, want.images, "{negative}");
        let about = |note: &&Note| note.text.contains("easynegative.safetensors is not used: the embedding is 1024");
        let told: Vec<&Note> = output.notes.iter().filter(about).collect();
        assert_eq!(told.len(), 1, "{:?}", output.notes);
    }
    let error = small(&pipeline, "1girl").negative("blurred").run().map(drop).expect_err("no weights").to_string();
    assert!(error.contains("blurred.safetensors"), "{error}");
    Ok(())
}

#[test]
fn recipe_without_a_syntax_has_plain_prompts() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let pipeline = Pipeline::builder().build()?;
    let output = small(&pipeline, "1girl, [red:blue:0.5] hair").run()?;
    let mut recipe = serde_json::to_value(output.recipe()).expect("a recipe");
    assert!(recipe.as_object_mut().expect("fields").remove("syntax").is_some());
    let file = folder.path().join("old.png");
    let png = output.image(0)?.to_png(&[("impasto", &recipe.to_string())])?;
    std::fs::write(&file, png).expect("written");
    let again = Request::from_png(&pipeline, &file)?.run()?;
    assert_eq!(again.recipe().config.syntax, PromptSyntax::Plain);
    let plain =
        small(&pipeline, "1girl, [red:blue:0.5] hair").tune(|config| config.syntax = PromptSyntax::Plain).run()?;
    assert!(again.images == plain.images && again.images != output.images);
    Ok(())
}

#[test]
fn infotext_keeps_the_syntax() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let pipeline = Pipeline::builder().build()?;
    for syntax in [PromptSyntax::WebUi, PromptSyntax::OldWebUi, PromptSyntax::Plain] {
        let request = small(&pipeline, "1girl, [red:blue:1.0] hair").tune(|config| config.syntax = syntax);
        let output = request.solver_named("Euler a").run()?;
        let file = folder.path().join("out.png");
        let words = output.recipe().infotext().to_string();
        std::fs::write(&file, output.image(0)?.to_png(&[("parameters", &words)])?).expect("written");
        let again = Request::from_png(&pipeline, &file)?.run()?;
        assert_eq!((again.recipe().config.syntax, &again.images), (syntax, &output.images));
    }
    Ok(())
}

/// Runs a prompt by hand on the toy model.
fn toy(model: &ToyModel, prompt: &str, negative: &str, steps: usize) -> Result<Tensor> {
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), steps, Spacing::Leading)?;
    let mut start = Start::new(prompt, Grid::new(2, 2), Noise::seeded(7));
    (start.negative, start.syntax) = (negative, PromptSyntax::WebUi);
    Ok(Sampler::new(schedule, Euler).start(model, start)?.finish()?.shallow_clone())
}

#[test]
fn any_brackets_make_a_picture() -> Result<()> {
    let model = ToyModel::new(1)?;
    let mut seed = 3u64;
    let mut dice = |sides: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % sides
    };
    let pieces = ["[", "]", "(", ")", ":", "|", "a ", "é ", "3", "0.5", "\\", "\n", " AND ", "cat ", "-2"];
    for _ in 0..2_000 {
        let mut text = || (0..1 + dice(24)).map(|_| pieces[dice(pieces.len())]).collect::<String>();
        let (prompt, negative) = (text(), text());
        let latent = toy(&model, &prompt, &negative, 3);
        assert!(matches!(latent, Ok(_) | Err(Error::Parameter { .. })), "{prompt:?} {negative:?}: {latent:?}");
    }
    Ok(())
}

#[test]
fn number_of_texts_is_bounded() -> Result<()> {
    let model = ToyModel::new(1)?;
    let turns = |count: usize| (0..count).map(|turn| format!("word{turn}")).collect::<Vec<_>>().join("|");
    assert!(toy(&model, &format!("a [{}]", turns(50)), "", 60).is_ok());
    let begun = std::time::Instant::now();
    let error = toy(&model, &format!("a [{}]", turns(900)), "", 1000).expect_err("too many").to_string();
    assert!(error.contains("different texts over the steps") && error.contains("write fewer alternatives"), "{error}");
    assert!(begun.elapsed().as_secs() < 5);
    Ok(())
}

#[test]
fn weights_are_bounded() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    for prompt in ["1girl, (red hair:99999)", "1girl AND red hair :-99999", "1girl, (((hair:100):100):100)"] {
        let error = small(&pipeline, prompt).run().map(drop).unwrap_err().to_string();
        assert!(error.contains("hair\" with a weight of ") && error.contains("-10000 to 10000"), "{prompt}: {error}");
    }
    small(&pipeline, "1girl, (red hair:9999)").run()?;
    Ok(())
}
