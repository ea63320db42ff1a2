//! The program in UDP mode, driven as a test suite in another language drives it.

#![allow(clippy::unwrap_used)] // a test may panic

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(10);

struct Tool {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Tool {
    fn start(arguments: &[&str]) -> (Self, Vec<SocketAddr>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_barrel_impair"))
            .arg("udp")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut tool = Self {
            child,
            input,
            output,
        };
        let ready = tool.line();
        let addresses = ready.strip_prefix("ready ").unwrap();
        (
            tool,
            addresses.split(' ').map(|a| a.parse().unwrap()).collect(),
        )
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_string()
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input.as_ref().unwrap(), "{line}").unwrap();
        self.line()
    }

    fn stat(&mut self, key: &str) -> u64 {
        let stats = self.ask("stats");
        let value = stats
            .split(' ')
            .find_map(|w| w.strip_prefix(&format!("{key}=")));
        value.unwrap().parse().unwrap()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        drop(self.input.take());
        self.child.wait().unwrap();
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(WAIT)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65536];
    let (count, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..count].to_vec(), from)
}

/// A tool with one forward mapping, and both ends.
fn relay(arguments: &[&str]) -> (Tool, UdpSocket, UdpSocket) {
    let (client, server) = (socket(), socket());
    let mapping = format!("127.0.0.1:0={}", server.local_addr().unwrap());
    let (tool, addresses) = Tool::start(&[&["--forward", &mapping], arguments].concat());
    client.connect(addresses[0]).unwrap();
    (tool, client, server)
}

#[test]
fn datagrams_go_there_and_back_unchanged() {
    let (mut tool, client, server) = relay(&[]);
    for size in [0, 1, 1472, 8900, 60_000] {
        let sent: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        client.send(&sent).unwrap();
        let (bytes, from) = receive(&server);
        assert_eq!(bytes, sent);
        server.send_to(&bytes, from).unwrap();
        assert_eq!(receive(&client).0, sent);
    }
    assert_eq!(tool.stat("forward.received"), 5);
    assert_eq!(tool.stat("backward.delivered"), 5);
    assert_eq!(tool.stat("forward.largest"), 60_028);
}

#[test]
fn each_client_has_a_port_of_its_own_up_to_the_limit() {
    let (mut tool, one, server) = relay(&["--flows", "2"]);
    let (two, three) = (socket(), socket());
    for client in [&two, &three] {
        client.connect(one.peer_addr().unwrap()).unwrap();
    }
    one.send(b"1").unwrap();
    let first = receive(&server).1;
    two.send(b"2").unwrap();
    let second = receive(&server).1;
    assert_ne!(first, second);
    three.send(b"3").unwrap();
    one.send(b"again").unwrap();
    assert_eq!(receive(&server), (b"again".to_vec(), first));
    assert_eq!((tool.stat("flows"), tool.stat("refused")), (2, 1));
}

#[test]
fn a_silent_client_gets_another_port_and_frees_its_place() {
    let (mut tool, client, server) = relay(&["--flows", "1", "--idle", "0"]);
    client.send(b"1").unwrap();
    let first = receive(&server).1;
    client.send(b"2").unwrap();
    assert_ne!(receive(&server).1, first);
    assert_eq!((tool.stat("flows"), tool.stat("refused")), (1, 0));
}

#[test]
fn rebinding_changes_the_port_and_the_old_one_leads_nowhere() {
    let (mut tool, client, server) = relay(&[]);
    client.send(b"1").unwrap();
    let old = receive(&server).1;
    let said = tool.ask("rebind");
    client.send(b"2").unwrap();
    let new = receive(&server).1;
    assert_ne!(old, new);
    assert!(said.ends_with(&format!(":{}", new.port())), "{said}");
    server.send_to(b"to the old one", old).unwrap();
    server.send_to(b"to the new one", new).unwrap();
    assert_eq!(receive(&client).0, b"to the new one");
    assert_eq!(tool.stat("backward.received"), 1);
}

#[test]
fn a_delay_holds_both_ways_and_a_blackout_swallows() {
    let (mut tool, client, server) = relay(&["--set", "both delay 30"]);
    let start = Instant::now();
    client.send(b"1").unwrap();
    let from = receive(&server).1;
    assert!(start.elapsed() >= Duration::from_millis(30));
    server.send_to(b"1", from).unwrap();
    let _ = receive(&client);
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert_eq!(tool.ask("blackout on"), "ok");
    client.send(b"2").unwrap();
    while tool.stat("forward.blackout") == 0 {}
    assert_eq!(tool.ask("blackout off"), "ok");
    client.send(b"3").unwrap();
    assert_eq!(receive(&server).0, b"3");
}

#[test]
fn clients_of_a_backward_mapping_are_on_the_far_side() {
    let (near, far) = (socket(), socket());
    let mapping = format!("127.0.0.1:0={}", near.local_addr().unwrap());
    let (mut tool, addresses) = Tool::start(&["--backward", &mapping]);
    far.send_to(b"1", addresses[0]).unwrap();
    let (bytes, from) = receive(&near);
    assert_eq!(tool.stat("backward.delivered"), 1);
    near.send_to(&bytes, from).unwrap();
    assert_eq!(receive(&far).0, b"1");
    assert_eq!(tool.stat("forward.delivered"), 1);
}

#[test]
fn a_target_that_is_not_there_does_not_stop_the_relay() {
    let (mut tool, client, server) = relay(&[]);
    let address = server.local_addr().unwrap();
    drop(server);
    for _ in 0..3 {
        client.send(b"lost").unwrap();
    }
    while tool.stat("forward.delivered") < 3 {}
    let again = UdpSocket::bind(address).unwrap();
    again.set_read_timeout(Some(WAIT)).unwrap();
    client.send(b"1").unwrap();
    assert_eq!(receive(&again).0, b"1");
}

#[test]
fn mistakes_are_named() {
    let (mut tool, ..) = relay(&[]);
    assert!(
        tool.ask("set both loss 7")
            .starts_with("error \"7\" is not a fraction")
    );
    assert!(
        tool.ask("dance")
            .starts_with("error cannot understand \"dance\"")
    );
    assert_eq!(tool.ask("set both loss 0.5"), "ok");
    for (arguments, cause) in [
        (vec!["udp"], "no mapping"),
        (vec!["udp", "--forward", "here"], "LISTEN=TARGET"),
        (vec!["udp", "--seed"], "has no value"),
        (
            vec!["udp", "--seed", "x", "--forward", "127.0.0.1:0=127.0.0.1:1"],
            "--seed",
        ),
        (
            vec![
                "udp",
                "--set",
                "both speed 1",
                "--forward",
                "127.0.0.1:0=127.0.0.1:1",
            ],
            "unknown setting",
        ),
        (vec!["tcp"], "unknown mode"),
        (vec![], "which mode"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_barrel_impair"))
            .args(&arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(cause), "{arguments:?}: {said}");
        assert_eq!(output.status.code(), Some(2));
    }
    let taken = socket().local_addr().unwrap();
    let holder = UdpSocket::bind(taken).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_barrel_impair"))
        .args(["udp", "--forward", &format!("{taken}=127.0.0.1:1")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    drop(holder);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&taken.to_string()));
}
