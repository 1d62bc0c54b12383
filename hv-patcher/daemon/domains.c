/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/domains.h"

#include <string.h>

#include "daemon/fields.h"
#include "daemon/watcher.h"

#define UNKNOWN "unknown"
/* With events only what they do not tell is found this way. */
#define SELDOM_SECONDS 60
#define OFTEN_SECONDS 10
/* How often it is seen which of those that could not be looked at are due again. */
#define AGAIN_SECONDS 5
/* Between two looks that were only asked for: each costs a worker, and stops a guest under KVM. */
#define REFRESH_USEC G_USEC_PER_SEC
#define REFRESH_MSEC 250

struct HvpDomains {
	HvpDomainsSetup setup;
	GHashTable *by_uuid; /* HvpDomain */
	HvpLister *lister;
	HvpLooks *looks;
	guint timer, again, refresh; /* sources; 0: none */
	bool is_ready;
	bool is_stopped;
};

static void domain_destroy(gpointer data)
{
	hvp_domain_free(data);
}

static void tell(const HvpDomains *self, const HvpDomain *domain)
{
	g_autoptr(JsonNode) document = hvp_domain_to_document(domain);

	hvp_events_add(self->setup.events, HVP_EVENT_DOMAIN, domain->uuid, domain->uuid,
		       domain->name, document);
	hvp_metrics_count(self->setup.metrics, HVP_METRICS_EVENTS, 1);
}

/* The operation looks itself, or has it looked at when it has ended. */
static void look(const HvpDomains *self, const HvpDomain *domain)
{
	if (hvp_domain_is_running(domain) && domain->operation == NULL && !self->is_stopped)
		hvp_looks_want(self->looks, domain->uuid, domain->name);
}

/* --- looks --- */

static JsonArray *find_cves(const char *sha256, gpointer data)
{
	const HvpDomains *self = data;
	const HvpStoredPatch *patch = hvp_patch_store_find(self->setup.patches, sha256, NULL);

	return patch ? json_object_get_array_member(json_node_get_object(patch->document), "cves")
		     : NULL;
}

void hvp_domains_set_look(HvpDomains *self, const char *uuid, JsonNode *seen)
{
	HvpDomain *domain = g_hash_table_lookup(self->by_uuid, uuid);

	if (domain == NULL)
		return;
	hvp_domain_set_look(domain, seen, find_cves, self);
	tell(self, domain);
}

static void on_seen(const char *uuid, JsonNode *seen, const char *code, const char *why,
		    gpointer data)
{
	HvpDomains *self = data;
	HvpDomain *domain = g_hash_table_lookup(self->by_uuid, uuid);

	if (domain != NULL)
		domain->looked_usec = g_get_monotonic_time();
	if (seen != NULL) {
		hvp_domains_set_look(self, uuid, seen);
	} else if (domain != NULL) {
		hvp_domain_set_no_look(domain, code, why);
		tell(self, domain);
	}
}

static void on_look_crashed(gpointer data)
{
	hvp_metrics_count(((HvpDomains *)data)->setup.metrics, HVP_METRICS_WORKER_CRASHES, 1);
}

/* --- listing --- */

static void take_one(HvpDomains *self, const HvpListed *listed)
{
	HvpDomain *domain = g_hash_table_lookup(self->by_uuid, listed->uuid);
	bool restarted = true;

	if (domain == NULL) {
		domain = hvp_domain_new(listed);
		g_hash_table_insert(self->by_uuid, domain->uuid, domain);
	} else if (!hvp_domain_update(domain, listed, &restarted)) {
		return;
	}
	tell(self, domain);
	if (restarted)
		look(self, domain);
}

static void tell_gone(const HvpDomains *self, const HvpDomain *domain)
{
	hvp_looks_drop(self->looks, domain->uuid);
	hvp_events_add(self->setup.events, HVP_EVENT_DOMAIN, domain->uuid, domain->uuid,
		       domain->name, NULL);
}

static void drop_gone(HvpDomains *self, const GPtrArray *listed)
{
	g_autoptr(GHashTable) here = g_hash_table_new(g_str_hash, g_str_equal);
	GHashTableIter iter;
	gpointer value;

	for (guint i = 0; i < listed->len; i++)
		g_hash_table_add(here, ((HvpListed *)g_ptr_array_index(listed, i))->uuid);
	g_hash_table_iter_init(&iter, self->by_uuid);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const HvpDomain *domain = value;

		if (g_hash_table_contains(here, domain->uuid))
			continue;
		tell_gone(self, domain);
		g_hash_table_iter_remove(&iter);
	}
}

/* What was known may still be true; that it is so is not known. */
static void lose_all(HvpDomains *self, const GError *error)
{
	GHashTableIter iter;
	gpointer value;

	g_warning("%s", error->message);
	g_hash_table_iter_init(&iter, self->by_uuid);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		HvpDomain *domain = value;
		HvpListed lost = { domain->uuid, domain->name, UNKNOWN, domain->id };
		bool restarted;

		if (hvp_domain_update(domain, &lost, &restarted))
			tell(self, domain);
	}
}

static void on_listed(const GPtrArray *listed, const GError *error, gpointer data)
{
	HvpDomains *self = data;
	bool first = !self->is_ready && listed != NULL;

	if (listed == NULL) {
		lose_all(self, error);
		return;
	}
	drop_gone(self, listed);
	for (guint i = 0; i < listed->len; i++)
		take_one(self, g_ptr_array_index(listed, i));
	self->is_ready = true;
	if (first)
		self->setup.ready(self->setup.data);
}

static gboolean on_timer(gpointer data)
{
	hvp_lister_ask(((HvpDomains *)data)->lister);
	return G_SOURCE_CONTINUE;
}

/* The end of one puts off the next: nothing is due before it. */
static bool is_due(const HvpDomains *self, const HvpDomain *domain)
{
	return hvp_domain_wants_look(domain) && !hvp_looks_are_wanted(self->looks, domain->uuid);
}

static gboolean on_again(gpointer data)
{
	const HvpDomains *self = data;
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, self->by_uuid);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		if (is_due(self, value))
			look(self, value);
	return G_SOURCE_CONTINUE;
}

/* --- looks that were asked for --- */

static bool may_refresh(const HvpDomains *self, const HvpDomain *domain)
{
	return !hvp_looks_are_at(self->looks, domain->uuid) &&
	       (domain->looked_usec == 0 ||
		g_get_monotonic_time() - domain->looked_usec >= REFRESH_USEC);
}

static gboolean on_refresh(gpointer data)
{
	HvpDomains *self = data;
	GHashTableIter iter;
	gpointer value;
	bool any_left = false;

	g_hash_table_iter_init(&iter, self->by_uuid);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		HvpDomain *domain = value;

		if (domain->is_refresh_wanted && may_refresh(self, domain)) {
			domain->is_refresh_wanted = false;
			look(self, domain);
		}
		any_left = any_left || domain->is_refresh_wanted;
	}
	if (!any_left)
		self->refresh = 0;
	return any_left;
}

/* --- events --- */

static void set_timer(HvpDomains *self, guint seconds)
{
	if (self->timer != 0)
		g_source_remove(self->timer);
	self->timer = g_timeout_add_seconds(seconds, on_timer, self);
}

static void on_started(bool has_events, gpointer data)
{
	HvpDomains *self = data;

	if (self->is_stopped)
		return;
	set_timer(self, has_events ? SELDOM_SECONDS : OFTEN_SECONDS);
	hvp_lister_ask(self->lister);
}

static bool is_for_a_look(HvpDomainEvent event)
{
	switch (event) {
	case HVP_DOMAIN_EVENT_STARTED:
	case HVP_DOMAIN_EVENT_RESTORED:
	case HVP_DOMAIN_EVENT_MIGRATED_IN:
	case HVP_DOMAIN_EVENT_REVERTED:
	case HVP_DOMAIN_EVENT_REWOUND:
	case HVP_DOMAIN_EVENT_REBOOTED:
	case HVP_DOMAIN_EVENT_PANICKED:
		return true;
	default:
		return false;
	}
}

static void on_happened(HvpDomainEvent event, const char *uuid, gpointer data)
{
	HvpDomains *self = data;
	HvpDomain *domain = g_hash_table_lookup(self->by_uuid, uuid);

	if (self->is_stopped || event == HVP_DOMAIN_EVENT_NOTED)
		return;
	hvp_lister_ask(self->lister);
	if (domain == NULL || !is_for_a_look(event))
		return;
	hvp_domain_forget(domain);
	tell(self, domain);
	look(self, domain);
}

static void on_connection(bool is_there, gpointer data)
{
	HvpDomains *self = data;

	if (self->is_stopped)
		return;
	set_timer(self, is_there ? SELDOM_SECONDS : OFTEN_SECONDS);
	hvp_lister_ask(self->lister);
}

/* --- for callers --- */

HvpDomains *hvp_domains_new(const HvpDomainsSetup *setup)
{
	static const HvpWatcherHandlers events = { on_started, on_happened, on_connection };
	static const HvpLooksHandlers looks = { on_seen, on_look_crashed };
	HvpDomains *self = g_new0(HvpDomains, 1);

	self->setup = *setup;
	self->by_uuid = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, domain_destroy);
	self->lister = hvp_lister_new(setup->config->uri, on_listed, self);
	self->looks = hvp_looks_new(setup->config, &looks, self);
	self->again = g_timeout_add_seconds(AGAIN_SECONDS, on_again, self);
	hvp_watcher_start(setup->config->uri, &events, self);
	return self;
}

void hvp_domains_stop(HvpDomains *self)
{
	self->is_stopped = true;
	if (self->timer != 0)
		g_source_remove(self->timer);
	if (self->again != 0)
		g_source_remove(self->again);
	if (self->refresh != 0)
		g_source_remove(self->refresh);
	self->timer = self->again = self->refresh = 0;
	g_clear_pointer(&self->lister, hvp_lister_free);
	g_clear_pointer(&self->looks, hvp_looks_free);
}

bool hvp_domains_are_ready(const HvpDomains *self)
{
	return self->is_ready;
}

HvpDomain *hvp_domains_find(const HvpDomains *self, const char *uuid)
{
	return g_hash_table_lookup(self->by_uuid, uuid);
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
	const HvpDomain *first = *(const HvpDomain *const *)a;
	const HvpDomain *second = *(const HvpDomain *const *)b;
	int names = strcmp(first->name, second->name);

	return names != 0 ? names : strcmp(first->uuid, second->uuid);
}

GPtrArray *hvp_domains_list(const HvpDomains *self)
{
	GPtrArray *domains = g_ptr_array_sized_new(g_hash_table_size(self->by_uuid));
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, self->by_uuid);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		g_ptr_array_add(domains, value);
	g_ptr_array_sort(domains, compare_names);
	return domains;
}

void hvp_domains_refresh(HvpDomains *self, const char *uuid)
{
	HvpDomain *domain = g_hash_table_lookup(self->by_uuid, uuid);

	if (self->is_stopped)
		return;
	hvp_lister_ask(self->lister);
	if (domain == NULL)
		return;
	if (may_refresh(self, domain)) {
		look(self, domain);
		return;
	}
	domain->is_refresh_wanted = true;
	if (self->refresh == 0)
		self->refresh = g_timeout_add(REFRESH_MSEC, on_refresh, self);
}

void hvp_domains_set_operation(HvpDomains *self, const char *uuid, const char *id)
{
	HvpDomain *domain = g_hash_table_lookup(self->by_uuid, uuid);

	if (domain == NULL || self->is_stopped || g_strcmp0(domain->operation, id) == 0)
		return;
	hvp_domain_set_operation(domain, id);
	tell(self, domain);
	if (id != NULL)
		hvp_looks_drop(self->looks, uuid);
	else
		look(self, domain);
}
