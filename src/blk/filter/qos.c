/* See qos.h, and qos_hold.h for how requests wait. */
#include "blk/filter/qos.h"

#include <errno.h>
#include <string.h>

#include "blk/filter/qos_hold.h"

struct qos_dev {
	struct blk_dev dev;
	struct qos_budget budget;
};

struct qos_chan {
	struct forward forward;
	struct qos_hold hold;
};

static struct qos_dev *qos_of(const struct blk_dev *dev)
{
	return container_of(dev, struct qos_dev, dev);
}

static struct qos_chan *qos_chan_of(struct blk_chan *chan)
{
	return container_of(forward_of(chan), struct qos_chan, forward);
}

static void qos_send(struct blk_req *req)
{
	forward_submit(req->chan, req);
}

static void qos_submit(struct blk_chan *chan, struct blk_req *req)
{
	qos_hold_submit(&qos_chan_of(chan)->hold, req);
}

static void qos_cancel(struct blk_req *req)
{
	if (!qos_hold_cancel(&qos_chan_of(req->chan)->hold, req))
		forward_cancel(req);
}

static int qos_chan_open(struct blk_chan *chan, struct err *reterr)
{
	qos_hold_init(&qos_chan_of(chan)->hold, &qos_of(chan->dev)->budget, chan->loop, qos_send);
	return forward_chan_open(chan, reterr);
}

static void qos_chan_close(struct blk_chan *chan)
{
	qos_hold_fini(&qos_chan_of(chan)->hold);
	forward_chan_close(chan);
}

struct qos_params {
	struct blk_qos_limits limits;
};

static const struct opts_row qos_rows[] = { BLK_QOS_ROWS(qos_params, limits) };
static const struct opts_table qos_table = { "qos", qos_rows, ARRAY_SIZE(qos_rows) };

static int qos_open(struct blk_dev *dev, void *params, struct err *reterr)
{
	return qos_budget_set(&qos_of(dev)->budget, dev->name,
			      &((struct qos_params *)params)->limits, reterr);
}

const struct blk_impl blk_qos_impl = {
	.type = "qos",
	.params = &qos_table,
	.params_bytes = sizeof(struct qos_params),
	.filter = true,
	.dev_bytes = sizeof(struct qos_dev),
	.chan_bytes = sizeof(struct qos_chan),
	.open = qos_open,
	.chan_open = qos_chan_open,
	.chan_close = qos_chan_close,
	.submit = qos_submit,
	.cancel = qos_cancel,
};

int blk_qos_set(struct blk_dev *dev, const struct blk_qos_limits *limits, struct err *reterr)
{
	if (dev->impl != &blk_qos_impl)
		return err_set(reterr, -EINVAL, "%s is of type %s, expected qos", dev->name,
			       dev->impl->type);
	return qos_budget_set(&qos_of(dev)->budget, dev->name, limits, reterr);
}

void blk_qos_get(const struct blk_dev *dev, struct blk_qos_limits *ret_limits)
{
	memset(ret_limits, 0, sizeof(*ret_limits));
	if (dev->impl == &blk_qos_impl)
		*ret_limits = qos_of(dev)->budget.limits;
}
