//! WebSockets to a host: how they are opened, and what their errors mean.

use gx_core::api::ApiError;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, protocol::WebSocketConfig};

use crate::{CONNECT, Client, ClientError, Result};

/// How much may wait to be written, in bytes, before the writer has to wait.
const WRITE_BUFFER: usize = 256 * 1024;
/// The longest message of a host, in bytes.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

impl Client {
    /// Opens a WebSocket below the path of a container.
    pub(crate) async fn open_socket(
        &self,
        reference: &str,
        action: &str,
    ) -> Result<WebSocketStream<TcpStream>> {
        let mut url = self.container_url(reference, action);
        url.set_scheme("ws").expect("http may become ws");
        let unreachable = |error: std::io::Error| ClientError::Unreachable {
            address: self.address.clone(),
            source: Box::new(error),
        };
        let connect = tokio::time::timeout(CONNECT, TcpStream::connect(&self.address));
        let timed_out =
            |_| ClientError::TimedOut { address: self.address.clone(), seconds: CONNECT.as_secs() };
        let stream = connect.await.map_err(timed_out)?.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let config = WebSocketConfig::default()
            .max_write_buffer_size(WRITE_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let opening = tokio_tungstenite::client_async_with_config(url.as_str(), stream, Some(config));
        let opened = self.patient(async { opening.await.map_err(|error| self.broken(error)) }).await?;
        Ok(opened.0)
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
