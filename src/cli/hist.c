#include "cli/hist.h"

#include <stddef.h>

#include "base/check.h"
#include "base/num.h"

void hist_add_json(struct hist *h, const json_t *counts)
{
	for (size_t i = 0; i < json_array_size(counts); i++) {
		const json_int_t n = json_integer_value(json_array_get(counts, i));

		if (n > 0)
			h->count[MIN(i, HIST_BUCKETS - 1u)] += (uint64_t)n;
	}
}

void hist_diff(struct hist *ret, const struct hist *later, const struct hist *earlier)
{
	for (uint32_t i = 0; i < HIST_BUCKETS; i++)
		ret->count[i] = later->count[i] >= earlier->count[i]
					? later->count[i] - earlier->count[i]
					: later->count[i];
}

void hist_add(struct hist *h, const struct hist *other)
{
	for (uint32_t i = 0; i < HIST_BUCKETS; i++)
		h->count[i] += other->count[i];
}

uint64_t hist_total(const struct hist *h)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < HIST_BUCKETS; i++)
		total += h->count[i];
	return total;
}

uint64_t hist_percentile(const struct hist *h, uint32_t per_100k)
{
	const double rank = (double)hist_total(h) * per_100k / 100000;
	double below = 0;

	ASSERT(per_100k <= 100000);
	for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
		const double n = (double)h->count[i], width = (double)(1ull << i);

		if (h->count[i] && below + n >= rank)
			return (uint64_t)((i ? width : 0) +
					  MAX(rank - below, 0.0) / n * (i ? width : 2));
		below += n;
	}
	return 0;
}
