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

/* Has @method begin something, and answers 202 with what @getter has of it then. */
void hvp_forward_begin(HvpExchange *exchange, const char *method, const char *getter);
