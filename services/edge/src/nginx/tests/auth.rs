//! Users who are known.

use super::{config, moving, route, settings};
use crate::nginx::{RenderError, render};
use stomaton_crds::v1alpha1::{EdgeAuth, EdgeConfigSpec, EdgeRoute, OnOutage};

fn for_known(route: EdgeRoute, on_outage: OnOutage) -> EdgeRoute {
    let mut route = route;
    route.handling.auth = Some(on_outage);
    route
}

fn asking(backend: Option<&str>, routes: Vec<EdgeRoute>) -> EdgeConfigSpec {
    let auth = EdgeAuth {
        backend: backend.map(str::to_owned),
        path: "/internal/auth/verify".into(),
        identity_headers: vec!["x-user-id".into(), "x-user-roles".into()],
        timeout_millis: 1000,
    };
    EdgeConfigSpec { auth: Some(auth), ..config(routes) }
}

fn text(spec: &EdgeConfigSpec) -> String {
    let rendered = render(spec, &settings()).unwrap();
    assert_eq!(rendered.dropped, []);
    rendered.text
}

#[test]
fn a_service_is_asked_and_its_answer_goes_to_the_backend() {
    let routes = vec![for_known(moving(1, "/mine"), OnOutage::FailClosed), route(2, "/all")];
    let text = text(&asking(Some("content"), routes));
    let asks = r#"
      auth_request /.stomaton/auth;
      error_page 500 = @stomaton_unavailable;
"#;
    assert_eq!(text.matches(asks).count(), 2, "{text}");
    for part in [
        "\n    auth_request_set $stomaton_identity_0_0 \"${stomaton_said_0_0}\";",
        "map \"${upstream_status}\" $stomaton_said_0_0 {\n    \"default\" \"\";\n    \"200\" \"${upstream_http_x_user_id}\";",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    // For the server, and so for every route: what a client says of itself never arrives.
    assert!(text.contains("\n    proxy_set_header \"x-user-id\" \"${stomaton_identity_0_0}\";"));
    assert!(
        text.contains("\n      proxy_set_header \"x-user-id\" \"\";"),
        "nor at the service that is asked"
    );
    assert!(text.contains(r#"proxy_pass "http://b-content/internal/auth/verify";"#));
    assert!(text.contains("proxy_pass_request_body off;"));
}

#[test]
fn a_route_that_another_hides_does_not_take_the_identity_of_users_with_it() {
    let text =
        text(&asking(Some("content"), vec![route(1, "/a"), for_known(route(2, "/a"), OnOutage::FailClosed)]));
    assert!(!text.contains("auth_request /"));
    assert_eq!(text.matches("auth_request_set").count(), 2, "what is read must be set: {text}");
}

#[test]
fn an_outage_opens_only_what_was_said_to_open() {
    let text = text(&asking(Some("content"), vec![for_known(route(1, "/a"), OnOutage::FailOpen)]));
    assert_eq!(text.matches("auth_request /.stomaton/auth-open;").count(), 2);
    assert_eq!(text.matches("auth_request /.stomaton/auth;").count(), 0);
    assert_eq!(text.matches("error_page 500 502 503 504 = @stomaton_allowed;").count(), 1);
}

#[test]
fn while_nobody_can_say_who_a_user_is_a_route_does_as_in_an_outage() {
    for backend in [None, Some("gone")] {
        let closed = text(&asking(backend, vec![for_known(moving(1, "/a"), OnOutage::FailClosed)]));
        assert_eq!(closed.matches("return 503").count(), 2, "{closed}");
        let open = text(&asking(backend, vec![for_known(moving(1, "/a"), OnOutage::FailOpen)]));
        assert!(!open.contains("return 503") && !open.contains("auth_request"));
        assert!(open.contains("proxy_set_header \"x-user-id\" \"\";"), "identity is cleared all the same");
    }
    let without = config(vec![for_known(moving(1, "/a"), OnOutage::FailClosed)]);
    assert!(text(&without).contains("return 503"), "a route for known users is never open by mistake");
}

#[test]
fn a_header_that_is_none_stops_the_configuration() {
    for header in ["X-User", "x user", "x-a\nb", "$host", ""] {
        let mut spec = asking(Some("content"), vec![]);
        spec.auth.as_mut().unwrap().identity_headers.push(header.into());
        assert!(matches!(render(&spec, &settings()), Err(RenderError::Auth(_))), "{header:?}");
    }
    let mut spec = asking(Some("content"), vec![]);
    spec.auth.as_mut().unwrap().path = "/a; }".into();
    assert!(matches!(render(&spec, &settings()), Err(RenderError::Auth(_))));
}
