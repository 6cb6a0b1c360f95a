//! Network namespaces on a bridge, made for one run and removed with it.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};
use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::multicast::{ChunkInfo, ChunkTable};
use simulcast_transport::chunk_bytes::ChunkBytes;
use simulcast_transport::multicast::{ChunkSink, ChunkSource, SinkError};

/// Machines 0 to n, each a namespace with `eth0` at 10.77.0.(machine + 1), on a bridge in a namespace of its own.
pub(crate) struct Lab {
    prefix: String,
    machines: usize,
}

impl Lab {
    /// Makes the namespaces; what a broken run of the same process number left behind is removed first.
    pub(crate) fn new(name: &str, machines: usize) -> Self {
        let lab = Self {
            prefix: format!("si{}{name}", std::process::id()),
            machines,
        };
        lab.remove();
        let bridge = lab.bridge();
        ip(&format!("netns add {bridge}"));
        ip(&format!("-n {bridge} link add br0 type bridge mcast_snooping 0"));
        ip(&format!("-n {bridge} link set br0 up"));
        for machine in 0..machines {
            let ns = lab.namespace(machine);
            ip(&format!("netns add {ns}"));
            ip(&format!(
                "-n {ns} link add eth0 type veth peer name port{machine} netns {bridge}"
            ));
            ip(&format!("-n {bridge} link set port{machine} master br0 up"));
            ip(&format!("-n {ns} addr add {}/24 dev eth0", lab.address(machine)));
            ip(&format!(
                "-n {ns} addr add {}/64 dev eth0 nodad",
                lab.address_v6(machine)
            ));
            ip(&format!("-n {ns} link set eth0 up"));
            ip(&format!("-n {ns} link set lo up"));
        }
        lab
    }

    /// Address of a machine.
    pub(crate) fn address(&self, machine: usize) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, u8::try_from(machine + 1).unwrap()).into()
    }

    /// Its IPv6 address.
    pub(crate) fn address_v6(&self, machine: usize) -> IpAddr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::try_from(machine + 1).unwrap()).into()
    }

    /// Has packets cut at the machine's own device, as where the NIC cannot: then loss hits single packets.
    pub(crate) fn segment_at_device(&self, machine: usize) {
        ip(&format!(
            "-n {} link set dev eth0 gso_max_segs 1",
            self.namespace(machine)
        ));
    }

    /// Drops packets to multicast groups that reach this machine, so many in a thousand at random.
    pub(crate) fn lose(&self, machine: usize, permille: u32) {
        let rules = format!(
            "table ip loss {{ chain input {{ type filter hook input priority 0;\n \
             ip daddr 224.0.0.0/4 numgen random mod 1000 < {permille} drop\n }}\n }}\n"
        );
        run(
            "ip",
            &["netns", "exec", &self.namespace(machine), "nft", "-f", "-"],
            &rules,
        );
    }

    /// Moves the calling thread to a machine, for good; threads that it starts begin there.
    pub(crate) fn enter(&self, machine: usize) {
        let file = std::fs::File::open(format!("/var/run/netns/{}", self.namespace(machine))).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), kind).unwrap();
    }

    fn namespace(&self, machine: usize) -> String {
        format!("{}-{machine}", self.prefix)
    }

    fn bridge(&self) -> String {
        format!("{}-br", self.prefix)
    }

    fn remove(&self) {
        let all = (0..self.machines)
            .map(|machine| self.namespace(machine))
            .chain([self.bridge()]);
        for name in all.filter(|name| std::path::Path::new("/var/run/netns").join(name).exists()) {
            ip(&format!("netns delete {name}"));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.remove();
    }
}

fn ip(arguments: &str) {
    run("ip", &arguments.split(' ').collect::<Vec<_>>(), "");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the harness of this crate's tests; it must not depend on `system`"
)]
fn run(program: &str, arguments: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {}: {talk}",
        arguments.join(" ")
    );
}

/// Whether namespaces can be made here. Where not, that is said, and with REQUIRE_TIERS set it is a failure.
pub(crate) fn can_run() -> bool {
    let can = rustix::process::geteuid().is_root();
    if !can {
        eprintln!("SKIPPED: network namespaces need root");
        assert!(
            std::env::var_os("REQUIRE_TIERS").is_none(),
            "the netns tier is required and cannot run"
        );
    }
    can
}

/// Chunks in memory.
pub(crate) struct Chunks {
    pub(crate) table: Arc<ChunkTable>,
    bytes: Vec<Vec<u8>>,
}

impl Chunks {
    /// Random chunks of these lengths.
    pub(crate) fn random(seed: u64, lens: impl Iterator<Item = usize>) -> Arc<Self> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let chunk = |len| {
            let mut bytes = vec![0; len];
            rng.fill_bytes(&mut bytes);
            bytes
        };
        let bytes: Vec<Vec<u8>> = lens.map(chunk).collect();
        let info = |bytes: &Vec<u8>| ChunkInfo {
            id: ChunkId::of(bytes),
            len: u32::try_from(bytes.len()).unwrap(),
        };
        let table = ChunkTable::new(
            ManifestId::of(&seed.to_le_bytes()),
            bytes.iter().map(info).collect(),
        )
        .unwrap();
        Arc::new(Self {
            table: Arc::new(table),
            bytes,
        })
    }

    /// Whether `sink` got exactly these chunks.
    pub(crate) fn are_in(&self, sink: &Memory) -> bool {
        let got = sink.chunks.lock().unwrap();
        got.len() == self.bytes.len()
            && got
                .iter()
                .zip(&self.bytes)
                .all(|(got, sent)| got.as_ref() == Some(sent))
    }
}

impl ChunkSource for Chunks {
    fn read(&self, index: u32) -> std::io::Result<Vec<u8>> {
        Ok(self.bytes[usize::try_from(index).unwrap()].clone())
    }
}

/// Takes chunks into memory.
pub(crate) struct Memory {
    chunks: Mutex<Vec<Option<Vec<u8>>>>,
    started: Instant,
    last: Mutex<Duration>,
}

impl Memory {
    pub(crate) fn new(table: &ChunkTable) -> Self {
        let chunks = Mutex::new(vec![None; table.chunks().len()]);
        Self {
            chunks,
            started: Instant::now(),
            last: Mutex::new(Duration::ZERO),
        }
    }

    /// How many chunks are there.
    pub(crate) fn count(&self) -> usize {
        self.chunks.lock().unwrap().iter().flatten().count()
    }

    /// When the last chunk came, from when this was made.
    pub(crate) fn last(&self) -> Duration {
        *self.last.lock().unwrap()
    }
}

impl ChunkSink for Memory {
    fn wanted(&self, index: u32) -> bool {
        self.chunks.lock().unwrap()[usize::try_from(index).unwrap()].is_none()
    }

    fn deliver(&self, index: u32, bytes: ChunkBytes) -> Result<(), SinkError> {
        let old = self.chunks.lock().unwrap()[usize::try_from(index).unwrap()].replace(bytes.to_vec());
        assert!(old.is_none(), "chunk {index} was delivered twice");
        *self.last.lock().unwrap() = self.started.elapsed();
        Ok(())
    }

    fn fill(&self) -> u8 {
        0
    }
}
