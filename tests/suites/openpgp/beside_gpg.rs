//! Changed commits and keyrings, each judged beside git's and gpg's own verdict.

use super::*;

/// A row of numbers that looks like chance and is the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }
}

#[test]
fn nothing_is_taken_that_git_and_gpg_refuse() {
    const ROUNDS: usize = 60;
    let desk = Desk::new();
    let mut dice = Dice(11);
    // Keys of several kinds and fates, and the commits they signed while they could.
    let mut signers: Vec<String> = Vec::new();
    for (name, algorithm, usage, expires) in [
        ("a", "ed25519", "sign", "never"),
        ("b", "rsa2048", "sign", "30d"),
        ("c", "nistp256", "sign", "never"),
        ("d", "ed25519", "cert", "60d"),
        ("e", "nistp384", "sign", "never"),
    ] {
        let user = format!("{name} <{name}@acme.example>");
        signers.push(desk.key(&user, algorithm, usage, expires));
    }
    let d = signers[3].clone();
    for expires in ["20d", "never"] {
        desk.gpg(
            MADE,
            &["--quick-add-key", &d, "ed25519", "sign", expires],
            &[],
        )
        .expect_code(0);
    }
    signers.remove(3);
    signers.extend(desk.fingerprints(&d)[1..].iter().cloned());
    let mut commits: Vec<String> = Vec::new();
    for signer in &signers {
        for options in [
            "",
            "--digest-algo SHA512",
            "--textmode",
            "--default-sig-expire 9d",
        ] {
            let at = MADE + i64::try_from(dice.below(15)).unwrap() * DAY;
            commits.push(desk.commit_with(&format!("{signer}!"), at, options));
        }
    }
    let mut keyrings = vec![
        desk.export(&["a", "b", "c", "d", "e"]),
        desk.export(&["a", "d"]),
    ];
    let revocation = desk.path(&format!("home/openpgp-revocs.d/{}.rev", signers[2]));
    let revocation = std::fs::read_to_string(revocation)
        .unwrap()
        .replace(":-----BEGIN", "-----BEGIN");
    desk.gpg(MADE + DAY, &["--import"], revocation.as_bytes())
        .expect_code(0);
    desk.gpg(
        MADE + 2 * DAY,
        &["--quick-set-expire", &signers[0], "40d"],
        &[],
    )
    .expect_code(0);
    keyrings.push(desk.export(&["a", "c", "d", "e"]));

    let (mut judged, mut taken, mut stricter) = (0, 0, Vec::new());
    for keyring in &keyrings {
        // The oracle's keys are those of this keyring from here on.
        desk.git_takes(&commits[0], keyring, MADE);
        let mut cases: Vec<(String, String)> = commits
            .iter()
            .map(|commit| ("as it is".to_owned(), commit.clone()))
            .collect();
        for _ in 0..ROUNDS {
            let commit = &commits[dice.below(commits.len())];
            let raw = desk.raw(commit);
            let (head, armor, message) = parts(&raw);
            let kind = dice.below(4);
            let case = match kind {
                // A bit of the signature.
                0 => {
                    let mut bytes = dearmored(&armor);
                    let at = dice.below(bytes.len());
                    bytes[at] ^= 1 << dice.below(8);
                    let armor = format!(
                        "-----BEGIN PGP SIGNATURE-----\n\n{}\n-----END PGP SIGNATURE-----\n",
                        lines_of_base64(&bytes)
                    );
                    (format!("bit of byte {at}"), desk.with_armor(commit, &armor))
                }
                // The signature of another commit.
                1 => {
                    let other = desk.armor(&commits[dice.below(commits.len())]);
                    (
                        "another's signature".to_owned(),
                        desk.with_armor(commit, &other),
                    )
                }
                // A letter of the content.
                2 => {
                    let with = ["changes", "change ", "change\r", "Change"][dice.below(4)];
                    let message = message.replacen("change", with, 1);
                    let folded = armor.trim_end().replace('\n', "\n ");
                    let raw = format!("{head}\ngpgsig {folded}\n\n{message}");
                    (format!("content {with:?}"), desk.hash(raw))
                }
                // A date.
                _ => {
                    let later = (MADE + i64::try_from(dice.below(80)).unwrap() * DAY).to_string();
                    let (before, date) = head.rsplit_once("> ").unwrap();
                    let zone = date.split_once(' ').unwrap().1;
                    let folded = armor.trim_end().replace('\n', "\n ");
                    let raw = format!("{before}> {later} {zone}\ngpgsig {folded}\n\n{message}");
                    ("date".to_owned(), desk.hash(raw))
                }
            };
            cases.push(case);
        }
        for (what, commit) in cases {
            let ours = desk.reason(&commit, keyring);
            // At the commit's own time, which is what a device without a clock has.
            let dated = desk.raw(&commit);
            let dated = dated.split_once("\ncommitter ").unwrap().1;
            let dated = dated.split_once("> ").unwrap().1;
            let at: i64 = dated.split(' ').next().unwrap().parse().unwrap();
            let gits = desk.git_takes_still(&commit, at);
            judged += 1;
            taken += usize::from(ours == "ok");
            assert!(
                gits || ours != "ok",
                "git refuses what is taken here: {what}, {commit}, {}",
                keyring.display()
            );
            if gits && ours != "ok" {
                stricter.push(format!("{ours}: {what}"));
            }
        }
    }
    assert!(
        judged >= 200 && taken >= 30,
        "{judged} judged, {taken} taken"
    );
    // Where we are stricter it is for one of these reasons, which the module names.
    for case in &stricter {
        let named = case.starts_with("bad-signature: bit")
            || case.starts_with("unsupported: bit")
            || case.starts_with("unknown-key: bit")
            || case.starts_with("unsupported: content \"change\\r\"");
        assert!(named, "{case}\n{stricter:#?}");
    }
}
