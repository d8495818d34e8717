//! Exec: a WebSocket, because bytes go both ways while the command runs.

use std::convert::Infallible;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use gx_core::Exit;
use gx_core::api::{End, exec};
use gx_core::runtime::ExecSpec;
use gx_core::stream::{Input, InputChunk, Kind, Output};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::{Client, ClientError, Result};

impl Client {
    /// Runs a command in a container and returns how it ended, once its output is written.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn exec(&self, reference: &str, spec: ExecSpec, input: Input, out: Output) -> Result<Exit> {
        let mut socket = self.open_socket(reference, "exec").await?;
        let spec = serde_json::to_string(&spec).expect("our own types always become JSON");
        socket.send(Message::text(spec)).await.map_err(|error| self.broken(error))?;
        let (sink, messages) = socket.split();
        tokio::select! {
            exit = self.read(messages, &out) => exit,
            never = write(sink, input) => match never {},
        }
    }

    async fn read(
        &self,
        mut messages: impl Stream<Item = Result<Message, Error>> + Unpin,
        out: &Output,
    ) -> Result<Exit> {
        loop {
            let next = self.patient(async { Ok(messages.next().await) }).await?;
            let message = next.ok_or(Error::ConnectionClosed).and_then(|message| message);
            let Message::Binary(bytes) = message.map_err(|error| self.broken(error))? else {
                continue; // a ping is answered by the library; it is a sign of life
            };
            let payload = bytes.slice(1.min(bytes.len())..);
            // When nobody reads the output any more, the exit still matters.
            match bytes.first() {
                Some(&exec::STDOUT) => drop(out.write(Kind::Stdout, &payload).await),
                Some(&exec::STDERR) => drop(out.write(Kind::Stderr, &payload).await),
                Some(&exec::END) => return self.exit(&payload),
                _ => return Err(self.odd("a message of an unknown kind")),
            }
        }
    }

    fn exit(&self, payload: &[u8]) -> Result<Exit> {
        match serde_json::from_slice(payload).map_err(|error| self.odd(error.to_string()))? {
            End::Ok(exit) => serde_json::from_value(exit).map_err(|error| self.odd(error.to_string())),
            End::Error(error) => Err(ClientError::Host(error)),
        }
    }
}

/// Sends what goes in. What cannot be sent any more is the reading side's to tell, so this never ends.
async fn write(mut sink: impl Sink<Message, Error = Error> + Unpin, mut input: Input) -> Infallible {
    while let Some(chunk) = input.next().await {
        let message = match chunk {
            InputChunk::Data(bytes) => tagged(exec::STDIN, &bytes),
            InputChunk::Resize { columns, rows } => {
                let size = exec::Size { columns, rows };
                tagged(exec::RESIZE, &serde_json::to_vec(&size).expect("two numbers become JSON"))
            }
        };
        if sink.send(Message::Binary(message)).await.is_err() {
            break;
        }
    }
    let _ = sink.send(Message::Binary(tagged(exec::EOF, &[]))).await;
    std::future::pending().await
}

fn tagged(tag: u8, payload: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(payload.len() + 1);
    message.put_u8(tag);
    message.put_slice(payload);
    message.freeze()
}
