//! Tests of prompts, colors and seeds, and of their order.

use crate::*;

#[test]
fn random_numbers_equal_the_reference() {
    let golden = golden("yardstick");
    for (text, hash) in golden["rng"]["fnv"].as_object().unwrap() {
        assert_eq!(fnv(text).to_string(), hash.as_str().unwrap());
    }
    let mut rng = Rng::new("yardstick-1/test");
    let want = &golden["rng"];
    assert_eq!(json!([0; 4].map(|_| rng.u64().to_string())), want["u64"]);
    assert_eq!(json!([0; 8].map(|_| rng.below(100))), want["below_100"]);
    same("unit", &json!([0; 3].map(|_| rng.unit())), &want["unit"], 1e-8);
    let mut eight = [0, 1, 2, 3, 4, 5, 6, 7];
    rng.shuffle(&mut eight);
    assert_eq!(json!(eight), want["shuffle_8"]);
    let key = &golden["key"];
    assert_eq!(format!("{:016x}", fnv(key["text"].as_str().unwrap())), key["hex"].as_str().unwrap());
    for (name, want) in golden["reach"].as_object().unwrap() {
        let color: Rgb = name.parse().unwrap();
        let lab = picture::lab(color);
        same(name, &json!({"lab": [lab.l, lab.a, lab.b], "corner": colors::is_corner(color)}), want, 1e-6);
    }
}

#[test]
fn suites_equal_the_reference() {
    for (split, number) in [("public", 0), ("heldout", 7)] {
        let names: Vec<String> = colors::named(split, number).into_iter().map(|(name, _)| name).collect();
        let colors: Vec<[u8; 3]> = colors::numeric(split, number, 8).iter().map(|c| [c.0, c.1, c.2]).collect();
        let got = json!({
            "seeds": suite::seeds(split, number, 4),
            "plain": suite::portraits(split, number, 3, Style::Plain),
            "dressed": suite::portraits(split, number, 3, Style::Dressed),
            "colours": colors,
            "named": names,
        });
        same(split, &got, &golden("yardstick")["sampling"][split], 0.0);
    }
}

#[test]
fn splits_share_no_seed_prompt_or_color() {
    let side = |split: &str, number: u64| {
        let prompts = [Style::Plain, Style::Dressed].map(|style| suite::portraits(split, number, 5, style)).concat();
        (suite::seeds(split, number, 5), prompts, colors::numeric(split, number, 8), colors::named(split, number))
    };
    let public: Vec<_> = (0..50).map(|number| side("public", number)).collect();
    let seeds: HashSet<u64> = public.iter().flat_map(|side| side.0.clone()).collect();
    let prompts: HashSet<String> = public.iter().flat_map(|side| side.1.clone()).collect();
    let colors: HashSet<Rgb> = public.iter().flat_map(|side| side.2.clone()).collect();
    for number in 0..50 {
        let (other_seeds, other_prompts, numeric, named) = side("heldout", number);
        assert!(other_seeds.iter().all(|seed| *seed >= 1 << 32 && !seeds.contains(seed)));
        assert!(other_prompts.iter().all(|prompt| !prompts.contains(prompt)));
        assert!(numeric.iter().all(|color| !colors.contains(color)));
        assert_eq!((numeric.len(), named.len()), (8, 8));
        let public = colors::named("public", 0);
        assert!(named.iter().all(|(_, color)| public.iter().all(|(_, other)| color.delta_e(*other) >= 5.0)));
    }
}

#[test]
fn the_tiny_model_knows_every_word() {
    let vocabulary = impasto_tiny::file("tokenizer/vocab.json").unwrap();
    let vocabulary: BTreeMap<String, u32> = serde_json::from_slice(vocabulary).unwrap();
    let suite = Suite::new("heldout", 7);
    let choice = Choice::default();
    let mut prompts: Vec<String> = suite.plain.iter().chain(&suite.dressed).cloned().collect();
    for i in 0..20 {
        prompts.extend(suite.jobs(i, &choice).into_iter().flat_map(|job| job.pairs).map(|(prompt, _)| prompt));
    }
    for word in prompts.iter().flat_map(|prompt| prompt.split([' ', ','])).filter(|word| !word.is_empty()) {
        // A number is a word of its own.
        let word = word.trim_start_matches('1');
        assert!(vocabulary.contains_key(&format!("{word}</w>")), "{word}");
    }
}

#[test]
fn every_part_meets_every_color_equally_often() {
    let suite = Suite::new("public", 0);
    let choice = Choice { methods: vec![Method::Doc], ..Choice::default() };
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for i in 0..16 {
        for job in suite.jobs(i, &choice).iter().filter(|job| matches!(job.task, Task::Named | Task::Numeric)) {
            *counts.entry((job.part(), job.colors())).or_default() += 1;
        }
    }
    assert_eq!(counts.len(), 48);
    assert!(counts.values().all(|count| *count == 2), "{counts:?}");
    let full = Choice { full: true, ..choice };
    let all = suite.jobs(3, &full).iter().filter(|job| matches!(job.task, Task::Named | Task::Numeric)).count();
    assert_eq!(all, 48);
}

#[test]
fn a_budget_is_filled_with_whole_seeds() {
    let seeds = |each: f64, budget: f64, workers: usize| {
        let budget = Seeds::Within(Duration::from_secs_f64(budget));
        let at = |done: usize| Duration::from_secs_f64(each * done as f64 / workers as f64);
        (0..).take_while(|next| runner::another(*next, *next, at(*next), workers, budget)).count()
    };
    // A twentieth of the time is for the report.
    assert_eq!(seeds(19.0, 600.0, 1), 30);
    assert_eq!(seeds(19.0, 600.0, 2), 59);
    assert_eq!(seeds(300.0, 600.0, 1), LEAST_SEEDS);
}
