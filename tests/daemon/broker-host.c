/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The privileged half of hvpatch-worker alone, for tests that play the other half and are hostile:
 * broker-host JOB SECONDS serves whoever is at the other end of descriptor 3, for so long.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json-text.h"
#include "worker/broker.h"

#define MAX_DEPTH 16
#define MAX_VALUES 4096

static HvpJob *read_job(const char *text, GError **error)
{
	g_autoptr(JsonNode) node = hvp_json_text_parse_object(text, strlen(text), MAX_DEPTH,
							      MAX_VALUES, "the job", error);

	return node != NULL ? hvp_job_new(node, error) : NULL;
}

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpPlace) place = NULL;
	g_autoptr(HvpJob) job = argc == 3 ? read_job(argv[1], &error) : NULL;

	if (job != NULL)
		place = hvp_place_new(job, &error);
	if (place == NULL) {
		fprintf(stderr, "broker-host: %s\n", error ? error->message : "which job?");
		return 1;
	}
	printf("%d\n", (int)place->pid);
	fflush(stdout);
	hvp_broker_run(3, job, place, hvp_deadline_in(atoi(argv[2]) * G_USEC_PER_SEC));
	return 0;
}
