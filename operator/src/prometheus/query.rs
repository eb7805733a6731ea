//! What Prometheus is asked, from what a plan wrote. Takes a judge's two queries and what they are about, gives the four
//! queries of one moment. Pure.

use super::Trouble;
use jiff::Timestamp;
use stomaton_crds::v1alpha1::PrometheusCounts;

/// What one judge wants to know of one route: how many answers each side gave since a moment. Whoever asks the same
/// question gets the same answer; one that is edited, or of a new step, is another question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// The query for bad answers, as written in the plan.
    pub bad: String,
    /// The query for all answers, as written in the plan.
    pub all: String,
    /// Namespace of the plan.
    pub namespace: String,
    /// Name of the route.
    pub route: String,
    /// Name of the Service that takes the route over.
    pub service: String,
    /// Name of the Service that answers for the monolith.
    pub monolith: String,
    /// When counting began.
    pub since: Timestamp,
}

/// The four queries of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queries {
    /// All answers of the service.
    pub requests: String,
    /// Its bad ones.
    pub bad: String,
    /// All answers of the monolith.
    pub monolith_requests: String,
    /// Its bad ones.
    pub monolith_bad: String,
}

impl Question {
    /// The question of a judge with these queries.
    pub fn of(counts: &PrometheusCounts, about: About<'_>, since: Timestamp) -> Self {
        let About { namespace, route, service, monolith } = about;
        Self {
            bad: counts.bad.clone(),
            all: counts.all.clone(),
            namespace: namespace.to_owned(),
            route: route.to_owned(),
            service: service.to_owned(),
            monolith: monolith.to_owned(),
            since,
        }
    }

    /// What to ask at this moment.
    pub fn at(&self, now: Timestamp) -> Result<Queries, Trouble> {
        // Prometheus has no window of no length.
        let window = format!("{}s", now.duration_since(self.since).as_secs().max(1));
        let of = |query: &str, side: &str, target: &str| {
            let values = [
                ("route", self.route.as_str()),
                ("side", side),
                ("target", target),
                ("namespace", self.namespace.as_str()),
                ("window", window.as_str()),
            ];
            filled(query, &values)
        };
        Ok(Queries {
            requests: of(&self.all, "service", &self.service)?,
            bad: of(&self.bad, "service", &self.service)?,
            monolith_requests: of(&self.all, "monolith", &self.monolith)?,
            monolith_bad: of(&self.bad, "monolith", &self.monolith)?,
        })
    }
}

/// What a question is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Namespace of the plan.
    pub namespace: &'a str,
    /// Name of the route.
    pub route: &'a str,
    /// Name of the Service that takes the route over.
    pub service: &'a str,
    /// Name of the Service that answers for the monolith.
    pub monolith: &'a str,
}

/// `query` with values in place of `{{name}}`. Values are names of Kubernetes and numbers: nothing in them has a meaning
/// in a query, or in a string or a regular expression within one, but the dot, which also matches itself.
fn filled(query: &str, values: &[(&str, &str)]) -> Result<String, Trouble> {
    let (mut filled, mut rest) = (String::with_capacity(query.len()), query);
    while let Some((before, after)) = rest.split_once("{{") {
        let unknown = || Trouble::Placeholder(after.chars().take(20).collect());
        let (name, behind) = after.split_once("}}").ok_or_else(unknown)?;
        let (_, value) = values.iter().find(|(known, _)| *known == name).ok_or_else(unknown)?;
        filled.push_str(before);
        filled.push_str(value);
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The body of a query's request: a form.
pub fn form(query: &str, at: Timestamp) -> String {
    format!("query={}&time={}", encoded(query), encoded(&format!("{at:.3}")))
}

fn encoded(text: &str) -> String {
    let of = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About<'_> =
        About { namespace: "shop", route: "orders", service: "orders-v2", monolith: "legacy" };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn question(bad: &str, all: &str) -> Question {
        let counts = PrometheusCounts { bad: bad.into(), all: all.into() };
        Question::of(&counts, ABOUT, at(0))
    }

    #[test]
    fn each_side_is_asked_for_itself_and_for_the_same_time() {
        let all = r#"sum(increase(http_total{app="{{target}}",ns="{{namespace}}"}[{{window}}]))"#;
        let queries = question("{{route}} {{side}}", all).at(at(37)).unwrap();
        let filled = |app: &str| format!(r#"sum(increase(http_total{{app="{app}",ns="shop"}}[37s]))"#);
        assert_eq!(
            queries,
            Queries {
                requests: filled("orders-v2"),
                bad: "orders service".into(),
                monolith_requests: filled("legacy"),
                monolith_bad: "orders monolith".into(),
            }
        );
    }

    #[test]
    fn a_window_is_a_second_at_least() {
        for (now, window) in [(-5, "1s"), (0, "1s"), (1, "1s"), (3600, "3600s")] {
            assert_eq!(question("{{window}}", "{{window}}").at(at(now)).unwrap().bad, window);
        }
    }

    #[test]
    fn braces_that_are_no_placeholder_are_refused_and_those_of_a_selector_stay() {
        for wrong in ["{{pod}}", "{{ route }}", "x{{", "{{{route}}", "{{}}"] {
            let trouble = question(wrong, "1").at(at(1)).unwrap_err();
            assert!(matches!(trouble, Trouble::Placeholder(_)), "{wrong}: {trouble}");
        }
        assert_eq!(question("x{a=\"{{route}}\"}", "1").at(at(1)).unwrap().bad, "x{a=\"orders\"}");
    }

    #[test]
    fn a_form_has_nothing_that_means_something_else() {
        let body = form("a+b{c=\"&é\"}", at(1));
        assert_eq!(body, "query=a%2Bb%7Bc%3D%22%26%C3%A9%22%7D&time=1970-01-12T13%3A46%3A41.000Z");
    }
}
