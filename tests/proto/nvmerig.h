/*
 * A vhostd with NVMe devices under test, and up to two guests on it: the fake NVMe driver over the
 * scripted vfio-user client. Built on rig_own_setup(): the daemon is the rig's. The helpers fail
 * the running test themselves.
 */
#ifndef TESTS_PROTO_NVMERIG_H
#define TESTS_PROTO_NVMERIG_H

#include "daemon.h"
#include "nvme_vfu.h"
#include "nvmeload.h"

#define NRIG_CONNS_MAX	  2
#define NRIG_MEMORY_BYTES (48ull << 20)

/* How the guest rings. */
enum nrig_way {
	NRIG_MAPPED,  /* a mapped page (doorbells=mapped) */
	NRIG_TRAPPED, /* a message for each */
	NRIG_SHADOW,  /* shadow doorbells, and messages where EventIdx asks for them */
	NRIG_WAYS
};

struct nconn {
	struct vfe v;
	struct nvmedrv n;
	bool up;
	enum nrig_way way;
	unsigned queues;
	uint32_t block_bytes; /* of namespace 1 */
	uint64_t blocks;
};

int nrig_setup(void **state);
int nrig_teardown(void **state);

/* Starts vhostd with one device, its text without socket (n.sock) and doorbells, for this way; it
 * has a management socket (daemon_call). */
void nrig_start(enum nrig_way way, const char *device);
/* The configuration file "cfg": controllers a.sock and b.sock of one subsystem with these
 * namespaces, as JSON. Starts vhostd on it, or makes a running one read it again. */
void nrig_config(const char *namespaces);
void nrig_start_config(void);
void nrig_reload(void);

/* Connects guest which to socket, enables the controller, makes queue pairs of size entries. */
struct nconn *nrig_up(unsigned which, const char *socket, enum nrig_way way, unsigned queues,
		      uint32_t size);
/* The same of a guest whose memory has no descriptors. */
struct nconn *nrig_up_by_messages(unsigned which, const char *socket, enum nrig_way way,
				  unsigned queues, uint32_t size);
/* The same again after a reset. */
void nrig_enable(struct nconn *c, uint32_t size);
void nrig_drop(unsigned which);
/* Drops all and stops vhostd, if it runs: another one may be started. */
void nrig_stop(void);

/* len bytes of fresh guest memory with a pattern in them. */
uint64_t nrig_data(struct nconn *c, uint64_t len, uint64_t seed);
void *nrig_host(struct nconn *c, uint64_t iova, uint64_t len);
/* One completion, which must come. */
void nrig_wait(struct nconn *c, unsigned cqid, struct nvmedrv_done *ret);
/* The status of one command; fails the test on a broken promise. */
unsigned nrig_do(struct nconn *c, unsigned sqid, const struct spec_nvme_sqe *sqe);
unsigned nrig_rw(struct nconn *c, unsigned sqid, uint8_t opcode, uint64_t lba, uint32_t blocks,
		 uint64_t iova);
/* Pattern written and read back. */
void nrig_io(struct nconn *c, unsigned sqid, uint64_t lba, uint32_t blocks);
unsigned nrig_admin(struct nconn *c, const struct spec_nvme_sqe *sqe, void *data, uint32_t len,
		    bool to_device);

#define assert_status_is(expr, want)                                                               \
	do {                                                                                       \
		unsigned got_ = (expr), want_ = (want);                                            \
		if (got_ != want_)                                                                 \
			fail_msg("%s: status 0x%03x, expected 0x%03x", #expr, got_, want_);        \
	} while (0)

#endif
