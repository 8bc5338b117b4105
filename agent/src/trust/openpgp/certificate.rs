//! A certificate: a primary key, the names and subkeys that it binds to itself, and what it says of how long.
//!
//! Of each binding the newest self-signature counts, as in GnuPG; where that one is over a weak hash, the binding does
//! not count, and no older one takes its place. Signatures by others are not looked at, but that somebody whom the key
//! itself appointed may have revoked it. A revocation that cannot be verified counts nevertheless: who put it there
//! meant something by it.

use std::cmp::Reverse;

use pgp::packet::{PublicKey, PublicSubkey, SignatureType, UserId};
use pgp::types::{KeyDetails as _, Tag};

use super::facts::{self, Facts, Hash, Issuer};
use crate::domain::revision::Timestamp;
use crate::trust::verdict::Reason;

/// One signature packet of a certificate.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Read(Box<Facts>),
    /// One that cannot be judged; its type, where even that can be told.
    Unread(Option<u8>),
}

impl Part {
    pub(super) fn of(body: &[u8]) -> Self {
        match facts::signature(body) {
            Ok(facts) => Self::Read(Box::new(facts)),
            Err(_) => Self::Unread(match body {
                [2 | 3, _, kind, ..] | [_, kind, ..] => Some(*kind),
                _ => None,
            }),
        }
    }

    pub(super) fn is_kind(&self, kind: SignatureType) -> bool {
        match self {
            Self::Read(facts) => facts.kind == kind,
            Self::Unread(number) => number.is_none_or(|number| number == u8::from(kind)),
        }
    }

    fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Read(facts) => Some(facts),
            Self::Unread(_) => None,
        }
    }

    /// Whether it has to be taken for the key's own, or for one by somebody whom the key appointed.
    fn may_be_by(&self, primary: &PublicKey, has_revoker: HasRevoker) -> bool {
        match self {
            Self::Read(facts) => {
                has_revoker == HasRevoker::Yes
                    || !facts.issuer.is_named()
                    || facts.issuer.might_be(primary)
            }
            Self::Unread(_) => true,
        }
    }
}

/// Whether the key appointed somebody who may revoke it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HasRevoker {
    Yes,
    No,
}

/// A certificate as it stands in a keyring, nothing of it verified.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) primary: PublicKey,
    pub(super) parts: Vec<Part>,
    pub(super) users: Vec<(UserId, Vec<Part>)>,
    pub(super) subkeys: Vec<(PublicSubkey, Vec<Part>)>,
}

impl Draft {
    /// Takes in what another copy of the same certificate has: the one with the revocation may stand behind the older.
    pub(super) fn merge(&mut self, other: Self) {
        self.parts.extend(other.parts);
        for (id, parts) in other.users {
            match self.users.iter_mut().find(|(own, _)| own.id() == id.id()) {
                Some((_, own)) => own.extend(parts),
                None => self.users.push((id, parts)),
            }
        }
        for (key, parts) in other.subkeys {
            let own = self
                .subkeys
                .iter_mut()
                .find(|(own, _)| own.fingerprint() == key.fingerprint());
            match own {
                Some((_, own)) => own.extend(parts),
                None => self.subkeys.push((key, parts)),
            }
        }
    }
}

/// Which key of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Primary,
    Subkey(usize),
}

/// Whether a key is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    InUse,
    Revoked,
}

#[derive(Debug, Clone)]
struct User {
    address: Option<String>,
    binding: Facts,
}

#[derive(Debug, Clone)]
struct Subkey {
    key: PublicSubkey,
    standing: Standing,
    /// What binds it; the error: why nothing does.
    binding: Result<Facts, &'static str>,
}

/// A certificate, its own signatures verified.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    primary: PublicKey,
    standing: Standing,
    direct: Option<Facts>,
    users: Vec<User>,
    subkeys: Vec<Subkey>,
    /// A self-signature over a weak hash left something out.
    weak: Option<String>,
}

/// As whom a key may sign, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Permit {
    pub(super) principal: String,
    pub(super) from: u64,
    pub(super) until: Option<u64>,
}

impl Certificate {
    /// Verifies what a certificate says of itself. `strays`: revocations that stand elsewhere in the keyring.
    pub(super) fn of(draft: Draft, strays: &[&Facts]) -> Self {
        let Draft {
            primary,
            parts,
            users,
            subkeys,
        } = draft;
        let mut weak = None;
        let direct = newest(
            &parts,
            &primary,
            |facts| facts.kind == SignatureType::Key,
            |facts| facts.packet.verify_key(&primary).is_ok(),
        )
        .map(|facts| match facts.hash {
            Hash::Good => facts.clone(),
            // What it takes away counts, and what it gives does not.
            Hash::Weak(_) => Facts {
                may_sign: facts.may_sign.filter(|may| !may),
                ..facts.clone()
            },
        });
        let has_revoker = if parts
            .iter()
            .chain(users.iter().flat_map(|(_, parts)| parts))
            .filter_map(Part::facts)
            .any(|facts| facts.has_revoker && facts.issuer.might_be(&primary))
        {
            HasRevoker::Yes
        } else {
            HasRevoker::No
        };
        let everywhere = parts
            .iter()
            .chain(users.iter().flat_map(|(_, parts)| parts))
            .chain(subkeys.iter().flat_map(|(_, parts)| parts));
        let revoked = everywhere
            .clone()
            .any(|part| is_revocation(part, SignatureType::KeyRevocation, &primary, has_revoker))
            || strays.iter().any(|facts| {
                facts.kind == SignatureType::KeyRevocation
                    && facts.issuer.might_be(&primary)
                    && facts.packet.verify_key(&primary).is_ok()
            });
        // They may stand anywhere in the certificate, where a file was put together by hand.
        let elsewhere: Vec<&Facts> = everywhere
            .filter_map(Part::facts)
            .chain(strays.iter().copied())
            .filter(|facts| facts.kind == SignatureType::SubkeyRevocation)
            .collect();
        let subkeys = subkeys
            .iter()
            .map(|(key, parts)| {
                let revoked = parts.iter().any(|part| {
                    is_revocation(part, SignatureType::SubkeyRevocation, &primary, has_revoker)
                }) || elsewhere
                    .iter()
                    .any(|facts| facts.packet.verify_subkey_binding(&primary, key).is_ok());
                Subkey {
                    key: key.clone(),
                    standing: standing(revoked),
                    binding: binding(&primary, key, parts, &mut weak),
                }
            })
            .collect();
        let users = users
            .iter()
            .filter(|(_, parts)| {
                !parts.iter().any(|part| {
                    is_revocation(
                        part,
                        SignatureType::CertRevocation,
                        &primary,
                        HasRevoker::No,
                    )
                })
            })
            .filter_map(|(id, parts)| {
                let binding = newest(
                    parts,
                    &primary,
                    |facts| {
                        facts.packet.is_certification()
                            && facts.kind != SignatureType::CertRevocation
                    },
                    |facts| {
                        facts
                            .packet
                            .verify_certification(&primary, Tag::UserId, id)
                            .is_ok()
                    },
                )
                .and_then(|facts| strong(facts, &mut weak))?;
                Some(User {
                    address: address(id.id()),
                    binding,
                })
            })
            .collect();
        Self {
            standing: standing(revoked),
            primary,
            direct,
            users,
            subkeys,
            weak,
        }
    }

    /// The primary key's fingerprint.
    pub(super) fn fingerprint(&self) -> String {
        self.fingerprint_of(Which::Primary)
    }

    pub(super) fn fingerprint_of(&self, which: Which) -> String {
        facts::hex(
            match which {
                Which::Primary => self.primary.fingerprint(),
                Which::Subkey(index) => self.subkeys[index].key.fingerprint(),
            }
            .as_bytes(),
        )
    }

    /// The key's type; the error: why it cannot verify anything here.
    pub(super) fn key_type(&self, which: Which) -> Result<String, String> {
        match which {
            Which::Primary => facts::key_type(&self.primary),
            Which::Subkey(index) => facts::key_type(&self.subkeys[index].key),
        }
    }

    /// Its keys, the primary one first.
    pub(super) fn keys(&self) -> impl Iterator<Item = Which> + '_ {
        std::iter::once(Which::Primary).chain((0..self.subkeys.len()).map(Which::Subkey))
    }

    /// Its keys that a signature claims to be by.
    pub(super) fn named_by<'a>(&'a self, issuer: &'a Issuer) -> impl Iterator<Item = Which> + 'a {
        self.keys().filter(|which| match which {
            Which::Primary => issuer.is(&self.primary),
            Which::Subkey(index) => issuer.is(&self.subkeys[*index].key),
        })
    }

    /// Whether the key, or the primary one above it, is revoked.
    pub(super) fn standing(&self, which: Which) -> Standing {
        match (self.standing, which) {
            (Standing::Revoked, _) => Standing::Revoked,
            (Standing::InUse, Which::Primary) => Standing::InUse,
            (Standing::InUse, Which::Subkey(index)) => self.subkeys[index].standing,
        }
    }

    /// Whether a signature is the key's, over this content.
    pub(super) fn made(&self, which: Which, signature: &Facts, content: &[u8]) -> bool {
        let algorithm = signature.packet.config().map(|config| config.pub_alg);
        match which {
            Which::Primary => {
                algorithm == Some(self.primary.algorithm())
                    && signature.packet.verify(&self.primary, content).is_ok()
            }
            Which::Subkey(index) => {
                let key = &self.subkeys[index].key;
                algorithm == Some(key.algorithm()) && signature.packet.verify(key, content).is_ok()
            }
        }
    }

    /// As whom the key may sign, judged at a time.
    pub(super) fn permit(&self, which: Which, at: Timestamp) -> Result<Permit, (Reason, String)> {
        let at = u64::try_from(at.0).unwrap_or(0);
        let own = self
            .direct
            .iter()
            .chain(self.users.iter().map(|user| &user.binding));
        let from = u64::from(self.primary.created_at().as_secs());
        let until = own
            .clone()
            .filter_map(|facts| facts.key_lasts.map(|lasts| from + lasts))
            .min();
        let (from, until) = match which {
            Which::Primary => {
                let mut flags = own.filter_map(|facts| facts.may_sign).peekable();
                if flags.peek().is_none() || !flags.all(|may| may) {
                    return Err(self.refuse("is not one for signing"));
                }
                (from, until)
            }
            Which::Subkey(index) => {
                let subkey = &self.subkeys[index];
                let binding = subkey.binding.as_ref().map_err(|why| self.refuse(why))?;
                let created = u64::from(subkey.key.created_at().as_secs());
                let lasts = binding.key_lasts.map(|lasts| created + lasts);
                let until = [until, lasts, binding.expires].into_iter().flatten().min();
                (from.max(created), until)
            }
        };
        let principal = self
            .principal(at)
            .ok_or_else(|| self.refuse("has no user id with an address that it signed itself"))?;
        Ok(Permit {
            principal: principal.to_owned(),
            from,
            until,
        })
    }

    /// The address of the primary user id (RFC 9580, section 5.2.3.27), of those that have one.
    pub(super) fn principal(&self, at: u64) -> Option<&str> {
        let mut chosen: Option<&User> = None;
        for user in &self.users {
            let over = user.binding.expires.is_some_and(|end| at >= end);
            if over || user.address.is_none() {
                continue;
            }
            let rank = |user: &User| (user.binding.primary_user, user.binding.created);
            if chosen.is_none_or(|best| rank(user) > rank(best)) {
                chosen = Some(user);
            }
        }
        chosen?.address.as_deref()
    }

    fn refuse(&self, why: &str) -> (Reason, String) {
        let weak = match &self.weak {
            Some(hash) => format!(
                " (a self-signature of it over {hash} does not count: renew it, as with `gpg --quick-set-expire`)"
            ),
            None => String::new(),
        };
        (
            Reason::UnknownKey,
            format!("its key in the keyring {why}{weak}"),
        )
    }
}

fn standing(revoked: bool) -> Standing {
    if revoked {
        Standing::Revoked
    } else {
        Standing::InUse
    }
}

fn is_revocation(
    part: &Part,
    kind: SignatureType,
    primary: &PublicKey,
    has_revoker: HasRevoker,
) -> bool {
    part.is_kind(kind) && part.may_be_by(primary, has_revoker)
}

/// The newest of the key's own signatures of a kind that fits; of two of the same second, the later in the file. One over a
/// weak hash, which may not even be verified, is not passed over in favour of an older one: it may have taken something away.
fn newest<'a>(
    parts: &'a [Part],
    primary: &PublicKey,
    is_kind: impl Fn(&Facts) -> bool,
    fits: impl Fn(&Facts) -> bool,
) -> Option<&'a Facts> {
    let mut own: Vec<&Facts> = parts
        .iter()
        .rev()
        .filter_map(Part::facts)
        .filter(|facts| facts.issuer.is(primary) && is_kind(facts))
        .collect();
    own.sort_by_key(|facts| Reverse(facts.created));
    own.into_iter()
        .find(|facts| facts.hash != Hash::Good || fits(facts))
}

fn strong(facts: &Facts, weak: &mut Option<String>) -> Option<Facts> {
    match &facts.hash {
        Hash::Good => Some(facts.clone()),
        Hash::Weak(name) => {
            *weak = Some(name.clone());
            None
        }
    }
}

/// What lets a subkey sign: the primary key's signature over it, and its own over the primary key.
fn binding(
    primary: &PublicKey,
    key: &PublicSubkey,
    parts: &[Part],
    weak: &mut Option<String>,
) -> Result<Facts, &'static str> {
    let found = newest(
        parts,
        primary,
        |facts| facts.kind == SignatureType::SubkeyBinding,
        |facts| facts.packet.verify_subkey_binding(primary, key).is_ok(),
    )
    .ok_or("is a subkey that the primary key did not bind to itself")?;
    let found = strong(found, weak).ok_or("is a subkey that a signature over a weak hash binds")?;
    if found.may_sign != Some(true) {
        return Err("is not one for signing");
    }
    let back = found
        .packet
        .embedded_signature()
        .cloned()
        .and_then(|back| facts::of(back).ok())
        .filter(|back| back.packet.verify_primary_key_binding(key, primary).is_ok())
        .ok_or("is a subkey that did not sign for its primary key")?;
    strong(&back, weak).ok_or("is a subkey that signed for its primary key over a weak hash")?;
    Ok(found)
}

/// The address in a user id: what is in its last pair of angle brackets, or all of it.
fn address(id: &[u8]) -> Option<String> {
    let id = std::str::from_utf8(id).ok()?.trim();
    let inner = match id.strip_suffix('>') {
        Some(rest) => rest.rsplit_once('<')?.1,
        None => id,
    };
    let (local, domain) = inner.split_once('@')?;
    let plain = |text: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| !c.is_whitespace() && !c.is_control() && !r#"@<>()[],;:\"*?!"#.contains(c))
    };
    (plain(local) && plain(domain)).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn the_address_of_a_user_id_is_in_its_last_angle_brackets() {
        let found = |id: &str| address(id.as_bytes());
        let alice = Some("alice@acme.example".to_owned());
        assert_eq!(found("Alice <alice@acme.example>"), alice);
        assert_eq!(found("Alice (work) <alice@acme.example>"), alice);
        assert_eq!(found("alice@acme.example"), alice);
        assert_eq!(found("Eve <root@acme.example> <alice@acme.example>"), alice);
        assert_eq!(found("Alice"), None);
        assert_eq!(found("Alice <alice>"), None);
        assert_eq!(found("Alice <*@acme.example>"), None);
        assert_eq!(found("Alice <a@b@acme.example>"), None);
        assert_eq!(found("alice@acme.example Alice"), None);
        assert_eq!(address(b"Alice <\xff@acme.example>"), None);
    }
}
