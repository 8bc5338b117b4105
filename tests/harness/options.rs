//! The options of a program that a script of this folder calls: `--name VALUE` each.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What stands on the command line.
#[derive(Debug)]
pub struct Options {
    given: BTreeMap<String, String>,
    script: &'static str,
}

impl Options {
    /// This process's own; `script` is who calls it, for who does so by hand.
    pub fn of_script(script: &'static str) -> Self {
        let mut given = BTreeMap::new();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            given.insert(argument, arguments.next().unwrap_or_default());
        }
        Self { given, script }
    }

    /// One that has to be there.
    ///
    /// # Panics
    /// Where it is not.
    #[track_caller]
    pub fn needed(&self, name: &str) -> &str {
        self.given
            .get(name)
            .unwrap_or_else(|| panic!("{name} is missing: {} calls this", self.script))
    }

    /// A path that has to be there.
    ///
    /// # Panics
    /// Where it is not.
    #[track_caller]
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.needed(name))
    }

    /// A number, 1 where none is given.
    ///
    /// # Panics
    /// Where it is none.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        self.given
            .get(name)
            .map_or(1, |text| text.parse().expect("a number"))
    }
}
