//! Tests of prompts from files: portraits in tags, lists with their phrases, GenColorBench.

use crate::*;
use listing::Listed;
use wording::{Form, Wording};

#[test]
fn portrait_list_with_mistakes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompts.txt");
    let parts = ["eyes".to_owned()];
    let message = |text: &str| {
        std::fs::write(&path, text).unwrap();
        listing::portraits(&path, &parts).unwrap_err()
    };
    assert!(message("1girl, eyes\n\n").contains("line 2, column 1"));
    assert!(message("1girl, hair\n").contains("phrase \"eyes\" is not in"));
    assert!(message("1girl, eyes\n1girl, eyes\n").contains("twice"));
    assert!(message("").contains("no prompts"));
}

#[test]
fn phrase_list_with_mistakes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompts.csv");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        listing::own(&path)
    };
    let list = read("prompt,phrase,other phrases\n\"a car, trees\",car,trees\na cup,cup\n").unwrap();
    assert_eq!(list.iter().map(|listed| listed.phrases.len()).collect::<Vec<_>>(), [2, 1]);
    for (text, word) in [
        ("a car,bus\n", "line 1, column 2: phrase \"bus\" is not in \"a car\""),
        ("a car\n", "column 2: the phrase is missing"),
        ("a car,car,car\n", "column 3: the phrase is repeated"),
        ("a car,car,\n", "column 3: the phrase is empty"),
        ("a car,car\na car,car\n", "line 2, column 1: the prompt \"a car\" is there twice"),
        (",car\n", "column 1: the prompt is missing"),
        ("prompt,phrase\n", "the file has no prompts"),
    ] {
        let message = read(text).unwrap_err();
        assert!(message.contains(word) && (message.contains("prompts.csv")), "{text}: {message}");
    }
    assert_eq!(listing::usual().unwrap().len(), 12);
}

#[test]
fn listed_prompt_is_retried_with_another_seed() {
    let listed = |prompt: &str, phrases: &[&str]| {
        let phrases = phrases.iter().map(|phrase| (*phrase).to_owned()).collect();
        Listed { prompt: prompt.into(), phrases, fixed: None, worded: None }
    };
    let list = vec![listed("a car, trees, sky", &["car", "trees", "sky"]), listed("a cup", &["cup"])];
    let suite = Suite { listed: Some(list), ..Suite::new("public", 3) };
    let choice = Choice { methods: vec![Method::Doc], ..Choice::default() };
    let jobs = |i: usize| suite.jobs(i, &choice);
    let counts = |i| Task::ALL.map(|task| jobs(i).iter().filter(|job| job.task == task).count());
    assert_eq!(counts(0), [1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0], "one color; two and three at once; two in one");
    assert_eq!(counts(1), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "a prompt with one phrase");
    let job = &jobs(0)[0];
    assert_eq!((job.part().as_str(), job.pairs.len()), ("car", suite::TRIES));
    let seeds: HashSet<u64> = job.pairs.iter().map(|(_, seed)| *seed).collect();
    assert!(seeds.len() == suite::TRIES && job.pairs.iter().all(|(prompt, _)| prompt == "a car, trees, sky"));
    assert_eq!(job.worded("a car, trees, sky"), "a gold car, trees, sky");
}

/// Reads rows of each kind that GenColorBench has, and compares the prompts without their colors.
#[test]
fn gencolorbench_prompts_lose_their_color_words() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("colors/iscc_nbs_l1.csv", "id,color_name,r,g,b\n1,Pink,230,134,151\n2,Yellow green,160,194,69\n");
    write(
        "cna_l1.csv",
        "id,color,object,prompt\n1,Pink,clock,The clock is Pink.\n2,Pink,parrot,\"A parrot, and it's Pink.\"\n\
         3,Yellow green,bus,A single Yellow green bus.\n4,Pink,tie,A tie that is entirely Pink.\n\
         5,Pink,mug,A mug in a Pink color.\n6,Pink,chair,A Pink colored chair.\n",
    );
    write(
        "ncu_hex_css.csv",
        "id,css_name,color_name,hex,r,g,b,object,prompt\n\
         1,Crimson,crimson,#DC143C,220,20,60,clock,A realistic #DC143C-colored clock.\n\
         2,Crimson,crimson,#DC143C,220,20,60,bus,A bus rendered in #DC143C color.\n",
    );
    write(
        "ncu_rgb_l1.csv",
        "id,color_name,r,g,b,object,prompt\n1,Pink,230,134,151,tie,\"A tie colored rgb(230, 134, 151).\"\n",
    );
    write(
        "coa_css.csv",
        "id,color,main_obj,sec_obj,prompt\n1,navajo white,owl,wooden stump,A navajo white owl on a wooden stump.\n",
    );
    write(
        "moc_l1.csv",
        "id,color_count,object1,color1,object2,color2,object3,color3,prompt\n\
         1,2,hat,Pink,suitcase,Yellow green,,,A Pink hat on a Yellow green suitcase.\n",
    );
    write(
        "ica_l1.csv",
        "id,color,object,ref_object,prompt\n1,Pink,mug,teapot,A Pink mug beside a teapot of the same color.\n",
    );
    let mut got: Vec<String> = Vec::new();
    for Listed { prompt, phrases, fixed, worded } in listing::gencolorbench(folder.path()).unwrap() {
        let (task, asked) = fixed.unwrap();
        assert_ne!(worded.unwrap(), prompt);
        let colors = asked.iter().map(|asked| format!("{} {}", asked.part, asked.rgb)).collect::<Vec<_>>().join(" ");
        got.push(format!("{}: {prompt} | {} | {colors}", task.name(), phrases.join(", ")));
    }
    got.sort();
    assert_eq!(
        got,
        [
            "binding: A owl on a wooden stump. | owl, wooden stump | owl #ffdead",
            "many: A hat on a suitcase. | hat, suitcase | hat #e68697 suitcase #a0c245",
            "named: A chair. | chair | chair #e68697",
            "named: A mug. | mug | mug #e68697",
            "named: A parrot. | parrot | parrot #e68697",
            "named: A single bus. | bus | bus #a0c245",
            "named: A tie. | tie | tie #e68697",
            "named: The clock. | clock | clock #e68697",
            "numeric: A bus. | bus | bus #dc143c",
            "numeric: A realistic clock. | clock | clock #dc143c",
            "numeric: A tie. | tie | tie #e68697",
            "same: A mug beside a teapot of the same color. | mug, teapot | mug #e68697 teapot #e68697",
        ]
    );
}

#[test]
fn gencolorbench_says_which_row_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let message = |text: &str| {
        std::fs::write(folder.path().join("cna_l1.csv"), text).unwrap();
        listing::gencolorbench(folder.path()).unwrap_err()
    };
    let unknown = message("color,object,prompt\nPink,tie,A Pink tie.\nOctarine,tie,A Octarine tie.\n");
    assert!(unknown.contains("cna_l1.csv, line 3") && unknown.contains("\"Octarine\""), "{unknown}");
    assert!(message("color,object,prompt\nPink,tie,A tie.\n").contains("does not say that \"tie\" is Pink"));
    assert!(message("a,b\n1,2\n").contains("no CSV file in this folder"));
    assert!(listing::gencolorbench(&folder.path().join("none")).unwrap_err().contains("none"));
}

#[test]
fn gencolorbench_keeps_its_words_for_method_word() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cna_css.csv"), "color,object,prompt\ngold,tie,A tie with a gold color.\n")
        .unwrap();
    let suite = Suite { listed: Some(listing::gencolorbench(folder.path()).unwrap()), ..Suite::new("public", 3) };
    let jobs = suite.jobs(0, &Choice::default());
    assert!(!jobs.is_empty() && jobs.iter().all(|job| job.task == Task::Named && job.pairs[0].0 == "A tie."));
    assert_eq!(jobs[0].worded("A tie."), "A tie with a gold color.");
    assert_eq!(jobs[0].asked[0].rgb, Rgb(255, 215, 0));
}

#[test]
fn tags_are_added_and_parts_stay() {
    let of_tags = |tags| Wording { tags, pool: wording::usual_tags(), ..Wording::default() };
    assert!(wording::usual_tags().len() >= 60);
    let prompt = "1girl, gold eyes, hair bow, hair, skin, shirt, background";
    for tags in [0, 6, 20] {
        let worded = of_tags(tags).of(prompt, &[]);
        assert_eq!(worded, of_tags(tags).of(prompt, &[]), "a prompt has one wording");
        assert_eq!(worded.split(", ").count(), 7 + tags);
        assert!(prompt.split(", ").all(|tag| worded.split(", ").any(|other| other == tag)), "{worded}");
    }
    assert_eq!(of_tags(0).of(prompt, &[]), prompt);
}

#[test]
fn prompts_name_as_many_parts_as_asked() {
    let suite = |named| Suite { wording: Wording { named, ..Wording::default() }, ..Suite::new("public", 2) };
    let choice = Choice { tasks: vec![Task::Named, Task::Many], methods: vec![Method::Exact], ..Choice::default() };
    let names = |prompt: &str, part: &str| {
        prompt.split(", ").any(|tag| tag == part || (tag.ends_with(&format!(" {part}")) && tag != "hair bow"))
    };
    for (named, i) in (1..=6).flat_map(|named| (0..6).map(move |i| (named, i))) {
        for job in suite(named).jobs(i, &choice) {
            for (prompt, _) in &job.pairs {
                let named_there = task::PARTS.iter().filter(|part| names(prompt, part)).count();
                assert!(job.asked.iter().all(|asked| names(prompt, &asked.part)), "{prompt}");
                assert_eq!(named_there, usize::from(named).max(job.asked.len()), "{prompt}");
            }
        }
    }
    assert_ne!(suite(2).wording.name(), suite(3).wording.name());
    assert!(parsed("run --name 2 --judge saliency".split_whitespace()).unwrap_err().to_string().contains("--name"));
    assert!(parsed("run --name 7".split_whitespace()).unwrap_err().to_string().contains("1..=6"));
}

#[test]
fn own_prompts_name_their_part() {
    for part in task::PARTS {
        let prompts = wording::own(part);
        assert!(prompts.len() >= 2 && prompts.iter().all(|prompt| prompt.contains(part)), "{part}: {prompts:?}");
    }
    assert!(!wording::own("hair").contains(&"1girl, red hair, shirt".to_owned()), "a color word would contradict");
}

#[test]
fn sentences_name_every_part() {
    let wording = Wording { form: Form::Sentence, ..Wording::default() };
    let sentence = wording.of("1girl, gold eyes, hair bow, hair, skin, shirt, background", &[]);
    assert!(sentence.contains("gold eyes") && sentence.contains("a hair bow") && sentence.contains(" girl with "));
}

#[test]
fn published_prompts_name_their_part() {
    for part in ["eyes", "hair bow", "hair", "skin"] {
        assert!(wording::document(part).is_some_and(|prompt| prompt.contains(part)), "{part}");
    }
    assert_eq!(wording::document("shirt"), None);
}

#[test]
fn wordings_are_chosen_on_the_command_line() {
    let parsed = |line: &str| parsed(line.split_whitespace());
    let all = parsed("run --style sentence --tags 3").unwrap();
    assert_eq!((all.wording.form, all.wording.tags), (wording::Form::Sentence, 3));
    assert_ne!(all.wording.name(), "");
    assert_eq!(parsed("run").unwrap().wording.name(), "");
    assert!(parsed("run --style poem").unwrap_err().to_string().contains("poem"));
    assert!(parsed("run --tags 1000").unwrap_err().to_string().contains("there are"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "# none\nfog\n\nmist\n").unwrap();
    let all = parsed(&format!("run --tags 2 --tags-file {}", file.path().display())).unwrap();
    assert_eq!(all.wording.pool, ["fog", "mist"]);
}
