//! Servers that are asked too often from one address say when to come again. Whoever comes no more then has no chance beside
//! those who keep asking.

use std::time::Duration;

use gx_client::ClientError;
use gx_core::{ErrorCode, api::ApiError};

/// How often one request is made again at most.
const TRIES: u32 = 6;
/// The longest pause that is waited for, so that a request that has to wait is no straggler.
const LONGEST: Duration = Duration::from_millis(300);

/// Waits for one request's turn.
#[derive(Debug, Default)]
pub(crate) struct Turns(u32);

impl Turns {
    /// Waits as long as the server asks for, if it does. Returns whether to try again.
    pub(crate) async fn wait(&mut self, error: &ClientError) -> bool {
        let Some(pause) = pause(error).filter(|pause| *pause <= LONGEST && self.0 < TRIES) else {
            return false;
        };
        self.0 += 1;
        // Up to half as long again: those who were sent away together are not to come back together.
        let spread = pause.mul_f64(crate::random() as u8 as f64 / 512.0);
        tokio::time::sleep(pause + spread).await;
        true
    }
}

/// Returns how long a server that is asked too often wants to be left alone.
pub(crate) fn pause(error: &ClientError) -> Option<Duration> {
    match error {
        ClientError::Host(ApiError {
            code: ErrorCode::ResourceExhausted, retry_after_ms: Some(ms), ..
        }) => Some(Duration::from_millis(u64::from(*ms))),
        _ => None,
    }
}
