//! The one thread that looks for plugins that hang. It is a thread and not a task: a plugin that does not return may
//! hold every worker of the host.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::supervise::Supervised;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Watched {
    plugins: Vec<Weak<Supervised>>,
    running: bool,
}

static WATCHED: Mutex<Watched> = Mutex::new(Watched { plugins: Vec::new(), running: false });

/// Watches a plugin for as long as it is there. The thread ends with the last one.
pub(crate) fn add(plugin: &Arc<Supervised>) {
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.plugins.push(Arc::downgrade(plugin));
    if !watched.running {
        let thread = std::thread::Builder::new().name("gx-plugin-watch".to_owned());
        watched.running = thread.spawn(look).is_ok();
    }
}

fn look() {
    loop {
        std::thread::sleep(EVERY);
        let plugins: Vec<Arc<Supervised>> = {
            let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
            watched.plugins.retain(|plugin| plugin.strong_count() > 0);
            if watched.plugins.is_empty() {
                watched.running = false;
                return;
            }
            watched.plugins.iter().filter_map(Weak::upgrade).collect()
        };
        let now = Instant::now();
        plugins.iter().for_each(|plugin| plugin.check(now));
    }
}
