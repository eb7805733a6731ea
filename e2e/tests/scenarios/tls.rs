//! HTTPS: each host has its own certificate, one that is renewed serves without a loss, and one that is gone costs its
//! own host only.

use e2e::{
    harness::{
        Doing as _, Error,
        certificates::Authority,
        evidence::all_well,
        fleet::Fleet,
        scenario::{Turn, scenario},
        service::list,
        traffic::{Mix, Traffic},
        wait::{self, Seen},
    },
    load::record::{Loss, Mode, Record},
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};

const CA: &str = "/var/run/e2e/authority/ca.crt";
/// A kubelet brings a changed Secret within its period and a half, NGINX looks at it again 10 s later.
const BROUGHT_WITHIN: Duration = Duration::from_secs(180);
/// Fresh connections that show the same in a row: through every edge pod, more than once.
const IN_A_ROW: usize = 60;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn certificates_are_renewed_under_load_and_a_missing_one_costs_its_own_host_only() {
    scenario("tls", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let authority = Authority::new()?;
        let (old, new) = (authority.issue("shop.example")?, authority.issue("shop.example")?);
        let blog = authority.issue("blog.example")?;
        let secrets = [authority.secret("authority"), old.secret("shop"), blog.secret("blog")];
        namespace.apply_object(&list(secrets)).await?;
        let certificates = json!([
            {"secret": "shop", "hosts": ["shop.example"]},
            {"secret": "blog", "hosts": ["blog.example"]},
        ]);
        fleet.change_edge(json!({"tls": {"certificates": certificates}})).await?;

        let to_shop = Traffic::start(&fleet, mix("shop.example")).await?;
        let to_blog = Traffic::start(&fleet, mix("blog.example")).await?;
        to_shop.goes_on(100).await?;
        namespace.apply_object(&new.secret("shop")).await?;
        shows(&to_shop, "the new certificate", |r| r.certificate() == Some(&new.fingerprint)).await?;
        to_shop.goes_on(100).await?;

        let secrets = namespace.api::<Secret>();
        secrets.delete("blog", &DeleteParams::default()).await.doing("delete the Secret")?;
        shows(&to_blog, "no certificate", |r| r.loss == Some(Loss::Tls)).await?;
        to_shop.goes_on(100).await?;

        let (of_shop, of_blog) = (to_shop.finish().await?, to_blog.finish().await?);
        println!("{} requests for shop.example, {} for blog.example", of_shop.len(), of_blog.len());
        all_well(&of_shop)?;
        assert_eq!(seen(&of_shop), BTreeSet::from([old.fingerprint.as_str(), new.fingerprint.as_str()]));
        assert_eq!(seen(&of_blog), BTreeSet::from([blog.fingerprint.as_str()]));
        let otherwise = of_blog.iter().find(|r| r.loss.is_some_and(|loss| loss != Loss::Tls));
        assert_eq!(otherwise, None, "lost, and not for want of a certificate");
        Ok(())
    })
    .await;
}

/// All kinds of clients, over TLS. Whoever has a connection keeps its certificate; a fresh one shows what serves now.
fn mix(host: &'static str) -> Mix {
    Mix {
        modes: vec!["keepalive=4", "fresh=4", "http2=4"],
        secrets: vec![("authority", "/var/run/e2e/authority")],
        variants: vec![vec!["--host", host, "--ca", CA]],
        https: true,
        ..Mix::of_all_kinds(60)
    }
}

/// Waits until the last fresh connections, all of them, show this.
async fn shows(traffic: &Traffic<'_>, what: &str, is: impl Fn(&Record) -> bool) -> Result<(), Error> {
    wait::until(&format!("fresh connections to show {what}"), BROUGHT_WITHIN, async || {
        let mut records = traffic.records().await?;
        records.retain(|r| r.mode == Mode::Fresh);
        records.sort_by_key(|r| r.received_micros);
        let last = records.len().saturating_sub(IN_A_ROW);
        let others = records[last..].iter().filter(|r| !is(r)).count();
        Ok(Seen::when(others == 0 && records.len() >= IN_A_ROW, || format!("{others} show something else")))
    })
    .await
}

/// Certificates that answered.
fn seen(records: &[Record]) -> BTreeSet<&str> {
    records.iter().filter_map(|record| record.certificate()).collect()
}
