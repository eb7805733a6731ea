//! Configuration of the node's programs.
//! Takes the cluster's paths, gives the text of each file and each command line. Pure.

use super::paths::Paths;
use crate::cluster::control_plane::{Audit, ControlPlane, args};
use serde_json::json;
use std::path::PathBuf;

/// The node's address, on a bridge that leads nowhere.
pub(crate) const NODE_IP: &str = "172.31.255.1";
/// The address at which pods ask for names.
pub(crate) const DNS_IP: &str = "10.96.0.10";
/// The node's name.
pub(crate) const NODE_NAME: &str = "local";
/// The port of the API server inside the namespace.
pub(crate) const API_PORT: u16 = 6443;
/// The image that holds a pod's namespaces.
pub(crate) const PAUSE_IMAGE: &str = "docker.io/stomaton/pause:1";
const POD_RANGE: &str = "10.244.0.0/16";
/// Private to the namespaces: a fresh `/run` is mounted there.
pub(crate) const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// The control plane of a node. Its ports are its own: nothing else lives in its namespace.
pub(crate) fn control_plane(paths: &Paths) -> ControlPlane {
    let policy = paths.audit_policy();
    let audit = policy.exists().then(|| Audit { policy, log: paths.file("audit.log") });
    ControlPlane {
        dir: paths.dir(),
        ports: [2379, 2380, API_PORT],
        bind: "0.0.0.0",
        advertise: NODE_IP,
        audit,
    }
}

/// Every file that the node's programs read, with its content.
pub(crate) fn files(paths: &Paths) -> Vec<(PathBuf, String)> {
    vec![
        (paths.file("containerd.toml"), containerd(paths)),
        (paths.file("cni/10-local.conflist"), cni()),
        (paths.file("kubelet.yaml"), kubelet(paths)),
        (paths.file("proxy.yaml"), proxy(paths)),
        (paths.file("Corefile"), corefile(paths)),
        (paths.file("resolv.conf"), "nameserver 127.0.0.1\n".to_owned()),
    ]
}

fn containerd(paths: &Paths) -> String {
    // JSON strings are TOML strings, and the paths are ours.
    let quoted = |path: PathBuf| json!(path).to_string();
    format!(
        r#"version = 2
root = {root}
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = {opt}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{bin}"
    conf_dir = {cni}
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#,
        root = quoted(paths.file("containerd")),
        opt = quoted(paths.file("opt")),
        cni = quoted(paths.file("cni")),
        bin = super::packages::CNI_PLUGINS,
    )
}

fn cni() -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "local",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_RANGE}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

fn kubelet(paths: &Paths) -> String {
    let pki = paths.file("pki");
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "x509": {"clientCAFile": pki.join("ca.crt")},
            "webhook": {"enabled": true},
            "anonymous": {"enabled": false},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki.join("kubelet.crt"),
        "tlsPrivateKeyFile": pki.join("kubelet.key"),
        "cgroupDriver": "cgroupfs",
        // Every pod of this cluster below one cgroup that is only its own.
        "cgroupRoot": format!("/{}", paths.cgroup()),
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
        "failSwapOn": false,
        "failCgroupV1": false,
        // Images come from files: one that was collected could not be fetched again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi"},
        "maxPods": 250,
        "serializeImagePulls": false,
        "resolvConf": paths.file("resolv.conf"),
        // What changes in a Secret or ConfigMap is in its volumes after one and a half of this time and a second, at
        // most. A minute by default, which tests would wait for.
        "syncFrequency": "4s",
        "volumePluginDir": paths.file("volume-plugins"),
    })
    .to_string()
}

fn proxy(paths: &Paths) -> String {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": paths.file("proxy.conf")},
        "mode": "iptables",
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": NODE_NAME,
        // The table's size belongs to the whole machine.
        "conntrack": {"maxPerCore": 0},
    })
    .to_string()
}

fn corefile(paths: &Paths) -> String {
    format!(
        ".:53 {{
  bind {DNS_IP}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {} local
    pods insecure
    ttl 5
  }}
  cache 5
  loadbalance
}}
",
        paths.inner_kubeconfig().display()
    )
}

/// Arguments of kube-scheduler.
pub(crate) fn scheduler(paths: &Paths) -> Vec<String> {
    args("kube-scheduler")
        .flag("kubeconfig", paths.file("scheduler.conf").display())
        .flag("leader-elect", false)
        .0
}

/// Arguments of the kubelet.
pub(crate) fn kubelet_args(paths: &Paths) -> Vec<String> {
    args("kubelet")
        .flag("config", paths.file("kubelet.yaml").display())
        .flag("kubeconfig", paths.file("kubelet.conf").display())
        .flag("hostname-override", NODE_NAME)
        .flag("node-ip", NODE_IP)
        .0
}

/// Arguments of kube-proxy.
pub(crate) fn proxy_args(paths: &Paths) -> Vec<String> {
    args("kube-proxy").flag("config", paths.file("proxy.yaml").display()).0
}

/// Arguments of CoreDNS.
pub(crate) fn coredns_args(paths: &Paths) -> Vec<String> {
    vec!["coredns".to_owned(), "-conf".to_owned(), paths.file("Corefile").display().to_string()]
}
