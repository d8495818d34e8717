//! `gx port`: where the ports of a container are on the host.

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::Protocol;
use gx_core::api::{ContainerInfo, PublishedPort};
use serde::Serialize;

use super::{Context, completions};
use crate::error::{CliError, Result};
use crate::output::{Show, View};

const EXAMPLES: &str = "\
Examples:
  gx port web
  gx port web 80                 127.0.0.1:20000, or whatever it is
  gx port web 53/udp
  curl http://$(gx port web 80)";

/// What `gx port` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PortArgs {
    /// Its id, shortened as far as it is unique, or its name
    #[arg(value_name = "ID", add = ArgValueCandidates::new(completions::containers))]
    pub id: String,
    /// The port in the container, as 80 or 53/udp; or `ssh` or `vnc`
    #[arg(value_name = "PORT")]
    pub port: Option<Wanted>,
}

/// A port in the container, or what gx itself has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// By its number.
    Number(u16, Protocol),
    /// By its name.
    Name(String),
}

impl std::str::FromStr for Wanted {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "ssh" | "vnc") {
            return Ok(Self::Name(text.to_owned()));
        }
        let (number, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((number, "tcp")) => (number, Protocol::Tcp),
            Some((number, "udp")) => (number, Protocol::Udp),
            Some(_) => ("", Protocol::Tcp),
        };
        let number = number.parse().ok().filter(|number| *number != 0);
        let bad = || {
            format!(
                "{text:?} is not a port: it is a number from 1 to 65535, with /udp for UDP, or ssh or vnc"
            )
        };
        Ok(Self::Number(number.ok_or_else(bad)?, protocol))
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number, protocol) => write!(f, "{number}/{protocol}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

pub(crate) async fn run(args: PortArgs, context: &Context<'_>) -> Result {
    let info = context.target().await?.show(&args.id).await?;
    context.out.show(&chosen(info, args.port)?)
}

fn chosen(info: ContainerInfo, wanted: Option<Wanted>) -> Result<Ports> {
    let Some(wanted) = wanted else {
        return Ok(Ports { ports: info.ports, alone: false });
    };
    let fits = |port: &PublishedPort| match &wanted {
        Wanted::Number(number, protocol) => (port.container_port, port.protocol) == (*number, *protocol),
        Wanted::Name(name) => port.name.as_ref() == Some(name),
    };
    let ports: Vec<_> = info.ports.into_iter().filter(fits).collect();
    if ports.is_empty() {
        let told = CliError::failed(format!("{} has no published port {wanted}", info.name));
        return Err(told.hint(format!("gx port {} lists those there are", info.name)));
    }
    Ok(Ports { ports, alone: true })
}

#[derive(Serialize)]
struct Ports {
    ports: Vec<PublishedPort>,
    /// One port was asked for, which need not be said again.
    #[serde(skip)]
    alone: bool,
}

impl Show for Ports {
    fn text(&self, _: &View) -> String {
        let line = |port: &PublishedPort| {
            let name = port.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
            match self.alone {
                true => format!("{}\n", port.address()),
                false => format!("{}/{}{name} -> {}\n", port.container_port, port.protocol, port.address()),
            }
        };
        self.ports.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::list;
    use gx_core::ContainerState;

    fn info() -> ContainerInfo {
        let mut info = list::tests::container("web", ContainerState::Running);
        let ssh = serde_json::json!({
            "name": "ssh", "container_port": 7468, "protocol": "tcp", "host_address": "::1", "host_port": 20001,
        });
        info.ports.push(serde_json::from_value(ssh).unwrap());
        info
    }

    #[test]
    fn ports_are_listed_as_docker_does_and_one_stands_alone() {
        let text = |wanted: Option<&str>| {
            chosen(info(), wanted.map(|wanted| wanted.parse().unwrap()))
                .map(|ports| ports.text(&View::plain()))
        };
        assert_eq!(text(None).unwrap(), "80/tcp -> 127.0.0.1:20000\n7468/tcp (ssh) -> [::1]:20001\n");
        assert_eq!(text(Some("80")).unwrap(), "127.0.0.1:20000\n");
        assert_eq!(text(Some("ssh")).unwrap(), "[::1]:20001\n");
        assert_eq!(text(Some("80/udp")).unwrap_err().message, "web has no published port 80/udp");
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for bad in ["", "0", "70000", "http", "80/sctp", "-1"] {
            assert!(bad.parse::<Wanted>().is_err(), "{bad:?}");
        }
    }
}
