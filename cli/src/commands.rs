//! What each command does, from end to end. I/O: calls by [`Cluster`], files, standard input and output.

use crate::{
    act::{self, Wish},
    args::{Access, Args, Command, How, Output},
    cluster::Cluster,
    direct,
    error::Error,
    explain,
    export::{export, yaml},
    history, lint,
    live::{Live, say},
    status, words,
};
use clap::CommandFactory as _;
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::Value;
use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};
use stomaton_crds::v1alpha1::{Action, Gateway, MigrationPlan, Outcome};

/// Between two looks of `status --watch`.
const REDRAW: Duration = Duration::from_secs(1);

/// Does what the command line says.
pub async fn run(args: Args) -> Result<(), Error> {
    let access = &args.access;
    let of =
        |action, route, stage| move |how: How| (Wish { action, route, reason: how.reason, stage }, how.plan);
    let on = |action, route| of(action, route, None);
    match args.command {
        Command::Status { plan, watch: true, output } => watch(access, plan.as_deref(), output).await,
        Command::Status { plan, watch: false, output } => {
            let plan = Cluster::connect(access).await?.plan(plan.as_deref()).await?;
            Ok(say(&shown(&plan, output)?)?)
        }
        Command::Explain { route, plan, output } => {
            let plan = Cluster::connect(access).await?.plan(plan.as_deref()).await?;
            let text = || explain::text(&plan, &route, Timestamp::now());
            Ok(say(&printed(output, text, || explain::object(&plan, &route))?)?)
        }
        Command::History { plan, route, output } => {
            let plan = Cluster::connect(access).await?.plan(plan.as_deref()).await?;
            let route = route.as_deref();
            let text = || Ok(history::text(&plan, route));
            Ok(say(&printed(output, text, || Ok(history::object(&plan, route)))?)?)
        }
        Command::Approve { route, stage, how } => act(access, of(Action::Approve, route, stage)(how)).await,
        Command::Hold { route, how } => act(access, on(Action::Hold, Some(route))(how)).await,
        Command::Promote { route, how } => act(access, on(Action::Promote, Some(route))(how)).await,
        Command::Resume { route, stage, how } => act(access, of(Action::Resume, route, stage)(how)).await,
        Command::Halt { how } => act(access, on(Action::Halt, None)(how)).await,
        Command::Rollback { route, direct: true, how, .. } => directly(access, route, how).await,
        Command::Rollback { route, how, .. } => act(access, on(Action::Rollback, route)(how)).await,
        Command::Export { plan, retire } => exported(access, plan.as_deref(), retire).await,
        Command::Lint { files } => linted(&files),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "kubectl-stomaton", &mut text);
            Ok(say(&String::from_utf8_lossy(&text))?)
        }
    }
}

/// Text for people or an object for programs, as it was asked for.
fn printed(
    output: Option<Output>,
    text: impl FnOnce() -> Result<String, Error>,
    object: impl FnOnce() -> Result<Value, Error>,
) -> Result<String, Error> {
    match output {
        None | Some(Output::Wide) => text(),
        Some(Output::Json) => Ok(format!("{:#}\n", object()?)),
        Some(Output::Yaml) => yaml(&object()?),
    }
}

fn shown(plan: &MigrationPlan, output: Option<Output>) -> Result<String, Error> {
    let text = || Ok(status::text(plan, output == Some(Output::Wide)));
    printed(output, text, || Ok(status::object(plan)))
}

/// Shows the plan until Ctrl-C. An API server that is away is shown too: it may come back.
async fn watch(access: &Access, plan: Option<&str>, output: Option<Output>) -> Result<(), Error> {
    let cluster = Cluster::connect(access).await?;
    // A name that is wrong is wrong at once.
    let first = cluster.plan(plan).await?;
    let name = first.name_any();
    let mut live = Live::new();
    let mut last = shown(&first, output)?;
    live.show(&last)?;
    loop {
        tokio::time::sleep(REDRAW).await;
        let text = match cluster.plan(Some(&name)).await {
            Ok(plan) => {
                last = shown(&plan, output)?;
                last.clone()
            }
            Err(error) => format!("{last}\nNot up to date: {error}\n"),
        };
        live.show(&text)?;
    }
}

/// Makes an act, and says what the operator did with it.
async fn act(access: &Access, (wish, plan): (Wish, Option<String>)) -> Result<(), Error> {
    let cluster = Cluster::connect(access).await?;
    let plan = cluster.plan(plan.as_deref()).await?;
    let object = act::action(&plan, wish, cluster.user().await?, token())?;
    cluster.create(&object).await?;
    let status = cluster.outcome(&object.name_any()).await?;
    let message = words::plain(&status.message);
    match status.outcome {
        Outcome::Done => Ok(say(&format!("{message}\n"))?),
        Outcome::Refused => Err(Error::Refused(message)),
    }
}

/// What no other act has: the time, mixed with what this process alone knows.
fn token() -> u32 {
    let hash = RandomState::new().hash_one(Timestamp::now().as_nanosecond());
    (hash >> 32) as u32
}

/// Rollback without the operator.
async fn directly(access: &Access, route: Option<String>, how: How) -> Result<(), Error> {
    let cluster = Cluster::connect(access).await?;
    let plan = cluster.plan(how.plan.as_deref()).await?;
    let chosen = direct::chosen(&plan, route.as_deref())?;
    let gateway = &plan.spec.gateway_ref.name;
    let latch = cluster.latch(gateway, &chosen).await?;
    Ok(say(&direct::report(&latch, gateway, &cluster.namespace))?)
}

async fn exported(access: &Access, plan: Option<&str>, retire: bool) -> Result<(), Error> {
    let cluster = Cluster::connect(access).await?;
    let typed = cluster.plan(plan).await?;
    let plan = cluster.raw::<MigrationPlan>(&typed.name_any()).await?;
    let gateway = cluster.raw::<Gateway>(&typed.spec.gateway_ref.name).await?;
    Ok(say(&export(&plan, &gateway, retire)?)?)
}

fn linted(files: &[String]) -> Result<(), Error> {
    let read = files.iter().map(|file| text_of(file).map(|text| (file.clone(), text)));
    let texts = read.collect::<Result<Vec<_>, Error>>()?;
    let report = lint::lint(&texts);
    if !report.findings.is_empty() {
        say(&(report.findings.join("\n") + "\n"))?;
        return Err(Error::Lint(words::count(report.findings.len(), "problem")));
    }
    Ok(say(&format!("{}: nothing is wrong\n", words::count(report.objects, "object")))?)
}

fn text_of(file: &str) -> Result<String, Error> {
    let read = match file {
        "-" => std::io::read_to_string(std::io::stdin()),
        file => std::fs::read_to_string(file),
    };
    read.map_err(|source| Error::File { file: file.to_owned(), source })
}
