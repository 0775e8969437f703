//! A Redis cluster of three masters, whose slots can be moved.

use super::{
    super::{block_until, wait_until},
    RedisServer,
};

/// The first slot of each node.
const FIRST_SLOTS: [u16; 3] = [0, 5461, 10923];
const LAST_SLOT: u16 = 16383;

/// Three masters without replicas.
pub(crate) struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts the cluster with further arguments for each node.
    pub(crate) fn with(more: &[&str]) -> Self {
        let mut args = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        args.extend(more);
        let cluster =
            Self { nodes: FIRST_SLOTS.iter().map(|_| RedisServer::with(&args)).collect() };
        cluster.join();
        cluster
    }

    fn join(&self) {
        for (epoch, node) in (1..).zip(&self.nodes) {
            let first = FIRST_SLOTS[epoch - 1];
            let last = FIRST_SLOTS.get(epoch).map_or(LAST_SLOT, |next| next - 1);
            let (first, last) = (first.to_string(), last.to_string());
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()]);
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        for node in &self.nodes {
            for other in &self.nodes {
                node.command(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string()]);
            }
        }
        self.settle();
    }

    /// Waits until all nodes report a healthy cluster and know each other. After a start Redis waits two
    /// seconds before a master serves.
    pub(crate) fn settle(&self) {
        block_until("the cluster is healthy and complete", || {
            self.nodes.iter().all(|node| {
                let info = node.ask(&["CLUSTER", "INFO"]).map(|info| info.to_string());
                info.is_ok_and(|info| {
                    info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
                })
            }) && self.agrees()
        });
    }

    /// Returns whether all nodes agree on the owners of the slots and on their epochs.
    fn agrees(&self) -> bool {
        let maps: Vec<_> = self.nodes.iter().map(map).collect();
        let mut epochs: Vec<_> = maps[0].iter().map(|(_, epoch, _)| epoch).collect();
        epochs.sort_unstable();
        epochs.dedup();
        epochs.len() == self.nodes.len() && maps.iter().all(|map| *map == maps[0])
    }

    /// A node by its index, from 0 to 2.
    pub(crate) fn node(&self, index: usize) -> &RedisServer {
        &self.nodes[index]
    }

    pub(crate) fn slot_of(&self, key: &str) -> u16 {
        self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).parse().unwrap()
    }

    /// The index of the node that owns the slot of a key, according to the first node.
    pub(crate) fn node_of(&self, key: &str) -> usize {
        let reply = self.nodes[0].ask(&["EXISTS", key]).unwrap().to_string();
        let Some(moved) = reply.strip_prefix("MOVED ") else { return 0 };
        let port = |node: &RedisServer| moved.ends_with(&format!(":{}", node.port()));
        self.nodes.iter().position(port).expect("a node of this cluster")
    }

    /// A key whose slot a node owns. It is always the same key until a slot moves.
    pub(crate) fn key_on(&self, node: usize) -> String {
        (0..).map(|n| format!("key-{n}")).find(|key| self.node_of(key) == node).unwrap()
    }

    /// Begins to move a slot: the old node redirects requests for keys that it does not have by ASK, and
    /// the new one accepts them after ASKING.
    pub(crate) fn begin_slot_move(&self, slot: u16, from: usize, to: usize) -> SlotMove<'_> {
        let (from, to) = (self.node(from), self.node(to));
        let slot = slot.to_string();
        to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
        SlotMove { cluster: self, slot, from, to }
    }
}

/// A slot that is being moved.
#[must_use = "a slot stays open until the move is finished"]
pub(crate) struct SlotMove<'a> {
    cluster: &'a RedisCluster,
    slot: String,
    from: &'a RedisServer,
    to: &'a RedisServer,
}

impl SlotMove<'_> {
    /// Moves all keys of the slot.
    pub(crate) fn move_keys(&self) {
        let port = self.to.port().to_string();
        loop {
            let keys = self.from.command(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "100"]);
            if keys.is_empty() {
                return;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.lines());
            self.from.command(&migrate);
        }
    }

    /// Makes the new node the owner of the slot and waits until all nodes know it. If another slot moved
    /// before that, the nodes might disagree forever.
    pub(crate) async fn finish(self) {
        let owner = id(self.to);
        let others = self.cluster.nodes.iter().filter(|node| node.port() != self.to.port());
        for node in [self.to].into_iter().chain(others) {
            node.command(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &owner]);
        }
        wait_until("the nodes agree about their slots", || self.cluster.agrees()).await;
    }
}

/// The nodes that a node knows, with their epochs and slots, without slots that are being moved.
fn map(node: &RedisServer) -> Vec<(String, u64, Vec<String>)> {
    let nodes = node.command(&["CLUSTER", "NODES"]);
    let mut map: Vec<_> = nodes
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            let slots = fields[8..].iter().filter(|slots| !slots.starts_with('['));
            (
                fields[0].to_owned(),
                fields[6].parse().unwrap(),
                slots.map(ToString::to_string).collect(),
            )
        })
        .collect();
    map.sort_unstable();
    map
}

fn id(node: &RedisServer) -> String {
    node.command(&["CLUSTER", "MYID"])
}
