//! What the plugin boundary costs, in this process and in a child. What each line means: `benches/README.md`.
#![expect(clippy::print_stdout, reason = "it is a program that prints its results")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gx_core::config::{Isolation, PluginConfig};
use gx_core::runtime::{ListFilter, LogOptions, list_all};
use gx_core::stream::{DEFAULT_WINDOW_BYTES, pipe};
use gx_core::{ContainerId, Runtime};
use gx_host::{HostOptions, PluginHost};

/// Measures so many runs, after a tenth of them to warm up. (A function would take an async closure, whose future
/// cannot be shown to be `Send`.)
macro_rules! median_of {
    ($runs:expr, $run:expr) => {{
        let mut spent = Vec::with_capacity($runs);
        for number in 0..$runs + $runs / 10 {
            let begun = Instant::now();
            $run;
            if number >= $runs / 10 {
                spent.push(begun.elapsed());
            }
        }
        median(spent).as_secs_f64()
    }};
}

/// A figure, beside the one to hold; `None` where there is none.
struct Row {
    what: &'static str,
    unit: &'static str,
    inline: Option<f64>,
    child: Option<f64>,
    goals: (Option<f64>, Option<f64>),
}

fn main() {
    let args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|arg| arg == "plugin-host") {
        std::process::exit(gx_host::child_main(args.into_iter().skip(2)));
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be made");
    let rows = runtime.block_on(async { tokio::spawn(measure()).await.expect("no part of it panics") });
    show(&rows);
    if let Some(at) = args.iter().position(|arg| arg == "--json") {
        let file = args.get(at + 1).expect("--json is followed by a file");
        std::fs::write(file, json(&rows)).expect("the file can be written");
    }
}

async fn measure() -> Vec<Row> {
    let mut rows = vec![
        Row { goals: (None, None), ..row("two wake-ups alone, no plugin", "µs", 0.0, 0.0) },
        row("round trip, empty", "µs", 6.0, 20.0),
        row("inspect (500 B)", "µs", 10.0, 32.0),
        row("list of 200 (107 kB)", "ms", 1.6, 1.6),
        row("log stream, 64 KiB items", "GB/s", 4.0, 1.8),
        row("panic to typed error", "ms", 1.0, 1.0),
        Row { goals: (None, Some(2.0)), ..row("crash to typed error", "ms", 0.0, 0.0) },
        Row { goals: (None, Some(30.0)), ..row("crash to answer of the next call", "ms", 0.0, 0.0) },
    ];
    for isolation in [Isolation::Inline, Isolation::Process] {
        let place = tempfile::tempdir().expect("a folder for the state");
        let host = host(isolation, place.path());
        let runtime = host.runtime(&"faulty".parse().expect("a name")).await.expect("the plugin loads");
        let mut figures = vec![
            wake_ups().await,
            round_trip(&*runtime).await,
            inspect(&*runtime).await,
            list(&*runtime).await,
            log_stream(&*runtime).await,
            panic(&*runtime).await,
        ];
        if isolation == Isolation::Process {
            let (gone, back) = crash().await;
            figures.extend([gone, back]);
        }
        host.shutdown().await;
        for (row, figure) in rows.iter_mut().zip(figures) {
            match isolation {
                Isolation::Inline => row.inline = Some(figure),
                Isolation::Process => row.child = Some(figure),
            }
        }
    }
    rows
}

fn row(what: &'static str, unit: &'static str, inline: f64, child: f64) -> Row {
    Row { what, unit, inline: None, child: None, goals: (Some(inline), Some(child)) }
}

fn host(isolation: Isolation, place: &Path) -> Arc<PluginHost> {
    let program = std::env::current_exe().expect("this program has a path");
    let config = PluginConfig { isolation: Some(isolation), ..PluginConfig::default() };
    PluginHost::open(HostOptions {
        config: [("faulty".parse().expect("a name"), config)].into(),
        config_origin: "bench".to_owned(),
        config_text: String::new(),
        bundled_dirs: program.ancestors().skip(1).take(2).map(PathBuf::from).collect(),
        store: place.join("plugins"),
        state: place.join("plugin-state"),
        child_program: program,
        child_env: std::collections::BTreeMap::new(),
        host_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
    .expect("there is nothing to object to")
}

/// What this machine takes, now, to wake a task of another tokio runtime and to be woken by it: no plugin that runs on
/// its own runtime can be faster.
async fn wake_ups() -> f64 {
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let other = other.expect("threads can be made");
    let spent = 1e6
        * median_of!(20_000, {
            let (sender, woken) = tokio::sync::oneshot::channel();
            other.spawn(async move { sender.send(()) });
            woken.await.expect("it is sent");
        });
    other.shutdown_background();
    spent
}

async fn round_trip(runtime: &dyn Runtime) -> f64 {
    let id = id("a");
    1e6 * median_of!(20_000, runtime.start(id.clone()).await.expect("it does nothing"))
}

async fn inspect(runtime: &dyn Runtime) -> f64 {
    let id = id("full");
    1e6 * median_of!(20_000, runtime.inspect(id.clone()).await.expect("it is made up"))
}

async fn list(runtime: &dyn Runtime) -> f64 {
    let labels = [("count".to_owned(), Some("200".to_owned()))].into();
    let filter = ListFilter { labels, ..ListFilter::default() };
    1e3 * median_of!(500, {
        let listed = list_all(runtime, filter.clone()).await.expect("they are made up");
        assert_eq!(listed.len(), 200);
    })
}

async fn log_stream(runtime: &dyn Runtime) -> f64 {
    const BYTES: usize = 1_000_000_000;
    let mut rates = Vec::new();
    for _ in 0..7 {
        let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
        let begun = Instant::now();
        let logs = runtime.logs(id(&BYTES.to_string()), LogOptions::default(), out);
        let read = async {
            let mut bytes = 0;
            while let Some(item) = items.next().await {
                bytes += item.bytes.len();
            }
            bytes
        };
        let (ended, bytes) = tokio::join!(logs, read);
        ended.expect("it writes what it is asked for");
        assert_eq!(bytes, BYTES);
        rates.push(begun.elapsed());
    }
    BYTES as f64 / median(rates).as_secs_f64() / 1e9
}

async fn panic(runtime: &dyn Runtime) -> f64 {
    let (bad, good) = (id("panic"), id("plain"));
    let mut spent = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        assert!(runtime.inspect(bad.clone()).await.is_err());
        spent.push(begun.elapsed());
        runtime.inspect(good.clone()).await.expect("a panic does no harm");
    }
    median(spent).as_secs_f64() * 1e3
}

/// Each crash has a host of its own: only the first start after a crash is without a pause.
async fn crash() -> (f64, f64) {
    let (mut gone, mut back) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let place = tempfile::tempdir().expect("a folder for the state");
        let host = host(Isolation::Process, place.path());
        let runtime = host.runtime(&"faulty".parse().expect("a name")).await.expect("the plugin loads");
        let begun = Instant::now();
        assert!(runtime.inspect(id("abort")).await.is_err());
        gone.push(begun.elapsed());
        runtime.inspect(id("plain")).await.expect("it is started again");
        back.push(begun.elapsed());
        host.shutdown().await;
    }
    (median(gone).as_secs_f64() * 1e3, median(back).as_secs_f64() * 1e3)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn id(text: &str) -> ContainerId {
    text.parse().expect("an id")
}

fn show(rows: &[Row]) {
    println!("{:<34} {:>6} {:>10} {:>8} {:>10} {:>8}", "median", "unit", "inline", "goal", "child", "goal");
    for row in rows {
        let figure = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.2}"));
        let (inline, child) = (figure(row.inline), figure(row.child));
        let (inline_goal, child_goal) = (figure(row.goals.0), figure(row.goals.1));
        println!(
            "{:<34} {:>6} {inline:>10} {inline_goal:>8} {child:>10} {child_goal:>8}",
            row.what, row.unit
        );
    }
}

fn json(rows: &[Row]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "what": row.what, "unit": row.unit, "inline": row.inline, "child": row.child,
                "goal_inline": row.goals.0, "goal_child": row.goals.1,
            })
        })
        .collect();
    serde_json::to_string_pretty(&rows).expect("figures become JSON")
}
