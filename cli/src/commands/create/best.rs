//! `gx create --on best`: on the server that fits best, and on the next one where it refuses. Which, and why, is told.

use gx_client::Client;
use gx_core::api::CreateRequest;
use gx_core::peers::{Needs, Ranked};
use gx_core::{Gpus, NodeId};

use super::{Place, on, random_key};
use crate::commands::{Context, peers};
use crate::error::{CliError, Kind, Result};
use crate::hosts::Hosts;
use crate::road;
use crate::settings::Settings;
use crate::target::Target;

/// Servers that nobody has let this node in to, as far as it knows, are tried so often.
const STRANGERS: usize = 8;

/// Makes a container on the best server that takes it.
pub(super) async fn create(
    request: &CreateRequest,
    needs: &Needs,
    settings: &Settings,
    context: &Context<'_>,
) -> Result<Place> {
    let needs = with_the_request(needs, request)?;
    let chosen = peers::choose(peers::ranked(settings, &needs, context)?)?;
    let joined: Vec<NodeId> = Hosts::of(&settings.data).all()?.into_iter().map(|host| host.node).collect();
    let mut strangers = STRANGERS;
    let mut refusals = Vec::new();
    for (name, ranked) in chosen {
        let node = ranked.candidate.node_id.expect("those without a key are not among them");
        if !joined.contains(&node) {
            if strangers == 0 {
                continue;
            }
            strangers -= 1;
        }
        let error = match open(&ranked, node, settings, context).await {
            Ok((target, on_it)) => match on(&target, request.clone(), random_key()?, context).await {
                Ok(info) => {
                    context.out.note(&format!("on {name}: {}", ranked.why));
                    return Ok(Place { target, info, on: Some(on_it) });
                }
                // The next one would make a second.
                Err(error) if error.in_doubt => return Err(in_doubt(error, &on_it)),
                Err(error) => error,
            },
            Err(error) => error,
        };
        // What is wrong with the request itself is wrong everywhere.
        if matches!(error.kind, Kind::Usage | Kind::Bug | Kind::Interrupted) {
            return Err(error);
        }
        context.out.note(&format!("not on {name}: {}", error.message));
        refusals.push(format!("{name}: {}", error.message));
    }
    let told = CliError::failed("no server that fits takes the container");
    let told = refusals.into_iter().fold(told, CliError::cause);
    Err(told.hint("a host has to let this node in: `gx join TICKET`; `--on local` makes it here"))
}

/// Says of a host that took the request and did not answer how to see what became of it.
fn in_doubt(error: CliError, on: &str) -> CliError {
    error.hint(format!("whether it has made the container is not known: gx --on {on} list"))
}

/// Opens a server, and returns what `--on` takes for it.
async fn open(
    ranked: &Ranked,
    node: NodeId,
    settings: &Settings,
    context: &Context<'_>,
) -> Result<(Target, String)> {
    let joined = Hosts::of(&settings.data).all()?.into_iter().find(|host| host.node == node);
    if let Some(host) = joined {
        let client = road::open(host.name.as_str(), &settings.data, context.out).await?;
        return Ok((Target::Host(client), host.name.to_string()));
    }
    let endpoints: Vec<_> = ranked.candidate.addresses.iter().map(|address| (*address).into()).collect();
    let nearest = road::nearest(&endpoints).await;
    let client = Client::to_node(&nearest, node, &road::own_key(&settings.data)?);
    Ok((Target::Host(client), format!("{node}@{nearest}")))
}

/// Adds what the request itself needs, so that nobody is asked who cannot have it.
fn with_the_request(needs: &Needs, request: &CreateRequest) -> Result<Needs> {
    let gpus = match &request.gpus {
        Gpus::None => None,
        Gpus::All => Some(1),
        Gpus::Count(count) => Some(*count as usize),
        Gpus::Ids(ids) => Some(ids.len()),
    };
    let mut text = needs.to_string();
    let more = [
        gpus.map(|count| format!("gpu>={count}")),
        request.runtime.as_ref().map(|runtime| format!("runtime={runtime}")),
        request.memory_bytes.map(|bytes| format!("memory>={bytes}")),
        request.milli_cpus.map(|milli| format!("cpus>={}", milli.div_ceil(1_000))),
    ];
    more.into_iter().flatten().for_each(|need| text.push_str(&format!(" {need}")));
    text.parse::<Needs>().map_err(|error| CliError::usage(error.to_string()))
}
