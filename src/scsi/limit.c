/*
 * Limits of a host: while there are any, each queue has channels of its own before those of its
 * loop (blk/limit.h), which are opened by the first command for a unit.
 */
#include <errno.h>
#include <stdlib.h>

#include "scsi/scsi_impl.h"

void scsi_host_limits_set(struct scsi_host *host, struct blk_limits *limits)
{
	ASSERT(!host->limits && list_empty(&host->nexuses));
	host->limits = blk_limits_ref(limits);
}

static void chans_close(struct scsi_queue *q)
{
	for (uint32_t i = 0; i < q->before.count; i++)
		blk_limit_chan_close(q->before.at[i]);
	free(q->before.at);
	q->before = (struct scsi_chans){ 0 };
}

static void limited_set(struct scsi_queue *q, bool limited)
{
	if (q->limited == limited)
		return;
	q->limited = limited;
	q->last_chan = NULL;
	if (limited) {
		list_append(&q->sl->limited, &q->limited_node);
	} else {
		list_remove(&q->limited_node);
		chans_close(q);
	}
}

static void limits_on_changed(struct blk_limit_member *member, bool limited)
{
	limited_set(container_of(member, struct scsi_queue, member), limited);
}

int scsi_queue_limits_open(struct scsi_queue *q)
{
	bool limited;
	int rc;

	q->member.changed = limits_on_changed;
	rc = blk_limits_join(q->nexus->host->limits, q->sl->loop, &q->member, &limited);
	if (rc == 0)
		limited_set(q, limited);
	return rc;
}

void scsi_queue_limits_close(struct scsi_queue *q)
{
	blk_limits_leave(&q->member);
	limited_set(q, false);
}

void scsi_limits_drop(struct scsi_loop *sl, const struct scsi_lu *lu)
{
	struct scsi_queue *q;

	list_for_each(q, &sl->limited, limited_node) {
		if (lu->idx >= q->before.count)
			continue;
		blk_limit_chan_close(q->before.at[lu->idx]);
		q->before.at[lu->idx] = NULL;
	}
}

struct blk_chan *scsi_queue_chan_limited(struct scsi_queue *q, struct scsi_lu *lu)
{
	struct blk_chan **at = scsi_chans_at(&q->before, lu), *disk = scsi_loop_chan(q->sl, lu);

	if (!at || !disk || *at)
		return at && disk ? *at : NULL;
	if (blk_limit_chan_open(q->nexus->host->limits, disk, at) < 0)
		return NULL;
	if (q->hurry)
		blk_limit_chan_hurry(*at, true);
	return *at;
}

void scsi_queue_hurry(struct scsi_queue *q)
{
	q->hurry = true;
	for (uint32_t i = 0; i < q->before.count; i++)
		if (q->before.at[i])
			blk_limit_chan_hurry(q->before.at[i], true);
}
