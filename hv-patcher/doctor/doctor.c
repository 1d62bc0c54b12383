/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "doctor/doctor.h"

#include "doctor/host-items.h"
#include "doctor/vm-items.h"

GPtrArray *hvp_doctor_examine(const HvpFactsHost *host, const HvpFactsVm *vm)
{
	GPtrArray *items = hvp_item_list_new();

	hvp_host_items_add(items, host, vm);
	if (vm != NULL)
		hvp_vm_items_add(items, host, vm);
	return items;
}

bool hvp_doctor_is_healthy(const GPtrArray *items)
{
	return hvp_doctor_get_exit_status(items) == 0;
}

static int exit_status_of(const HvpItem *item)
{
	g_autoptr(GError) error = NULL;

	if (item->state != HVP_ITEM_MISSING)
		return 0;
	error = g_error_new_literal(HVP_ERROR, (int)item->code, "");
	return hvp_error_exit_status(error);
}

int hvp_doctor_get_exit_status(const GPtrArray *items)
{
	static const int order[] = { 5, 3, 1, 4 };
	int any = 0;

	for (gsize i = 0; i < G_N_ELEMENTS(order); i++)
		for (guint j = 0; j < items->len; j++) {
			int status = exit_status_of(g_ptr_array_index(items, j));

			if (status == order[i])
				return status;
			any = status != 0 ? 1 : any;
		}
	return any;
}
