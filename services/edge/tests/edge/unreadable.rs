//! Weights that NGINX cannot read mean the safe side: no error, and no reload.

use crate::support::{Client, Pod, ROTATE_AT, backends, config, moving, weights};
use std::fs;
use std::os::unix::fs::symlink;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_readable_weights_everybody_is_on_the_safe_side() {
    let (m, s) = backends().await;
    let mut pod = Pod::start(ROTATE_AT).await;
    pod.give_config(config(1, &[("m", &m), ("s", &s)], vec![moving(1, "/api")]));
    pod.give_weights(weights(1, &[(1, 1000)]));
    pod.until(|state| state.applied.config == 1 && state.applied.weights == 1).await;
    // The agent would mend what it can: here it is NGINX alone that has to get it right.
    pod.crash_agent().await;
    let (there, away) = (pod.options.root.join("weights"), pod.options.root.join("away"));
    let mut client = Client::connect(pod.address).await;
    let mut side = async || {
        let answer = client.send("GET", "/api", &[]).await.unwrap();
        assert_eq!(answer.status, 200);
        answer.edge("side")
    };

    assert_eq!(side().await, "service");
    fs::rename(&there, &away).unwrap();
    assert_eq!(side().await, "monolith", "the directory is gone");
    fs::write(&there, "").unwrap();
    assert_eq!(side().await, "monolith", "it is a file");
    fs::remove_file(&there).unwrap();
    symlink("weights", &there).unwrap();
    assert_eq!(side().await, "monolith", "a path that never ends: an error that NGINX does not expect");
    fs::remove_file(&there).unwrap();
    fs::rename(&away, &there).unwrap();
    assert_eq!(side().await, "service", "it is back, and nobody had to be told");
}
