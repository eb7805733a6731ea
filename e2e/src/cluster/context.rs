//! A cluster that exists already, by the name of its kubeconfig context.
//! It is never started or stopped by us. I/O: talks to the cluster, runs kubectl.

use super::{
    Error, Progress,
    provider::{Access, Act, Forward, Provider, Status, UpOptions, pod_logs, port_forward, run_here},
    ready,
};
use crate::images::Image;
use std::{ffi::OsString, path::Path, process::ExitStatus};

/// A context of the user's kubeconfig.
pub(crate) struct Context {
    access: Access,
}

impl Context {
    pub(crate) fn new(context: &str) -> Self {
        Self { access: Access { kubeconfig: None, context: Some(context.to_owned()) } }
    }
}

impl Provider for Context {
    fn name(&self) -> String {
        format!("context {}", self.access.context.as_deref().unwrap_or_default())
    }

    fn up<'a>(&'a self, _: &'a UpOptions, progress: &'a Progress) -> Act<'a, Access> {
        Box::pin(async move {
            ready::api(&self.access.client().await?).await?;
            progress.say("the cluster answers");
            Ok(self.access.clone())
        })
    }

    fn down<'a>(&'a self, _: &'a Progress) -> Act<'a, ()> {
        Box::pin(async { Err(Error::NotOurs) })
    }

    fn status(&self) -> Act<'_, Status> {
        Box::pin(async {
            let nodes = self.access.nodes().await?;
            Ok(Status { access: Some(self.access.clone()), nodes })
        })
    }

    fn exec<'a>(&'a self, command: &'a [OsString]) -> Act<'a, ExitStatus> {
        Box::pin(run_here(&self.access, command))
    }

    fn load<'a>(&'a self, _: &'a [Image], _: &'a Progress) -> Act<'a, ()> {
        Box::pin(async { Err(Error::NoWayToLoad) })
    }

    fn load_archive<'a>(&'a self, _: &'a Path) -> Act<'a, ()> {
        Box::pin(async { Err(Error::NoWayToLoad) })
    }

    fn logs<'a>(&'a self, component: Option<&'a str>) -> Act<'a, String> {
        Box::pin(pod_logs(&self.access, component))
    }

    fn forward<'a>(&'a self, namespace: &'a str, service: &'a str, port: u16) -> Act<'a, Forward> {
        Box::pin(port_forward(&self.access, namespace, service, port))
    }
}
