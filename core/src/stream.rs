//! Byte streams with credit: a fast writer waits for a slow reader, and memory stays within a window.
//!
//! [`Output`] is what a runtime writes to (logs, progress, events, archives), [`Items`] the reading
//! end. [`Input`] is what it reads from (standard input, a tar archive), [`InputSender`] the writing
//! end. Both work the same inside one program and across the plugin boundary.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, Semaphore, mpsc};

/// The largest item that is written in one piece, in bytes; longer ones are split.
pub const MAX_ITEM_BYTES: usize = 64 * 1024;

/// The window of a stream, in bytes, where nobody asks for another.
pub const DEFAULT_WINDOW_BYTES: usize = 512 * 1024;

/// What every item costs beside its length, in bytes, so that empty ones are not free.
pub const ITEM_COST_BYTES: usize = 32;

/// The kind of an item of an [`Output`]; the number crosses the plugin boundary and the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// Raw bytes: standard output, or the bytes of an archive.
    Stdout = 1,
    /// Raw bytes: standard error.
    Stderr = 2,
    /// One JSON value: an event, a statistic, a row of a list.
    Event = 3,
    /// One JSON value: a [`Progress`](crate::runtime::Progress).
    Progress = 4,
}

impl Kind {
    /// Returns the kind with this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::Event),
            4 => Some(Self::Progress),
            _ => None,
        }
    }
}

/// One item of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What the bytes are.
    pub kind: Kind,
    /// At most [`MAX_ITEM_BYTES`] for raw bytes.
    pub bytes: Bytes,
}

/// The other end of a stream is gone; there is nobody to write for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader of the stream is gone")]
pub struct Gone;

/// Where the items of an [`Output`] go. Implemented here for a pipe and by the plugin boundary.
pub trait Sink: Send + Sync {
    /// Takes one item, for which there is credit; never blocks.
    ///
    /// # Errors
    /// [`Gone`] when nobody reads any more.
    fn emit(&self, kind: Kind, bytes: &[u8]) -> Result<(), Gone>;

    /// As [`emit`](Sink::emit), for bytes that need not be copied to be kept.
    ///
    /// # Errors
    /// As [`emit`](Sink::emit).
    fn emit_bytes(&self, kind: Kind, bytes: Bytes) -> Result<(), Gone> {
        self.emit(kind, &bytes)
    }
}

/// How many bytes a writer may still send; the reader gives back what it has taken.
#[derive(Debug)]
pub struct Credit {
    permits: Semaphore,
    closed: Notify,
}

impl Credit {
    /// Makes the credit of a stream with a window of so many bytes.
    pub fn new(window: usize) -> Self {
        Self { permits: Semaphore::new(window.min(Semaphore::MAX_PERMITS)), closed: Notify::new() }
    }

    /// Lets the writer send `bytes` more.
    pub fn give(&self, bytes: u32) {
        let room = Semaphore::MAX_PERMITS - self.permits.available_permits();
        self.permits.add_permits((bytes as usize).min(room));
    }

    /// Tells the writer that nobody reads any more.
    pub fn close(&self) {
        self.permits.close();
        self.closed.notify_waiters();
    }

    /// Takes so many bytes, waiting for them.
    ///
    /// # Errors
    /// [`Gone`] when nobody reads any more.
    pub async fn take(&self, bytes: u32) -> Result<(), Gone> {
        self.permits.acquire_many(bytes).await.map_err(|_| Gone)?.forget();
        Ok(())
    }

    async fn closed(&self) {
        let closed = self.closed.notified();
        if !self.permits.is_closed() {
            closed.await;
        }
    }
}

/// The writing end of a stream; cloned handles share one window.
#[derive(Clone)]
pub struct Output {
    sink: Arc<dyn Sink>,
    credit: Arc<Credit>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("credit", &self.credit).finish()
    }
}

impl Output {
    /// Joins a sink and the credit for it.
    pub fn new(sink: Arc<dyn Sink>, credit: Arc<Credit>) -> Self {
        Self { sink, credit }
    }

    /// Returns an output that swallows everything.
    pub fn null() -> Self {
        struct Null;
        impl Sink for Null {
            fn emit(&self, _: Kind, _: &[u8]) -> Result<(), Gone> {
                Ok(())
            }
        }
        Self::new(Arc::new(Null), Arc::new(Credit::new(usize::MAX)))
    }

    /// Writes raw bytes as standard output, waiting while the reader is behind.
    ///
    /// # Errors
    /// [`Gone`] when nobody reads any more.
    pub async fn stdout(&self, bytes: &[u8]) -> Result<(), Gone> {
        self.write(Kind::Stdout, bytes).await
    }

    /// Writes raw bytes as standard error, waiting while the reader is behind.
    ///
    /// # Errors
    /// [`Gone`] when nobody reads any more.
    pub async fn stderr(&self, bytes: &[u8]) -> Result<(), Gone> {
        self.write(Kind::Stderr, bytes).await
    }

    /// Writes one event as JSON, waiting while the reader is behind.
    ///
    /// # Errors
    /// [`Gone`] when nobody reads any more.
    pub async fn event<T: Serialize + Sync>(&self, event: &T) -> Result<(), Gone> {
        self.json(Kind::Event, event).await
    }

    /// Writes one step of progress as JSON, waiting while the reader is behind.
    ///
    /// # Errors
    /// [`Gone`] when nobody reads any more.
    pub async fn progress(&self, progress: &crate::runtime::Progress) -> Result<(), Gone> {
        self.json(Kind::Progress, progress).await
    }

    /// Writes an item of any kind; raw bytes are split at [`MAX_ITEM_BYTES`], JSON is not.
    ///
    /// # Errors
    /// [`Gone`] when nobody reads any more.
    pub async fn write(&self, kind: Kind, bytes: &[u8]) -> Result<(), Gone> {
        let piece = match kind {
            Kind::Stdout | Kind::Stderr => MAX_ITEM_BYTES,
            Kind::Event | Kind::Progress => usize::MAX,
        };
        for chunk in bytes.chunks(piece) {
            self.credit.take(item_cost(chunk.len())).await?;
            self.sink.emit(kind, chunk)?;
        }
        Ok(())
    }

    /// Writes an item of any kind in one piece and without a copy, where the reader is in this program.
    ///
    /// # Errors
    /// [`Gone`] when nobody reads any more.
    pub async fn write_bytes(&self, kind: Kind, bytes: Bytes) -> Result<(), Gone> {
        self.credit.take(item_cost(bytes.len())).await?;
        self.sink.emit_bytes(kind, bytes)
    }

    /// Waits until the reader is gone.
    pub async fn gone(&self) {
        self.credit.closed().await;
    }

    async fn json<T: Serialize + Sync>(&self, kind: Kind, value: &T) -> Result<(), Gone> {
        let text = serde_json::to_vec(value).expect("our own types always become JSON");
        self.write(kind, &text).await
    }
}

/// Returns what an item of this length takes from the window, at most the default window,
/// so that one large event can always pass.
pub fn item_cost(length: usize) -> u32 {
    (length + ITEM_COST_BYTES).min(DEFAULT_WINDOW_BYTES / 2) as u32
}

/// The reading end of a stream. Dropping it tells the writer that nobody reads any more.
#[derive(Debug)]
pub struct Items {
    items: mpsc::UnboundedReceiver<Item>, // bounded by the credit
    credit: Arc<dyn CreditBack>,
}

/// Gives credit back to the writer as its items are taken; closes when the reader goes away.
pub trait CreditBack: Send + Sync + std::fmt::Debug {
    /// Lets the writer send `bytes` more.
    fn give(&self, bytes: u32);
    /// Tells the writer that nobody reads any more.
    fn close(&self);
}

impl CreditBack for Credit {
    fn give(&self, bytes: u32) {
        Credit::give(self, bytes);
    }
    fn close(&self) {
        Credit::close(self);
    }
}

impl Items {
    /// Joins a queue and the way back for its credit. The queue is bounded by the credit alone.
    pub fn new(items: mpsc::UnboundedReceiver<Item>, credit: Arc<dyn CreditBack>) -> Self {
        Self { items, credit }
    }

    /// Returns the next item, or `None` after the last.
    pub async fn next(&mut self) -> Option<Item> {
        let item = self.items.recv().await?;
        self.credit.give(item_cost(item.bytes.len()));
        Some(item)
    }

    /// Polls for the next item, for those who build a `Stream` of it.
    pub fn poll_next(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Item>> {
        let polled = self.items.poll_recv(context);
        if let std::task::Poll::Ready(Some(item)) = &polled {
            self.credit.give(item_cost(item.bytes.len()));
        }
        polled
    }

    /// Collects all events, leaving out other items and what is not of this shape.
    pub async fn events<T: DeserializeOwned>(mut self) -> Vec<T> {
        let mut events = Vec::new();
        while let Some(item) = self.next().await {
            if item.kind == Kind::Event
                && let Ok(event) = serde_json::from_slice(&item.bytes)
            {
                events.push(event);
            }
        }
        events
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        self.credit.close();
    }
}

/// Makes a stream within one program. `window` is in bytes.
pub fn pipe(window: usize) -> (Output, Items) {
    struct Queue(mpsc::UnboundedSender<Item>);
    impl Sink for Queue {
        fn emit(&self, kind: Kind, bytes: &[u8]) -> Result<(), Gone> {
            self.emit_bytes(kind, Bytes::copy_from_slice(bytes))
        }
        fn emit_bytes(&self, kind: Kind, bytes: Bytes) -> Result<(), Gone> {
            self.0.send(Item { kind, bytes }).map_err(|_| Gone)
        }
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    let credit = Arc::new(Credit::new(window.max(DEFAULT_WINDOW_BYTES)));
    (Output::new(Arc::new(Queue(sender)), credit.clone()), Items::new(receiver, credit))
}

/// What goes into a call while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputChunk {
    /// Bytes of standard input or of an archive.
    Data(Bytes),
    /// The terminal has another size, in characters.
    Resize {
        /// Width in characters.
        columns: u16,
        /// Height in characters.
        rows: u16,
    },
}

/// The reading end of what goes into a call; ends with `None`.
#[derive(Debug)]
pub struct Input(mpsc::Receiver<InputChunk>);

impl Input {
    /// Returns an input that is at its end.
    pub fn empty() -> Self {
        input().1
    }

    /// Returns the next chunk, or `None` at the end.
    pub async fn next(&mut self) -> Option<InputChunk> {
        self.0.recv().await
    }

    /// Returns the next bytes, leaving out everything else, or `None` at the end.
    pub async fn next_data(&mut self) -> Option<Bytes> {
        loop {
            if let InputChunk::Data(bytes) = self.next().await? {
                return Some(bytes);
            }
        }
    }

    /// Polls for the next chunk, for those who build a `Stream` of it.
    pub fn poll_next(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<InputChunk>> {
        self.0.poll_recv(context)
    }
}

/// The writing end of what goes into a call; dropping the last handle is the end of the input.
#[derive(Debug, Clone)]
pub struct InputSender(mpsc::Sender<InputChunk>);

impl InputSender {
    /// Sends a chunk, waiting while the reader is behind. Bytes are split at [`MAX_ITEM_BYTES`].
    ///
    /// # Errors
    /// [`Gone`] when nobody reads any more.
    pub async fn send(&self, chunk: InputChunk) -> Result<(), Gone> {
        let InputChunk::Data(mut bytes) = chunk else {
            return self.0.send(chunk).await.map_err(|_| Gone);
        };
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(MAX_ITEM_BYTES));
            self.0.send(InputChunk::Data(piece)).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Sends a chunk if there is room for it now; returns whether it went.
    ///
    /// # Errors
    /// [`Gone`] when nobody reads any more.
    pub fn try_send(&self, chunk: InputChunk) -> Result<bool, Gone> {
        match self.0.try_send(chunk) {
            Ok(()) => Ok(true),
            Err(mpsc::error::TrySendError::Full(_)) => Ok(false),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Gone),
        }
    }

    /// Waits until nobody reads any more.
    pub async fn gone(&self) {
        self.0.closed().await;
    }
}

/// How many chunks wait in an input: with [`MAX_ITEM_BYTES`] each, 512 KiB.
pub const INPUT_CHUNKS: usize = DEFAULT_WINDOW_BYTES / MAX_ITEM_BYTES;

/// Makes an input within one program.
pub fn input() -> (InputSender, Input) {
    let (sender, receiver) = mpsc::channel(INPUT_CHUNKS);
    (InputSender(sender), Input(receiver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_stops_the_writer_within_the_window() {
        let (output, mut items) = pipe(DEFAULT_WINDOW_BYTES);
        let writer = tokio::spawn(async move {
            let mut sent = 0;
            while output.stdout(&[7; MAX_ITEM_BYTES]).await.is_ok() {
                sent += 1;
            }
            sent
        });
        for _ in 0..100 {
            let item = items.next().await.unwrap();
            assert_eq!(item.bytes.len(), MAX_ITEM_BYTES);
        }
        drop(items);
        let sent = writer.await.unwrap();
        assert!((100..=100 + DEFAULT_WINDOW_BYTES / MAX_ITEM_BYTES).contains(&sent), "{sent}");
    }

    #[tokio::test]
    async fn bytes_are_split_and_events_are_not() {
        let (output, mut items) = pipe(0);
        output.stderr(&[1; MAX_ITEM_BYTES + 1]).await.unwrap();
        output.event(&"x".repeat(MAX_ITEM_BYTES * 2)).await.unwrap();
        drop(output);
        let mut sizes = Vec::new();
        while let Some(item) = items.next().await {
            sizes.push(item.bytes.len());
        }
        assert_eq!(sizes, [MAX_ITEM_BYTES, 1, MAX_ITEM_BYTES * 2 + 2]);
    }

    #[tokio::test]
    async fn a_writer_learns_that_the_reader_is_gone() {
        let (output, items) = pipe(0);
        drop(items);
        output.gone().await;
        assert_eq!(output.stdout(b"x").await, Err(Gone));
        let (sender, reader) = input();
        drop(reader);
        assert_eq!(sender.send(InputChunk::Data(Bytes::from_static(b"x"))).await, Err(Gone));
    }
}
