// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Three functions at once. /proc/meminfo shows what si_meminfo and si_swapinfo
 * say: the new si_meminfo hides 256 pages of RAM, the new si_swapinfo shows 256
 * pages of swap. Either all old or all new, MemTotal + SwapTotal is the same;
 * with one of them alone it is off by 1024 kB. Those two have to change together.
 *
 * The third is meminfo_proc_show, which calls both. Being in the patch, it
 * keeps a task that stands between the two calls from being switched there;
 * its line "Hvpatch:" says which version the reader got. (sysinfo(2) calls them
 * too, and may be switched in between: its notrace caller cannot be patched.)
 *
 * programs/hvp_mixcheck.c looks for a mix, as fast as it can.
 *
 * Entries on 6.12: si_swapinfo has a sealed ENDBR64, the others a live one.
 */
#include "hvp_patch.h"

#include <linux/mm.h>
#include <linux/seq_file.h>
#include <linux/vmstat.h>

#define MOVED_PAGES 256

/* As the original, but for the moved pages and bufferram (not exported). */
static void hvp_si_meminfo(struct sysinfo *info)
{
	info->totalram = totalram_pages() - MOVED_PAGES;
	info->sharedram = global_node_page_state(NR_SHMEM);
	info->freeram = global_zone_page_state(NR_FREE_PAGES);
	info->bufferram = 0;
	info->totalhigh = 0;
	info->freehigh = 0;
	info->mem_unit = PAGE_SIZE;
}

/* Test guests have no swap of their own. */
static void hvp_si_swapinfo(struct sysinfo *info)
{
	info->totalswap = MOVED_PAGES;
	info->freeswap = MOVED_PAGES;
}

static void show_line(struct seq_file *m, const char *name, unsigned long pages)
{
	seq_printf(m, "%-16s%8lu kB\n", name, pages << (PAGE_SHIFT - 10));
}

static int hvp_meminfo_proc_show(struct seq_file *m, void *v)
{
	struct sysinfo info = {};

	/* By its own name: the new one is reached only through the patched entry. */
	si_meminfo(&info);
	hvp_si_swapinfo(&info);
	show_line(m, "MemTotal:", info.totalram);
	show_line(m, "MemFree:", info.freeram);
	show_line(m, "MemAvailable:", si_mem_available());
	show_line(m, "SwapTotal:", info.totalswap);
	show_line(m, "SwapFree:", info.freeswap);
	show_line(m, "Hvpatch:", 1);
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "si_meminfo", .new_func = hvp_si_meminfo },
	{ .old_name = "si_swapinfo", .new_func = hvp_si_swapinfo },
	{ .old_name = "meminfo_proc_show", .new_func = hvp_meminfo_proc_show },
	{ }
};

HVP_PATCH_VMLINUX(funcs);
