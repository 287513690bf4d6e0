/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Makes system calls in ways in which they end otherwise than they began, and prints what it saw of them: the tests' ground
 * truth. Usage: calls MODE [ARGUMENT]; it begins when its standard input is closed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define N 100

static const char *argument;
static volatile int traps;

/* Answers each of the calls `numbers` with the seccomp action of the same index. */
static void deny(const int *numbers, const unsigned *actions, int count)
{
	struct sock_filter code[32];
	int n = 0;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (int i = 0; i < count; i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, numbers[i], 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, actions[i]);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {n, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		exit(77);
}

static void trapped(int signal, siginfo_t *info, void *context)
{
	traps++;
}

static void on_signal(int signal, void (*handler)(int), int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

	sigaction(signal, &action, NULL);
}

static void on_trap(void)
{
	struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};

	sigaction(SIGSYS, &action, NULL);
}

/* A page that the kernel has not brought in, with `text` at its beginning. */
static char *cold(const char *text)
{
	char page[4096] = {};
	int fd = open(argument, O_RDWR | O_CREAT | O_TRUNC, 0600);

	strcpy(page, text);
	if (fd < 0 || write(fd, page, sizeof(page)) != sizeof(page))
		exit(1);
	return mmap(NULL, sizeof(page), PROT_READ, MAP_PRIVATE, fd, 0);
}

/* seccomp's answers to mkdir, rmdir, chdir, and to getcwd of children: EPERM, none (no tracer), SIGSYS, the end */
static int denied(void)
{
	int errors = 0, untraced = 0, killed = 0, status;

	deny((int[]){SYS_mkdir, SYS_rmdir, SYS_chdir, SYS_getcwd},
	     (unsigned[]){SECCOMP_RET_ERRNO | EPERM, SECCOMP_RET_TRACE, SECCOMP_RET_TRAP, SECCOMP_RET_KILL_PROCESS}, 4);
	on_trap();
	for (int i = 0; i < N; i++) {
		errors += syscall(SYS_mkdir, "/", 0) == -1 && errno == EPERM;
		untraced += syscall(SYS_rmdir, "/") == -1 && errno == ENOSYS;
		syscall(SYS_chdir, "/");
	}
	for (int i = 0; i < 5; i++) {
		pid_t child = fork();
		if (!child) {
			char path[64];
			on_signal(SIGSYS, SIG_DFL, 0);
			syscall(SYS_getcwd, path, sizeof(path));
			_exit(0);
		}
		waitpid(child, &status, 0);
		killed += WIFSIGNALED(status);
	}
	printf("%d %d %d %d\n", errors, untraced, traps, killed);
	return 0;
}

#if defined(__x86_64__)
/* By the 32-bit table, from 64-bit code. The registers of 64-bit calls are the caller's to fill. */
static long int80(long number, long bx, long cx, long dx, const void *si, const void *di)
{
	long ret;

	__asm__ volatile("push %%rbx; mov %2, %%rbx; int $0x80; pop %%rbx"
			 : "=a"(ret)
			 : "0"(number), "r"(bx), "c"(cx), "d"(dx), "S"(si), "D"(di)
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}

static long call3(unsigned long number, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "0"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return ret;
}

/* getpid, and numbers that are writev, openat, execve and creat in the other table; then opens and failing executions by
 * 32-bit numbers, with pointers of 32 bits */
static int compat(void)
{
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	unsigned *args = (unsigned *)(low + 2048);
	int right = 0, opened = 0, failed = 0;

	strcpy(low, argument);
	strcpy(low + 1024, "/no/such/program");
	strcpy(low + 1536, "narrow");
	args[0] = args[1] = (unsigned)(long)(low + 1536);
	if (int80(20, 0, 0, 0, 0, 0) != getpid())
		return 77;
	for (int i = 0; i < N; i++) {
		right += int80(20, 0, 0, 0, 0, 0) == getpid();
		int80(257, 0, 0, 0, argument, 0);
		int80(59, 0, 0, 0, 0, argument);
		int80(85, 0, 0, 0, 0, argument);
		opened += int80(5, (long)low, O_RDONLY | O_CLOEXEC, 0, 0, 0) >= 0;
		failed += int80(11, (long)low + 1024, (long)args, 0, 0, 0) == -ENOENT;
	}
	printf("%d %d %d\n", right, opened, failed);
	return 0;
}

/* Numbers with bits above the 32 that count, numbers that there is no call for, and x32's, which few kernels take */
static int numbers(void)
{
	int opened = 0, none = 0, x32 = 0;

	for (int i = 0; i < N; i++) {
		opened += call3(1UL << 32 | SYS_openat, AT_FDCWD, (long)argument, O_RDONLY) >= 0;
		none += call3(-1UL, 0, 0, 0) == -ENOSYS;
		none += call3(0xfffe, 0, 0, 0) == -ENOSYS;
		none += call3(1000000, 0, 0, 0) == -ENOSYS;
		x32 += call3(0x40000000 | SYS_openat, AT_FDCWD, (long)argument, O_RDONLY) >= 0;
	}
	printf("%d %d %d\n", opened, none, x32);
	return 0;
}

/* A tracer skips mkdir, and makes getppid of rmdir */
static int traced(void)
{
	int status, skipped = 0, changed = 0;
	pid_t child = fork();

	if (!child) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		for (int i = 0; i < N; i++) {
			skipped += syscall(SYS_mkdir, "/", 0) == 7;
			changed += syscall(SYS_rmdir, "/") == getppid();
		}
		_exit(skipped == N && changed == N ? 0 : 1);
	}
	waitpid(child, &status, 0);
	ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	for (;;) {
		struct user_regs_struct regs;
		static int inside, skipping;

		ptrace(PTRACE_SYSCALL, child, 0, 0);
		waitpid(child, &status, 0);
		if (WIFEXITED(status))
			break;
		if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80))
			continue;
		ptrace(PTRACE_GETREGS, child, 0, &regs);
		inside = !inside;
		if (inside && regs.orig_rax == SYS_mkdir) {
			skipping = 1;
			regs.orig_rax = -1;
			ptrace(PTRACE_SETREGS, child, 0, &regs);
		} else if (inside && regs.orig_rax == SYS_rmdir) {
			regs.orig_rax = SYS_getppid;
			ptrace(PTRACE_SETREGS, child, 0, &regs);
		} else if (!inside && skipping) {
			skipping = 0;
			regs.rax = 7;
			ptrace(PTRACE_SETREGS, child, 0, &regs);
		}
	}
	printf("%d\n", WEXITSTATUS(status));
	return 0;
}
#endif

/* How many alarms were handled, and which of its calls the process is at: its child reads this. */
static volatile struct {
	int alarms, step;
} *shared;

static void alarmed(int signal)
{
	shared->alarms++;
	getppid(); /* a call of its own, in the midst of the other */
}

/* In a child: waits until its parent is in `state`, at the call `step` */
static void wait_for_parent(pid_t parent, int step, char state)
{
	char path[32], stat[512], *end;

	sprintf(path, "/proc/%d/stat", parent);
	for (;; usleep(1000)) {
		FILE *file = fopen(path, "r");
		size_t bytes = file ? fread(stat, 1, sizeof(stat) - 1, file) : 0;

		if (file)
			fclose(file);
		stat[bytes] = 0;
		end = strrchr(stat, ')');
		if (getppid() != parent)
			_exit(1); /* it was killed */
		if (end && end[2] == state && shared->step == step)
			return;
	}
}

/* In a child: interrupts the parent while it sleeps in its call `step` */
static void alarm_parent(pid_t parent, int step)
{
	int before = shared->alarms;

	wait_for_parent(parent, step, 'S');
	kill(parent, SIGALRM);
	while (shared->alarms == before && getppid() == parent)
		usleep(1000);
}

/* A read of a pipe that takes 0.5 s and five signals: restarted each time; then poll(), which a signal makes fail; then the
 * same pipe and a handler without SA_RESTART; then a sleep that is stopped twice and goes on */
static int restarted(void)
{
	struct timespec nap = {0, 500000000};
	int pipes[2], read_one, polled, cut, slept;
	pid_t child, parent = getpid();
	char c;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || pipe(pipes))
		return 1;
	on_signal(SIGALRM, alarmed, SA_RESTART);
	child = fork();
	if (!child) {
		for (int i = 0; i < 5; i++) {
			alarm_parent(parent, 0);
			usleep(100000);
		}
		if (write(pipes[1], "x", 1) != 1)
			_exit(1);
		for (int step = 1; step <= 2; step++)
			alarm_parent(parent, step);
		for (int i = 0; i < 2; i++) {
			wait_for_parent(parent, 3, 'S');
			usleep(80000);
			kill(parent, SIGSTOP);
			wait_for_parent(parent, 3, 'T');
			usleep(80000);
			kill(parent, SIGCONT);
		}
		_exit(0);
	}
	read_one = read(pipes[0], &c, 1) == 1;
	shared->step = 1;
	polled = poll(NULL, 0, 100000) == -1 && errno == EINTR;
	on_signal(SIGALRM, alarmed, 0);
	shared->step = 2;
	cut = read(pipes[0], &c, 1) == -1 && errno == EINTR;
	shared->step = 3;
	slept = syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &nap, NULL) == 0;
	waitpid(child, NULL, 0);
	printf("%d %d %d %d %d\n", read_one, polled, cut, slept, shared->alarms);
	return 0;
}

/* An open of a pipe without a writer: first restarted three times, then made to fail */
static int interrupted(void)
{
	pid_t child, parent = getpid();
	int opened, cut;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	on_signal(SIGALRM, alarmed, SA_RESTART);
	child = fork();
	if (!child) {
		for (int i = 0; i < 3; i++)
			alarm_parent(parent, 0);
		int writer = open(argument, O_WRONLY);

		close(writer);
		shared->step = 1;
		alarm_parent(parent, 2);
		_exit(writer < 0);
	}
	opened = open(argument, O_RDONLY) >= 0;
	on_signal(SIGALRM, alarmed, 0);
	while (shared->step < 1)
		usleep(1000); /* until there is no writer again */
	shared->step = 2;
	cut = open(argument, O_RDONLY) == -1 && errno == EINTR;
	waitpid(child, NULL, 0);
	printf("%d %d %d\n", opened, cut, shared->alarms);
	return 0;
}

/* Opens that seccomp denies or answers with SIGSYS, their paths not in memory; and what else is not there to be read */
static int unread(void)
{
	char *path = cold(argument);
	int denied = 0, faults = 0;

	on_trap();
	deny((int[]){SYS_openat, SYS_openat2}, (unsigned[]){SECCOMP_RET_ERRNO | EPERM, SECCOMP_RET_TRAP}, 2);
	for (int i = 0; i < 10; i++) {
		madvise(path, 4096, MADV_DONTNEED);
		denied += syscall(SYS_openat, AT_FDCWD, path, O_RDONLY) == -1 && errno == EPERM;
		madvise(path, 4096, MADV_DONTNEED);
		syscall(SYS_openat2, AT_FDCWD, argument, path, sizeof(struct open_how));
#if defined(__x86_64__)
		faults += syscall(SYS_open, 8, O_RDWR) == -1 && errno == EFAULT;
#endif
	}
	printf("%d %d %d\n", denied, traps, faults);
	return 0;
}

static void *exec_self(void *mode)
{
	char *args[] = {"calls", mode, NULL}, *env[] = {NULL};
	int fd = open("/proc/self/exe", O_RDONLY);

	if (!strcmp(mode, "by-path"))
		execve("/proc/self/exe", args, env);
	else
		syscall(SYS_execveat, fd, "", args, env, AT_EMPTY_PATH);
	_exit(1);
}

/* Executions: by execveat, by a thread that is not the first, after vfork; and failing ones */
static int execs(void)
{
	static const char *const modes[] = {"by-path", "by-descriptor"};
	int worked = 0, failed = 0, status;
	char *args[] = {"calls", "failed", NULL}, *env[] = {NULL};
	pthread_t thread;

	for (int i = 0; i < 40; i++) {
		const char *mode = modes[i & 1];
		pid_t child = i < 20 ? vfork() : fork();
		if (!child && i < 20)
			exec_self((void *)mode);
		if (!child) {
			pthread_create(&thread, NULL, exec_self, (void *)mode);
			pause();
		}
		waitpid(child, &status, 0);
		worked += WIFEXITED(status) && WEXITSTATUS(status) == 7;
	}
	for (int i = 0; i < 5; i++)
		failed += syscall(SYS_execveat, AT_FDCWD, "/no/such/program", args, env, 0) == -1;
	printf("%d %d\n", worked, failed);
	return 0;
}

/* Executions that seccomp denies (path not in memory), and answers with SIGSYS */
static int denied_execs(void)
{
	char *args[] = {"calls", "denied", NULL}, *env[] = {NULL}, *path = cold("/no/such/program");
	int denied = 0;

	on_trap();
	deny((int[]){SYS_execve, SYS_execveat}, (unsigned[]){SECCOMP_RET_ERRNO | EPERM, SECCOMP_RET_TRAP}, 2);
	for (int i = 0; i < 3; i++) {
		madvise(path, 4096, MADV_DONTNEED);
		denied += syscall(SYS_execve, path, args, env) == -1 && errno == EPERM;
		syscall(SYS_execveat, AT_FDCWD, "/no/such/program", args, env, 0);
	}
	printf("%d %d\n", denied, traps);
	return 0;
}

/* seccomp answers mkdir with the codes by which the kernel knows calls that restart; no signal comes */
static int denied_like_restarts(void)
{
	static const int codes[] = {512, 513, 514, 516};
	int denied = 0;

	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		/* Of several filters, the one of the largest code decides: a child each */
		pid_t child = fork();
		int status;

		if (!child) {
			int seen = 0;

			deny((int[]){SYS_mkdir}, (unsigned[]){SECCOMP_RET_ERRNO | codes[i]}, 1);
			for (int n = 0; n < 10; n++)
				seen += syscall(SYS_mkdir, "/", 0) == -1 && errno == codes[i];
			_exit(seen);
		}
		waitpid(child, &status, 0);
		denied += WEXITSTATUS(status);
	}
	printf("%d\n", denied);
	return 0;
}

static int handled[2];

static void say_so(int signal)
{
	if (write(handled[1], "x", 1) != 1)
		_exit(1);
}

/* A child that executes the file `argument`, which this process has a lease on: the kernel waits until it gives that up.
 * Returns when it does; a signal has `flags`. */
static pid_t execute_leased(int leased, int flags)
{
	/* On the stack, which is in memory: the kernel does not read them before the file */
	char calls[] = "calls", mode[] = "leased", *args[] = {calls, mode, NULL}, *env[] = {NULL};
	pid_t child;

	signal(SIGIO, SIG_IGN);
	if (pipe(handled) || fcntl(leased, F_SETLEASE, F_WRLCK))
		exit(77);
	child = fork();
	if (!child) {
		close(leased);
		on_signal(SIGALRM, say_so, flags);
		execve(argument, args, env);
		_exit(errno == EINTR ? 9 : 1);
	}
	while (fcntl(leased, F_GETLEASE) == F_WRLCK)
		usleep(1000);
	return child;
}

/* Executions that a signal interrupts: the first fails, the second one restarts three times and works */
static int interrupted_execs(void)
{
	int leased = open(argument, O_RDONLY | O_CLOEXEC), failed, status;
	pid_t child = execute_leased(leased, 0);
	char c;

	kill(child, SIGALRM);
	waitpid(child, &status, 0);
	failed = WIFEXITED(status) && WEXITSTATUS(status) == 9;
	fcntl(leased, F_SETLEASE, F_UNLCK);
	child = execute_leased(leased, SA_RESTART);
	for (int i = 0; i < 3; i++) {
		kill(child, SIGALRM);
		if (read(handled[0], &c, 1) != 1)
			return 1;
	}
	fcntl(leased, F_SETLEASE, F_UNLCK);
	waitpid(child, &status, 0);
	printf("%d %d\n", failed, WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return 0;
}

/* One that does not return before this process ends */
static int held_exec(void)
{
	execute_leased(open(argument, O_RDONLY | O_CLOEXEC), 0);
	puts("held");
	fflush(stdout);
	pause();
	return 1;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} modes[] = {
		{"denied", denied}, {"restarted", restarted}, {"interrupted", interrupted}, {"unread", unread},
		{"execs", execs},   {"denied-execs", denied_execs},
		{"denied-like-restarts", denied_like_restarts}, {"interrupted-execs", interrupted_execs}, {"held-exec", held_exec},
#if defined(__x86_64__)
		{"compat", compat}, {"numbers", numbers}, {"traced", traced},
#endif
	};
	char c;

	if (!strncmp(argv[1], "by-", 3))
		return 7;
	argument = argc > 2 ? argv[2] : "";
	while (read(0, &c, 1) > 0)
		;
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(argv[1], modes[i].name))
			return modes[i].run();
	return 77;
}
