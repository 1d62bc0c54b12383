/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finds out about the host and about ourselves: asks /proc, /sys, /etc and looks at files. */
#pragma once

#include "doctor/facts.h"

/*
 * Fills @facts (zeroed before) but for what libvirt knows. Changes nothing; starts QEMU once to
 * ask for its version, for 5 s at most. Never fails: what is not found stays unknown.
 */
void hvp_host_facts_gather(HvpFactsHost *facts);

/* The security modules' and KVM's part alone, from files below @root, for tests. */
void hvp_host_facts_read_below(const char *root, HvpFactsHost *facts);

/* "QEMU emulator version 7.2.22 (Debian ...)" as 7002022; 0: not told. */
gulong hvp_host_facts_parse_version(const char *text);

/* Whether a file can be made in @folder, that need not be there; else why. Takes @folder. */
HvpFactsPlace hvp_host_facts_check_folder(char *folder);
