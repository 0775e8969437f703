//! A cluster of three masters, and the moving of its slots.

use super::{
    super::{patiently, within},
    RedisServer,
};

/// Where the nodes' slots begin.
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

    /// With further arguments for each node.
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

    /// Waits until all nodes are well and know each other, as after a restart of one. Redis lets no
    /// master serve within its first two seconds.
    pub(crate) fn settle(&self) {
        within("all nodes are well and know each other", || {
            self.nodes.iter().all(|node| {
                let info = node.ask(&["CLUSTER", "INFO"]).map(|info| info.to_string());
                info.is_ok_and(|info| {
                    info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
                })
            }) && self.agrees()
        });
    }

    /// Whether all nodes say the same of who has which slots, and since which epoch.
    fn agrees(&self) -> bool {
        let maps: Vec<_> = self.nodes.iter().map(map).collect();
        let mut epochs: Vec<_> = maps[0].iter().map(|(_, epoch, _)| epoch).collect();
        epochs.sort_unstable();
        epochs.dedup();
        epochs.len() == self.nodes.len() && maps.iter().all(|map| *map == maps[0])
    }

    /// Of all nodes.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// From 0 to 2.
    pub(crate) fn node(&self, index: usize) -> &RedisServer {
        &self.nodes[index]
    }

    pub(crate) fn slot_of(&self, key: &str) -> u16 {
        self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).parse().unwrap()
    }

    /// Which node has a key's slot now, as the first one sees it.
    pub(crate) fn node_of(&self, key: &str) -> usize {
        let reply = self.nodes[0].ask(&["EXISTS", key]).unwrap().to_string();
        let Some(moved) = reply.strip_prefix("MOVED ") else { return 0 };
        let port = |node: &RedisServer| moved.ends_with(&format!(":{}", node.port()));
        self.nodes.iter().position(port).expect("a node of this cluster")
    }

    /// A key whose slot a node has; the same one each time, while no slot moves.
    pub(crate) fn key_on(&self, node: usize) -> String {
        (0..).map(|n| format!("key-{n}")).find(|key| self.node_of(key) == node).unwrap()
    }

    /// Opens a slot for moving: the one node answers ASK for keys that it has not (any more), the
    /// other takes them from whoever says ASKING.
    pub(crate) fn begin_slot_move(&self, slot: u16, from: usize, to: usize) -> SlotMove<'_> {
        let (from, to) = (self.node(from), self.node(to));
        let slot = slot.to_string();
        to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
        SlotMove { cluster: self, slot, from, to }
    }
}

/// A slot that is on its way.
#[must_use = "a slot stays open until the move is finished"]
pub(crate) struct SlotMove<'a> {
    cluster: &'a RedisCluster,
    slot: String,
    from: &'a RedisServer,
    to: &'a RedisServer,
}

impl SlotMove<'_> {
    /// Moves all keys that the slot has now.
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

    /// Gives the slot to its new node, tells all of them, and waits until that is what they all know:
    /// who moves the next slot before may leave them of different minds for ever.
    pub(crate) async fn finish(self) {
        let owner = id(self.to);
        let others = self.cluster.nodes.iter().filter(|node| node.port() != self.to.port());
        for node in [self.to].into_iter().chain(others) {
            node.command(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &owner]);
        }
        patiently("the nodes agree about their slots", || self.cluster.agrees()).await;
    }
}

/// Each node that a node knows, its epoch and its slots, but for those on their way.
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
