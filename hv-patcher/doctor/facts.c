/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "doctor/facts.h"

static void place_clear(HvpFactsPlace *self)
{
	g_free(self->path);
	g_clear_error(&self->error);
}

void hvp_facts_host_clear(HvpFactsHost *self)
{
	g_free(self->architecture);
	g_free(self->user_name);
	g_clear_error(&self->kvm_error);
	g_free(self->apparmor_label);
	g_free(self->apparmor_rules);
	g_free(self->qemu_path);
	g_free(self->libvirt_uri);
	g_clear_error(&self->libvirt_error);
	place_clear(&self->keeper);
	place_clear(&self->bridge);
	place_clear(&self->journal);
	place_clear(&self->cache);
	place_clear(&self->plugin);
}

void hvp_facts_vm_clear(HvpFactsVm *self)
{
	g_clear_error(&self->reach_error);
	g_free(self->name);
	g_free(self->uuid);
	g_free(self->state);
	g_free(self->architecture);
	g_free(self->encryption);
	g_free(self->job);
	g_clear_error(&self->job_error);
	g_strfreev(self->capabilities);
	g_free(self->debugger);
	g_free(self->process_user_name);
	g_free(self->tracer);
	g_clear_error(&self->access_error);
	g_free(self->memory_source);
	g_free(self->cpu);
}
