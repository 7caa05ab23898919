/*
 * What the files of the bdev_* methods share: a bdev's kind, and what recreates it.
 * Thread: main.
 */
#ifndef MGMT_M_BDEV_H
#define MGMT_M_BDEV_H

#include "blk/blk.h"
#include "dev/bdev.h"
#include "mgmt/rpc.h"
#include "mgmt/sections.h"

struct bdev_kind {
	const char *product;  /* "Malloc disk" */
	const char *create;   /* the method that makes one */
	const char *remove;   /* and deletes it; for messages */
	const char *name_key; /* create's parameter that is the bdev's name; NULL: it has none */
	bool saves_uuid;      /* create has a parameter "uuid" */
	bool in_memory;	      /* of this process: it has a NUMA node, which is not told */
	/* Appends to bdev_get_bdevs' driver_specific; NULL: nothing. */
	void (*describe)(const struct bdev *bdev, json_t *driver_specific);
	/* Before it is taken away: lets go what it holds back. NULL: nothing. */
	void (*leave)(struct bdev *bdev);
};

extern const struct bdev_kind bdev_malloc, bdev_null, bdev_aio, bdev_uring, bdev_passthru,
	bdev_delay, bdev_error, bdev_split, bdev_gpt;

/* Counters as they were when somebody set them back, and what else is told of one bdev. */
struct m_bdev_stat {
	uint64_t errors[BLK_ST_COUNT]; /* bdev_reset_iostat, mode error */
	struct blk_stats hist;	       /* bdev_enable_histogram */
	bool hist_on;
	int hist_op; /* enum blk_op; -1: all */
	uint32_t hist_granularity;
	uint64_t hist_min_ns, hist_max_ns;
	/* bdev_set_qd_sampling_period */
	uint64_t qd_period_us, qd, qd_io_time_us, qd_weighted_us;
	struct loop_timer qd_timer;
	struct bdev *qd_bdev;
};

/* bdev.origin */
struct m_bdev {
	const struct bdev_kind *kind;
	json_t *params; /* of create; name and UUID as they are now come from the bdev */
	struct section_text created, limited; /* of params and uuid, and of the limits */
	struct section_text marked;	      /* that it is incomplete */
	void *own;			      /* the kind's, freed by free(); NULL: nothing */
	/* m_bdev_swap.c: the node with limits, and what it is on; NULL: there are no limits. */
	struct blk_dev *qos, *inner;
	struct m_bdev_stat stat;
};

/* All bdevs are made by m_bdev_add. */
static inline struct m_bdev *m_bdev_of(const struct bdev *bdev)
{
	return bdev->origin;
}

/* What recreates it has changed. */
static inline void m_bdev_changed(const struct bdev *bdev)
{
	section_drop(&m_bdev_of(bdev)->created);
	section_drop(&m_bdev_of(bdev)->limited);
}

static inline struct m_bdev_stat *m_bdev_stat_of(const struct bdev *bdev)
{
	return &m_bdev_of(bdev)->stat;
}

/* How a bdev is made; what is NULL is not given. */
struct m_bdev_make {
	const struct bdev_kind *kind;
	const char *name, *uuid; /* text */
	struct bdev *base;
	bool part;
	json_t *params; /* taken over */
	void *own;	/* taken over */
};

/* Takes over dev's reference. bdev_add's errors, and -EINVAL: the UUID. */
int m_bdev_add(const struct m_bdev_make *make, struct blk_dev *dev, struct bdev **ret_bdev,
	       struct err *reterr);
/* The same as the last act of a method: answers with the name, or the error. */
void m_bdev_add_answer(struct rpc_call *call, const struct m_bdev_make *make, struct blk_dev *dev);

/* By name or UUID; kind NULL: any. -ENODEV: there is none, or it is of another kind. */
int m_bdev_find(const char *name, const struct bdev_kind *kind, struct bdev **ret_bdev,
		struct err *reterr);
/* Answers true when it is gone, or the error. */
void m_bdev_delete_answer(struct rpc_call *call, const char *name, const struct bdev_kind *kind);

/* {"name": ...}: the parameters of many. */
struct m_bdev_name {
	char *name;
};
extern const struct opts_row m_bdev_name_rows[];
#define M_BDEV_NAME_TABLE(method)                                                                  \
	{                                                                                          \
		method, m_bdev_name_rows, 1                                                        \
	}

/* The parameters that were given, less name and UUID. NULL: out of memory. */
json_t *m_bdev_params(const struct rpc_call *call, const struct opts_table *table);

/* m_bdev_stat.c: a bdev goes. */
void m_bdev_stat_stop(struct m_bdev_stat *stat);
/* m_bdev_swap.c: the kind's node, whatever is between it and the handle. No reference. */
struct blk_dev *m_bdev_node(const struct bdev *bdev);
/* {rw_ios_per_sec, ...}: 0 is no limit. */
json_t *m_bdev_rate_limits(const struct bdev *bdev);
/* Of one that has limits. */
void m_bdev_qos_write(json_t *calls, const void *bdev);
/* m_bdev_work.c: of one that is not whole. */
void m_bdev_incomplete_write(json_t *calls, const void *bdev);
/* bdev_incomplete_set; what is saved of it changes. */
int m_bdev_incomplete_set(struct bdev *bdev, const char *why, struct err *reterr);
/* m_bdev_part.c: are partitions looked for on each new bdev? */
void m_bdev_auto_examine_set(bool on);
bool m_bdev_auto_examine(void);
/* m_bdev_backend.c: the back-end of an aio bdev. block_bytes 0: the file's. */
int m_bdev_file_open(const char *name, const char *filename, uint32_t block_bytes, bool read_only,
		     bool discard, struct blk_dev **ret_dev, struct err *reterr);
/* m_bdev_backend.c: see resize.h. */
struct resize_how;
void m_bdev_resize_answer(struct rpc_call *call, struct bdev *bdev, const struct resize_how *how);
/* m_bdev_filter.c: blk_dev_open_on, and -EPERM: base is claimed. */
int m_bdev_open_on(const char *type, const char *name, const char *params, struct bdev *base,
		   struct blk_dev **ret_dev, struct err *reterr);

#endif
