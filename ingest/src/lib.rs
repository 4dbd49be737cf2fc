//! skeleton

#[cfg(feature = "encode")]
pub mod page;
