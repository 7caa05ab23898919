/* Blocks marked by Write Uncorrectable: the table, and its lines in the state file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nvme/limits.h"
#include "nvme/uncor.h"

/* The table as text, lines joined. */
static void assert_text(struct nvme_uncor *u, const char *expected)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	nvme_uncor_state_write(u, f);
	fclose(f);
	assert_string_equal(text, expected);
	free(text);
}

static void marks_that_touch_become_one(void **state)
{
	struct nvme_uncor u;

	nvme_uncor_init(&u);
	assert_false(nvme_uncor_any(&u));
	assert_true(nvme_uncor_mark(&u, 10, 5));
	assert_true(nvme_uncor_mark(&u, 30, 5));
	assert_true(nvme_uncor_mark(&u, 0, 1));
	assert_text(&u, "uncorrectable 0 1\nuncorrectable 10 5\nuncorrectable 30 5\n");
	assert_true(nvme_uncor_mark(&u, 15, 2)); /* adjacent */
	assert_true(nvme_uncor_mark(&u, 9, 1));
	assert_text(&u, "uncorrectable 0 1\nuncorrectable 9 8\nuncorrectable 30 5\n");
	assert_true(nvme_uncor_mark(&u, 12, 20)); /* overlaps two */
	assert_text(&u, "uncorrectable 0 1\nuncorrectable 9 26\n");
	assert_true(nvme_uncor_mark(&u, 1, 100)); /* swallows, and touches */
	assert_text(&u, "uncorrectable 0 101\n");
	assert_true(nvme_uncor_mark(&u, 50, 1)); /* inside */
	assert_text(&u, "uncorrectable 0 101\n");
	nvme_uncor_fini(&u);
}

static void reads_hit_what_overlaps_and_nothing_else(void **state)
{
	struct nvme_uncor u;

	nvme_uncor_init(&u);
	assert_false(nvme_uncor_hits(&u, 0, UINT64_MAX));
	nvme_uncor_mark(&u, 10, 5);
	nvme_uncor_mark(&u, 20, 1);
	assert_false(nvme_uncor_hits(&u, 0, 10));
	assert_true(nvme_uncor_hits(&u, 0, 11));
	assert_true(nvme_uncor_hits(&u, 14, 1));
	assert_false(nvme_uncor_hits(&u, 15, 5));
	assert_true(nvme_uncor_hits(&u, 15, 6));
	assert_true(nvme_uncor_hits(&u, 0, 100));
	assert_false(nvme_uncor_hits(&u, 21, 100));
	nvme_uncor_fini(&u);
}

static void clearing_cuts_trims_and_removes(void **state)
{
	struct nvme_uncor u;
	bool changed;

	nvme_uncor_init(&u);
	nvme_uncor_mark(&u, 10, 10);
	assert_true(nvme_uncor_clear(&u, 0, 10, &changed));
	assert_false(changed);
	assert_true(nvme_uncor_clear(&u, 14, 2, &changed));
	assert_true(changed);
	assert_text(&u, "uncorrectable 10 4\nuncorrectable 16 4\n");
	assert_true(nvme_uncor_clear(&u, 12, 6, &changed));
	assert_text(&u, "uncorrectable 10 2\nuncorrectable 18 2\n");
	assert_true(nvme_uncor_clear(&u, 10, 1, &changed));
	assert_text(&u, "uncorrectable 11 1\nuncorrectable 18 2\n");
	assert_true(nvme_uncor_clear(&u, 0, 1000, &changed));
	assert_true(changed);
	assert_false(nvme_uncor_any(&u));
	nvme_uncor_mark(&u, 5, 5);
	nvme_uncor_clear_all(&u);
	assert_false(nvme_uncor_any(&u));
	nvme_uncor_fini(&u);
}

static void too_many_ranges_are_refused_and_nothing_is_lost(void **state)
{
	struct nvme_uncor u;
	bool changed;

	nvme_uncor_init(&u);
	for (uint64_t i = 0; i < NVME_UNCOR_RANGES_MAX; i++)
		assert_true(nvme_uncor_mark(&u, i * 10, 5));
	assert_false(nvme_uncor_mark(&u, 1000000, 1));
	assert_false(nvme_uncor_hits(&u, 1000000, 1));
	assert_true(nvme_uncor_mark(&u, 5, 1)); /* joins one that is there */
	/* clearing may cut each of them once */
	for (uint64_t i = 0; i < NVME_UNCOR_RANGES_MAX; i++)
		assert_true(nvme_uncor_clear(&u, i * 10 + 2, 1, &changed));
	assert_false(nvme_uncor_clear(&u, 4, 1, &changed)); /* cuts again: no room */
	assert_true(nvme_uncor_hits(&u, 4, 1));
	assert_true(nvme_uncor_clear(&u, 13, 1, &changed)); /* trims */
	nvme_uncor_fini(&u);
}

static void lines_are_read_back_and_wrong_ones_refused(void **state)
{
	static const char *const wrong[] = {
		"uncorrectable",	   "uncorrectable 1",
		"uncorrectable 1 0",	   "uncorrectable 1 2 3",
		"uncorrectable -1x 2",	   "uncorrectable 18446744073709551615 2",
		"uncorrectable 1 2 ",	   "correctable 1 2",
		"uncorrectable 0x10 0x20", "",
	};
	struct nvme_uncor u;

	nvme_uncor_init(&u);
	assert_true(nvme_uncor_state_read(&u, "uncorrectable 10 5"));
	assert_true(nvme_uncor_state_read(&u, "uncorrectable 15 5"));
	assert_text(&u, "uncorrectable 10 10\n");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		if (nvme_uncor_state_read(&u, wrong[i]))
			fail_msg("accepted: %s", wrong[i]);
	assert_text(&u, "uncorrectable 10 10\n");
	nvme_uncor_fini(&u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(marks_that_touch_become_one),
		cmocka_unit_test(reads_hit_what_overlaps_and_nothing_else),
		cmocka_unit_test(clearing_cuts_trims_and_removes),
		cmocka_unit_test(too_many_ranges_are_refused_and_nothing_is_lost),
		cmocka_unit_test(lines_are_read_back_and_wrong_ones_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
