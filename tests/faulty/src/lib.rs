//! A plugin that misbehaves on request.
//!
//! What goes wrong while it is configured is said by its key `fault`; what goes wrong in a call, by the id of the
//! container that is asked for. It keeps nothing and starts nothing. Faults that need another file (a missing
//! symbol, another version, a damaged manifest) are made by editing a copy of the library.

use std::time::Duration;

use gx_core::plugin::*;

mod raw;

/// What can be configured.
#[derive(Debug, serde::Deserialize)]
struct Config {
    fault: Option<String>,
}

/// The runtime.
struct Faulty;

impl Faulty {
    async fn connect(config: Config, _: PluginContext) -> Result<Self, Vec<ConfigIssue>> {
        match config.fault.as_deref() {
            None => Ok(Self),
            Some("panic-in-configure") => panic!("configured to panic"),
            Some("abort-in-configure") => std::process::abort(),
            Some("hang-in-configure") => std::future::pending().await,
            Some(other) => Err(vec![ConfigIssue::new("fault", format!("{other} is refused"))]),
        }
    }
}

#[async_trait]
impl Runtime for Faulty {
    async fn capabilities(&self) -> Result<Capabilities> {
        Ok([Feature::Exec, Feature::Copy].into_iter().collect())
    }

    async fn info(&self) -> Result<RuntimeInfo> {
        let backend = "faulty\u{1b}[2J\u{7}".to_owned();
        Ok(RuntimeInfo { backend, ..RuntimeInfo::default() })
    }

    async fn health(&self) -> Result<Health> {
        Ok(Health { status: HealthStatus::Healthy, why: String::new(), hint: None })
    }

    async fn image(&self, _: ImageRef) -> Result<Option<Image>> {
        Ok(None)
    }

    async fn create(&self, spec: ContainerSpec) -> Result<ContainerId> {
        Ok(spec.name.as_str().parse().expect("every name is an id"))
    }

    async fn start(&self, _: ContainerId) -> Result<()> {
        Ok(())
    }

    async fn wait(&self, _: ContainerId) -> Result<Exit> {
        std::future::pending().await
    }

    async fn stop(&self, _: ContainerId, _: StopOptions) -> Result<()> {
        Ok(())
    }

    async fn remove(&self, _: ContainerId, _: RemoveOptions) -> Result<()> {
        Ok(())
    }

    async fn inspect(&self, id: ContainerId) -> Result<Container> {
        match id.as_str() {
            "panic" => panic!("asked to panic"),
            "segfault" => raw::segfault(),
            "exit" => std::process::exit(0),
            "abort" => std::process::abort(),
            "stack-overflow" => drop(std::hint::black_box(overflow(1))),
            "pend" => std::future::pending().await,
            "block" => std::thread::sleep(Duration::from_secs(3_600)),
            "large" => return Err(RuntimeError::new(ErrorCode::Internal, "x".repeat(20_000_000))),
            "control" => {
                return Err(RuntimeError::new(ErrorCode::NotFound, "no\u{1b}[31m\r\n\u{202e}such\u{0}thing"));
            }
            "slow" => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => {}
        }
        let labels = match id.as_str() {
            "plain" => std::collections::BTreeMap::new(),
            _ => (0..8).map(|key| (format!("gx.label-{key}"), "a value of some length".to_owned())).collect(),
        };
        Ok(Container {
            id: id.clone(),
            name: id.to_string(),
            image: "faulty".to_owned(),
            state: ContainerState::Running,
            created_at: None,
            started_at: None,
            exit: None,
            labels,
            ports: Vec::new(),
        })
    }

    async fn list(&self, filter: ListFilter, out: Output) -> Result<()> {
        let count =
            filter.labels.get("count").cloned().flatten().and_then(|count| count.parse().ok()).unwrap_or(0);
        for number in 0..count {
            let id: ContainerId = format!("c{number}").parse().expect("letters and digits");
            let container = self.inspect(id).await?;
            if out.event(&container).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Writes for ever, or so many bytes as the id says.
    async fn logs(&self, id: ContainerId, options: LogOptions, out: Output) -> Result<()> {
        let mut left: u64 = id.as_str().parse().unwrap_or(u64::MAX);
        let piece = vec![b'x'; options.tail.unwrap_or(65_536) as usize];
        while left > 0 {
            let bytes = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if out.stdout(&piece[..bytes]).await.is_err() {
                break;
            }
            left -= bytes as u64;
            if id.as_str() == "panic" {
                panic!("asked to panic in a stream");
            }
        }
        Ok(())
    }

    /// Writes one item every now and then, without end.
    async fn stats(&self, _: ContainerId, every_ms: u32, out: Output) -> Result<()> {
        while out.event(&Stats::default()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(every_ms.into())).await;
        }
        Ok(())
    }

    /// Tells what happened in the seconds 1 to 3, or from `since` to the second after, and then waits.
    async fn events(&self, since: Option<Timestamp>, out: Output) -> Result<()> {
        let (first, last) = since.map_or((1, 3), |since| (since.unix(), since.unix() + 1));
        for second in first..=last {
            let id = "a".parse().expect("a letter");
            let at = Timestamp::from_unix(second);
            if out
                .event(&Event {
                    action: EventAction::Start,
                    id,
                    at,
                    exit_code: None,
                    labels: std::collections::BTreeMap::new(),
                })
                .await
                .is_err()
            {
                return Ok(());
            }
        }
        out.gone().await;
        Ok(())
    }

    /// Writes its input to its output.
    async fn exec(&self, _: ContainerId, _: ExecSpec, mut input: Input, out: Output) -> Result<Exit> {
        while let Some(chunk) = input.next().await {
            let _ = match chunk {
                InputChunk::Data(bytes) => out.stdout(&bytes).await,
                InputChunk::Resize { columns, rows } => {
                    out.stderr(format!("{columns}x{rows}").as_bytes()).await
                }
            };
        }
        Ok(Exit::from_code(43))
    }
}

#[expect(unconditional_recursion, reason = "it is to overflow the stack")]
fn overflow(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 512]);
    overflow(frame[0] + 1) + frame[1]
}

gx_core::export_runtime!(
    Faulty,
    config = Config,
    new = Faulty::connect,
    manifest = include_str!("../gx-plugin.toml")
);
