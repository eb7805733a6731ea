//! Files that are right, and files that are wrong in each way.

use super::*;

const PLAN: &str = "
apiVersion: fleet.stomaton.com/v1alpha1
kind: MigrationPlan
metadata: {name: shop}
spec:
  gatewayRef: {name: edge}
  mode: Enforce
  windows:
    advance: [{days: [Mon, Tue], from: \"09:00\", lasts: 8h, timeZone: Europe/London}]
    freezes: [{from: \"2026-12-20T00:00:00Z\", to: \"2027-01-04T00:00:00Z\", reason: sale}]
  routes:
  - {name: content, target: {name: content}, profile: slow, group: g}
  - {name: orders, target: {name: orders}, profile: slow, group: g, dependsOn: []}
  profiles:
  - name: slow
    ramp:
    - {audience: internal, permille: 1000}
    - {permille: 50}
    - {permille: 1000, approval: true}
  judges:
  - {name: slow, of: Slow, slowerThan: 1s}
";

const GATEWAY: &str = "
apiVersion: fleet.stomaton.com/v1alpha1
kind: Gateway
metadata: {name: edge}
spec:
  defaultBackend: {name: monolith}
  resources: {requests: {cpu: 100m, memory: 64Mi}}
  routes:
  - {name: content, match: {pathPrefix: /content}, gzip: false}
  - {name: orders, match: {pathPrefix: /orders}}
";

const ACTION: &str = "
apiVersion: fleet.stomaton.com/v1alpha1
kind: PlanAction
metadata: {name: stop}
spec: {plan: shop, action: Hold, route: content, user: alice}
";

const OTHER: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: else}
data: {anything: goes}
";

fn lint_text(text: String) -> Report {
    lint(&[("f.yaml".to_owned(), text)])
}

/// What is said of a text in which `from` is `to`.
fn said(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in {text}");
    lint_text(text.replacen(from, to, 1)).findings.join("\n")
}

#[test]
fn what_is_right_is_let_be() {
    let report = lint_text([PLAN, GATEWAY, ACTION, OTHER].join("---"));
    assert_eq!((report.objects, report.findings), (3, Vec::new()));
}

#[test]
fn a_field_is_named_by_its_path() {
    for (from, to, expected) in [
        (
            "{permille: 50}",
            "{permile: 50}",
            "spec.profiles[0].ramp[1].permile is no field: here are approval,",
        ),
        ("{permille: 50}", "{permile: 50}", "spec.profiles[0].ramp[1].permille is missing: write it"),
        ("permille: 50", "permille: 5000", "spec.profiles[0].ramp[1].permille is 5000: at most 1000"),
        ("permille: 50", "permille: many", "permille is \"many\": write a whole number"),
        ("mode: Enforce", "mode: Enforced", "spec.mode is \"Enforced\": write one of Enforce, Observe"),
        ("name: orders,", "name: content,", "spec.routes[1].name is \"content\" again"),
        ("metadata: {name: shop}", "metadata: {}", "metadata.name is missing"),
        ("kind: MigrationPlan", "kind: Migrationplan", "Migrationplan is no kind of fleet.stomaton.com"),
        ("v1alpha1", "v1", "apiVersion is fleet.stomaton.com/v1: write fleet.stomaton.com/v1alpha1"),
        ("spec:", "status: {}\nspecs:", "specs is no field"),
    ] {
        let said = said(PLAN, from, to);
        assert!(said.contains(expected), "{to}: {said}");
    }
    let said = said(PLAN, "permille: 50", "permille: 0");
    assert!(
        said.starts_with("f.yaml: MigrationPlan/shop: spec.profiles[0].ramp[1].permille is 0: at least 1")
    );
}

#[test]
fn the_parts_of_a_plan_agree() {
    for (from, to, expected) in [
        ("profile: slow, group: g}", "profile: fast, group: g}", "route content names profile fast"),
        ("profile: slow, group: g}", "profile: fast, group: g}", "are of one group and have two profiles"),
        (
            "dependsOn: []",
            "dependsOn: [media]",
            "route orders waits for media, which this plan does not have",
        ),
        ("dependsOn: []", "dependsOn: [orders]", "routes orders wait for each other"),
        ("dependsOn: []", "stage: first", "route orders names stage first, which is not there"),
        (
            "  profiles:\n",
            "  stages: [{name: first, gates: [{name: g}]}]\n  profiles:\n",
            "gate g of stage first is not exactly one of",
        ),
        (
            "  profiles:\n",
            "  stages: [{name: first, gates: [{name: g, drill: {route: orders}}]}]\n  profiles:\n",
            "stage first drills route orders: name a route of this stage",
        ),
        ("{permille: 50}", "{permille: 1000}", "step 3 has 1000 after 1000 per mille"),
        ("- {permille: 1000, approval: true}", "- {permille: 900}", "does not end at 1000 per mille"),
        ("audience: internal", "audience: testers", "step 1 names a reserved audience"),
        ("from: \"09:00\"", "from: \"24:00\"", "window from 24:00: that is no time of day"),
        ("lasts: 8h", "lasts: 25h", "at most 24h"),
        ("to: \"2027-01-04", "to: \"2026-01-04", "it ends before it begins"),
        ("slowerThan: 1s", "slowerThan: 3s", "the edge does not count by 3s"),
        (", slowerThan: 1s", "", "what is slow is not said"),
        ("of: Slow", "of: Errors", "belongs to a judge of Slow"),
        ("of: Slow, slowerThan: 1s", "of: Prometheus", "what to ask is not said"),
        ("dependsOn: []", "startAt: {step: 1}", "were at two places: give them the same `startAt`"),
        ("group: g}", "startAt: {step: 4}}", "is step 4, but profile slow ends with step 3"),
        ("group: g}", "startAt: {}}", "`startAt` is a `step`, or `done: true`"),
        ("group: g}", "class: Write, fallback: {alsoFor: [PUT]}}", "is not made twice"),
    ] {
        let said = said(PLAN, from, to);
        assert!(said.contains(expected), "{to}: {said}");
    }
}

#[test]
fn objects_of_several_files_belong_together() {
    let files = |plan: &str| {
        let gateway = GATEWAY.replace("- {name: orders, match: {pathPrefix: /orders}}", "");
        lint(&[("plan.yaml".to_owned(), plan.to_owned()), ("edge.yaml".to_owned(), gateway)]).findings
    };
    let expected =
        "plan.yaml: MigrationPlan/shop: route orders is not in Gateway edge: add it there, or mend its name";
    assert_eq!(files(PLAN), [expected]);
    assert!(files(&PLAN.replace("gatewayRef: {name: edge}", "gatewayRef: {name: other}")).is_empty());
    let act = lint_text([PLAN, ACTION].join("---").replace("route: content,", "route: media,"));
    assert_eq!(act.findings, ["f.yaml: PlanAction/stop: route media is not in plan shop: mend its name"]);
    let of_a_stage = [PLAN, ACTION].join("---").replace("Hold, route: content,", "Resume, stage: first,");
    let expected = "f.yaml: PlanAction/stop: stage first is not in plan shop: mend its name";
    assert_eq!(lint_text(of_a_stage).findings, [expected]);
}

#[test]
fn an_act_keeps_to_its_rules() {
    for (from, to, expected) in [
        ("action: Hold", "action: Halt", "Halt is for the whole plan"),
        (", route: content", "", "Hold is for a route: add `route`"),
        ("action: Hold", "action: Approve", "what is approved is not said"),
        (
            "user: alice",
            "user: alice, approves: {attempt: 1, step: 1, specHash: 0123456789abcdef}",
            "`approves` does not belong to Hold",
        ),
        ("route: content", "stage: first", "only Approve and Resume are for a stage"),
    ] {
        let said = said(ACTION, from, to);
        assert!(said.contains(expected), "{to}: {said}");
    }
}

#[test]
fn what_is_no_yaml_is_said_to_be_none() {
    let said = lint_text("a: [1\nb: }".to_owned()).findings;
    assert!(said.len() == 1 && said[0].starts_with("f.yaml: not YAML: "), "{said:?}");
    assert_eq!(lint_text(String::new()).findings, [""; 0]);
}
