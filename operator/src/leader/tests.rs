//! The rules of an election, and its I/O against a scripted API server in paused time.

use super::*;
use crate::testing::{self, Call, refusal};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const ME: &str = "operator-a_1";
const LASTS: Duration = Duration::from_secs(10);

fn spec(holder: Option<&str>) -> LeaseSpec {
    let at = MicroTime(Timestamp::from_second(1_000).unwrap());
    LeaseSpec {
        holder_identity: holder.map(Into::into),
        lease_duration_seconds: Some(10),
        acquire_time: Some(at.clone()),
        renew_time: Some(at),
        lease_transitions: Some(3),
        ..LeaseSpec::default()
    }
}

fn lease(version: &str, holder: Option<&str>) -> Value {
    let metadata = ObjectMeta {
        name: Some(LEASE.into()),
        resource_version: Some(version.into()),
        ..ObjectMeta::default()
    };
    serde_json::to_value(Lease { metadata, spec: Some(spec(holder)) }).unwrap()
}

fn candidate(answers: Vec<(StatusCode, Value)>) -> (Candidate, tokio::task::JoinHandle<Vec<Call>>) {
    let (ctx, calls) = testing::scripted(answers);
    let election = Election { namespace: "system".into(), identity: ME.into(), lease: LASTS };
    (Candidate::new(ctx.client.clone(), election, ctx.metrics.clone(), Arc::default()), calls)
}

#[test]
fn a_lead_is_taken_when_nobody_has_it_or_its_holder_was_silent_for_as_long_as_it_lasts() {
    let other = spec(Some("operator-b_2"));
    let cases = [
        (LeaseSpec::default(), 0, Decision::Acquire),
        (spec(None), 0, Decision::Acquire),
        (spec(Some("")), 0, Decision::Acquire),
        (spec(Some(ME)), 99, Decision::Renew),
        (other.clone(), 9, Decision::Wait),
        (other.clone(), 10, Decision::Acquire),
        (LeaseSpec { lease_duration_seconds: Some(30), ..other }, 29, Decision::Wait),
    ];
    for (spec, seconds, wanted) in cases {
        assert_eq!(decide(&spec, ME, Duration::from_secs(seconds)), wanted, "{spec:?} after {seconds} s");
    }
}

#[test]
fn a_record_counts_as_unchanged_from_when_we_first_saw_it_whatever_times_it_carries() {
    let (mut seen, now) = (None, Instant::now());
    let after = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(unchanged_for(&mut seen, &spec(Some("b")), now), Duration::ZERO);
    assert_eq!(unchanged_for(&mut seen, &spec(Some("b")), after(9)), Duration::from_secs(9));
    let renewed = LeaseSpec { renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)), ..spec(Some("b")) };
    assert_eq!(unchanged_for(&mut seen, &renewed, after(10)), Duration::ZERO);
}

#[test]
fn a_change_of_hands_is_counted_and_a_renewal_is_not() {
    let now = Timestamp::from_second(2_000).unwrap();
    let renewed = next_spec(&spec(Some(ME)), ME, LASTS, now);
    let kept = (renewed.lease_transitions, renewed.acquire_time.clone());
    assert_eq!(kept, (Some(3), spec(None).acquire_time));
    assert_eq!(renewed.renew_time, Some(MicroTime(now)));
    for old in [spec(Some("b")), spec(None)] {
        let taken = next_spec(&old, ME, LASTS, now);
        assert_eq!((taken.lease_transitions, taken.acquire_time), (Some(4), Some(MicroTime(now))));
    }
    let first = next_spec(&LeaseSpec::default(), ME, LASTS, now);
    assert_eq!((first.lease_transitions, first.lease_duration_seconds), (Some(0), Some(10)));
    assert_eq!(released(&renewed, now).holder_identity, None);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_faster_is_left_the_lead() {
    let (candidate, calls) = candidate(vec![
        (StatusCode::OK, lease("1", None)),
        refusal(StatusCode::CONFLICT, "Conflict"),
        (StatusCode::OK, lease("2", Some("operator-b_2"))),
        (StatusCode::OK, lease("3", None)),
        (StatusCode::OK, lease("4", Some(ME))),
    ]);
    let standing = candidate.standing.clone();
    assert!(standing.waits());
    let leader = candidate.acquire().await;
    assert!(!standing.waits());
    drop(leader);
    let calls = calls.await.unwrap();
    let made: Vec<_> = calls.iter().map(|c| c.method.clone()).collect();
    assert_eq!(made, [Method::GET, Method::PUT, Method::GET, Method::GET, Method::PUT]);
    assert_eq!(calls[4].body["metadata"]["resourceVersion"], "3", "a write is of what was read");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_not_answered_stops_before_another_may_begin() {
    let (candidate, _calls) =
        candidate(vec![(StatusCode::OK, lease("1", Some(ME))), (StatusCode::OK, lease("2", Some(ME)))]);
    let begun = Instant::now();
    let mut leader = candidate.acquire().await;
    let lost = leader.keep().await;
    assert!(matches!(lost, Lost::NotRenewed { .. }), "{lost}");
    assert_eq!(begun.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_somebody_else_has_is_lost_at_once() {
    let (candidate, _calls) = candidate(vec![
        (StatusCode::OK, lease("1", Some(ME))),
        (StatusCode::OK, lease("2", Some(ME))),
        refusal(StatusCode::CONFLICT, "Conflict"),
        (StatusCode::OK, lease("9", Some("operator-b_2"))),
    ]);
    let mut leader = candidate.acquire().await;
    let lost = leader.keep().await;
    assert!(matches!(&lost, Lost::Taken { holder } if holder == "operator-b_2"), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_deleted_or_edited_is_made_ours_again() {
    let (candidate, calls) = candidate(vec![
        (StatusCode::OK, lease("1", Some(ME))),
        (StatusCode::OK, lease("2", Some(ME))),
        refusal(StatusCode::CONFLICT, "Conflict"),
        (StatusCode::OK, lease("5", Some(ME))),
        (StatusCode::OK, lease("6", Some(ME))),
        refusal(StatusCode::NOT_FOUND, "NotFound"),
        refusal(StatusCode::NOT_FOUND, "NotFound"),
        (StatusCode::CREATED, lease("7", Some(ME))),
        (StatusCode::OK, json!(null)),
    ]);
    let mut leader = candidate.acquire().await;
    // The last answer is none at all, and what comes after it hangs.
    let lost = leader.keep().await;
    assert!(matches!(lost, Lost::NotRenewed { .. }), "{lost}");
    drop(leader);
    let calls = calls.await.unwrap();
    assert_eq!(calls[4].body["metadata"]["resourceVersion"], "5");
    assert_eq!(calls[7].method, Method::POST);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_says_so() {
    let (candidate, calls) = candidate(vec![
        (StatusCode::OK, lease("1", Some(ME))),
        (StatusCode::OK, lease("2", Some(ME))),
        (StatusCode::OK, lease("3", None)),
    ]);
    candidate.acquire().await.release().await;
    let body = &calls.await.unwrap()[2].body;
    assert_eq!(body["spec"].get("holderIdentity"), None);
    assert_eq!(body["metadata"]["resourceVersion"], "2");
}
