//! Who is on which side: 1,000 buckets by a hash of the route's salt and the user's key. Pure.
//!
//! The key is the first that a request has of: a header that a trusted hop set, the cookie, the address. What stands for
//! an address is three hashes of it, a million values: too few to tell an address by, enough to spread users evenly. A
//! browser without the cookie gets exactly that as its cookie, so it agrees with the side that was just given, on every
//! route and whatever answers arrive first; and a client that never sends a cookie back keeps its side all the same.

use super::{BUCKET, MOVING, REMOTE_ADDR, ROUTE, clients, default, name};
use crate::nginx::checked::Checked;
use crate::nginx::routing::Route;
use crate::nginx::tree::{DataError, Node, Text, Variable, block, entry};

const COHORT: Variable = Variable::named("stomaton_cohort");
const SALT: Variable = Variable::named("stomaton_salt");
/// What a trusted hop says of the user.
const SAID: Variable = Variable::named("stomaton_user");
/// The key without that.
const BROWSER: Variable = Variable::named("stomaton_browser");
const SECURE: Variable = Variable::named("stomaton_secure");
/// The cookie for somebody who has none; empty on routes that nobody moves.
const COOKIE: Variable = Variable::named("stomaton_cookie");
/// The same; empty for everybody who has a key.
pub(super) const SET_COOKIE: Variable = Variable::named("stomaton_set_cookie");

/// Of the address.
const HASHES: [(Variable, &str); 3] = [
    (Variable::named("stomaton_hash_a"), "a:"),
    (Variable::named("stomaton_hash_b"), "b:"),
    (Variable::named("stomaton_hash_c"), "c:"),
];

/// The tables behind buckets and cookies.
pub(super) fn tables(config: &Checked) -> Result<Vec<Node>, DataError> {
    let mut nodes = keys(config)?;
    nodes.extend(buckets(&config.routes)?);
    if config.cohort.set_cookie {
        nodes.extend(cookies(config)?);
    }
    Ok(nodes)
}

/// The header that a trusted hop sets, if it can be believed.
fn header(config: &Checked) -> Option<Text> {
    let header = config.cohort.header.as_ref()?;
    clients::believes_headers(&config.trusted).then(|| Text::header(header))
}

fn keys(config: &Checked) -> Result<Vec<Node>, DataError> {
    let mut nodes = Vec::new();
    for (hash, prefix) in HASHES {
        let of = Text::fixed(prefix).var(REMOTE_ADDR);
        nodes.push(split(of, hash, 100, "1%"));
    }
    let cookie = || Text::cookie(&config.cohort.cookie);
    let without = |key: Variable| -> Result<Node, DataError> {
        let entries = vec![usually(cookie()), entry(Text::default(), by_address()?)];
        Ok(block("map", [cookie().into(), name(key)], entries))
    };
    match header(config) {
        None => nodes.push(without(COHORT)?),
        Some(header) => nodes.extend([
            block(
                "map",
                [clients::TRUSTED.into(), name(SAID)],
                vec![default(""), entry(Text::fixed("1"), header)],
            ),
            without(BROWSER)?,
            block(
                "map",
                [SAID.into(), name(COHORT)],
                vec![usually(SAID.into()), entry(Text::default(), BROWSER.into())],
            ),
        ]),
    }
    Ok(nodes)
}

/// What stands for an address.
fn by_address() -> Result<Text, DataError> {
    let [(a, _), (b, _), (c, _)] = HASHES;
    Ok(Text::from(a).and("-")?.var(b).and("-")?.var(c))
}

fn buckets(routes: &[Route]) -> Result<Vec<Node>, DataError> {
    let mut moving = vec![default("")];
    let mut salts = vec![default("")];
    for route in routes {
        if let Some(target) = &route.target {
            let id = || Text::data(route.id.as_str());
            moving.push(entry(id()?, id()?));
            salts.push(entry(id()?, Text::data(target.salt.as_str())?));
        }
    }
    let salted = Text::from(SALT).and(":")?.var(COHORT);
    Ok(vec![
        block("map", [ROUTE.into(), name(MOVING)], moving),
        block("map", [ROUTE.into(), name(SALT)], salts),
        split(salted, BUCKET, 1000, "0.1%"),
    ])
}

/// `parts` equal parts; the last one takes what rounding leaves.
fn split(of: Text, to: Variable, parts: i32, share: &'static str) -> Node {
    let key = |part: i32| Text::fixed(if part < parts - 1 { share } else { "*" });
    let parts = (0..parts).map(|part| entry(key(part), Text::number(part))).collect();
    block("split_clients", [of.into(), name(to)], parts)
}

fn cookies(config: &Checked) -> Result<Vec<Node>, DataError> {
    let cookie = Text::data(config.cohort.cookie.as_str())?.and("=")?.join(by_address()?);
    let cookie = cookie.and("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax")?.var(SECURE);
    let mut known = Text::cookie(&config.cohort.cookie);
    if header(config).is_some() {
        known = known.var(SAID);
    }
    Ok(vec![
        block(
            "map",
            [clients::proto(&config.trusted).into(), name(SECURE)],
            vec![default(""), entry(Text::fixed("https"), Text::fixed("; Secure"))],
        ),
        block(
            "map",
            [MOVING.into(), name(COOKIE)],
            vec![usually(cookie), entry(Text::default(), Text::default())],
        ),
        block(
            "map",
            [known.into(), name(SET_COOKIE)],
            vec![default(""), entry(Text::default(), COOKIE.into())],
        ),
    ])
}

fn usually(value: Text) -> Node {
    entry(Text::fixed("default"), value)
}
