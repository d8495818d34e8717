//! WebSockets to a host: how they are opened, and what their errors mean.

use gx_core::api::ApiError;
use gx_identity::tls::WrongNode;
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, protocol::WebSocketConfig};

use crate::{Client, ClientError, Result, connect, not_shaken};

/// How much may wait to be written, in bytes, before the writer has to wait.
const WRITE_BUFFER: usize = 256 * 1024;
/// The longest message of a host, in bytes.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Bytes to a host and from it, encrypted or not.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Client {
    /// Opens a WebSocket below the path of a container.
    pub(crate) async fn open_socket(
        &self,
        reference: &str,
        action: &str,
    ) -> Result<WebSocketStream<Box<dyn Wire>>> {
        self.open_socket_at(self.container_url(reference, action)).await
    }

    /// Opens a WebSocket at an address of the host.
    pub(crate) async fn open_socket_at(&self, mut url: Url) -> Result<WebSocketStream<Box<dyn Wire>>> {
        url.set_scheme("ws").expect("http may become ws"); // what is below is already there
        let stream = self.open_wire().await?;
        let config = WebSocketConfig::default()
            .max_write_buffer_size(WRITE_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let opening = tokio_tungstenite::client_async_with_config(url.as_str(), stream, Some(config));
        let opened = self.patient(async { opening.await.map_err(|error| self.broken(error)) }).await?;
        Ok(opened.0)
    }

    async fn open_wire(&self) -> Result<Box<dyn Wire>> {
        let stream = connect(&self.address).await?;
        let Some(connector) = self.trust.connector() else {
            return Ok(Box::new(stream));
        };
        match connector.connect(stream).await {
            Ok((stream, _)) => Ok(Box::new(stream)),
            Err(error) => Err(match WrongNode::behind(&error) {
                Some(wrong) => self.wrong(wrong),
                None => not_shaken(&self.address, error),
            }),
        }
    }

    /// Returns what an error of a WebSocket is to the caller.
    pub(crate) fn broken(&self, error: Error) -> ClientError {
        if let Error::Http(response) = &error {
            let told =
                response.body().as_deref().and_then(|body| serde_json::from_slice::<ApiError>(body).ok());
            return match told {
                Some(told) => ClientError::Host(told),
                None => self.odd(format!("status {}", response.status())),
            };
        }
        ClientError::Lost { address: self.address.clone(), source: Box::new(error) }
    }
}
