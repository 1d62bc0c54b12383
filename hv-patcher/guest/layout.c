/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/layout.h"

static const struct {
	const char *container;
	const char *path;
	bool required;
} members[] = {
#define X(id, container, path, required) { container, path, required },
	HVP_LAYOUT_MEMBERS(X)
#undef X
};

static const struct {
	const char *container;
	bool required;
} sizes[] = {
#define X(id, container, required) { container, required },
	HVP_LAYOUT_SIZES(X)
#undef X
};

static const struct {
	const char *name;
	bool required;
} enumerators[] = {
#define X(id, name, required) { name, required },
	HVP_LAYOUT_ENUMERATORS(X)
#undef X
};

#define FIRST_SIZE G_N_ELEMENTS(members)
#define FIRST_ENUMERATOR (FIRST_SIZE + G_N_ELEMENTS(sizes))

G_STATIC_ASSERT(FIRST_ENUMERATOR + G_N_ELEMENTS(enumerators) == HVP_LAYOUT_COUNT);

#define MAX_STRUCT_BYTES (1U << 20)

static const HvpLayoutValue absent = { .value = HVP_LAYOUT_ABSENT };

/* What is missing is fine where it may be; BTF that contradicts itself never is. */
static bool tolerate(bool required, GError *reason, GError **error)
{
	if (!required && g_error_matches(reason, HVP_ERROR, HVP_ERROR_NOT_FOUND)) {
		g_error_free(reason);
		return true;
	}
	if (reason->code == HVP_ERROR_NOT_FOUND)
		reason->code = HVP_ERROR_UNSUPPORTED;
	g_propagate_error(error, reason);
	return false;
}

static bool resolve_member(HvpBtf *btf, guint index, HvpLayoutValue *ret_value, GError **error)
{
	HvpBtfMember member;
	GError *reason = NULL;

	*ret_value = absent;
	if (!hvp_btf_member(btf, members[index].container, members[index].path, &member, &reason))
		return tolerate(members[index].required, reason, error);
	ret_value->value = member.bit / 8;
	ret_value->bit = member.bit % 8;
	ret_value->bits = (guint8)MIN(member.bits, G_MAXUINT8);
	ret_value->count = (guint16)MIN(member.count, G_MAXUINT16);
	return true;
}

static bool resolve_size(HvpBtf *btf, guint index, HvpLayoutValue *ret_value, GError **error)
{
	GError *reason = NULL;

	*ret_value = absent;
	if (!hvp_btf_struct_size(btf, sizes[index].container, &ret_value->value, &reason))
		return tolerate(sizes[index].required, reason, error);
	if (ret_value->value > MAX_STRUCT_BYTES)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "struct %s of the guest's BTF has %u bytes",
				     sizes[index].container, ret_value->value);
	return true;
}

static bool resolve_enumerator(HvpBtf *btf, guint index, HvpLayoutValue *ret_value, GError **error)
{
	GError *reason = NULL;
	gint64 value;

	*ret_value = absent;
	if (!hvp_btf_enumerator(btf, enumerators[index].name, &value, &reason))
		return tolerate(enumerators[index].required, reason, error);
	if (value < 0 || value >= HVP_LAYOUT_ABSENT)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "enumerator %s of the guest's BTF is %" G_GINT64_FORMAT,
				     enumerators[index].name, value);
	ret_value->value = (guint32)value;
	return true;
}

bool hvp_layout_resolve(HvpBtf *btf, HvpLayout *ret_layout, GError **error)
{
	HvpLayout layout;

	for (guint i = 0; i < G_N_ELEMENTS(members); i++)
		if (!resolve_member(btf, i, &layout.items[i], error))
			return false;
	for (guint i = 0; i < G_N_ELEMENTS(sizes); i++)
		if (!resolve_size(btf, i, &layout.items[FIRST_SIZE + i], error))
			return false;
	for (guint i = 0; i < G_N_ELEMENTS(enumerators); i++)
		if (!resolve_enumerator(btf, i, &layout.items[FIRST_ENUMERATOR + i], error))
			return false;
	*ret_layout = layout;
	return true;
}

guint32 hvp_layout_version(void)
{
	guint32 hash = HVP_LAYOUT_COUNT;

	for (guint i = 0; i < G_N_ELEMENTS(members); i++)
		hash = hash * 31 + g_str_hash(members[i].container) + g_str_hash(members[i].path);
	for (guint i = 0; i < G_N_ELEMENTS(sizes); i++)
		hash = hash * 31 + g_str_hash(sizes[i].container);
	for (guint i = 0; i < G_N_ELEMENTS(enumerators); i++)
		hash = hash * 31 + g_str_hash(enumerators[i].name);
	return hash;
}

static const char *item_name(HvpLayoutItem item)
{
	if (item < FIRST_SIZE)
		return members[item].container;
	if (item < FIRST_ENUMERATOR)
		return sizes[item - FIRST_SIZE].container;
	return enumerators[item - FIRST_ENUMERATOR].name;
}

bool hvp_layout_require(const HvpLayout *self, HvpLayoutItem item, GError **error)
{
	if (hvp_layout_has(self, item))
		return true;
	return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "the guest's BTF has no %s%s%s",
			     item_name(item), item < FIRST_SIZE ? "." : "",
			     item < FIRST_SIZE ? members[item].path : "");
}
