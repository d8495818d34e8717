//! The files of the dashboard.

use gx_server::page::File;

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        [$(File { path: $path, bytes: include_bytes!(concat!("../../../assets/ui/", $path)) }),*]
    };
}

static FILES: [File; 10] = files![
    "actions.js",
    "chart.js",
    "containers.js",
    "dom.js",
    "icon.svg",
    "index.html",
    "machines.js",
    "page.css",
    "page.js",
    "peers.js",
];

/// Returns the file at a path; the empty path is the page.
pub(super) fn file(path: &str) -> Option<File> {
    let path = if path.is_empty() { "index.html" } else { path };
    FILES.iter().find(|file| file.path == path).copied()
}
