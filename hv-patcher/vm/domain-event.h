/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What may happen to a libvirt domain, as far as its patches are concerned. */
#pragma once

typedef enum {
	HVP_DOMAIN_EVENT_SEEN,	      /* it runs, and did so before we looked */
	HVP_DOMAIN_EVENT_STARTED,     /* another kernel boots */
	HVP_DOMAIN_EVENT_RESTORED,    /* from a saved state */
	HVP_DOMAIN_EVENT_MIGRATED_IN, /* from another host */
	HVP_DOMAIN_EVENT_REVERTED,    /* to a snapshot */
	HVP_DOMAIN_EVENT_REWOUND,     /* goes on from a snapshot; said behind a restore, too */
	HVP_DOMAIN_EVENT_RESUMED,     /* it goes on */
	HVP_DOMAIN_EVENT_REBOOTED,    /* its machine was reset */
	HVP_DOMAIN_EVENT_PANICKED,     /* its kernel; kept, or started again in a moment */
	HVP_DOMAIN_EVENT_CRASHED,      /* and was ended for that, or QEMU was */
	HVP_DOMAIN_EVENT_STOPPED,      /* it has no memory any more */
	HVP_DOMAIN_EVENT_MIGRATED_OUT, /* its memory is elsewhere, or in a file */
	HVP_DOMAIN_EVENT_NOTED,	       /* somebody wrote its metadata */
	HVP_DOMAIN_EVENT_JOB_ENDED,    /* of libvirt: migration, save, backup */
	HVP_DOMAIN_EVENT_OTHER,	       /* of no concern */
	HVP_DOMAIN_EVENT_COUNT
} HvpDomainEvent;
