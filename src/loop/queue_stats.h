/*
 * What is counted of a queue (a virtqueue, or an NVMe completion queue with its submission queues),
 * and what others are told of it: management, metrics.
 *
 * Counts are part of the queue, written by its loop only, and read racily by main: an aligned
 * 64-bit word does not tear on the machines we run on. They begin at 0 with the queue.
 */
#ifndef LOOP_QUEUE_STATS_H
#define LOOP_QUEUE_STATS_H

#include <stdint.h>

/* Requests that one poll finds; the budgets of both kinds of queues. */
#define QUEUE_BATCH_MAX 16

/* The queue's own part; what sources and virtqueues count is there. */
struct queue_counts {
	/* Polls by how many requests they found: [0] found none, the last that many or more. */
	uint64_t polls[QUEUE_BATCH_MAX + 1];
	uint64_t wakes; /* notifications that came as a message */
	/* NVMe only: a virtqueue has its own. */
	uint64_t completed, publishes, interrupts;
};

static inline void queue_count_poll(struct queue_counts *c, uint32_t found)
{
	c->polls[found < QUEUE_BATCH_MAX ? found : QUEUE_BATCH_MAX]++;
}

/* For oldest_ns below: how long ago is since_ns (0: no request)? At least 1. Thread: any. */
uint64_t queue_age_ns(uint64_t since_ns);

#define QUEUE_STATES(X)                                                                            \
	X(STOPPED, "stopped")	/* not set up */                                                   \
	X(CHANGING, "changing") /* starting, stopping: nothing but idx and state is told */        \
	X(RUNNING, "running")                                                                      \
	X(QUIET, "quiet")                                                                          \
	X(DRAINED, "drained") /* by management: it stands still with nothing in flight */          \
	X(BROKEN, "broken")   /* the driver's fault: until it is set up anew */

enum queue_state {
#define X(n, s) QUEUE_##n,
	QUEUE_STATES(X)
#undef X
	QUEUE_STATE_COUNT
};

extern const char *const queue_state_names[QUEUE_STATE_COUNT];

struct queue_stats {
	uint32_t conn;	  /* whose: struct conn_stats.idx */
	uint32_t idx;	  /* virtqueue; identifier of the completion queue */
	const char *kind; /* "virtqueue", "admin", "io" */
	enum queue_state state;
	const char *loop; /* where it runs; NULL: nowhere */
	uint32_t size;	  /* entries */
	uint32_t in_flight;
	uint64_t oldest_ns; /* age of the oldest request in flight, 0: none */
	uint64_t requests;  /* completed */
	uint64_t publishes; /* times that completions were shown */
	uint64_t interrupts, interrupts_suppressed;
	/* Notifications of the driver, those that could not be received, times that it was asked
	 * for them. */
	uint64_t kicks, kick_errors, arms;
	uint64_t polls[QUEUE_BATCH_MAX + 1]; /* of struct queue_counts */
};

/* A front-end's connection. */
struct conn_stats {
	uint32_t idx;	   /* of its device, in the order in which they came */
	const char *state; /* the session's */
};

/* Called with each connection, and with each of its queues after it; either may be NULL. */
struct queue_visitor {
	void (*conn)(const struct conn_stats *conn, void *arg);
	void (*queue)(const struct queue_stats *queue, void *arg);
	void *arg;
	uint32_t conn_idx; /* the visited room's: queues are of this connection */
};

/* Tells v of the connection idx; returns the visitor for its queues. */
static inline struct queue_visitor queue_visitor_enter(const struct queue_visitor *v, uint32_t idx,
						       const char *state)
{
	struct queue_visitor queues = *v;
	const struct conn_stats stats = { .idx = idx, .state = state };

	queues.conn_idx = idx;
	if (v->conn)
		v->conn(&stats, v->arg);
	return queues;
}

#endif
