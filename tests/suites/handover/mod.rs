//! A device comes and goes: its identity, taking over what stands there, and handing it back.

mod adopt;
mod enroll;
mod leave;
