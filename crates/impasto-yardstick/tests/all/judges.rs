//! Tests of judges for any checkpoint: attention, masks in a folder, a program behind a pipe.

use crate::*;
use impasto::Raster;
use judge::{Choice as Which, Masks, Program, Saliency};
use mock::{Mock, SIDE, made, portrait};
use std::path::PathBuf;

/// A suite of one listed prompt, whose phrases are parts of the mock's portrait.
fn listed() -> Suite {
    let phrases = ["shirt", "hair bow"].map(str::to_owned).to_vec();
    let prompt = "someone in a shirt with a hair bow".to_owned();
    let listed = Some(vec![listing::Listed { prompt, phrases, fixed: None, worded: None }]);
    Suite { listed, ..Suite::new("public", 3) }
}

fn plan() -> Plan<'static> {
    let suite: &'static Suite = Box::leak(Box::new(listed()));
    let choice = Choice {
        tasks: vec![Task::Named, Task::Numeric, Task::Many],
        methods: vec![Method::Unforced, Method::Word, Method::DocParts],
        ..Choice::default()
    };
    let seeds = Seeds::Exactly(2);
    Plan { suite, choice, made: made(), seeds, unsteady: vec![], limit: None, workers: 1, shard: (0, 1), only: None }
}

/// Runs the plan into a folder. Returns the last progress and every record in the folder.
fn ran(folder: &Path, which: &Which) -> Result<(runner::Progress, Vec<Record>), Failure> {
    let path = folder.join("runs.jsonl");
    let (mut records, known) = Records::open(&path)?;
    let bench = || Ok((Mock::Perfect, which.open()?));
    let progress = runner::run(&plan(), &known, &mut records, bench, |_, _, _| Ok(()))?;
    Ok((progress, record::read(&path)?))
}

fn worst(records: &[Record], method: Method) -> f64 {
    let parts = records.iter().filter(|record| record.method == method).flat_map(|record| &record.parts);
    parts.map(|part| part.delta_e()).fold(0.0, f64::max)
}

#[test]
fn a_model_judges_itself_by_its_attention() {
    let folder = tempfile::tempdir().unwrap();
    let (_, records) = ran(folder.path(), &Which::Saliency).unwrap();
    assert!(records.len() >= 9 && records.iter().all(|record| record.status == Status::Measured));
    assert!(worst(&records, Method::DocParts) < 2.0, "{}", worst(&records, Method::DocParts));
    assert!(worst(&records, Method::Unforced) > 20.0);
    // Both pictures have the region of the unforced picture.
    assert!(records.iter().flat_map(|record| &record.parts).all(|part| part.measure.layout_iou == 1.0));
    let judged = |mut record: Record| {
        record.made.judge = Which::Saliency.name().into();
        record
    };
    let records: Vec<Record> = records.into_iter().map(judged).collect();
    let summary = Summary::new(&records, About::default(), None).unwrap();
    report::write(folder.path(), &summary, &records).unwrap();
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(
        page.contains("<th>shirt</th>") && !page.contains("<th>eyes</th>"),
        "columns are the phrases that were asked"
    );
    assert!(page.contains("self-judged"));
}

/// Draws the mask of a phrase in the mock's pictures.
fn draw(path: &Path, phrase: &str) {
    let inside = of_class(&portrait(), class(phrase));
    picture::raster(&inside.mapv(|inside| if inside { Rgb(255, 255, 255) } else { Rgb(0, 0, 0) }))
        .unwrap()
        .save(path)
        .unwrap();
}

#[test]
fn masks_of_a_folder_are_waited_for() {
    let (folder, masks) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let which = Which::Masks(masks.path().to_owned());
    let mut counts = Vec::new();
    loop {
        let (progress, records) = ran(folder.path(), &which).unwrap();
        counts.push((progress.waiting, records.len()));
        if progress.waiting == 0 {
            assert!(worst(&records, Method::DocParts) < 2.0, "{}", worst(&records, Method::DocParts));
            assert!(records.iter().all(|record| record.status == Status::Measured));
            break;
        }
        for entry in std::fs::read_dir(masks.path()).unwrap().map(|entry| entry.unwrap().path()) {
            let key = entry.file_stem().unwrap().to_str().unwrap().to_owned();
            if !key.contains('.') {
                draw(&masks.path().join(format!("{key}.shirt.png")), "shirt");
                draw(&masks.path().join(format!("{key}.hair-bow.png")), "hair bow");
            }
        }
    }
    // Masks of the unforced pictures are needed first, then masks of the forced ones.
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!(counts[0].1 == 0 && counts[1].1 > 0 && counts[2].1 > counts[1].1, "{counts:?}");
}

#[test]
fn a_mask_of_another_size_is_refused() {
    let masks = tempfile::tempdir().unwrap();
    let picture = Array2::from_elem((SIDE, SIDE), Rgb(9, 9, 9));
    let phrases = ["shirt".to_owned()];
    let view = View { picture: &picture, phrases: &phrases, attention: &[] };
    let mut judge = Masks::open(masks.path()).unwrap();
    assert!(judge.look(&view).unwrap().is_none());
    let waiting: Vec<PathBuf> = std::fs::read_dir(masks.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [waiting] = &waiting[..] else { panic!("{waiting:?}") };
    Raster::flat(Rgb(255, 255, 255), (8, 8)).save(waiting.with_extension("shirt.png")).unwrap();
    let message = judge.look(&view).unwrap_err().to_string();
    assert!(message.contains("8×8") && message.contains("64×64"), "{message}");
}

/// Writes a shell script that gives `answer` for each picture. Returns the command that starts the script.
#[cfg(unix)]
fn script(folder: &Path, answer: &str) -> String {
    let path = folder.join("segment.sh");
    std::fs::write(
        &path,
        format!("while read -r line; do echo \"$line\" >> {0}/asked; {answer}; done\n", folder.display()),
    )
    .unwrap();
    format!("sh {}", path.display())
}

#[cfg(unix)]
#[test]
fn a_program_finds_the_parts() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = folder.path().display();
    draw(&folder.path().join("shirt.png"), "shirt");
    draw(&folder.path().join("bow.png"), "hair bow");
    let answer = format!("echo '{{\"shirt\": \"{at}/shirt.png\", \"hair bow\": \"{at}/bow.png\"}}'");
    let (_, records) = ran(out.path(), &Which::Program(script(folder.path(), &answer))).unwrap();
    let (forced, unforced) = (worst(&records, Method::DocParts), worst(&records, Method::Unforced));
    assert!(forced < 2.0 && unforced > 20.0, "{forced}, {unforced}");
    // The program is told a picture and its phrases, and nothing of the asked part and color.
    let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
    for line in asked.lines() {
        let line: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
        assert_eq!(line.keys().collect::<Vec<_>>(), ["phrases", "picture"]);
        assert_eq!(line["phrases"], json!(["shirt", "hair bow"]));
    }
    // A part that the program does not see counts as missing, which is the model's failure.
    let (unseen, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, records) = ran(unseen.path(), &Which::Program(script(folder.path(), "echo '{\"shirt\": null}'"))).unwrap();
    assert!(records.iter().all(|record| record.status == Status::Missing));
}

#[cfg(unix)]
#[test]
fn broken_judge_program_ends_the_run_without_a_record() {
    for (answer, word) in [
        ("exit 1", "without an answer"),
        ("echo shirt.png", "expected {\"phrase\""),
        ("echo '{\"nose\": \"a.png\"}'", "\"nose\", which was not asked for"),
        ("echo '{\"shirt\": \"gone.png\"}'", "gone.png"),
    ] {
        let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let message = ran(out.path(), &Which::Program(script(folder.path(), answer))).unwrap_err().to_string();
        assert!(message.contains(word), "{answer}: {message}");
        assert_eq!(record::read(&out.path().join("runs.jsonl")).unwrap(), []);
    }
    let message = Program::start("/no/such/program").err().unwrap().to_string();
    assert!(message.contains("/no/such/program"), "{message}");
}

#[test]
fn smaller_region_wins_where_two_overlap() {
    let square = |side: usize| Array2::from_shape_fn((64, 64), |(y, x)| f32::from(u8::from(y < side && x < side)));
    let attention = [("eyes".to_owned(), square(16)), ("face".to_owned(), square(32))];
    let phrases = ["face".to_owned(), "eyes".to_owned()];
    let picture = Array2::from_elem((64, 64), Rgb(9, 9, 9));
    let seen = Saliency.look(&View { picture: &picture, phrases: &phrases, attention: &attention }).unwrap().unwrap();
    let at = |y, x| seen.labels[(y, x)];
    assert_eq!((at(4, 4), at(24, 24), at(50, 50)), (class("eyes"), judge::class("face", &phrases), 0));
    assert!(judge::class("face", &phrases) > class("cup"), "a class of its own");
}

#[test]
fn changed_parts_change_the_fingerprint_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { model: impasto::Source::dir(folder.path()), ..Settings::default() };
    let mut before = settings.fingerprint().unwrap();
    for part in ["unet", "transformer", "text_encoder_3", "text_conditioner", "scheduler"] {
        let part = folder.path().join(part);
        std::fs::create_dir(&part).unwrap();
        for content in ["first", "other"] {
            std::fs::write(part.join("file"), content).unwrap();
            let now = settings.fingerprint().unwrap();
            assert_ne!(now, before, "{}: {content}", part.display());
            before = now;
        }
    }
}

#[test]
fn model_is_a_folder_or_a_file() {
    use impasto::Source;
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &Path| generator::model(path.to_str().unwrap());
    assert_eq!(at(folder.path()).unwrap(), Source::dir(folder.path()));
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, b"weights").unwrap();
    assert_eq!(at(&file).unwrap(), Source::file(&file));
    let settings = |file: &Path| Settings { model: at(file).unwrap(), ..Settings::default() };
    let first = settings(&file).fingerprint().unwrap();
    std::fs::write(&file, b"other weights").unwrap();
    assert_ne!(settings(&file).fingerprint().unwrap(), first);
    let message = at(&folder.path().join("none")).unwrap_err().to_string();
    assert!(message.contains("an existing folder or file"), "{message}");
    assert!(generator::model("embedded").unwrap() == Source::embedded());
}
