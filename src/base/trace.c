#include <stdatomic.h>
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
#define X(g, n) [TRACE_##n] = #n,
	TRACE_EVENTS(X)
#undef X
};

static const char *const trace_groups[TRACE_GROUP_COUNT] = {
#define X(g) [TRACE_GROUP_##g] = #g,
	TRACE_GROUPS(X)
#undef X
};

static _Atomic uint64_t trace_enabled = (1ull << TRACE_EVENT_COUNT) - 1;
static _Atomic uint64_t trace_since_ns;
static _Thread_local struct trace_entry trace_ring[TRACE_RING_COUNT];
static _Thread_local uint64_t trace_put_count;

const char *trace_group_name(enum trace_group group)
{
	return trace_groups[group];
}

uint64_t trace_group_events(enum trace_group group)
{
	static const uint8_t groups[TRACE_EVENT_COUNT] = {
#define X(g, n) [TRACE_##n] = TRACE_GROUP_##g,
		TRACE_EVENTS(X)
#undef X
	};
	uint64_t mask = 0;

	for (uint32_t i = 0; i < TRACE_EVENT_COUNT; i++)
		if (groups[i] == group)
			mask |= 1ull << i;
	return mask;
}

uint64_t trace_mask(void)
{
	return atomic_load_explicit(&trace_enabled, memory_order_relaxed);
}

void trace_mask_set(uint64_t mask)
{
	atomic_store_explicit(&trace_enabled, mask, memory_order_relaxed);
}

static uint64_t trace_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec;
}

void trace_clear(void)
{
	atomic_store_explicit(&trace_since_ns, trace_now_ns(), memory_order_relaxed);
}

void trace_put(enum trace_event ev, uint64_t a, uint64_t b)
{
	struct trace_entry *e;

	if (!(trace_mask() >> ev & 1))
		return;
	e = &trace_ring[trace_put_count++ % TRACE_RING_COUNT];
	e->time_ns = trace_now_ns();
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

		if (e->time_ns < atomic_load_explicit(&trace_since_ns, memory_order_relaxed))
			continue;
		*at++ = ' ';
		memcpy(at, trace_names[e->event], len);
		at = trace_hex(trace_hex(at + len, e->a), e->b);
		*at++ = '\n';
		if (write(fd, line, at - line) < 0)
			return;
	}
}
