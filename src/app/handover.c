#include "app/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "app/reload.h"
#include "app/sdnotify.h"
#include "base/check.h"
#include "base/log.h"
#include "base/num.h"
#include "base/parcel.h"
#include "dev/devices.h"
#include "loop/inherit.h"
#include "mgmt/call.h"
#include "mgmt/http.h"
#include "mgmt/jobs.h"
#include "mgmt/server.h"
#include "mgmt/state.h"
#include "sock/passing.h"

#define HANDOVER_TICK_NS   500000ull
#define HANDOVER_SEND_NS   2000000000ull
#define HANDOVER_HALT_NS   2000000000ull /* the longest that front-ends wait before it is undone */
#define HANDOVER_SERVED_NS 5000000000ull
#define HANDOVER_REAP_MS   200
#define HANDOVER_FD	   3 /* the successor's end of the socket */

enum handover_state {
	HANDOVER_IDLE,
	HANDOVER_WAITING,
	HANDOVER_STARTING,
	HANDOVER_HALTING,
	HANDOVER_PASSING
};

static struct {
	const struct app_config *cfg;
	struct loop *main_loop;
	enum handover_state state;
	void (*done)(const struct handed_over *r);
	uint64_t deadline_ns, halted_ns, quiet_ns;
	struct loop_timer tick;
	struct loop_watch watch;
	bool watching, stopping;
	int sock;
	pid_t pid;
} ho = { .sock = -1 };

static void handover_state_set(enum handover_state state)
{
	static const uint8_t legal[] = {
		[HANDOVER_IDLE] = 1 << HANDOVER_WAITING,
		[HANDOVER_WAITING] = 1 << HANDOVER_STARTING | 1 << HANDOVER_IDLE,
		[HANDOVER_STARTING] = 1 << HANDOVER_HALTING | 1 << HANDOVER_IDLE,
		[HANDOVER_HALTING] = 1 << HANDOVER_PASSING | 1 << HANDOVER_IDLE,
		[HANDOVER_PASSING] = 1 << HANDOVER_IDLE,
	};

	ASSERT(legal[ho.state] & 1 << state);
	ho.state = state;
}

bool handover_active(void)
{
	return ho.state != HANDOVER_IDLE || ho.watching;
}

/* ---- the end of one that fails ---- */

/* The successor's status; one that does not end by itself is ended. -1: it is not known. */
static int handover_reap(void)
{
	const struct timespec ms = { .tv_nsec = 1000000 };
	int status = -1;

	if (!ho.pid)
		return -1;
	for (int i = 0; i < HANDOVER_REAP_MS; i++) {
		if (waitpid(ho.pid, &status, WNOHANG) == ho.pid) {
			ho.pid = 0;
			return status;
		}
		if (i == HANDOVER_REAP_MS / 2)
			kill(ho.pid, SIGKILL);
		nanosleep(&ms, NULL);
	}
	return -1; /* it is left to the kernel */
}

static void handover_on_watch_stopped(struct loop_watch *w)
{
	ho.watching = ho.stopping = false;
	close(ho.sock);
	ho.sock = -1;
}

/* What the other one said is told; if it said nothing, how it ended. */
static void handover_explain(struct err *err, int rc, int status)
{
	if (rc != -ECONNRESET || status < 0)
		return;
	if (WIFSIGNALED(status))
		err_set(err, rc, "the new process was killed by signal %d", WTERMSIG(status));
	else
		err_set(err, rc,
			"the new process ended with status %d; its messages are in the log",
			WEXITSTATUS(status));
}

static void handover_fail(int rc, struct err *err)
{
	const enum handover_state at = ho.state;
	int status;

	loop_timer_stop(&ho.tick);
	if (ho.sock >= 0)
		shutdown(ho.sock, SHUT_RDWR); /* it sees the end */
	if (at >= HANDOVER_HALTING) {
		devices_freeze(false);
		server_freeze(false);
	}
	status = handover_reap();
	handover_explain(err, rc, status);
	if (ho.watching && !ho.stopping) {
		ho.stopping = true;
		loop_watch_stop(&ho.watch, handover_on_watch_stopped);
	}
	handover_state_set(HANDOVER_IDLE);
	call_hold(false);
	err_prefix(err, rc, "hand-over: this process goes on");
	log_error("%s", err->msg);
	ho.done(&(struct handed_over){ .rc = rc, .err = err });
}

static bool handover_late(uint64_t deadline_ns, const char *what)
{
	struct err err = { 0 };

	if (loop_clock_ns() < deadline_ns)
		return false;
	handover_fail(err_set(&err, -ETIMEDOUT, "%s", what), &err);
	return true;
}

void handover_abort(const char *reason)
{
	struct err err = { 0 };

	if (ho.state != HANDOVER_IDLE)
		handover_fail(err_set(&err, -ESHUTDOWN, "%s", reason), &err);
}

/* ---- PASSING ---- */

/* From here this process never serves again. Its descriptors are closed by the kernel, which the
 * other ends do not notice: the successor has them too. */
static noreturn void handover_leave(void)
{
	struct handed_over r = { 0 };
	struct err err = { 0 };
	char text[64];
	int rc = passing_expect(ho.sock, PASSING_SERVING, loop_clock_ns() + HANDOVER_SERVED_NS,
				&err);

	r.pause_ns = loop_clock_ns() - ho.halted_ns;
	if (rc < 0) {
		log_error("hand-over: the new process %d has everything, and did not say that it "
			  "serves: %s",
			  (int)ho.pid, err.msg);
		_exit(1);
	}
	snprintf(text, sizeof(text), "MAINPID=%d", (int)ho.pid);
	sdnotify_send(text, NULL);
	log_notice("handed over to process %d; front-ends waited %.1f ms, %.1f of them for "
		   "requests under way",
		   (int)ho.pid, (double)r.pause_ns / 1e6,
		   (double)(ho.quiet_ns - ho.halted_ns) / 1e6);
	r.pid = (int)ho.pid;
	ho.done(&r);
	_exit(0);
}

static int handover_pack(struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc;

	parcel_section_begin(p, &s, HANDOVER_ALL_TAG, HANDOVER_VERSION);
	rc = devices_pack(p, reterr);
	if (rc == 0)
		rc = server_pack(p, reterr);
	http_pack(p);
	parcel_section_done(p, &s);
	return rc;
}

static void handover_pass(void)
{
	const uint64_t until_ns = MIN(ho.deadline_ns, ho.halted_ns + 2 * HANDOVER_HALT_NS);
	struct parcel p;
	struct err err = { 0 };
	int rc;

	handover_state_set(HANDOVER_PASSING);
	ho.quiet_ns = loop_clock_ns();
	parcel_init(&p);
	rc = handover_pack(&p, &err);
	if (rc == 0)
		rc = passing_send_parcel(ho.sock, &p, until_ns, &err);
	parcel_fini(&p);
	if (rc == 0)
		rc = passing_expect(ho.sock, PASSING_UNPACKED, until_ns, &err);
	if (rc == 0)
		rc = passing_send(ho.sock, PASSING_GO, NULL, until_ns, &err);
	if (rc < 0)
		handover_fail(rc, &err);
	else
		handover_leave();
}

/* ---- HALTING ---- */

static void handover_halt(void)
{
	handover_state_set(HANDOVER_HALTING);
	ho.halted_ns = loop_clock_ns();
	server_freeze(true);
	devices_freeze(true);
	loop_timer_start(ho.main_loop, &ho.tick, loop_clock_ns());
}

static void handover_halting_step(void)
{
	const char *waits = devices_hand_waits();
	char text[160];

	if (!waits && state_is_quiet()) {
		handover_pass();
		return;
	}
	snprintf(text, sizeof(text),
		 "%.64s: not at a halt within %llu ms: requests under way take longer",
		 waits ? waits : "--state", HANDOVER_HALT_NS / 1000000);
	if (!handover_late(MIN(ho.deadline_ns, ho.halted_ns + HANDOVER_HALT_NS), text))
		loop_timer_start(ho.main_loop, &ho.tick, loop_clock_ns() + HANDOVER_TICK_NS);
}

/* ---- STARTING ---- */

static void handover_on_message(struct loop_watch *w, uint32_t revents)
{
	struct err err = { 0 };
	int rc;

	if (ho.state != HANDOVER_STARTING && ho.state != HANDOVER_HALTING)
		return;
	rc = passing_expect(ho.sock, PASSING_READY, loop_clock_ns() + HANDOVER_SEND_NS, &err);
	if (rc == 0 && ho.state == HANDOVER_HALTING)
		rc = err_set(&err, -EPROTO, "the new process said READY twice");
	if (rc < 0)
		handover_fail(rc, &err);
	else
		handover_halt();
}

static bool def_is_inherited(const struct device_def *def)
{
	return def->inherited;
}

static bool def_is_removed(const struct device_def *def)
{
	return !def->running;
}

/* The names of the command line's devices that are so, and NULL. */
static void handover_pack_names(struct parcel *p, bool (*is_so)(const struct device_def *def))
{
	for (uint32_t i = 0; i < ho.cfg->device_count; i++)
		if (is_so(&ho.cfg->devices[i]))
			parcel_put_str(p, ho.cfg->devices[i].name);
	parcel_put_str(p, NULL);
}

/* What the successor needs to open the same things. */
static int handover_pack_first(struct parcel *p, struct err *reterr)
{
	char *calls = state_calls_text();
	struct parcel_section s;
	int rc;

	parcel_section_begin(p, &s, HANDOVER_TAG, HANDOVER_VERSION);
	parcel_put_str(p, VHOSTD_VERSION);
	parcel_put_u32(p, log_get_level());
	parcel_put_str(p, calls);
	parcel_put_u32(p, ho.cfg->rpc.socket_fd != 0);
	parcel_put_u32(p, ho.cfg->rpc.readonly_fd != 0);
	parcel_put_u32(p, ho.cfg->metrics.socket_fd != 0);
	handover_pack_names(p, def_is_inherited);
	rc = calls ? inherit_pack(p, reterr) : err_set(reterr, -ENOMEM, "out of memory");
	handover_pack_names(p, def_is_removed);
	parcel_section_done(p, &s);
	free(calls);
	return rc;
}

/* The file that this process was started from, which may have been replaced; no other. */
static int handover_program(char *path, size_t size, struct err *reterr)
{
	static const char deleted[] = " (deleted)";
	ssize_t n = readlink("/proc/self/exe", path, size - 1);
	size_t tail = sizeof(deleted) - 1;

	if (n < 0)
		return err_set(reterr, -errno, "/proc/self/exe: %s", strerror(errno));
	path[n] = '\0';
	if ((size_t)n > tail && !strcmp(path + n - tail, deleted))
		path[n - (ssize_t)tail] = '\0';
	return 0;
}

/* Only standard input, output, error and the socket go along. */
static int handover_exec(const char *path, char **argv, int sock, struct err *reterr)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, defaults;
	int rc;

	sigemptyset(&none);
	sigfillset(&defaults);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	rc = posix_spawn_file_actions_adddup2(&files, sock, HANDOVER_FD);
	if (rc == 0)
		rc = posix_spawn_file_actions_addclosefrom_np(&files, HANDOVER_FD + 1);
	if (rc == 0)
		rc = posix_spawn(&ho.pid, path, &files, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	if (rc == 0)
		return 0;
	ho.pid = 0;
	return err_set(reterr, -rc, "%.300s: cannot be started: %s", path, strerror(rc));
}

static int handover_spawn(int sock, struct err *reterr)
{
	char path[4096], option[32];
	char **argv = calloc((size_t)ho.cfg->argc + 2, sizeof(*argv));
	int rc = argv ? handover_program(path, sizeof(path), reterr)
		      : err_set(reterr, -ENOMEM, "out of memory");

	if (rc == 0) {
		snprintf(option, sizeof(option), HANDOVER_OPTION "%d", HANDOVER_FD);
		argv[0] = ho.cfg->argv[0];
		argv[1] = option;
		for (int i = 1; i < ho.cfg->argc; i++)
			argv[i + 1] = ho.cfg->argv[i];
		rc = handover_exec(path, argv, sock, reterr);
	}
	free(argv);
	return rc;
}

/* ho.sock, and the other end. */
static int handover_sockets(int *ret_other, struct err *reterr)
{
	int sv[2], at;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(reterr, -errno, "socketpair: %s", strerror(errno));
	/* dup2 onto itself would leave close-on-exec set */
	at = fcntl(sv[1], F_DUPFD_CLOEXEC, HANDOVER_FD + 1);
	close(sv[1]);
	if (at < 0) {
		close(sv[0]);
		return err_set(reterr, -errno, "socketpair: %s", strerror(errno));
	}
	ho.sock = sv[0];
	*ret_other = at;
	ho.watching = true;
	loop_watch_start(ho.main_loop, &ho.watch, ho.sock, POLLIN, handover_on_message);
	return 0;
}

/* What moves data in this process would end with it. */
static int handover_jobs_check(struct err *reterr)
{
	for (const struct long_job *j = jobs_next(NULL); j; j = jobs_next(j))
		if (jobs_runs(j))
			return err_set(
				reterr, -EBUSY,
				"job %llu is running: wait for its end (job_wait), or cancel it",
				(unsigned long long)jobs_id(j));
	return 0;
}

static void handover_begin(void)
{
	struct parcel p;
	struct err err = { 0 };
	int other, rc;

	handover_state_set(HANDOVER_STARTING);
	parcel_init(&p);
	rc = handover_jobs_check(&err); /* a call that has just ended may have begun one */
	if (rc == 0)
		rc = handover_pack_first(&p, &err);
	if (rc == 0)
		rc = handover_sockets(&other, &err);
	if (rc == 0) {
		rc = handover_spawn(other, &err);
		close(other);
	}
	if (rc == 0)
		rc = passing_send_parcel(ho.sock, &p, loop_clock_ns() + HANDOVER_SEND_NS, &err);
	parcel_fini(&p);
	if (rc < 0)
		handover_fail(rc, &err);
	else
		loop_timer_start(ho.main_loop, &ho.tick, ho.deadline_ns);
}

/* ---- WAITING ---- */

static void handover_waiting_step(void)
{
	if (!call_changing() && state_is_quiet() && !units_closing() && !devices_leaving() &&
	    !reload_waits())
		handover_begin();
	else if (!handover_late(ho.deadline_ns,
				"calls that change something have not ended in time"))
		loop_timer_start(ho.main_loop, &ho.tick, loop_clock_ns() + HANDOVER_TICK_NS);
}

static void handover_on_tick(struct loop_timer *t)
{
	switch (ho.state) {
	case HANDOVER_WAITING:
		handover_waiting_step();
		break;
	case HANDOVER_STARTING:
		(void)handover_late(ho.deadline_ns, "the new process was not ready in time");
		break;
	case HANDOVER_HALTING:
		handover_halting_step();
		break;
	case HANDOVER_IDLE:
	case HANDOVER_PASSING:
		break;
	}
}

void handover_init(const struct app_config *cfg, struct loop *main_loop)
{
	ho.cfg = cfg;
	ho.main_loop = main_loop;
	loop_timer_init(&ho.tick, handover_on_tick);
}

void handover_start(uint32_t timeout_ms, void (*done)(const struct handed_over *r))
{
	struct err err = { 0 };
	int rc = 0;

	if (handover_active())
		rc = err_set(&err, -EBUSY, "a hand-over is under way");
	else if (!call_runtime())
		rc = err_set(&err, -EBUSY, "the daemon has not started yet");
	else
		rc = devices_hand_check(&err);
	if (rc == 0)
		rc = state_hand_check(&err);
	if (rc == 0)
		rc = handover_jobs_check(&err);
	if (rc < 0) {
		log_warning("hand-over: refused: %s", err.msg);
		done(&(struct handed_over){ .rc = rc, .err = &err });
		return;
	}
	ho.done = done;
	ho.deadline_ns = loop_clock_ns() + timeout_ms * 1000000ull;
	handover_state_set(HANDOVER_WAITING);
	call_hold(true);
	loop_timer_start(ho.main_loop, &ho.tick, loop_clock_ns());
}
