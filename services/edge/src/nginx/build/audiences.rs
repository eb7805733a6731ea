//! Which audience a request is of: the first one that it fits, else everybody. Pure.
//!
//! Tokens are in no object and not in this text: it includes tables that the supervisor makes of mounted Secrets, see
//! [`crate::nginx::tokens`]. One that is missing is a token that nobody has.
//!
//! Testers choose a side by a token for each, a word that is compared. A signed token that expires would need the same
//! secret at the same place, and what NGINX can check without a module of its own (`secure_link`) is MD5 over a text and
//! a secret, which is no HMAC. A token is taken back by taking it out of the Secret.

use super::{MOVING, REMOTE_ADDR, clients, default, name, path};
use crate::names::SecretId;
use crate::nginx::Settings;
use crate::nginx::checked::{Checked, CheckedAudience};
use crate::nginx::tree::{Arg, DataError, Node, Text, Variable, block, entry, line};
use stomaton_crds::keys::{
    AUDIENCE_PUBLIC, AUDIENCE_TESTERS, TOKEN_OF_AUDIENCE, TOKEN_OF_MONOLITH, TOKEN_OF_SERVICE,
};

const AUDIENCE: Variable = Variable::named("stomaton_audience");
/// Side that a tester chose; empty: no tester.
const CHOSEN: Variable = Variable::named("stomaton_chosen");
const ASKED: Variable = Variable::named("stomaton_asked");
/// The route, if it moves and this is no tester of the monolith.
const MOVER: Variable = Variable::named("stomaton_mover");

const HTTP_TOKEN: Variable = Variable::named("http_x_stomaton_token");
const HTTP_SIDE: Variable = Variable::named("http_x_stomaton_side");
const COOKIE_SIDE: Variable = Variable::named("cookie_stomaton_side");

fn by_network(number: usize) -> Variable {
    Variable::numbered("stomaton_by_network", number, 0)
}

fn by_hop(number: usize) -> Variable {
    Variable::numbered("stomaton_by_hop", number, 0)
}

fn by_token(number: usize) -> Variable {
    Variable::numbered("stomaton_by_token", number, 0)
}

/// The audience of a request.
pub(super) fn of(config: &Checked) -> Result<Text, DataError> {
    if config.cohort.is_public() { Text::data(AUDIENCE_PUBLIC) } else { Ok(AUDIENCE.into()) }
}

/// The route whose weights count: empty, which no directory of weights has, where there are none.
pub(super) fn mover(config: &Checked) -> Variable {
    if config.cohort.testers.is_some() { MOVER } else { MOVING }
}

/// Tokens go no further than this.
pub(super) fn headers(config: &Checked) -> Vec<Node> {
    let without = |header: &'static str| line("proxy_set_header", [header.into(), Text::default().into()]);
    let has_token = config.cohort.audiences.iter().any(|audience| audience.token.is_some());
    let token = has_token.then(|| without("X-Stomaton-Token"));
    token.into_iter().chain(config.cohort.testers.is_some().then(|| without("X-Stomaton-Side"))).collect()
}

/// The tables behind all of it.
pub(super) fn tables(config: &Checked, settings: &Settings) -> Result<Vec<Node>, DataError> {
    let mut nodes = Vec::new();
    let mut otherwise = Text::data(AUDIENCE_PUBLIC)?;
    // The last one first, since each leads to those after it.
    for (number, audience) in config.cohort.audiences.iter().enumerate().rev() {
        let (tables, fits) = fits(number, audience, config, settings)?;
        nodes.extend(tables);
        if fits == Text::default() {
            continue;
        }
        let is_first = number == 0 && config.cohort.testers.is_none();
        let to = if is_first { AUDIENCE } else { Variable::numbered("stomaton_audience", number, 0) };
        let entries = vec![usually(Text::data(audience.name.as_str())?), entry(Text::default(), otherwise)];
        nodes.push(block("map", [fits.into(), name(to)], entries));
        otherwise = to.into();
    }
    match &config.cohort.testers {
        Some(testers) => nodes.extend(chosen(testers, otherwise, settings)?),
        // An audience that nobody fits.
        None if !config.cohort.is_public() && otherwise != AUDIENCE.into() => {
            nodes.push(block("map", [REMOTE_ADDR.into(), name(AUDIENCE)], vec![usually(otherwise)]));
        }
        None => {}
    }
    Ok(nodes)
}

/// Tables for one audience, and what is not empty for a request that fits it.
fn fits(
    number: usize,
    audience: &CheckedAudience,
    config: &Checked,
    settings: &Settings,
) -> Result<(Vec<Node>, Text), DataError> {
    let (mut nodes, mut fits) = (Vec::new(), Text::default());
    let yes = || Text::fixed("1");
    if !audience.networks.is_empty() {
        let mut networks = vec![default("")];
        for network in &audience.networks {
            networks.push(entry(Text::data(network.as_str())?, yes()));
        }
        nodes.push(block("geo", [name(by_network(number))], networks));
        fits = fits.var(by_network(number));
    }
    if let Some((header, value)) = &audience.header
        && clients::believes_headers(&config.trusted)
    {
        let said = Text::from(clients::TRUSTED).and(":")?.join(Text::header(header));
        let entries = vec![default(""), entry(Text::fixed("1:").and(value.as_str())?, yes())];
        nodes.push(block("map", [said.into(), name(by_hop(number))], entries));
        fits = fits.var(by_hop(number));
    }
    if let Some(secret) = &audience.token {
        let entries = vec![default(""), tokens(secret, TOKEN_OF_AUDIENCE, settings)?];
        nodes.push(block("map", [HTTP_TOKEN.into(), name(by_token(number))], entries));
        fits = fits.var(by_token(number));
    }
    Ok((nodes, fits))
}

fn chosen(testers: &SecretId, otherwise: Text, settings: &Settings) -> Result<Vec<Node>, DataError> {
    let map = |from: Arg, to: Variable, entries: Vec<Node>| block("map", [from, name(to)], entries);
    let entries = vec![
        default(""),
        tokens(testers, TOKEN_OF_MONOLITH, settings)?,
        tokens(testers, TOKEN_OF_SERVICE, settings)?,
    ];
    let monolith = entry(Text::data(TOKEN_OF_MONOLITH)?, Text::default());
    Ok(vec![
        map(
            HTTP_SIDE.into(),
            ASKED,
            vec![usually(HTTP_SIDE.into()), entry(Text::default(), COOKIE_SIDE.into())],
        ),
        map(ASKED.into(), CHOSEN, entries),
        map(
            CHOSEN.into(),
            AUDIENCE,
            vec![usually(Text::data(AUDIENCE_TESTERS)?), entry(Text::default(), otherwise)],
        ),
        map(CHOSEN.into(), MOVER, vec![usually(MOVING.into()), monolith]),
    ])
}

/// What the supervisor made of a key of a Secret. With the `*` it may be missing.
fn tokens(secret: &SecretId, key: &'static str, settings: &Settings) -> Result<Node, DataError> {
    let tables = path(&settings.token_tables_dir)?.and("/")?.and(secret.as_str())?;
    Ok(line("include", [tables.and("/")?.and(key)?.and("/*")?.into()]))
}

fn usually(value: Text) -> Node {
    entry(Text::fixed("default"), value)
}
