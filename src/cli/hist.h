/*
 * Latency histograms: bucket i counts requests that took 2^i to 2^(i+1) ns (bucket 0: up to 2).
 */
#ifndef CLI_HIST_H
#define CLI_HIST_H

#include <jansson.h>
#include <stdint.h>

#define HIST_BUCKETS 64

struct hist {
	uint64_t count[HIST_BUCKETS];
};

/* Adds an array of counts; what is no array of numbers adds nothing, more than HIST_BUCKETS go to
 * the last. */
void hist_add_json(struct hist *h, const json_t *counts);
/* later - earlier, bucket by bucket; a counter that went back (a new queue) counts from zero. */
void hist_diff(struct hist *ret, const struct hist *later, const struct hist *earlier);
void hist_add(struct hist *h, const struct hist *other);
uint64_t hist_total(const struct hist *h);
/*
 * The time within which so many per 100,000 requests ended, in ns, interpolated in its bucket: off
 * by at most that bucket's width. 0: no request.
 */
uint64_t hist_percentile(const struct hist *h, uint32_t per_100k);

#endif
