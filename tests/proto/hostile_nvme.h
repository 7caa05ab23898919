/* What the modes that attack NVMe devices share: one guest with its controller. */
#ifndef TESTS_PROTO_HOSTILE_NVME_H
#define TESTS_PROTO_HOSTILE_NVME_H

#include "hostile.h"
#include "nvme_vfu.h"
#include "vnvmefe.h"

#define NHOST_QUEUES   4
#define NHOST_SIZE     64
#define NHOST_READONLY 0x100000000ull /* a region that may only be read */
#define NHOST_PAGE                                                                                 \
	0x200000000ull		 /* where the doorbell page is told to be, without a descriptor    \
				  */
#define NHOST_CUT 0x300000000ull /* memory that can be cut */

struct nhost {
	bool vhost, up;
	struct vfe v;
	struct fe fe;
	struct vnvmefe u;
	struct nvmedrv n;
	uint64_t data; /* pages of the requests */
};

struct nhost_opts {
	bool vhost;
	unsigned queues;
	int timeout_ms;
	bool wild;     /* other regions, shadow doorbells by chance */
	bool cut;      /* all memory is such that it can be cut */
	bool no_start; /* connected only */
};

/* false: the server did not follow (which is its right). */
bool nhost_up(struct nhost *a, const char *path, const struct nhost_opts *o);
void nhost_down(struct nhost *a);
struct fe *nhost_fe(struct nhost *a);
/* Answers and requests of the server are thrown away; false: it hung up. */
bool nhost_swallow(struct nhost *a);
/* An entry in the ring of queue qid, and the doorbell (tail rung truly, or not at all). */
void nhost_put(struct nhost *a, unsigned qid, const struct spec_nvme_sqe *sqe, bool ring);
/* Completions are taken: the heads of all completion queues. */
void nhost_take(struct nhost *a);
/* Honest reads and writes on all queues, not waited for. */
void nhost_burst(struct nhost *a, unsigned n);
/* Anything in all fields, with opcodes that are there mostly. */
struct spec_nvme_sqe nhost_wild(struct nhost *a, bool admin);

#endif
