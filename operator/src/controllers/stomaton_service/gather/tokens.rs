//! Takes a service and those around it; gives the tokens that they hold for each other, the time, and bytes for new
//! ones. I/O: one read of each Secret of tokens, in every pass, and none for a service without callers or callees that
//! ask for tokens. No token leaves the process but into such a Secret.

use super::neighbours::{Key, Neighbours, edges, key};
use crate::{
    api,
    apply::controller_of,
    context::Context,
    controllers::stomaton_service::{
        Error,
        build::tokens::{asks, shows},
        gather::grants::Grants,
        tokens::{Given, Memory, Pair, Token, callers_name, file, tokens_name},
    },
};
use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use stomaton_crds::{keys, v1alpha1::StomatonService};

/// Tokens as they are.
#[derive(Debug, Default)]
pub struct Held {
    /// When they were read.
    pub now: Timestamp,
    /// A new token for each caller, should it need one.
    pub fresh: BTreeMap<Key, Token>,
    /// What the service accepts, by [`file`].
    pub accepted: BTreeMap<String, Pair>,
    /// What the service shows, by [`file`].
    pub shown: BTreeMap<String, Given>,
    /// Those that may call the service, if it asks for tokens.
    pub callers: BTreeMap<Key, Caller>,
    /// Those that the service may call and that ask for tokens, each with what it accepts from the service.
    pub callees: BTreeMap<Key, Option<Pair>>,
    /// Those that it names and that are not there, or not at the moment, while its pods have tokens.
    pub lost: BTreeSet<Key>,
    /// Namespaces whose Secrets the operator may not read.
    pub refused: BTreeSet<String>,
}

/// Who calls the service.
#[derive(Debug, Default)]
pub struct Caller {
    /// What it shows.
    pub given: Option<Given>,
    /// Its Deployment; read only while the service does not ask for tokens yet.
    pub deployment: Option<Deployment>,
}

/// Reads what matters to `service`, whose pods are those of `deployment`.
pub async fn read(
    ctx: &Context,
    service: &StomatonService,
    neighbours: &Neighbours,
    grants: &Grants,
    deployment: Option<&Deployment>,
) -> Result<Held, Error> {
    let (me, asks) = (key(service), deployment.is_some_and(asks));
    let mut held = Held { now: Timestamp::now(), ..Held::default() };
    if service.spec.service_auth.is_some() {
        let secret = secret(ctx, &me.0, &callers_name(&me.1), &me.1, &mut held.refused).await?;
        held.accepted = secret.as_ref().map(accepted).unwrap_or_default();
        for caller in neighbours.callers.iter().filter(|caller| grants.allow(&caller.0, &me.0, &me.1)) {
            held.callers.insert(caller.clone(), who_calls(ctx, caller, &me, asks, &mut held.refused).await?);
            held.fresh.insert(caller.clone(), Token::new(random()?));
        }
    }
    let callees: BTreeSet<_> = edges(service)
        .map(|(callee, _)| callee)
        .filter(|callee| neighbours.known.get(callee).is_some_and(|callee| callee.asks_for_tokens))
        .filter(|callee| grants.allow(&me.0, &callee.0, &callee.1))
        .collect();
    if deployment.is_some_and(shows) {
        let named = edges(service).map(|(callee, _)| callee);
        held.lost = named.filter(|callee| !neighbours.known.contains_key(callee)).collect();
    }
    if !callees.is_empty() || !held.lost.is_empty() {
        let secret = secret(ctx, &me.0, &tokens_name(&me.1), &me.1, &mut held.refused).await?;
        held.shown = secret.as_ref().map(shown).unwrap_or_default();
    }
    for callee in callees {
        let name = callers_name(&callee.1);
        let secret = secret(ctx, &callee.0, &name, &callee.1, &mut held.refused).await?;
        let pair = secret.as_ref().and_then(|secret| accepted(secret).remove(&file(&callee.0, &me)));
        held.callees.insert(callee, pair);
    }
    Ok(held)
}

async fn who_calls(
    ctx: &Context,
    caller: &Key,
    me: &Key,
    asks: bool,
    refused: &mut BTreeSet<String>,
) -> Result<Caller, api::Error> {
    let (namespace, name) = caller;
    let secret = secret(ctx, namespace, &tokens_name(name), name, refused).await?;
    let given = secret.as_ref().and_then(|secret| shown(secret).remove(&file(namespace, me)));
    let deployment = if asks {
        None
    } else {
        let api = ctx.namespaced::<Deployment>(namespace);
        api::read(|| format!("read Deployment {name}"), api.get_opt(name)).await?
    };
    Ok(Caller { given, deployment })
}

/// A Secret that the operator made for the service `of`; what somebody else has put under its name is none.
async fn secret(
    ctx: &Context,
    namespace: &str,
    name: &str,
    of: &str,
    refused: &mut BTreeSet<String>,
) -> Result<Option<Secret>, api::Error> {
    let api = ctx.namespaced::<Secret>(namespace);
    match api::read(|| format!("read Secret {name}"), api.get_opt(name)).await {
        Ok(found) => Ok(found.filter(|secret| made_for(secret, of))),
        Err(error) if error.is_forbidden() => {
            refused.insert(namespace.to_owned());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn made_for(secret: &Secret, service: &str) -> bool {
    controller_of(&secret.metadata)
        .is_some_and(|owner| owner.kind == "StomatonService" && owner.name == service)
        && secret.metadata.deletion_timestamp.is_none()
}

/// What a Secret says beside its tokens, by key.
fn remembered<T: DeserializeOwned>(secret: &Secret) -> BTreeMap<String, T> {
    let text = secret.annotations().get(keys::TOKENS);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Values that are tokens, one on each line. What is none was changed by somebody: it is as if it were not there, and
/// made anew.
fn tokens(secret: &Secret, key: &str) -> Vec<Token> {
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    let text = value.and_then(|value| std::str::from_utf8(&value.0).ok()).unwrap_or_default();
    text.lines().filter_map(Token::read).collect()
}

fn accepted(secret: &Secret) -> BTreeMap<String, Pair> {
    let pairs = remembered::<Memory>(secret).into_iter().map(|(key, memory)| {
        let accepted = tokens(secret, &key);
        (key, Pair { accepted, memory })
    });
    pairs.filter(|(_, pair)| pair.is_whole()).collect()
}

fn shown(secret: &Secret) -> BTreeMap<String, Given> {
    let given = remembered::<Timestamp>(secret).into_iter().filter_map(|(key, since)| {
        let token = tokens(secret, &key).pop()?;
        Some((key, Given { token, since }))
    });
    given.collect()
}

fn random() -> Result<[u8; 32], getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
