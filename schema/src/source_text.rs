//! A document's text, and the places in it.

use std::rc::Rc;

use crate::diagnostic::{Diagnostics, Position};

/// No document of a fleet repository is longer: a device reads it whole, into a tree several times its size.
pub const LONGEST_DOCUMENT: usize = 1024 * 1024;

/// The text of a document: UTF-8, without a byte order mark, and not too long.
pub(crate) struct SourceText<'t> {
    pub(crate) file: Rc<str>,
    pub(crate) text: &'t str,
    starts: Vec<usize>,
}

impl<'t> SourceText<'t> {
    /// Checks the bytes; reports at the first one that is not UTF-8.
    pub(crate) fn new(file: &str, bytes: &'t [u8], out: &mut Diagnostics) -> Option<Self> {
        if bytes.len() > LONGEST_DOCUMENT {
            out.error(
                file,
                Position::default(),
                format!(
                    "the document has {} bytes, and a device reads at most {LONGEST_DOCUMENT}",
                    bytes.len()
                ),
            );
            return None;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Some(Self::of(
                file,
                text.strip_prefix('\u{feff}').unwrap_or(text),
            )),
            Err(error) => {
                let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or("");
                out.error(
                    file,
                    Self::of(file, good).position(good.len()),
                    "this is not UTF-8 text",
                );
                None
            }
        }
    }

    fn of(file: &str, text: &'t str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(index, _)| index + 1))
            .collect();
        Self {
            file: file.into(),
            text,
            starts,
        }
    }

    /// The place of a byte.
    pub(crate) fn position(&self, byte: usize) -> Position {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let line = self.starts.partition_point(|start| *start <= byte);
        let start = self.starts[line - 1];
        Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(self.text[start..byte].chars().count() + 1).unwrap_or(u32::MAX),
        }
    }
}
