//! The road to a host: by its name, its address, or its id in the table of servers, as the node with this key. What has changed since, a key of either
//! side, is followed where both keys have signed it.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use gx_client::{Client, ClientError};
use gx_core::api::Rotation;
use gx_core::{Address, Endpoint, NodeId};
use gx_identity::{KnownHosts, NodeKey};
use gx_server::ServerError;
use tokio::net::TcpStream;

use crate::error::{CliError, Result};
use crate::hosts::{Host, Hosts};
use crate::output::Out;
use crate::peers;

/// How long an address may take before another is good enough.
const CONNECT: Duration = Duration::from_secs(3);

/// Opens a client of a host that was joined, of one in the table, or of one at an address. People are told of what is new.
pub(crate) async fn open(on: &str, data: &Path, out: &Out) -> Result<Client> {
    if let Some(host) = Hosts::of(data).find(on)? {
        return open_joined(&host, data, out).await;
    }
    let parsed = on.parse::<Address>();
    // Whom this node has met under that name it goes on meaning by it.
    let met = |endpoint: &Endpoint| KnownHosts::of(data).at(endpoint).is_ok_and(|node| node.is_some());
    if !matches!(&parsed, Ok(Address::Bare(endpoint)) if met(endpoint))
        && let Some((node, addresses)) = peers::locate(on, data, out)?
    {
        return Ok(Client::to_node(&nearest(&addresses).await, node, &own_key(data)?));
    }
    let address = parsed.map_err(|error| unknown(on, data, error))?;
    if let Address::Plain(endpoint) = &address {
        return Ok(Client::plain(endpoint)); // nobody is asked for a key
    }
    let key = own_key(data)?;
    let opened = Client::open(&address, &key, &KnownHosts::of(data)).await?;
    if let Some(node) = opened.first_met {
        out.note(&format!("{} is from now on known as node {node}", address.endpoint()));
    }
    Ok(opened.client)
}

pub(crate) fn own_key(data: &Path) -> Result<NodeKey> {
    Ok(gx_identity::open(data).map_err(ServerError::from)?)
}

async fn open_joined(host: &Host, data: &Path, out: &Out) -> Result<Client> {
    let key = own_key(data)?;
    if host.knows != key.id() {
        match tell(host, data).await {
            Ok(()) => out.note(&format!("{} is told of this node's new key", host.name)),
            Err(error) => return Err(error.hint("`gx join` with a new ticket makes this node a member too")),
        }
    }
    let address = match reached(&host.addresses).await {
        Some(address) => address.clone(),
        None => moved(host, &key, data, out).await?.unwrap_or_else(|| first(&host.addresses)),
    };
    Ok(Client::to_node(&address, host.node, &key))
}

/// Looks for a host that answers at none of its addresses where the table of servers says that it is. Once it has proved who
/// it is, it is found there from then on.
async fn moved(host: &Host, key: &NodeKey, data: &Path, out: &Out) -> Result<Option<Endpoint>> {
    // Whom the table does not know cannot be looked for.
    let Ok(Some((_, there))) = peers::locate(&host.node.to_string(), data, out) else { return Ok(None) };
    let Some(address) = reached(&there).await else { return Ok(None) };
    let proof = Client::to_node(address, host.node, key).identity().await;
    if let Err(error) = proof {
        tracing::debug!(%address, %error, "the host is not where the table says");
        return Ok(None);
    }
    Hosts::of(data).moved(host.node, address)?;
    out.note(&format!("{} is at {address} now", host.name));
    Ok(Some(address.clone()))
}

/// Returns the address that answers first; the first of all where none does, so that its error is told.
pub(crate) async fn nearest(addresses: &[Endpoint]) -> Endpoint {
    match addresses {
        [one] => one.clone(),
        several => reached(several).await.cloned().unwrap_or_else(|| first(several)),
    }
}

/// Returns the address that answers first, if one does.
async fn reached(addresses: &[Endpoint]) -> Option<&Endpoint> {
    let mut tries: FuturesUnordered<_> = (addresses.iter())
        .map(async |address| {
            let connecting = TcpStream::connect((address.host(), address.port()));
            matches!(tokio::time::timeout(CONNECT, connecting).await, Ok(Ok(_))).then_some(address)
        })
        .collect();
    while let Some(answer) = tries.next().await {
        if answer.is_some() {
            return answer;
        }
    }
    None
}

fn first(addresses: &[Endpoint]) -> Endpoint {
    addresses.first().cloned().expect("a host that was joined has an address")
}

/// Tells a host each change of this node's key that it has not heard of, the oldest first.
pub(crate) async fn tell(host: &Host, data: &Path) -> Result {
    let key = own_key(data)?;
    let rotations = gx_identity::rotations(data, key.id()).map_err(ServerError::from)?;
    let news: Vec<Rotation> =
        rotations.into_iter().skip_while(|rotation| rotation.from != host.knows).collect();
    let keys: Vec<NodeKey> = gx_identity::former(data).map_err(ServerError::from)?;
    let address = nearest(&host.addresses).await;
    for rotation in news {
        // Each is told by who it made the node.
        let by = std::iter::once(&key).chain(&keys).find(|key| key.id() == rotation.to);
        let by = by.ok_or_else(|| CliError::failed(format!("the key of {} is missing", rotation.to)))?;
        let to = rotation.to;
        Client::to_node(&address, host.node, by).rotate(rotation).await?;
        Hosts::of(data).knows(host.node, to)?;
    }
    Ok(())
}

/// Follows a host's change of key, where another node answers in its place: what both keys have signed is proof.
/// Returns whether it was.
pub(crate) async fn follow(error: &ClientError, data: &Path) -> Result<Option<NodeId>> {
    let ClientError::WrongNode { address, wrong, .. } = error else { return Ok(None) };
    let Ok(endpoint) = address.parse::<Endpoint>() else { return Ok(None) };
    // Nothing is told to that node but the wish to know who it is.
    let asked = Client::to_node(&endpoint, wrong.found, &own_key(data)?).identity().await;
    let Ok(identity) = asked else { return Ok(None) };
    if identity.id != wrong.found || !gx_identity::leads(&identity.rotations, wrong.expected, wrong.found) {
        return Ok(None);
    }
    KnownHosts::of(data).rename(wrong.expected, wrong.found).map_err(ClientError::from)?;
    Hosts::of(data).rename(wrong.expected, wrong.found)?;
    Ok(Some(wrong.found))
}

fn unknown(on: &str, data: &Path, error: gx_core::id::ParseIdError) -> CliError {
    let names = Hosts::of(data).all().unwrap_or_default();
    let near = gx_core::config::closest(on, names.iter().map(|host| host.name.as_str())).map(str::to_owned);
    CliError::from(error).hints(near.map(|near| format!("did you mean the host `{near}`?")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_several_addresses_one_that_answers_is_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there: Endpoint = listener.local_addr().unwrap().into();
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody: Endpoint = gone.local_addr().unwrap().into();
        drop(gone);
        assert_eq!(nearest(&[nobody.clone(), there.clone()]).await, there);
        assert_eq!(nearest(&[nobody.clone(), nobody.clone()]).await, nobody);
    }
}
