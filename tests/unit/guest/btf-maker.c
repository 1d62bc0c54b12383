/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "btf-maker.h"

#include "base/bytes.h"

#include <string.h>

#define HEADER_BYTES 24U
#define MAX_LEAVES 64U
/* Every member has room for a list's two pointers, and none begins a struct. */
#define LEAF_BYTES 16U

struct BtfMaker {
	GByteArray *types;
	GByteArray *strings;
	guint32 count;
};

BtfMaker *btf_maker_new(void)
{
	BtfMaker *self = g_new0(BtfMaker, 1);

	self->types = g_byte_array_new();
	self->strings = g_byte_array_new();
	g_byte_array_append(self->strings, (const guint8 *)"", 1);
	return self;
}

void btf_maker_free(BtfMaker *self)
{
	if (self == NULL)
		return;
	g_byte_array_unref(self->types);
	g_byte_array_unref(self->strings);
	g_free(self);
}

static void append_u32(GByteArray *bytes, guint32 value)
{
	guint8 word[4];

	hvp_store_u32(word, value);
	g_byte_array_append(bytes, word, sizeof word);
}

guint32 btf_maker_string(BtfMaker *self, const char *text)
{
	guint32 offset = self->strings->len;

	if (text == NULL)
		return 0;
	g_byte_array_append(self->strings, (const guint8 *)text, (guint)strlen(text) + 1);
	return offset;
}

guint32 btf_maker_type(BtfMaker *self, const char *name, guint kind, guint32 vlen,
		       guint32 size_or_type, const guint32 *tail, guint tail_words)
{
	append_u32(self->types, btf_maker_string(self, name));
	append_u32(self->types, kind << 24 | vlen);
	append_u32(self->types, size_or_type);
	for (guint i = 0; i < tail_words; i++)
		append_u32(self->types, tail[i]);
	return ++self->count;
}

guint32 btf_maker_next(BtfMaker *self)
{
	return self->count + 1;
}

guint32 btf_maker_int(BtfMaker *self, guint32 size_bytes)
{
	guint32 encoding = size_bytes * 8;

	return btf_maker_type(self, "int", BTF_INT, 0, size_bytes, &encoding, 1);
}

guint32 btf_maker_array(BtfMaker *self, guint32 type, guint32 count)
{
	const guint32 tail[] = { type, type, count };

	return btf_maker_type(self, NULL, BTF_ARRAY, 0, 0, tail, 3);
}

guint32 btf_maker_struct(BtfMaker *self, const char *name, guint kind, guint32 size_bytes,
			 const BtfMakerMember *members, guint count)
{
	guint32 flag = 0;

	for (guint i = 0; i < count; i++)
		if (members[i].bits != 0)
			flag = 1U << 7;
	btf_maker_type(self, name, kind | flag, count, size_bytes, NULL, 0);
	for (guint i = 0; i < count; i++) {
		append_u32(self->types, btf_maker_string(self, members[i].name));
		append_u32(self->types, members[i].type);
		append_u32(self->types, members[i].bit | members[i].bits << 24);
	}
	return self->count;
}

guint32 btf_maker_enum(BtfMaker *self, const char *const *names, const gint64 *values, guint count)
{
	btf_maker_type(self, "an_enum", BTF_ENUM64, count, 8, NULL, 0);
	for (guint i = 0; i < count; i++) {
		append_u32(self->types, btf_maker_string(self, names[i]));
		append_u32(self->types, (guint32)values[i]);
		append_u32(self->types, (guint32)((guint64)values[i] >> 32));
	}
	return self->count;
}

GBytes *btf_maker_finish(BtfMaker *self)
{
	GByteArray *blob = g_byte_array_new();

	append_u32(blob, 0x0001eb9f);
	append_u32(blob, HEADER_BYTES);
	append_u32(blob, 0);
	append_u32(blob, self->types->len);
	append_u32(blob, self->types->len);
	append_u32(blob, self->strings->len);
	g_byte_array_append(blob, self->types->data, self->types->len);
	g_byte_array_append(blob, self->strings->data, self->strings->len);
	return g_byte_array_free_to_bytes(blob);
}

/* Members that are not where the others' scheme would put them. */
static const struct {
	const char *container;
	const char *path;
	guint32 bit;
	guint32 bits;
} places[] = {
	{ "pt_regs", "r13", 16 * 8, 0 },
	{ "pt_regs", "bp", 32 * 8, 0 },
	{ "pt_regs", "r10", 56 * 8, 0 },
	{ "pt_regs", "dx", 96 * 8, 0 },
	{ "pt_regs", "si", 104 * 8, 0 },
	{ "pt_regs", "di", 112 * 8, 0 },
	{ "pt_regs", "ip", 128 * 8, 0 },
	{ "pt_regs", "cs", 136 * 8, 0 },
	{ "pt_regs", "sp", 152 * 8, 0 },
	{ "inactive_task_frame", "bp", 40 * 8, 0 },
	{ "orc_entry", "sp_offset", 0, 0 },
	{ "orc_entry", "bp_offset", 16, 0 },
	{ "orc_entry", "sp_reg", 32, 4 },
	{ "orc_entry", "bp_reg", 36, 4 },
	{ "orc_entry", "type", 40, 3 },
	{ "orc_entry", "signal", 43, 1 },
	{ "orc_entry", "end", 44, 1 },
	{ "jump_entry", "code", 0, 0 },
	{ "static_call_site", "addr", 0, 0 },
	{ "exception_table_entry", "insn", 0, 0 },
	{ "inactive_task_frame", "ret_addr", 48 * 8, 0 },
	/* Before the node of what holds it, where a struct within another has a gap. */
	{ "sched_rt_entity", "my_q", 8 * 8, 0 },
	{ "sched_dl_entity", "dl_server", 8 * 8 + 3, 1 },
	{ "rb_node", "rb_right", 0, 0 },
	{ "rb_node", "rb_left", 8 * 8, 0 },
};

static const struct {
	const char *name;
	guint32 bytes;
} fixed_sizes[] = {
	{ "pt_regs", 168 },   { "inactive_task_frame", 56 }, { "orc_entry", 6 },
	{ "jump_entry", 16 }, { "static_call_site", 8 },     { "exception_table_entry", 12 },
};

static const struct {
	const char *name;
	gint64 value;
} fixed_values[] = {
	{ "MODULE_STATE_LIVE", 0 }, { "MODULE_STATE_UNFORMED", 3 }, { "SYSTEM_RUNNING", 2 },
	{ "MOD_TEXT", 0 },	    { "MOD_INIT_TEXT", 4 },	     { "KTHREAD_SHOULD_PARK", 2 },
	{ "WORKER_IDLE", 4 },
};

/* "struct.member", "struct" or enumerator that only some generations have. */
static const char *const only_6_1[] = { "orc_entry.end", "module.core_layout", "module.init_layout",
					NULL };
static const char *const only_6_12[] = { "orc_entry.signal",
					 "module.mem",
					 "module_memory",
					 "pcpu_hot",
					 "MOD_TEXT",
					 "MOD_INIT_TEXT",
					 "rq.scx",
					 "task_struct.scx",
					 "sched_dl_entity.dl_server",
					 NULL };
static const char *const only_rt[] = { "mutex.rtmutex", NULL };
static const char *const not_rt[] = { "mutex.owner", NULL };

/* Whether one of @list is @item or what @item is part of. */
static bool listed(const char *const *list, const char *item)
{
	for (guint i = 0; list[i] != NULL; i++) {
		gsize length = strlen(list[i]);

		if (strncmp(list[i], item, length) == 0 &&
		    (item[length] == 0 || item[length] == '.'))
			return true;
	}
	return false;
}

typedef struct {
	BtfMaker *maker;
	Generation generation;
	const char *missing;
	guint32 word, name, comm, memory;
} Kernel;

static bool wanted(const Kernel *self, const char *item)
{
	const char *const missing[] = { self->missing, NULL };

	return !listed(missing, item) &&
	       !listed(self->generation == GENERATION_6_12_RT ? not_rt : only_rt, item) &&
	       !listed(self->generation == GENERATION_6_1 ? only_6_12 : only_6_1, item);
}

static guint32 leaf_type(const Kernel *self, const char *container, const char *name)
{
	if (strcmp(name, "comm") == 0)
		return self->comm;
	if (strcmp(container, "module") == 0 && strcmp(name, "name") == 0)
		return self->name;
	if (strcmp(container, "module") == 0 && strcmp(name, "mem") == 0)
		return self->memory;
	return self->word;
}

/* Bytes from the start of @container where the next member may lie. */
static guint32 place(const char *container, const char *name, guint32 end, BtfMakerMember *member)
{
	for (guint i = 0; i < G_N_ELEMENTS(places); i++)
		if (strcmp(places[i].container, container) == 0 &&
		    strcmp(places[i].path, name) == 0) {
			member->bit = places[i].bit;
			member->bits = places[i].bits;
			return end;
		}
	member->bit = end * 8;
	if (strcmp(container, "module") == 0 && strcmp(name, "name") == 0)
		return end + 64;
	if (strcmp(container, "module") == 0 && strcmp(name, "mem") == 0)
		return end + 7 * 64;
	return end + LEAF_BYTES;
}

static guint32 size_of(const char *container, guint32 end)
{
	for (guint i = 0; i < G_N_ELEMENTS(fixed_sizes); i++)
		if (strcmp(fixed_sizes[i].name, container) == 0)
			return fixed_sizes[i].bytes;
	/* Arrays of structs have strides of their own. */
	return strcmp(container, "module_memory") == 0 ? 64 : end;
}

static const struct {
	const char *container;
	const char *path;
} items[] = {
#define X(id, container, path, required) { container, path },
	HVP_LAYOUT_MEMBERS(X)
#undef X
};

static bool has_member(const BtfMakerMember *members, guint count, const char *name)
{
	for (guint i = 0; i < count; i++)
		if (strcmp(members[i].name, name) == 0)
			return true;
	return false;
}

/* A struct of all members of @container whose path begins with "@prefix."; its size. */
static guint32 make_inner(Kernel *self, const char *container, const char *prefix, guint32 *ret_id)
{
	g_autoptr(GStringChunk) names = g_string_chunk_new(64);
	BtfMakerMember members[MAX_LEAVES] = { 0 };
	guint32 end = 8;
	guint count = 0;

	for (guint i = 0; i < G_N_ELEMENTS(items); i++) {
		g_autofree char *item = g_strdup_printf("%s.%s", container, items[i].path);
		const char *rest, *name;
		gsize length;

		if (strcmp(items[i].container, container) != 0 || !wanted(self, item) ||
		    !g_str_has_prefix(items[i].path, prefix) ||
		    items[i].path[strlen(prefix)] != '.')
			continue;
		rest = items[i].path + strlen(prefix) + 1;
		length = strcspn(rest, ".");
		name = g_string_chunk_insert_len(names, rest, (gssize)length);
		if (has_member(members, count, name))
			continue;
		g_assert(count < MAX_LEAVES);
		members[count] = (BtfMakerMember){ name, self->word, end * 8, 0 };
		if (rest[length] == '.') {
			g_autofree char *longer = g_strdup_printf("%s.%s", prefix, name);

			end += make_inner(self, container, longer, &members[count].type);
		} else {
			end += LEAF_BYTES;
		}
		count++;
	}
	*ret_id = btf_maker_struct(self->maker, NULL, BTF_STRUCT, end, members, count);
	return end;
}

static void make_container(Kernel *self, const char *container, GStringChunk *names)
{
	BtfMakerMember members[MAX_LEAVES] = { 0 };
	guint32 end = LEAF_BYTES;
	guint count = 0;

	for (guint i = 0; i < G_N_ELEMENTS(items); i++) {
		g_autofree char *item = g_strdup_printf("%s.%s", container, items[i].path);
		gsize length = strcspn(items[i].path, ".");
		const char *name = g_string_chunk_insert_len(names, items[i].path, (gssize)length);

		if (strcmp(items[i].container, container) != 0 || !wanted(self, item) ||
		    has_member(members, count, name))
			continue;
		g_assert(count < MAX_LEAVES);
		members[count].name = name;
		if (items[i].path[length] == '.') {
			members[count].bit = end * 8;
			end += make_inner(self, container, name, &members[count].type);
		} else {
			members[count].type = leaf_type(self, container, name);
			end = place(container, name, end, &members[count]);
		}
		count++;
	}
	btf_maker_struct(self->maker, container, BTF_STRUCT, size_of(container, end), members,
			 count);
}

static void make_enumerators(Kernel *self)
{
	static const char *const all[] = {
#define X(id, name, required) name,
		HVP_LAYOUT_ENUMERATORS(X)
#undef X
	};
	const char *names[G_N_ELEMENTS(all)];
	gint64 values[G_N_ELEMENTS(all)];
	guint count = 0;

	for (guint i = 0; i < G_N_ELEMENTS(all); i++) {
		if (!wanted(self, all[i]))
			continue;
		names[count] = all[i];
		values[count] = 1LL << (16 + i % 12);
		for (guint k = 0; k < G_N_ELEMENTS(fixed_values); k++)
			if (strcmp(fixed_values[k].name, all[i]) == 0)
				values[count] = fixed_values[k].value;
		count++;
	}
	btf_maker_enum(self->maker, names, values, count);
}

GBytes *btf_maker_kernel(Generation generation, const char *missing)
{
	static const char *const sizes[] = {
#define X(id, container, required) container,
		HVP_LAYOUT_SIZES(X)
#undef X
	};
	g_autoptr(BtfMaker) maker = btf_maker_new();
	g_autoptr(GHashTable) made = g_hash_table_new(g_str_hash, g_str_equal);
	g_autoptr(GStringChunk) names = g_string_chunk_new(1024);
	Kernel self = { .maker = maker, .generation = generation, .missing = missing };

	self.word = btf_maker_int(maker, 8);
	self.name = btf_maker_array(maker, self.word, 56);
	self.comm = btf_maker_array(maker, self.word, 16);
	self.memory = btf_maker_array(maker, self.word, 7);
	for (guint i = 0; i < G_N_ELEMENTS(items) + G_N_ELEMENTS(sizes); i++) {
		const char *container = i < G_N_ELEMENTS(items) ? items[i].container
								: sizes[i - G_N_ELEMENTS(items)];

		if (g_hash_table_add(made, (gpointer)container) && wanted(&self, container))
			make_container(&self, container, names);
	}
	make_enumerators(&self);
	return btf_maker_finish(maker);
}
