//! Measures how exactly guidance hits a color and a place, what else it changes, and how certain the figures are.

pub mod arguments;
pub mod calibration;
pub mod choice;
pub mod colors;
pub mod edges;
pub mod gallery;
pub mod generator;
pub mod guides;
pub mod judge;
pub mod listing;
pub mod metrics;
pub mod placement;
pub mod plots;
pub mod record;
pub mod reference;
pub mod regions;
pub mod report;
pub mod runner;
pub mod scenes;
pub mod statistics;
pub mod strokes;
pub mod suite;
pub mod summary;
pub mod tuning;
pub mod wording;
