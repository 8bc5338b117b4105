//! What strace(1) wrote down, read back: one system call a line, in the order in which the calls ended.
//!
//! Made for `strace -f -y -xx`: every string and every path beside a descriptor is spelt in hexadecimal, so no bracket or
//! comma of theirs can be taken for one of strace's own.

use std::collections::HashMap;

/// The calls that change a file system, or that are needed to tell which file another call means.
pub(super) const TRACED: &str = "open,openat,creat,close,close_range,dup,dup2,dup3,fcntl,lseek,read,readv,write,pwrite64,\
     writev,pwritev,pwritev2,copy_file_range,sendfile,splice,mmap,ftruncate,truncate,fallocate,rename,renameat,renameat2,\
     link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,mknod,mknodat,chmod,fchmod,fchmodat,fchmodat2,chown,\
     lchown,fchown,fchownat,setxattr,fsetxattr,fsync,fdatasync,sync,syncfs,sync_file_range,chdir,io_uring_setup,io_submit";

/// One call that succeeded or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    args: Vec<String>,
    /// What it returned; -1 for any error.
    pub(super) result: i64,
}

impl Call {
    /// An argument as strace spelt it.
    pub(super) fn text(&self, at: usize) -> &str {
        self.args.get(at).map_or("", String::as_str)
    }

    /// A string argument.
    pub(super) fn bytes(&self, at: usize) -> Vec<u8> {
        strings(self.text(at))
            .into_iter()
            .next()
            .unwrap_or_default()
    }

    /// All strings in an argument: an iovec's pieces.
    pub(super) fn pieces(&self, at: usize) -> Vec<Vec<u8>> {
        strings(self.text(at))
    }

    /// A path.
    pub(super) fn path(&self, at: usize) -> String {
        String::from_utf8(self.bytes(at)).expect("the recorded stories use no other paths")
    }

    /// A number: decimal, octal with a leading zero, or hexadecimal.
    pub(super) fn number(&self, at: usize) -> i64 {
        let text = self.text(at);
        let text = text.split('<').next().unwrap_or_default();
        number(text).unwrap_or_else(|| panic!("`{text}` is no number, in {self:?}"))
    }

    /// A descriptor; `None` for the current directory.
    pub(super) fn descriptor(&self, at: usize) -> Option<i64> {
        (!self.text(at).starts_with("AT_FDCWD")).then(|| self.number(at))
    }

    /// Whether a flag is set.
    pub(super) fn has(&self, at: usize, flag: &str) -> bool {
        self.text(at).split('|').any(|one| one == flag)
    }
}

fn number(text: &str) -> Option<i64> {
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => i64::from_str_radix(octal, 8).ok(),
        Some(_) | None => text.parse().ok(),
    }
}

/// The strings in a text, each of `\xNN` alone.
fn strings(text: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('"') {
        let (inside, behind) = after.split_once('"').expect("a string has an end");
        assert!(!behind.starts_with("..."), "strace cut a string short");
        found.push(unescape(inside));
        rest = behind;
    }
    found
}

fn unescape(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => panic!("`{text}` is not in hexadecimal"),
    };
    text.as_bytes()
        .chunks(4)
        .map(|four| match four {
            [b'\\', b'x', high, low] => digit(*high) << 4 | digit(*low),
            _ => panic!("`{text}` is not in hexadecimal"),
        })
        .collect()
}

/// The calls of a whole trace. A call that strace saw begin and not end (its process was killed) did not happen.
pub(super) fn parse(trace: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let (thread, text) = line.split_once(' ').unwrap_or((line, ""));
        let text = text.trim_start();
        if text.starts_with("+++") || text.starts_with("---") {
            continue;
        }
        if let Some(first) = text.strip_suffix("<unfinished ...>") {
            begun.insert(thread, first);
        } else if let Some(resumed) = text.strip_prefix("<... ") {
            let first = begun.remove(thread).expect("what is resumed was begun");
            let (_, second) = resumed.split_once("resumed>").expect("strace says so");
            calls.extend(call(&format!("{}{second}", first.trim_end())));
        } else {
            calls.extend(call(text));
        }
    }
    calls
}

/// `None` for a call that has no result any more: its process ended in it.
fn call(text: &str) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let mut args = Vec::new();
    let mut depth = 0;
    let mut quoted = false;
    let mut begin = 0;
    let mut end = None;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'(' | b'[' | b'{' | b'<' => depth += 1,
            b')' if depth == 0 => {
                end = Some(at);
                break;
            }
            b')' | b']' | b'}' | b'>' => depth -= 1,
            b',' if depth == 0 => {
                args.push(rest[begin..at].trim().to_owned());
                begin = at + 1;
            }
            _ => {}
        }
    }
    let end = end?;
    if !rest[begin..end].trim().is_empty() {
        args.push(rest[begin..end].trim().to_owned());
    }
    let (_, result) = rest[end..].split_once("= ")?;
    let result = result.split([' ', '<']).next().unwrap_or_default();
    Some(Call {
        name: name.to_owned(),
        args,
        result: number(result)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_with_its_strings_numbers_and_flags() {
        let line = r#"7 openat(3<\x2f\x61>, "\x62\x22\x28", O_WRONLY|O_CREAT|O_EXCL, 0640) = 12<\x2f\x61>"#;
        let [call] = &parse(line)[..] else {
            panic!("one call");
        };
        assert_eq!(call.name, "openat");
        assert_eq!(call.descriptor(0), Some(3));
        assert_eq!(call.bytes(1), b"b\"(");
        assert!(call.has(2, "O_CREAT") && !call.has(2, "O_TRUNC"));
        assert_eq!(call.number(3), 0o640);
        assert_eq!(call.result, 12);
    }

    #[test]
    fn an_error_is_minus_one_and_a_hexadecimal_result_is_a_number() {
        let trace =
            "7 mkdir(\"\\x2f\", 0777) = -1 EEXIST (File exists)\n7 read(0x4, 0x7ffd, 0x20) = 0x3\n";
        let calls = parse(trace);
        assert_eq!(calls[0].result, -1);
        assert_eq!((calls[1].number(0), calls[1].result), (4, 3));
    }

    #[test]
    fn a_call_that_was_interrupted_by_another_thread_counts_when_it_ends() {
        let trace = "1 fsync(3<\\x2f\\x61> <unfinished ...>\n2 close(4<\\x2f\\x62>) = 0\n1 <... fsync resumed>) = 0\n\
                     2 write(5, \"\\x61\", 1 <unfinished ...>\n+++ killed\n";
        let names: Vec<String> = parse(trace).into_iter().map(|call| call.name).collect();
        assert_eq!(names, ["close", "fsync"]);
    }

    #[test]
    fn an_iovec_has_all_its_pieces() {
        let trace = r#"1 writev(3<\x2f>, [{iov_base="\x61\x62", iov_len=2}, {iov_base="\x63", iov_len=1}], 2) = 3"#;
        assert_eq!(parse(trace)[0].pieces(1), [b"ab".to_vec(), b"c".to_vec()]);
    }
}
