//! A link between two nodes that a test can delay, watch and break.

use super::cluster::{Node, found, join};
use super::space::Space;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use wayfare_sim::proxy::{Proxy, Shape};

/// Two nodes of one cluster, at work. What `a` says to `b` goes through a proxy; `b` reaches `a` without.
pub struct Linked {
    pub a: Node,
    pub b: Node,
    pub proxy: Proxy,
    /// What `b` says to `a`, where that goes through a proxy, too.
    pub back: Option<Proxy>,
    /// With networks of their own.
    spaces: Option<[Arc<Space>; 2]>,
}

/// Bytes per second that are more than any test needs.
pub const FAST: u64 = 4 << 30;

impl Linked {
    /// On this machine's loopback device.
    pub fn local(shape: Shape) -> Linked {
        let mut linked = Linked::made(Node::new("a"), Node::new("b"), None, |listen, target| {
            Proxy::start(listen, target, shape).unwrap()
        });
        linked.b.serve();
        linked
    }

    /// The same, with a proxy for what `b` says to `a` as well.
    pub fn both_ways(shape: Shape) -> Linked {
        let mut a = Node::new("a");
        let back = Proxy::start("127.0.0.1:0".parse().unwrap(), a.address.parse().unwrap(), shape.clone()).unwrap();
        a.advertised = Some(back.address().to_string());
        let mut linked =
            Linked::made(a, Node::new("b"), None, |listen, target| Proxy::start(listen, target, shape).unwrap());
        linked.back = Some(back);
        linked.b.serve();
        linked
    }

    /// Each with a network of its own and a cable between them; the proxy is at `a`'s end of the cable.
    pub fn apart(shape: Shape) -> Linked {
        let spaces = [Space::new(), Space::new()];
        spaces[0].cable(&spaces[1]);
        let mut nodes = [("a", "10.77.0.1:7600"), ("b", "10.77.0.2:7600")].map(|(n, at)| Node::at(n, at.into()));
        for (node, space) in nodes.iter_mut().zip(&spaces) {
            node.space = Some(space.clone());
        }
        let [a, b] = nodes;
        let near = spaces[0].clone();
        let mut linked = Linked::made(a, b, Some(spaces), |listen, target| {
            near.within(|| Proxy::start(listen, target, shape).unwrap())
        });
        linked.b.serve();
        linked
    }

    /// The same with `b` not yet at work.
    pub fn made(
        mut a: Node,
        mut b: Node,
        spaces: Option<[Arc<Space>; 2]>,
        proxy: impl FnOnce(SocketAddr, SocketAddr) -> Proxy,
    ) -> Linked {
        let listen = format!("127.0.0.1:{}", if spaces.is_some() { 7601 } else { 0 });
        let proxy = proxy(listen.parse().unwrap(), b.address.parse().unwrap());
        b.advertised = Some(proxy.address().to_string());
        found(&mut a);
        join(&a, &mut b);
        Linked { a, b, proxy, back: None, spaces }
    }

    /// Nothing passes any more, and nobody is told; without namespaces, both are.
    pub fn down(&self) {
        match &self.spaces {
            Some([a, _]) => a.run(&["ip", "link", "set", "w0", "down"]),
            None => {
                self.proxy.cut();
                self.back.iter().for_each(Proxy::cut);
            }
        }
    }

    /// It passes again.
    pub fn up(&self) {
        match &self.spaces {
            Some([a, _]) => a.run(&["ip", "link", "set", "w0", "up"]),
            None => {
                self.proxy.restore();
                self.back.iter().for_each(Proxy::restore);
            }
        }
    }

    pub fn nodes(&self) -> [&Node; 2] {
        [&self.a, &self.b]
    }
}

/// A link on which each round trip takes so long.
pub fn slow(round_trip: Duration) -> Shape {
    Shape::new(FAST, round_trip / 2)
}
