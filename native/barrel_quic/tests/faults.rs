//! A task that panics closes what it served, says so, and harms nothing else.
#![cfg(feature = "faults")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Write as _;
use std::sync::OnceLock;

use barrel_quic::faults::{Fault, VARIABLE, arm};
use barrel_quic::seam::{Code, LinkEnd, StreamEnd};
use common::{Node, Watched};
use parking_lot::{Mutex, MutexGuard};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};

/// Faults and the log belong to the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What was logged as an error.
fn errors() -> &'static Watched<Vec<String>> {
    static ERRORS: OnceLock<Watched<Vec<String>>> = OnceLock::new();
    ERRORS.get_or_init(|| Watched::new(Vec::new()))
}

struct Errors;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl tracing::Subscriber for Errors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        errors().update(|errors| errors.push(text.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn alone() -> MutexGuard<'static, ()> {
    static LOGGING: OnceLock<()> = OnceLock::new();
    let guard = ALONE.lock();
    LOGGING.get_or_init(|| tracing::subscriber::set_global_default(Errors).unwrap());
    errors().update(Vec::clear);
    guard
}

/// The one error that was logged names the task and the panic.
#[track_caller]
fn logged_once(task: &str, panic: &str) {
    let errors = errors().look(Clone::clone);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].contains(&format!("task=\"{task}\"")),
        "{errors:?}"
    );
    assert!(
        errors[0].contains(&format!("{panic} on purpose")),
        "{errors:?}"
    );
}

/// Three nodes: the links of `a` and `c` to `b`, each with a stream.
struct Three {
    a: Node,
    b: Node,
    near: common::Tube,
    far: common::Tube,
    bystander: (common::Tube, common::Tube),
    _c: Node,
}

fn three() -> Three {
    let (a, b, c) = (
        Node::start("a@127.0.0.1"),
        Node::start("b@127.0.0.1"),
        Node::start("c@127.0.0.1"),
    );
    let bystander = c.pair(&b);
    let (near, far) = a.pair(&b);
    Three {
        a,
        b,
        near,
        far,
        bystander,
        _c: c,
    }
}

impl Three {
    /// The third node heard nothing of it, and the two can meet again.
    #[track_caller]
    fn check_the_rest(&self) {
        let (near, far) = &self.bystander;
        near.send(b"undisturbed");
        assert_eq!(far.recv().unwrap(), b"undisturbed");
        let (near, far) = self.a.pair(&self.b);
        near.send(b"again");
        assert_eq!(far.recv().unwrap(), b"again");
        self.a.check_lives();
        self.b.check_lives();
    }
}

#[test]
fn a_panic_while_reading_closes_the_link_and_tells_both_owners() {
    let _alone = alone();
    let three = three();
    arm(Fault::Read, 1);
    three.near.send(b"boom");
    assert_eq!(three.far.ended(), StreamEnd::Panicked);
    assert_eq!(three.far.recv().unwrap_err(), StreamEnd::Panicked);
    let internal = LinkEnd::PeerClosed(Code::Internal);
    assert_eq!(three.near.ended(), StreamEnd::Link(internal.clone()));
    assert_eq!(three.a.down(), internal);
    assert_eq!(three.b.down(), LinkEnd::Local(Code::Internal));
    three.check_the_rest();
    logged_once("stream", "Read");
}

#[test]
fn a_panic_while_writing_closes_the_link_and_tells_both_owners() {
    let _alone = alone();
    let three = three();
    arm(Fault::Write, 1);
    three.near.send(b"boom");
    assert_eq!(three.near.ended(), StreamEnd::Panicked);
    let internal = LinkEnd::PeerClosed(Code::Internal);
    assert_eq!(three.far.ended(), StreamEnd::Link(internal.clone()));
    assert_eq!(three.b.down(), internal);
    assert_eq!(three.a.down(), LinkEnd::Local(Code::Internal));
    three.check_the_rest();
    logged_once("stream", "Write");
}

#[test]
fn a_panic_in_the_task_of_a_link_ends_its_streams_and_the_next_open_gets_a_new_link() {
    let _alone = alone();
    let three = three();
    arm(Fault::Link, 1);
    let (near, far) = three.a.pair(&three.b);
    near.send(b"on the new link");
    assert_eq!(far.recv().unwrap(), b"on the new link");
    let internal = LinkEnd::PeerClosed(Code::Internal);
    assert_eq!(three.near.ended(), StreamEnd::Link(internal.clone()));
    assert_eq!(
        three.far.ended(),
        StreamEnd::Link(LinkEnd::Local(Code::Internal))
    );
    assert_eq!(three.a.down(), internal);
    assert_eq!(three.b.down(), LinkEnd::Panicked);
    three.check_the_rest();
    logged_once("link", "Link");
}

/// In the process that a test starts this is set; there the fault is armed by
/// the start of the first endpoint.
#[test]
fn the_environment_arms_a_fault() {
    if std::env::var_os(VARIABLE).is_none() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_environment_arms_a_fault"])
            .env(VARIABLE, "panic_read:3")
            .output()
            .unwrap();
        assert!(
            child.status.success(),
            "{}",
            String::from_utf8_lossy(&child.stdout)
        );
        return;
    }
    let _alone = alone();
    let b = Node::start("b@127.0.0.1");
    let a = Node::start("a@127.0.0.1");
    let (near, far) = a.pair(&b);
    for _ in 0..2 {
        near.send(b"x");
        assert_eq!(far.recv().unwrap(), b"x");
    }
    near.send(b"x");
    assert_eq!(far.ended(), StreamEnd::Panicked);
    let (near, far) = a.pair(&b);
    near.send(b"struck once");
    assert_eq!(far.recv().unwrap(), b"struck once");
}
