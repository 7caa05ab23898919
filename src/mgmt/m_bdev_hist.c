/*
 * Histograms of latencies, in SPDK's buckets: a range for each power of two, of 2^granularity
 * buckets; what is out of min_range..max_range is told in the first bucket of all, or the last.
 *
 * Counted is with a granularity of 7 (blk/fine.h), as long as the histogram is on; told with a
 * finer one, a request is in the last bucket that it may have been in, so that no percentile looks
 * better than it was. Times are nanoseconds, so SPDK's ticks are, too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/num.h"
#include "blk/fine.h"
#include "mgmt/m_bdev.h"
#include "mgmt/tables.h"

#define TICK_RATE 1000000000

#define GRANULARITY_MAX 10

struct histogram {
	char *name, *opc;
	bool enable;
	uint32_t granularity;
	uint64_t min_nsec, max_nsec;
};

static const struct opts_row enable_histogram_rows[] = {
	{ "name", OPTS_STR, offsetof(struct histogram, name), .help = "name or UUID of a bdev",
	  .required = true },
	{ "enable", OPTS_BOOL, offsetof(struct histogram, enable), .help = "from now on",
	  .required = true },
	{ "opc", OPTS_STR, offsetof(struct histogram, opc),
	  .help = "of this operation only: read, write, flush, unmap or write_zeroes" },
	{ .name = "granularity",
	  .type = OPTS_U32,
	  .offset = offsetof(struct histogram, granularity),
	  .min = 1,
	  .max = GRANULARITY_MAX,
	  .def = "7",
	  .help = "2^granularity buckets tell each power of two" },
	{ "min_nsec", OPTS_U64, offsetof(struct histogram, min_nsec), .def = "1000",
	  .help = "what is shorter is told in the first range" },
	{ "max_nsec", OPTS_U64, offsetof(struct histogram, max_nsec), .def = "120000000000",
	  .help = "what is longer is told in the last range" },
};
static const struct opts_table enable_histogram_table = { "bdev_enable_histogram",
							  enable_histogram_rows,
							  ARRAY_SIZE(enable_histogram_rows) };

static const struct {
	const char *name;
	enum blk_op op;
} histogram_ops[] = {
	{ "read", BLK_READ },
	{ "write", BLK_WRITE },
	{ "flush", BLK_FLUSH },
	{ "unmap", BLK_DISCARD },
	{ "write_zeroes", BLK_WRITE_ZEROES },
};

static int histogram_op(const char *opc, int *ret_op, struct err *reterr)
{
	*ret_op = -1;
	if (!opc)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(histogram_ops); i++)
		if (!strcmp(histogram_ops[i].name, opc)) {
			*ret_op = histogram_ops[i].op;
			return 0;
		}
	return err_set(reterr, -EINVAL,
		       "opc: expected read, write, flush, unmap or write_zeroes, got '%.64s'", opc);
}

/* -ENOMEM, named: it is off. */
static int histogram_set(struct bdev *bdev, const struct histogram *p, int op, struct err *reterr)
{
	struct m_bdev_stat *stat = m_bdev_stat_of(bdev);
	struct blk_stats now;
	int rc;

	m_bdev_hist_stop(stat);
	rc = blk_dev_fine_set(bdev->dev, p->enable, reterr);
	if (rc < 0 || !p->enable)
		return rc;
	stat->hist = malloc(sizeof(*stat->hist));
	if (!stat->hist) {
		blk_dev_fine_set(bdev->dev, false, NULL);
		return err_set(reterr, -ENOMEM, "%s: no memory for a histogram", bdev->name);
	}
	blk_dev_fine(bdev->dev, stat->hist);
	blk_dev_stats(bdev->dev, &now);
	for (int i = 0; i < BLK_OP_COUNT; i++)
		stat->hist_short[i] = now.hist[i][0];
	stat->hist_op = op;
	stat->hist_granularity = p->granularity;
	stat->hist_min_ns = p->min_nsec;
	stat->hist_max_ns = p->max_nsec;
	return 0;
}

void m_bdev_hist_stop(struct m_bdev_stat *stat)
{
	free(stat->hist);
	stat->hist = NULL;
}

static void enable_histogram(struct rpc_call *call, void *params)
{
	const struct histogram *p = params;
	struct err err = { 0 };
	struct bdev *bdev;
	int op = -1, rc = m_bdev_find(p->name, NULL, &bdev, &err);

	if (rc == 0)
		rc = histogram_op(p->opc, &op, &err);
	if (rc == 0 && p->enable && p->min_nsec >= p->max_nsec)
		rc = err_set(&err, -EINVAL, "min_nsec: expected less than max_nsec, %llu, got %llu",
			     (unsigned long long)p->max_nsec, (unsigned long long)p->min_nsec);
	if (rc < 0) {
		rpc_fail(call, rc, &err);
		return;
	}
	rc = histogram_set(bdev, p, op, &err);
	if (rc < 0)
		rpc_fail(call, rc, &err);
	else
		rpc_result_true(call);
}

/* ---- what it says ---- */

/* What was counted since it was enabled. NULL: out of memory. Owner: the caller, free(). */
static struct blk_fine *fine_since(struct bdev *bdev)
{
	const struct m_bdev_stat *stat = m_bdev_stat_of(bdev);
	struct blk_fine *fine = malloc(sizeof(*fine));
	struct blk_stats now;

	if (!fine)
		return NULL;
	blk_dev_fine(bdev->dev, fine);
	blk_dev_stats(bdev->dev, &now);
	for (int op = 0; op < BLK_OP_COUNT; op++) {
		const bool told = stat->hist_op < 0 || stat->hist_op == op;
		uint64_t *count = fine->count[op], short_ones;

		for (uint32_t i = 0; i < BLK_FINE_BUCKETS; i++)
			count[i] = told ? count[i] - stat->hist->count[op][i] : 0;
		/* the first bucket of the others has 0 and 1 ns, and what ended at once is there */
		short_ones = now.hist[op][0] - stat->hist_short[op];
		if (told && short_ones > count[1])
			count[0] += short_ones - count[1];
	}
	return fine;
}

/* The longest latency of a bucket. */
static uint64_t fine_longest(uint32_t i)
{
	return i + 1 < BLK_FINE_BUCKETS ? blk_fine_ns(i + 1) - 1 : UINT64_MAX;
}

static uint64_t fine_count(const struct blk_fine *fine, uint32_t i)
{
	uint64_t sum = 0;

	for (int op = 0; op < BLK_OP_COUNT; op++)
		sum += fine->count[op][i];
	return sum;
}

/* In which of SPDK's ranges ns is: 0 is all below 2^granularity, each further is a power of two. */
static uint32_t range_of(uint64_t ns, uint32_t granularity)
{
	uint32_t log2 = 63 - (uint32_t)__builtin_clzll(ns | 1);

	return log2 < granularity ? 0 : log2 - granularity + 1;
}

static json_t *base64(const uint8_t *bytes, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = malloc((len + 2) / 3 * 4 + 1), *t = text;
	json_t *string;

	if (!text)
		return NULL;
	for (size_t i = 0; i < len; i += 3) {
		uint32_t v = (uint32_t)bytes[i] << 16 |
			     (i + 1 < len ? (uint32_t)bytes[i + 1] << 8 : 0) |
			     (i + 2 < len ? bytes[i + 2] : 0);

		*t++ = digits[v >> 18];
		*t++ = digits[v >> 12 & 63];
		*t++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
		*t++ = i + 2 < len ? digits[v & 63] : '=';
	}
	string = json_stringn(text, (size_t)(t - text));
	free(text);
	return string;
}

/* Of the buckets from min_range on, the one that ns is in. */
static size_t bucket_of(uint64_t ns, uint32_t granularity, uint32_t min_range, uint32_t max_range)
{
	const uint32_t range = range_of(ns, granularity);
	const uint64_t mask = (1ull << granularity) - 1;

	if (range < min_range)
		return 0;
	if (range > max_range)
		return ((size_t)(max_range - min_range + 1) << granularity) - 1;
	return ((size_t)(range - min_range) << granularity) +
	       ((range ? ns >> (range - 1) : ns) & mask);
}

static json_t *histogram_pack(struct bdev *bdev)
{
	const struct m_bdev_stat *stat = m_bdev_stat_of(bdev);
	const uint32_t g = stat->hist_granularity;
	const uint32_t first = range_of(stat->hist_min_ns, g),
		       last = range_of(stat->hist_max_ns, g);
	const size_t count = (size_t)(last - first + 1) << g;
	uint64_t *buckets = calloc(count, sizeof(*buckets));
	struct blk_fine *fine = fine_since(bdev);
	json_t *o;

	for (uint32_t i = 0; buckets && fine && i < BLK_FINE_BUCKETS; i++)
		buckets[bucket_of(fine_longest(i), g, first, last)] += fine_count(fine, i);
	if (!buckets || !fine) {
		free(fine);
		free(buckets);
		return NULL;
	}
	o = json_pack("{s:o, s:I, s:I, s:I, s:i}", "histogram",
		      base64((const uint8_t *)buckets, count * sizeof(*buckets)), "granularity",
		      (json_int_t)g, "min_range", (json_int_t)first, "max_range", (json_int_t)last,
		      "tsc_rate", TICK_RATE);
	free(fine);
	free(buckets);
	return o;
}

/* Answers the error. */
static bool histogram_find(struct rpc_call *call, const char *name, struct bdev **ret_bdev)
{
	struct err err = { 0 };
	int rc = m_bdev_find(name, NULL, ret_bdev, &err);

	if (rc < 0)
		rpc_fail(call, rc, &err);
	else if (!m_bdev_stat_of(*ret_bdev)->hist)
		rpc_error(call, RPC_INTERNAL_ERROR,
			  "name: bdev \"%s\" has no histogram; bdev_enable_histogram begins one",
			  name);
	else
		return true;
	return false;
}

static void get_histogram(struct rpc_call *call, void *params)
{
	struct bdev *bdev;

	if (histogram_find(call, ((struct m_bdev_name *)params)->name, &bdev))
		rpc_result(call, histogram_pack(bdev));
}

static const struct opts_table get_histogram_table = M_BDEV_NAME_TABLE("bdev_get_histogram");

static const struct opts_row histogram_borders_rows[] = {
	{ "name", OPTS_STR, offsetof(struct m_bdev_name, name), .help = "name or UUID of a bdev",
	  .required = true },
	{ "borders", OPTS_JSON, .help = "nanoseconds, ascending", .required = true },
};
static const struct opts_table histogram_borders_table = { "bdev_get_histogram_borders",
							   histogram_borders_rows,
							   ARRAY_SIZE(histogram_borders_rows) };

static int borders_check(const json_t *borders, struct err *reterr)
{
	json_int_t last = 0;
	json_t *border;
	size_t i;

	if (!json_is_array(borders) || !json_array_size(borders))
		return err_set(reterr, -EINVAL, "borders: expected an array of numbers");
	json_array_foreach((json_t *)borders, i, border)
	{
		if (!json_is_integer(border) || json_integer_value(border) <= last)
			return err_set(reterr, -EINVAL,
				       "borders[%zu]: expected a whole number above %lld", i,
				       (long long)last);
		last = json_integer_value(border);
	}
	return 0;
}

/* Before the first border, between two, and from the last on. */
static void get_histogram_borders(struct rpc_call *call, void *params)
{
	const json_t *borders = rpc_param(call, "borders");
	const size_t n = json_array_size(borders);
	struct blk_fine *fine;
	struct err err = { 0 };
	struct bdev *bdev;
	uint64_t *counts;
	json_t *all;

	if (!histogram_find(call, ((struct m_bdev_name *)params)->name, &bdev))
		return;
	if (borders_check(borders, &err) < 0) {
		rpc_fail(call, err.code, &err);
		return;
	}
	fine = fine_since(bdev);
	counts = calloc(n + 1, sizeof(*counts));
	all = counts && fine ? json_array() : NULL;
	for (uint32_t i = 0; all && i < BLK_FINE_BUCKETS; i++) {
		const uint64_t longest = fine_longest(i);
		size_t at = 0;

		while (at < n &&
		       longest >= (uint64_t)json_integer_value(json_array_get(borders, at)))
			at++;
		counts[at] += fine_count(fine, i);
	}
	for (size_t i = 0; all && i <= n; i++)
		json_array_append_new(all, json_integer((json_int_t)counts[i]));
	free(fine);
	free(counts);
	rpc_result(call, all ? json_pack("{s:o}", "borders_count", all) : NULL);
}

const struct rpc_method m_bdev_hist[] = {
	{ "bdev_enable_histogram", "enable_bdev_histogram", &enable_histogram_table,
	  sizeof(struct histogram), 0, 0, enable_histogram,
	  "begins or ends a histogram of latencies", "true" },
	{ "bdev_get_histogram", "get_bdev_histogram", &get_histogram_table,
	  sizeof(struct m_bdev_name), RPC_READS, 0, get_histogram,
	  "latencies since bdev_enable_histogram, in SPDK's buckets; counted with a granularity of "
	  "7, and in a finer one told in the last bucket of several",
	  "{histogram: base64 of 64-bit numbers, granularity, min_range, max_range, tsc_rate}" },
	{ "bdev_get_histogram_borders", NULL, &histogram_borders_table, sizeof(struct m_bdev_name),
	  RPC_READS, 0, get_histogram_borders,
	  "how many latencies were below the first border, between two, and from the last on; each "
	  "counts as the end of its bucket of granularity 7",
	  "{borders_count: [number, ...]}" },
	{ NULL },
};
