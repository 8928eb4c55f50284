//! A blob in a local file.
