#include "cli/format.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "base/check.h"

/* Three digits, the point where it belongs: 1.23, 12.3, 123. */
static int digits(double v)
{
	return v < 9.995 ? 2 : v < 99.95 ? 1 : 0;
}

/* Divides by step while there is a larger unit; what would round up to step is divided, too. */
static size_t scale(double *v, double step, size_t unit_count)
{
	size_t unit = 0;

	while (unit + 1 < unit_count && *v >= step - 0.5) {
		*v /= step;
		unit++;
	}
	return unit;
}

static const char *const size_units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };

const char *format_size(uint64_t bytes, char *buf)
{
	double v = (double)bytes;
	size_t unit = 0;

	/* What is whole stays whole: 64 MiB, 1000 KiB. */
	while (unit + 1 < ARRAY_SIZE(size_units) && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	if (bytes < 1024) {
		snprintf(buf, FORMAT_BYTES, "%" PRIu64 " %s", bytes, size_units[unit]);
		return buf;
	}
	unit = scale(&v, 1024, ARRAY_SIZE(size_units));
	snprintf(buf, FORMAT_BYTES, "%.*f %s", digits(v), v, size_units[unit]);
	return buf;
}

const char *format_bandwidth(double bytes_per_s, char *buf)
{
	double v = bytes_per_s;
	const size_t unit = scale(&v, 1024, ARRAY_SIZE(size_units));

	if (bytes_per_s < 0.5)
		snprintf(buf, FORMAT_BYTES, "0");
	else
		snprintf(buf, FORMAT_BYTES, "%.*f %s/s", unit ? digits(v) : 0, v, size_units[unit]);
	return buf;
}

const char *format_rate(double per_s, char *buf)
{
	static const char *const units[] = { "", "k", "M", "G" };
	double v = per_s;
	const size_t unit = scale(&v, 1000, ARRAY_SIZE(units));

	if (per_s < 0.05)
		snprintf(buf, FORMAT_BYTES, "0");
	else
		snprintf(buf, FORMAT_BYTES, "%.*f%s", unit ? digits(v) : v < 9.95, v, units[unit]);
	return buf;
}

const char *format_ns(uint64_t ns, char *buf)
{
	static const char *const units[] = { "ns", "us", "ms", "s" };
	double v = (double)ns;
	const size_t unit = scale(&v, 1000, ARRAY_SIZE(units));

	if (!ns)
		snprintf(buf, FORMAT_BYTES, "-");
	else
		snprintf(buf, FORMAT_BYTES, "%.*f %s", unit ? digits(v) : 0, v, units[unit]);
	return buf;
}

const char *format_percent(double percent, char *buf)
{
	if (percent < 0)
		snprintf(buf, FORMAT_BYTES, "-");
	else
		snprintf(buf, FORMAT_BYTES, "%.0f %%", percent);
	return buf;
}
