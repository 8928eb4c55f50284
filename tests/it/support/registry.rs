//! A scripted registry.
