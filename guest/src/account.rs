//! Whom a process runs as: users and groups of the image, read from its own files, which may be missing or wrong.
//!
//! What a text like `user:group` means is what engines make of it: a name first, then a number; with a group named,
//! no others; a number that is nobody's has the group 0 and the home `/`.

use std::path::PathBuf;

use crate::place::Place;

/// Files larger than this are not read on: nobody has so many users.
const READ_LIMIT: u64 = 4 << 20;

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The groups besides `gid`.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: PathBuf,
    /// As the image says; it may not exist.
    pub(crate) shell: Option<PathBuf>,
}

/// The image's users and groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

/// A line of passwd(5).
#[derive(Debug, Clone)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
    shell: String,
}

/// A line of group(5).
#[derive(Debug, Clone)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Why a text names nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unknown {
    User(String),
    Group(String),
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(name) => write!(f, "no user {name:?} in /etc/passwd"),
            Self::Group(name) => write!(f, "no group {name:?} in /etc/group"),
        }
    }
}

impl Accounts {
    /// Reads the image's files; one that is missing has nobody in it.
    pub(crate) fn read(place: &Place) -> Self {
        Self::parse(&text(place.passwd()), &text(place.group()))
    }

    /// Reads the lines of both files, and leaves out those that are wrong.
    fn parse(passwd: &str, group: &str) -> Self {
        Self {
            users: passwd.lines().filter_map(User::parse).collect(),
            groups: group.lines().filter_map(Group::parse).collect(),
        }
    }

    /// Returns whom `user`, `uid`, `user:group` or `uid:gid` means; nothing and the empty text are root.
    ///
    /// # Errors
    /// [`Unknown`] for a name that is in no file. A number needs no file.
    pub(crate) fn resolve(&self, text: Option<&str>) -> Result<Account, Unknown> {
        let text = text.unwrap_or_default();
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let mut account = self.user(user).ok_or_else(|| Unknown::User(user.to_owned()))?;
        if let Some(group) = group {
            account.gid = self.group(group).ok_or_else(|| Unknown::Group(group.to_owned()))?;
            account.groups = Vec::new();
        }
        Ok(account)
    }

    /// Returns who may log in by this name: a user of the image, or whoever the container runs as.
    pub(crate) fn login(&self, name: &str, configured: Option<&str>) -> Option<Account> {
        let own = configured.unwrap_or_default();
        let own_user = own.split(':').next().unwrap_or_default();
        let own_user = if own_user.is_empty() { "0" } else { own_user };
        let own = self.resolve(Some(own)).ok();
        if let Some(own) = own.filter(|own| name == own_user || name == own.name) {
            return Some(own);
        }
        let named = self.users.iter().find(|user| user.name == name);
        match named {
            Some(user) => Some(self.account(user)),
            // An image without the file still has a root; Podman gives it a file in which he is called 0.
            None if name == "root" => self.user("0"),
            None => None,
        }
    }

    fn user(&self, text: &str) -> Option<Account> {
        let number = number(text);
        let named = self.users.iter().find(|user| user.name == text);
        let known = named.or_else(|| self.users.iter().find(|user| Some(user.uid) == number));
        match (known, number) {
            (Some(user), _) => Some(self.account(user)),
            (None, Some(uid)) => Some(Account {
                name: if uid == 0 { "root".to_owned() } else { uid.to_string() },
                uid,
                gid: 0,
                groups: Vec::new(),
                home: "/".into(),
                shell: None,
            }),
            (None, None) if text == "root" => self.user("0"),
            (None, None) => None,
        }
    }

    fn account(&self, user: &User) -> Account {
        let of_user = |group: &&Group| group.gid != user.gid && group.members.contains(&user.name);
        let mut groups: Vec<u32> = self.groups.iter().filter(of_user).map(|group| group.gid).collect();
        groups.sort_unstable();
        groups.dedup();
        let path = |text: &str| Some(PathBuf::from(text)).filter(|path| path.is_absolute());
        Account {
            name: user.name.clone(),
            uid: user.uid,
            gid: user.gid,
            groups,
            home: path(&user.home).unwrap_or_else(|| "/".into()),
            shell: path(&user.shell),
        }
    }

    fn group(&self, text: &str) -> Option<u32> {
        let named = self.groups.iter().find(|group| group.name == text);
        named.map(|group| group.gid).or_else(|| number(text))
    }
}

impl User {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let mut next = || fields.next().map(str::trim);
        let (name, _password, uid, gid) = (next()?, next()?, next()?, next()?);
        let (_comment, home, shell) = (next(), next().unwrap_or_default(), next().unwrap_or_default());
        if name.is_empty() || name.starts_with('#') {
            return None;
        }
        let (uid, gid) = (number(uid)?, number(gid)?);
        Some(Self { name: name.to_owned(), uid, gid, home: home.to_owned(), shell: shell.to_owned() })
    }
}

impl Group {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let mut next = || fields.next().map(str::trim);
        let (name, _password, gid, members) = (next()?, next()?, next()?, next().unwrap_or_default());
        if name.is_empty() || name.starts_with('#') {
            return None;
        }
        let members = members.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect();
        Some(Self { name: name.to_owned(), gid: number(gid)?, members })
    }
}

/// Reads a number of a user or group: digits alone, and not the one that means "unchanged" to the kernel.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|number| *number != u32::MAX)
}

fn text(path: PathBuf) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(READ_LIMIT).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        # a comment:x:7:7::/:\n\
        broken line\n\
        ada:x:1000:1000:Ada:/home/ada:/bin/bash\n\
        4242:x:77:78::/srv:\n\
        bad:x:minus:1::/:\n";
    const GROUP: &str = "root:x:0:\nada:x:1000:\nwheel:x:10:ada,bob\nvideo:x:44:bob,ada\n";

    fn accounts() -> Accounts {
        Accounts::parse(PASSWD, GROUP)
    }

    #[test]
    fn nothing_is_root() {
        let root = accounts().resolve(None).unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_path()), (0, 0, "/root".as_ref()));
        assert_eq!(accounts().resolve(Some("")).unwrap(), root);
    }

    #[test]
    fn a_name_brings_its_groups_home_and_shell() {
        let ada = accounts().resolve(Some("ada")).unwrap();
        assert_eq!((ada.uid, ada.gid, ada.groups.as_slice()), (1000, 1000, &[10, 44][..]));
        assert_eq!((ada.home.as_path(), ada.shell), ("/home/ada".as_ref(), Some("/bin/bash".into())));
    }

    #[test]
    fn a_group_stands_alone() {
        let ada = accounts().resolve(Some("ada:wheel")).unwrap();
        assert_eq!((ada.gid, ada.groups.len()), (10, 0));
        assert_eq!(accounts().resolve(Some("ada:99")).unwrap().gid, 99);
        assert_eq!(accounts().resolve(Some("ada:nobody")), Err(Unknown::Group("nobody".to_owned())));
    }

    #[test]
    fn a_name_of_digits_goes_before_the_number() {
        assert_eq!(accounts().resolve(Some("4242")).unwrap().uid, 77);
        assert_eq!(accounts().resolve(Some("1000")).unwrap().name, "ada");
    }

    #[test]
    fn a_number_needs_no_file() {
        let nobody = Accounts::default().resolve(Some("1234:5")).unwrap();
        assert_eq!((nobody.uid, nobody.gid, nobody.home.as_path()), (1234, 5, "/".as_ref()));
        assert_eq!(Accounts::default().resolve(Some("ada")), Err(Unknown::User("ada".to_owned())));
        assert_eq!(Accounts::default().resolve(Some("root")).unwrap().uid, 0);
    }

    #[test]
    fn only_known_users_and_the_configured_one_log_in() {
        let accounts = accounts();
        assert_eq!(accounts.login("ada", None).unwrap().uid, 1000);
        assert_eq!(accounts.login("root", Some("ada")).unwrap().uid, 0);
        assert_eq!(accounts.login("1234", Some("1234:5")).unwrap().gid, 5);
        assert_eq!(accounts.login("1234", None), None);
        assert_eq!(accounts.login("mallory", Some("1234")), None);
        assert_eq!(accounts.login("", Some("ada")), None);
        assert_eq!(Accounts::default().login("root", Some("1000")).unwrap().uid, 0);
        let podmans = Accounts::parse("0:*:0:0:container user:/:/bin/sh", "0:x:0:0");
        assert_eq!(podmans.login("root", None).unwrap().uid, 0);
    }

    #[test]
    fn the_number_that_means_unchanged_is_nobody() {
        assert!(accounts().resolve(Some("4294967295")).is_err());
        assert!(accounts().resolve(Some("-1")).is_err());
        assert!(accounts().resolve(Some("+1")).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(passwd in ".{0,200}", group in ".{0,200}", user in ".{0,40}") {
            let accounts = Accounts::parse(&passwd, &group);
            let _ = accounts.resolve(Some(&user));
            let _ = accounts.login(&user, Some(&user));
        }

        #[test]
        fn every_number_is_itself(uid in 0..u32::MAX, gid in 0..u32::MAX) {
            let account = Accounts::default().resolve(Some(&format!("{uid}:{gid}"))).unwrap();
            prop_assert_eq!((account.uid, account.gid), (uid, gid));
        }

        #[test]
        fn a_written_user_is_found(name in "[a-z_][a-z0-9_-]{0,20}", uid in 0..u32::MAX, gid in 0..u32::MAX) {
            let passwd = format!("{name}:x:{uid}:{gid}::/home/{name}:/bin/sh\n");
            let account = Accounts::parse(&passwd, "").resolve(Some(&name)).unwrap();
            prop_assert_eq!((account.uid, account.gid), (uid, gid));
        }
    }
}
