/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "utf8.h"

/* How the second byte is bounded, so that overlong forms and surrogates do not pass (RFC 3629). */
static void second_byte_range(unsigned char first, unsigned char *ret_low, unsigned char *ret_high)
{
	*ret_low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
	*ret_high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
}

static size_t length_by_first(unsigned char first)
{
	if (first < 0x80)
		return 1;
	if (first >= 0xc2 && first <= 0xdf)
		return 2;
	if (first >= 0xe0 && first <= 0xef)
		return 3;
	return first >= 0xf0 && first <= 0xf4 ? 4 : 0;
}

size_t agent_utf8_length(const char *text, size_t size_bytes)
{
	const unsigned char *bytes = (const unsigned char *)text;
	unsigned char low, high;
	size_t length;

	if (size_bytes == 0)
		return 0;
	length = length_by_first(bytes[0]);
	if (length > size_bytes)
		return 0;
	second_byte_range(bytes[0], &low, &high);
	for (size_t i = 1; i < length; i++) {
		if (bytes[i] < low || bytes[i] > high)
			return 0;
		low = 0x80;
		high = 0xbf;
	}
	return length;
}
