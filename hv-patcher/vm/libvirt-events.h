/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happens to the domains of a libvirt connection, as it happens. When the connection is lost
 * (libvirt's daemon is restarted, say) it is made again, and all running domains are told anew.
 *
 * The loop is libvirt's own default one: libvirt-glib would put libvirt into GLib's loop, and is
 * one more library for what takes three calls here. All runs in the caller's thread, in
 * hvp_libvirt_events_wait.
 */
#pragma once

#include "base/deadline.h"
#include "vm/domain-event.h"
#include "vm/libvirt.h"

typedef struct HvpLibvirtEvents HvpLibvirtEvents;

typedef struct {
	/* @name is foreign text. */
	void (*happened)(gpointer data, HvpDomainEvent event, const char *uuid, const char *name);
	/* @reason: why there is no connection; NULL: there is one again. */
	void (*connection)(gpointer data, const GError *reason);
} HvpLibvirtEventsHandlers;

/*
 * Connects to @uri (NULL as for hvp_libvirt_connect). Before any other connection of the process,
 * and once in it. @handlers and @data have to live as long as it. UNSUPPORTED: not QEMU's domains
 * of this host; errors of vm/libvirt.h.
 */
HvpLibvirtEvents *hvp_libvirt_events_new(const char *uri, const HvpLibvirtEventsHandlers *handlers,
					 gpointer data, GError **error);

/* The connection's own URI; borrowed. */
const char *hvp_libvirt_events_get_uri(const HvpLibvirtEvents *self);

/*
 * Waits for something to happen, until @deadline, and tells it. INTERNAL: libvirt's loop failed.
 * Blocks longer where libvirt's daemon hangs while it is connected to.
 */
bool hvp_libvirt_events_wait(HvpLibvirtEvents *self, HvpDeadline deadline,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * For processes whose main loop is GLib's: libvirt's own is in GLib's default context (since
 * libvirt 6.1), so that things are told there, and nobody may wait as above. Mends the connection,
 * where it is lost; to be called every second or so, by one thread, which may block as long as
 * connecting does. What it tells is told in that thread.
 */
void hvp_libvirt_events_mend(HvpLibvirtEvents *self);

/* Connects at once, if there is no connection; else tells all running domains as SEEN. */
void hvp_libvirt_events_look_again(HvpLibvirtEvents *self);

/* Calls @ready with @data while @fd can be read or its other end is closed; INTERNAL. */
bool hvp_libvirt_events_add_fd(HvpLibvirtEvents *self, int fd, void (*ready)(gpointer data),
			       gpointer data, int *ret_number,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;
void hvp_libvirt_events_remove_fd(HvpLibvirtEvents *self, int number);
