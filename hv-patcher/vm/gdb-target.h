/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a gdb stub keeps each register: its number for the "P" packet and its
 * offset in the "g" packet, from the target description (XML) that the stub gives.
 *
 *   target.xml = <target> ... <xi:include href="FILE"/> ... </target>
 *   FILE       = <feature> ... <reg name= bitsize= [regnum=]/> ... </feature>
 *
 * Registers are numbered from 0 on, in the order in which they are listed unless
 * `regnum` says otherwise; "g" holds them in the order of their numbers (GDB
 * manual, "Target Description Format"). The XML is not trusted.
 */
#pragma once

#include "base/error.h"
#include "base/registers.h"

#define HVP_GDB_TARGET_MAX_INCLUDES 16
#define HVP_GDB_TARGET_MAX_XML_BYTES (256U << 10)
#define HVP_GDB_TARGET_MAX_REGISTERS 1024
#define HVP_GDB_TARGET_FIELDS 27

/* A register of HvpRegisters as the stub has it. */
typedef struct {
	guint number;
	gsize offset_bytes;
	guint size_bytes; /* 4 or 8 */
} HvpGdbTargetField;

typedef struct {
	HvpGdbTargetField fields[HVP_GDB_TARGET_FIELDS];
	gsize g_bytes; /* as long as "g" must be to hold all of them */
} HvpGdbTarget;

/* The files that target.xml includes, in order: an array of char *. BAD_DATA. */
GPtrArray *hvp_gdb_target_find_includes(const char *xml, GError **error);

/*
 * Reads the layout from @xmls (char *), target.xml first, then its includes.
 * BAD_DATA: not such XML. UNSUPPORTED: not x86-64, a register is missing or has another size.
 */
bool hvp_gdb_target_parse(HvpGdbTarget *ret_target, const GPtrArray *xmls,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Picks our registers out of the bytes of "g", which are at least g_bytes. */
void hvp_gdb_target_load(const HvpGdbTarget *self, const guint8 *bytes,
			 HvpRegisters *ret_registers);

/*
 * Which registers of @from differ in @to, in the order in which they are to be
 * written: fills @ret_fields (indices, HVP_GDB_TARGET_FIELDS of them) and returns
 * how many. Only general registers, RFLAGS and RIP can differ; RSP comes last but one
 * and RIP last, so that a half-written set is recognised by its RIP.
 */
guint hvp_gdb_target_difference(const HvpRegisters *from, const HvpRegisters *to,
				guint ret_fields[HVP_GDB_TARGET_FIELDS]);

/* The value of field @index in @registers. */
guint64 hvp_gdb_target_value(const HvpRegisters *registers, guint index);
