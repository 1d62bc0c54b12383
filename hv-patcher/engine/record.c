/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/record.h"

#include "base/bytes.h"
#include "base/text.h"

#include <string.h>

#define MAGIC "\0HVPREC2"
#define MAGIC_BYTES 8U
#define OFFSET_LENGTH 8U
#define OFFSET_COUNT 12U
#define OFFSET_CHECKSUM 16U
#define CHECKSUM_BYTES 32U
#define OFFSET_SHA256 48U
#define OFFSET_APPLIED 80U
#define OFFSET_KLP_PATCH 88U
#define OFFSET_VERSION 96U
#define OFFSET_STATE 112U
#define STATE_BYTES 8U
#define OFFSET_ALIASES 120U
#define HEADER_BYTES 128U
#define SITE_BYTES 112U
#define MAX_NAME_BYTES 512U
#define TOOL_VERSION "hvpatch-1"
#define OPCODE_INT3 0xcc

static void site_clear(gpointer data)
{
	HvpRecordSite *site = data;

	g_free(site->object);
	g_free(site->name);
}

HvpRecord *hvp_record_new(const char *patch, const char *sha256)
{
	HvpRecord *self = g_new0(HvpRecord, 1);

	self->patch = g_strdup(patch);
	g_strlcpy(self->sha256, sha256, sizeof self->sha256);
	self->sites = g_array_new(FALSE, TRUE, sizeof(HvpRecordSite));
	g_array_set_clear_func(self->sites, site_clear);
	return self;
}

void hvp_record_free(HvpRecord *self)
{
	if (self == NULL)
		return;
	g_free(self->patch);
	g_array_unref(self->sites);
	g_free(self);
}

gsize hvp_record_size(guint site_count, gsize name_bytes)
{
	return HEADER_BYTES + (gsize)site_count * (SITE_BYTES + 2) + name_bytes;
}

static void hex_to_bytes(const char *hex, guint8 *ret_bytes, gsize length_bytes)
{
	for (gsize i = 0; i < length_bytes; i++)
		ret_bytes[i] = hex[0] && hex[1] ? (guint8)(g_ascii_xdigit_value(hex[i * 2]) << 4 |
							   g_ascii_xdigit_value(hex[i * 2 + 1]))
						: 0;
}

static void bytes_to_hex(const guint8 *bytes, gsize length_bytes, char *ret_hex)
{
	for (gsize i = 0; i < length_bytes; i++)
		g_snprintf(ret_hex + i * 2, 3, "%02x", bytes[i]);
}

static void compute_checksum(const guint8 *bytes, gsize length_bytes, guint8 *ret_digest)
{
	static const guint8 zeros[CHECKSUM_BYTES];
	g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
	gsize digest_bytes = CHECKSUM_BYTES;

	g_checksum_update(checksum, bytes, OFFSET_CHECKSUM);
	g_checksum_update(checksum, zeros, CHECKSUM_BYTES);
	g_checksum_update(checksum, bytes + OFFSET_SHA256, OFFSET_STATE - OFFSET_SHA256);
	g_checksum_update(checksum, zeros, STATE_BYTES);
	g_checksum_update(checksum, bytes + OFFSET_ALIASES,
			  (gssize)(length_bytes - OFFSET_ALIASES));
	g_checksum_get_digest(checksum, ret_digest, &digest_bytes);
}

/* Adds @text to the strings of @record, whose end *@at is. Its offset. */
static guint32 encode_string(guint8 *record, gsize *at, const char *text)
{
	gsize offset = *at;

	memcpy(record + offset, text, strlen(text) + 1);
	*at += strlen(text) + 1;
	return (guint32)offset;
}

static void encode_site(const HvpRecordSite *site, guint8 *record, guint8 *ret_bytes, gsize *at)
{
	hvp_store_u64(ret_bytes, site->old.start.value);
	hvp_store_u64(ret_bytes + 8, site->old.end.value);
	hvp_store_u64(ret_bytes + 16, site->new_function.value);
	hvp_store_u64(ret_bytes + 24, site->site.site.value);
	hvp_store_u64(ret_bytes + 32, site->slot.value);
	hvp_store_u64(ret_bytes + 40, site->position);
	hvp_store_u32(ret_bytes + 48, encode_string(record, at, site->name));
	hvp_store_u32(ret_bytes + 52, site->site.length_bytes);
	memcpy(ret_bytes + 56, site->site.old_bytes, HVP_PLAN_MAX_SITE_BYTES);
	memcpy(ret_bytes + 76, site->site.new_bytes, HVP_PLAN_MAX_SITE_BYTES);
	hvp_store_u64(ret_bytes + 96, site->module.value);
	if (site->object != NULL)
		hvp_store_u32(ret_bytes + 104, encode_string(record, at, site->object));
}

GBytes *hvp_record_encode(const HvpRecord *self)
{
	gsize names = 0, length, at;
	guint8 *bytes;

	for (guint i = 0; i < self->sites->len; i++) {
		const HvpRecordSite *site = &g_array_index(self->sites, HvpRecordSite, i);

		names += strlen(site->name) + (site->object ? strlen(site->object) : 0);
	}
	length = hvp_record_size(self->sites->len, names);
	bytes = g_malloc0(length);
	memcpy(bytes, MAGIC, MAGIC_BYTES);
	hvp_store_u32(bytes + OFFSET_LENGTH, (guint32)length);
	hvp_store_u32(bytes + OFFSET_COUNT, self->sites->len);
	hex_to_bytes(self->sha256, bytes + OFFSET_SHA256, CHECKSUM_BYTES);
	hvp_store_u64(bytes + OFFSET_APPLIED, (guint64)self->applied_usec);
	hvp_store_u64(bytes + OFFSET_KLP_PATCH, self->klp_patch.value);
	memcpy(bytes + OFFSET_VERSION, TOOL_VERSION, sizeof TOOL_VERSION);
	hvp_store_u64(bytes + OFFSET_STATE, self->in_force);
	hvp_store_u64(bytes + OFFSET_ALIASES, self->aliases.value);
	at = HEADER_BYTES + (gsize)self->sites->len * SITE_BYTES;
	for (guint i = 0; i < self->sites->len; i++)
		encode_site(&g_array_index(self->sites, HvpRecordSite, i), bytes,
			    bytes + HEADER_BYTES + (gsize)i * SITE_BYTES, &at);
	compute_checksum(bytes, length, bytes + OFFSET_CHECKSUM);
	return g_bytes_new_take(bytes, length);
}

/* The string at @offset of the record, copied; NULL where it does not end in there. */
static char *decode_string(const guint8 *record, gsize length_bytes, guint32 offset)
{
	if (offset >= length_bytes || memchr(record + offset, 0, length_bytes - offset) == NULL)
		return NULL;
	return g_strndup((const char *)record + offset, MAX_NAME_BYTES);
}

static bool decode_site(const guint8 *record, gsize length_bytes, guint index,
			HvpRecordSite *ret_site, GError **error)
{
	const guint8 *bytes = record + HEADER_BYTES + (gsize)index * SITE_BYTES;
	guint32 object = hvp_load_u32(bytes + 104);
	HvpRecordSite site = { .position = hvp_load_u64(bytes + 40) };

	site.old.start = hvp_gva(hvp_load_u64(bytes));
	site.old.end = hvp_gva(hvp_load_u64(bytes + 8));
	site.new_function = hvp_gva(hvp_load_u64(bytes + 16));
	site.site.site = hvp_gva(hvp_load_u64(bytes + 24));
	site.slot = hvp_gva(hvp_load_u64(bytes + 32));
	site.site.length_bytes = hvp_load_u32(bytes + 52);
	memcpy(site.site.old_bytes, bytes + 56, HVP_PLAN_MAX_SITE_BYTES);
	memcpy(site.site.new_bytes, bytes + 76, HVP_PLAN_MAX_SITE_BYTES);
	site.module = hvp_gva(hvp_load_u64(bytes + 96));
	site.name = decode_string(record, length_bytes, hvp_load_u32(bytes + 48));
	if (object != 0)
		site.object = decode_string(record, length_bytes, object);
	if (site.name == NULL || (object != 0 && site.object == NULL) ||
	    site.site.length_bytes < HVP_PLAN_JUMP_BYTES ||
	    site.site.length_bytes > HVP_PLAN_MAX_SITE_BYTES) {
		site_clear(&site);
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "site %u of the record is malformed", index);
	}
	*ret_site = site;
	return true;
}

static bool check_header(const guint8 *bytes, gsize length_bytes, GError **error)
{
	guint8 digest[CHECKSUM_BYTES];

	if (length_bytes < HEADER_BYTES || memcmp(bytes, MAGIC, MAGIC_BYTES) != 0 ||
	    hvp_load_u32(bytes + OFFSET_LENGTH) != length_bytes)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "not a record");
	if ((guint64)hvp_load_u32(bytes + OFFSET_COUNT) * SITE_BYTES > length_bytes - HEADER_BYTES)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "the record claims too many sites");
	if (hvp_load_u64(bytes + OFFSET_STATE) > 1)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "the record is in no known state");
	compute_checksum(bytes, length_bytes, digest);
	if (memcmp(digest, bytes + OFFSET_CHECKSUM, sizeof digest) != 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "the record's checksum is wrong");
	return true;
}

HvpRecord *hvp_record_decode(const guint8 *bytes, gsize length_bytes, const char *patch,
			     GError **error)
{
	g_autoptr(HvpRecord) self = hvp_record_new(patch, "");
	gsize names = 0;

	if (!check_header(bytes, length_bytes, error))
		return NULL;
	bytes_to_hex(bytes + OFFSET_SHA256, CHECKSUM_BYTES, self->sha256);
	self->applied_usec = (gint64)hvp_load_u64(bytes + OFFSET_APPLIED);
	self->klp_patch = hvp_gva(hvp_load_u64(bytes + OFFSET_KLP_PATCH));
	self->aliases = hvp_gva(hvp_load_u64(bytes + OFFSET_ALIASES));
	self->in_force = hvp_load_u64(bytes + OFFSET_STATE) != 0;
	for (guint i = 0; i < hvp_load_u32(bytes + OFFSET_COUNT); i++) {
		HvpRecordSite site;

		if (!decode_site(bytes, length_bytes, i, &site, error))
			return NULL;
		names += strlen(site.name) + (site.object ? strlen(site.object) : 0);
		g_array_append_val(self->sites, site);
		/* Each has its own, so that together they are no longer than the record. */
		if (names > length_bytes) {
			hvp_error_set(error, HVP_ERROR_BAD_DATA, "the record's names overlap");
			return NULL;
		}
	}
	return g_steal_pointer(&self);
}

HvpRecord *hvp_record_read(HvpKernel *kernel, const HvpModule *module, GError **error)
{
	HvpAddressSpace *space = hvp_kernel_get_space(kernel);
	guint8 header[OFFSET_COUNT];
	g_autofree guint8 *bytes = NULL;
	guint32 length;

	if (module->args.value == 0 ||
	    !hvp_address_space_read(space, module->args, header, sizeof header, NULL) ||
	    memcmp(header, MAGIC, MAGIC_BYTES) != 0) {
		hvp_error_set(error, HVP_ERROR_NOT_FOUND, "no record in module %s", module->name);
		return NULL;
	}
	length = hvp_load_u32(header + OFFSET_LENGTH);
	if (length < HEADER_BYTES || length > HVP_RECORD_MAX_BYTES) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "the record of %s claims %u bytes",
			      module->name, length);
		return NULL;
	}
	bytes = g_malloc(length);
	if (!hvp_address_space_read(space, module->args, bytes, length, error))
		return NULL;
	return hvp_record_decode(bytes, length, module->name, error);
}

const char *hvp_record_state_name(HvpRecordState state)
{
	static const char *const names[] = { "switched", "original", "busy", "tampered", "gone" };

	return (guint)state < G_N_ELEMENTS(names) ? names[state] : "tampered";
}

/* The function that a site belongs to, as the guest has it now. */
static bool find_function(const HvpRecordSite *site, HvpKernel *kernel, HvpModules *modules,
			  HvpModule *object, HvpGvaRange *ret_range)
{
	if (object == NULL)
		return hvp_kernel_function(kernel, site->name, site->position, ret_range, NULL);
	return hvp_modules_function(modules, object, site->name, site->position, ret_range, NULL);
}

/* Whether the site is where we would put one for the function it names. */
static bool site_is_ours(const HvpRecordSite *site, HvpKernel *kernel, HvpModules *modules,
			 HvpModule *object, const HvpModule *module)
{
	HvpGvaRange old;
	HvpGva target;

	return find_function(site, kernel, modules, object, &old) &&
	       old.start.value == site->old.start.value && old.end.value == site->old.end.value &&
	       site->slot.value >= old.start.value && site->slot.value <= old.start.value + 4 &&
	       site->site.site.value == site->slot.value + HVP_FTRACE_SLOT_BYTES &&
	       site->site.site.value + site->site.length_bytes <= old.end.value &&
	       hvp_plan_decode_jump(site->site.site, site->site.new_bytes, site->site.length_bytes,
				    &target) &&
	       target.value == site->new_function.value &&
	       hvp_gva_range_contains(module->text, target);
}

HvpRecordState hvp_record_verify_site(const HvpRecord *self, guint index, HvpKernel *kernel,
				      HvpModules *modules, const HvpModule *module)
{
	const HvpRecordSite *site = &g_array_index(self->sites, HvpRecordSite, index);
	HvpModule *object = NULL;
	guint8 now[HVP_PLAN_MAX_SITE_BYTES];

	if (site->object != NULL) {
		object = hvp_modules_find(modules, site->object);
		if (object == NULL || object->address.value != site->module.value ||
		    !hvp_gva_range_contains(object->text, site->old.start))
			return HVP_RECORD_GONE;
	}
	if (!site_is_ours(site, kernel, modules, object, module) ||
	    !hvp_address_space_read(hvp_kernel_get_space(kernel), site->site.site, now,
				    site->site.length_bytes, NULL))
		return HVP_RECORD_TAMPERED;
	if (memcmp(now, site->site.new_bytes, site->site.length_bytes) == 0)
		return HVP_RECORD_SWITCHED;
	/* Loaded again, and at the same place: it came with its own text. */
	if (memcmp(now, site->site.old_bytes, site->site.length_bytes) == 0)
		return object != NULL && self->in_force ? HVP_RECORD_GONE : HVP_RECORD_ORIGINAL;
	return now[0] == OPCODE_INT3 ? HVP_RECORD_BUSY : HVP_RECORD_TAMPERED;
}

HvpRecordState hvp_record_verify(const HvpRecord *self, HvpKernel *kernel, HvpModules *modules,
				 const HvpModule *module, char **ret_why)
{
	HvpRecordState wanted = self->in_force ? HVP_RECORD_SWITCHED : HVP_RECORD_ORIGINAL;

	for (guint i = 0; i < self->sites->len; i++) {
		const HvpRecordSite *site = &g_array_index(self->sites, HvpRecordSite, i);
		HvpRecordState state = hvp_record_verify_site(self, i, kernel, modules, module);
		g_autofree char *name = NULL;

		if (state == wanted || state == HVP_RECORD_GONE)
			continue;
		/* Where it is not in force, another patch may have taken the place. */
		if (!self->in_force && state != HVP_RECORD_SWITCHED && state != HVP_RECORD_BUSY)
			continue;
		if (state != HVP_RECORD_BUSY)
			state = HVP_RECORD_TAMPERED;
		name = hvp_text_escape(site->name, G_MAXSIZE, MAX_NAME_BYTES);
		if (ret_why != NULL)
			*ret_why = g_strdup_printf("%s at 0x%" G_GINT64_MODIFIER "x is %s", name,
						   site->site.site.value,
						   hvp_record_state_name(state));
		return state;
	}
	return wanted;
}

void hvp_record_plan_state(HvpGva address, bool in_force, HvpSite *ret_change)
{
	*ret_change = (HvpSite){ .site = hvp_gva_add(address, OFFSET_STATE),
				 .length_bytes = STATE_BYTES };
	hvp_store_u64(ret_change->old_bytes, !in_force);
	hvp_store_u64(ret_change->new_bytes, in_force);
}
