/* The queues of a controller: see queue.c. */
#ifndef NVME_QUEUE_H
#define NVME_QUEUE_H

#include "nvme/ctrl.h"

struct nvme_cq;
struct nvme_sq;

struct nvme_queues {
	struct nvme_cq *cq[NVME_QPAIRS_MAX + 1];
	struct nvme_sq *sq[NVME_QPAIRS_MAX + 1];
};

#endif
