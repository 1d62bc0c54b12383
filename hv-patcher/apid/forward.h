/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Questions whose answer is the core's document as it is: asked in the name of the exchange's
 * principal, and, but for lists, of the id in its path.
 */
#pragma once

#include "apid/exchange.h"

/* Answers with what @method has, tagged. */
void hvp_forward_list(HvpExchange *exchange, const char *method);
void hvp_forward_get(HvpExchange *exchange, const char *method);

/*
 * Answers with what @answer, "(sb)", has of something that is @new_status where it is new, and 200
 * where it was there: at @folder and its @member, which @is_name says to be one.
 */
void hvp_forward_made(HvpExchange *exchange, GVariant *answer, guint new_status, const char *folder,
		      const char *member, bool (*is_name)(const char *text));

/* Has @method begin something, and answers 202 with what it says of that. */
void hvp_forward_begin(HvpExchange *exchange, const char *method);
