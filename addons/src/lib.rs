//! addons
