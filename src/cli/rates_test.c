#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cli/rates.h"

static json_t *load(const char *text)
{
	json_error_t detail;
	json_t *v = json_loads(text, 0, &detail);

	if (!v)
		fail_msg("%s: %s", detail.text, text);
	return v;
}

/* ---- percentiles ---- */

static void percentiles_of_one_bucket_are_inside_it(void **state)
{
	struct hist h = { .count = { [10] = 100 } };

	assert_int_equal(hist_percentile(&h, 50000), 1024 + 512);
	assert_in_range(hist_percentile(&h, 99000), 1024, 2048);
	assert_int_equal(hist_percentile(&h, 100000), 2048);
	assert_int_equal(hist_total(&h), 100);
}

static void a_percentile_is_where_its_rank_is(void **state)
{
	struct hist h = { .count = { [10] = 990, [20] = 10 } };

	assert_in_range(hist_percentile(&h, 50000), 1024, 2048);
	assert_in_range(hist_percentile(&h, 99000), 1024, 2048);
	assert_in_range(hist_percentile(&h, 99100), 1 << 20, 1 << 21);
	assert_in_range(hist_percentile(&h, 99900), 1 << 20, 1 << 21);
}

static void no_request_has_no_latency(void **state)
{
	struct hist h = { .count = { 0 } };

	assert_int_equal(hist_percentile(&h, 50000), 0);
}

static void a_histogram_may_be_of_any_length_and_kind(void **state)
{
	json_t *longer = json_array(), *other = load("[1, -2, \"x\", null, 2.5, 3]");
	struct hist h = { .count = { 0 } };

	for (int i = 0; i < HIST_BUCKETS + 10; i++)
		json_array_append_new(longer, json_integer(1));
	hist_add_json(&h, longer);
	assert_int_equal(h.count[HIST_BUCKETS - 1], 11);
	memset(&h, 0, sizeof(h));
	hist_add_json(&h, other);
	hist_add_json(&h, NULL);
	assert_int_equal(hist_total(&h), 4);
	json_decref(longer);
	json_decref(other);
}

/* ---- rates ---- */

#define DISK(ops, bytes, hist, errors)                                                             \
	"{\"unit\": \"\", \"in_flight\": 2, \"operations\": {\"read\": {\"ops\": " ops             \
	", \"bytes\": " bytes ", \"histogram\": [" hist "]}}, \"errors\": {" errors "}}"
#define QUEUE(idx, requests, polls)                                                                \
	"{\"connection\": 0, \"queue\": " idx ", \"kind\": \"virtqueue\", \"state\": \"running\"," \
	" \"loop\": \"l0\", \"size\": 128, \"in_flight\": 1, \"oldest_ns\": 700, "                 \
	"\"requests\": " requests ", \"polls\": [" polls "]}"
#define STATS(time, name, disk, queues)                                                            \
	"{\"time_ns\": " time ", \"loops\": [{\"name\": \"l0\", \"busy_ns\": " time                \
	", \"idle_ns\": " time ", \"queues\": 1}], \"devices\": [{\"name\": \"" name               \
	"\", \"type\": \"blk\", \"state\": \"serving\", \"reconnects\": 3, \"disks\": [" disk      \
	"], \"queues\": [" queues "]}]}"

static void rates_are_differences_over_the_time_between(void **state)
{
	json_t *before = load(STATS("1000000000", "a", DISK("100", "409600", "100", ""),
				    QUEUE("0", "100", "5, 10")));
	json_t *later =
		load(STATS("3000000000", "a", DISK("300", "1228800", "100, 0, 200", "\"IOERR\": 4"),
			   QUEUE("0", "300", "5, 10, 20")));
	struct rates *r = rates_new(later, before);
	const struct rates_device *d = &r->devices[0];

	assert_int_equal(r->device_count, 1);
	assert_int_equal(r->serving_count, 1);
	assert_true(r->seconds == 2);
	assert_true(d->op[RATES_READ].iops == 100);
	assert_true(d->op[RATES_READ].bytes_per_s == 409600);
	assert_true(d->errors == 2);
	assert_int_equal(d->errors_total, 4);
	assert_int_equal(d->reconnects, 3);
	assert_int_equal(d->oldest_ns, 700);
	assert_in_range(hist_percentile(&d->op[RATES_READ].latency, 50000), 4, 8);
	assert_true(d->queues[0].requests == 100);
	assert_true(d->queues[0].batch == 2);
	assert_true(d->queues[0].empty == 0);
	assert_true(r->loops[0].busy_percent == 50);
	assert_true(r->total.all.iops == 100);
	rates_free(r);
	json_decref(before);
	json_decref(later);
}

static void what_is_new_or_began_anew_counts_from_zero(void **state)
{
	json_t *before =
		load(STATS("1000000000", "a", DISK("500", "0", "500", ""), QUEUE("0", "500", "")));
	json_t *anew = load(STATS("2000000000", "a", DISK("20", "0", "20", ""),
				  QUEUE("0", "30", "") ", " QUEUE("1", "40", "")));
	json_t *other = load(STATS("2000000000", "b", DISK("20", "0", "20", ""), ""));
	struct rates *r = rates_new(anew, before);

	assert_true(r->devices[0].op[RATES_READ].iops == 20);
	assert_true(r->devices[0].queues[0].requests == 30);
	assert_true(r->devices[0].queues[1].requests == 40);
	rates_free(r);
	r = rates_new(other, before);
	assert_true(r->devices[0].op[RATES_READ].iops == 20);
	assert_int_equal(r->devices[0].queue_count, 0);
	rates_free(r);
	json_decref(before);
	json_decref(anew);
	json_decref(other);
}

static void without_a_first_answer_sums_take_the_place_of_rates(void **state)
{
	json_t *later = load(STATS("3000000000", "a", DISK("300", "1228800", "300", ""), ""));
	struct rates *r = rates_new(later, NULL);

	assert_true(r->seconds == 0);
	assert_int_equal(r->devices[0].op[RATES_READ].ops, 300);
	assert_true(r->devices[0].op[RATES_READ].iops == 300);
	rates_free(r);
	json_decref(later);
}

static void an_answer_of_another_shape_is_empty_and_does_no_harm(void **state)
{
	static const char *const texts[] = { "[]", "{}", "{\"devices\": 7, \"loops\": {}}",
					     "{\"devices\": [1, {}, {\"disks\": [3]}]}" };

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		json_t *odd = load(texts[i]);
		struct rates *r = rates_new(odd, odd);

		rates_sort(r, RATES_BY_LATENCY);
		rates_free(r);
		json_decref(odd);
	}
}

static void devices_are_sorted_by_each_key(void **state)
{
	json_t *later = load(
		"{\"devices\": ["
		"{\"name\": \"b\", \"disks\": [" DISK(
			"5", "10", "5", "") "]},"
					    "{\"name\": \"c\", \"disks\": [" DISK(
						    "1", "90", "0,0,0,1",
						    "") "]},"
							"{\"name\": \"a\", \"disks\": [" DISK(
								"5", "1", "5", "\"X\": 1") "]}]}");
	static const char *const want[RATES_SORT_COUNT] = { "abc", "abc", "cba", "cab", "abc" };
	struct rates *r = rates_new(later, NULL);

	for (int by = 0; by < RATES_SORT_COUNT; by++) {
		rates_sort(r, (enum rates_sort)by);
		for (int i = 0; i < 3; i++)
			assert_int_equal(r->devices[i].name[0], want[by][i]);
	}
	rates_free(r);
	json_decref(later);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(percentiles_of_one_bucket_are_inside_it),
		cmocka_unit_test(a_percentile_is_where_its_rank_is),
		cmocka_unit_test(no_request_has_no_latency),
		cmocka_unit_test(a_histogram_may_be_of_any_length_and_kind),
		cmocka_unit_test(rates_are_differences_over_the_time_between),
		cmocka_unit_test(what_is_new_or_began_anew_counts_from_zero),
		cmocka_unit_test(without_a_first_answer_sums_take_the_place_of_rates),
		cmocka_unit_test(an_answer_of_another_shape_is_empty_and_does_no_harm),
		cmocka_unit_test(devices_are_sorted_by_each_key),
	};

	return cmocka_run_group_tests_name("cli / rates", tests, NULL, NULL);
}
