//! The edge pods: NGINX under its supervisor, and the agent beside it. Pure.
//!
//! Two containers as two users, without a shared process namespace: a process of the same user could read the
//! agent's token. They meet in four directories in memory; their group makes the modes work.

use super::{
    super::{
        names,
        validate::{Valid, cohort::Secrets},
    },
    access, kill,
};
use crate::controllers::{
    meta::{restricted_container, restricted_pod, surge_first},
    workload::{placement::place, resources},
};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        core::v1::{
            ConfigMapProjection, Container, ContainerPort, DownwardAPIProjection, DownwardAPIVolumeFile,
            EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction, KeyToPath, ObjectFieldSelector,
            PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource, SecretProjection,
            ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use std::collections::BTreeSet;
use stomaton_crds::{ids, keys, v1alpha1::Certificate};

const NGINX_USER: i64 = 10101;
const AGENT_USER: i64 = 10102;
/// Group of both, and of the directories they meet in.
const GROUP: i64 = 20000;
/// 4 s until nobody sends to the pod any more, 30 s for requests under way, and slack.
const GRACE_SECONDS: i64 = 45;
const NGINX_RESOURCES: [&str; 3] = ["100m", "64Mi", "256Mi"];
const AGENT_RESOURCES: [&str; 3] = ["20m", "32Mi", "128Mi"];
const HTTP: &str = "http";
const STATE: &str = "state";

/// The Deployment of the edge.
pub fn deployment(valid: &Valid<'_>, image: &str) -> Deployment {
    let gateway = &valid.family.owner.name;
    let selector = access::selector(valid);
    let pod = place(&valid.gateway.spec.placement, &selector, pod(valid, image));
    Deployment {
        metadata: valid.family.child(&names::edge(gateway)),
        spec: Some(DeploymentSpec {
            selector: LabelSelector { match_labels: Some(selector), match_expressions: None },
            strategy: Some(surge_first()),
            template: PodTemplateSpec { metadata: Some(valid.family.pod()), spec: Some(pod) },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn pod(valid: &Valid<'_>, image: &str) -> PodSpec {
    let (spec, gateway, tokens) = (&valid.gateway.spec, &valid.family.owner.name, &valid.token_secrets);
    let certificates = spec.tls.as_ref().map_or(&[][..], |tls| &tls.certificates);
    let nginx_resources = resources(spec.resources.as_ref(), NGINX_RESOURCES);
    let nginx = Container { resources: Some(nginx_resources), ..nginx(image, certificates, tokens) };
    PodSpec {
        service_account_name: Some(names::edge(gateway)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(restricted_pod(GROUP)),
        containers: vec![nginx, agent(image, gateway)],
        volumes: Some(volumes(gateway, certificates, tokens)),
        ..PodSpec::default()
    }
}

fn nginx(image: &str, certificates: &[Certificate], tokens: &Secrets) -> Container {
    let has_tls = !certificates.is_empty();
    let mut ports = vec![port(HTTP, keys::EDGE_HTTP_PORT)];
    ports.extend(has_tls.then(|| port("https", keys::EDGE_HTTPS_PORT)));
    let mut mounts = vec![
        VolumeMount { read_only: Some(true), ..mount("run", "/run/edge") },
        mount("ctl", "/run/ctl"),
        mount("log", "/run/log"),
        mount("tmp", "/tmp"),
    ];
    let secret = |name, path| VolumeMount { read_only: Some(true), ..mount(name, path) };
    mounts.extend(has_tls.then(|| secret("tls", keys::EDGE_TLS_DIR)));
    mounts.extend((!tokens.is_empty()).then(|| secret("tokens", keys::EDGE_TOKENS_DIR)));
    #[rustfmt::skip]
    let command = [
        "/bin/edge", "supervise",
        "--control-socket", "/run/ctl/edge.sock",
        "--log-dir", "/run/log/edge",
        "--config", "/run/edge/nginx/current/nginx.conf",
        "--drain", "4s",
        "--nginx", "/bin/nginx",
        "--", "-p", "/tmp", "-e", "stderr",
    ];
    Container {
        name: "nginx".into(),
        image: Some(image.to_owned()),
        command: Some(command.map(Into::into).into()),
        ports: Some(ports),
        // No probe: the supervisor ends with NGINX, and whether the pod can serve is the agent's to say.
        security_context: Some(restricted_container(NGINX_USER)),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn agent(image: &str, gateway: &str) -> Container {
    let state_address = format!("0.0.0.0:{}", keys::EDGE_STATE_PORT);
    let http_port = keys::EDGE_HTTP_PORT.to_string();
    #[rustfmt::skip]
    let command = [
        "/bin/edge", "agent",
        "--namespace", "$(POD_NAMESPACE)", "--gateway", gateway, "--pod", "$(POD_NAME)",
        "--root", "/run/edge",
        "--control-socket", "/run/ctl/edge.sock",
        "--probe-socket", "/run/ctl/probe.sock",
        "--log-dir", "/run/log/edge",
        "--state-address", &state_address,
        "--http-port", &http_port,
        "--workers", "2",
    ];
    let command = command.map(Into::into).into_iter().chain(kill::arguments(gateway));
    Container {
        name: "agent".into(),
        image: Some(image.to_owned()),
        command: Some(command.collect()),
        env: Some(vec![
            from_field("POD_NAME", "metadata.name"),
            from_field("POD_NAMESPACE", "metadata.namespace"),
        ]),
        ports: Some(vec![port(STATE, keys::EDGE_STATE_PORT)]),
        readiness_probe: Some(probe("/readyz", 1, 1, 3)),
        liveness_probe: Some(probe("/livez", 10, 3, 6)),
        resources: Some(resources(None, AGENT_RESOURCES)),
        security_context: Some(restricted_container(AGENT_USER)),
        volume_mounts: Some(vec![
            mount("run", "/run/edge"),
            mount("ctl", "/run/ctl"),
            mount("log", "/run/log"),
            VolumeMount {
                read_only: Some(true),
                ..mount("token", "/var/run/secrets/kubernetes.io/serviceaccount")
            },
            kill::mount(),
        ]),
        ..Container::default()
    }
}

fn volumes(gateway: &str, certificates: &[Certificate], tokens: &Secrets) -> Vec<Volume> {
    let memory = |name: &str, size: &str| Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".into()),
            size_limit: Some(Quantity(size.into())),
        }),
        ..Volume::default()
    };
    let mut volumes = vec![
        memory("run", "16Mi"),
        memory("ctl", "1Mi"),
        memory("log", "64Mi"),
        memory("tmp", "64Mi"),
        token(),
        kill::volume(gateway),
    ];
    let certificate = |c: &Certificate| projected(&c.secret, &["tls.crt", "tls.key"]);
    volumes.extend(secrets("tls", certificates.iter().map(certificate).collect()));
    let token = |(secret, keys): (&String, &BTreeSet<&'static str>)| {
        projected(secret, &keys.iter().copied().collect::<Vec<_>>())
    };
    volumes.extend(secrets("tokens", tokens.iter().map(token).collect()));
    volumes
}

/// A directory with these keys of a Secret. The kubelet reads it; one that is missing does not hold a pod up.
fn projected(secret: &str, keys: &[&str]) -> VolumeProjection {
    let directory = ids::secret_dir(secret);
    let file = |key: &&str| KeyToPath { key: (*key).into(), path: format!("{directory}/{key}"), mode: None };
    VolumeProjection {
        secret: Some(SecretProjection {
            name: secret.to_owned(),
            items: Some(keys.iter().map(file).collect()),
            optional: Some(true),
        }),
        ..VolumeProjection::default()
    }
}

/// A volume of directories for Secrets, if there are any.
fn secrets(name: &str, sources: Vec<VolumeProjection>) -> Option<Volume> {
    (!sources.is_empty()).then(|| Volume {
        name: name.into(),
        projected: Some(ProjectedVolumeSource { default_mode: Some(0o440), sources: Some(sources) }),
        ..Volume::default()
    })
}

/// What Kubernetes would mount into every container, for the agent alone.
fn token() -> Volume {
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            path: "token".into(),
            expiration_seconds: Some(3607),
            audience: None,
        }),
        ..VolumeProjection::default()
    };
    let authority = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: "kube-root-ca.crt".into(),
            items: Some(vec![KeyToPath { key: "ca.crt".into(), path: "ca.crt".into(), mode: None }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    let namespace = VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(vec![DownwardAPIVolumeFile {
                path: "namespace".into(),
                field_ref: Some(ObjectFieldSelector {
                    field_path: "metadata.namespace".into(),
                    api_version: None,
                }),
                ..DownwardAPIVolumeFile::default()
            }]),
        }),
        ..VolumeProjection::default()
    };
    Volume {
        name: "token".into(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o440),
            sources: Some(vec![token, authority, namespace]),
        }),
        ..Volume::default()
    }
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.into(), mount_path: path.into(), ..VolumeMount::default() }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort { name: Some(name.into()), container_port: number.into(), ..ContainerPort::default() }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: path.into(), api_version: None }),
            ..EnvVarSource::default()
        }),
    }
}

fn probe(path: &str, period: i32, timeout: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(STATE.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
