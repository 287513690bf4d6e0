/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A process whose stacks have a frame in odd memory: outer_of_the_test() calls code there, which calls inner_of_the_test().
 * It prints the address of that code, and goes on until it is killed.
 *
 *	odd WHERE [FILE]	anonymous memfd shm shared zero; `file`: what is at 4096 of FILE; `leased`: the same, with a lease
 *				on FILE; `library`: FILE, opened each time
 *	odd exec WHERE [FILE]	waits for a byte, runs as `anonymous` until the next one, then executes FILE from a thread
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

static const unsigned char code[] = {
#if defined(__x86_64__)
	/* push %rbp; mov %rsp, %rbp; call *%rdi; pop %rbp; ret */
	0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3
#elif defined(__aarch64__)
	/* stp x29, x30, [sp, #-16]!; mov x29, sp; blr x0; ldp x29, x30, [sp], #16; ret */
	0xfd, 0x7b, 0xbf, 0xa9, 0xfd, 0x03, 0x00, 0x91, 0x00, 0x00, 0x3f, 0xd6, 0xfd, 0x7b, 0xc1, 0xa8, 0xc0, 0x03, 0x5f, 0xd6
#endif
};
static volatile unsigned long steps;

__attribute__((noinline)) void inner_of_the_test(void)
{
	for (long i = 0; i < 3000000; i++)
		steps++;
}

__attribute__((noinline)) void outer_of_the_test(void *odd)
{
	((void (*)(void (*)(void)))odd)(inner_of_the_test);
	steps++;
}

static void *memory(const char *where, const char *file)
{
	int writable = PROT_READ | PROT_WRITE | PROT_EXEC, fd = -1;

	if (!strcmp(where, "anonymous"))
		return mmap(NULL, 4096, writable, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!strcmp(where, "shared"))
		return mmap(NULL, 4096, writable, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!strcmp(where, "shm"))
		return shmat(shmget(IPC_PRIVATE, 4096, 0700), NULL, SHM_EXEC);
	if (!strcmp(where, "zero"))
		return mmap(NULL, 4096, writable, MAP_PRIVATE, open("/dev/zero", O_RDWR), 0);
	if (!strcmp(where, "file") || !strcmp(where, "leased")) {
		fd = open(file, O_RDONLY);
		if (!strcmp(where, "leased") && fcntl(fd, F_SETLEASE, F_WRLCK))
			exit(6);
		return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 4096);
	}
	fd = syscall(SYS_memfd_create, "odd", 0);
	if (ftruncate(fd, 4096) || pwrite(fd, code, sizeof(code), 0) != sizeof(code))
		exit(3);
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
}

static void *execute(void *file)
{
	execl(file, file, "anonymous", NULL);
	exit(4);
}

int main(int argc, char **argv)
{
	const char *where = argv[1], *file = argc > 2 ? argv[2] : NULL;
	pthread_t thread;
	void *odd;
	char byte;

	if (!strcmp(where, "library")) {
		printf("%lx\n", 1L);
		fflush(stdout);
		for (;;) {
			void *library = dlopen(file, RTLD_NOW);
			void **entry = library ? dlsym(library, "entry") : NULL;

			for (int i = 0; entry && i < 10; i++)
				outer_of_the_test(*entry);
			if (library)
				dlclose(library);
		}
	}
	odd = memory(strcmp(where, "exec") ? where : "anonymous", file);
	if (odd == MAP_FAILED)
		return 2;
	signal(SIGIO, SIG_IGN);
	if (strcmp(where, "file") && strcmp(where, "leased") && strcmp(where, "memfd")) {
		memcpy(odd, code, sizeof(code));
		__builtin___clear_cache((char *)odd, (char *)odd + sizeof(code));
	}
	printf("%lx\n", (unsigned long)(uintptr_t)odd);
	fflush(stdout);
	outer_of_the_test(odd); /* the page is there from now on */
	if (!strcmp(where, "exec")) {
		fcntl(0, F_SETFL, O_NONBLOCK);
		while (read(0, &byte, 1) != 1)
			outer_of_the_test(odd);
		pthread_create(&thread, NULL, execute, (void *)file);
		pause();
	}
	for (;;)
		outer_of_the_test(odd);
}
