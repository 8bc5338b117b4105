#![allow(clippy::unwrap_used, reason = "tests")]
use super::options::absolute_time;
use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

fn one(line: &str) -> Result<SignerLine, String> {
    parse_line(&Arc::from("signers"), 1, line, &TimeZone::UTC).map(|line| line.unwrap())
}

#[test]
fn a_line_is_read_as_ssh_keygen_reads_it() {
    let line = one(&format!(
        "  alice@x,*@y,!bob@y NameSpaces=\"git,file\",valid-after=\"20200102\",VALID-BEFORE=\"20300102030405Z\"\t{KEY} a comment\r"
    ))
    .unwrap();
    assert_eq!(line.principals, ["alice@x", "*@y", "!bob@y"]);
    assert_eq!(line.namespaces.unwrap(), ["git", "file"]);
    assert_eq!(
        line.valid_after.unwrap().to_string(),
        "2020-01-02T00:00:00Z"
    );
    assert_eq!(
        line.valid_before.unwrap().to_string(),
        "2030-01-02T03:04:05Z"
    );
    assert_eq!(
        one(&format!("\"Alice A,b\" {KEY}")).unwrap().principals,
        ["Alice A", "b"]
    );
    assert_eq!(
        one(&format!("a cert-authority {KEY}")).unwrap().role,
        Role::CertAuthority
    );
    assert_eq!(
        one(&format!("a no-touch-required {KEY}")).unwrap().touch,
        Touch::NotRequired
    );
}

#[test]
fn a_line_that_is_not_understood_is_refused() {
    for bad in [
        format!("a frobnicate {KEY}"),
        format!("a namespaces=git {KEY}"),
        format!("a namespaces=\"git\",namespaces=\"x\" {KEY}"),
        format!("a namespaces=\"git\"x {KEY}"),
        format!("a namespaces=\"git\", {KEY}"),
        format!("a ,cert-authority {KEY}"),
        format!("a cert-authority=\"yes\" {KEY}"),
        format!("a cert-authorityx {KEY}"),
        format!("a valid-before=\"soon\" {KEY}"),
        format!("a valid-before=\"20201301\" {KEY}"),
        format!("a valid-before=\"2020 101\" {KEY}"),
        format!("a valid-before=\"2020010\" {KEY}"),
        format!("a valid-before=\"19690101Z\" {KEY}"),
        format!("a valid-after=\"20300101\",valid-before=\"20200101\" {KEY}"),
        format!("a namespaces=\"git {KEY}"),
        format!("\"a {KEY}"),
        format!("\"a\"b {KEY}"),
        format!("a,,b {KEY}"),
        format!("! {KEY}"),
        "a".to_owned(),
        "a ssh-ed25519".to_owned(),
        "a ssh-ed25519 AAAA".to_owned(),
        format!("a ecdsa-sha2-nistp256 {}", KEY.rsplit(' ').next().unwrap()),
        KEY.to_owned(),
    ] {
        assert!(one(&bad).is_err(), "{bad}");
    }
}

#[test]
fn a_bad_line_is_named_and_the_others_go_on() {
    let text = format!("# ours\n\na frobnicate {KEY}\nb {KEY}\n");
    let signers = AllowedSigners::parse("signers", text.as_bytes(), &TimeZone::UTC).unwrap();
    assert_eq!(signers.lines().len(), 1);
    assert_eq!(
        signers.skipped()[0].to_string(),
        "signers:3: option `frobnicate` is not understood"
    );
}

#[test]
fn a_file_without_a_signer_is_an_error() {
    for text in [
        "",
        "# nobody\n",
        &format!("!a {KEY}\n"),
        &format!("a x {KEY}"),
    ] {
        assert!(
            AllowedSigners::parse("f", text.as_bytes(), &TimeZone::UTC).is_err(),
            "{text}"
        );
    }
    assert!(AllowedSigners::parse("f", &vec![b'#'; MAX_FILE + 1], &TimeZone::UTC).is_err());
}

#[test]
fn times_without_z_are_in_the_zone_that_is_handed_in() {
    let vienna = TimeZone::fixed(jiff::tz::offset(2));
    assert_eq!(
        absolute_time("202007011200", &vienna).unwrap().to_string(),
        "2020-07-01T10:00:00Z"
    );
    assert_eq!(
        absolute_time("202007011200z", &vienna).unwrap().to_string(),
        "2020-07-01T12:00:00Z"
    );
    assert_eq!(
        absolute_time("20200701UTC", &vienna).unwrap().to_string(),
        "2020-07-01T00:00:00Z"
    );
}

#[test]
fn a_line_that_takes_away_what_it_gives_speaks_for_nobody() {
    let principal = |names: &str| {
        one(&format!("{names} {KEY}"))
            .unwrap()
            .principal()
            .map(str::to_owned)
    };
    assert_eq!(principal("!a,b,c").as_deref(), Some("b"));
    assert_eq!(principal("a,!a,b").as_deref(), Some("b"));
    assert_eq!(principal("a,!*"), None);
}

#[test]
fn a_branch_takes_only_who_it_names() {
    let among = |names: &str, signers: &[&str]| {
        let line = one(&format!("{names} {KEY}")).unwrap();
        let signers: Vec<String> = signers.iter().map(|name| (*name).to_owned()).collect();
        line.principal_among(&signers).map(str::to_owned)
    };
    assert_eq!(
        among("dev@x,release@x", &["release@x"]).as_deref(),
        Some("release@x")
    );
    assert_eq!(among("dev@x", &["release@x"]), None);
    assert_eq!(among("dev@x", &["*@x"]).as_deref(), Some("dev@x"));
    assert_eq!(among("dev@x", &["*@x", "!dev@x"]), None);
    assert_eq!(among("*@x", &["release@x"]).as_deref(), Some("release@x"));
    assert_eq!(among("*@x,!release@x", &["release@x"]), None);
    assert_eq!(among("*@x", &["*@x"]).as_deref(), Some("*@x"));
    assert_eq!(among("*@x", &["*"]), None);
    assert_eq!(among("release*", &["release?"]), None);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = AllowedSigners::parse("f", &bytes, &TimeZone::UTC);
    }

    #[test]
    fn no_options_make_it_panic(text in "[a-z\",=\\\\ \t!*-]{0,60}") {
        let _ = one(&format!("a {text} {KEY}"));
    }
}
