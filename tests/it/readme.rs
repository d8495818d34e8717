//! What the README tells a newcomer to type works as it stands.

use std::process::Command;

use crate::support::{ENGINES, Removed, Surroundings, installation, root, run};

/// Returns the shell commands of the tour, one text for each block.
fn tour() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let tour =
        readme.split("\n## A tour").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a tour");
    let blocks = tour.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().expect("a block ends").to_owned()).collect()
}

#[test]
fn the_tour_can_be_walked() {
    let surroundings = Surroundings::new();
    let host = surroundings.serve();
    let made: Vec<Removed<'_>> = ENGINES
        .iter()
        .flat_map(|engine| {
            ["gx-tour", "gx-tour-job", "gx-tour-lent"].map(|name| Removed(engine, name.to_owned()))
        })
        .collect();
    let gx = surroundings.command(&[]);
    let path = std::env::var("PATH").unwrap_or_default();
    let blocks = tour();
    assert!(blocks.len() >= 4, "the tour has lost its blocks");
    for block in blocks {
        let script = block.replace("127.0.0.1:7467", &host.address);
        let mut shell = Command::new("sh");
        for (name, value) in gx.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.env("PATH", format!("{}:{path}", installation().join("bin").display()));
        shell.args(["-eu", "-c", &script]).current_dir(surroundings.path(""));
        let ended = run(shell);
        assert_eq!(ended.code, 0, "{block}\n{}{}", ended.stdout, ended.stderr);
    }
    drop(made);
}
