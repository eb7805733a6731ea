//! Processes by what the kernel says of them, and ports for them. I/O: /proc and sockets.

use crate::Fault;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs, io,
    net::SocketAddr,
    process::Child,
    time::{Duration, Instant},
};
use tokio::net::TcpSocket;

/// Longest that anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A port for another process: bound here and never listening, so that nobody else is given it meanwhile.
pub fn reserve() -> Result<(TcpSocket, SocketAddr), Fault> {
    let port = TcpSocket::new_v4()?;
    port.set_reuseaddr(true)?;
    port.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = port.local_addr()?;
    Ok((port, address))
}

/// Processor time of processes so far, all their threads, in nanoseconds.
pub fn cpu_nanos(pids: &[i32]) -> Result<u64, Fault> {
    let mut total = 0;
    for pid in pids {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let said = match fs::read_to_string(task?.path().join("schedstat")) {
                // A thread that has ended meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                said => said?,
            };
            let spent = said.split_whitespace().next().ok_or("an empty schedstat")?;
            total += spent.parse::<u64>()?;
        }
    }
    Ok(total)
}

/// Processes that a process has started.
pub fn children(pid: i32) -> Result<Vec<i32>, Fault> {
    let said = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

/// Asks a process to end, and waits for it; one that is gone already is fine.
pub fn end(process: &mut Child) {
    if process.try_wait().is_ok_and(|ended| ended.is_none()) {
        let _ = kill_process(Pid::from_child(process), Signal::TERM);
        let _ = process.wait();
    }
}

/// What `look` finds, once it finds something. Errors of a look count as nothing.
pub async fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>, Fault>,
) -> Result<T, Fault> {
    let begun = Instant::now();
    loop {
        let seen = look().await;
        match seen {
            Ok(Some(found)) => return Ok(found),
            Err(error) if begun.elapsed() > PATIENCE => return Err(format!("{what}: {error}").into()),
            Ok(None) if begun.elapsed() > PATIENCE => return Err(format!("{what}: waited in vain").into()),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
