//! Takes what a service is given beside its image: ports, environment, files, data; gives it checked, or what is
//! wrong. Pure.

use super::invalid;
use crate::{apply, controllers::stomaton_service::build::tokens};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::{BTreeMap, BTreeSet};
use stomaton_crds::{
    conditions::Summary,
    v1alpha1::{
        Access, BindingKey, ConfigFile, DataVolume, Dependency, EnvFrom, NamedPort, SecretEnv,
        StomatonServiceSpec,
    },
};

/// Variables the operator sets itself.
pub const RESERVED: [&str; 2] = ["SERVICE_NAME", "PORT"];
/// Directories the operator mounts itself.
const OWN_DIRECTORIES: [&str; 2] = ["/tmp", "/var/run/stomaton"];
/// Names of pod volumes that the operator makes itself.
pub const OWN_VOLUMES: [&str; 4] = ["tmp", "config-files", tokens::VOLUMES[0], tokens::VOLUMES[1]];
/// A ConfigMap holds 1 MiB; the rest is for its metadata.
const FILES_LIMIT: usize = 1_000_000;

/// What a service is given, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wiring {
    /// Ports beside the main one.
    pub ports: Vec<NamedPort>,
    /// Variables from single keys of Secrets, those of bindings included.
    pub secret_env: Vec<SecretEnv>,
    /// Variables from whole Secrets and ConfigMaps.
    pub env_from: Vec<EnvFrom>,
    /// Files.
    pub files: Vec<ConfigFile>,
    /// Data.
    pub volumes: Vec<DataVolume>,
}

impl Wiring {
    /// Whether only one pod may run at a time.
    pub fn one_at_a_time(&self) -> bool {
        self.volumes.iter().any(|volume| volume.access == Access::ReadWriteOnce)
    }
}

/// Checks what `spec` gives; `claims` are the sizes of the claims that are there, by name of the volume.
pub fn check(spec: &StomatonServiceSpec, claims: &BTreeMap<String, Quantity>) -> Result<Wiring, Summary> {
    check_ports(spec)?;
    check_variables(spec)?;
    check_paths(spec)?;
    check_sizes(&spec.volumes, claims)?;
    if spec.config.iter().map(|file| file.content.len()).sum::<usize>() > FILES_LIMIT {
        return Err(invalid(format!(
            "`config` is longer than {FILES_LIMIT} bytes: put large files on a volume"
        )));
    }
    let bound = spec.bindings.iter().flat_map(|binding| {
        binding.keys.iter().map(|key| SecretEnv {
            name: binding_variable(&binding.name, key),
            secret: binding.secret.clone(),
            key: key.key.clone(),
        })
    });
    Ok(Wiring {
        ports: spec.ports.clone(),
        secret_env: spec.secret_env.iter().cloned().chain(bound).collect(),
        env_from: spec.env_from.clone(),
        files: spec.config.clone(),
        volumes: spec.volumes.clone(),
    })
}

fn check_ports(spec: &StomatonServiceSpec) -> Result<(), Summary> {
    let (mut names, mut numbers) = (BTreeSet::from(["http"]), BTreeSet::from([spec.port]));
    for NamedPort { name, port } in &spec.ports {
        if !(1..=65535).contains(port) {
            return Err(invalid(format!("port {port} of `ports` is not between 1 and 65535")));
        }
        if !names.insert(name) {
            return Err(invalid(format!("two ports are called {name}: `http` is the name of `port`")));
        }
        if !numbers.insert(*port) {
            return Err(invalid(format!("two ports have the number {port}: `port` counts too")));
        }
    }
    Ok(())
}

/// A variable has one source. Only the URL of a dependency gives way, unless its variable was named on purpose.
fn check_variables(spec: &StomatonServiceSpec) -> Result<(), Summary> {
    let mut sources = BTreeMap::<String, String>::new();
    let mut set = |name: String, source: String| {
        if RESERVED.contains(&name.as_str()) {
            return Err(invalid(format!("the operator sets {name} itself: take it out of {source}")));
        }
        match sources.get(&name) {
            Some(other) if *other == source => Err(invalid(format!("{source} has {name} twice"))),
            Some(other) => {
                Err(invalid(format!("{name} is set by {other} and by {source}: leave one of them out")))
            }
            None => {
                sources.insert(name, source);
                Ok(())
            }
        }
    };
    for variable in &spec.env {
        set(variable.name.clone(), "`env`".into())?;
    }
    for variable in &spec.secret_env {
        set(variable.name.clone(), "`secretEnv`".into())?;
    }
    for binding in &spec.bindings {
        for key in &binding.keys {
            set(binding_variable(&binding.name, key), format!("binding {}", binding.name))?;
        }
    }
    let explicit = explicit(spec);
    for dependency in &spec.depends_on {
        let name = url_variable(dependency);
        if dependency.env.is_some() || !explicit.contains(&name) {
            set(name, format!("dependency {}", dependency.name))?;
        }
    }
    Ok(())
}

/// The variables that `spec` gives a value itself.
pub fn explicit(spec: &StomatonServiceSpec) -> BTreeSet<String> {
    let single = spec.env.iter().map(|e| &e.name).chain(spec.secret_env.iter().map(|e| &e.name)).cloned();
    let bound = spec.bindings.iter().flat_map(|b| b.keys.iter().map(|k| binding_variable(&b.name, k)));
    single.chain(bound).collect()
}

/// Two mounts at one place, or one over the other, would hide files.
fn check_paths(spec: &StomatonServiceSpec) -> Result<(), Summary> {
    let mut paths = BTreeMap::<&str, String>::new();
    for volume in &spec.volumes {
        if OWN_VOLUMES.contains(&volume.name.as_str()) {
            return Err(invalid(format!("a volume must not be called {}: choose another name", volume.name)));
        }
        let path = volume.mount_path.as_str();
        if path.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(invalid(format!(
                "the path of volume {} has a `.` or `..`: leave it out",
                volume.name
            )));
        }
        if let Some(own) = OWN_DIRECTORIES.iter().find(|own| within(path, own) || within(own, path)) {
            return Err(invalid(format!(
                "volume {} is in the way of {own}: choose another path",
                volume.name
            )));
        }
        if let Some(other) = paths.insert(path, format!("volume {}", volume.name)) {
            return Err(invalid(format!("{other} and volume {} are both at {path}", volume.name)));
        }
    }
    for file in &spec.config {
        let path = file.path.as_str();
        if let Some(own) = OWN_DIRECTORIES.iter().find(|own| within(path, own) || within(own, path)) {
            return Err(invalid(format!("the file {path} is in the way of {own}: choose another path")));
        }
        let over = paths.iter().find(|(other, _)| within(other, path));
        if let Some((_, other)) = over {
            return Err(invalid(format!("{other} is in the way of the file {path}")));
        }
        paths.insert(path, format!("the file {path}"));
    }
    // A file is no directory: nothing can be below it.
    for file in &spec.config {
        let below =
            spec.config.iter().find(|other| other.path != file.path && within(&other.path, &file.path));
        if let Some(below) = below {
            return Err(invalid(format!("{} is a file, so {} cannot be in it", file.path, below.path)));
        }
    }
    Ok(())
}

/// Whether `path` is `directory` or in it.
fn within(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn check_sizes(volumes: &[DataVolume], claims: &BTreeMap<String, Quantity>) -> Result<(), Summary> {
    for volume in volumes {
        let (name, size) = (&volume.name, &volume.size.0);
        let Some(wanted) = apply::amount(size).filter(|wanted| *wanted > 0) else {
            return Err(invalid(format!("volume {name} has the size {size:?}: write 10Gi, say")));
        };
        let live = claims.get(name).and_then(|live| Some((live, apply::amount(&live.0)?)));
        if let Some((live, _)) = live.filter(|(_, live)| *live > wanted) {
            return Err(invalid(format!(
                "volume {name} has {} already and cannot shrink to {size}: set `size` to {} at least",
                live.0, live.0
            )));
        }
    }
    Ok(())
}

/// The variable that gets a key of a binding: `MONGODB_URI`.
fn binding_variable(binding: &str, key: &BindingKey) -> String {
    key.env.clone().unwrap_or_else(|| format!("{}_{}", capitals(binding), capitals(&key.key)))
}

/// The variable that gets the URL of a dependency: `DATABASE_SERVICE_URL` for `database` and `database-service`.
pub fn url_variable(dependency: &Dependency) -> String {
    let name = &dependency.name;
    let named = || format!("{}_SERVICE_URL", capitals(name.strip_suffix("-service").unwrap_or(name)));
    dependency.env.clone().unwrap_or_else(named)
}

/// A name as part of the name of a variable.
fn capitals(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn checked(more: Value) -> Result<Wiring, String> {
        let mut spec = json!({"image": "i"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let claims = [("data".to_owned(), Quantity("10Gi".into()))].into();
        check(&serde_json::from_value(spec).unwrap(), &claims).map_err(|problem| problem.message)
    }

    #[test]
    fn a_key_of_a_binding_becomes_a_variable() {
        let keys = json!([{"key": "uri"}, {"key": "tls.crt"}, {"key": "x", "env": "GIVEN"}]);
        let wiring =
            checked(json!({"bindings": [{"name": "mongo-db", "secret": "s", "keys": keys}]})).unwrap();
        let names: Vec<_> = wiring.secret_env.iter().map(|e| (e.name.as_str(), e.key.as_str())).collect();
        assert_eq!(names, [("MONGO_DB_URI", "uri"), ("MONGO_DB_TLS_CRT", "tls.crt"), ("GIVEN", "x")]);
    }

    #[test]
    fn a_trailing_service_is_not_doubled() {
        let variable = |dependency: Value| url_variable(&serde_json::from_value(dependency).unwrap());
        assert_eq!(variable(json!({"name": "database"})), "DATABASE_SERVICE_URL");
        assert_eq!(variable(json!({"name": "database-service"})), "DATABASE_SERVICE_URL");
        assert_eq!(variable(json!({"name": "unified-api"})), "UNIFIED_API_SERVICE_URL");
        assert_eq!(variable(json!({"name": "database", "env": "DB"})), "DB");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let env = |name: &str| json!([{"name": name, "value": "1"}]);
        let secret = |name: &str| json!([{"name": name, "secret": "s", "key": "k"}]);
        let volume =
            |name: &str, path: &str, size: &str| json!({"name": name, "mountPath": path, "size": size});
        let file = |path: &str| json!({"path": path, "content": ""});
        let mongo = json!([{"name": "m", "secret": "s", "keys": [{"key": "uri"}]}]);
        let cases = [
            (
                json!({"ports": [{"name": "a", "port": 8080}]}),
                "two ports have the number 8080: `port` counts too",
            ),
            (
                json!({"ports": [{"name": "http", "port": 1}]}),
                "two ports are called http: `http` is the name of `port`",
            ),
            (json!({"ports": [{"name": "a", "port": 0}]}), "port 0 of `ports` is not between 1 and 65535"),
            (json!({"env": env("PORT")}), "the operator sets PORT itself: take it out of `env`"),
            (
                json!({"secretEnv": secret("PORT")}),
                "the operator sets PORT itself: take it out of `secretEnv`",
            ),
            (
                json!({"env": env("M_URI"), "bindings": mongo}),
                "M_URI is set by `env` and by binding m: leave one of them out",
            ),
            (
                json!({"env": env("A"), "secretEnv": secret("A")}),
                "A is set by `env` and by `secretEnv`: leave one of them out",
            ),
            (
                json!({"env": env("A"), "dependsOn": [{"name": "b", "env": "A"}]}),
                "A is set by `env` and by dependency b: leave one of them out",
            ),
            (
                json!({"dependsOn": [{"name": "b"}, {"name": "b-service"}]}),
                "B_SERVICE_URL is set by dependency b and by dependency b-service: leave one of them out",
            ),
            (
                json!({"volumes": [volume("tmp", "/x", "1Gi")]}),
                "a volume must not be called tmp: choose another name",
            ),
            (
                json!({"volumes": [volume("a", "/tmp/x", "1Gi")]}),
                "volume a is in the way of /tmp: choose another path",
            ),
            (
                json!({"volumes": [volume("a", "/var", "1Gi")]}),
                "volume a is in the way of /var/run/stomaton: choose another path",
            ),
            (
                json!({"volumes": [volume("a", "/x", "1Gi"), volume("b", "/x", "1Gi")]}),
                "volume a and volume b are both at /x",
            ),
            (
                json!({"volumes": [volume("a", "/x", "much")]}),
                "volume a has the size \"much\": write 10Gi, say",
            ),
            (
                json!({"volumes": [volume("data", "/x", "5Gi")]}),
                "volume data has 10Gi already and cannot shrink to 5Gi: set `size` to 10Gi at least",
            ),
            (
                json!({"config": [file("/tmp/x")]}),
                "the file /tmp/x is in the way of /tmp: choose another path",
            ),
            (
                json!({"volumes": [volume("a", "/x/y", "1Gi")], "config": [file("/x")]}),
                "volume a is in the way of the file /x",
            ),
            (json!({"config": [file("/x/y"), file("/x")]}), "the file /x/y is in the way of the file /x"),
            (json!({"config": [file("/x"), file("/x/y")]}), "/x is a file, so /x/y cannot be in it"),
        ];
        for (spec, message) in cases {
            assert_eq!(checked(spec.clone()).unwrap_err(), message, "{spec}");
        }
    }

    #[test]
    fn what_is_right_is_taken() {
        for spec in [
            // An explicit value wins over a dependency's URL.
            json!({"env": [{"name": "B_SERVICE_URL", "value": "x"}], "dependsOn": [{"name": "b"}]}),
            json!({"volumes": [{"name": "data", "mountPath": "/x", "size": "10Gi"}], "config": [{"path": "/x/y", "content": ""}]}),
            json!({"volumes": [{"name": "data", "mountPath": "/tmpfiles", "size": "20Gi"}]}),
            json!({"config": [{"path": "/etc/a", "content": ""}, {"path": "/etc/ab", "content": ""}]}),
        ] {
            assert!(checked(spec.clone()).is_ok(), "{spec}: {:?}", checked(spec.clone()));
        }
    }
}
