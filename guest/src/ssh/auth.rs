//! Who logs in: as whom, by which key or password, and after which wait.

use std::net::IpAddr;
use std::time::Instant;

use russh::keys::PublicKey;

use super::Guest;
use crate::account::{Account, Accounts};
use crate::say;

impl Guest {
    /// Returns who may log in by this name and key.
    pub(super) fn by_key(&self, name: &str, key: &PublicKey) -> Option<Account> {
        let knows = self.vault().knows(key);
        self.named(name).filter(|_| knows)
    }

    /// Returns who may log in by this name and password, once the address has had its turn.
    pub(super) async fn by_password(&self, name: &str, password: &str, address: IpAddr) -> Option<Account> {
        let wait = self.backoff().attempt(address, Instant::now())?;
        tokio::time::sleep(wait).await;
        // Both are looked at in any case: how long it takes tells nothing.
        let opens = self.vault().opens_with(password);
        let account = self.named(name);
        let account = account.filter(|_| opens);
        match &account {
            Some(_) => self.backoff().right(address),
            None => {
                if let Some(count) = self.backoff().wrong() {
                    say::line(format_args!("{count} wrong passwords so far"));
                }
            }
        }
        account
    }

    fn named(&self, name: &str) -> Option<Account> {
        Accounts::read(&self.place).login(name, self.vault().user())
    }

    /// Returns whether `HOME` is to be this account's, and not what the container says.
    pub(crate) fn has_own_home(&self, account: &Account) -> bool {
        let vault = self.vault();
        let configured = Accounts::read(&self.place).resolve(vault.user());
        !(vault.home_is_set() && configured.is_ok_and(|own| own.uid == account.uid))
    }
}
