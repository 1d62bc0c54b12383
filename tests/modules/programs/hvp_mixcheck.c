// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Looks for a mix of old and new functions of hvp_three, see hvp_three.c.
 *
 *   hvp_mixcheck SECONDS [PROCESSES]
 *
 * Prints "old N new N mixed N" and fails if anything was mixed. Each process rests between two
 * reads: nobody can switch functions in which somebody is at every moment.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX 64
#define REST_NSEC (1000 * 1000)

struct counts {
	unsigned long old, new, mixed;
};

struct sample {
	unsigned long total_kib, swap_kib;
	bool new_caller;
};

static unsigned long number_after(const char *text, const char *name)
{
	const char *found = strstr(text, name);

	return found ? strtoul(found + strlen(name), NULL, 10) : 0;
}

/* One read: the kernel makes the whole text in one call of meminfo_proc_show. */
static struct sample take_sample(int fd)
{
	char text[8192];
	ssize_t length = pread(fd, text, sizeof(text) - 1, 0);

	if (length <= 0)
		exit(2);
	text[length] = '\0';
	return (struct sample){
		.total_kib = number_after(text, "MemTotal:"),
		.swap_kib = number_after(text, "SwapTotal:"),
		.new_caller = strstr(text, "Hvpatch:") != NULL,
	};
}

static void look(int fd, struct counts *counts, unsigned long expected_kib)
{
	struct sample sample = take_sample(fd);
	bool new_swap = sample.swap_kib != 0;

	if (sample.new_caller != new_swap || sample.total_kib + sample.swap_kib != expected_kib)
		counts->mixed++;
	else if (new_swap)
		counts->new++;
	else
		counts->old++;
}

static void watch(struct counts *counts, unsigned long expected_kib, time_t end)
{
	const struct timespec rest = { .tv_nsec = REST_NSEC };
	int fd = open("/proc/meminfo", O_RDONLY);

	while (time(NULL) < end) {
		look(fd, counts, expected_kib);
		nanosleep(&rest, NULL);
	}
}

int main(int count, char **arguments)
{
	int seconds = count > 1 ? atoi(arguments[1]) : 1;
	int processes = count > 2 ? atoi(arguments[2]) : 1;
	time_t end = time(NULL) + seconds;
	struct counts total = { 0 }, *counts;
	struct sample first;

	if (processes < 1 || processes > PROCESSES_MAX)
		return 2;
	first = take_sample(open("/proc/meminfo", O_RDONLY));
	counts = mmap(NULL, processes * sizeof(*counts), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		return 2;
	for (int i = 0; i < processes; i++) {
		if (fork() == 0) {
			watch(&counts[i], first.total_kib + first.swap_kib, end);
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	for (int i = 0; i < processes; i++) {
		total.old += counts[i].old;
		total.new += counts[i].new;
		total.mixed += counts[i].mixed;
	}
	printf("old %lu new %lu mixed %lu\n", total.old, total.new, total.mixed);
	return total.mixed != 0;
}
