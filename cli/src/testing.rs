//! Objects for tests.

use serde_json::json;
use stomaton_crds::v1alpha1::MigrationPlan;

/// A plan of two routes in one group and one for itself: `content` on its way, `media` done, `orders` not begun.
pub fn plan() -> MigrationPlan {
    let at = "2026-01-02T03:04:05.000000Z";
    let judge = json!({
        "name": "errors", "verdict": "Safe", "harmMillinats": -1373, "safeMillinats": 10621,
        "counted": {"requests": 1000, "bad": 3, "monolithRequests": 4000, "monolithBad": 12},
    });
    let slow =
        json!({"name": "slow", "verdict": "NotYet", "missing": "about 400 more answers of the service"});
    let status = json!({
        "observedGeneration": 4, "specHash": "0123456789abcdef",
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Migrating", "message": "route content waits for evidence",
            "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 4,
        }],
        "summary": {"done": "1/3", "now": "content 25.0 %"},
        "routes": [
            {
                "name": "content", "id": "c0", "phase": "Ramp", "step": 2, "attempt": 1, "revision": 7, "since": at,
                "weights": {"desired": 250, "applied": 250, "observed": 248},
                "held": {"by": "alice", "reason": "sale", "at": at}, "waitsFor": "Resume",
                "evidence": {"requests": 1000, "bad": 3, "monolithRequests": 4000, "monolithBad": 12},
                "judges": [judge, slow],
            },
            {"name": "media", "id": "m0", "phase": "Done", "step": 3, "attempt": 1,
             "weights": {"desired": 1000, "applied": 1000}},
        ],
        "history": [{
            "at": at, "route": "content", "phase": "Ramp", "permille": 250, "revision": 7,
            "acknowledged": "2026-01-02T03:04:05.120000Z", "message": "enough was counted",
        }],
        "acts": [{
            "name": "shop-hold-1", "uid": "u", "action": "Hold", "route": "content", "user": "alice",
            "outcome": "Done", "message": "held", "at": at,
        }],
    });
    let plan = json!({
        "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "MigrationPlan",
        "metadata": {"name": "shop", "namespace": "fleet", "uid": "plan-uid", "generation": 4},
        "spec": {
            "gatewayRef": {"name": "edge"}, "budget": {"movingRoutes": 2},
            "routes": [
                {"name": "content", "target": {"name": "content"}, "profile": "slow", "group": "g"},
                {"name": "media", "target": {"name": "media", "port": 80}, "profile": "slow", "group": "g"},
                {"name": "orders", "target": {"name": "orders"}, "profile": "slow", "dependsOn": ["media"]},
            ],
            "profiles": [{"name": "slow", "ramp": [
                {"permille": 50}, {"permille": 250, "minHold": "10m"}, {"permille": 1000, "approval": true},
            ]}],
        },
        "status": status,
    });
    serde_json::from_value(plan).unwrap()
}

/// The same in two stages: `shared` is done, `domain` waits for an approval.
pub fn staged() -> MigrationPlan {
    let mut plan = plan();
    let stages = json!([
        {"name": "shared", "gates": [{"name": "services", "services": {}}]},
        {"name": "domain", "gates": [
            {"name": "dry-run", "job": {"cronJob": "data-dry-run"}}, {"name": "go", "approval": {}},
        ]},
    ]);
    plan.spec.stages = serde_json::from_value(stages).unwrap();
    plan.spec.routes[2].stage = Some("domain".into());
    let known = json!([
        {"name": "shared", "phase": "Done", "gates": [{"name": "services", "state": "Passed"}]},
        {"name": "domain", "gates": [
            {"name": "dry-run", "state": "Passed", "attempt": 1, "message": "Job shop-dry-run completed"},
            {"name": "go", "state": "Asked", "message": "kubectl stomaton approve --stage domain"},
        ]},
    ]);
    if let Some(status) = &mut plan.status {
        status.stages = serde_json::from_value(known).unwrap();
    }
    plan
}
