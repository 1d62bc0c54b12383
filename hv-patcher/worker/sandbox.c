/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "errand/worker.h"

/* Some 13, and one for each file that the VM's memory is of. None of them is memory of ours. */
#define MAX_FDS 128
#define MAX_MEMORY_BYTES (4ULL << 30)
/* The one memory file that it has, for its result; the keeper writes the journal. */
#define MAX_FILE_BYTES HVP_WORKER_MAX_ATTACHED_BYTES
/* The most that there is: where memory is short, it is a worker that goes. */
#define OOM_SCORE "1000"
/* At a real-time priority, without a wait: while the VM stands, a second at most. */
#define MAX_URGENT_USEC (5 * G_USEC_PER_SEC)
#define URGENT_PRIORITY 1

#if defined(__SANITIZE_ADDRESS__)
#define HAS_SHADOW_MEMORY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_SHADOW_MEMORY 1
#endif
#endif

/* Nothing of these is ever done by us: whoever does is not us any more. */
static const char *const deadly[] = {
	"execve",	   "execveat",	  "ptrace",	   "process_vm_readv",
	"process_vm_writev", "socket",	  "socketpair",	   "connect",
	"bind",		   "listen",	  "accept",	   "accept4",
	"fork",		   "vfork",	  "clone",	   "unshare",
	"setns",	   "mount",	  "umount2",	   "pivot_root",
	"chroot",	   "bpf",	  "perf_event_open", "userfaultfd",
	"io_uring_setup",  "init_module", "finit_module",  "kexec_load",
	"keyctl",	   "add_key",	  "request_key",   "setuid",
	"setgid",	   "setresuid",	  "setresgid",	   "setgroups",
	"capset",	   "pidfd_getfd", "pidfd_send_signal", "kill",
	"tkill",	   "rt_sigqueueinfo", "name_to_handle_at", "open_by_handle_at",
};

/* Nor of these: memory that no limit of a process sees. */
static const char *const hidden[] = { "memfd_create", "memfd_secret", "shmget", "msgget" };

/* Libraries look for files now and then, and live without them. */
static const char *const refused[] = {
	"open",	    "openat", "openat2",    "creat",	 "access",	 "faccessat",
	"faccessat2", "stat", "lstat",	    "statx",	 "readlink",	 "readlinkat",
	"mkdir",    "mkdirat", "unlink",    "unlinkat",	 "rename",	 "renameat",
	"renameat2", "link",  "linkat",	    "symlink",	 "symlinkat",	 "chmod",
	"fchmod",   "fchmodat", "chown",    "fchown",	 "fchownat",	 "truncate",
	"ioctl",    "getdents64", "chdir",  "fchdir",	 "statfs",	 "inotify_init1",
};

static const char *const allowed[] = {
	"read",
	"write",
	"readv",
	"writev",
	"pread64",
	"pwrite64",
	"lseek",
	"close",
	"fstat",
	"newfstatat",
	"ftruncate",
	"fsync",
	"fdatasync",
	"dup",
	"munmap",
	"mremap",
	"brk",
	"madvise",
	"futex",
	"poll",
	"ppoll",
	"recvmsg",
	"recvfrom",
	"sendmsg",
	"sendto",
	"shutdown",
	"clock_gettime",
	"clock_getres",
	"clock_nanosleep",
	"nanosleep",
	"gettimeofday",
	"time",
	"getpid",
	"gettid",
	"getppid",
	"getuid",
	"geteuid",
	"getgid",
	"getegid",
	"getrandom",
	"pidfd_open",
	"exit",
	"exit_group",
	"rt_sigaction",
	"rt_sigprocmask",
	"rt_sigreturn",
	"sigaltstack",
	"restart_syscall",
	"sched_yield",
	"sched_getaffinity",
	"getcpu",
	"sysinfo",
	"uname",
	"getrusage",
	"set_robust_list",
	"rseq",
};

/* --- who we are --- */

bool hvp_sandbox_find_user(HvpSandboxUser *ret_user, GError **error)
{
	static const char *const names[] = { "hvpatch-worker", "nobody" };

	*ret_user = (HvpSandboxUser){ geteuid(), getegid(), false };
	if (geteuid() != 0)
		return true;
	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		const struct passwd *entry = getpwnam(names[i]);

		if (entry == NULL || entry->pw_uid == 0)
			continue;
		*ret_user = (HvpSandboxUser){ entry->pw_uid, entry->pw_gid, true };
		return true;
	}
	return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
			     "there is no user for the worker, neither hvpatch-worker nor nobody");
}

static bool become(const HvpSandboxUser *user, GError **error)
{
	if (!user->is_changed)
		return true;
	return (setgroups(0, NULL) == 0 && setresgid(user->gid, user->gid, user->gid) == 0 &&
		setresuid(user->uid, user->uid, user->uid) == 0) ||
	       hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "becoming another user");
}

/* --- limits --- */

static bool limit(int resource, rlim_t value, GError **error)
{
	struct rlimit current, wanted = { value, value };

	/* What is lower already stays so: not everybody may raise it. */
	if (getrlimit((__rlimit_resource_t)resource, &current) == 0 && current.rlim_max < value)
		wanted = (struct rlimit){ current.rlim_max, current.rlim_max };
	return setrlimit((__rlimit_resource_t)resource, &wanted) == 0 ||
	       hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "limit %d", resource);
}

static bool limit_memory(GError **error)
{
#if defined(HAS_SHADOW_MEMORY)
	/* A sanitizer's takes some terabytes of addresses. */
	(void)error;
	return true;
#else
	return limit(RLIMIT_AS, MAX_MEMORY_BYTES, error);
#endif
}

static bool set_limits(gint64 cpu_seconds, GError **error)
{
	return limit_memory(error) && limit(RLIMIT_CORE, 0, error) &&
	       limit(RLIMIT_CPU, (rlim_t)cpu_seconds, error) &&
	       limit(RLIMIT_FSIZE, MAX_FILE_BYTES, error) &&
	       limit(RLIMIT_NOFILE, MAX_FDS, error) && limit(RLIMIT_NPROC, 0, error) &&
	       limit(RLIMIT_MSGQUEUE, 0, error) && limit(RLIMIT_RTPRIO, URGENT_PRIORITY, error) &&
	       limit(RLIMIT_RTTIME, MAX_URGENT_USEC, error);
}

/* Who is not root may not, once it cannot be dumped, and has nobody's service to share. */
static bool go_first(const HvpSandboxUser *user, GError **error)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, OOM_SCORE, strlen(OOM_SCORE)) > 0;
	int reason = errno;

	if (fd >= 0)
		close(fd);
	return written || !user->is_changed ||
	       hvp_error_set_errno(error, reason, HVP_ERROR_INTERNAL, "the OOM score");
}

static bool close_others(const HvpSandbox *self, GError **error)
{
	guint next = STDERR_FILENO + 1;

	for (guint i = 0; i < self->fd_count; i++) {
		guint fd = (guint)self->fds[i];

		if (self->fds[i] < 0)
			continue;
		if (fd > next && close_range(next, fd - 1, 0) != 0)
			return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL,
						   "closing descriptors");
		next = fd + 1;
	}
	return close_range(next, ~0U, 0) == 0 ||
	       hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "closing descriptors");
}

/* A change of users takes the signal back: behind it. */
static bool tie_to_parent(pid_t parent, GError **error)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "prctl");
	return getppid() == parent ||
	       hvp_error_set(error, HVP_ERROR_INTERNAL, "the privileged half has ended");
}

/* --- system calls --- */

static int add_all(scmp_filter_ctx filter, guint32 action, const char *const *names, gsize count)
{
	int result = 0;

	for (gsize i = 0; i < count && result == 0; i++) {
		int number = seccomp_syscall_resolve_name(names[i]);

		/* Older headers do not know all of them: such calls are not allowed anyway. */
		if (number != __NR_SCMP_ERROR)
			result = seccomp_rule_add(filter, action, number, 0);
		/* -EACCES: it is the default action. */
		if (result == -EACCES)
			result = 0;
	}
	return result;
}

/* Of fcntl what sends no signals. */
static int add_fcntl(scmp_filter_ctx filter)
{
	static const int commands[] = { F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD,	F_SETFD,    F_GETFL,
					F_SETFL, F_ADD_SEALS,	  F_GET_SEALS };
	int result = 0;

	for (gsize i = 0; i < G_N_ELEMENTS(commands) && result == 0; i++)
		result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
					  SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)commands[i]));
	return result;
}

/* Only for ourselves, and memory only that is not executed. */
static int add_own(scmp_filter_ctx filter)
{
	static const int numbers[] = { SCMP_SYS(sched_setscheduler), SCMP_SYS(sched_getscheduler),
				       SCMP_SYS(sched_getparam), SCMP_SYS(prlimit64) };
	int result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));

	if (result == 0)
		result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
					  SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (result == 0)
		result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
					  SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	for (gsize i = 0; i < G_N_ELEMENTS(numbers) && result == 0; i++)
		result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, numbers[i], 1,
					  SCMP_A0(SCMP_CMP_EQ, 0));
	return result;
}

static bool filter_calls(GError **error)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int result = filter != NULL ? 0 : -ENOMEM;

	if (result == 0)
		result = add_all(filter, SCMP_ACT_ALLOW, allowed, G_N_ELEMENTS(allowed));
	if (result == 0)
		result = add_all(filter, SCMP_ACT_ERRNO(EACCES), refused, G_N_ELEMENTS(refused));
	if (result == 0)
		result = add_all(filter, SCMP_ACT_KILL_PROCESS, deadly, G_N_ELEMENTS(deadly));
	if (result == 0)
		result = add_all(filter, SCMP_ACT_KILL_PROCESS, hidden, G_N_ELEMENTS(hidden));
	if (result == 0)
		result = add_fcntl(filter);
	if (result == 0)
		result = add_own(filter);
	if (result == 0)
		result = seccomp_load(filter);
	seccomp_release(filter);
	return result == 0 ||
	       hvp_error_set_errno(error, -result, HVP_ERROR_INTERNAL, "the system call filter");
}

bool hvp_sandbox_enter(const HvpSandbox *self, GError **error)
{
	return close_others(self, error) && go_first(&self->user, error) &&
	       set_limits(self->cpu_seconds, error) && become(&self->user, error) &&
	       tie_to_parent(self->parent, error) && filter_calls(error);
}
