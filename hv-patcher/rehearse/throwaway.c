/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/throwaway.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/text.h"
#include "rehearse/initramfs.h"
#include "rehearse/janitor.h"

#define QEMU "qemu-system-x86_64"
#define MAX_LINE_BYTES 4096U
#define RECEIVE_BYTES 4096U
#define MAX_CONSOLE_BYTES (16U << 20)
#define LAST_WORDS_BYTES 400U
#define CONSOLE_POLL_USEC (50 * 1000)
#define SETTLED "settled"

/* Documentation/arch/x86/boot.rst: boot_flag, and the header's magic from 2.00 on. */
#define BOOT_FLAG_OFFSET 0x1fe
#define BOOT_FLAG 0xaa55
#define BOOT_MAGIC_OFFSET 0x202
#define BOOT_MAGIC "HdrS"

struct HvpThrowaway {
	char *folder;
	char *qmp_path;
	char *plugin_socket;
	char *word;
	HvpJanitor *janitor;
	int channel_fd;
	int console_fd;
	int log_fd;
	char received[RECEIVE_BYTES];
	gsize received_bytes;
	gsize taken_bytes; /* of those */
	GString *line;	   /* that comes in */
	GString *output;   /* of the workload */
};

static bool check_kernel(const HvpThrowawayOrder *order, GError **error)
{
	gsize length_bytes;
	const guint8 *bytes = g_bytes_get_data(order->kernel, &length_bytes);

	if (length_bytes < BOOT_MAGIC_OFFSET + strlen(BOOT_MAGIC) ||
	    hvp_load_u16(bytes + BOOT_FLAG_OFFSET) != BOOT_FLAG ||
	    memcmp(bytes + BOOT_MAGIC_OFFSET, BOOT_MAGIC, strlen(BOOT_MAGIC)) != 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "kernel %s is no bzImage for x86, such as /boot/vmlinuz-*",
				     order->kernel_path);
	return true;
}

static int make_file(const char *name, GBytes *content, GError **error)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	gsize length_bytes = 0, done = 0;
	const guint8 *bytes = content ? g_bytes_get_data(content, &length_bytes) : NULL;

	if (fd < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "memfd %s", name);
		return -1;
	}
	while (done < length_bytes) {
		ssize_t count = write(fd, bytes + done, length_bytes - done);

		if (count > 0) {
			done += (gsize)count;
		} else if (count == 0 || errno != EINTR) {
			hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "memfd %s", name);
			close(fd);
			return -1;
		}
	}
	return fd;
}

/* QEMU takes a comma that is doubled as part of a value. */
static char *escape_value(const char *text)
{
	g_auto(GStrv) pieces = g_strsplit(text, ",", -1);

	return g_strjoinv(",,", pieces);
}

static char **make_arguments(const HvpThrowaway *self, const HvpThrowawayOrder *order,
			     const char *program)
{
	g_autofree char *monitor = escape_value(self->qmp_path);
	g_autofree char *plugin = escape_value(order->plugin_path);
	g_autofree char *socket = escape_value(self->plugin_socket);
	g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
	g_autofree char *file = g_strdup_printf("/proc/self/fd/%d", HVP_JANITOR_FIRST_FD);
	g_autofree char *initrd = g_strdup_printf("/proc/self/fd/%d", HVP_JANITOR_FIRST_FD + 1);
	g_autofree char *console = g_strdup_printf("file:/proc/self/fd/%d",
						   HVP_JANITOR_FIRST_FD + 2);
	g_autofree char *channel = g_strdup_printf("socket,id=channel,fd=%d",
						   HVP_JANITOR_FIRST_FD + 3);
	g_autofree char *monitor_device = g_strdup_printf(
		"socket,id=monitor,path=%s,server=on,wait=off", monitor);
	g_autofree char *plugin_option = g_strdup_printf("%s,socket=%s", plugin, socket);
	g_autofree char *vcpus = g_strdup_printf("%u", order->vcpu_count);
	g_autofree char *memory = g_strdup_printf("%u", order->memory_mib);

	g_strv_builder_add_many(
		builder, program, "-nodefaults", "-no-user-config", "-no-reboot", "-display",
		"none", "-nic", "none", "-machine", "pc", "-accel", "tcg,thread=single", "-smp",
		vcpus, "-m", memory, "-kernel", file, "-initrd", initrd, "-append",
		"console=ttyS0 console_msg_format=syslog printk.time=1 loglevel=7 panic=-1 "
		"rdinit=" HVP_INITRAMFS_INIT,
		"-serial", console, "-chardev", channel, "-serial", "chardev:channel", "-chardev",
		monitor_device, "-mon", "chardev=monitor,mode=control", "-plugin", plugin_option,
		NULL);
	return g_strv_builder_end(builder);
}

static char *find_program(const HvpThrowawayOrder *order, GError **error)
{
	const char *name = order->qemu_path ? order->qemu_path : QEMU;
	char *path = g_find_program_in_path(name);

	if (path == NULL)
		hvp_error_set(error, HVP_ERROR_NOT_FOUND,
			      "there is no program %s, which the guest runs in", name);
	return path;
}

static bool make_folder(HvpThrowaway *self, GError **error)
{
	GError *reason = NULL;

	self->folder = g_dir_make_tmp("hvpatch-XXXXXX", &reason);
	if (self->folder == NULL) {
		hvp_error_set(error, HVP_ERROR_PERMISSION, "temporary folder: %s", reason->message);
		g_error_free(reason);
		return false;
	}
	self->qmp_path = g_build_filename(self->folder, "qmp", NULL);
	self->plugin_socket = g_build_filename(self->folder, "plugin", NULL);
	return true;
}

/* @descriptors: kernel, initramfs, console, channel, log, in the order of their numbers. */
static bool start_janitor(HvpThrowaway *self, const HvpThrowawayOrder *order, const char *program,
			  const int descriptors[HVP_JANITOR_FDS], GError **error)
{
	g_auto(GStrv) arguments = make_arguments(self, order, program);
	const HvpJanitorOrder job = { .program = program,
				      .arguments = arguments,
				      .descriptors = descriptors,
				      .max_file_bytes = MAX_CONSOLE_BYTES,
				      .folder = self->folder };

	self->janitor = hvp_janitor_start(&job, error);
	return self->janitor != NULL;
}

static bool open_and_start(HvpThrowaway *self, const HvpThrowawayOrder *order, const char *program,
			   GError **error)
{
	int fds[HVP_JANITOR_FDS] = { -1, -1, -1, -1, -1 }, ends[2] = { -1, -1 };
	bool ok;

	fds[0] = make_file("kernel", order->kernel, error);
	fds[1] = fds[0] < 0 ? -1 : make_file("initramfs", order->initramfs, error);
	fds[2] = self->console_fd = fds[1] < 0 ? -1 : make_file("console", NULL, error);
	fds[4] = self->log_fd = fds[2] < 0 ? -1 : make_file("log", NULL, error);
	ok = fds[4] >= 0;
	if (ok && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
		ok = hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "socket pair");
	self->channel_fd = ends[0];
	fds[3] = ends[1];
	ok = ok && start_janitor(self, order, program, fds, error);
	for (guint i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (ends[1] >= 0)
		close(ends[1]);
	return ok;
}

HvpThrowaway *hvp_throwaway_start(const HvpThrowawayOrder *order, GError **error)
{
	g_autoptr(HvpThrowaway) self = g_new0(HvpThrowaway, 1);
	g_autofree char *program = NULL;

	self->channel_fd = self->console_fd = self->log_fd = -1;
	self->line = g_string_new(NULL);
	self->output = g_string_new(NULL);
	self->word = g_strdup(order->word);
	if (!check_kernel(order, error))
		return NULL;
	program = find_program(order, error);
	if (program == NULL || !make_folder(self, error) ||
	    !open_and_start(self, order, program, error))
		return NULL;
	return g_steal_pointer(&self);
}

void hvp_throwaway_free(HvpThrowaway *self)
{
	const int fds[] = { self ? self->channel_fd : -1, self ? self->console_fd : -1,
			    self ? self->log_fd : -1 };

	if (self == NULL)
		return;
	hvp_janitor_end(self->janitor);
	if (self->folder != NULL)
		hvp_janitor_remove_folder(self->folder);
	for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	g_string_free(self->line, TRUE);
	g_string_free(self->output, TRUE);
	g_free(self->folder);
	g_free(self->qmp_path);
	g_free(self->plugin_socket);
	g_free(self->word);
	g_free(self);
}

const char *hvp_throwaway_get_qmp_path(const HvpThrowaway *self)
{
	return self->qmp_path;
}

const char *hvp_throwaway_get_plugin_socket(const HvpThrowaway *self)
{
	return self->plugin_socket;
}

const char *hvp_throwaway_get_folder(const HvpThrowaway *self)
{
	return self->folder;
}

/* At most @max_bytes from @offset on. */
static char *read_file(int fd, gsize offset, gsize max_bytes, gsize *ret_length_bytes)
{
	struct stat status;
	gsize length_bytes = 0, wanted = 0;
	char *text;

	if (fstat(fd, &status) == 0 && (gsize)status.st_size > offset)
		wanted = MIN((gsize)status.st_size - offset, max_bytes);
	text = g_malloc(wanted + 1);
	while (length_bytes < wanted) {
		ssize_t count = pread(fd, text + length_bytes, wanted - length_bytes,
				      (off_t)(offset + length_bytes));

		if (count <= 0)
			break;
		length_bytes += (gsize)count;
	}
	text[length_bytes] = 0;
	*ret_length_bytes = length_bytes;
	return text;
}

char *hvp_throwaway_console(const HvpThrowaway *self, gsize *offset, gsize *ret_length_bytes)
{
	char *text = read_file(self->console_fd, *offset, MAX_CONSOLE_BYTES, ret_length_bytes);
	char *end = memrchr(text, '\n', *ret_length_bytes);

	*ret_length_bytes = end ? (gsize)(end + 1 - text) : 0;
	*offset += *ret_length_bytes;
	return text;
}

bool hvp_throwaway_is_console_full(const HvpThrowaway *self)
{
	struct stat status;

	return fstat(self->console_fd, &status) != 0 || status.st_size >= MAX_CONSOLE_BYTES;
}

/* The last line that is not empty, escaped; NULL. */
static char *last_line(int fd)
{
	struct stat status;
	gsize length_bytes, offset = 0;
	g_autofree char *text = NULL;
	char *line;

	if (fstat(fd, &status) == 0 && status.st_size > (off_t)LAST_WORDS_BYTES)
		offset = (gsize)status.st_size - LAST_WORDS_BYTES;
	text = read_file(fd, offset, LAST_WORDS_BYTES, &length_bytes);
	g_strchomp(text);
	line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	return *line ? hvp_text_escape(line, HVP_TEXT_TERMINATED, LAST_WORDS_BYTES) : NULL;
}

static bool fail_gone(const HvpThrowaway *self, GError **error)
{
	g_autofree char *log = last_line(self->log_fd);
	g_autofree char *console = last_line(self->console_fd);

	return hvp_error_set(error, HVP_ERROR_VM_GONE, "the guest has ended%s%s",
			     log || console ? ": " : "",
			     log       ? log
			     : console ? console
				       : "");
}

static void keep_output(HvpThrowaway *self)
{
	g_string_append(self->output, self->line->str);
	g_string_append_c(self->output, '\n');
	if (self->output->len > HVP_THROWAWAY_OUTPUT_BYTES)
		g_string_erase(self->output, 0,
			       (gssize)(self->output->len - HVP_THROWAWAY_OUTPUT_BYTES));
}

/* What init says in the line that is complete: what stands behind the word; NULL: it is output. */
static const char *take_line(HvpThrowaway *self)
{
	gsize length = strlen(self->word);

	g_strchomp(self->line->str);
	if (strncmp(self->line->str, self->word, length) == 0 && self->line->str[length] == ' ')
		return self->line->str + length + 1;
	keep_output(self);
	return NULL;
}

/* Waits for more bytes. */
static bool receive(HvpThrowaway *self, HvpDeadline deadline, GError **error)
{
	for (;;) {
		struct pollfd wait = { .fd = self->channel_fd, .events = POLLIN };
		ssize_t count;

		/* Asked first: a workload may print without end. */
		if (hvp_deadline_passed(deadline))
			return hvp_error_set(error, HVP_ERROR_TIMED_OUT,
					     "the guest takes too long");
		count = read(self->channel_fd, self->received, sizeof self->received);
		if (count > 0) {
			self->received_bytes = (gsize)count;
			self->taken_bytes = 0;
			return true;
		}
		if (count == 0 || (errno != EAGAIN && errno != EINTR))
			return fail_gone(self, error);
		(void)poll(&wait, 1, hvp_deadline_left_msec(deadline));
	}
}

/* Waits for init's next word. It is owned by @self and good until the next call. */
static const char *wait_for_word(HvpThrowaway *self, HvpDeadline deadline, GError **error)
{
	g_string_truncate(self->line, 0);
	for (;;) {
		const char *word;
		char byte;

		if (self->taken_bytes == self->received_bytes && !receive(self, deadline, error))
			return NULL;
		byte = self->received[self->taken_bytes++];
		if (byte != '\n') {
			if (self->line->len < MAX_LINE_BYTES && byte != 0)
				g_string_append_c(self->line, byte);
			continue;
		}
		word = take_line(self);
		if (word != NULL)
			return word;
		g_string_truncate(self->line, 0);
	}
}

bool hvp_throwaway_wait_ready(HvpThrowaway *self, HvpDeadline deadline, GError **error)
{
	const char *word = wait_for_word(self, deadline, error);

	if (word == NULL) {
		g_autofree char *console = last_line(self->console_fd);

		g_prefix_error(error, "the guest did not start (its console: %s): ",
			       console ? console : "nothing");
		return false;
	}
	if (g_str_has_prefix(word, "module ")) {
		g_autofree char *name = hvp_text_escape(word + strlen("module "),
							HVP_TEXT_TERMINATED, LAST_WORDS_BYTES);

		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "the guest's kernel does not load module %s", name);
	}
	return true;
}

static bool send_order(HvpThrowaway *self, const char *order, GError **error)
{
	gsize length = strlen(order);

	/* A few bytes, and init has read all before. */
	if (send(self->channel_fd, order, length, MSG_NOSIGNAL) != (ssize_t)length)
		return fail_gone(self, error);
	return true;
}

static bool fail_word(GError **error)
{
	return hvp_error_set(error, HVP_ERROR_BAD_DATA,
			     "the guest's init says something else than it should");
}

bool hvp_throwaway_run(HvpThrowaway *self, HvpDeadline deadline, int *ret_status, GError **error)
{
	const char *word;
	gint64 status;

	g_string_truncate(self->output, 0);
	if (!send_order(self, "run\n", error))
		return false;
	/* It may still have to say that it has settled, for which nobody waited any more. */
	do
		word = wait_for_word(self, deadline, error);
	while (word != NULL && strcmp(word, SETTLED) == 0);
	if (word == NULL)
		return false;
	if (!g_str_has_prefix(word, "exit ") ||
	    !g_ascii_string_to_signed(word + strlen("exit "), 10, 0, 255, &status, NULL))
		return fail_word(error);
	*ret_status = (int)status;
	return true;
}

/* Whether the console has the kernel's message that ends it, behind @offset. */
static bool has_settled(const HvpThrowaway *self, gsize offset)
{
	g_autofree char *marker = g_strdup_printf("%s " SETTLED, self->word);
	gsize length_bytes;
	g_autofree char *text = hvp_throwaway_console(self, &offset, &length_bytes);

	return memmem(text, length_bytes, marker, strlen(marker)) != NULL;
}

bool hvp_throwaway_settle(HvpThrowaway *self, HvpDeadline deadline, GError **error)
{
	struct stat status;
	const char *word;

	if (fstat(self->console_fd, &status) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "console");
	if (!send_order(self, "settle\n", error))
		return false;
	word = wait_for_word(self, deadline, error);
	if (word == NULL)
		return false;
	if (strcmp(word, SETTLED) != 0)
		return fail_word(error);
	while (!has_settled(self, (gsize)status.st_size)) {
		if (hvp_deadline_passed(deadline))
			return hvp_error_set(error, HVP_ERROR_TIMED_OUT,
					     "the guest's kernel says nothing on its console");
		g_usleep(CONSOLE_POLL_USEC);
	}
	return true;
}

char *hvp_throwaway_output(const HvpThrowaway *self)
{
	g_autofree char *whole = g_strdup(self->output->str);
	g_auto(GStrv) lines = g_strsplit(g_strchomp(whole), "\n", -1);
	GString *text = g_string_new(NULL);

	for (guint i = 0; lines[i] != NULL; i++) {
		g_autofree char *line = hvp_text_escape(lines[i], HVP_TEXT_TERMINATED,
							MAX_LINE_BYTES);

		g_string_append_printf(text, "%s\n", line);
	}
	return g_string_free(text, FALSE);
}
