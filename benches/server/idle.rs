//! A crowd that does nothing: strangers with keys of their own, at many addresses of loopback.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::try_join_all;
use gx_identity::tls::{ClientStream, Connector};
use tokio::net::{TcpSocket, TcpStream};

use crate::{Result, Server, until_input_ends};

/// Strangers at one address: a host has 256 places for those.
const AT_AN_ADDRESS: usize = 250;
/// Handshakes at a time.
const TOGETHER: usize = 50;

/// Connects so often, says so, and stays until the program's input ends; then says how many the host has kept.
pub(crate) async fn stay(server: Server, count: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = gx_identity::open(folder.path())?;
    let connector = Connector::to_node(server.node, &key);
    let mut crowd = Vec::with_capacity(count);
    while crowd.len() < count {
        let next = crowd.len()..count.min(crowd.len() + TOGETHER);
        crowd.extend(try_join_all(next.map(|number| connect(server, &connector, number))).await?);
    }
    println!("{{\"connected\":{}}}", crowd.len());
    io::stdout().flush()?;
    until_input_ends().await?;
    let kept = crowd.iter().filter(|stream| is_open(stream)).count();
    println!("{{\"kept\":{kept}}}");
    Ok(())
}

async fn connect(server: Server, connector: &Connector, number: usize) -> Result<ClientStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    let place = u8::try_from(number / AT_AN_ADDRESS)?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, place), 0)))?;
    Ok(connector.connect(socket.connect(server.address).await?).await?.0)
}

/// Returns whether the host has said nothing: it says nothing but that it closes the connection.
fn is_open(stream: &ClientStream<TcpStream>) -> bool {
    matches!(stream.get_ref().0.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
