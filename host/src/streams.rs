//! What flows beside a call: items from the plugin to an [`Output`], chunks from an [`Input`] to the plugin.

use bytes::Bytes;
use gx_core::RuntimeError;
use gx_core::plugin::abi::{input, status};
use gx_core::stream::{
    Credit, DEFAULT_WINDOW_BYTES, Input, InputChunk, Item, MAX_ITEM_BYTES, Output, item_cost,
};

use crate::calls::Streams;
use crate::link::Call;

/// The window of a stream across the boundary, in bytes.
const WINDOW: u32 = DEFAULT_WINDOW_BYTES as u32;

/// Credit is given back in pieces of this size, so that small items do not each cost a message.
const PIECE: u32 = WINDOW / 4;

/// Moves what flows until the call has ended, and returns its answer. `seen` gets each item first, and says whether
/// it is passed on.
///
/// # Errors
/// Those of the call.
pub(crate) async fn run(
    call: Call,
    streams: Streams,
    chunks: Option<Input>,
    out: &Output,
    mut seen: impl FnMut(&Item) -> bool,
) -> Result<Bytes, RuntimeError> {
    let Streams { mut items, input } = streams;
    call.credit(WINDOW);
    let forward = async {
        let (mut owed, mut read) = (0, true);
        loop {
            let item = tokio::select! {
                biased;
                item = items.recv() => item,
                () = out.gone(), if read => {
                    read = false;
                    call.nobody_reads();
                    continue;
                }
            };
            let Some(item) = item else { return };
            owed += item_cost(item.bytes.len());
            if read && seen(&item) && out.write_bytes(item.kind, item.bytes).await.is_err() {
                read = false;
                call.nobody_reads();
            }
            if read && owed >= PIECE {
                call.credit(std::mem::take(&mut owed));
            }
        }
    };
    let feed = async {
        if let Some(chunks) = chunks {
            feed(&call, chunks, &input).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = forward => {}
        () = feed => {}
    }
    call.done().await
}

/// Sends the input within the plugin's window, and its end.
async fn feed(call: &Call, mut chunks: Input, window: &Credit) {
    while let Some(chunk) = chunks.next().await {
        let sent = match chunk {
            InputChunk::Data(bytes) => feed_bytes(call, &bytes, window).await,
            InputChunk::Resize { columns, rows } => {
                let ([c0, c1], [r0, r1]) = (columns.to_le_bytes(), rows.to_le_bytes());
                call.input(input::RESIZE, &[c0, c1, r0, r1])
            }
        };
        if sent == status::GONE {
            return;
        }
    }
    call.input(input::END, &[]);
}

async fn feed_bytes(call: &Call, bytes: &[u8], window: &Credit) -> i32 {
    for piece in bytes.chunks(MAX_ITEM_BYTES) {
        if window.take(piece.len() as u32).await.is_err() {
            return status::GONE;
        }
        match call.input(input::DATA, piece) {
            status::OK => {}
            refused => return refused,
        }
    }
    status::OK
}
