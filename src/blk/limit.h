/*
 * Limits of a user of disks (a controller): operations and bytes per second that it may ask of all
 * its disks together, whatever loops its queues are on. The limits of a disk are another thing
 * (filter/qos.h): those all its users share.
 *
 * There are three objects. struct blk_limits is the user's: main sets it, at any time. A
 * blk_limit_member is told on its loop when there begin, or cease, to be limits. A channel of
 * blk_limit_chan_open stands before a channel of a disk: requests wait there as long as they must,
 * and are handed on as they are (blk_pass). Who has no limits submits to the disk's channel itself,
 * so that limits cost nothing when there are none.
 *
 * blk_way is all of that for who has one channel of one disk: submit to way->chan, which changes on
 * the way's loop when limits come or go. Requests under way are not concerned.
 *
 * Requests that wait are ended as ABORTED by blk_cancel. A queue that is to stop does not have to
 * wait for them: with blk_way_hurry they go at once, and what comes later waits the longer.
 */
#ifndef BLK_LIMIT_H
#define BLK_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "blk/blk.h"
#include "blk/filter/qos.h"

struct blk_limits;

/* ---- Thread: main ---- */

/* Without limits, one reference. name is for messages, and copied. NULL: no memory. */
struct blk_limits *blk_limits_new(const char *name);
/* Thread: any, both; NULL allowed. */
struct blk_limits *blk_limits_ref(struct blk_limits *limits);
void blk_limits_unref(struct blk_limits *limits);
/* Replaces all: see qos_budget_set for errors. Requests that wait go by the new ones. */
int blk_limits_set(struct blk_limits *limits, const struct blk_qos_limits *to, struct err *reterr);
const struct blk_qos_limits *blk_limits_get(const struct blk_limits *limits);
/* How many requests wait now, and how many ever had to. */
uint64_t blk_limits_waiting(const struct blk_limits *limits);
uint64_t blk_limits_waited(const struct blk_limits *limits);

/* ---- Thread: owner loop ---- */

struct blk_limit_link;

struct blk_limit_member {
	/* There are limits now, or none any more. Never from within blk_limits_join. */
	void (*changed)(struct blk_limit_member *member, bool limited);
	struct blk_limit_link *link; /* private */
};

/* limits NULL: never limited, nothing to leave. *ret_limited: are there limits now. -ENOMEM. */
int blk_limits_join(struct blk_limits *limits, struct loop *loop, struct blk_limit_member *member,
		    bool *ret_limited);
/* Also when it never joined (zeroed). */
void blk_limits_leave(struct blk_limit_member *member);

/* A channel before base, which stays open until after its close. -ENOMEM. */
int blk_limit_chan_open(struct blk_limits *limits, struct blk_chan *base,
			struct blk_chan **ret_chan);
/* What waits goes to base now. NULL allowed. */
void blk_limit_chan_close(struct blk_chan *chan);
/* As blk_cancel if it waits there; nothing else is stopped. req: zeroed, or was submitted once. */
void blk_limit_cancel(struct blk_req *req);
/* on: nothing waits, until it is off. */
void blk_limit_chan_hurry(struct blk_chan *chan, bool on);

struct blk_way {
	struct blk_chan *chan; /* to submit to: before, or the same as */
	struct blk_chan *base; /* the disk's */
	struct blk_limits *limits;
	struct blk_limit_member member;
	bool hurry;
};

/* Errors: blk_chan_open's. limits: NULL, or they stay until the close. */
int blk_way_open(struct blk_way *way, struct blk_dev *dev, struct loop *loop,
		 struct blk_limits *limits, struct err *reterr);
/* All its requests have completed (ASSERT). */
void blk_way_close(struct blk_way *way);
/* on: nothing waits for limits, until it is off. */
void blk_way_hurry(struct blk_way *way, bool on);

#endif
