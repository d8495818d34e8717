//! The dashboard in a real browser: machines and containers as they are, and as they change; what is done there is done.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::browser::{Browser, artifact};
use crate::support::{IMAGE, Removed, Surroundings, eventually, signal, try_engine, unique};

/// `gx ui`, while it goes on.
pub(crate) struct Dashboard {
    page: Child,
    pub(crate) url: String,
}

impl Dashboard {
    /// Starts it, and reads where it is.
    pub(crate) fn open(mut command: Command) -> Self {
        for name in ["BROWSER", "DISPLAY", "WAYLAND_DISPLAY"] {
            command.env_remove(name);
        }
        let mut page = command.stdout(Stdio::piped()).spawn().expect("gx starts");
        let mut line = String::new();
        let stdout = page.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("gx says where the page is");
        let opened: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        let url = opened["url"].as_str().expect("an address").to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        Self { page, url }
    }

    /// Ends it as a person does.
    pub(crate) fn end(mut self) {
        signal(self.page.id(), "INT");
        assert_eq!(self.page.wait().expect("gx ends").code(), Some(130));
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.page.kill();
        let _ = self.page.wait();
    }
}

/// Says whether a row of the containers has all these texts.
fn row(texts: &[&str]) -> String {
    row_of("container-list", texts)
}

/// Says whether a row of a table has all these texts.
fn row_of(list: &str, texts: &[&str]) -> String {
    format!(
        "[...document.querySelectorAll('#{list} tr')].some((row) => \
         {}.every((text) => row.textContent.includes(text)))",
        json!(texts)
    )
}

/// Presses a button of a container's row.
fn press(browser: &mut Browser, name: &str, action: &str) {
    let found = format!(
        "[...document.querySelectorAll('#container-list tr')].find((row) => \
         row.cells[0].textContent === '{name}').querySelector('[data-action={action}]').click() ?? true"
    );
    browser.until(&format!("{action} can be pressed"), &found);
}

#[test]
fn machines_and_containers_are_shown_as_they_change_and_can_be_acted_on() {
    let (here, there) = (Surroundings::new(), Surroundings::new());
    let mut host = there.serve();
    host.is_owned_from(&here);
    let (web, db) = (unique("web"), unique("db"));
    let _removed = [Removed("docker", format!("gx-{web}")), Removed("podman", format!("gx-{db}"))];
    let on = ["--on", host.address.as_str()];
    let create = |runtime: &str, name: &str, more: &[&str]| {
        let words = ["create", "--runtime", runtime, "--name", name, "--ttl", "2h"];
        let run = ["--", "sh", "-c", "echo hello from $HOSTNAME; sleep 1000"];
        here.ok(&[more, &words, &[IMAGE], &run].concat());
    };
    create("docker", &web, &on);

    let dashboard = Dashboard::open(here.command(&[&on[..], &["--json", "ui"]].concat()));
    let mut browser = Browser::open(&dashboard.url);
    browser.until("both machines are here", "document.body.dataset.machines === '2'");
    browser.until("what there is is shown", &row(&[&web, IMAGE, "running", "left", &host.address]));
    // Made from somewhere else, while the page is open: nobody reloads it.
    create("podman", &db, &[]);
    browser.until("what is new appears", &row(&[&db, "this machine", "running"]));
    browser.screenshot(&artifact("dashboard.png"));

    press(&mut browser, &web, "logs");
    browser.until(
        "its output is shown",
        "document.getElementById('logs-text').textContent.includes('hello from')",
    );
    browser.until("the dialog closes", "document.querySelector('#logs button').click() ?? true");

    let end = |name: &str, on: &[&str]| {
        let told = here.json(&[on, &["show", name]].concat())["expires_at"].clone();
        told.as_str().expect("a lease has an end").to_owned()
    };
    let before = end(&web, &on);
    press(&mut browser, &web, "extend");
    browser.until("an hour is added", "document.getElementById('longer-yes').click() ?? true");
    eventually("the lease is longer", || (end(&web, &on) > before).then_some(()));

    press(&mut browser, &web, "stop");
    browser.until("it is stopped", &row(&[&web, "exited"]));
    press(&mut browser, &web, "start");
    browser.until("it runs again", &row(&[&web, "running"]));
    press(&mut browser, &web, "remove");
    browser.until("it is asked whether", "document.getElementById('sure').open");
    browser.until("yes", "document.getElementById('sure-yes').click() ?? true");
    browser.until("its row is gone", &format!("!({})", row(&[&web])));
    assert_ne!(
        try_engine("docker", &["inspect", &format!("gx-{web}")]).code,
        0,
        "it is gone from the engine"
    );

    host.kill();
    browser.until("a machine that is gone is told", "document.querySelector('.card .state.bad') !== null");
    browser.until("the other is still there", &row(&[&db, "running"]));
    drop(browser);
    dashboard.end();
}

#[test]
fn it_fits_a_phone_is_used_by_keyboard_and_asks_nobody_else() {
    let here = Surroundings::new();
    let name = unique("phone");
    let _removed = Removed("docker", format!("gx-{name}"));
    here.ok(&["create", "--runtime", "docker", "--name", &name, "--ttl", "2h", IMAGE, "--", "sleep", "1000"]);
    let dashboard = Dashboard::open(here.command(&["--json", "ui", "--no-open"]));
    let mut browser = Browser::open(&dashboard.url);
    for (scheme, file) in [("light", "dashboard-light.png"), ("dark", "dashboard-dark.png")] {
        browser.looks_like(360, 780, scheme);
        browser.until("it is shown", &row(&[&name, "running"]));
        let fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
        browser.until("nothing is wider than a phone", fits);
        browser.screenshot(&artifact(file));
    }
    let back = "getComputedStyle(document.body).backgroundColor";
    browser.until("dark is dark", &format!("{back} === 'rgb(23, 25, 28)'"));

    // By the keyboard alone: to the first button of the row, and through the question.
    let focused = "document.activeElement.dataset.action";
    eventually("the keyboard reaches what removes", || {
        browser.tab();
        browser.holds(&format!("{focused} === 'remove'")).then_some(())
    });
    browser.enter();
    browser.until("it is asked whether", "document.getElementById('sure').open");
    browser.tab();
    browser.until("yes has the focus", "document.activeElement.id === 'sure-yes'");
    browser.enter();
    browser.until("it is gone", &format!("!({})", row(&[&name])));

    let outside =
        "performance.getEntriesByType('resource').every((entry) => entry.name.startsWith(location.origin))";
    browser.until("nothing was asked of others", outside);
    drop(browser);
    dashboard.end();
}

#[test]
fn peers_are_measured_while_somebody_looks_and_drawn_over_time() {
    let (here, there) = (Surroundings::new(), Surroundings::new());
    let host = there.serve();
    let evil = "<img src=x onerror=\"document.title='owned'\"><b>";
    let row = json!({ "IPV4": "127.0.0.1", "ServerPort": "9", "Name": evil });
    std::fs::write(here.path("table.json"), json!({ "ip_address": [row] }).to_string()).expect("a file");
    here.ok(&["peers", "import", "table.json"]);
    here.ok(&["peers", "add", &host.address]);
    eventually("it says what it is", || {
        here.ok(&["peers", "update", "--hops", "0"]);
        here.json(&["peers", "list"])["peers"][0]["record"]["cpus"].as_u64()
    });
    here.ok(&["peers", "update", "--hops", "0", "--measure", "metered"]);
    let dashboard = Dashboard::open(here.command(&["--json", "ui", "--no-open"]));
    let mut browser = Browser::open(&dashboard.url);
    let peer = |texts: &[&str]| row_of("peer-list", texts);
    browser.until("the peer is there", &peer(&[&host.address, "ms", "Mbit/s", "CPUs", "live"]));
    let drawn = "document.querySelector('#peer-list .line')?.getAttribute('d').includes('L') ?? false";
    browser.until("its latency is drawn once there are two", drawn);
    let bars = |count| format!("document.querySelectorAll('#peer-list rect.down').length === {count}");
    browser.until("what was measured is drawn", &bars(1));

    // What somebody else named is text, and who does not answer says so.
    browser.until("a name is text", &peer(&[evil, "127.0.0.1:9", "unverified"]));
    browser.until("nothing of it was run", "document.title === 'gx' && document.images.length === 0");
    browser.until("who is silent is stale", &peer(&["127.0.0.1:9", "stale"]));

    let fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    browser.until("nothing is wider than the window", fits);
    // Measured again by somebody else, while the page is open: nobody reloads it.
    here.ok(&["peers", "update", "--hops", "0", "--measure", "metered"]);
    browser.until("the second measurement is drawn", &bars(2));
    browser.until("all of it is seen", "(document.getElementById('peers').scrollIntoView(), true)");
    browser.screenshot(&artifact("dashboard-peers.png"));

    // By the keyboard alone: to the first chart, which is shown large, and sorted by a heading.
    eventually("the keyboard reaches a chart", || {
        browser.tab();
        let focused = "document.activeElement.getAttribute('aria-label') ?? ''";
        browser.holds(&format!("({focused}).startsWith('Latency of')")).then_some(())
    });
    browser.enter();
    browser.until("it is shown large", "document.getElementById('charts').open");
    let words = "document.getElementById('charts-latency-text').textContent";
    browser.until("and told in words", &format!("/ms now, .* to .* in /.test({words})"));
    browser.screenshot(&artifact("dashboard-peer.png"));
    browser.enter();
    browser.until("it closes", "!document.getElementById('charts').open");
    let heading =
        "[...document.querySelectorAll('#peers th button')].find((b) => b.textContent === 'Address')";
    browser.until("it is sorted", &format!("{heading}.click() ?? true"));
    let first = "document.querySelector('#peer-list tr').cells[1].textContent";
    let least = format!(
        "[...document.querySelectorAll('#peer-list tr')].every((row) => {first} <= row.cells[1].textContent)"
    );
    browser.until("by the address", &least);
    browser.until("which is told", &format!("{heading}.parentElement.ariaSort === 'ascending'"));

    browser.looks_like(360, 780, "dark");
    browser.until("nothing is wider than a phone", fits);
    browser.until("it is seen", "(document.getElementById('peers').scrollIntoView(), true)");
    browser.screenshot(&artifact("dashboard-peers-dark.png"));
    drop(browser);
    dashboard.end();
    // What was measured is in the table.
    let seen = here.json(&["peers", "list"])["peers"][0]["seen"].clone();
    assert!(seen["latency_ms"].is_number() && seen["download_bps"].is_number(), "{seen}");
}
