/*
 * Hold: what lets requests wait for tokens, for whoever passes requests on: the filter (qos.c) and
 * the limits of a controller (limit.c). A qos_budget has the limits and a bucket for each, and is
 * shared by loops; a qos_hold is one channel's.
 *
 * Each hold has a small share of each limit's tokens, of which a request takes without looking at
 * anything shared. A request goes when each share that it needs is above 0, and takes all it needs,
 * so that a share may be below 0 after a large one. A hold that has none left takes a share from
 * the bucket, once at a time, and lets requests wait until that is due.
 *
 * Reads and writes wait apart, each in order, so that writes that are held do not hold reads.
 * Operations that are not limited (FLUSH) never wait.
 */
#ifndef BLK_FILTER_QOS_HOLD_H
#define BLK_FILTER_QOS_HOLD_H

#include "blk/filter/forward.h"
#include "blk/filter/qos.h"
#include "blk/filter/qos_bucket.h"

enum qos_dir {
	QOS_READ,
	QOS_WRITE,
	QOS_DIR_COUNT
};

struct qos_budget {
	struct blk_qos_limits limits; /* of main */
	uint32_t mask;		      /* 1 << enum blk_qos: the limits that there are; atomic */
	uint32_t epoch;		      /* atomic: qos_budget_set counts */
	struct qos_bucket buckets[BLK_QOS_COUNT];
	uint64_t waiting, waited; /* requests that wait now, and that ever had to; atomic */
};

struct qos_share {
	int64_t left;
	uint64_t coming;  /* taken from the bucket; 0: nothing */
	uint64_t due_ns;  /* when it comes */
	uint64_t came_ns; /* when the last did, */
	uint32_t came;	  /* and how many in that iteration */
};

struct qos_hold {
	struct qos_budget *budget;
	struct loop *loop;
	void (*send)(struct blk_req *req); /* passes it on */
	bool open;			   /* nothing waits: see qos_hold_open */
	uint32_t epoch;
	struct qos_share shares[BLK_QOS_COUNT];
	struct fifo held[QOS_DIR_COUNT];
	enum qos_dir turn; /* which goes first */
	struct loop_timer timer;
};

/* In the impl of a request; mark.node: while it is held. */
struct qos_io {
	struct forward_mark mark;
	bool held;
};

/*
 * Replaces all limits while requests run; what waits goes by the new ones within 10 ms. Errors:
 * blk_qos_check's; name is for the message. Thread: main.
 */
int qos_budget_set(struct qos_budget *b, const char *name, const struct blk_qos_limits *limits,
		   struct err *reterr);

/* ---- Thread: owner loop, as below ---- */

void qos_hold_init(struct qos_hold *h, struct qos_budget *b, struct loop *loop,
		   void (*send)(struct blk_req *req));
/* Nothing waits (ASSERT). What it took too much others wait for. */
void qos_hold_fini(struct qos_hold *h);
/* Sends it now, or when it may go. */
void qos_hold_submit(struct qos_hold *h, struct blk_req *req);
/* Ends one that waits as ABORTED; false: it does not wait. */
bool qos_hold_cancel(struct qos_hold *h, struct blk_req *req);
/* on: all that waits goes now, and what comes does not wait, until it is off; it is charged all
 * the same. */
void qos_hold_open(struct qos_hold *h, bool on);

#endif
