#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/trace.h"

#define TRACE_RING_COUNT 256 /* power of two */

struct trace_entry {
	uint64_t time_ns;
	uint64_t a, b;
	uint32_t event;
};

static const char *const trace_names[TRACE_EVENT_COUNT] = {
#define X(n) [TRACE_##n] = #n,
	TRACE_EVENTS(X)
#undef X
};

static _Thread_local struct trace_entry trace_ring[TRACE_RING_COUNT];
static _Thread_local uint64_t trace_put_count;

void trace_put(enum trace_event ev, uint64_t a, uint64_t b)
{
	struct trace_entry *e = &trace_ring[trace_put_count++ % TRACE_RING_COUNT];
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	e->time_ns = (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec;
	e->event = ev;
	e->a = a;
	e->b = b;
}

/* printf is not async-signal-safe. */
static char *trace_hex(char *at, uint64_t v)
{
	int shift = 60;

	*at++ = ' ';
	while (shift && !(v >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		*at++ = "0123456789abcdef"[v >> shift & 15];
	return at;
}

void trace_dump(int fd)
{
	uint64_t end = trace_put_count;
	uint64_t i = end > TRACE_RING_COUNT ? end - TRACE_RING_COUNT : 0;

	for (; i < end; i++) {
		const struct trace_entry *e = &trace_ring[i % TRACE_RING_COUNT];
		char line[128] = "trace:";
		char *at = trace_hex(line + 6, e->time_ns);
		size_t len = strlen(trace_names[e->event]);

		*at++ = ' ';
		memcpy(at, trace_names[e->event], len);
		at = trace_hex(trace_hex(at + len, e->a), e->b);
		*at++ = '\n';
		if (write(fd, line, at - line) < 0)
			return;
	}
}
