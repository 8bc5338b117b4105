//! Samples and a deadline in, a verdict out. Pure: the loop takes the samples, this room judges them.

/// Proof that a revision was healthy through its soak (or resolves to what was already good). Only this room makes
/// one, and `journal.commit` demands one.
#[derive(Debug)]
pub struct Healthy(());
