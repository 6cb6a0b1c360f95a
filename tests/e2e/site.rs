//! A server with an image and a state directory of its own, and receivers that know its token.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use simulcast_testkit::command::{self, command};
use simulcast_testkit::compare;
use simulcast_testkit::golden::{noise, small};
use simulcast_testkit::process::{self, Process};
use simulcast_testkit::programs::Programs;
use simulcast_testkit::run::Run;

/// Longest that anything here may take; mostly it is a second or two.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A state directory with image `gold`, made from `tree`.
pub(crate) struct Site {
    pub(crate) run: Run,
    pub(crate) tree: PathBuf,
    pub(crate) state: PathBuf,
    config: PathBuf,
    programs: Programs,
}

/// A running `si-server`.
pub(crate) struct Server {
    pub(crate) process: Process,
    /// `ADDR:PORT`.
    pub(crate) address: String,
}

/// How a receiver ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) events: Vec<Value>,
    pub(crate) stderr: String,
    pub(crate) peak_memory: u64,
}

impl Site {
    /// A small tree with a file of `big_bytes` that does not compress.
    pub(crate) fn new(label: &str, big_bytes: u64) -> Self {
        let run = Run::start(label).unwrap();
        let (tree, state, config) = (
            run.dir().join("tree"),
            run.dir().join("state"),
            run.dir().join("config"),
        );
        fs::create_dir(&config).unwrap();
        small::make(&tree, big_bytes).unwrap();
        let site = Self {
            run,
            tree,
            state,
            config,
            programs: Programs::new(None),
        };
        site.import_again();
        site
    }

    /// One of the programs, with this site's directories and nothing of the tester's own settings.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = command(self.programs.path(program).unwrap());
        self.settle(&mut command);
        command
    }

    /// Gives a command this site's directories.
    fn settle(&self, command: &mut Command) {
        command.env_remove("SI_TOKEN").env_remove("SI_SERVER_KEY");
        command
            .arg("--state")
            .arg(&self.state)
            .arg("--config")
            .arg(&self.config);
    }

    /// The path of a program, to be run elsewhere.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.path(name).unwrap()
    }

    /// What goes behind the name of a program that is run elsewhere.
    pub(crate) fn settled(&self, mut command: Command) -> Command {
        self.settle(&mut command);
        command
    }

    /// Writes `server.toml`.
    pub(crate) fn configure(&self, text: &str) {
        fs::write(self.config.join("server.toml"), text).unwrap();
    }

    /// Writes a file of the configuration directory; one that begins with `#!` can be run.
    pub(crate) fn config_file(&self, path: &str, text: &str) {
        let path = self.config.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }

    /// Starts the server on a free port of the loopback address.
    pub(crate) fn server(&self, arguments: &[&str]) -> Server {
        let mut command = self.command("si-server");
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        self.started(process::spawn("server", &mut command, self.run.dir()).unwrap())
    }

    /// Waits until a server that was started says that it is ready.
    pub(crate) fn started(&self, mut process: Process) -> Server {
        let ready = process.wait_until("the ready line", LIMIT, |process| {
            let line = process.stdout().lines().next().map(str::to_owned);
            Ok(line.filter(|line| line.contains("ready on ")))
        });
        let line = ready.unwrap();
        let address = line
            .split("http://")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap()
            .to_owned();
        Server { process, address }
    }

    /// A receiver of `image` into `target`.
    pub(crate) fn receive(&self, server: &Server, image: &str, target: &Path, transport: &str) -> Command {
        let mut command = self.command("si-installer");
        aim(&mut command, &server.address, image, target, transport);
        command
    }

    /// What rsync would have to change to make `target` the tree; it must not do anything.
    pub(crate) fn assert_same(&self, target: &Path) {
        let differences = compare::differences(&self.tree, target, &["/kinds/socket"]).unwrap();
        assert!(differences.is_empty(), "{differences:#?}");
    }

    /// The token in the state directory.
    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.state.join("keys/token"))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// The files of all chunks in the store.
    pub(crate) fn chunks(&self) -> Vec<PathBuf> {
        let listed = |directory: &Path| -> Vec<PathBuf> {
            fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect()
        };
        let directories = listed(&self.state.join("chunks"));
        let mut chunks: Vec<_> = directories
            .iter()
            .filter(|directory| directory.file_name().unwrap() != "incoming")
            .flat_map(|directory| listed(directory))
            .collect();
        chunks.sort();
        chunks
    }

    /// Bytes of all chunks in the store.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let len = |chunk: &PathBuf| fs::metadata(chunk).unwrap().len();
        self.chunks().iter().map(len).sum()
    }

    /// Makes the next version of the image from the tree as it is now.
    pub(crate) fn import_again(&self) {
        command::run(
            self.command("si-import")
                .arg("gold")
                .arg("--tree")
                .arg(&self.tree),
        )
        .unwrap();
    }

    /// Makes version 2 of the image: the tree and a further file of noise.
    pub(crate) fn second_version(&self) {
        noise::file(&self.tree.join("second"), "second", 100_000).unwrap();
        self.import_again();
    }
}

impl Server {
    /// Asks with a good token; the status and the body.
    pub(crate) fn ask(&self, token: &str, request: &str) -> (u16, Vec<u8>) {
        let text = format!(
            "{request} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        );
        self.say(text.as_bytes())
    }

    /// Posts a JSON body with a good token; the status and the body.
    pub(crate) fn post(&self, token: &str, path: &str, body: &str) -> (u16, Vec<u8>) {
        let length = body.len();
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        self.say(text.as_bytes())
    }

    /// The identity of a version of `gold`.
    pub(crate) fn manifest(&self, token: &str, version: u32) -> String {
        let text = format!(
            "GET /v1/images/gold/{version}/manifest HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             connection: close\r\n\r\n"
        );
        let (head, _) = self.exchange(text.as_bytes()).unwrap();
        let name = "x-simulcast-manifest: ";
        let line = head.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().to_owned()
    }

    /// Sends bytes as they are; the status and the body, (0, "") when the server closes without an answer.
    pub(crate) fn say(&self, bytes: &[u8]) -> (u16, Vec<u8>) {
        let Some((head, body)) = self.exchange(bytes) else {
            return (0, Vec::new());
        };
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    /// Sends bytes as they are; the head and the body of the answer.
    fn exchange(&self, bytes: &[u8]) -> Option<(String, Vec<u8>)> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // A server that refuses early closes its end while we still speak.
        let _refused = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        Some((head, answer.split_off(end + 4)))
    }

    /// A number of the server's status.
    pub(crate) fn count(&self, token: &str, name: &str) -> u64 {
        let (status, body) = self.ask(token, "GET /v1/status");
        assert_eq!(status, 200);
        let status: Value = serde_json::from_slice(&body).unwrap();
        status[name].as_u64().unwrap()
    }
}

impl Outcome {
    /// Runs a receiver to its end.
    pub(crate) fn of(site: &Site, name: &str, command: &mut Command) -> Self {
        let process = process::spawn(name, command, site.run.dir()).unwrap();
        Self::of_process(process)
    }

    /// Waits for the end of a receiver.
    pub(crate) fn of_process(mut process: Process) -> Self {
        let status = process.wait(LIMIT).unwrap();
        let lines = process.stdout();
        Self {
            code: status.code(),
            events: lines
                .lines()
                .filter(|line| line.starts_with('{'))
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
            stderr: process.stderr(),
            peak_memory: process.peak_memory(),
        }
    }

    /// The last event of a receiver that succeeded.
    pub(crate) fn done(&self) -> &Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        let last = self.events.last().unwrap();
        assert_eq!(last["event"], "done", "{last}");
        last
    }

    /// Checks that it failed with `code`, and said all of `parts` in one error and its hint.
    pub(crate) fn assert_failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let errors: Vec<&str> = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in:\n{}", self.stderr);
        }
        assert!(self.events.iter().all(|event| event["event"] != "done"));
    }
}

/// Adds what a receiver is told.
pub(crate) fn aim(command: &mut Command, address: &str, image: &str, target: &Path, transport: &str) {
    command
        .arg("receive")
        .args(["--server", &format!("http://{address}"), "--image", image]);
    command
        .arg("--target")
        .arg(target)
        .args(["--transport", transport, "--json"]);
}

/// Bytes that a file has on disk; 0 when there is none.
pub(crate) fn on_disk(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}
