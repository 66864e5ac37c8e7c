//! Tests of the yardstick itself: the reference's numbers, their meaning, and the bookkeeping around them.

use impasto_yardstick::{
    arguments, calibration, choice, colors, failure, gallery, generator, guides, judge, labeled, listing, measure,
    picture, placement, random, record, regions, report, rise, runner, scenes, shot, spread, statistics, suite,
    summary, task, tuning, wording,
};

mod acceptance;
mod accepted;
mod command_line;
mod following;
mod judges;
mod mock;
mod page;
mod pairs;
mod prompts;
mod real;
mod records;
mod reference;
mod sampling;
#[path = "../../../../tests/all/small_models.rs"]
mod small_models;
mod spread_run;

use arguments::{Arguments, Command, Pictures};
use choice::Choice;
use failure::Failure;
use gallery::Gallery;
use generator::{Real, Settings};
use impasto::Rgb;
use judge::{Evaluator, Judge, Seen, View};
use measure::{Measure, Pair, measure};
use ndarray::Array2;
use picture::Picture;
use random::{Rng, fnv};
use record::{Made, Record, Records, Status, of_maker};
use regions::{Labels, area, core, erode, of_class};
use runner::{LEAST_SEEDS, Plan, Seeds, class_color};
use serde_json::{Value, json};
use shot::{Generator, Own, Request, Shot};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;
use suite::Suite;
use summary::{ALL, About, Summary};
use task::{Method, Style, Task};

fn golden(file: &str) -> Value {
    let path = format!("{}/tests/golden/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("the file is there")).expect("it is JSON")
}

/// Reads the arguments of a command line, without the program's name.
fn parsed<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Arguments, clap::Error> {
    Arguments::read(std::iter::once("yardstick").chain(arguments))
}

/// Asserts that everything in `want` is in `got`, with numbers within `tolerance`.
#[track_caller]
fn same(at: &str, got: &Value, want: &Value, tolerance: f64) {
    match (got, want) {
        (Value::Object(_), Value::Object(fields)) => {
            for (name, want) in fields {
                same(&format!("{at}.{name}"), got.get(name).unwrap_or(&Value::Null), want, tolerance);
            }
        }
        (Value::Array(got), Value::Array(want)) => {
            assert_eq!(got.len(), want.len(), "{at}");
            for (i, (got, want)) in got.iter().zip(want).enumerate() {
                same(&format!("{at}[{i}]"), got, want, tolerance);
            }
        }
        (Value::Number(got), Value::Number(want)) => {
            let (got, want) = (got.as_f64().unwrap(), want.as_f64().unwrap());
            assert!((got - want).abs() <= tolerance, "{at}: {got} is not {want}");
        }
        _ => assert_eq!(got, want, "{at}"),
    }
}

fn class(name: &str) -> u8 {
    judge::class(name, &[])
}
