/*
 * Everything that is counted, at one moment: taken on main, read by whoever holds it.
 *
 * Taking one copies counters and looks at what main owns; nothing waits, and the data loops are not
 * asked. Making text of it, which takes longer, is the reader's thread's.
 */
#ifndef MGMT_SNAPSHOT_H
#define MGMT_SNAPSHOT_H

#include <stdint.h>

#include "blk/blk.h"
#include "dev/device.h"
#include "loop/loop.h"
#include "loop/queue_stats.h"
#include "mgmt/jobs.h"

#define SNAP_DEVICE_STATES(X)                                                                      \
	X(DISCONNECTED, "disconnected") /* no front-end */                                         \
	X(CONNECTED, "connected")	/* a front-end, but no queue runs */                       \
	X(SERVING, "serving")                                                                      \
	X(STOPPING, "stopping")

enum snap_device_state {
#define X(n, s) SNAP_DEVICE_##n,
	SNAP_DEVICE_STATES(X)
#undef X
	SNAP_DEVICE_STATE_COUNT
};

extern const char *const snap_device_state_names[SNAP_DEVICE_STATE_COUNT];

struct snap_loop {
	const char *name; /* the loop's */
	struct loop_stats stats;
};

struct snap_disk {
	char unit[32]; /* see device_disks_visit */
	struct blk_stats stats;
	uint64_t errors; /* all causes */
};

struct snap_device {
	char *name; /* UTF-8 */
	const char *type, *transport;
	enum snap_device_state state;
	struct device_conns conns;
	uint64_t limit_waiting, limit_waited; /* requests: see blk/limit.h */
	uint32_t first_disk, disk_count, first_queue, queue_count, first_conn, conn_count;
};

struct snap_process {
	uint64_t taken_ns, uptime_ns; /* CLOCK_MONOTONIC; since the start */
	uint64_t started_ns;	      /* of the epoch */
	/* by snapshot_process: any thread */
	uint64_t cpu_ns, resident_bytes, virtual_bytes, open_fds, max_fds;
};

struct snap_jobs {
	uint64_t running[JOB_KIND_COUNT];
};

struct snapshot {
	struct snap_process process;
	struct snap_jobs jobs;
	struct snap_loop *loops;
	struct snap_device *devices;
	struct snap_disk *disks;
	struct queue_stats *queues;
	struct conn_stats *conns;
	uint32_t loop_count, device_count, disk_count, queue_count, conn_count;
};

struct snapshot_source {
	struct loop *main_loop;
	struct loop *const *loops;
	const uint32_t *loop_count;
	/* The devices that run: NULL: the first; NULL: no more. */
	struct device *(*device_next)(const struct device *prev);
};

/* The process starts about now: once, before the first is taken. Thread: main. */
void snapshot_init(void);
/* NULL: out of memory. Thread: main. */
struct snapshot *snapshot_take(const struct snapshot_source *source);
/* What the kernel knows of the process. Thread: any. */
void snapshot_process(struct snap_process *process);
/* NULL allowed. Thread: any. */
void snapshot_free(struct snapshot *snap);

#endif
