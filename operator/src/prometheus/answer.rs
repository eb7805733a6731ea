//! What Prometheus answers. Takes the body of an answer to a query, gives one whole number, nothing, or what is wrong with
//! it. Pure.

use super::Trouble;
use axum::http::StatusCode;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, from_value};

/// More answers than anybody counts in a step; above it sums could overflow.
const MOST: f64 = 1e12;
/// What is kept of words that come from elsewhere, in characters.
const WORDS: usize = 200;

#[derive(Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

#[derive(Deserialize)]
struct Series {
    value: Sample,
}

/// When, and the number as text.
type Sample = (IgnoredAny, String);

/// The count that an answer has; none if no series matched.
pub fn count(status: StatusCode, body: &[u8]) -> Result<Option<i64>, Trouble> {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let refused = |answer: Option<Answer>| {
        let said = answer.and_then(|answer| answer.error).unwrap_or_default();
        Err(Trouble::Refused { status: status.as_u16(), said: shortened(&said) })
    };
    if !status.is_success() {
        return refused(answer);
    }
    let answer = answer.ok_or(Trouble::Unreadable)?;
    if answer.status != "success" {
        return refused(Some(answer));
    }
    let Data { result_type, result } = answer.data.ok_or(Trouble::Unreadable)?;
    match result_type.as_str() {
        "scalar" => whole(&from_value(result).map_err(|_| Trouble::Unreadable)?).map(Some),
        "vector" => {
            let series: Vec<Series> = from_value(result).map_err(|_| Trouble::Unreadable)?;
            match series.as_slice() {
                [] => Ok(None),
                [one] => whole(&one.value).map(Some),
                several => Err(Trouble::Several(several.len())),
            }
        }
        _ => Err(Trouble::NotANumber),
    }
}

/// Rounded down: `increase` reckons what lies between two looks, so that what it gives need not be whole.
fn whole((_, text): &Sample) -> Result<i64, Trouble> {
    let number: f64 = text.parse().map_err(|_| Trouble::Unreadable)?;
    if (0.0..=MOST).contains(&number) { Ok(number as i64) } else { Err(Trouble::NoCount(shortened(text))) }
}

/// Words from elsewhere, of a length that status can carry.
pub fn shortened(words: &str) -> String {
    words.chars().take(WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Result<Option<i64>, Trouble> {
        count(StatusCode::OK, body.as_bytes())
    }

    fn vector(values: &[&str]) -> String {
        let series = |value: &&str| format!(r#"{{"metric":{{"a":"b"}},"value":[1435781451.781,"{value}"]}}"#);
        let series: Vec<_> = values.iter().map(series).collect();
        let result = series.join(",");
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#)
    }

    #[test]
    fn one_series_or_a_scalar_is_a_count() {
        assert_eq!(answer(&vector(&["41.97"])), Ok(Some(41)));
        assert_eq!(answer(&vector(&["0"])), Ok(Some(0)));
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"7"]}}"#;
        assert_eq!(answer(scalar), Ok(Some(7)));
        assert_eq!(answer(&vector(&[])), Ok(None));
    }

    #[test]
    fn what_is_no_count_is_refused() {
        assert_eq!(answer(&vector(&["1", "2"])), Err(Trouble::Several(2)));
        for no_count in ["NaN", "+Inf", "-Inf", "-1", "1e300"] {
            assert_eq!(answer(&vector(&[no_count])), Err(Trouble::NoCount(no_count.into())));
        }
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        assert_eq!(answer(matrix), Err(Trouble::NotANumber));
        let string = r#"{"status":"success","data":{"resultType":"string","result":[1,"7"]}}"#;
        assert_eq!(answer(string), Err(Trouble::NotANumber));
        for body in ["", "<html>", "{}", r#"{"status":"success"}"#] {
            assert_eq!(answer(body), Err(Trouble::Unreadable), "{body}");
        }
    }

    #[test]
    fn a_refusal_says_what_prometheus_said() {
        let body = r#"{"status":"error","errorType":"bad_data","error":"parse error: unclosed"}"#;
        let refused = |status| Trouble::Refused { status, said: "parse error: unclosed".into() };
        assert_eq!(count(StatusCode::BAD_REQUEST, body.as_bytes()), Err(refused(400)));
        assert_eq!(answer(body), Err(refused(200)));
        let silent = Trouble::Refused { status: 500, said: String::new() };
        assert_eq!(count(StatusCode::INTERNAL_SERVER_ERROR, b"oops"), Err(silent));
    }
}
