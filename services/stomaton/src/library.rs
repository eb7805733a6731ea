//! What both sides of the migration are made of: the store, the generator and the clock. Does disk I/O through
//! the store's thread.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use stomaton_kit::{ApiError, Config, Settings, StartError};
use thiserror::Error;
use tracing::error;

use crate::{
    catalogue::Stone,
    content::{self, Brief, Content, GenerateError, Generator, Order, Stats, Summary},
    stones,
    store::{Store, StoreError},
};

/// Everything that STOMATON can do, without the paths it is reached by.
#[derive(Clone)]
pub(crate) struct Library {
    store: Store,
    generator: Arc<dyn Generator>,
    clock: fn() -> Timestamp,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").field("generator", &self.generator.name()).finish_non_exhaustive()
    }
}

/// Why there is no content.
#[derive(Debug, Error)]
pub(crate) enum LibraryError {
    /// The order names a stone that is not in the catalogue.
    #[error("no stone has the id {0}; GET /api/v1/stomaton/stones lists them")]
    UnknownStone(String),
    /// The provider gave no text.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<LibraryError> for ApiError {
    fn from(failure: LibraryError) -> Self {
        match failure {
            LibraryError::UnknownStone(_) => Self::unprocessable(failure.to_string()),
            LibraryError::Store(failure) => failure.into(),
            LibraryError::Generate(failure) => {
                error!(error = %failure, "generator");
                let message = "the text provider gave no usable answer; try again later";
                Self::new(axum::http::StatusCode::BAD_GATEWAY, "generator_failed", message)
            }
        }
    }
}

impl Library {
    /// Opens the library that the service `name` keeps for itself.
    ///
    /// # Errors
    /// A generator that is refused, or a database that cannot be opened.
    pub(crate) fn open(name: &str, config: &Config, settings: &Settings) -> Result<Self, StartError> {
        let generator = content::generator(config.environment, settings)?;
        Ok(Self { store: Store::open(&config.data, name)?, generator, clock: Timestamp::now })
    }

    /// Parts of this library that are only good for development.
    pub(crate) fn stand_ins(&self) -> Vec<String> {
        let generator = self.generator.name();
        self.generator
            .is_stand_in()
            .then(|| format!("generator {generator}: texts from templates"))
            .into_iter()
            .collect()
    }

    /// Generates the content that is ordered, or gives the one that the same order gave before.
    pub(crate) async fn generate(&self, order: Order) -> Result<Content, LibraryError> {
        let id = order.content_id(self.generator.name());
        let stone_id = order.stone_id.clone();
        let found = self.store.call(move |connection| match content::find(connection, &id)? {
            Some(content) => Ok(Found::Content(Box::new(content))),
            None => stones::find(connection, &stone_id).map(|stone| Found::Stone(stone.map(Box::new))),
        });
        let stone = match found.await? {
            Found::Content(content) => return Ok(*content),
            Found::Stone(None) => return Err(LibraryError::UnknownStone(order.stone_id)),
            Found::Stone(Some(stone)) => *stone,
        };
        let brief = Brief { stone, order };
        let draft = self.generator.generate(&brief).await?;
        let content = Content::new(&brief.order, draft, self.generator.name(), (self.clock)())?;
        let stored = self.store.call(move |connection| {
            let transaction = connection.transaction()?;
            // Two equal orders may be under way at once: the first one stored is the answer to both.
            let stored = match content::find(&transaction, &content.id)? {
                Some(first) => first,
                None => {
                    content::insert(&transaction, &content)?;
                    content
                }
            };
            transaction.commit().map(|()| stored)
        });
        Ok(stored.await?)
    }

    /// The newest contents, newest first.
    pub(crate) async fn recent(&self, limit: u32) -> Result<Vec<Summary>, StoreError> {
        self.store.call(move |connection| content::recent(connection, limit)).await
    }

    /// Counts over all contents.
    pub(crate) async fn stats(&self) -> Result<Stats, StoreError> {
        self.store.call(|connection| content::stats(connection)).await
    }

    /// One stone.
    pub(crate) async fn stone(&self, id: String) -> Result<Option<Stone>, StoreError> {
        self.store.call(move |connection| stones::find(connection, &id)).await
    }

    /// Stones by id, after `after`.
    pub(crate) async fn stones(&self, after: String, limit: u32) -> Result<Vec<Stone>, StoreError> {
        self.store.call(move |connection| stones::list(connection, &after, limit)).await
    }

    /// Stones by words.
    pub(crate) async fn search(&self, query: String, limit: u32) -> Result<Vec<Stone>, StoreError> {
        self.store.call(move |connection| stones::search(connection, &query, limit)).await
    }
}

enum Found {
    Content(Box<Content>),
    Stone(Option<Box<Stone>>),
}

#[cfg(test)]
pub(crate) mod tests {
    use futures::{FutureExt, future::BoxFuture};
    use stomaton_kit::DataDir;

    use super::*;
    use crate::content::{
        generator::Draft,
        model::{Audience, Kind},
        offline::Offline,
    };

    fn noon() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }

    /// A library in memory whose clock stands still, so that answers can be compared byte for byte.
    pub(crate) fn library() -> Library {
        with(Arc::new(Offline))
    }

    fn with(generator: Arc<dyn Generator>) -> Library {
        Library { store: Store::open(&DataDir::Memory, "test").unwrap(), generator, clock: noon }
    }

    struct Scripted(Draft);

    impl Generator for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        fn is_stand_in(&self) -> bool {
            true
        }

        fn generate<'a>(&'a self, _: &'a Brief) -> BoxFuture<'a, Result<Draft, GenerateError>> {
            async { Ok(self.0.clone()) }.boxed()
        }
    }

    fn order(stone_id: &str) -> Order {
        Order {
            stone_id: stone_id.to_owned(),
            kind: Kind::Care,
            audience: Audience::Public,
            notes: String::new(),
        }
    }

    #[tokio::test]
    async fn equal_orders_get_the_one_content_also_at_the_same_time() {
        let library = library();
        let (one, other) =
            tokio::join!(library.generate(order("ruby-mogok")), library.generate(order("ruby-mogok")));
        assert_eq!(one.unwrap(), other.unwrap());
        assert_eq!(library.stats().await.unwrap().contents, 287);
    }

    #[tokio::test]
    async fn what_a_provider_says_is_sanitised_before_it_is_stored() {
        let (title, body) = ("<h1>Ruby</h1>\u{7}", "Red<script>alert(1)</script> & <b>hard</b>");
        let library = with(Arc::new(Scripted(Draft { title: title.to_owned(), body: body.to_owned() })));
        let content = library.generate(order("ruby-mogok")).await.unwrap();
        assert_eq!((content.title.as_str(), content.body.as_str()), ("Ruby", "Red alert(1) & hard"));
        assert_eq!(library.generate(order("ruby-mogok")).await.unwrap(), content);
    }

    #[tokio::test]
    async fn nothing_is_stored_when_the_provider_says_nothing() {
        let draft = Draft { title: "Ruby".to_owned(), body: "<br>".to_owned() };
        let library = with(Arc::new(Scripted(draft)));
        let failure = library.generate(order("ruby-mogok")).await.unwrap_err();
        assert!(matches!(failure, LibraryError::Generate(GenerateError::Empty)), "{failure}");
        assert_eq!(library.stats().await.unwrap().contents, 286);
    }

    #[tokio::test]
    async fn an_unknown_stone_is_named() {
        let failure = library().generate(order("brick")).await.unwrap_err();
        assert!(failure.to_string().contains("no stone has the id brick"), "{failure}");
    }
}
