//! One container: its state, and the task that plays its main process.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use gx_core::container::{Container, ContainerSpec, ContainerState, Exit, PortMapping};
use gx_core::runtime::{ErrorCode, ExecSpec, Result, RuntimeError};
use gx_core::stream::Kind;
use gx_core::{ContainerId, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::files::Files;
use crate::logs::Logs;
use crate::programs::{self, Streams, World, Writer};

/// The signal that nothing can hold off.
pub(crate) const SIGKILL: i32 = 9;

/// Where a container is in its life; whoever waits for a change watches it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Life {
    pub(crate) state: ContainerState,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) exit: Option<Exit>,
    pub(crate) ports: Vec<PortMapping>,
}

/// One container.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: ContainerId,
    pub(crate) spec: ContainerSpec,
    pub(crate) created_at: Timestamp,
    pub(crate) life: watch::Sender<Life>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) files: Arc<Mutex<Files>>,
    /// Held by who starts it, so that two starts are one; within it, the way to the main process.
    pub(crate) process: tokio::sync::Mutex<Option<mpsc::UnboundedSender<i32>>>,
}

impl Record {
    pub(crate) fn new(id: ContainerId, spec: ContainerSpec) -> Self {
        Self {
            id,
            spec,
            created_at: SystemTime::now().into(),
            life: watch::Sender::new(Life { state: ContainerState::Created, ..Life::default() }),
            logs: Arc::new(Logs::new()),
            files: Arc::new(Mutex::new(Files::new())),
            process: tokio::sync::Mutex::new(None),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.life.borrow().state == ContainerState::Running
    }

    /// Returns the container as callers see it.
    pub(crate) fn container(&self) -> Container {
        let life = self.life.borrow().clone();
        Container {
            id: self.id.clone(),
            name: self.spec.name.to_string(),
            image: self.spec.image.to_string(),
            state: life.state,
            created_at: Some(self.created_at),
            started_at: life.started_at,
            exit: life.exit,
            labels: self.spec.labels.clone(),
            ports: life.ports,
        }
    }

    /// Returns the surroundings of a command, for the main process or on top of it for an exec.
    pub(crate) fn world(&self, exec: Option<&ExecSpec>) -> World {
        let mut env = BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]);
        env.extend(self.spec.env.clone());
        env.extend(exec.map(|exec| exec.env.clone()).unwrap_or_default());
        let workdir = exec.and_then(|exec| exec.workdir.clone()).or_else(|| self.spec.workdir.clone());
        let user = exec.and_then(|exec| exec.user.clone()).or_else(|| self.spec.user.clone());
        let tty = exec.map_or(self.spec.tty, |exec| exec.tty);
        let (columns, rows) = exec.and_then(|exec| exec.size).unwrap_or((80, 24));
        World {
            env,
            workdir: workdir.unwrap_or_else(|| "/".into()),
            user: user.map_or("0".into(), |user| user.split(':').next().unwrap_or("0").replace("root", "0")),
            files: self.files.clone(),
            listeners: Arc::default(),
            traps: Arc::default(),
            terminal: tty.then(|| Arc::new(AtomicU32::new(programs::size(columns, rows)))),
        }
    }

    /// Takes the ports it publishes.
    ///
    /// # Errors
    /// `AlreadyExists` with field `ports` when one is taken.
    pub(crate) async fn listen(&self) -> Result<(BTreeMap<u16, TcpListener>, Vec<PortMapping>)> {
        let mut listeners = BTreeMap::new();
        let mut mappings = Vec::new();
        for port in &self.spec.ports {
            let address = port.host_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let wanted = SocketAddr::new(address, port.host_port.unwrap_or(0));
            let taken = |error: std::io::Error| {
                RuntimeError::new(ErrorCode::AlreadyExists, format!("port {wanted} is taken"))
                    .field("ports")
                    .backend(error.to_string())
            };
            let listener = TcpListener::bind(wanted).await.map_err(taken)?;
            mappings.push(PortMapping {
                container_port: port.container_port,
                protocol: port.protocol,
                host_address: address,
                host_port: listener.local_addr().map_err(taken)?.port(),
            });
            listeners.insert(port.container_port, listener);
        }
        mappings.sort();
        Ok((listeners, mappings))
    }

    /// Plays the main process until it ends, and returns its exit code.
    pub(crate) async fn play(
        &self,
        argv: &[String],
        world: World,
        mut signals: mpsc::UnboundedReceiver<i32>,
    ) -> i32 {
        let stream = |kind| match &world.terminal {
            Some(_) => Writer::Terminal(Box::new(Writer::Logs(self.logs.clone(), Kind::Stdout))),
            None => Writer::Logs(self.logs.clone(), kind),
        };
        let (stdout, stderr) = (stream(Kind::Stdout), stream(Kind::Stderr));
        let (mut nothing, mut none) = (programs::no_input(), programs::no_input());
        let streams = Streams { stdin: &mut nothing, stdout: stdout.clone(), stderr: stderr.clone() };
        let mut running = programs::run(&world, argv, streams);
        loop {
            let signal = tokio::select! {
                code = &mut running => return code,
                Some(signal) = signals.recv() => signal,
            };
            if signal == SIGKILL {
                return 128 + SIGKILL;
            }
            // The kernel drops a signal for which the first process of a container has no handler.
            let body = world.traps.lock().unwrap_or_else(PoisonError::into_inner).get(&signal).cloned();
            let Some(body) = body else { continue };
            let mut streams = Streams { stdin: &mut none, stdout: stdout.clone(), stderr: stderr.clone() };
            if let ControlFlow::Break(code) = programs::script_in(&world, &body, &mut streams).await {
                return code;
            }
        }
    }
}
