//! Peers that are slow, silent, full, gone, wrong or lie.

use std::io::Result as IoResult;
use std::time::{Duration, Instant};

use gx_core::measurement::{Confidence, Doubt, Sample, Stop, Target};
use gx_core::plugin::*;
use gx_core::stream::{Output, pipe};
use gx_core::units::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{Config, Speedtest};

/// What a peer does with a request that is no ping, told by method and path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Sends and counts as it should, so many bytes each 10 ms.
    Honest(usize),
    /// As honest, of zeros.
    Zeros,
    /// As honest, from a cache.
    Cached,
    /// Sends so many bytes, and then nothing any more.
    Stalls(usize),
    /// Sends so many bytes, closes, and lets nobody in again.
    Vanishes(usize),
    /// Promises more than was asked for.
    TooLong,
    /// Goes on after the end of what it promised.
    Endless,
    /// Has been measured enough.
    Busy,
    /// Is something else.
    Garbage,
    /// Answers nothing, not even pings.
    Silent,
    /// Answers pings with the same words each time.
    Parrot,
    /// Says it received twice as much.
    Boasts,
    /// Never says what it received.
    Mute,
    /// Reads nothing for a second, and then all at once, as a proxy that holds an upload back makes it look.
    Holds,
}

async fn peer(manner: Manner) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut served = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            served.push(tokio::spawn(async move { serve(stream, manner).await }));
            let vanishing = matches!(manner, Manner::Vanishes(_)) && served.len() == 3;
            if vanishing {
                return; // which closes the listener; probe and streams are there
            }
        }
    });
    Target { address, node_id: None, plain: true, token: None }
}

async fn serve(mut stream: TcpStream, manner: Manner) -> IoResult<()> {
    loop {
        let head = head(&mut stream).await?;
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let value =
            |key: &str| path.split(['?', '&']).find_map(|pair| pair.strip_prefix(key)).unwrap_or_default();
        match manner {
            Manner::Silent => std::future::pending().await,
            Manner::Garbage => stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").await?,
            Manner::Parrot => json(&mut stream, r#"{"n":"polly"}"#).await?,
            _ if path.starts_with("/speedtest/ping") => {
                json(&mut stream, &format!(r#"{{"n":"{}"}}"#, value("n="))).await?;
            }
            Manner::Busy => {
                let head =
                    "HTTP/1.1 429 x\r\nretry-after: 7\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                stream.write_all(head.as_bytes()).await?;
                return Ok(());
            }
            _ if path.starts_with("/speedtest/up") => take(&mut stream, manner).await?,
            _ => give(&mut stream, manner, value("bytes=").parse().unwrap()).await?,
        }
    }
}

async fn head(stream: &mut TcpStream) -> IoResult<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

async fn json(stream: &mut TcpStream, body: &str) -> IoResult<()> {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await
}

async fn give(stream: &mut TcpStream, manner: Manner, asked: usize) -> IoResult<()> {
    let length = match manner {
        Manner::TooLong => asked + 1,
        Manner::Endless => 1_000,
        _ => asked,
    };
    let cached = if manner == Manner::Cached { "age: 7\r\n" } else { "" };
    let head = format!("HTTP/1.1 200 OK\r\n{cached}content-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let piece = match manner {
        Manner::Honest(piece) => piece,
        _ => 100_000,
    };
    let mut bytes = vec![0; piece];
    if manner != Manner::Zeros {
        noise(&mut bytes);
    }
    let mut sent = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    loop {
        pace.tick().await;
        let now = match manner {
            Manner::Stalls(all) if sent >= all => std::future::pending().await,
            Manner::Vanishes(all) if sent >= all => return Err(std::io::ErrorKind::BrokenPipe.into()),
            Manner::Endless => piece,
            _ => piece.min(length - sent),
        };
        if now == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..now]).await?;
        sent += now;
    }
}

/// Fills with what no compressor can do anything with (xorshift).
fn noise(bytes: &mut [u8]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for byte in bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = (state >> 32) as u8;
    }
}

/// Reads a chunked body, and says what arrived when.
async fn take(stream: &mut TcpStream, manner: Manner) -> IoResult<()> {
    let began = Instant::now();
    if manner == Manner::Holds {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    let held = Instant::now();
    let mut timeline = vec![(0.0, 0)];
    let mut total = 0_u64;
    let mut buffer = vec![0; 70_000];
    // What a busy machine lets it sleep too long is made up for.
    let mut pace = tokio::time::Instant::now();
    loop {
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            size.push(stream.read_u8().await?);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
        stream.read_exact(&mut buffer[..size + 2]).await?;
        if size == 0 {
            break;
        }
        total += size as u64;
        if matches!(manner, Manner::Vanishes(all) | Manner::Stalls(all) if total >= all as u64) {
            match manner {
                Manner::Stalls(_) => std::future::pending().await,
                _ => return Err(std::io::ErrorKind::BrokenPipe.into()),
            }
        }
        let since = if manner == Manner::Holds { held } else { began };
        timeline.push((since.elapsed().as_secs_f64() * 1e3, total));
        if let Manner::Honest(piece) = manner {
            pace += Duration::from_millis(10).mul_f64(size as f64 / piece as f64);
            tokio::time::sleep_until(pace).await;
        }
    }
    if manner == Manner::Mute {
        std::future::pending::<()>().await;
    }
    let factor = if manner == Manner::Boasts { 2 } else { 1 };
    let step = timeline.len().div_ceil(500);
    let last = *timeline.last().unwrap();
    let readings: Vec<String> = timeline
        .into_iter()
        .step_by(step)
        .chain([last])
        .map(|(at, bytes)| format!(r#"{{"at_ms":{at},"bytes":{}}}"#, bytes * factor))
        .collect();
    json(stream, &format!(r#"{{"bytes":{},"timeline":[{}]}}"#, total * factor, readings.join(","))).await
}

async fn speedtest() -> Speedtest {
    let config = Config { connect_timeout: Span(Duration::from_secs(3)), streams: 2 };
    let context = PluginContext {
        name: "speedtest".parse().unwrap(),
        state_dir: "/nonexistent".into(),
        host_version: "0.0.0".to_owned(),
    };
    Speedtest::new(config, context).await.unwrap()
}

async fn download(manner: Manner) -> Result<Throughput> {
    let budget = Budget { bytes: 50_000_000, ..Budget::default() };
    speedtest().await.download(peer(manner).await, budget, Output::null()).await
}

async fn upload(manner: Manner) -> Result<Throughput> {
    let budget = Budget { bytes: 50_000_000, time_ms: 2_000, ..Budget::default() };
    speedtest().await.upload(peer(manner).await, budget, Output::null()).await
}

#[tokio::test]
async fn an_honest_peer_is_measured_and_readings_come_on_the_way() {
    let (out, items) = pipe(1 << 20);
    let target = peer(Manner::Honest(50_000)).await;
    let told = speedtest().await.download(target, Budget::default(), out).await.unwrap();
    // Two connections of 50,000 bytes each 10 ms.
    assert!((told.goodput_bps.0 / 80e6 - 1.0).abs() < 0.3, "{told:?}");
    assert!(matches!(told.stop, Stop::Stable | Stop::Time), "{told:?}");
    assert!(told.confidence != Confidence::Low && told.doubts.is_empty(), "{told:?}");
    assert!(told.loaded.unwrap().probes > 0 && told.measured_at.is_some());
    let readings: Vec<Sample> = items.events().await;
    assert!(readings.len() >= 8 && readings.is_sorted_by(|a, b| a.at_ms < b.at_ms && a.bytes <= b.bytes));
}

#[tokio::test]
async fn an_upload_is_what_the_peer_received() {
    let told = upload(Manner::Honest(20_000)).await.unwrap();
    assert!((told.goodput_bps.0 / 32e6 - 1.0).abs() < 0.3, "{told:?}");
    assert!(!told.doubts.contains(&Doubt::Unconfirmed), "{told:?}");
    assert!(told.retransmit_pct.is_some() && told.congestion_control.is_some(), "{told:?}");
}

#[tokio::test]
async fn what_is_faster_than_real_is_doubted() {
    for (manner, doubt) in [(Manner::Zeros, Doubt::Compressible), (Manner::Cached, Doubt::Cached)] {
        let told = download(manner).await.unwrap();
        assert!(told.doubts.contains(&doubt), "{manner:?} {told:?}");
        assert_eq!(told.confidence, Confidence::Low);
    }
}

#[tokio::test]
async fn a_peer_that_stops_or_vanishes_leaves_a_figure_of_what_was() {
    for manner in [Manner::Stalls(5_000_000), Manner::Vanishes(5_000_000)] {
        let began = Instant::now();
        let told = download(manner).await.unwrap();
        assert_eq!((told.stop, told.confidence), (Stop::Error, Confidence::Low), "{manner:?} {told:?}");
        assert!(told.bytes >= 5_000_000 && told.fault.is_some(), "{told:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{manner:?}");
    }
}

#[tokio::test]
async fn an_upload_to_a_peer_that_stops_or_vanishes_ends_and_is_not_sure() {
    for manner in [Manner::Stalls(3_000_000), Manner::Vanishes(3_000_000)] {
        let began = Instant::now();
        match upload(manner).await {
            Ok(told) => {
                assert_eq!(told.confidence, Confidence::Low, "{manner:?} {told:?}");
                assert!(told.doubts.contains(&Doubt::Unconfirmed), "{manner:?} {told:?}");
            }
            Err(error) => assert!(error.hint.is_some(), "{manner:?} {error}"),
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{manner:?}");
    }
}

#[tokio::test]
async fn a_peer_that_cannot_be_measured_is_an_error_with_a_hint() {
    use ErrorCode as E;
    for (manner, code) in [
        (Manner::TooLong, E::FailedPrecondition),
        (Manner::Busy, E::ResourceExhausted),
        (Manner::Garbage, E::FailedPrecondition),
        (Manner::Silent, E::DeadlineExceeded),
        (Manner::Parrot, E::FailedPrecondition),
    ] {
        let error = download(manner).await.unwrap_err();
        assert_eq!(error.code, code, "{manner:?} {error}");
        assert!(error.hint.is_some(), "{error}");
    }
    assert_eq!(upload(Manner::Busy).await.unwrap_err().retry_after_ms, Some(7_000));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let target = Target { address: nobody.to_string(), node_id: None, plain: true, token: None };
    let error = speedtest().await.latency(target).await.unwrap_err();
    assert_eq!(
        (error.code, error.message),
        (E::Unavailable, format!("cannot connect to {nobody}: connection refused"))
    );
}

#[tokio::test]
async fn what_comes_after_the_end_of_an_answer_is_no_answer() {
    let ended = download(Manner::Endless).await;
    let fault = ended.map_or_else(|error| error.message, |told| told.fault.unwrap());
    assert!(fault.starts_with("the peer's answer is not one of a speed test"), "{fault}");
}

#[tokio::test]
async fn a_peer_that_lies_of_an_upload_or_says_nothing_is_not_believed() {
    for manner in [Manner::Boasts, Manner::Mute] {
        let told = upload(manner).await.unwrap();
        assert_eq!(told.doubts, [Doubt::Unconfirmed].into(), "{manner:?} {told:?}");
        assert_eq!(told.confidence, Confidence::Low);
    }
    let told = upload(Manner::Holds).await.unwrap();
    assert!(told.doubts.contains(&Doubt::Disagreement), "{told:?}");
}

#[tokio::test]
async fn latency_is_of_the_peer_and_not_of_the_connection() {
    let latency = speedtest().await.latency(peer(Manner::Honest(1)).await).await.unwrap();
    assert!(
        latency.min_ms.0 > 0.0 && latency.min_ms <= latency.median_ms && latency.median_ms <= latency.p95_ms
    );
    assert_eq!(latency.loss, 0.0);
    assert!(latency.connect_ms.0 > 0.0);
}
