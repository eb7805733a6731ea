//! Takes a checked service; gives the children as they should be. Pure.

pub mod disruption;
pub mod monitor;
pub mod network;
pub mod overrides;
pub mod placement;
pub mod scaling;
pub mod tokens;
pub mod wiring;

use super::{
    revision,
    validate::{Deployed, invalid, shape::seconds},
};
use crate::{
    apply::{Kind, Record},
    controllers::{
        meta::{Family, restricted_container, restricted_pod},
        workload::{self, name},
    },
};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            ConfigMap, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HTTPGetAction, Lifecycle,
            LifecycleHandler, PersistentVolumeClaim, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
            Secret, Service, ServicePort, ServiceSpec, SleepAction, Volume, VolumeMount,
        },
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
};
use stomaton_crds::{conditions::Summary, keys};

/// User and group of every service.
const USER: i64 = 10001;
/// Between a pod's end being announced and its process being told: time for everybody to stop sending to it.
const PRE_STOP_SECONDS: i64 = 3;
const GRACE_SECONDS: i64 = 30;
const RESOURCES: [&str; 3] = ["50m", "64Mi", "512Mi"];

/// Children as they should be; nothing is known of how they are.
#[derive(Debug)]
pub struct Prepared {
    /// First, so that the name resolves before the pods run.
    pub service: Service,
    /// Its files, if it has any.
    pub files: Option<ConfigMap>,
    /// Tokens that it accepts and shows.
    pub tokens: Vec<Secret>,
    /// Its data.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Who may talk to it, and to whom it may talk.
    pub network: Option<NetworkPolicy>,
    /// The pods. How many there are is not its to say: see [`Self::count`].
    pub deployment: Deployment,
    /// The revision of these pods, and what happens when it fails.
    pub revision: revision::Choice,
    /// Who decides how many pods there are.
    pub count: scaling::Count,
    /// What a drain may take away.
    pub budget: Option<PodDisruptionBudget>,
    /// By what a Prometheus finds the metrics.
    pub monitor: monitor::Monitor,
    /// What all of them have in common.
    pub family: Family,
}

impl Prepared {
    /// Kinds and names of the children that are known by their watches, but the revisions: those that stay.
    pub fn names(&self) -> BTreeSet<(String, String)> {
        let Self { service, deployment, count, budget, monitor, .. } = self;
        let autoscaler = count.autoscaler.as_ref().map(|autoscaler| match autoscaler {
            scaling::Autoscaler::Hpa(hpa) => name(&**hpa),
            scaling::Autoscaler::Keda(object) => name(&**object),
        });
        let several = [autoscaler, budget.as_ref().map(name), monitor.object.as_ref().map(name)];
        [name(service), name(deployment)].into_iter().chain(several.into_iter().flatten()).collect()
    }

    /// The children that come and go with the spec and are known by the record on the Service.
    pub fn optional(&self) -> Record {
        let named = |kind, name: Option<&String>| name.map(|name| (kind, name.clone()));
        let files = self.files.iter().filter_map(|f| named(Kind::ConfigMap, f.metadata.name.as_ref()));
        let owned = self.claims.iter().filter(|claim| claim.metadata.owner_references.is_some());
        let claims = owned.filter_map(|c| named(Kind::PersistentVolumeClaim, c.metadata.name.as_ref()));
        let network =
            self.network.iter().filter_map(|n| named(Kind::NetworkPolicy, n.metadata.name.as_ref()));
        let tokens = self.tokens.iter().filter_map(|s| named(Kind::Secret, s.metadata.name.as_ref()));
        Record(files.chain(claims).chain(network).chain(tokens).collect())
    }
}

/// The children of `wanted`, or what of its overrides is refused.
pub fn build(wanted: &Deployed) -> Result<Prepared, Summary> {
    let deployment = deployment(wanted)?;
    let template = deployment.spec.as_ref().map(|s| &s.template);
    Ok(Prepared {
        service: service(wanted),
        files: wiring::files(wanted).filter(|_| wanted.granted()),
        tokens: tokens::secrets(wanted),
        claims: wiring::claims(wanted),
        network: network::policy(wanted),
        revision: revision::Choice {
            wanted: template.map_or_else(String::new, |t| revision::name(&wanted.name, t)),
            instead: None,
            on_failure: wanted.shape.rollout.on_failure,
        },
        deployment,
        count: scaling::count(wanted),
        budget: disruption::budget(wanted),
        monitor: monitor::monitor(wanted),
        family: wanted.family.clone(),
    })
}

/// The label that pods are selected by: one that can never change, since a selector cannot.
pub fn selector(name: &str) -> BTreeMap<String, String> {
    [(keys::SERVICE.to_owned(), name.to_owned())].into()
}

fn service(wanted: &Deployed) -> Service {
    let main_port = ServicePort {
        name: Some("http".into()),
        port: wanted.port,
        target_port: Some(IntOrString::String("http".into())),
        ..ServicePort::default()
    };
    Service {
        metadata: wanted.family.child(&wanted.name),
        spec: Some(ServiceSpec {
            selector: Some(selector(&wanted.name)),
            ports: Some(iter::once(main_port).chain(wiring::service_ports(&wanted.wiring)).collect()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn deployment(wanted: &Deployed) -> Result<Deployment, Summary> {
    let rollout = &wanted.shape.rollout;
    Ok(Deployment {
        metadata: wanted.family.child(&wanted.name),
        spec: Some(DeploymentSpec {
            selector: LabelSelector { match_labels: Some(selector(&wanted.name)), match_expressions: None },
            strategy: Some(strategy(wanted)),
            // The API server keeps no 0; wanting it would look like drift for ever.
            min_ready_seconds: rollout.min_ready.map(seconds).filter(|seconds| *seconds > 0),
            progress_deadline_seconds: Some(seconds(rollout.progress_deadline)),
            template: template(wanted)?,
            ..DeploymentSpec::default()
        }),
        status: None,
    })
}

/// A pod goes only when its successor is ready, unless the successor needs what only one pod can have.
fn strategy(wanted: &Deployed) -> DeploymentStrategy {
    if wanted.wiring.one_at_a_time() {
        // The successor could not have the volume while a pod on another node has it.
        return DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None };
    }
    DeploymentStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(wanted.shape.rollout.max_surge.clone()),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}

fn template(wanted: &Deployed) -> Result<PodTemplateSpec, Summary> {
    let pod = placement::place(wanted, pod(wanted));
    let template = PodTemplateSpec { metadata: Some(pod_metadata(wanted)), spec: Some(pod) };
    match &wanted.shape.overrides {
        Some(overrides) => overrides::merged(template, overrides).map_err(invalid),
        None => Ok(template),
    }
}

fn pod_metadata(wanted: &Deployed) -> ObjectMeta {
    let hashes = wiring::hashes(wanted);
    ObjectMeta { annotations: (!hashes.is_empty()).then_some(hashes), ..wanted.family.pod() }
}

fn pod(wanted: &Deployed) -> PodSpec {
    let tmp =
        Volume { name: "tmp".into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() };
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
        volumes: Some(
            iter::once(tmp).chain(wiring::volumes(wanted)).chain(tokens::volumes(wanted)).collect(),
        ),
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
    let main_port =
        ContainerPort { name: Some("http".into()), container_port: wanted.port, ..ContainerPort::default() };
    let tmp = VolumeMount { name: "tmp".into(), mount_path: "/tmp".into(), ..VolumeMount::default() };
    let given = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    Container {
        name: "service".into(),
        image: Some(wanted.image.clone()),
        command: given(&wanted.command),
        args: given(&wanted.args),
        env: Some(env(wanted)),
        env_from: wiring::env_from(&wanted.wiring),
        ports: Some(iter::once(main_port).chain(wiring::container_ports(&wanted.wiring)).collect()),
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
        resources: Some(workload::resources(wanted.resources.as_ref(), RESOURCES)),
        security_context: Some(restricted_container(USER)),
        volume_mounts: Some(
            iter::once(tmp).chain(wiring::mounts(&wanted.wiring)).chain(tokens::mounts(wanted)).collect(),
        ),
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
    let plain = wanted.env.iter().map(|e| variable(&e.name, &e.value));
    let urls = wanted.dependencies.urls.iter().map(|e| variable(&e.name, &e.value));
    own.into_iter().chain(plain).chain(wiring::secret_env(&wanted.wiring)).chain(urls).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::stomaton_service::{
        gather::{
            Gathered,
            grants::Grants,
            neighbours::{Neighbour, Neighbours},
        },
        in_use::Around,
        validate::{Validated, validate},
    };
    use serde_json::json;

    fn prepared(spec: serde_json::Value) -> Prepared {
        from(spec, &Gathered::default())
    }

    fn from(spec: serde_json::Value, gathered: &Gathered) -> Prepared {
        build(&checked(spec, gathered)).unwrap()
    }

    /// A service with this spec, checked, among this.
    pub fn wanted(spec: serde_json::Value, around: Around) -> Deployed {
        checked(spec, &Gathered { around, ..Gathered::default() })
    }

    fn checked(spec: serde_json::Value, gathered: &Gathered) -> Deployed {
        let object = serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "StomatonService",
            "metadata": {"name": "content", "namespace": "fleet", "uid": "u"},
            "spec": spec,
        }))
        .unwrap();
        match validate(&object, gathered) {
            Ok(Validated::Deployed(wanted)) => *wanted,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_least_there_is_to_say() {
        let Prepared { service, deployment, files, claims, network, .. } =
            prepared(json!({"image": "fleet:1"}));
        assert!(files.is_none() && claims.is_empty() && network.is_none());
        insta::assert_yaml_snapshot!("least_service", service);
        insta::assert_yaml_snapshot!("least_deployment", deployment);
    }

    #[test]
    fn everything_there_is_to_say() {
        let Prepared { service, deployment, .. } = prepared(json!({
            "image": "fleet@sha256:00", "command": ["/fleet"], "args": ["serve", "content"], "port": 9000, "replicas": 3,
            "env": [{"name": "A", "value": "$(PORT)"}, {"name": "EMPTY", "value": ""}],
            "resources": {"requests": {"cpu": "0.5"}, "limits": {}},
            "health": {"livePath": "/l", "readyPath": "/r"},
        }));
        insta::assert_yaml_snapshot!("all_service", service);
        insta::assert_yaml_snapshot!("all_deployment", deployment);
    }

    #[test]
    fn everything_a_service_can_be_given() {
        let prepared = prepared(json!({
            "image": "fleet:1",
            "ports": [{"name": "admin", "port": 9090}],
            "secretEnv": [{"name": "KEY", "secret": "keys", "key": "api"}],
            "envFrom": [{"secret": "all", "prefix": "ALL_"}, {"configMap": "more"}],
            "bindings": [{"name": "mongodb", "secret": "mongo", "keys": [{"key": "uri"}]}],
            "config": [{"path": "/etc/content/a.yaml", "content": "a: 1"}, {"path": "/data/seed", "content": ""}],
            "volumes": [
                {"name": "data", "mountPath": "/data", "size": "10Gi"},
                {"name": "cache", "mountPath": "/cache", "size": "1Gi", "onDelete": "Delete", "access": "ReadWriteMany", "storageClass": "fast"},
            ],
        }));
        assert_eq!(
            prepared.optional().to_string(),
            "ConfigMap/content-config-fa0d63f2 PersistentVolumeClaim/content-cache",
            "data that stays is never pruned"
        );
        insta::assert_yaml_snapshot!("wired_service", prepared.service);
        insta::assert_yaml_snapshot!("wired_files", prepared.files);
        insta::assert_yaml_snapshot!("wired_claims", prepared.claims);
        insta::assert_yaml_snapshot!("wired_deployment", prepared.deployment);
    }

    #[test]
    fn a_policy_allows_what_is_known_and_nothing_else() {
        let spec = json!({
            "image": "fleet:1",
            "ports": [{"name": "admin", "port": 9090}],
            "dependsOn": [{"name": "db"}, {"name": "search", "namespace": "shared"}, {"name": "mono"}, {"name": "far"}],
            "networkPolicy": {
                "ingressFrom": [{"namespaceLabels": {"team": "ops"}}],
                "egressTo": [{"cidr": "10.20.0.0/16", "ports": [5432]}, {"peer": {"podLabels": {"app": "redis"}}}],
            },
        });
        let (own, shared) = ("fleet".to_owned(), "shared".to_owned());
        let neighbour = |role: &str, external: serde_json::Value| Neighbour {
            role: serde_json::from_value(json!(role)).unwrap(),
            ready: true,
            url: Some("http://somewhere".into()),
            ports: vec![IntOrString::Int(8000)],
            external: serde_json::from_value(external).unwrap(),
            asks_for_tokens: false,
        };
        let known = [
            ((own.clone(), "db".to_owned()), neighbour("Shared", json!(null))),
            ((shared.clone(), "search".to_owned()), neighbour("Shared", json!(null))),
            ((own.clone(), "mono".to_owned()), neighbour("External", json!({"serviceName": "legacy"}))),
            ((own.clone(), "far".to_owned()), neighbour("External", json!({"address": "192.0.2.7"}))),
        ];
        let legacy =
            json!({"spec": {"selector": {"app": "legacy"}, "ports": [{"port": 80, "targetPort": "web"}]}});
        let gathered = Gathered {
            neighbours: Neighbours {
                known: known.into(),
                callers: [(own.clone(), "front".to_owned())].into(),
                cycle: None,
            },
            grants: Grants::all("shared", "fleet"),
            referred: [((own, "mono".to_owned()), serde_json::from_value(legacy).unwrap())].into(),
            ..Gathered::default()
        };
        insta::assert_yaml_snapshot!("network", from(spec, &gathered).network);
        let open = json!({"image": "fleet:1", "networkPolicy": {"mode": "Open"}});
        assert!(prepared(open).network.is_none());
    }

    #[test]
    fn only_another_content_makes_another_hash() {
        let hash = |files: serde_json::Value| {
            let prepared = prepared(json!({"image": "i", "config": files}));
            prepared.deployment.spec.unwrap().template.metadata.unwrap().annotations.unwrap()
                [keys::CONFIG_HASH]
                .clone()
        };
        let (a, b) = (json!({"path": "/a", "content": "1"}), json!({"path": "/b", "content": "2"}));
        assert_eq!(hash(json!([a, b])), hash(json!([b, a])));
        assert_ne!(hash(json!([a, b])), hash(json!([{"path": "/a", "content": "12"}, b])));
    }
}
