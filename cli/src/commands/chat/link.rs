//! The way into the chat: which server, which user, and how the user is proved.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use gx_chat::client::{Week, WeekError};
use gx_chat::frames::{Auth, ClientFrame, ErrorCode, ServerFrame};
use gx_chat::{GroupId, UserName};
use gx_client::{ChatSocket, Client};
use gx_core::peers::CHAT_LABEL;

use super::ask::{ask_password, ask_user, can_ask, password_in};
use crate::commands::Context;
use crate::error::{CliError, Kind, Result};
use crate::hosts::{Host, Hosts};
use crate::peers;
use crate::road;
use crate::settings::Settings;
use crate::target::LOCAL;

/// How long the answer to a sign-in may take.
const SIGN_IN: Duration = Duration::from_secs(30);

/// What lets a machine in without a password.
const KEY_HINT: &str = "a machine whose key is not known, or is a new one, is let in by whoever runs the chat: `gx chat user add \
                        USER --node` with what `gx id` prints here";

/// Who talks, for every command of the chat.
#[derive(Debug, Clone, Default, Args)]
pub struct AsArgs {
    /// The user; without it `user` in [chat], else the system's user
    #[arg(long = "as", value_name = "USER")]
    pub user: Option<UserName>,
    /// Reads the password from the first line of this file; - for standard input. It is asked for once: the server then
    /// gives this machine a token
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
}

/// Where the chat is, and how that is known.
#[derive(Debug)]
pub(super) enum Place {
    /// A command names it.
    Named(String),
    /// `server` in `[chat]` names it.
    Configured(String),
    /// This machine serves it.
    Own(String),
    /// The table of servers says that it has one.
    Listed(String),
    /// It is the one host that was joined.
    Joined(String),
}

impl Place {
    /// Returns what opens the road to it.
    pub(super) fn on(&self) -> &str {
        match self {
            Self::Named(on) | Self::Configured(on) | Self::Own(on) | Self::Listed(on) | Self::Joined(on) => {
                on
            }
        }
    }

    /// Returns how it is known, in words.
    pub(super) fn why(&self) -> &'static str {
        match self {
            Self::Named(_) => "as it is named",
            Self::Configured(_) => "by `server` in [chat]",
            Self::Own(_) => "as this machine has a policy",
            Self::Listed(_) => "by the table of servers",
            Self::Joined(_) => "as the one host that was joined",
        }
    }
}

/// A server of the chat and a user of it.
pub(super) struct Road {
    pub(super) client: Client,
    pub(super) user: UserName,
    /// Whether the user was named, and is not only guessed.
    is_named: bool,
    data: PathBuf,
    password_file: Option<PathBuf>,
}

impl Road {
    /// Finds the server and the user.
    pub(super) async fn find(args: &AsArgs, context: &Context<'_>) -> Result<Self> {
        let settings = context.settings()?;
        let place = server(&settings, context)?;
        let client = road::open(place.on(), &settings.data, context.out).await?;
        Self::to(client, args, &settings, context)
    }

    /// Finds the user, for a server that is known.
    pub(super) fn to(
        client: Client,
        args: &AsArgs,
        settings: &Settings,
        context: &Context<'_>,
    ) -> Result<Self> {
        let named = match (&args.user, &settings.config.chat.user) {
            (Some(user), _) => Some(user.clone()),
            (None, Some(user)) => Some(user.parse::<UserName>().map_err(|error| {
                CliError::from(error).hint("`user` in [chat] names the user of the chat")
            })?),
            (None, None) => None,
        };
        let is_named = named.is_some();
        let user = match named.or_else(|| context.environment.user.as_deref()?.parse().ok()) {
            Some(user) => user,
            None => ask_user(None)?,
        };
        let (data, password_file) = (settings.data.clone(), args.password_file.clone());
        Ok(Self { client, user, is_named, data, password_file })
    }

    /// Returns the file with the password, if one was named.
    pub(super) fn password_file(&self) -> Option<&Path> {
        self.password_file.as_deref()
    }

    /// Opens what this machine keeps of the user's chat.
    pub(super) fn week(&self) -> Result<Week> {
        let server = match self.client.node() {
            Some(node) => node.to_string(),
            None => {
                format!("plain-{}", self.client.address().replace(|c: char| !c.is_ascii_alphanumeric(), "-"))
            }
        };
        let file = self.data.join("chat").join(server).join(format!("{}.db", self.user));
        Ok(Week::open(&file)?)
    }

    /// Signs in, by whatever proves the user: a token of before, the node's key, a password. `hello` makes the first frame.
    /// Returns the connection and the server's welcome.
    pub(super) async fn sign_in(
        &mut self,
        week: &mut Week,
        hello: impl Fn(&Week, &UserName, Auth) -> Result<ClientFrame>,
    ) -> Result<(Box<ChatSocket>, ServerFrame)> {
        if let Some((socket, welcome, _)) = self.sign_in_unasked(week, &hello).await? {
            return Ok((socket, welcome));
        }
        if !self.is_named && self.password_file.is_none() && can_ask() {
            self.user = ask_user(Some(&self.user))?;
            *week = self.week()?;
        }
        let password = self.password()?;
        match dial(self.client.clone(), hello(week, &self.user, Auth::Password { password })?).await? {
            Dialled::In(socket, welcome) => Ok((socket, *welcome)),
            Dialled::Refused(why) => Err(refused(&self.user, &why)),
        }
    }

    /// Signs in by what is here: a token of before, the node's key. Returns what it was, too; nothing where none of it does.
    pub(super) async fn sign_in_unasked(
        &self,
        week: &mut Week,
        hello: impl Fn(&Week, &UserName, Auth) -> Result<ClientFrame>,
    ) -> Result<Option<(Box<ChatSocket>, ServerFrame, &'static str)>> {
        if let Some(token) = week.token()? {
            match dial(self.client.clone(), hello(week, &self.user, Auth::Token { token })?).await? {
                Dialled::In(socket, welcome) => return Ok(Some((socket, *welcome, "token"))),
                Dialled::Refused(_) => week.set_token(None)?,
            }
        }
        if self.client.node().is_some()
            && self.password_file.is_none()
            && let Dialled::In(socket, welcome) =
                dial(self.client.clone(), hello(week, &self.user, Auth::Key {})?).await?
        {
            return Ok(Some((socket, *welcome, "key")));
        }
        Ok(None)
    }

    fn password(&self) -> Result<String> {
        match &self.password_file {
            Some(file) => password_in(file),
            None if can_ask() => ask_password(&format!("password of {}: ", self.user)),
            None => Err(CliError::new(
                Kind::NotAllowed,
                format!("the chat asks for the password of {}", self.user),
            )
            .hint("--password-file FILE names a file with it; --as USER names another user")
            .hint(KEY_HINT)),
        }
    }
}

/// What became of a sign-in.
pub(super) enum Dialled {
    In(Box<ChatSocket>, Box<ServerFrame>),
    /// It is not proved.
    Refused(String),
}

/// Connects and says the first frame.
pub(super) async fn dial(client: Client, hello: ClientFrame) -> Result<Dialled> {
    let mut socket = client.chat().await?;
    socket.send(vec![hello.to_text()]).await?;
    let address = client.address().to_owned();
    let silent = || CliError::new(Kind::Unreachable, format!("{address} does not answer the sign-in"));
    let first = tokio::time::timeout(SIGN_IN, socket.next()).await.map_err(|_| silent())??;
    let frame = first.ok_or_else(silent)?;
    match parse(&frame)? {
        welcome @ ServerFrame::Welcome { .. } => Ok(Dialled::In(Box::new(socket), Box::new(welcome))),
        ServerFrame::Error { code: ErrorCode::Auth, msg, .. } => Ok(Dialled::Refused(msg)),
        ServerFrame::Error { msg, retry_ms, .. } => {
            let told = CliError::failed("the chat does not let anybody in now").cause(msg);
            Err(retry_ms
                .into_iter()
                .fold(told, |told, ms| told.hint(format!("try again in {} s", ms.div_ceil(1_000)))))
        }
        ServerFrame::Closing { .. } => Err(CliError::new(Kind::Unreachable, "the chat's server is stopping")
            .hint("try again in some seconds")),
        _ => {
            Err(CliError::new(Kind::Unreachable, format!("{address} answers a sign-in with something else"))
                .hint("is it a gx of this version?"))
        }
    }
}

/// Reads a frame of the server.
pub(super) fn parse(text: &str) -> Result<ServerFrame> {
    ServerFrame::parse(text.as_bytes()).map_err(|error| {
        CliError::new(Kind::Unreachable, "the chat's server sends what is no frame").cause(error.to_string())
    })
}

pub(super) fn refused(user: &UserName, why: &str) -> CliError {
    CliError::new(Kind::NotAllowed, format!("the chat does not let {user} in"))
        .cause(why)
        .hint("--as names another user; whoever runs the chat makes accounts with `gx chat user add`")
        .hint(KEY_HINT)
}

impl From<WeekError> for CliError {
    fn from(error: WeekError) -> Self {
        Self::failed(error.to_string()).sources(&error).hint(error.hint())
    }
}

/// Returns the host of the chat, as the node with this machine's key.
pub(super) async fn host(context: &Context<'_>) -> Result<Client> {
    let settings = context.settings()?;
    road::open(server(&settings, context)?.on(), &settings.data, context.out).await
}

/// Returns where the chat is: what was named, what is configured, this machine where it serves one, what the table of servers
/// says, the one host that was joined.
pub(super) fn server(settings: &Settings, context: &Context<'_>) -> Result<Place> {
    if settings.config.client.on != LOCAL {
        return Ok(Place::Named(settings.config.client.on.clone()));
    }
    if let Some(server) = &settings.config.chat.server {
        return Ok(Place::Configured(server.clone()));
    }
    if settings.config.chat.policy.is_some() {
        return own(settings).map(Place::Own);
    }
    let table = peers::open(settings, context.out)?;
    let chats: Vec<peers::PeerInfo> = (peers::infos(&table, settings)?.into_iter())
        .filter(|info| info.record.as_ref().is_some_and(|record| record.labels.contains_key(CHAT_LABEL)))
        .collect();
    listed(&chats, &Hosts::of(&settings.data).all()?)
}

/// Returns the host that says it has a chat, of those that were joined: anybody may say so, and would then be given a
/// password.
fn listed(chats: &[peers::PeerInfo], joined: &[Host]) -> Result<Place> {
    let hint = "`server` in [chat] names one, and so does --on";
    let known: Vec<&Host> =
        (joined.iter()).filter(|host| chats.iter().any(|info| info.node_id == Some(host.node))).collect();
    match (known.as_slice(), joined, chats) {
        ([one], ..) => Ok(Place::Listed(one.name.to_string())),
        ([], [one], _) => Ok(Place::Joined(one.name.to_string())),
        ([], _, [stranger, ..]) => {
            let told = format!("{} says that it has a chat, and was never joined", stranger.title());
            Err(CliError::usage(told).hint("`gx join TICKET` joins it").hint(hint))
        }
        ([], ..) => Err(CliError::usage("no server of the chat is known")
            .hint(hint)
            .hint("`gx join TICKET` joins one")),
        (several, ..) => {
            let names: Vec<&str> = several.iter().map(|host| host.name.as_str()).collect();
            Err(CliError::usage(format!("several servers have a chat: {}", names.join(", "))).hint(hint))
        }
    }
}

/// Returns where the chat is that this machine itself serves.
fn own(settings: &Settings) -> Result<String> {
    let mut listen = settings.config.server.listen;
    if listen.ip().is_unspecified() {
        listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    Ok(match settings.config.server.plain {
        true => format!("plain:{listen}"),
        false => format!("{}@{listen}", road::own_key(&settings.data)?.id()),
    })
}

/// Returns a new text that no other run has.
pub(super) fn fresh() -> String {
    let mut bytes = [0_u8; 15];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("the system has randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the present, in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Parses the id of a group that was named.
pub(super) fn group(text: &str) -> Result<GroupId, String> {
    text.parse().map_err(|error: gx_core::id::ParseIdError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::NodeId;
    use gx_core::peers::{Freshness, Observation};

    fn host(name: &str, node: u8) -> Host {
        Host {
            name: name.parse().unwrap(),
            node: NodeId::from_bytes([node; 32]),
            addresses: vec!["192.0.2.1:7467".parse().unwrap()],
            since: peers::now(),
            knows: NodeId::from_bytes([9; 32]),
        }
    }

    fn chat(node: u8) -> peers::PeerInfo {
        peers::PeerInfo {
            node_id: Some(NodeId::from_bytes([node; 32])),
            name: None,
            addresses: vec!["192.0.2.1:7467".parse().unwrap()],
            state: Freshness::Live,
            quarantined: false,
            pinned: false,
            seen: Observation::default(),
            record: None,
        }
    }

    #[test]
    fn the_table_leads_to_a_chat_of_a_host_that_was_joined_and_to_no_others() {
        let (hq, box2) = (host("hq", 1), host("box", 2));
        let place = |chats: &[peers::PeerInfo], joined: &[Host]| match listed(chats, joined) {
            Ok(place) => format!("{} {}", place.on(), place.why()),
            Err(error) => error.to_string(),
        };
        let both = [hq.clone(), box2.clone()];
        assert_eq!(place(&[chat(2)], &both), "box by the table of servers");
        assert_eq!(place(&[chat(3), chat(1)], &both), "hq by the table of servers");
        assert_eq!(place(&[], &[hq]), "hq as the one host that was joined");
        assert_eq!(place(&[chat(1), chat(2)], &both), "several servers have a chat: hq, box");
        assert_eq!(place(&[], &both), "no server of the chat is known");
        // Anybody may say that they have one, and would be given a password.
        assert!(place(&[chat(3)], &both).ends_with("says that it has a chat, and was never joined"));
        assert!(place(&[chat(3)], &[]).ends_with("says that it has a chat, and was never joined"));
    }
}
