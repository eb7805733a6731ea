//! One line of an access log. Pure.

use serde::Deserialize;
use stomaton_crds::edge_state::EdgeState;
use stomaton_crds::keys::AUDIENCE_TESTERS;

/// A line as `nginx::build` has NGINX write it. All values are text.
#[derive(Deserialize)]
struct Line<'a> {
    /// Route id; empty: no route matched.
    #[serde(borrow)]
    r: &'a str,
    /// Side.
    d: &'a str,
    /// Audience.
    a: &'a str,
    /// Status that the user got.
    s: &'a str,
    /// Statuses of the backend, one for each attempt.
    u: &'a str,
    /// Seconds that the request took.
    #[serde(default)]
    t: &'a str,
    /// Seconds until the head of the backend's answer was there, one for each attempt.
    #[serde(default)]
    h: &'a str,
}

impl Line<'_> {
    /// Whether the edge itself refused the request, and no side was asked: nobody known, too much, too large.
    fn is_edge_s_own(&self) -> bool {
        self.u.is_empty() && matches!(self.s, "204" | "401" | "403" | "413" | "429" | "503")
    }

    /// Status of the backend that was asked first, or else what the user got.
    fn status(&self) -> u64 {
        let first = first(self.u).parse();
        first.or_else(|_| self.s.parse()).unwrap_or_default()
    }

    /// How long it took until the head of an answer was there; if there never was one, how long the user waited.
    fn millis(&self) -> u64 {
        millis(first(self.h)).or_else(|| millis(self.t)).unwrap_or_default()
    }
}

/// Of a list with an entry for each attempt, the first. Where NGINX went on by itself, a `:` stands between them.
fn first(list: &str) -> &str {
    list.split([',', ':']).next().unwrap_or_default().trim()
}

/// `0.012` in milliseconds. NGINX always writes three digits after the point.
fn millis(seconds: &str) -> Option<u64> {
    let (seconds, millis) = seconds.split_once('.')?;
    let (seconds, millis): (u64, u64) = (seconds.parse().ok()?, millis.parse().ok()?);
    Some(seconds.saturating_mul(1000).saturating_add(millis))
}

/// What a line was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// An answer that did not hurt.
    Good,
    /// An answer that hurt, or a line that cannot be read and may have been one.
    Bad,
}

/// Counts `line`, without its line break. What cannot be read was lost: a gap.
pub(super) fn count(state: &mut EdgeState, line: &[u8]) -> Kind {
    let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else {
        state.gaps += 1;
        return Kind::Bad;
    };
    state.lines += 1;
    let is_own = line.is_edge_s_own();
    // What was asked first is whose answer counts, whoever helped out.
    let is_bad = !is_own && (line.s.starts_with('5') || line.u.starts_with('5'));
    // Testers chose their side: what they are answered says nothing about it.
    if !line.r.is_empty() && !is_own && line.a != AUDIENCE_TESTERS {
        let audiences = match state.counters.get_mut(line.r) {
            Some(known) => known,
            None => state.counters.entry(line.r.to_owned()).or_default(),
        };
        let sides = match audiences.get_mut(line.a) {
            Some(known) => known,
            None => audiences.entry(line.a.to_owned()).or_default(),
        };
        let counts = if line.d == "service" { &mut sides.service } else { &mut sides.monolith };
        counts.requests += 1;
        counts.bad += u64::from(is_bad);
        counts.mix.count(line.status(), line.millis());
    }
    if is_bad { Kind::Bad } else { Kind::Good }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(lines: &[&str]) -> (EdgeState, Vec<Kind>) {
        let mut state = EdgeState::default();
        let kinds = lines.iter().map(|line| count(&mut state, line.as_bytes())).collect();
        (state, kinds)
    }

    #[test]
    fn a_route_counts_by_side_and_harm() {
        let (state, kinds) = counted(&[
            r#"{"r":"00000000000000aa","d":"service","a":"public","s":"200","u":"200","t":"0.001","b":"12"}"#,
            r#"{"r":"00000000000000aa","d":"service","a":"public","s":"502","u":"502","t":"0.001","b":"12"}"#,
            r#"{"r":"00000000000000aa","d":"monolith","a":"public","s":"404","u":"404","t":"0.001","b":"12"}"#,
        ]);
        assert_eq!(kinds, [Kind::Good, Kind::Bad, Kind::Good]);
        let sides = state.counters["00000000000000aa"]["public"];
        assert_eq!((sides.service.requests, sides.service.bad), (2, 1));
        assert_eq!((sides.monolith.requests, sides.monolith.bad), (1, 0));
        assert_eq!((state.lines, state.gaps), (3, 0));
    }

    #[test]
    fn the_first_attempt_counts_even_if_another_backend_helped() {
        let (_, kinds) =
            counted(&[r#"{"r":"","d":"service","a":"public","s":"200","u":"502, 200","t":"0.001","b":"1"}"#]);
        assert_eq!(kinds, [Kind::Bad]);
    }

    #[test]
    fn a_request_without_a_route_is_a_line_and_no_counter() {
        let (state, _) = counted(&[r#"{"r":"","d":"","a":"public","s":"400","u":"","t":"0.0","b":"1"}"#]);
        assert_eq!(state.lines, 1);
        assert!(state.counters.is_empty());
    }

    #[test]
    fn what_the_edge_refuses_is_no_side_s_answer() {
        let line = |status: &str, upstream: &str| {
            format!(
                r#"{{"r":"00000000000000aa","d":"service","a":"public","s":"{status}","u":"{upstream}","t":"0.0","b":"1"}}"#
            )
        };
        for own in ["204", "401", "403", "413", "429", "503"] {
            let (state, kinds) = counted(&[&line(own, "")]);
            assert_eq!((state.lines, state.counters.len(), kinds), (1, 0, vec![Kind::Good]), "{own}");
        }
        // A client that gave up on a backend that hangs, and backends that say the same themselves.
        let (state, _) =
            counted(&[&line("499", ""), &line("503", "503"), &line("401", "401"), &line("504", "504")]);
        let service = state.counters["00000000000000aa"]["public"].service;
        assert_eq!((service.requests, service.bad), (4, 2));
    }

    #[test]
    fn what_answers_were_like_is_that_of_the_first_who_was_asked() {
        let line = |s: &str, u: &str, t: &str, h: &str| {
            format!(
                r#"{{"r":"00000000000000aa","d":"service","a":"public","s":"{s}","u":"{u}","t":"{t}","b":"1","h":"{h}"}}"#
            )
        };
        let (state, _) = counted(&[
            &line("200", "200", "9.000", "0.004"),
            &line("404", "404", "0.030", "0.030"),
            &line("200", "503, 200", "0.020", "0.011, 0.009"),
            &line("504", "504", "1.000", "-"),
            &line("499", "", "0.600", ""),
        ]);
        let mix = state.counters["00000000000000aa"]["public"].service.mix;
        assert_eq!(mix.classes, [0, 1, 0, 2, 2]);
        assert_eq!(mix.latency, [1, 0, 1, 1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(mix.latency_millis, 4 + 30 + 11 + 1000 + 600);
    }

    #[test]
    fn testers_judge_nobody() {
        let (state, _) = counted(&[
            r#"{"r":"00000000000000aa","d":"service","a":"testers","s":"502","u":"502","t":"0.0","b":"1"}"#,
        ]);
        assert_eq!((state.lines, state.counters.len()), (1, 0));
    }

    #[test]
    fn half_a_line_is_a_gap() {
        let (state, _) = counted(&[r#"{"r":"00000000000000aa","d":"serv"#]);
        assert_eq!((state.lines, state.gaps), (0, 1));
    }
}
