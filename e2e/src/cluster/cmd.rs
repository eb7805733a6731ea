//! Runs other programs. Takes a command, gives its standard output or an error that shows what
//! the program said. I/O: starts processes.

use std::{
    ffi::OsString,
    fmt::Write as _,
    io::{self, Read as _},
    path::Path,
    process::Output,
};
use tokio::process::Command;

/// Why a program gave no result.
#[derive(Debug, thiserror::Error)]
pub enum CmdError {
    /// The program could not be started.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program ran and failed.
    #[error("`{command}` failed ({status}):\n{said}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The end of what it wrote.
        said: String,
    },
}

/// An I/O error with what was being done, since `No such file` alone helps nobody.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct Fault {
    doing: String,
    source: io::Error,
}

/// Adds what was being done to an I/O error.
pub(crate) trait Doing<T> {
    /// `what` reads like "write /some/file".
    fn doing(self, what: &str) -> Result<T, Fault>;
    /// The same for an act on one path.
    fn doing_at(self, verb: &str, path: &Path) -> Result<T, Fault>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Result<T, Fault> {
        self.map_err(|e| Fault { doing: what.to_owned(), source: e.into() })
    }

    fn doing_at(self, verb: &str, path: &Path) -> Result<T, Fault> {
        self.map_err(|e| Fault { doing: format!("{verb} {}", path.display()), source: e.into() })
    }
}

/// Runs a command to its end and gives its standard output.
pub(crate) async fn output(command: &mut Command) -> Result<String, CmdError> {
    command.stdin(std::process::Stdio::null());
    let result = command.output().await;
    let command = shown(command);
    let Output { status, stdout, stderr } =
        result.map_err(|source| CmdError::Start { command: command.clone(), source })?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let said = if stderr.is_empty() { stdout } else { stderr };
    Err(CmdError::Failed { command, status, said: tail(&String::from_utf8_lossy(&said), 20) })
}

/// The next byte of this process's standard input; `None` when whoever held the other end is gone.
/// A thread waits for it, so the process must end by `std::process::exit`.
pub(crate) async fn input_byte() -> Option<u8> {
    let mut byte = [0; 1];
    let read = tokio::task::spawn_blocking(move || io::stdin().read_exact(&mut byte).map(|()| byte[0]));
    read.await.ok()?.ok()
}

/// The last `lines` lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Whether a program of this name is where we look for programs.
pub(crate) fn in_path(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|dir| dir.join(program).is_file())
}

/// `PATH` and the administrator's directories, which a shell opened by `su` lacks.
pub(crate) fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    path
}

fn shown(command: &Command) -> String {
    let command = command.as_std();
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        let _ = write!(text, " {}", arg.to_string_lossy());
    }
    text
}
