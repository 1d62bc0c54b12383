/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets of the gdb remote protocol over a stream: framing, checksums,
 * acknowledgements, escapes, run-length encoding; not what they mean.
 *
 *   packet = "$" data "#" two hex digits (sum of data, modulo 256)
 *   data   = ("}" byte^0x20 | byte "*" (count + 29) | byte)*
 *   answer to a packet = "+" (take the next) | "-" (send it again)
 *
 * A received packet's "+" is sent together with what we send next: to QEMU any
 * byte that is not an expected "+" means "stop the VM", and one whose packet is
 * not acknowledged swallows the interrupt byte.
 *
 * The peer is not trusted: packets are bounded, retransmissions counted, every
 * wait has a deadline, any byte between packets other than + and - is an error.
 * Nothing is allocated after hvp_gdb_packet_init.
 */
#pragma once

#include "base/deadline.h"
#include "base/error.h"

#define HVP_GDB_PACKET_MAX_BYTES 16384
#define HVP_GDB_PACKET_MAX_RETRIES 3

typedef struct {
	int fd; /* borrowed */
	bool ack_due;
	guint8 sent[HVP_GDB_PACKET_MAX_BYTES + 8];
	gsize sent_bytes;
	guint8 raw[HVP_GDB_PACKET_MAX_BYTES];
	gsize raw_start;
	gsize raw_end;
	/* The last packet received, decoded, a NUL behind it. */
	char data[HVP_GDB_PACKET_MAX_BYTES + 1];
	gsize data_bytes;
} HvpGdbPacket;

/* Starts on @fd (borrowed), which should be at the beginning of a conversation. */
void hvp_gdb_packet_init(HvpGdbPacket *self, int fd);

/*
 * Frames @text (NUL-terminated, to be sent as it is) and sends it, without
 * waiting for its "+". VM_GONE: closed. TIMED_OUT. INTERNAL: too long.
 */
bool hvp_gdb_packet_send(HvpGdbPacket *self, const char *text, HvpDeadline deadline,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Sends the interrupt byte (0x03). Errors as of send. */
bool hvp_gdb_packet_interrupt(HvpGdbPacket *self, HvpDeadline deadline, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/*
 * Waits for the next packet and decodes it into `data`. A "-" sends our last one
 * again, a bad checksum asks for the peer's again. VM_GONE: closed. TIMED_OUT.
 * BAD_DATA: not the protocol; then the stream is of no use any more.
 */
bool hvp_gdb_packet_receive(HvpGdbPacket *self, HvpDeadline deadline, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/*
 * Waits for the "+" to our last packet, which gets no other answer. Errors as of
 * receive; CONFLICT: a packet came instead (it is left to be received).
 */
bool hvp_gdb_packet_wait_ack(HvpGdbPacket *self, HvpDeadline deadline, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/* Whether bytes have been read from the stream that nobody has looked at yet. */
bool hvp_gdb_packet_has_input(const HvpGdbPacket *self);

/* The value of hex digit @digit, or -1. */
int hvp_gdb_packet_hex_value(char digit);

/* Writes @length_bytes bytes as 2 * @length_bytes hex digits and a NUL. */
void hvp_gdb_packet_to_hex(char *ret_text, const guint8 *bytes, gsize length_bytes);

/* The reverse of @length_bytes bytes; false where a character is not a hex digit. */
bool hvp_gdb_packet_from_hex(guint8 *ret_bytes, const char *text, gsize length_bytes)
	G_GNUC_WARN_UNUSED_RESULT;
