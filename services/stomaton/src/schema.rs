//! Tables and first rows: takes a connection, makes the database usable. Does disk I/O.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use thiserror::Error;

use crate::{
    catalogue::{self, CatalogueError},
    content, stones,
};

/// Why a database cannot be used.
#[derive(Debug, Error)]
pub(crate) enum SchemaError {
    /// Made by a later release.
    #[error("it has version {0}, this release knows version {VERSION} and older: start a newer release")]
    Newer(i64),
    /// The built-in catalogue is damaged.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A stone of the catalogue gives no text.
    #[error(transparent)]
    Generate(#[from] content::GenerateError),
    /// SQLite refused.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

const VERSION: i64 = 1;

/// `tally` holds running counts, so that statistics cost the same however much content there is.
const TABLES: &str = "
    CREATE TABLE stone (id TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
    CREATE VIRTUAL TABLE stone_words USING fts5 (id UNINDEXED, name, species, colour, tokenize = 'unicode61');
    CREATE TABLE content (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        stone_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        audience TEXT NOT NULL,
        title TEXT NOT NULL,
        body TEXT NOT NULL,
        words INTEGER NOT NULL,
        generator TEXT NOT NULL,
        generated_at TEXT NOT NULL
    );
    CREATE TABLE tally (
        dimension TEXT NOT NULL,
        value TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (dimension, value)
    ) WITHOUT ROWID;
";

/// Makes the tables and the first rows, unless they are there.
///
/// # Errors
/// A database of a later version, or one that cannot be written.
pub(crate) fn prepare(connection: &mut Connection) -> Result<(), SchemaError> {
    // Immediate: two processes that start on one new file must not both find it empty.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match transaction.query_row("PRAGMA user_version", [], |row| row.get(0))? {
        0 => fill(&transaction)?,
        VERSION => {}
        newer => return Err(SchemaError::Newer(newer)),
    }
    Ok(transaction.commit()?)
}

fn fill(transaction: &Transaction<'_>) -> Result<(), SchemaError> {
    transaction.execute_batch(TABLES)?;
    let stones = catalogue::stones()?;
    for stone in &stones {
        stones::insert(transaction, stone)?;
    }
    for content in content::first_contents(&stones)? {
        content::insert(transaction, &content)?;
    }
    Ok(transaction.pragma_update(None, "user_version", VERSION)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_a_later_release_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
        let message = prepare(&mut connection).unwrap_err().to_string();
        assert!(message.contains("start a newer release"), "{message}");
    }
}
