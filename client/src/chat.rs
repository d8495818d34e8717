//! The chat's WebSocket: texts both ways. What is in them is the chat's business.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use gx_core::api::path;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::socket::Wire;
use crate::{Client, ClientError, Result};

/// How long a text may take to be taken by the network.
const WRITE: Duration = Duration::from_secs(15);
/// How long the host may be silent: it answers pings more often than that.
const SILENCE: Duration = Duration::from_secs(60);

/// The chat's connection to a host.
pub struct ChatSocket {
    socket: WebSocketStream<Box<dyn Wire>>,
    client: Client,
    heard: tokio::time::Instant,
}

impl std::fmt::Debug for ChatSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatSocket").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the chat that the host serves.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn chat(&self) -> Result<ChatSocket> {
        let socket = self.open_socket_at(self.url(path::CHAT)).await?;
        Ok(ChatSocket { socket, client: self.clone(), heard: tokio::time::Instant::now() })
    }
}

impl ChatSocket {
    /// Sends texts.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`] where the host takes nothing, [`ClientError::Lost`].
    pub async fn send(&mut self, texts: Vec<String>) -> Result<()> {
        let sending = async {
            for text in texts {
                self.socket.feed(Message::text(text)).await?;
            }
            self.socket.flush().await
        };
        let sent = tokio::time::timeout(WRITE, sending).await.map_err(|_| self.silent(WRITE))?;
        sent.map_err(|error| self.client.broken(error))
    }

    /// Returns the next text; `None` at the end. Nothing is lost when it is dropped before it is ready.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`] where the host gives no sign of life, [`ClientError::Lost`], [`ClientError::Protocol`].
    pub async fn next(&mut self) -> Result<Option<String>> {
        loop {
            let next = tokio::time::timeout_at(self.heard + SILENCE, self.socket.next()).await;
            let message = next.map_err(|_| self.silent(SILENCE))?;
            self.heard = tokio::time::Instant::now();
            match message {
                Some(Ok(Message::Text(text))) => return Ok(Some(text.as_str().to_owned())),
                Some(Ok(Message::Binary(_))) => return Err(self.client.odd("bytes where a text belongs")),
                Some(Ok(_)) => {} // a ping is answered by the library; it is a sign of life
                None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => return Ok(None),
                Some(Err(error)) => return Err(self.client.broken(error)),
            }
        }
    }

    /// Ends the connection in good order.
    pub async fn close(mut self) {
        // Where the host is gone there is nothing to tell it.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.socket.close(None)).await;
    }

    fn silent(&self, limit: Duration) -> ClientError {
        ClientError::TimedOut { address: self.client.address.clone(), seconds: limit.as_secs(), sent: true }
    }
}
