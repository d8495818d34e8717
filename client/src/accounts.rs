//! The chat's accounts, its end and its beginning: one method for each endpoint.

use gx_core::api::{ChatStarted, ChatStopped, ChatUser, ChatUserRequest, ChatUsers, path};

use crate::{Client, Result};

impl Client {
    /// Lists the accounts of the chat that the host serves.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn chat_users(&self) -> Result<ChatUsers> {
        self.json(self.http.get(self.url(path::CHAT_USERS))).await
    }

    /// Makes or changes a user's account; the answer has the password, if it was made up.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn put_chat_user(&self, user: &str, request: ChatUserRequest) -> Result<ChatUser> {
        self.json(self.http.put(self.below(path::CHAT_USERS, user)).json(&request)).await
    }

    /// Ends the chat in good order; it returns when all that was taken is stored and acknowledged.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn stop_chat(&self) -> Result<ChatStopped> {
        self.json(self.http.post(self.url(path::CHAT_STOP))).await
    }

    /// Has the chat served again, after it was ended alone.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn start_chat(&self) -> Result<ChatStarted> {
        self.json(self.http.post(self.url(path::CHAT_START))).await
    }
}
