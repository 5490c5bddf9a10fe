//! Images that are fetched: from a server that does all that servers and networks do, and from folders.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod breaks;
mod folders;
mod lies;
mod network;
mod setting;
mod store;
mod whole;
