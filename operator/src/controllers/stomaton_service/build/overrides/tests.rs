use super::{super::tests::wanted, *};
use crate::controllers::stomaton_service::{build::build, in_use::Around};
use k8s_openapi::api::core::v1::{Container, SecurityContext, Volume};
use proptest::prelude::*;

/// The pods of a service with these overrides.
fn pods(overrides: Value) -> Result<PodTemplateSpec, String> {
    let spec = json!({"image": "fleet:1", "env": [{"name": "A", "value": "1"}], "podTemplate": overrides});
    match build(&wanted(spec, Around::default())) {
        Ok(prepared) => Ok(prepared.deployment.spec.unwrap().template),
        Err(summary) => Err(summary.message),
    }
}

fn pods_with(patch: &Value) -> Result<PodTemplateSpec, String> {
    pods(json!({"spec": patch}))
}

#[test]
fn what_is_added_stands_beside_what_the_operator_writes() {
    let merged = pods(json!({
        "labels": {"team": "shop"}, "annotations": {"example.com/a": "b"},
        "spec": {
            "terminationGracePeriodSeconds": 60,
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}],
            "containers": [
                {"name": "service", "volumeMounts": [{"name": "cache", "mountPath": "/cache"}]},
                {"name": "proxy", "image": "proxy:1", "securityContext": {"runAsUser": 2000}},
            ],
            "initContainers": [{"name": "warm", "image": "warm:1", "resources": {"requests": {"cpu": "1m"}}}],
        },
    }));
    insta::assert_yaml_snapshot!("merged", merged.unwrap());
}

#[test]
fn what_is_refused_is_named_by_its_path() {
    let container = |fields: Value| {
        let mut container = json!({"name": "x", "image": "i"});
        container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    let context = |fields: Value| container(json!({"securityContext": fields}));
    let service = |fields: Value| {
        let mut container = json!({"name": "service"});
        container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    let cases = [
        (context(json!({"privileged": true})), "containers[name=x].securityContext.privileged"),
        (json!({"hostNetwork": true}), "hostNetwork"),
        (json!({"hostPID": true}), "hostPID"),
        (json!({"hostIPC": true}), "hostIPC"),
        (json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}), "volumes[name=v].hostPath"),
        (
            context(json!({"capabilities": {"add": ["NET_ADMIN"]}})),
            "containers[name=x].securityContext.capabilities.add",
        ),
        (
            context(json!({"capabilities": {"drop": []}})),
            "containers[name=x].securityContext.capabilities.drop",
        ),
        (json!({"securityContext": {"runAsNonRoot": false}}), "securityContext.runAsNonRoot"),
        (json!({"securityContext": {"runAsUser": 0}}), "securityContext.runAsUser"),
        (
            service(json!({"securityContext": {"runAsUser": 0}})),
            "containers[name=service].securityContext.runAsUser",
        ),
        (
            context(json!({"allowPrivilegeEscalation": true})),
            "containers[name=x].securityContext.allowPrivilegeEscalation",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            "securityContext.seccompProfile",
        ),
        (context(json!({"procMount": "Unmasked"})), "containers[name=x].securityContext.procMount"),
        (json!({"securityContext": {"sysctls": [{"name": "a", "value": "1"}]}}), "securityContext.sysctls"),
        (
            container(json!({"ports": [{"containerPort": 1, "hostPort": 1}]})),
            "containers[name=x].ports[0].hostPort",
        ),
        (
            container(json!({"livenessProbe": {"httpGet": {"port": 1, "host": "a"}}})),
            "containers[name=x].livenessProbe.httpGet.host",
        ),
        (json!({"automountServiceAccountToken": true}), "automountServiceAccountToken"),
        (
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
            "volumes[name=v].projected.sources[0].serviceAccountToken",
        ),
        (
            context(json!({"readOnlyRootFilesystem": false})),
            "containers[name=x].securityContext.readOnlyRootFilesystem",
        ),
        (
            json!({"initContainers": [{"name": "x", "image": "i", "securityContext": {"privileged": true}}]}),
            "initContainers[name=x].securityContext.privileged",
        ),
        (service(json!({"image": "evil"})), "containers[name=service].image"),
        (service(json!({"env": [{"name": "A", "value": "2"}]})), "containers[name=service].env"),
        (service(json!({"readinessProbe": {}})), "containers[name=service].readinessProbe"),
        (
            service(json!({"volumeMounts": [{"name": "v", "mountPath": "/tmp"}]})),
            "containers[name=service].volumeMounts[0].mountPath",
        ),
        (json!({"volumes": [{"name": "tmp", "secret": {"secretName": "s"}}]}), "volumes[name=tmp]"),
        (json!({"serviceAccountName": "root"}), "serviceAccountName"),
        (json!({"nodeName": "n"}), "nodeName"),
        (json!({"ephemeralContainers": []}), "ephemeralContainers"),
        (json!({"containers": [{"image": "i"}]}), "containers[0]"),
        (json!({"tolerations": null}), "tolerations"),
        (json!({"containers": [{"name": "service", "$patch": "delete"}]}), "containers[name=service].$patch"),
        (json!({"tolerance": 1}), "tolerance"),
        (container(json!({"imagePolicy": "Always"})), "containers[name=x].imagePolicy"),
        (json!({"affinity": {"nodeAffinity": {"required": {}}}}), "affinity.nodeAffinity.required"),
    ];
    for (patch, path) in cases {
        let message = pods_with(&patch).unwrap_err();
        assert!(
            message.starts_with(&format!("`podTemplate.spec.{path}` is refused: ")),
            "{patch}: {message}"
        );
    }
    for (overrides, path) in [
        (json!({"labels": {"app.kubernetes.io/name": "x"}}), "labels.app.kubernetes.io/name"),
        (json!({"annotations": {"fleet.stomaton.com/x": "x"}}), "annotations.fleet.stomaton.com/x"),
    ] {
        let message = pods(overrides).unwrap_err();
        assert!(message.starts_with(&format!("`podTemplate.{path}` is refused: ")), "{message}");
    }
    let message = pods_with(&json!({"tolerations": [{"key": 5}]})).unwrap_err();
    assert!(message.starts_with("`podTemplate.spec` is not part of a PodSpec: "), "{message}");
}

/// What of the restricted Pod Security Standard a pod breaks: written from the standard, not from the code above.
fn broken(pod: &PodSpec) -> Vec<String> {
    let mut broken = Vec::new();
    let mut must = |good: bool, what: String| {
        if !good {
            broken.push(what);
        }
    };
    must(![pod.host_network, pod.host_pid, pod.host_ipc].contains(&Some(true)), "host namespaces".into());
    must(pod.automount_service_account_token == Some(false), "token".into());
    must(pod.service_account_name.is_none() && pod.node_name.is_none(), "account or node".into());
    must(pod.ephemeral_containers.is_none(), "ephemeral containers".into());
    let whole = pod.security_context.clone().unwrap_or_default();
    must(whole.sysctls.unwrap_or_default().is_empty(), "sysctls".into());
    must(whole.windows_options.is_none(), "windows".into());
    let seccomp = |profile: Option<&str>| matches!(profile, Some("RuntimeDefault" | "Localhost"));
    must(seccomp(whole.seccomp_profile.as_ref().map(|p| p.type_.as_str())), "seccomp".into());
    must(whole.run_as_non_root == Some(true) && whole.run_as_user.is_none_or(|id| id > 0), "root".into());
    must(whole.app_armor_profile.is_none_or(|p| p.type_ != "Unconfined"), "apparmor".into());
    for volume in pod.volumes.iter().flatten() {
        must(good_volume(volume), format!("volume {}", volume.name));
    }
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        must(good_container(container), format!("container {}", container.name));
    }
    broken
}

fn good_volume(volume: &Volume) -> bool {
    let Value::Object(mut fields) = json!(volume) else { return false };
    fields.remove("name");
    const GOOD: [&str; 8] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    fields.keys().all(|kind| GOOD.contains(&kind.as_str()))
}

fn good_container(container: &Container) -> bool {
    let context: SecurityContext = container.security_context.clone().unwrap_or_default();
    let capabilities = context.capabilities.unwrap_or_default();
    context.privileged != Some(true)
        && context.allow_privilege_escalation == Some(false)
        && context.read_only_root_filesystem == Some(true)
        && context.run_as_non_root != Some(false)
        && context.run_as_user.is_none_or(|id| id > 0)
        && capabilities.add.unwrap_or_default().is_empty()
        && capabilities.drop.unwrap_or_default().iter().any(|c| c == "ALL")
        && context.proc_mount.is_none_or(|p| p == "Default")
        && context.seccomp_profile.is_none_or(|p| p.type_ != "Unconfined")
        && context.app_armor_profile.is_none_or(|p| p.type_ != "Unconfined")
        && context.windows_options.is_none()
        && context.se_linux_options.is_none_or(|s| s.user.is_none() && s.role.is_none())
        && container.ports.iter().flatten().all(|p| p.host_port.unwrap_or(0) == 0)
}

/// A security context, good and bad fields mixed.
fn any_context() -> impl Strategy<Value = Value> {
    let field = prop_oneof![
        any::<bool>().prop_map(|b| ("privileged", json!(b))),
        any::<bool>().prop_map(|b| ("allowPrivilegeEscalation", json!(b))),
        any::<bool>().prop_map(|b| ("readOnlyRootFilesystem", json!(b))),
        any::<bool>().prop_map(|b| ("runAsNonRoot", json!(b))),
        (0..3_i64).prop_map(|id| ("runAsUser", json!(id))),
        (0..3_i64).prop_map(|id| ("runAsGroup", json!(id))),
        Just(("capabilities", json!({"drop": ["ALL"]}))),
        Just(("capabilities", json!({"drop": ["KILL"]}))),
        Just(("capabilities", json!({"add": ["SYS_ADMIN"], "drop": ["ALL"]}))),
        Just(("capabilities", json!({"add": []}))),
        prop_oneof!["Default", "Unmasked"].prop_map(|p| ("procMount", json!(p))),
        prop_oneof!["RuntimeDefault", "Unconfined", "Localhost"]
            .prop_map(|p| ("seccompProfile", json!({"type": p}))),
        prop_oneof!["RuntimeDefault", "Unconfined"].prop_map(|p| ("appArmorProfile", json!({"type": p}))),
        Just(("sysctls", json!([{"name": "kernel.x", "value": "1"}]))),
        Just(("seLinuxOptions", json!({"user": "root"}))),
        Just(("windowsOptions", json!({"hostProcess": true}))),
    ];
    proptest::collection::vec(field, 0..3)
        .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

fn any_container() -> impl Strategy<Value = Value> {
    let name = prop_oneof!["service", "x", "y"];
    (name, any_context(), any::<bool>(), any::<bool>(), 0..2_i32).prop_map(
        |(name, context, secure, image, port)| {
            let mut container = json!({"name": name});
            if secure {
                container["securityContext"] = context;
            }
            if image {
                container["image"] = json!("i");
                container["ports"] = json!([{"containerPort": 1, "hostPort": port}]);
            }
            container
        },
    )
}

fn any_patch() -> impl Strategy<Value = Value> {
    let list = || proptest::collection::vec(any_container(), 0..3);
    let volume = prop_oneof!["emptyDir", "hostPath", "secret", "nfs", "projected"]
        .prop_map(|kind: String| json!({"name": "v", kind: {}}));
    let field = prop_oneof![
        list().prop_map(|l| ("containers", json!(l))),
        list().prop_map(|l| ("containers", json!(l))),
        list().prop_map(|l| ("initContainers", json!(l))),
        any_context().prop_map(|c| ("securityContext", c)),
        proptest::collection::vec(volume, 0..2).prop_map(|l| ("volumes", json!(l))),
        any::<bool>().prop_map(|b| ("hostNetwork", json!(b))),
        any::<bool>().prop_map(|b| ("hostPID", json!(b))),
        any::<bool>().prop_map(|b| ("automountServiceAccountToken", json!(b))),
        Just(("serviceAccountName", json!("admin"))),
        Just(("nodeName", json!("n"))),
        Just(("dnsPolicy", json!("Default"))),
        Just(("ephemeralContainers", json!([]))),
    ];
    proptest::collection::vec(field, 0..4)
        .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_accepted_meets_the_restricted_standard(patch in any_patch()) {
        if let Ok(pods) = pods_with(&patch) {
            let broken = broken(&pods.spec.unwrap());
            prop_assert!(broken.is_empty(), "{patch}: {broken:?}");
        }
    }
}

#[test]
fn the_check_itself_finds_what_is_broken() {
    let bad: PodSpec = serde_json::from_value(json!({
        "hostNetwork": true,
        "containers": [{"name": "x", "securityContext": {"privileged": true}}],
        "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
    }))
    .unwrap();
    assert_eq!(broken(&bad), ["host namespaces", "token", "seccomp", "root", "volume v", "container x"]);
    assert!(broken(&pods_with(&json!({})).unwrap().spec.unwrap()).is_empty());
}
