/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/scope.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/deadline.h"

#define SYSTEMD_RUNS "/run/systemd/system"
#define TIMEOUT_MSEC 1000
#define ARRIVAL_USEC (2 * G_USEC_PER_SEC)
#define ARRIVAL_STEP_USEC (20 * 1000)
/* Longer than a keeper needs to bring a guest home from the worst place. */
#define STOP_USEC (120 * G_USEC_PER_SEC)

static void set_oom_score(pid_t keeper)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/oom_score_adj", (int)keeper);
	g_autofree char *text = g_strdup_printf("%d", HVP_SCOPE_OOM_SCORE);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		g_debug("%s cannot be set", path);
	if (fd >= 0)
		close(fd);
}

static GVariant *make_properties(pid_t keeper)
{
	guint32 pid = (guint32)keeper;
	GVariantBuilder properties;

	g_variant_builder_init(&properties, G_VARIANT_TYPE("a(sv)"));
	g_variant_builder_add(&properties, "(sv)", "Description",
			      g_variant_new_string("hvpatch's hold on a guest"));
	g_variant_builder_add(
		&properties, "(sv)", "PIDs",
		g_variant_new_fixed_array(G_VARIANT_TYPE_UINT32, &pid, 1, sizeof pid));
	g_variant_builder_add(&properties, "(sv)", "KillMode",
			      g_variant_new_string("control-group"));
	g_variant_builder_add(&properties, "(sv)", "TimeoutStopUSec",
			      g_variant_new_uint64(STOP_USEC));
	/* systemd-oomd has its own mind. */
	g_variant_builder_add(&properties, "(sv)", "ManagedOOMPreference",
			      g_variant_new_string("omit"));
	/* One that failed is not kept for somebody to look at. */
	g_variant_builder_add(&properties, "(sv)", "CollectMode",
			      g_variant_new_string("inactive-or-failed"));
	return g_variant_builder_end(&properties);
}

static bool is_absent(const GError *reason)
{
	return g_error_matches(reason, G_DBUS_ERROR, G_DBUS_ERROR_NAME_HAS_NO_OWNER) ||
	       g_error_matches(reason, G_DBUS_ERROR, G_DBUS_ERROR_SERVICE_UNKNOWN);
}

bool hvp_scope_start(GDBusConnection *bus, pid_t keeper, GError **error)
{
	g_autofree char *name = g_strdup_printf("hvpatch-keeper-%d.scope", (int)keeper);
	g_autoptr(GError) reason = NULL;
	g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
		bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
		"org.freedesktop.systemd1.Manager", "StartTransientUnit",
		g_variant_new("(ss@a(sv)a(sa(sv)))", name, "fail", make_properties(keeper), NULL),
		G_VARIANT_TYPE("(o)"), G_DBUS_CALL_FLAGS_NO_AUTO_START, TIMEOUT_MSEC, NULL,
		&reason);

	return reply != NULL ||
	       hvp_error_set(error, is_absent(reason) ? HVP_ERROR_NOT_FOUND : HVP_ERROR_UNSUPPORTED,
			     "%s: %s", name, reason->message);
}

/* The same for one that is still on its way to the bus. */
static bool start_scope(GDBusConnection *bus, pid_t keeper, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(ARRIVAL_USEC);

	while (true) {
		GError *reason = NULL;

		if (hvp_scope_start(bus, keeper, &reason))
			return true;
		if (!g_error_matches(reason, HVP_ERROR, HVP_ERROR_NOT_FOUND) ||
		    hvp_deadline_passed(deadline)) {
			g_propagate_error(error, reason);
			return false;
		}
		g_error_free(reason);
		g_usleep(ARRIVAL_STEP_USEC);
	}
}

void hvp_scope_take(pid_t keeper)
{
	g_autoptr(GDBusConnection) bus = NULL;
	g_autoptr(GError) reason = NULL;

	if (geteuid() != 0)
		return;
	set_oom_score(keeper);
	if (access(SYSTEMD_RUNS, F_OK) != 0)
		return;
	bus = g_bus_get_sync(G_BUS_TYPE_SYSTEM, NULL, NULL);
	if (bus == NULL)
		return;
	g_dbus_connection_set_exit_on_close(bus, FALSE);
	if (!start_scope(bus, keeper, &reason))
		g_debug("the keeper has no scope of its own: %s", reason->message);
}
