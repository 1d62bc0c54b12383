// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tasks and CPUs that stand in known places, for tests of the stack proof.
 *
 *   echo "start CASE" > /proc/hvp_stacks   returns when somebody stands there
 *   echo "stop CASE" > /proc/hvp_stacks    returns when nobody does any more
 *   cat /proc/hvp_stacks                   "CASE PID" of each case that stands
 *
 * The control file is to be used from CPU 0: what runs, runs on CPU 1. A place
 * that a machine cannot stay in for long (interrupts off) is left after
 * HARD_SPIN_SECONDS without being asked.
 *
 * Three more files put their caller into a place:
 *
 *   /proc/hvp_read      a read sleeps in nested calls
 *   /proc/hvp_copy      a write copies from the user: with a page fault if it is not there
 *   /proc/hvp_release   a close (at exit, too) sleeps
 *
 * They count as the cases "read", "copy" and "release", and leave when these stop.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/freezer.h>
#include <linux/ftrace.h>
#include <linux/hrtimer.h>
#include <linux/hw_breakpoint.h>
#include <linux/interrupt.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/objtool.h>
#include <linux/perf_event.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>
#include <asm/nmi.h>

#include "hvp_place.h"

#define CPU 1
#define NSEC_PER_STAND 1000000000ULL
#define SOFT_SPIN_SECONDS 30
#define HARD_SPIN_SECONDS 5
#define START_MSEC 3000
#define NAME_MAX_BYTES 32

struct hvp_case {
	const char *name;
	int (*thread)(void *argument); /* the case is a kernel thread with this function */
	int cpu;                       /* to which the thread is bound, if > 0 */
	int (*arm)(struct hvp_case *self); /* or whatever this does */
	void (*disarm)(struct hvp_case *self);
	struct task_struct *task;
	bool armed;
	bool stop;
	int standing; /* how many stand there */
	int pid;      /* of the last one that came */
};

static DECLARE_WAIT_QUEUE_HEAD(queue);
static DEFINE_MUTEX(lock);
static struct hvp_case *find_case(const char *name);
static void disarm_nothing(struct hvp_case *self);

static void arrive(struct hvp_case *self)
{
	WRITE_ONCE(self->pid, current->pid);
	WRITE_ONCE(self->standing, self->standing + 1);
}

static void leave(struct hvp_case *self)
{
	WRITE_ONCE(self->standing, self->standing - 1);
}

/* --- the two ways to stand ---------------------------------------------- */

static HVP_PLACE void hvp_wait(struct hvp_case *self)
{
	arrive(self);
	wait_event_idle(queue, READ_ONCE(self->stop));
	leave(self);
}

static HVP_PLACE void hvp_spin(struct hvp_case *self, unsigned int seconds)
{
	u64 end = ktime_get_mono_fast_ns() + seconds * NSEC_PER_STAND;

	arrive(self);
	while (!READ_ONCE(self->stop) && ktime_get_mono_fast_ns() < end)
		/* Rarely in the clock: mostly the instruction pointer is here. */
		for (int i = 0; i < 10000 && !READ_ONCE(self->stop); i++)
			cpu_relax();
	leave(self);
}

static void wait_for_kthread_stop(void)
{
	while (!kthread_should_stop())
		msleep(10);
}

/* --- threads that sleep ------------------------------------------------- */

static HVP_PLACE void hvp_nested_three(struct hvp_case *self)
{
	CALL(hvp_wait(self));
}

static HVP_PLACE void hvp_nested_two(struct hvp_case *self)
{
	CALL(hvp_nested_three(self));
}

static HVP_PLACE void hvp_nested_one(struct hvp_case *self)
{
	CALL(hvp_nested_two(self));
}

static HVP_PLACE int hvp_nested_thread(void *argument)
{
	CALL(hvp_nested_one(argument));
	wait_for_kthread_stop();
	return 0;
}

static HVP_PLACE int hvp_parked_thread(void *argument)
{
	while (!kthread_should_stop()) {
		if (kthread_should_park())
			kthread_parkme();
		msleep(10);
	}
	return 0;
}

static int arm_parked(struct hvp_case *self)
{
	self->task = kthread_run(hvp_parked_thread, self, "hvp_parked");
	if (IS_ERR(self->task))
		return PTR_ERR(self->task);
	kthread_park(self->task);
	self->pid = self->task->pid;
	self->standing = 1;
	return 0;
}

static void disarm_parked(struct hvp_case *self)
{
	kthread_unpark(self->task);
	kthread_stop(self->task);
	self->standing = 0;
}

/* Enters the refrigerator when the system freezes (suspend, or its test mode). */
static HVP_PLACE int hvp_freezable_thread(void *argument)
{
	struct hvp_case *self = argument;

	set_freezable();
	arrive(self);
	while (!kthread_should_stop()) {
		CALL(try_to_freeze());
		schedule_timeout_interruptible(HZ / 100);
	}
	leave(self);
	return 0;
}

/* Spelt out: __cold is empty where it would spoil the alignment of functions (6.2 and gcc 12). */
static __attribute__((__cold__)) HVP_PLACE void hvp_cold_place(struct hvp_case *self)
{
	CALL(hvp_wait(self));
}

/* The compiler moves the branch to hvp_cold_path.cold: it leads to a cold function only. */
static HVP_PLACE int hvp_cold_path(struct hvp_case *self)
{
	int count = 1;

	if (READ_ONCE(self->armed)) {
		CALL(hvp_cold_place(self));
		count += READ_ONCE(self->stop);
	}
	return count;
}

static HVP_PLACE int hvp_cold_thread(void *argument)
{
	CALL(hvp_cold_path(argument));
	wait_for_kthread_stop();
	return 0;
}

/* The return address into this one's caller lies behind the caller's last instruction. */
static HVP_PLACE __noreturn void hvp_never_returns(struct hvp_case *self)
{
	CALL(hvp_wait(self));
	/* kthread_stop() may come before or after. */
	wait_for_kthread_stop();
	kthread_complete_and_exit(NULL, 0);
}

static HVP_PLACE __noreturn void hvp_before_no_return(struct hvp_case *self)
{
	CALL(READ_ONCE(self->stop));
	hvp_never_returns(self);
}

static HVP_PLACE int hvp_no_return_thread(void *argument)
{
	hvp_before_no_return(argument);
}

static HVP_PLACE void hvp_work(struct work_struct *work)
{
	CALL(hvp_nested_one(find_case("work")));
}

static DECLARE_WORK(work, hvp_work);

static int arm_work(struct hvp_case *self)
{
	queue_work(system_unbound_wq, &work);
	return 0;
}

static void disarm_work(struct hvp_case *self)
{
	flush_work(&work);
}

/* --- functions whose callers the guest's own tracing hides --------------- */

static HVP_PLACE void hvp_hidden_inner(struct hvp_case *self)
{
	CALL(hvp_wait(self));
}

static HVP_PLACE void hvp_hidden_outer(struct hvp_case *self)
{
	CALL(hvp_hidden_inner(self));
}

static HVP_PLACE int hvp_hidden_thread(void *argument)
{
	CALL(hvp_hidden_outer(argument));
	wait_for_kthread_stop();
	return 0;
}

static int on_return(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	return 0;
}

static struct kretprobe probe_inner = {
	.kp.symbol_name = "hvp_hidden_inner", .handler = on_return, .maxactive = 8,
};
static struct kretprobe probe_outer = {
	.kp.symbol_name = "hvp_hidden_outer", .handler = on_return, .maxactive = 8,
};

/* The case's name says which one. */
static struct kretprobe *kretprobe_of(struct hvp_case *self)
{
	return strstr(self->name, "inner") ? &probe_inner : &probe_outer;
}

static int arm_kretprobe(struct hvp_case *self)
{
	struct kretprobe *probe = kretprobe_of(self);

	probe->kp.addr = NULL;
	probe->kp.flags = 0;
	self->standing = 1;
	return register_kretprobe(probe);
}

static void disarm_kretprobe(struct hvp_case *self)
{
	unregister_kretprobe(kretprobe_of(self));
	self->standing = 0;
}

/* --- threads that spin -------------------------------------------------- */

static HVP_PLACE void hvp_spin_nested(struct hvp_case *self)
{
	CALL(hvp_spin(self, SOFT_SPIN_SECONDS));
}

static HVP_PLACE int hvp_spin_thread(void *argument)
{
	CALL(hvp_spin_nested(argument));
	wait_for_kthread_stop();
	return 0;
}

static HVP_PLACE int hvp_spin_preempt_off_thread(void *argument)
{
	preempt_disable();
	CALL(hvp_spin_nested(argument));
	preempt_enable();
	wait_for_kthread_stop();
	return 0;
}

static HVP_PLACE int hvp_spin_irq_off_thread(void *argument)
{
	local_irq_disable();
	CALL(hvp_spin(argument, HARD_SPIN_SECONDS));
	local_irq_enable();
	wait_for_kthread_stop();
	return 0;
}

/* With preemption on, always about to be preempted at the end of a section without. */
static HVP_PLACE void hvp_toggle_preemption(struct hvp_case *self)
{
	arrive(self);
	while (!READ_ONCE(self->stop)) {
		preempt_disable();
		udelay(200);
		preempt_enable();
	}
	leave(self);
}

static HVP_PLACE int hvp_toggle_thread(void *argument)
{
	CALL(hvp_toggle_preemption(argument));
	wait_for_kthread_stop();
	return 0;
}

static HVP_PLACE void hvp_return(void)
{
}

static void (*volatile indirect)(void) = hvp_return;

/* Most of the time in the thunk of an indirect call, where that is a retpoline. */
static HVP_PLACE void hvp_call_indirectly(struct hvp_case *self)
{
	arrive(self);
	while (!READ_ONCE(self->stop)) {
		indirect();
		indirect();
		indirect();
		indirect();
	}
	leave(self);
}

static HVP_PLACE int hvp_indirect_thread(void *argument)
{
	CALL(hvp_call_indirectly(argument));
	wait_for_kthread_stop();
	return 0;
}

/* --- interrupts, soft interrupts, NMI ------------------------------------- */

static struct hrtimer hard_timer;

static HVP_PLACE enum hrtimer_restart hvp_hard_timer(struct hrtimer *timer)
{
	CALL(hvp_spin(find_case("irq"), HARD_SPIN_SECONDS));
	return HRTIMER_NORESTART;
}

static void start_hard_timer(void *unused)
{
	hrtimer_start(&hard_timer, ms_to_ktime(50), HRTIMER_MODE_REL_PINNED_HARD);
}

static int arm_irq(struct hvp_case *self)
{
	hrtimer_init(&hard_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	hard_timer.function = hvp_hard_timer;
	return smp_call_function_single(CPU, start_hard_timer, NULL, true);
}

static void disarm_irq(struct hvp_case *self)
{
	hrtimer_cancel(&hard_timer);
}

static HVP_PLACE void hvp_soft_timer(struct timer_list *timer)
{
	CALL(hvp_spin(find_case("softirq"), HARD_SPIN_SECONDS));
}

static DEFINE_TIMER(soft_timer, hvp_soft_timer);

static int arm_softirq(struct hvp_case *self)
{
	soft_timer.expires = jiffies + HZ / 20;
	add_timer_on(&soft_timer, CPU);
	return 0;
}

static HVP_PLACE void hvp_tasklet(struct tasklet_struct *tasklet)
{
	CALL(hvp_spin(find_case("tasklet"), HARD_SPIN_SECONDS));
}

static DECLARE_TASKLET(tasklet, hvp_tasklet);

/* Runs its tasklet where soft interrupts go on again, in its own context. */
static HVP_PLACE int hvp_tasklet_thread(void *argument)
{
	local_bh_disable();
	tasklet_schedule(&tasklet);
	CALL(local_bh_enable());
	wait_for_kthread_stop();
	return 0;
}

/* The test injects the NMI, which comes to all CPUs. */
static HVP_PLACE int hvp_nmi(unsigned int type, struct pt_regs *regs)
{
	struct hvp_case *self = find_case("nmi");

	if (smp_processor_id() == CPU && !READ_ONCE(self->stop))
		CALL(hvp_spin(self, HARD_SPIN_SECONDS));
	return NMI_HANDLED;
}

static int arm_nmi(struct hvp_case *self)
{
	return register_nmi_handler(NMI_LOCAL, hvp_nmi, NMI_FLAG_FIRST, "hvp_stacks");
}

static void disarm_nmi(struct hvp_case *self)
{
	unregister_nmi_handler(NMI_LOCAL, "hvp_stacks");
}

/* --- exceptions and probes ------------------------------------------------- */

static int run_on_cpu(struct hvp_case *self, int (*thread)(void *), const char *name)
{
	self->task = kthread_create(thread, self, "%s", name);
	if (IS_ERR(self->task))
		return PTR_ERR(self->task);
	kthread_bind(self->task, CPU);
	wake_up_process(self->task);
	return 0;
}

/* Where hvp_probed() is probed: in its middle, by a breakpoint and not by ftrace. */
extern kprobe_opcode_t *probe_point;

static HVP_PLACE void hvp_probed(struct hvp_case *self)
{
	CALL(READ_ONCE(self->stop));
	asm volatile(ANNOTATE_NOENDBR
		     "1: movl $1, %%eax\n movl $2, %%eax\n"
		     ".pushsection .data\n"
		     "probe_point: .quad 1b\n"
		     ".popsection\n" ::: "eax");
	CALL(READ_ONCE(self->stop));
}

static HVP_PLACE int hvp_probed_thread(void *argument)
{
	CALL(hvp_probed(argument));
	wait_for_kthread_stop();
	return 0;
}

static struct hvp_case *probing;

static HVP_PLACE int hvp_probe_handler(struct kprobe *probe, struct pt_regs *regs)
{
	CALL(hvp_spin(probing, HARD_SPIN_SECONDS));
	return 0;
}

/* A probe with one is never turned into a jump. */
static void after_probe(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

static struct kprobe probe;

static int arm_probe(struct hvp_case *self)
{
	int error;

	probing = self;
	probe = (struct kprobe){ .pre_handler = hvp_probe_handler };
	if (!strcmp(self->name, "kprobe-ftrace"))
		probe.symbol_name = "hvp_probed";
	else
		probe.addr = probe_point;
	if (!strcmp(self->name, "kprobe-int3"))
		probe.post_handler = after_probe;
	error = register_kprobe(&probe);
	if (error)
		return error;
	msleep(500); /* the optimizer takes its time */
	error = run_on_cpu(self, hvp_probed_thread, "hvp_probed");
	if (error)
		unregister_kprobe(&probe);
	return error;
}

static void disarm_probe(struct hvp_case *self)
{
	kthread_stop(self->task);
	unregister_kprobe(&probe);
}

static unsigned long hvp_watched;
static struct perf_event *__percpu *watch;

static HVP_PLACE void hvp_watch_handler(struct perf_event *event, struct perf_sample_data *data,
					struct pt_regs *regs)
{
	CALL(hvp_spin(find_case("debug"), HARD_SPIN_SECONDS));
}

static HVP_PLACE int hvp_watched_thread(void *argument)
{
	CALL(WRITE_ONCE(hvp_watched, 1));
	wait_for_kthread_stop();
	return 0;
}

static int arm_debug(struct hvp_case *self)
{
	struct perf_event_attr attributes;

	hw_breakpoint_init(&attributes);
	attributes.bp_addr = (unsigned long)&hvp_watched;
	attributes.bp_len = HW_BREAKPOINT_LEN_8;
	attributes.bp_type = HW_BREAKPOINT_W;
	watch = register_wide_hw_breakpoint(&attributes, hvp_watch_handler, NULL);
	if (IS_ERR((void __force *)watch))
		return PTR_ERR((void __force *)watch);
	return run_on_cpu(self, hvp_watched_thread, "hvp_watched");
}

static void disarm_debug(struct hvp_case *self)
{
	kthread_stop(self->task);
	unregister_wide_hw_breakpoint(watch);
}

/* --- an exiting thread that is on no list ---------------------------------- */

/*
 * Stands for proc_exit_connector(), which do_exit() calls when release_task()
 * has taken a thread that is no leader off all lists.
 */
static HVP_PLACE void hvp_late_exit(struct task_struct *task)
{
	if (!strcmp(task->comm, "hvp_late") && task->pid != task->tgid)
		CALL(hvp_spin(find_case("late"), SOFT_SPIN_SECONDS));
}

/* Renamed in 6.2. */
#ifndef ftrace_regs_set_instruction_pointer
#define ftrace_regs_set_instruction_pointer ftrace_instruction_pointer_set
#endif

static void notrace redirect(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
			     struct ftrace_regs *regs)
{
	ftrace_regs_set_instruction_pointer(regs, (unsigned long)hvp_late_exit);
}

static struct ftrace_ops late_ops = {
	.func = redirect,
	.flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_SAVE_REGS_IF_SUPPORTED,
};

static int arm_late(struct hvp_case *self)
{
	static char function[] = "proc_exit_connector";
	int error = ftrace_set_filter(&late_ops, function, strlen(function), 1);

	return error ? error : register_ftrace_function(&late_ops);
}

static void disarm_late(struct hvp_case *self)
{
	unregister_ftrace_function(&late_ops);
}

/* --- the files that put their caller somewhere ----------------------------- */

static HVP_PLACE ssize_t hvp_read(struct file *file, char __user *buffer, size_t count, loff_t *pos)
{
	CALL(hvp_nested_one(find_case("read")));
	return 0;
}

static HVP_PLACE ssize_t hvp_copy(struct file *file, const char __user *buffer, size_t count,
				  loff_t *pos)
{
	struct hvp_case *self = find_case("copy");
	unsigned long word, left;

	arrive(self);
	left = copy_from_user(&word, buffer, sizeof(word));
	leave(self);
	return left ? -EFAULT : count;
}

static HVP_PLACE int hvp_release(struct inode *inode, struct file *file)
{
	CALL(hvp_nested_one(find_case("release")));
	return 0;
}

static const struct proc_ops read_ops = { .proc_read = hvp_read };
static const struct proc_ops copy_ops = { .proc_write = hvp_copy };
static const struct proc_ops release_ops = { .proc_release = hvp_release };

/* --- control --------------------------------------------------------------- */

/* A place that its users come to by themselves. */
static int arm_nothing(struct hvp_case *self)
{
	return 0;
}

static void disarm_nothing(struct hvp_case *self)
{
}

#define VISITED .arm = arm_nothing, .disarm = disarm_nothing

static struct hvp_case cases[] = {
	{ "nested", .thread = hvp_nested_thread },
	{ "parked", .arm = arm_parked, .disarm = disarm_parked },
	{ "freezable", .thread = hvp_freezable_thread },
	{ "cold", .thread = hvp_cold_thread },
	{ "no-return", .thread = hvp_no_return_thread },
	{ "work", .arm = arm_work, .disarm = disarm_work },
	{ "hidden", .thread = hvp_hidden_thread },
	{ "kretprobe-inner", .arm = arm_kretprobe, .disarm = disarm_kretprobe },
	{ "kretprobe-outer", .arm = arm_kretprobe, .disarm = disarm_kretprobe },
	{ "spin", .thread = hvp_spin_thread, .cpu = CPU },
	{ "spin-too", .thread = hvp_spin_thread, .cpu = CPU },
	{ "spin-preempt-off", .thread = hvp_spin_preempt_off_thread, .cpu = CPU },
	{ "spin-irq-off", .thread = hvp_spin_irq_off_thread, .cpu = CPU },
	{ "toggle", .thread = hvp_toggle_thread, .cpu = CPU },
	{ "indirect", .thread = hvp_indirect_thread, .cpu = CPU },
	{ "irq", .arm = arm_irq, .disarm = disarm_irq },
	{ "softirq", .arm = arm_softirq, .disarm = disarm_nothing },
	{ "tasklet", .thread = hvp_tasklet_thread, .cpu = CPU },
	{ "nmi", .arm = arm_nmi, .disarm = disarm_nmi },
	{ "kprobe-int3", .arm = arm_probe, .disarm = disarm_probe },
	{ "kprobe-jump", .arm = arm_probe, .disarm = disarm_probe },
	{ "kprobe-ftrace", .arm = arm_probe, .disarm = disarm_probe },
	{ "debug", .arm = arm_debug, .disarm = disarm_debug },
	{ "late", .arm = arm_late, .disarm = disarm_late },
	{ "read", VISITED },
	{ "copy", VISITED },
	{ "release", VISITED },
};

static struct hvp_case *find_case(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (!strcmp(cases[i].name, name))
			return &cases[i];
	return NULL;
}

static int start_kthread(struct hvp_case *self)
{
	self->task = kthread_create(self->thread, self, "hvp_%.11s", self->name);
	if (IS_ERR(self->task))
		return PTR_ERR(self->task);
	if (self->cpu > 0)
		kthread_bind(self->task, self->cpu);
	/* "no-return" ends by itself. */
	get_task_struct(self->task);
	wake_up_process(self->task);
	return 0;
}

static bool came_by_themselves(struct hvp_case *self)
{
	return self->arm == arm_nothing || self->arm == arm_nmi || self->arm == arm_late;
}

static int start_case(struct hvp_case *self)
{
	int error;

	if (self->armed)
		return -EBUSY;
	self->stop = false;
	self->armed = true;
	error = self->thread ? start_kthread(self) : self->arm(self);
	if (error)
		self->armed = false;
	if (error || came_by_themselves(self))
		return error;
	for (int msec = 0; !READ_ONCE(self->standing) && msec < START_MSEC; msec++)
		usleep_range(500, 1000);
	return READ_ONCE(self->standing) ? 0 : -ETIME;
}

static int stop_case(struct hvp_case *self)
{
	if (!self->armed)
		return 0;
	WRITE_ONCE(self->stop, true);
	wake_up_all(&queue);
	if (self->thread) {
		kthread_stop(self->task);
		put_task_struct(self->task);
	} else {
		self->disarm(self);
	}
	for (int msec = 0; READ_ONCE(self->standing) && msec < START_MSEC; msec += 10)
		msleep(10);
	self->armed = false;
	return 0;
}

static ssize_t control_write(struct file *file, const char __user *buffer, size_t count,
			     loff_t *pos)
{
	char text[NAME_MAX_BYTES] = "", *name, *verb;
	struct hvp_case *self;
	int error;

	if (count >= sizeof(text) || copy_from_user(text, buffer, count))
		return -EINVAL;
	name = strim(text);
	verb = strsep(&name, " ");
	self = name ? find_case(name) : NULL;
	if (!self)
		return -EINVAL;
	mutex_lock(&lock);
	error = !strcmp(verb, "start") ? start_case(self) : stop_case(self);
	mutex_unlock(&lock);
	return error ? error : count;
}

static int control_show(struct seq_file *seq, void *unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (READ_ONCE(cases[i].standing))
			seq_printf(seq, "%s %d\n", cases[i].name, READ_ONCE(cases[i].pid));
	return 0;
}

static int control_open(struct inode *inode, struct file *file)
{
	return single_open(file, control_show, NULL);
}

static const struct proc_ops control_ops = {
	.proc_open = control_open, .proc_read = seq_read, .proc_lseek = seq_lseek,
	.proc_release = single_release, .proc_write = control_write,
};

static const struct {
	const char *name;
	const struct proc_ops *ops;
} files[] = {
	{ "hvp_stacks", &control_ops }, { "hvp_read", &read_ops },
	{ "hvp_copy", &copy_ops }, { "hvp_release", &release_ops },
};

static int __init hvp_init(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		proc_create(files[i].name, 0600, NULL, files[i].ops);
	return 0;
}

static void __exit hvp_exit(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		remove_proc_entry(files[i].name, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		stop_case(&cases[i]);
}

module_init(hvp_init);
module_exit(hvp_exit);
MODULE_DESCRIPTION("hvpatch test module: threads in known places");
MODULE_LICENSE("GPL");
