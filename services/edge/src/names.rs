//! The only strings of others that may reach an NGINX configuration, each parsed into a type of its own. The rules
//! of the schema are checked again here: a stored object may be older than a rule, and schemas can be edited.
//! Pure.

use std::fmt;
use std::net::IpAddr;

/// Why a string was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} is refused: it must be {rule}")]
pub struct NameError {
    what: &'static str,
    given: String,
    rule: &'static str,
}

/// Declares a checked string: what it is called, what it must be, and the function that says so.
macro_rules! checked {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks `given`; the error quotes at most the first 64 characters, escaped.
            pub fn parse(given: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> bool = $check;
                if check(given) {
                    return Ok(Self(given.to_owned()));
                }
                Err(NameError { what: $what, given: given.chars().take(64).collect(), rule: $rule })
            }

            /// The checked string.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked!(
    /// Identity of a route: a hash, so it may stand in file names.
    RouteId, "route id", "16 digits of lower-case hex", is_hash
);
checked!(
    /// Salt of a group of routes.
    Salt, "salt", "16 digits of lower-case hex", is_hash
);
checked!(
    /// Directory of a Secret: a hash.
    SecretId, "id of a Secret", "16 digits of lower-case hex", is_hash
);
checked!(
    /// Key of a backend.
    BackendKey, "backend key", "1 to 64 of a-z, 0-9 and -",
    |s| (1..=64).contains(&s.len()) && s.bytes().all(is_label_byte)
);
checked!(
    /// A host name, lower case, without a port or wildcard. Not a word that a `map` of NGINX would take for
    /// something else.
    HostName, "host", "a DNS name in lower case, without port or wildcard, and no word of NGINX's own",
    |s| is_dns_name(s) && !["default", "hostnames", "include", "volatile"].contains(&s)
);
checked!(
    /// Name of a pod.
    PodName, "pod name", "a DNS name in lower case", is_dns_name
);
checked!(
    /// A path prefix: `/`, or whole segments without a `/` at the end.
    PathPrefix, "path prefix",
    "/ or segments of A-Z a-z 0-9 . _ ~ -, with no empty, . or .. segment, at most 256 characters",
    is_prefix
);

checked!(
    /// Name of a header, as it stands in the name of NGINX's variable for it.
    HeaderName, "header name", "a-z, 0-9 and -, a letter first and no - last, at most 63",
    |s| {
        s.len() <= 63
            && s.starts_with(|c: char| c.is_ascii_lowercase())
            && !s.ends_with('-')
            && s.bytes().all(is_label_byte)
    }
);
checked!(
    /// Value of a header.
    HeaderValue, "header value", "1 to 128 of A-Z a-z 0-9 . _ ~ + / = : @ -",
    |s| {
        (1..=128).contains(&s.len())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~+/=:@-".contains(&b))
    }
);

checked!(
    /// Name of an audience: it stands in the names of files.
    AudienceName, "audience", "a-z, 0-9 and -, a letter first and no - last, at most 32",
    |s| {
        s.len() <= 32
            && s.starts_with(|c: char| c.is_ascii_lowercase())
            && !s.ends_with('-')
            && s.bytes().all(is_label_byte)
    }
);
checked!(
    /// Name of a cookie, as it stands in the name of NGINX's variable for it.
    CookieName, "cookie name", "a-z, 0-9 and _, a letter first, at most 32",
    |s| {
        s.len() <= 32
            && s.starts_with(|c: char| c.is_ascii_lowercase())
            && s.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    }
);

checked!(
    /// A network: an address and the length of the part that counts.
    Network, "network", "an address and a length, such as 10.20.0.0/16", is_network
);

checked!(
    /// An origin of pages: scheme, host and port.
    Origin, "origin", "http:// or https://, a DNS name in lower case, and a port if need be", is_origin
);
checked!(
    /// A Content-Security-Policy.
    Policy, "content security policy", "1 to 1024 of A-Z a-z 0-9 space ' * . : / ; = _ -",
    |s| {
        (1..=1024).contains(&s.len())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b" '*.:/;=_-".contains(&b))
    }
);

fn is_origin(s: &str) -> bool {
    let Some(host) = s.strip_prefix("https://").or_else(|| s.strip_prefix("http://")) else { return false };
    let (host, port) = host.split_once(':').unwrap_or((host, "443"));
    is_dns_name(host) && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

fn is_network(s: &str) -> bool {
    let Some((address, length)) = s.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.bytes().all(|b| b.is_ascii_digit()) && length.parse::<u8>().is_ok_and(|length| length <= most)
}

fn is_hash(s: &str) -> bool {
    s.len() == 16 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_label_byte(b: u8) -> bool {
    matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')
}

fn is_dns_name(s: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(is_label_byte)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    s.len() <= 253 && s.split('.').all(is_label)
}

fn is_prefix(s: &str) -> bool {
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-'))
    };
    s == "/" || (s.len() <= 256 && s.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment)))
}

impl PathPrefix {
    /// Itself and every prefix of it by whole segments, longest first, `/` last.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        let whole = self.as_str();
        let cuts = whole.char_indices().rev().filter(|(at, c)| *c == '/' && *at > 0).map(|(at, _)| at);
        let longer = std::iter::once(whole.len()).chain(cuts).map(|end| &whole[..end]);
        longer.filter(|p| *p != "/").chain(std::iter::once("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_have_whole_segments() {
        for good in ["/", "/a", "/api/v1.0/~user_x-y"] {
            assert!(PathPrefix::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "/a/", "//", "/a//b", "/a/../b", "/.", "/a b", "/a%2f", "/a;b", "/é", "/a*"] {
            assert!(PathPrefix::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_are_words() {
        for good in ["x", "x-version", "accept"] {
            assert!(HeaderName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "X", "x_y", "-x", "x-", "1x", "x:", "x y", "x}", "x\n"] {
            assert!(HeaderName::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "A", "a-b", "1a", "_a", "a b", "a}", "a\n"] {
            assert!(CookieName::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "a b", "a\"", "a\\", "$a", "a;", "{", "é", "\n"] {
            assert!(HeaderValue::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_have_a_length() {
        for good in ["10.0.0.0/8", "0.0.0.0/0", "fd00::/8", "::1/128"] {
            assert!(Network::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "10.0.0.1",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "fd00::/129",
            "all",
            "unix:",
            "a.b/8",
            "10.0.0.0/8;",
        ] {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_have_no_path() {
        for good in ["https://a.example", "http://localhost:3000"] {
            assert!(Origin::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "*",
            "a.example",
            "https://",
            "https://A.b",
            "https://a/",
            "https://a:x",
            "https://a:+1",
            "https://a b",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
        assert!(Policy::parse("default-src 'self'; img-src *").is_ok());
        for bad in ["", "a\"b", "$host", "a\nb", "a\\b"] {
            assert!(Policy::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ancestors_end_at_the_root() {
        let of = |s: &str| PathPrefix::parse(s).unwrap().ancestors().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of("/"), ["/"]);
        assert_eq!(of("/a/b"), ["/a/b", "/a", "/"]);
    }

    #[test]
    fn hosts_are_names_and_nothing_of_nginx() {
        for good in ["localhost", "a.example.com", "10.0.0.1", "xn--bcher-kva.example"] {
            assert!(HostName::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["", "A.example", "*.a.example", ".a", "a.", "-a", "a:80", "~a", "default", "include", "a_b"]
        {
            assert!(HostName::parse(bad).is_err(), "{bad}");
        }
    }
}
