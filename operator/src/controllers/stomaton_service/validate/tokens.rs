//! Takes the tokens that a service and those around it hold; gives those they should hold, whether the service can ask
//! for them yet, and how long until that changes by itself. Pure.
//!
//! Nobody is refused by a change: a service that runs without tokens asks for them only when the pods of all its
//! callers have theirs, and the pods of a new caller wait until all pods of the service know its token.

use super::shape::seconds;
use crate::controllers::{
    rollout,
    stomaton_service::{
        build::tokens::{asks, shows},
        gather::{
            Gathered,
            neighbours::{Key, edges, key},
            tokens::{Caller, Held},
        },
        tokens::{Given, Pair, Rotation, file},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use stomaton_crds::{
    conditions::{Finding, Reason, State, Summary, Truth, Type},
    v1alpha1::{ServiceAuth, StomatonService},
};

/// How long the first pods of a service that asks for tokens wait after it was made: those that call it are often made
/// beside it, and a pod knows the tokens at once that are there when it starts.
const COMPANY: SignedDuration = SignedDuration::from_secs(3);

/// What is known of the tokens of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// What it accepts, by [`file`]; none when it asks nobody.
    pub accepts: Option<BTreeMap<String, Pair>>,
    /// Whether its pods shall ask for tokens.
    pub asks: bool,
    /// What it shows, by [`file`]; none when nobody asks.
    pub shows: Option<BTreeMap<String, Given>>,
    /// What the condition says; none when there is nothing to do with tokens.
    pub finding: Option<Finding>,
    /// Why pods cannot be made or replaced now.
    pub hold: Option<Summary>,
    /// How long until another pass may find something else.
    pub again: Option<SignedDuration>,
}

impl Judged {
    fn look_again(&mut self, after: SignedDuration) {
        self.again = Some(self.again.map_or(after, |again| again.min(after)));
    }

    /// Says what is not as it should be; `hold`: no pods until it is.
    fn say(&mut self, truth: Truth, reason: Reason, message: String, hold: bool) {
        if hold {
            self.hold = Some(Summary { state: State::Reconciling, reason, message: message.clone() });
        }
        self.finding = Some(Finding { kind: Type::SecretsReady, truth, reason, message });
    }
}

/// Judges what `service` accepts and shows.
pub fn judge(service: &StomatonService, gathered: &Gathered) -> Judged {
    let held = &gathered.tokens;
    let mut judged = Judged::default();
    let calls = !held.callees.is_empty() || !held.lost.is_empty();
    if service.spec.service_auth.is_none() && !calls {
        return judged;
    }
    judged.say(
        Truth::True,
        Reason::AsSpecified,
        "every Secret, ConfigMap, key and token that is used is there".into(),
        false,
    );
    if let Some(auth) = &service.spec.service_auth {
        accept(service, gathered, auth, &mut judged);
    }
    if calls {
        show(service, held, &mut judged);
    }
    let (own, _) = key(service);
    let needed = held.callees.keys().map(|(namespace, _)| namespace).chain([&own]);
    let refused: Vec<_> = needed.filter(|namespace| held.refused.contains(*namespace)).collect();
    if let Some(namespace) = refused.first() {
        let message = format!(
            "tokens need Secrets, which the operator may not read and write in namespace {namespace}: run `kubectl \
             apply -n {namespace} -k manifests/install/namespace-grant`"
        );
        judged.say(Truth::Unknown, Reason::NoGrant, message, true);
        if held.refused.contains(&own) {
            // What could not be read must not be written over.
            (judged.accepts, judged.shows) = (None, None);
        }
    }
    judged
}

/// The callee's side.
fn accept(service: &StomatonService, gathered: &Gathered, auth: &ServiceAuth, judged: &mut Judged) {
    let (held, (own, _)) = (&gathered.tokens, key(service));
    let rotation = Rotation { every: whole(auth.rotate_every), overlap: whole(auth.overlap) };
    let asked = gathered.deployment.as_ref().map(asks);
    let mut accepts = BTreeMap::new();
    for (caller, Caller { given, .. }) in &held.callers {
        let Some(fresh) = held.fresh.get(caller) else { continue };
        let file = file(&own, caller);
        let shown = given.as_ref().map(|given| given.token.clone());
        let (pair, again) = match held.accepted.get(&file) {
            Some(pair) => {
                let since = given.as_ref().filter(|given| pair.accepted.last() == Some(&given.token));
                pair.clone().step(held.now, rotation, since.map(|given| given.since), || fresh.clone())
            }
            None => {
                // Pods that ask already do not know this caller before the kubelet has told them.
                let known = if asked == Some(true) { rotation.overlap } else { SignedDuration::ZERO };
                (Pair::first(shown, held.now, held.now + known, || fresh.clone()), rotation.every)
            }
        };
        judged.look_again(again);
        accepts.insert(file, pair);
    }
    for (file, pair) in &held.accepted {
        if !accepts.contains_key(file)
            && let Some((pair, left)) = pair.clone().leave(held.now, rotation.overlap)
        {
            judged.look_again(left);
            accepts.insert(file.clone(), pair);
        }
    }
    judged.accepts = Some(accepts);
    match asked {
        Some(true) => judged.asks = true,
        None => {
            judged.asks = true;
            let made = service.metadata.creation_timestamp.as_ref().map_or(held.now, |made| made.0);
            let left = COMPANY.saturating_sub(held.now.duration_since(made));
            if left.is_positive() {
                let message = "no pod starts yet: whoever calls it may be made in this moment too".to_owned();
                judged.say(Truth::False, Reason::WaitingForTokens, message, true);
                judged.look_again(left);
            }
        }
        Some(false) => begin_to_ask(held, &own, rotation, judged),
    }
}

/// Decides whether pods that run without tokens can be replaced by ones that ask for them.
fn begin_to_ask(held: &Held, own: &str, rotation: Rotation, judged: &mut Judged) {
    let mut without = Vec::new();
    for (caller, Caller { given, deployment }) in &held.callers {
        let Some(deployment) = deployment else { continue };
        let left = given
            .as_ref()
            .map(|given| rotation.overlap.saturating_sub(held.now.duration_since(given.since)))
            .filter(|_| shows(deployment) && rollout::unfinished(deployment, None).is_none());
        match left {
            Some(left) if !left.is_positive() => {}
            left => {
                without.push(file(own, caller));
                // A caller whose pods are not ready wakes nobody when they are.
                judged.look_again(left.unwrap_or(rotation.overlap));
            }
        }
    }
    judged.asks = without.is_empty();
    if !judged.asks {
        let message = format!(
            "it asks for no tokens yet: waiting until all pods of {} have theirs, and {} s more",
            without.join(", "),
            rotation.overlap.as_secs()
        );
        judged.say(Truth::False, Reason::WaitingForTokens, message, false);
    }
}

/// The caller's side.
fn show(service: &StomatonService, held: &Held, judged: &mut Judged) {
    let (own, _) = key(service);
    let needed = |callee: &Key| edges(service).any(|(key, optional)| key == *callee && !optional);
    let (mut shows, mut waiting) = (BTreeMap::new(), Vec::new());
    for (callee, pair) in &held.callees {
        let file = file(&own, callee);
        let before = held.shown.get(&file);
        let current = pair.as_ref().and_then(Pair::given);
        let given = match (before, current) {
            (Some(before), Some(token)) if before.token == *token => Some(before.clone()),
            (_, Some(token)) => Some(Given { token: token.clone(), since: held.now }),
            // It lost its own, and takes up ours again.
            (before, None) => before.cloned(),
        };
        shows.extend(given.map(|given| (file.clone(), given)));
        let from = pair.as_ref().map(|pair| pair.memory.reaches);
        if needed(callee) && from.is_none_or(|from| held.now < from) {
            waiting.push(words(&file, from));
            if let Some(from) = from {
                judged.look_again(from.duration_since(held.now));
            }
        }
    }
    // Nobody is there to be called: that is no reason to replace pods.
    for file in held.lost.iter().map(|callee| file(&own, callee)) {
        shows.extend(held.shown.get(&file).map(|given| (file, given.clone())));
    }
    judged.shows = Some(shows).filter(|shows| !shows.is_empty() || !held.callees.is_empty());
    if !waiting.is_empty() {
        let message = format!("no pod starts or is replaced yet: {}", waiting.join("; "));
        judged.say(Truth::False, Reason::WaitingForTokens, message, true);
    }
}

fn words(callee: &str, from: Option<Timestamp>) -> String {
    match from {
        Some(from) => format!("all pods of {callee} know its token at {from:.0}"),
        None => format!("{callee} has no token for it yet"),
    }
}

/// Kubernetes counts in whole seconds.
fn whole(duration: kube::core::Duration) -> SignedDuration {
    SignedDuration::from_secs(seconds(duration).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::stomaton_service::tokens::{Memory, Phase, Token};
    use k8s_openapi::api::apps::v1::Deployment;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn token(n: u8) -> Token {
        Token::new([n; 32])
    }

    fn named(name: &str) -> Key {
        ("fleet".to_owned(), name.to_owned())
    }

    /// A service that was made at second 0.
    fn service(more: Value) -> StomatonService {
        let mut spec = json!({"image": "i"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "StomatonService",
            "metadata": {"name": "me", "namespace": "fleet", "uid": "u", "creationTimestamp": at(0)},
            "spec": spec,
        }))
        .unwrap()
    }

    fn callee() -> StomatonService {
        service(json!({"serviceAuth": {"rotateEvery": "100s", "overlap": "10s"}}))
    }

    fn caller() -> StomatonService {
        service(json!({"dependsOn": [{"name": "db"}]}))
    }

    /// A Deployment with one ready pod that has this volume.
    fn deployment(volume: &str) -> Deployment {
        let volumes = json!([{"name": volume}]);
        serde_json::from_value(json!({
            "metadata": {"generation": 1},
            "spec": {"replicas": 1, "selector": {}, "template": {"spec": {"containers": [], "volumes": volumes}}},
            "status": {
                "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
                "availableReplicas": 1,
            },
        }))
        .unwrap()
    }

    fn held(now: i64) -> Gathered {
        Gathered { tokens: Held { now: at(now), ..Held::default() }, ..Gathered::default() }
    }

    /// A callee's look at the caller `shop`, which shows `given` since that second.
    fn called(now: i64, given: Option<(u8, i64)>, pods: Option<Deployment>) -> Gathered {
        let mut gathered = held(now);
        let given = given.map(|(n, since)| Given { token: token(n), since: at(since) });
        gathered.tokens.callers = [(named("shop"), Caller { given, deployment: pods })].into();
        gathered.tokens.fresh = [(named("shop"), token(9))].into();
        gathered
    }

    /// A caller's look at the callee `db`, all pods of which know its token at second `reaches`.
    fn calling(now: i64, accepted: Option<i64>) -> Gathered {
        let mut gathered = held(now);
        let pair = accepted.map(|reaches| Pair {
            accepted: vec![token(1)],
            memory: Memory {
                phase: Phase::Steady,
                since: at(0),
                made: at(0),
                reaches: at(reaches),
                gone: None,
            },
        });
        gathered.tokens.callees = [(named("db"), pair)].into();
        gathered
    }

    fn reason(judged: &Judged) -> (Truth, Reason, Option<u64>) {
        let finding = judged.finding.clone().unwrap();
        (finding.truth, finding.reason, judged.again.map(|again| again.unsigned_abs().as_secs()))
    }

    #[test]
    fn who_has_to_do_with_no_tokens_hears_of_none() {
        assert_eq!(judge(&caller(), &held(0)), Judged::default());
    }

    #[test]
    fn the_first_pods_wait_a_moment_for_callers_and_know_their_tokens() {
        let first = judge(&callee(), &called(1, None, None));
        assert_eq!(reason(&first), (Truth::False, Reason::WaitingForTokens, Some(2)));
        assert!(first.asks && first.hold.is_some());
        let pair = &first.accepts.unwrap()["shop"];
        assert_eq!((&pair.accepted[..], pair.memory.reaches), (&[token(9)][..], at(1)));
        let then = judge(&callee(), &called(3, None, None));
        assert_eq!(reason(&then), (Truth::True, Reason::AsSpecified, Some(100)));
        assert_eq!(then.hold, None);
    }

    #[test]
    fn a_new_caller_waits_until_pods_that_ask_know_it() {
        let mut gathered = called(50, None, None);
        gathered.deployment = Some(deployment("service-callers"));
        let judged = judge(&callee(), &gathered);
        assert_eq!(judged.accepts.unwrap()["shop"].memory.reaches, at(60));

        let waits = judge(&caller(), &calling(50, Some(60)));
        assert_eq!(reason(&waits), (Truth::False, Reason::WaitingForTokens, Some(10)));
        let message = waits.hold.unwrap().message;
        assert!(message.ends_with("all pods of db know its token at 1970-01-01T00:01:00Z"), "{message}");
        assert_eq!(waits.shows.unwrap()["db"], Given { token: token(1), since: at(50) });
        assert_eq!(judge(&caller(), &calling(60, Some(60))).hold, None);
        assert!(judge(&caller(), &calling(60, None)).hold.unwrap().message.contains("db has no token"));

        let optional = service(json!({"dependsOn": [{"name": "db", "optional": true}]}));
        assert_eq!(judge(&optional, &calling(60, None)).hold, None);
    }

    #[test]
    fn a_callee_that_is_gone_takes_no_pods_with_it() {
        let given = Given { token: token(1), since: at(5) };
        let mut gathered = held(50);
        gathered.tokens.lost = [named("db")].into();
        gathered.tokens.shown = [("db".to_owned(), given.clone())].into();
        let judged = judge(&caller(), &gathered);
        assert_eq!((judged.hold, judged.shows), (None, Some([("db".to_owned(), given)].into())));
        gathered.tokens.shown.clear();
        assert_eq!(judge(&caller(), &gathered).shows, None, "it never asked for tokens");
    }

    #[test]
    fn pods_that_run_ask_only_when_every_caller_can_answer() {
        let asks = |now, given, pods: Option<&str>| {
            let mut gathered = called(now, given, pods.map(deployment));
            gathered.deployment = Some(deployment("tmp"));
            let judged = judge(&callee(), &gathered);
            assert_eq!(judged.hold, None, "what runs is not held up");
            judged.asks
        };
        let with = Some("service-tokens");
        assert!(!asks(100, None, with), "it has no token");
        assert!(!asks(100, Some((9, 50)), Some("tmp")), "its pods have none");
        assert!(!asks(100, Some((9, 95)), with), "not every pod may have it");
        assert!(asks(100, Some((9, 90)), with));
        assert!(asks(100, None, None), "it has no pods");
    }

    #[test]
    fn who_calls_no_longer_is_let_through_a_little_longer() {
        let mut gathered = called(50, None, None);
        gathered.tokens.accepted = judge(&callee(), &gathered).accepts.unwrap();
        gathered.tokens.callers.clear();
        for (now, left) in [(50, true), (59, true), (60, false)] {
            gathered.tokens.now = at(now);
            let accepts = judge(&callee(), &gathered).accepts.unwrap();
            assert_eq!(accepts.contains_key("shop"), left, "{now}");
            gathered.tokens.accepted = accepts;
        }
    }

    #[test]
    fn without_the_grant_nothing_is_written_and_the_condition_says_what_to_apply() {
        let mut gathered = called(50, None, None);
        gathered.tokens.refused.insert("fleet".into());
        let judged = judge(&callee(), &gathered);
        assert_eq!(reason(&judged).1, Reason::NoGrant);
        assert!(judged.hold.unwrap().message.contains("kubectl apply -n fleet -k"));
        assert_eq!(judged.accepts, None);

        let mut gathered = calling(50, Some(0));
        gathered.tokens.refused.insert("elsewhere".into());
        assert_eq!(
            reason(&judge(&caller(), &gathered)).1,
            Reason::AsSpecified,
            "a namespace that does not matter"
        );
    }
}
