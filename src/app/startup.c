/*
 * Start and end of the daemon. All of it runs on the main loop, its beginning included (as the
 * loop's first message), so that the parts may use the loop from their first line.
 *
 *   STARTING --app_on_start--> SERVING --app_stop--> STOPPING --app_on_drained--> ENDING
 *        \____________________________app_stop (failed)____/
 *
 * STARTING  nothing yet, or partly there; with --wait-for-rpc only the management socket
 * SERVING   sockets listen, READY=1 was sent
 * STOPPING  devices and management socket are asked to stop; `pending` counts who has not answered;
 *           then units that are still being closed are waited for
 * ENDING    only the two watches are left; the last one's end makes loop_run return
 *
 * A second SIGTERM or SIGINT removes the sockets' files and ends the process at once.
 */
#include "app/startup.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "app/handover.h"
#include "app/reload.h"
#include "app/sdnotify.h"
#include "app/successor.h"
#include "base/check.h"
#include "dev/bdev.h"
#include "dev/devices.h"
#include "guest/gmem.h"
#include "loop/job.h"
#include "loop/loop.h"
#include "mgmt/ctrlr.h"
#include "mgmt/framework.h"
#include "mgmt/http.h"
#include "mgmt/jobs.h"
#include "mgmt/replay.h"
#include "mgmt/server.h"
#include "mgmt/state.h"
#include "nvme/subsys.h"
#include "vfu/vfu.h"
#include "vhost/vhost.h"

#define APP_JOB_THREADS 2

enum app_state {
	APP_STARTING,
	APP_SERVING,
	APP_STOPPING,
	APP_ENDING
};

struct app {
	struct app_config *cfg;
	const struct cpus *cpus;
	struct err *reterr;
	int rc;
	enum app_state state;
	uint32_t pending;
	struct loop *main_loop;
	struct loop *loops[APP_LOOPS_MAX];
	uint32_t loop_count;
	bool jobs_started;
	struct replay **replays; /* those of -c, and the state's; or handed */
	struct replay *handed;	 /* of the predecessor: owned */
	uint32_t replay_count;
	struct replay_run replay;
	int signal_fd, lost_fd;
	struct loop_watch signal_watch, lost_watch;
	struct loop_msg start_msg, stop_msg;
	bool stop_posted;
};

/* There is one daemon in a process; signals and devices find it here. Thread: main. */
static struct app app;

static void app_state_set(enum app_state state)
{
	static const uint8_t legal[] = {
		[APP_STARTING] = 1 << APP_SERVING | 1 << APP_STOPPING,
		[APP_SERVING] = 1 << APP_STOPPING,
		[APP_STOPPING] = 1 << APP_ENDING,
		[APP_ENDING] = 0,
	};

	ASSERT(legal[app.state] & 1 << state);
	app.state = state;
}

/* ---- the end ---- */

static void app_pending_leave(void);

static void app_watch_on_stopped(struct loop_watch *w)
{
	app_pending_leave();
}

/* Every device is gone (STOPPING), or every watch (ENDING). */
static void app_on_drained(void)
{
	if (app.state == APP_ENDING) {
		loop_quit(app.main_loop);
		return;
	}
	if (units_closing()) /* then app_on_unit_closed */
		return;
	app_state_set(APP_ENDING);
	app.pending = 2;
	loop_watch_stop(&app.signal_watch, app_watch_on_stopped);
	loop_watch_stop(&app.lost_watch, app_watch_on_stopped);
}

static void app_pending_leave(void)
{
	ASSERT(app.pending);
	if (--app.pending == 0)
		app_on_drained();
}

static void app_on_unit_closed(void)
{
	if (app.state == APP_SERVING)
		reload_on_unit_closed();
	else if (app.state == APP_STOPPING && !app.pending)
		app_on_drained();
}

static void app_on_server_stopped(void *arg)
{
	app_pending_leave();
}

static void app_on_state_stopped(void *arg)
{
	app_pending_leave();
}

static void app_on_jobs_stopped(void *arg)
{
	app_pending_leave();
}

static void app_on_devices_drained(void *arg)
{
	app_pending_leave();
}

static void app_stop(void)
{
	handover_abort("the daemon is stopping");
	app_state_set(APP_STOPPING);
	sdnotify_send("STOPPING=1", NULL);
	app.pending = 6; /* the state, jobs, devices, the servers, and until all were asked */
	state_stop(app_on_state_stopped, NULL);
	jobs_stop(app_on_jobs_stopped, NULL);
	server_stop(app.main_loop, app_on_server_stopped, NULL);
	http_stop(app.main_loop, app_on_server_stopped, NULL);
	devices_stop_all();
	app_pending_leave();
}

static void app_on_stop_msg(struct loop_msg *msg)
{
	if (app.state == APP_SERVING || app.state == APP_STARTING)
		app_stop();
}

static void app_stop_later(void)
{
	if (app.stop_posted)
		return;
	app.stop_posted = true;
	app.stop_msg.fn = app_on_stop_msg;
	loop_post(app.main_loop, &app.stop_msg);
}

/* Not from within the device's own call: a message later. */
static void app_on_devices_done(void *arg)
{
	app_stop_later();
}

/* ---- signals, and memory lost to a front-end's truncation ---- */

static void app_rescan(void)
{
	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev)) {
		struct err err = { 0 };

		if (device_rescan(dev, &err) < 0)
			log_error("rescan: %s", err.msg);
	}
}

/* SIGHUP. A successor reads the configuration anyway. */
static void app_hang_up(void)
{
	if (handover_active()) {
		log_warning("reload: a hand-over is under way: nothing was changed");
		return;
	}
	app_rescan();
	if (app.state == APP_SERVING)
		reload_run(app.cfg);
}

/* Nobody is there to be answered; the log has what became of it. */
static void app_on_handed_over(const struct handed_over *r)
{
}

/* SIGUSR2. */
static void app_upgrade(void)
{
	if (app.state == APP_SERVING)
		handover_start(HANDOVER_SIGNAL_MS, app_on_handed_over);
	else
		log_warning("hand-over: the daemon is starting or stopping: nothing was done");
}

static noreturn void app_exit_now(void)
{
	devices_unlink_all();
	server_unlink();
	http_unlink();
	_exit(1);
}

static void app_on_signal(struct loop_watch *w, uint32_t revents)
{
	struct signalfd_siginfo si;

	while (read(app.signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		if (si.ssi_signo == SIGHUP) {
			app_hang_up();
			continue;
		}
		if (si.ssi_signo == SIGUSR2) {
			app_upgrade();
			continue;
		}
		if (app.state == APP_STOPPING)
			app_exit_now();
		if (app.state == APP_SERVING || app.state == APP_STARTING)
			app_stop();
	}
}

static void app_on_lost(struct loop_watch *w, uint32_t revents)
{
	uint64_t count;

	if (read(app.lost_fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
		return;
	vhost_check_lost();
	vhost_nvme_check_lost();
	vfu_check_lost();
}

/* Before any thread: they inherit the mask. */
static int app_signals_open(struct err *reterr)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* RLIMIT_FSIZE: an error of write, as others */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	app.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (app.signal_fd < 0)
		return err_set(reterr, -errno, "signalfd: %s", strerror(errno));
	app.lost_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (app.lost_fd < 0)
		return err_set(reterr, -errno, "eventfd: %s", strerror(errno));
	return gmem_fault_install(app.lost_fd, reterr);
}

/* ---- the beginning ---- */

/* Each front-end brings descriptors by the dozen. */
static void app_nofile_raise(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
}

static int app_devices_open(struct err *reterr)
{
	int rc = 0;

	for (uint32_t i = 0; i < app.cfg->device_count && rc == 0; i++) {
		struct device_def *def = &app.cfg->devices[i];
		struct device *dev;

		if (!def->removed)
			rc = devices_add(def, NULL, NULL, &dev, reterr);
	}
	return rc;
}

static int app_loops_start(struct err *reterr)
{
	int rc = job_threads_start(APP_JOB_THREADS, reterr);

	if (rc < 0)
		return rc;
	app.jobs_started = true;
	for (uint32_t i = 0; i < app.cpus->count; i++) {
		char name[24];
		const struct loop_params params = { .name = name, .cpu = app.cpus->cpu[i] };

		snprintf(name, sizeof(name), "vhostd-io%u", i);
		rc = loop_new(&params, &app.loops[i], reterr);
		if (rc < 0)
			return err_prefix(reterr, rc, "data loop %u", i);
		app.loop_count++;
		rc = loop_thread_start(app.loops[i], reterr);
		if (rc < 0)
			return err_prefix(reterr, rc, "data loop %u", i);
	}
	return 0;
}

static int app_server_start(struct err *reterr)
{
	return server_start(&app.cfg->rpc, !app.cfg->one_disk, app.main_loop, reterr);
}

static int app_metrics_start(struct err *reterr)
{
	const struct snapshot_source source = {
		.main_loop = app.main_loop,
		.loops = app.loops,
		.loop_count = &app.loop_count,
		.device_next = devices_next,
	};

	return http_start(&app.cfg->metrics, !app.cfg->one_disk, &source, reterr);
}

/* Who called framework_start_init is told first. */
static void app_failed(int rc)
{
	if (successor_active()) { /* sockets and files are another's: nothing is taken down */
		successor_fail(app.reterr->msg);
		_exit(1);
	}
	app.rc = rc;
	framework_inited(rc, app.reterr);
	app_stop_later();
}

static void app_state_begin(void)
{
	state_begin(app.main_loop, app.cfg->replays, app.cfg->replay_count);
}

static int app_sockets_start(struct err *reterr)
{
	int rc = devices_start_all(reterr);

	bdev_names_restored();
	if (rc < 0)
		return rc;
	app_state_begin();
	if (!app.cfg->rpc.wait_for_rpc)
		rc = app_server_start(reterr);
	return rc < 0 ? rc : app_metrics_start(reterr);
}

/* The devices and sockets of the predecessor, all at a halt. */
static int app_take(struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc = parcel_section_enter(p, &s, HANDOVER_ALL_TAG, HANDOVER_VERSION, reterr);

	if (rc == 0)
		rc = devices_unpack(p, reterr);
	if (rc == 0)
		rc = server_unpack(&app.cfg->rpc, !app.cfg->one_disk, app.main_loop, p, reterr);
	if (rc == 0)
		rc = http_unpack(p, reterr);
	return rc < 0 ? rc : parcel_section_end(p, &s, HANDOVER_ALL_TAG, reterr);
}

static int app_take_over(struct err *reterr)
{
	struct err err = { 0 };
	struct parcel *p;
	int rc = successor_ready(&p, reterr);

	if (rc == 0)
		rc = app_take(p, reterr);
	if (rc == 0)
		rc = successor_go(reterr);
	if (rc < 0)
		return rc;
	nvme_subsys_hold(false);
	devices_freeze(false);
	successor_serves();
	bdev_names_restored();
	state_take_over();
	app_state_begin();
	if (app_metrics_start(&err) < 0)
		log_error("%s", err.msg);
	server_freeze(false);
	return 0;
}

/* Everything is there: now the sockets. */
static void app_on_replayed(struct replay_run *run, int rc)
{
	const bool successor = successor_active();
	struct err err = { 0 };

	if (app.state != APP_STARTING)
		return;
	if (rc == 0)
		rc = successor ? app_take_over(app.reterr) : app_sockets_start(app.reterr);
	if (rc < 0) {
		app_failed(rc);
		return;
	}
	app_state_set(APP_SERVING);
	framework_inited(0, NULL);
	/* A successor's start is told by its predecessor, whom systemd listens to. */
	if (!successor && sdnotify_send("READY=1", &err) < 0)
		log_warning("%s", err.msg);
}

static void app_replay(bool early, void (*done)(struct replay_run *run, int rc))
{
	app.replay = (struct replay_run){ .list = app.replays,
					  .count = app.replay_count,
					  .early = early,
					  .ignore = app.cfg->ignore_init_errors,
					  .reterr = app.reterr,
					  .done = done };
	replay_start(&app.replay);
}

/* What disks of the command line may be made of is there: now they, and then the other calls. */
static void app_on_replayed_early(struct replay_run *run, int rc)
{
	if (app.state != APP_STARTING)
		return;
	if (rc == 0)
		rc = app_devices_open(app.reterr);
	if (rc < 0)
		app_failed(rc);
	else
		app_replay(false, app_on_replayed);
}

/* The command line wins its names: the state must have none of them. */
static int app_state_check(const struct replay *saved, struct err *reterr)
{
	int rc = 0;

	for (uint32_t i = 0; i < app.cfg->replay_count && rc == 0; i++)
		rc = replay_check_apart(saved, app.cfg->replays[i], reterr);
	for (uint32_t i = 0; i < app.cfg->device_count && rc == 0; i++) {
		const struct device_def *def = &app.cfg->devices[i];
		const struct replay_call *c = replay_find_controller(saved, def->name);

		if (c)
			rc = err_set(reterr, -EEXIST,
				     "%.150s:%u: %s: '%.64s' is also the name of %s: give that "
				     "another name, or delete the controller",
				     saved->file.path, replay_line(saved, c), c->method, def->name,
				     def->where);
	}
	return rc;
}

/* The predecessor's calls, in place of those of -c and of the state. */
static int app_replays_inherit(struct err *reterr)
{
	int rc;

	nvme_subsys_hold(true);
	app.replays = calloc(1, sizeof(*app.replays));
	if (!app.replays)
		return err_set(reterr, -ENOMEM, "out of memory");
	app.replay_count = 1;
	rc = successor_replay(&app.handed, reterr);
	app.replays[0] = app.handed;
	return rc;
}

static int app_state_open(struct err *reterr)
{
	struct replay *saved = NULL;
	int rc = app.cfg->state ? state_open(app.cfg->state, &saved, reterr) : 0;

	if (rc == 0 && successor_active())
		return app_replays_inherit(reterr);
	if (rc == 0 && saved)
		rc = app_state_check(saved, reterr);
	if (rc < 0)
		return rc;
	app.replays = calloc(app.cfg->replay_count + 1, sizeof(*app.replays));
	if (!app.replays)
		return err_set(reterr, -ENOMEM, "out of memory");
	if (app.cfg->replay_count)
		memcpy(app.replays, app.cfg->replays, app.cfg->replay_count * sizeof(*app.replays));
	app.replay_count = app.cfg->replay_count;
	if (saved)
		app.replays[app.replay_count++] = saved;
	return 0;
}

/* The devices, and with --wait-for-rpc all that is after it. */
static void app_begin(void)
{
	int rc = app_loops_start(app.reterr);

	if (rc == 0)
		rc = app_state_open(app.reterr);
	if (rc < 0) {
		app_failed(rc);
		return;
	}
	devices_hold();
	app_replay(true, app_on_replayed_early);
}

static void app_on_start(struct loop_msg *msg)
{
	const struct framework about = {
		.main_loop = app.main_loop,
		.loops = app.loops,
		.loop_count = &app.loop_count,
		.start_init = app_begin,
		.hand_over = handover_start,
		.socket_dir = app.cfg->rpc.socket_dir,
	};
	const struct devices_params params = {
		.main_loop = app.main_loop,
		.loops = app.loops,
		.loop_count = &app.loop_count,
		.on_done = app_on_devices_done,
		.on_drained = app_on_devices_drained,
	};
	int rc;

	framework_set(&about);
	handover_init(app.cfg, app.main_loop);
	devices_init(&params);
	ctrlr_init();
	units_on_closed_set(app_on_unit_closed);
	loop_watch_start(app.main_loop, &app.signal_watch, app.signal_fd, POLLIN, app_on_signal);
	loop_watch_start(app.main_loop, &app.lost_watch, app.lost_fd, POLLIN, app_on_lost);
	if (!app.cfg->rpc.wait_for_rpc || successor_active()) {
		app_begin();
		return;
	}
	rc = app_server_start(app.reterr);
	if (rc < 0)
		app_failed(rc);
}

/* The loop has ended: nothing runs any more but idle threads. */
static void app_take_down(void)
{
	/* First: a job's last step is to wake the loop that it belongs to. */
	if (app.jobs_started)
		job_threads_stop();
	jobs_fini();
	for (uint32_t i = 0; i < app.loop_count; i++)
		loop_quit(app.loops[i]);
	for (uint32_t i = 0; i < app.loop_count; i++)
		loop_free(app.loops[i]);
	loop_free(app.main_loop);
	state_close();
	replay_free(app.handed);
	free(app.replays);
	close(app.signal_fd);
	close(app.lost_fd);
}

int app_run(struct app_config *cfg, const struct cpus *cpus, struct err *reterr)
{
	const struct loop_params params = { .name = "vhostd", .cpu = -1 };
	int rc;

	app = (struct app){
		.cfg = cfg, .cpus = cpus, .reterr = reterr, .signal_fd = -1, .lost_fd = -1
	};
	app_nofile_raise();
	rc = app_signals_open(reterr);
	if (rc < 0)
		return rc;
	rc = loop_new(&params, &app.main_loop, reterr);
	if (rc < 0)
		return err_prefix(reterr, rc, "main loop");
	app.start_msg.fn = app_on_start;
	loop_post(app.main_loop, &app.start_msg);
	loop_run(app.main_loop);
	app_take_down();
	return app.rc;
}
