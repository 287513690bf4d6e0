/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shared by programs on TCP connections: both ends of a socket, independent of the kernel version. */
#pragma once

#include "task.h"
#include <bpf/bpf_endian.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* include/uapi/linux/in6.h */
struct in6_addr {
	u8 all[16]; /* never relocated: it is read as a whole */
};

/* include/net/sock.h */
struct sock_common {
	u16 skc_family;
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	__be16 skc_dport;
	unsigned long skc_flags;
};
struct sock {
	struct sock_common __sk_common;
	u16 sk_protocol;
	u8 sk_shutdown;
	int sk_err;
	kuid_t sk_uid;
	struct socket *sk_socket;
};

/* include/linux/net.h */
struct socket {
	struct sock *sk;
	struct file *file;
};

/* include/net/inet_sock.h */
struct inet_sock {
	__be16 inet_sport;
};

/* include/linux/tcp.h */
struct tcp_sock {
	u64 bytes_acked;
	u64 bytes_received;
	u32 snd_una;
	u32 write_seq;
	bool is_mptcp; /* only with CONFIG_MPTCP */
};

/* include/net/inet_connection_sock.h */
struct inet_connection_sock {
	void *icsk_ulp_data;
};

/* net/mptcp/protocol.h */
struct mptcp_subflow_context {
	struct sock *conn;
};
struct mptcp_sock {
	struct sock *first;
};

#pragma clang attribute pop

/* include/linux/socket.h, include/uapi/linux/in.h */
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262

/* include/net/tcp_states.h: the values are part of the kernel's interface to user space */
enum tcp_state {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_FIN_WAIT1 = 4,
	TCP_FIN_WAIT2 = 5,
	TCP_TIME_WAIT = 6,
	TCP_CLOSE = 7,
	TCP_CLOSE_WAIT = 8,
	TCP_LAST_ACK = 9,
	TCP_LISTEN = 10,
	TCP_CLOSING = 11,
};

/* The socket of the Multipath TCP connection that `sk` is a subflow of; NULL for any other socket. */
static __always_inline struct sock *mptcp_connection_of(struct sock *sk)
{
	struct tcp_sock *tp = (void *)sk;
	struct mptcp_subflow_context *subflow;

	if (!bpf_core_field_exists(tp->is_mptcp) || !BPF_CORE_READ(tp, is_mptcp))
		return NULL;
	subflow = BPF_CORE_READ((struct inet_connection_sock *)sk, icsk_ulp_data);
	return subflow ? BPF_CORE_READ(subflow, conn) : NULL;
}

/* The socket of the first subflow of a Multipath TCP connection; NULL if it has ended. */
static __always_inline struct sock *first_subflow_of(struct sock *connection)
{
	struct mptcp_sock *multipath = (void *)connection;

	if (!bpf_core_field_exists(multipath->first))
		return NULL;
	return BPF_CORE_READ(multipath, first);
}

#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */

/* Whether this is a kernel thread: the kernel opens all subflows but the first in one, and ends most of them there. */
static __always_inline bool in_kernel_thread(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, flags) & PF_KTHREAD;
}

/* The IP version of the packets: an IPv6 socket can use IPv4 */
enum ip_family {
	FAMILY_IPV4 = 4,
	FAMILY_IPV6 = 6,
};

/* Both ends of a socket. IPv4 addresses are mapped to IPv6, as KIND("ip") requires. */
struct ends {
	union {
		u8 local[16];
		u64 local_words[2];
		u32 local_quads[4];
	};
	union {
		u8 remote[16];
		u64 remote_words[2];
		u32 remote_quads[4];
	};
	u16 local_port; /* 0: not chosen yet */
	u16 remote_port;
	enum ip_family family; /* 0: neither */
};

#define MAPPED bpf_htonl(0xffff)

static __always_inline void ends_of(struct sock *sk, struct ends *ends)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	__builtin_memset(ends, 0, sizeof(*ends));
	if (family == AF_INET) {
		ends->local_quads[2] = MAPPED;
		ends->local_quads[3] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		ends->remote_quads[2] = MAPPED;
		ends->remote_quads[3] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
		ends->family = FAMILY_IPV4;
	} else if (family == AF_INET6 && bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
		bpf_probe_read_kernel(ends->local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(ends->remote, 16, &sk->__sk_common.skc_v6_daddr);
		ends->family = !ends->remote_words[0] && ends->remote_quads[2] == MAPPED ? FAMILY_IPV4 : FAMILY_IPV6;
	}
	/* Not skc_num: that is already 0 when a connection is reported as closed */
	ends->local_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	ends->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
}
