//! Faults of single messages, as rules.
//!
//! A link is ordered and reliable while it is up, so what goes wrong with a packet shows as a reset
//! of the link. Loss, duplication and reordering of whole messages cannot happen to a real node, and are
//! here to see what an attacker in the peer's place could do.

use std::time::Duration;

use super::dice::Dice;
use super::machine::NodeNo;

/// A million: probabilities are counted in parts of it.
pub const PPM: u32 = 1_000_000;

/// Whose messages.
#[derive(Clone, Debug)]
pub enum Whom {
    /// All nodes.
    All,
    /// These, in ascending order.
    These(Vec<NodeNo>),
}

impl Whom {
    fn has(&self, node: NodeNo) -> bool {
        match self {
            Self::All => true,
            Self::These(nodes) => nodes.binary_search(&node).is_ok(),
        }
    }
}

/// What a rule does to a message that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The link fails, and the message with it.
    Reset,
    /// Lost, while the link lives on.
    Drop,
    /// Comes twice.
    Duplicate,
    /// Comes later by this, and what is sent behind it waits: a packet was lost and sent again.
    Late(Duration),
    /// Comes later by this, and others may overtake it.
    Deliver(Duration),
}

/// A fault that hits some messages.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Messages that these send ...
    pub from: Whom,
    /// ... to those ...
    pub to: Whom,
    /// ... of this kind, or of any ...
    pub kind: Option<usize>,
    /// ... so many of a million ...
    pub ppm: u32,
    /// ... meet this.
    pub act: Act,
}

impl Rule {
    /// A rule for everybody.
    #[must_use]
    pub fn everywhere(ppm: u32, act: Act) -> Self {
        Self {
            from: Whom::All,
            to: Whom::All,
            kind: None,
            ppm,
            act,
        }
    }
}

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing unusual.
    Pass,
    /// The first rule that hit it.
    Hit(Act),
}

pub(crate) fn judge(
    rules: &[Rule],
    dice: &mut Dice,
    from: NodeNo,
    to: NodeNo,
    kind: usize,
) -> Verdict {
    for rule in rules {
        let meant =
            rule.from.has(from) && rule.to.has(to) && rule.kind.is_none_or(|one| one == kind);
        if meant && dice.happens(rule.ppm) {
            return Verdict::Hit(rule.act);
        }
    }
    Verdict::Pass
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_hits_decides() {
        let rules = [
            Rule {
                from: Whom::These(vec![1, 3]),
                ..Rule::everywhere(PPM, Act::Drop)
            },
            Rule {
                kind: Some(7),
                ..Rule::everywhere(PPM, Act::Reset)
            },
        ];
        let mut dice = Dice::new(1);
        let mut judge = |from, kind| judge(&rules, &mut dice, from, 2, kind);
        assert_eq!(judge(3, 7), Verdict::Hit(Act::Drop));
        assert_eq!(judge(2, 7), Verdict::Hit(Act::Reset));
        assert_eq!(judge(2, 6), Verdict::Pass);
    }

    #[test]
    fn a_rule_hits_its_part() {
        let rules = [Rule::everywhere(PPM / 50, Act::Drop)];
        let mut dice = Dice::new(1);
        let hit = (0..100_000)
            .filter(|_| judge(&rules, &mut dice, 0, 1, 0) != Verdict::Pass)
            .count();
        assert!(
            (1_900..2_100).contains(&hit),
            "{hit} of 100,000 are not 2 %"
        );
    }
}
