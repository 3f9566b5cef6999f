//! binld
