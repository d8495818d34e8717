//! One connection's part of a test of throughput.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gx_core::api::speedtest::{DOWN, MAX_BYTES, Received, UP};
use gx_core::measurement::{Doubt, Target};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::fault::Fault;
use crate::http::{Connection, Head, Reader, UNTOUCHED, Writer};
use crate::meter::Meter;
use crate::payload::{Chunks, LAST_CHUNK, Look, nonce};
use crate::receipt::Receipt;

/// What is read at a time.
const BUFFER: usize = 256 << 10;
/// One upload ends before the peer would end it.
const UPLOAD: u64 = MAX_BYTES - (1 << 20);
/// How often one part connects anew.
const CONNECTIONS: usize = 8;
/// How long the answer to an upload that broke off may take.
const LAST_WORD: Duration = Duration::from_millis(500);

/// What all connections of a test share.
pub(crate) struct Test {
    /// By which the peer knows that they belong together.
    pub(crate) id: Arc<str>,
    pub(crate) target: Target,
    pub(crate) patience: Duration,
    pub(crate) meter: Arc<Meter>,
    pub(crate) stopped: watch::Receiver<bool>,
}

/// How one connection's part ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Why it ended by itself.
    pub(crate) fault: Option<Fault>,
    /// What the peer says it received.
    pub(crate) receipts: Vec<Receipt>,
    /// The bytes those are about.
    pub(crate) receipted: u64,
}

/// Receives until it is dropped or something goes wrong.
pub(crate) async fn receive(test: Test, mut connection: Connection) -> Ended {
    let mut buffer = vec![0; BUFFER];
    let (mut look, mut connections) = (Look::default(), 1);
    let fault = loop {
        let before = test.meter.left();
        let ended = download(&test, &mut connection, &mut buffer, &mut look).await;
        let again = match ended {
            Ok(head) => head.close,
            // What breaks off may be the end of a budget of the peer's, which only the next request is told.
            Err(Fault::Broken(_)) if test.meter.left() < before && connections < CONNECTIONS => true,
            Err(fault) => break fault,
        };
        if again {
            connections += 1;
            connection = match Connection::open(&test.target, test.patience).await {
                Ok(connection) => connection,
                Err(fault) => break fault,
            };
        }
    };
    Ended { fault: Some(fault), ..Ended::default() }
}

async fn download(
    test: &Test,
    connection: &mut Connection,
    buffer: &mut [u8],
    look: &mut Look,
) -> Result<Head, Fault> {
    let asked = test.meter.left().clamp(1, MAX_BYTES);
    let path = format!("{DOWN}?bytes={asked}&test={}&n={}", test.id, nonce());
    let more = UNTOUCHED.to_owned() + &authorization(&test.target);
    connection.writer.head("GET", &path, &more).await?;
    let head = connection.reader.head().await?;
    head.expect_ok()?;
    if head.cached {
        test.meter.doubt(Doubt::Cached);
    }
    let mut left = match head.length {
        Some(length) if (1..=asked).contains(&length) => length,
        Some(_) => return Err(Fault::Garbage("it is not as long as was asked for")),
        None => return Err(Fault::Garbage("it has no length")),
    };
    while left > 0 {
        // Where nothing is left the test is over, and ends this.
        let may = test.meter.reserve(left.min(buffer.len() as u64)).await;
        let read = connection.reader.body(buffer, may).await;
        test.meter.moved(*read.as_ref().unwrap_or(&0) as u64, may);
        let read = read?;
        if read == 0 {
            return Err(Fault::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        left -= read as u64;
        if look.compressible(&buffer[..read]) {
            test.meter.doubt(Doubt::Compressible);
        }
    }
    Ok(head)
}

/// Returns the header line by which the peer knows who pays; it made the word itself, which may be anything.
fn authorization(target: &Target) -> String {
    let is_word = |text: &&str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_~+/=".contains(&b));
    let token = target.token.as_ref().map(|token| token.reveal()).filter(is_word);
    token.map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"))
}

/// Sends until it is told to stop or something goes wrong, and returns what the peer says of it.
pub(crate) async fn send(mut test: Test, mut connection: Connection) -> Ended {
    let mut ended = Ended::default();
    loop {
        let sent = AtomicU64::new(0);
        let answer = upload(&mut test, &mut connection, &sent).await;
        let last = *test.stopped.borrow();
        let sent = sent.into_inner();
        let receipt = answer.and_then(|(head, received)| {
            let over = last || head.close;
            Ok((Receipt::check(received, sent, over)?, over))
        });
        match receipt {
            Ok((receipt, over)) => {
                ended.receipts.push(receipt);
                ended.receipted += sent;
                if over {
                    return ended;
                }
            }
            Err(fault) => return Ended { fault: Some(fault), receipts: Vec::new(), receipted: 0 },
        }
    }
}

async fn upload(
    test: &mut Test,
    connection: &mut Connection,
    sent: &AtomicU64,
) -> Result<(Head, Received), Fault> {
    let path = format!("{UP}?test={}", test.id);
    let more =
        UNTOUCHED.to_owned() + "transfer-encoding: chunked\r\ncontent-type: application/octet-stream\r\n";
    let more = more + &authorization(&test.target);
    let Connection { reader, writer, .. } = connection;
    writer.head("POST", &path, &more).await?;
    let mut writing = pin!(write(test, writer, sent));
    let mut answering = pin!(answer(reader));
    let wrote = tokio::select! {
        biased;
        answer = &mut answering => return answer, // before its time: it refuses, or has had enough
        wrote = &mut writing => wrote,
    };
    match wrote {
        Ok(()) => answering.await,
        // A peer that refuses closes the connection; why it does may have come before.
        Err(broken) => timeout(LAST_WORD, answering).await.unwrap_or(Err(broken.into())),
    }
}

async fn answer(reader: &mut Reader) -> Result<(Head, Received), Fault> {
    reader.answer().await
}

async fn write(test: &mut Test, writer: &mut Writer, sent: &AtomicU64) -> io::Result<()> {
    let mut chunks = Chunks::default();
    while !*test.stopped.borrow() && chunks.payload() < UPLOAD {
        let next = chunks.next();
        let wrote = async {
            let may = test.meter.reserve(next.len() as u64).await;
            let wrote = writer.wire.write(&next[..may as usize]).await;
            test.meter.moved(*wrote.as_ref().unwrap_or(&0) as u64, may);
            wrote
        };
        let wrote = tokio::select! {
            wrote = wrote => wrote?,
            _ = test.stopped.changed() => break, // the chunk that has begun is all that follows
        };
        if wrote == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        chunks.sent(wrote);
        sent.store(chunks.payload(), Ordering::Relaxed);
    }
    writer.wire.write_all(chunks.rest()).await?;
    writer.wire.write_all(LAST_CHUNK).await?;
    writer.wire.flush().await
}
