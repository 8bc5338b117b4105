//! Bytes in, proof out: who signed a commit, and whether policy allows it. Pure.

pub mod verified;
