//! The operator as a process: started, asked over HTTP, looked at through /proc, ended. I/O.

use crate::{Fault, server::Server};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

/// A running operator; killed when dropped.
pub struct Process {
    child: Child,
    pid: u32,
    address: String,
}

impl Process {
    /// Starts the operator for one namespace, with the rights of the installation.
    pub fn start(server: &Server, namespace: &str, settings: &[(&str, &str)]) -> Result<Self, Fault> {
        // Free at this moment; nobody else on loopback takes a port in between but by bad luck, which is then said.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_stomaton-operator"))
            .env("KUBECONFIG", server.kubeconfig())
            .env("WATCH_NAMESPACE", namespace)
            .env("LISTEN", &address)
            .env("RUST_LOG", "warn")
            .envs(settings.iter().copied())
            .stdout(fs::File::options().create(true).append(true).open(server.log())?)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().ok_or("the operator ended at once")?;
        Ok(Self { child, pid, address })
    }

    async fn get(&self, path: &str) -> Result<String, Fault> {
        let answer = reqwest::get(format!("http://{}{path}", self.address)).await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// A number of /metrics: the sum over all lines that begin so.
    pub async fn metric(&self, begins: &str) -> Result<f64, Fault> {
        let text = self.get("/metrics").await?;
        let values =
            text.lines().filter(|line| line.starts_with(begins)).filter_map(|line| line.rsplit_once(' '));
        Ok(values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum())
    }

    /// Waits until `look` says so.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl AsyncFnMut() -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let begun = Instant::now();
        loop {
            let seen = look().await;
            if matches!(seen, Ok(true)) {
                return Ok(());
            }
            if begun.elapsed() > limit {
                return Err(
                    format!("the operator {what}: not within {} s ({seen:?})", limit.as_secs()).into()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until /readyz says so.
    pub async fn is_ready(&self, limit: Duration) -> Result<(), Fault> {
        self.until("is ready", limit, async || self.get("/readyz").await.map(|_| true)).await
    }

    /// Waits until this many passes over objects of this kind have ended.
    pub async fn has_reconciled(&self, kind: &str, passes: u64, limit: Duration) -> Result<(), Fault> {
        let what = format!("has made {passes} passes over {kind}s");
        self.until(&what, limit, async || Ok(self.passes(kind).await? >= passes)).await
    }

    /// Passes over objects of this kind so far.
    pub async fn passes(&self, kind: &str) -> Result<u64, Fault> {
        let begins = format!(r#"stomaton_reconcile_seconds_count{{kind="{kind}""#);
        Ok(self.metric(&begins).await? as u64)
    }

    /// Resident memory.
    pub fn rss_mib(&self) -> Result<f64, Fault> {
        e2e::bench::rss_mib(self.pid.try_into()?)
    }

    /// User and system time so far.
    pub fn cpu_seconds(&self) -> Result<f64, Fault> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name may have blanks; after its parenthesis the fields are numbers.
        let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no stat")?.1.split_whitespace().collect();
        let ticks = fields.get(11).ok_or("no utime")?.parse::<f64>()?
            + fields.get(12).ok_or("no stime")?.parse::<f64>()?;
        // Linux counts in hundredths for all programs, whatever its own clock does.
        Ok(ticks / 100.0)
    }

    /// Ends it as SIGKILL does.
    pub fn kill(&mut self) -> Result<(), Fault> {
        Ok(self.child.start_kill()?)
    }

    /// Ends it as Kubernetes does, and waits for it.
    pub async fn stop(mut self, limit: Duration) -> Result<(), Fault> {
        let pid = Pid::from_raw(self.pid.try_into()?).ok_or("the operator has no process")?;
        kill_process(pid, Signal::TERM)?;
        let ended = tokio::time::timeout(limit, self.child.wait())
            .await
            .map_err(|_| "the operator does not end")??;
        if ended.success() { Ok(()) } else { Err(format!("the operator ended with {ended}").into()) }
    }
}
