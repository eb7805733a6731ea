//! A Prometheus that says what it is told to, over real connections.

use super::*;
use axum::{
    Router,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    routing::post,
};
use std::io::Write;
use tokio::net::TcpListener;

/// What is answered to a request with this form.
type Answer = fn(&HeaderMap, &str) -> (StatusCode, String);

/// Answers all queries so; its API is under a path.
async fn source(answer: Answer) -> Source {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/under/", listener.local_addr().unwrap());
    let answered = move |headers: HeaderMap, form: String| async move { answer(&headers, &form) };
    let router = Router::new().route("/under/api/v1/query", post(answered));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Source { url: url.parse().unwrap(), token_file: None, ca_file: None }
}

fn question() -> Question {
    Question {
        bad: "bad {{target}}".into(),
        all: "all {{target}}".into(),
        namespace: "shop".into(),
        route: "orders".into(),
        service: "new".into(),
        monolith: "old".into(),
        since: Timestamp::from_second(1_000_000).unwrap(),
    }
}

async fn asked(source: &Source) -> Reading {
    let client = Client::try_from(source.config()).unwrap();
    ask(&client, &question(), Timestamp::from_second(1_000_060).unwrap()).await
}

fn vector(values: &[&str]) -> (StatusCode, String) {
    let series: Vec<_> = values.iter().map(|v| format!(r#"{{"metric":{{}},"value":[1,"{v}"]}}"#)).collect();
    let data = format!(r#"{{"resultType":"vector","result":[{}]}}"#, series.join(","));
    (StatusCode::OK, format!(r#"{{"status":"success","data":{data}}}"#))
}

/// A service with 100 answers, none of them bad, and a monolith with 3 bad ones of 900.
fn good(_: &HeaderMap, form: &str) -> (StatusCode, String) {
    assert!(form.ends_with("&time=1970-01-12T13%3A47%3A40.000Z"), "all of the same moment: {form}");
    shares(form)
}

fn shares(form: &str) -> (StatusCode, String) {
    match form.split('&').next() {
        Some("query=all%20new") => vector(&["100.9"]),
        Some("query=bad%20new") => vector(&[]),
        Some("query=all%20old") => vector(&["900"]),
        Some("query=bad%20old") => vector(&["3"]),
        _ => (StatusCode::NOT_FOUND, String::new()),
    }
}

const COUNTED: Evidence = Evidence { requests: 100, bad: 0, monolith_requests: 900, monolith_bad: 3 };

#[tokio::test]
async fn four_queries_of_one_moment_make_a_reading() {
    assert_eq!(asked(&source(good).await).await, Ok(COUNTED));
}

#[tokio::test]
async fn more_bad_answers_than_answers_are_all_of_them() {
    let odd: Answer = |_, form| vector(if form.contains("bad") { &["12"] } else { &["10"] });
    let all = Evidence { requests: 10, bad: 10, monolith_requests: 10, monolith_bad: 10 };
    assert_eq!(asked(&source(odd).await).await, Ok(all));
}

#[tokio::test]
async fn a_source_that_is_broken_says_how() {
    let refused = |status: u16| Trouble::Refused { status, said: String::new() };
    let cases: [(Answer, Trouble); 7] = [
        (|_, _| (StatusCode::INTERNAL_SERVER_ERROR, "oops".into()), refused(500)),
        (|_, _| (StatusCode::FOUND, String::new()), refused(302)),
        (|_, _| (StatusCode::OK, "<html>".into()), Trouble::Unreadable),
        (|_, _| (StatusCode::OK, " ".repeat(MAX_ANSWER + 1)), Trouble::Unreadable),
        (|_, _| vector(&["1", "2"]), Trouble::Several(2)),
        (|_, _| vector(&["NaN"]), Trouble::NoCount("NaN".into())),
        (|_, _| vector(&[]), Trouble::NoData("service")),
    ];
    for (answer, trouble) in cases {
        assert_eq!(asked(&source(answer).await).await, Err(trouble));
    }
    let silent_monolith: Answer = |_, form| if form.contains("old") { vector(&[]) } else { vector(&["1"]) };
    assert_eq!(asked(&source(silent_monolith).await).await, Err(Trouble::NoData("monolith")));
}

#[tokio::test]
async fn a_source_that_is_not_there_cannot_be_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let reading = asked(&Source { url, token_file: None, ca_file: None }).await;
    assert!(matches!(&reading, Err(Trouble::Unreachable(_))), "{reading:?}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_answer_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let begun = Instant::now();
    assert_eq!(asked(&Source { url, token_file: None, ca_file: None }).await, Err(Trouble::Silent));
    assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
}

#[tokio::test]
async fn a_token_goes_with_every_query() {
    let guarded: Answer = |headers, form| match headers.get(AUTHORIZATION) {
        Some(token) if token == "Bearer abc" => shares(form),
        _ => (StatusCode::UNAUTHORIZED, String::new()),
    };
    let open = source(guarded).await;
    assert_eq!(asked(&open).await, Err(Trouble::Refused { status: 401, said: String::new() }));
    let mut token = tempfile::NamedTempFile::new().unwrap();
    token.write_all(b"abc").unwrap();
    let token_file = Some(token.path().display().to_string());
    assert_eq!(asked(&Source { token_file, ..open }).await, Ok(COUNTED));
}

#[tokio::test]
async fn without_a_source_every_reading_says_so() {
    assert_eq!(Prometheus::new(None).reading(&question()), Err(Trouble::NotTold));
}

#[tokio::test]
async fn a_source_that_cannot_be_used_is_one_that_is_broken() {
    let url = "https://p:9090".parse().unwrap();
    let ca_file = Some("/there/is/no/such/file".into());
    let reading = Prometheus::new(Some(&Source { url, token_file: None, ca_file })).reading(&question());
    assert!(matches!(&reading, Err(Trouble::Unusable(_))), "{reading:?}");
}

#[tokio::test]
async fn an_answer_counts_for_half_a_minute_and_a_question_as_long() {
    let prometheus = Prometheus::new(Some(&source(good).await));
    let (begun, question) = (Instant::now(), question());
    let at = |seconds| begun + Duration::from_secs(seconds);
    assert_eq!(prometheus.reading_at(&question, at(0)), Err(Trouble::NotYet));
    assert_eq!(prometheus.wanted(at(1)), std::slice::from_ref(&question));
    prometheus.answered(&question, Ok(COUNTED), at(2));
    assert_eq!(prometheus.reading_at(&question, at(32)), Ok(COUNTED));
    assert_eq!(prometheus.reading_at(&question, at(33)), Err(Trouble::Old));
    prometheus.answered(&question, Err(Trouble::Silent), at(33));
    assert_eq!(prometheus.reading_at(&question, at(34)), Err(Trouble::Silent));
    assert!(prometheus.wanted(at(65)).is_empty());
    assert_eq!(prometheus.reading_at(&question, at(66)), Err(Trouble::NotYet), "forgotten");
}

#[tokio::test]
async fn what_is_wanted_is_asked() {
    let any_time: Answer = |_, form| shares(form);
    let prometheus = Prometheus::new(Some(&source(any_time).await));
    assert_eq!(prometheus.reading(&question()), Err(Trouble::NotYet));
    let answered = async {
        while prometheus.reading(&question()).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = prometheus.run() => {}
        answered = timeout(Duration::from_secs(20), answered) => answered.unwrap(),
    }
    assert_eq!(prometheus.reading(&question()), Ok(COUNTED));
}
