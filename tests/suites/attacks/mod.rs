//! The table of attacks: who mounts one, what is done, what the device says, and how honest work goes on.
//!
//! Each row is a test. It starts a git server of its own (HTTPS), lets a device converge to an honest revision, mounts
//! the attack on that server, and runs a pass. Then three things must hold: the device has not moved (same files, same
//! last-good, same floor), its condition names the reason that stands in the row, and an honest commit afterwards is
//! taken. Run all of them with `./tests/run.sh attacks`, one theme with `./tests/run.sh attacks::mounted::replay`.
//!
//! A row reads: name: who, "what is done" => the condition's type and its reason, how it goes on.
//!
//! Who could mount it, by what they hold:
//!
//! | word      | who                                                                                                     |
//! | --------- | ------------------------------------------------------------------------------------------------------- |
//! | `Host`    | the git host, a mirror, a man in the middle: moves refs and sends any bytes, holds no key               |
//! | `Pusher`  | anybody with push rights to the branch, and no key that a device knows                                  |
//! | `Retired` | the holder of a key that counted once or will count later: expired, revoked, not yet valid              |
//! | `Signer`  | the holder of a key that may sign something, but not this                                               |
//! | `Tamperer`| who can write to the device's own disk                                                                  |
//! | `Owner`   | nobody: a mistake of the device's owner, that must not open a door                                      |
//!
//! How it goes on: `OnTop`, an honest commit on top of the attacker's; `Dropped`, one on top of the last honest commit,
//! the attacker's dropped from the branch; `Mended`, the same once the device's owner has mended the device.
//!
//! Not in the table: two objects with one SHA-1. The known collisions begin with bytes that no git object begins with,
//! so there is none to serve; that the hash tells their marks is shown where it is used, in `trust::commit`.

mod certificates;
mod device;
mod encoding;
mod keys;
mod policy;
mod replay;
mod server;
mod stage;

/// Who could mount an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Host,
    Pusher,
    Retired,
    Signer,
    Tamperer,
    Owner,
}

/// The condition that says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// `Verified` is not `True`.
    Verified,
    /// `Stalled` is `True`.
    Stalled,
    /// `Ready` is `False`: what is shown where nothing was learnt about the branch.
    Ready,
    /// `Stale` is `True`.
    Stale,
}

/// How honest work goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    OnTop,
    Dropped,
    Mended,
}

/// A row.
#[derive(Debug, Clone, Copy)]
struct Attack {
    name: &'static str,
    by: By,
    done: &'static str,
    condition: Condition,
    reason: &'static str,
    until: Until,
}

macro_rules! attacks {
    ($($theme:ident { $($name:ident: $by:ident, $done:literal => $condition:ident $reason:literal, $until:ident;)+ })+) => {
        mod mounted {
            $(mod $theme {
                use crate::attacks::{$theme, Attack, By, Condition, Until};
                $(
                    #[test]
                    fn $name() {
                        $theme::$name(Attack {
                            name: stringify!($name),
                            by: By::$by,
                            done: $done,
                            condition: Condition::$condition,
                            reason: $reason,
                            until: Until::$until,
                        });
                    }
                )+
            })+
        }
    };
}

attacks! {
    // Signed well, and not for here and now.
    replay {
        an_older_commit_signed_well: Host, "sets the branch back to an older commit" => Verified "not-descendant", Dropped;
        a_fork_from_below_the_floor: Signer, "signs a commit on top of an older one, beside the newest" => Verified "not-descendant", Dropped;
        a_history_of_its_own: Signer, "forces a signed commit without parents" => Verified "not-descendant", Dropped;
        a_branch_that_is_frozen: Host, "serves the same tip for ever" => Stale "TooOld", OnTop;
        a_tag_with_the_name_of_the_branch: Pusher, "puts refs/tags/main on an unsigned commit; the branch stays" => Ready "Converged", OnTop;
        a_branch_that_is_gone: Host, "deletes the branch and leaves a tag of its name" => Ready "network", Dropped;
    }

    // Who may sign what.
    policy {
        a_canary_commit_on_stable: Host, "moves a signed commit that is bound to canary onto stable" => Verified "wrong-branch", Dropped;
        a_commit_bound_to_two_branches: Signer, "names both branches in the trailers" => Verified "wrong-branch", Dropped;
        a_binding_outside_of_the_trailers: Signer, "names the branch in the text, not in the last paragraph" => Verified "wrong-branch", Dropped;
        a_canary_signer_on_stable: Signer, "signs a commit for a branch that others sign" => Verified "wrong-branch", Dropped;
        a_key_used_in_the_commit_that_adds_it: Pusher, "adds its key to trust/allowed_signers in the commit it signs" => Verified "unknown-key", Dropped;
        a_fleet_of_another_name: Signer, "serves another fleet of the same signers" => Stalled "wrong-fleet", Dropped;
        a_file_in_the_agents_own_place: Signer, "declares a file over the device's allowed_signers" => Stalled "guard", OnTop;
        a_file_over_the_users_passwords: Signer, "declares /etc/shadow" => Stalled "guard", OnTop;
    }

    // Keys that count no more, not yet, or for something else.
    keys {
        no_signature: Pusher, "pushes an unsigned commit" => Verified "unsigned", OnTop;
        a_stranger_under_a_trusted_name: Pusher, "signs with a key of its own, as the same principal" => Verified "unknown-key", OnTop;
        a_key_that_has_expired: Retired, "signs with a key after its end" => Verified "key-expired", Dropped;
        a_commit_dated_into_an_expired_window: Retired, "signs with a key after its end, dated before it" => Verified "key-expired", Dropped;
        a_key_that_does_not_count_yet: Retired, "signs with a key before its beginning" => Verified "key-not-yet-valid", Dropped;
        a_revoked_key: Retired, "signs with a key on the list of revoked ones" => Verified "revoked", Dropped;
        an_authority_that_signs_itself: Signer, "signs with the key of a cert-authority line" => Verified "unknown-key", Dropped;
        a_signature_for_files: Signer, "carries a signature of the same bytes for namespace file" => Verified "wrong-namespace", Dropped;
        a_key_for_files_only: Signer, "signs commits with a key whose line says namespaces=file" => Verified "wrong-namespace", Dropped;
        a_signature_of_another_commit: Pusher, "carries over the signature of an older commit" => Verified "bad-signature", Dropped;
        a_message_changed_after_signing: Pusher, "changes the message and keeps the signature" => Verified "bad-signature", Dropped;
        a_tree_changed_after_signing: Pusher, "changes the tree and keeps the signature" => Verified "bad-signature", Dropped;
    }

    // Certificates that prove nothing, and what is revoked.
    certificates {
        a_certificate_of_another_authority: Pusher, "signs with a certificate by an authority of its own" => Verified "unknown-key", Dropped;
        a_name_written_into_a_certificate: Pusher, "writes a trusted name into a certificate for another" => Verified "bad-signature", Dropped;
        a_certificate_for_nobody: Signer, "signs with a certificate that names no principal" => Verified "unknown-key", Dropped;
        a_certificate_for_a_star: Signer, "signs with a certificate whose principal is *" => Verified "unknown-key", Dropped;
        a_certificate_for_hosts: Signer, "signs with a host's certificate by the trusted authority" => Verified "unknown-key", Dropped;
        a_certificate_that_is_over: Retired, "signs with a certificate after its end" => Verified "key-expired", Dropped;
        a_certificate_for_one_command: Signer, "signs with a certificate that carries force-command" => Verified "unsupported", Dropped;
        a_certificate_that_is_revoked_by_its_serial: Retired, "signs with a certificate in a revoked range of serials" => Verified "revoked", Dropped;
        a_new_certificate_for_a_revoked_key: Retired, "has a revoked key certified anew" => Verified "revoked", Dropped;
        a_certificate_of_a_revoked_authority: Retired, "signs with a certificate by an authority that is revoked" => Verified "revoked", Dropped;
        a_revocation_list_that_is_cut_off: Owner, "loses the end of the revocation list" => Verified "NoTrustPolicy", Mended;
    }

    // Commits as git would not write them.
    encoding {
        two_signatures_the_good_one_first: Pusher, "adds a second gpgsig header behind the good one" => Verified "bad-signature", Dropped;
        two_signatures_the_good_one_last: Pusher, "adds a second gpgsig header before the good one" => Verified "bad-signature", Dropped;
        a_signature_before_the_author: Pusher, "moves the gpgsig header up; git verifies this one" => Verified "bad-signature", Dropped;
        a_header_behind_the_signature: Signer, "signs a header that stands behind gpgsig" => Verified "bad-signature", Dropped;
        bytes_that_git_leaves_out: Pusher, "adds a header whose name begins with gpgsig; git verifies this one" => Verified "bad-signature", Dropped;
        a_signature_of_the_other_object_format: Pusher, "renames gpgsig to gpgsig-sha256" => Verified "bad-signature", Dropped;
        a_mergetag_that_is_signed_well: Pusher, "wraps a signed commit's signature into a mergetag header" => Verified "unsigned", Dropped;
        carriage_returns_in_the_armor: Pusher, "writes the armor with CRLF" => Verified "bad-signature", Dropped;
        a_nul_in_the_message: Signer, "signs a message that C programs end early" => Verified "bad-signature", Dropped;
        text_behind_the_armor: Pusher, "adds a line to the armor, behind its end" => Verified "bad-signature", Dropped;
        an_armor_without_its_end: Pusher, "cuts the last line of the armor off" => Verified "bad-signature", Dropped;
        the_committer_before_the_author: Signer, "signs headers in another order" => Verified "bad-signature", Dropped;
        a_second_tree: Signer, "signs a commit with two tree headers" => Verified "bad-signature", Dropped;
        a_time_that_is_no_number: Signer, "signs a committer line with a time of 99999999999999999999" => Verified "bad-signature", Dropped;
        a_message_of_ten_megabytes: Signer, "signs a commit object of 10 MB" => Verified "unsupported", Dropped;
        ten_thousand_parents: Signer, "signs a commit with 10 000 parents" => Verified "unsupported", Dropped;
    }

    // Servers that lie.
    server {
        a_file_of_other_content: Host, "serves other bytes in the place of a signed file" => Ready "store", Mended;
        a_pack_changed_on_its_way: Host, "flips one bit of the pack on the wire" => Ready "network", Mended;
        a_server_with_another_authority: Host, "answers with a certificate of a CA of its own" => Ready "network", Mended;
        a_symlink_for_a_document: Signer, "makes fleet.toml a symlink to /etc/passwd" => Stalled "schema", OnTop;
        a_submodule_for_a_document: Signer, "makes an app a submodule" => Stalled "schema", OnTop;
    }

    // On the device itself.
    device {
        the_floor_file_is_deleted: Tamperer, "deletes the floor file, and the branch is set back" => Verified "not-descendant", Dropped;
        the_floor_file_and_its_ref_are_deleted: Tamperer, "deletes the floor file and its ref, and the branch is set back" => Verified "not-descendant", Dropped;
        two_floors_that_contradict: Tamperer, "points the ref of the floor at another commit" => Stalled "TrustStateLost", Mended;
        an_allowed_signers_file_without_signers: Owner, "empties allowed_signers" => Verified "NoTrustPolicy", Mended;
        an_allowed_signers_file_that_is_gone: Owner, "removes allowed_signers" => Verified "NoTrustPolicy", Mended;
        an_allowed_signers_file_that_is_a_directory: Owner, "puts a directory in the place of allowed_signers" => Verified "NoTrustPolicy", Mended;
        a_list_of_revoked_keys_that_is_gone: Owner, "removes the configured list of revoked keys" => Verified "NoTrustPolicy", Mended;
    }
}
