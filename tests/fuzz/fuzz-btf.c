/* SPDX-License-Identifier: GPL-2.0-or-later */
/* BTF of arbitrary bytes: a layout or a reason. */
#include "guest/layout.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes);

static void touch(const HvpLayout *layout)
{
	for (guint i = 0; i < HVP_LAYOUT_COUNT; i++) {
		g_autoptr(GError) error = NULL;

		if (hvp_layout_has(layout, i))
			g_assert(hvp_layout_get(layout, i) != HVP_LAYOUT_ABSENT);
		else
			g_assert(!hvp_layout_require(layout, i, &error));
	}
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes)
{
	g_autoptr(GBytes) blob = g_bytes_new_static(data, size_bytes);
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpBtf) btf = hvp_btf_new(blob, &error);
	HvpBtfMember member;
	HvpLayout layout;

	if (btf != NULL && hvp_layout_resolve(btf, &layout, &error))
		touch(&layout);
	else
		g_assert(error != NULL && error->domain == HVP_ERROR);
	if (btf != NULL)
		(void)!hvp_btf_member(btf, "task_struct", "thread.sp.x.y", &member, NULL);
	return 0;
}
