/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/initramfs.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "rehearse/cpio.h"

#define FOLDER ".hvpatch/"
#define MAX_PROGRAM_BYTES (64U << 20)
#define MAX_MODULES 64U

/* In %1$s's place stands the word that lines for us begin with. */
static const char init_script[] =
	"#!/.hvpatch/busybox sh\n"
	"box=/.hvpatch/busybox\n"
	"$box mkdir -p /.hvpatch/bin /bin /dev /etc /mnt /proc /root /run /sys /tmp\n"
	"$box --install -s /.hvpatch/bin\n"
	"[ -e /bin/sh ] || $box --install -s /bin\n"
	"export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/.hvpatch/bin\n"
	"export HOME=/root\n"
	"$box mount -t proc proc /proc\n"
	"$box mount -t sysfs sysfs /sys\n"
	"$box mount -t devtmpfs devtmpfs /dev\n"
	"$box mkdir -p /dev/pts /dev/shm\n"
	"$box mount -t devpts devpts /dev/pts\n"
	"$box mount -t tmpfs tmpfs /dev/shm\n"
	"$box mount -t tmpfs tmpfs /run\n"
	"$box mount -t tmpfs tmpfs /tmp\n"
	"$box mount -t debugfs debugfs /sys/kernel/debug\n"
	"$box mount -t tracefs tracefs /sys/kernel/tracing\n"
	"$box ip link set lo up\n"
	"exec 3<>/dev/ttyS1\n"
	"$box stty raw -echo <&3\n"
	"for module in /.hvpatch/modules/*; do\n"
	"    [ -e \"$module\" ] || continue\n"
	"    $box insmod \"$module\" || echo \"%1$s module ${module#*-}\" >&3\n"
	"done\n"
	"cd /root\n"
	"echo \"%1$s ready\" >&3\n"
	"while read -r order <&3; do\n"
	"    case \"$order\" in\n"
	"    run)\n"
	"        /.hvpatch/workload </dev/null >&3 2>&1 3>&-\n"
	"        said=\"exit $?\"\n"
	"        ;;\n"
	"    settle)\n"
	"        $box sleep 2\n"
	"        echo \"<4>%1$s settled\" >/dev/kmsg\n"
	"        said=settled\n"
	"        ;;\n"
	"    *)\n"
	"        continue\n"
	"        ;;\n"
	"    esac\n"
	"    echo >&3\n"
	"    echo \"%1$s $said\" >&3\n"
	"done\n"
	"$box poweroff -f\n";

static const char ordinary_life[] =
	"#!/.hvpatch/busybox sh\n"
	"cd /tmp\n"
	"for round in 1 2 3; do\n"
	"    for file in cmdline cpuinfo diskstats filesystems interrupts loadavg locks \\\n"
	"        meminfo mounts partitions slabinfo softirqs stat swaps uptime version vmstat \\\n"
	"        zoneinfo net/dev net/route net/tcp net/udp net/unix self/maps self/stat \\\n"
	"        self/status; do\n"
	"        cat /proc/$file >/dev/null 2>&1 &\n"
	"    done\n"
	"    find /sys/kernel /sys/devices/system -type f | head -n 200 >/dev/null\n"
	"    for file in 1 2 3 4; do\n"
	"        echo \"$round $file\" | tee $file | sort | cat >/dev/null\n"
	"        ln -s $file link && mv link other && chmod 600 $file && ls -l >/dev/null\n"
	"        rm $file other\n"
	"    done\n"
	"    (ping -c 1 -W 1 127.0.0.1; ps; free; df) >/dev/null 2>&1\n"
	"    wait\n"
	"done\n"
	"exit 0\n";

static bool read_whole(int fd, const char *path, guint8 *bytes, gsize length_bytes, GError **error)
{
	gsize done = 0;

	while (done < length_bytes) {
		ssize_t count = read(fd, bytes + done, length_bytes - done);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", path);
		if (count == 0)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "%s became shorter while it was read", path);
		done += (gsize)count;
	}
	return true;
}

static GBytes *read_open_file(int fd, const char *path, const char *what, gsize max_bytes,
			      GError **error)
{
	g_autofree guint8 *bytes = NULL;
	struct stat status;
	gsize length_bytes;

	if (fstat(fd, &status) != 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s %s", what, path);
		return NULL;
	}
	if (!S_ISREG(status.st_mode)) {
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s %s is no regular file", what,
			      path);
		return NULL;
	}
	length_bytes = (gsize)status.st_size;
	if (length_bytes == 0 || length_bytes > max_bytes) {
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			      "%s %s has %" G_GSIZE_FORMAT
			      " bytes, not between 1 and %" G_GSIZE_FORMAT,
			      what, path, length_bytes, max_bytes);
		return NULL;
	}
	bytes = g_try_malloc(length_bytes);
	if (bytes == NULL) {
		hvp_error_set(error, HVP_ERROR_INTERNAL, "no memory for %s", path);
		return NULL;
	}
	if (!read_whole(fd, path, bytes, length_bytes, error))
		return NULL;
	return g_bytes_new_take(g_steal_pointer(&bytes), length_bytes);
}

GBytes *hvp_initramfs_read_file(const char *path, const char *what, gsize max_bytes, GError **error)
{
	/* Not to wait for the other end of a FIFO. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	GBytes *bytes;

	if (fd < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_NOT_FOUND, "%s %s", what, path);
		return NULL;
	}
	bytes = read_open_file(fd, path, what, max_bytes, error);
	close(fd);
	return bytes;
}

/* Whether it is an ELF program without an interpreter, which would not be in the guest. */
static bool is_static(GBytes *program)
{
	gsize length_bytes;
	const guint8 *bytes = g_bytes_get_data(program, &length_bytes);
	Elf64_Ehdr header;

	if (length_bytes < sizeof header || memcmp(bytes, ELFMAG, SELFMAG) != 0 ||
	    bytes[EI_CLASS] != ELFCLASS64)
		return false;
	memcpy(&header, bytes, sizeof header);
	for (guint i = 0; i < header.e_phnum; i++) {
		HvpCursor cursor = hvp_cursor(bytes, length_bytes);
		const guint8 *segment;

		if (hvp_cursor_take(&cursor, header.e_phoff) == NULL ||
		    hvp_cursor_take(&cursor, (gsize)i * sizeof(Elf64_Phdr)) == NULL)
			return false;
		segment = hvp_cursor_take(&cursor, sizeof(Elf64_Phdr));
		if (segment == NULL || hvp_load_u32(segment) == PT_INTERP)
			return false;
	}
	return true;
}

static GBytes *read_busybox(GError **error)
{
	g_autofree char *path = g_find_program_in_path("busybox");
	g_autoptr(GBytes) bytes = NULL;

	if (path == NULL) {
		hvp_error_set(error, HVP_ERROR_NOT_FOUND,
			      "there is no program busybox, which the guest needs (Debian: "
			      "busybox-static)");
		return NULL;
	}
	bytes = hvp_initramfs_read_file(path, "busybox", MAX_PROGRAM_BYTES, error);
	if (bytes != NULL && !is_static(bytes)) {
		hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			      "%s is not statically linked, as the guest needs it (Debian: "
			      "busybox-static)",
			      path);
		return NULL;
	}
	return g_steal_pointer(&bytes);
}

static void add_bytes(HvpCpio *archive, const char *path, guint permissions, GBytes *bytes)
{
	gsize length_bytes;
	const void *data = g_bytes_get_data(bytes, &length_bytes);

	hvp_cpio_add_file(archive, path, permissions, data, length_bytes);
}

static bool add_workload(HvpCpio *archive, const HvpInitramfsOrder *order, GError **error)
{
	g_autoptr(GBytes) bytes = NULL;

	bytes = order->workload_path ? hvp_initramfs_read_file(order->workload_path, "workload",
							       MAX_PROGRAM_BYTES, error)
				     : g_bytes_new_static(ordinary_life, strlen(ordinary_life));
	if (bytes == NULL)
		return false;
	add_bytes(archive, FOLDER "workload", 0755, bytes);
	return true;
}

static bool add_modules(HvpCpio *archive, const HvpInitramfsOrder *order, GError **error)
{
	for (guint i = 0; order->module_paths != NULL && order->module_paths[i] != NULL; i++) {
		g_autofree char *base = g_path_get_basename(order->module_paths[i]);
		/* Numbered: the guest loads them as the shell sorts them. */
		g_autofree char *path = g_strdup_printf(FOLDER "modules/%02u-%s", i, base);
		g_autoptr(GBytes) bytes = NULL;

		if (i >= MAX_MODULES)
			return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
					     "more than %u modules", MAX_MODULES);
		bytes = hvp_initramfs_read_file(order->module_paths[i], "module", MAX_PROGRAM_BYTES,
						error);
		if (bytes == NULL)
			return false;
		add_bytes(archive, path, 0644, bytes);
	}
	return true;
}

static GBytes *join(GBytes *first, GBytes *second)
{
	GByteArray *all = g_byte_array_new();

	g_byte_array_append(all, g_bytes_get_data(first, NULL), (guint)g_bytes_get_size(first));
	g_byte_array_append(all, g_bytes_get_data(second, NULL), (guint)g_bytes_get_size(second));
	return g_byte_array_free_to_bytes(all);
}

GBytes *hvp_initramfs_make(const HvpInitramfsOrder *order, GError **error)
{
	g_autoptr(HvpCpio) archive = hvp_cpio_new();
	g_auto(GStrv) pieces = g_strsplit(init_script, "%1$s", -1);
	g_autofree char *init = g_strjoinv(order->word, pieces);
	g_autoptr(GBytes) busybox = read_busybox(error);
	g_autoptr(GBytes) ours = NULL, initrd = NULL;

	if (busybox == NULL)
		return NULL;
	hvp_cpio_add_file(archive, FOLDER "init", 0755, init, strlen(init));
	add_bytes(archive, FOLDER "busybox", 0755, busybox);
	if (!add_workload(archive, order, error) || !add_modules(archive, order, error))
		return NULL;
	if (order->initrd_path != NULL) {
		initrd = hvp_initramfs_read_file(order->initrd_path, "initrd",
						 HVP_INITRAMFS_MAX_BYTES, error);
		if (initrd == NULL)
			return NULL;
	}
	ours = hvp_cpio_finish(archive);
	return initrd ? join(ours, initrd) : g_steal_pointer(&ours);
}
