/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "follow/follow.h"

#include <errno.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json-text.h"
#include "follow/child.h"
#include "follow/rule.h"
#include "patch/store.h"
#include "vm/libvirt-events.h"

/* What one event brings with it comes within that time. */
#define SETTLE_USEC (G_USEC_PER_SEC / 2)
#define LOOK_USEC (60 * G_USEC_PER_SEC)
/* Of which apply takes half a minute to wait for tasks that are in the way. */
#define APPLY_USEC (5 * 60 * G_USEC_PER_SEC)
#define IDLE_USEC (30 * 60 * G_USEC_PER_SEC)
/* docs/libvirt-hook touches HOOK_FILE in it. */
#define SIGNAL_FOLDER "/run/hvpatch"
#define HOOK_FILE "hook"

typedef struct {
	char *uuid;
	char *name;
	GPtrArray *patches; /* char *: in force when it was looked at last; NULL: not known */
	GHashTable *hashes; /* of their files, to their names */
	const char *word;   /* what was told since then; NULL: nothing */
	bool look;	    /* is wanted */
	bool apply;	    /* is wanted behind the look */
	bool stale;	    /* the connection was lost meanwhile */
	bool check_lost;    /* apply if a patch is gone, for nobody told why */
	bool failed;	    /* has been told of what is tried now */
	GPtrArray *queue;   /* HvpStoreEntry to apply, the first is at work; NULL: none */
	gint64 since_usec;  /* of the last event that counts */
	HvpDeadline due;
	guint failures;
	HvpChild *child; /* NULL: none runs */
	int child_number;
	bool child_applies;
} Followed;

typedef struct {
	const HvpFollowOptions *options;
	HvpLibvirtEvents *events;
	GPtrArray *all; /* Followed */
	guint children;
	bool reconnected;
	bool over;
	int hook; /* an inotify descriptor; -1 */
} Follow;

static void drop_child(Follow *self, Followed *domain)
{
	if (domain->child == NULL)
		return;
	hvp_libvirt_events_remove_fd(self->events, domain->child_number);
	g_clear_pointer(&domain->child, hvp_child_free);
	self->children--;
}

static void followed_free(gpointer data)
{
	Followed *self = data;

	hvp_child_free(self->child);
	g_clear_pointer(&self->patches, g_ptr_array_unref);
	g_clear_pointer(&self->queue, g_ptr_array_unref);
	g_hash_table_unref(self->hashes);
	g_free(self->uuid);
	g_free(self->name);
	g_free(self);
}

static Followed *followed_new(const char *uuid, const char *name)
{
	Followed *self = g_new0(Followed, 1);

	self->uuid = g_strdup(uuid);
	self->name = g_strdup(name);
	self->hashes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	return self;
}

static Followed *find(Follow *self, const char *uuid)
{
	for (guint i = 0; i < self->all->len; i++) {
		Followed *domain = g_ptr_array_index(self->all, i);

		if (strcmp(domain->uuid, uuid) == 0)
			return domain;
	}
	return NULL;
}

/* --- telling --- */

static void tell(Follow *self, const Followed *domain, const char *event, const GPtrArray *patches,
		 const char *message)
{
	HvpFinding finding = { domain ? domain->uuid : NULL, domain ? domain->name : NULL, event,
			       patches, message };

	if (!self->over && !self->options->tell(self->options->data, &finding))
		self->over = true;
}

static void tell_gone(Follow *self, const Followed *domain, const char *word)
{
	if (domain->patches == NULL)
		tell(self, domain, word, NULL, "which patches it had is not known");
	else if (domain->patches->len == 0)
		tell(self, domain, word, domain->patches, "no patch was applied");
	else
		tell(self, domain, word, domain->patches, "its patches are gone");
}

static void tell_patch(Follow *self, const Followed *domain, const char *event,
		       const HvpStoreEntry *entry, const char *message)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new();

	g_ptr_array_add(names, entry->name);
	tell(self, domain, event, names, message);
}

/* --- events --- */

static void forget_patches(Followed *domain)
{
	g_clear_pointer(&domain->patches, g_ptr_array_unref);
	domain->patches = g_ptr_array_new_with_free_func(g_free);
	g_hash_table_remove_all(domain->hashes);
}

static void want_look(Followed *domain, const HvpRule *rule, bool is_new)
{
	domain->look = true;
	domain->failures = 0;
	domain->failed = false;
	domain->due = hvp_deadline_in(SETTLE_USEC);
	if (rule->word == NULL && !is_new && !domain->check_lost)
		return;
	domain->since_usec = g_get_monotonic_time();
	domain->apply = domain->apply || rule->apply || is_new;
}

/* There is no kernel that runs. */
static void want_nothing(Follow *self, Followed *domain)
{
	drop_child(self, domain);
	domain->look = domain->apply = domain->check_lost = false;
	g_clear_pointer(&domain->queue, g_ptr_array_unref);
}

static void follow_rule(Follow *self, Followed *domain, const HvpRule *rule, bool is_new)
{
	/* libvirt tells some things twice. */
	bool news = rule->word != NULL && g_strcmp0(rule->word, domain->word) != 0 &&
		    !(rule->echo && domain->word != NULL);

	if (news && rule->gone)
		tell_gone(self, domain, rule->word);
	else if (news)
		tell(self, domain, rule->word, NULL, "");
	if (news)
		domain->word = rule->word;
	if (rule->gone)
		forget_patches(domain);
	if (rule->look)
		want_look(domain, rule, is_new);
	else if (rule->hurry && domain->look)
		domain->due = hvp_deadline_in(SETTLE_USEC);
	else if (rule->gone)
		want_nothing(self, domain);
	if (rule->forget) {
		drop_child(self, domain);
		g_ptr_array_remove(self->all, domain);
	}
}

static void on_happened(gpointer data, HvpDomainEvent event, const char *uuid, const char *name)
{
	Follow *self = data;
	const HvpRule *rule = hvp_rule_of(event);
	Followed *domain = find(self, uuid);
	bool is_new = domain == NULL;

	if (self->options->only_uuid != NULL && strcmp(self->options->only_uuid, uuid) != 0)
		return;
	if (is_new && !rule->look)
		return;
	if (is_new) {
		domain = followed_new(uuid, name);
		g_ptr_array_add(self->all, domain);
	} else if (event == HVP_DOMAIN_EVENT_SEEN) {
		if (!domain->stale)
			return;
		domain->check_lost = true;
	}
	domain->stale = false;
	follow_rule(self, domain, rule, is_new);
}

static void on_connection(gpointer data, const GError *reason)
{
	Follow *self = data;

	tell(self, NULL, reason ? "disconnected" : "connected", NULL,
	     reason ? reason->message : "");
	self->reconnected = reason == NULL;
	for (guint i = 0; reason != NULL && i < self->all->len; i++)
		((Followed *)g_ptr_array_index(self->all, i))->stale = true;
}

/* Those that were not seen again have ended meanwhile. */
static void forget_missing(Follow *self)
{
	if (!self->reconnected)
		return;
	self->reconnected = false;
	for (guint i = self->all->len; i-- > 0;) {
		Followed *domain = g_ptr_array_index(self->all, i);

		if (domain->stale)
			follow_rule(self, domain, hvp_rule_of(HVP_DOMAIN_EVENT_STOPPED), false);
	}
}

/* --- looking and applying --- */

static const char *text_of(JsonObject *object, const char *name)
{
	JsonNode *node = hvp_json_text_typed_member(object, name, G_TYPE_STRING);

	return node ? json_node_get_string(node) : "";
}

static bool is_verified(JsonObject *patch)
{
	JsonNode *node = hvp_json_text_typed_member(patch, "verified", G_TYPE_BOOLEAN);

	return node != NULL && json_node_get_boolean(node);
}

static bool has_name(const GPtrArray *names, const char *name)
{
	return g_ptr_array_find_with_equal_func((GPtrArray *)names, name, g_str_equal, NULL);
}

/* Whether some of @before are not among @after. */
static bool has_lost(const GPtrArray *before, const GPtrArray *after)
{
	for (guint i = 0; before != NULL && i < before->len; i++)
		if (!has_name(after, g_ptr_array_index(before, i)))
			return true;
	return false;
}

/* What status printed becomes what is known. */
static bool take_status(Followed *domain, JsonObject *status)
{
	JsonNode *node = json_object_get_member(status, "patches");
	JsonArray *patches = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;

	if (patches == NULL)
		return false;
	forget_patches(domain);
	for (guint i = 0; i < json_array_get_length(patches); i++) {
		JsonNode *element = json_array_get_element(patches, i);
		JsonObject *patch = JSON_NODE_HOLDS_OBJECT(element) ? json_node_get_object(element)
								    : NULL;

		if (patch == NULL || !is_verified(patch))
			continue;
		g_ptr_array_add(domain->patches, g_strdup(text_of(patch, "name")));
		g_hash_table_insert(domain->hashes, g_strdup(text_of(patch, "sha256")),
				    g_strdup(text_of(patch, "name")));
	}
	return true;
}

static bool is_installed(const GPtrArray *entries, const char *sha256)
{
	for (guint i = 0; i < entries->len; i++)
		if (strcmp(((const HvpStoreEntry *)entries->pdata[i])->sha256, sha256) == 0)
			return true;
	return false;
}

/* It came here with its patches, but not with their files. */
static void tell_not_installed(Follow *self, const Followed *domain, const GPtrArray *entries)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new();
	GHashTableIter iter;
	gpointer sha256, name;

	g_hash_table_iter_init(&iter, domain->hashes);
	while (g_hash_table_iter_next(&iter, &sha256, &name))
		if (!is_installed(entries, sha256))
			g_ptr_array_add(names, name);
	if (names->len > 0)
		tell(self, domain, "not-installed", names,
		     "in force, but not installed on this host: a start would be without");
}

/* What is installed and not in force, to be applied in that order. */
static void fill_queue(Follow *self, Followed *domain)
{
	g_autoptr(GError) reason = NULL;
	g_autoptr(GPtrArray)
		entries = hvp_store_list(self->options->store_folder, domain->uuid, &reason);

	g_clear_pointer(&domain->queue, g_ptr_array_unref);
	if (entries == NULL) {
		tell(self, domain, "failed", NULL, reason->message);
		return;
	}
	tell_not_installed(self, domain, entries);
	for (guint i = entries->len; i-- > 0;) {
		const HvpStoreEntry *entry = g_ptr_array_index(entries, i);

		if (g_hash_table_contains(domain->hashes, entry->sha256))
			g_ptr_array_remove_index(entries, i);
	}
	if (entries->len > 0)
		domain->queue = g_steal_pointer(&entries);
}

static void after_look(Follow *self, Followed *domain, JsonObject *status)
{
	g_autoptr(GPtrArray) before = g_steal_pointer(&domain->patches);
	bool lost, changed;

	if (!take_status(domain, status))
		return;
	lost = has_lost(before, domain->patches);
	changed = before == NULL || lost || has_lost(domain->patches, before);
	if (changed || domain->word != NULL)
		tell(self, domain, "patches", domain->patches,
		     domain->patches->len > 0 ? "" : "no patch is applied");
	domain->word = NULL;
	domain->apply = domain->apply || (domain->check_lost && lost);
	domain->check_lost = false;
	if (self->options->reapply && domain->apply)
		fill_queue(self, domain);
	domain->apply = false;
}

static void plan_again(Followed *domain)
{
	domain->failures++;
	domain->due = hvp_deadline_in(hvp_rule_back_off_usec(domain->failures));
}

static void finish_look(Follow *self, Followed *domain, int exit_status, JsonObject *said)
{
	gint64 elapsed_usec = g_get_monotonic_time() - domain->since_usec;
	HvpRuleNext next = hvp_rule_after_look(exit_status, elapsed_usec);

	if (next == HVP_RULE_DONE && said != NULL) {
		domain->failures = 0;
		after_look(self, domain, said);
	} else if (next == HVP_RULE_NEVER) {
		tell(self, domain, "gave-up", NULL,
		     said ? text_of(said, "message") : "its guest could not be read");
	} else {
		domain->look = true;
		plan_again(domain);
	}
}

static void finish_apply(Follow *self, Followed *domain, int exit_status, JsonObject *said)
{
	const HvpStoreEntry *entry = g_ptr_array_index(domain->queue, 0);
	gint64 elapsed_usec = g_get_monotonic_time() - domain->since_usec;
	HvpRuleNext next = hvp_rule_after_apply(exit_status, elapsed_usec);
	const char *message = said ? text_of(said, "message") : "hvpatch did not end well";

	if (next == HVP_RULE_AGAIN) {
		if (!domain->failed)
			tell_patch(self, domain, "failed", entry, message);
		domain->failed = true;
		plan_again(domain);
		return;
	}
	tell_patch(self, domain, next == HVP_RULE_DONE ? "applied" : "gave-up", entry,
		   next == HVP_RULE_DONE ? "" : message);
	domain->failures = 0;
	domain->failed = false;
	g_ptr_array_remove_index(domain->queue, 0);
	if (domain->queue->len > 0)
		return;
	g_clear_pointer(&domain->queue, g_ptr_array_unref);
	domain->look = true;
	domain->due = hvp_deadline_in(0);
}

static void finish_child(Follow *self, Followed *domain)
{
	int exit_status = hvp_child_get_exit_status(domain->child);
	g_autoptr(JsonNode) node = hvp_child_parse_output(domain->child, NULL);
	JsonObject *said = node ? json_node_get_object(node) : NULL;

	drop_child(self, domain);
	if (domain->child_applies)
		finish_apply(self, domain, exit_status, said);
	else
		finish_look(self, domain, exit_status, said);
	/* Something happened meanwhile: what is to be applied is found out anew. */
	if (domain->look && domain->queue != NULL) {
		g_clear_pointer(&domain->queue, g_ptr_array_unref);
		domain->apply = true;
	}
}

static void on_child(gpointer data)
{
	(void)data;
}

static bool start_child(Follow *self, Followed *domain, GError **error)
{
	const HvpStoreEntry *entry = domain->look ? NULL : g_ptr_array_index(domain->queue, 0);
	const char *arguments[12] = { "--connect", hvp_libvirt_events_get_uri(self->events),
				      "--domain",  domain->uuid,
				      "--output",  "json" };
	guint count = 6;

	if (self->options->backend != NULL) {
		arguments[count++] = "--backend";
		arguments[count++] = self->options->backend;
	}
	arguments[count++] = entry ? "apply" : "status";
	arguments[count++] = entry ? entry->path : NULL;
	domain->child = hvp_child_start(NULL, arguments, entry ? APPLY_USEC : LOOK_USEC, error);
	if (domain->child == NULL)
		return false;
	domain->child_applies = entry != NULL;
	domain->look = false;
	self->children++;
	return hvp_libvirt_events_add_fd(self->events, hvp_child_get_fd(domain->child), on_child,
					 NULL, &domain->child_number, error);
}

/* --- the loop --- */

static bool start_due(Follow *self, GError **error)
{
	for (guint i = 0; i < self->all->len; i++) {
		Followed *domain = g_ptr_array_index(self->all, i);

		if (self->children >= self->options->max_children)
			break;
		if (domain->child == NULL && !domain->stale &&
		    (domain->look || domain->queue != NULL) && hvp_deadline_passed(domain->due) &&
		    !start_child(self, domain, error))
			return false;
	}
	return true;
}

static HvpDeadline next_due(const Follow *self)
{
	HvpDeadline next = hvp_deadline_in(IDLE_USEC);
	bool full = self->children >= self->options->max_children;

	for (guint i = 0; i < self->all->len; i++) {
		const Followed *domain = g_ptr_array_index(self->all, i);

		if (domain->child != NULL)
			next = hvp_deadline_min(next, hvp_child_get_deadline(domain->child));
		else if (!full && !domain->stale && (domain->look || domain->queue != NULL))
			next = hvp_deadline_min(next, domain->due);
	}
	return next;
}

static void finish_ended(Follow *self)
{
	for (guint i = 0; i < self->all->len; i++) {
		Followed *domain = g_ptr_array_index(self->all, i);

		if (domain->child != NULL && hvp_child_has_ended(domain->child))
			finish_child(self, domain);
	}
}

/* The hook script says that libvirt's daemon is doing something with a domain. */
static void on_hook(gpointer data)
{
	Follow *self = data;
	char bytes[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool ours = false;
	gssize count;

	while ((count = read(self->hook, bytes, sizeof bytes)) > 0)
		for (gssize at = 0; at < count;) {
			const struct inotify_event *event = (const void *)(bytes + at);

			ours = ours || (event->len > 0 && strcmp(event->name, HOOK_FILE) == 0);
			at += (gssize)(sizeof *event + event->len);
		}
	if (ours)
		hvp_libvirt_events_look_again(self->events);
}

/* Without it all goes on, a little later. */
static void listen_to_hook(Follow *self)
{
	int number;

	self->hook = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (self->hook < 0)
		return;
	(void)mkdir(SIGNAL_FOLDER, 0755);
	if (inotify_add_watch(self->hook, SIGNAL_FOLDER, IN_ATTRIB | IN_CLOSE_WRITE) < 0 ||
	    !hvp_libvirt_events_add_fd(self->events, self->hook, on_hook, self, &number, NULL))
		g_debug("no signals from libvirt's hook: %s", g_strerror(errno));
}

bool hvp_follow_run(const HvpFollowOptions *options, GError **error)
{
	static const HvpLibvirtEventsHandlers handlers = { on_happened, on_connection };
	g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(followed_free);
	Follow self = { .options = options, .all = all };

	self.events = hvp_libvirt_events_new(options->uri, &handlers, &self, error);
	if (self.events == NULL)
		return false;
	listen_to_hook(&self);
	while (!self.over) {
		if (!start_due(&self, error) ||
		    !hvp_libvirt_events_wait(self.events, next_due(&self), error))
			return false;
		forget_missing(&self);
		finish_ended(&self);
	}
	return true;
}
