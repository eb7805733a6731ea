//! What of `cohort` can be used, as the edge gets it. Pure.
//!
//! What cannot is left out and said. Users are then told apart by what is left, in the end by their addresses; it stops
//! no route.

use super::route::is_header;
use stomaton_crds::v1alpha1::{AddressFrom, Cohort, DroppedRoute, EdgeCohort, TrustedProxies};

/// The usable part of `given`; what is left out is added to `dropped`.
pub fn usable(
    given: &Cohort,
    trusted: Option<&TrustedProxies>,
    dropped: &mut Vec<DroppedRoute>,
) -> EdgeCohort {
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
    EdgeCohort { header, cookie, set_cookie: given.set_cookie }
}

/// What is wrong with a header that a hop is to set.
fn fault_of_header(header: &str, trusted: Option<&TrustedProxies>) -> Option<String> {
    if !is_header(header) {
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
        let usable = usable(cohort, trusted, &mut dropped);
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
}
