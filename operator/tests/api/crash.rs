//! The operator dies at every single write, before it and after it, is started anew, and everything is in the end as
//! if it had not died.

use crate::{
    script::{LIFE, kubelet},
    snapshot::{self, Snapshot},
    wire::{Cut, Wire},
    world::{Operator, PATIENCE, World, runtime},
};
use futures::{FutureExt, StreamExt};
use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

/// Lives at the same time. More take no less time on two cores.
const AT_ONCE: usize = 8;
/// A namespace in which nothing changed for this long is at rest; the operator looks at everything each second.
const AT_REST: Duration = Duration::from_millis(1500);

/// A whole life in a namespace of its own, with an operator that dies there. Gives what was in the namespace after
/// each step: with `wanted`, as soon as it is that; without, when it is at rest.
async fn live(cut: Option<Cut>, wanted: Option<&[Snapshot]>) -> Result<(Vec<Snapshot>, Wire), String> {
    let mut world = World::bare().await;
    let wire = cut.map_or_else(Wire::default, Wire::with);
    let mut pods = tokio::task::JoinSet::new();
    pods.spawn(kubelet(world.client.clone(), world.namespace.clone()));
    let mut mortal = Operator::start(world.clients_on(&wire), world.settings());
    let (second_life, settings) = (world.clients(), world.settings());
    let fate = async {
        wire.is_cut().await;
        std::mem::replace(&mut mortal, Operator::start(second_life, settings)).crash().await;
        std::future::pending().await
    };
    let steps = async {
        let mut snapshots = Vec::new();
        for (i, (name, step)) in LIFE.iter().enumerate() {
            step(&mut world).await;
            snapshots.push(match wanted {
                Some(wanted) => {
                    comes_to(&world, &wanted[i]).await.map_err(|found| format!("{name}: {found}"))?
                }
                None => at_rest(&world).await,
            });
        }
        Ok::<_, String>(snapshots)
    };
    tokio::select! {
        snapshots = steps => Ok((snapshots?, wire.clone())),
        never = fate => never,
    }
}

/// Waits until the namespace is as `wanted`; else says what differs.
async fn comes_to(world: &World, wanted: &Snapshot) -> Result<Snapshot, String> {
    let begun = Instant::now();
    loop {
        let found = snapshot::take(world).await;
        let differences = snapshot::differences(wanted, &found);
        if differences.is_empty() {
            return Ok(found);
        }
        if begun.elapsed() > PATIENCE {
            return Err(differences.join("\n  "));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// What is in the namespace when it has stopped changing.
async fn at_rest(world: &World) -> Snapshot {
    let mut last = snapshot::take(world).await;
    loop {
        tokio::time::sleep(AT_REST).await;
        let now = snapshot::take(world).await;
        if now == last {
            return now;
        }
        last = now;
    }
}

#[test]
#[ignore = "minutes of lives: make test-crash"]
fn a_crash_at_any_write_leaves_no_trace() {
    runtime().block_on(async {
        // The API server goes with its last world, and what it signs and hands out with it.
        let _one_server = World::bare().await;
        let (wanted, wire) = live(None, None).await.unwrap();
        let writes = wire.writes();
        println!("{} writes in a life without a crash", writes.len());
        let cuts = (1..=writes.len()).flat_map(|k| [Cut::Before(k), Cut::After(k)]);
        // One life more without a crash: that two are the same at all is not to be taken for granted.
        let cuts: Vec<Option<Cut>> = std::iter::once(None).chain(cuts.map(Some)).collect();
        let (all, begun) = (cuts.len(), Instant::now());
        let lives = futures::stream::iter(cuts).map(|cut| {
            let wanted = &wanted;
            async move {
                let stuck = |_| Err("a step that did not come to its end: see the panic above".to_owned());
                (cut, AssertUnwindSafe(live(cut, Some(wanted))).catch_unwind().await.unwrap_or_else(stuck))
            }
        });
        let mut lives = lives.buffer_unordered(AT_ONCE);
        let (mut died, mut lived, mut wrong) = (0, 0, Vec::new());
        while let Some((cut, outcome)) = lives.next().await {
            match outcome {
                Ok((_, wire)) if wire.has_been_cut() => died += 1,
                Ok(_) => lived += 1,
                Err(differences) => {
                    // At once, too: a run of minutes that says nothing helps nobody.
                    println!("{cut:?}: after {differences}");
                    wrong.push(format!("{cut:?}: after {differences}"));
                }
            }
            let ended = died + lived + wrong.len();
            if ended % 10 == 0 {
                println!("{ended} of {all} lives in {} s", begun.elapsed().as_secs());
            }
        }
        println!("{died} lives with a crash, {lived} that ended before theirs");
        assert!(wrong.is_empty(), "{} lives ended otherwise:\n{}", wrong.len(), wrong.join("\n"));
        // How many writes a life takes varies a little: two changes that come together are one.
        assert!(died * 10 >= writes.len() * 2 * 9, "only {died} crashes in lives of {} writes", writes.len());
    });
}
