//! Stones in the database: lookup, listing and full-text search. Takes a connection; does disk I/O.

use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

use crate::catalogue::Stone;

pub(crate) fn insert(connection: &Connection, stone: &Stone) -> rusqlite::Result<()> {
    let document = serde_json::to_string(stone)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection
        .prepare_cached("INSERT INTO stone (id, document) VALUES (?1, ?2)")?
        .execute(params![stone.id, document])?;
    connection
        .prepare_cached("INSERT INTO stone_words (id, name, species, colour) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![stone.id, stone.name, stone.species, stone.colour])?;
    Ok(())
}

pub(crate) fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<Stone>> {
    connection
        .prepare_cached("SELECT document FROM stone WHERE id = ?1")?
        .query_row([id], document)
        .optional()
}

/// Up to `limit` stones whose id comes after `after`, by id.
pub(crate) fn list(connection: &Connection, after: &str, limit: u32) -> rusqlite::Result<Vec<Stone>> {
    connection
        .prepare_cached("SELECT document FROM stone WHERE id > ?1 ORDER BY id LIMIT ?2")?
        .query_map(params![after, limit], document)?
        .collect()
}

/// Up to `limit` stones that have a word beginning with each word of `query`, best match first.
pub(crate) fn search(connection: &Connection, query: &str, limit: u32) -> rusqlite::Result<Vec<Stone>> {
    let Some(expression) = match_expression(query) else { return Ok(Vec::new()) };
    // Equal ranks are common; the id makes the order the same everywhere.
    connection
        .prepare_cached(
            "SELECT document FROM stone_words JOIN stone USING (id)
             WHERE stone_words MATCH ?1 ORDER BY rank, id LIMIT ?2",
        )?
        .query_map(params![expression, limit], document)?
        .collect()
}

/// Words alone, each quoted, so that nothing a person types is taken for FTS5's own syntax.
fn match_expression(query: &str) -> Option<String> {
    let words = query.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let terms: Vec<_> = words.map(|word| format!("\"{word}\"*")).collect();
    (!terms.is_empty()).then(|| terms.join(" "))
}

fn document(row: &Row<'_>) -> rusqlite::Result<Stone> {
    let text = row.get_ref(0)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    fn database() -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::prepare(&mut connection).unwrap();
        connection
    }

    fn ids(query: &str) -> Vec<String> {
        search(&database(), query, 50).unwrap().into_iter().map(|stone| stone.id).collect()
    }

    #[test]
    fn search_finds_by_the_beginnings_of_words() {
        assert_eq!(ids("ruby mogok"), ["ruby-mogok"]);
        assert_eq!(ids("tanzan merel"), ["tanzanite-merelani", "tsavorite-merelani"]);
        assert!(ids("corundum").contains(&"yellow-sapphire-ratnapura".to_owned()));
        assert!(ids("granite").is_empty());
    }

    #[test]
    fn search_takes_anything_a_person_may_type() {
        for query in [
            "",
            "   ",
            "\"",
            "ruby\"",
            "ruby OR",
            "NEAR(",
            "*",
            "-ruby",
            "name:ruby",
            "\u{0}",
            "😀",
            "a'b;--",
        ] {
            search(&database(), query, 50).unwrap();
        }
        assert_eq!(ids("ruby*\" mogok)"), ["ruby-mogok"]);
    }

    #[test]
    fn pages_cover_every_stone_once() {
        let connection = database();
        let (mut seen, mut after) = (0, String::new());
        loop {
            let page = list(&connection, &after, 100).unwrap();
            let Some(last) = page.last() else { break };
            (seen, after) = (seen + page.len(), last.id.clone());
        }
        assert_eq!(seen, 286);
    }
}
