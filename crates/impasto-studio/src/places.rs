//! [`Places`]: the open connections, and which of them ends to make room for a new one.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Time in which a new connection may send its request, before the connection can end for another.
const GRACE: Duration = Duration::from_millis(50);
/// Time between two looks for room.
const TURN: Duration = Duration::from_millis(1);

/// The open connections of a studio. Some give their places to new ones, in this order:
///
/// 1. connections without an allowed request, the oldest first;
/// 2. connections without work, the one that is idle longest first;
/// 3. connections whose request arrives or is answered, in the order of the beginnings of these requests.
///
/// Connections that send streams never do.
pub struct Places {
    /// Largest number of connections, of all addresses and of one.
    most: usize,
    most_of_address: usize,
    taken: Mutex<Vec<Arc<Place>>>,
}

/// An open connection.
pub struct Place {
    address: IpAddr,
    opened: Instant,
    /// True once a request has arrived.
    has_begun: AtomicBool,
    /// Time at which the last allowed request began or was answered; `None` before the first.
    used: Mutex<Option<Instant>>,
    /// True while an allowed request arrives or is answered.
    is_busy: AtomicBool,
    /// Number of streams that the connection sends.
    streams: AtomicUsize,
    /// Tells the connection to end.
    ended: Notify,
}

impl Place {
    /// Notes that a request has arrived.
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
    }

    /// Returns true if a request has arrived.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Notes that a request was allowed, and that it is answered when the value is dropped.
    pub fn allow(self: Arc<Self>) -> Busy {
        self.use_now(true);
        Busy(self)
    }

    /// Notes whether the connection has work from now on.
    fn use_now(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::Relaxed);
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Keeps the connection while it sends a stream.
    pub fn keep(self: Arc<Self>) -> Kept {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Kept(self)
    }

    /// Waits until the connection must make room.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Returns the order in which connections end; see [`Places`].
    fn order(&self) -> (bool, Option<Instant>, Instant) {
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        (self.is_busy.load(Ordering::Relaxed), used, self.opened)
    }

    /// Returns the time since the connection was opened, or since its last allowed request.
    fn age(&self) -> Duration {
        let (_, used, opened) = self.order();
        used.unwrap_or(opened).elapsed()
    }
}

/// A connection whose request is being answered.
pub struct Busy(Arc<Place>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.use_now(false);
    }
}

/// A connection that is kept while it sends a stream.
pub struct Kept(Arc<Place>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The place of an open connection, until the value is dropped.
pub struct Taken {
    places: Arc<Places>,
    pub place: Arc<Place>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.places.taken().retain(|place| !Arc::ptr_eq(place, &self.place));
    }
}

impl Places {
    /// Creates places for `most` connections, half of which one address may take.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_address: (most / 2).max(1), taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Arc<Place>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds room for a connection from `address`.
    fn room(&self, taken: &[Arc<Place>], address: IpAddr) -> Room {
        let first = |first: Option<usize>| first.map_or(Room::None, Room::After);
        if taken.iter().filter(|place| place.address == address).count() >= self.most_of_address {
            first(first_to_end(taken, |place| place.address == address))
        } else if taken.len() >= self.most {
            first(first_to_end(taken, |_| true))
        } else {
            Room::Free
        }
    }

    /// Waits until a connection from `address` can take a place without the end of one that has only just opened. The
    /// wait is short, because clients that send many requests could otherwise keep all others out.
    pub async fn wait_for_room(&self, address: IpAddr) {
        let begun = Instant::now();
        while begun.elapsed() < GRACE && !self.have_room(address) {
            tokio::time::sleep(TURN).await;
        }
    }

    /// Returns true if a connection from `address` can take a place without the end of one that has only just opened.
    fn have_room(&self, address: IpAddr) -> bool {
        let taken = self.taken();
        match self.room(&taken, network(address)) {
            Room::After(index) => taken.get(index).is_none_or(|place| place.age() >= GRACE),
            Room::Free | Room::None => true,
        }
    }

    /// Gives a connection from `address` a place. `None` if all places are taken by streams.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Taken> {
        let address = network(address);
        let mut taken = self.taken();
        match self.room(&taken, address) {
            Room::Free => {}
            Room::After(index) => taken.swap_remove(index).ended.notify_one(),
            Room::None => return None,
        }
        let place = Arc::new(Place {
            address,
            opened: Instant::now(),
            has_begun: AtomicBool::new(false),
            used: Mutex::default(),
            is_busy: AtomicBool::new(false),
            streams: AtomicUsize::new(0),
            ended: Notify::new(),
        });
        taken.push(Arc::clone(&place));
        Some(Taken { places: Arc::clone(self), place })
    }

    /// Ends one connection, because the system has no file descriptor or no memory for another.
    pub fn make_room(&self) {
        let mut taken = self.taken();
        if let Some(index) = first_to_end(&taken, |_| true) {
            taken.swap_remove(index).ended.notify_one();
        }
    }
}

/// Room for a new connection.
enum Room {
    Free,
    /// There is room after the end of the connection at this index.
    After(usize),
    None,
}

/// Returns the index of the first of the chosen connections in the order of their ends. Connections that send streams
/// do not end.
fn first_to_end(taken: &[Arc<Place>], is_chosen: impl Fn(&Place) -> bool) -> Option<usize> {
    let idle = taken.iter().enumerate().filter(|(_, place)| place.streams.load(Ordering::Relaxed) == 0);
    idle.filter(|(_, place)| is_chosen(place)).min_by_key(|(_, place)| place.order()).map(|(index, _)| index)
}

/// Returns the network that a single client may own: an address of IPv4, or the first 64 bits of one of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::task::{Context, Waker};

    const OWNER: [u8; 4] = [10, 0, 0, 1];
    const STRANGER: [u8; 4] = [10, 0, 0, 2];

    /// Returns true if the connection was told to end.
    fn is_ended(taken: &Taken) -> bool {
        std::pin::pin!(taken.place.ended()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn oldest_connection_without_token_ends_first() {
        let places = Places::new(8);
        let [owner, first, second] = [0, 1, 2].map(|_| places.take(OWNER.into()).unwrap());
        drop(Arc::clone(&owner.place).allow());
        let fourth = places.take(OWNER.into()).unwrap();
        drop(Arc::clone(&fourth.place).allow());
        let _fifth = places.take(OWNER.into()).unwrap();
        assert_eq!([&owner, &first, &second, &fourth].map(is_ended), [false, true, false, false]);
        let _sixth = places.take(OWNER.into()).unwrap();
        assert_eq!([&owner, &second, &fourth].map(is_ended), [false, true, false]);
    }

    #[test]
    fn connection_with_a_request_ends_last() {
        let places = Places::new(4);
        let [busy, idle] = [(); 2].map(|()| places.take(OWNER.into()).unwrap());
        let request = Arc::clone(&busy.place).allow();
        drop(Arc::clone(&idle.place).allow());
        let third = places.take(OWNER.into()).unwrap();
        assert_eq!([&busy, &idle].map(is_ended), [false, true]);
        let also = Arc::clone(&third.place).allow();
        drop(request);
        let _fourth = places.take(OWNER.into()).unwrap();
        assert_eq!([&busy, &third].map(is_ended), [true, false]);
        drop(also);
    }

    #[tokio::test]
    async fn wait_for_room_ends_beside_busy_clients() {
        let places = Places::new(2);
        let only = places.take(OWNER.into()).unwrap();
        let uses = async {
            loop {
                drop(Arc::clone(&only.place).allow());
                tokio::time::sleep(TURN).await;
            }
        };
        tokio::select! {
            () = places.wait_for_room(OWNER.into()) => {}
            () = uses => {}
            () = tokio::time::sleep(40 * GRACE) => panic!("the wait does not end"),
        }
    }

    #[test]
    fn one_address_takes_half_of_the_places() {
        let places = Places::new(8);
        let owner = places.take(OWNER.into()).unwrap();
        let strangers: Vec<Taken> = (0..100).map(|_| places.take(STRANGER.into()).unwrap()).collect();
        assert!(!is_ended(&owner));
        assert_eq!(strangers.iter().filter(|stranger| !is_ended(stranger)).count(), 4);
        drop(strangers);
        assert_eq!(places.taken().len(), 1);
    }

    #[test]
    fn new_connection_has_time_for_its_request() {
        let places = Places::new(4);
        let _first = places.take(OWNER.into());
        assert!(places.have_room(OWNER.into()));
        let _second = places.take(OWNER.into());
        assert!(!places.have_room(OWNER.into()) && places.have_room(STRANGER.into()));
        std::thread::sleep(GRACE);
        assert!(places.have_room(OWNER.into()));
    }

    #[test]
    fn idle_connections_end_before_streams() {
        let places = Places::new(2);
        let [stream, other] = [OWNER, STRANGER].map(|address| places.take(address.into()).unwrap());
        let (kept, also) = (Arc::clone(&stream.place).keep(), Arc::clone(&other.place).keep());
        assert!(places.take([10, 0, 0, 3].into()).is_none());
        drop(also);
        assert!(places.take([10, 0, 0, 3].into()).is_some() && is_ended(&other) && !is_ended(&stream));
        drop(kept);
        places.make_room();
        assert!(is_ended(&stream));
    }

    #[test]
    fn neighbors_in_ipv6_are_one_address() {
        let [a, b, c] =
            ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"].map(|text| network(text.parse().unwrap()));
        assert!(a == b && a != c);
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), IpAddr::from(OWNER));
    }
}
