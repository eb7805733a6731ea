//! Contents in the database. Takes a connection; does disk I/O.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::model::{Content, Stats, Summary};

pub(crate) fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<Content>> {
    connection
        .prepare_cached(
            "SELECT id, stone_id, kind, audience, title, body, words, generator, generated_at
             FROM content WHERE id = ?1",
        )?
        .query_row([id], content)
        .optional()
}

fn content(row: &Row<'_>) -> rusqlite::Result<Content> {
    Ok(Content {
        id: row.get(0)?,
        stone_id: row.get(1)?,
        kind: row.get(2)?,
        audience: row.get(3)?,
        title: row.get(4)?,
        body: row.get(5)?,
        words: row.get(6)?,
        generator: row.get(7)?,
        generated_at: row.get(8)?,
    })
}

/// Stores a new content and counts it. The caller's transaction keeps the two together.
pub(crate) fn insert(connection: &Connection, content: &Content) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO content (id, stone_id, kind, audience, title, body, words, generator, generated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            content.id,
            content.stone_id,
            content.kind,
            content.audience,
            content.title,
            content.body,
            content.words,
            content.generator,
            content.generated_at,
        ])?;
    count(connection, "contents", "", 1)?;
    count(connection, "words", "", content.words)?;
    count(connection, "kind", &content.kind, 1)?;
    count(connection, "audience", &content.audience, 1)?;
    count(connection, "generator", &content.generator, 1)
}

fn count(connection: &Connection, dimension: &str, value: &str, n: u32) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO tally (dimension, value, n) VALUES (?1, ?2, ?3)
             ON CONFLICT (dimension, value) DO UPDATE SET n = n + excluded.n",
        )?
        .execute(params![dimension, value, n])?;
    Ok(())
}

/// The newest contents, newest first.
pub(crate) fn recent(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<Summary>> {
    connection
        .prepare_cached(
            "SELECT id, stone_id, kind, audience, title, words, generated_at
             FROM content ORDER BY number DESC LIMIT ?1",
        )?
        .query_map([limit], summary)?
        .collect()
}

fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    Ok(Summary {
        id: row.get(0)?,
        stone_id: row.get(1)?,
        kind: row.get(2)?,
        audience: row.get(3)?,
        title: row.get(4)?,
        words: row.get(5)?,
        generated_at: row.get(6)?,
    })
}

/// Reads the running counts: a few rows, however much content there is.
pub(crate) fn stats(connection: &Connection) -> rusqlite::Result<Stats> {
    let mut stats = Stats::default();
    let mut statement = connection.prepare_cached("SELECT dimension, value, n FROM tally")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (value, n) = (row.get(1)?, row.get(2)?);
        match row.get_ref(0)?.as_str()? {
            "contents" => stats.contents = n,
            "words" => stats.words = n,
            "kind" => drop(stats.by_kind.insert(value, n)),
            "audience" => drop(stats.by_audience.insert(value, n)),
            "generator" => drop(stats.by_generator.insert(value, n)),
            _ => {}
        }
    }
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn the_running_counts_are_the_counts() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::prepare(&mut connection).unwrap();
        let mut content = recent_content(&connection);
        (content.id, content.kind, content.words) = ("new".to_owned(), "care".to_owned(), 7);
        insert(&connection, &content).unwrap();

        let stats = stats(&connection).unwrap();
        let whole: (i64, i64) = connection
            .query_row("SELECT count(*), sum(words) FROM content", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!((stats.contents, stats.words), whole);
        let care: i64 = connection
            .query_row("SELECT count(*) FROM content WHERE kind = 'care'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(stats.by_kind["care"], care);
        assert_eq!(stats.by_kind.values().sum::<i64>(), stats.contents);
        assert_eq!(recent(&connection, 1).unwrap()[0].id, "new");
    }

    fn recent_content(connection: &Connection) -> Content {
        find(connection, &recent(connection, 1).unwrap()[0].id).unwrap().unwrap()
    }
}
