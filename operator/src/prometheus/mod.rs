//! What Prometheus counts, for judges that ask it. I/O: one task asks over and over; everybody else reads what it was told.
//!
//! - [`query`] (pure): what is asked
//! - [`answer`] (pure): what an answer says
//! - this file: which questions are open, and their last answers
//!
//! Whoever wants a count names the question, and has what was last answered; a question that nobody names any more is
//! forgotten. So no pass waits for Prometheus. Where it is comes from the command line alone: no object can make the
//! operator call anything else. Redirects are not followed either.
//!
//! The way there is kube's HTTP client: it has TLS, reads its token and the authorities it trusts anew when their files
//! change, and is in the program anyway.

pub mod answer;
pub mod query;
#[cfg(test)]
mod tests;

use axum::http::{
    Method, Request, Uri,
    header::{ACCEPT, CONTENT_TYPE},
};
use futures::StreamExt;
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use kube::{Client, Config, client::Body};
use query::{Queries, Question};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use stomaton_crds::v1alpha1::Evidence;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Each open question is asked so often.
const EVERY: Duration = Duration::from_secs(5);
/// Questions that are asked at the same time, each with one query at a time.
const AT_ONCE: usize = 4;
/// Longest that the four queries of a question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer that is older says nothing of now; a question that nobody asked for longer is nobody's.
const OLD: Duration = Duration::from_secs(30);
/// Longest answer, in bytes: one number needs some hundred.
const MAX_ANSWER: usize = 1 << 20;

/// Where Prometheus is, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its address, with the path under which its API is, if any.
    pub url: Uri,
    /// A file with a bearer token.
    pub token_file: Option<String>,
    /// A file with the authorities to trust; none: those of the system.
    pub ca_file: Option<PathBuf>,
}

/// Why there is no count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nobody said where Prometheus is.
    #[error("the operator has no --prometheus-url")]
    NotTold,
    /// No client could be made of what was said.
    #[error("the operator cannot use what it was told of Prometheus: {0}")]
    Unusable(String),
    /// The first answer is on its way.
    #[error("no answer yet")]
    NotYet,
    /// The last answer is too old.
    #[error("the last answer is older than 30 s")]
    Old,
    /// No connection, or it broke.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer within 5 s")]
    Silent,
    /// An answer that says no.
    #[error("it answered {status}: {said}")]
    Refused {
        /// Status of the answer.
        status: u16,
        /// Why, in its words.
        said: String,
    },
    /// An answer that is none of Prometheus.
    #[error("its answer cannot be read")]
    Unreadable,
    /// A query that does not add up.
    #[error("a query gives {0} series, and has to give one number: put sum() around it")]
    Several(usize),
    /// A query that gives text, or many points in time.
    #[error("a query has to give one number, and gives something else")]
    NotANumber,
    /// A number that nothing can be counted by.
    #[error("a query gives {0}, which is no count")]
    NoCount(String),
    /// Nothing is known of a side.
    #[error("no data: the query for all answers of the {0} gives nothing")]
    NoData(&'static str),
    /// A query with something in braces that nobody knows.
    #[error("a query has an unknown placeholder, {{{{{0}")]
    Placeholder(String),
}

/// What was counted of both sides at one moment, or why it is not known.
pub type Reading = Result<Evidence, Trouble>;

/// Open questions and their last answers.
pub struct Prometheus {
    client: Result<Client, Trouble>,
    open: Mutex<HashMap<Question, Open>>,
}

struct Open {
    /// When somebody wanted to know last.
    wanted: Instant,
    /// The last answer, and when it was asked for.
    last: Option<(Reading, Instant)>,
}

impl Prometheus {
    /// Asks nothing yet; without a source it never will, and every reading says so. Needs a runtime if there is one.
    pub fn new(source: Option<&Source>) -> Self {
        let client = source.ok_or(Trouble::NotTold).and_then(|source| {
            let client = Client::try_from(source.config());
            client.map_err(|error| Trouble::Unusable(answer::shortened(&error.to_string())))
        });
        if let Err(trouble @ Trouble::Unusable(_)) = &client {
            tracing::warn!(%trouble, "judges that ask Prometheus will hold");
        }
        Self { client, open: Mutex::default() }
    }

    /// What was last answered to `question`, which stays open for as long as somebody asks.
    pub fn reading(&self, question: &Question) -> Reading {
        self.reading_at(question, Instant::now())
    }

    fn reading_at(&self, question: &Question, now: Instant) -> Reading {
        if let Err(trouble) = &self.client {
            return Err(trouble.clone());
        }
        let mut open = self.lock();
        let Some(known) = open.get_mut(question) else {
            open.insert(question.clone(), Open { wanted: now, last: None });
            return Err(Trouble::NotYet);
        };
        known.wanted = now;
        match &known.last {
            None => Err(Trouble::NotYet),
            Some((_, at)) if now.duration_since(*at) > OLD => Err(Trouble::Old),
            Some((reading, _)) => reading.clone(),
        }
    }

    /// Asks what is open, as long as it is polled.
    pub async fn run(&self) {
        let Ok(client) = &self.client else { return std::future::pending().await };
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let questions = futures::stream::iter(self.wanted(Instant::now()));
            let answered = |question: Question| async move {
                let asked = Instant::now();
                let reading = ask(client, &question, Timestamp::now()).await;
                self.answered(&question, reading, asked);
            };
            questions.for_each_concurrent(AT_ONCE, answered).await;
        }
    }

    /// The questions that somebody still has; all others are forgotten.
    fn wanted(&self, now: Instant) -> Vec<Question> {
        let mut open = self.lock();
        open.retain(|_, known| now.duration_since(known.wanted) <= OLD);
        open.keys().cloned().collect()
    }

    fn answered(&self, question: &Question, reading: Reading, asked: Instant) {
        if let Some(known) = self.lock().get_mut(question) {
            known.last = Some((reading, asked));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Question, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn config(&self) -> Config {
        let mut config = Config::new(self.url.clone());
        config.default_retry = false;
        config.auth_info.token_file.clone_from(&self.token_file);
        config.root_cert_file.clone_from(&self.ca_file);
        // Without TLS, or with authorities of its own, it must not matter whether the image has any.
        if self.ca_file.is_some() || self.url.scheme_str() == Some("http") {
            config.root_cert = Some(Vec::new());
        }
        config
    }
}

/// Asks all four counts of the same moment.
async fn ask(client: &Client, question: &Question, now: Timestamp) -> Reading {
    let Queries { requests, bad, monolith_requests, monolith_bad } = question.at(now)?;
    let counts = async {
        Ok::<_, Trouble>(Evidence {
            requests: count(client, &requests, now).await?.ok_or(Trouble::NoData("service"))?,
            bad: count(client, &bad, now).await?.unwrap_or(0),
            monolith_requests: count(client, &monolith_requests, now)
                .await?
                .ok_or(Trouble::NoData("monolith"))?,
            monolith_bad: count(client, &monolith_bad, now).await?.unwrap_or(0),
        })
    };
    let Evidence { requests, bad, monolith_requests, monolith_bad } =
        timeout(PATIENCE, counts).await.unwrap_or(Err(Trouble::Silent))?;
    // What is reckoned between two looks may come out above what is counted.
    let (bad, monolith_bad) = (bad.min(requests), monolith_bad.min(monolith_requests));
    Ok(Evidence { requests, bad, monolith_requests, monolith_bad })
}

async fn count(client: &Client, query: &str, now: Timestamp) -> Result<Option<i64>, Trouble> {
    let unreachable = |error: &dyn std::error::Error| Trouble::Unreachable(answer::shortened(&root(error)));
    let request = Request::builder()
        .method(Method::POST)
        .uri("/api/v1/query")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .body(Body::from(query::form(query, now).into_bytes()))
        .map_err(|error| unreachable(&error))?;
    let (head, body) = client.send(request).await.map_err(|error| unreachable(&error))?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|_| Trouble::Unreadable)?;
    answer::count(head.status, &body.to_bytes())
}

/// The innermost of errors that say the same in ever more general words.
fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
