//! Tests of the crate through its public interface alone.
//!
//! All tests are one program, because each program that is linked to libtorch takes long to link.
//! `cargo test --test all NAME` runs the modules and tests whose names contain `NAME`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod anima;
mod attention_only;
mod best_of;
mod checkpoints;
mod chores;
mod closed_form;
mod colorize;
mod colorizer_model;
mod controlnet;
mod controlnet_methods;
mod controlnet_union;
mod definitions;
mod documents;
mod embedded_flow;
mod embedded_model;
mod estimate;
mod exact_color;
mod few_steps;
mod first_use;
mod guiders;
mod half_precision;
mod hook_seams;
#[cfg(feature = "hub")]
mod hub;
mod image_guidance;
mod image_to_image;
mod ip_adapter;
mod kept_prompt;
mod large_pictures;
mod layering;
mod limits;
mod lora;
mod offload;
mod own_network;
#[path = "../conformance/package_daam.rs"]
mod package_daam;
mod painting;
mod painting_combined;
mod palette;
mod perturbed_attention;
mod plain_english;
mod prompts;
mod properties;
mod python_package;
mod recipes;
mod reference_color;
mod regions;
mod repaint;
mod reports;
mod reuse;
mod sd3;
mod sdxl;
mod shipped;
mod sketch_keras;
mod small_models;
mod surface;
mod t2i_adapter;
mod tiling;
mod token_merging;
mod transformers;
mod transparency;
mod unmerged_lora;
mod wording;
mod z_image;

/// Returns `value` after a change of its fields: struct update for types that are `#[non_exhaustive]`.
fn with<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}
