/*
 * Another size for a disk, as bdev_resize and device_resize give it: at once, or, with the space
 * allocated first, as long work.
 *
 *   RUNNING: fallocate beyond the end, step by step on job threads --all--> ftruncate, guests told
 *                 \--no space, cancelled, disk gone--> what was allocated is given back
 *
 * The size changes at the end only, in one step: whoever is killed before it leaves the file as
 * large as it was, and the guest never hears of a size that there is no space for.
 * Thread: main.
 */
#ifndef MGMT_RESIZE_H
#define MGMT_RESIZE_H

#include "base/opts.h"
#include "blk/blk.h"
#include "mgmt/rpc.h"

/* The parameters that both methods have. */
struct resize_how {
	uint64_t new_size;
	bool allocate, force;
};

#define RESIZE_ROWS(s, at, need)                                                                   \
	{ .name = "new_size",                                                                      \
	  .type = OPTS_SIZE,                                                                       \
	  .offset = offsetof(s, at.new_size),                                                      \
	  .min = 512,                                                                              \
	  .max = INT64_MAX,                                                                        \
	  .help = "its size: bytes, or text with K, M, G, T or P",                                 \
	  .required = need },                                                                      \
		{ .name = "allocate",                                                              \
		  .type = OPTS_BOOL,                                                               \
		  .offset = offsetof(s, at.allocate),                                              \
		  .def = "false",                                                                  \
		  .help = "of a file: space for what it grows by is allocated first, by a job" },  \
	{                                                                                          \
		.name = "force", .type = OPTS_BOOL, .offset = offsetof(s, at.force),               \
		.def = "false", .help = "it may become smaller: what is beyond the end is lost"    \
	}

/* What is resized, and how it is told whether it is still there. */
struct resize_disk {
	struct blk_dev *node; /* whose size it is */
	const char *name;     /* of the bdev or device, for messages */
	const char *unit;     /* of the device; NULL: it is a bdev */
};

/*
 * Answers: true, or with how->allocate what job_wait tells. Else resized(name) follows a change of
 * size, for what is saved; NULL: nothing is.
 */
void resize_answer(struct rpc_call *call, const struct resize_disk *disk,
		   const struct resize_how *how, void (*resized)(const char *name));

#endif
