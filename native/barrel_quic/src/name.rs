//! Node names and host names, checked once and then carried as types.
//!
//! A name that comes from a peer becomes an atom, a file name and a line of a
//! log. So it is parsed here, before anything else sees it, and every other
//! module takes [`NodeName`], [`HostName`] or [`PeerName`] and never a string.
//!
//! The grammar is that of OTP's `net_kernel` for the part before the `@`. OTP
//! takes any printable byte in the host part; here it is letters, digits and
//! `. _ : -`, which holds every host name and every IP address and is safe as
//! a file name.

use std::fmt;
use std::sync::Arc;

/// Longest name in bytes: an Erlang atom holds 255 characters, ours are ASCII.
pub const MAX_NAME: usize = 255;

/// A checked Erlang node name, `name@host`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// A checked host part: what a client claims instead of a node name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

/// What a peer calls itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerName {
    /// A node that listens and may be a member.
    Member(NodeName),
    /// A node with a dynamic name, or one that does not listen: only its host.
    Client(HostName),
}

/// The rule that a name breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// No byte at all.
    Empty,
    /// More than [`MAX_NAME`] bytes.
    TooLong,
    /// No `@`, or more than one.
    NotOneAt,
    /// Nothing before the `@`.
    EmptyHead,
    /// A byte before the `@` that is no letter, digit, `_` or `-`.
    BadHead,
    /// Nothing after the `@`.
    EmptyHost,
    /// A byte of the host part that is no letter, digit, `.`, `_`, `:` or `-`.
    BadHost,
    /// A host part of dots alone.
    OnlyDots,
}

impl NodeName {
    /// Checks a node name.
    pub fn parse(name: impl AsRef<[u8]>) -> Result<Self, NameError> {
        let name = name.as_ref();
        check_length(name)?;
        let mut parts = name.split(|b| *b == b'@');
        let (Some(head), Some(host), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NameError::NotOneAt);
        };
        check_head(head)?;
        check_host(host)?;
        Ok(Self(ascii(name)))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the `@`.
    pub fn host(&self) -> HostName {
        let at = self.0.find('@').map_or(0, |i| i + 1);
        HostName(self.0[at..].into())
    }
}

impl HostName {
    /// Checks a host part.
    pub fn parse(host: impl AsRef<[u8]>) -> Result<Self, NameError> {
        let host = host.as_ref();
        check_length(host)?;
        check_host(host)?;
        Ok(Self(ascii(host)))
    }

    /// The host part.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PeerName {
    /// Checks the name of a member, or the host of a client.
    pub fn parse(client: bool, name: impl AsRef<[u8]>) -> Result<Self, NameError> {
        if client {
            HostName::parse(name).map(Self::Client)
        } else {
            NodeName::parse(name).map(Self::Member)
        }
    }

    /// The name as it is written: `name@host`, or the host alone.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Member(name) => name.as_str(),
            Self::Client(host) => host.as_str(),
        }
    }

    /// The host part.
    pub fn host(&self) -> HostName {
        match self {
            Self::Member(name) => name.host(),
            Self::Client(host) => host.clone(),
        }
    }

    /// The node name, unless this is a client.
    pub fn member(&self) -> Option<&NodeName> {
        match self {
            Self::Member(name) => Some(name),
            Self::Client(_) => None,
        }
    }

    /// Whether this is a client.
    pub fn is_client(&self) -> bool {
        matches!(self, Self::Client(_))
    }
}

impl NameError {
    /// A short name for the BEAM.
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty_name",
            Self::TooLong => "name_too_long",
            Self::NotOneAt => "not_one_at",
            Self::EmptyHead => "empty_head",
            Self::BadHead => "bad_head",
            Self::EmptyHost => "empty_host",
            Self::BadHost => "bad_host",
            Self::OnlyDots => "only_dots",
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the name is empty",
            Self::TooLong => "the name is longer than 255 bytes",
            Self::NotOneAt => "a node name holds exactly one '@'",
            Self::EmptyHead => "nothing stands before the '@'",
            Self::BadHead => "before the '@' only letters, digits, '_' and '-' are allowed",
            Self::EmptyHost => "the host part is empty",
            Self::BadHost => {
                "in the host part only letters, digits, '.', '_', ':' and '-' are allowed"
            }
            Self::OnlyDots => "the host part is dots alone",
        })
    }
}

impl std::error::Error for NameError {}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(name) => f.write_str(name.as_str()),
            Self::Client(host) => write!(f, "a client on {host}"),
        }
    }
}

impl From<NodeName> for PeerName {
    fn from(name: NodeName) -> Self {
        Self::Member(name)
    }
}

impl From<HostName> for PeerName {
    fn from(host: HostName) -> Self {
        Self::Client(host)
    }
}

fn check_length(name: &[u8]) -> Result<(), NameError> {
    match name.len() {
        0 => Err(NameError::Empty),
        1..=MAX_NAME => Ok(()),
        _ => Err(NameError::TooLong),
    }
}

fn check_head(head: &[u8]) -> Result<(), NameError> {
    if head.is_empty() {
        return Err(NameError::EmptyHead);
    }
    let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if head.iter().all(fits) {
        Ok(())
    } else {
        Err(NameError::BadHead)
    }
}

fn check_host(host: &[u8]) -> Result<(), NameError> {
    if host.is_empty() {
        return Err(NameError::EmptyHost);
    }
    let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    if !host.iter().all(fits) {
        return Err(NameError::BadHost);
    }
    if host.iter().all(|b| *b == b'.') {
        return Err(NameError::OnlyDots);
    }
    Ok(())
}

/// The checks above let only ASCII through, so each byte is one character.
fn ascii(name: &[u8]) -> Arc<str> {
    name.iter()
        .map(|b| char::from(*b))
        .collect::<String>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_otp_accepts_are_accepted() {
        for name in [
            "a@b",
            "node-1_x@host.example.org",
            "a@127.0.0.1",
            "a@::1",
            "A9@h_1",
            "-@-",
        ] {
            assert_eq!(NodeName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn each_broken_rule_is_named() {
        let cases: [(&[u8], NameError); 16] = [
            (b"", NameError::Empty),
            (b"abc", NameError::NotOneAt),
            (b"a@b@c", NameError::NotOneAt),
            (b"a@@", NameError::NotOneAt),
            (b"@b", NameError::EmptyHead),
            (b"a@", NameError::EmptyHost),
            (b"a/b@c", NameError::BadHead),
            (b"a.b@c", NameError::BadHead),
            (b"a\0@c", NameError::BadHead),
            (b"\xc3\xa9@c", NameError::BadHead),
            (b"a@b/c", NameError::BadHost),
            (b"a@../x", NameError::BadHost),
            (b"a@b\0", NameError::BadHost),
            (b"a@b\n", NameError::BadHost),
            (b"a@\xc3\xa9", NameError::BadHost),
            (b"a@..", NameError::OnlyDots),
        ];
        for (name, error) in cases {
            assert_eq!(NodeName::parse(name), Err(error), "{name:?}");
        }
    }

    #[test]
    fn a_name_of_255_bytes_is_the_longest() {
        let longest = format!("a@{}", "b".repeat(253));
        assert_eq!(NodeName::parse(&longest).unwrap().as_str(), longest);
        assert_eq!(
            NodeName::parse(format!("{longest}b")),
            Err(NameError::TooLong)
        );
        assert_eq!(HostName::parse("b".repeat(256)), Err(NameError::TooLong));
    }

    #[test]
    fn the_host_is_what_follows_the_at() {
        let node = NodeName::parse("n@h.example").unwrap();
        assert_eq!(node.host().as_str(), "h.example");
        assert_eq!(
            PeerName::from(node).host(),
            HostName::parse("h.example").unwrap()
        );
    }

    #[test]
    fn a_client_is_named_by_its_host_alone() {
        let client = PeerName::parse(true, "h").unwrap();
        assert!(client.is_client());
        assert_eq!((client.as_str(), client.member()), ("h", None));
        assert_eq!(PeerName::parse(true, "a@h"), Err(NameError::BadHost));
        assert_eq!(PeerName::parse(false, "h"), Err(NameError::NotOneAt));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_safe_name_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for client in [false, true] {
                if let Ok(name) = PeerName::parse(client, &bytes) {
                    let text = name.as_str();
                    prop_assert_eq!(text.as_bytes(), &bytes[..]);
                    prop_assert!(!text.contains('/') && !text.chars().any(char::is_control));
                    prop_assert!(text != "." && text != "..");
                    prop_assert_eq!(text.contains('@'), !client);
                }
            }
        }

        #[test]
        fn what_the_grammar_makes_is_accepted(name in "[0-9A-Za-z_-]{1,60}@[0-9A-Za-z_:-][0-9A-Za-z._:-]{0,60}") {
            prop_assert_eq!(NodeName::parse(&name).unwrap().to_string(), name);
        }
    }
}
