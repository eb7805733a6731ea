//! The last look at a configuration before NGINX sees it: the text means the tree it was made from, and holds nothing
//! but the directives, contexts and forms that this program has a use for. Whatever was forgotten on the way here, a
//! configuration that says more than it should is never written. Pure.

use super::encode::encode;
use super::lex::{Statement, lex};
use super::tree::{Arg, Head, Node, Part, Text};
use crate::names::SecretId;
use stomaton_crds::keys::TOKEN_KEYS;

/// Why a configuration is not handed out. None of these can happen as long as the program is right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The lexer's words.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// Something of somebody's became syntax.
    #[error("it does not mean what it was made from")]
    NotTheTree,
    /// A directive that is never rendered, or not there.
    #[error("`{directive}` has no place in {context}")]
    NotAllowed {
        /// The directive, or the first characters of what stands where one should.
        directive: String,
        /// Where it stood.
        context: &'static str,
    },
    /// An allowed directive with arguments that it never has.
    #[error("`{0}` has a form that is never rendered")]
    Form(String),
}

/// Whether `text`, which was made from `tree`, may be handed to NGINX.
pub(super) fn pass(tree: &[Node], text: &str) -> Result<(), GateError> {
    let read = lex(text).map_err(GateError::Unreadable)?;
    if read != statements(tree) {
        return Err(GateError::NotTheTree);
    }
    read.iter().try_for_each(|statement| look(statement, Context::Main))
}

/// The text of `entries` for a table of its own file, if it may be handed to NGINX.
pub(super) fn table(entries: &[Node]) -> Result<String, GateError> {
    let text = encode(entries);
    let read = lex(&text).map_err(GateError::Unreadable)?;
    if read != statements(entries) {
        return Err(GateError::NotTheTree);
    }
    read.iter().try_for_each(|statement| look(statement, Context::Table))?;
    Ok(text)
}

/// What NGINX has to read for it to mean `nodes`.
pub(super) fn statements(nodes: &[Node]) -> Vec<Statement> {
    nodes.iter().map(statement).collect()
}

fn statement(node: &Node) -> Statement {
    let head = match &node.head {
        Head::Name(name) => (*name).to_owned(),
        Head::Key(key) => plain(key),
    };
    let args = node.args.iter().map(|arg| match arg {
        Arg::Word(word) => (*word).to_owned(),
        Arg::Text(text) => plain(text),
        Arg::Definition(variable) => format!("${variable}"),
    });
    Statement {
        words: std::iter::once(head).chain(args).collect(),
        block: node.block.as_deref().map(statements),
    }
}

fn plain(text: &Text) -> String {
    text.0.iter().map(Part::plain).collect()
}

/// Where a directive stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Context {
    Main,
    Events,
    Http,
    Upstream,
    Server,
    Location,
    If,
    /// `map` and the like: keys and values instead of directives.
    Table,
}

impl Context {
    fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Events => "events",
            Self::Http => "http",
            Self::Upstream => "upstream",
            Self::Server => "server",
            Self::Location => "location",
            Self::If => "if",
            Self::Table => "a table",
        }
    }

    /// The simple directives that may stand here.
    fn simple(self) -> &'static [&'static str] {
        match self {
            Self::Main => {
                &["error_log", "pid", "worker_processes", "worker_rlimit_nofile", "worker_shutdown_timeout"]
            }
            Self::Events => &["worker_connections"],
            Self::Http => HTTP,
            Self::Upstream => &["keepalive", "keepalive_requests", "keepalive_timeout", "server"],
            Self::Server => SERVER,
            Self::Location => LOCATION,
            Self::If => &["add_header", "return", "set"],
            Self::Table => &[],
        }
    }

    /// What is inside the block of `directive`; `None`: it has none here.
    fn inside(self, directive: &str) -> Option<Self> {
        match (self, directive) {
            (Self::Main, "events") => Some(Self::Events),
            (Self::Main, "http") => Some(Self::Http),
            (Self::Http, "geo" | "map" | "split_clients") => Some(Self::Table),
            (Self::Http, "upstream") => Some(Self::Upstream),
            (Self::Http, "server") => Some(Self::Server),
            (Self::Server, "location") => Some(Self::Location),
            (Self::Location, "if") => Some(Self::If),
            _ => None,
        }
    }
}

const HTTP: &[&str] = &[
    "access_log",
    "client_body_temp_path",
    "client_max_body_size",
    "default_type",
    "fastcgi_temp_path",
    "keepalive_min_timeout",
    "keepalive_requests",
    "keepalive_timeout",
    "limit_req_dry_run",
    "limit_req_status",
    "limit_req_zone",
    "log_format",
    "map_hash_bucket_size",
    "map_hash_max_size",
    "proxy_headers_hash_bucket_size",
    "proxy_headers_hash_max_size",
    "proxy_temp_path",
    "real_ip_header",
    "real_ip_recursive",
    "scgi_temp_path",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
    "server_tokens",
    "set_real_ip_from",
    "ssl_certificate",
    "ssl_certificate_cache",
    "ssl_certificate_key",
    "ssl_ciphers",
    "ssl_protocols",
    "ssl_session_cache",
    "ssl_session_timeout",
    "uninitialized_variable_warn",
    "uwsgi_temp_path",
    "variables_hash_bucket_size",
    "variables_hash_max_size",
];

const SERVER: &[&str] = &[
    "access_log",
    "add_header",
    "auth_request_set",
    "default_type",
    "http2",
    "listen",
    "proxy_buffer_size",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_connect_timeout",
    "proxy_hide_header",
    "proxy_http_version",
    "proxy_max_temp_file_size",
    "proxy_next_upstream",
    "proxy_read_timeout",
    "proxy_send_timeout",
    "proxy_set_header",
    "server_name",
];

const LOCATION: &[&str] = &[
    "access_log",
    "add_header",
    "allow",
    "auth_request",
    "client_max_body_size",
    "default_type",
    "deny",
    "error_page",
    "gzip",
    "gzip_min_length",
    "gzip_proxied",
    "gzip_types",
    "gzip_vary",
    "internal",
    "limit_req",
    "proxy_buffering",
    "proxy_connect_timeout",
    "proxy_hide_header",
    "proxy_http_version",
    "proxy_intercept_errors",
    "proxy_next_upstream",
    "proxy_next_upstream_timeout",
    "proxy_next_upstream_tries",
    "proxy_pass",
    "proxy_pass_request_body",
    "proxy_read_timeout",
    "proxy_redirect",
    "proxy_send_timeout",
    "proxy_set_header",
    "return",
    "rewrite",
    "root",
    "set",
];

fn look(statement: &Statement, context: Context) -> Result<(), GateError> {
    let directive = statement.words.first().map_or("", String::as_str);
    let words: Vec<&str> = statement.words.iter().map(String::as_str).collect();
    // NGINX reads words into a buffer of 4096 bytes.
    if words.iter().any(|word| word.len() > 4000) || !has_known_form(context, &words) {
        return Err(GateError::Form(directive.chars().take(64).collect()));
    }
    let inside = context.inside(directive);
    let is_known = match &statement.block {
        Some(_) => inside.is_some(),
        None => context == Context::Table || context.simple().contains(&directive),
    };
    if !is_known {
        let directive = directive.chars().take(64).collect();
        return Err(GateError::NotAllowed { directive, context: context.name() });
    }
    let (Some(block), Some(inside)) = (&statement.block, inside) else { return Ok(()) };
    block.iter().try_for_each(|statement| look(statement, inside))
}

/// What the dangerous ones among the allowed directives look like, and nothing else.
fn has_known_form(context: Context, words: &[&str]) -> bool {
    match (context, words) {
        (Context::Table, ["include", path]) => is_token_table(path),
        // Not data: the one expression that is rendered, and it captures nothing.
        (Context::Table, ["~^5", "1"]) => true,
        // A key with `~` is a regular expression, and these words are not keys at all.
        (Context::Table, [key, _]) => !key.starts_with('~') && !matches!(*key, "hostnames" | "volatile"),
        (Context::Table, _) => false,
        (_, ["auth_request", path]) => path.starts_with("/.stomaton/auth"),
        (_, ["auth_request_set", variable, value]) => {
            variable.starts_with("$stomaton_identity_") && value.starts_with("${stomaton_said_")
        }
        (_, ["auth_request" | "auth_request_set", ..]) => false,
        (_, ["deny", rest @ ..]) => rest == ["all"],
        (_, ["error_page", .., "=", to]) => to.starts_with("@stomaton_"),
        (_, ["error_page", ..]) => false,
        (_, ["error_log", rest @ ..]) => rest == ["stderr", "crit"],
        (_, ["if", "(-f", path, ")"]) => path.starts_with('/'),
        (_, ["if", "($stomaton_preflight)"]) => true,
        (_, ["if", ..]) => false,
        (_, ["location", "@stomaton_unavailable" | "@stomaton_allowed"]) => true,
        (_, ["location", "=", path] | ["location", path]) => path.starts_with('/'),
        (_, ["location", ..]) => false,
        (_, ["proxy_pass", to]) => match to.strip_prefix("http://") {
            Some("${stomaton_backend}" | "${stomaton_backend}${request_uri}") => true,
            // A fixed backend, for a fixed path in place of the route's.
            to => to.is_some_and(|to| to.starts_with("b-") && !to.contains('$')),
        },
        // No capture, nothing of anybody's: from a location that chooses to the one that was chosen.
        (_, ["rewrite", rest @ ..]) => {
            rest == ["^", "/.stomaton/r${stomaton_route}/${stomaton_side}${uri}", "last"]
        }
        (_, ["return", "308", to]) => {
            to.starts_with("https://${host}")
                && to.ends_with("${request_uri}")
                && to.matches('$').count() == 2
        }
        (_, ["return", status, ..]) => matches!(*status, "200" | "204" | "404" | "421" | "503"),
        // With these beginnings a name is an expression or a wildcard.
        (_, ["server_name", names @ ..]) => !names.iter().any(|name| name.starts_with(['~', '*', '.'])),
        (_, ["ssl_certificate" | "ssl_certificate_key", path]) => {
            path.starts_with('/') && path.contains("/${stomaton_certificate}/tls.")
        }
        (_, ["root", path]) => path.starts_with('/') && path.ends_with("/cur"),
        (_, ["set", variable, _]) => matches!(*variable, "$stomaton_route" | "$stomaton_side"),
        (_, ["proxy_pass" | "return" | "root" | "set", ..]) => false,
        _ => true,
    }
}

/// Whether `path` names what the supervisor makes of a key of a mounted Secret: `.../<id>/<key>/*`, and nothing else.
fn is_token_table(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    path.starts_with('/')
        && !path.contains("/../")
        && parts.next() == Some("*")
        && parts.next().is_some_and(|key| TOKEN_KEYS.contains(&key))
        && parts.next().is_some_and(|id| SecretId::parse(id).is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Variable, block, line};
    use super::*;

    fn passes(tree: &[Node]) -> Result<(), GateError> {
        pass(tree, &super::super::encode::encode(tree))
    }

    /// `node` in a location, where all that users can say ends up.
    fn located(node: Node) -> Result<(), GateError> {
        let location = block("location", [Text::fixed("/a").into()], vec![node]);
        passes(&[block("http", [], vec![block("server", [], vec![location])])])
    }

    #[test]
    fn what_is_rendered_passes() {
        let target = Text::fixed("http://").var(Variable::named("stomaton_backend"));
        assert_eq!(located(line("proxy_pass", [target.into()])), Ok(()));
        assert_eq!(located(line("return", ["404".into()])), Ok(()));
    }

    #[test]
    fn a_text_that_says_something_else_does_not() {
        let tree = [line("pid", ["nginx.pid".into()])];
        assert_eq!(pass(&tree, "pid nginx.pid;\n"), Ok(()));
        assert_eq!(pass(&tree, "pid nginx.pid; pid x;"), Err(GateError::NotTheTree));
        assert_eq!(pass(&tree, "pid;"), Err(GateError::NotTheTree));
        assert!(matches!(pass(&tree, "pid nginx.pid; }"), Err(GateError::Unreadable(_))));
    }

    #[test]
    fn directives_that_read_write_or_run_things_have_no_place_anywhere() {
        let never = [
            "alias",
            "autoindex",
            "env",
            "include",
            "js_content",
            "load_module",
            "lua_package_path",
            "perl",
            "proxy_store",
            "ssl_engine",
            "user",
            "working_directory",
            "lock_file",
        ];
        for name in never {
            let refused = |context| Err(GateError::NotAllowed { directive: name.to_owned(), context });
            assert_eq!(located(line(name, ["x".into()])), refused("location"));
            assert_eq!(passes(&[line(name, ["x".into()])]), refused("main"));
            assert_eq!(passes(&[block("http", [], vec![line(name, ["x".into()])])]), refused("http"));
        }
    }

    #[test]
    fn a_directive_in_the_wrong_place_does_not_pass() {
        let refused = located(line("error_log", ["stderr".into(), "crit".into()]));
        assert_eq!(
            refused,
            Err(GateError::NotAllowed { directive: "error_log".into(), context: "location" })
        );
        let nested = block("location", [Text::fixed("/b").into()], vec![]);
        assert!(matches!(located(nested), Err(GateError::NotAllowed { .. })));
    }

    #[test]
    fn an_allowed_directive_in_an_unknown_form_does_not_pass() {
        let forms = [
            line("proxy_pass", [Text::fixed("http://169.254.169.254/").into()]),
            line("proxy_pass", [Text::fixed("http://").var(Variable::named("http_x")).into()]),
            line("proxy_pass", [Text::fixed("http://b-a/").var(Variable::named("uri")).into()]),
            line("rewrite", ["^/(.*)$".into(), "/$1".into(), "last".into()]),
            line("set", [Arg::Definition(Variable::named("args")), "x".into()]),
            line("return", ["301".into(), Text::fixed("http://evil/").into()]),
            line("root", ["/etc".into()]),
            block("if", ["($http_x)".into()], vec![]),
        ];
        for form in forms {
            assert!(matches!(located(form.clone()), Err(GateError::Form(_))), "{form:?}");
        }
        let error_log = line("error_log", ["/tmp/x".into(), "debug".into()]);
        assert_eq!(passes(&[error_log]), Err(GateError::Form("error_log".into())));
        let expression = block("location", ["~".into(), "^/a".into()], vec![]);
        let server = block("server", [], vec![expression]);
        assert_eq!(passes(&[block("http", [], vec![server])]), Err(GateError::Form("location".into())));
    }

    #[test]
    fn a_table_has_plain_keys_only() {
        for key in ["~^a", "include", "volatile", "hostnames"] {
            let map = block(
                "map",
                [Variable::named("host").into(), Arg::Definition(Variable::named("x"))],
                vec![super::super::tree::entry(Text::fixed(key), Text::fixed("1"))],
            );
            assert_eq!(passes(&[block("http", [], vec![map])]), Err(GateError::Form(key.into())));
        }
    }

    #[test]
    fn a_table_includes_tokens_and_nothing_else() {
        let including = |path: &str| {
            let map = [Variable::named("host").into(), Arg::Definition(Variable::named("x"))];
            let include = line("include", [Text::data(path).unwrap().into()]);
            passes(&[block("http", [], vec![block("map", map, vec![include])])])
        };
        assert_eq!(including("/tmp/tokens/0123456789abcdef/token/*"), Ok(()));
        for path in [
            "/etc/passwd",
            "/tmp/tokens/0123456789abcdef/token",
            "/tmp/tokens/0123456789abcdef/other/*",
            "/tmp/tokens/x/token/*",
            "/tmp/../etc/0123456789abcdef/token/*",
            "tokens/0123456789abcdef/token/*",
        ] {
            assert_eq!(including(path), Err(GateError::Form("include".into())), "{path}");
        }
    }

    #[test]
    fn a_word_longer_than_the_buffer_of_nginx_does_not_pass() {
        let long = Text::data(&"x".repeat(2048)).and_then(|t| t.and(&"y".repeat(2048))).unwrap();
        assert!(matches!(located(line("return", ["200".into(), long.into()])), Err(GateError::Form(_))));
    }
}
