//! What of `cohort` can be used, as the edge gets it. Pure.
//!
//! What cannot is left out and said. Users are then told apart by what is left, in the end by their addresses; it stops
//! no route.

use super::{listen::is_object, route};
use std::collections::{BTreeMap, BTreeSet};
use stomaton_crds::{
    ids,
    keys::{AUDIENCE_PUBLIC, AUDIENCE_TESTERS, TOKEN_OF_AUDIENCE, TOKEN_OF_MONOLITH, TOKEN_OF_SERVICE},
    v1alpha1::{
        AddressFrom, Audience, Cohort, DroppedRoute, EdgeAudience, EdgeCohort, HeaderMatch, TrustedProxies,
    },
};

/// Keys that are mounted, by name of the Secret.
pub type Secrets = BTreeMap<String, BTreeSet<&'static str>>;

/// The usable part of `given`, and what has to be mounted for it; what is left out is added to `dropped`.
pub fn usable(
    given: &Cohort,
    trusted: Option<&TrustedProxies>,
    dropped: &mut Vec<DroppedRoute>,
) -> (EdgeCohort, Secrets) {
    let mut secrets = Secrets::new();
    let mut mount = |secret: &String, keys: &[&'static str]| {
        secrets.entry(secret.clone()).or_default().extend(keys);
        ids::secret_dir(secret)
    };
    let mut drop = |message: String| dropped.push(DroppedRoute { name: "cohort".into(), message });
    let header = given.header.clone().filter(|header| match fault_of_header(header, trusted) {
        None => true,
        Some(fault) => {
            drop(format!("`cohort.header`: {fault}"));
            false
        }
    });
    let cookie = if is_cookie(&given.cookie) {
        given.cookie.clone()
    } else {
        drop(format!(
            "`cohort.cookie` is {:?}: lower case letters, digits and '_', at most 32",
            given.cookie
        ));
        Cohort::default().cookie
    };
    let testers = given.testers_secret.as_ref().filter(|secret| {
        let good = is_object(secret);
        if !good {
            drop(format!("`cohort.testersSecret` is {secret:?}, which is no name of an object"));
        }
        good
    });
    let testers = testers.map(|secret| mount(secret, &[TOKEN_OF_MONOLITH, TOKEN_OF_SERVICE]));
    let mut names = BTreeSet::from([AUDIENCE_PUBLIC, AUDIENCE_TESTERS]);
    let mut audiences = Vec::new();
    for audience in &given.audiences {
        match fault(audience, trusted, &mut names) {
            Some(fault) => drop(format!("`cohort.audiences` {:?}: {fault}", audience.name)),
            None => audiences.push(EdgeAudience {
                name: audience.name.clone(),
                networks: audience.networks.clone(),
                header: audience.header.clone(),
                token: audience.token_secret.as_ref().map(|secret| mount(secret, &[TOKEN_OF_AUDIENCE])),
            }),
        }
    }
    (EdgeCohort { header, cookie, set_cookie: given.set_cookie, audiences, testers }, secrets)
}

/// What is wrong with an audience. Whoever is of one that is left out is like everybody.
fn fault<'a>(
    audience: &'a Audience,
    trusted: Option<&TrustedProxies>,
    names: &mut BTreeSet<&'a str>,
) -> Option<String> {
    let Audience { name, networks, header, token_secret } = audience;
    if !is_name(name) {
        return Some("a name has lower case letters, digits and '-', at most 32".into());
    }
    if !names.insert(name) {
        return Some("the name is taken: `public` is everybody, `testers` have tokens of their own".into());
    }
    if networks.is_empty() && header.is_none() && token_secret.is_none() {
        return Some("say who is of it: `networks`, `header` or `tokenSecret`".into());
    }
    if let Some(network) = networks.iter().find(|network| !route::is_network(network)) {
        return Some(format!("{network:?} is no network such as 10.20.0.0/16"));
    }
    if let Some(secret) = token_secret.as_ref().filter(|secret| !is_object(secret)) {
        return Some(format!("{secret:?} is no name of an object"));
    }
    let header: &HeaderMatch = header.as_ref()?;
    fault_of_header(&header.name, trusted).or_else(|| route::fault_of_header(header))
}

/// A header of 32 characters and a name have the same letters.
fn is_name(name: &str) -> bool {
    name.len() <= 32 && route::is_header(name)
}

/// What is wrong with a header that a hop is to set.
fn fault_of_header(header: &str, trusted: Option<&TrustedProxies>) -> Option<String> {
    if !route::is_header(header) {
        return Some(format!("{header:?} is no header: lower case letters, digits and '-'"));
    }
    let speaks_http = |proxies: &TrustedProxies| proxies.address_from != AddressFrom::ProxyProtocol;
    let believed = trusted.is_some_and(speaks_http);
    (!believed).then(|| "it is believed from `trustedProxies` that speak HTTP only: name them".to_owned())
}

fn is_cookie(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(address_from: AddressFrom) -> TrustedProxies {
        TrustedProxies { networks: vec!["10.0.0.0/8".into()], address_from }
    }

    fn of(cohort: &Cohort, trusted: Option<&TrustedProxies>) -> (EdgeCohort, Vec<String>) {
        let mut dropped = Vec::new();
        let (usable, _) = usable(cohort, trusted, &mut dropped);
        (usable, dropped.into_iter().map(|d| d.message).collect())
    }

    #[test]
    fn a_header_is_believed_from_hops_that_speak_http_only() {
        let cohort = Cohort { header: Some("x-user-id".into()), ..Cohort::default() };
        let hop = trusted(AddressFrom::XForwardedFor);
        assert_eq!(of(&cohort, Some(&hop)).0.header.as_deref(), Some("x-user-id"));
        let balancer = trusted(AddressFrom::ProxyProtocol);
        for trusted in [None, Some(&balancer)] {
            let (usable, said) = of(&cohort, trusted);
            assert_eq!(usable, EdgeCohort::default());
            assert!(said.len() == 1 && said[0].contains("`trustedProxies`"), "{said:?}");
        }
        let odd = Cohort { header: Some("X Y".into()), ..Cohort::default() };
        assert_eq!(of(&odd, Some(&hop)).1.len(), 1);
    }

    #[test]
    fn a_cookie_that_cannot_be_one_is_the_usual_one() {
        for bad in ["", "A", "a-b", "a b", "1a", "a;"] {
            let (usable, said) = of(&Cohort { cookie: bad.into(), ..Cohort::default() }, None);
            assert_eq!((usable, said.len()), (EdgeCohort::default(), 1), "{bad:?}");
        }
        let own = Cohort { cookie: "sid_2".into(), set_cookie: false, ..Cohort::default() };
        let (usable, said) = of(&own, None);
        assert_eq!((usable.cookie.as_str(), usable.set_cookie, said.len()), ("sid_2", false, 0));
    }

    #[test]
    fn one_bad_audience_is_left_out_and_the_others_stay() {
        let named = |name: &str| Audience {
            name: name.into(),
            networks: vec!["10.0.0.0/8".into()],
            ..Audience::default()
        };
        let header = || Some(HeaderMatch { name: "x-group".into(), value: "team".into() });
        let bad = [
            (named("public"), "the name is taken"),
            (named("testers"), "the name is taken"),
            (named("good"), "the name is taken"),
            (named("A"), "a name has"),
            (named("../x"), "a name has"),
            (Audience { name: "empty".into(), ..Audience::default() }, "say who is of it"),
            (Audience { networks: vec!["10.0.0.0".into()], ..named("a") }, "is no network"),
            (Audience { token_secret: Some("../x".into()), ..named("b") }, "no name of an object"),
            (Audience { header: header(), ..named("c") }, "`trustedProxies`"),
        ];
        for (bad, says) in bad {
            let good = Audience { token_secret: Some("team".into()), ..named("good") };
            let cohort = Cohort { audiences: vec![good, bad.clone()], ..Cohort::default() };
            let (usable, said) = of(&cohort, None);
            assert_eq!(usable.audiences.len(), 1, "{bad:?}");
            assert!(said.len() == 1 && said[0].contains(says), "{bad:?}: {said:?}");
        }
        let trusted = trusted(AddressFrom::XRealIp);
        let cohort =
            Cohort { audiences: vec![Audience { header: header(), ..named("c") }], ..Cohort::default() };
        assert_eq!(of(&cohort, Some(&trusted)).0.audiences[0].header, header());
    }

    #[test]
    fn what_is_mounted_is_named_by_secret_and_key() {
        let team = Audience { name: "team".into(), token_secret: Some("a".into()), ..Audience::default() };
        let cohort = Cohort { audiences: vec![team], testers_secret: Some("a".into()), ..Cohort::default() };
        let (usable, secrets) = usable(&cohort, None, &mut Vec::new());
        assert_eq!(secrets, [("a".to_owned(), ["monolith", "service", "token"].into())].into());
        assert_eq!(usable.testers, usable.audiences[0].token);
        let odd = Cohort { testers_secret: Some("A/b".into()), ..Cohort::default() };
        let (usable, said) = of(&odd, None);
        assert_eq!((usable.testers, said.len()), (None, 1));
    }
}
