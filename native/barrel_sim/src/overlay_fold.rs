//! What the messages of views and tree add to the log hash.

use barrel_hyparview::{Component, Message as Views};
use barrel_plumtree::Message as Tree;

use crate::kernel::LogHash;

/// All that a message about neighbours says.
pub(crate) fn fold_views(message: &Views<u64>, hash: &mut LogHash) {
    match message {
        Views::Join => all(hash, &[1]),
        Views::ForwardJoin { joiner, ttl } => all(hash, &[2, *joiner, u64::from(*ttl)]),
        Views::Neighbor {
            priority,
            component: of,
        } => {
            all(hash, &[3, *priority as u64]);
            component(hash, of);
        }
        Views::NeighborReply {
            accepted,
            peers,
            component: of,
        } => {
            all(hash, &[4, u64::from(*accepted), peers.len() as u64]);
            all(hash, peers);
            component(hash, of);
        }
        Views::Disconnect { parting } => all(hash, &[5, *parting as u64]),
        Views::Shuffle {
            origin,
            ttl,
            peers,
            component: of,
        } => {
            all(hash, &[6, *origin, u64::from(*ttl), peers.len() as u64]);
            all(hash, peers);
            component(hash, of);
        }
        Views::ShuffleReply {
            peers,
            component: of,
        } => {
            all(hash, &[7, peers.len() as u64]);
            all(hash, peers);
            component(hash, of);
        }
        Views::Probe { component: of } => {
            hash.number(8);
            component(hash, of);
        }
        Views::ProbeReply { component: of } => {
            hash.number(9);
            component(hash, of);
        }
        Views::SwitchAsk { old } => all(hash, &[10, *old]),
        Views::SwitchReplace { initiator, old } => all(hash, &[11, *initiator, *old]),
        Views::SwitchRefuse => all(hash, &[12]),
        Views::SwitchLink { initiator } => all(hash, &[13, *initiator]),
    }
}

/// All that a message about broadcasts says.
pub(crate) fn fold_tree(message: &Tree<u64>, hash: &mut LogHash) {
    match message {
        Tree::Gossip { id, round, body } => {
            all(hash, &[21, *id, u64::from(*round)]);
            hash.bytes(body);
        }
        Tree::IHave { ids } => {
            all(hash, &[22, ids.len() as u64]);
            for (id, round) in ids {
                all(hash, &[*id, u64::from(*round)]);
            }
        }
        Tree::Graft { id, round } => {
            all(
                hash,
                &[
                    23,
                    u64::from(id.is_some()),
                    id.unwrap_or(0),
                    u64::from(*round),
                ],
            );
        }
        Tree::Prune => all(hash, &[24]),
    }
}

fn all(hash: &mut LogHash, numbers: &[u64]) {
    numbers.iter().for_each(|number| hash.number(*number));
}

fn component(hash: &mut LogHash, of: &Option<Component<u64>>) {
    match of {
        Some(of) => all(hash, &[1, of.min, of.epoch]),
        None => hash.number(0),
    }
}
