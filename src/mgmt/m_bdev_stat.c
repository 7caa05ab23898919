/*
 * bdev_get_iostat, histograms, and the sampling of queue depths. Times are nanoseconds, so the tick
 * rate is 1,000,000,000.
 *
 * A histogram is told in SPDK's buckets: a range for each power of two, of 2^granularity buckets.
 * What is counted here is a power of two; it is told in the last bucket of its range, so that no
 * percentile looks better than it was.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/num.h"
#include "mgmt/exchange.h"
#include "mgmt/framework.h"
#include "mgmt/m_bdev.h"
#include "mgmt/tables.h"

#define TICK_RATE 1000000000

static json_t *integer(uint64_t value)
{
	return json_integer((json_int_t)value);
}

/* ---- bdev_get_iostat ---- */

enum reset_mode {
	RESET_NONE,
	RESET_ALL,
	RESET_MAXMIN,
	RESET_ERROR,
};
static const char *const reset_modes[] = { "none", "all", "maxmin", "error", NULL };

/* A copy between places of a bdev is nothing that a back-end is asked for. */
static const struct {
	const char *name, *bytes, *ops;
	int op; /* enum blk_op; -1: none */
} iostat_ops[] = {
	{ "read", "bytes_read", "num_read_ops", BLK_READ },
	{ "write", "bytes_written", "num_write_ops", BLK_WRITE },
	{ "unmap", "bytes_unmapped", "num_unmap_ops", BLK_DISCARD },
	{ "copy", "bytes_copied", "num_copy_ops", -1 },
};

static const char *const error_names[BLK_ST_COUNT] = {
	[BLK_ST_IOERR] = "failed",	  [BLK_ST_UNSUPP] = "not_supported",
	[BLK_ST_RANGE] = "out_of_range",  [BLK_ST_ALIGN] = "not_aligned",
	[BLK_ST_READ_ONLY] = "read_only", [BLK_ST_NO_SPACE] = "no_space",
	[BLK_ST_ABORTED] = "aborted",	  [BLK_ST_GONE] = "gone",
	[BLK_ST_NVME] = "nvme_error",
};

static void latency_add(json_t *o, const char *prefix, const char *op, uint64_t ns)
{
	char key[48];

	snprintf(key, sizeof(key), "%s%s_latency_ticks", prefix, op);
	json_object_set_new(o, key, integer(ns));
}

/* errors: told so many too many; NULL: 0. */
static void counters_add(json_t *o, const struct blk_stats *s, const uint64_t *errors)
{
	json_t *io_error = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(iostat_ops); i++) {
		const int op = iostat_ops[i].op;

		json_object_set_new(o, iostat_ops[i].bytes, integer(op < 0 ? 0 : s->bytes[op]));
		json_object_set_new(o, iostat_ops[i].ops, integer(op < 0 ? 0 : s->ops[op]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(iostat_ops); i++) {
		const char *name = iostat_ops[i].name;
		const int op = iostat_ops[i].op;

		latency_add(o, "", name, op < 0 ? 0 : s->latency_ns[op]);
		latency_add(o, "max_", name, op < 0 ? 0 : s->max_ns[op]);
		latency_add(o, "min_", name, op < 0 ? 0 : s->min_ns[op]);
	}
	for (int st = 0; st < BLK_ST_COUNT; st++) {
		uint64_t count = s->errors[st] - (errors ? MIN(errors[st], s->errors[st]) : 0);

		if (error_names[st] && count)
			json_object_set_new(io_error, error_names[st], integer(count));
	}
	json_object_set_new(o, "io_error", io_error);
}

static void reset(struct bdev *bdev, enum reset_mode mode)
{
	struct m_bdev_stat *stat = m_bdev_stat_of(bdev);
	struct blk_stats s;

	switch (mode) {
	case RESET_NONE:
		break;
	case RESET_ALL:
		blk_dev_iostat_reset(bdev->dev, false);
		memset(stat->errors, 0, sizeof(stat->errors));
		break;
	case RESET_MAXMIN:
		blk_dev_iostat_reset(bdev->dev, true);
		break;
	case RESET_ERROR:
		blk_dev_iostat(bdev->dev, &s);
		memcpy(stat->errors, s.errors, sizeof(stat->errors));
		break;
	}
}

static json_t *iostat_one(struct bdev *bdev)
{
	const struct m_bdev_stat *stat = m_bdev_stat_of(bdev);
	json_t *o = json_pack("{s:s}", "name", bdev->name);
	struct blk_stats s;

	blk_dev_iostat(bdev->dev, &s);
	counters_add(o, &s, stat->errors);
	if (stat->qd_period_us) {
		json_object_set_new(o, "queue_depth_polling_period", integer(stat->qd_period_us));
		json_object_set_new(o, "queue_depth", integer(stat->qd));
		json_object_set_new(o, "io_time", integer(stat->qd_io_time_us));
		json_object_set_new(o, "weighted_io_time", integer(stat->qd_weighted_us));
	}
	return o;
}

static void channel_add(void *arg, const struct loop *loop, const struct blk_stats *stats)
{
	json_t *o = json_pack("{s:I}", "thread_id", (json_int_t)framework_thread_id(loop));

	counters_add(o, stats, NULL);
	json_array_append_new(arg, o);
}

struct get_iostat {
	bool per_channel;
	int reset_mode;
};

static const struct opts_row get_iostat_rows[] = {
	{ "names", OPTS_JSON, .help = "names or UUIDs; default: all" },
	{ "per_channel", OPTS_BOOL, offsetof(struct get_iostat, per_channel), .def = "false",
	  .help = "of each loop; names must have one" },
	{ "reset_mode", OPTS_ENUM, offsetof(struct get_iostat, reset_mode), .names = reset_modes,
	  .def = "none", .help = "what starts anew afterwards" },
};
static const struct opts_table get_iostat_table = { "bdev_get_iostat", get_iostat_rows,
						    ARRAY_SIZE(get_iostat_rows) };

static int names_check(const json_t *names, struct err *reterr)
{
	struct bdev *bdev;
	json_t *name;
	size_t i;
	int rc;

	json_array_foreach((json_t *)names, i, name)
	{
		if (!json_is_string(name))
			return err_set(reterr, -EINVAL, "names[%zu]: expected a string", i);
		rc = m_bdev_find(json_string_value(name), NULL, &bdev, reterr);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void iostat_channels(struct rpc_call *call, struct bdev *bdev, enum reset_mode mode)
{
	json_t *channels = json_array();

	blk_dev_iostat_each(bdev->dev, channel_add, channels);
	reset(bdev, mode);
	rpc_result(call, json_pack("{s:i, s:I, s:s, s:o}", "tick_rate", TICK_RATE, "ticks",
				   (json_int_t)loop_clock_ns(), "name", bdev->name, "channels",
				   channels));
}

static void get_iostat(struct rpc_call *call, void *params)
{
	const struct get_iostat *p = params;
	const json_t *names = rpc_param(call, "names");
	json_t *bdevs, *name;
	struct err err = { 0 };
	struct bdev *bdev = NULL;
	size_t i;
	int rc = 0;

	if (p->reset_mode != RESET_NONE && call->ex && !call->ex->admin) {
		rpc_error(call, RPC_INVALID_STATE,
			  "reset_mode: this socket is read-only, and a reset changes something: "
			  "use the socket that --rpc-socket names");
		return;
	}
	if (names && !json_is_array(names))
		rc = err_set(&err, -EINVAL, "names: expected an array, got an object");
	else if (p->per_channel && json_array_size(names) != 1)
		rc = err_set(&err, -EINVAL, "per_channel: expected one bdev in names, got %zu",
			     json_array_size(names));
	if (rc == 0)
		rc = names_check(names, &err);
	if (rc < 0) {
		rpc_fail(call, rc, &err);
		return;
	}
	if (p->per_channel) {
		bdev = bdev_find(json_string_value(json_array_get(names, 0)));
		iostat_channels(call, bdev, p->reset_mode);
		return;
	}
	bdevs = json_array();
	json_array_foreach((json_t *)names, i, name)
	{
		bdev = bdev_find(json_string_value(name));
		json_array_append_new(bdevs, iostat_one(bdev));
		reset(bdev, p->reset_mode);
	}
	while (!names && (bdev = bdev_next(bdev))) {
		json_array_append_new(bdevs, iostat_one(bdev));
		reset(bdev, p->reset_mode);
	}
	rpc_result(call, json_pack("{s:i, s:I, s:o}", "tick_rate", TICK_RATE, "ticks",
				   (json_int_t)loop_clock_ns(), "bdevs", bdevs));
}

struct reset_iostat {
	char *name;
	int mode;
};

static const struct opts_row reset_iostat_rows[] = {
	{ "name", OPTS_STR, offsetof(struct reset_iostat, name), .help = "default: all" },
	{ "mode", OPTS_ENUM, offsetof(struct reset_iostat, mode), .names = reset_modes,
	  .def = "all", .help = "what starts anew" },
};
static const struct opts_table reset_iostat_table = { "bdev_reset_iostat", reset_iostat_rows,
						      ARRAY_SIZE(reset_iostat_rows) };

static void reset_iostat(struct rpc_call *call, void *params)
{
	const struct reset_iostat *p = params;
	struct err err = { 0 };
	struct bdev *bdev = NULL;
	int rc = p->name ? m_bdev_find(p->name, NULL, &bdev, &err) : 0;

	if (rc < 0) {
		rpc_fail(call, rc, &err);
		return;
	}
	if (bdev)
		reset(bdev, p->mode);
	else
		while ((bdev = bdev_next(bdev)))
			reset(bdev, p->mode);
	rpc_result_true(call);
}

/* ---- histograms ---- */

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

static void enable_histogram(struct rpc_call *call, void *params)
{
	const struct histogram *p = params;
	struct m_bdev_stat *stat;
	struct err err = { 0 };
	struct bdev *bdev;
	int op, rc = m_bdev_find(p->name, NULL, &bdev, &err);

	if (rc == 0)
		rc = histogram_op(p->opc, &op, &err);
	if (rc == 0 && p->enable && p->min_nsec >= p->max_nsec)
		rc = err_set(&err, -EINVAL, "min_nsec: expected less than max_nsec, %llu, got %llu",
			     (unsigned long long)p->max_nsec, (unsigned long long)p->min_nsec);
	if (rc < 0) {
		rpc_fail(call, rc, &err);
		return;
	}
	stat = m_bdev_stat_of(bdev);
	stat->hist_on = p->enable;
	if (p->enable) {
		blk_dev_stats(bdev->dev, &stat->hist);
		stat->hist_op = op;
		stat->hist_granularity = p->granularity;
		stat->hist_min_ns = p->min_nsec;
		stat->hist_max_ns = p->max_nsec;
	}
	rpc_result_true(call);
}

/* In which of SPDK's ranges ns is: 0 is all below 2^granularity, each further is a power of two. */
static uint32_t range_of(uint64_t ns, uint32_t granularity)
{
	uint32_t log2 = 63 - (uint32_t)__builtin_clzll(ns | 1);

	return log2 < granularity ? 0 : log2 - granularity + 1;
}

/* What was counted since it was enabled, of log2 bucket i. */
static uint64_t hist_count(const struct m_bdev_stat *stat, const struct blk_stats *now, int i)
{
	uint64_t count = 0;

	for (int op = 0; op < BLK_OP_COUNT; op++)
		if (stat->hist_op < 0 || stat->hist_op == op)
			count += now->hist[op][i] - stat->hist.hist[op][i];
	return count;
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

/* The last bucket, of those from min_range on, that bucket i of ours is in. */
static size_t bucket_of(int i, uint32_t granularity, uint32_t min_range, uint32_t max_range)
{
	const uint32_t range = range_of(1ull << i, granularity);

	if (range < min_range)
		return 0;
	if (range > max_range)
		return ((size_t)(max_range - min_range + 1) << granularity) - 1;
	if (range == 0)
		return (2ull << i) - 1;
	return ((size_t)(range - min_range + 1) << granularity) - 1;
}

static json_t *histogram_pack(struct bdev *bdev)
{
	const struct m_bdev_stat *stat = m_bdev_stat_of(bdev);
	const uint32_t g = stat->hist_granularity;
	const uint32_t first = range_of(stat->hist_min_ns, g),
		       last = range_of(stat->hist_max_ns, g);
	const size_t count = (size_t)(last - first + 1) << g;
	uint64_t *buckets = calloc(count, sizeof(*buckets));
	struct blk_stats now;
	json_t *o;

	if (!buckets)
		return NULL;
	blk_dev_stats(bdev->dev, &now);
	for (int i = 0; i < BLK_HIST_BUCKETS; i++)
		buckets[bucket_of(i, g, first, last)] += hist_count(stat, &now, i);
	o = json_pack("{s:o, s:I, s:I, s:I, s:i}", "histogram",
		      base64((const uint8_t *)buckets, count * sizeof(*buckets)), "granularity",
		      (json_int_t)g, "min_range", (json_int_t)first, "max_range", (json_int_t)last,
		      "tsc_rate", TICK_RATE);
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
	else if (!m_bdev_stat_of(*ret_bdev)->hist_on)
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
	const struct m_bdev_stat *stat;
	struct blk_stats now;
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
	stat = m_bdev_stat_of(bdev);
	counts = calloc(n + 1, sizeof(*counts));
	all = counts ? json_array() : NULL;
	blk_dev_stats(bdev->dev, &now);
	for (int i = 0; all && i < BLK_HIST_BUCKETS; i++) {
		const json_int_t longest = (2ll << i) - 1;
		size_t at = 0;

		while (at < n && longest >= json_integer_value(json_array_get(borders, at)))
			at++;
		counts[at] += hist_count(stat, &now, i);
	}
	for (size_t i = 0; all && i <= n; i++)
		json_array_append_new(all, integer(counts[i]));
	free(counts);
	rpc_result(call, all ? json_pack("{s:o}", "borders_count", all) : NULL);
}

/* ---- queue depth ---- */

#define QD_PERIOD_MIN_US 1000

struct sampling {
	char *name;
	uint64_t period;
};

static const struct opts_row qd_sampling_rows[] = {
	{ "name", OPTS_STR, offsetof(struct sampling, name), .help = "name or UUID of a bdev",
	  .required = true },
	{ .name = "period",
	  .type = OPTS_U64,
	  .offset = offsetof(struct sampling, period),
	  .max = 3600000000,
	  .help = "microseconds, rounded up to 1000; 0: off",
	  .required = true },
};
static const struct opts_table qd_sampling_table = { "bdev_set_qd_sampling_period",
						     qd_sampling_rows,
						     ARRAY_SIZE(qd_sampling_rows) };

static void qd_on_timer(struct loop_timer *t)
{
	struct m_bdev_stat *stat = container_of(t, struct m_bdev_stat, qd_timer);
	struct loop *loop = loop_current();
	struct blk_stats s;

	if (!stat->qd_bdev->dev)
		return;
	blk_dev_stats(stat->qd_bdev->dev, &s);
	stat->qd = s.in_flight;
	if (stat->qd)
		stat->qd_io_time_us += stat->qd_period_us;
	stat->qd_weighted_us += stat->qd * stat->qd_period_us;
	loop_timer_start(loop, t, loop_now_ns(loop) + stat->qd_period_us * 1000);
}

void m_bdev_stat_stop(struct m_bdev_stat *stat)
{
	if (stat->qd_period_us)
		loop_timer_stop(&stat->qd_timer);
	stat->qd_period_us = 0;
}

static void set_qd_sampling(struct rpc_call *call, void *params)
{
	const struct sampling *p = params;
	struct loop *loop = framework_get()->main_loop;
	struct m_bdev_stat *stat;
	struct err err = { 0 };
	struct bdev *bdev;
	int rc = m_bdev_find(p->name, NULL, &bdev, &err);

	if (rc < 0) {
		rpc_fail(call, rc, &err);
		return;
	}
	stat = m_bdev_stat_of(bdev);
	m_bdev_stat_stop(stat);
	stat->qd = stat->qd_io_time_us = stat->qd_weighted_us = 0;
	if (p->period && loop) {
		stat->qd_bdev = bdev;
		stat->qd_period_us = MAX(p->period, (uint64_t)QD_PERIOD_MIN_US);
		loop_timer_init(&stat->qd_timer, qd_on_timer);
		loop_timer_start(loop, &stat->qd_timer,
				 loop_now_ns(loop) + stat->qd_period_us * 1000);
	}
	rpc_result_true(call);
}

const struct rpc_method m_bdev_stat[] = {
	{ "bdev_get_iostat", "get_bdevs_iostat", &get_iostat_table, sizeof(struct get_iostat),
	  RPC_READS, 0, get_iostat, "counters and latencies of bdevs",
	  "{tick_rate, ticks, bdevs: [{name, bytes_read, num_read_ops, ...}, ...]}; per_channel: "
	  "{tick_rate, ticks, name, channels: [{thread_id, ...}, ...]}" },
	{ "bdev_reset_iostat", NULL, &reset_iostat_table, sizeof(struct reset_iostat), 0, 0,
	  reset_iostat, "lets counters of bdevs start anew", "true" },
	{ "bdev_enable_histogram", "enable_bdev_histogram", &enable_histogram_table,
	  sizeof(struct histogram), 0, 0, enable_histogram,
	  "begins or ends a histogram of latencies", "true" },
	{ "bdev_get_histogram", "get_bdev_histogram", &get_histogram_table,
	  sizeof(struct m_bdev_name), RPC_READS, 0, get_histogram,
	  "latencies since bdev_enable_histogram, in SPDK's buckets; counted are powers of two of "
	  "nanoseconds, each told in the last bucket of its range",
	  "{histogram: base64 of 64-bit numbers, granularity, min_range, max_range, tsc_rate}" },
	{ "bdev_get_histogram_borders", NULL, &histogram_borders_table, sizeof(struct m_bdev_name),
	  RPC_READS, 0, get_histogram_borders,
	  "how many latencies were below the first border, between two, and from the last on; a "
	  "power of two of nanoseconds counts as its end",
	  "{borders_count: [number, ...]}" },
	{ "bdev_set_qd_sampling_period", "set_bdev_qd_sampling_period", &qd_sampling_table,
	  sizeof(struct sampling), 0, 0, set_qd_sampling,
	  "samples the queue depth, which bdev_get_iostat then tells", "true" },
	{ NULL },
};
