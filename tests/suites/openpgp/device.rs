//! A device that follows a branch signed with gpg.

use super::*;

#[test]
fn a_device_follows_a_branch_that_is_signed_with_gpg_alone() {
    let desk = Desk::new();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    let key = |user: &str| {
        let status = desk
            .gpg(
                now - DAY,
                &[
                    "--status-fd",
                    "1",
                    "--quick-generate-key",
                    user,
                    "ed25519",
                    "sign",
                    "never",
                ],
                &[],
            )
            .expect_code(0)
            .stdout;
        let created = status.split("KEY_CREATED P ").nth(1).unwrap();
        created.split_whitespace().next().unwrap().to_owned()
    };
    let alice = key("Alice <alice@acme.example>");
    let dora = key("Dora <dora@acme.example>");
    let forge = key("GitHub <noreply@github.com>");
    let keyring = desk.export(&[&alice, &dora, &forge]);
    for (path, content) in [
        ("fleet.toml", "format = 1\nname = \"test\"\n"),
        ("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n"),
    ] {
        std::fs::create_dir_all(desk.path(path).parent().unwrap()).unwrap();
        desk.write(path, content);
    }
    let release = |signer: &str, content: &str| {
        std::fs::create_dir_all(desk.path("apps/one")).unwrap();
        let app = format!(
            "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"{content}\"\n[gate]\nsoak = \"1s\"\n"
        );
        desk.write("apps/one/app.toml", app);
        run(
            desk.git(now).args(["add", "fleet.toml", "groups", "apps"]),
            PATIENCE,
        )
        .expect_code(0);
        desk.commit(signer, now)
    };
    std::fs::create_dir(desk.path("root")).unwrap();
    let dir = desk.dir.path().display();
    let config = format!(
        "state_dir = \"{dir}/state\"\nroot = \"{dir}/root\"\n[device]\nid = \"gw-1\"\n[source]\nurl = \"file://{dir}\"\n\
         branch = \"main\"\n[trust]\nopenpgp_keyring = \"{}\"\n[trust.branches.main]\n\
         signers = [\"a*@acme.example\", \"noreply@github.com\"]\n",
        keyring.display()
    );
    let config = desk.write("agent.toml", config).display().to_string();
    let sync = || {
        run(
            Command::new(binary()).args(["sync", "--config", &config]),
            PATIENCE,
        )
    };
    let file = desk.path("root/etc/one.conf");

    release(&alice, "first");
    let said = sync().expect_code(0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "first");
    // It is told that somebody's merge button counts as a signature here.
    assert!(said.text().contains("not one person"), "{}", said.text());
    assert!(said.text().contains(&forge), "{}", said.text());

    let said = run(
        Command::new(binary()).args(["trust", "status", "--config", &config]),
        PATIENCE,
    )
    .expect_code(0);
    for shown in [
        "alice@acme.example",
        "openpgp-ed25519",
        &alice,
        "not one person",
    ] {
        assert!(said.stdout.contains(shown), "{shown}: {}", said.text());
    }

    release(&dora, "second");
    let said = sync().expect_code(3);
    assert!(said.text().contains("wrong-branch"), "{}", said.text());
    assert!(said.text().contains("dora@acme.example"), "{}", said.text());
    release(&alice, "third");
    sync().expect_code(0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "third");

    // A revocation that is appended counts from the next look on; without the file there is no trust at all.
    let revocation = desk.path(&format!("home/openpgp-revocs.d/{alice}.rev"));
    let revocation = std::fs::read_to_string(revocation)
        .unwrap()
        .replace(":-----BEGIN", "-----BEGIN");
    let before = std::fs::read_to_string(&keyring).unwrap();
    release(&alice, "fourth");
    std::fs::write(&keyring, format!("{before}{revocation}")).unwrap();
    let said = sync().expect_code(3);
    assert!(said.text().contains("revoked"), "{}", said.text());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "third");
    std::fs::remove_file(&keyring).unwrap();
    let said = sync().expect_code(2);
    assert!(
        said.text().contains("trust.openpgp_keyring"),
        "{}",
        said.text()
    );
}
