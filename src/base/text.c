/* See text.h. */
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int text_pad(char *field, size_t size, const char *key, const char *text, struct err *reterr)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			return err_set(reterr, -EINVAL,
				       "%s: expected printable ASCII, got byte 0x%02x", key,
				       (uint8_t)text[i]);
	if (len > size)
		return err_set(reterr, -EINVAL, "%s: expected at most %zu characters, got %zu", key,
			       size, len);
	memset(field, ' ', size);
	memcpy(field, text, len);
	return 0;
}

uint64_t text_hash(uint64_t hash, const char *text)
{
	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * 0x100000001b3ull;
	return hash;
}

int text_hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

bool text_hex_read(const char **line, void *ret_bytes, size_t len)
{
	uint8_t *to = ret_bytes;

	for (size_t i = 0; i < len; i++, *line += 2) {
		int high = text_hex_digit((*line)[0]);
		int low = high < 0 ? -1 : text_hex_digit((*line)[1]);

		if (low < 0)
			return false;
		to[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

void text_hex_write(const void *bytes, size_t len, FILE *to)
{
	const uint8_t *from = bytes;

	for (size_t i = 0; i < len; i++)
		fprintf(to, "%02x", from[i]);
}

void text_uuid(const uint8_t uuid[16], char text[TEXT_UUID_BYTES])
{
	char *const end = text + TEXT_UUID_BYTES;

	for (int i = 0; i < 16; i++)
		text += snprintf(text, (size_t)(end - text), "%s%02x",
				 i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}
