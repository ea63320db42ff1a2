// SPDX-License-Identifier: Apache-2.0

//! What can be set, and where each default comes from.

use std::time::Duration;

/// The rules of one node. All nodes of a cluster should have the same.
#[derive(Clone, Debug)]
pub struct Config {
    /// The most members. 16,384: the cluster is built for 10,000.
    pub max_members: usize,
    /// The most others whose key the operator has not placed: anybody can make such
    /// keys, as many as there are places. 12,288, three quarters of the places: enough
    /// for the 10,000 where no key is placed, and a quarter stays for those that are.
    pub max_unknown: usize,
    /// Silence after which the driver calls a link dead. 10 s is a guess; it must
    /// be what the driver uses.
    pub link_timeout: Duration,
    /// How long a peer whose link has failed has for taking a new one, before it is
    /// suspected. 300 ms: a dial takes one and a half round trips, and a round trip through
    /// most networks takes less than 200 ms. It is spent from the second that detection
    /// may take beyond its timeouts. Zero asks nobody and suspects at once.
    pub redial_wait: Duration,
    /// The time between two probes of this node. 10 s, so that a node costs the
    /// others one dial in this time, whatever their number.
    pub probe_period: Duration,
    /// How long the two who repeat a failed probe have for their answer: one dial.
    /// 5 s is a guess.
    pub answer_wait: Duration,
    /// The shortest time a suspect has to answer, and that of a cluster of eight.
    /// 3 s is a guess: some thirty times the way to the last node and back in a
    /// cluster of that size.
    pub suspect_base: Duration,
    /// What each doubling of the cluster beyond eight adds. Half a second is a
    /// guess: a doubling adds one hop.
    pub suspect_per_doubling: Duration,
    /// The longest time a suspect has, however slow refutations were seen to be.
    /// 30 s is a guess.
    pub suspect_max: Duration,
    /// How much longer those wait who did not raise the suspicion themselves. The one
    /// who did announces its end; the others judge only if it died meanwhile, and not
    /// before an exchange has brought them a refutation that they missed. 30 s: the
    /// longest period of the exchange.
    pub slack: Duration,
    /// How long the record of this node is good. It is renewed after a third. One
    /// hour is a guess: 10,000 members then renew eight records a second.
    pub record_ttl: Duration,
    /// The shortest life of a record of others that is believed, and the longest. A
    /// minute and a week are guesses.
    pub ttl_bounds: (Duration, Duration),
    /// How long after the end of its record a member is dropped. 24 h, as long as
    /// the registry keeps the entries of an unreachable origin.
    pub drop_after: Duration,
    /// How long a goodbye takes part in the exchange of exceptions. Two minutes: a
    /// few rounds of it.
    pub goodbye_listed: Duration,
    /// How long a claim waits for the record of its member. A minute: a few rounds
    /// of the exchange that brings the record.
    pub early_life: Duration,
    /// Claims that say something new, per second and peer, when a peer has used up
    /// its allowance at once (twice the directory). 64 is a guess.
    pub claims_per_second: u32,
    /// The shortest time between two refutations of this node. A quarter of a
    /// second: short beside `suspect_base`, and what a slanderer can cause at most.
    pub refute_gap: Duration,
    /// The shortest time between two things that others can cause and that cost a
    /// signature: a renewed record, a new incarnation. 10 s is a guess.
    pub costly_gap: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            max_members: 16_384,
            max_unknown: 12_288,
            link_timeout: seconds(10),
            redial_wait: Duration::from_millis(300),
            probe_period: seconds(10),
            answer_wait: seconds(5),
            suspect_base: seconds(3),
            suspect_per_doubling: Duration::from_millis(500),
            suspect_max: seconds(30),
            slack: seconds(30),
            record_ttl: seconds(3_600),
            ttl_bounds: (seconds(60), seconds(7 * 86_400)),
            drop_after: seconds(86_400),
            goodbye_listed: seconds(120),
            early_life: seconds(60),
            claims_per_second: 64,
            refute_gap: Duration::from_millis(250),
            costly_gap: seconds(10),
        }
    }
}

impl Config {
    /// The time a suspect has in a cluster of that size, where refutations took at
    /// most `refuted` of late.
    pub fn suspect_timeout(&self, members: usize, refuted: Duration) -> Duration {
        let doublings = (members.max(8) / 8).ilog2();
        let scaled = self.suspect_base + self.suspect_per_doubling * doublings;
        // Three times what was seen: the next may come by a longer way.
        let seen = refuted.saturating_mul(3);
        scaled
            .max(seen)
            .min(self.suspect_max.max(self.suspect_base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspect_has_longer_in_a_larger_or_slower_cluster() {
        let config = Config::default();
        let timeout = |members, refuted| {
            config
                .suspect_timeout(members, Duration::from_millis(refuted))
                .as_millis()
        };
        assert_eq!(timeout(1, 0), 3_000);
        assert_eq!(timeout(8, 900), 3_000);
        assert_eq!(timeout(1_000, 0), 6_000);
        assert_eq!(timeout(10_000, 0), 8_000);
        assert_eq!(timeout(8, 4_000), 12_000);
        assert_eq!(timeout(16_384, 60_000), 30_000);
    }
}
