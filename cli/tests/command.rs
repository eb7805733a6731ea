//! The program as people run it, as far as it needs no cluster.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

fn run(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-stomaton"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn help_names_every_command() {
    let help = run(&["--help"], "");
    assert_eq!(help.status.code(), Some(0));
    for command in [
        "status",
        "explain",
        "approve",
        "hold",
        "resume",
        "promote",
        "rollback",
        "halt",
        "history",
        "export",
        "lint",
        "completions",
    ] {
        assert!(out(&help).contains(command), "{command}");
    }
}

#[test]
fn completions_are_for_the_name_on_the_path() {
    for shell in ["bash", "zsh", "fish"] {
        let done = run(&["completions", shell], "");
        assert_eq!(done.status.code(), Some(0), "{shell}");
        assert!(out(&done).contains("kubectl-stomaton") && out(&done).contains("rollback"), "{shell}");
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    for args in [&["rollback"][..], &["explain"], &["retreat"], &[]] {
        assert_eq!(run(args, "").status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn our_own_files_are_right() {
    let file = |name: &str| format!("{}/../manifests/stomaton/{name}", env!("CARGO_MANIFEST_DIR"));
    let (plan, gateway) = (file("plan.yaml"), file("gateway.yaml"));
    let done = run(&["lint", &plan, &gateway, &file("services.yaml")], "");
    assert_eq!(done.status.code(), Some(0), "{}", out(&done));
    assert!(out(&done).ends_with("nothing is wrong\n"), "{}", out(&done));
}

#[test]
fn a_wrong_file_is_1_and_says_where_what_and_what_to_do() {
    let plan = "\
apiVersion: fleet.stomaton.com/v1alpha1
kind: MigrationPlan
metadata: {name: shop}
spec:
  gatewayRef: {name: edge}
  routes: [{name: orders, target: {name: orders}, profile: fast}]
  profiles: [{name: slow, ramp: [{permille: 1000}]}]
";
    let done = run(&["lint", "-"], plan);
    assert_eq!(done.status.code(), Some(1));
    let expected = "-: MigrationPlan/shop: route orders names profile fast, which is not there: add it under spec.profiles\n";
    assert_eq!(out(&done), expected);
    assert!(String::from_utf8_lossy(&done.stderr).contains("1 problem found"));
    assert_eq!(run(&["lint", "/nowhere.yaml"], "").status.code(), Some(1));
}
