//! What is added to answers, checked. Pure.

use super::RouteError;
use crate::names::{HeaderName, NameError, Origin, Policy};
use stomaton_crds::v1alpha1::{Cors, FrameOptions, Method, ReferrerPolicy, SecurityHeaders};

/// Which pages of other origins may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::nginx) struct CheckedCors {
    /// `None`: all.
    pub(in crate::nginx) origins: Option<Vec<Origin>>,
    pub(in crate::nginx) methods: Vec<Method>,
    pub(in crate::nginx) headers: Vec<HeaderName>,
    pub(in crate::nginx) expose: Vec<HeaderName>,
    pub(in crate::nginx) credentials: bool,
    pub(in crate::nginx) max_age: i32,
}

/// Headers that are added to answers without them, with what they say. Empty: not at all.
#[derive(Clone, Debug, Default)]
pub(in crate::nginx) struct CheckedSecurity {
    pub(in crate::nginx) no_sniff: bool,
    pub(in crate::nginx) frame: Option<&'static str>,
    pub(in crate::nginx) referrer: Option<&'static str>,
    /// Seconds; 0: not at all.
    pub(in crate::nginx) hsts: i32,
    pub(in crate::nginx) policy: Option<Policy>,
}

pub(super) fn cors(given: &Cors) -> Result<CheckedCors, RouteError> {
    let names = |given: &[String]| given.iter().map(|n| HeaderName::parse(n)).collect::<Result<Vec<_>, _>>();
    let any = given.allow_origins.iter().any(|origin| origin == "*");
    if any && (given.allow_origins.len() > 1 || given.allow_credentials) {
        return Err(RouteError::Range("cors with `*`"));
    }
    if !(0..=86_400).contains(&given.max_age_seconds) {
        return Err(RouteError::Range("maxAgeSeconds"));
    }
    // What is joined must fit into a word of NGINX's.
    if [&given.allow_headers, &given.expose_headers].iter().any(|headers| headers.len() > 32) {
        return Err(RouteError::Range("the number of headers"));
    }
    let origins = || given.allow_origins.iter().map(|o| Origin::parse(o)).collect::<Result<Vec<_>, _>>();
    let usual = || vec![Method::GET, Method::HEAD, Method::POST];
    Ok(CheckedCors {
        origins: if any { None } else { Some(origins()?) },
        methods: if given.allow_methods.is_empty() { usual() } else { given.allow_methods.clone() },
        headers: names(&given.allow_headers)?,
        expose: names(&given.expose_headers)?,
        credentials: given.allow_credentials,
        max_age: given.max_age_seconds,
    })
}

/// What can be sent of `given`, and why the rest cannot.
pub(super) fn security(given: &SecurityHeaders) -> (CheckedSecurity, Option<NameError>) {
    let policy = given.content_security_policy.as_deref().map(Policy::parse).transpose();
    let (policy, error) = match policy {
        Ok(policy) => (policy, None),
        Err(error) => (None, Some(error)),
    };
    let checked = CheckedSecurity {
        no_sniff: given.no_sniff,
        frame: match given.frame_options {
            FrameOptions::SameOrigin => Some("SAMEORIGIN"),
            FrameOptions::Deny => Some("DENY"),
            FrameOptions::Unset => None,
        },
        referrer: match given.referrer_policy {
            ReferrerPolicy::StrictOriginWhenCrossOrigin => Some("strict-origin-when-cross-origin"),
            ReferrerPolicy::SameOrigin => Some("same-origin"),
            ReferrerPolicy::NoReferrer => Some("no-referrer"),
            ReferrerPolicy::Unset => None,
        },
        hsts: given.hsts_seconds.clamp(0, 63_072_000),
        policy,
    };
    (checked, error)
}
