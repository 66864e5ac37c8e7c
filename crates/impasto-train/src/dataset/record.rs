//! What was drawn, exactly.

use super::class::Class;
use super::palette::NamedColor;
use serde::{Serialize, Serializer};

/// What a picture shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Record {
    /// One head with shoulders.
    Portrait {
        /// Who it is.
        who: Who,
        /// How the hair is done.
        style: HairStyle,
        /// [`Class::OF_PORTRAITS`] in that order; without the bow where there is none.
        parts: Vec<Part>,
    },
    /// One to three things outdoors.
    Scene {
        /// The things, no two of one class.
        objects: Vec<Object>,
        /// [`Class::OF_SCENES`].
        parts: Vec<Part>,
    },
}

/// A part of a picture, and the color that most of it has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Part {
    /// What it is.
    pub class: Class,
    /// Its color; light, shade and details cover less than half of it.
    #[serde(flatten)]
    pub color: NamedColor,
}

/// A thing in a scene.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Object {
    /// What it is.
    pub class: Class,
    /// Its color; light, shade and details cover less than half of it.
    #[serde(flatten)]
    pub color: NamedColor,
    /// Where it is.
    pub bounds: Bounds,
}

/// The smallest upright rectangle around a thing, in fractions of the picture's side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bounds {
    /// Across, from the left, 0..=1.
    pub center_x: f32,
    /// Down, from the top, 0..=1.
    pub center_y: f32,
    /// Across, 0..=1.
    pub width: f32,
    /// Down, 0..=1.
    pub height: f32,
}

/// Whom a portrait shows, in the words of tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Who {
    /// `1girl`.
    #[serde(rename = "1girl")]
    Girl,
    /// `1boy`.
    #[serde(rename = "1boy")]
    Boy,
}

impl Who {
    /// The tag.
    pub fn name(self) -> &'static str {
        match self {
            Self::Girl => "1girl",
            Self::Boy => "1boy",
        }
    }
}

/// How hair is done; each style is drawn in several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HairStyle {
    /// `short hair`.
    Short,
    /// `long hair`.
    Long,
    /// `twintails`.
    Twintails,
    /// `bob`.
    Bob,
    /// `ponytail`.
    Ponytail,
    /// `spiky hair`.
    Spiky,
}

impl HairStyle {
    /// All six.
    pub const ALL: [Self; 6] = [Self::Short, Self::Long, Self::Twintails, Self::Bob, Self::Ponytail, Self::Spiky];

    /// The words of captions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short hair",
            Self::Long => "long hair",
            Self::Twintails => "twintails",
            Self::Bob => "bob",
            Self::Ponytail => "ponytail",
            Self::Spiky => "spiky hair",
        }
    }
}

impl Serialize for HairStyle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Record {
    /// The parts, without the objects of a scene.
    pub fn parts(&self) -> &[Part] {
        match self {
            Self::Portrait { parts, .. } | Self::Scene { parts, .. } => parts,
        }
    }

    /// Everything that has a color: parts and objects.
    pub fn colors(&self) -> impl Iterator<Item = (Class, NamedColor)> + '_ {
        let objects = match self {
            Self::Portrait { .. } => &[][..],
            Self::Scene { objects, .. } => objects,
        };
        let parts = self.parts().iter().map(|part| (part.class, part.color));
        parts.chain(objects.iter().map(|object| (object.class, object.color)))
    }

    /// The color of a part or object; `None` if the picture has none of that class.
    pub fn color_of(&self, class: Class) -> Option<NamedColor> {
        self.colors().find(|(found, _)| *found == class).map(|(_, color)| color)
    }
}
