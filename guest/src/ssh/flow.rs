//! Back-pressure: what has come in and is not yet taken by a process is counted, and too much of it stops the reading.
//!
//! The library gives a sender his window back as soon as data arrives, whether or not anybody takes it, and would wait
//! for a full channel with the whole connection. Here channels never fill; instead the line itself is not read while
//! much waits. Not reading has a danger: a process that does not take its input may be waiting for its output to go,
//! the output for a window, and the window's message is in the line that is not read. So while output waits for a
//! window the line is read on, the slower the more there is.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use russh::ChannelId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// So much may wait before reading stops.
const ENOUGH: usize = 1 << 20;
/// Each time so much more has come while output waits for a window, reading becomes half as fast.
const STEP: usize = 4 << 20;
/// What a message costs besides its bytes.
const MESSAGE: usize = 128;

/// What waits in one connection.
#[derive(Debug, Default)]
pub(crate) struct Flow(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// For each channel that somebody takes from. A message may be taken before it is counted.
    waiting: HashMap<ChannelId, isize>,
    /// Outputs without a window.
    stuck: usize,
    cut: bool,
    reader: Option<Waker>,
}

/// How to read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Free,
    After(Duration),
    Stop,
}

fn pace(waiting: usize, stuck: usize) -> Pace {
    match waiting.checked_sub(ENOUGH) {
        None => Pace::Free,
        Some(_) if stuck == 0 => Pace::Stop,
        Some(more) => {
            let halvings = u32::try_from(more / STEP).unwrap_or(u32::MAX).min(16);
            Pace::After(Duration::from_millis(2) * 2u32.pow(halvings))
        }
    }
}

impl Flow {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection.
    pub(crate) fn cut(&self) {
        let mut state = self.state();
        state.cut = true;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// Counts for a channel from now on.
    pub(super) fn open(&self, channel: ChannelId) {
        self.state().waiting.insert(channel, 0);
    }

    /// A message of so many bytes has come in.
    pub(super) fn came(&self, channel: ChannelId, bytes: usize) {
        self.count(channel, isize::try_from(bytes + MESSAGE).unwrap_or(isize::MAX));
    }

    /// A message of so many bytes was taken.
    pub(super) fn taken(&self, channel: ChannelId, bytes: usize) {
        self.count(channel, -isize::try_from(bytes + MESSAGE).unwrap_or(isize::MAX));
    }

    fn count(&self, channel: ChannelId, change: isize) {
        let mut state = self.state();
        if let Some(waiting) = state.waiting.get_mut(&channel) {
            *waiting = waiting.saturating_add(change);
        }
        state.wake_if_free();
    }

    /// Counts no more for a channel: nobody takes from it.
    pub(super) fn close(&self, channel: ChannelId) {
        let mut state = self.state();
        state.waiting.remove(&channel);
        state.wake_if_free();
    }

    /// Output has no window, until what this returns is dropped.
    pub(super) fn stuck(self: &Arc<Self>) -> Stuck {
        let mut state = self.state();
        state.stuck += 1;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        Stuck(self.clone())
    }
}

impl State {
    fn waiting(&self) -> usize {
        let sum = self.waiting.values().fold(0isize, |sum, waiting| sum.saturating_add(*waiting));
        usize::try_from(sum).unwrap_or(0)
    }

    fn wake_if_free(&mut self) {
        if self.reader.is_some()
            && pace(self.waiting(), self.stuck) == Pace::Free
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
    }
}

/// Output that waits for a window.
#[derive(Debug)]
pub(super) struct Stuck(Arc<Flow>);

impl Drop for Stuck {
    fn drop(&mut self) {
        self.0.state().stuck -= 1;
    }
}

/// A connection's stream, read at the pace of its flow.
#[derive(Debug)]
pub(super) struct Line<S> {
    stream: S,
    flow: Arc<Flow>,
    nap: Option<Pin<Box<Sleep>>>,
}

impl<S> Line<S> {
    /// Wraps a stream.
    pub(super) fn new(stream: S, flow: Arc<Flow>) -> Self {
        Self { stream, flow, nap: None }
    }

    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pace = {
            let mut state = self.flow.state();
            if state.cut {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            // Also while bytes are waited for: a cut must be seen.
            state.reader = Some(context.waker().clone());
            pace(state.waiting(), state.stuck)
        };
        match pace {
            Pace::Free => {
                self.nap = None;
                Poll::Ready(Ok(()))
            }
            Pace::Stop => Poll::Pending,
            Pace::After(pause) => {
                let nap = self.nap.get_or_insert_with(|| Box::pin(sleep(pause)));
                ready!(nap.as_mut().poll(context));
                self.nap = None;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_turn(context))?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.flow.state().cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_stops_when_enough_waits_and_slows_while_output_is_stuck() {
        assert_eq!(pace(0, 0), Pace::Free);
        assert_eq!(pace(ENOUGH, 0), Pace::Stop);
        assert_eq!(pace(ENOUGH, 1), Pace::After(Duration::from_millis(2)));
        assert_eq!(pace(ENOUGH + 2 * STEP, 1), Pace::After(Duration::from_millis(8)));
        assert!(matches!(pace(usize::MAX, 1), Pace::After(pause) if pause > Duration::from_secs(100)));
    }
}
