/*
 * Two answers of device_get_stats, one later than the other, as what happened in a second between
 * them: of devices, queues and loops. No I/O here.
 */
#ifndef CLI_RATES_H
#define CLI_RATES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/hist.h"

#define RATES_OPS(X)                                                                               \
	X(READ, "read")                                                                            \
	X(WRITE, "write")                                                                          \
	X(FLUSH, "flush")                                                                          \
	X(DISCARD, "discard")                                                                      \
	X(WRITE_ZEROES, "write-zeroes")                                                            \
	X(SECURE_ERASE, "secure-erase")

enum rates_op {
#define X(n, s) RATES_##n,
	RATES_OPS(X)
#undef X
	RATES_OP_COUNT
};

extern const char *const rates_op_names[RATES_OP_COUNT];

struct rates_op_sum {
	double iops, bytes_per_s;
	uint64_t ops, bytes; /* in all the time between */
	uint64_t errors;     /* that there ever were */
	struct hist latency;
};

struct rates_queue {
	const char *device, *kind, *state, *loop;
	uint64_t connection, queue, size, in_flight, oldest_ns;
	double requests, kicks, interrupts, suppressed; /* a second */
	double batch;					/* requests that a look finds; 0: none */
	double empty;					/* looks that find nothing, a second */
	/* What its requests had the disks do. Errors of `all` are also of what is no operation. */
	struct rates_op_sum op[RATES_OP_COUNT], all;
};

struct rates_device {
	const char *name, *type, *transport, *state;
	uint64_t connections, accepted, reconnects, in_flight, oldest_ns, errors_total;
	struct rates_op_sum op[RATES_OP_COUNT], all;
	double errors; /* a second */
	struct rates_queue *queues;
	uint32_t queue_count;
};

struct rates_loop {
	const char *name;
	double busy_percent; /* -1: not known */
	double iterations, sleeps, enters;
	uint64_t queues;
};

struct rates {
	double seconds; /* between the two */
	struct rates_device *devices, total;
	struct rates_loop *loops;
	uint32_t device_count, loop_count, serving_count;
};

/*
 * before NULL: since each counter began; seconds is 0 then, and what would be a rate is the sum.
 * The result has texts of later, which must stay. Owner: the caller, rates_free.
 */
struct rates *rates_new(const json_t *later, const json_t *before);
void rates_free(struct rates *r);

#define RATES_SORTS(X)                                                                             \
	X(NAME, "name")                                                                            \
	X(IOPS, "iops")                                                                            \
	X(BANDWIDTH, "bandwidth")                                                                  \
	X(LATENCY, "latency")                                                                      \
	X(ERRORS, "errors")

enum rates_sort {
#define X(n, s) RATES_BY_##n,
	RATES_SORTS(X)
#undef X
	RATES_SORT_COUNT
};

extern const char *const rates_sort_names[];

/* Devices, and the queues of each: the greatest first; equal ones, and names, in order. */
void rates_sort(struct rates *r, enum rates_sort by);

#endif
