/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Mounts a file system of its own in a new mount namespace, runs a program there, and stops answering.
 *
 *	fuse HOW DIRECTORY FILE PROGRAM [ARGUMENT]...
 *
 * The file system has FILE, as `f`. HOW: `plain`: it is on DIRECTORY; `detached`: and is unmounted lazily once PROGRAM has
 * printed a line; `overlay`: it is below an overlay on DIRECTORY; `late`: it is mounted on DIRECTORY only after that line.
 * It prints the number of the program's process and its line. It ends with its input, and the program with it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static char content[1 << 20];
static size_t size;
static int device;
static volatile int silent;

static void check(int failed, const char *what)
{
	if (failed) {
		perror(what);
		exit(77);
	}
}

static struct fuse_attr attributes(unsigned long node)
{
	struct fuse_attr attr = {.ino = node, .nlink = 1, .blksize = 4096};

	attr.mode = node == 1 ? S_IFDIR | 0777 : S_IFREG | 0777;
	attr.size = node == 1 ? 0 : size;
	attr.blocks = (attr.size + 511) / 512;
	return attr;
}

static void reply(unsigned long unique, int error, const void *data, size_t bytes)
{
	static char buffer[(1 << 20) + 64];
	struct fuse_out_header out = {.len = sizeof(out) + bytes, .error = error, .unique = unique};

	memcpy(buffer, &out, sizeof(out));
	if (bytes)
		memcpy(buffer + sizeof(out), data, bytes);
	if (write(device, buffer, out.len) < 0 && errno != ENOENT)
		perror("reply");
}

static void *serve(void *unused)
{
	static char buffer[1 << 18];

	for (;;) {
		struct fuse_in_header *in = (void *)buffer;
		void *argument = in + 1;

		if (read(device, buffer, sizeof(buffer)) <= 0) {
			usleep(1000); /* it is not mounted yet */
			continue;
		}
		if (silent)
			continue;
		switch (in->opcode) {
		case FUSE_INIT: {
			struct fuse_init_out out = {.major = 7, .minor = 31, .max_write = 65536, .max_readahead = 65536};
			reply(in->unique, 0, &out, sizeof(out));
			break;
		}
		case FUSE_LOOKUP: {
			struct fuse_entry_out out = {.nodeid = 2, .attr_valid = 1000, .entry_valid = 1000, .attr = attributes(2)};
			reply(in->unique, strcmp(argument, "f") ? -ENOENT : 0, &out, strcmp(argument, "f") ? 0 : sizeof(out));
			break;
		}
		case FUSE_GETATTR: {
			struct fuse_attr_out out = {.attr_valid = 1000, .attr = attributes(in->nodeid)};
			reply(in->unique, 0, &out, sizeof(out));
			break;
		}
		case FUSE_OPEN:
		case FUSE_OPENDIR: {
			struct fuse_open_out out = {.fh = 1, .open_flags = FOPEN_KEEP_CACHE};
			reply(in->unique, 0, &out, sizeof(out));
			break;
		}
		case FUSE_READ: {
			struct fuse_read_in *read = argument;
			size_t left = read->offset < size ? size - read->offset : 0;
			reply(in->unique, 0, content + read->offset, left < read->size ? left : read->size);
			break;
		}
		case FUSE_STATFS: {
			struct fuse_statfs_out out = {.st = {.bsize = 4096, .namelen = 255}};
			reply(in->unique, 0, &out, sizeof(out));
			break;
		}
		case FUSE_RELEASE:
		case FUSE_RELEASEDIR:
		case FUSE_FLUSH:
			reply(in->unique, 0, NULL, 0);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			reply(in->unique, -ENOSYS, NULL, 0);
		}
	}
	__builtin_unreachable();
}

static void mount_here(const char *directory)
{
	char options[128];

	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
	check(mount("test", directory, "fuse.test", 0, options), "mount");
}

int main(int argc, char **argv)
{
	const char *how = argv[1], *directory = argv[2];
	int source = open(argv[3], O_RDONLY), ends[2];
	char line[64] = "", options[512], empty[300];
	pthread_t thread;
	pid_t child;

	check(argc < 5 || source < 0, "usage");
	size = read(source, content, sizeof(content));
	if (getuid() == 0 && strcmp(how, "overlay"))
		check(unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "unshare");
	device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	check(device < 0, "/dev/fuse");
	pthread_create(&thread, NULL, serve, NULL);
	if (strcmp(how, "late"))
		mount_here(directory);
	if (!strcmp(how, "overlay")) {
		snprintf(empty, sizeof(empty), "%s-empty", directory);
		snprintf(options, sizeof(options), "lowerdir=%s:%s", directory, empty);
		check(mount("overlay", directory, "overlay", 0, options), "overlay");
	}
	check(pipe(ends), "pipe");
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ends[1], 1);
		close(ends[0]);
		close(ends[1]);
		execv(argv[4], argv + 4);
		exit(5);
	}
	close(ends[1]);
	check(read(ends[0], line, sizeof(line) - 1) <= 0, "the program");
	usleep(300000); /* it touches its pages right after that */
	if (!strcmp(how, "late"))
		mount_here(directory);
	if (!strcmp(how, "detached"))
		check(umount2(directory, MNT_DETACH), "umount");
	silent = 1;
	printf("%d %s", child, line);
	fflush(stdout);
	while (read(0, line, 1) > 0)
		;
	kill(child, SIGKILL);
	_exit(0);
}
