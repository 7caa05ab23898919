/* See gpt.h: the bytes of a table. UEFI 2.10, 5.3. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/types.h"
#include "blk/blk_impl.h"
#include "blk/filter/gpt.h"

#define GPT_MBR_ENTRIES	 446
#define GPT_MBR_TYPE	 0xee
#define GPT_HEADER_BYTES 92
#define GPT_ENTRY_BYTES	 128

/* Table 5-5 */
struct gpt_wire_header {
	char signature[8];
	struct le32 revision, header_bytes, crc, reserved;
	struct le64 lba, alternate_lba, first_lba, last_lba;
	uint8_t disk[GPT_GUID_BYTES];
	struct le64 entries_lba;
	struct le32 entry_count, entry_bytes, entries_crc;
} __attribute__((packed));
_Static_assert(sizeof(struct gpt_wire_header) == GPT_HEADER_BYTES, "gpt_wire_header");

/* Table 5-6 */
struct gpt_wire_entry {
	uint8_t type[GPT_GUID_BYTES], unique[GPT_GUID_BYTES];
	struct le64 first_lba, last_lba, attributes;
	struct le16 name[GPT_NAME_UNITS];
} __attribute__((packed));
_Static_assert(sizeof(struct gpt_wire_entry) == GPT_ENTRY_BYTES, "gpt_wire_entry");

uint32_t gpt_crc(const void *p, uint64_t len)
{
	static const uint32_t nibbles[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
		0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
		0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};
	const uint8_t *at = p;
	uint32_t crc = UINT32_MAX;

	for (uint64_t i = 0; i < len; i++) {
		crc ^= at[i];
		crc = crc >> 4 ^ nibbles[crc & 15];
		crc = crc >> 4 ^ nibbles[crc & 15];
	}
	return ~crc;
}

bool gpt_mbr_protects(const uint8_t *block)
{
	if (block[510] != 0x55 || block[511] != 0xaa)
		return false;
	for (int i = 0; i < 4; i++)
		if (block[GPT_MBR_ENTRIES + 16 * i + 4] == GPT_MBR_TYPE)
			return true;
	return false;
}

/* On disk the first three fields are little-endian (UEFI 2.10, appendix A). */
static void guid_from_wire(const uint8_t *wire, uint8_t guid[GPT_GUID_BYTES])
{
	static const uint8_t at[GPT_GUID_BYTES] = { 3, 2, 1,  0,  5,  4,  7,  6,
						    8, 9, 10, 11, 12, 13, 14, 15 };

	for (int i = 0; i < GPT_GUID_BYTES; i++)
		guid[i] = wire[at[i]];
}

static uint32_t header_crc(const uint8_t *block, uint32_t header_bytes)
{
	static const uint8_t none[4];
	uint8_t copy[GPT_HEADER_BYTES];
	uint32_t rest = header_bytes - GPT_HEADER_BYTES;
	uint8_t *whole = NULL;
	uint32_t crc;

	memcpy(copy, block, sizeof(copy));
	memcpy(copy + offsetof(struct gpt_wire_header, crc), none, sizeof(none));
	if (!rest)
		return gpt_crc(copy, sizeof(copy));
	whole = malloc(header_bytes);
	if (!whole)
		return 0;
	memcpy(whole, copy, sizeof(copy));
	memcpy(whole + sizeof(copy), block + sizeof(copy), rest);
	crc = gpt_crc(whole, header_bytes);
	free(whole);
	return crc;
}

uint64_t gpt_entries_bytes(const struct gpt_header *h, uint32_t block_bytes)
{
	return num_round_up((uint64_t)h->entry_count * h->entry_bytes, (uint64_t)block_bytes);
}

/* Do the entries lie on the disk, apart from headers and parts? */
static int entries_check(const struct gpt_header *h, uint32_t block_bytes, uint64_t lba,
			 uint64_t blocks, struct err *reterr)
{
	uint64_t n;

	if (!h->entry_count || h->entry_count > GPT_ENTRIES_MAX)
		return err_set(reterr, -EINVAL, "%u entries: expected 1 to %u", h->entry_count,
			       GPT_ENTRIES_MAX);
	if (h->entry_bytes < GPT_ENTRY_BYTES || h->entry_bytes > GPT_ENTRY_BYTES_MAX ||
	    !num_is_pow2(h->entry_bytes))
		return err_set(reterr, -EINVAL,
			       "entries of %u bytes: expected a power of two, %u to %u",
			       h->entry_bytes, GPT_ENTRY_BYTES, GPT_ENTRY_BYTES_MAX);
	n = gpt_entries_bytes(h, block_bytes) / block_bytes;
	if (h->entries_lba < 2 || !num_range_ok(h->entries_lba, n, blocks))
		return err_set(reterr, -EINVAL, "entries at block %llu of %llu",
			       (unsigned long long)h->entries_lba, (unsigned long long)blocks);
	if (lba >= h->entries_lba && lba < h->entries_lba + n)
		return err_set(reterr, -EINVAL, "entries at block %llu are over the header",
			       (unsigned long long)h->entries_lba);
	if (h->entries_lba <= h->last_lba && h->entries_lba + n > h->first_lba)
		return err_set(reterr, -EINVAL, "entries at block %llu are among the parts",
			       (unsigned long long)h->entries_lba);
	return 0;
}

int gpt_header_parse(const uint8_t *block, uint32_t block_bytes, uint64_t lba, uint64_t blocks,
		     struct gpt_header *ret_header, struct err *reterr)
{
	const struct gpt_wire_header *w = (const struct gpt_wire_header *)block;
	uint32_t header_bytes = le32_get(w->header_bytes);
	struct gpt_header h = {
		.alternate_lba = le64_get(w->alternate_lba),
		.first_lba = le64_get(w->first_lba),
		.last_lba = le64_get(w->last_lba),
		.entries_lba = le64_get(w->entries_lba),
		.entry_count = le32_get(w->entry_count),
		.entry_bytes = le32_get(w->entry_bytes),
		.entries_crc = le32_get(w->entries_crc),
	};
	int r;

	if (memcmp(w->signature, "EFI PART", sizeof(w->signature)) != 0)
		return err_set(reterr, -EINVAL, "no header in block %llu", (unsigned long long)lba);
	if (header_bytes < GPT_HEADER_BYTES || header_bytes > block_bytes)
		return err_set(reterr, -EINVAL, "header of %u bytes: expected %u to %u",
			       header_bytes, GPT_HEADER_BYTES, block_bytes);
	if (header_crc(block, header_bytes) != le32_get(w->crc))
		return err_set(reterr, -EINVAL, "header in block %llu: wrong checksum",
			       (unsigned long long)lba);
	if (le64_get(w->lba) != lba)
		return err_set(reterr, -EINVAL, "header in block %llu says that it is in %llu",
			       (unsigned long long)lba, (unsigned long long)le64_get(w->lba));
	if (h.first_lba > h.last_lba || h.last_lba >= blocks)
		return err_set(reterr, -EINVAL, "usable blocks %llu to %llu of %llu",
			       (unsigned long long)h.first_lba, (unsigned long long)h.last_lba,
			       (unsigned long long)blocks);
	r = entries_check(&h, block_bytes, lba, blocks, reterr);
	if (r < 0)
		return r;
	guid_from_wire(w->disk, h.disk);
	*ret_header = h;
	return 0;
}

/* ---- entries ---- */

static char *utf8_put(char *to, uint32_t c)
{
	if (c < 0x80) {
		*to++ = (char)c;
	} else if (c < 0x800) {
		*to++ = (char)(0xc0 | c >> 6);
		*to++ = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		*to++ = (char)(0xe0 | c >> 12);
		*to++ = (char)(0x80 | (c >> 6 & 0x3f));
		*to++ = (char)(0x80 | (c & 0x3f));
	} else {
		*to++ = (char)(0xf0 | c >> 18);
		*to++ = (char)(0x80 | (c >> 12 & 0x3f));
		*to++ = (char)(0x80 | (c >> 6 & 0x3f));
		*to++ = (char)(0x80 | (c & 0x3f));
	}
	return to;
}

/* UTF-16 to UTF-8; half a pair becomes U+FFFD. Three bytes a unit are enough. */
static void name_from_wire(const struct gpt_wire_entry *w, char name[GPT_NAME_BYTES])
{
	for (uint32_t i = 0; i < GPT_NAME_UNITS; i++) {
		uint32_t c = le16_get(w->name[i]);
		uint32_t low = i + 1 < GPT_NAME_UNITS ? le16_get(w->name[i + 1]) : 0;

		if (!c)
			break;
		if (c >= 0xd800 && c < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
			i++;
		} else if (c >= 0xd800 && c < 0xe000) {
			c = 0xfffd;
		}
		name = utf8_put(name, c);
	}
	*name = '\0';
}

static int entry_parse(const struct gpt_header *h, const struct gpt_wire_entry *w,
		       uint32_t block_bytes, struct gpt_part *part, struct err *reterr)
{
	uint64_t first = le64_get(w->first_lba), last = le64_get(w->last_lba);

	if (first < h->first_lba || last > h->last_lba || first > last)
		return err_set(reterr, -EINVAL,
			       "part %u: blocks %llu to %llu are not within %llu to %llu",
			       part->number, (unsigned long long)first, (unsigned long long)last,
			       (unsigned long long)h->first_lba, (unsigned long long)h->last_lba);
	guid_from_wire(w->type, part->type);
	guid_from_wire(w->unique, part->unique);
	part->attributes = le64_get(w->attributes);
	part->start_bytes = first * block_bytes;
	part->length_bytes = (last - first + 1) * block_bytes;
	name_from_wire(w, part->name);
	return 0;
}

static int overlap_check(const struct gpt_table *t, const struct gpt_part *part, struct err *reterr)
{
	for (uint32_t i = 0; i < t->count; i++) {
		const struct gpt_part *other = &t->parts[i];

		if (part->start_bytes < other->start_bytes + other->length_bytes &&
		    other->start_bytes < part->start_bytes + part->length_bytes)
			return err_set(reterr, -EINVAL, "parts %u and %u overlap", other->number,
				       part->number);
	}
	return 0;
}

int gpt_entries_parse(const struct gpt_header *h, const uint8_t *entries, uint32_t block_bytes,
		      struct gpt_table *table, struct err *reterr)
{
	static const uint8_t unused[GPT_GUID_BYTES];

	if (gpt_crc(entries, (uint64_t)h->entry_count * h->entry_bytes) != h->entries_crc)
		return err_set(reterr, -EINVAL, "entries at block %llu: wrong checksum",
			       (unsigned long long)h->entries_lba);
	memcpy(table->disk, h->disk, sizeof(table->disk));
	table->count = 0;
	for (uint32_t i = 0; i < h->entry_count; i++) {
		const uint8_t *at = entries + (size_t)i * h->entry_bytes;
		struct gpt_part *part = &table->parts[table->count];
		int r;

		if (!memcmp(at, unused, sizeof(unused)))
			continue;
		part->number = i + 1;
		r = entry_parse(h, (const struct gpt_wire_entry *)at, block_bytes, part, reterr);
		if (r == 0)
			r = overlap_check(table, part, reterr);
		if (r < 0)
			return r;
		table->count++;
	}
	return 0;
}
