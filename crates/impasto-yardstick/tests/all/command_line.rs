//! Tests of the command line: mistakes are reported before anything runs.

use crate::*;

use clap::{CommandFactory, Parser};

#[test]
fn command_line_mistakes_are_named() {
    let rows: [(&[&str], &[&str]); 53] = [
        (&["--task", "nmaed"], &["'nmaed'", "--task", "'named'"]),
        (&["--task", "imgae"], &["--task", "'image'"]),
        (&["--task", "place", "--method", "image"], &["none of the methods"]),
        (&["--method", "dco"], &["'dco'", "--method", " doc, "]),
        (&["--method", "doc,exakt"], &["'exakt'", "--method", "'exact'"]),
        (&["--part", "eyes,,hair"], &["--part"]),
        (&["--part", "eyes,eyes"], &["--part", "eyes is named twice"]),
        (&["--part", "nose"], &["'nose'", "--part"]),
        (&["--judge", "cmd:"], &["--judge", "cmd:PROGRAM"]),
        (&["--judge", "evaluator:x"], &["'evaluator:x'", "--judge", "expected evaluator"]),
        (&["--model", "some/folder", "--judge", "evaluator"], &["hair bow", "saliency"]),
        (&["--model", "embedded-flow", "--task", "edges"], &["task edges", "needs a UNet", "--model embedded"]),
        (&["--model", "embedded-flow", "--task", "named,reference"], &["task reference", "needs a UNet"]),
        (&["--model", "embedded-flow", "--method", "control"], &["none of the methods"]),
        (&["--task", "saliency", "--method", "concept"], &["joint attention", "--model", "--judge masks:DIR"]),
        (&["--gencolorbench", "folder"], &["judge evaluator"]),
        (&["--gencolorbench", "a", "--prompts", "b", "--judge", "saliency"], &["--prompts", "--gencolorbench"]),
        (&["--judge", "saliency", "--task", "place"], &["task place", "unforced picture only"]),
        (&["--judge", "evaluater"], &["'evaluater'", "--judge", "expected evaluator"]),
        (&["--split", "Held out"], &["--split", "a-z, 0-9 and -"]),
        (&["--suite", "x"], &["'x'", "--suite"]),
        (&["--seeds", "4"], &["--seeds", "A..B"]),
        (&["--seeds", "4..4"], &["--seeds", "A below B"]),
        (&["--colors", "gold,#12"], &["--colors", "color is #12;"]),
        (&["--colors", "gold,gold"], &["--colors", "gold is named twice"]),
        (&["--quick", "--full"], &["--quick", "--full", "cannot be used with"]),
        (&["--limit-minutes", "0"], &["--limit-minutes", "more than 0"]),
        (&["--limit-minutes", "inf"], &["--limit-minutes", "more than 0"]),
        (&["--steps", "many"], &["'many'", "--steps"]),
        (&["--steps", "0"], &["--steps", "1..=1000"]),
        (&["--size", "axb"], &["--size", "512x768"]),
        (&["--batch", "0"], &["--batch", "expected 1"]),
        (&["--batch", "8"], &["--batch", "prompt of its own"]),
        (&["--workers", "0"], &["--workers", "0 is not in 1.."]),
        (&["--threads", "0"], &["--threads", "0 is not in 1.."]),
        (&["--shard", "2/2"], &["--shard", "the last 1"]),
        (&["--pictures", "best"], &["'best'", "--pictures"]),
        (&["--queue", "sqlite:q.db"], &["--store"]),
        (&["--store", "records"], &["--queue"]),
        (&["--queue", "sqlite:q.db", "--store", "s"], &["--queue", "add --seeds-of-suite"]),
        (&["--queue", "sqlite:q.db", "--store", "s", "--shard", "0/2"], &["--queue", "--shard"]),
        (&["tune", "--queue", "sqlite:q.db", "--store", "s"], &["--queue", "only run and papers"]),
        (
            &["--queue", "sqlite:q.db", "--store", "s", "--seeds", "0..2", "--pictures", "all"],
            &["--queue", "no pictures are kept", "--key"],
        ),
        (
            &["--queue", "sqlite:q.db", "--store", "s", "--seeds", "0..2", "--judge", "masks:m"],
            &["--queue", "another --judge"],
        ),
        (&["--worker", "2"], &["'--worker'", "'--workers'"]),
        (&["--method", "pww", "--task", "named"], &["none of the methods"]),
        (&["runn"], &["'runn'", "'run'"]),
        (&["--steps"], &["--steps", "a value is required"]),
        (&["run", "list"], &["list", "one command at a time"]),
        (&["report"], &["FILES"]),
        (&["judge"], &["FILES"]),
        (&["judge", "a", "b"], &["b", "judge takes one folder"]),
        (&["--quick=yes"], &["'yes'", "--quick"]),
    ];
    for (arguments, words) in rows {
        let error = parsed(arguments.iter().copied()).expect_err(&arguments.join(" "));
        let message = error.to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{arguments:?}: {message}");
        assert_eq!(error.exit_code(), 2, "{arguments:?}");
    }
    let solver = Settings { solver: "Eular".into(), ..Settings::default() };
    assert!(Real::new(&solver).err().unwrap().to_string().contains("did you mean"));
}

#[test]
fn key_is_searched_among_all_methods_but_tuned() {
    let methods = |arguments: &[&str]| parsed(arguments.iter().copied()).unwrap().choice.methods;
    let all = methods(&["--key", "0123456789abcdef"]);
    assert!(Method::ALL.into_iter().all(|method| all.contains(&method) == (method != Method::Tuned)), "{all:?}");
    assert!(methods(&["--key", "0123456789abcdef", "--method", "tuned"]).contains(&Method::Tuned));
    let usual = Choice::default();
    assert_eq!(usual.tasks, Task::ALL);
    assert!(usual.methods.contains(&Method::Exact) && !usual.methods.contains(&Method::Recolor));
}

#[test]
fn report_shows_no_password_of_a_queue() {
    let shown = |line: &[&str]| arguments::shown(line.iter().map(|part| (*part).to_owned()));
    let address = "postgres://me:secret@db/queue";
    assert_eq!(shown(&["run", "--queue", address, "--full", "--store", "s"]), "run --full");
    assert_eq!(
        shown(&["run", &format!("--queue={address}"), "--store=s", "--seeds-of-suite", "2"]),
        "run --seeds-of-suite 2"
    );
}

#[test]
fn image_task_with_unfit_method_or_judge_is_refused() {
    for (other, said) in [
        (["--method", "pww"], "none of the methods"),
        (["--judge", "saliency"], "the judge saliency sees the unforced"),
    ] {
        let message = parsed(["--task", "image"].into_iter().chain(other)).unwrap_err().to_string();
        assert!(message.contains(said), "{message}");
    }
    let guided = parsed(["--task", "image", "--method", "image"]);
    assert!(guided.is_ok());
}

#[test]
fn help_lists_every_option_with_status_zero() {
    Arguments::command().debug_assert();
    let help = parsed(["--help"]).unwrap_err();
    assert_eq!(help.exit_code(), 0);
    let text = help.to_string();
    for argument in Arguments::command().get_arguments() {
        let name = argument.get_long().map_or("[FILES]...".to_owned(), |name| format!("--{name}"));
        assert!(argument.get_help().is_some() && text.contains(&name), "{name}: {text}");
    }
}

#[test]
fn command_line_without_options_has_the_defaults() {
    let all = parsed([]).unwrap();
    assert_eq!((all.command, all.choice.clone()), (Command::Run, Choice::default()));
    assert_eq!(
        (all.model.as_str(), &all.judge, all.solver.as_str()),
        ("embedded", &judge::Choice::Evaluator, "Euler a")
    );
    assert_eq!((all.split.as_str(), all.suite, all.steps, all.best_of), ("public", 0, 28, 1));
    assert_eq!((all.threads, all.shard, all.pictures), (1, (0, 1), Pictures::Worst(24)));
    assert_eq!(all.budget(), Duration::from_secs(20 * 60));
    assert!(all.limit.is_none() && all.seeds.is_none() && all.colors.is_none() && !all.fresh);
}

#[test]
fn judge_defaults_to_saliency_for_other_models() {
    let judge = |line: &str| parsed(line.split(' ')).unwrap().judge;
    assert_eq!(judge("--model some/folder"), judge::Choice::Saliency);
    assert_eq!(judge("--model embedded"), judge::Choice::Evaluator);
    assert_eq!(judge("--model some/folder --judge masks:there"), judge::Choice::Masks("there".into()));
    let tasks = parsed(["--model", "some/folder"]).unwrap().choice.tasks;
    assert!(tasks.contains(&Task::Named) && !tasks.contains(&Task::Place), "{tasks:?}");
}

#[test]
fn embedded_flow_leaves_out_tasks_with_lines() {
    let tasks = |line: &str| parsed(line.split(' ')).unwrap().choice.tasks;
    let with_lines = [Task::Edges, Task::Reference];
    let others: Vec<Task> = Task::ALL.into_iter().filter(|task| !with_lines.contains(task)).collect();
    for line in ["run", "list", "--full", "--key 0123456789abcdef"] {
        assert_eq!(tasks(&format!("{line} --model embedded-flow")), others, "{line}");
    }
    assert_eq!(tasks("--model embedded-fast"), Task::ALL, "the fast model has a UNet");
}

#[test]
fn last_of_repeated_options_counts() {
    let all = parsed("--fresh --task named run --resume --task many,same --steps 4 --steps 5".split(' ')).unwrap();
    assert_eq!((all.fresh, all.choice.tasks, all.steps), (false, vec![Task::Many, Task::Same], 5));
    assert!(parsed(["--resume", "--fresh"]).unwrap().fresh);
}

#[test]
fn papers_measure_one_part_in_one_color() {
    let all = parsed(["papers"]).unwrap();
    assert_eq!(all.choice.tasks, [Task::Named, Task::Numeric]);
    assert_eq!(all.choice.methods, [Method::Word, Method::Exact]);
    let chosen = parsed("papers --task named --method oracle".split(' ')).unwrap();
    assert_eq!((chosen.choice.tasks, chosen.choice.methods), (vec![Task::Named], vec![Method::Oracle]));
}

#[test]
fn report_takes_files_between_options() {
    let all = parsed("report A.jsonl --out there B.jsonl --check".split(' ')).unwrap();
    assert_eq!(all.files, [Path::new("A.jsonl"), Path::new("B.jsonl")]);
    assert_eq!((all.command, all.out.as_deref(), all.check), (Command::Report, Some(Path::new("there")), true));
}

#[test]
fn commands_of_the_documents_parse() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut commands = 0;
    for file in ["docs/yardstick.md", "README.md", "crates/impasto-yardstick/README.md"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap().replace("\\\n", " ");
        let runs = text.lines().filter(|line| line.starts_with("cargo run ") && line.contains("-p impasto-yardstick "));
        for (_, line) in runs.filter_map(|line| line.split_once(" -- ")) {
            let parsed = Arguments::try_parse_from(std::iter::once("yardstick").chain(line.split_whitespace()));
            assert!(parsed.is_ok(), "{file}: {line}: {parsed:?}");
            commands += 1;
        }
    }
    assert!(commands >= 8, "{commands} commands");
}
