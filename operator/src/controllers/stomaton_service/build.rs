//! Takes a checked service; gives the children as they should be. Pure.

use super::validate::Deployed;
use crate::controllers::meta::{restricted_container, restricted_pod, surge_first};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        core::v1::{
            Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HTTPGetAction, Lifecycle,
            LifecycleHandler, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
            Service, ServicePort, ServiceSpec, SleepAction, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use std::collections::BTreeMap;
use stomaton_crds::keys;

/// User and group of every service.
const USER: i64 = 10001;
/// Between a pod's end being announced and its process being told: time for everybody to stop sending to it.
const PRE_STOP_SECONDS: i64 = 3;
const GRACE_SECONDS: i64 = 30;

/// Children as they should be; nothing is known of how they are.
#[derive(Debug)]
pub struct Prepared {
    /// First, so that the name resolves before the pods run.
    pub service: Service,
    /// The pods.
    pub deployment: Deployment,
}

/// The children of `wanted`.
pub fn build(wanted: &Deployed) -> Prepared {
    Prepared { service: service(wanted), deployment: deployment(wanted) }
}

/// The label that pods are selected by: one that can never change, since a selector cannot.
pub fn selector(name: &str) -> BTreeMap<String, String> {
    [(keys::SERVICE.to_owned(), name.to_owned())].into()
}

fn service(wanted: &Deployed) -> Service {
    Service {
        metadata: wanted.family.child(&wanted.name),
        spec: Some(ServiceSpec {
            selector: Some(selector(&wanted.name)),
            ports: Some(vec![ServicePort {
                name: Some("http".into()),
                port: wanted.port,
                target_port: Some(IntOrString::String("http".into())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn deployment(wanted: &Deployed) -> Deployment {
    Deployment {
        metadata: wanted.family.child(&wanted.name),
        spec: Some(DeploymentSpec {
            replicas: Some(wanted.replicas),
            selector: LabelSelector { match_labels: Some(selector(&wanted.name)), match_expressions: None },
            strategy: Some(surge_first()),
            template: PodTemplateSpec { metadata: Some(wanted.family.pod()), spec: Some(pod(wanted)) },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn pod(wanted: &Deployed) -> PodSpec {
    PodSpec {
        // A service does not talk to the API server, and needs no list of its neighbours in its environment.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(PodSecurityContext {
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            ..restricted_pod(USER)
        }),
        containers: vec![container(wanted)],
        volumes: Some(vec![Volume {
            name: "tmp".into(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    }
}

fn container(wanted: &Deployed) -> Container {
    let probe = |path: &str, period, failures| Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    let given = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    Container {
        name: "service".into(),
        image: Some(wanted.image.clone()),
        command: given(&wanted.command),
        args: given(&wanted.args),
        env: Some(env(wanted)),
        ports: Some(vec![ContainerPort {
            name: Some("http".into()),
            container_port: wanted.port,
            ..ContainerPort::default()
        }]),
        // Two minutes to start, then no patience: liveness waits until the start is over.
        startup_probe: Some(probe(&wanted.health.live_path, 1, 120)),
        readiness_probe: Some(probe(&wanted.health.ready_path, 2, 2)),
        liveness_probe: Some(probe(&wanted.health.live_path, 10, 3)),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: PRE_STOP_SECONDS }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(resources(wanted.resources.as_ref())),
        security_context: Some(restricted_container(USER)),
        volume_mounts: Some(vec![VolumeMount {
            name: "tmp".into(),
            mount_path: "/tmp".into(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

fn env(wanted: &Deployed) -> Vec<EnvVar> {
    let variable = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        // The API server drops an empty value; wanting it would look like drift for ever. Kubernetes expands
        // `$(NAME)`, but a value is promised to be taken as it is.
        value: (!value.is_empty()).then(|| value.replace('$', "$$")),
        value_from: None,
    };
    let own = [variable("SERVICE_NAME", &wanted.name), variable("PORT", &wanted.port.to_string())];
    own.into_iter().chain(wanted.env.iter().map(|e| variable(&e.name, &e.value))).collect()
}

fn resources(given: Option<&ResourceRequirements>) -> ResourceRequirements {
    let amounts = |amounts: &[(&str, &str)]| {
        Some(amounts.iter().map(|(what, much)| ((*what).to_owned(), Quantity((*much).to_owned()))).collect())
    };
    let Some(given) = given else {
        return ResourceRequirements {
            requests: amounts(&[("cpu", "50m"), ("memory", "64Mi")]),
            limits: amounts(&[("memory", "512Mi")]),
            claims: None,
        };
    };
    // The API server drops empty maps; wanting them would look like drift for ever.
    ResourceRequirements {
        requests: given.requests.clone().filter(|r| !r.is_empty()),
        limits: given.limits.clone().filter(|l| !l.is_empty()),
        claims: given.claims.clone().filter(|c| !c.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::stomaton_service::{
        gather::Gathered,
        validate::{Validated, validate},
    };
    use serde_json::json;

    fn prepared(spec: serde_json::Value) -> Prepared {
        let object = serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "StomatonService",
            "metadata": {"name": "content", "namespace": "fleet", "uid": "u"},
            "spec": spec,
        }))
        .unwrap();
        match validate(&object, &Gathered::default()) {
            Ok(Validated::Deployed(wanted)) => build(&wanted),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_least_there_is_to_say() {
        let Prepared { service, deployment } = prepared(json!({"image": "fleet:1"}));
        insta::assert_yaml_snapshot!("least_service", service);
        insta::assert_yaml_snapshot!("least_deployment", deployment);
    }

    #[test]
    fn everything_there_is_to_say() {
        let Prepared { service, deployment } = prepared(json!({
            "image": "fleet@sha256:00", "command": ["/fleet"], "args": ["serve", "content"], "port": 9000, "replicas": 3,
            "env": [{"name": "A", "value": "$(PORT)"}, {"name": "EMPTY", "value": ""}],
            "resources": {"requests": {"cpu": "0.5"}, "limits": {}},
            "health": {"livePath": "/l", "readyPath": "/r"},
        }));
        insta::assert_yaml_snapshot!("all_service", service);
        insta::assert_yaml_snapshot!("all_deployment", deployment);
    }
}
