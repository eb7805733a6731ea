//! Configuration from the environment: takes a lookup of names, gives a checked [`Config`]. No I/O of its own.
//!
//! An empty variable counts as unset, because manifests and `.env` files cannot express "not there" otherwise.

use std::{fmt, net::IpAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use thiserror::Error;
use tracing::level_filters::LevelFilter;

use crate::Blueprint;

/// Why a process cannot start with the settings it was given; each message says what to do.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The value of a setting has the wrong form.
    #[error("{name}={value:?} is not {want}: correct it, or unset it to use the default")]
    Wrong {
        /// The environment variable.
        name: String,
        /// What it was set to.
        value: String,
        /// What would be right.
        want: String,
    },
    /// A setting that this environment needs is not there.
    #[error("{name} is not set: {remedy}")]
    Missing {
        /// The environment variable.
        name: &'static str,
        /// Why it is needed, and what to set.
        remedy: &'static str,
    },
    /// Each setting is right, but this combination is not allowed.
    #[error("{what}: {remedy}")]
    Refused {
        /// The combination.
        what: &'static str,
        /// The ways out of it.
        remedy: &'static str,
    },
}

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Where settings come from: the process environment, or a fixed list in tests.
pub struct Settings {
    lookup: Box<Lookup>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.write_str("Settings")
    }
}

impl Settings {
    /// The environment of this process.
    pub fn process() -> Self {
        Self {
            lookup: Box::new(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())),
        }
    }

    /// A fixed list of names and values.
    pub fn fixed<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            lookup: Box::new(move |name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.clone())),
        }
    }

    /// The same settings, except that `names` are read as [`Self::scoped_name`] has them, so that services
    /// which share a process can each have their own.
    #[must_use]
    pub fn scoped(self, service: &'static str, names: &'static [&'static str]) -> Self {
        Self {
            lookup: Box::new(move |name| match names.contains(&name) {
                true => (self.lookup)(&Self::scoped_name(service, name)),
                false => (self.lookup)(name),
            }),
        }
    }

    /// The name of a setting that only `service` reads: `CONTENT_PORT` for `content` and `PORT`.
    pub fn scoped_name(service: &str, name: &str) -> String {
        format!("{}_{name}", service.to_uppercase().replace('-', "_"))
    }

    /// The value of `name`; `None` when unset or empty.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// One of a few words.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`] names the accepted words.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)], default: T) -> Result<T, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        choices.iter().find(|choice| choice.0 == value).map(|choice| choice.1).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|choice| choice.0).collect();
            ConfigError::Wrong { name: name.to_owned(), value, want: format!("one of {}", words.join(", ")) }
        })
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`] names the range.
    pub fn number<T>(&self, name: &str, range: RangeInclusive<T>, default: T) -> Result<T, ConfigError>
    where
        T: std::str::FromStr + PartialOrd + fmt::Display,
    {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| ConfigError::Wrong {
            name: name.to_owned(),
            value,
            want: format!("a whole number from {} to {}", range.start(), range.end()),
        })
    }
}

/// How strict a service is with itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Stand-ins and the fault switch are allowed.
    Development,
    /// Real backends only.
    Production,
}

impl Environment {
    /// The word of the `ENVIRONMENT` setting.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// Where a service keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataDir {
    /// Gone when the process ends; needs no writable file system.
    Memory,
    /// One database file for each service, in this directory.
    Dir(PathBuf),
}

/// The settings that every service has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `SERVICE_NAME`: in logs, in `/health` and in the `X-Served-By` header.
    pub service_name: String,
    /// `HOST`: the address to listen on; every IPv4 address by default.
    pub host: IpAddr,
    /// `PORT`: what the platform says wins over the service's own default; 0 takes a free one.
    pub port: u16,
    /// `ENVIRONMENT`: `development` (the default) or `production`.
    pub environment: Environment,
    /// `LOG_LEVEL`: `error`, `warn`, `info` (the default), `debug` or `trace`. Requests are `info`.
    pub log_level: LevelFilter,
    /// `DRAIN_SECONDS`: how long to go on serving after SIGTERM, while endpoints move away.
    pub drain: Duration,
    /// `DATA_DIR`: a directory, or `memory` (the default in development).
    pub data: DataDir,
    /// `FAULTS=allow`: mount the fault switch. Never in production.
    pub faults: bool,
    /// `CALLERS_DIR`: where the tokens are that this service accepts; no such directory, no tokens asked for.
    pub callers: PathBuf,
    /// `TOKENS_DIR`: where the tokens are that this service shows to others.
    pub tokens: PathBuf,
}

impl Config {
    /// Reads and checks the settings of the service that `blueprint` describes.
    ///
    /// # Errors
    /// The first setting that is wrong, missing or refused.
    pub fn read(blueprint: &Blueprint, settings: &Settings) -> Result<Self, ConfigError> {
        let environment = settings.choice(
            "ENVIRONMENT",
            &[("development", Environment::Development), ("production", Environment::Production)],
            Environment::Development,
        )?;
        let config = Self {
            service_name: service_name(blueprint, settings)?,
            host: host(settings)?,
            port: settings.number("PORT", 0..=u16::MAX, blueprint.port)?,
            environment,
            log_level: settings.choice("LOG_LEVEL", &LEVELS, LevelFilter::INFO)?,
            drain: Duration::from_secs(settings.number("DRAIN_SECONDS", 0..=600, 5)?),
            data: data_dir(environment, settings)?,
            faults: settings.choice("FAULTS", &[("allow", true), ("deny", false)], false)?,
            callers: settings.get("CALLERS_DIR").map_or_else(|| CALLERS_DIR.into(), PathBuf::from),
            tokens: settings.get("TOKENS_DIR").map_or_else(|| TOKENS_DIR.into(), PathBuf::from),
        };
        if config.faults && environment == Environment::Production {
            return Err(ConfigError::Refused {
                what: "FAULTS=allow with ENVIRONMENT=production would let anyone who reaches this port break it",
                remedy: "unset FAULTS, or set ENVIRONMENT=development",
            });
        }
        Ok(config)
    }
}

/// Where the operator mounts the tokens that a service accepts.
const CALLERS_DIR: &str = "/var/run/stomaton/callers";
/// Where the operator mounts the tokens that a service shows.
const TOKENS_DIR: &str = "/var/run/stomaton/tokens";

const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// The name goes into a response header, so it is held to what a DNS label may hold.
fn service_name(blueprint: &Blueprint, settings: &Settings) -> Result<String, ConfigError> {
    let Some(name) = settings.get("SERVICE_NAME") else { return Ok(blueprint.name.to_owned()) };
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match name.len() <= 63 && name.bytes().all(fits) {
        true => Ok(name),
        false => Err(ConfigError::Wrong {
            name: "SERVICE_NAME".to_owned(),
            value: name,
            want: "at most 63 lower-case letters, digits and hyphens".to_owned(),
        }),
    }
}

fn host(settings: &Settings) -> Result<IpAddr, ConfigError> {
    let value = settings.get("HOST").unwrap_or_else(|| "0.0.0.0".to_owned());
    value.parse().map_err(|_| ConfigError::Wrong {
        name: "HOST".to_owned(),
        value,
        want: "an IP address (such as 0.0.0.0, :: or 127.0.0.1)".to_owned(),
    })
}

fn data_dir(environment: Environment, settings: &Settings) -> Result<DataDir, ConfigError> {
    match settings.get("DATA_DIR").as_deref() {
        Some("memory") => Ok(DataDir::Memory),
        Some(path) => Ok(DataDir::Dir(path.into())),
        None if environment == Environment::Development => Ok(DataDir::Memory),
        None => Err(ConfigError::Missing {
            name: "DATA_DIR",
            remedy: "production keeps its data: set it to a writable directory on a volume, \
                     or to \"memory\" to lose everything at each restart on purpose",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLUEPRINT: Blueprint = Blueprint {
        name: "content",
        port: 8001,
        about: "",
        build: |_, _| Ok(crate::Service { routes: axum::Router::new(), stand_ins: Vec::new() }),
    };

    fn read<const N: usize>(pairs: [(&str, &str); N]) -> Result<Config, ConfigError> {
        Config::read(&BLUEPRINT, &Settings::fixed(pairs))
    }

    #[test]
    fn development_needs_no_setting() {
        let config = read([]).unwrap();
        assert_eq!(
            config,
            Config {
                service_name: "content".to_owned(),
                host: IpAddr::from([0, 0, 0, 0]),
                port: 8001,
                environment: Environment::Development,
                log_level: LevelFilter::INFO,
                drain: Duration::from_secs(5),
                data: DataDir::Memory,
                faults: false,
                callers: CALLERS_DIR.into(),
                tokens: TOKENS_DIR.into(),
            }
        );
    }

    #[test]
    fn the_platform_port_wins_and_an_empty_one_is_unset() {
        assert_eq!(read([("PORT", "9000")]).unwrap().port, 9000);
        assert_eq!(read([("PORT", " ")]).unwrap().port, 8001);
    }

    #[test]
    fn a_wrong_value_is_named_with_what_would_be_right() {
        for (name, value, hint) in [
            ("PORT", "65536", "0 to 65535"),
            ("PORT", "http", "0 to 65535"),
            ("DRAIN_SECONDS", "-1", "0 to 600"),
            ("ENVIRONMENT", "prod", "development, production"),
            ("LOG_LEVEL", "loud", "error, warn, info, debug, trace"),
            ("FAULTS", "yes", "allow, deny"),
            ("HOST", "localhost", "IP address"),
            ("SERVICE_NAME", "a\r\nb", "lower-case"),
        ] {
            let message = read([(name, value)]).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(hint), "{message}");
        }
    }

    #[test]
    fn production_refuses_the_fault_switch() {
        let settings = [("ENVIRONMENT", "production"), ("DATA_DIR", "/data"), ("FAULTS", "allow")];
        let message = read(settings).unwrap_err().to_string();
        assert!(message.contains("FAULTS=allow") && message.contains("unset FAULTS"), "{message}");
        assert!(read([("FAULTS", "allow")]).unwrap().faults);
    }

    #[test]
    fn production_asks_where_data_is_kept() {
        let message = read([("ENVIRONMENT", "production")]).unwrap_err().to_string();
        assert!(message.starts_with("DATA_DIR is not set"), "{message}");
        let config = read([("ENVIRONMENT", "production"), ("DATA_DIR", "/data")]).unwrap();
        assert_eq!(config.data, DataDir::Dir("/data".into()));
    }

    #[test]
    fn scoped_settings_read_their_own_names_and_share_the_rest() {
        let settings = Settings::fixed([("PORT", "1"), ("CONTENT_PORT", "2"), ("LOG_LEVEL", "warn")]);
        let scoped = settings.scoped("content", &["PORT", "SERVICE_NAME"]);
        let config = Config::read(&BLUEPRINT, &scoped).unwrap();
        assert_eq!((config.port, config.log_level), (2, LevelFilter::WARN));
    }
}
