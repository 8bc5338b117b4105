//! Who has bound a subkey or a name to a key, and whether that counts.

use super::*;

#[test]
fn a_subkey_must_have_signed_for_its_primary_key_itself() {
    let (key, _) = alice();
    let (sub, other) = (subkey(2), subkey(3));
    let good_back = back(
        config(SignatureType::KeyBinding, &sub, MADE, []),
        &sub,
        &key,
    );
    let by_other = back(
        config(SignatureType::KeyBinding, &other, MADE, []),
        &other,
        &key,
    );
    let for_other_key = {
        let eve = primary(9);
        back(
            config(SignatureType::KeyBinding, &sub, MADE, []),
            &sub,
            &eve,
        )
    };
    let weak_back = {
        let good = config(SignatureType::KeyBinding, &sub, MADE, [])
            .sign_primary_key_binding(&sub, sub.public_key(), &no_password(), key.public_key())
            .unwrap();
        embedded(weak(&good))
    };
    let bind = |more: Vec<Subpacket>| {
        let signature = on_subkey(
            config(SignatureType::SubkeyBinding, &key, MADE, more),
            &key,
            &sub,
        );
        let keyring = alice().1.sub(&sub).signature(&signature).keyring();
        reason(&keyring, &signed_by(&sub))
    };
    assert_eq!(bind(vec![flags(true), good_back.clone()]), Reason::Ok);
    assert_eq!(bind(vec![flags(true)]), Reason::UnknownKey);
    assert_eq!(bind(vec![flags(true), by_other]), Reason::UnknownKey);
    assert_eq!(bind(vec![flags(true), for_other_key]), Reason::UnknownKey);
    assert_eq!(bind(vec![flags(true), weak_back]), Reason::UnknownKey);
    assert_eq!(
        bind(vec![flags(false), good_back.clone()]),
        Reason::UnknownKey
    );
    assert_eq!(bind(vec![good_back.clone()]), Reason::UnknownKey);
    // Said twice, the stricter counts.
    assert_eq!(
        bind(vec![flags(true), flags(false), good_back.clone()]),
        Reason::UnknownKey
    );
    assert_eq!(
        bind(vec![
            flags(true),
            good_back.clone(),
            lasts(0),
            lasts(999),
            lasts(5000)
        ]),
        Reason::KeyExpired
    );
    assert_eq!(bind(vec![flags(true), good_back, lasts(1001)]), Reason::Ok);
}

#[test]
fn a_subkey_that_nobody_or_another_key_bound_does_not_sign() {
    let (key, _) = alice();
    let (eve, sub) = (primary(9), subkey(2));
    let unbound = alice().1.sub(&sub).keyring();
    assert_eq!(reason(&unbound, &signed_by(&sub)), Reason::UnknownKey);
    let back_to_eve = back(
        config(SignatureType::KeyBinding, &sub, MADE, []),
        &sub,
        &eve,
    );
    let by_eve = on_subkey(
        config(
            SignatureType::SubkeyBinding,
            &eve,
            MADE,
            [flags(true), back_to_eve],
        ),
        &eve,
        &sub,
    );
    let foreign = alice().1.sub(&sub).signature(&by_eve).keyring();
    assert_eq!(reason(&foreign, &signed_by(&sub)), Reason::UnknownKey);

    // Eve takes Alice's subkey into her certificate: its signatures are still Alice's.
    let good_back = back(
        config(SignatureType::KeyBinding, &sub, MADE, []),
        &sub,
        &key,
    );
    let own = on_subkey(
        config(
            SignatureType::SubkeyBinding,
            &key,
            MADE,
            [flags(true), good_back],
        ),
        &key,
        &sub,
    );
    let adopted = on_subkey(
        config(SignatureType::SubkeyBinding, &eve, MADE, [flags(true)]),
        &eve,
        &sub,
    );
    let id = user("Eve <eve@evil.example>");
    let eves = on_user(
        config(SignatureType::CertPositive, &eve, MADE, [flags(true)]),
        &eve,
        &id,
    );
    let alices = alice().1.sub(&sub).signature(&own).0;
    let mut row = Row::default()
        .key(&eve)
        .user(&id)
        .signature(&eves)
        .sub(&sub)
        .signature(&adopted);
    row.0.extend(alices);
    let account = account(&row.keyring(), &signed_by(&sub));
    assert_eq!(account.failed, None);
    assert_eq!(account.principal.as_deref(), Some("alice@acme.example"));
}

#[test]
fn what_is_not_signed_by_the_key_itself_says_nothing_of_it() {
    let (key, _) = alice();
    let boss = user("Boss <boss@acme.example>");
    let primary_user = regular(SubpacketData::IsPrimary(true));
    let principal = |row: Row| account(&row.keyring(), &signed_by(&key)).principal;
    let alices = Some("alice@acme.example".to_owned());
    assert_eq!(principal(alice().1.user(&boss)), alices);
    let eve = primary(9);
    let by_eve = config(
        SignatureType::CertPositive,
        &eve,
        MADE + 1,
        [flags(true), primary_user.clone()],
    )
    .sign_certification_third_party(&eve, &no_password(), key.public_key(), Tag::UserId, &boss)
    .unwrap();
    assert_eq!(principal(alice().1.user(&boss).signature(&by_eve)), alices);
    // Her own newer name is another matter, and the one that she calls her primary one.
    let own = on_user(
        config(SignatureType::CertPositive, &key, MADE + 1, [flags(true)]),
        &key,
        &boss,
    );
    let bosss = Some("boss@acme.example".to_owned());
    assert_eq!(principal(alice().1.user(&boss).signature(&own)), bosss);
    let called = on_user(
        config(
            SignatureType::CertPositive,
            &key,
            MADE + 2,
            [flags(true), primary_user],
        ),
        &key,
        &user(ALICE),
    );
    let row = alice().1.signature(&called).user(&boss).signature(&own);
    assert_eq!(principal(row), alices);

    // What stands outside of what is signed does not count: here, that the key may sign.
    let id = user(ALICE);
    let mut loose = config(SignatureType::CertPositive, &key, MADE, []);
    loose.unhashed_subpackets = vec![flags(true)];
    let row = Row::default()
        .key(&key)
        .user(&id)
        .signature(&on_user(loose, &key, &id));
    assert!(
        row.parsed()
            .unwrap_err()
            .to_string()
            .contains("not one for signing")
    );
}
