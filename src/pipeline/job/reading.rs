//! Jobs from JSON.

use super::Job;
use crate::json::fields;
use crate::pipeline::config::RequestConfig;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Reads the fields of the settings apart from those of the job, so that errors name a wrong field by its path. Serde's
/// own flattening would not, and would ignore unknown fields.
impl<'de> Deserialize<'de> for Job {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut own = Map::<String, Value>::deserialize(from)?;
        own.retain(|_, value| !value.is_null());
        sides(&mut own).map_err(D::Error::custom)?;
        read(own).map_err(D::Error::custom)
    }
}

/// Puts `width` and `height` together as the size.
fn sides(own: &mut Map<String, Value>) -> Result<(), String> {
    let sides: Map<String, Value> = ["width", "height"].into_iter().filter_map(|side| own.remove_entry(side)).collect();
    match (sides.len(), own.contains_key("size")) {
        (0, _) => Ok(()),
        (2, false) => {
            own.insert("size".into(), sides.into());
            Ok(())
        }
        (2, true) => Err("the job has a size beside width and height; expected one of both".into()),
        _ => Err("only one of width and height is given; expected both or neither".into()),
    }
}

fn read(mut own: Map<String, Value>) -> Result<Job, String> {
    let settings = fields::<RequestConfig>();
    let config = settings.iter().filter_map(|name| own.remove_entry(*name)).collect();
    let job = Job {
        config: locate(Value::Object(config), "")?,
        forces: take(&mut own, "forces")?,
        same_color: take(&mut own, "same_color")?,
        palette: take(&mut own, "palette")?,
        palette_of: take(&mut own, "palette_of")?,
        map: take(&mut own, "map")?,
        areas: take(&mut own, "areas")?,
        tolerance: take(&mut own, "tolerance")?,
        start: take(&mut own, "start")?,
        strength: take(&mut own, "strength")?,
        mask: take(&mut own, "mask")?,
        controls: take(&mut own, "controls")?,
        ip_adapter_pictures: take(&mut own, "ip_adapter_pictures")?,
        ip_adapter_strength: take(&mut own, "ip_adapter_strength")?,
        line_art: take(&mut own, "line_art")?,
        strokes: take(&mut own, "strokes")?,
        exact_strokes: take(&mut own, "exact_strokes")?,
        reference: take(&mut own, "reference")?,
        guiders: take(&mut own, "guiders")?,
        guidances: take(&mut own, "guidances")?,
    };
    match own.keys().next() {
        Some(unknown) => Err(not_known(unknown, settings)),
        None => Ok(job),
    }
}

/// Takes a field out of a job; a missing field has its default.
fn take<T: DeserializeOwned + Default>(own: &mut Map<String, Value>, name: &str) -> Result<T, String> {
    own.remove(name).map_or_else(|| Ok(T::default()), |value| locate(value, name))
}

/// Reads a value. Errors begin with the path of the wrong part, below `name`.
fn locate<T: DeserializeOwned>(value: Value, name: &str) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => name.to_owned(),
            path if name.is_empty() || path.starts_with('[') => format!("{name}{path}"),
            path => format!("{name}.{path}"),
        };
        format!("{path}: {}", error.inner())
    })
}

/// Says that a field is not known, with the name of a similar field or of all.
fn not_known(unknown: &str, settings: &[&str]) -> String {
    let job = serde_json::to_value(Job::default()).unwrap_or_default();
    let own = job.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let known: Vec<&str> = own.chain(settings.iter().copied()).chain(["width", "height"]).collect();
    let unknown = crate::wording::shortened(unknown); // the comparison takes a time in proportion to the length
    let near = |name: &&str| strsim::normalized_damerau_levenshtein(name, &unknown);
    let nearest = known.iter().copied().max_by(|a, b| near(a).total_cmp(&near(b))).filter(|name| near(name) > 0.6);
    match nearest {
        Some(name) => format!("unknown field `{unknown}`; did you mean `{name}`?"),
        None => format!("unknown field `{unknown}`; expected one of {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::job::{Area, Follow, Force, Image, Like};
    use crate::nn::guess::Guess;
    use crate::nn::union::ControlType;
    use crate::pipeline::{Detail, Hires, MaskWhere, Seamless};
    use crate::raster::{Layer, Raster};
    use crate::recipe::Recipe;
    use crate::{Rgb, Size, Window};

    fn refused(json: &str) -> String {
        serde_json::from_str::<Job>(json).expect_err("refused").to_string()
    }

    #[test]
    fn wrong_fields_are_named_by_their_path() {
        assert!(refused(r#"{"sed": 7}"#).contains("unknown field `sed`; did you mean `seed`?"));
        assert!(refused(r#"{"colour": 7}"#).contains("expected one of"));
        assert!(refused(r#"{"steps": "many"}"#).starts_with("steps: "));
        assert!(refused(r#"{"areas": [{"phrase": "a"}, {"phrase": 7}]}"#).starts_with("areas[1].phrase: "));
        assert!(refused(r#"{"forces": ["eyes"]}"#).contains("PHRASE=COLOR"));
        assert!(refused(r#"{"hires": {"scale": 2, "strength": 1, "x": 1}}"#).contains("unknown field `x`"));
        assert!(refused(r#"{"width": 64}"#).contains("both or neither"));
        assert!(refused(r#"{"width": 64, "height": 64, "size": "64x64"}"#).contains("one of both"));
        assert!(refused(r#"{"size": "wide"}"#).contains("512x768"));
    }

    #[test]
    fn texts_and_null_are_read() -> Result<()> {
        let json = r#"{
            "prompt": "a", "steps": null, "seed": -1, "width": 64, "height": 32, "hires": "2:0.4", "spacing": "sgm-uniform",
            "mask_where": "hair", "details": ["eyes:0.3"], "areas": ["red=house:2"], "strength": 0.5, "start": "a.png"
        }"#;
        let job: Job = serde_json::from_str(json).expect("a job");
        assert_eq!((job.config.steps, job.config.seed, job.config.size), (None, None, Some(Size::new(64, 32))));
        assert_eq!(job.config.mask_where, Some(MaskWhere::new("hair")));
        assert_eq!(job.paths(), [("start", std::path::Path::new("a.png"))]);
        assert_eq!(job.strength.map(|strength| strength.share()), Some(0.5));
        Ok(())
    }

    #[test]
    fn whole_job_survives_json() -> Result<()> {
        let picture = Raster::flat(Rgb(9, 8, 7), (2, 2));
        let layer = Layer::from_bytes(vec![1; 16], (2, 2))?;
        let job = Job {
            config: RequestConfig {
                prompt: "naïve 猫".into(),
                size: Some(Size::new(64, 32)),
                hires: Some(Hires::new(2.0, 0.5)),
                details: vec![Detail::of("eyes"), Detail::under(picture.clone())],
                seamless: Seamless::Down,
                solver_named: Some("Euler a".into()),
                ..RequestConfig::default()
            },
            forces: vec![Force { phrase: "eyes".into(), color: Rgb(255, 215, 0) }],
            same_color: vec!["hair=bow".parse()?],
            palette: vec!["navy:2".parse()?],
            palette_of: Some(picture.clone().into()),
            map: Some(picture.clone().into()),
            areas: vec![Area { phrase: "a".into(), color: None, mask: Some(layer.clone().into()), strength: 1.5 }],
            tolerance: Some(3.0),
            start: Some(Image::Path("a.png".into())),
            strength: Some(0.25.into()),
            mask: Some(layer.clone().into()),
            controls: vec![Follow {
                net: "canny".into(),
                picture: picture.clone().into(),
                scale: Some(0.5),
                window: Some(Window::progress(0.0..=0.5)),
                control_type: Some(ControlType::Depth),
                guess: Some(Guess::Even),
            }],
            ip_adapter_pictures: vec![Like {
                picture: picture.clone().into(),
                phrase: Some("hair".into()),
                mask: Some(layer.clone().into()),
                strength: 0.5,
            }],
            ip_adapter_strength: Some(0.7),
            line_art: Some(picture.clone().into()),
            strokes: Some(layer.into()),
            exact_strokes: true,
            reference: Some(picture.into()),
            guiders: vec!["fdg:10,5".parse()?],
            guidances: vec![Recipe::of("Own", &7)?],
        };
        let json = serde_json::to_string(&job).expect("JSON");
        assert_eq!(serde_json::from_str::<Job>(&json).expect("a job"), job);
        assert_eq!(serde_json::from_str::<Job>("{}").expect("a job"), Job::default());
        Ok(())
    }
}
