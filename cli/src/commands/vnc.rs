//! `gx vnc`: where a container's desktop is, or the desktop in the browser.

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::api::{Service, VncAccess};
use gx_server::page::{File, Page, Site};
use serde::Serialize;

use super::{Context, completions};
use crate::browser;
use crate::error::{CliError, Result};
use crate::output::{Pairs, Show, View};
use crate::target::{Duplex, Target};

mod files;

const EXAMPLES: &str = "\
Examples:
  gx vnc mydesk             where an ordinary VNC client finds the desktop
  gx vnc --open mydesk      the desktop in the browser, until Ctrl-C
  gx --on 192.168.1.7 vnc --open mydesk

The password was shown by gx create, and by nothing since; `gx passwd ID` makes a new one. The page asks for it.

--open needs no port but the host's own: the page is served on this machine's loopback, and its connection goes through \
the host. BROWSER names another browser.";

/// What `gx vnc` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct VncArgs {
    /// Its id, shortened as far as it is unique, or its name
    #[arg(value_name = "ID", add = ArgValueCandidates::new(completions::containers))]
    pub id: String,
    /// Opens the desktop in the browser, and serves it until Ctrl-C
    #[arg(long)]
    pub open: bool,
}

pub(crate) async fn run(args: VncArgs, context: &Context<'_>) -> Result {
    let target = context.target().await?;
    let info = target.show(&args.id).await?;
    let Some(vnc) = info.vnc else {
        return Err(CliError::failed(format!("{} has no desktop", info.name))
            .hint("gx images shows which images have one; gx create gx-desktop makes a container with one"));
    };
    if !args.open {
        return context.out.show(&Access(vnc));
    }
    let page = Page::listen().await?;
    let opened = browser::Opened { url: page.url() };
    context.out.item(&opened)?;
    browser::open(&context.environment, &opened.url, context.out);
    page.serve(Desktop { target: target.clone(), id: info.id.to_string() }, std::future::pending()).await;
    Ok(())
}

/// The page of one desktop.
struct Desktop {
    target: Target,
    id: String,
}

impl Site for Desktop {
    type Stream = Box<dyn Duplex>;

    fn file(&self, path: &str) -> Option<File> {
        file(path)
    }

    async fn dial(&self, _: &str) -> Result<Self::Stream, String> {
        self.target.tunnel(&self.id, Service::Vnc).await.map_err(|error| error.message.clone())
    }
}

/// Returns the file of a desktop's page at a path; the empty path is the page.
pub(crate) fn file(path: &str) -> Option<File> {
    let path = if path.is_empty() { "index.html" } else { path };
    files::FILES.iter().find(|file| file.path == path).copied()
}

/// Where a desktop is.
#[derive(Serialize)]
#[serde(transparent)]
struct Access(VncAccess);

impl Show for Access {
    fn text(&self, view: &View) -> String {
        let Self(vnc) = self;
        Pairs::new()
            .pair("address", vnc.address.map_or_else(|| "not published".to_owned(), |at| at.to_string()))
            .pair("user", &vnc.user)
            .pair("password", "shown by gx create; gx passwd makes a new one")
            .some("url", vnc.url.as_ref())
            .text(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_desktop_is_comes_without_its_password() {
        let vnc: VncAccess = serde_json::from_value(serde_json::json!({
            "user": "root", "port": 5900, "address": "127.0.0.1:20001", "url": "vnc://127.0.0.1:20001",
        }))
        .unwrap();
        assert_eq!(
            Access(vnc).text(&View::plain()),
            "address    127.0.0.1:20001\nuser       root\n\
             password   shown by gx create; gx passwd makes a new one\nurl        vnc://127.0.0.1:20001\n"
        );
    }
}
