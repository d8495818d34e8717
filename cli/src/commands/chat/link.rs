//! The way into the chat: which server, which user, and how the user is proved.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use gx_chat::client::{Week, WeekError};
use gx_chat::frames::{Auth, ClientFrame, ErrorCode, ServerFrame};
use gx_chat::{GroupId, UserName};
use gx_client::{ChatSocket, Client};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::commands::Context;
use crate::error::{CliError, Kind, Result};
use crate::hosts::Hosts;
use crate::peers;
use crate::road;
use crate::settings::Settings;
use crate::target::LOCAL;

/// The label by which servers say in the table that they serve the chat.
const LABEL: &str = "chat";
/// How long the answer to a sign-in may take.
const SIGN_IN: Duration = Duration::from_secs(30);
/// The longest password that is read, in bytes.
const MAX_PASSWORD: u64 = 4_096;

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
        let on = server(&settings, context)?;
        let client = road::open(&on, &settings.data, context.out).await?;
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
        Ok(Self { client, user, is_named, data: settings.data, password_file: args.password_file.clone() })
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
        if let Some(token) = week.token()? {
            match dial(self.client.clone(), hello(week, &self.user, Auth::Token { token })?).await? {
                Dialled::In(socket, welcome) => return Ok((socket, *welcome)),
                Dialled::Refused(_) => week.set_token(None)?,
            }
        }
        if self.client.node().is_some()
            && self.password_file.is_none()
            && let Dialled::In(socket, welcome) =
                dial(self.client.clone(), hello(week, &self.user, Auth::Key {})?).await?
        {
            return Ok((socket, *welcome));
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

    fn password(&self) -> Result<String> {
        match &self.password_file {
            Some(file) => password_in(file),
            None if can_ask() => ask_password(&format!("password of {}: ", self.user)),
            None => Err(CliError::new(
                Kind::NotAllowed,
                format!("the chat asks for the password of {}", self.user),
            )
            .hint("--password-file FILE names a file with it; --as USER names another user")),
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
}

impl From<WeekError> for CliError {
    fn from(error: WeekError) -> Self {
        Self::failed(error.to_string()).sources(&error).hint(error.hint())
    }
}

/// Returns the host of the chat, as the node with this machine's key.
pub(super) async fn host(context: &Context<'_>) -> Result<Client> {
    let settings = context.settings()?;
    road::open(&server(&settings, context)?, &settings.data, context.out).await
}

/// Returns where the chat is: what was named, what is configured, this machine where it serves one, what the table of servers
/// says, the one host that was joined.
fn server(settings: &Settings, context: &Context<'_>) -> Result<String> {
    if settings.config.client.on != LOCAL {
        return Ok(settings.config.client.on.clone());
    }
    if let Some(server) = &settings.config.chat.server {
        return Ok(server.clone());
    }
    if settings.config.chat.policy.is_some() {
        return own(settings);
    }
    let table = peers::open(settings, context.out)?;
    let chats: Vec<peers::PeerInfo> = (peers::infos(&table, settings)?.into_iter())
        .filter(|info| info.record.as_ref().is_some_and(|record| record.labels.contains_key(LABEL)))
        .collect();
    let hint = "`server` in [chat] names one, and so does --on";
    match chats.as_slice() {
        [one] => Ok(match (&one.name, one.node_id, one.addresses.first()) {
            (Some(name), ..) => name.clone(),
            (None, Some(node), Some(address)) => format!("{node}@{address}"),
            _ => return Err(CliError::failed("the chat's server has no address").hint(hint)),
        }),
        [] => match Hosts::of(&settings.data).all()?.as_slice() {
            [one] => Ok(one.name.to_string()),
            _ => Err(CliError::usage("no server of the chat is known")
                .hint(hint)
                .hint("`gx join TICKET` joins one")),
        },
        several => {
            let titles: Vec<String> = several.iter().map(peers::PeerInfo::title).collect();
            Err(CliError::usage(format!("several servers have a chat: {}", titles.join(", "))).hint(hint))
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

fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn ask_user(system: Option<&UserName>) -> Result<UserName> {
    if !can_ask() {
        return Err(CliError::usage("nobody is named who talks").hint("--as USER, or `user` in [chat]"));
    }
    let offer = system.map(|user| format!(" [{user}]")).unwrap_or_default();
    let line = ask(&format!("user{offer}: "))?;
    match (line.trim(), system) {
        ("", Some(user)) => Ok(user.clone()),
        (name, _) => Ok(name.parse()?),
    }
}

fn ask(question: &str) -> Result<String> {
    let fail = |error: std::io::Error| CliError::io("cannot ask on the terminal", &error);
    let mut stderr = std::io::stderr();
    stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush()).map_err(fail)?;
    let mut line = String::new();
    std::io::stdin().lock().take(MAX_PASSWORD).read_line(&mut line).map_err(fail)?;
    match line.is_empty() {
        true => Err(CliError::new(Kind::Interrupted, "interrupted")),
        false => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

/// Asks without showing what is typed.
pub(super) fn ask_password(question: &str) -> Result<String> {
    let fail = |error: rustix::io::Errno| CliError::io("cannot set the terminal", &error.into());
    let before = tcgetattr(std::io::stdin()).map_err(fail)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent).map_err(fail)?;
    let answer = ask(question);
    // Where the terminal is gone there is nothing to give back.
    let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
    let _ = std::io::stderr().write_all(b"\n");
    answer
}

/// Returns the first line of a file.
pub(super) fn password_in(file: &std::path::Path) -> Result<String> {
    let mut bytes = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().take(MAX_PASSWORD).read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|file| file.take(MAX_PASSWORD).read_to_end(&mut bytes)),
    };
    read.map_err(|error| {
        CliError::io(format!("cannot read {}", file.display()), &error)
            .hint("name a file with the password in its first line")
    })?;
    let text = String::from_utf8(bytes).map_err(|_| {
        CliError::usage(format!("{} is not UTF-8", file.display()))
            .hint("a password is text, in the first line")
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
