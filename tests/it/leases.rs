//! Leases on real engines: made longer here and on a host, ended though the host was killed in between.

use crate::support::{ENGINES, IMAGE, Removed, Surroundings, eventually, try_engine, unique};

#[test]
fn a_lease_is_made_longer_by_whoever_may_and_ends_though_the_host_was_killed() {
    for runtime in ENGINES {
        let here = Surroundings::new();
        let mut host = here.serve();
        let (brief, long) = (unique("brief"), unique("long"));
        let _removed = (Removed(runtime, format!("gx-{brief}")), Removed(runtime, format!("gx-{long}")));
        let create = |on: &str, name: &str, ttl: &str| {
            let create = ["--on", on, "create", "--runtime", runtime, "--name", name, "--ttl", ttl, IMAGE];
            here.ok(&[&create[..], &["--", "sh", "-c", "trap exit TERM; sleep 1000 & wait"]].concat());
        };
        create(&host.address, &long, "5m");
        let first = here.json(&["--on", &host.address, "extend", &long, "1h"]);
        let told = here.ok(&["extend", &long, "30m"]); // beside the host, on its folder
        assert!(told.contains("(1h 34m left)"), "{told}");
        let second = here.json(&["--on", &host.address, "show", &long]);
        assert!(second["expires_at"].as_str() > first["expires_at"].as_str(), "{first} {second}");
        create(&host.address, &brief, "15s");
        host.kill();

        eventually("the brief lease is over", || here.ok(&["list"]).contains("   over").then_some(()));
        assert_eq!(try_engine(runtime, &["inspect", &format!("gx-{brief}")]).code, 0, "nobody ends it now");
        let host = here.serve();
        eventually("the next host ends it", || {
            (try_engine(runtime, &["inspect", &format!("gx-{brief}")]).code != 0).then_some(())
        });
        let left = here.json(&["--on", &host.address, "show", &long]);
        assert_eq!((&left["state"], &left["expires_at"]), (&"running".into(), &second["expires_at"]));
        here.ok(&["--on", &host.address, "rm", "-f", &long]);
        assert_eq!(std::fs::read_dir(here.data().join("leases").join(runtime)).unwrap().count(), 0);
    }
}
