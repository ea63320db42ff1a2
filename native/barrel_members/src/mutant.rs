// SPDX-License-Identifier: Apache-2.0

//! Rules that can be broken on purpose, so that the tests show that they notice.

/// Which rule is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    /// None.
    #[default]
    None,
    /// A suspect answers with a new incarnation and keeps its beat: one number where
    /// there have to be two.
    RefuteByIncarnation,
    /// Whoever has a working link to a suspect answers in its place.
    AnswerForSuspect,
    /// A failed probe is a suspicion, without asking two others.
    JudgeAlone,
    /// Who was unreachable stays so, whatever it says.
    NoReturn,
}
