//! Where texts come from: the trait that every provider has, and the choice between them. No I/O here.

use std::sync::Arc;

use futures::future::BoxFuture;
use stomaton_kit::{ConfigError, Environment, Settings};
use thiserror::Error;

use super::{model::Order, offline::Offline};
use crate::catalogue::Stone;

/// All that a provider may know.
#[derive(Debug, Clone)]
pub(crate) struct Brief {
    pub(crate) stone: Stone,
    pub(crate) order: Order,
}

/// What a provider gives back; not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) title: String,
    pub(crate) body: String,
}

/// Why there is no draft.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum GenerateError {
    /// The provider answered, with nothing in it.
    #[error("the provider gave an empty text")]
    Empty,
}

/// A provider of texts.
pub(crate) trait Generator: Send + Sync {
    /// Part of each content's id: change it when the same brief begins to give another text.
    fn name(&self) -> &'static str;

    /// Whether it is only good for development.
    fn is_stand_in(&self) -> bool;

    /// Writes a text.
    ///
    /// # Errors
    /// When the provider gives none.
    fn generate<'a>(&'a self, brief: &'a Brief) -> BoxFuture<'a, Result<Draft, GenerateError>>;
}

/// The provider that the settings choose.
///
/// # Errors
/// Production refuses the stand-in, unless it is allowed by name.
pub(crate) fn generator(
    environment: Environment,
    settings: &Settings,
) -> Result<Arc<dyn Generator>, ConfigError> {
    let offline: Arc<dyn Generator> = Arc::new(Offline);
    // There is one provider so far, so the choice only refuses the others.
    settings.choice("GENERATOR", &[("offline", ())], ())?;
    let allowed = settings.choice("ALLOW_OFFLINE_GENERATOR", &[("true", true), ("false", false)], false)?;
    match environment {
        Environment::Production if !allowed => Err(ConfigError::Refused {
            what: "GENERATOR=offline writes texts from templates, a stand-in that production refuses",
            remedy: "this release has no other provider yet (PERPLEXITY_API_KEY is not read): set \
                     ALLOW_OFFLINE_GENERATOR=true to serve template texts knowingly, or ENVIRONMENT=development",
        }),
        Environment::Production | Environment::Development => Ok(offline),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose<const N: usize>(
        environment: Environment,
        pairs: [(&str, &str); N],
    ) -> Result<&'static str, String> {
        generator(environment, &Settings::fixed(pairs))
            .map(|generator| generator.name())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn development_writes_offline() {
        assert_eq!(choose(Environment::Development, []), Ok("offline-1"));
    }

    #[test]
    fn production_refuses_the_stand_in_also_with_a_key_that_nothing_reads() {
        for settings in
            [("GENERATOR", "offline"), ("PERPLEXITY_API_KEY", "k"), ("ALLOW_OFFLINE_GENERATOR", "false")]
        {
            let message = choose(Environment::Production, [settings]).unwrap_err();
            assert!(message.contains("ALLOW_OFFLINE_GENERATOR=true"), "{message}");
        }
        assert_eq!(choose(Environment::Production, [("ALLOW_OFFLINE_GENERATOR", "true")]), Ok("offline-1"));
    }

    #[test]
    fn a_provider_that_is_not_there_is_refused_everywhere() {
        let message = choose(Environment::Development, [("GENERATOR", "perplexity")]).unwrap_err();
        assert!(message.contains("one of offline"), "{message}");
    }
}
