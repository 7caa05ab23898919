#include "scsi/cdb.h"

#include <pthread.h>

#include "base/check.h"
#include "scsi/handlers.h"

#define CDB(name, opcode, sa, len, flags, run, usage)                                              \
	{ #name, opcode, sa, len, flags, run, (const uint8_t *)usage },
const struct cdb_row cdb_rows[] = {
#include "scsi/cdb.def"
};
#undef CDB
const size_t cdb_row_count = ARRAY_SIZE(cdb_rows);

/* The first row of each opcode, + 1; the rows of one opcode are neighbours. */
static uint8_t first[256];

const struct cdb_row *cdb_plain[256];

static void first_fill(void)
{
	/* Of no ordinary command: task.c looks closer at those with this flag. */
	static const struct cdb_row other = { .len_bytes = 1, .flags = CDB_MAP };

	_Static_assert(ARRAY_SIZE(cdb_rows) < 255, "first[] is of bytes");
	for (size_t i = 0; i < ARRAY_SIZE(cdb_plain); i++)
		cdb_plain[i] = &other;
	for (size_t i = 0; i < cdb_row_count; i++) {
		if (!first[cdb_rows[i].opcode])
			first[cdb_rows[i].opcode] = (uint8_t)(i + 1);
		if (cdb_rows[i].sa == CDB_NO_SA)
			cdb_plain[cdb_rows[i].opcode] = &cdb_rows[i];
	}
}

void cdb_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, first_fill);
}

uint32_t cdb_sa_byte(uint8_t opcode)
{
	return first[opcode] && cdb_rows[first[opcode] - 1].sa != CDB_NO_SA ? 1 : 0;
}

static enum cdb_found find_sa(const uint8_t *cdb, const struct cdb_row *row,
			      const struct cdb_row **ret_row)
{
	uint8_t sa = cdb[1] & 0x1f;

	for (; row < cdb_rows + cdb_row_count && row->opcode == cdb[0]; row++) {
		if (row->sa == sa) {
			*ret_row = row;
			return CDB_FOUND;
		}
	}
	return CDB_BAD_SA;
}

enum cdb_found cdb_find(const uint8_t *cdb, const struct cdb_row **ret_row)
{
	uint8_t at = first[cdb[0]];
	const struct cdb_row *row;

	if (unlikely(!at))
		return CDB_BAD_OPCODE;
	row = &cdb_rows[at - 1];
	if (unlikely(row->sa != CDB_NO_SA))
		return find_sa(cdb, row, ret_row);
	*ret_row = row;
	return CDB_FOUND;
}
