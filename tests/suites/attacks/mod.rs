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
//! | `Root`    | one of root's signers, where two must have signed; or their signatures of long ago                       |
//! | `Tamperer`| who can write to the device's own disk                                                                  |
//! | `Owner`   | nobody: a mistake of the device's owner, that must not open a door                                      |
//!
//! How it goes on: `OnTop`, an honest commit on top of the attacker's; `Dropped`, one on top of the last honest commit,
//! the attacker's dropped from the branch; `Mended`, the same once the device's owner has mended the device; `Rewritten`,
//! a history of its own whose first commit is signed well and says `Supersedes: <floor>`.
//!
//! Not in the table: two objects with one SHA-1. The known collisions begin with bytes that no git object begins with, so
//! there is none to serve.

mod approvals;
mod certificates;
mod clock;
pub(crate) mod craft;
mod device;
mod encoding;
mod keys;
mod line;
mod policy;
mod replay;
mod rotation;
mod server;
mod stage;

/// Who could mount an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Host,
    Pusher,
    Retired,
    Signer,
    Root,
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
    Rewritten,
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
        a_first_revision_from_before_the_pin: Host, "serves an older commit to a new device that is pinned to a newer one" => Verified "not-descendant", Dropped;
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
        a_file_above_the_root: Signer, "declares /srv/../etc/shadow" => Stalled "schema", OnTop;
        a_file_behind_a_link: Signer, "declares a file through a symlink to the agent's own folder" => Stalled "guard", OnTop;
        a_command_that_checks: Signer, "declares a check that runs a command on the device" => Stalled "guard", OnTop;
        a_privileged_container: Signer, "declares a privileged container" => Stalled "guard", OnTop;
        a_mount_of_the_engines_socket: Signer, "mounts the engine's socket into a container" => Stalled "guard", OnTop;
        a_mount_above_a_protected_place: Signer, "mounts /etc into a container" => Stalled "guard", OnTop;
    }

    // Keys that count no more, not yet, or for something else.
    keys {
        no_signature: Pusher, "pushes an unsigned commit" => Verified "unsigned", OnTop;
        a_stranger_under_a_trusted_name: Pusher, "signs with a key of its own, as the same principal" => Verified "unknown-key", OnTop;
        a_key_that_has_expired: Retired, "signs with a key after its end" => Verified "key-expired", Dropped;
        a_commit_dated_into_an_expired_window: Retired, "signs with a key after its end, dated before it" => Verified "key-expired", Dropped;
        a_key_that_does_not_count_yet: Retired, "signs with a key before its beginning" => Verified "key-not-yet-valid", Dropped;
        a_revoked_key: Retired, "signs with a key on the list of revoked ones" => Verified "revoked", Dropped;
        a_key_that_is_too_short: Signer, "signs with an RSA key of 1024 bits" => Verified "unsupported", Dropped;
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
        a_certificate_that_does_not_count_yet: Retired, "signs with a certificate before its beginning" => Verified "key-not-yet-valid", Dropped;
        a_plain_signer_as_an_authority: Signer, "certifies another key with a key that may only sign" => Verified "unknown-key", Dropped;
        the_key_of_a_certificate_without_it: Signer, "signs with the certified key alone" => Verified "unknown-key", Dropped;
        a_certificate_that_is_revoked_by_its_name: Retired, "signs with a certificate whose key id is revoked" => Verified "revoked", Dropped;
        a_key_that_is_revoked_by_its_hash: Retired, "has a key certified whose SHA-256 is revoked" => Verified "revoked", Dropped;
        a_revocation_list_that_is_cut_off: Owner, "loses the end of the revocation list" => Verified "NoTrustPolicy", Mended;
    }

    // The trust set in the repository.
    rotation {
        a_set_that_nobody_signed: Signer, "adds a key to the set, unsigned, and uses it in the next commit" => Verified "unknown-key", Dropped;
        a_set_signed_by_the_release_signer: Signer, "signs the set with its own key, which is not root's" => Verified "unknown-key", Dropped;
        a_set_signed_by_those_whom_it_makes_root: Pusher, "brings a set with root keys of its own, signed by them" => Verified "unknown-key", Dropped;
        a_set_signed_by_one_of_two: Root, "signs a set alone" => Verified "unknown-key", Dropped;
        a_set_signed_twice_by_one_of_two: Root, "signs a set with two keys of its own" => Verified "unknown-key", Dropped;
        a_set_changed_after_signing: Signer, "adds a line to a set that root has signed" => Verified "unknown-key", Dropped;
        a_set_signed_as_a_commit_is: Root, "passes off signatures for namespace git as ones for trust sets" => Verified "unknown-key", Dropped;
        a_set_of_another_fleet: Root, "brings the set of another fleet of the same root" => Verified "unknown-key", Dropped;
        a_set_behind_a_symlink: Root, "makes the set a symlink to a file that one has signed" => Verified "unknown-key", Dropped;
        a_key_used_in_the_commit_in_which_root_adds_it: Signer, "signs the very commit that brings the set with its key" => Verified "unknown-key", Dropped;
        a_set_that_was_replaced: Retired, "brings back an older set, signed well by root, with its key in it" => Verified "unknown-key", Dropped;
        a_second_set_with_a_serial_in_use: Root, "brings another set with the serial of the one in force" => Verified "unknown-key", Dropped;
        a_local_signer_whom_the_set_dropped: Retired, "signs with a key that only the device's own file still names" => Verified "unknown-key", Dropped;
        the_trust_sets_are_deleted: Tamperer, "deletes the journal, and signs as one whom the set dropped" => Verified "unknown-key", Dropped;
    }

    // What stands between the floor and the tip.
    line {
        an_unsigned_commit_below_a_signed_one: Pusher, "pushes just before somebody who signs" => Verified "unsigned", Dropped;
        unsigned_commits_under_a_signed_merge: Pusher, "has an unsigned branch merged" => Verified "unsigned", Dropped;
        a_strangers_commits_under_a_signed_merge: Pusher, "has a branch merged that it signed itself" => Verified "unknown-key", Dropped;
        a_merge_the_wrong_way_round: Signer, "has the branch merged into a line that it signed for another one" => Verified "wrong-branch", Dropped;
        an_unsigned_commit_that_is_advanced_to: Pusher, "pushes between two signed ones; the device stops before it" => Verified "unsigned", Dropped;
        a_rewrite_by_a_stranger: Pusher, "starts anew, with a signature of its own and Supersedes: <floor>" => Verified "unknown-key", Rewritten;
        a_rewrite_that_nobody_signed: Pusher, "starts anew, unsigned, with Supersedes: <floor>" => Verified "unsigned", Rewritten;
        a_rewrite_of_another_floor: Signer, "starts anew with Supersedes: <some other commit>" => Verified "not-descendant", Rewritten;
        a_rewrite_in_prose: Signer, "names the floor in the text, not in the last paragraph" => Verified "not-descendant", Rewritten;
        a_rewrite_beside_the_line: Signer, "merges the commit that supersedes the floor in from the side" => Verified "not-descendant", Rewritten;
    }

    // How many have signed, and who may only say that a branch is alive.
    approvals {
        a_change_that_one_has_signed: Signer, "signs alone where two must have" => Verified "too-few-approvals", Dropped;
        two_keys_of_one_person: Signer, "approves its own change with another key of its own" => Verified "too-few-approvals", Dropped;
        an_approval_by_a_stranger: Signer, "has a stranger approve, under the name of the second" => Verified "too-few-approvals", Dropped;
        an_approval_for_another_branch: Signer, "carries over an approval of the same tree for canary" => Verified "too-few-approvals", Dropped;
        an_approval_for_another_fleet: Signer, "carries over an approval of the same tree for another fleet" => Verified "too-few-approvals", Dropped;
        an_approval_made_as_a_commits_signature: Signer, "passes off a signature for namespace git as an approval" => Verified "too-few-approvals", Dropped;
        an_approval_of_another_tree: Signer, "changes the tree after it was approved" => Verified "too-few-approvals", Dropped;
        an_approval_from_before_the_branch_moved_on: Signer, "puts an old approved tree on a newer tip" => Verified "too-few-approvals", Dropped;
        an_approval_by_the_key_of_heartbeats: Signer, "has the heartbeat's key approve" => Verified "too-few-approvals", Dropped;
        a_change_by_the_key_of_heartbeats: Signer, "signs a change with the heartbeat's key" => Verified "unknown-key", Dropped;
        a_heartbeat_with_another_tree: Signer, "calls a change a heartbeat" => Verified "unknown-key", Dropped;
        a_heartbeat_that_merges: Signer, "makes a heartbeat with two parents and the tree of the second" => Verified "unknown-key", Dropped;
        a_heartbeat_on_an_unsigned_commit: Signer, "puts a good heartbeat on an unsigned commit" => Verified "unsigned", Dropped;
        a_rewrite_by_the_key_of_heartbeats: Signer, "starts anew with the heartbeat's key and Supersedes: <floor>" => Verified "unknown-key", Rewritten;
    }

    // Dates.
    clock {
        a_commit_from_the_future: Signer, "dates a commit years ahead, against a clock that is known to be right" => Verified "bad-date", Dropped;
        a_commit_dated_years_before_its_parent: Signer, "dates a commit years before its parent" => Verified "bad-date", Dropped;
        a_commit_dated_far_ahead_poisons_nothing: Signer, "dates a commit 60 years ahead, on a device without a clock" => Verified "Trusted", OnTop;
        a_commit_that_was_withheld: Host, "serves a commit at last that was withheld for weeks (stale = hold)" => Stale "TooOld", Dropped;
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
        every_copy_of_the_floor_is_lost: Tamperer, "deletes file, ref and journal; containers still run" => Stalled "TrustStateLost", Mended;
        a_disk_in_another_machine: Tamperer, "puts a device's disk into a machine that its document does not name" => Stalled "wrong-device", OnTop;
        an_allowed_signers_file_without_signers: Owner, "empties allowed_signers" => Verified "NoTrustPolicy", Mended;
        an_allowed_signers_file_that_is_gone: Owner, "removes allowed_signers" => Verified "NoTrustPolicy", Mended;
        an_allowed_signers_file_that_is_a_directory: Owner, "puts a directory in the place of allowed_signers" => Verified "NoTrustPolicy", Mended;
        a_list_of_revoked_keys_that_is_gone: Owner, "removes the configured list of revoked keys" => Verified "NoTrustPolicy", Mended;
    }
}
