/*
 * The real vhostd under test, and the rig most tests stand on: one daemon in its own folder, one
 * front-end, one queue of the fake driver, block requests on it.
 *
 * daemon_start() forks and executes the binary named by VHOSTD. In its arguments "@" stands for
 * the daemon's folder and a slash. What it writes to stderr goes to a file there, which is shown
 * when something is wrong. Every stop demands exit status 0 and a log without a sanitizer's report.
 *
 * With PROTO_TRANSPORT=vfio-user in the environment devices of the command line get that transport,
 * and front-ends speak it (vpcife.h): tests of what is behind a transport run over each.
 *
 * The helpers below fail the running test by themselves; a test reads as what it expects.
 */
#ifndef TESTS_PROTO_DAEMON_H
#define TESTS_PROTO_DAEMON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "blkdrv.h"
#include "vpcife.h"

struct daemon {
	pid_t pid; /* 0: not running */
	char dir[64];
	const char *args[24];
	char text[24][256];
	unsigned arg_count;
	int call_fd;	   /* 0: no call is under way */
	char call[128];	   /* for messages */
	char answer[1024]; /* of the last call */
};

/* Makes the folder. Exits 77 (skipped) when VHOSTD is not set. */
void daemon_init(struct daemon *d);
void daemon_fini(struct daemon *d);
/* A path in the folder; a few results stay valid at a time. */
const char *daemon_path(struct daemon *d, const char *name);
/* Arguments up to NULL. The sockets may not be there yet: fe_connect() waits for them. */
void daemon_start(struct daemon *d, ...);
void daemon_start_again(struct daemon *d); /* the same arguments */
/* SIGTERM; it must end with status 0 within 10 s (30 under sanitizers). */
void daemon_stop(struct daemon *d);
/* The same without judgement: the wait status, or -1 when it had to be killed. */
int daemon_end(struct daemon *d);
/* SIGKILL. */
void daemon_kill(struct daemon *d);
bool daemon_alive(struct daemon *d);
/* 0 when the log is clean; prints it otherwise. */
int daemon_log_check(struct daemon *d);
void daemon_log_show(struct daemon *d);
bool daemon_log_has(struct daemon *d, const char *text);
unsigned daemon_fd_count(struct daemon *d);
/* Connections end in their own time: waits until at most so many are left, 5 s at most. */
unsigned daemon_fd_settled(struct daemon *d, unsigned most);
unsigned long daemon_rss_kib(struct daemon *d);
/*
 * One call of the management socket "@rpc", with params as JSON, begun; and whether it was
 * answered, with success (else the test fails).
 */
void daemon_call_begin(struct daemon *d, const char *method, const char *params);
bool daemon_call_ended(struct daemon *d);
/* Both. */
void daemon_call(struct daemon *d, const char *method, const char *params);
/* Waits for the answer, which may tell of an error: it is in d->answer. */
void daemon_answer(struct daemon *d);
/*
 * framework_hand_over begun; and whether another process serves now, which is d's from then on: the
 * one before ended with status 0 (else the test fails).
 */
void daemon_hand_over_begin(struct daemon *d);
bool daemon_hand_over_ended(struct daemon *d);
/* Both. */
void daemon_hand_over(struct daemon *d);
/* A file of this size in the folder, filled with pattern bytes. */
void daemon_image(struct daemon *d, const char *name, uint64_t bytes);

struct rig {
	struct daemon d;
	union {
		struct fe fe;
		struct vpcife pci; /* begins with it */
	};
	struct drv q;
	struct blkdrv b;
	bool has_queue;
};

bool rig_over_vfio_user(void);
/* A front-end of the transport that is tested; p->v.fe is it. */
void rig_fe_init(struct vpcife *p);

/* One daemon of a group: "@a.sock" on a RAM disk of 64 MiB, 4 queues of at most 1024. */
int rig_group_setup(void **state);
int rig_group_teardown(void **state);
/* Before and after each test of such a group: a fresh front-end; a daemon that still serves. */
int rig_setup(void **state);
int rig_teardown(void **state);

/* For a test that starts daemons of its own; what runs at its end is stopped as daemon_stop does.
 */
int rig_own_setup(void **state);
int rig_own_teardown(void **state);
/* The rig of the running test; *state is free for a table's row. */
struct rig *rig_get(void);

/* Negotiates all with the given options and opens queue 0; o may be NULL. */
void rig_up(struct rig *r, const struct fe_up_opts *o);
/* Connects only, or connects and negotiates everything offered. */
void rig_connect(struct rig *r);
void rig_negotiate(struct rig *r);
/* Drops the connection and everything of the front-end, and starts with a new one. */
void rig_drop(struct rig *r);
/* The daemon lives, and a new connection gets an answer. */
void rig_still_serves(struct rig *r);
/* One write and read back of a pattern at sector, on queue 0. */
void rig_io(struct rig *r, uint64_t sector);

/*
 * The request is refused: a non-zero acknowledgement, an empty answer, or the end of the
 * connection. Answers whether the connection lives on.
 */
bool rig_refused(struct rig *r, uint32_t req, uint32_t flags, const void *payload, uint32_t len,
		 const int *fds, unsigned fd_count);

#define assert_ok(expr)                                                                            \
	do {                                                                                       \
		int rc_ = (expr);                                                                  \
		if (rc_)                                                                           \
			fail_msg("%s: %d", #expr, rc_);                                            \
	} while (0)

uint64_t now_us(void);
/* Time for the server to do something that shows no event, or for chance to fall otherwise. */
void pause_us(uint64_t us);
void fill_pattern(void *to, uint32_t len, uint64_t seed);

#endif
