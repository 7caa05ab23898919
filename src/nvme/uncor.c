/*
 * See uncor.h. The table is allocated whole with the first mark. A mark may take it up to
 * NVME_UNCOR_RANGES_MAX; clearing may cut ranges in two, for which there is as much room again.
 */
#include "nvme/uncor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "nvme/limits.h"

#define UNCOR_ROOM (2 * NVME_UNCOR_RANGES_MAX)

struct nvme_uncor_range {
	uint64_t lba, end; /* end: the first block behind it */
};

void nvme_uncor_init(struct nvme_uncor *u)
{
	*u = (struct nvme_uncor){ .lock = PTHREAD_MUTEX_INITIALIZER };
}

void nvme_uncor_fini(struct nvme_uncor *u)
{
	pthread_mutex_destroy(&u->lock);
	free(u->ranges);
}

bool nvme_uncor_any(struct nvme_uncor *u)
{
	bool any;

	pthread_mutex_lock(&u->lock);
	any = u->count;
	pthread_mutex_unlock(&u->lock);
	return any;
}

/* The first range that ends behind lba. */
static uint32_t uncor_at(const struct nvme_uncor *u, uint64_t lba)
{
	uint32_t lo = 0, hi = u->count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (u->ranges[mid].end > lba)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

bool nvme_uncor_hits(struct nvme_uncor *u, uint64_t lba, uint64_t count)
{
	uint32_t i;
	bool hits;

	pthread_mutex_lock(&u->lock);
	i = uncor_at(u, lba);
	hits = i < u->count && u->ranges[i].lba < lba + count;
	pthread_mutex_unlock(&u->lock);
	return hits;
}

/* Puts fresh_count ranges in the place of gone_count. There is room. */
static void uncor_replace(struct nvme_uncor *u, uint32_t at, uint32_t gone_count,
			  const struct nvme_uncor_range *fresh, uint32_t fresh_count)
{
	uint32_t behind = u->count - at - gone_count;

	memmove(u->ranges + at + fresh_count, u->ranges + at + gone_count,
		behind * sizeof(*u->ranges));
	memcpy(u->ranges + at, fresh, fresh_count * sizeof(*fresh));
	u->count = at + fresh_count + behind;
}

static bool uncor_mark_locked(struct nvme_uncor *u, uint64_t lba, uint64_t end)
{
	struct nvme_uncor_range r = { lba, end };
	uint32_t i, n = 0;

	if (!u->ranges) {
		u->ranges = malloc(UNCOR_ROOM * sizeof(*u->ranges));
		if (!u->ranges)
			return false;
		u->room = UNCOR_ROOM;
	}
	i = uncor_at(u, lba ? lba - 1 : 0); /* adjacent ones become one */
	for (; i + n < u->count && u->ranges[i + n].lba <= end; n++) {
		r.lba = MIN(r.lba, u->ranges[i + n].lba);
		r.end = MAX(r.end, u->ranges[i + n].end);
	}
	if (!n && u->count >= NVME_UNCOR_RANGES_MAX)
		return false;
	uncor_replace(u, i, n, &r, 1);
	return true;
}

bool nvme_uncor_mark(struct nvme_uncor *u, uint64_t lba, uint64_t count)
{
	bool ok;

	pthread_mutex_lock(&u->lock);
	ok = uncor_mark_locked(u, lba, lba + count);
	pthread_mutex_unlock(&u->lock);
	return ok;
}

/* What stays of the ranges that the cleared one touches is at most a piece on either side. */
static bool uncor_clear_locked(struct nvme_uncor *u, uint64_t lba, uint64_t end, bool *ret_changed)
{
	struct nvme_uncor_range stay[2];
	uint32_t i = uncor_at(u, lba), n = 0, stays = 0;

	while (i + n < u->count && u->ranges[i + n].lba < end)
		n++;
	*ret_changed = n;
	if (!n)
		return true;
	if (u->ranges[i].lba < lba)
		stay[stays++] = (struct nvme_uncor_range){ u->ranges[i].lba, lba };
	if (u->ranges[i + n - 1].end > end)
		stay[stays++] = (struct nvme_uncor_range){ end, u->ranges[i + n - 1].end };
	if (stays > n && u->count == u->room)
		return false;
	uncor_replace(u, i, n, stay, stays);
	return true;
}

bool nvme_uncor_clear(struct nvme_uncor *u, uint64_t lba, uint64_t count, bool *ret_changed)
{
	bool ok;

	pthread_mutex_lock(&u->lock);
	ok = uncor_clear_locked(u, lba, lba + count, ret_changed);
	pthread_mutex_unlock(&u->lock);
	return ok;
}

void nvme_uncor_clear_all(struct nvme_uncor *u)
{
	pthread_mutex_lock(&u->lock);
	u->count = 0;
	pthread_mutex_unlock(&u->lock);
}

/* ---- the state file ---- */

void nvme_uncor_state_write(struct nvme_uncor *u, FILE *f)
{
	pthread_mutex_lock(&u->lock);
	for (uint32_t i = 0; i < u->count; i++)
		fprintf(f, "uncorrectable %" PRIu64 " %" PRIu64 "\n", u->ranges[i].lba,
			u->ranges[i].end - u->ranges[i].lba);
	pthread_mutex_unlock(&u->lock);
}

bool nvme_uncor_state_read(struct nvme_uncor *u, const char *line)
{
	uint64_t lba, count;
	int end = 0;

	if (sscanf(line, "uncorrectable %20" SCNu64 " %20" SCNu64 "%n", &lba, &count, &end) != 2 ||
	    line[end])
		return false;
	if (!count || lba > UINT64_MAX - count)
		return false;
	return nvme_uncor_mark(u, lba, count);
}
