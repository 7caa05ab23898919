/*
 * What a back-end implements, and what the waist gives it. Included by blk/ only.
 *
 * A type is one `const struct blk_impl`. Its node structure begins with `struct blk_dev`, its
 * channel structure with `struct blk_chan`; both are allocated zeroed by the graph from the sizes
 * in the table, so a back-end casts with container_of and owns what follows.
 *
 * Rules for submit():
 *   - it is called only with requests that passed the waist: the op is one that the caps allow, the
 *     range lies inside the size, offset and length are multiples of block_bytes, and the memory
 *     of a READ or WRITE is aligned as mem_align demands (each piece's length: to block_bytes);
 *   - it, or something it started, calls blk_complete() exactly once, at once if it likes;
 *   - it may use req->impl until then, and touches nothing of the request afterwards.
 */
#ifndef BLK_BLK_IMPL_H
#define BLK_BLK_IMPL_H

#include <pthread.h>

#include "base/check.h"
#include "base/list.h"
#include "base/opts.h"
#include "blk/blk.h"

struct bounce;
struct insert;
struct insert_link;

struct blk_impl {
	const char *type;
	const struct opts_table *params;
	size_t params_bytes; /* of the structure the table fills */
	size_t dev_bytes, chan_bytes;
	bool hidden; /* not listed by blk_types_each */
	/* It is memory: each request is completed before submit returns, and mem_align is 1. Then
	 * latencies need no clock: they are all 0. */
	bool at_once;
	/*
	 * A node on another: blk_dev_open_on. dev->base is there, and dev->caps are the base's,
	 * when open is called; a channel of the base is opened and closed with each of ours
	 * (chan->base). Functions that are NULL do what the base does.
	 */
	bool filter;
	/* A filter that opens the base's channels itself, and hands its requests to them as they
	 * are (blk_pass): they count in the base's statistics, which are its own too. */
	bool passes;

	/* Opens what is behind and fills dev->caps. params is freed after. Thread: main. */
	int (*open)(struct blk_dev *dev, void *params, struct err *reterr);
	/* Undoes open, a failed one too (the memory was zeroed before open). Thread: main. */
	void (*close)(struct blk_dev *dev);
	/* See blk_dev_named; NULL: nothing to do. Thread: main. */
	void (*named)(struct blk_dev *dev, const char *name);
	/* The size now; NULL: never changes. Thread: main. */
	int (*rescan)(struct blk_dev *dev, uint64_t *ret_size_bytes, struct err *reterr);
	/* Makes what is behind so large; rescan follows. NULL: it cannot, or the base does, with
	 * `passes`. Thread: main. */
	int (*resize)(struct blk_dev *dev, uint64_t size_bytes, struct err *reterr);
	/* See blk_dev_allocate. Both or none; NULL: it cannot. Thread: job. */
	int (*allocate)(struct blk_dev *dev, uint64_t offset_bytes, uint64_t len_bytes,
			uint64_t more_bytes);
	void (*allocate_undo)(struct blk_dev *dev);
	/* Of a filter: its size, now that the base's changed. NULL: the same. Thread: main. */
	uint64_t (*resized)(struct blk_dev *dev);
	/* See blk_dev_map; the arguments were checked, *ret_end_bytes may be beyond end_bytes, and
	 * need not be a multiple. NULL, or -EOPNOTSUPP: not known. Thread: job. */
	int (*map)(struct blk_dev *dev, uint64_t offset_bytes, uint64_t end_bytes,
		   uint64_t *ret_end_bytes, bool *ret_mapped);
	/* Both NULL allowed. Thread: owner loop. */
	int (*chan_open)(struct blk_chan *chan, struct err *reterr);
	void (*chan_close)(struct blk_chan *chan);
	/* blk_chan_buffers_set; NULL: nothing to gain. Thread: owner loop. */
	int (*buffers_set)(struct blk_chan *chan, const struct iovec *regions, uint32_t count,
			   struct err *reterr);
	void (*submit)(struct blk_chan *chan, struct blk_req *req);
	/* blk_cancel of a request that submit got and that has not completed; req->cancelled is
	 * set. May complete it. NULL: requests end soon anyway. Thread: owner loop. */
	void (*cancel)(struct blk_req *req);
};

/* See fine.c; all NULL until it was asked for. Thread: main, on: chans_lock. */
struct blk_dev_fine {
	bool on;
	struct blk_fine *closed;      /* of channels and bases that are gone */
	struct blk_fine *base_before; /* as blk_dev.base_before */
};

struct blk_dev {
	const struct blk_impl *impl;
	char *name;
	struct blk_caps caps; /* size_bytes: blk_size_bytes() once it is open */
	uint32_t ref_count;   /* Thread: main */
	struct list listeners;
	struct blk_dev *base; /* of a filter: a reference; NULL: none */
	bool can_map;
	struct blk_listener base_listener;
	/* Held while channels are opened and closed, so that they are of one type; see insert.c. */
	pthread_mutex_t shape_lock;
	struct insert *inserting;   /* it is becoming a swap: under shape_lock */
	struct insert *idle_insert; /* and waits for jobs; the same */
	uint32_t jobs;		    /* that use it: blk_dev_map, blk_dev_allocate; the same */
	bool exchanging;	    /* Thread: main */
	pthread_mutex_t
		chans_lock; /* channels come and go on their loops; never on the data path */
	struct list chans;
	/* See stats.c. Thread: main, but for the first: chans_lock. */
	struct blk_stats closed_stats; /* of channels and bases that are gone */
	struct blk_stats base_before;  /* what the base had done when it became ours (passes) */
	struct blk_stats reset_stats;  /* all, when blk_dev_iostat was reset */
	bool inherited;		       /* closed_stats has what another process counted */
	struct blk_dev_fine fine;
};

struct blk_chan {
	/* What every request looks at, first: constant while the channel is open. */
	void (*submit)(struct blk_chan *chan, struct blk_req *req);
	struct loop *loop;
	struct blk_dev *dev;
	uint64_t block_mask;  /* block_bytes - 1 */
	uint64_t memory_mask; /* mem_align - 1 */
	uint32_t op_mask;     /* 1 << enum blk_op */
	uint32_t flag_mask;   /* BLK_FUA ... */
	uint32_t in_flight;
	bool at_once;
	struct bounce *bounce; /* NULL until a misaligned request came */
	struct blk_chan *base; /* of a filter: the base's channel on this loop */
	/* Deferred, each time that in_flight becomes 0; NULL: nobody waits for that. */
	struct loop_work *idle_work;
	void (*cancel)(struct blk_req *req); /* of impl; NULL: none */
	/* insert.c: NULL but while the node becomes a swap; only this struct is there; not of the
	 * node's making (blk_chan_enter) */
	struct insert_link *link;
	bool bare, foreign;
	struct list node;
	/*
	 * What took longer is looked at once more by its loop (blk_notice), for the finer histogram
	 * or because it was slow. Written by blk_notice_update.
	 */
	uint64_t notice_ns;
	struct blk_fine *fine; /* NULL: never asked for; under chans_lock, but for its loop */
	bool fine_on;	       /* atomic */
	struct blk_tally *tally;
	struct list tally_node;
	struct blk_stats stats; /* ops[]: those that ended at once, which hist[] has not */
	/* of main, under chans_lock: when blk_dev_iostat, and when the extremes were reset */
	struct blk_stats reset_stats;
	uint64_t reset_at_once[BLK_OP_COUNT];
};

#define BLK_ST_PENDING 0xff

/* Other loops read it while main changes it: one relaxed load, any value is one that was true. */
static inline uint64_t blk_size_bytes(const struct blk_dev *dev)
{
	return __atomic_load_n(&dev->caps.size_bytes, __ATOMIC_RELAXED);
}

/* n: 1 or -1; as it is then. main reads it racily (blk_stats.in_flight): TSan is told the truth. */
static inline uint32_t blk_chan_count(struct blk_chan *chan, int n)
{
#ifdef __SANITIZE_THREAD__
	__atomic_store_n(&chan->in_flight, chan->in_flight + (uint32_t)n, __ATOMIC_RELAXED);
#else
	chan->in_flight += (uint32_t)n;
#endif
	return chan->in_flight;
}

/* blk.c: for blk_complete. */
void blk_complete_failed(struct blk_req *req);

/*
 * The back-end's end of a request. What the submitter asked to run (req->work) runs in the phase
 * "done", never before this returns. Thread: owner loop.
 */
static inline void blk_complete(struct blk_req *req, enum blk_status status)
{
	ASSERT(req->status == BLK_ST_PENDING);
	req->status = (uint8_t)status;
	if (unlikely(status != BLK_ST_OK))
		blk_complete_failed(req);
	loop_defer(req->chan->loop, &req->work);
}

/* Both in blk.c: what blk_pass does with what is not an everyday request. */
void blk_pass_unusual(struct blk_chan *chan, struct blk_req *req);
void blk_pass_checked_memory(struct blk_chan *chan, struct blk_req *req);

/*
 * From a filter's submit: hands the request, as it is, to a channel of the base. It is the base's
 * from now on, in statistics and for blk_cancel too, and never comes back to the filter. Reads and
 * writes are not checked again: whatever our caps allow, the base's do. Thread: owner loop.
 */
static inline void blk_pass(struct blk_chan *base, struct blk_req *req)
{
	blk_chan_count(req->chan, -1);
	req->chan = base;
	blk_chan_count(base, 1);
	if (unlikely(req->op > BLK_WRITE))
		blk_pass_unusual(base, req);
	else if (base->memory_mask)
		blk_pass_checked_memory(base, req);
	else
		base->submit(base, req);
}

/* A channel of no node's own making, on dev: counted in its statistics, with its caps. The caller
 * has zeroed it, and sets submit and cancel. Thread: owner loop. */
void blk_chan_enter(struct blk_chan *chan, struct blk_dev *dev, struct loop *loop);
/* All its requests have left it. */
void blk_chan_leave(struct blk_chan *chan);

/* Follows the base: takes its size, and tells our listeners if it changed. Thread: main. */
void blk_dev_resize_to(struct blk_dev *dev, uint64_t size_bytes);
/* What is allocated for a node and a channel: a back-end can become a swap in place. */
size_t blk_dev_bytes(const struct blk_impl *impl);
size_t blk_chan_bytes(const struct blk_impl *impl);
/* Nothing is bounced at the moment. Thread: owner loop. */
void blk_chan_bounce_free(struct blk_chan *chan);

/* ---- stats.c ---- */

/* A channel begins, and ends: its counters go to the node's. Thread: owner loop. */
void blk_stats_init(struct blk_stats *stats);
void blk_stats_close(struct blk_chan *chan);
/* A sum begins with blk_stats_init of zeroes; channels are added; then it is completed. */
void blk_stats_add_chan(struct blk_stats *sum, const struct blk_chan *chan);
void blk_stats_add(struct blk_stats *sum, const struct blk_stats *s);
void blk_stats_complete(struct blk_stats *sum);
/* The base of a node that passes becomes another, NULL: none. Thread: main. */
void blk_stats_rebase(struct blk_dev *dev, const struct blk_dev *base);

/* ---- tally.c ---- */

/* From what the channel has now; its loop sees it soon. Thread: any. */
void blk_notice_update(struct blk_chan *chan);
/* A request took longer than notice_ns. Thread: owner loop. */
void blk_notice(struct blk_chan *chan, const struct blk_req *req, uint64_t ns);
/* It counts for its tally no more. Thread: owner loop. */
void blk_tally_chan_close(struct blk_chan *chan);

/* ---- fine.c ---- */

/* chans_lock is held. false: no memory, and it is off. Thread: any. */
bool blk_fine_chan_set(struct blk_chan *chan, bool on);
/* What it counted goes to the node's. chans_lock is held. Thread: owner loop. */
void blk_fine_chan_close(struct blk_chan *chan);
/* As blk_stats_rebase. */
void blk_fine_rebase(struct blk_dev *dev, struct blk_dev *base);
void blk_fine_free(struct blk_dev *dev);

/* Exchanges the base (whose reference is taken over) of a filter that has no channel of the old
 * one any more; NULL: none. Returns the old one with its reference. Thread: main. */
struct blk_dev *blk_dev_rebase(struct blk_dev *dev, struct blk_dev *base);

/* The status for a negative errno. */
enum blk_status blk_status_from_errno(int code);

/* Checks and completes the parts of caps that have a default (phys_bytes, mem_align). */
int blk_caps_check(struct blk_caps *caps, struct err *reterr);

/* The const table of types; NULL when there is none of that name. */
const struct blk_impl *blk_impl_find(const char *type);

extern const struct blk_impl blk_null, blk_ram, blk_file, blk_sim;
extern const struct blk_impl blk_swap_impl, blk_passthru, blk_part, blk_delay, blk_error,
	blk_qos_impl;

#endif
