//! By what users are told apart, checked. Pure.

use super::Notes;
use crate::names::{CookieName, HeaderName, NameError};
use stomaton_crds::v1alpha1::EdgeCohort;

/// By what users are told apart.
#[derive(Clone, Debug)]
pub(in crate::nginx) struct CheckedCohort {
    /// Header that trusted hops set.
    pub(in crate::nginx) header: Option<HeaderName>,
    pub(in crate::nginx) cookie: CookieName,
    pub(in crate::nginx) set_cookie: bool,
}

/// A header that cannot be one is left out: users are then told apart by what is left. Without a cookie that can be one
/// nothing would be, so that is a fault of the whole.
pub(super) fn cohort(given: &EdgeCohort, notes: &mut Notes) -> Result<CheckedCohort, NameError> {
    let header = given.header.as_deref().map(HeaderName::parse).transpose();
    let header = header.unwrap_or_else(|error| {
        notes.add("cohort", error.to_string());
        None
    });
    Ok(CheckedCohort { header, cookie: CookieName::parse(&given.cookie)?, set_cookie: given.set_cookie })
}
