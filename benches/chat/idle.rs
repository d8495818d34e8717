//! A crowd that is signed in and says nothing.

use std::io::Write as _;
use std::path::Path;

use futures_util::future::try_join_all;
use gx_client::{ChatSocket, Client};
use gx_core::Endpoint;
use tokio::io::AsyncReadExt as _;

use crate::Result;
use crate::dialect::OF_A_USER;

/// Sign-ins at a time.
const TOGETHER: usize = 20;

/// Signs in so often, says so, and stays until the program's input ends; with TLS, as the node with the key in DATA.
pub(crate) async fn stay(address: &str, node: &str, data: &str, count: usize) -> Result<()> {
    let endpoint: Endpoint = address.parse()?;
    let client = match data {
        "-" => Client::plain(&endpoint),
        data => Client::to_node(&endpoint, node.parse()?, &gx_identity::open(Path::new(data))?),
    };
    let mut crowd = Vec::with_capacity(count);
    while crowd.len() < count {
        let next = crowd.len()..count.min(crowd.len() + TOGETHER);
        crowd.extend(try_join_all(next.map(|number| sign_in(&client, number))).await?);
    }
    println!("{{\"connected\":{}}}", crowd.len());
    std::io::stdout().flush()?;
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

async fn sign_in(client: &Client, number: usize) -> Result<ChatSocket> {
    let mut socket = client.chat().await?;
    let user = number / OF_A_USER + 1;
    let hello =
        format!(r#"{{"t":"hello","v":1,"user":"Reader{user}","auth":{{"by":"key"}},"device":"d{number}"}}"#);
    socket.send(vec![hello]).await?;
    match socket.next().await? {
        Some(frame) if frame.contains(r#""t":"welcome""#) => Ok(socket),
        other => Err(format!("no welcome: {other:?}").into()),
    }
}
