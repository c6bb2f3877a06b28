//! In which network namespace a packet was that the kernel has made a record of, and so which containers
//! it may be of: NETFILTER_PKT names neither.
//!
//! ```text
//!  a program of ours in the kernel has told the namespace of that very record ─▶ certain
//!  it has not: a namespace that can have seen such a packet ─┬ one  ─▶ inferred
//!                                                           ├ several with other containers ─▶ ambiguous
//!                                                           └ none ─▶ unknown
//! ```
//!
//! Addresses are what whoever may configure the namespace makes them, so what follows from them is never
//! certain.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use record::EventId;
use record::units::ContId;

use super::{Confidence, Containers, Labelled};

/// What a record says of a packet; none where the kernel could not read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Where it comes from.
    pub source: Option<IpAddr>,
    /// Where it goes to.
    pub destination: Option<IpAddr>,
}

/// What the interfaces of a network namespace are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interfaces {
    /// The namespace's inode number.
    pub network: u32,
    /// Addresses for which a packet is taken in, each with how many of its bits count.
    pub local: Vec<(IpAddr, u8)>,
    /// Interfaces beside the loopback one.
    pub others: usize,
    /// Whether it hands on what is for others, of IPv4 and of IPv6.
    pub forwards: [bool; 2],
    /// Whether that is all, and could be read.
    pub whole: bool,
}

impl Interfaces {
    /// Whether such a packet may be seen there.
    fn may_see(&self, packet: &Packet) -> bool {
        let (Some(source), Some(destination)) = (packet.source, packet.destination) else {
            return true;
        };
        let is_local = |address| self.local.iter().any(|known| covers(*known, address));
        if !self.whole || is_local(source) || is_local(destination) {
            return true;
        }
        // It may be on its way through, and what is for everybody comes in anywhere.
        let is_for_all = destination.is_multicast() || destination == IpAddr::from([255; 4]);
        let is_inside = source.is_loopback() || destination.is_loopback();
        let forwards = self.forwards[usize::from(source.is_ipv6())];
        !is_inside && self.others > 0 && (forwards || is_for_all)
    }
}

/// Whether the address is one of these.
fn covers((known, bits): (IpAddr, u8), address: IpAddr) -> bool {
    let number = |address| match address {
        IpAddr::V4(four) => (u128::from(u32::from(four)) << 96, 32),
        IpAddr::V6(six) => (u128::from(six), 128),
    };
    let ((known, length), (address, of_same)) = (number(known), number(address));
    let apart = known ^ address;
    length == of_same && apart.checked_shr(128 - u32::from(bits.min(length))).unwrap_or(0) == 0
}

/// Records whose namespace was told and that were not asked for yet.
#[derive(Debug, Default)]
pub(super) struct Packets {
    /// None: it was told twice, and differently.
    told: BTreeMap<EventId, Option<(u32, Option<Ids>)>>,
    order: VecDeque<EventId>,
    /// Most packets are in the namespace that the last one was in.
    last: Option<Ids>,
}

type Ids = Arc<[ContId]>;

/// As many as events may be held.
const TOLD: usize = 65_536;

impl Packets {
    fn tell(&mut self, id: EventId, network: u32, ids: Option<Vec<ContId>>) {
        let ids = ids.map(|ids| match &self.last {
            Some(last) if **last == *ids => Arc::clone(last),
            _ => Arc::clone(self.last.insert(ids.into())),
        });
        if let Some(told) = self.told.get_mut(&id) {
            if told.as_ref().is_none_or(|(other, _)| *other != network) {
                *told = None;
            }
            return;
        }
        self.told.insert(id, Some((network, ids)));
        self.order.push_back(id);
        while self.order.len() > TOLD
            && let Some(oldest) = self.order.pop_front()
        {
            self.told.remove(&oldest);
        }
    }
}

impl Containers {
    /// The kernel has made this record of a packet, which was in this network namespace then. In the order
    /// of the events of processes.
    pub fn handle_packet(&mut self, id: EventId, network: u32, at_ns: u64) {
        let ids = self.networks.list_of(network, at_ns, at_ns);
        self.packets.tell(id, network, ids);
    }

    /// The containers of a packet's network namespace, where there is something to say: the namespace was
    /// told, or `interfaces` is asked for those that there are. The packet was seen between the two times.
    pub fn of_packet<'a>(
        &mut self,
        id: EventId,
        packet: &Packet,
        [from_ns, to_ns]: [u64; 2],
        interfaces: impl FnOnce() -> &'a [Interfaces],
    ) -> Option<Labelled> {
        if let Some(Some((_, Some(ids)))) = self.packets.told.remove(&id) {
            return Labelled::of_network(&ids, Confidence::Certain, &|id| self.roots.maker(id));
        }
        let seen = interfaces().iter().filter(|one| one.may_see(packet));
        let lists: Option<Vec<Vec<ContId>>> = seen
            .map(|one| {
                let mut ids = self.networks.list_of(one.network, from_ns, to_ns)?;
                if ids.is_empty() {
                    ids.push(ContId::UNSET);
                }
                Some(ids)
            })
            .collect();
        let Some(lists) = lists.filter(|lists| !lists.is_empty()) else {
            return Labelled::of_network(&[ContId::UNSET], Confidence::Unknown, &|_| None);
        };
        let is_one = lists.windows(2).all(|two| two[0] == two[1]);
        let mut ids: Vec<ContId> = Vec::new();
        for id in lists.into_iter().flatten() {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        // That nobody is in it goes behind those who may be.
        ids.sort_by_key(|id| !id.is_set());
        let confidence = if is_one { Confidence::Inferred } else { Confidence::Ambiguous };
        Labelled::of_network(&ids, confidence, &|id| self.roots.maker(id))
    }
}
