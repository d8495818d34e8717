//! The methods of a plugin: their numbers, and the JSON bodies that go in.
//!
//! A reply is the JSON of what the trait's method returns; `()` is an empty body. Bodies grow: a missing field
//! has a default, an unknown one is passed over.

use serde::{Deserialize, Serialize};

use super::{ConfigIssue, PluginContext};
use crate::container::ContainerSpec;
use crate::id::{ContainerId, Timestamp};
use crate::image::ImageRef;
use crate::measurement::{Budget, Target};
use crate::runtime::{
    BuildRequest, ExecSpec, ListFilter, LogOptions, PullRequest, RemoveOptions, StopOptions, VolumePrune,
};

/// Answers nothing: shows that the plugin is alive.
pub const PING: u32 = 0;
/// Hands over the configuration (a JSON object) before anything else is called; answers [`Configured`].
pub const CONFIGURE: u32 = 1;

/// The body of `create` of the boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The trait and version that both sides speak, as in the manifest: `runtime/1`.
    pub api: String,
    /// Where the plugin is.
    pub context: PluginContext,
}

/// The answer to [`CONFIGURE`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Configured {
    /// What cannot be used; empty: the plugin is ready.
    pub issues: Vec<ConfigIssue>,
}

macro_rules! methods {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $number,)*
        }

        impl $name {
            /// All methods.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the method with this number.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Returns the number.
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// Returns the name, as in the trait.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

methods! {
    /// The methods of [`Runtime`](crate::Runtime).
    RuntimeMethod {
        /// No body; answers [`Capabilities`](crate::runtime::Capabilities).
        Capabilities = 16, "capabilities";
        /// No body; answers [`RuntimeInfo`](crate::runtime::RuntimeInfo).
        Info = 17, "info";
        /// No body; answers [`Health`](crate::runtime::Health).
        Health = 18, "health";
        /// [`PullArgs`]; streams progress; answers an [`Image`](crate::image::Image).
        Pull = 19, "pull";
        /// No body; answers a list of [`Image`](crate::image::Image).
        Images = 20, "images";
        /// [`ImageArgs`]; answers an [`Image`](crate::image::Image) or `null`.
        Image = 21, "image";
        /// [`BuildArgs`]; takes a tar archive, streams progress; answers an [`Image`](crate::image::Image).
        Build = 22, "build";
        /// [`ImageArgs`].
        RemoveImage = 23, "remove_image";
        /// [`CreateArgs`]; answers a [`ContainerId`].
        Create = 24, "create";
        /// [`IdArgs`].
        Start = 25, "start";
        /// [`IdArgs`]; answers an [`Exit`](crate::Exit).
        Wait = 26, "wait";
        /// [`StopArgs`].
        Stop = 27, "stop";
        /// [`SignalArgs`].
        Signal = 28, "signal";
        /// [`RemoveArgs`].
        Remove = 29, "remove";
        /// [`IdArgs`]; answers a [`Container`](crate::Container).
        Inspect = 30, "inspect";
        /// [`ListArgs`]; streams a [`Container`](crate::Container) an event.
        List = 31, "list";
        /// [`LogsArgs`]; streams raw bytes.
        Logs = 32, "logs";
        /// [`ExecArgs`]; takes input, streams raw bytes; answers an [`Exit`](crate::Exit).
        Exec = 33, "exec";
        /// [`CopyArgs`]; takes a tar archive.
        CopyIn = 34, "copy_in";
        /// [`CopyArgs`]; streams a tar archive.
        CopyOut = 35, "copy_out";
        /// [`StatsArgs`]; streams [`Stats`](crate::runtime::Stats) as events.
        Stats = 36, "stats";
        /// [`EventsArgs`]; streams [`Event`](crate::runtime::Event) as events.
        Events = 37, "events";
        /// [`NetworkArgs`].
        RemoveNetwork = 38, "remove_network";
        /// [`IdArgs`]; takes input.
        Feed = 39, "feed";
        /// [`PruneArgs`]; answers a list of [`VolumeName`](crate::VolumeName).
        PruneVolumes = 40, "prune_volumes";
    }
}

methods! {
    /// The methods of [`Measurement`](crate::measurement::Measurement).
    MeasurementMethod {
        /// No body; answers [`MeasurementCapabilities`](crate::measurement::MeasurementCapabilities).
        Capabilities = 64, "capabilities";
        /// No body; answers [`Health`](crate::runtime::Health).
        Health = 65, "health";
        /// [`LatencyArgs`]; answers [`Latency`](crate::measurement::Latency).
        Latency = 66, "latency";
        /// [`ThroughputArgs`]; streams samples as events; answers [`Throughput`](crate::measurement::Throughput).
        Download = 67, "download";
        /// [`ThroughputArgs`]; streams samples as events; answers [`Throughput`](crate::measurement::Throughput).
        Upload = 68, "upload";
    }
}

/// Returns the name of a method, for messages.
pub fn name(number: u32) -> &'static str {
    match number {
        PING => "ping",
        CONFIGURE => "configure",
        _ => RuntimeMethod::from_number(number)
            .map(RuntimeMethod::name)
            .or_else(|| MeasurementMethod::from_number(number).map(MeasurementMethod::name))
            .unwrap_or("unknown"),
    }
}

/// Returns whether a method takes input while it runs.
pub const fn takes_input(number: u32) -> bool {
    use RuntimeMethod as M;
    matches!(M::from_number(number), Some(M::Build | M::Exec | M::CopyIn | M::Feed))
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty = $field_doc:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            pub struct $name {
                $(#[doc = $field_doc] pub $field: $type,)*
            }
        )*
    };
}

bodies! {
    /// The body of `pull`.
    PullArgs { request: PullRequest = "What to pull.", }
    /// The body of `image` and `remove_image`.
    ImageArgs { image: ImageRef = "Its name.", }
    /// The body of `build`.
    BuildArgs { request: BuildRequest = "What to build.", }
    /// The body of `create`.
    CreateArgs { spec: ContainerSpec = "What to make.", }
    /// The body of `start`, `wait`, `inspect` and `feed`.
    IdArgs { id: ContainerId = "Which container.", }
    /// The body of `signal`.
    SignalArgs { id: ContainerId = "Which container.", signal: String = "A name or number.", }
    /// The body of `exec`.
    ExecArgs { id: ContainerId = "Which container.", spec: ExecSpec = "What to run.", }
    /// The body of `copy_in` and `copy_out`.
    CopyArgs { id: ContainerId = "Which container.", path: String = "The path inside.", }
    /// The body of `remove_network`.
    NetworkArgs { name: String = "The engine's name for it.", }
    /// The body of `prune_volumes`.
    PruneArgs { prune: VolumePrune = "Which volumes.", }
    /// The body of `latency`.
    LatencyArgs { target: Target = "Whom to measure.", }
}

/// The body of `stop`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StopArgs {
    /// Which container.
    pub id: ContainerId,
    /// How.
    #[serde(default)]
    pub options: StopOptions,
}

/// The body of `remove`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoveArgs {
    /// Which container.
    pub id: ContainerId,
    /// How.
    #[serde(default)]
    pub options: RemoveOptions,
}

/// The body of `list`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ListArgs {
    /// Which containers.
    pub filter: ListFilter,
}

/// The body of `logs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogsArgs {
    /// Which container.
    pub id: ContainerId,
    /// Which part.
    #[serde(default)]
    pub options: LogOptions,
}

/// The body of `stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatsArgs {
    /// Which container.
    pub id: ContainerId,
    /// How often, in milliseconds; 0: once.
    #[serde(default)]
    pub every_ms: u32,
}

/// The body of `events`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventsArgs {
    /// From when on; `None`: from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// The body of `download` and `upload`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThroughputArgs {
    /// Whom to measure.
    pub target: Target,
    /// How much it may take.
    #[serde(default)]
    pub budget: Budget,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_go_both_ways() {
        for method in RuntimeMethod::ALL {
            assert_eq!(RuntimeMethod::from_number(method.number()), Some(*method));
            assert_eq!(name(method.number()), method.name());
        }
        for method in MeasurementMethod::ALL {
            assert_eq!(MeasurementMethod::from_number(method.number()), Some(*method));
        }
        assert_eq!(name(7), "unknown");
    }

    #[test]
    fn the_header_for_c_has_the_same_numbers() {
        let header = include_str!("../../../examples/plugins/c/gx_plugin.h");
        for method in RuntimeMethod::ALL {
            let line = format!(" GX_{} = {}", method.name().to_uppercase(), method.number());
            assert!(header.lines().any(|have| have.trim_end_matches(',').ends_with(&line)), "{line}");
        }
    }

    #[test]
    fn a_body_of_a_newer_or_older_host_is_read() {
        let args: StopArgs = serde_json::from_str(r#"{"id":"a","colour":1}"#).unwrap();
        assert_eq!(args.options, StopOptions::default());
    }
}
