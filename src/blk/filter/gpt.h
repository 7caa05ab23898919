/*
 * GPT: the partition table that any tool (sfdisk, parted, gdisk) wrote on a node. It is only read.
 *
 * The primary header must be right, its checksum and that of its entries included; if it is not,
 * the backup is looked at: where the primary says, or at the end. A disk without the protective MBR
 * has no GPT, whatever stands behind it. A table with an entry that lies outside of the usable
 * blocks, or overlaps another, is no table: parts go to different guests.
 *
 * Everything on the disk may be written by a guest: sizes are bounded before they are used.
 * Source: UEFI 2.10, 5.2.3 and 5.3
 */
#ifndef BLK_FILTER_GPT_H
#define BLK_FILTER_GPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "blk/blk.h"

#define GPT_ENTRIES_MAX	    1024
#define GPT_ENTRY_BYTES_MAX 4096
#define GPT_NAME_UNITS	    36
#define GPT_GUID_BYTES	    16
#define GPT_NAME_BYTES	    (GPT_NAME_UNITS * 3 + 1)

struct gpt_part {
	uint32_t number;				      /* from 1: its place in the table */
	uint8_t type[GPT_GUID_BYTES], unique[GPT_GUID_BYTES]; /* as text has it: RFC 9562 order */
	uint64_t attributes;
	uint64_t start_bytes, length_bytes;
	char name[GPT_NAME_BYTES]; /* UTF-8 */
};

struct gpt_table {
	uint8_t disk[GPT_GUID_BYTES];
	bool backup; /* the primary was damaged */
	uint32_t count;
	struct gpt_part parts[GPT_ENTRIES_MAX];
};

/* What a good header says of the entries, and of where parts may lie. */
struct gpt_header {
	uint8_t disk[GPT_GUID_BYTES];
	uint64_t alternate_lba, first_lba, last_lba, entries_lba;
	uint32_t entry_count, entry_bytes, entries_crc;
};

/*
 * Reads the table through a channel of its own on loop, which is the calling thread's. done once,
 * maybe before this returns: rc 0 and the table, which is done's until it returns; -ENOENT: there
 * is none; -EINVAL: both copies are damaged; -EIO: they cannot be read. err tells why. Returns 0,
 * or -ENOMEM and what blk_chan_open says without done. The caller keeps a reference on dev until
 * done. Thread: main.
 */
int blk_gpt_read(struct blk_dev *dev, struct loop *loop,
		 void (*done)(void *arg, int rc, const struct gpt_table *table,
			      const struct err *err),
		 void *arg, struct err *reterr);

/* ---- what blk_gpt_read is made of; pure, Thread: any ---- */

/* Is the first block (at least 512 bytes) a protective MBR? */
bool gpt_mbr_protects(const uint8_t *block);
/* Checks the header in a block that was read from lba, of a disk of so many blocks. -EINVAL. */
int gpt_header_parse(const uint8_t *block, uint32_t block_bytes, uint64_t lba, uint64_t blocks,
		     struct gpt_header *ret_header, struct err *reterr);
/* How much of the disk the entries are, whole blocks; at most 4 MiB. */
uint64_t gpt_entries_bytes(const struct gpt_header *h, uint32_t block_bytes);
/* entries: gpt_entries_bytes of them. Leaves table->backup as it is. -EINVAL. */
int gpt_entries_parse(const struct gpt_header *h, const uint8_t *entries, uint32_t block_bytes,
		      struct gpt_table *table, struct err *reterr);
/* The checksum of both: CRC-32 of IEEE 802.3. */
uint32_t gpt_crc(const void *p, uint64_t len);

#endif
