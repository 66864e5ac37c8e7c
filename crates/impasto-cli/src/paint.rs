//! `impasto paint`: pictures of a prompt, or of a file of prompts.

use crate::failure::Failure;
use crate::files;
use crate::interrupt;
use crate::loading::Loading;
use crate::painting::Painting;
use crate::pictures::{Nets, Pictures};
use crate::progress::Bar;
use crate::result::Finished;
use crate::values::Seed;
use crate::wording;
use clap::Args;
use impasto::sampler::CancelToken;
use impasto::{Error, Pipeline, Source};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Arguments of `impasto paint`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  impasto paint \"1girl, #ffd700 eyes, hair\" -o eyes.png --seed 7
  impasto paint \"a house, sky, ground\" --map map.png --area red=house:1.5 --area blue=sky
  impasto paint \"1girl, hair, shirt\" --control embedded=lines.png --strokes strokes.png
  impasto paint --prompts prompts.jsonl -o pictures/out.png --json

A line of --prompts is a JSON object whose keys are the options without dashes in front:
  {\"prompt\": \"1girl, eyes\", \"seed\": 7, \"best-of\": 4, \"force\": [\"eyes=gold\"]}
Settings that a line lacks are those of the command line.")]
pub struct Paint {
    #[command(flatten)]
    painting: Painting,
    /// File of the picture, a PNG that `impasto again` can repeat. Of several pictures, each has its line and seed in
    /// the name.
    #[arg(short, long, value_name = "FILE", default_value = "impasto.png", help_heading = "Output")]
    output: PathBuf,
    /// Writes an HTML page with the pictures, masks, colors and times of the run.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,
    /// Writes the unfinished picture to a file after every step.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    preview: Option<PathBuf>,
    /// Prints a line of JSON for each picture.
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// A file of prompts, one JSON object a line; `-` is the standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt", help_heading = "Several prompts")]
    prompts: Option<PathBuf>,
    /// Line of --prompts to begin with, counted from 1.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "prompts", help_heading = "Several prompts")]
    from_line: usize,
    #[command(flatten)]
    loading: Loading,
}

/// Largest file of prompts in bytes.
const LARGEST: u64 = 64 << 20;

/// A painting, and the line of the file of prompts that it is from.
struct Job {
    line: Option<usize>,
    painting: Painting,
}

/// Paints everything that the arguments ask for.
pub fn paint(arguments: &Paint) -> Result<(), Failure> {
    // Every line is read before the first picture, so that a mistake in the last line does not cost an hour.
    let jobs = arguments.jobs()?;
    files::png(&arguments.output)?;
    for file in [&arguments.report, &arguments.preview].into_iter().flatten() {
        files::in_a_folder(file)?;
    }
    let token = interrupt::token()?;
    let mut pipeline = arguments.loading.pipeline(Source::embedded())?;
    let mut nets = Nets::default();
    let several = jobs.len() > 1;
    for (index, job) in jobs.iter().enumerate() {
        nets.load(&job.painting, &pipeline).map_err(|failure| job.at(failure))?;
        let done = arguments.paint_all(job, several, &mut pipeline, &nets, &token);
        done.map_err(|failure| match (failure, job.line) {
            (Failure::Interrupted(text), Some(line)) => {
                let rest = jobs.len() - index;
                Failure::Interrupted(format!(
                    "{text}; {rest} lines are left: repeat the command with --from-line {line}"
                ))
            }
            (Failure::Interrupted(text), None) => Failure::Interrupted(text),
            (failure, _) => job.at(failure),
        })?;
    }
    Ok(())
}

impl Job {
    /// Adds the number of the job's line to a failure.
    fn at(&self, failure: Failure) -> Failure {
        match self.line {
            Some(line) => Failure::Message(format!("line {line}: {failure}")),
            None => failure,
        }
    }
}

impl Paint {
    fn jobs(&self) -> Result<Vec<Job>, Failure> {
        let Some(file) = &self.prompts else {
            self.painting.check().map_err(Failure::CommandLine)?;
            return Ok(vec![Job { line: None, painting: self.painting.clone() }]);
        };
        let text = read(file)?;
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let lines = lines.filter(|(number, line)| *number >= self.from_line && !line.trim().is_empty());
        let jobs: Vec<Job> = lines
            .map(|(number, line)| {
                let painting = self.painting.with_line(line).and_then(|painting| painting.check().map(|()| painting));
                let painting = painting.map_err(|fault| format!("{}, line {number}: {fault}", file.display()))?;
                Ok(Job { line: Some(number), painting })
            })
            .collect::<Result<_, Failure>>()?;
        if jobs.is_empty() {
            let problem = "the file has no prompts; expected a line such as {\"prompt\": \"a red boat\"}";
            return Err(Failure::Message(format!("{}: {problem}", file.display())));
        }
        Ok(jobs)
    }

    /// Paints the pictures of one job, each as a run of its own, so that Ctrl-C keeps all that are finished.
    fn paint_all(
        &self,
        job: &Job,
        several: bool,
        pipeline: &mut Pipeline,
        nets: &Nets,
        token: &CancelToken,
    ) -> Result<(), Failure> {
        let painting = &job.painting;
        let pictures = Pictures::open(painting, nets)?;
        let images = painting.images();
        let first = painting.seed.unwrap_or(Seed::Random).number();
        for image in 0..images {
            let seed = first.wrapping_add(image * painting.seeds_each());
            let bar = Bar::new(&label(job, image, images));
            let preview = self.preview.as_deref();
            let request = painting
                .request(pipeline, &pictures, nets, seed)?
                .cancel(token)
                .on_preview(1, |shown| bar.show(shown, preview));
            let output = request.run();
            bar.finish();
            let output = match output {
                Err(Error::Cancelled) => return Err(interrupted(image, images, seed)),
                output => wording::worded(output?),
            };
            let mark = Mark { line: job.line.filter(|_| several), seed: output.seed.filter(|_| images > 1) };
            let file = mark.on(&self.output);
            output.save(0, &file)?;
            if let Some(report) = &self.report {
                impasto_report::save(&output, mark.on(report))?;
            }
            Finished::new(&file, &output, 0)?.print(self.json)?;
        }
        Ok(())
    }
}

/// The part of a file name that distinguishes a picture from the others of the same command.
struct Mark {
    line: Option<usize>,
    seed: Option<u64>,
}

impl Mark {
    /// Returns `FILE-LINE-SEED.EXTENSION`.
    fn on(&self, file: &Path) -> PathBuf {
        let mut stem = file.file_stem().unwrap_or_default().to_os_string();
        for number in [self.line.map(|line| line as u64), self.seed].into_iter().flatten() {
            stem.push(format!("-{number}"));
        }
        if let Some(extension) = file.extension() {
            stem.push(".");
            stem.push(extension);
        }
        file.with_file_name(stem)
    }
}

/// The label of a picture's progress bar.
fn label(job: &Job, image: u64, images: u64) -> String {
    let line = job.line.map_or_else(String::new, |line| format!("line {line} "));
    if images > 1 { format!("{line}picture {} of {images}", image + 1) } else { format!("{line}picture") }
}

/// Says how to go on after Ctrl-C.
fn interrupted(done: u64, images: u64, seed: u64) -> Failure {
    let left = images - done;
    let again = match images {
        1 => "repeat the command".into(),
        _ => format!("repeat the command with --seed {seed} --images {left}"),
    };
    Failure::Interrupted(format!("interrupted after {done} of {images} pictures; to go on, {again}"))
}

/// Reads a file of prompts, or the standard input. A byte-order mark before the text is left out.
fn read(file: &Path) -> Result<String, Failure> {
    let fault = |problem: String| Failure::Message(format!("{}: {problem}", file.display()));
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().take(LARGEST + 1).read_to_end(&mut bytes)
    } else {
        fs::File::open(file).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
    };
    if read.map_err(|error| fault(error.to_string()))? as u64 > LARGEST {
        return Err(fault("the file has more than 64 MiB; divide it into several files".into()));
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|error| fault(format!("the text is not UTF-8 ({error}); save the file as UTF-8")))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_pictures_have_line_and_seed_in_their_names() {
        let on = |line, seed| Mark { line, seed }.on(Path::new("folder/out.png")).display().to_string();
        assert_eq!(on(None, None), "folder/out.png");
        assert_eq!(on(None, Some(8)), "folder/out-8.png");
        assert_eq!(on(Some(3), Some(8)), "folder/out-3-8.png");
        assert_eq!(Mark { line: Some(1), seed: None }.on(Path::new("out")).display().to_string(), "out-1");
    }
    #[test]
    fn file_of_prompts_may_begin_with_a_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lines.jsonl");
        fs::write(&file, "\u{feff}{}").unwrap();
        assert_eq!(read(&file).unwrap(), "{}");
        fs::write(&file, b"\xff\xfe{\0}\0").unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("save the file as UTF-8"));
    }
}
