//! From a method's number and body to the trait, and back: what both traits look like to the boundary.

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::method::{
    BuildArgs, CopyArgs, CreateArgs, EventsArgs, ExecArgs, IdArgs, ImageArgs, LatencyArgs, ListArgs,
    LogsArgs, MeasurementMethod, NetworkArgs, PruneArgs, PullArgs, RemoveArgs, RuntimeMethod, SignalArgs,
    StatsArgs, StopArgs, ThroughputArgs,
};
use crate::measurement::Measurement;
use crate::runtime::{ErrorCode, Result, Runtime, RuntimeError};
use crate::stream::{Input, Output};

/// One call, as it came in.
pub(super) struct Request {
    pub(super) method: u32,
    pub(super) body: Vec<u8>,
    /// For the methods that take some.
    pub(super) input: Option<Input>,
    pub(super) out: Output,
}

/// What a configured plugin does for the boundary.
#[async_trait]
pub trait Service: Send + Sync {
    /// Answers a call; `None` for a method it does not know.
    #[doc(hidden)]
    async fn call(&self, request: Call) -> Option<Result<Vec<u8>>>;
    /// Lets go of everything.
    #[doc(hidden)]
    async fn shutdown(&self);
}

/// A [`Request`] that those outside cannot look into.
#[doc(hidden)]
pub struct Call(pub(super) Request);

/// A runtime as a service.
pub(super) struct RuntimeService<T>(pub(super) T);
/// A measurement as a service.
pub(super) struct MeasurementService<T>(pub(super) T);

#[async_trait]
impl<T: Runtime> Service for RuntimeService<T> {
    async fn call(&self, Call(request): Call) -> Option<Result<Vec<u8>>> {
        let method = RuntimeMethod::from_number(request.method)?;
        Some(runtime_call(&self.0, method, request).await)
    }
    async fn shutdown(&self) {
        let _ = self.0.shutdown().await;
    }
}

#[async_trait]
impl<T: Measurement> Service for MeasurementService<T> {
    async fn call(&self, Call(request): Call) -> Option<Result<Vec<u8>>> {
        let method = MeasurementMethod::from_number(request.method)?;
        Some(measurement_call(&self.0, method, request).await)
    }
    async fn shutdown(&self) {
        let _ = self.0.shutdown().await;
    }
}

async fn runtime_call<T: Runtime>(runtime: &T, method: RuntimeMethod, request: Request) -> Result<Vec<u8>> {
    use RuntimeMethod as M;
    let Request { body, input, out, .. } = request;
    let input = || input.unwrap_or_else(Input::empty);
    match method {
        M::Capabilities => reply(&runtime.capabilities().await?),
        M::Info => reply(&runtime.info().await?),
        M::Health => reply(&runtime.health().await?),
        M::Pull => reply(&runtime.pull(args::<PullArgs>(&body)?.request, out).await?),
        M::Images => reply(&runtime.images().await?),
        M::Image => reply(&runtime.image(args::<ImageArgs>(&body)?.image).await?),
        M::Build => reply(&runtime.build(args::<BuildArgs>(&body)?.request, input(), out).await?),
        M::PruneVolumes => reply(&runtime.prune_volumes(args::<PruneArgs>(&body)?.prune).await?),
        M::RemoveNetwork => empty(runtime.remove_network(args::<NetworkArgs>(&body)?.name).await),
        M::RemoveImage => empty(runtime.remove_image(args::<ImageArgs>(&body)?.image).await),
        M::Create => reply(&runtime.create(args::<CreateArgs>(&body)?.spec).await?),
        M::Start => empty(runtime.start(args::<IdArgs>(&body)?.id).await),
        M::Wait => reply(&runtime.wait(args::<IdArgs>(&body)?.id).await?),
        M::Stop => {
            let StopArgs { id, options } = args(&body)?;
            empty(runtime.stop(id, options).await)
        }
        M::Signal => {
            let SignalArgs { id, signal } = args(&body)?;
            empty(runtime.signal(id, signal).await)
        }
        M::Remove => {
            let RemoveArgs { id, options } = args(&body)?;
            empty(runtime.remove(id, options).await)
        }
        M::Inspect => reply(&runtime.inspect(args::<IdArgs>(&body)?.id).await?),
        M::List => empty(runtime.list(args::<ListArgs>(&body)?.filter, out).await),
        M::Logs => {
            let LogsArgs { id, options } = args(&body)?;
            empty(runtime.logs(id, options, out).await)
        }
        M::Exec => {
            let ExecArgs { id, spec } = args(&body)?;
            reply(&runtime.exec(id, spec, input(), out).await?)
        }
        M::Feed => empty(runtime.feed(args::<IdArgs>(&body)?.id, input()).await),
        M::CopyIn => {
            let CopyArgs { id, path } = args(&body)?;
            empty(runtime.copy_in(id, path, input()).await)
        }
        M::CopyOut => {
            let CopyArgs { id, path } = args(&body)?;
            empty(runtime.copy_out(id, path, out).await)
        }
        M::Stats => {
            let StatsArgs { id, every_ms } = args(&body)?;
            empty(runtime.stats(id, every_ms, out).await)
        }
        M::Events => empty(runtime.events(args::<EventsArgs>(&body)?.since, out).await),
    }
}

async fn measurement_call<T: Measurement>(
    measurement: &T,
    method: MeasurementMethod,
    request: Request,
) -> Result<Vec<u8>> {
    use MeasurementMethod as M;
    let Request { body, out, .. } = request;
    match method {
        M::Capabilities => reply(&measurement.capabilities().await?),
        M::Health => reply(&measurement.health().await?),
        M::Latency => reply(&measurement.latency(args::<LatencyArgs>(&body)?.target).await?),
        M::Download => {
            let ThroughputArgs { target, budget } = args(&body)?;
            reply(&measurement.download(target, budget, out).await?)
        }
        M::Upload => {
            let ThroughputArgs { target, budget } = args(&body)?;
            reply(&measurement.upload(target, budget, out).await?)
        }
    }
}

fn args<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        RuntimeError::new(ErrorCode::InvalidArgument, format!("the body cannot be read: {error}"))
    })
}

fn reply<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| {
        RuntimeError::new(ErrorCode::Internal, format!("the reply cannot be written: {error}"))
    })
}

fn empty(done: Result<()>) -> Result<Vec<u8>> {
    done.map(|()| Vec::new())
}
