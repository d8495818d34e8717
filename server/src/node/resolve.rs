//! What a reference means: a whole id, else a name, else the beginning of exactly one id.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gx_core::config::closest;
use gx_core::container::label;
use gx_core::{ContainerId, PluginName};

use super::Node;
use super::caller::{Caller, Verb, authorize};
use super::containers::{Found, Listing, name_of, timely};
use crate::error::{Result, ServerError};

/// Engines' ids have 64 hexadecimal digits; whatever is about that long is asked for directly.
const WHOLE_ID: usize = 32;

/// The shortest beginning of an id: one character fits too many to be meant.
const SHORTEST: usize = 2;

impl Node {
    /// Finds the container a reference means, among those the caller may use.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`] for who can have none; [`ServerError::NoContainer`] with a suggestion, [`ServerError::Ambiguous`] with the candidates,
    /// [`ServerError::Unlisted`] when it may be in an engine that does not answer.
    pub(crate) async fn resolve(&self, caller: &Caller, reference: &str) -> Result<Found> {
        authorize(caller, Verb::List, None)?;
        let found = match self.by_whole_id(reference).await? {
            Some(found) => Some(found),
            None => self.by_name(caller, reference).await?,
        };
        let found = match found {
            Some(found) => found,
            None => choose(reference, self.seen(caller, &[]).await?)?,
        };
        // What the caller may not use does not exist for it.
        let hidden = |_| ServerError::NoContainer { reference: reference.to_owned(), near: None };
        authorize(caller, Verb::Use, self.owner_of(&found.container)).map_err(hidden)?;
        Ok(found)
    }

    /// Asks all engines for a whole id and takes the first that knows it.
    async fn by_whole_id(&self, reference: &str) -> Result<Option<Found>> {
        let hex = reference.bytes().all(|b| b.is_ascii_hexdigit());
        let Some(id) =
            reference.parse::<ContainerId>().ok().filter(|id| hex && id.as_str().len() >= WHOLE_ID)
        else {
            return Ok(None);
        };
        let used = self.runtimes.used()?;
        let mut answers: FuturesUnordered<_> = used.iter().map(|name| self.inspect_ours(name, &id)).collect();
        while let Some(answer) = answers.next().await {
            if let Ok(Some(found)) = answer {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn inspect_ours(&self, name: &PluginName, id: &ContainerId) -> Result<Option<Found>> {
        let answer = async {
            let runtime = self.runtimes.get(name).await?;
            let container = runtime.inspect(id.clone()).await.map_err(ServerError::of(name))?;
            Ok(Found { name: name.clone(), runtime, container })
        };
        let found = timely(name, answer).await?;
        let ours = self.key_of(&found.container).is_some();
        Ok((ours && found.container.id == *id).then_some(found))
    }

    /// Asks all engines for a name; names are unique over all of them, so the first that knows it has it.
    async fn by_name(&self, caller: &Caller, reference: &str) -> Result<Option<Found>> {
        let labels = [(label::NAME, reference)];
        let used = self.runtimes.used()?;
        let mut answers: FuturesUnordered<_> =
            used.iter().map(|name| self.seen_in(std::slice::from_ref(name), caller, &labels)).collect();
        while let Some(listing) = answers.next().await {
            if let Some(found) = listing.found.into_iter().next() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Chooses among all containers by the beginning of the id.
fn choose(reference: &str, listing: Listing) -> Result<Found> {
    let (mut fitting, others): (Vec<_>, Vec<_>) =
        listing.found.into_iter().partition(|found| fits(reference, found));
    if fitting.len() > 1 {
        let mut candidates: Vec<String> = fitting
            .iter()
            .map(|found| format!("{} ({})", found.container.id.short(), name_of(&found.container)))
            .collect();
        candidates.sort();
        return Err(ServerError::Ambiguous { reference: reference.to_owned(), candidates });
    }
    if let Some(found) = fitting.pop() {
        return Ok(found);
    }
    if let Some(silent) = listing.unavailable.into_iter().next() {
        let (reference, runtime) = (reference.to_owned(), silent.runtime);
        return Err(ServerError::Unlisted { reference, runtime, why: Box::new(silent.error) });
    }
    let near = closest(reference, others.iter().map(|found| name_of(&found.container))).map(str::to_owned);
    Err(ServerError::NoContainer { reference: reference.to_owned(), near })
}

fn fits(reference: &str, found: &Found) -> bool {
    let container = &found.container;
    let begins = reference.len() >= SHORTEST && container.id.as_str().starts_with(reference);
    begins || container.name == reference
}
