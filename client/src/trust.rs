//! Invitations, members and identities: one method for each endpoint.

use gx_core::api::{
    AllowRequest, IdentityInfo, InviteInfo, InviteList, InviteRequest, Invited, JoinRequest, MemberInfo,
    MemberList, Removal, RemoveMember, Rotation, Whoami, path,
};
use gx_core::stream::Output;

use crate::calls::set_query;
use crate::{Client, Result};

impl Client {
    /// Becomes a member of the host, by a ticket. It may be sent again: the same node with the same ticket is told the
    /// same.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn join(&self, request: JoinRequest) -> Result<Whoami> {
        self.json(self.http.post(self.url(path::JOIN)).json(&request)).await
    }

    /// Returns who this node is to the host, and what it may have.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn whoami(&self) -> Result<Whoami> {
        self.json(self.http.get(self.url(path::WHOAMI))).await
    }

    /// Returns who the host is, and which keys it had.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn identity(&self) -> Result<IdentityInfo> {
        self.json(self.http.get(self.url(path::IDENTITY))).await
    }

    /// Tells the host that this node has a new key, which it must use for this call. It may be sent again.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn rotate(&self, rotation: Rotation) -> Result<Whoami> {
        self.json(self.http.post(self.url(path::IDENTITY)).json(&rotation)).await
    }

    /// Makes an invitation and returns its ticket.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn invite(&self, request: InviteRequest) -> Result<Invited> {
        self.json(self.http.post(self.url(path::INVITES)).json(&request)).await
    }

    /// Lists the invitations that are good still.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn invites(&self) -> Result<InviteList> {
        self.json(self.http.get(self.url(path::INVITES))).await
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn revoke_invite(&self, id: &str) -> Result<InviteInfo> {
        self.json(self.http.delete(self.below(path::INVITES, id))).await
    }

    /// Lists the members.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn members(&self) -> Result<MemberList> {
        self.json(self.http.get(self.url(path::MEMBERS))).await
    }

    /// Makes a node a member by its id, or changes what a member may have.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn allow(&self, id: &str, request: AllowRequest) -> Result<MemberInfo> {
        self.json(self.http.put(self.below(path::MEMBERS, id)).json(&request)).await
    }

    /// Removes a member.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn disallow(&self, reference: &str, how: RemoveMember) -> Result<Removal> {
        let mut url = self.below(path::MEMBERS, reference);
        set_query(&mut url, &how);
        self.value(self.http.delete(url), &Output::null()).await
    }

    pub(crate) fn below(&self, path: &str, reference: &str) -> reqwest::Url {
        let mut url = self.url(path);
        url.path_segments_mut().expect("an http URL has a path").push(reference);
        url
    }
}
