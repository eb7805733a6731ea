//! The command lines of etcd, the API server and the controller manager, the same for the node
//! mode and the api mode of the local cluster.
//! Takes addresses, ports and a directory, gives arguments. Pure, but for `write_files`.

use super::{
    cmd::Fault,
    pki::{self, Pki},
};
use std::path::{Path, PathBuf};

/// The address of the API server inside every cluster, the first of the service range.
const SERVICE_IP: &str = "10.96.0.1";

/// Where the API server writes what it was asked, and by which policy.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    /// An `audit.k8s.io/v1` Policy.
    pub(crate) policy: PathBuf,
    /// One JSON event a line.
    pub(crate) log: PathBuf,
}

/// One control plane: what differs between a node's and a test's.
pub(crate) struct ControlPlane {
    /// Holds `pki/`, `etcd/` and the kubeconfigs.
    pub(crate) dir: PathBuf,
    /// Ports of etcd's clients, of its peers, and of the API server.
    pub(crate) ports: [u16; 3],
    /// Where the API server listens.
    pub(crate) bind: &'static str,
    /// The address that `kubernetes.default` leads to.
    pub(crate) advertise: &'static str,
    /// Whether and where to keep an audit log.
    pub(crate) audit: Option<Audit>,
}

impl ControlPlane {
    /// The directory of the certificates.
    pub(crate) fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// The address of the API server for its neighbours.
    pub(crate) fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[2])
    }

    /// Makes the certificates of the control plane and the kubeconfigs `admin.conf` and `kcm.conf`.
    pub(crate) fn write_files(&self) -> Result<Pki, pki::Error> {
        let pki = Pki::create(self.pki())?;
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "127.0.0.1",
            SERVICE_IP,
        ];
        pki.issue("apiserver", "kube-apiserver", None, &[&names[..], &[self.advertise]].concat())?;
        pki.issue("front", "front-proxy", None, &[])?;
        pki.issue("apiserver-kubelet", "kube-apiserver-kubelet-client", Some("system:masters"), &[])?;
        pki.issue("admin", "admin", Some("system:masters"), &[])?;
        pki.issue("kcm", "system:kube-controller-manager", None, &[])?;
        self.write_kubeconfig("admin")?;
        self.write_kubeconfig("kcm")?;
        Ok(pki)
    }

    /// Writes `NAME.conf`, by which the holder of the certificate `NAME` speaks to the API server.
    pub(crate) fn write_kubeconfig(&self, name: &str) -> Result<(), Fault> {
        pki::write_kubeconfig(&self.kubeconfig(name), &self.pki(), name, &self.server(), "local")
    }

    /// The path of `NAME.conf`.
    pub(crate) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.conf"))
    }

    /// Arguments of etcd. It does not wait for the disk: the data lives as long as the process.
    pub(crate) fn etcd(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.ports[0]);
        let peer = format!("http://127.0.0.1:{}", self.ports[1]);
        args("etcd")
            .flag("data-dir", self.dir.join("etcd").display())
            .flag("listen-client-urls", &client)
            .flag("advertise-client-urls", &client)
            .flag("listen-peer-urls", &peer)
            .flag("initial-advertise-peer-urls", &peer)
            .flag("initial-cluster", format!("default={peer}"))
            .flag("unsafe-no-fsync", true)
            .flag("log-level", "warn")
            .0
    }

    /// Arguments of kube-apiserver.
    pub(crate) fn apiserver(&self) -> Vec<String> {
        let pki = |file: &str| self.pki().join(file).display().to_string();
        let mut args = args("kube-apiserver")
            .flag("etcd-servers", format!("http://127.0.0.1:{}", self.ports[0]))
            .flag("bind-address", self.bind)
            .flag("advertise-address", self.advertise)
            .flag("secure-port", self.ports[2])
            .flag("service-cluster-ip-range", "10.96.0.0/16")
            .flag("tls-cert-file", pki("apiserver.crt"))
            .flag("tls-private-key-file", pki("apiserver.key"))
            .flag("client-ca-file", pki("ca.crt"))
            .flag("service-account-key-file", pki("sa.pub"))
            .flag("service-account-signing-key-file", pki("sa.key"))
            .flag("service-account-issuer", "https://kubernetes.default.svc")
            .flag("authorization-mode", "Node,RBAC")
            .flag("enable-admission-plugins", "NodeRestriction")
            .flag("allow-privileged", true)
            .flag("kubelet-preferred-address-types", "InternalIP")
            .flag("kubelet-certificate-authority", pki("ca.crt"))
            .flag("kubelet-client-certificate", pki("apiserver-kubelet.crt"))
            .flag("kubelet-client-key", pki("apiserver-kubelet.key"))
            .flag("requestheader-client-ca-file", pki("ca.crt"))
            .flag("proxy-client-cert-file", pki("front.crt"))
            .flag("proxy-client-key-file", pki("front.key"))
            .flag("requestheader-allowed-names", "front-proxy")
            .flag("requestheader-username-headers", "X-Remote-User")
            .flag("requestheader-group-headers", "X-Remote-Group")
            .flag("requestheader-extra-headers-prefix", "X-Remote-Extra-");
        if let Some(Audit { policy, log }) = &self.audit {
            // Megabytes: never begun anew, since who reads it counts from its beginning.
            args = args
                .flag("audit-policy-file", policy.display())
                .flag("audit-log-path", log.display())
                .flag("audit-log-maxsize", 100_000);
        }
        args.0
    }

    /// Arguments of kube-controller-manager. It may ask more often than the default 20 requests a
    /// second, so that many namespaces come and go at once.
    pub(crate) fn controller_manager(&self) -> Vec<String> {
        args("kube-controller-manager")
            .flag("kubeconfig", self.kubeconfig("kcm").display())
            .flag("service-account-private-key-file", self.pki().join("sa.key").display())
            .flag("root-ca-file", self.pki().join("ca.crt").display())
            .flag("use-service-account-credentials", true)
            .flag("leader-elect", false)
            .flag("secure-port", 0)
            .flag("allocate-node-cidrs", false)
            .flag("kube-api-qps", 200)
            .flag("kube-api-burst", 400)
            .0
    }
}

/// A component's command line under construction.
pub(crate) struct Line(pub(crate) Vec<String>);

/// Starts the command line of one component of the Kubernetes binary.
pub(crate) fn args(component: &str) -> Line {
    Line(vec![component.to_owned()])
}

impl Line {
    /// Adds `--name=value`.
    pub(crate) fn flag(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.0.push(format!("--{name}={value}"));
        self
    }
}

/// The default audit policy: who did what, without bodies and without a line for each arrival.
pub(crate) fn default_audit_policy(file: &Path) -> std::io::Result<()> {
    let policy = serde_json::json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    });
    std::fs::write(file, policy.to_string())
}
