//! Bodies: JSON, frames on the way in, archives on the way out.

use bytes::Bytes;
use futures_util::{Stream, stream};
use gx_core::api::frame::{Decoder, Frame};
use gx_core::api::{ApiError, End, STREAM_TYPE};
use gx_core::stream::{Input, Output};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{RequestBuilder, Response};
use serde::de::DeserializeOwned;

use crate::{Client, ClientError, Result};

/// The longest body of an answer that is not streamed, in bytes.
const MAX_JSON_BYTES: usize = 64 << 20;

/// What it means that nobody reads the stream any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The call goes on: only its result matters.
    Optional,
    /// The call is over.
    Essential,
}

impl Client {
    /// Sends a request and reads its whole answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let response = self.send(request).await?;
        let body = self.patient(self.collect(response)).await?;
        serde_json::from_slice(&body).map_err(|error| self.odd(error.to_string()))
    }

    /// Sends a request, passes on the items of the answer, and returns what it ends with; `None` when nobody reads
    /// any more.
    pub(crate) async fn streamed<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        out: &Output,
        reader: Reader,
    ) -> Result<Option<T>> {
        let mut response = self.send(request.header(ACCEPT, STREAM_TYPE)).await?;
        let mut decoder = Decoder::default();
        let mut listening = true;
        loop {
            while let Some(frame) = decoder.next_frame().map_err(|error| self.odd(error.to_string()))? {
                match frame {
                    Frame::Alive => {}
                    Frame::Item(item) => {
                        listening = listening && out.write(item.kind, &item.bytes).await.is_ok();
                        if !listening && reader == Reader::Essential {
                            return Ok(None);
                        }
                    }
                    Frame::End(End::Ok(value)) => {
                        return serde_json::from_value(value)
                            .map(Some)
                            .map_err(|error| self.odd(error.to_string()));
                    }
                    Frame::End(End::Error(error)) => return Err(ClientError::Host(error)),
                }
            }
            let chunk = async { response.chunk().await.map_err(|error| self.failed(error)) };
            let chunk = tokio::select! {
                chunk = self.patient(chunk) => chunk?,
                () = out.gone(), if reader == Reader::Essential => return Ok(None),
            };
            match chunk {
                Some(bytes) => decoder.push(&bytes),
                None => return Err(self.cut_short()),
            }
        }
    }

    /// Sends a request and returns an answer that is not an error.
    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response =
            self.patient(async { request.send().await.map_err(|error| self.failed(error)) }).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        let body = self.patient(self.collect(response)).await?;
        match serde_json::from_slice::<ApiError>(&body) {
            Ok(error) if is_json => Err(ClientError::Host(error)),
            _ => Err(self.odd(format!("status {status}"))),
        }
    }

    async fn collect(&self, mut response: Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|error| self.failed(error))? {
            body.extend_from_slice(&bytes);
            if body.len() > MAX_JSON_BYTES {
                return Err(self.odd("a body without end"));
            }
        }
        Ok(body)
    }

    fn cut_short(&self) -> ClientError {
        let source = Box::new(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        ClientError::Lost { address: self.address.clone(), source }
    }
}

/// Returns an input as the body of a request.
pub(crate) fn upload(input: Input) -> reqwest::Body {
    reqwest::Body::wrap_stream(chunks(input))
}

fn chunks(input: Input) -> impl Stream<Item = std::io::Result<Bytes>> {
    stream::unfold(input, async |mut input| input.next_data().await.map(|bytes| (Ok(bytes), input)))
}
