//! How many pods of an edge are ready, and how many were lately. Pure: time comes in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How far back [`Lately`] looks.
pub const LATELY: Duration = Duration::from_secs(30);

/// Numbers of ready pods and when each began; never two the same in a row.
#[derive(Debug, Default)]
pub struct Ready(VecDeque<(Instant, i32)>);

/// Ready pods, now and before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lately {
    /// Ready now.
    pub now: i32,
    /// Most that were ready at any one moment lately; none while that is not known for the whole time.
    pub most: Option<i32>,
}

impl Ready {
    /// From `now` on there are `count`.
    pub fn note(&mut self, count: i32, now: Instant) {
        if self.0.back().is_none_or(|(_, last)| *last != count) {
            self.0.push_back((now, count));
        }
        // What ended before that time is of no interest any more.
        while self.0.get(1).is_some_and(|(next, _)| now.duration_since(*next) >= LATELY) {
            self.0.pop_front();
        }
    }

    /// What is known at `now`.
    pub fn lately(&self, now: Instant) -> Lately {
        let ends = self.0.iter().skip(1).map(|(next, _)| Some(*next)).chain([None]);
        let is_recent = |end: &Option<Instant>| end.is_none_or(|end| now.duration_since(end) < LATELY);
        let recent = self.0.iter().zip(ends).filter(|(_, end)| is_recent(end)).map(|((_, count), _)| *count);
        let known = self.0.front().is_some_and(|(began, _)| now.duration_since(*began) >= LATELY);
        Lately { now: self.0.back().map_or(0, |(_, count)| *count), most: recent.max().filter(|_| known) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_of_lately_is_known_when_all_of_lately_is() {
        let (mut ready, begun) = (Ready::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(ready.lately(at(0)), Lately::default());
        ready.note(1, at(0));
        ready.note(4, at(5));
        ready.note(3, at(10));
        ready.note(3, at(12));
        assert_eq!(ready.lately(at(29)), Lately { now: 3, most: None });
        assert_eq!(ready.lately(at(30)), Lately { now: 3, most: Some(4) });
        assert_eq!(ready.lately(at(39)), Lately { now: 3, most: Some(4) });
        assert_eq!(ready.lately(at(40)), Lately { now: 3, most: Some(3) });
        ready.note(2, at(100));
        assert_eq!(ready.0.len(), 2, "what is over for long is forgotten");
        assert_eq!(ready.lately(at(101)), Lately { now: 2, most: Some(3) });
        assert_eq!(ready.lately(at(130)), Lately { now: 2, most: Some(2) });
    }
}
