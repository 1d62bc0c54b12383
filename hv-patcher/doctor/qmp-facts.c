/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "doctor/qmp-facts.h"

#include <string.h>

#include "agent/port.h"
#include "doctor/process-facts.h"
#include "vm/machine.h"
#include "vm/ram-jobs.h"

#define ASK_USEC (10 * G_USEC_PER_SEC)
#define MAX_CAPABILITIES 256U
#define MAX_BACKENDS 1024U

typedef struct {
	HvpQmp *qmp;
	HvpDeadline deadline;
	HvpFactsVm *vm;
} Asker;

static JsonNode *ask(Asker *self, const char *command)
{
	return hvp_qmp_execute(self->qmp, command, NULL, self->deadline, NULL);
}

/* Of an answer; NULL where it is none. Borrowed from @node. */
static JsonObject *as_object(JsonNode *node)
{
	return node ? hvp_qmp_as_object(node, "answer", NULL) : NULL;
}

static JsonArray *as_array(JsonNode *node)
{
	return node ? hvp_qmp_as_array(node, "answer", NULL) : NULL;
}

/* The vCPU's path in QEMU's object tree, the caller's, and the process by its thread. */
static bool ask_process(Asker *self, char **ret_vcpu, GError **error)
{
	g_autoptr(JsonNode)
		node = hvp_qmp_execute(self->qmp, "query-cpus-fast", NULL, self->deadline, error);
	JsonArray *vcpus = node ? hvp_qmp_as_array(node, "query-cpus-fast", error) : NULL;
	JsonObject *first;
	const char *path, *target;
	gint64 thread_id;

	if (vcpus == NULL)
		return false;
	if (json_array_get_length(vcpus) == 0)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "the VM has no vCPU");
	first = hvp_qmp_as_object(json_array_get_element(vcpus, 0), "query-cpus-fast", error);
	if (first == NULL || !hvp_qmp_member_int(first, "thread-id", &thread_id, error) ||
	    !hvp_qmp_member_string(first, "qom-path", &path, error) ||
	    !hvp_qmp_member_string(first, "target", &target, error))
		return false;
	*ret_vcpu = g_strdup(path);
	self->vm->architecture = g_strdup(target);
	/* Where it is not visible, what is in /proc stays unknown. */
	if (thread_id > 0 && thread_id <= G_MAXINT)
		(void)!hvp_machine_read_thread_group((pid_t)thread_id, &self->vm->pid, NULL);
	return true;
}

static void ask_accelerator(Asker *self)
{
	g_autoptr(JsonNode) node = ask(self, "query-kvm");
	JsonObject *answer = as_object(node);
	bool is_kvm;

	if (answer != NULL && hvp_qmp_member_bool(answer, "enabled", &is_kvm, NULL))
		self->vm->accelerator = is_kvm ? HVP_FACTS_ACCELERATOR_KVM
					       : HVP_FACTS_ACCELERATOR_TCG;
}

/* Members of a list that have @value true; NULL where QEMU does not tell. The caller's. */
static char **list_true(JsonArray *list, const char *name, const char *value)
{
	g_autoptr(GStrvBuilder) found = g_strv_builder_new();

	if (list == NULL)
		return NULL;
	for (guint i = 0; i < MIN(json_array_get_length(list), MAX_CAPABILITIES); i++) {
		JsonObject *each = as_object(json_array_get_element(list, i));
		const char *text;
		bool is_true;

		if (each != NULL && hvp_qmp_member_string(each, name, &text, NULL) &&
		    hvp_qmp_member_bool(each, value, &is_true, NULL) && is_true)
			g_strv_builder_add(found, text);
	}
	return g_strv_builder_end(found);
}

static void ask_migration(Asker *self)
{
	g_autoptr(JsonNode) node = ask(self, "query-migrate-capabilities");

	self->vm->capabilities = list_true(as_array(node), "capability", "state");
	(void)!hvp_ram_jobs_ask(self->qmp, self->vm->pid, self->deadline, &self->vm->job,
				       &self->vm->job_error);
}

/* One backend that is private makes it all so. */
static void ask_memory(Asker *self)
{
	g_autoptr(JsonNode) node = ask(self, "query-memdev");
	JsonArray *backends = as_array(node);

	for (guint i = 0; backends && i < MIN(json_array_get_length(backends), MAX_BACKENDS); i++) {
		JsonObject *backend = as_object(json_array_get_element(backends, i));
		bool is_shared;

		/* Since 6.1; older ones do not tell. */
		if (backend == NULL || !hvp_qmp_member_bool(backend, "share", &is_shared, NULL))
			continue;
		if (!is_shared)
			self->vm->memory_is_shared = HVP_FACTS_NO;
		else if (self->vm->memory_is_shared == HVP_FACTS_UNKNOWN)
			self->vm->memory_is_shared = HVP_FACTS_YES;
	}
}

static void ask_agent(Asker *self)
{
	HvpPortState state;

	if (!hvp_port_read_state(self->qmp, self->deadline, &state, NULL))
		return;
	self->vm->agent = state == HVP_PORT_ABSENT ? HVP_FACTS_AGENT_ABSENT
			  : state == HVP_PORT_OPEN ? HVP_FACTS_AGENT_OPEN
						   : HVP_FACTS_AGENT_CLOSED;
}

static HvpFactsAnswer ask_feature(Asker *self, const char *vcpu, const char *feature)
{
	g_autoptr(JsonObject) arguments = json_object_new();
	g_autoptr(JsonNode) answer = NULL;

	json_object_set_string_member(arguments, "path", vcpu);
	json_object_set_string_member(arguments, "property", feature);
	answer = hvp_qmp_execute(self->qmp, "qom-get", arguments, self->deadline, NULL);
	if (answer == NULL || !JSON_NODE_HOLDS_VALUE(answer) ||
	    json_node_get_value_type(answer) != G_TYPE_BOOLEAN)
		return HVP_FACTS_UNKNOWN;
	return json_node_get_boolean(answer) ? HVP_FACTS_YES : HVP_FACTS_NO;
}

static void ask_nested(Asker *self, const char *vcpu)
{
	HvpFactsAnswer vmx = ask_feature(self, vcpu, "vmx");
	HvpFactsAnswer svm = ask_feature(self, vcpu, "svm");

	self->vm->nested = vmx == HVP_FACTS_YES || svm == HVP_FACTS_YES ? HVP_FACTS_YES
			   : vmx == HVP_FACTS_NO && svm == HVP_FACTS_NO ? HVP_FACTS_NO
									: HVP_FACTS_UNKNOWN;
}

/* One that was started at run time has a character device of its own, called gdb... */
static void ask_debugger(Asker *self)
{
	g_autoptr(JsonNode) node = ask(self, "query-chardev");
	JsonArray *list = as_array(node);

	for (guint i = 0; list != NULL && i < json_array_get_length(list); i++) {
		JsonObject *each = as_object(json_array_get_element(list, i));
		const char *label, *where;

		if (each == NULL || !hvp_qmp_member_string(each, "label", &label, NULL) ||
		    !hvp_qmp_member_string(each, "filename", &where, NULL) ||
		    !g_str_has_prefix(label, "gdb"))
			continue;
		g_free(self->vm->debugger);
		self->vm->debugger = g_strdup(where);
	}
}

static bool ask_all(Asker *self, GError **error)
{
	g_autofree char *vcpu = NULL;

	if (!hvp_qmp_query_status(self->qmp, self->deadline, &self->vm->is_running,
				  &self->vm->state, error) ||
	    !ask_process(self, &vcpu, error))
		return false;
	self->vm->is_active = true;
	ask_accelerator(self);
	ask_migration(self);
	ask_memory(self);
	ask_agent(self);
	ask_nested(self, vcpu);
	if (self->vm->pid > 0)
		hvp_process_facts_gather(self->vm);
	ask_debugger(self);
	return true;
}

void hvp_qmp_facts_gather(const char *path, HvpFactsVm *vm)
{
	HvpDeadline deadline = hvp_deadline_in(ASK_USEC);
	g_autoptr(HvpQmp) qmp = NULL;
	Asker asker = { NULL, deadline, vm };

	vm->kind = HVP_FACTS_SOCKET;
	vm->name = g_strdup(path);
	qmp = hvp_qmp_connect(path, deadline, &vm->reach_error);
	asker.qmp = qmp;
	if (qmp != NULL)
		(void)!ask_all(&asker, &vm->reach_error);
}
