//! What is wrong with the command line, said before anything runs.

use crate::*;

#[test]
fn what_is_wrong_with_the_command_line_is_said() {
    let rows: [(&[&str], &[&str]); 34] = [
        (&["--task", "nmaed"], &["task \"nmaed\"", "\"named\""]),
        (&["--task", "imgae"], &["\"image\""]),
        (&["--task", "place", "--method", "image"], &["none of the methods"]),
        (&["--method", "dco"], &["\"doc\""]),
        (&["--method", "doc,exakt"], &["\"exact\"", "column 5"]),
        (&["--part", "eyes,,hair"], &["nothing at column 6"]),
        (&["--part", "eyes,eyes"], &["twice", "column 6"]),
        (&["--part", "nose"], &["part \"nose\""]),
        (&["--judge", "cmd:"], &["cmd:PROGRAM"]),
        (&["--judge", "evaluator:x"], &["stands alone"]),
        (&["--model", "some/folder", "--judge", "evaluator"], &["hair bow", "saliency"]),
        (&["--gencolorbench", "folder"], &["judge evaluator"]),
        (&["--gencolorbench", "a", "--prompts", "b", "--judge", "saliency"], &["one of them"]),
        (&["--judge", "saliency", "--task", "place"], &["task place", "unforced picture only"]),
        (&["--judge", "evaluater"], &["\"evaluator\""]),
        (&["--split", "Held out"], &["a-z, 0-9 and -"]),
        (&["--suite", "x"], &["suite \"x\""]),
        (&["--seeds", "4"], &["A..B"]),
        (&["--seeds", "4..4"], &["are none"]),
        (&["--colors", "gold,#12"], &["#12", "column 6"]),
        (&["--colors", "gold,gold"], &["twice"]),
        (&["--quick", "--full"], &["one of them"]),
        (&["--limit-minutes", "0"], &["more than 0"]),
        (&["--steps", "many"], &["steps \"many\""]),
        (&["--size", "axb"], &["size"]),
        (&["--batch", "0"], &["1 or more"]),
        (&["--batch", "8"], &["prompt of its own"]),
        (&["--workers", "0"], &["1 or more"]),
        (&["--threads", "0"], &["1 or more"]),
        (&["--shard", "2/2"], &["the last 1"]),
        (&["--pictures", "best"], &["pictures \"best\""]),
        (&["--worker", "2"], &["--worker", "\"workers\""]),
        (&["--method", "pww", "--task", "named"], &["none of the methods"]),
        (&["runn"], &["\"run\""]),
    ];
    for (arguments, words) in rows {
        let message = Arguments::parse(arguments).expect_err(&arguments.join(" "));
        assert!(words.iter().all(|word| message.contains(word)), "{arguments:?}: {message}");
    }
    let solver = Settings { solver: "Eular".into(), ..Settings::default() };
    assert!(Real::new(&solver).err().unwrap().to_string().contains("did you mean"));
}

#[test]
fn a_key_is_looked_for_among_all_methods_but_those_that_have_to_be_found() {
    let methods = |arguments: &[&str]| Arguments::parse(arguments).unwrap().unwrap().choice.methods;
    let all = methods(&["--key", "0123456789abcdef"]);
    assert!(Method::ALL.into_iter().all(|method| all.contains(&method) == (method != Method::Tuned)), "{all:?}");
    assert!(methods(&["--key", "0123456789abcdef", "--method", "tuned"]).contains(&Method::Tuned));
    let usual = Arguments::default().choice;
    assert_eq!(usual.tasks, Task::ALL);
    assert!(usual.methods.contains(&Method::Exact) && !usual.methods.contains(&Method::Recolor));
}

#[test]
fn a_guide_that_cannot_be_drawn_or_judged_is_not_asked_for() {
    for (other, said) in [
        (["--method", "pww"], "none of the methods"),
        (["--judge", "saliency"], "the judge saliency sees the unforced"),
    ] {
        let message = Arguments::parse(["--task", "image"].into_iter().chain(other)).unwrap_err();
        assert!(message.contains(said), "{message}");
    }
    let guided = Arguments::parse(["--task", "image", "--method", "image"]);
    assert!(guided.is_ok());
}
