//! When a caller's token is made, given and dropped. Pure: time and new tokens come in.
//!
//! A token is accepted before it is used, and used no more before it is dropped:
//!
//! | phase | the callee accepts | the caller is given | ends |
//! |---|---|---|---|
//! | Steady | A | A | `rotateEvery` after A was made |
//! | Adding | A, B | A | `overlap` later: B has reached every pod of the callee |
//! | Dropping | A, B | B | `overlap` after B was given: B has reached every pod of the caller |
//!
//! and then Steady again, with B for A. The first token is given at once: a caller without one is refused as well. A
//! caller that is none any more is accepted for one more `overlap`: its pods may not be gone yet.

use super::gather::neighbours::Key;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use stomaton_crds::hex::hex;

/// Name of the Secret with the tokens that the service `name` accepts: a key for each caller, a token on each line.
pub fn callers_name(name: &str) -> String {
    format!("{name}-callers")
}

/// Name of the Secret with the tokens that the service `name` shows: a key for each service that it calls.
pub fn tokens_name(name: &str) -> String {
    format!("{name}-tokens")
}

/// What `other` is called in the Secrets of a service of the namespace `own`.
pub fn file(own: &str, (namespace, name): &Key) -> String {
    if namespace == own { name.clone() } else { format!("{namespace}.{name}") }
}

/// A secret that a caller shows. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// A token from 32 random bytes, as text that may stand in a header and on a line.
    pub fn new(random: [u8; 32]) -> Self {
        Self(hex(&random))
    }

    /// A token that was read; none when it cannot be one.
    pub fn read(text: &str) -> Option<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (text.len() >= 32 && text.len() <= 256 && text.chars().all(fits)).then(|| Self(text.to_owned()))
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// How far the rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// One token.
    Steady,
    /// A new one is accepted, and not given yet.
    Adding,
    /// The new one is given, and the old one still accepted.
    Dropping,
}

/// What is remembered of a caller's rotation beside the tokens themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// How far it is.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// When the newest token was made.
    pub made: Timestamp,
    /// From when on every pod of the callee knows the caller: its own pods wait until then.
    pub reaches: Timestamp,
    /// Since when the caller is none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Timestamp>,
}

/// What a caller shows to one callee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The token.
    pub token: Token,
    /// Since when its Secret has it.
    pub since: Timestamp,
}

/// What a callee accepts from one caller. In order: the old one, then the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Accepted tokens, one or two.
    pub accepted: Vec<Token>,
    /// How far the rotation is.
    pub memory: Memory,
}

impl Pair {
    /// The first token of a caller: one that it has already, should the callee have lost its own, or a new one.
    /// `reaches`: from when on every pod of the callee accepts it.
    pub fn first(
        held: Option<Token>,
        now: Timestamp,
        reaches: Timestamp,
        fresh: impl FnOnce() -> Token,
    ) -> Self {
        let memory = Memory { phase: Phase::Steady, since: now, made: now, reaches, gone: None };
        Self { accepted: vec![held.unwrap_or_else(fresh)], memory }
    }

    /// Whether there are as many tokens as its phase needs.
    pub fn is_whole(&self) -> bool {
        self.accepted.len() == if self.memory.phase == Phase::Steady { 1 } else { 2 }
    }

    /// What is still accepted at `now` of a caller that is none any more, and for how long.
    pub fn leave(mut self, now: Timestamp, overlap: SignedDuration) -> Option<(Self, SignedDuration)> {
        let gone = *self.memory.gone.get_or_insert(now);
        let left = overlap.saturating_sub(now.duration_since(gone));
        left.is_positive().then_some((self, left))
    }

    /// The token to give to the caller.
    pub fn given(&self) -> Option<&Token> {
        match self.memory.phase {
            Phase::Steady | Phase::Adding => self.accepted.first(),
            Phase::Dropping => self.accepted.last(),
        }
    }

    /// What the callee shall accept at `now`, and how long until the next step may be due. `given` says since when the
    /// caller's own Secret has had the newest token, if it has.
    pub fn step(
        mut self,
        now: Timestamp,
        rotation: Rotation,
        given: Option<Timestamp>,
        fresh: impl FnOnce() -> Token,
    ) -> (Self, SignedDuration) {
        let Rotation { every, overlap } = rotation;
        self.memory.gone = None;
        let (from, wait) = match self.memory.phase {
            Phase::Steady => (Some(self.memory.made), every),
            Phase::Adding => (Some(self.memory.since), overlap),
            // The caller's Secret is written in another pass than ours, which may be late.
            Phase::Dropping => (given.map(|given| given.max(self.memory.since)), overlap),
        };
        let Some(from) = from else { return (self, overlap) };
        let left = wait.saturating_sub(now.duration_since(from));
        if left.is_positive() {
            return (self, left);
        }
        let phase = match self.memory.phase {
            Phase::Steady => {
                self.accepted = self.accepted.pop().into_iter().chain([fresh()]).collect();
                self.memory.made = now;
                Phase::Adding
            }
            Phase::Adding => Phase::Dropping,
            Phase::Dropping => {
                self.accepted = self.accepted.pop().into_iter().collect();
                Phase::Steady
            }
        };
        self.memory = Memory { phase, since: now, ..self.memory };
        let next = if phase == Phase::Steady {
            every.saturating_sub(now.duration_since(self.memory.made))
        } else {
            overlap
        };
        (self, next.max(SignedDuration::from_secs(1)))
    }
}

/// How often, and with how much room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Age at which a token is replaced.
    pub every: SignedDuration,
    /// Longest that a change takes to reach every pod.
    pub overlap: SignedDuration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(n: u8) -> Token {
        Token::new([n; 32])
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_token_may_stand_in_a_header_and_is_not_printed() {
        assert_eq!(token(0xab).expose(), "ab".repeat(32));
        assert_eq!(Token::read(token(7).expose()), Some(token(7)));
        assert_eq!(Token::read("short"), None);
        assert_eq!(format!("{:?}", token(0)), "Token(..)");
    }

    #[test]
    fn a_token_is_accepted_before_it_is_given_and_given_before_the_old_one_goes() {
        let rotation =
            Rotation { every: SignedDuration::from_secs(100), overlap: SignedDuration::from_secs(10) };
        let (a, b) = (token(1), token(2));
        let seen = |pair: &Pair| (pair.accepted.clone(), pair.given().cloned());
        let step =
            |pair: Pair, now, given: Option<i64>| pair.step(at(now), rotation, given.map(at), || b.clone()).0;
        let pair = Pair::first(None, at(0), at(0), || a.clone());
        let pair = step(pair, 99, None);
        assert_eq!(seen(&pair), (vec![a.clone()], Some(a.clone())));
        let pair = step(pair, 100, None);
        assert_eq!(seen(&pair), (vec![a.clone(), b.clone()], Some(a.clone())));
        let pair = step(pair, 109, None);
        assert_eq!(pair.given(), Some(&a));
        let pair = step(pair, 110, None);
        assert_eq!(seen(&pair), (vec![a.clone(), b.clone()], Some(b.clone())));
        let pair = step(pair, 1000, None);
        assert_eq!(pair.accepted.len(), 2, "the caller's Secret was never written");
        let pair = step(pair, 1010, Some(1001));
        assert_eq!(pair.accepted.len(), 2);
        let pair = step(pair, 1011, Some(1001));
        assert_eq!(seen(&pair), (vec![b.clone()], Some(b.clone())));
    }

    #[test]
    fn a_callee_that_lost_its_tokens_takes_up_the_one_its_caller_has() {
        assert_eq!(Pair::first(Some(token(3)), at(0), at(0), || token(4)).accepted, [token(3)]);
    }

    #[test]
    fn who_is_no_caller_any_more_is_accepted_for_one_more_overlap() {
        let overlap = SignedDuration::from_secs(10);
        let pair = Pair::first(None, at(0), at(0), || token(1));
        let (pair, left) = pair.leave(at(5), overlap).unwrap();
        assert_eq!(left, overlap);
        let (pair, left) = pair.leave(at(14), overlap).unwrap();
        assert_eq!(left.as_secs(), 1);
        assert_eq!(pair.clone().leave(at(15), overlap), None);
        let rotation = Rotation { every: SignedDuration::from_secs(100), overlap };
        let back = pair.step(at(14), rotation, None, || token(2)).0;
        assert_eq!(back.leave(at(20), overlap).unwrap().1, overlap, "it came back in between");
    }

    /// What a Secret held, by the time from which it did.
    type History<T> = Vec<(i64, T)>;

    /// What a pod sees at `now` of a Secret that reaches it after `delay`.
    fn seen<T>(history: &History<T>, now: i64, delay: i64) -> Option<&T> {
        history.iter().rev().find(|(since, _)| *since + delay <= now).map(|(_, value)| value)
    }

    proptest! {
        /// Passes of both sides come whenever they come; a Secret reaches each pod after any time up to the overlap.
        #[test]
        fn what_a_caller_holds_is_accepted(
            passes in prop::collection::vec((1_i64..40, any::<bool>()), 1..400),
            overlap in 1_i64..30,
            every in 1_i64..200,
            delays in prop::collection::vec((0_i64..=30, 0_i64..=30), 1..20),
        ) {
            let rotation = Rotation {
                every: SignedDuration::from_secs(every),
                overlap: SignedDuration::from_secs(overlap),
            };
            let (mut now, mut count) = (0, 0_u8);
            let mut fresh = || { count = count.wrapping_add(1); token(count) };
            let mut pair = Pair::first(None, at(0), at(0), &mut fresh);
            let mut accepted: History<Vec<Token>> = vec![(0, pair.accepted.clone())];
            let mut held: History<Token> = vec![(0, pair.accepted[0].clone())];
            for (later, callee) in passes {
                now += later;
                let (since, holds) = held.last().cloned().unwrap();
                if callee {
                    let given = (Some(&holds) == pair.accepted.last()).then(|| at(since));
                    pair = pair.step(at(now), rotation, given, &mut fresh).0;
                    accepted.push((now, pair.accepted.clone()));
                } else if let Some(token) = pair.given().filter(|token| **token != holds) {
                    held.push((now, token.clone()));
                }
                prop_assert!((1..=2).contains(&pair.accepted.len()));
            }
            // From then on every pod of the callee has the first token.
            for moment in overlap..=now {
                for (callee_delay, caller_delay) in &delays {
                    let (callee_delay, caller_delay) = (*callee_delay.min(&overlap), *caller_delay.min(&overlap));
                    let shows = seen(&held, moment, caller_delay);
                    let accepts = seen(&accepted, moment, callee_delay);
                    if let (Some(shows), Some(accepts)) = (shows, accepts) {
                        prop_assert!(accepts.contains(shows), "at {moment} s, delays {callee_delay} and {caller_delay}");
                    }
                }
            }
        }
    }
}
