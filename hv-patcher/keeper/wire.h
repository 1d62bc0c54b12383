/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tool and its keeper say to each other over a socket pair: one request,
 * one answer, never two at a time. Both ends are of the same build, so payloads
 * are C structs; each end checks sizes and counts of the other all the same, a tool
 * may have been taken over by a guest.
 *
 *   message = magic u32, type u32, length u32, payload
 *
 *   request         payload                              answer's payload
 *   (none)                                               HELLO: HvpWireHello
 *   PLACE           HvpWirePlace, HvpRamRange[]          -
 *   ATTACH DETACH   -                                    -
 *   ADOPT           HvpWireAdopt, frames, hooks,         -
 *                   spin traps, writes
 *   JOBS            -                                    -
 *   STOP            HvpWireStop                          HvpWireStopped, HvpRegisters[]
 *   WAIT            HvpWireWait                          the same
 *   RESUME          -                                    gint64 usec
 *   TRAPS           HvpGva[]                             -
 *   HOOKS           HvpKeeperHook[]                      -
 *   SPINS           HvpKeeperSpin[]                      -
 *   PASS HOME       HvpWireVcpu                          -
 *   DIVERT          HvpWireDivert                        -
 *   ANSWER          HvpWireVcpu                          -
 *   REDIRECT        HvpWireRedirect                      -
 *   DATA            guint64 gpa, bytes                   -
 *   WRITE           HvpKeeperWrite[]                     -
 *   COMMIT          -                                    -
 *
 * The answer is of type OK, or of type ERROR with HvpWireError and a message.
 */
#pragma once

#include "keeper/keeper.h"

#define HVP_WIRE_MAX_BYTES (256U << 10)
#define HVP_WIRE_DATA_BYTES (128U << 10)
#define HVP_WIRE_MESSAGE_BYTES 512

/* Descriptors that a keeper is exec'ed with. */
#define HVP_WIRE_TOOL_FD 3
#define HVP_WIRE_QMP_FD 4
#define HVP_WIRE_JOURNAL_FD 5
#define HVP_WIRE_FIRST_OTHER_FD 6
/* An argument, where HVP_WIRE_QMP_FD is no monitor: then PLACE comes before ATTACH. */
#define HVP_WIRE_NO_MONITOR "no-monitor"
/*
 * Another, with PID-STARTTIME behind it: that process is the only one that PLACE may name. Of a
 * keeper that was started for a tool which is not trusted with more.
 */
#define HVP_WIRE_ONLY "only="

#define HVP_WIRE_MAX_BUDGET_USEC (60 * G_USEC_PER_SEC)

typedef enum {
	HVP_WIRE_HELLO = 1,
	HVP_WIRE_OK,
	HVP_WIRE_ERROR,
	HVP_WIRE_PLACE,
	HVP_WIRE_ATTACH,
	HVP_WIRE_ADOPT,
	HVP_WIRE_DETACH,
	HVP_WIRE_STOP,
	HVP_WIRE_WAIT,
	HVP_WIRE_RESUME,
	HVP_WIRE_TRAPS,
	HVP_WIRE_HOOKS,
	HVP_WIRE_PASS,
	HVP_WIRE_DIVERT,
	HVP_WIRE_HOME,
	HVP_WIRE_ANSWER,
	HVP_WIRE_REDIRECT,
	HVP_WIRE_DATA,
	HVP_WIRE_WRITE,
	HVP_WIRE_COMMIT,
	HVP_WIRE_SPINS,
	HVP_WIRE_JOBS,
	HVP_WIRE_TYPE_COUNT,
} HvpWireType;

typedef struct {
	gint32 pid;
} HvpWireHello;

typedef struct {
	guint32 code;
	guint32 ended; /* 1: every later request will be answered so */
	char message[HVP_WIRE_MESSAGE_BYTES];
} HvpWireError;

/* Where ATTACH and ADOPT find the VM, other than through the monitor; see vm/kvm.h. */
typedef struct {
	gint32 pid;
	guint32 unused;
	guint64 start_time;
} HvpWirePlace;

typedef struct {
	guint32 frame_count;
	guint32 hook_count;
	guint32 spin_count;
	guint32 write_count;
	guint32 roll_forward;
	guint32 unused;
	gint64 deadline_at_usec;
} HvpWireAdopt;

typedef struct {
	gint64 budget_usec;
} HvpWireStop;

typedef struct {
	gint64 deadline_at_usec;
	gint64 budget_usec;
} HvpWireWait;

typedef struct {
	guint32 vcpu_count;
	gint32 trapped_vcpu;
	guint64 trap;
	gint64 stop_usec;
	gint64 registers_usec;
} HvpWireStopped;

typedef struct {
	guint32 vcpu_index;
	guint32 unused;
	guint64 value; /* of ANSWER */
} HvpWireVcpu;

typedef struct {
	HvpKeeperFrame frame;
	HvpRegisters registers;
} HvpWireDivert;

typedef struct {
	guint32 vcpu_index;
	guint32 unused;
	guint64 pc;
	guint64 argument;
} HvpWireRedirect;

/* A message as it is received, piece by piece, or built to be sent. */
typedef struct {
	guint8 bytes[12 + HVP_WIRE_MAX_BYTES];
	gsize length_bytes; /* received so far */
} HvpWireMessage;

typedef enum {
	HVP_WIRE_READ_MORE,   /* nothing more has arrived, the message is not complete */
	HVP_WIRE_READ_DONE,
	HVP_WIRE_READ_CLOSED, /* the other end is gone */
	HVP_WIRE_READ_GARBAGE,
} HvpWireRead;

/* Starts a message of @type; then append. */
void hvp_wire_begin(HvpWireMessage *self, HvpWireType type);
/* Appends @length_bytes to the payload; false (and not appended) where they do not fit. */
bool hvp_wire_append(HvpWireMessage *self, const void *bytes, gsize length_bytes)
	G_GNUC_WARN_UNUSED_RESULT;

/* Sends the message; waits for room until @deadline. VM_GONE where the other end closed. */
bool hvp_wire_send(HvpWireMessage *self, int fd, HvpDeadline deadline, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/* Empties the message, to receive into. */
void hvp_wire_clear(HvpWireMessage *self);
/* Takes what has arrived on @fd, without blocking, never more than this message. */
HvpWireRead hvp_wire_read(HvpWireMessage *self, int fd);

HvpWireType hvp_wire_get_type(const HvpWireMessage *self);
const guint8 *hvp_wire_get_payload(const HvpWireMessage *self, gsize *ret_length_bytes);
