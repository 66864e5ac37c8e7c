//! The exact record of a drawing.

use super::class::Class;
use super::palette::NamedColor;
use serde::{Serialize, Serializer};

/// The things and parts that a picture shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Record {
    /// One head with shoulders.
    Portrait {
        /// Person of the portrait.
        who: Who,
        /// Style of the hair.
        style: HairStyle,
        /// Parts of [`Class::OF_PORTRAITS`] in their order; the bow may be missing.
        parts: Vec<Part>,
    },
    /// One to three things outdoors.
    Scene {
        /// Things of the scene, no two of one class.
        objects: Vec<Object>,
        /// Parts of [`Class::OF_SCENES`].
        parts: Vec<Part>,
    },
}

/// A part of a picture and its main color.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Part {
    /// Class of the part.
    pub class: Class,
    /// Color of the part; light, shade and details cover less than half of the part.
    #[serde(flatten)]
    pub color: NamedColor,
}

/// A thing in a scene.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Object {
    /// Class of the thing.
    pub class: Class,
    /// Color of the thing; light, shade and details cover less than half of the thing.
    #[serde(flatten)]
    pub color: NamedColor,
    /// Place of the thing.
    pub bounds: Bounds,
}

/// The smallest upright rectangle around a thing, in fractions of the picture's side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bounds {
    /// Horizontal center from the left, 0..=1.
    pub center_x: f32,
    /// Vertical center from the top, 0..=1.
    pub center_y: f32,
    /// Horizontal extent, 0..=1.
    pub width: f32,
    /// Vertical extent, 0..=1.
    pub height: f32,
}

/// The person that a portrait shows, in the words of tags.
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
    /// Returns the tag.
    pub fn name(self) -> &'static str {
        match self {
            Self::Girl => "1girl",
            Self::Boy => "1boy",
        }
    }
}

/// Style of hair; each style is drawn in several ways.
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
    /// All six styles.
    pub const ALL: [Self; 6] = [Self::Short, Self::Long, Self::Twintails, Self::Bob, Self::Ponytail, Self::Spiky];

    /// Returns the words for the style in captions.
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
    /// Returns the parts, without the objects of a scene.
    pub fn parts(&self) -> &[Part] {
        match self {
            Self::Portrait { parts, .. } | Self::Scene { parts, .. } => parts,
        }
    }

    /// Returns everything that has a color: parts and objects.
    pub fn colors(&self) -> impl Iterator<Item = (Class, NamedColor)> + '_ {
        let objects = match self {
            Self::Portrait { .. } => &[][..],
            Self::Scene { objects, .. } => objects,
        };
        let parts = self.parts().iter().map(|part| (part.class, part.color));
        parts.chain(objects.iter().map(|object| (object.class, object.color)))
    }

    /// Returns the color of a part or object, or `None` if the picture has no part or object of the class.
    pub fn color_of(&self, class: Class) -> Option<NamedColor> {
        self.colors().find(|(found, _)| *found == class).map(|(_, color)| color)
    }
}
