//! Links to members.

use super::{Code, code};
use crate::exit::Exit;

pub(super) const CODES: &[Code] = &[
    code(
        "ERR_BIND_FAILED",
        Exit::System,
        "The UDP socket for the other members cannot be had. The node does not start.",
        "Another process has the port, the address is not of this machine, or IPv6 is off.",
        "`ss -ulpn` shows who has the port; set transport.listen to another one, such as 0.0.0.0:8888.",
    ),
    code(
        "ERR_PEERS_INVALID",
        Exit::Config,
        "The list of members cannot be used. The one before stays in use.",
        "An address is not HOST:PORT, or a member has too many.",
        "Correct [peers] or transport.advertise on the node that the message names.",
    ),
    code(
        "ERR_PEER_UNREACHABLE",
        Exit::Unavailable,
        "A member does not answer. This node goes on, and sends what is missing when it is back.",
        "It does not run, its address changed, or UDP does not pass.",
        "Start it, correct its address ([peers]), let UDP 8888 pass.",
    ),
    code(
        "ERR_PEER_WRONG_CA",
        Exit::Data,
        "A certificate was not issued by this cluster's CA. No link came up.",
        "A node of another cluster, or one that was joined before the cluster was made anew.",
        "Join that node again with a token of this cluster.",
    ),
    code(
        "ERR_PEER_CERT_INVALID",
        Exit::Data,
        "The other end showed no certificate, or one that does not fit. No link came up.",
        "A scanner, or a certificate whose purpose or name is wrong.",
        "Ignore it if it comes from a stranger; else issue the certificate anew.",
    ),
    code(
        "ERR_PEER_NOT_MEMBER",
        Exit::Data,
        "The certificate is good, and its node is no member. No link came up.",
        "The record that lets it in is still on its way, or it is of another life of the cluster.",
        "Wait a minute after a join; then invite it under another node id.",
    ),
    code(
        "ERR_PEER_NOT_PINNED",
        Exit::Data,
        "The member showed another certificate than the one it is pinned to. No link came up.",
        "It was renewed, or somebody stole an old one.",
        "Renew the pin if the renewal was yours.",
    ),
    code(
        "ERR_PEER_OTHER_NODE",
        Exit::Config,
        "Another member answers at the address of this one. No link came up.",
        "Addresses were mixed, or two machines swapped theirs.",
        "Correct [peers], or transport.advertise on those nodes.",
    ),
    code(
        "ERR_PEER_MALFORMED",
        Exit::Protocol,
        "A member sent what no node sends. The link is down and comes up again.",
        "Another version, or a network that changes packets.",
        "Install the same version on both; if it goes on, report it.",
    ),
    code(
        "ERR_PEER_CLOSING",
        Exit::Temporary,
        "The other end is closing down.",
        "It is being stopped or restarted.",
        "Nothing; the link comes up when it is back.",
    ),
    code(
        "ERR_LINK_DUPLICATE",
        Exit::Temporary,
        "A link to that member is up already, and that one stays.",
        "Both dialled at the same moment.",
        "Nothing.",
    ),
    code(
        "ERR_LINK_DOWN",
        Exit::Temporary,
        "A message had no link to travel on. What is missing is pulled later.",
        "The member is away.",
        "Nothing, if it comes back; see ERR_PEER_UNREACHABLE.",
    ),
    code(
        "ERR_LINK_TIMED_OUT",
        Exit::Temporary,
        "Nothing was heard of a member for transport.idle_timeout_ms. The link is down and is dialled again.",
        "The member or the network between is down or frozen.",
        "Look at that machine and at the way there.",
    ),
    code(
        "ERR_LINK_FAILED",
        Exit::Temporary,
        "A link ended for another reason, which the message tells. It is dialled again.",
        "The other end reset it, or the system refused a packet.",
        "Look at the log of the other node at the same time.",
    ),
    code(
        "ERR_LINK_OVERFLOW",
        Exit::Temporary,
        "A member takes less than is sent to it, and the queue to it was full. The link was reset; what was lost is \
         pulled again.",
        "A slow way or a slow machine.",
        "Look at its disk and at the bandwidth; raise transport.send_queue_bytes_max if bursts are the reason.",
    ),
    code(
        "ERR_MESSAGE_TOO_LARGE",
        Exit::Protocol,
        "A message is above transport.message_bytes_max. It was not sent, or the link that announced it was reset.",
        "Members have different bounds.",
        "Give all members the same transport.message_bytes_max.",
    ),
    code(
        "ERR_MEMBER_DOWN",
        Exit::Unavailable,
        "The members take one of them for down. Collection waits for it; nothing is lost.",
        "It does not run, or nobody reaches it.",
        "Start it, or mend the network. If its disk is lost, restore its backup; to take a member out is not built yet.",
    ),
];
