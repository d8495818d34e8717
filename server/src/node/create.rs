//! Making a container: check, fetch the image, create, start. Whatever fails on the way, or is no longer wanted, leaves
//! nothing behind.
//!
//! The engine's unique names and the key among the labels make a repeated request one container, in this process, in
//! another, and after a crash.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use gx_core::api::{ContainerInfo, CreateRequest};
use gx_core::config::UserNamespaces;
use gx_core::container::label;
use gx_core::image::Image;
use gx_core::network::{NetworkMode, NetworkSpec};
use gx_core::runtime::{Capabilities, Feature};
use gx_core::stream::Output;
use gx_core::{
    Container, ContainerName, ContainerSpec, ContainerState, ErrorCode, Gpus, IdempotencyKey, NodeId,
    PluginName, PortMapping, PortRequest, Resources, Runtime, Timestamp,
};
use gx_identity::{NodeKey, to_hex};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::Node;
use super::access;
use super::amounts::{Amounts, Good, Holding, count_gpus};
use super::caller::{Caller, Verb, authorize};
use super::containers::{Found, Listing, info, name_of, timely};
use super::gpus::GpuOrder;
use super::guest::{self, Package, Plan, Without};
use super::idle::guest_status;
use super::image_policy;
use super::install::Install;
use super::make::{LOCK_PATIENCE, Making};
use super::names::{name_for, new_key};
use super::network;
use super::policy::{self, Grant};
use super::ports::{HostPort, PortWish};
use super::secrets::{self, Secrets};
use crate::error::{Result, ServerError};

/// How long a guest may take until it answers.
const GUEST_PATIENCE: Duration = Duration::from_secs(5);
const GUEST_POLL: Duration = Duration::from_millis(50);

/// What goes before a container's name to make the engine's.
const PREFIX: &str = "gx-";

/// A request that has been checked, and what follows from it.
struct Order {
    request: CreateRequest,
    owner: NodeId,
    name: ContainerName,
    /// The idempotency key as the label has it.
    key: String,
    /// A digest of everything that makes a difference to the container.
    digest: String,
    grant: Grant,
    /// How many GPUs are asked for.
    gpus: u64,
    /// How far the container reaches.
    mode: NetworkMode,
    /// Whether it must have users of its own.
    own_users: bool,
}

/// Where a container is to be made.
struct Place {
    name: PluginName,
    runtime: Arc<dyn Runtime>,
    /// The image, where it is there and need not be fetched.
    image: Option<Image>,
    /// What the runtime can do, where a guest is wanted.
    can: Capabilities,
    /// The GPUs that are asked for, and those that would be chosen now.
    gpus: Option<(GpuOrder, Gpus)>,
    /// What the container is attached to; `None` is the engine's own network.
    network: Option<NetworkSpec>,
}

impl Node {
    /// Makes a container and starts it, writing the progress of a pull, and returns it.
    ///
    /// With a key the call may be repeated: the container made by the first is returned. When the future is dropped
    /// the container is removed, in a task of its own that [`shutdown`](Node::shutdown) waits for.
    ///
    /// # Errors
    /// [`ServerError::Invalid`], [`ServerError::OverLimit`] and the other limits; [`ServerError::NameTaken`];
    /// [`ServerError::KeyReused`]; [`ServerError::NoImage`]; [`ServerError::NoGpu`]; [`ServerError::Runtime`].
    pub async fn create(
        &self,
        caller: &Caller,
        request: CreateRequest,
        key: Option<IdempotencyKey>,
        out: Output,
    ) -> Result<ContainerInfo> {
        authorize(caller, Verb::Create, None)?;
        let mut order = self.order(caller, request, key.unwrap_or_else(new_key)).await?;
        self.settle_disk(&mut order).await?;
        let wish = PortWish { ports: order.request.ports.clone(), extra: order.request.extra_ports };
        let mut wish = wish.check(&self.limits, caller)?;
        let turn = self.admission.one_at_a_time(&order.key).await;
        let ticket = self.admission.enter(order.holding()).await?;
        // Else what is listed as made and not started could be swept before it is started.
        let unswept = self.creating.share(LOCK_PATIENCE).await?;
        let (listing, place) = tokio::join!(self.ours(&[]), self.place(caller, &order));
        let listing = listing?;
        // Before the place counts: a repeated request is answered even where the default runtime has changed since.
        if let Some(done) = self.repeated(&order, &listing).await? {
            return Ok(done);
        }
        drop(unswept);
        let Place { name, runtime, image, can, gpus, network } = place?;
        order.check_name(&listing)?;
        ticket.admit(&self.holdings(&listing), &self.frame(caller).scopes(order.owner)).await?;
        let image = match image {
            None if !order.request.dry_run => {
                Some(self.provide(caller, &name, &runtime, &order.request, out).await?)
            }
            there_or_rehearsed => there_or_rehearsed,
        };
        let plan = self.plan(&order, &name, &runtime, image.as_ref(), &can).await?;
        plan.iter().flat_map(Plan::ports).for_each(|port| wish.add(port, &self.limits));
        let spec = order.spec(&self.key, image.as_ref(), plan.as_ref(), SystemTime::now());
        let spec = network::attach(spec, network);
        if order.request.dry_run {
            let gpus = gpus.map(|(_, gpus)| gpus).unwrap_or_default();
            return self.rehearse(&order.key, name, spec, gpus, &wish, &taken_ports(&listing));
        }
        self.runtimes.mark_used(&name)?;
        let making = Making {
            name: name.clone(),
            runtime: runtime.clone(),
            host: self.id(),
            package: plan.map(|plan| order.package(&plan, &self.key)),
            spec,
            gpus: gpus.map(|(order, _)| order),
            wish,
            limits: self.limits.clone(),
            ports: self.ports.clone(),
            taken: taken_ports(&listing),
            creating: self.creating.clone(),
            firewall: self.firewall.clone(),
            held: (turn, ticket),
        };
        let (tell, told) = oneshot::channel();
        self.tasks.spawn(making.run(tell));
        let made =
            told.await.unwrap_or_else(|_| Err(ServerError::Internal("a making ended early".to_owned())));
        match made {
            Ok(container) => Ok(self.made(&name, container)),
            Err(error) => {
                self.runtimes.forget_capabilities(&name);
                Err(self.explain(&order, &name, &runtime, error).await)
            }
        }
    }

    /// Chooses the runtime and asks it what it has.
    async fn place(&self, caller: &Caller, order: &Order) -> Result<Place> {
        let request = &order.request;
        let name = self.runtime_or_default(request.runtime.clone()).await?;
        let runtime = self.runtimes.get(&name).await?;
        let gpus = self.gpus(caller, order, &name).await?;
        self.check_users(order, &name).await?; // before a firewall is written for nothing
        let (image, can, network) = tokio::join!(
            self.image_there(&name, &runtime, request),
            self.can(&name, request),
            self.network(caller, order.owner, order.mode, &name),
        );
        Ok(Place { image: image?, can: can?, network: network?, name, runtime, gpus })
    }

    /// Refuses a container that must have users of its own where the runtime gives none.
    async fn check_users(&self, order: &Order, name: &PluginName) -> Result<()> {
        if !order.own_users {
            return Ok(());
        }
        let can = self.runtimes.capabilities(name).await?;
        // Where nothing runs, nobody is anybody.
        if can.has(Feature::UserNamespaces) || !can.has(Feature::Processes) {
            return Ok(());
        }
        Err(ServerError::NoUserNamespaces { runtime: name.clone() })
    }

    /// Returns what the runtime can do, where that makes a difference.
    async fn can(&self, name: &PluginName, request: &CreateRequest) -> Result<Capabilities> {
        if request.no_guest && request.idle_s.is_none() {
            return Ok(Capabilities::default());
        }
        self.runtimes.capabilities(name).await
    }

    /// Decides whether the container gets the guest, and with what.
    async fn plan(
        &self,
        order: &Order,
        name: &PluginName,
        runtime: &Arc<dyn Runtime>,
        image: Option<&Image>,
        can: &Capabilities,
    ) -> Result<Option<Plan>> {
        let Some(image) = image else { return Ok(None) };
        self.check_platform(name, runtime, &order.request, image).await?;
        let plan = match guest::plan(&order.request, image, can) {
            // Its way in is a published port.
            Ok(_) if order.mode == NetworkMode::None => Err(Without::Network),
            plan => plan,
        };
        let plan = match plan {
            Ok(plan) => Some(plan),
            Err(why) if order.request.require_ssh => return Err(ServerError::NoSsh { why: why.to_string() }),
            Err(why) => {
                tracing::debug!(container = %order.name, %why, "there will be no guest in it");
                None
            }
        };
        if order.request.idle_s.is_some() {
            let tells = if plan.is_some() { Feature::Exec } else { Feature::Stats };
            if !can.has(tells) {
                let told = format!("{name} cannot tell what goes on in containers");
                return Err(ServerError::invalid("idle_s", told));
            }
        }
        Ok(plan)
    }

    fn made(&self, name: &PluginName, container: Container) -> ContainerInfo {
        let nonce = access::nonce(&container).unwrap_or_default().to_owned();
        let key = self.key_of(&container).unwrap_or(&self.key); // it may be from before a change of key
        let mut made = self.told(name, container);
        access::tell(&mut made, &Secrets::new(key, &nonce));
        self.leases.learn(&made);
        self.idle.learn(&made);
        tracing::info!(container = %made.name, runtime = %name, image = %made.image, "made a container");
        made
    }

    async fn order(&self, caller: &Caller, request: CreateRequest, key: IdempotencyKey) -> Result<Order> {
        policy::check(&request)?;
        image_policy::check(caller, &request.image, &self.policy)?;
        let mode = network::mode(caller, &request, &self.policy)?;
        let there = match &request.gpus {
            Gpus::All => self.sampler.gpus().await.map_or(0, |gpus| gpus.len() as u64),
            Gpus::None | Gpus::Count(_) | Gpus::Ids(_) => 0,
        };
        let gpus = count_gpus(&request.gpus, there);
        let grant = policy::grant(&request, gpus, self.frame(caller))?;
        let not_allowed = ServerError::NotAllowed { what: "create containers here" };
        let owner = caller.owner(self.id()).ok_or(not_allowed)?;
        let first = self.first_key(owner);
        let key = match caller {
            Caller::Host => key.as_str().to_owned(),
            _ => format!("{}:{}", first.short(), key.as_str()), // a key is its caller's own
        };
        let name = match &request.name {
            Some(name) => name.clone(),
            None => name_for(&key),
        };
        let own_users = *caller != Caller::Host && self.policy.user_namespaces == UserNamespaces::Required;
        Ok(Order { digest: digest(&request, first), request, owner, name, key, grant, gpus, mode, own_users })
    }

    /// Leaves out the bound of what the container writes where the runtime can have none and nobody asks for it.
    async fn settle_disk(&self, order: &mut Order) -> Result<()> {
        if order.grant.resources.disk_bytes.is_none() {
            return Ok(());
        }
        let name = self.runtime_or_default(order.request.runtime.clone()).await?;
        if self.runtimes.capabilities(&name).await?.has(Feature::Disk) {
            return Ok(());
        }
        if order.request.disk_bytes.is_some() {
            return Err(ServerError::NoDiskLimit { runtime: name });
        }
        order.grant.resources.disk_bytes = None;
        Ok(())
    }

    /// Returns the container an earlier request with the same key made, if there is one.
    async fn repeated(&self, order: &Order, listing: &Listing) -> Result<Option<ContainerInfo>> {
        let same_key = |found: &&Found| found.container.labels.get(label::KEY) == Some(&order.key);
        let Some(Found { name, runtime, container }) = listing.found.iter().find(same_key) else {
            return Ok(None);
        };
        if container.labels.get(label::SPEC) != Some(&order.digest) {
            return Err(ServerError::KeyReused);
        }
        let id = container.id.clone();
        let of = ServerError::of(name);
        let half_made = container.state == ContainerState::Created;
        if half_made {
            self.finish(order, name, runtime, container).await?;
        }
        let inspected = timely(name, async { runtime.inspect(id).await.map_err(&of) }).await?;
        let hold = half_made || first_passwords_hold(name, runtime, &inspected).await;
        let mut made = self.made(name, inspected);
        if !hold {
            access::keep_silent(&mut made);
        }
        Ok(Some(made))
    }

    /// Starts what a crash has left half made.
    async fn finish(
        &self,
        order: &Order,
        name: &PluginName,
        runtime: &Arc<dyn Runtime>,
        container: &Container,
    ) -> Result<()> {
        let mut package = None;
        if access::nonce(container).is_some() {
            let image = self.image_of(name, runtime, &order.request.image);
            let (image, can) = tokio::join!(image, self.can(name, &order.request));
            let plan = self.plan(order, name, runtime, image?.as_ref(), &can?).await?;
            let plan =
                plan.ok_or_else(|| ServerError::Internal("what had a guest can have none".to_owned()))?;
            package = Some(order.package(&plan, self.key_of(container).unwrap_or(&self.key)));
        }
        let _closed_off = self.close_off(container).await?;
        let install = Install {
            name,
            runtime,
            id: &container.id,
            image: &order.request.image,
            host: self.id(),
            package: package.as_ref(),
        };
        timely(name, install.start()).await
    }

    /// Looks whether the GPUs that are asked for could be had now, before anything is fetched or made.
    async fn gpus(
        &self,
        caller: &Caller,
        order: &Order,
        name: &PluginName,
    ) -> Result<Option<(GpuOrder, Gpus)>> {
        if order.request.gpus == Gpus::None {
            return Ok(None);
        }
        let order = GpuOrder {
            asked: order.request.gpus.clone(),
            caller: caller.clone(),
            hosts: self.keys().map(NodeKey::id).collect(),
            owners: caller.owner(self.id()).map(|id| self.members.keys_of(id)).unwrap_or_default(),
            key: order.key.clone(),
            limits: self.limits.clone(),
            runtime: name.clone(),
            runtimes: self.runtimes.clone(),
            sampler: self.sampler.clone(),
            lock: self.gpus.clone(),
        };
        let chosen = order.look().await?;
        if self.runtimes.capabilities(name).await?.has(Feature::Gpus) {
            return Ok(Some((order, chosen)));
        }
        Err(ServerError::invalid("gpus", format!("{name} cannot give GPUs to containers")))
    }

    /// Returns what would be made.
    fn rehearse(
        &self,
        key: &str,
        name: PluginName,
        mut spec: ContainerSpec,
        gpus: Gpus,
        wish: &PortWish,
        taken: &BTreeSet<HostPort>,
    ) -> Result<ContainerInfo> {
        let chosen = self.ports.choose(wish, &self.limits, taken, seed(key))?;
        spec.labels.insert(label::GPUS.to_owned(), gpus.to_string());
        let container = Container {
            id: "dry-run".parse().expect("letters and '-' are an id"),
            name: spec.name.to_string(),
            image: spec.image.to_string(),
            state: ContainerState::Unknown,
            created_at: None,
            started_at: None,
            exit: None,
            labels: spec.labels,
            ports: chosen.ports.iter().filter_map(mapping).collect(),
        };
        Ok(ContainerInfo { created_at: None, ..info(&name, container) })
    }

    /// Says what an engine's error means for this request.
    async fn explain(
        &self,
        order: &Order,
        name: &PluginName,
        runtime: &Arc<dyn Runtime>,
        error: ServerError,
    ) -> ServerError {
        let ServerError::Runtime { error: told, .. } = &error else {
            return error;
        };
        match (told.code, told.field.as_deref()) {
            (ErrorCode::AlreadyExists, Some("name")) => {
                ServerError::NameTaken { name: order.name.to_string(), runtime: name.clone() }
            }
            (ErrorCode::AlreadyExists, Some("key")) => ServerError::KeyReused,
            (ErrorCode::NotFound, Some("image")) => {
                self.no_image(name, runtime, &order.request.image, None).await
            }
            _ => error,
        }
    }
}

impl Order {
    fn engine_name(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// Refuses a name that another container has, in any runtime.
    fn check_name(&self, listing: &Listing) -> Result<()> {
        let taken = listing.found.iter().find(|found| name_of(&found.container) == self.name.as_str());
        match taken {
            Some(found) => {
                Err(ServerError::NameTaken { name: self.name.to_string(), runtime: found.name.clone() })
            }
            None => Ok(()),
        }
    }

    /// Returns what the container will have.
    fn holding(&self) -> Holding {
        let Resources { milli_cpus, memory_bytes, pids, disk_bytes } = self.grant.resources;
        let amounts = Amounts::of(|good| match good {
            Good::Containers => 1,
            // Without a bound, what it takes is not asked for: nothing else bounds it either.
            Good::Cpus => milli_cpus.map_or(0, u64::from),
            Good::Memory => memory_bytes.unwrap_or(0),
            Good::Pids => pids.map_or(0, u64::from),
            Good::Gpus => self.gpus,
            Good::Disk => disk_bytes.unwrap_or(0),
            Good::Ports => self.ports(),
            Good::Lease => 0,
        });
        Holding { name: self.name.to_string(), owner: Some(self.owner), amounts }
    }

    /// Returns how many ports are asked for, without those of gx itself.
    fn ports(&self) -> u64 {
        self.request.ports.len() as u64 + u64::from(self.request.extra_ports)
    }

    fn nonce(&self) -> String {
        secrets::nonce(&self.key, &self.digest)
    }

    /// Returns what is copied into the container before it starts.
    fn package(&self, plan: &Plan, key: &NodeKey) -> Package {
        plan.pack(&self.request.ssh_keys, &Secrets::new(key, &self.nonce()))
    }

    /// Returns what the engine is asked for.
    fn spec(
        &self,
        key: &NodeKey,
        image: Option<&Image>,
        plan: Option<&Plan>,
        now: SystemTime,
    ) -> ContainerSpec {
        let mut spec = self.plain_spec(key.id(), now);
        if let Some(plan) = plan {
            let nonce = self.nonce();
            plan.dress(&mut spec, &nonce, &Secrets::new(key, &nonce));
        }
        // An engine gives a container the labels of its image, which must not pass for ours.
        for ours in image.iter().flat_map(|image| image.labels.keys()).filter(|key| key.starts_with("gx.")) {
            spec.labels.entry(ours.clone()).or_default();
        }
        spec
    }

    fn plain_spec(&self, host: NodeId, now: SystemTime) -> ContainerSpec {
        let request = &self.request;
        let name = self.engine_name().parse().expect("a checked name is short enough for the prefix");
        let mut labels = request.labels.clone();
        let mut label = |key: &str, value: String| labels.insert(key.to_owned(), value);
        label(label::OWNER, self.owner.to_string());
        label(label::HOST, host.to_string());
        label(label::NAME, self.name.to_string());
        label(label::CREATED, Timestamp::from_unix(Timestamp::from(now).unix()).to_string());
        label(label::KEY, self.key.clone());
        label(label::SPEC, self.digest.clone());
        if !request.labels.is_empty() {
            let names: Vec<&String> = request.labels.keys().collect();
            label(label::LABELS, serde_json::to_string(&names).expect("a list of texts becomes JSON"));
        }
        if let Some(ttl) = self.grant.ttl {
            label(label::EXPIRES, Timestamp::from_unix(Timestamp::from(now + ttl).unix()).to_string());
        }
        if let Some(idle) = request.idle_s {
            label(label::IDLE, idle.to_string());
        }
        // Always, as an engine adds the image's own labels, and those may claim any.
        label(label::GPUS, request.gpus.to_string());
        let Resources { milli_cpus, memory_bytes, pids, disk_bytes } = self.grant.resources;
        let shown = |amount: Option<u64>| amount.map(|amount| amount.to_string()).unwrap_or_default();
        label(label::CPUS, shown(milli_cpus.map(u64::from)));
        label(label::MEMORY, shown(memory_bytes));
        label(label::PIDS, shown(pids.map(u64::from)));
        label(label::DISK, shown(disk_bytes));
        label(label::PORTS, self.ports().to_string());
        ContainerSpec {
            entrypoint: request.entrypoint.clone(),
            command: request.command.clone(),
            env: request.env.clone(),
            labels,
            user: request.user.clone(),
            workdir: request.workdir.clone(),
            tty: request.tty,
            resources: self.grant.resources,
            gpus: request.gpus.clone(),
            security: policy::security(request, self.own_users),
            ..ContainerSpec::new(name, request.image.clone())
        }
    }
}

/// Returns whether the guest says that nobody has changed the passwords it began with. One that has just been started may
/// need a moment to answer.
async fn first_passwords_hold(name: &PluginName, runtime: &Arc<dyn Runtime>, container: &Container) -> bool {
    let deadline = Instant::now() + GUEST_PATIENCE;
    while container.state == ContainerState::Running && access::nonce(container).is_some() {
        match guest_status(name, &**runtime, container).await {
            Ok(status) => return !status.changed,
            Err(_) if Instant::now() < deadline => tokio::time::sleep(GUEST_POLL).await,
            Err(_) => return false,
        }
    }
    false
}

/// Returns a digest of what makes a difference to the container: not when its image is fetched, nor a rehearsal.
fn digest(request: &CreateRequest, owner: NodeId) -> String {
    let request = CreateRequest { pull: Default::default(), dry_run: false, ..request.clone() };
    let text = serde_json::to_vec(&request).expect("our own types always become JSON");
    to_hex(&Sha256::new().chain_update(owner.as_bytes()).chain_update(text).finalize())
}

/// Returns where in the range of ports the search for a container begins.
pub(super) fn seed(key: &str) -> u64 {
    let digest = Sha256::digest(key);
    u64::from_be_bytes(digest[8..16].try_into().expect("eight bytes"))
}

/// Returns the ports that containers have, as far as the engines tell.
fn taken_ports(listing: &Listing) -> BTreeSet<HostPort> {
    let ports = listing.found.iter().flat_map(|found| &found.container.ports);
    ports.map(|port| (port.protocol, port.host_port)).collect()
}

fn mapping(port: &PortRequest) -> Option<PortMapping> {
    Some(PortMapping {
        container_port: port.container_port,
        protocol: port.protocol,
        host_address: port.host_address?,
        host_port: port.host_port?,
    })
}
