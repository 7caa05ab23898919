/*
 * libFuzzer: a disk whose partition table a guest wrote. The input is the disk, from its first
 * block on; the first byte says the block size, and whether checksums are made right, of the
 * headers or of the entries too, since nothing would be looked at otherwise. Whatever comes, the
 * parts lie within the usable blocks and apart.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "blk/filter/gpt.h"

#define BLOCKS_MAX 64
#define CRC_AT	   16
#define BYTES_AT   12
#define ENTRY_CRC  88

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

static struct gpt_table table;

static void put32(uint8_t *at, uint32_t v)
{
	memcpy(at, &v, sizeof(v));
}

static void sign_header(uint8_t *header, uint32_t block_bytes)
{
	uint32_t bytes;

	memcpy(&bytes, header + BYTES_AT, sizeof(bytes));
	put32(header + CRC_AT, 0);
	if (bytes <= block_bytes)
		put32(header + CRC_AT, gpt_crc(header, bytes));
}

static void refused(int rc, const struct err *err)
{
	ASSERT(rc == -22 && err->code == rc && err->msg[0]);
	ASSERT(memchr(err->msg, '\0', sizeof(err->msg)));
}

static void table_expected(const struct gpt_header *h, uint32_t block_bytes)
{
	ASSERT(table.count <= h->entry_count && h->entry_count <= GPT_ENTRIES_MAX);
	for (uint32_t i = 0; i < table.count; i++) {
		const struct gpt_part *p = &table.parts[i];

		ASSERT(p->length_bytes && p->number >= 1 && p->number <= h->entry_count);
		ASSERT(p->start_bytes >= h->first_lba * block_bytes);
		ASSERT(p->start_bytes + p->length_bytes <= (h->last_lba + 1) * block_bytes);
		ASSERT(memchr(p->name, '\0', sizeof(p->name)));
		for (uint32_t j = 0; j < i; j++) {
			const struct gpt_part *q = &table.parts[j];

			ASSERT(p->start_bytes + p->length_bytes <= q->start_bytes ||
			       q->start_bytes + q->length_bytes <= p->start_bytes);
		}
	}
}

static void fuzz_lba(uint8_t *disk, uint32_t block_bytes, uint64_t blocks, uint64_t lba,
		     bool sign_entries)
{
	uint8_t *header = disk + lba * block_bytes;
	struct gpt_header h;
	struct err err = { 0 };
	int rc = gpt_header_parse(header, block_bytes, lba, blocks, &h, &err);

	if (rc < 0) {
		refused(rc, &err);
		return;
	}
	ASSERT(h.entries_lba * block_bytes + gpt_entries_bytes(&h, block_bytes) <=
	       blocks * block_bytes);
	if (sign_entries)
		h.entries_crc = gpt_crc(disk + h.entries_lba * block_bytes,
					(uint64_t)h.entry_count * h.entry_bytes);
	rc = gpt_entries_parse(&h, disk + h.entries_lba * block_bytes, block_bytes, &table, &err);
	if (rc < 0)
		refused(rc, &err);
	else
		table_expected(&h, block_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	uint32_t block_bytes = 512;
	uint64_t blocks;
	uint8_t *disk;

	if (len < 2)
		return 0;
	if (in[0] & 1)
		block_bytes = 4096;
	blocks = (len - 1) / block_bytes;
	if (blocks < 2 || blocks > BLOCKS_MAX)
		return 0;
	/* as long as it is, so that a look beyond its end is seen */
	disk = malloc(blocks * block_bytes);
	ASSERT(disk);
	memcpy(disk, in + 1, blocks * block_bytes);
	gpt_mbr_protects(disk);
	if (in[0] & 2) {
		sign_header(disk + block_bytes, block_bytes);
		sign_header(disk + (blocks - 1) * block_bytes, block_bytes);
	}
	fuzz_lba(disk, block_bytes, blocks, 1, in[0] & 4);
	fuzz_lba(disk, block_bytes, blocks, blocks - 1, in[0] & 4);
	free(disk);
	return 0;
}
