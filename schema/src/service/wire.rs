//! How single values look in Compose's long form: durations as Go prints them, bytes as text, hosts as a list.

use serde::{Deserialize, Serialize};

use super::Ulimit;

/// A limit: one number where soft and hard are equal, as Compose prints it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum UlimitWire {
    /// Both.
    Single(i64),
    /// Each.
    Pair {
        /// What applies.
        soft: i64,
        /// How far the process may raise it.
        hard: i64,
    },
}

impl From<Ulimit> for UlimitWire {
    fn from(limit: Ulimit) -> Self {
        if limit.soft == limit.hard {
            Self::Single(limit.soft)
        } else {
            Self::Pair {
                soft: limit.soft,
                hard: limit.hard,
            }
        }
    }
}

impl From<UlimitWire> for Ulimit {
    fn from(wire: UlimitWire) -> Self {
        match wire {
            UlimitWire::Single(both) => Self {
                soft: both,
                hard: both,
            },
            UlimitWire::Pair { soft, hard } => Self { soft, hard },
        }
    }
}

/// `null` for a network that is joined with nothing else said.
pub(super) mod networks {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::name::ServiceName;
    use crate::service::ServiceNetwork;

    pub(in crate::service) fn serialize<S: Serializer>(
        networks: &BTreeMap<ServiceName, ServiceNetwork>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.collect_map(networks.iter().map(|(name, network)| {
            let shown = (*network != ServiceNetwork::default()).then_some(network);
            (name, shown)
        }))
    }

    pub(in crate::service) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<ServiceName, ServiceNetwork>, D::Error> {
        let wire = BTreeMap::<ServiceName, Option<ServiceNetwork>>::deserialize(from)?;
        Ok(wire
            .into_iter()
            .map(|(name, network)| (name, network.unwrap_or_default()))
            .collect())
    }
}

/// Anything with `Display` and `FromStr`, as text.
pub(super) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::service) fn serialize<T: Display, S: Serializer>(
        value: &T,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.collect_str(value)
    }

    pub(in crate::service) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A number of bytes as text, as Compose prints it.
pub(super) mod bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::service) fn serialize<S: Serializer>(
        value: &Option<u64>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(bytes) => out.collect_str(bytes),
            None => out.serialize_none(),
        }
    }

    pub(in crate::service) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<u64>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| text.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}

/// A number as text, as Compose prints `memswap_limit`.
pub(super) mod text_option {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::service) fn serialize<S: Serializer>(
        value: &Option<i64>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(number) => out.collect_str(number),
            None => out.serialize_none(),
        }
    }

    pub(in crate::service) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<i64>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| text.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}

/// Permission bits as text in base 8, as Compose prints them.
pub(super) mod mode {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::service) fn serialize<S: Serializer>(
        value: &Option<u32>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(bits) => out.collect_str(&format_args!("{bits:04o}")),
            None => out.serialize_none(),
        }
    }

    pub(in crate::service) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<u32>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| u32::from_str_radix(&text, 8).map_err(serde::de::Error::custom))
            .transpose()
    }
}

/// A share of CPUs as a number.
pub(super) mod cpus {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(
        clippy::cast_precision_loss,
        reason = "decoding keeps it below 2^53: exact to the billionth"
    )]
    pub(in crate::service) fn serialize<S: Serializer>(
        value: &Option<u64>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(nano) => out.serialize_f64(*nano as f64 / 1e9),
            None => out.serialize_none(),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and decoding keeps it in range"
    )]
    pub(in crate::service) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<u64>, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.map(|cpus| (cpus * 1e9).round() as u64))
    }
}

/// A duration as Go prints it (`1m30s`).
pub(super) mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::service::units;

    pub(in crate::service) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => out.serialize_str(&units::print_duration(*duration)),
            None => out.serialize_none(),
        }
    }

    pub(in crate::service) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| units::duration(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}

/// Hosts as a list of `name=address`.
pub(super) mod hosts {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::{Deserialize, Deserializer, Serializer};

    type Hosts = BTreeMap<String, BTreeSet<String>>;

    pub(in crate::service) fn serialize<S: Serializer>(
        hosts: &Hosts,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.collect_seq(hosts.iter().flat_map(|(name, addresses)| {
            addresses
                .iter()
                .map(move |address| format!("{name}={address}"))
        }))
    }

    pub(in crate::service) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Hosts, D::Error> {
        let mut hosts = Hosts::new();
        for line in Vec::<String>::deserialize(from)? {
            let (name, address) = line
                .split_once('=')
                .ok_or_else(|| serde::de::Error::custom("a host without an address"))?;
            hosts
                .entry(name.to_owned())
                .or_default()
                .insert(address.to_owned());
        }
        Ok(hosts)
    }
}

/// A port number as text, as Compose prints `published`.
pub(super) mod port {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::service) fn serialize<S: Serializer>(
        value: &Option<u16>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(port) => out.collect_str(port),
            None => out.serialize_none(),
        }
    }

    pub(in crate::service) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<u16>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| text.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}
