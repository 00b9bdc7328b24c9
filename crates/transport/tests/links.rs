//! Both carriers through the conformance suite, and QUIC on real sockets of the loopback.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod suite;

use std::time::{Duration, SystemTime};

use suite::{End, conforms, connect, exchange, node};
use transport::identity::{Authority, KeyKind, NodeIdentity};
use transport::{
    Bytes, Delivery, Event, Hub, Lane, Limits, LinkEnd, Peer, Quic, QuicConfig, Refusal, Side, Timing, bind,
};

const CLUSTER: u128 = 0xc1;
/// A message that is refused is small in tests, and so is what the suite sends.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

fn now_s() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64
}

fn authority() -> Authority {
    Authority::create(CLUSTER, now_s()).unwrap()
}

fn issue(authority: &Authority, name: &str) -> NodeIdentity {
    authority.issue(&node(name), KeyKind::Ed25519, now_s(), 1).unwrap()
}

fn limits() -> Limits {
    Limits { message_bytes_max: MESSAGE_BYTES_MAX, ..Limits::default() }
}

fn config(limits: Limits) -> QuicConfig {
    let timing = Timing {
        keep_alive_ms: 200,
        idle_timeout_ms: 1_000,
        handshake_timeout_ms: 3_000,
        dial_first_ms: 20,
        dial_max_ms: 200,
        dial_second_ms: 500,
        drain_ms: 1_000,
    };
    QuicConfig { limits, timing, is_new: false }
}

fn quic(identity: &NodeIdentity, limits: Limits) -> End {
    quic_with(identity, config(limits))
}

fn quic_with(identity: &NodeIdentity, config: QuicConfig) -> End {
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (transport, events) = Quic::start(identity, socket, config).unwrap();
    let address = vec![transport.local_address().unwrap().to_string()];
    End { transport: Box::new(transport), events, address }
}

fn members(ends: &[End]) -> Vec<Peer> {
    ends.iter().map(End::peer).collect()
}

async fn refusal(end: &mut End) -> (Side, Refusal) {
    end.wait("a refusal", |event| match event {
        Event::Refused { by, refusal, .. } if !refusal.is_ordinary() => Some((by, refusal)),
        Event::LinkUp { peer } => panic!("a link to {peer} came up"),
        _ => None,
    })
    .await
}

/// `a` dials `b`, both list each other: how each learns that it came to nothing.
async fn refused(a: &NodeIdentity, b: &NodeIdentity) -> ((Side, Refusal), (Side, Refusal)) {
    let mut ends = [quic(a, limits()), quic(b, limits())];
    let peers = [Peer::new(node("a"), ends[0].address.clone()), Peer::new(node("b"), ends[1].address.clone())];
    // Who is dialled first: else it may be asked before it knows anybody.
    for end in ends.iter().rev() {
        end.transport.set_peers(peers.to_vec()).unwrap();
    }
    let [dialler, acceptor] = &mut ends;
    (refusal(dialler).await, refusal(acceptor).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    conforms(|names| {
        let hub = Hub::new();
        let join = |name: &&str| {
            let (transport, events) = hub.join(node(name), limits()).unwrap();
            End { transport: Box::new(transport), events, address: Vec::new() }
        };
        names.iter().map(join).collect()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_conforms() {
    let authority = authority();
    conforms(|names| names.iter().map(|name| quic(&issue(&authority, name), limits())).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_exchange_ten_thousand_messages_both_ways_in_order() {
    let authority = authority();
    let mut ends = [quic(&issue(&authority, "a"), limits()), quic(&issue(&authority, "b"), limits())];
    connect(&mut ends).await;
    exchange(&mut ends, 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_exchange_ten_thousand_messages_both_ways_in_order() {
    let authority = authority();
    let mut ends = ["a", "b", "c"].map(|name| quic(&issue(&authority, name), limits()));
    connect(&mut ends).await;
    exchange(&mut ends, 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_either_kind_and_odd_node_ids_connect() {
    let authority = authority();
    let ecdsa = authority.issue(&node("-0_"), KeyKind::EcdsaP256, now_s(), 1).unwrap();
    let mut ends = [quic(&ecdsa, limits()), quic(&issue(&authority, "127"), limits())];
    connect(&mut ends).await;
    exchange(&mut ends, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let (dialler, acceptor) = refused(&issue(&ours, "a"), &issue(&theirs, "b")).await;
    assert_eq!(dialler, (Side::Us, Refusal::WrongAuthority));
    assert_eq!(acceptor, (Side::Peer, Refusal::WrongAuthority));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_refused() {
    let ours = authority();
    let theirs = Authority::create(CLUSTER + 1, now_s()).unwrap();
    let (dialler, acceptor) = refused(&issue(&ours, "a"), &issue(&theirs, "b")).await;
    assert_eq!((dialler, acceptor), ((Side::Peer, Refusal::WrongCluster), (Side::Us, Refusal::WrongCluster)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_names_another_node_is_refused() {
    let authority = authority();
    let (dialler, acceptor) = refused(&issue(&authority, "a"), &issue(&authority, "c")).await;
    let other = Refusal::OtherNode { dialled: Some(node("b")), found: Some(node("c")) };
    assert_eq!(dialler, (Side::Us, other));
    // The close code is seen here unless the packet before it was lost; then it is known only that we were refused.
    let is_typed = acceptor.1 == Refusal::OtherNode { dialled: None, found: None };
    assert!(acceptor.0 == Side::Peer && (is_typed || matches!(acceptor.1, Refusal::Malformed { .. })), "{acceptor:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused_on_either_side() {
    let authority = authority();
    let expired = |name| {
        let (from, until) = (now_s() - 1_000, now_s() - 500);
        authority.issue_between(&node(name), KeyKind::Ed25519, from, until, now_s()).unwrap()
    };
    let (dialler, acceptor) = refused(&issue(&authority, "a"), &expired("b")).await;
    assert_eq!((dialler, acceptor), ((Side::Us, Refusal::Expired), (Side::Peer, Refusal::Expired)));
    let (dialler, acceptor) = refused(&expired("a"), &issue(&authority, "b")).await;
    assert_eq!((dialler, acceptor), ((Side::Peer, Refusal::Expired), (Side::Us, Refusal::Expired)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_member_is_refused() {
    let authority = authority();
    let mut ends = [quic(&issue(&authority, "a"), limits()), quic(&issue(&authority, "b"), limits())];
    ends[0].transport.set_peers(members(&ends)).unwrap();
    let [a, b] = &mut ends;
    assert_eq!(refusal(b).await, (Side::Us, Refusal::NotMember { node: Some(node("a")) }));
    assert_eq!(refusal(a).await, (Side::Peer, Refusal::NotMember { node: None }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_other_than_the_pinned_one_is_refused() {
    let authority = authority();
    let mut ends = [quic(&issue(&authority, "a"), limits()), quic(&issue(&authority, "b"), limits())];
    let mut peers = members(&ends);
    peers[1].certificate_sha256 = Some([0; 32]);
    ends.iter().for_each(|end| end.transport.set_peers(peers.clone()).unwrap());
    assert_eq!(refusal(&mut ends[0]).await, (Side::Us, Refusal::NotPinned));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_both_dial_one_link_is_left() {
    let authority = authority();
    let mut at_once = config(limits());
    at_once.timing.dial_second_ms = 0;
    let mut ends = ["a", "b"].map(|name| quic_with(&issue(&authority, name), at_once.clone()));
    let peers = members(&ends);
    ends.iter().for_each(|end| end.transport.set_peers(peers.clone()).unwrap());
    ends[0].wait_up(&node("b")).await;
    ends[1].wait_up(&node("a")).await;
    // A message in each direction arrives once the two ends agree on one link.
    for (from, to) in [(0, "b"), (1, "a")] {
        let other = 1 - from;
        for attempt in 0_u8.. {
            assert!(attempt < 100, "the ends do not agree on a link");
            let sent = ends[from].transport.send(&node(to), Lane::Replica, Delivery::InOrder, Bytes::from_static(b"x"));
            let wait = ends[other].events.next();
            if let (Ok(()), Ok(Some(Event::Received { .. }))) =
                (sent, tokio::time::timeout(Duration::from_millis(100), wait).await)
            {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_at_an_address_that_nobody_knows_dials_itself() {
    let authority = authority();
    let mut ends = [quic(&issue(&authority, "a"), limits()), quic(&issue(&authority, "b"), limits())];
    let peers = members(&ends);
    let moved = Peer::new(node("b"), vec!["127.0.0.1:9".to_owned()]);
    ends[0].transport.set_peers(vec![peers[0].clone(), moved]).unwrap();
    ends[1].transport.set_peers(peers).unwrap();
    ends[1].wait_up(&node("a")).await;
    ends[0].wait_up(&node("b")).await;
    exchange(&mut ends, 10).await;
}

/// The link that is there stays, and both sides of the second attempt are told.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_under_one_name_is_kept_out() {
    let authority = authority();
    let identity = issue(&authority, "b");
    let mut ends = vec![quic(&issue(&authority, "a"), limits()), quic(&identity, limits())];
    connect(&mut ends).await;
    let mut copy = quic(&identity, limits());
    copy.transport.set_peers(members(&ends)).unwrap();
    for (end, by) in [(&mut copy, Side::Peer), (&mut ends[0], Side::Us)] {
        let told = end
            .wait("a refusal", |event| match event {
                Event::Refused { peer, by, refusal, .. } => Some((peer, by, refusal)),
                Event::LinkUp { peer } => panic!("a link to {peer} came up"),
                _ => None,
            })
            .await;
        let other = if by == Side::Us { "b" } else { "a" };
        assert_eq!(told, (Some(node(other)), by, Refusal::Duplicate));
    }
    exchange(&mut ends, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_dropped_is_noticed_and_found_again() {
    let authority = authority();
    let identity = issue(&authority, "b");
    let mut ends = vec![quic(&issue(&authority, "a"), limits()), quic(&identity, limits())];
    connect(&mut ends).await;
    let gone = ends.pop().unwrap();
    drop(gone.transport);
    let end = ends[0].wait_down(&node("b")).await;
    assert!(matches!(end, LinkEnd::PeerLeft | LinkEnd::TimedOut), "{end:?}");
    ends.push(quic(&identity, limits()));
    connect(&mut ends).await;
    exchange(&mut ends, 10).await;
}

#[test]
fn a_peer_that_dies_without_a_word_times_out() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (here, there) = (runtime(), runtime());
    let authority = authority();
    let a = here.block_on(async { quic(&issue(&authority, "a"), limits()) });
    let b = there.block_on(async { quic(&issue(&authority, "b"), limits()) });
    let mut ends = vec![a, b];
    here.block_on(connect(&mut ends));
    // Its tasks end where they are: nobody is left who could say goodbye.
    there.shutdown_background();
    let end = here.block_on(ends[0].wait_down(&node("b")));
    assert_eq!(end, LinkEnd::TimedOut);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_above_the_peers_bound_ends_the_link_unallocated() {
    let authority = authority();
    let generous = Limits { message_bytes_max: 1 << 20, ..Limits::default() };
    let mut ends = [quic(&issue(&authority, "a"), generous), quic(&issue(&authority, "b"), limits())];
    connect(&mut ends).await;
    let large = Bytes::from(vec![0; 1 << 20]);
    ends[0].transport.send(&node("b"), Lane::Replica, Delivery::Auto, large).unwrap();
    let end = ends[1].wait_down(&node("a")).await;
    assert_eq!(end, LinkEnd::MessageTooLarge { bytes: 1 << 20, bytes_max: MESSAGE_BYTES_MAX });
    assert!(matches!(ends[0].wait_down(&node("b")).await, LinkEnd::PeerReset { .. }));
    ends[0].wait_up(&node("b")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_above_its_bound_resets_the_link() {
    let authority = authority();
    let narrow = Limits { send_queue_bytes_max: 128 << 10, ..limits() };
    let mut ends = [quic(&issue(&authority, "a"), narrow), quic(&issue(&authority, "b"), limits())];
    connect(&mut ends).await;
    let bytes = Bytes::from(vec![0; MESSAGE_BYTES_MAX]);
    let overflow = (0..10_000)
        .find_map(|_| ends[0].transport.send(&node("b"), Lane::Replica, Delivery::InOrder, bytes.clone()).err());
    assert_eq!(overflow.map(|error| error.code()), Some("ERR_LINK_OVERFLOW"));
    assert_eq!(ends[0].wait_down(&node("b")).await, LinkEnd::SendOverflow);
    ends[0].wait_up(&node("b")).await;
}
