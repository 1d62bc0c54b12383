/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/libvirt-events.h"

#include <libvirt/virterror.h>

#include "vm/libvirt-private.h"

/* A daemon that hangs is taken for gone after about 20 s. */
#define KEEPALIVE_SECONDS 5
#define KEEPALIVE_COUNT 3
#define RECONNECT_USEC G_USEC_PER_SEC

typedef struct {
	void (*ready)(gpointer data);
	gpointer data;
} Listener;

struct HvpLibvirtEvents {
	char *uri; /* as it was asked for */
	const HvpLibvirtEventsHandlers *handlers;
	gpointer data;
	HvpLibvirt *libvirt; /* NULL: lost, to be made again */
	bool lost;	     /* the daemon closed it */
	char *own_uri;
	HvpDeadline reconnect_at;
	int timer;
};

static HvpDomainEvent event_of_start(int detail)
{
	switch (detail) {
	case VIR_DOMAIN_EVENT_STARTED_MIGRATED:
		return HVP_DOMAIN_EVENT_MIGRATED_IN;
	case VIR_DOMAIN_EVENT_STARTED_RESTORED:
		return HVP_DOMAIN_EVENT_RESTORED;
	case VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT:
		return HVP_DOMAIN_EVENT_REVERTED;
	case VIR_DOMAIN_EVENT_STARTED_WAKEUP:
		return HVP_DOMAIN_EVENT_RESUMED;
	default:
		return HVP_DOMAIN_EVENT_STARTED;
	}
}

static HvpDomainEvent event_of_stop(int detail)
{
	switch (detail) {
	case VIR_DOMAIN_EVENT_STOPPED_CRASHED:
		return HVP_DOMAIN_EVENT_CRASHED;
	case VIR_DOMAIN_EVENT_STOPPED_MIGRATED:
	case VIR_DOMAIN_EVENT_STOPPED_SAVED:
		return HVP_DOMAIN_EVENT_MIGRATED_OUT;
	/* It starts again at once. */
	case VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT:
		return HVP_DOMAIN_EVENT_OTHER;
	default:
		return HVP_DOMAIN_EVENT_STOPPED;
	}
}

static HvpDomainEvent event_of(int lifecycle, int detail)
{
	switch (lifecycle) {
	case VIR_DOMAIN_EVENT_STARTED:
		return event_of_start(detail);
	case VIR_DOMAIN_EVENT_STOPPED:
		return event_of_stop(detail);
	case VIR_DOMAIN_EVENT_RESUMED:
		return detail == VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT ? HVP_DOMAIN_EVENT_REWOUND
									: HVP_DOMAIN_EVENT_RESUMED;
	case VIR_DOMAIN_EVENT_SUSPENDED:
		return detail == VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT ? HVP_DOMAIN_EVENT_REWOUND
									  : HVP_DOMAIN_EVENT_OTHER;
	case VIR_DOMAIN_EVENT_CRASHED:
		return HVP_DOMAIN_EVENT_PANICKED;
	default:
		return HVP_DOMAIN_EVENT_OTHER;
	}
}

static void tell(HvpLibvirtEvents *self, virDomainPtr domain, HvpDomainEvent event)
{
	char uuid[VIR_UUID_STRING_BUFLEN];
	const char *name = virDomainGetName(domain);

	if (name != NULL && virDomainGetUUIDString(domain, uuid) == 0)
		self->handlers->happened(self->data, event, uuid, name);
}

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail,
			void *data)
{
	(void)connection;
	tell(data, domain, event_of(event, detail));
	return 0;
}

static void on_reboot(virConnectPtr connection, virDomainPtr domain, void *data)
{
	(void)connection;
	tell(data, domain, HVP_DOMAIN_EVENT_REBOOTED);
}

static void on_metadata(virConnectPtr connection, virDomainPtr domain, int type, const char *uri,
			void *data)
{
	(void)connection;
	(void)type;
	(void)uri;
	tell(data, domain, HVP_DOMAIN_EVENT_NOTED);
}

static void on_job(virConnectPtr connection, virDomainPtr domain, virTypedParameterPtr parameters,
		   int count, void *data)
{
	(void)connection;
	(void)parameters;
	(void)count;
	tell(data, domain, HVP_DOMAIN_EVENT_JOB_ENDED);
}

static void on_close(virConnectPtr connection, int reason, void *data)
{
	HvpLibvirtEvents *self = data;

	(void)connection;
	(void)reason;
	self->lost = true;
}

/* --- the connection --- */

static bool register_events(HvpLibvirtEvents *self, virConnectPtr connection, GError **error)
{
	const struct {
		int id;
		virConnectDomainEventGenericCallback callback;
	} wanted[] = {
		{ VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle) },
		{ VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_CALLBACK(on_reboot) },
		{ VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_metadata) },
		{ VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(on_job) },
	};

	(void)virConnectSetKeepAlive(connection, KEEPALIVE_SECONDS, KEEPALIVE_COUNT);
	if (virConnectRegisterCloseCallback(connection, on_close, self, NULL) < 0)
		return hvp_libvirt_set_error(error, "events of the connection");
	for (gsize i = 0; i < G_N_ELEMENTS(wanted); i++)
		if (virConnectDomainEventRegisterAny(connection, NULL, wanted[i].id,
						     wanted[i].callback, self, NULL) < 0)
			return hvp_libvirt_set_error(error, "events of domains");
	return true;
}

static bool tell_all(HvpLibvirtEvents *self, GError **error)
{
	g_autoptr(GPtrArray) domains = hvp_libvirt_list(self->libvirt, error);

	for (guint i = 0; domains != NULL && i < domains->len; i++) {
		const HvpLibvirtDomain *domain = g_ptr_array_index(domains, i);

		if (domain->id >= 0)
			tell(self, domain->domain, HVP_DOMAIN_EVENT_SEEN);
	}
	return domains != NULL;
}

static bool connect_once(HvpLibvirtEvents *self, GError **error)
{
	g_autoptr(HvpLibvirt) libvirt = hvp_libvirt_connect(self->uri, error);

	if (libvirt == NULL || !hvp_libvirt_check_reachable(libvirt, error) ||
	    !register_events(self, libvirt->connection, error))
		return false;
	g_free(self->own_uri);
	self->own_uri = g_strdup(hvp_libvirt_get_uri(libvirt));
	self->libvirt = g_steal_pointer(&libvirt);
	self->lost = false;
	return true;
}

static void reconnect(HvpLibvirtEvents *self)
{
	self->reconnect_at = hvp_deadline_in(RECONNECT_USEC);
	if (!connect_once(self, NULL))
		return;
	self->handlers->connection(self->data, NULL);
	if (!tell_all(self, NULL))
		self->lost = true;
}

static void drop_lost(HvpLibvirtEvents *self)
{
	g_autoptr(GError) reason = NULL;

	if (self->libvirt == NULL ||
	    (!self->lost && virConnectIsAlive(self->libvirt->connection) == 1))
		return;
	(void)virConnectUnregisterCloseCallback(self->libvirt->connection, on_close);
	g_clear_pointer(&self->libvirt, hvp_libvirt_free);
	hvp_error_set(&reason, HVP_ERROR_VM_GONE, "the connection to libvirt is lost");
	self->reconnect_at = hvp_deadline_in(0);
	self->handlers->connection(self->data, reason);
}

/* --- the loop --- */

static void on_timer(int timer, void *data)
{
	(void)data;
	virEventUpdateTimeout(timer, -1);
}

HvpLibvirtEvents *hvp_libvirt_events_new(const char *uri, const HvpLibvirtEventsHandlers *handlers,
					 gpointer data, GError **error)
{
	HvpLibvirtEvents *self = g_new0(HvpLibvirtEvents, 1);

	self->uri = g_strdup(uri);
	self->handlers = handlers;
	self->data = data;
	if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0 ||
	    (self->timer = virEventAddTimeout(-1, on_timer, self, NULL)) < 0)
		hvp_libvirt_set_error(error, "libvirt does not start");
	else if (connect_once(self, error) && tell_all(self, error))
		return self;
	/* What libvirt was given of it lives as long as the process, which ends for this. */
	return NULL;
}

const char *hvp_libvirt_events_get_uri(const HvpLibvirtEvents *self)
{
	return self->own_uri;
}

void hvp_libvirt_events_mend(HvpLibvirtEvents *self)
{
	drop_lost(self);
	if (self->libvirt == NULL && hvp_deadline_passed(self->reconnect_at))
		reconnect(self);
}

bool hvp_libvirt_events_wait(HvpLibvirtEvents *self, HvpDeadline deadline, GError **error)
{
	hvp_libvirt_events_mend(self);
	if (self->libvirt == NULL)
		deadline = hvp_deadline_min(deadline, self->reconnect_at);
	virEventUpdateTimeout(self->timer, hvp_deadline_left_msec(deadline));
	return virEventRunDefaultImpl() == 0 || hvp_libvirt_set_error(error, "libvirt's loop");
}

void hvp_libvirt_events_look_again(HvpLibvirtEvents *self)
{
	drop_lost(self);
	if (self->libvirt == NULL)
		self->reconnect_at = hvp_deadline_in(0);
	else if (!tell_all(self, NULL))
		self->lost = true;
}

static void on_fd(int number, int fd, int events, void *data)
{
	const Listener *listener = data;

	(void)number;
	(void)fd;
	(void)events;
	listener->ready(listener->data);
}

bool hvp_libvirt_events_add_fd(HvpLibvirtEvents *self, int fd, void (*ready)(gpointer data),
			       gpointer data, int *ret_number, GError **error)
{
	Listener *listener = g_new0(Listener, 1);
	int number;

	(void)self;
	listener->ready = ready;
	listener->data = data;
	number = virEventAddHandle(fd, VIR_EVENT_HANDLE_READABLE | VIR_EVENT_HANDLE_HANGUP, on_fd,
				   listener, g_free);
	if (number < 0) {
		g_free(listener);
		return hvp_libvirt_set_error(error, "libvirt's loop");
	}
	*ret_number = number;
	return true;
}

void hvp_libvirt_events_remove_fd(HvpLibvirtEvents *self, int number)
{
	(void)self;
	virEventRemoveHandle(number);
}
