//! Owners and groups by name: `etc/passwd` and `etc/group` below the root, or the system's where the root has none.
//!
//! Only the files are read: no NSS, so a user of LDAP or systemd-homed has to be declared by number.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::OFlags;

/// Far above any real one; what is longer is not a user database.
const LONGEST: u64 = 8 * 1024 * 1024;
/// chown(2) takes it for "leave as it is".
const NOBODY: u32 = u32::MAX;

/// `passwd` or `group`: both have the name first and the number third.
#[derive(Debug)]
struct Table {
    entries: Vec<(String, u32)>,
}

impl Table {
    fn parse(text: &str) -> Self {
        let entries = text
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next()?;
                let number = fields.nth(1)?.parse().ok()?;
                (!name.is_empty() && number != NOBODY).then(|| (name.to_owned(), number))
            })
            .collect();
        Self { entries }
    }

    fn number(&self, name: &str) -> Option<u32> {
        if let Ok(number) = name.parse::<u32>() {
            return (number != NOBODY).then_some(number);
        }
        let known = self.entries.iter().find(|(known, _)| known == name);
        // A root without a user database yet still has its root.
        known
            .map(|(_, number)| *number)
            .or((name == "root").then_some(0))
    }

    fn name(&self, number: u32) -> String {
        let known = self.entries.iter().find(|(_, known)| *known == number);
        match known {
            Some((name, _)) => name.clone(),
            None if number == 0 => "root".to_owned(),
            None => number.to_string(),
        }
    }
}

/// Which version of a file was read.
type Stamp = (u64, u64, u64, i64, i64);

/// One database, read again when it changes.
#[derive(Debug)]
struct Database {
    places: [PathBuf; 2],
    read: RefCell<Option<(Stamp, Rc<Table>)>>,
}

impl Database {
    fn new(root: &Path, file: &str) -> Self {
        Self {
            places: [root.join("etc").join(file), Path::new("/etc").join(file)],
            read: RefCell::default(),
        }
    }

    fn table(&self) -> Rc<Table> {
        for place in &self.places {
            let opened = std::fs::OpenOptions::new()
                .read(true)
                .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
                .open(place);
            let Ok(file) = opened else { continue };
            if let Some(table) = self.read(&file) {
                return table;
            }
        }
        Rc::new(Table {
            entries: Vec::new(),
        })
    }

    fn read(&self, file: &File) -> Option<Rc<Table>> {
        let metadata = file.metadata().ok().filter(|metadata| metadata.is_file())?;
        let stamp = (
            metadata.dev(),
            metadata.ino(),
            metadata.size(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        );
        let mut read = self.read.borrow_mut();
        if let Some((known, table)) = &*read
            && *known == stamp
        {
            return Some(Rc::clone(table));
        }
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes).ok()?;
        let table = Rc::new(Table::parse(&String::from_utf8_lossy(&bytes)));
        *read = Some((stamp, Rc::clone(&table)));
        Some(table)
    }
}

/// Users and groups of a root.
#[derive(Debug)]
pub(super) struct Owners {
    users: Database,
    groups: Database,
}

impl Owners {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            users: Database::new(root, "passwd"),
            groups: Database::new(root, "group"),
        }
    }

    pub(super) fn uid(&self, name: &str) -> Option<u32> {
        self.users.table().number(name)
    }

    pub(super) fn gid(&self, name: &str) -> Option<u32> {
        self.groups.table().number(name)
    }

    pub(super) fn user(&self, uid: u32) -> String {
        self.users.table().name(uid)
    }

    pub(super) fn group(&self, gid: u32) -> String {
        self.groups.table().name(gid)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read_from_the_roots_own_database() {
        let root = tempfile::tempdir().unwrap();
        let owners = Owners::new(root.path());
        // The system's, while the root has none.
        assert_eq!(owners.uid("daemon"), Some(1));
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = root.path().join("etc/passwd");
        let put = |text: &str| {
            use std::io::Write as _;
            File::create(&passwd)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        };
        put("mosquitto:x:1883:1884::/:/bin/false\nbad line\n:x:7:7::\n+::::::\nlast:x:5");
        assert_eq!(owners.uid("mosquitto"), Some(1883));
        assert_eq!(owners.uid("last"), Some(5));
        assert_eq!(owners.uid("daemon"), None);
        assert_eq!(owners.uid("root"), Some(0));
        assert_eq!(owners.user(1883), "mosquitto");
        assert_eq!(owners.user(4242), "4242");
        assert_eq!(owners.uid("4242"), Some(4242));
        assert_eq!(owners.uid("4294967295"), None);
        put("mosquitto:x:99:1884::/:/bin/false\n");
        assert_eq!(owners.uid("mosquitto"), Some(99));
    }
}
