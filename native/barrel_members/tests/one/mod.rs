// SPDX-License-Identifier: Apache-2.0

//! One node, number 0, and the words of others.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::time::Duration;

use barrel_members::{Card, Claim, Config, Event, Heard, Members, Message, Output, Status};

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn card(name: &str, incarnation: u64, seq: u64) -> Card {
    Card {
        name: name.into(),
        incarnation,
        seq,
        ttl: secs(3_600),
        pinned: false,
    }
}

/// A claim about incarnation 1.
pub(crate) fn claim(member: u32, beat: u32, status: Status) -> Claim<u32> {
    Claim {
        member,
        incarnation: 1,
        beat,
        status,
    }
}

pub(crate) struct One {
    pub(crate) now: Duration,
    pub(crate) node: Members<u32>,
}

impl One {
    /// Node 0 among so many members, which it has just heard of.
    pub(crate) fn among(members: u32) -> Self {
        Self::with(members, Config::default())
    }

    pub(crate) fn with(members: u32, config: Config) -> Self {
        let mut one = Self {
            now: Duration::ZERO,
            node: Members::new(0, "n0", 1, config, 7),
        };
        for id in 1..members {
            let card = card(&format!("n{id}"), 1, 1);
            assert_eq!(one.node.handle_record(one.now, id, card), Ok(()));
        }
        one.outputs();
        one
    }

    pub(crate) fn outputs(&mut self) -> Vec<Output<u32>> {
        std::iter::from_fn(|| self.node.poll_output()).collect()
    }

    /// What of the outputs is for everybody.
    pub(crate) fn broadcasts(&mut self) -> Vec<Claim<u32>> {
        let outputs = self.outputs().into_iter();
        outputs
            .filter_map(|output| match output {
                Output::Broadcast(claim) => Some(claim),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn events(&mut self) -> Vec<Event<u32>> {
        events(self.outputs())
    }

    /// Time passes; the node is called when it wants to be. What it says meanwhile,
    /// without its probes.
    pub(crate) fn wait(&mut self, time: Duration) -> Vec<Output<u32>> {
        let end = self.now + time;
        let mut said = self.outputs();
        while let Some(at) = self.node.poll_timeout().filter(|&at| at <= end) {
            assert!(at > self.now || self.now.is_zero(), "time goes on");
            self.now = self.now.max(at);
            self.node.handle_timeout(self.now);
            said.extend(self.outputs());
        }
        self.now = end;
        said.retain(|output| !matches!(output, Output::Probe(_)));
        said
    }

    pub(crate) fn up(&mut self, peer: u32) {
        self.node.handle_link_up(self.now, peer);
    }

    /// The link to a peer fails, and nobody answers the dial after that.
    pub(crate) fn lose(&mut self, peer: u32) {
        self.node.handle_link_lost(self.now, peer, true);
        self.outputs();
        self.node.handle_dial_failed(self.now, peer);
    }

    pub(crate) fn hear(&mut self, from: u32, claim: Claim<u32>) -> Heard {
        self.node.handle_claim(self.now, from, claim)
    }

    pub(crate) fn passed(&mut self, from: u32, claim: Claim<u32>) {
        let msg = Message::PassOn(claim);
        assert_eq!(self.node.handle_message(self.now, from, msg), Ok(()));
    }

    pub(crate) fn status(&self, member: u32) -> Option<Status> {
        Some(self.node.state(member)?.status)
    }
}

pub(crate) fn events(outputs: Vec<Output<u32>>) -> Vec<Event<u32>> {
    let events = outputs.into_iter();
    events
        .filter_map(|output| match output {
            Output::Event(event) => Some(event),
            _ => None,
        })
        .collect()
}

pub(crate) fn pass_on(claim: Claim<u32>) -> Output<u32> {
    Output::Send {
        to: claim.member,
        msg: Message::PassOn(claim),
    }
}
