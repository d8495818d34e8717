//! A connection that is cut on purpose: what was said before must follow without a gap when it is back. Nothing is sent to
//! a group.

use gx_chat::chain::Chain;
use gx_chat::client::Week;
use gx_chat::frames::{Auth, ClientFrame, Hello, MAX_PAGE, Message, ServerFrame, VERSION};
use gx_chat::{ChainHash, DeviceId, GroupId, Seq, UserName};
use gx_client::ChatSocket;

use super::ask::password_in;
use super::link::{Dialled, Road, dial, fresh, refused};
use super::remote::Remote;
use crate::error::{CliError, Kind, Result};

/// A connection, its welcome, and what proved the user.
type Way = (Box<ChatSocket>, ServerFrame, &'static str);

/// Signs in by what is here, and asks nobody.
pub(super) async fn sign_in(road: &mut Road, week: &mut Week) -> Result<Way> {
    let hello = hello(None)?;
    if let Some(way) = road.sign_in_unasked(week, &hello).await? {
        return Ok(way);
    }
    let Some(file) = road.password_file() else {
        let told = format!("nothing here proves {}", road.user);
        return Err(CliError::new(Kind::NotAllowed, told)
            .hint("`gx chat` asks for the password once; --password-file FILE names a file with it")
            .hint("--as names another user"));
    };
    let password = password_in(file)?;
    match dial(road.client.clone(), hello(week, &road.user, Auth::Password { password })?).await? {
        Dialled::In(socket, welcome) => {
            if let ServerFrame::Welcome { token: Some(token), .. } = &*welcome {
                week.set_token(Some(token))?;
            }
            Ok((socket, *welcome, "password"))
        }
        Dialled::Refused(why) => Err(refused(&road.user, &why)),
    }
}

/// Reads the last messages of a group, cuts the connection, comes back from the middle of them, and compares. Returns what
/// came out.
pub(super) async fn compare(
    road: Road,
    week: Week,
    socket: Box<ChatSocket>,
    welcome: ServerFrame,
) -> Result<String> {
    let mut before = Remote::welcomed(socket, welcome, week)?;
    let Some(group) = before.rights.groups.iter().find(|group| group.r).map(|group| group.g.clone()) else {
        return Ok("no group may be read: there is nothing to compare".to_owned());
    };
    let said = page(&mut before, &group, None).await?;
    let mut week = road.week()?;
    drop(before); // without a good-bye, as a cable does
    let middle = said.get(said.len() / 2).map(|message| (group.clone(), message.seq, message.h));
    let way = road.sign_in_unasked(&mut week, hello(middle.clone())?).await?;
    let (socket, welcome, _) = way.ok_or_else(|| {
        CliError::new(Kind::NotAllowed, format!("{} does not get in again after a cut", road.user))
            .hint("try again; if it stays so, look at the server's log")
    })?;
    let mut after = Remote::welcomed(socket, welcome, week)?;
    let again = match &middle {
        Some((_, seq, _)) => page(&mut after, &group, Some(*seq)).await?,
        None => Vec::new(),
    };
    let has_other = after.rights.groups.iter().any(|rights| rights.g == group && rights.reset);
    after.close().await;
    if has_other {
        return Err(not_the_same("the server has other messages than a moment ago"));
    }
    judge(&group, &said, &again).map_err(|why| not_the_same(&why))?;
    Ok(format!(
        "cut and back: {} messages of {group} follow one another, none lost and none twice",
        said.len()
    ))
}

/// Compares what was said before the cut with what came from its middle on after it.
fn judge(group: &GroupId, said: &[Message], again: &[Message]) -> std::result::Result<(), String> {
    if said.is_empty() {
        return Ok(());
    }
    let (first, second) = said.split_at(said.len() / 2 + 1);
    let mut chain = Chain::new(group.clone());
    for message in first.iter().chain(again) {
        chain.take(message).map_err(|error| error.to_string())?;
    }
    match again.starts_with(second) {
        true => Ok(()),
        false => Err(format!("of {} messages not all came again", second.len())),
    }
}

fn not_the_same(why: &str) -> CliError {
    CliError::failed("what was said is not the same after a cut")
        .cause(why)
        .hint("`gx chat doctor` on the server checks what is stored; restore a backup if that fails too")
}

async fn page(remote: &mut Remote, group: &GroupId, after: Option<Seq>) -> Result<Vec<Message>> {
    let g = group.clone();
    let ask = |id| ClientFrame::Hist { id, g, after, before: None, since: None, limit: MAX_PAGE };
    match remote.ask(ask).await? {
        ServerFrame::Page { m, .. } => Ok(m),
        _ => Err(CliError::new(Kind::Unreachable, "the chat's server answers something else")
            .hint("is it a gx of this version?")),
    }
}

/// Returns what makes the first frame, of a device that has a group up to a message.
fn hello(
    has: Option<(GroupId, Seq, ChainHash)>,
) -> Result<impl Fn(&Week, &UserName, Auth) -> Result<ClientFrame>> {
    let fresh: DeviceId = format!("d-{}", fresh()).parse()?;
    Ok(move |week: &Week, user: &UserName, auth: Auth| {
        let device = week.device(&fresh)?;
        let resume = has.iter().map(|(group, seq, _)| (group.clone(), *seq)).collect();
        let chain = has.iter().map(|(group, _, hash)| (group.clone(), *hash)).collect();
        Ok(ClientFrame::Hello(Hello { v: VERSION, user: user.clone(), auth, device, resume, chain }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_chat::chain::link;

    fn said(count: u64) -> (GroupId, Vec<Message>) {
        let (group, from): (GroupId, UserName) = ("h".parse().unwrap(), "A".parse().unwrap());
        let mut before = ChainHash::ROOT;
        let message = |number| {
            let (seq, cid) = (Seq::new(number).unwrap(), format!("c{number}").parse().unwrap());
            before = link(&before, &group, (seq, number), &from, &cid, "text");
            Message { seq, ts: number, from: from.clone(), cid, text: "text".to_owned(), h: before }
        };
        let messages = (1..=count).map(message).collect();
        (group, messages)
    }

    #[test]
    fn what_is_lost_or_comes_twice_is_told() {
        let (group, all) = said(9);
        let before = &all[..7];
        assert_eq!(judge(&group, &[], &[]), Ok(()));
        assert_eq!(judge(&group, before, &all[4..]), Ok(()), "what is new is no fault");
        assert_eq!(judge(&group, before, &all[4..7]), Ok(()));
        assert!(judge(&group, before, &all[5..]).unwrap_err().contains("missing"));
        assert!(judge(&group, before, &all[3..]).unwrap_err().contains("in its place"));
        assert!(judge(&group, before, &all[4..6]).is_err());
        let mut forged = all[4..].to_vec();
        forged[1].text = "another".to_owned();
        assert!(judge(&group, before, &forged).is_err());
    }
}
