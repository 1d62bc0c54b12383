// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Writes from memory that cannot be read, and prints the name of the error.
 *
 *   hvp_badwrite FILE first    not even the first byte can be read
 *   hvp_badwrite FILE second   the first byte can, the rest cannot
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int count, char **arguments)
{
	long page = sysconf(_SC_PAGESIZE);
	char *memory;
	int fd;

	if (count != 3)
		return 2;
	fd = open(arguments[1], O_WRONLY);
	memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fd < 0 || memory == MAP_FAILED)
		return 2;
	memset(memory, 'x', page);
	munmap(memory + page, page);
	memory += strcmp(arguments[2], "first") == 0 ? page : page - 1;
	if (write(fd, memory, 8) >= 0)
		puts("written");
	else
		puts(strerrorname_np(errno));
	return 0;
}
