//! Load pods, in front of an edge (started until every edge pod is met) or straight in front of a service: read through
//! the API server while they run, and emptied of their records at the end. I/O: the API server, and through it the pods.

use super::{
    Doing as _, Error, fleet::Fleet, namespace::Namespace, proxy::PodPort, service::Service, wait, wait::Seen,
};
use crate::load::{engine::Report, record::Record};
use futures::future::try_join_all;
use http::{HeaderMap, Method};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const CONTROL: u16 = 9900;
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// The edge's Service ties a client to one edge pod, and which one is chance: each new pod has at least an even chance
/// to meet the one that is missing, so this many are enough but once in a million.
const MAX_PODS: u32 = 20;

/// What the load pods send, all together.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Load pods that send at the same time.
    pub pods: u32,
    /// Requests a second of all pods.
    pub rate: u32,
    /// Clients of each pod, as in `keepalive=4`.
    pub modes: Vec<&'static str>,
    /// Requests, each as `/path` or `METHOD /path`; taken in turn.
    pub paths: Vec<&'static str>,
    /// Further options of `e2e load`, pod by pod; begun anew when there are more pods.
    pub variants: Vec<Vec<&'static str>>,
    /// Secrets that load pods have as files, each with its directory.
    pub secrets: Vec<(&'static str, &'static str)>,
    /// Over TLS: then variants name `--host` and `--ca`.
    pub https: bool,
    /// The load ends by itself after this time.
    pub at_most: Duration,
}

impl Mix {
    /// All three kinds of clients, at this rate, asking for the content route.
    pub fn of_all_kinds(rate: u32) -> Self {
        Self {
            pods: 3,
            rate,
            modes: vec!["keepalive=8", "fresh=4", "http2=4"],
            paths: vec!["/api/v1/content/recent?limit=5", "/api/v1/content/stats"],
            variants: Vec::new(),
            secrets: Vec::new(),
            https: false,
            at_most: Duration::from_secs(600),
        }
    }

    /// Every kind of client with every habit: clients that look whether a connection was closed, clients that do not, and
    /// clients that are 30 ms away.
    pub fn of_all_habits(rate: u32) -> Self {
        Self {
            modes: vec!["keepalive=16", "fresh=8", "http2=8"],
            variants: vec![vec![], vec!["--no-check-eof"], vec!["--delay", "15ms"]],
            ..Self::of_all_kinds(rate)
        }
    }

    /// The kinds of clients that a service of the fleet understands without an edge before it: one pod's look whether a
    /// connection was closed, the other's do not.
    pub fn of_http1(rate: u32) -> Self {
        Self {
            pods: 2,
            modes: vec!["keepalive=8", "fresh=4"],
            variants: vec![vec![], vec!["--no-check-eof"]],
            ..Self::of_all_kinds(rate)
        }
    }

    fn args(&self, address: &str, number: u32) -> Vec<String> {
        let scheme = if self.https { "https" } else { "http" };
        let (target, listen) = (format!("{scheme}://{address}"), format!("0.0.0.0:{CONTROL}"));
        let (rate, seed) = ((self.rate / self.pods).to_string(), number.to_string());
        let at_most = format!("{}s", self.at_most.as_secs());
        #[rustfmt::skip]
        let mut args = vec![
            "load", "--target", &target, "--listen", &listen, "--linger", "10m", "--duration", &at_most,
            "--rate", &rate, "--keys", "500", "--seed", &seed, "--body", r#"{"stone_id":"ruby-mogok"}"#,
        ];
        args.extend(self.modes.iter().flat_map(|mode| ["--mode", mode]));
        args.extend(self.paths.iter().flat_map(|path| ["--path", path]));
        args.extend(self.variants.iter().cycle().nth(number as usize).into_iter().flatten());
        args.into_iter().map(str::to_owned).collect()
    }
}

/// Load pods that send.
pub struct Traffic<'a> {
    namespace: &'a Namespace<'a>,
    /// Of the Service that they send to.
    address: String,
    mix: Mix,
    senders: Vec<Sender>,
    /// Records of pods that were replaced.
    retired: Vec<Record>,
    /// Answers to the pod whose records were thrown away.
    unrecorded: u64,
    started: u32,
}

struct Sender {
    /// Its number among those that send; a replacement takes it over.
    number: u32,
    control: PodPort,
    /// None: there is no edge before the service.
    edge: Option<String>,
}

/// What all load pods have done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests of which at least the connect was tried.
    pub sent: u64,
    /// Requests without a full answer.
    pub lost: u64,
    /// Answers by side: `service`, `monolith`, `none`.
    pub side: BTreeMap<String, u64>,
    /// Answers with a status of 500 or more.
    pub failed: u64,
}

impl<'a> Traffic<'a> {
    /// Starts load pods, and replaces some until each of the fleet's edge pods is met by at least one. The total rate
    /// is that of the mix all the while.
    pub async fn start(fleet: &Fleet<'a>, mix: Mix) -> Result<Self, Error> {
        let mut traffic = Self::anywhere(fleet, mix).await?;
        let edge_pods = fleet.edge_pods().await?;
        while let Some(missing) = traffic.missing(&edge_pods) {
            if traffic.started >= MAX_PODS {
                let seen = format!("{MAX_PODS} load pods were started, none of them was sent to {missing}");
                return Err(Error::Never { what: "every edge pod to get traffic".into(), seen });
            }
            let number = traffic.retire_one_of_many().await?;
            traffic.add(number).await?;
        }
        Ok(traffic)
    }

    /// Starts load pods, whichever edge pods they are sent to.
    pub async fn anywhere(fleet: &Fleet<'a>, mix: Mix) -> Result<Self, Error> {
        let address = if mix.https { fleet.https_address().await? } else { fleet.address().await? };
        let mut traffic = Self::toward(fleet.namespace, address, mix).await?;
        for number in 0..traffic.mix.pods {
            traffic.add(number).await?;
        }
        Ok(traffic)
    }

    /// Starts load pods that send straight to a service.
    pub async fn straight(service: &Service<'a>, mix: Mix) -> Result<Self, Error> {
        let mut traffic = Self::toward(service.namespace, service.address().await?, mix).await?;
        for number in 0..traffic.mix.pods {
            let (control, ()) = traffic.send(number, answered).await?;
            traffic.senders.push(Sender { number, control, edge: None });
        }
        Ok(traffic)
    }

    /// No load yet, but an address that answers. Nodes learn of new endpoints a moment after the API server says that
    /// they are ready, and refuse connections until then. That moment is nobody's loss, so it belongs to a pod whose
    /// records are thrown away.
    async fn toward(namespace: &'a Namespace<'a>, address: String, mix: Mix) -> Result<Self, Error> {
        let (senders, retired) = (Vec::new(), Vec::new());
        let mut traffic = Self { namespace, address, mix, senders, retired, unrecorded: 0, started: 0 };
        let (first, ()) = traffic.send(0, answered).await?;
        let records = traffic.empty(&first).await?;
        traffic.unrecorded = records.iter().filter_map(answered).count() as u64;
        traffic.started = 0;
        Ok(traffic)
    }

    fn missing<'e>(&self, edge_pods: &'e [String]) -> Option<&'e String> {
        let met: BTreeSet<_> = self.senders.iter().filter_map(|sender| sender.edge.as_ref()).collect();
        edge_pods.iter().find(|pod| !met.contains(pod))
    }

    async fn add(&mut self, number: u32) -> Result<(), Error> {
        let (control, edge) = self.send(number, |record| record.pod().map(str::to_owned)).await?;
        self.senders.push(Sender { number, control, edge: Some(edge) });
        Ok(())
    }

    /// Starts a load pod, and waits for the first record in which `find` finds something.
    async fn send<T>(
        &mut self,
        number: u32,
        find: impl Fn(&Record) -> Option<T>,
    ) -> Result<(PodPort, T), Error> {
        self.started += 1;
        let pods = self.namespace.api::<Pod>();
        let pod = pods.create(&PostParams::default(), &self.pod(number)?).await.doing("create a load pod")?;
        let name = pod.name_any();
        let control = PodPort::new(&self.namespace.harness.client, &self.namespace.name, &name, CONTROL);
        let what = format!("the load pod {name} to get answers");
        let found = wait::until(&what, STARTS_WITHIN, async || {
            let phase = pods.get(&name).await.doing("read it")?.status.and_then(|status| status.phase);
            match phase.as_deref() {
                Some("Running") => {}
                Some("Failed" | "Succeeded") => return Ok(Seen::Never("it has ended: see its log".into())),
                phase => return Ok(Seen::NotYet(format!("it is {}", phase.unwrap_or("new")))),
            }
            let (records, _) = page(&control, 0).await?;
            Ok(match (records.iter().find_map(&find), records.last()) {
                (Some(found), _) => Seen::Yes(found),
                (None, Some(last)) => {
                    Seen::NotYet(format!("the last of {}: {}", records.len(), last.to_line()))
                }
                (None, None) => Seen::NotYet("it has sent nothing".into()),
            })
        })
        .await?;
        Ok((control, found))
    }

    /// Ends a load pod whose edge pod is met by another one too, and gives its number.
    async fn retire_one_of_many(&mut self) -> Result<u32, Error> {
        let met_twice =
            |i: &usize| self.senders.iter().filter(|s| s.edge == self.senders[*i].edge).count() > 1;
        let Some(index) = (0..self.senders.len()).find(met_twice) else {
            let seen = "there are fewer load pods than edge pods".to_owned();
            return Err(Error::Never { what: "every edge pod to get traffic".into(), seen });
        };
        let sender = self.senders.swap_remove(index);
        let records = self.empty(&sender.control).await?;
        self.retired.extend(records);
        Ok(sender.number)
    }

    /// What was done so far.
    pub async fn totals(&self) -> Result<Totals, Error> {
        let reports = try_join_all(self.senders.iter().map(|s| s.control.get::<Report>("/summary"))).await?;
        let mut totals = Totals::default();
        for summary in reports.into_iter().map(|report| report.summary) {
            totals.sent += summary.sent;
            totals.lost += summary.lost;
            totals.failed += summary.paths.iter().map(|path| path.failed).sum::<u64>();
            for (side, n) in summary.side {
                *totals.side.entry(side).or_default() += n;
            }
        }
        Ok(totals)
    }

    /// Answers that were given before the load began, to find out whether its address answers: no record has them.
    pub fn unrecorded(&self) -> u64 {
        self.unrecorded
    }

    /// Waits until this many more requests have been sent.
    pub async fn goes_on(&self, requests: u64) -> Result<(), Error> {
        self.reaches(self.totals().await?.sent + requests, STARTS_WITHIN).await
    }

    /// Waits until this many requests have been sent.
    pub async fn reaches(&self, requests: u64, limit: Duration) -> Result<(), Error> {
        wait::until(&format!("{requests} requests to be sent"), limit, async || {
            let sent = self.totals().await?.sent;
            Ok(Seen::when(sent >= requests, || format!("{sent} sent")))
        })
        .await
    }

    /// All records so far, while the load goes on.
    pub async fn records(&self) -> Result<Vec<Record>, Error> {
        let mut records = self.retired.clone();
        for sender in &self.senders {
            records.extend(everything(&sender.control).await?);
        }
        Ok(records)
    }

    /// Ends the load, and gives every record of every pod.
    pub async fn finish(mut self) -> Result<Vec<Record>, Error> {
        try_join_all(self.senders.iter().map(|s| s.control.ask(Method::POST, "/stop", String::new())))
            .await?;
        let mut records = std::mem::take(&mut self.retired);
        for sender in &self.senders {
            records.extend(self.empty(&sender.control).await?);
        }
        Ok(records)
    }

    /// Ends one load pod and gives its records.
    async fn empty(&self, control: &PodPort) -> Result<Vec<Record>, Error> {
        control.ask(Method::POST, "/stop", String::new()).await?;
        let what = format!("the load pod {} to have all its answers", control.pod());
        wait::until(&what, STARTS_WITHIN, async || {
            let report: Report = control.get("/summary").await?;
            Ok(Seen::when(report.done, || {
                format!("{} of {} answered", report.summary.answered, report.summary.sent)
            }))
        })
        .await?;
        let records = everything(control).await?;
        let pods = self.namespace.api::<Pod>();
        let now = DeleteParams::default().grace_period(1);
        pods.delete(control.pod(), &now).await.doing(format!("delete the load pod {}", control.pod()))?;
        Ok(records)
    }

    fn pod(&self, number: u32) -> Result<Pod, Error> {
        let volume = |name: &str| json!({"name": name, "secret": {"secretName": name}});
        let mount = |name: &str, dir: &str| json!({"name": name, "mountPath": dir, "readOnly": true});
        let secrets = &self.mix.secrets;
        let object = json!({
            "metadata": {"generateName": "load-", "labels": {"app.kubernetes.io/name": "load"}},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 1,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "load",
                    "image": "stomaton/load:dev",
                    "args": self.mix.args(&self.address, number),
                    "ports": [{"containerPort": CONTROL}],
                    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
                    "volumeMounts": secrets.iter().map(|&(name, dir)| mount(name, dir)).collect::<Vec<_>>(),
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }],
                "volumes": secrets.iter().map(|&(name, _)| volume(name)).collect::<Vec<_>>(),
            },
        });
        serde_json::from_value(object)
            .map_err(|source| Error::Unreadable { what: "the manifest of a load pod".into(), source })
    }
}

/// Whether a request was answered in full.
fn answered(record: &Record) -> Option<()> {
    record.loss.is_none().then_some(())
}

/// Every record of a load pod so far.
async fn everything(control: &PodPort) -> Result<Vec<Record>, Error> {
    let mut all = Vec::new();
    loop {
        let (records, next) = page(control, all.len()).await?;
        if records.is_empty() {
            return Ok(all);
        }
        all.extend(records);
        if next != all.len() {
            let (seen, pod) = (all.len(), control.pod());
            return Err(Error::Broken(format!(
                "load pod {pod} gave {seen} records and says that it gave {next}"
            )));
        }
    }
}

/// Records from index `from`, and the index to go on with.
async fn page(control: &PodPort, from: usize) -> Result<(Vec<Record>, usize), Error> {
    let answer = control.ask(Method::GET, &format!("/records?from={from}"), String::new()).await?;
    let unreadable = |source| Error::Unreadable { what: format!("a record of {}", control.pod()), source };
    let text = String::from_utf8_lossy(answer.body());
    let records: Result<Vec<_>, _> = text.lines().map(Record::from_line).collect();
    let records = records.map_err(unreadable)?;
    let next = next_of(answer.headers()).unwrap_or(from + records.len());
    Ok((records, next))
}

fn next_of(headers: &HeaderMap) -> Option<usize> {
    headers.get("x-next")?.to_str().ok()?.parse().ok()
}
