//! The source of a plugin of one's own, in a workspace of its own: what `gx plugin new` writes.
//!
//! The source is that of `examples/plugins/template`, which is built and tested with gx, under another name.

use std::path::{Path, PathBuf};

use gx_core::PluginName;

use crate::error::HostError;

/// What to write.
#[derive(Debug, Clone)]
pub struct Scaffold {
    /// The plugin's name.
    pub name: PluginName,
    /// Where its Cargo finds gx-core.
    pub core: CoreSource,
}

/// Where a plugin's Cargo finds gx-core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoreSource {
    /// A version in the registry.
    Version(String),
    /// A folder on this machine.
    Path(PathBuf),
    /// A git repository that has it.
    Git(String),
}

// The words of the template that stand for the name; none is part of another.
const CRATE: &str = "gx_plugin_template";
const TYPE: &str = "TemplateRuntime";
const TABLE: &str = "plugins.template.";
const QUOTED: &str = "\"template\"";

macro_rules! template {
    ($path:literal) => {
        ($path, include_str!(concat!("../../examples/plugins/template/", $path)))
    };
}

const FILES: &[(&str, &str)] = &[
    template!("gx-plugin.toml"),
    template!("src/lib.rs"),
    template!("src/arguments.rs"),
    template!("src/engine.rs"),
    template!("src/inspect.rs"),
    template!("src/describe.rs"),
    template!("tests/plugin.rs"),
    ("README.md", include_str!("scaffold/README.md")),
    (".github/workflows/ci.yml", include_str!("scaffold/ci.yml")),
    (".gitignore", "/target\n"),
    ("rustfmt.toml", include_str!("../../rustfmt.toml")),
];

impl Scaffold {
    /// Writes the plugin into a folder that is not there yet, or empty, and returns the files, relative to it.
    ///
    /// # Errors
    /// `Occupied` when something is there; `Io`, and then nothing is left behind.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>, HostError> {
        if std::fs::read_dir(folder).map_or(folder.exists(), |mut entries| entries.next().is_some()) {
            return Err(HostError::Occupied { path: folder.to_owned() });
        }
        // Written beside and renamed, so that there is a whole one or none.
        let folder = std::path::absolute(folder).map_err(HostError::io("find", folder))?;
        let parent = folder.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).map_err(HostError::io("make the folder", parent))?;
        let beside = parent.join(format!(".{}-{}", self.krate(), std::process::id()));
        let written = self.write_all(&beside).and_then(|files| {
            std::fs::rename(&beside, &folder).map_err(HostError::io("write", &folder))?;
            Ok(files)
        });
        if written.is_err() {
            let _ = std::fs::remove_dir_all(&beside);
        }
        written
    }

    fn write_all(&self, folder: &Path) -> Result<Vec<PathBuf>, HostError> {
        let cargo = [("Cargo.toml", self.cargo())];
        let others = FILES.iter().map(|&(path, text)| (path, self.renamed(text)));
        let files = cargo.into_iter().chain(others).map(|(path, text)| {
            let whole = folder.join(path);
            let inner = whole.parent().expect("a file has a folder");
            std::fs::create_dir_all(inner).map_err(HostError::io("make the folder", inner))?;
            std::fs::write(&whole, text).map_err(HostError::io("write", &whole))?;
            Ok(path.into())
        });
        files.collect()
    }

    fn renamed(&self, text: &str) -> String {
        let name = self.name.as_str();
        text.replace(CRATE, &self.file())
            .replace(TYPE, &format!("{}Runtime", self.camel()))
            .replace(TABLE, &format!("plugins.{name}."))
            .replace(QUOTED, &format!("\"{name}\""))
            .replace("{{name}}", name)
            .replace("{{file}}", &self.file())
    }

    fn krate(&self) -> String {
        format!("gx-plugin-{}", self.name)
    }

    fn file(&self) -> String {
        self.krate().replace('-', "_")
    }

    fn camel(&self) -> String {
        let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
        self.name.as_str().split('-').filter(|word| !word.is_empty()).map(capital).collect()
    }

    fn cargo(&self) -> String {
        let core = match &self.core {
            CoreSource::Version(version) => format!("\"{version}\""),
            CoreSource::Path(path) => format!("{{ path = {} }}", quoted(&path.display().to_string())),
            CoreSource::Git(url) => format!("{{ git = {} }}", quoted(url)),
        };
        let krate = self.krate();
        format!(
            r#"[package]
name = "{krate}"
description = "A runtime plugin for gx"
version = "0.1.0"
edition = "2024"
license = "MIT OR Apache-2.0"
publish = false

# The library gx loads, and one for the tests of this package.
[lib]
crate-type = ["cdylib", "rlib"]

[dependencies]
gx-core = {core}
serde = {{ version = "1", features = ["derive"] }}
tokio = {{ version = "1", features = ["io-util", "macros", "process", "rt", "sync", "time"] }}

# A panic has to be caught before it reaches gx: leave `panic` at "unwind".
[profile.release]
lto = "thin"
strip = "symbols"

# A workspace of its own, wherever it lies.
[workspace]
"#
        )
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::plugin::Manifest;

    fn scaffold(name: &str, core: CoreSource) -> Scaffold {
        Scaffold { name: name.parse().unwrap(), core }
    }

    fn written(name: &str) -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("new/plugin");
        scaffold(name, CoreSource::Path("/src/gx/core".into())).write(&folder).unwrap();
        (parent, folder)
    }

    #[test]
    fn the_name_is_everywhere_and_the_templates_nowhere() {
        let (_parent, folder) = written("my-engine");
        let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
        let manifest = Manifest::from_text(&read("gx-plugin.toml")).unwrap();
        assert_eq!(manifest.name.as_str(), "my-engine");
        assert!(read("src/lib.rs").contains("impl Runtime for MyEngineRuntime"));
        assert!(read("src/lib.rs").contains("[plugins.my-engine.config]"));
        assert!(read("tests/plugin.rs").contains("use gx_plugin_my_engine::{Config, MyEngineRuntime}"));
        assert!(read(".github/workflows/ci.yml").contains("target/release/libgx_plugin_my_engine.so"));
        for (path, _) in FILES {
            let text = read(path);
            assert!(!text.to_lowercase().contains("template"), "{path}");
            assert!(!text.contains("{{name}}") && !text.contains("{{file}}"), "{path}");
        }
    }

    #[test]
    fn its_cargo_file_is_a_workspace_of_its_own() {
        let (_parent, folder) = written("runc");
        let cargo: toml::Table = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
        assert_eq!(cargo["package"]["name"].as_str(), Some("gx-plugin-runc"));
        assert_eq!(cargo["dependencies"]["gx-core"]["path"].as_str(), Some("/src/gx/core"));
        assert!(cargo.contains_key("workspace"));
        let version = scaffold("runc", CoreSource::Version("0.1".to_owned())).cargo();
        assert!(version.contains("gx-core = \"0.1\"\n"), "{version}");
        let odd = scaffold("runc", CoreSource::Git("https://x/\"y".to_owned())).cargo();
        let odd: toml::Table = odd.parse().unwrap();
        assert_eq!(odd["dependencies"]["gx-core"]["git"].as_str(), Some("https://x/\"y"));
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let (_parent, folder) = written("runc");
        let again = scaffold("crun", CoreSource::Version("0.1".to_owned()));
        let error = again.write(&folder).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is there already", folder.display()));
        assert_eq!(error.hint().unwrap(), "name another folder, or an empty one");
        assert!(again.write(&folder.join("Cargo.toml")).is_err());
        let empty = folder.with_file_name("empty");
        std::fs::create_dir(&empty).unwrap();
        again.write(&empty).unwrap();
        assert_eq!(std::fs::read_dir(folder.parent().unwrap()).unwrap().count(), 2, "nothing else is left");
    }
}
