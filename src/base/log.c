#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"

#define LOG_LINE_MAX 1024

static const struct {
	const char *name;
	int priority; /* systemd's "<N>", sd-daemon(3) */
} log_levels[] = {
	[LOG_ERROR] = { "error", 3 },	[LOG_WARNING] = { "warning", 4 },
	[LOG_NOTICE] = { "notice", 5 }, [LOG_INFO] = { "info", 6 },
	[LOG_DEBUG] = { "debug", 7 },
};

static _Atomic enum log_level log_level_max = LOG_NOTICE;
static atomic_bool log_timestamps;

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_level_max, level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
	return atomic_load_explicit(&log_level_max, memory_order_relaxed);
}

const char *log_level_name(enum log_level level)
{
	return log_levels[level].name;
}

void log_set_timestamps(bool on)
{
	atomic_store_explicit(&log_timestamps, on, memory_order_relaxed);
}

bool log_level_parse(const char *name, enum log_level *ret_level)
{
	for (size_t i = 0; i < ARRAY_SIZE(log_levels); i++) {
		if (!strcmp(log_levels[i].name, name)) {
			*ret_level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

/* What a peer wrote must not forge lines or drive a terminal. */
static void log_scrub(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
	}
}

static size_t log_time(char *buf, size_t size)
{
	struct timespec ts;
	struct tm tm;
	size_t len;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	len = strftime(buf, size, "[%F %T", &tm);
	return len + (size_t)snprintf(buf + len, size - len, ".%06ld] ", ts.tv_nsec / 1000);
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	size_t len = 0;
	va_list ap;

	if (level > log_get_level())
		return;
	if (getenv("JOURNAL_STREAM"))
		len = snprintf(line, sizeof(line), "<%d>", log_levels[level].priority);
	if (atomic_load_explicit(&log_timestamps, memory_order_relaxed))
		len += log_time(line + len, sizeof(line) - len);
	len += snprintf(line + len, sizeof(line) - len, "vhostd: ");
	va_start(ap, fmt);
	vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	va_end(ap);
	log_scrub(line + len);
	len += strlen(line + len);
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0)
		return; /* nowhere to complain to */
}

static uint64_t log_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec;
}

bool log_limit_pass(struct log_limit *l)
{
	uint64_t now = log_now_ns();

	if (!l->window_ns || now - l->window_ns >= l->interval_ns) {
		l->window_ns = now;
		l->used = 0;
	}
	if (l->used >= l->burst) {
		l->suppressed++;
		return false;
	}
	l->used++;
	if (l->suppressed) {
		log_write(LOG_WARNING, "%llu similar lines suppressed",
			  (unsigned long long)l->suppressed);
		l->suppressed = 0;
	}
	return true;
}
