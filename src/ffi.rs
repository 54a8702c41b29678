//! The boundary to `native/`.
