//! What can go wrong, in words for a person at three in the morning: what it is, and on the next line what to do.

use std::io;

/// Longest wait for one answer of the API server, in seconds.
pub const CALL_SECONDS: u64 = 5;
/// Longest wait for the operator to look at an act, in seconds.
pub const LOOK_SECONDS: u64 = 10;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cluster is configured, or not well.
    #[error(
        "cannot find a cluster: {0}\nName one with --context or --kubeconfig; `kubectl config get-contexts` lists them."
    )]
    NoCluster(String),
    /// No answer in time.
    #[error(
        "cannot {doing}: no answer from the API server within {} s; the call may still have had its effect\nIs the right cluster meant, and is it up? `kubectl cluster-info` says. Then run the command again.",
        CALL_SECONDS
    )]
    Timeout {
        /// What was asked, as it stands after "cannot".
        doing: String,
    },
    /// The API server, or the way to it, said no.
    #[error("cannot {doing}: {why}\n{advice}")]
    Call {
        /// What was asked, as it stands after "cannot".
        doing: String,
        /// Why not.
        why: String,
        /// What to do.
        advice: String,
    },
    /// There is no plan to speak of.
    #[error(
        "there is no MigrationPlan in namespace {namespace}\nName another namespace with -n; `kubectl get mplan -A` lists all plans."
    )]
    NoPlan {
        /// Where it was looked for.
        namespace: String,
    },
    /// Which plan is meant is not clear.
    #[error(
        "namespace {namespace} has several plans: {names}\nSay which: by its name after the command, or with --plan for acts."
    )]
    SeveralPlans {
        /// Where.
        namespace: String,
        /// Which there are.
        names: String,
    },
    /// The plan has no such route.
    #[error("plan {plan} has no route {route}\nIts routes are: {routes}.")]
    NoRoute {
        /// The plan.
        plan: String,
        /// What was asked for.
        route: String,
        /// What there is.
        routes: String,
    },
    /// The plan has no such stage.
    #[error("plan {plan} has no stage {stage}\nIts stages are: {stages}.")]
    NoStage {
        /// The plan.
        plan: String,
        /// What was asked for.
        stage: String,
        /// What there is.
        stages: String,
    },
    /// The operator has not written of this spec yet.
    #[error(
        "plan {plan} was edited and the operator has not looked at that yet (generation {generation}, status speaks of {observed})\nRun the command again in a moment. If it stays so, the operator does not run: `kubectl get pods -n stomaton-system`."
    )]
    Stale {
        /// The plan.
        plan: String,
        /// Of the spec.
        generation: i64,
        /// Of the status.
        observed: String,
    },
    /// Nothing waits for an approval.
    #[error("nothing to approve for route {route}: {why}")]
    NothingToApprove {
        /// The route.
        route: String,
        /// Why not, and what to do.
        why: String,
    },
    /// No gate waits for an approval.
    #[error(
        "no gate of stage {stage} waits for an approval now\n`kubectl stomaton status` says what each of its gates waits for."
    )]
    NoGateToApprove {
        /// The stage.
        stage: String,
    },
    /// The operator did not do it.
    #[error("refused: {0}")]
    Refused(String),
    /// The operator did not look at an act in time.
    #[error(
        "the operator has not looked at it: is it running? To act without it: kubectl stomaton rollback --direct\nPlanAction {name} stays, and is done when the operator is back; `kubectl delete pact {name} -n {namespace}` takes it back."
    )]
    Unseen {
        /// Name of the act.
        name: String,
        /// Where it is.
        namespace: String,
    },
    /// Every write came too late.
    #[error(
        "cannot write EdgeWeights {name}: somebody else changed it at the same moment, {tries} times\nSomething else writes weights, so the operator seems to run: try `kubectl stomaton rollback` without --direct, or this again."
    )]
    Contended {
        /// Name of the EdgeWeights.
        name: String,
        /// How often it was tried.
        tries: usize,
    },
    /// An object is not what this program knows.
    #[error(
        "cannot read {what}: {why}\nIs this plugin as new as the operator? `kubectl stomaton --version`."
    )]
    Unreadable {
        /// Which object.
        what: String,
        /// Why not.
        why: String,
    },
    /// A file cannot be read.
    #[error("cannot read {file}: {source}")]
    File {
        /// Its name.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// Files are wrong; what is wrong with them was printed.
    #[error("{0} found")]
    Lint(String),
    /// Nobody takes what is printed.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// 2 when the command line has to be another one, else 1.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::SeveralPlans { .. }) { 2 } else { 1 }
    }

    /// Whether whoever reads has had enough: `kubectl stomaton history | head`.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
