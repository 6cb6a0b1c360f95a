//! A running `si-server`, and machines that talk to it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use simulcast_image::manifest::VerifyingKey;
use simulcast_image::order::Order;

use crate::harness::Site;

/// Longest that a server may take to start or to answer.
const LIMIT: Duration = Duration::from_secs(30);

/// A running `si-server`, killed in the end.
pub(crate) struct Server {
    child: Child,
    /// `ADDR:PORT`.
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(site: &Site) -> Self {
        let mut command = site.command(&["server", "--listen", "127.0.0.1:0"]);
        let log = fs::File::create(site.path("server.log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let (mut line, mut byte) = (Vec::new(), [0]);
        let out = child.stdout.as_mut().unwrap();
        while out.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        let line = String::from_utf8(line).unwrap();
        let address = line.split("http://").nth(1).unwrap_or_else(|| panic!("{line:?}"));
        Self {
            child,
            address: address.split(',').next().unwrap().to_owned(),
        }
    }

    /// Sends a request with a token, if one is given; the status and the body.
    pub(crate) fn ask(&self, token: Option<&str>, request: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut head = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        if let Some(token) = token {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses early closes its end while we still speak.
        let _refused = stream.write_all(body);
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (status, answer.split_off(end + 4))
    }

    pub(crate) fn get(&self, token: &str, path: &str) -> (u16, Vec<u8>) {
        self.ask(Some(token), &format!("GET {path}"), b"")
    }

    pub(crate) fn post(&self, token: &str, path: &str, body: &Value) -> u16 {
        self.ask(Some(token), &format!("POST {path}"), body.to_string().as_bytes())
            .0
    }

    pub(crate) fn hello(&self, mac: &str) -> (u16, Value) {
        self.say_hello(&hello(mac))
    }

    /// What is answered to a machine that says this.
    pub(crate) fn say_hello(&self, hello: &Value) -> (u16, Value) {
        let (status, body) = self.ask(None, "POST /v1/install/hello", hello.to_string().as_bytes());
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// The token of a node that says hello.
    pub(crate) fn token(&self, mac: &str) -> String {
        let (status, welcome) = self.hello(mac);
        assert_eq!((status, &welcome["you"]), (200, &json!("node")), "{welcome}");
        welcome["token"].as_str().unwrap().to_owned()
    }

    /// The order of who has a token, checked with the key of the site.
    pub(crate) fn order(&self, site: &Site, token: &str) -> Order {
        let (status, bytes) = self.get(token, "/v1/install/order");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
        let key: VerifyingKey = fs::read_to_string(site.state().join("keys/signing.pub"))
            .unwrap()
            .parse()
            .unwrap();
        Order::open(&bytes, &key).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What a machine with one card and one disk says.
pub(crate) fn hello(mac: &str) -> Value {
    json!({
        "boot": mac, "macs": [mac], "dmi": {"vendor": "QEMU", "serial": format!("S{}", &mac[15..])},
        "firmware": "uefi", "architecture": "x86_64", "processors": 2, "memory": 1_073_741_824u64,
        "disks": [{"name": "vda", "size": 8_589_934_592u64, "model": "", "bus": "virtio"}]
    })
}
