/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/daemon.h"

#include <pwd.h>
#include <unistd.h>

#include "daemon/fields.h"
#include "daemon/files.h"
#include "daemon/manager.h"
#include "daemon/notify.h"

struct HvpDaemon {
	HvpConfig *config;
	int lock_fd;
	HvpPatchStore *patches;
	HvpEvents *events;
	HvpMetrics *metrics;
	HvpOperations *operations;
	HvpDomains *domains;
	HvpAuthority *authority;
	HvpCallers *callers;
	HvpListeners *listeners;
	HvpCallContext context;
	HvpManager *manager;
	void (*ended)(gpointer data);
	gpointer data;
	bool is_ready; /* libvirt's domains are known */
	bool is_draining;
	guint drain; /* source; 0: none */
};

static void tell(HvpDaemon *self, const char *message)
{
	JsonObject *object = json_object_new();
	g_autoptr(JsonNode) document = hvp_fields_node(object);

	json_object_set_int_member(object, "version", 1);
	json_object_set_string_member(object, "message", message);
	hvp_events_add(self->events, HVP_EVENT_DAEMON, "hvpatchd", NULL, NULL, document);
}

/* --- how the parts hang together --- */

static void on_at_domain(const char *uuid, const HvpOperation *operation, gpointer data)
{
	HvpDaemon *self = data;

	if (self->domains != NULL)
		hvp_domains_set_operation(self->domains, uuid, operation ? operation->id : NULL);
}

static void on_looked(const char *uuid, JsonNode *look, gpointer data)
{
	hvp_domains_set_look(((HvpDaemon *)data)->domains, uuid, look);
}

static void on_idle(gpointer data)
{
	HvpDaemon *self = data;

	if (self->is_draining)
		self->ended(self->data);
}

static void on_ready(gpointer data)
{
	HvpDaemon *self = data;

	self->is_ready = true;
	hvp_operations_begin(self->operations);
	if (!self->is_draining)
		hvp_manager_set_ready(self->manager, true);
	tell(self, "ready");
	hvp_notify_send("STATUS=ready");
}

bool hvp_daemon_is_ready(const HvpDaemon *self)
{
	return self->is_ready;
}

/* --- the beginning --- */

/* A name, or a number. */
static bool find_api_uid(const HvpConfig *config, guint32 *ret_uid, GError **error)
{
	const struct passwd *user;
	guint64 number;

	*ret_uid = G_MAXUINT32;
	if (config->api_user == NULL)
		return true;
	if (g_ascii_string_to_unsigned(config->api_user, 10, 0, G_MAXUINT32 - 1, &number, NULL)) {
		*ret_uid = (guint32)number;
		return true;
	}
	user = getpwnam(config->api_user);
	if (user == NULL)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "%s: [api] user: there is no user %s", config->api_user_place,
				     config->api_user);
	*ret_uid = user->pw_uid;
	return true;
}

static bool open_state(HvpDaemon *self, GError **error)
{
	static const HvpOperationsHandlers handlers = { on_at_domain, on_looked, on_idle };
	HvpOperationsSetup setup = { .config = self->config, .handlers = &handlers, .data = self };
	g_autoptr(HvpKeyring) keyring = NULL;

	if (!hvp_files_make_folder(self->config->state_folder, error))
		return false;
	self->lock_fd = hvp_files_lock(self->config->state_folder, error);
	if (self->lock_fd < 0)
		return false;
	keyring = hvp_keyring_new(self->config, error);
	self->patches = keyring ? hvp_patch_store_new(self->config, keyring, error) : NULL;
	self->events = self->patches ? hvp_events_new(self->config->state_folder, error) : NULL;
	if (self->events == NULL)
		return false;
	setup.patches = self->patches;
	setup.events = self->events;
	setup.metrics = self->metrics;
	self->operations = hvp_operations_new(&setup, error);
	return self->operations != NULL;
}

static void start_domains(HvpDaemon *self)
{
	HvpDomainsSetup setup = { .config = self->config,
				  .patches = self->patches,
				  .events = self->events,
				  .metrics = self->metrics,
				  .ready = on_ready,
				  .data = self };

	self->domains = hvp_domains_new(&setup);
}

static bool come_onto_bus(HvpDaemon *self, GDBusConnection *connection, guint32 api_uid,
			  HvpAuthorityKind kind, GError **error)
{
	self->authority = hvp_authority_new(self->config->roles, kind);
	self->callers = hvp_callers_new(connection, api_uid);
	self->listeners = hvp_listeners_new(connection, self->events, self->authority);
	self->context = (HvpCallContext){ .config = self->config,
					  .patches = self->patches,
					  .operations = self->operations,
					  .domains = self->domains,
					  .events = self->events,
					  .metrics = self->metrics,
					  .authority = self->authority,
					  .callers = self->callers,
					  .listeners = self->listeners };
	self->manager = hvp_manager_new(connection, &self->context, error);
	return self->manager != NULL;
}

HvpDaemon *hvp_daemon_new(GDBusConnection *connection, HvpConfig *config, HvpAuthorityKind kind,
			  void (*ended)(gpointer data), gpointer data, GError **error)
{
	HvpDaemon *self = g_new0(HvpDaemon, 1);
	guint32 api_uid;

	self->config = config;
	self->lock_fd = -1;
	self->metrics = hvp_metrics_new();
	self->ended = ended;
	self->data = data;
	if (find_api_uid(config, &api_uid, error) && open_state(self, error)) {
		start_domains(self);
		tell(self, "started");
		if (come_onto_bus(self, connection, api_uid, kind, error))
			return self;
	}
	hvp_daemon_free(self);
	return NULL;
}

/* --- another configuration --- */

static void warn_if_fixed(const char *key, const char *now, const char *wanted)
{
	if (g_strcmp0(now, wanted) != 0)
		g_warning("[core] %s: another one is taken at the next start", key);
}

bool hvp_daemon_reload(HvpDaemon *self, HvpConfig *config, GError **error)
{
	g_autoptr(HvpConfig) owned = config;
	g_autoptr(HvpKeyring) keyring = NULL;
	guint32 api_uid;

	if (!find_api_uid(config, &api_uid, error))
		return false;
	keyring = hvp_keyring_new(config, error);
	if (keyring == NULL)
		return false;
	warn_if_fixed("state", self->config->state_folder, config->state_folder);
	warn_if_fixed("uri", self->config->uri, config->uri);
	hvp_config_take_over(self->config, g_steal_pointer(&owned));
	hvp_authority_set_roles(self->authority, self->config->roles);
	hvp_callers_set_api_uid(self->callers, api_uid);
	hvp_patch_store_set_keyring(self->patches, keyring);
	tell(self, "reloaded");
	hvp_listeners_reload(self->listeners);
	hvp_operations_look_again(self->operations);
	return true;
}

/* --- the end --- */

static gboolean on_drain_over(gpointer data)
{
	HvpDaemon *self = data;

	self->drain = 0;
	self->ended(self->data);
	return G_SOURCE_REMOVE;
}

void hvp_daemon_drain(HvpDaemon *self)
{
	guint seconds = self->config->drain_seconds;
	g_autofree char *state = g_strdup_printf("STOPPING=1\nEXTEND_TIMEOUT_USEC=%u000000",
						 seconds + 5);

	if (self->is_draining)
		return;
	self->is_draining = true;
	hvp_notify_send(state);
	hvp_manager_set_ready(self->manager, false);
	tell(self, "ends");
	if (!hvp_operations_drain(self->operations))
		seconds = 0;
	self->drain = g_timeout_add_seconds(seconds, on_drain_over, self);
}

/*
 * The domains stay, but do nothing any more: libvirt's thread knows them, and cannot be ended.
 */
void hvp_daemon_free(HvpDaemon *self)
{
	if (self == NULL)
		return;
	if (self->drain != 0)
		g_source_remove(self->drain);
	hvp_manager_free(self->manager);
	if (self->domains != NULL)
		hvp_domains_stop(self->domains);
	hvp_operations_free(self->operations);
	hvp_listeners_free(self->listeners);
	hvp_callers_free(self->callers);
	hvp_authority_free(self->authority);
	hvp_events_free(self->events);
	hvp_metrics_free(self->metrics);
	if (self->lock_fd >= 0)
		close(self->lock_fd);
	/* A thread that a file system holds still has these, until the process ends. */
	if (self->patches != NULL && hvp_patch_store_is_busy(self->patches))
		return;
	hvp_patch_store_free(self->patches);
	hvp_config_free(self->config);
	g_free(self);
}
