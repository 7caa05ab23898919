/* passthru: changes nothing. A node with a name and statistics of its own. */
#include "blk/filter/forward.h"

const struct blk_impl blk_passthru = {
	.type = "passthru",
	.filter = true,
	.dev_bytes = sizeof(struct blk_dev),
	.chan_bytes = sizeof(struct forward),
	.chan_open = forward_chan_open,
	.chan_close = forward_chan_close,
	.submit = forward_submit,
	.cancel = forward_cancel,
};
