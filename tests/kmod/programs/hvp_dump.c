// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Prints all tasks as the kernel itself sees them, for comparison:
 *
 *   task TID STATE SWITCHES   SWITCHES: context switches, voluntary plus others
 *   FUNCTION+OFFSET/SIZE [MODULE]     each frame of /proc/PID/task/TID/stack
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 512
#define FOLDER_BYTES 64
#define PATH_BYTES (2 * FOLDER_BYTES)

static int print_status(const char folder[FOLDER_BYTES], long tid)
{
	char path[PATH_BYTES], line[LINE_BYTES], state = '?';
	long switches = 0, more;
	FILE *file;

	snprintf(path, sizeof(path), "%s/status", folder);
	file = fopen(path, "r");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		sscanf(line, "State: %c", &state);
		if (sscanf(line, "voluntary_ctxt_switches: %ld", &more) == 1 ||
		    sscanf(line, "nonvoluntary_ctxt_switches: %ld", &more) == 1)
			switches += more;
	}
	fclose(file);
	printf("task %ld %c %ld\n", tid, state, switches);
	return 1;
}

static void print_stack(const char folder[FOLDER_BYTES])
{
	char path[PATH_BYTES], line[LINE_BYTES];
	FILE *file;

	snprintf(path, sizeof(path), "%s/stack", folder);
	file = fopen(path, "r");
	/* The lines begin with "[<0>] ". */
	while (file && fgets(line, sizeof(line), file))
		fputs(strchr(line, ' ') ? strchr(line, ' ') + 1 : line, stdout);
	if (file)
		fclose(file);
}

static void print_threads(long pid)
{
	char folder[FOLDER_BYTES];
	struct dirent *entry;
	DIR *threads;

	snprintf(folder, sizeof(folder), "/proc/%ld/task", pid);
	threads = opendir(folder);
	while (threads && (entry = readdir(threads))) {
		long tid = atol(entry->d_name);

		snprintf(folder, sizeof(folder), "/proc/%ld/task/%ld", pid, tid);
		if (tid > 0 && print_status(folder, tid))
			print_stack(folder);
	}
	if (threads)
		closedir(threads);
}

int main(void)
{
	DIR *tasks = opendir("/proc");
	struct dirent *entry;

	while (tasks && (entry = readdir(tasks)))
		if (atol(entry->d_name) > 0)
			print_threads(atol(entry->d_name));
	return !tasks;
}
