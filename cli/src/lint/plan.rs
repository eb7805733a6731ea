//! What the parts of a plan say of each other. Pure. The API server refuses most of this too, and the operator the rest.

use std::{collections::BTreeMap, time::Duration};
use stomaton_crds::v1alpha1::{Bad, Class, Gate, Gateway, Judge, MigrationPlanSpec, Profile, Stage, Windows};

/// Bounds by which the edge counts what is slow.
const BOUNDS: [u64; 10] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Audiences that no step can name.
const RESERVED: [&str; 2] = ["public", "testers"];

/// What is wrong with a plan, with these Gateways beside it.
pub fn problems(plan: &MigrationPlanSpec, gateways: &[(String, Gateway)]) -> Vec<String> {
    let mut found = routes(plan);
    found.extend(plan.cycle().map(|routes| {
        format!(
            "routes {} wait for each other: take one of them out of `dependsOn`, or change its stage",
            routes.join(", ")
        )
    }));
    // One is enough: the others say the same of the same group.
    found.extend(plan.routes.iter().find_map(|route| plan.discord(route)));
    found.extend(plan.routes.iter().find_map(|route| plan.misplaced(route)));
    found.extend(plan.undrillable());
    found.extend(plan.stages.iter().flat_map(gates));
    found.extend(plan.profiles.iter().flat_map(ramp));
    found.extend(plan.judges.iter().filter_map(judge));
    found.extend(windows(&plan.windows));
    let gateway = gateways.iter().find(|(name, _)| *name == plan.gateway_ref.name);
    found.extend(gateway.into_iter().flat_map(|(name, gateway)| at_the_edge(plan, name, gateway)));
    found
}

fn routes(plan: &MigrationPlanSpec) -> Vec<String> {
    let mut found = Vec::new();
    for route in &plan.routes {
        let name = &route.name;
        if !plan.profiles.iter().any(|profile| profile.name == route.profile) {
            let profile = &route.profile;
            found.push(format!(
                "route {name} names profile {profile}, which is not there: add it under spec.profiles"
            ));
        }
        if let Some(stage) =
            route.stage.as_ref().filter(|stage| !plan.stages.iter().any(|s| s.name == **stage))
        {
            found.push(format!(
                "route {name} names stage {stage}, which is not there: add it under spec.stages"
            ));
        }
        for other in route.depends_on.iter().filter(|other| !plan.routes.iter().any(|r| r.name == **other)) {
            found.push(format!("route {name} waits for {other}, which this plan does not have: `dependsOn` names routes of the plan"));
        }
        if route.start_at.is_some_and(|at| at.step.is_some() == at.done) {
            found.push(format!("route {name}: `startAt` is a `step`, or `done: true`: write one of them"));
        }
        let twice = route.fallback.as_ref().is_some_and(|fallback| !fallback.also_for.is_empty());
        if twice && route.class == Class::Write {
            found.push(format!(
                "route {name}: a request of a Write route is not made twice: take `fallback.alsoFor` out"
            ));
        }
    }
    found
}

fn gates(stage: &Stage) -> Vec<String> {
    let name = &stage.name;
    let mut found = Vec::new();
    for gate in stage.gates.iter().chain(&stage.exit) {
        let Gate { name: gate, services, job, object, approval, drill } = gate;
        let said = [services.is_some(), job.is_some(), object.is_some(), approval.is_some(), drill.is_some()];
        if said.iter().filter(|said| **said).count() != 1 {
            found.push(format!(
                "gate {gate} of stage {name} is not exactly one of services, job, object, approval and drill"
            ));
        }
    }
    if stage.exit.iter().any(|gate| gate.drill.is_some()) {
        found.push(format!("stage {name} has a drill in `exit`: put it under `gates`"));
    }
    if stage.gates.iter().filter(|gate| gate.drill.is_some()).count() > 1 {
        found.push(format!("stage {name} has several drills: leave one"));
    }
    found
}

fn ramp(profile: &Profile) -> Vec<String> {
    let name = &profile.name;
    let mut found = Vec::new();
    let mut before: BTreeMap<Option<&str>, i32> = BTreeMap::new();
    for (at, step) in profile.ramp.iter().enumerate() {
        let (audience, number) = (step.audience.as_deref(), at + 1);
        if audience.is_some_and(|audience| RESERVED.contains(&audience)) {
            found.push(format!("profile {name}: step {number} names a reserved audience: leave `audience` out to mean everybody; testers need no step"));
        }
        let last = before.insert(audience, step.permille);
        if let Some(last) = last.filter(|last| *last >= step.permille) {
            let now = step.permille;
            found.push(format!("profile {name}: step {number} has {now} after {last} per mille: weights ascend, those of each audience for themselves"));
        }
    }
    if profile.ramp.last().is_none_or(|step| step.permille != 1000 || step.audience.is_some()) {
        found.push(format!(
            "profile {name}: the ramp does not end at 1000 per mille for everybody: add that step"
        ));
    }
    found
}

fn judge(judge: &Judge) -> Option<String> {
    let name = &judge.name;
    match (judge.of == Bad::Prometheus, &judge.prometheus) {
        (true, None) => {
            return Some(format!(
                "judge {name}: what to ask is not said: add `prometheus`, with `bad` and `all`"
            ));
        }
        (false, Some(_)) => {
            return Some(format!("judge {name}: `prometheus` belongs to a judge of Prometheus: take it out"));
        }
        _ => {}
    }
    let counted = |bound: Duration| BOUNDS.iter().any(|ms| Duration::from_millis(*ms) == bound);
    match (judge.of == Bad::Slow, judge.slower_than) {
        (true, Some(bound)) if counted(bound.into()) => None,
        (true, Some(bound)) => Some(format!(
            "judge {name}: the edge does not count by {bound}: write one of 5ms, 10ms, 25ms, 50ms, 100ms, 250ms, 500ms, 1s, 2500ms, 5s"
        )),
        (true, None) => Some(format!("judge {name}: what is slow is not said: add `slowerThan`")),
        (false, Some(_)) => {
            Some(format!("judge {name}: `slowerThan` belongs to a judge of Slow: take it out"))
        }
        (false, None) => None,
    }
}

fn windows(windows: &Windows) -> Vec<String> {
    let mut found = Vec::new();
    for window in &windows.advance {
        let (from, lasts) = (&window.from, Duration::from(window.lasts));
        if !is_time_of_day(from) {
            found.push(format!("window from {from}: that is no time of day: write it as \"09:00\""));
        }
        if window.lasts.is_negative() || lasts.is_zero() || lasts > DAY {
            found.push(format!(
                "window from {from}: lasts {}: more than nothing, and at most 24h",
                window.lasts
            ));
        }
    }
    for freeze in windows.freezes.iter().filter(|freeze| freeze.from.0 >= freeze.to.0) {
        found.push(format!(
            "freeze from {} to {}: it ends before it begins: change them round",
            freeze.from.0, freeze.to.0
        ));
    }
    found
}

fn is_time_of_day(text: &str) -> bool {
    let two = |part: &str, below: u32| {
        part.len() == 2
            && part.bytes().all(|b| b.is_ascii_digit())
            && part.parse::<u32>().is_ok_and(|n| n < below)
    };
    text.split_once(':').is_some_and(|(hour, minute)| two(hour, 24) && two(minute, 60))
}

/// What the plan means, and the Gateway does not have.
fn at_the_edge(plan: &MigrationPlanSpec, name: &str, gateway: &Gateway) -> Vec<String> {
    let has = |route: &str| gateway.spec.routes.iter().any(|r| r.name == route);
    let missing = plan.routes.iter().filter(|route| !has(&route.name));
    missing
        .map(|route| format!("route {} is not in Gateway {name}: add it there, or mend its name", route.name))
        .collect()
}
