/* From a block of the kernel's packet ring (packet(7), TPACKET_V3) to the TCP segments in it.

   Packets are from a socket of type SOCK_DGRAM: they begin with the network layer, whatever the link layer is, and the
   kernel has taken out an outer VLAN tag. Every length is checked against what was captured before it is used. */
#ifndef WSREC_PACKET_H
#define WSREC_PACKET_H

#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "_flow.h"

enum { WSREC_PORTS = 1 << 16 };
/* so long after its beginning a connection may get segments of an earlier one (the MSL, RFC 9293 3.4.1) */
#define WSREC_OLD_NS ((uint64_t)120 * 1000000000)
enum { WSREC_FIN = 1, WSREC_SYN = 2, WSREC_RST = 4, WSREC_ACK = 16, WSREC_URG = 32 };

typedef struct {
    wsrec_output out;
    /* by local port: the flow's place + 1, 0 for none. Written by another thread, after the flow itself */
    uint32_t by_port[WSREC_PORTS];
    wsrec_flow *flows;
    uint32_t places;
    uint64_t packets, segments;
    uint64_t heal_until; /* monotonic, ns */
    int64_t window;      /* see `wsrec_arrival` */
    /* a NIC's stamp further from the system's clock (ns) is not used; how far it was, and whether one was */
    int64_t nic_limit, nic_offset;
    uint32_t nic_rejected;
} wsrec_table;

typedef struct {
    uint32_t sequence, length;
    const uint8_t *remote, *local, *payload;
    uint32_t captured;
    uint16_t remote_port, local_port;
    uint8_t version, flags, has_timestamp;
    uint32_t timestamp;
    /* with its header: `seen` bytes of `total` */
    const uint8_t *segment;
    uint32_t total, seen;
} wsrec_tcp;

static inline uint16_t wsrec_16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static inline uint32_t wsrec_32(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* the sum of RFC 1071 over `size` bytes, added to `sum` */
static inline uint64_t wsrec_sum(const uint8_t *at, uint32_t size, uint64_t sum) {
    for (; size > 1; size -= 2, at += 2) sum += wsrec_16(at);
    return size ? sum + (uint64_t)(*at << 8) : sum;
}

static inline int wsrec_sums_up(uint64_t sum) {
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return sum == 0xffff;
}

/* whether the checksum of a segment that was captured whole is right */
static inline int wsrec_checks(const wsrec_tcp *tcp) {
    uint32_t size = tcp->version == 4 ? 4 : 16;
    uint64_t sum = (uint64_t)6 + (tcp->total >> 16) + (tcp->total & 0xffff);
    sum = wsrec_sum(tcp->local, size, wsrec_sum(tcp->remote, size, sum));
    return wsrec_sums_up(wsrec_sum(tcp->segment, tcp->total, sum));
}

/* the option of a segment with its timestamp (RFC 7323 section 3.2), `size` bytes of options */
static inline void wsrec_timestamp(wsrec_tcp *tcp, const uint8_t *options, uint32_t size) {
    uint32_t at = 0;
    while (at < size && options[at]) {
        if (options[at] == 1) {
            at++;
            continue;
        }
        if (size - at < 2 || options[at + 1] < 2 || options[at + 1] > size - at) return;
        if (options[at] == 8 && options[at + 1] == 10) {
            tcp->has_timestamp = 1;
            tcp->timestamp = wsrec_32(options + at + 2);
            return;
        }
        at += options[at + 1];
    }
}

/* the TCP segment in a packet of `length` bytes of which `captured` are at `data`; 0 if it has none */
static inline int wsrec_parse_packet(const uint8_t *data, uint32_t captured, uint32_t length, uint16_t protocol,
                                     wsrec_tcp *tcp) {
    uint32_t header, total, offset;
    int tags;
    if (captured > length) captured = length;
    /* an inner tag of two stays in the packet (IEEE 802.1Q 9.6) */
    for (tags = 0; tags < 2 && (protocol == ETH_P_8021Q || protocol == ETH_P_8021AD); tags++) {
        if (captured < 4) return 0;
        protocol = wsrec_16(data + 2);
        data += 4;
        captured -= 4;
        length -= 4;
    }
    if (protocol == ETH_P_IP) {
        if (captured < 20 || data[0] >> 4 != 4 || data[9] != 6) return 0;
        /* a fragment */
        if (wsrec_16(data + 6) & 0x3fff) return 0;
        header = (uint32_t)(data[0] & 15) * 4;
        total = wsrec_16(data + 2);
        /* larger than the field: GRO (include/linux/ip.h, iph_totlen) */
        if (!total) total = length;
        /* the kernel drops a header with another checksum */
        if (header < 20 || captured < header || !wsrec_sums_up(wsrec_sum(data, header, 0))) return 0;
        tcp->version = 4;
        tcp->remote = data + 12;
        tcp->local = data + 16;
    } else if (protocol == ETH_P_IPV6) {
        if (captured < 40 || data[0] >> 4 != 6) return 0;
        header = 40;
        total = wsrec_16(data + 4);
        total = total ? total + 40 : length;
        if (data[6] == 0) {
            /* hop-by-hop options of 8 bytes: a jumbogram, as GRO makes them (RFC 2675) */
            if (captured < 48 || data[40] != 6 || data[41]) return 0;
            header = 48;
        } else if (data[6] != 6) return 0;
        tcp->version = 6;
        tcp->remote = data + 8;
        tcp->local = data + 24;
    } else return 0;
    if (total > length || total < header + 20 || captured < header + 20) return 0;
    if (captured > total) captured = total;
    data += header;
    captured -= header;
    total -= header;
    offset = (uint32_t)(data[12] >> 4) * 4;
    if (offset < 20 || offset > total) return 0;
    tcp->remote_port = wsrec_16(data);
    tcp->local_port = wsrec_16(data + 2);
    tcp->sequence = wsrec_32(data + 4);
    tcp->flags = data[13];
    tcp->length = total - offset;
    tcp->payload = data + (offset < captured ? offset : captured);
    tcp->captured = offset < captured ? captured - offset : 0;
    tcp->segment = data;
    tcp->total = total;
    tcp->seen = captured;
    tcp->has_timestamp = 0;
    tcp->timestamp = 0;
    if (offset > 20) wsrec_timestamp(tcp, data + 20, (offset < captured ? offset : captured) - 20);
    return 1;
}

/* one packet that `interface` showed, received at `stamp` (ns since the epoch, of the NIC's clock if `nic`) and read at
   `now` (monotonic); `checked`: the kernel takes its TCP checksum for right.

   What TCP certainly refuses is left out. What it does not take for reasons that are not seen here (the acknowledgement,
   for one: what is sent is not captured) is told as any other. */
static inline void wsrec_packet(wsrec_table *table, const uint8_t *data, uint32_t captured, uint32_t length,
                                uint16_t protocol, uint64_t stamp, uint8_t nic, int interface, uint64_t now,
                                uint8_t checked) {
    wsrec_tcp tcp;
    wsrec_arrival got;
    wsrec_flow *flow;
    uint32_t place;
    table->packets++;
    if (!wsrec_parse_packet(data, captured, length, protocol, &tcp)) return;
    place = __atomic_load_n(&table->by_port[tcp.local_port], __ATOMIC_ACQUIRE);
    if (!place || place > table->places) return;
    flow = &table->flows[place - 1];
    if (tcp.remote_port != flow->remote_port || tcp.version != flow->version
        || memcmp(tcp.remote, flow->remote, tcp.version == 4 ? 4 : 16))
        return;
    if (flow->open && memcmp(tcp.local, flow->local, tcp.version == 4 ? 4 : 16)) return;
    if (!checked && tcp.seen == tcp.total && !wsrec_checks(&tcp)) return;
    if (nic) {
        int64_t offset = (int64_t)(stamp - table->out.utc);
        if (offset > table->nic_limit || -offset > table->nic_limit) {
            table->nic_rejected = 1;
            table->nic_offset = offset;
            stamp = 0;
        }
    }
    if (tcp.flags & WSREC_RST) return;
    if (tcp.flags & WSREC_SYN) {
        if (!(tcp.flags & WSREC_ACK)) return;
        if (!flow->open) {
            memcpy(flow->local, tcp.local, tcp.version == 4 ? 4 : 16);
            flow->opened = now;
            /* 0 is none for Linux (tcp_paws_check) */
            flow->has_timestamp = tcp.has_timestamp && tcp.timestamp;
            flow->timestamp = tcp.timestamp;
        } else if (!tcp.has_timestamp) {
            flow->has_timestamp = 0;
        } else if ((int32_t)(tcp.timestamp - flow->timestamp) < 0) {
            flow->timestamp = tcp.timestamp;
        }
        wsrec_opened(&table->out, flow, tcp.sequence, stamp, nic, interface);
        tcp.sequence++;
    } else if (flow->has_timestamp && tcp.has_timestamp && now - flow->opened < WSREC_OLD_NS
               && (int32_t)(flow->timestamp - tcp.timestamp) > 1) {
        /* of an earlier connection of the same ports (RFC 7323 section 5) */
        return;
    }
    /* TCP drops data without an acknowledgement (RFC 9293 3.10.7.4) */
    if (!tcp.length || !(tcp.flags & WSREC_ACK)) return;
    table->segments++;
    flow->heal_until = table->heal_until;
    got.stamp = stamp;
    got.now = now;
    got.sequence = tcp.sequence;
    got.length = tcp.length;
    got.payload = tcp.payload;
    got.captured = tcp.captured;
    got.nic = nic;
    got.urgent = !!(tcp.flags & WSREC_URG);
    got.window = table->window;
    got.interface = interface;
    wsrec_arrived(&table->out, flow, &got);
}

/* every packet of a block of `size` bytes; its header says how many, and is checked */
static inline void wsrec_block(wsrec_table *table, const uint8_t *block, uint32_t size, uint64_t now) {
    struct tpacket_block_desc block_header;
    struct tpacket3_hdr packet;
    struct sockaddr_ll address;
    uint32_t at, number;
    const uint32_t address_at = TPACKET_ALIGN(sizeof packet);
    memcpy(&block_header, block, sizeof block_header);
    at = block_header.hdr.bh1.offset_to_first_pkt;
    for (number = 0; number < block_header.hdr.bh1.num_pkts; number++) {
        if (at > size || size - at < address_at + sizeof address) return;
        memcpy(&packet, block + at, sizeof packet);
        memcpy(&address, block + at + address_at, sizeof address);
        if (packet.tp_net > size - at || packet.tp_snaplen > size - at - packet.tp_net) return;
        wsrec_packet(table, block + at + packet.tp_net, packet.tp_snaplen, packet.tp_len,
                     (uint16_t)(address.sll_protocol << 8 | address.sll_protocol >> 8),
                     (uint64_t)packet.tp_sec * 1000000000u + packet.tp_nsec,
                     !!(packet.tp_status & TP_STATUS_TS_RAW_HARDWARE), address.sll_ifindex, now,
                     !!(packet.tp_status & (TP_STATUS_CSUM_VALID | TP_STATUS_CSUMNOTREADY)));
        if (!packet.tp_next_offset) return;
        if (packet.tp_next_offset > size - at) return;
        at += packet.tp_next_offset;
    }
}

#endif
