//! What somebody needs of a server: `gpu>=1 memory>=8G runtime=podman label.region=eu-*`.
//!
//! Conditions are separated by spaces or commas, and all of them have to hold:
//!
//! | key | compares | values |
//! |---|---|---|
//! | `gpu` | the number of GPUs, of those that `gpu.memory` and `gpu.model` ask for where these are said | `2` |
//! | `gpu.memory` | the memory of a GPU | `24G` |
//! | `gpu.model` | the model of a GPU | `*4090*` |
//! | `cpus`, `memory` | threads, main memory | `8`, `16GiB` |
//! | `runtime` | any of the healthy runtimes | `podman`, `docker\|podman` |
//! | `platform`, `version` | what the server says of itself | `linux/*` |
//! | `label.NAME` | a label; one that is not there is like nothing | `label.region=eu-*` |
//! | `latency` | my own measurement | `<20ms` |
//! | `download`, `upload` | my own measurement, in bit/s | `>=100M` |
//!
//! Numbers take `=`, `!=`, `<`, `<=`, `>` and `>=`; texts take `=` and `!=`, `*` for anything, `|` for either, and quotes
//! around what has spaces. Capital and small letters are the same.

use std::fmt;
use std::str::FromStr;

use crate::peers::observation::Observation;
use crate::peers::record::{Gpu, PeerRecord};
use crate::units::Size;

mod parse;
mod pattern;

pub use parse::NeedsError;
use pattern::Pattern;

/// Conditions on a server, all of which have to hold. None is a need that everybody meets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Needs {
    clauses: Vec<Clause>,
}

/// A condition that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Miss {
    /// The condition.
    pub need: String,
    /// What there is instead: a lower-case fragment.
    pub because: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Clause {
    text: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Number(Quantity, Op, f64),
    Text(Property, Equal, Pattern),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    Gpu,
    GpuMemory,
    Cpus,
    Memory,
    Latency,
    Download,
    Upload,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Property {
    GpuModel,
    Runtime,
    Platform,
    Version,
    Label(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Equal {
    Yes,
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Equal,
    Unequal,
    Below,
    AtMost,
    Above,
    AtLeast,
}

impl Op {
    fn holds(self, found: f64, needed: f64) -> bool {
        match self {
            Self::Equal => found == needed,
            Self::Unequal => found != needed,
            Self::Below => found < needed,
            Self::AtMost => found <= needed,
            Self::Above => found > needed,
            Self::AtLeast => found >= needed,
        }
    }
}

impl Needs {
    /// Returns whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.clauses.is_empty()
    }

    /// Returns what of it a server does not meet; nothing is a server that fits. A server without a record fits only
    /// needs that are about measurements.
    pub fn misses(&self, record: Option<&PeerRecord>, seen: &Observation) -> Vec<Miss> {
        let mut misses: Vec<Miss> = Vec::new();
        let mut gpus_told = false;
        for clause in &self.clauses {
            let because = match &clause.test {
                Test::Number(Quantity::Gpu | Quantity::GpuMemory, ..)
                | Test::Text(Property::GpuModel, ..) => {
                    // The conditions on GPUs are about the same ones, so they are told once.
                    if std::mem::replace(&mut gpus_told, true) {
                        continue;
                    }
                    misses.extend(self.gpu_miss(record));
                    continue;
                }
                Test::Number(quantity, op, needed) => number_miss(*quantity, *op, *needed, record, seen),
                Test::Text(property, equal, pattern) => text_miss(property, *equal, pattern, record),
            };
            misses.extend(because.map(|because| Miss { need: clause.text.clone(), because }));
        }
        misses
    }

    fn gpu_miss(&self, record: Option<&PeerRecord>) -> Option<Miss> {
        let about_gpus = |clause: &&Clause| {
            matches!(
                clause.test,
                Test::Number(Quantity::Gpu | Quantity::GpuMemory, ..) | Test::Text(Property::GpuModel, ..)
            )
        };
        let about: Vec<&Clause> = self.clauses.iter().filter(about_gpus).collect();
        let need = about.iter().map(|clause| clause.text.as_str()).collect::<Vec<_>>().join(" ");
        let miss = |because: String| Some(Miss { need: need.clone(), because });
        let Some(record) = record else { return miss(SILENT.to_owned()) };
        let fitting =
            record.gpus.iter().filter(|gpu| about.iter().all(|clause| gpu_fits(gpu, clause))).count();
        let counts: Vec<(Op, f64)> = about
            .iter()
            .filter_map(|clause| match clause.test {
                Test::Number(Quantity::Gpu, op, needed) => Some((op, needed)),
                _ => None,
            })
            .collect();
        let enough = if counts.is_empty() {
            fitting > 0
        } else {
            counts.iter().all(|(op, needed)| op.holds(fitting as f64, *needed))
        };
        if enough { None } else { miss(gpus_found(&record.gpus, fitting)) }
    }
}

const SILENT: &str = "it has no key and says nothing of itself";

fn gpus_found(gpus: &[Gpu], fitting: usize) -> String {
    if gpus.is_empty() {
        return "it has no GPU".to_owned();
    }
    let shown = |gpu: &Gpu| {
        let model = if gpu.model.is_empty() { "unknown" } else { &gpu.model };
        format!("{model} with {}", Size(gpu.memory_bytes))
    };
    let listed: Vec<String> = gpus.iter().map(shown).collect();
    format!("{fitting} of its {} GPUs fit: {}", gpus.len(), listed.join(", "))
}

/// Returns whether a GPU is one of those that a condition is about.
fn gpu_fits(gpu: &Gpu, clause: &Clause) -> bool {
    match &clause.test {
        Test::Number(Quantity::GpuMemory, op, needed) => op.holds(gpu.memory_bytes as f64, *needed),
        Test::Text(Property::GpuModel, equal, pattern) => {
            pattern.matches(&gpu.model) == (*equal == Equal::Yes)
        }
        Test::Number(..) | Test::Text(..) => true,
    }
}

fn number_miss(
    quantity: Quantity,
    op: Op,
    needed: f64,
    record: Option<&PeerRecord>,
    seen: &Observation,
) -> Option<String> {
    let measured = |value: Option<f64>| value.ok_or_else(|| "it was not measured".to_owned());
    let said = |value: &dyn Fn(&PeerRecord) -> f64| record.map(value).ok_or_else(|| SILENT.to_owned());
    let found = match quantity {
        Quantity::Cpus => said(&|record| f64::from(record.cpus)),
        Quantity::Memory => said(&|record| record.memory_bytes as f64),
        Quantity::Latency => measured(seen.latency_ms.map(|ms| ms.0)),
        Quantity::Download => measured(seen.download_bps.map(|bps| bps.0)),
        Quantity::Upload => measured(seen.upload_bps.map(|bps| bps.0)),
        Quantity::Gpu | Quantity::GpuMemory => return None,
    };
    match found {
        Err(because) => Some(because),
        Ok(found) if op.holds(found, needed) => None,
        Ok(found) => Some(format!("it has {}", shown(quantity, found))),
    }
}

fn shown(quantity: Quantity, found: f64) -> String {
    match quantity {
        Quantity::Gpu | Quantity::Cpus => format!("{found}"),
        Quantity::GpuMemory | Quantity::Memory => Size(found as u64).to_string(),
        Quantity::Latency => crate::measurement::Millis(found).to_string(),
        Quantity::Download | Quantity::Upload => crate::measurement::BitsPerSecond(found).to_string(),
    }
}

fn text_miss(
    property: &Property,
    equal: Equal,
    pattern: &Pattern,
    record: Option<&PeerRecord>,
) -> Option<String> {
    let Some(record) = record else { return Some(SILENT.to_owned()) };
    let values: Vec<&str> = match property {
        Property::GpuModel => return None,
        Property::Runtime => record.runtimes.iter().map(|name| name.as_str()).collect(),
        Property::Platform => vec![&record.platform],
        Property::Version => vec![&record.version],
        Property::Label(name) => record.labels.get(name).map(String::as_str).into_iter().collect(),
    };
    let found = values.iter().any(|value| pattern.matches(value));
    if found == (equal == Equal::Yes) {
        return None;
    }
    let values: Vec<&str> = values.into_iter().filter(|value| !value.is_empty()).collect();
    Some(if values.is_empty() { "it has none".to_owned() } else { format!("it has {}", values.join(", ")) })
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, clause) in self.clauses.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { " " }, clause.text)?;
        }
        Ok(())
    }
}

impl FromStr for Needs {
    type Err = NeedsError;
    fn from_str(text: &str) -> Result<Self, NeedsError> {
        parse::parse(text)
    }
}

#[cfg(test)]
mod tests;
