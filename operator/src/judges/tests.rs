//! Formulas against numbers worked out by hand, the rules of a verdict, and its words.

use super::{eprocess::Side, *};
use proptest::prelude::*;
use stomaton_crds::edge_state::Mix;

/// A judge with the defaults of the schema.
pub(super) fn of(bad: Bad) -> Judge {
    Judge {
        name: "j".into(),
        of: bad,
        slower_than: None,
        tolerable_permille: 1,
        safe_margin_permille: 2000,
        absolute_permille: 20,
        prometheus: None,
    }
}

fn counted(service: (i64, i64), monolith: (i64, i64)) -> Evidence {
    let ((bad, requests), (monolith_bad, monolith_requests)) = (service, monolith);
    Evidence { requests, bad, monolith_requests, monolith_bad }
}

/// Bad and all of the service, bad and all of the monolith.
fn pair(service: (i64, i64), monolith: (i64, i64)) -> Pair {
    counted(service, monolith).into()
}

/// What one of three judges says after 40 s.
fn said(service: (i64, i64), monolith: (i64, i64)) -> JudgeStatus {
    let evidence = counted(service, monolith);
    judge(&of(Bad::Errors), &Certainty::default(), 3, evidence, Duration::from_secs(40))
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn evidence_is_what_the_formulas_say() {
    let pair = pair((3, 50), (2, 950));
    assert!(near(harm(pair, 1.0), 4.454_349_482_904_625));
    assert!(near(safe_relative(pair, 2.0), 5.0 * 1.05_f64.ln() - 3.0 * 2.0_f64.ln()));
    assert!(near(safe_absolute(Side { all: 500.0, bad: 3.0 }, 0.02), 2.696_836_302_414_053));
    assert!(near(safe_absolute(Side { all: 100.0, bad: 0.0 }, 0.02), 1.625_434_584_161_354));
    assert!(near(harm_absolute(Side { all: 1000.0, bad: 50.0 }, 0.02), 14.275_670_728_981_542));
}

#[test]
fn nothing_is_compared_with_nothing() {
    for pair in [pair((0, 0), (0, 0)), pair((7, 70), (0, 0)), pair((0, 0), (7, 70))] {
        assert_eq!((harm(pair, 1.0), safe_relative(pair, 2.0)), (0.0, 0.0));
    }
}

#[test]
fn without_a_bad_answer_it_is_safe_when_theory_says() {
    let first = |bound: f64, beta: f64, bad: f64| {
        let enough =
            |all: &u32| safe_absolute(Side { all: f64::from(*all), bad }, bound) >= (1.0 / beta).ln();
        (1_u32..10_000).find(enough).unwrap()
    };
    assert_eq!(first(0.02, 0.01, 0.0), 272);
    assert_eq!(first(0.001, 0.01, 0.0), 5485);
    assert_eq!(first(0.02, 0.01, 1.0), 403, "each bad answer costs some 130 good ones");
    // One judge has half of 1 % for this; one of three, a third of that.
    assert_eq!(first(0.02, 0.005, 0.0), 310);
    assert_eq!(
        (said((0, 370), (0, 0)).verdict, said((0, 371), (0, 0)).verdict),
        (Verdict::NotYet, Verdict::Safe)
    );
}

#[test]
fn harm_needs_evidence_an_effect_and_three_bad_answers() {
    assert_eq!(said((4, 200), (0, 3800)).verdict, Verdict::Harm);
    assert_eq!(said((4, 200), (80, 3800)).verdict, Verdict::NotYet, "the monolith is as bad");
    let verdict = |judge: &Judge, certainty: &Certainty, evidence| {
        super::judge(judge, certainty, 1, evidence, Duration::ZERO)
    };
    let tolerant = Judge { tolerable_permille: 100, ..of(Bad::Errors) };
    let tolerated = verdict(&tolerant, &Certainty::default(), counted((4, 200), (0, 3800)));
    assert_eq!(tolerated.verdict, Verdict::NotYet);
    assert!(tolerated.missing.ends_with("; it is worse, by no more than is tolerable"), "{tolerated:?}");
    let hasty = Certainty { false_harm_permille: 20, ..Certainty::default() };
    let few = verdict(&of(Bad::Errors), &hasty, counted((2, 10), (0, 100_000)));
    assert_eq!((few.verdict, few.harm_millinats), (Verdict::NotYet, 4497));
    assert!(few.missing.ends_with("; it seems worse, by too few bad answers to say Harm"), "{few:?}");
}

#[test]
fn harm_wins_over_safe() {
    // 1 % against 0.1 %: surely below the absolute bound of 2 %, and surely ten times as bad.
    let both = said((100, 10_000), (190, 190_000));
    assert!(both.safe_millinats > 6397, "{both:?}");
    assert_eq!(both.verdict, Verdict::Harm);
}

#[test]
fn where_the_monolith_is_gone_the_absolute_bound_is_harm() {
    assert_eq!(said((50, 1000), (0, 0)).harm_millinats, 14_276);
    let verdict = |service, monolith| said(service, monolith).verdict;
    assert_eq!(verdict((50, 1000), (0, 0)), Verdict::Harm);
    assert_eq!(verdict((50, 1000), (1, 9)), Verdict::Harm, "a few came late");
    assert_eq!(verdict((50, 1000), (2, 40)), Verdict::NotYet, "the monolith still answers, and is as bad");
    assert_eq!(verdict((50, 299), (0, 0)), Verdict::NotYet, "it may answer yet");
    assert_eq!(verdict((19, 1000), (0, 0)), Verdict::NotYet, "below the bound, but who knows");
    assert_ne!(
        verdict((50_000, 1_000_000), (450, 9000)),
        Verdict::Harm,
        "few for the service, enough to compare"
    );
}

#[test]
fn what_is_missing_is_said_with_numbers() {
    assert_eq!(said((0, 0), (0, 9)).missing, "no answer of the service is counted yet");
    assert_eq!(
        said((0, 100), (0, 1900)).missing,
        "Safe needs 6.4 nats and has 1.6: about 280 more answers of the service without a bad one, about 109 s at the \
         present rate"
    );
    assert_eq!(
        said((1, 200), (2, 3800)).missing,
        "Safe needs 6.4 nats and has 1.3: about 710 more answers of the service at the present shares of bad ones, \
         about 3 min at the present rate"
    );
    assert_eq!(
        said((19, 1000), (0, 0)).missing,
        "Safe needs 6.4 nats and has 0.0: at the present share of bad answers (1.9 %) it never will: absolute bound \
         2.0 %; about 1100 more without a bad one would do"
    );
    assert_eq!(
        said((3, 150), (30, 2850)).missing,
        "Safe needs 6.4 nats and has 0.0: at the present share of bad answers (2.0 %) it never will: absolute bound \
         2.0 %, monolith 1.1 %; about 600 more without a bad one would do"
    );
    assert_eq!(said((0, 1000), (0, 0)).missing, "", "it is safe");
}

#[test]
fn certainty_is_shared() {
    let one = Enough::of(&Certainty::default(), 1);
    assert!(near(one.harm, 100.0_f64.ln()) && near(one.safe, 200.0_f64.ln()));
    let three = Enough::of(&Certainty::default(), 3);
    assert!(near(three.harm, 300.0_f64.ln()) && near(three.safe, 600.0_f64.ln()));
    assert!(near(Enough::of(&Certainty::default(), 0).harm, one.harm));
}

fn answers(of: &[(u64, u64)]) -> Counts {
    let mut mix = Mix::default();
    of.iter().for_each(|(status, millis)| mix.count(*status, *millis));
    let bad = of.iter().filter(|(status, _)| *status == 0 || *status >= 500).count();
    Counts { requests: of.len().try_into().unwrap(), bad: bad.try_into().unwrap(), mix }
}

#[test]
fn each_judge_has_its_own_bad_answers() {
    let counts = answers(&[(200, 5), (302, 6), (404, 1000), (503, 1001), (0, 30_000)]);
    let bad = |bad| super::bad(&of(bad), counts);
    assert_eq!([Bad::Errors, Bad::Redirects, Bad::ClientErrors, Bad::Slow].map(bad), [2, 1, 1, 2]);
    let slower = |millis| {
        let slower_than = Some(Duration::from_millis(millis).into());
        super::bad(&Judge { slower_than, ..of(Bad::Slow) }, counts)
    };
    assert_eq!([1, 5, 9, 10, 999, 1000, 5000, 60_000].map(slower), [4, 4, 4, 3, 3, 2, 1, 1]);
}

#[test]
fn what_an_older_agent_does_not_say_is_not_taken_for_good() {
    let service = Counts { requests: 7, bad: 1, mix: Mix::default() };
    let sides = Sides { service, ..Sides::default() };
    assert_eq!(evidence(&of(Bad::Errors), sides), counted((1, 7), (0, 0)));
    assert_eq!(evidence(&of(Bad::Slow), sides), Evidence::default());
    let both =
        Sides { service: answers(&[(404, 9), (0, 9)]), monolith: answers(&[(200, 9), (200, 9), (401, 9)]) };
    assert_eq!(evidence(&of(Bad::ClientErrors), both), counted((1, 2), (1, 3)));
}

prop_compose! {
    /// Any counts, also such as cannot be.
    fn any_evidence()(of in any::<[u32; 4]>(), small in 0u32..33) -> Evidence {
        let [bad, requests, monolith_bad, monolith_requests] = of.map(|n| i64::from(n >> small.min(31)));
        Evidence { requests, bad, monolith_requests, monolith_bad }
    }
}

proptest! {
    #[test]
    fn no_counts_are_too_many(
        evidence in any_evidence(),
        judges in 0usize..9,
        millis in any::<u32>(),
        absolute_permille in -1..1100,
    ) {
        let judge = Judge { absolute_permille, ..of(Bad::Errors) };
        let elapsed = Duration::from_millis(millis.into());
        let said = super::judge(&judge, &Certainty::default(), judges, evidence, elapsed);
        let weighed = Weighed::of(&judge, Enough::of(&Certainty::default(), judges), evidence.into());
        prop_assert!(weighed.harm.is_finite() && weighed.safe.is_finite(), "{weighed:?}");
        prop_assert_eq!(said.missing.is_empty(), said.verdict != Verdict::NotYet);
        prop_assert!(!said.missing.contains("NaN") && !said.missing.contains("inf"), "{}", said.missing);
        prop_assert!(said.missing.len() < 300, "{}", said.missing);
    }

    /// Up to what is lost in rounding where terms of a thousand million cancel out.
    #[test]
    fn a_bad_answer_more_is_never_in_favour(evidence in any_evidence(), permille in 1i32..=500) {
        prop_assume!(evidence.bad < evidence.requests);
        let (less, more) = (Pair::from(evidence), Pair::from(Evidence { bad: evidence.bad + 1, ..evidence }));
        let falls = |before: f64, after: f64| after < before - 1e-4 - 1e-9 * before.abs();
        let bound = share(permille);
        prop_assert!(!falls(harm(less, 1.0), harm(more, 1.0)));
        prop_assert!(!falls(harm_absolute(less.service, bound), harm_absolute(more.service, bound)));
        prop_assert!(!falls(safe_absolute(more.service, bound), safe_absolute(less.service, bound)));
        prop_assert!(!falls(safe_relative(more, 2.0), safe_relative(less, 2.0)));
    }
}
