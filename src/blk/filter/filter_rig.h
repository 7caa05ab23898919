/* For the unit tests of filters: a base, a filter on it as the disk of test_disk.h. */
#ifndef BLK_FILTER_FILTER_RIG_H
#define BLK_FILTER_FILTER_RIG_H

#include <errno.h>

#include "blk/test_disk.h"

#include "blk/backend/sim.h"

struct filter_rig {
	struct disk disk;
	struct blk_dev *base;
};

static inline struct blk_dev *filter_base(const char *type, const char *params)
{
	struct blk_dev *dev;
	struct err err = { 0 };

	if (blk_dev_open(type, "base", params, &dev, &err) < 0)
		fail_msg("%s", err.msg);
	return dev;
}

static inline void filter_open(struct filter_rig *rig, const char *base, const char *base_params,
			       const char *type, const char *params)
{
	struct loop_params lp = { .name = "test", .cpu = -1, .sq_count = 64 };
	struct err err = { 0 };

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(loop_new(&lp, &rig->disk.loop, &err), 0);
	rig->base = filter_base(base, base_params);
	if (blk_dev_open_on(type, "d0", params, rig->base, &rig->disk.dev, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(blk_chan_open(rig->disk.dev, rig->disk.loop, &rig->disk.chan, &err), 0);
}

static inline void filter_close(struct filter_rig *rig)
{
	disk_close(&rig->disk);
	blk_dev_unref(rig->base);
}

/* Opening fails with rc, and the text has all of these words. */
static inline void filter_refused(const char *type, const char *params, int rc, const char *word)
{
	struct blk_dev *base = filter_base("sim", "size=1M"), *dev;
	struct err err = { 0 };

	assert_int_equal(blk_dev_open_on(type, "d0", params, base, &dev, &err), rc);
	if (!strstr(err.msg, word))
		fail_msg("\"%s\" does not say \"%s\"", err.msg, word);
	blk_dev_unref(base);
}

#endif
