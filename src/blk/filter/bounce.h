/*
 * Bounce: a READ or WRITE whose memory the back-end cannot use as it is (O_DIRECT) goes through a
 * small pool of aligned buffers of the channel, a large one in steps. When all are taken,
 * requests wait in order; nothing is allocated per request and nothing fails for lack of a buffer.
 * Thread: owner loop.
 */
#ifndef BLK_FILTER_BOUNCE_H
#define BLK_FILTER_BOUNCE_H

#include "blk/blk.h"

#define BOUNCE_BUF_COUNT 4
#define BOUNCE_BUF_BYTES (256u << 10)

/* Takes the place of the back-end's submit for this request. */
void bounce_submit(struct blk_chan *chan, struct blk_req *req);

struct bounce;
/* blk_cancel of a request that may be here; false: it is not. */
bool bounce_cancel(struct bounce *b, struct blk_req *req);
/* NULL allowed. No request is in flight. */
void bounce_free(struct bounce *b);

#endif
