/*
 * What the methods about the daemon itself need of it. The application says it once, before the
 * management socket is there.
 * Thread: main.
 */
#ifndef MGMT_FRAMEWORK_H
#define MGMT_FRAMEWORK_H

#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"

/* What has become of a hand-over. */
struct handed_over {
	int rc; /* 0, or -errno, and err says why: this process goes on */
	const struct err *err;
	int pid;	   /* of the process that serves now */
	uint64_t pause_ns; /* as long as that nothing was served */
};

struct framework {
	struct loop *main_loop;
	struct loop *const *loops; /* the data loops; may be started later */
	const uint32_t *loop_count;
	/*
	 * --wait-for-rpc: framework_start_init was called. framework_inited follows, at once or
	 * later.
	 */
	void (*start_init)(void);
	/* framework_hand_over; done is called once, and after a success the process ends. */
	void (*hand_over)(uint32_t timeout_ms, void (*done)(const struct handed_over *r));
	const char *socket_dir; /* of devices that methods make; NULL: the default */
};

void framework_set(const struct framework *f);
const struct framework *framework_get(void);
/* What thread_get_stats calls id. 0: no loop of the daemon's. */
uint32_t framework_thread_id(const struct loop *loop);
/* The daemon serves, or could not: who waits for it is answered. */
void framework_inited(int rc, const struct err *err);

#endif
