//! Tests of what every family of transformers does: Anima, Stable Diffusion 3 and Z-Image, on small random models.

use crate::{anima, sd3, small_models, z_image};
use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs, SiteKind};
use impasto::diffusion::SchedulerConfig;
use impasto::mask::Region;
use impasto::methods::color_force::{ColorReport, ForceRun};
use impasto::methods::{ColorForce, PaintWithWords, Palette, PromptBlend};
use impasto::nn::{ConfigFile, Taesd, TaesdConfig};
use impasto::pipeline::Request;
use impasto::saliency::Differential;
use impasto::weights::{Weights, write_safetensors};
use impasto::{Branch, Codec, Grid, LoadOptions, Model, Pipeline, Result, Rgb, Source, Window};
use serde_json::json;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const PROMPT: &str = "a cat, red hat, blue eyes";

/// Returns the folder of a small model of each family, and what keeps it.
fn folders() -> Result<Vec<(tempfile::TempDir, PathBuf)>> {
    let own = |folder: tempfile::TempDir| {
        let path = folder.path().to_path_buf();
        (folder, path)
    };
    Ok(vec![own(anima::folder((2, 12), 2)?), own(sd3::folder(true)), z_image::folder("z-image")])
}

fn load(folder: &Path, change: impl FnOnce(&mut LoadOptions)) -> Result<Pipeline> {
    Ok(Pipeline::new(Model::load_with(&Source::dir(folder), crate::with(LoadOptions::default(), change))?))
}

/// Returns a request for a picture of 24 patches.
fn request(pipeline: &Pipeline) -> Request<'_> {
    pipeline.request(PROMPT).negative("hat").seed(3).steps(3).size((64, 96))
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn vae_of_another_kind_is_refused() -> Result<()> {
    let vaes = tempfile::tempdir().expect("a folder");
    small_models::put(vaes.path(), "vae", "sd3-vae");
    let kl = vaes.path().join("vae");
    let qwen = "tests/golden/single_file_anima/qwen_image_vae.safetensors";
    let qwen = Path::new(env!("CARGO_MANIFEST_DIR")).join(qwen);
    let to_anima = "_class_name is AutoencoderKL; expected AutoencoderKLQwenImage";
    let to_others = "_class_name is AutoencoderKLQwenImage; expected AutoencoderKL or a tiny";
    let given = [
        (Source::dir(&kl), &kl, to_anima),
        (Source::file(&qwen), &qwen, to_others),
        (Source::file(&qwen), &qwen, to_others),
    ];
    for ((_kept, folder), (vae, path, words)) in folders()?.into_iter().zip(given) {
        let error = load(&folder, |options| options.vae = Some(vae)).map(drop).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("`LoadOptions::vae`"), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
    Ok(())
}

#[test]
fn tiny_vae_fits_every_family_of_its_channels() -> Result<()> {
    let (tiny, w) = (tempfile::tempdir().expect("a folder"), Weights::random(5, Kind::Float, Device::Cpu));
    let config = json!({ "_class_name": "AutoencoderTiny", "latent_channels": 16 }).to_string();
    Taesd::new(&w, &TaesdConfig::from_json("", &config)?)?;
    std::fs::write(tiny.path().join("config.json"), config).expect("written");
    write_safetensors(&w.drawn()?, &tiny.path().join("diffusion_pytorch_model.safetensors"))?;
    for (_kept, folder) in folders()? {
        let pipeline = load(&folder, |options| options.vae = Some(Source::dir(tiny.path())))?;
        assert_eq!(request(&pipeline).steps(1).run()?.image(0)?.size().to_string(), "64×96", "{}", folder.display());
    }
    Ok(())
}

#[test]
fn offloaded_transformers_paint_the_same_picture() -> Result<()> {
    for (_kept, folder) in folders()? {
        let latents = |offload: bool, kind: Kind| -> Result<Tensor> {
            let pipeline = load(&folder, |options| (options.offload, options.precision) = (offload, kind.into()))?;
            Ok(request(&pipeline).run()?.latents.shallow_clone())
        };
        let full = latents(false, Kind::Float)?;
        assert_eq!(latents(true, Kind::Float)?, full, "{}", folder.display());
        let half = latents(false, Kind::BFloat16)?;
        assert_eq!(latents(true, Kind::BFloat16)?, half, "{}", folder.display());
        let off = (&half - &full).abs().mean(Kind::Double).double_value(&[]) / full.std(true).double_value(&[]);
        assert!(off > 0.0 && off < 0.05, "{}: {off}", folder.display());
    }
    Ok(())
}

/// A hook that reads the noise levels of a run.
#[derive(Default)]
struct Levels(Vec<f64>);

impl CrossAttentionHook for Levels {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if site.index == 0 && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
    }
    fn probs(&mut self, at: &At<'_>, _: &Probs<'_>) -> Result<()> {
        self.0.push(at.step.sigma);
        Ok(())
    }
}

#[test]
fn dynamic_shift_follows_the_size_of_the_picture() -> Result<()> {
    let (_kept, folder) = folders()?.remove(1);
    let scheduler = json!({ "_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": true,
                            "base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 24, "max_image_seq_len": 96 });
    std::fs::create_dir_all(folder.join("scheduler")).expect("a folder");
    std::fs::write(folder.join("scheduler/scheduler_config.json"), scheduler.to_string()).expect("written");
    let pipeline = load(&folder, |_| {})?;
    // A picture of 64×96 pixels has 24 tokens, and one of 128×192 pixels has 96.
    for (size, mu) in [((64, 96), 0.5), ((128, 192), 1.15)] {
        let mut levels = Levels::default();
        assert!(request(&pipeline).size(size).estimate()?.rows > 0);
        let _ = request(&pipeline).size(size).hook(&mut levels).run()?;
        let known = pipeline.model().scheduler().clone().with_mu(mu)?.schedule(3)?;
        assert_eq!(levels.0, known.steps().map(|step| step.sigma).collect::<Vec<_>>(), "{size:?}");
    }
    // A shift of the user's own replaces it.
    let (mut levels, pipeline) = (Levels::default(), load(&folder, |options| options.shift = Some(2.0))?);
    let _ = request(&pipeline).hook(&mut levels).run()?;
    let known = SchedulerConfig::flow(2.0).schedule(3)?;
    assert_eq!(levels.0, known.steps().map(|step| step.sigma).collect::<Vec<_>>());
    Ok(())
}

/// A hook that reads the attention of each half of the picture to the hat.
struct Halves(Vec<i64>, Vec<[f64; 2]>);

impl CrossAttentionHook for Halves {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if site.is_cross() && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
    }
    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        assert_eq!(at.grid, Grid::new(6, 4));
        let all = probs.columns(probs.tokens())?;
        let rows = all.f_sum_dim_intlist([3i64].as_slice(), false, Kind::Float)?;
        let (least, most) = (rows.min().double_value(&[]), rows.max().double_value(&[]));
        match at.site.kind {
            SiteKind::Joint => assert!(most < 1.0, "the picture attends to itself too"),
            _ => assert!(least > 0.9999 && most < 1.0001, "{least} {most}"),
        }
        let hat = all.f_index_select(3, &Tensor::from_slice(&self.0))?;
        let hat = hat.f_mean_dim([3i64].as_slice(), false, Kind::Float)?.f_reshape([-1, at.grid.h, at.grid.w])?;
        self.1.push([0, 2].map(|left| hat.narrow(2, left, 2).mean(Kind::Float).double_value(&[])));
        Ok(())
    }
}

#[test]
fn paint_draws_attention_into_its_mask() -> Result<()> {
    for (_kept, folder) in folders()? {
        let pipeline = load(&folder, |_| {})?;
        let spans = pipeline.model().prompt(PROMPT.into())?.find("hat")?;
        let columns: Vec<i64> = spans.iter().flat_map(|span| span.start..span.end).collect();
        let read = |paint: Option<PaintWithWords>| -> Result<(Tensor, Vec<[f64; 2]>)> {
            let mut hook = Halves(columns.clone(), Vec::new());
            let request = request(&pipeline).hook(&mut hook);
            let output = paint.into_iter().fold(request, Request::guide).run()?;
            Ok((output.latents.shallow_clone(), hook.1))
        };
        let bare = request(&pipeline).run()?;
        let (latents, plain) = read(None)?;
        assert!(apart(&latents, &bare.latents) < 1e-4 && plain.len() >= 6, "{}", folder.display());
        let left = PaintWithWords::default().mask(Region::rect(0.0..0.5, 0.0..1.0), "hat", 2.0);
        let (_, painted) = read(Some(left))?;
        // The first layer of the first step has the same queries in both runs.
        let (plain, painted) = (plain[0], painted[0]);
        let is_drawn = painted[0] > 1.1 * plain[0] && painted[1] < 1.01 * plain[1];
        assert!(is_drawn, "{}: {plain:?} {painted:?}", folder.display());
    }
    Ok(())
}

#[test]
fn blend_ends_at_the_second_prompt() -> Result<()> {
    for (_kept, folder) in folders()? {
        let pipeline = load(&folder, |_| {})?;
        let other = pipeline.request("a green scarf").negative("hat").seed(3).steps(3).size((64, 96)).run()?;
        let blended =
            |share: f64| request(&pipeline).guide(PromptBlend::to("a green scarf").curve(move |_| share)).run();
        assert_eq!(blended(0.0)?.latents, request(&pipeline).run()?.latents, "{}", folder.display());
        assert!(apart(&blended(1.0)?.latents, &other.latents) < 1e-4, "{}", folder.display());
    }
    Ok(())
}

#[test]
fn forces_replay_their_maps() -> Result<()> {
    for (_kept, folder) in folders()? {
        let pipeline = load(&folder, |_| {})?;
        // The first three of these steps have more noise than Stable Diffusion's last timestep.
        let force = || ColorForce::published("hat", Rgb(255, 215, 0)).window(Window::WHOLE);
        let steps = || request(&pipeline).steps(12);
        let first = steps().guide(force()).run()?;
        let maps = first.details::<ForceRun>("hat")?.recorded()?;
        let again = steps().guide(force().replay(maps)).run()?;
        assert_eq!(again.latents, first.latents, "{}", folder.display());
        assert!(apart(&again.latents, &steps().run()?.latents) > 1e-3, "{}", folder.display());
    }
    Ok(())
}

#[test]
fn exact_forces_find_things_among_many_tokens() -> Result<()> {
    let mut folders = folders()?;
    let wide = sd3::remade(&[("pos_embed_max_size", json!(34))])?;
    folders[1] = (tempfile::tempdir().expect("a folder"), wide.path().to_path_buf());
    for (_kept, folder) in folders {
        let pipeline = load(&folder, |_| {})?;
        // From 1024 tokens on, exact forces read means over neighboring tokens.
        let request = request(&pipeline).size((544, 544)).steps(2);
        let output = request.guide(ColorForce::exact("hat", Rgb(255, 215, 0))).run()?;
        assert_eq!(output.details::<ColorReport>("hat")?.painted.len(), 1, "{}", folder.display());
    }
    Ok(())
}

#[test]
fn previews_and_second_runs_work_in_sixteen_channels() -> Result<()> {
    for (_kept, folder) in folders()? {
        let pipeline = load(&folder, |_| {})?;
        let (mut seen, mut sizes) = (None, Vec::new());
        let output = request(&pipeline).on_preview(1, |preview| {
            sizes.push(preview.pictures()?[0].size());
            seen = Some(preview.decoded()?.remove(0));
            Ok(())
        });
        let output = output.run()?;
        let picture = output.image(0)?;
        assert_eq!((seen.as_ref(), sizes), (Some(picture), vec![picture.size(); 3]), "{}", folder.display());
        let larger = request(&pipeline).hires(1.5, 0.5).run()?;
        assert_eq!(larger.image(0)?.size().to_string(), "96×144", "{}", folder.display());
        let exact = || ColorForce::exact("hat", Rgb(255, 215, 0));
        let best = request(&pipeline).best_of(2).guide(exact()).run()?;
        assert!(best.seed.is_some_and(|seed| [3, 4].contains(&seed)), "{}: {:?}", folder.display(), best.seed);
        let painted = request(&pipeline).guide(Palette::new([(Rgb(0, 0, 128), 3.0), (Rgb(255, 215, 0), 1.0)])).run()?;
        assert!(apart(&painted.latents, &output.latents) > 1e-2, "{}", folder.display());
        let changed = ColorForce::published("hat", Rgb(255, 215, 0)).saliency(Differential::of("hat", "green"));
        let changed = request(&pipeline).guide(changed.saliency_cutoff(0.5)).run()?;
        assert!(apart(&changed.latents, &output.latents) > 1e-4, "{}", folder.display());
    }
    Ok(())
}
