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

#include "cli/format.h"

#define SAYS(call, text) assert_string_equal(call, text)

static char buf[FORMAT_BYTES];

static void sizes_that_are_whole_stay_whole(void **state)
{
	SAYS(format_size(0, buf), "0 B");
	SAYS(format_size(512, buf), "512 B");
	SAYS(format_size(1 << 20, buf), "1 MiB");
	SAYS(format_size(1000 << 10, buf), "1000 KiB");
	SAYS(format_size(1ull << 40, buf), "1 TiB");
}

static void other_sizes_have_three_digits(void **state)
{
	SAYS(format_size(1536, buf), "1.50 KiB");
	SAYS(format_size(1023 * 1024 + 1, buf), "1023 KiB");
	SAYS(format_size(1024 * 1024 - 1, buf), "1.00 MiB");
	SAYS(format_size(12345678, buf), "11.8 MiB");
	SAYS(format_size(UINT64_MAX, buf), "16.0 EiB");
}

static void rates_are_short(void **state)
{
	SAYS(format_rate(0, buf), "0");
	SAYS(format_rate(0.5, buf), "0.5");
	SAYS(format_rate(950, buf), "950");
	SAYS(format_rate(999.6, buf), "1.00k");
	SAYS(format_rate(12345, buf), "12.3k");
	SAYS(format_rate(1.2e6, buf), "1.20M");
	SAYS(format_rate(5e12, buf), "5000G");
}

static void bandwidths_have_a_unit_unless_there_is_none(void **state)
{
	SAYS(format_bandwidth(0, buf), "0");
	SAYS(format_bandwidth(100, buf), "100 B/s");
	SAYS(format_bandwidth(1.5 * (1 << 30), buf), "1.50 GiB/s");
}

static void times_go_from_nanoseconds_to_seconds(void **state)
{
	SAYS(format_ns(0, buf), "-");
	SAYS(format_ns(850, buf), "850 ns");
	SAYS(format_ns(12345, buf), "12.3 us");
	SAYS(format_ns(4560000, buf), "4.56 ms");
	SAYS(format_ns(999999999, buf), "1.00 s");
	SAYS(format_ns(90000000000ull, buf), "90.0 s");
}

static void a_share_that_is_not_known_is_a_dash(void **state)
{
	SAYS(format_percent(-1, buf), "-");
	SAYS(format_percent(12.4, buf), "12 %");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_that_are_whole_stay_whole),
		cmocka_unit_test(other_sizes_have_three_digits),
		cmocka_unit_test(rates_are_short),
		cmocka_unit_test(bandwidths_have_a_unit_unless_there_is_none),
		cmocka_unit_test(times_go_from_nanoseconds_to_seconds),
		cmocka_unit_test(a_share_that_is_not_known_is_a_dash),
	};

	return cmocka_run_group_tests_name("cli / format", tests, NULL, NULL);
}
