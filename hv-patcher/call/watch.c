/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "call/watch.h"

#include "guest/task.h"

#include <string.h>

#define POLL_USEC 200
/* How long a CPU must have been with a task, first and at most. */
#define FIRST_STANDING_USEC 500
#define LAST_STANDING_USEC (20 * 1000)

#define MAX_WORK_FUNCTIONS 4U

/* One CPU, as it was when it was last read. */
typedef struct {
	HvpGva queue; /* its struct rq */
	guint64 idle;
	guint64 current;
	guint64 switches;
	gint64 since_usec; /* that it has been so */
	guint64 worker;	   /* of current; 0: it is none */
	bool was_working;  /* at one of the functions */
} Cpu;

struct HvpWatch {
	HvpKernel *kernel;
	HvpGva functions[MAX_WORK_FUNCTIONS];
	guint function_count;
	GArray *cpus; /* Cpu */
	gint64 standing_usec;
};

void hvp_watch_free(HvpWatch *self)
{
	if (self == NULL)
		return;
	g_array_unref(self->cpus);
	g_free(self);
}

static bool read_member(const HvpWatch *self, guint64 base, HvpLayoutItem item, guint64 *ret_value)
{
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);

	return base != 0 && hvp_layout_has(layout, item) &&
	       hvp_address_space_read_u64(hvp_kernel_get_space(self->kernel),
					  hvp_gva(base + hvp_layout_get(layout, item)), ret_value,
					  NULL);
}

static bool add_cpu(HvpWatch *self, guint index, GError **error)
{
	Cpu cpu = { 0 };

	if (hvp_kernel_get_cpu_offset(self->kernel, index) == 0)
		return true;
	if (!hvp_kernel_per_cpu(self->kernel, "runqueues", index, &cpu.queue, error))
		return false;
	if (!read_member(self, cpu.queue.value, HVP_AT_RQ_IDLE, &cpu.idle))
		return hvp_error_set(error, HVP_ERROR_FAULT, "a run queue cannot be read");
	g_array_append_val(self->cpus, cpu);
	return true;
}

HvpWatch *hvp_watch_new(HvpKernel *kernel, const HvpGva *work_functions, guint count,
			GError **error)
{
	g_autoptr(HvpWatch) self = g_new0(HvpWatch, 1);

	self->kernel = kernel;
	self->cpus = g_array_new(FALSE, TRUE, sizeof(Cpu));
	self->function_count = MIN(count, MAX_WORK_FUNCTIONS);
	memcpy(self->functions, work_functions, self->function_count * sizeof *work_functions);
	if (!hvp_layout_require(hvp_kernel_get_layout(kernel), HVP_AT_RQ_NR_SWITCHES, error))
		return NULL;
	for (guint i = 0; i < hvp_kernel_get_cpu_count(kernel); i++)
		if (!add_cpu(self, i, error))
			return NULL;
	hvp_watch_begin(self);
	return g_steal_pointer(&self);
}

void hvp_watch_begin(HvpWatch *self)
{
	self->standing_usec = FIRST_STANDING_USEC;
}

/* The struct worker of task @current, or 0. */
static guint64 find_worker(const HvpWatch *self, guint64 current)
{
	guint64 flags, kthread, worker;

	if (!read_member(self, current, HVP_AT_TASK_FLAGS, &flags) ||
	    (flags & HVP_TASK_PF_WQ_WORKER) == 0 ||
	    !read_member(self, current, HVP_AT_TASK_WORKER_PRIVATE, &kthread) ||
	    !read_member(self, kthread, HVP_AT_KTHREAD_DATA, &worker))
		return 0;
	return worker;
}

static bool is_working(const HvpWatch *self, const Cpu *cpu)
{
	guint64 function;

	if (cpu->worker == 0 ||
	    !read_member(self, cpu->worker, HVP_AT_WORKER_CURRENT_FUNC, &function))
		return false;
	for (guint i = 0; i < self->function_count; i++)
		if (self->functions[i].value == function)
			return true;
	return false;
}

/* Reads @cpu anew; whether somebody may stand there. */
static bool looks_standing(HvpWatch *self, Cpu *cpu, gint64 now)
{
	guint64 current = 0, switches = 0;
	bool works, has_come;

	if (!read_member(self, cpu->queue.value, HVP_AT_RQ_CURR, &current) ||
	    !read_member(self, cpu->queue.value, HVP_AT_RQ_NR_SWITCHES, &switches))
		return false;
	if (current != cpu->current || switches != cpu->switches) {
		cpu->current = current;
		cpu->switches = switches;
		cpu->since_usec = now;
		cpu->worker = current == cpu->idle ? 0 : find_worker(self, current);
		cpu->was_working = false;
	}
	if (current == cpu->idle)
		return false;
	works = is_working(self, cpu);
	has_come = works && !cpu->was_working;
	cpu->was_working = works;
	return has_come || now - cpu->since_usec >= self->standing_usec;
}

static bool is_time(HvpWatch *self)
{
	gint64 now = g_get_monotonic_time();
	bool time = false;

	for (guint i = 0; i < self->cpus->len; i++)
		time |= looks_standing(self, &g_array_index(self->cpus, Cpu, i), now);
	return time;
}

/* Those who stand have been looked at. */
static void stand_anew(HvpWatch *self)
{
	gint64 now = g_get_monotonic_time();

	for (guint i = 0; i < self->cpus->len; i++)
		g_array_index(self->cpus, Cpu, i).since_usec = now;
	self->standing_usec = MIN(self->standing_usec * 2, LAST_STANDING_USEC);
}

void hvp_watch_wait(HvpWatch *self, HvpDeadline latest)
{
	stand_anew(self);
	while (!is_time(self) && !hvp_deadline_passed(latest))
		g_usleep((gulong)MIN(POLL_USEC, hvp_deadline_left_usec(latest)));
}
