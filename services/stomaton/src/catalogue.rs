//! The stones that every database starts with: takes the table in `stones.txt`, gives [`Stone`]s. Pure.
//!
//! One row is a variety and its origins; each origin becomes a stone. Ids depend on the row alone, so every
//! process that starts from this table knows the same stones by the same ids.

use serde::{Deserialize, Serialize};
use thiserror::Error;

const TABLE: &str = include_str!("stones.txt");

/// A row of the table that cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("stones.txt, line {line}: {problem}")]
pub(crate) struct CatalogueError {
    line: usize,
    problem: &'static str,
}

/// One gemstone variety from one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stone {
    /// `<variety>-<place>`, lower-case letters, digits and hyphens.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) variety: String,
    pub(crate) species: String,
    pub(crate) formula: String,
    pub(crate) crystal_system: String,
    /// On the scale of Mohs, 1 to 10.
    pub(crate) hardness: f64,
    pub(crate) colour: String,
    /// The usual one of the trade; `none` when stones of this variety are sold as found.
    pub(crate) treatment: String,
    pub(crate) care: Care,
    pub(crate) place: String,
    pub(crate) country: String,
}

/// What a stone cannot stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Care {
    Robust,
    Oiled,
    Heat,
    Fading,
    Cleavage,
    Brittle,
    Porous,
    Opal,
    Tough,
    Soft,
}

impl Care {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "robust" => Self::Robust,
            "oiled" => Self::Oiled,
            "heat" => Self::Heat,
            "fading" => Self::Fading,
            "cleavage" => Self::Cleavage,
            "brittle" => Self::Brittle,
            "porous" => Self::Porous,
            "opal" => Self::Opal,
            "tough" => Self::Tough,
            "soft" => Self::Soft,
            _ => return None,
        })
    }
}

/// All stones, in the order of the table.
///
/// # Errors
/// The first row that cannot be read.
pub(crate) fn stones() -> Result<Vec<Stone>, CatalogueError> {
    parse(TABLE)
}

fn parse(table: &str) -> Result<Vec<Stone>, CatalogueError> {
    let mut stones = Vec::new();
    for (index, row) in table.lines().enumerate().filter(|(_, row)| !row.starts_with('#')) {
        let wrong = |problem| CatalogueError { line: index + 1, problem };
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [variety, species, formula, crystal_system, hardness, colours, treatment, care, origins] =
            cells[..]
        else {
            return Err(wrong("a row has nine cells"));
        };
        let hardness = hardness.parse().map_err(|_| wrong("the hardness is not a number"))?;
        let care = Care::parse(care).ok_or_else(|| wrong("the care class is not known"))?;
        let mut colours = colours.split(", ").cycle();
        for origin in origins.split("; ") {
            let (place, country) =
                origin.split_once('/').ok_or_else(|| wrong("an origin is place/country"))?;
            stones.push(Stone {
                id: slug(&format!("{variety} {place}")),
                name: format!("{variety} from {place}, {country}"),
                variety: variety.to_owned(),
                species: species.to_owned(),
                formula: formula.to_owned(),
                crystal_system: crystal_system.to_owned(),
                hardness,
                colour: colours.next().unwrap_or_default().to_owned(),
                treatment: treatment.to_owned(),
                care,
                place: place.to_owned(),
                country: country.to_owned(),
            });
        }
    }
    Ok(stones)
}

fn slug(name: &str) -> String {
    let letters = name.to_lowercase().replace('\'', "");
    letters
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_holds_a_few_hundred_stones_with_ids_of_their_own() {
        let stones = stones().unwrap();
        let ids: HashSet<_> = stones.iter().map(|stone| &stone.id).collect();
        assert_eq!((stones.len(), ids.len()), (286, 286));
        assert!(stones.iter().all(|stone| (1.0..=10.0).contains(&stone.hardness)));
    }

    #[test]
    fn an_origin_becomes_a_stone() {
        let row = "# comment\nTiger's eye | quartz | SiO2 | trigonal | 7 | brown, blue | none | porous | A/X; B C/Y";
        let stones = parse(row).unwrap();
        let brief: Vec<_> =
            stones.iter().map(|s| (s.id.as_str(), s.name.as_str(), s.colour.as_str())).collect();
        let expected = [
            ("tigers-eye-a", "Tiger's eye from A, X", "brown"),
            ("tigers-eye-b-c", "Tiger's eye from B C, Y", "blue"),
        ];
        assert_eq!(brief, expected);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_named() {
        for (row, problem) in [
            ("a | b", "a row has nine cells"),
            ("a|b|c|d|hard|e|f|soft|p/c", "the hardness is not a number"),
            ("a|b|c|d|5|e|f|fine|p/c", "the care class is not known"),
            ("a|b|c|d|5|e|f|soft|place", "an origin is place/country"),
        ] {
            assert_eq!(parse(row), Err(CatalogueError { line: 1, problem }));
        }
    }
}
