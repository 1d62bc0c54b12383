// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Shows whether a real fix is in force, for the livepatch modules of the 6.1.0-50
 * corpus. Each prints one word, without the fix / with it:
 *
 *   hvp_effect timens   nanoseconds of -1 as a time-namespace offset: accepted / EINVAL
 *   hvp_effect auxv     entries of /proc/self/auxv after a short PR_SET_MM_AUXV: many / 1
 *   hvp_effect loop     block size of a loop device that is opened exclusively: accepted / EBUSY
 *                       (needs loop; makes /tmp/hvp_effect.disk)
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#define DISK "/tmp/hvp_effect.disk"
#define DISK_BYTES (1024 * 1024)

static int say(int failed)
{
	puts(failed ? strerrorname_np(errno) : "accepted");
	return 0;
}

static int try_timens(void)
{
	/* The kernel reads the field unsigned, and keeps it signed. */
	static const char offset[] = "monotonic 0 18446744073709551615\n";
	int fd;

	if (unshare(CLONE_NEWTIME) < 0)
		return 2;
	fd = open("/proc/self/timens_offsets", O_WRONLY);
	if (fd < 0)
		return 2;
	return say(write(fd, offset, strlen(offset)) < 0);
}

static int try_auxv(void)
{
	Elf64_auxv_t one[1] = { { .a_type = AT_PAGESZ, .a_un.a_val = 4096 } }, all[64];
	ssize_t length;
	int count = 0, fd;

	if (prctl(PR_SET_MM, PR_SET_MM_AUXV, one, sizeof(one), 0) < 0)
		return 2;
	fd = open("/proc/self/auxv", O_RDONLY);
	length = read(fd, all, sizeof(all));
	while ((count + 1) * (ssize_t)sizeof(*all) <= length && all[count].a_type != AT_NULL)
		count++;
	printf("%d\n", count);
	return 0;
}

static int try_loop(void)
{
	int disk = open(DISK, O_RDWR | O_CREAT, 0600), device = open("/dev/loop0", O_RDWR);
	int owner, refused;

	if (disk < 0 || device < 0 || ftruncate(disk, DISK_BYTES) < 0 ||
	    ioctl(device, LOOP_SET_FD, disk) < 0)
		return 2;
	owner = open("/dev/loop0", O_RDWR | O_EXCL);
	refused = owner < 0 || ioctl(device, LOOP_SET_BLOCK_SIZE, 1024) < 0;
	say(refused);
	close(owner);
	ioctl(device, LOOP_CLR_FD);
	return unlink(DISK) < 0;
}

int main(int count, char **arguments)
{
	const char *what = count == 2 ? arguments[1] : "";

	if (!strcmp(what, "timens"))
		return try_timens();
	if (!strcmp(what, "auxv"))
		return try_auxv();
	if (!strcmp(what, "loop"))
		return try_loop();
	return 2;
}
