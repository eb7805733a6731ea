//! By what users are told apart, checked. Pure.

use super::Notes;
use crate::names::{AudienceName, CookieName, HeaderName, HeaderValue, NameError, Network, SecretId};
use std::collections::BTreeSet;
use stomaton_crds::keys::{AUDIENCE_PUBLIC, AUDIENCE_TESTERS};
use stomaton_crds::v1alpha1::{EdgeAudience, EdgeCohort};

/// By what users are told apart.
#[derive(Clone, Debug)]
pub(in crate::nginx) struct CheckedCohort {
    /// Header that trusted hops set.
    pub(in crate::nginx) header: Option<HeaderName>,
    pub(in crate::nginx) cookie: CookieName,
    pub(in crate::nginx) set_cookie: bool,
    pub(in crate::nginx) audiences: Vec<CheckedAudience>,
    /// Where tokens of testers are.
    pub(in crate::nginx) testers: Option<SecretId>,
}

impl CheckedCohort {
    /// Whether all users are alike.
    pub(in crate::nginx) fn is_public(&self) -> bool {
        self.audiences.is_empty() && self.testers.is_none()
    }
}

/// Who fits any of this.
#[derive(Clone, Debug)]
pub(in crate::nginx) struct CheckedAudience {
    pub(in crate::nginx) name: AudienceName,
    pub(in crate::nginx) networks: Vec<Network>,
    pub(in crate::nginx) header: Option<(HeaderName, HeaderValue)>,
    /// Where its token is.
    pub(in crate::nginx) token: Option<SecretId>,
}

/// Why an audience was left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum AudienceError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the name is taken, or means something else")]
    Taken,
}

/// A header that cannot be one is left out: users are then told apart by what is left. Without a cookie that can be one
/// nothing would be, so that is a fault of the whole.
pub(super) fn cohort(given: &EdgeCohort, notes: &mut Notes) -> Result<CheckedCohort, NameError> {
    let header = given.header.as_deref().map(HeaderName::parse).transpose();
    let header = header.unwrap_or_else(|error| {
        notes.add("cohort", error.to_string());
        None
    });
    let testers = given.testers.as_deref().map(SecretId::parse).transpose().unwrap_or_else(|error| {
        notes.add(AUDIENCE_TESTERS, error.to_string());
        None
    });
    let audiences = audiences(&given.audiences, notes);
    let cookie = CookieName::parse(&given.cookie)?;
    Ok(CheckedCohort { header, cookie, set_cookie: given.set_cookie, audiences, testers })
}

/// Whoever is of one that is left out is like everybody.
fn audiences(given: &[EdgeAudience], notes: &mut Notes) -> Vec<CheckedAudience> {
    let mut names = BTreeSet::from([AUDIENCE_PUBLIC, AUDIENCE_TESTERS]);
    let mut checked = Vec::new();
    for given in given {
        match audience(given, &mut names) {
            Ok(audience) => checked.push(audience),
            Err(error) => notes.add(&given.name, error.to_string()),
        }
    }
    checked
}

fn audience<'a>(
    given: &'a EdgeAudience,
    names: &mut BTreeSet<&'a str>,
) -> Result<CheckedAudience, AudienceError> {
    let audience = CheckedAudience {
        name: AudienceName::parse(&given.name)?,
        networks: given.networks.iter().map(|network| Network::parse(network)).collect::<Result<_, _>>()?,
        header: given.header.as_ref().map(super::header).transpose()?,
        token: given.token.as_deref().map(SecretId::parse).transpose()?,
    };
    if names.insert(&given.name) { Ok(audience) } else { Err(AudienceError::Taken) }
}
