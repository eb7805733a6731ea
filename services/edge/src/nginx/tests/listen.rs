//! Hosts and TLS.

use super::{config, moving, settings};
use crate::control::Version;
use crate::nginx::{RenderError, Settings, render};
use stomaton_crds::v1alpha1::{
    AddressFrom, EdgeCertificate, EdgeConfigSpec, EdgeTls, TlsVersion, TrustedProxies,
};

fn certificate(number: u64, hosts: &[&str]) -> EdgeCertificate {
    EdgeCertificate { id: format!("{number:016x}"), hosts: hosts.iter().map(|h| (*h).to_owned()).collect() }
}

fn secured(redirect_to: Option<i32>) -> EdgeConfigSpec {
    let certificates = vec![certificate(1, &[]), certificate(2, &["b.example"])];
    let tls = Some(EdgeTls { min_version: TlsVersion::Tls12, redirect_to, certificates });
    EdgeConfigSpec { tls, ..config(vec![moving(1, "/a")]) }
}

fn text(spec: &EdgeConfigSpec) -> String {
    let rendered = render(spec, &settings()).unwrap();
    assert_eq!(rendered.dropped, []);
    rendered.text
}

#[test]
fn certificates_are_looked_up_by_name() {
    let text = text(&secured(None));
    let expected = r#"
  map "${ssl_server_name}" $stomaton_certificate {
    "default" "0000000000000001";
    "b.example" "0000000000000002";
  }
  ssl_certificate "/run/tls/${stomaton_certificate}/tls.crt";
  ssl_certificate_key "/run/tls/${stomaton_certificate}/tls.key";
  ssl_protocols TLSv1.2 TLSv1.3;
"#;
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("    listen \"0.0.0.0:8080\";\n    listen \"0.0.0.0:8443\" ssl;\n    http2 on;\n"));
    assert!(!text.contains("return 308"));
}

#[test]
fn an_old_nginx_reads_certificates_at_each_handshake() {
    let old = Settings { version: Version(1, 22, 1), ..settings() };
    assert!(!render(&secured(None), &old).unwrap().text.contains("ssl_certificate_cache"));
    assert!(text(&secured(None)).contains("ssl_certificate_cache max=256 valid=10s inactive=1h;"));
}

#[test]
fn plain_http_is_redirected_but_for_the_health_of_the_edge() {
    let usual = text(&secured(Some(443)));
    assert!(usual.contains(r#"return 308 "https://${host}${request_uri}";"#), "{usual}");
    assert_eq!(usual.matches("location = /health {").count(), 2);
    assert_eq!(usual.matches("listen \"0.0.0.0:8080\";").count(), 1);
    assert!(text(&secured(Some(8443))).contains(r#"return 308 "https://${host}:8443${request_uri}";"#));
}

#[test]
fn other_hosts_are_refused() {
    let spec = EdgeConfigSpec { hosts: vec!["a.example".into(), "b.example".into()], ..secured(Some(443)) };
    let text = text(&spec);
    assert_eq!(text.matches(r#"server_name "a.example" "b.example";"#).count(), 2);
    assert!(text.contains("listen \"0.0.0.0:8080\" default_server;"));
    assert!(text.contains("listen \"0.0.0.0:8443\" ssl default_server;"));
    assert!(text.contains("return 421;"));
}

#[test]
fn connections_begin_with_the_proxy_protocol_where_that_was_said() {
    let networks = vec!["10.0.0.0/8".to_owned()];
    let trusted_proxies = Some(TrustedProxies { networks, address_from: AddressFrom::ProxyProtocol });
    let text = text(&EdgeConfigSpec { trusted_proxies, ..config(vec![]) });
    assert!(text.contains("listen \"0.0.0.0:8080\" proxy_protocol;"));
    assert!(text.contains("real_ip_header proxy_protocol;"));
    // A hop that knows nothing of HTTP vouches for no header.
    assert!(text.contains(r#"proxy_set_header X-Forwarded-Proto "${scheme}";"#));
    assert!(!text.contains("stomaton_trusted"));
}

#[test]
fn without_a_host_that_was_given_there_is_no_configuration() {
    for host in ["*.example", "~^a", ".a", "a; }", "default"] {
        let spec = EdgeConfigSpec { hosts: vec![host.into()], ..config(vec![]) };
        assert!(matches!(render(&spec, &settings()), Err(RenderError::Listen(_))), "{host}");
        let mut spec = secured(None);
        spec.tls.as_mut().unwrap().certificates[1].hosts = vec![host.into()];
        assert!(matches!(render(&spec, &settings()), Err(RenderError::Listen(_))), "{host}");
    }
    let mut spec = secured(None);
    spec.tls.as_mut().unwrap().certificates[0].id = "../../etc".into();
    assert!(matches!(render(&spec, &settings()), Err(RenderError::Listen(_))));
}
