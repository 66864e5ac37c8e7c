//! The named parts of a picture.

use impasto::Rgb;
use serde::{Serialize, Serializer};
use std::fmt;

/// The class of a pixel: the part of the picture that the pixel belongs to. Masks hold the numbers of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Background of a portrait.
    Background,
    /// Face, ears and neck.
    Skin,
    /// Hair.
    Hair,
    /// Both irises, without pupil and highlight.
    Eyes,
    /// A bow in the hair.
    HairBow,
    /// The mouth.
    Mouth,
    /// The shirt.
    Shirt,
    /// Everything without a color to name: pupils, whites of eyes, windows.
    Detail,
    /// Sky of a scene, above its ground.
    Sky,
    /// The lower part of a scene.
    Ground,
    /// A house.
    House,
    /// A tree.
    Tree,
    /// A boat.
    Boat,
    /// A star.
    Star,
    /// A fish.
    Fish,
    /// A flower.
    Flower,
    /// A crescent.
    Moon,
    /// The sun.
    Sun,
    /// A car.
    Car,
    /// A cup.
    Cup,
}

impl Class {
    /// All 20 classes, in the order of their numbers.
    pub const ALL: [Self; 20] = [
        Self::Background,
        Self::Skin,
        Self::Hair,
        Self::Eyes,
        Self::HairBow,
        Self::Mouth,
        Self::Shirt,
        Self::Detail,
        Self::Sky,
        Self::Ground,
        Self::House,
        Self::Tree,
        Self::Boat,
        Self::Star,
        Self::Fish,
        Self::Flower,
        Self::Moon,
        Self::Sun,
        Self::Car,
        Self::Cup,
    ];
    /// The parts of a portrait that have a color, in the order of the record. Only the bow may be missing.
    pub const OF_PORTRAITS: [Self; 7] =
        [Self::Eyes, Self::HairBow, Self::Hair, Self::Skin, Self::Shirt, Self::Mouth, Self::Background];
    /// The parts that every scene has.
    pub const OF_SCENES: [Self; 2] = [Self::Sky, Self::Ground];
    /// The things that scenes show.
    pub const OBJECTS: [Self; 10] = [
        Self::House,
        Self::Tree,
        Self::Boat,
        Self::Star,
        Self::Fish,
        Self::Flower,
        Self::Moon,
        Self::Sun,
        Self::Car,
        Self::Cup,
    ];

    /// Returns the number of the class in the mask, 0..20.
    pub fn index(self) -> u8 {
        self as u8
    }

    /// Returns the class with a number, or `None` from 20 on.
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// Returns the name of the class in captions, such as `hair bow`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Skin => "skin",
            Self::Hair => "hair",
            Self::Eyes => "eyes",
            Self::HairBow => "hair bow",
            Self::Mouth => "mouth",
            Self::Shirt => "shirt",
            Self::Detail => "detail",
            Self::Sky => "sky",
            Self::Ground => "ground",
            Self::House => "house",
            Self::Tree => "tree",
            Self::Boat => "boat",
            Self::Star => "star",
            Self::Fish => "fish",
            Self::Flower => "flower",
            Self::Moon => "moon",
            Self::Sun => "sun",
            Self::Car => "car",
            Self::Cup => "cup",
        }
    }

    /// Returns the color of the class in shown masks. No two classes have the same color.
    pub fn map_color(self) -> Rgb {
        match self {
            Self::Background => Rgb(235, 235, 235),
            Self::Skin => Rgb(255, 205, 165),
            Self::Hair => Rgb(120, 70, 30),
            Self::Eyes => Rgb(0, 120, 255),
            Self::HairBow => Rgb(255, 60, 160),
            Self::Mouth => Rgb(200, 0, 40),
            Self::Shirt => Rgb(60, 170, 120),
            Self::Detail => Rgb(20, 20, 20),
            Self::Sky => Rgb(170, 215, 255),
            Self::Ground => Rgb(125, 190, 90),
            Self::House => Rgb(190, 80, 60),
            Self::Tree => Rgb(20, 110, 40),
            Self::Boat => Rgb(110, 60, 160),
            Self::Star => Rgb(255, 200, 0),
            Self::Fish => Rgb(255, 130, 40),
            Self::Flower => Rgb(240, 120, 220),
            Self::Moon => Rgb(250, 245, 150),
            Self::Sun => Rgb(255, 230, 40),
            Self::Car => Rgb(30, 60, 200),
            Self::Cup => Rgb(0, 170, 180),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_names_and_map_colors_are_one_to_one() {
        for (index, class) in (0..).zip(Class::ALL) {
            assert_eq!((class.index(), Class::from_index(index)), (index, Some(class)));
        }
        assert_eq!(Class::from_index(20), None);
        assert_eq!(Class::ALL.map(Class::name).into_iter().collect::<HashSet<_>>().len(), 20);
        assert_eq!(Class::ALL.map(Class::map_color).into_iter().collect::<HashSet<_>>().len(), 20);
        assert_eq!(Class::ALL[10..], Class::OBJECTS);
    }
}
