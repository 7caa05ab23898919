/* See names.h. */
#include "nvme/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/types.h"

/* 128 bits of the text; kind tells one sort of name from another. */
static void names_hash(uint8_t bytes[16], const char *kind, const char *text)
{
	uint64_t high = text_hash(text_hash(TEXT_HASH_START, kind), text);
	struct be64 word[2] = { be64(high), be64(text_hash(text_hash(high, kind), text)) };

	memcpy(bytes, word, sizeof(word));
}

void nvme_uuid_make(uint8_t uuid[16], const char *text)
{
	names_hash(uuid, "uuid", text);
	uuid[6] = (uint8_t)(0x80 | (uuid[6] & 0x0f)); /* version 8 */
	uuid[8] = (uint8_t)(0x80 | (uuid[8] & 0x3f)); /* variant of RFC 9562 */
}

void nvme_uuid_text(const uint8_t uuid[16], char text[NVME_UUID_TEXT_BYTES])
{
	char *at = text;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		at += snprintf(at, 3, "%02x", uuid[i]);
	}
}

bool nvme_uuid_read(const char *text, uint8_t ret_uuid[16])
{
	char again[NVME_UUID_TEXT_BYTES];
	const char *at = text;

	for (int i = 0; i < 16; i++) {
		at += *at == '-';
		if (sscanf(at, "%2" SCNx8, &ret_uuid[i]) != 1 || !at[1])
			return false;
		at += 2;
	}
	nvme_uuid_text(ret_uuid, again);
	return !strcmp(again, text);
}

void nvme_nguid_make(uint8_t nguid[16], const char *text)
{
	names_hash(nguid, "nguid", text);
	nguid[8] = (uint8_t)((nguid[8] & 0xfc) | 0x02);
}
