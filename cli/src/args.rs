//! The command line. No I/O.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

/// Where a migration is, why, and the acts of people on it.
///
/// The namespace and the cluster are those of kubectl. PLAN may be left out where a namespace has one plan.
/// Exit code: 0 it is so, 1 it failed or was refused, 2 the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "kubectl-stomaton", bin_name = "kubectl stomaton", version, about)]
pub struct Args {
    /// Which cluster.
    #[command(flatten)]
    pub access: Access,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster, and which part of it.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct Access {
    /// Namespace of the plan. Left out: that of the kubeconfig.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig. Left out: the current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig. Left out: KUBECONFIG, then ~/.kube/config, then the service account of the pod.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Where every route of a plan is.
    Status {
        /// The plan.
        plan: Option<String>,
        /// Show it anew each second, until Ctrl-C.
        #[arg(short, long)]
        watch: bool,
        /// How it is printed.
        #[arg(short, long, value_name = "FORMAT")]
        output: Option<Output>,
    },
    /// Why a route is where it is, and what it waits for, with the numbers.
    Explain {
        /// The route.
        route: String,
        /// The plan.
        plan: Option<String>,
        /// How it is printed.
        #[arg(short, long, value_name = "FORMAT")]
        output: Option<Output>,
    },
    /// Let a route enter its next step, or pass the gates of a stage, where that needs a person.
    ///
    /// Holds for the plan as it is now and the attempt that goes on now: an edit or a rollback makes it void.
    Approve {
        /// The route.
        #[arg(required_unless_present = "stage", conflicts_with = "stage")]
        route: Option<String>,
        /// The stage whose gates wait for an approval.
        #[arg(long, value_name = "STAGE")]
        stage: Option<String>,
        /// How it is done.
        #[command(flatten)]
        how: How,
    },
    /// Keep the weight of a route, and of its group, from rising until `resume`. Guards and judges stay.
    Hold {
        /// The route.
        route: String,
        /// How it is done.
        #[command(flatten)]
        how: How,
    },
    /// End a hold, a halt or a rollback of people. A route whose attempts are used begins another.
    Resume {
        /// The route, with its group. Left out: the whole plan.
        route: Option<String>,
        /// Not a route: ask the gates of this stage anew that have failed.
        #[arg(long, value_name = "STAGE", conflicts_with = "route")]
        stage: Option<String>,
        /// How it is done.
        #[command(flatten)]
        how: How,
    },
    /// Enter the next step now, without waiting for time or evidence. Guards and judges stay.
    Promote {
        /// The route.
        route: String,
        /// How it is done.
        #[command(flatten)]
        how: How,
    },
    /// Send a route, and its group, back to the monolith. They stay there until `resume`.
    ///
    /// With --direct it is written to the edge's weights themselves: that works while no operator runs.
    Rollback {
        /// The route, with its group.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        route: Option<String>,
        /// Every route of the plan.
        #[arg(long)]
        all: bool,
        /// Without the operator: latch the routes in EdgeWeights. For when it does not run.
        #[arg(long, conflicts_with = "reason")]
        direct: bool,
        /// How it is done.
        #[command(flatten)]
        how: How,
    },
    /// Keep every weight of the plan from rising until `resume`. Guards and judges still take routes back.
    Halt {
        /// How it is done.
        #[command(flatten)]
        how: How,
    },
    /// What happened to the routes of a plan, and who did what.
    History {
        /// The plan.
        plan: Option<String>,
        /// Of this route only.
        #[arg(long, value_name = "ROUTE")]
        route: Option<String>,
        /// How it is printed.
        #[arg(short, long, value_name = "FORMAT")]
        output: Option<Output>,
    },
    /// Print plan and Gateway as YAML to commit to Git: applied where neither exists, it puts every route where it is now.
    ///
    /// Applied to this cluster it changes nothing. What is not in it: acts of people, history, and how many attempts a route
    /// has used; one that was taken back begins with its first attempt again.
    Export {
        /// The plan.
        plan: Option<String>,
        /// Routes that are done belong to their services in the Gateway, and the plan no longer has them: nothing takes
        /// them back from then on.
        #[arg(long)]
        retire: bool,
    },
    /// Check files before they are applied. Needs no cluster.
    Lint {
        /// YAML files; `-` is the standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<String>,
    },
    /// Print the completions of a shell, for `kubectl-stomaton`.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// How an act is done.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct How {
    /// The plan. May be left out where the namespace has one.
    #[arg(short, long, value_name = "PLAN")]
    pub plan: Option<String>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: Option<String>,
}

/// How something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
    /// As without, and nothing is cut off.
    Wide,
}

/// What the schema of PlanAction takes.
fn reason(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0..=512 => Ok(text.to_owned()),
        n => Err(format!("{n} characters are too many: the record has room for 512")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("kubectl-stomaton").chain(line.split(' ')))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_rollback_says_of_what() {
        for right in
            ["rollback content", "rollback --all", "rollback --direct --all", "rollback content -p shop"]
        {
            assert!(parse(right).is_ok(), "{right}");
        }
        for wrong in
            ["rollback", "rollback content --all", "rollback --direct", "rollback --all --direct --reason x"]
        {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn an_approval_is_for_a_route_or_for_a_stage() {
        for right in ["approve content", "approve --stage shared", "resume", "resume --stage shared -p shop"]
        {
            assert!(parse(right).is_ok(), "{right}");
        }
        for wrong in ["approve", "approve content --stage shared", "resume content --stage shared"] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn the_namespace_may_stand_before_and_after_the_command() {
        for line in ["-n fleet status shop", "status shop -n fleet", "halt -n fleet --reason night"] {
            assert_eq!(parse(line).unwrap().access.namespace.as_deref(), Some("fleet"), "{line}");
        }
    }

    #[test]
    fn a_reason_fits_into_the_record() {
        assert!(reason(&"ä".repeat(512)).is_ok());
        assert!(reason(&"a".repeat(513)).unwrap_err().contains("512"));
    }
}
