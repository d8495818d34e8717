//! A loaded plugin as the trait it implements: every method becomes a call over the link.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use gx_core::container::{Container, ContainerSpec, Exit};
use gx_core::image::{Image, ImageRef};
use gx_core::measurement::{Budget, Latency, Measurement, MeasurementCapabilities, Target, Throughput};
use gx_core::plugin::method::{
    BuildArgs, CopyArgs, CreateArgs, EventsArgs, ExecArgs, IdArgs, ImageArgs, LatencyArgs, ListArgs,
    LogsArgs, MeasurementMethod, NetworkArgs, PruneArgs, PullArgs, RemoveArgs, RuntimeMethod, SignalArgs,
    StatsArgs, StopArgs, ThroughputArgs, name,
};
use gx_core::runtime::{
    BuildRequest, Capabilities, Event, ExecSpec, Health, ListFilter, LogOptions, PullRequest, RemoveOptions,
    Result, RuntimeInfo, StopOptions, VolumePrune,
};
use gx_core::stream::{Input, Item, Kind, Output};
use gx_core::{ContainerId, ErrorCode, Runtime, RuntimeError, Timestamp, VolumeName};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::calls::Streams;
use crate::link::Call;
use crate::streams;
use crate::supervise::Supervised;

/// How long a question about the engine may take, in milliseconds.
const ASK_MS: u32 = 30_000;
/// How long a change may take, in milliseconds.
const CHANGE_MS: u32 = 120_000;
/// No limit: the call takes as long as what it follows.
const ENDLESS: u32 = 0;
/// What connecting, and the end of what is on its way, add to a measurement, in milliseconds.
const AROUND_MS: u32 = 30_000;

/// A plugin as a [`Runtime`] or a [`Measurement`].
pub(crate) struct Remote(pub(crate) Arc<Supervised>);

impl Remote {
    async fn ask<T: DeserializeOwned>(&self, method: u32, limit_ms: u32, args: &impl Serialize) -> Result<T> {
        let (call, _) = self.begin(method, limit_ms, &to_json(args), false).await?;
        self.read(method, &call.done().await?)
    }

    async fn stream<T: DeserializeOwned>(
        &self,
        (method, limit_ms): (u32, u32),
        args: &impl Serialize,
        input: Option<Input>,
        out: &Output,
        seen: impl FnMut(&Item) -> bool + Send,
    ) -> Result<T> {
        let (call, streams) = self.begin(method, limit_ms, &to_json(args), true).await?;
        let streams = streams.expect("a streamed call has streams");
        self.read(method, &streams::run(call, streams, input, out, seen).await?)
    }

    /// Begins a call. One that a child did not get any more, because it has just died, goes to the next child.
    async fn begin(
        &self,
        method: u32,
        limit_ms: u32,
        body: &[u8],
        streamed: bool,
    ) -> Result<(Call, Option<Streams>)> {
        let session = self.0.session().await?;
        match session.begin(method, limit_ms, body, streamed) {
            Err(error) if plugin_gone(&error) => {
                self.0.next_session(Some(&session)).await?.begin(method, limit_ms, body, streamed)
            }
            begun => begun,
        }
    }

    fn read<T: DeserializeOwned>(&self, method: u32, body: &[u8]) -> Result<T> {
        let body = if body.is_empty() { b"null" } else { body };
        serde_json::from_slice(body).map_err(|error| {
            let (plugin, method) = (self.0.name(), name(method));
            let said = format!("the answer of the plugin {plugin} to {method} cannot be read");
            RuntimeError::new(ErrorCode::Internal, said).backend(crate::text::clean(&error.to_string()))
        })
    }
}

fn to_json(args: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(args).expect("our own types always become JSON")
}

/// The body of a method that takes nothing.
#[derive(Serialize)]
struct Nothing {}

fn all(_: &Item) -> bool {
    true
}

/// Returns whether an error says that the plugin itself, not the engine behind it, went away.
fn plugin_gone(error: &RuntimeError) -> bool {
    error.code == ErrorCode::Unavailable && error.field.as_deref() == Some("plugin")
}

#[async_trait]
impl Runtime for Remote {
    async fn capabilities(&self) -> Result<Capabilities> {
        self.ask(RuntimeMethod::Capabilities.number(), ASK_MS, &Nothing {}).await
    }

    async fn info(&self) -> Result<RuntimeInfo> {
        self.ask(RuntimeMethod::Info.number(), ASK_MS, &Nothing {}).await
    }

    async fn health(&self) -> Result<Health> {
        self.ask(RuntimeMethod::Health.number(), ASK_MS, &Nothing {}).await
    }

    async fn pull(&self, request: PullRequest, out: Output) -> Result<Image> {
        let args = PullArgs { request };
        self.stream((RuntimeMethod::Pull.number(), ENDLESS), &args, None, &out, all).await
    }

    async fn images(&self) -> Result<Vec<Image>> {
        self.ask(RuntimeMethod::Images.number(), ASK_MS, &Nothing {}).await
    }

    async fn image(&self, image: ImageRef) -> Result<Option<Image>> {
        self.ask(RuntimeMethod::Image.number(), ASK_MS, &ImageArgs { image }).await
    }

    async fn build(&self, request: BuildRequest, context: Input, out: Output) -> Result<Image> {
        let args = BuildArgs { request };
        self.stream((RuntimeMethod::Build.number(), ENDLESS), &args, Some(context), &out, all).await
    }

    async fn prune_volumes(&self, prune: VolumePrune) -> Result<Vec<VolumeName>> {
        self.ask(RuntimeMethod::PruneVolumes.number(), CHANGE_MS, &PruneArgs { prune }).await
    }

    async fn remove_network(&self, name: String) -> Result<()> {
        self.ask(RuntimeMethod::RemoveNetwork.number(), CHANGE_MS, &NetworkArgs { name }).await
    }

    async fn remove_image(&self, image: ImageRef) -> Result<()> {
        self.ask(RuntimeMethod::RemoveImage.number(), CHANGE_MS, &ImageArgs { image }).await
    }

    async fn create(&self, spec: ContainerSpec) -> Result<ContainerId> {
        self.ask(RuntimeMethod::Create.number(), CHANGE_MS, &CreateArgs { spec }).await
    }

    async fn start(&self, id: ContainerId) -> Result<()> {
        self.ask(RuntimeMethod::Start.number(), CHANGE_MS, &IdArgs { id }).await
    }

    async fn wait(&self, id: ContainerId) -> Result<Exit> {
        self.ask(RuntimeMethod::Wait.number(), ENDLESS, &IdArgs { id }).await
    }

    async fn stop(&self, id: ContainerId, options: StopOptions) -> Result<()> {
        let limit_ms = options.grace_ms.map_or(ENDLESS, |grace_ms| CHANGE_MS.saturating_add(grace_ms));
        self.ask(RuntimeMethod::Stop.number(), limit_ms, &StopArgs { id, options }).await
    }

    async fn signal(&self, id: ContainerId, signal: String) -> Result<()> {
        self.ask(RuntimeMethod::Signal.number(), CHANGE_MS, &SignalArgs { id, signal }).await
    }

    async fn remove(&self, id: ContainerId, options: RemoveOptions) -> Result<()> {
        self.ask(RuntimeMethod::Remove.number(), CHANGE_MS, &RemoveArgs { id, options }).await
    }

    async fn inspect(&self, id: ContainerId) -> Result<Container> {
        self.ask(RuntimeMethod::Inspect.number(), ASK_MS, &IdArgs { id }).await
    }

    async fn list(&self, filter: ListFilter, out: Output) -> Result<()> {
        let method = (RuntimeMethod::List.number(), ENDLESS);
        self.stream(method, &ListArgs { filter }, None, &out, all).await
    }

    async fn logs(&self, id: ContainerId, options: LogOptions, out: Output) -> Result<()> {
        let method = (RuntimeMethod::Logs.number(), ENDLESS);
        self.stream(method, &LogsArgs { id, options }, None, &out, all).await
    }

    async fn exec(&self, id: ContainerId, spec: ExecSpec, input: Input, out: Output) -> Result<Exit> {
        let method = (RuntimeMethod::Exec.number(), ENDLESS);
        self.stream(method, &ExecArgs { id, spec }, Some(input), &out, all).await
    }

    async fn feed(&self, id: ContainerId, input: Input) -> Result<()> {
        let method = (RuntimeMethod::Feed.number(), CHANGE_MS);
        self.stream(method, &IdArgs { id }, Some(input), &Output::null(), all).await
    }

    async fn copy_in(&self, id: ContainerId, path: String, archive: Input) -> Result<()> {
        let method = (RuntimeMethod::CopyIn.number(), ENDLESS);
        self.stream(method, &CopyArgs { id, path }, Some(archive), &Output::null(), all).await
    }

    async fn copy_out(&self, id: ContainerId, path: String, out: Output) -> Result<()> {
        let method = (RuntimeMethod::CopyOut.number(), ENDLESS);
        self.stream(method, &CopyArgs { id, path }, None, &out, all).await
    }

    /// Goes on with a plugin that was started again after a crash.
    async fn stats(&self, id: ContainerId, every_ms: u32, out: Output) -> Result<()> {
        let method = (RuntimeMethod::Stats.number(), ENDLESS);
        let args = StatsArgs { id, every_ms };
        loop {
            match self.stream(method, &args, None, &out, all).await {
                Err(error) if plugin_gone(&error) && every_ms > 0 => drop(self.0.session().await?),
                ended => return ended,
            }
        }
    }

    /// Goes on with a plugin that was started again after a crash, where it was.
    async fn events(&self, since: Option<Timestamp>, out: Output) -> Result<()> {
        let method = (RuntimeMethod::Events.number(), ENDLESS);
        let mut place = Place::new(since);
        loop {
            let args = EventsArgs { since: place.since };
            let ended = self.stream(method, &args, None, &out, |item| place.is_new(item)).await;
            match ended {
                Err(error) if plugin_gone(&error) => drop(self.0.session().await?),
                ended => return ended,
            }
            place.go_on();
        }
    }

    async fn shutdown(&self) -> Result<()> {
        self.0.shutdown(std::time::Duration::from_secs(5)).await;
        Ok(())
    }
}

/// Returns how long a measurement may take. Its own limit is the plugin's to keep; this one is for a plugin that does not.
fn measuring_ms(budget: &Budget) -> u32 {
    budget.time_ms.min(CHANGE_MS).saturating_add(AROUND_MS)
}

/// How far a stream of events has come.
struct Place {
    /// Where to begin: what was asked for, or where a stream that broke had come to.
    since: Option<Timestamp>,
    opened: Timestamp,
    /// The events at the last moment; an engine that is asked from this moment on tells them again.
    last: Vec<Event>,
    again: bool,
}

impl Place {
    fn new(since: Option<Timestamp>) -> Self {
        Self { since, opened: SystemTime::now().into(), last: Vec::new(), again: false }
    }

    fn is_new(&mut self, item: &Item) -> bool {
        let Some(event) =
            (item.kind == Kind::Event).then(|| serde_json::from_slice::<Event>(&item.bytes).ok())
        else {
            return true;
        };
        let Some(event) = event else { return true };
        if self.again && self.last.contains(&event) {
            return false;
        }
        if self.last.last().is_some_and(|last| last.at != event.at) {
            self.last.clear();
        }
        self.last.push(event);
        true
    }

    fn go_on(&mut self) {
        self.since = self.last.last().map(|event| event.at).or(self.since).or(Some(self.opened));
        self.again = true;
    }
}

#[async_trait]
impl Measurement for Remote {
    async fn capabilities(&self) -> Result<MeasurementCapabilities> {
        self.ask(MeasurementMethod::Capabilities.number(), ASK_MS, &Nothing {}).await
    }

    async fn health(&self) -> Result<Health> {
        self.ask(MeasurementMethod::Health.number(), ASK_MS, &Nothing {}).await
    }

    async fn latency(&self, target: Target) -> Result<Latency> {
        self.ask(MeasurementMethod::Latency.number(), CHANGE_MS, &LatencyArgs { target }).await
    }

    async fn download(&self, target: Target, budget: Budget, out: Output) -> Result<Throughput> {
        let limit = measuring_ms(&budget);
        let args = ThroughputArgs { target, budget };
        self.stream((MeasurementMethod::Download.number(), limit), &args, None, &out, all).await
    }

    async fn upload(&self, target: Target, budget: Budget, out: Output) -> Result<Throughput> {
        let limit = measuring_ms(&budget);
        let args = ThroughputArgs { target, budget };
        self.stream((MeasurementMethod::Upload.number(), limit), &args, None, &out, all).await
    }

    async fn shutdown(&self) -> Result<()> {
        self.0.shutdown(std::time::Duration::from_secs(5)).await;
        Ok(())
    }
}
