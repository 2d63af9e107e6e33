//! The network: a virtio card, TCP/IP over it, and streams that the agent's tasks wait for.

mod card;
mod stack;

pub use stack::{Net, Stream};
