// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per attempt to open a TCP connection, when both ends are known and nothing is sent yet.
 *
 * That is in tcp_connect(). Kernels that allow no hooks on functions have the tracepoint of the change of state. It fires
 * in the caller's connect() too, but before the kernel has chosen a port. An attempt that fails before either is seen when
 * connect() returns, with the error, and the address as the caller wrote it.
 */
#include "kprobe.h"
#include "net.h"
#include "syscall.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	u64 ts KIND("ktime") DOC("Time at which the attempt began; of a failure before the SYN: at which the call returned");
	u32 pid DOC("Process ID");
	u32 tid DOC("Thread ID");
	u32 uid DOC("Real user ID of the process");
	char comm[16] DOC("Name of the thread");
	enum ip_family family DOC("IP version");
	u8 saddr[16] KIND("ip") DOC("Local address");
	u8 daddr[16] KIND("ip") DOC("Remote address");
	u16 sport DOC("Local port; 0: not chosen yet");
	u16 dport DOC("Remote port");
	s32 error KIND("errno") DOC("0: a SYN was about to be sent; otherwise a negative errno");
	char process_comm[16] DOC("Name of the process");
} DOC("An attempt to open a TCP connection") TRY("connect");
EVENT(event);

ACCURACY(
	SEES("each attempt to open a connection, when the kernel is about to send a SYN")
	SEES("attempts that fail before that, with the error of `connect()`, unless `failed: false`")
	SEES("each subflow of Multipath TCP")
	NOT_SEEN("the result of an attempt after the SYN")
	NOT_SEEN("failures before the SYN with io_uring, of `sendmsg` with `MSG_FASTOPEN`, or of 32-bit programs on x86-64")
	NOT_SEEN("incoming connections (`tcplife`)")
	OWNER("the thread that connects; of later Multipath TCP subflows `pid` is 0, and a filter on tasks excludes them")
	TIME("`ts`: when the SYN is about to be sent; of a failure before that, when the call returns")
	EXACT("one event for an attempt: a second `connect()` on the same attempt has none")
	EXACT("of a failure before the SYN, `daddr` and `dport` are as the caller wrote them")
	EXACT("an attempt that fails after tens of thousands of others have begun can have two events")
	EXACT("a socket that was connected and disconnected (`AF_UNSPEC`) has no event of a later failure before the SYN")
	VARIANTS("`fentry` and `kprobe`: the same events")
	VARIANTS("`tracepoint`: `sport` is 0 unless the caller chose it; an attempt without a free port has `error` 0")
);

TASK_FILTERS();
FILTER(u16, port, 16) DOC("Only attempts to these remote ports") = {};
FILTER(enum ip_family, family, 2) DOC("Only attempts with this IP version") = {};
FILTER(bool, failed, 1) DOC("true: only attempts that failed before a SYN was sent; false: only the others") = {};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* include/linux/fs.h */
struct inode {
	u16 i_mode;
	unsigned long i_ino;
};
struct file {
	void *private_data;
	struct inode *f_inode;
};

/* include/linux/fdtable.h */
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};

/* include/net/sock.h */
struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
};

#pragma clang attribute pop

/*
 * Sockets whose attempt was seen to begin, by inode number, which, unlike an address, is not soon reused. Not a hash map: that
 * would cost each connection more than everything else. A number is in one of the four slots of its group, the newest
 * first, until connect() fails or four others of the group have begun. Two CPUs that write to one group at the same time
 * can lose a number.
 */
#define GROUPS 8192
#define PLACES 4
struct group {
	u64 numbers[PLACES];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GROUPS);
	__type(key, u32);
	__type(value, struct group);
} attempts SEC(".maps");

/* Remembers that this attempt already has an event, for the return of connect(). */
static __always_inline void began(struct sock *sk, struct sock *connection)
{
	struct socket_alloc *socket = (void *)BPF_CORE_READ(connection ? connection : sk, sk_socket);
	u64 number = BPF_CORE_READ(socket, vfs_inode.i_ino);
	u32 at = number % GROUPS;
	struct group *group = bpf_map_lookup_elem(&attempts, &at);

	if (!number || !group || group->numbers[0] == number)
		return;
#pragma unroll
	for (u32 i = PLACES - 1; i > 0; i--)
		group->numbers[i] = group->numbers[i - 1];
	group->numbers[0] = number;
}

/* Whether the attempt of the socket `number` was seen to begin. Removes the number. */
static __always_inline bool has_begun(u64 number)
{
	u32 at = number % GROUPS;
	struct group *group = bpf_map_lookup_elem(&attempts, &at);
	bool found = false;

	if (!group)
		return false;
#pragma unroll
	for (u32 i = 0; i < PLACES; i++) {
		if (group->numbers[i] == number) {
			group->numbers[i] = 0;
			found = true;
		}
	}
	return found;
}

static __always_inline void send(void *ctx, u64 id, u32 user, const struct ends *ends, s32 error)
{
	struct event *e = event_begin(struct event);

	if (!e)
		return;
	e->ts = bpf_ktime_get_ns();
	e->pid = id >> 32;
	e->tid = id;
	e->uid = user;
	if (id) {
		bpf_get_current_comm(e->comm, sizeof(e->comm));
		process_name_or(&e->process_comm, (struct task_struct *)bpf_get_current_task(), id >> 32 == (u32)id, e->comm);
	}
	e->family = ends->family;
	__builtin_memcpy(e->saddr, ends->local, sizeof(e->saddr));
	__builtin_memcpy(e->daddr, ends->remote, sizeof(e->daddr));
	e->sport = ends->local_port;
	e->dport = ends->remote_port;
	e->error = error;
	event_end(ctx, e);
}

static __always_inline int connecting(void *ctx, struct sock *sk)
{
	struct sock *connection = mptcp_connection_of(sk);
	u64 id = bpf_get_current_pid_tgid();
	u32 user = bpf_get_current_uid_gid();
	struct ends ends;

	if (connection && in_kernel_thread()) {
		/* A later subflow: the kernel opens it for the owner of the connection */
		if (!task_filters_off())
			return 0;
		id = 0;
		user = BPF_CORE_READ(connection, sk_uid.val);
	} else if (!task_passes(id)) {
		return 0;
	}
	ends_of(sk, &ends);
	if (!filter_passes(port, ends.remote_port) || !filter_passes(family, ends.family))
		return 0;
	if (id && filter_passes(failed, true)) /* otherwise nothing reads it */
		began(sk, connection);
	if (filter_passes(failed, false))
		send(ctx, id, user, &ends, 0);
	return 0;
}

/* The file behind the descriptor `fd` of the current process. */
static __always_inline struct file *file_of(u32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file = NULL;

	if (fd < BPF_CORE_READ(table, max_fds))
		bpf_probe_read_kernel(&file, sizeof(file), &files[fd]);
	return file;
}

/* include/uapi/linux/in.h, in6.h: both, as in the caller's memory */
struct address {
	u16 family;
	u16 port;
	u32 v4; /* of IPv6: the flow label, which is not part of the address */
	u8 v6[16];
};

/* Reads the destination from the address at `from`. Returns false if it is not an IP address. */
static __always_inline bool read_remote(struct ends *ends, const void *from)
{
	struct address address = {};

	__builtin_memset(ends->remote, 0, sizeof(ends->remote));
	ends->family = 0;
	if (bpf_probe_read_user(&address, 8, from))
		return false;
	ends->remote_port = bpf_ntohs(address.port);
	if (address.family == AF_INET) {
		ends->remote_quads[2] = MAPPED;
		ends->remote_quads[3] = address.v4;
		ends->family = FAMILY_IPV4;
	} else if (address.family == AF_INET6) {
		if (bpf_probe_read_user(ends->remote, sizeof(ends->remote), from + 8))
			return false;
		ends->family = !ends->remote_words[0] && ends->remote_quads[2] == MAPPED ? FAMILY_IPV4 : FAMILY_IPV6;
	}
	return ends->family;
}

/* Whether the attempt continues after connect() has returned: a later call returns its result. */
static __always_inline bool goes_on(long ret)
{
	return ret == -115 /* EINPROGRESS */ || ret == -114 /* EALREADY */ || ret == -4 /* EINTR */ ||
	       (ret <= -512 && ret >= -516) /* ERESTARTSYS and similar: the call is restarted */;
}

SEC("fentry/tcp_connect")
ALTERNATIVE("connect", "fentry")
int BPF_PROG(connect_called, struct sock *sk)
{
	return connecting(ctx, sk);
}

SEC("kprobe/tcp_connect")
ALTERNATIVE("connect", "kprobe")
int connect_probed(struct pt_regs *regs)
{
	return connecting(regs, FUNCTION_ARG1(regs));
}

SEC("tp_btf/inet_sock_set_state")
ALTERNATIVE("connect", "tracepoint")
int BPF_PROG(state_changed, struct sock *sk, int from, int to)
{
	if (to != TCP_SYN_SENT || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	return connecting(ctx, sk);
}

SEC("tp_btf/sys_exit")
SKIP_IF("failed=false")
int BPF_PROG(connect_returns, struct pt_regs *regs, long ret)
{
	u64 id, number;
	struct socket *socket;
	struct inode *inode;
	struct file *file;
	struct ends ends;
	struct sock *sk;
	u16 protocol;

	/* Most of these calls succeeded, and cost no more than other calls */
	if (SYSCALL_NR(regs) != NR_CONNECT || !ret || goes_on(ret) || is_compat(regs))
		return 0;
	id = bpf_get_current_pid_tgid();
	if (!task_passes(id))
		return 0;
	file = file_of(SYSCALL_ARG1(regs, false));
	inode = BPF_CORE_READ(file, f_inode);
	if ((BPF_CORE_READ(inode, i_mode) & 0170000) != 0140000) /* S_IFMT, S_IFSOCK */
		return 0;
	number = BPF_CORE_READ(inode, i_ino);
	/* The attempt has an event, or there is no attempt: the socket is already connected */
	if (has_begun(number) || ret == -106 /* EISCONN */)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	protocol = BPF_CORE_READ(sk, sk_protocol);
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP)
		return 0;
	ends_of(sk, &ends);
	if (!read_remote(&ends, (const void *)SYSCALL_ARG2(regs, false)))
		return 0;
	if (filter_passes(port, ends.remote_port) && filter_passes(family, ends.family))
		send(ctx, id, bpf_get_current_uid_gid(), &ends, ret);
	return 0;
}
