//! The members: listed, let in by their id, removed.

use gx_core::NodeId;
use gx_core::api::{AllowRequest, InviteInfo, MemberInfo, MemberList, Origin, Removal, RemoveMember};
use gx_core::config::closest;
use gx_core::member::{Allowance, Member};

use super::List;
use crate::error::{Result, ServerError, TrustError};
use crate::node::{Caller, Node, Verb, authorize};

/// The shortest beginning of an id that may stand for it.
const SHORTEST: usize = 4;

impl Node {
    /// Lists the members, by name and id.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`]; [`TrustError::Damaged`].
    pub async fn members(&self, caller: &Caller) -> Result<MemberList> {
        authorize(caller, Verb::Administer, None)?;
        let list = self.members.list()?;
        let now = super::now();
        let mut members: Vec<MemberInfo> = (list.members.values())
            .filter(|member| member.until.is_none_or(|until| until > now))
            .map(|member| info(&list, member))
            .collect();
        members.sort_by(|a, b| (&a.member.name, a.member.id).cmp(&(&b.member.name, b.member.id)));
        Ok(MemberList { members })
    }

    /// Makes a node a member by its id, or changes what a member may have, and returns it.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`], [`ServerError::Invalid`]; [`TrustError::Itself`], [`TrustError::NameTaken`],
    /// [`TrustError::Full`], [`TrustError::Damaged`]; [`ServerError::State`].
    pub async fn allow(&self, caller: &Caller, id: &str, request: AllowRequest) -> Result<MemberInfo> {
        authorize(caller, Verb::Administer, None)?;
        let id: NodeId = id.parse().map_err(|error| ServerError::invalid("id", format!("{error}")))?;
        if id == self.id() {
            return Err(TrustError::Itself.into());
        }
        if request.for_s == Some(0) {
            return Err(ServerError::invalid("for_s", "a member is one for a second at least"));
        }
        self.members.change(move |book, now| book.allow(id, &request, now)).await?;
        tracing::info!(member = %id, "let in a member");
        let list = self.members.list()?;
        let member = list.members.get(&id).ok_or_else(|| no_member(&list, &id.to_string()))?;
        Ok(info(&list, member))
    }

    /// Removes a member. Its sessions end at once; its containers are stopped or removed, as is said.
    ///
    /// Of somebody who is no member any more, given by the whole id, the containers are stopped or removed.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`]; [`TrustError::NoMember`], [`TrustError::Ambiguous`], [`TrustError::Configured`],
    /// [`TrustError::Damaged`]; [`ServerError::State`].
    pub async fn disallow(&self, caller: &Caller, reference: &str, how: RemoveMember) -> Result<Removal> {
        authorize(caller, Verb::Administer, None)?;
        let list = self.members.list()?;
        let fate = how.containers;
        let member = match find(&list, reference) {
            Ok(member) => member,
            Err(error) => self.left_by(reference).await?.ok_or(error)?,
        };
        let id = member.id;
        if self.members.configured().contains(&id) {
            return Err(TrustError::Configured { id }.into());
        }
        self.members.change(move |book, _| book.remove(id, fate)).await?;
        tracing::info!(member = %id, ?fate, "removed a member");
        let containers = self.settle(id, fate).await?;
        let open = |invite: &InviteInfo| invite.used < invite.uses && invite.until > super::now();
        let came_by = |invite: &&super::book::Invite| invite.joined.contains(&id) && open(&invite.info);
        let invites = list.book.invites.iter().filter(came_by).map(|invite| invite.info.id.clone()).collect();
        Ok(Removal { member, fate, containers, invites })
    }

    /// Returns somebody who is no member and has containers here.
    async fn left_by(&self, reference: &str) -> Result<Option<Member>> {
        let Ok(id) = reference.parse::<NodeId>() else { return Ok(None) };
        if id == self.id() || self.owned_by(id).await?.found.is_empty() {
            return Ok(None);
        }
        let (since, allowance) = (super::now(), Allowance::default());
        Ok(Some(Member { id, name: None, since, until: None, allowance }))
    }
}

fn info(list: &List, member: &Member) -> MemberInfo {
    MemberInfo {
        member: member.clone(),
        origin: list.book.origin(member.id).unwrap_or(Origin::Configuration),
        formerly: list.book.formerly(member.id),
    }
}

/// Returns the member that a name, an id or the beginning of one means.
fn find(list: &List, reference: &str) -> Result<Member> {
    let exact = |member: &&Member| {
        member.id.to_string() == reference
            || member.name.as_ref().is_some_and(|name| name.as_str() == reference)
    };
    let all = || list.members.values().map(|member| &**member);
    if let Some(member) = all().find(exact) {
        return Ok(member.clone());
    }
    let begins =
        |member: &&Member| reference.len() >= SHORTEST && member.id.to_string().starts_with(reference);
    let mut fitting: Vec<&Member> = all().filter(begins).collect();
    match (fitting.pop(), fitting.is_empty()) {
        (None, _) => Err(no_member(list, reference)),
        (Some(one), true) => Ok(one.clone()),
        (Some(one), false) => {
            let mut candidates: Vec<String> =
                fitting.into_iter().chain([one]).map(|member| member.id.to_string()).collect();
            candidates.sort();
            Err(TrustError::Ambiguous { reference: reference.to_owned(), candidates }.into())
        }
    }
}

fn no_member(list: &List, reference: &str) -> ServerError {
    let names = list.members.values().filter_map(|member| member.name.as_ref());
    let near = closest(reference, names.map(|name| name.as_str())).map(str::to_owned);
    TrustError::NoMember { reference: reference.chars().take(80).collect(), near }.into()
}
