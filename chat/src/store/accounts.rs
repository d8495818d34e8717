//! Accounts: how users prove who they are. What they may do is in the policy, not here.

use gx_core::NodeId;
use rusqlite::OptionalExtension;

use super::StoreError;
use super::open::{name, time};
use super::sqlite::{SqliteStore, of};
use crate::id::{DeviceId, UserName};

/// The SHA-256 of a token: the token itself is kept nowhere.
pub type TokenHash = [u8; 32];

/// A user's account.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose.
    pub user: UserName,
    /// The hash of the password, as a PHC string.
    pub password: Option<String>,
    /// The node whose key proves the user.
    pub node: Option<NodeId>,
    /// Whether nobody may sign in with it.
    pub disabled: bool,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("user", &self.user)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

/// A store of accounts. All of it may block.
pub trait AccountStore: Send + Sync {
    /// Returns the account of a user, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn account(&self, user: &UserName) -> Result<Option<Account>, StoreError>;

    /// Returns all accounts, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    fn accounts(&self) -> Result<Vec<Account>, StoreError>;

    /// Puts an account in the place of the one the user had, and forgets the user's tokens.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_account(&self, account: &Account) -> Result<(), StoreError>;

    /// Keeps a token until `ends`, in milliseconds since 1970; it takes the place of the device's earlier ones.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_token(
        &self,
        hash: &TokenHash,
        user: &UserName,
        device: &DeviceId,
        ends: u64,
    ) -> Result<(), StoreError>;

    /// Returns whether a token is one of this user and device at the time `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn has_token(
        &self,
        hash: &TokenHash,
        user: &UserName,
        device: &DeviceId,
        now: u64,
    ) -> Result<bool, StoreError>;
}

impl AccountStore for SqliteStore {
    fn account(&self, user: &UserName) -> Result<Option<Account>, StoreError> {
        let sql = "SELECT name, password, node, disabled FROM usr WHERE name = ?1";
        self.reading(|db| db.prepare_cached(sql)?.query_row([user.as_str()], account).optional())
    }

    fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        let sql = "SELECT name, password, node, disabled FROM usr ORDER BY name";
        self.reading(|db| db.prepare(sql)?.query_map([], account)?.collect())
    }

    fn put_account(&self, account: &Account) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let mut put = || {
            let putting = writer.db.transaction()?;
            let node = account.node.map(|node| node.to_string());
            putting.execute(
                "INSERT OR REPLACE INTO usr (name, password, node, disabled) VALUES (?1, ?2, ?3, ?4)",
                (account.user.as_str(), &account.password, node, account.disabled),
            )?;
            putting.execute("DELETE FROM tok WHERE usr = ?1", [account.user.as_str()])?;
            putting.commit()
        };
        put().map_err(of(&self.path))
    }

    fn put_token(
        &self,
        hash: &TokenHash,
        user: &UserName,
        device: &DeviceId,
        ends: u64,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let mut put = || {
            let putting = writer.db.transaction()?;
            let (usr, device) = (user.as_str(), device.as_str());
            putting.execute("DELETE FROM tok WHERE usr = ?1 AND device = ?2", (usr, device))?;
            let values = (hash, usr, device, time(ends));
            putting.execute("INSERT INTO tok (hash, usr, device, ends) VALUES (?1, ?2, ?3, ?4)", values)?;
            putting.commit()
        };
        put().map_err(of(&self.path))
    }

    fn has_token(
        &self,
        hash: &TokenHash,
        user: &UserName,
        device: &DeviceId,
        now: u64,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM tok WHERE hash = ?1 AND usr = ?2 AND device = ?3 AND ends > ?4";
        let values = (hash, user.as_str(), device.as_str(), time(now));
        self.reading(|db| db.prepare_cached(sql)?.exists(values))
    }
}

fn account(row: &rusqlite::Row<'_>) -> rusqlite::Result<Account> {
    let node: Option<String> = row.get(2)?;
    Ok(Account {
        user: name(row, 0)?,
        password: row.get(1)?,
        // One that is none proves nobody.
        node: node.and_then(|node| node.parse().ok()),
        disabled: row.get(3)?,
    })
}
