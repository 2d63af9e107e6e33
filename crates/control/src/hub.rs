//! What has changed, told to all who listen: each change has a number, and whoever was away for a while hears what was missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;
use wayfare_api::Event;

/// Changes that are kept for who was away, and that a slow listener may be behind.
const KEPT: usize = 8192;

/// A change, which is put into words when the first listener wants to hear it, and once.
pub(crate) struct Told {
    number: u64,
    event: Event,
    json: OnceLock<String>,
}

impl Told {
    /// As JSON.
    pub(crate) fn json(&self) -> &str {
        self.json.get_or_init(|| serde_json::to_string(&self.event).unwrap_or_default())
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> &'static str {
        self.event.kind()
    }
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Hub {
    /// Numbers of another life of the controller are others.
    life: u64,
    kept: Arc<Mutex<(u64, VecDeque<Arc<Told>>)>>,
    told: broadcast::Sender<Arc<Told>>,
}

/// What a listener hears: what was missed, or that too much was; and then what comes.
pub(crate) struct Listener {
    /// More was missed than is kept: look at all anew.
    pub(crate) is_behind: bool,
    pub(crate) missed: Vec<Arc<Told>>,
    pub(crate) coming: broadcast::Receiver<Arc<Told>>,
}

impl Hub {
    pub(crate) fn new() -> Hub {
        let life = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Hub { life, kept: Arc::default(), told: broadcast::Sender::new(KEPT) }
    }

    /// Tells of changes.
    pub(crate) fn tell(&self, events: impl Iterator<Item = Event>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            kept.0 += 1;
            let told = Arc::new(Told { number: kept.0, event, json: OnceLock::new() });
            if kept.1.len() == KEPT {
                kept.1.pop_front();
            }
            kept.1.push_back(told.clone());
            // That nobody listens is no failure.
            let _ = self.told.send(told);
        }
    }

    /// The word for a change that a listener gives to go on after it.
    pub(crate) fn mark(&self, told: &Told) -> String {
        format!("{}-{}", self.life, told.number)
    }

    /// Listens from now on; from after a change, if its word is given.
    pub(crate) fn listen(&self, after: Option<&str>) -> Listener {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let coming = self.told.subscribe();
        let Some(after) = after else { return Listener { is_behind: false, missed: Vec::new(), coming } };
        let number = after.split_once('-').filter(|(life, _)| life.parse() == Ok(self.life));
        let number = number.and_then(|(_, number)| number.parse::<u64>().ok());
        let first = kept.1.front().map_or(kept.0 + 1, |told| told.number);
        match number.filter(|number| *number + 1 >= first && *number <= kept.0) {
            Some(number) => {
                let missed = kept.1.iter().filter(|told| told.number > number).cloned().collect();
                Listener { is_behind: false, missed, coming }
            }
            None => Listener { is_behind: true, missed: Vec::new(), coming },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: u64) -> Event {
        Event::Gone { at: n, name: format!("n{n}") }
    }

    #[test]
    fn who_was_away_hears_what_was_missed_or_that_too_much_was() {
        let hub = Hub::new();
        hub.tell((1..=3).map(event));
        let all = hub.listen(None);
        assert!(!all.is_behind && all.missed.is_empty());
        let mark = |n| format!("{}-{n}", hub.life);
        let listener = hub.listen(Some(&mark(1)));
        assert_eq!(listener.missed.iter().map(|told| hub.mark(told)).collect::<Vec<_>>(), [mark(2), mark(3)]);
        assert!(listener.missed[0].json().contains("n2"));
        let up_to_date = hub.listen(Some(&mark(3)));
        assert!(!up_to_date.is_behind && up_to_date.missed.is_empty());
        for wrong in [mark(4), "7-1".into(), "x".into(), format!("{}-", hub.life)] {
            assert!(hub.listen(Some(&wrong)).is_behind, "{wrong}");
        }
        hub.tell((0..KEPT as u64).map(event));
        assert!(hub.listen(Some(&mark(2))).is_behind);
        assert!(!hub.listen(Some(&mark(3))).is_behind);
    }
}
