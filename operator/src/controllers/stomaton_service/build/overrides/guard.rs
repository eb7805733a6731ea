//! What an override may not say, field by field, with the path of the first thing that is refused. Pure.

use super::{ROOT, key_of};
use serde_json::Value;
use stomaton_crds::v1alpha1::PodOverrides;

/// The two lists of containers that a pod template may have.
pub const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];
/// The operator's container.
const SERVICE: &str = "service";

/// Fields of a pod that other fields of the spec say, or that are nobody's to say.
const POD: [(&str, &str); 14] = [
    ("serviceAccountName", "`serviceAccountName` of the service says it"),
    ("serviceAccount", "`serviceAccountName` of the service says it"),
    ("nodeSelector", "`placement.nodeSelector` says it"),
    ("priorityClassName", "`placement.priorityClassName` says it"),
    ("priority", "`placement.priorityClassName` says it"),
    ("readinessGates", "`rollout.readinessGates` says it"),
    ("automountServiceAccountToken", "pods get no token of the API server"),
    ("nodeName", "the scheduler chooses the node"),
    ("ephemeralContainers", "they are made by `kubectl debug`, not by a template"),
    ("restartPolicy", "pods of a service are always started again"),
    ("activeDeadlineSeconds", "pods of a service do not end"),
    ("os", "pods run on Linux"),
    ("hostname", "pods of a service are many"),
    ("hostnameOverride", "pods of a service are many"),
];
/// Fields of a pod that would open it to its node.
const HOST: [&str; 3] = ["hostNetwork", "hostPID", "hostIPC"];
/// Fields of the operator's container that an override may say; every other one is said by the spec.
const OF_SERVICE: [&str; 11] = [
    "name",
    "securityContext",
    "volumeMounts",
    "volumeDevices",
    "imagePullPolicy",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "workingDir",
    "resizePolicy",
    "stdin",
    "tty",
];
/// Kinds of volumes that the restricted standard admits.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// Types of SELinux that the standard admits.
const SELINUX: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Something that an override may not say.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where.
    pub path: String,
    /// Why, and what to do instead.
    pub why: String,
}

fn refuse(path: impl Into<String>, why: impl Into<String>) -> Result<(), Refused> {
    Err(Refused { path: path.into(), why: why.into() })
}

/// Path of item `i` of the list at `path`: by its name, if it has one.
pub fn item(path: &str, i: usize, item: &Value) -> String {
    match item.get("name").and_then(Value::as_str) {
        Some(name) => format!("{path}[name={name}]"),
        None => format!("{path}[{i}]"),
    }
}

/// Whether `list` of the pod `own` has an item of that name.
pub fn has(own: &Value, list: &str, item: &Value) -> bool {
    items(own, list).any(|o| o.get("name") == item.get("name"))
}

fn items<'a>(object: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    object.get(list).and_then(Value::as_array).into_iter().flatten()
}

/// Labels and annotations that are the operator's, or weaken the pod.
pub fn names(overrides: &PodOverrides) -> Result<(), String> {
    const OWN: [&str; 2] = ["fleet.stomaton.com/", "app.kubernetes.io/"];
    if let Some(label) = overrides.labels.keys().find(|l| OWN.iter().any(|own| l.starts_with(own))) {
        return Err(format!("`podTemplate.labels.{label}` is refused: it is the operator's"));
    }
    for (name, value) in &overrides.annotations {
        let path = format!("podTemplate.annotations.{name}");
        if name.starts_with(OWN[0]) {
            return Err(format!("`{path}` is refused: it is the operator's"));
        }
        let profile = name.starts_with("container.apparmor.security.beta.kubernetes.io/");
        if profile && value != "runtime/default" && !value.starts_with("localhost/") {
            return Err(format!("`{path}` is refused: it weakens the pod"));
        }
    }
    Ok(())
}

/// Refuses what `patch` may not say of the pod `own`.
pub fn check(own: &Value, patch: &Value) -> Result<(), Refused> {
    let Some(fields) = patch.as_object() else { return refuse(ROOT, "it must be part of a PodSpec") };
    only_adds("", ROOT, patch)?;
    for (field, value) in fields {
        let path = format!("{ROOT}.{field}");
        if let Some((_, why)) = POD.iter().find(|(name, _)| name == field) {
            return refuse(path, *why);
        }
        if HOST.contains(&field.as_str()) && *value != Value::Bool(false) {
            return refuse(path, "it opens the pod to its node");
        }
        match field.as_str() {
            "securityContext" => security(&path, value)?,
            "volumes" => each(&path, value, |path, volume| check_volume(own, path, volume))?,
            list if CONTAINER_LISTS.contains(&list) => {
                each(&path, value, |path, container| check_container(own, list, path, container))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn each(
    path: &str,
    list: &Value,
    check: impl Fn(&str, &Value) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let Some(list) = list.as_array() else { return refuse(path, "it must be a list") };
    list.iter().enumerate().try_for_each(|(i, value)| check(&item(path, i, value), value))
}

/// Nulls and directives take away; items without their key cannot be merged.
fn only_adds(field: &str, path: &str, value: &Value) -> Result<(), Refused> {
    match value {
        Value::Null => refuse(path, "null would take something away, and an override only adds"),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            let path = format!("{path}.{name}");
            if name.starts_with('$') {
                return refuse(path, "directives are not understood: an override only adds");
            }
            only_adds(name, &path, value)
        }),
        Value::Array(list) => list.iter().enumerate().try_for_each(|(i, value)| {
            let path = item(path, i, value);
            match key_of(field) {
                Some(key) if value.get(key).is_none() => refuse(path, format!("it needs `{key}`")),
                _ => only_adds("", &path, value),
            }
        }),
        _ => Ok(()),
    }
}

fn check_volume(own: &Value, path: &str, volume: &Value) -> Result<(), Refused> {
    if has(own, "volumes", volume) {
        return refuse(path, "the operator has a volume of that name: choose another");
    }
    let kinds =
        volume.as_object().into_iter().flatten().map(|(kind, _)| kind.as_str()).filter(|k| *k != "name");
    for kind in kinds {
        if !VOLUMES.contains(&kind) {
            return refuse(
                format!("{path}.{kind}"),
                "the restricted Pod Security Standard has no such volumes",
            );
        }
    }
    let sources = volume.get("projected").into_iter().flat_map(|p| items(p, "sources")).enumerate();
    for (i, source) in sources {
        if source.get("serviceAccountToken").is_some() {
            let path = format!("{path}.projected.sources[{i}].serviceAccountToken");
            return refuse(path, "pods get no token of the API server");
        }
    }
    Ok(())
}

fn check_container(own: &Value, list: &str, path: &str, container: &Value) -> Result<(), Refused> {
    let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
    let elsewhere = CONTAINER_LISTS.iter().any(|l| has(own, l, container));
    if list == "containers" && name == SERVICE {
        check_service(own, path, container)?;
    } else if elsewhere || name == SERVICE {
        return refuse(path, "it is the operator's container");
    }
    if let Some(context) = container.get("securityContext") {
        security(&format!("{path}.securityContext"), context)?;
    }
    for (i, port) in items(container, "ports").enumerate() {
        for field in ["hostPort", "hostIP"] {
            if port.get(field).is_some_and(|p| *p != 0) {
                return refuse(format!("{path}.ports[{i}].{field}"), "it opens the pod to its node");
            }
        }
    }
    ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"]
        .iter()
        .filter_map(|handler| container.get(handler).map(|value| (format!("{path}.{handler}"), value)))
        .try_for_each(|(path, value)| no_host(&path, value))
}

/// A handler that names a host makes the kubelet call it.
fn no_host(path: &str, handler: &Value) -> Result<(), Refused> {
    let Some(fields) = handler.as_object() else { return Ok(()) };
    fields.iter().try_for_each(|(name, value)| {
        let path = format!("{path}.{name}");
        let host = matches!(name.as_str(), "httpGet" | "tcpSocket")
            && value.get("host").is_some_and(|host| *host != "");
        if host { refuse(format!("{path}.host"), "probes ask the pod itself") } else { no_host(&path, value) }
    })
}

fn check_service(own: &Value, path: &str, container: &Value) -> Result<(), Refused> {
    let said = |field: &&String| !OF_SERVICE.contains(&field.as_str());
    if let Some(field) = container.as_object().into_iter().flat_map(|c| c.keys()).find(said) {
        return refuse(format!("{path}.{field}"), "other fields of the service say it");
    }
    let service = items(own, "containers").find(|c| c.get("name") == container.get("name"));
    for (i, mount) in items(container, "volumeMounts").enumerate() {
        let taken = service.into_iter().flat_map(|s| items(s, "volumeMounts"));
        if taken.into_iter().any(|m| m.get("mountPath") == mount.get("mountPath")) {
            let path = format!("{path}.volumeMounts[{i}].mountPath");
            return refuse(path, "the operator mounts something there: choose another place");
        }
    }
    Ok(())
}

/// A security context, of a pod or of a container, that is at least as strict as the operator's.
fn security(path: &str, context: &Value) -> Result<(), Refused> {
    const WEAKENS: &str = "it weakens the restricted Pod Security Standard";
    let Some(fields) = context.as_object() else { return refuse(path, "it must be an object") };
    for (field, value) in fields {
        let path = format!("{path}.{field}");
        let of = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        let profile = || matches!(of("type"), "RuntimeDefault" | "Localhost");
        let good = match field.as_str() {
            "privileged" | "allowPrivilegeEscalation" => *value == Value::Bool(false),
            "runAsNonRoot" | "readOnlyRootFilesystem" => *value == Value::Bool(true),
            "runAsUser" | "runAsGroup" | "fsGroup" => value.as_i64().is_some_and(|id| id > 0),
            "supplementalGroups" => {
                value.as_array().is_some_and(|ids| ids.iter().all(|id| id.as_i64().is_some_and(|id| id > 0)))
            }
            "procMount" => value == "Default",
            "seccompProfile" | "appArmorProfile" => profile(),
            "sysctls" => value.as_array().is_some_and(Vec::is_empty),
            "windowsOptions" => false,
            "seLinuxOptions" => {
                of("user").is_empty() && of("role").is_empty() && SELINUX.contains(&of("type"))
            }
            "capabilities" => {
                capabilities(&path, value)?;
                true
            }
            _ => true,
        };
        if !good {
            return refuse(path, WEAKENS);
        }
    }
    Ok(())
}

fn capabilities(path: &str, value: &Value) -> Result<(), Refused> {
    if items(value, "add").next().is_some() || value.get("add").is_some_and(|add| !add.is_array()) {
        return refuse(format!("{path}.add"), "containers have no capabilities");
    }
    let drop = value.get("drop");
    if drop.is_some() && !items(value, "drop").any(|capability| capability == "ALL") {
        return refuse(format!("{path}.drop"), "it must have ALL");
    }
    Ok(())
}
