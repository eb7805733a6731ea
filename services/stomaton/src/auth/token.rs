//! A JSON Web Token: takes the text, the key and the time, gives whom it is of. Pure.
//!
//! One algorithm, HS256, whatever a token says of itself: who lets the token choose lets everybody in.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::hmac;
use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;

/// Longest token that is looked at.
const LONGEST: usize = 8 << 10;
/// Longest name of a user, and of a role.
const LONGEST_NAME: usize = 128;

/// Why nobody is known by a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TokenError {
    /// It is no token.
    #[error("the token cannot be read")]
    Malformed,
    /// It asks for another algorithm, or for something to be understood that is not.
    #[error("the token is not one of HS256")]
    Algorithm,
    /// Somebody else has signed it, or changed it.
    #[error("the token is not signed with the key of this service")]
    Signature,
    /// Its time is over, or has not come.
    #[error("the token is not valid at this time")]
    Time,
    /// Its user or a role cannot stand in a header.
    #[error("the token names a user or a role that cannot be passed on")]
    Names,
}

/// Whom a token is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) roles: Vec<String>,
    /// Seconds since the epoch.
    pub(crate) expires: i64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// What must be understood, and is not.
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    roles: Vec<String>,
    exp: i64,
    nbf: Option<i64>,
}

/// The user of `token`, which must be signed with `key`.
pub(crate) fn check(token: &str, key: &hmac::Key, now: Timestamp) -> Result<User, TokenError> {
    if token.len() > LONGEST {
        return Err(TokenError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    let header: Header = part(header)?;
    if header.alg != "HS256" || header.crit.is_some() {
        return Err(TokenError::Algorithm);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
    hmac::verify(key, signed.as_bytes(), &signature).map_err(|_| TokenError::Signature)?;
    // Only now is any of it believed.
    let Claims { sub, roles, exp, nbf } = part(claims)?;
    let now = now.as_second();
    if now >= exp || nbf.is_some_and(|from| now < from) {
        return Err(TokenError::Time);
    }
    if !is_name(&sub) || !roles.iter().all(|role| is_name(role)) {
        return Err(TokenError::Names);
    }
    Ok(User { id: sub, roles, expires: exp })
}

fn part<T: DeserializeOwned>(text: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

/// Fit for a header that is a list: no spaces, no commas.
fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub(crate) const SECRET: &[u8] = b"a secret that is long enough for it";

    pub(crate) fn key(secret: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, secret)
    }

    /// A token as whoever knows `secret` makes it.
    pub(crate) fn signed(secret: &[u8], header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let signature = hmac::sign(&key(secret), text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn checked(token: &str, now: i64) -> Result<User, TokenError> {
        check(token, &key(SECRET), Timestamp::from_second(now).unwrap())
    }

    #[test]
    fn a_token_of_ours_names_its_user_while_it_is_valid() {
        let claims = json!({"sub": "u-1", "roles": ["admin", "staff"], "exp": 200, "nbf": 100, "more": {}});
        let token = signed(SECRET, &json!({"alg": "HS256", "typ": "JWT"}), &claims);
        let roles = vec!["admin".to_owned(), "staff".to_owned()];
        assert_eq!(checked(&token, 100), Ok(User { id: "u-1".into(), roles, expires: 200 }));
        assert_eq!(checked(&token, 199).map(|user| user.id), Ok("u-1".into()));
        for outside in [99, 200] {
            assert_eq!(checked(&token, outside), Err(TokenError::Time));
        }
    }

    /// The example of RFC 7515, appendix A.1: key, token and all.
    #[test]
    fn others_make_tokens_as_we_read_them() {
        let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                     eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                     dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let key = key(&URL_SAFE_NO_PAD.decode(secret).unwrap());
        // Its signature holds; it names nobody.
        assert_eq!(check(token, &key, Timestamp::UNIX_EPOCH), Err(TokenError::Malformed));
        let changed = token.replace("dBjf", "eBjf");
        assert_eq!(check(&changed, &key, Timestamp::UNIX_EPOCH), Err(TokenError::Signature));
    }

    #[test]
    fn what_others_sign_and_what_asks_for_less_is_refused() {
        let (header, claims) = (json!({"alg": "HS256"}), json!({"sub": "u", "exp": 200}));
        let good = signed(SECRET, &header, &claims);
        assert!(checked(&good, 1).is_ok());
        let with = |header: Value| signed(SECRET, &header, &claims);
        let unsigned = with(json!({"alg": "none"}));
        let unsigned = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
        let cases = [
            (signed(b"another secret, as long as the first", &header, &claims), TokenError::Signature),
            (format!("{}A", &good[..good.len() - 4]), TokenError::Signature),
            (unsigned, TokenError::Algorithm),
            (with(json!({"alg": "none"})), TokenError::Algorithm),
            (with(json!({"alg": "RS256"})), TokenError::Algorithm),
            (with(json!({"alg": "HS256", "crit": ["exp"]})), TokenError::Algorithm),
            (String::new(), TokenError::Malformed),
            ("a.b".into(), TokenError::Malformed),
            ("a.b.c".into(), TokenError::Malformed),
            ("x".repeat(LONGEST + 1), TokenError::Malformed),
            (signed(SECRET, &header, &json!({"sub": "u"})), TokenError::Malformed),
            (signed(SECRET, &header, &json!({"sub": "a b", "exp": 200})), TokenError::Names),
            (signed(SECRET, &header, &json!({"sub": "", "exp": 200})), TokenError::Names),
            (signed(SECRET, &header, &json!({"sub": "u", "roles": ["a,b"], "exp": 200})), TokenError::Names),
        ];
        for (token, error) in cases {
            assert_eq!(checked(&token, 1), Err(error), "{token}");
        }
    }
}
