//! What a user reads when something is wrong: message, hint and exit code together, word for word.

use crate::support::{ENGINES, IMAGE, Removed, Surroundings, unique};

/// Runs `gx` and returns its exit code and what it said on standard error.
fn said(here: &Surroundings, args: &[&str]) -> String {
    let run = here.gx(args);
    assert_eq!(run.stdout, "", "gx {} prints nothing but the error", args.join(" "));
    format!("{}\n{}", run.code, run.stderr)
}

#[test]
fn what_is_not_there_is_named_with_what_was_probably_meant() {
    let here = Surroundings::new();
    let cases: &[(&[&str], &str)] = &[
        (
            &["create", "--runtime", "dokcer", IMAGE],
            "2\nerror: no runtime dokcer\n  hint: did you mean `docker`?\n",
        ),
        (&["show", "nothere"], "1\nerror: no container nothere\n  hint: gx list shows all containers\n"),
        (&["craete", IMAGE], "2\nerror: there is no command `craete`\n  hint: did you mean `create`?\n"),
        (&["list", "--jsn"], "2\nerror: `--jsn` does not belong here\n  hint: did you mean `--json`?\n"),
        (
            &["create", "--pull", "sometimes", IMAGE],
            "2\nerror: `sometimes` is no value for `--pull <WHEN>`\n  hint: it is one of: missing, always, never\n",
        ),
        (
            &["create", "--memory", "lots", IMAGE],
            "2\nerror: `--memory <SIZE>`: \"lots\" is not a size: it is a number with a unit, as in 512MiB, 2g \
             or 1.5 GB\n  hint: `gx create --help` shows what there is, with examples\n",
        ),
        (
            &["--on", "127.0.0.1:1", "list"],
            "3\nerror: cannot reach 127.0.0.1:1\n  because: Connection refused (os error 111)\n  hint: is `gx \
             serve` running there?\n",
        ),
        (
            &["create", "--gpus", "1", IMAGE],
            "1\nerror: 1 GPU is asked for, and this host has none\n  hint: gx specs shows the GPUs of a host\n",
        ),
        (
            &["create", "--ssh-key", "nothere.pub", IMAGE],
            "2\nerror: there is no file nothere.pub\n  hint: name a file of public keys, as ~/.ssh/id_ed25519.pub; \
             `ssh-keygen -t ed25519` makes a pair\n",
        ),
        (
            &["port", "web", "http"],
            "2\nerror: `[PORT]`: \"http\" is not a port: it is a number from 1 to 65535, with /udp for UDP, or \
             ssh or vnc\n  hint: `gx port --help` shows what there is, with examples\n",
        ),
    ];
    for (args, expected) in cases {
        assert_eq!(said(&here, args), *expected, "gx {}", args.join(" "));
    }
}

#[test]
fn what_is_missing_of_the_callers_own_files_is_named() {
    let here = Surroundings::new();
    for (flag, hint) in
        [("--ssh-key", "a file of public keys"), ("--env-file", "a file with a line NAME=VALUE")]
    {
        let said = said(&here, &["create", flag, "/not/there", IMAGE]);
        let expected = format!("2\nerror: there is no file /not/there\n  hint: name {hint}");
        assert!(said.starts_with(&expected), "{said}");
    }
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let here = Surroundings::new();
    let run = here.gx(&["--json", "show", "nothere"]);
    let error: serde_json::Value = serde_json::from_str(&run.stderr).expect("one object");
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(error.to_string().contains("no container nothere"), "{error}");
    assert!(error.to_string().contains("gx list shows all containers"), "{error}");
}

#[test]
fn an_image_that_is_not_there_says_where_it_was_looked_for_and_what_is_near() {
    let here = Surroundings::new();
    for runtime in ENGINES {
        let text = said(&here, &["create", "--runtime", runtime, "gx-busybx"]);
        assert!(text.contains(&format!("error: no image gx-busybx in {runtime}, and fetching it")), "{text}");
        assert!(text.contains("did you mean `gx-busybox:latest`?"), "{text}");
        let never = said(&here, &["create", "--runtime", runtime, "--pull", "never", "gx-busybx"]);
        assert!(never.starts_with(&format!("1\nerror: no image gx-busybx in {runtime}")), "{never}");
    }
}

#[test]
fn taken_names_and_ports_and_ambiguous_ids_say_so() {
    for runtime in ENGINES {
        let here = Surroundings::new();
        let (one, two) = (unique("same"), unique("same"));
        let _removed = (Removed(runtime, format!("gx-{one}")), Removed(runtime, format!("gx-{two}")));
        let made = here.json(&[
            "create",
            "--runtime",
            runtime,
            "--name",
            &one,
            "-p",
            "80",
            IMAGE,
            "--",
            "sleep",
            "1000",
        ]);
        let port = made["ports"][0]["host_port"].to_string();

        for other in ENGINES {
            let taken = said(&here, &["create", "--runtime", other, "--name", &one, IMAGE]);
            let expected = format!(
                "1\nerror: the name {one} is taken in {runtime}\n  hint: choose another name, or leave it out\n"
            );
            assert_eq!(taken, expected);
        }
        let publish = format!("{port}:80");
        let taken =
            said(&here, &["create", "--runtime", runtime, "-p", &publish, IMAGE, "--", "sleep", "1000"]);
        assert!(taken.starts_with("1\nerror: ") && taken.contains(&port), "{taken}");
        assert!(taken.contains(" is taken\n  hint: "), "{taken}");
        assert_eq!(
            here.json(&["list", "-a"])["containers"].as_array().map(Vec::len),
            Some(1),
            "nothing stays"
        );

        // About twenty ids make two of them begin with the same two digits.
        let mut ids = vec![made["id"].as_str().expect("an id").to_owned()];
        let shared = loop {
            let name = unique("more");
            let args = ["create", "--runtime", runtime, "--name", &name, IMAGE, "--", "sleep", "1000"];
            let id = here.json(&args)["id"].as_str().expect("an id").to_owned();
            let twin = ids.iter().any(|other| other[..2] == id[..2]);
            ids.push(id.clone());
            if twin {
                break id[..2].to_owned();
            }
            assert!(ids.len() < 200, "ids of {runtime} do not vary");
        };
        let ambiguous = said(&here, &["show", &shared]);
        for id in ids.iter().filter(|id| id.starts_with(&shared)) {
            assert!(ambiguous.contains(&id[..12]), "{id}: {ambiguous}");
        }
        let arguments: Vec<&str> = ["rm", "-f"].into_iter().chain(ids.iter().map(String::as_str)).collect();
        here.ok(&arguments);
    }
}
