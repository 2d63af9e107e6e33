//! More streams for one move: its pages go by several connections, each with a channel of its own.
//!
//! One stream is as fast as one congestion window and one core's cipher. Where packets are lost on a long way, or the
//! link is faster than a core, several together carry more. Only pages go by them: whatever has to come in order
//! goes by the link that the move began with, and how many pages a round has is counted.

use crate::agent::Agent;
use crate::link::Link;
use anyhow::{Result, bail};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use wayfare_transfer::message::Message;
use wayfare_transfer::{Incoming, Kind, TaskId};

/// Most streams of one move, the first one included.
pub const STREAMS_MAX: u8 = 8;
/// Batches that wait in a stream: one to be sent while another is.
const WAITING: usize = 2;

/// The source's further streams.
#[derive(Default)]
pub(crate) struct Lanes {
    lanes: Vec<Sender<Vec<u8>>>,
    /// Told when one of them has room again.
    freed: Arc<Notify>,
}

impl Lanes {
    /// Takes one in; `failed` is called if it breaks while pages are to be sent by it.
    pub(crate) fn add(&mut self, link: Link, failed: impl FnOnce(anyhow::Error) + Send + 'static) {
        let (pages, waiting) = channel(WAITING);
        self.lanes.push(pages);
        let freed = self.freed.clone();
        freed.notify_one();
        tokio::spawn(async move {
            if let Err(e) = carry(link, waiting, &freed).await {
                failed(e);
            }
        });
    }

    /// Whether one has room.
    pub(crate) fn has_room(&self) -> bool {
        self.lanes.iter().any(|lane| lane.capacity() > 0)
    }

    /// Sends pages by the one that has most room; `false` if there is none, and `pages` is as it was.
    pub(crate) fn send(&self, pages: &mut Vec<u8>) -> bool {
        let lane = self.lanes.iter().max_by_key(|lane| lane.capacity());
        let Some(permit) = lane.and_then(|lane| lane.try_reserve().ok()) else { return false };
        permit.send(std::mem::take(pages));
        true
    }

    /// Waits until one has room again; for ever, if there is none.
    pub(crate) async fn freed(&self) {
        match self.lanes.is_empty() {
            true => std::future::pending().await,
            false => self.freed.notified().await,
        }
    }

    /// All pages have been given out: what waits is sent, then they close.
    pub(crate) fn close(&mut self) {
        self.lanes.clear();
    }
}

async fn carry(mut link: Link, mut waiting: Receiver<Vec<u8>>, freed: &Notify) -> Result<()> {
    while let Some(pages) = waiting.recv().await {
        link.send(Kind::Pages, &pages).await?;
        freed.notify_one();
    }
    link.close().await;
    Ok(())
}

/// Dials one more stream for a move that was accepted.
///
/// # Errors
/// When the node is not there.
pub(crate) async fn dial(agent: &Agent, to: &str, task: TaskId, epoch: u64) -> Result<Link> {
    let mut link = agent.dial(to).await?;
    link.send(Kind::Transfer, &Message::Lane { task, epoch }.encode()).await?;
    Ok(link)
}

/// Takes pages in by a further stream, until the source closes it.
///
/// # Errors
/// When it breaks, or something else than pages comes.
pub(crate) async fn receive(mut link: Link, pages: &Sender<Incoming>) -> Result<()> {
    loop {
        let message = link.receive().await?;
        if message.kind != Kind::Pages {
            bail!("something else than pages");
        }
        if pages.send(message).await.is_err() {
            return Ok(());
        }
    }
}
