//! The safe side in place of a target that failed, request by request. Pure.
//!
//! The target is asked first, always: one that has failed is not left out for a while, or the safe side's answers would be
//! taken for its own. What NGINX may send twice is decided by the method: it never repeats POST and PATCH once they were
//! sent, and would repeat PUT and DELETE. It has no way to say "only if no connection stood", so these two have a
//! fallback for all failures or for none. It would also repeat them when a kept connection breaks; so where they are not to
//! be repeated, they have a connection of their own each.

use super::{BAD, METHOD, UPSTREAM_STATUS, name, pool};
use crate::control::Version;
use crate::nginx::Settings;
use crate::nginx::checked::Checked;
use crate::nginx::routing::Route;
use crate::nginx::tree::{DataError, Node, Text, Variable, block, entry, line};
use std::collections::BTreeSet;
use stomaton_crds::v1alpha1::{EdgeFallback, Method};

/// Whether the first attempt failed, whatever the user got.
const WORST: Variable = Variable::named("stomaton_worst");

/// Methods that always have it.
const METHODS: [Method; 5] = [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::PATCH];

/// What names the upstream of a route with a target, if it has a fallback.
pub(super) fn upstream(config: &Checked, route: &Route) -> Option<Text> {
    route.handling.fallback.as_ref()?;
    let number = config.routes.iter().position(|r| r.id == route.id)?;
    Some(by_method(number).into())
}

fn by_method(number: usize) -> Variable {
    Variable::numbered("stomaton_fallback", number, 0)
}

/// The upstreams with both sides, and the tables that choose between them and the target alone.
pub(super) fn tables(config: &Checked, settings: &Settings) -> Result<Vec<Node>, DataError> {
    let mut nodes = Vec::new();
    for (number, route) in config.routes.iter().enumerate() {
        let (Some(fallback), Some(target)) = (&route.handling.fallback, &route.target) else { continue };
        let (Some(first), Some(second)) =
            (config.backends.get(&target.backend), config.backends.get(&route.safe))
        else {
            continue;
        };
        let named = || Text::fixed("f-").and(route.id.as_str());
        let once = || Text::fixed("o-").and(route.id.as_str());
        let first = Text::data(&first.to_string())?;
        let second = Text::data(&second.to_string())?;
        let mut alone = vec![line("server", [first.clone().into()])];
        // From this version on, connections are kept unless told otherwise; before, this is not understood.
        alone.extend((settings.version >= Version(1, 29, 7)).then(|| line("keepalive", ["0".into()])));
        nodes.push(block("upstream", [once()?.into()], alone));
        nodes.push(pool(
            named()?,
            vec![
                line("server", [first.into(), "max_fails=0".into()]),
                line("server", [second.into(), "max_fails=0".into(), "backup".into()]),
            ],
        ));
        let mut entries = vec![entry(Text::fixed("default"), once()?)];
        let also = fallback.also_for.iter().filter(|method| matches!(method, Method::PUT | Method::DELETE));
        for method in METHODS.iter().chain(also).collect::<BTreeSet<_>>() {
            entries.push(entry(Text::fixed(method.as_str()), named()?));
        }
        nodes.push(block("map", [METHOD.into(), name(by_method(number))], entries));
    }
    Ok(nodes)
}

/// The directives of a route's location.
pub(super) fn nodes(fallback: &EdgeFallback) -> Result<[Node; 3], DataError> {
    let failures =
        ["error".into(), "timeout".into(), "http_502".into(), "http_503".into(), "http_504".into()];
    let within = Text::number(fallback.within_millis).and("ms")?;
    Ok([
        line("proxy_next_upstream", failures),
        line("proxy_next_upstream_tries", ["2".into()]),
        line("proxy_next_upstream_timeout", [within.into()]),
    ])
}

/// What says that an answer was bad: of the first who was asked, even if the user got a good one from the second.
pub(super) fn bad(config: &Checked, tables: &mut Vec<Node>) -> Variable {
    if config.routes.iter().all(|route| route.handling.fallback.is_none()) {
        return BAD;
    }
    let first_failed = entry(Text::fixed("~^5"), Text::fixed("1"));
    let entries =
        vec![entry(Text::fixed("default"), BAD.into()), entry(Text::default(), BAD.into()), first_failed];
    tables.push(block("map", [UPSTREAM_STATUS.into(), name(WORST)], entries));
    WORST
}
