//! The memory for texts that arrive.
//!
//! Each text takes a share of it as it grows. Without a share, a text goes to its file early, and a
//! header section waits for a while. So many sessions together hold no more than
//! `limits.text_memory`, and what each may hold for free.

use std::{net::IpAddr, time::Duration};

use postrider_webhook::{Places, Share};

/// The bytes that each text may hold for free. Most header sections and many texts are smaller.
pub const FREE: usize = 16 << 10;
/// The bytes that a place stands for.
const STEP: usize = 16 << 10;
/// The part of all memory that one network may take, as a divisor.
const NETWORK_PART: u32 = 4;
/// The time for which a header section waits for memory.
const WAIT: Duration = Duration::from_secs(10);

/// The memory for texts that arrive, in all sessions together. Clones count the same memory.
#[derive(Clone, Debug)]
pub struct TextMemory {
    places: Places,
}

/// The memory of one text. It is free again when this is dropped.
#[derive(Debug)]
pub struct TextShare {
    places: Places,
    ip: IpAddr,
    /// The shares with their places.
    held: Vec<(Share, u32)>,
    count: u32,
}

impl TextMemory {
    /// A memory of this many bytes, of which one network (an IPv4 address, an IPv6 /64) gets at
    /// most a quarter.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let all = u32::try_from(bytes / STEP as u64).unwrap_or(u32::MAX);
        Self {
            places: Places::new(all, all.div_ceil(NETWORK_PART)),
        }
    }

    /// The memory of a text from this client.
    #[must_use]
    pub fn share(&self, ip: IpAddr) -> TextShare {
        TextShare {
            places: self.places.clone(),
            ip,
            held: Vec::new(),
            count: 0,
        }
    }
}

impl TextShare {
    /// Covers this many bytes in all, if there is memory now.
    pub fn try_cover(&mut self, bytes: usize) -> bool {
        let Some(more) = self.more(bytes) else {
            return true;
        };
        let taken = self.places.try_take(&network(self.ip), more);
        taken.map(|share| self.add(share, more)).is_some()
    }

    /// Covers this many bytes in all. Waits for memory for a while. False: there was none.
    pub async fn cover(&mut self, bytes: usize) -> bool {
        if self.try_cover(bytes) {
            return true;
        }
        let Some(more) = self.more(bytes) else {
            return true;
        };
        let network = network(self.ip);
        let taken = tokio::time::timeout(WAIT, self.places.take(&network, more)).await;
        taken.map(|share| self.add(share, more)).is_ok()
    }

    /// Frees what is not needed to cover this many bytes.
    pub fn keep(&mut self, bytes: usize) {
        let wanted = places(bytes);
        while let Some((_, places)) = self.held.last()
            && self.count - places >= wanted
        {
            self.count -= places;
            self.held.pop();
        }
    }

    /// The places that are missing for this many bytes.
    fn more(&self, bytes: usize) -> Option<u32> {
        let more = places(bytes).checked_sub(self.count);
        more.filter(|more| *more > 0)
    }

    fn add(&mut self, share: Share, places: u32) {
        self.held.push((share, places));
        self.count += places;
    }
}

/// The places for this many bytes. A buffer that grows doubles.
fn places(bytes: usize) -> u32 {
    if bytes <= FREE {
        return 0;
    }
    let wanted = bytes.checked_next_power_of_two().unwrap_or(bytes) / STEP;
    u32::try_from(wanted).unwrap_or(u32::MAX)
}

/// The name of the network of an address.
fn network(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("{:x}", ip.to_bits() >> 64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(memory: &TextMemory, ip: &str) -> TextShare {
        memory.share(ip.parse().unwrap())
    }

    #[test]
    fn a_share_grows_by_doubling_and_a_network_has_a_quarter() {
        let memory = TextMemory::new(1 << 20);
        let mut first = share(&memory, "192.0.2.1");
        for (bytes, places) in [
            (1, 0),
            (FREE, 0),
            (FREE + 1, 2),
            (32 << 10, 2),
            (33 << 10, 4),
        ] {
            assert!(first.try_cover(bytes));
            assert_eq!(first.count, places, "{bytes}");
        }
        assert!(first.try_cover(256 << 10));
        let mut second = share(&memory, "::ffff:192.0.2.1");
        assert!(!second.try_cover(FREE + 1));
        assert!(second.try_cover(FREE));
        let others = (2..5).map(|n| share(&memory, &format!("2001:db8:0:{n}::1")));
        let mut others: Vec<TextShare> = others.collect();
        assert!(others.iter_mut().all(|other| other.try_cover(256 << 10)));
        assert!(!share(&memory, "2001:db8::1").try_cover(FREE + 1));
        others.pop();
        assert!(share(&memory, "2001:db8::1").try_cover(FREE + 1));
        first.keep(0);
        assert!(second.try_cover(256 << 10));
    }

    #[test]
    fn a_share_keeps_what_is_still_needed() {
        let memory = TextMemory::new(1 << 20);
        let mut share = share(&memory, "192.0.2.1");
        for bytes in [30 << 10, 60 << 10, 200 << 10] {
            assert!(share.try_cover(bytes));
        }
        for (bytes, left) in [(128 << 10, 16), (60 << 10, 4), (17 << 10, 2), (FREE, 0)] {
            share.keep(bytes);
            assert_eq!(share.count, left, "{bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_waits_for_a_while() {
        let memory = TextMemory::new(1 << 20);
        let mut first = share(&memory, "192.0.2.1");
        assert!(first.try_cover(256 << 10));
        let mut second = share(&memory, "192.0.2.1");
        assert!(!second.cover(64 << 10).await);
        let free = async {
            tokio::time::sleep(WAIT / 2).await;
            drop(first);
        };
        let (covered, ()) = tokio::join!(second.cover(64 << 10), free);
        assert!(covered);
    }
}
