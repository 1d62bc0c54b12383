// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reads /proc/hvp_generation (hvp_target_a.c) as fast as it can, and looks for
 * what a switch of all functions at one instant can never show:
 *
 *   mixed   one read saw functions of different generations
 *   lost    a call that did not arrive, or arrived twice
 *   back    a read that began after another one had seen a new generation, and
 *           still saw the one before
 *
 *   hvp_generation SECONDS [THREADS [GENERATION...]]
 *
 * The GENERATIONs are the order in which they follow each other, over and over
 * (0 1 2 3: each patch replaces the one before, and the last is reverted).
 * Without them nothing is said about "back"; with fewer than three of them the
 * one before is also the one after.
 *
 * SIGTERM ends it early. Prints "reads N changes N mixed N lost N back N",
 * "generation G reads N" for each that it saw, and the first bad line; exits 1 if
 * anything was bad, 2 if it cannot run. At SIGUSR1 it prints "so far: " and its counts.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64
#define GENERATIONS 4
#define ORDER_MAX 16
#define TEXT_BYTES 256

/* In the order of the columns; the generations that name the function, as bits. */
enum { READER, LCM, NOT_ZERO, A_ONE, A_TWO, B_ONE, B_TWO, FUNCTIONS };
static const unsigned int named_by[FUNCTIONS] = {
	[READER] = 1 << 1 | 1 << 2 | 1 << 3, [LCM] = 1 << 1 | 1 << 2 | 1 << 3,
	[NOT_ZERO] = 1 << 1 | 1 << 2,	     [A_ONE] = 1 << 1 | 1 << 2 | 1 << 3,
	[A_TWO] = 1 << 1 | 1 << 2,	     [B_ONE] = 1 << 1 | 1 << 2,
	[B_TWO] = 1 << 1 | 1 << 2 | 1 << 3,
};

struct line {
	int values[FUNCTIONS];
	unsigned int unsteady, lost;
};

static atomic_ulong reads_of[GENERATIONS];
static atomic_ulong changes, mixed, lost, back;
static atomic_bool stop, is_asked;
/* How often the generation changed, times GENERATIONS, plus the one in force. */
static atomic_ulong epoch;
static int order[ORDER_MAX];
static int order_count;

static pthread_mutex_t bad_lock = PTHREAD_MUTEX_INITIALIZER;
static char bad_line[TEXT_BYTES + 64];

static void note_bad(atomic_ulong *counter, const char *what, const char *text)
{
	atomic_fetch_add(counter, 1);
	pthread_mutex_lock(&bad_lock);
	if (bad_line[0] == '\0')
		snprintf(bad_line, sizeof(bad_line), "%s: %s", what, text);
	pthread_mutex_unlock(&bad_lock);
}

static bool parse(const char *text, struct line *line)
{
	char *end;

	for (int i = 0; i < FUNCTIONS; i++, text = end) {
		line->values[i] = strtol(text, &end, 10);
		if (end == text)
			return false;
	}
	return sscanf(text, "%u %u", &line->unsteady, &line->lost) == 2;
}

static bool read_line(int fd, char *text, struct line *line)
{
	ssize_t length = pread(fd, text, TEXT_BYTES - 1, 0);

	if (length <= 0)
		return false;
	text[length] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return parse(text, line);
}

/* All as the reader itself says; hvp_target_b there or not, but not half. */
static bool is_one_generation(const struct line *line)
{
	int generation = line->values[READER];

	if (generation < 0 || generation >= GENERATIONS || line->unsteady != 0 ||
	    (line->values[B_ONE] < 0) != (line->values[B_TWO] < 0))
		return false;
	for (int i = 0; i < FUNCTIONS; i++) {
		int expected = named_by[i] >> generation & 1 ? generation : 0;

		if (line->values[i] >= 0 && line->values[i] != expected)
			return false;
	}
	return true;
}

static int position(unsigned long generation)
{
	for (int i = 0; i < order_count; i++) {
		if (order[i] == (int)generation)
			return i;
	}
	return -1;
}

static bool is_step_back(unsigned long from, unsigned long to)
{
	int here = position(from), there = position(to);

	return order_count > 2 && here >= 0 && there == (here + order_count - 1) % order_count;
}

/* @before: the epoch as it was when the read began. */
static void look_at_order(unsigned long before, unsigned long generation, const char *text)
{
	unsigned long next = before + GENERATIONS - before % GENERATIONS + generation;

	if (generation == before % GENERATIONS)
		return;
	/* Whatever came in between was published while this read went on. */
	if (atomic_load(&epoch) != before)
		return;
	if (is_step_back(before % GENERATIONS, generation))
		note_bad(&back, "back", text);
	else if (atomic_compare_exchange_strong(&epoch, &before, next))
		atomic_fetch_add(&changes, 1);
}

static void *watch(void *unused)
{
	int fd = open("/proc/hvp_generation", O_RDONLY);
	char text[TEXT_BYTES];
	struct line line;

	(void)unused;
	while (!atomic_load(&stop)) {
		unsigned long before = atomic_load(&epoch);

		if (!read_line(fd, text, &line))
			exit(2);
		if (line.lost != 0)
			note_bad(&lost, "lost", text);
		if (!is_one_generation(&line)) {
			note_bad(&mixed, "mixed", text);
			continue;
		}
		atomic_fetch_add(&reads_of[line.values[READER]], 1);
		look_at_order(before, line.values[READER], text);
	}
	close(fd);
	return NULL;
}

static void end_early(int unused)
{
	(void)unused;
	atomic_store(&stop, true);
}

static void ask(int unused)
{
	(void)unused;
	atomic_store(&is_asked, true);
}

static void print_counts(const char *head)
{
	unsigned long reads = 0;

	for (int i = 0; i < GENERATIONS; i++)
		reads += reads_of[i];
	printf("%sreads %lu changes %lu mixed %lu lost %lu back %lu\n", head, reads, changes, mixed,
	       lost, back);
	fflush(stdout);
}

static void wait_for_end(int seconds)
{
	const struct timespec step = { .tv_nsec = 50 * 1000 * 1000 };
	time_t end = time(NULL) + seconds;

	while (time(NULL) < end && !atomic_load(&stop)) {
		nanosleep(&step, NULL);
		if (atomic_exchange(&is_asked, false))
			print_counts("so far: ");
	}
}

static int report(void)
{
	print_counts("");
	for (int i = 0; i < GENERATIONS; i++) {
		if (reads_of[i] != 0)
			printf("generation %d reads %lu\n", i, reads_of[i]);
	}
	if (bad_line[0] != '\0')
		printf("first bad: %s\n", bad_line);
	return mixed != 0 || lost != 0 || back != 0;
}

static bool begin(int count, char **arguments)
{
	int fd = open("/proc/hvp_generation", O_RDONLY);
	char text[TEXT_BYTES];
	struct line line;

	if (count > ORDER_MAX || fd < 0 || !read_line(fd, text, &line))
		return false;
	close(fd);
	for (order_count = 0; order_count < count; order_count++)
		order[order_count] = atoi(arguments[order_count]);
	if (line.values[READER] > 0 && line.values[READER] < GENERATIONS)
		atomic_store(&epoch, line.values[READER]);
	return true;
}

int main(int count, char **arguments)
{
	int seconds = count > 1 ? atoi(arguments[1]) : 1;
	int threads = count > 2 ? atoi(arguments[2]) : 1;
	pthread_t thread[THREADS_MAX];

	if (threads < 1 || threads > THREADS_MAX ||
	    !begin(count > 3 ? count - 3 : 0, arguments + 3))
		return 2;
	signal(SIGTERM, end_early);
	signal(SIGUSR1, ask);
	for (int i = 0; i < threads; i++) {
		if (pthread_create(&thread[i], NULL, watch, NULL) != 0)
			return 2;
	}
	wait_for_end(seconds);
	atomic_store(&stop, true);
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	return report();
}
