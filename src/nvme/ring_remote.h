/* Queues whose rings the maps lack, by the port's messages: see ring_remote.c. */
#ifndef NVME_RING_REMOTE_H
#define NVME_RING_REMOTE_H

#include <stdbool.h>
#include <stdint.h>

struct nvme_cqe;
struct nvme_cq;
struct nvme_sq;
struct nvme_ring_remote;

/* ---- binding. Thread: main, with the queue new or quiet ---- */

/* After the look for a mapped ring: sets sq->ring. The tail word to be looked at, NULL: there is no
 * such ring. */
const uint32_t *nvme_sq_remote_bind(struct nvme_sq *sq, const uint32_t *doorbell);
void nvme_cq_remote_bind(struct nvme_cq *cq);
/* Of a queue that was stopped, or never started; NULL: none. */
void nvme_ring_remote_free(struct nvme_ring_remote *r);

/* ---- what is behind in the guest's memory, for save.c. Thread: main, with the queue quiet ---- */

/* Completions that wait to be written there, the last ones that were put into the queue. */
uint32_t nvme_cq_unwritten(const struct nvme_cq *cq);
const struct nvme_cqe *nvme_cq_unwritten_at(const struct nvme_cq *cq, uint32_t i);
/* A new queue begins with these behind. -ENOMEM. */
int nvme_cq_owe(struct nvme_cq *cq, const struct nvme_cqe *cqes, uint32_t count);

/* ---- Thread: owner loop ---- */

bool nvme_sq_is_remote(const struct nvme_sq *sq);
/* Its doorbell is another word now. */
void nvme_sq_remote_doorbell(struct nvme_sq *sq, const uint32_t *doorbell);
/* CQ_REMOTE is set or not, as the queue's rings are; completions not written yet are. */
void nvme_ring_remote_gate(struct nvme_cq *cq);
/* New entries of all its submission queues begin to be read. */
void nvme_ring_remote_look(struct nvme_cq *cq);
/* New completions begin to be written, and the interrupt comes then; false: the ring is mapped. */
bool nvme_ring_remote_publish(struct nvme_cq *cq);
/* Is a transfer under way? */
bool nvme_ring_remote_is_busy(const struct nvme_ring_remote *r);
bool nvme_ring_remote_any_busy(const struct nvme_cq *cq);
/* The queue is to stand still: those that wait for their next try do not. */
void nvme_ring_remote_unwait(struct nvme_cq *cq);

#endif
