//! Takes what a spec says of the number, place and replacement of pods; gives it checked, or what is wrong. Pure.

use super::invalid;
use crate::{
    args::ServiceAccounts,
    controllers::{stomaton_service::in_use::Around, workload::disruption},
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::time::Duration;
use stomaton_crds::{
    conditions::{Reason, State, Summary},
    v1alpha1::{
        Access, Disruption, Monitoring, Placement, PodOverrides, Rollout, Scaling, StomatonServiceSpec,
    },
};

/// How many pods, where, and how they are replaced: checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// Pods wanted; none: nobody said.
    pub replicas: Option<i32>,
    /// How many pods, by load.
    pub scaling: Option<Scaling>,
    /// What a drain may take away.
    pub disruption: Option<Disruption>,
    /// Where pods run.
    pub placement: Placement,
    /// How a revision replaces another.
    pub rollout: Rollout,
    /// ServiceAccount of the pods.
    pub service_account: Option<String>,
    /// Metrics.
    pub monitoring: Option<Monitoring>,
    /// What pods have beyond the rest.
    pub overrides: Option<PodOverrides>,
    /// What the cluster has, and who sends traffic here.
    pub around: Around,
}

/// Checks the shape of a service.
pub fn shape(spec: &StomatonServiceSpec, around: &Around) -> Result<Shape, Summary> {
    if let Some(scaling) = &spec.scaling {
        check_scaling(scaling)?;
    }
    if let Some(disruption) = &spec.disruption {
        check_some(&disruption.max_unavailable, "disruption.maxUnavailable")?;
    }
    check_rollout(&spec.rollout)?;
    let one = spec.volumes.iter().find(|volume| volume.access == Access::ReadWriteOnce);
    if let Some(volume) = one
        && (spec.scaling.is_some() || spec.replicas.is_some_and(|replicas| replicas > 1))
    {
        return Err(invalid(format!(
            "volume {} is ReadWriteOnce and allows one pod: leave out `scaling`, and set `replicas` to 1 at most",
            volume.name
        )));
    }
    if let Some(port) = spec.monitoring.as_ref().and_then(|m| m.port.as_ref())
        && port != "http"
        && !spec.ports.iter().any(|p| p.name == *port)
    {
        return Err(invalid(format!("`monitoring.port` {port} is not `http` and not one of `ports`")));
    }
    if let Some(name) = &spec.service_account_name {
        check_account(name, &around.accounts)?;
    }
    Ok(Shape {
        replicas: spec.replicas,
        scaling: spec.scaling.clone(),
        disruption: spec.disruption.clone(),
        placement: spec.placement.clone(),
        rollout: spec.rollout.clone(),
        service_account: spec.service_account_name.clone(),
        monitoring: spec.monitoring.clone(),
        overrides: spec.pod_template.clone(),
        around: around.clone(),
    })
}

fn check_scaling(scaling: &Scaling) -> Result<(), Summary> {
    let Scaling { min, max, cpu_percent, memory_percent, triggers } = scaling;
    if min > max {
        return Err(invalid(format!("`scaling.min` {min} is more than `scaling.max` {max}")));
    }
    if *min <= 0 && triggers.is_empty() {
        return Err(invalid(
            "`scaling.min: 0` needs `triggers`: nothing else would start the first pod".into(),
        ));
    }
    if cpu_percent.is_none() && memory_percent.is_none() && triggers.is_empty() {
        return Err(invalid(
            "`scaling` must say by what: `cpuPercent`, `memoryPercent` or `triggers`".into(),
        ));
    }
    Ok(())
}

fn check_rollout(rollout: &Rollout) -> Result<(), Summary> {
    check_some(&rollout.max_surge, "rollout.maxSurge")?;
    let deadline = seconds(rollout.progress_deadline);
    if deadline < 1 {
        return Err(invalid("`rollout.progressDeadline` must be at least 1s".into()));
    }
    match rollout.min_ready.map(seconds) {
        Some(ready) if ready >= deadline => Err(invalid(format!(
            "`rollout.minReady` ({ready} s) must be shorter than `rollout.progressDeadline` ({deadline} s)"
        ))),
        _ => Ok(()),
    }
}

/// At least one pod, or one percent.
fn check_some(amount: &IntOrString, field: &str) -> Result<(), Summary> {
    disruption::fault(amount, field).map_or(Ok(()), |fault| Err(invalid(fault)))
}

fn check_account(name: &str, allowed: &ServiceAccounts) -> Result<(), Summary> {
    if allowed.allows(name) {
        return Ok(());
    }
    Err(Summary {
        state: State::Stalled,
        reason: Reason::NotAllowed,
        message: format!(
            "pods may not run as ServiceAccount {name}: take `serviceAccountName` out, or have the operator started with --allowed-service-accounts={name}"
        ),
    })
}

/// Whole seconds, as Kubernetes counts; a part of one counts as one.
pub fn seconds(duration: kube::core::Duration) -> i32 {
    let duration = Duration::from(duration);
    let up = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(up).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            (
                json!({"scaling": {"min": 3, "max": 2, "cpuPercent": 50}}),
                "`scaling.min` 3 is more than `scaling.max` 2",
            ),
            (
                json!({"scaling": {"min": 0, "max": 2, "cpuPercent": 50}}),
                "`scaling.min: 0` needs `triggers`: nothing else would start the first pod",
            ),
            (
                json!({"scaling": {"max": 2}}),
                "`scaling` must say by what: `cpuPercent`, `memoryPercent` or `triggers`",
            ),
            (
                json!({"disruption": {"maxUnavailable": 0}}),
                "`disruption.maxUnavailable` must be at least 1, or 1% to 100%",
            ),
            (json!({"rollout": {"maxSurge": "0%"}}), "`rollout.maxSurge` must be at least 1, or 1% to 100%"),
            (
                json!({"rollout": {"minReady": "5m", "progressDeadline": "300s"}}),
                "`rollout.minReady` (300 s) must be shorter than `rollout.progressDeadline` (300 s)",
            ),
            (
                json!({"monitoring": {"port": "admin"}}),
                "`monitoring.port` admin is not `http` and not one of `ports`",
            ),
            (
                json!({"serviceAccountName": "root"}),
                "pods may not run as ServiceAccount root: take `serviceAccountName` out, or have the operator started with --allowed-service-accounts=root",
            ),
        ];
        for (spec, message) in cases {
            let spec: StomatonServiceSpec = serde_json::from_value(spec).unwrap();
            assert_eq!(shape(&spec, &Around::default()).unwrap_err().message, message);
        }
    }

    #[test]
    fn a_service_account_that_is_allowed_is_used() {
        let spec: StomatonServiceSpec =
            serde_json::from_value(json!({"serviceAccountName": "reader"})).unwrap();
        for accounts in ["reader,writer", "*"] {
            let around = Around { accounts: accounts.parse().unwrap(), ..Around::default() };
            assert_eq!(shape(&spec, &around).unwrap().service_account.as_deref(), Some("reader"));
        }
        assert_eq!(shape(&spec, &Around::default()).unwrap_err().reason, Reason::NotAllowed);
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (text, expected) in [("1500ms", 2), ("2s", 2), ("1m", 60)] {
            assert_eq!(seconds(text.parse().unwrap()), expected);
        }
    }
}
