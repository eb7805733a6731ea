//! The provider for development: texts from templates and the catalogue's own facts. Takes a brief, gives a
//! draft; pure, and the same everywhere.

use futures::{FutureExt, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};

use super::{
    generator::{Brief, Draft, GenerateError, Generator},
    model::{Audience, Content, Kind, Order},
};
use crate::catalogue::{Care, Stone};

/// Change it with the templates: it is part of each content's id.
const NAME: &str = "offline-1";

/// 4 July 2025, 18:30 UTC: when the first content of a new database is said to be from.
const FIRST: Timestamp = Timestamp::constant(1_751_653_800, 0);

/// The template engine.
#[derive(Debug)]
pub(crate) struct Offline;

impl Generator for Offline {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_stand_in(&self) -> bool {
        true
    }

    fn generate<'a>(&'a self, brief: &'a Brief) -> BoxFuture<'a, Result<Draft, GenerateError>> {
        async { Ok(compose(&brief.stone, &brief.order)) }.boxed()
    }
}

/// One public description of each stone, an hour apart: what a new database starts with.
///
/// # Errors
/// A stone that gives an empty text.
pub(crate) fn first_contents(stones: &[Stone]) -> Result<Vec<Content>, GenerateError> {
    let first = |(hour, stone): (i64, &Stone)| {
        let (kind, audience) = (Kind::Description, Audience::Public);
        let order = Order { stone_id: stone.id.clone(), kind, audience, notes: String::new() };
        Content::new(&order, compose(stone, &order), NAME, FIRST + SignedDuration::from_hours(hour))
    };
    (0..).zip(stones).map(first).collect()
}

fn compose(stone: &Stone, order: &Order) -> Draft {
    let (title, text) = match order.kind {
        Kind::Description => (stone.name.clone(), description(stone)),
        Kind::Care => (format!("Caring for {}", lower_first(&stone.variety)), care(stone)),
        Kind::Provenance => (format!("{}: where it comes from", stone.name), provenance(stone)),
    };
    let mut paragraphs = vec![text, closing(stone, order.audience)];
    if !order.notes.is_empty() {
        paragraphs.push(format!("Note: {}", order.notes));
    }
    Draft { title, body: paragraphs.join("\n\n") }
}

fn description(stone: &Stone) -> String {
    let Stone { name, species, formula, crystal_system, hardness, colour, .. } = stone;
    let structure = match crystal_system.as_str() {
        "amorphous" => "It has no crystal structure".to_owned(),
        system => format!("Its crystals are {system}"),
    };
    let variety = match stone.variety.eq_ignore_ascii_case(species) {
        true => "The stone".to_owned(),
        false => format!("It belongs to {species}, which"),
    };
    format!(
        "{name}. Colour: {colour}. {variety} has the composition {formula}. {structure}, and its hardness on the \
         scale of Mohs is {hardness}: {}.",
        wear(*hardness)
    )
}

fn wear(hardness: f64) -> &'static str {
    match hardness {
        9.0.. => "hard enough for a ring that is worn every day",
        7.5.. => "it wears well in any setting",
        7.0.. => "dust holds quartz of the same hardness, so an exposed surface dulls over the years",
        5.0.. => "better in a pendant or earrings than in a ring",
        _ => "for a protected setting, or for a collection",
    }
}

fn care(stone: &Stone) -> String {
    let advice = match stone.care {
        Care::Robust => {
            "Warm water, mild soap and a soft brush are enough. Ultrasonic cleaning is safe for stones without fractures."
        }
        Care::Oiled => {
            "Fractures are usually filled with oil. Clean with lukewarm water only: no steam, no ultrasonic bath, no solvent."
        }
        Care::Heat => {
            "Avoid sudden changes of temperature, steam and the jeweller's torch. Lukewarm soapy water is safe."
        }
        Care::Fading => {
            "Strong light fades the colour over the years. Keep it in the dark when it is not worn."
        }
        Care::Cleavage => {
            "One knock along a cleavage plane can split it. Take it off for work and sport; no ultrasonic bath."
        }
        Care::Brittle => {
            "The edges of the facets chip easily. Store it apart from other stones, in a soft cloth."
        }
        Care::Porous => {
            "It takes up oil, sweat and dye. Put it on after perfume and cosmetics, and wipe it with a damp cloth."
        }
        Care::Opal => {
            "It holds water and may crack when it dries quickly. Keep it away from heat, and never soak doublets or triplets."
        }
        Care::Tough => {
            "It hardly breaks, but it can be scratched. A damp cloth keeps the wax on its surface; solvents take it off."
        }
        Care::Soft => {
            "It is scratched by dust and damaged by acids, even weak ones. Wipe it with a soft, dry cloth only."
        }
    };
    format!("{} has a hardness of {}: {}. {advice}", stone.variety, stone.hardness, wear(stone.hardness))
}

fn provenance(stone: &Stone) -> String {
    let Stone { variety, place, country, colour, .. } = stone;
    format!(
        "This {} was found at {place} in {country}, and its colour is described as {colour}. The place alone proves \
         nothing about quality: an origin is an opinion that a laboratory gives after it has looked at inclusions \
         and trace elements, and it should be asked for where it carries part of the price.",
        lower_first(variety)
    )
}

fn closing(stone: &Stone, audience: Audience) -> String {
    let treated = match stone.treatment.as_str() {
        "none" => "Stones of this variety are usually sold untreated".to_owned(),
        treatment => format!("The usual treatment of this variety is {treatment}"),
    };
    match audience {
        Audience::Public => format!("{treated}; a good seller says so without being asked."),
        Audience::Supplier => {
            format!(
                "{treated}. State it for each lot, and send the report that the origin {} rests on.",
                stone.place
            )
        }
        Audience::Internal => {
            format!(
                "{treated}. Catalogue id {}; check the supplier's report before this is published.",
                stone.id
            )
        }
    }
}

/// "Ruby" within a sentence is "ruby".
fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue, content::sanitise::sanitise};

    #[test]
    fn every_text_is_whole_and_needs_no_sanitising() {
        for stone in catalogue::stones().unwrap() {
            for kind in [Kind::Description, Kind::Care, Kind::Provenance] {
                for audience in [Audience::Internal, Audience::Supplier, Audience::Public] {
                    let order =
                        Order { stone_id: stone.id.clone(), kind, audience, notes: "Lot 7".to_owned() };
                    let Draft { title, body } = compose(&stone, &order);
                    assert!(body.split_whitespace().count() > 25 && body.ends_with("Note: Lot 7"), "{body}");
                    assert_eq!((sanitise(&title, 200), sanitise(&body, 8000)), (title, body));
                }
            }
        }
    }

    #[test]
    fn a_text_states_the_facts_of_its_stone() {
        let stones = catalogue::stones().unwrap();
        let contents = first_contents(&stones).unwrap();
        let ruby = &contents[0];
        assert_eq!(
            (ruby.title.as_str(), ruby.generated_at.as_str()),
            ("Ruby from Mogok, Myanmar", "2025-07-04T18:30:00Z")
        );
        assert_eq!(
            ruby.body,
            "Ruby from Mogok, Myanmar. Colour: pigeon-blood red. It belongs to corundum, which has the composition \
             Al2O3. Its crystals are trigonal, and its hardness on the scale of Mohs is 9: hard enough for a ring \
             that is worn every day.\n\nThe usual treatment of this variety is heating; a good seller says so \
             without being asked."
        );
    }
}
