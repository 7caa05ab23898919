/*
 * libFuzzer: commands to the SCSI device server, without a transport. Two nexuses on two units of
 * one host; a program of commands, task management, hot plug, resets of the connection.
 *
 * Input: a byte for the world (back-end, block size, state file), then steps: a struct step, the
 * bytes of the CDB, the bytes that data-out begins with. Buffers have the length that the step
 * says, each piece in memory of its own: the sanitizer sees a read or write past any of them.
 * Checked: each task ends once and later, with an end and a status that exist; CHECK CONDITION
 * brings sense data; no more was transferred than there was room for; data-out is not written to.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/num.h"
#include "blk/backend/sim.h"
#include "blk/blk.h"
#include "loop/job.h"
#include "loop/loop.h"
#include "scsi/scsi_impl.h" /* background_count: is anything going on behind an answer? */

#define NEXUSES	   2
#define UNITS	   2
#define TASKS_MAX  32
#define STEPS_MAX  48
#define DATA_MAX   16384u
#define PIECES_MAX 4
#define END_NS	   5000000000ull
#define SIZE_TEXT  "size=256K"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

enum step_how {
	HOW_NEXUS = 1,
	HOW_UNIT = 2,
	HOW_NO_WAIT = 4,
	HOW_WILD_LUN = 8,
	HOW_PIECES = 16,
	HOW_OTHER = 128, /* not a command: cdb[0] says what */
};

enum other {
	OTHER_TMF,
	OTHER_UNPLUG,
	OTHER_PLUG,
	OTHER_RECONNECT,
	OTHER_HOLD,
	OTHER_RELEASE,
	OTHER_RESIZE,
	OTHER_KINDS,
};

struct step {
	uint8_t how, cdb_bytes, tag, fill_bytes;
	uint16_t out_bytes, in_bytes;
};

struct buffer {
	struct iovec iov[PIECES_MAX];
	struct iov_cur cur;
	uint32_t bytes;
};

struct fuzz_task {
	struct scsi_task task;
	struct scsi_queue *queue;
	struct buffer out, in;
	uint32_t out_sum;
	bool busy, starting;
};

struct fuzz_tmf {
	struct scsi_tmf tmf;
	struct scsi_queue *queue;
	bool busy;
};

static struct loop *main_loop, *data_loop;
static char folder[64], state_path[80];

/* One input's world. */
static struct scsi_host *host;
static struct blk_dev *disks[UNITS];
static struct scsi_lu *units[UNITS];
static bool plugged[UNITS];
static uint32_t detaching;
static struct scsi_nexus *nexuses[NEXUSES];
static struct scsi_queue *queues[NEXUSES];
static struct fuzz_task tasks[TASKS_MAX];
static struct fuzz_tmf tmfs[NEXUSES];
static bool sim;

static void folder_remove(void)
{
	unlink(state_path);
	rmdir(folder);
}

static void world_make(void)
{
	log_set_level(LOG_ERROR);
	snprintf(folder, sizeof(folder), "/tmp/fuzz-scsi-XXXXXX");
	ASSERT(mkdtemp(folder));
	snprintf(state_path, sizeof(state_path), "%s/state", folder);
	atexit(folder_remove);
	cdb_init();
	ASSERT(!loop_new(&(struct loop_params){ .name = "main", .cpu = -1 }, &main_loop, NULL));
	ASSERT(!loop_new(&(struct loop_params){ .name = "data", .cpu = -1 }, &data_loop, NULL));
	ASSERT(!job_threads_start(1, NULL));
}

static void turn(void)
{
	loop_run_once(main_loop, false);
	loop_run_once(data_loop, false);
}

/* Commands start on their loop, hosts and units change on main's: as jobs and sweeps expect. */
struct call {
	struct loop_msg msg;
	void (*fn)(void *arg);
	void *arg;
	bool ran;
};

static void on_call(struct loop_msg *msg)
{
	struct call *call = container_of(msg, struct call, msg);

	call->fn(call->arg);
	call->ran = true;
}

static void call_on(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct call call = { .msg.fn = on_call, .fn = fn, .arg = arg };

	loop_post(loop, &call.msg);
	while (!call.ran)
		loop_run_once(loop, false);
}

static void on_event(void *arg, const struct scsi_event *event)
{
	uint32_t *target_max = arg;

	ASSERT(event->type <= SCSI_EVENT_PARAM_CHANGED);
	ASSERT(event->target <= *target_max);
}

/* ---- nexuses and units ---- */

static uint32_t target_max = 1;

static void nexus_open(unsigned n)
{
	static const char *const names[NEXUSES] = { "iqn.fuzz:a", "iqn.fuzz:b" };

	ASSERT(!scsi_nexus_open(host, names[n], on_event, &target_max, &nexuses[n], NULL));
	ASSERT(!scsi_queue_open(nexuses[n], data_loop, &queues[n], NULL));
}

static void nexus_close(unsigned n)
{
	scsi_queue_close(queues[n]);
	scsi_nexus_close(nexuses[n]);
}

static void on_detached(void *arg)
{
	ASSERT(detaching);
	detaching--;
}

static void unit_make(unsigned u, uint8_t how)
{
	static const char *const types[4] = { "ram", "sim", "ram", "sim" };
	static const char *const texts[4] = {
		SIZE_TEXT,
		SIZE_TEXT ",delay-min-ns=0,delay-max-ns=20000,volatile-cache=on",
		SIZE_TEXT ",block-size=4096",
		SIZE_TEXT ",fail-every=5",
	};
	struct scsi_lu_params params = { .name = u ? "one" : "zero",
					 .serial = u ? "serial-one" : "serial-zero",
					 .rotation_rpm = 1,
					 .read_only = u && how & 4 };

	if (!u && how & 8)
		params.state_path = state_path;
	ASSERT(!blk_dev_open(types[how & 3], params.name, texts[how & 3], &disks[u], NULL));
	params.dev = disks[u];
	ASSERT(!scsi_lu_new(&params, &units[u], NULL));
}

static void world_open(uint8_t how)
{
	struct err err;

	sim = how & 1;
	unlink(state_path);
	ASSERT(!scsi_host_new("fuzz", &host, NULL));
	for (unsigned u = 0; u < UNITS; u++) {
		unit_make(u, how);
		/* (0, 0) and (1, 300): peripheral and flat. */
		ASSERT(!scsi_host_attach(host, u, u * 300, units[u], &err));
		plugged[u] = true;
	}
	for (unsigned n = 0; n < NEXUSES; n++)
		nexus_open(n);
}

/* ---- tasks ---- */

static void buffer_make(struct buffer *b, uint32_t bytes, bool pieces)
{
	uint32_t each = pieces && bytes >= PIECES_MAX ? bytes / PIECES_MAX : bytes, count = 0;

	b->bytes = bytes;
	for (uint32_t at = 0; at < bytes; count++) {
		uint32_t n = count + 1 == PIECES_MAX ? bytes - at : MIN(each, bytes - at);

		b->iov[count] = (struct iovec){ .iov_base = calloc(1, n), .iov_len = n };
		ASSERT(b->iov[count].iov_base);
		at += n;
	}
	iov_cur_init(&b->cur, b->iov, count, bytes);
}

/* The cursor may have moved the elements' starts: copies of them are what is freed. */
struct pieces {
	struct iovec iov[PIECES_MAX];
};

static struct pieces out_pieces[TASKS_MAX], in_pieces[TASKS_MAX];

static uint32_t pieces_sum(const struct pieces *p)
{
	uint32_t sum = 1;

	for (unsigned i = 0; i < PIECES_MAX; i++)
		for (size_t k = 0; k < p->iov[i].iov_len; k++)
			sum = sum * 31 + ((const uint8_t *)p->iov[i].iov_base)[k];
	return sum;
}

static void pieces_free(struct pieces *p)
{
	for (unsigned i = 0; i < PIECES_MAX; i++)
		free(p->iov[i].iov_base);
	memset(p, 0, sizeof(*p));
}

static bool status_exists(uint8_t status)
{
	return status == SCSI_GOOD || status == SCSI_CHECK_CONDITION ||
	       status == SCSI_CONDITION_MET || status == SCSI_BUSY ||
	       status == SCSI_RESERVATION_CONFLICT || status == SCSI_TASK_SET_FULL ||
	       status == SCSI_TASK_ABORTED;
}

static void on_task_done(struct scsi_task *task)
{
	struct fuzz_task *t = container_of(task, struct fuzz_task, task);
	size_t i = (size_t)(t - tasks);

	ASSERT(t->busy && !t->starting);
	ASSERT(task->end < SCSI_END_COUNT);
	ASSERT(task->in_bytes <= t->in.bytes && task->out_bytes <= t->out.bytes);
	if (task->end == SCSI_END_COMPLETE) {
		ASSERT(status_exists(task->status));
		ASSERT(task->sense_len <= SCSI_SENSE_MAX);
		ASSERT(task->status != SCSI_CHECK_CONDITION || task->sense_len >= 8);
		ASSERT(task->status == SCSI_CHECK_CONDITION || !task->sense_len);
	}
	ASSERT(pieces_sum(&out_pieces[i]) == t->out_sum);
	pieces_free(&out_pieces[i]);
	pieces_free(&in_pieces[i]);
	t->busy = false;
}

static bool any_busy(void)
{
	for (unsigned i = 0; i < TASKS_MAX; i++)
		if (tasks[i].busy)
			return true;
	for (unsigned n = 0; n < NEXUSES; n++)
		if (tmfs[n].busy)
			return true;
	return false;
}

static void settle(void)
{
	uint64_t end_ns = loop_clock_ns() + END_NS;

	for (unsigned u = 0; sim && u < UNITS; u++)
		blk_sim_hold(disks[u], false);
	while (any_busy() || detaching) {
		ASSERT(loop_clock_ns() < end_ns);
		turn();
	}
	turn();
}

/* SANITIZE and the like go on after their answer, for as long as the unit lives. */
static void background_wait(void)
{
	uint64_t end_ns = loop_clock_ns() + END_NS;

	for (unsigned u = 0; u < UNITS; u++)
		while (units[u]->background_count) {
			ASSERT(loop_clock_ns() < end_ns);
			turn();
		}
}

static void lun_choose(const struct step *s, const uint8_t *cdb, struct scsi_task *task)
{
	uint8_t wire[8];

	task->target = s->how & HOW_UNIT ? 1 : 0;
	task->lun = s->how & HOW_UNIT ? 300 : 0;
	if (!(s->how & HOW_WILD_LUN))
		return;
	memcpy(wire, cdb, sizeof(wire));
	task->target = s->tag;
	task->lun = scsi_lun_decode(wire);
}

static void task_start(void *arg)
{
	struct fuzz_task *t = arg;

	scsi_task_start(t->queue, &t->task);
	t->starting = false;
}

static void command_send(const struct step *s, const uint8_t *cdb, struct bytes *in)
{
	struct fuzz_task *t = NULL;
	uint8_t fill[256];
	uint32_t at = 0;
	size_t i;

	for (i = 0; i < TASKS_MAX && !t; i++)
		t = tasks[i].busy ? NULL : &tasks[i];
	if (!t)
		return;
	i = (size_t)(t - tasks);
	memset(t, 0, sizeof(*t));
	buffer_make(&t->out, s->out_bytes % (DATA_MAX + 1), s->how & HOW_PIECES);
	buffer_make(&t->in, s->in_bytes % (DATA_MAX + 1), s->how & HOW_PIECES);
	memset(fill, 0, sizeof(fill));
	bytes_take(in, fill, MIN((size_t)s->fill_bytes, in->left_bytes));
	for (unsigned p = 0; p < PIECES_MAX && at < s->fill_bytes; p++) {
		uint32_t n = (uint32_t)MIN(t->out.iov[p].iov_len, (size_t)(s->fill_bytes - at));

		if (n)
			memcpy(t->out.iov[p].iov_base, fill + at, n);
		at += n;
	}
	memcpy(out_pieces[i].iov, t->out.iov, sizeof(t->out.iov));
	memcpy(in_pieces[i].iov, t->in.iov, sizeof(t->in.iov));
	t->out_sum = pieces_sum(&out_pieces[i]);
	lun_choose(s, cdb, &t->task);
	t->task.tag = s->tag;
	memcpy(t->task.cdb, cdb, SCSI_CDB_MAX);
	t->task.out = &t->out.cur;
	t->task.in = &t->in.cur;
	t->task.done = on_task_done;
	t->busy = t->starting = true;
	t->queue = queues[s->how & HOW_NEXUS];
	call_on(data_loop, task_start, t);
}

/* ---- what is no command ---- */

static void on_tmf_done(struct scsi_tmf *tmf)
{
	struct fuzz_tmf *t = container_of(tmf, struct fuzz_tmf, tmf);

	ASSERT(t->busy);
	ASSERT(tmf->result <= SCSI_TMF_BAD_LUN);
	t->busy = false;
}

static void tmf_start(void *arg)
{
	struct fuzz_tmf *t = arg;

	scsi_tmf_start(t->queue, &t->tmf);
}

static void tmf_send(const struct step *s, const uint8_t *cdb)
{
	struct fuzz_tmf *t = &tmfs[s->how & HOW_NEXUS];

	if (t->busy)
		return;
	memset(t, 0, sizeof(*t));
	t->tmf.fn = (enum scsi_tmf_fn)(cdb[1] % SCSI_TMF_COUNT);
	t->tmf.target = s->how & HOW_UNIT ? 1 : 0;
	t->tmf.lun = s->how & HOW_UNIT ? 300 : 0;
	if (s->how & HOW_WILD_LUN)
		t->tmf.lun = cdb[2];
	t->tmf.tag = s->tag;
	t->tmf.done = on_tmf_done;
	t->busy = true;
	t->queue = queues[s->how & HOW_NEXUS];
	call_on(data_loop, tmf_start, t);
}

struct plug {
	unsigned unit;
	bool on;
};

static void plug_change(void *arg)
{
	const struct plug *p = arg;
	unsigned u = p->unit;
	struct err err;

	if (p->on) {
		ASSERT(!scsi_host_attach(host, u, u * 300, units[u], &err));
	} else {
		detaching++;
		ASSERT(!scsi_host_detach(host, u, u * 300, on_detached, NULL, &err));
	}
	plugged[u] = p->on;
}

static void plug(unsigned u, bool on)
{
	struct plug p = { u, on };

	if (plugged[u] != on)
		call_on(main_loop, plug_change, &p);
}

static void other_do(const struct step *s, const uint8_t *cdb)
{
	unsigned n = s->how & HOW_NEXUS, u = s->how & HOW_UNIT ? 1 : 0;
	struct err err;

	switch ((enum other)(cdb[0] % OTHER_KINDS)) {
	case OTHER_TMF:
		tmf_send(s, cdb);
		return;
	case OTHER_UNPLUG:
		plug(u, false);
		return;
	case OTHER_PLUG:
		plug(u, true);
		return;
	case OTHER_RECONNECT:
		settle();
		nexus_close(n);
		nexus_open(n);
		return;
	case OTHER_HOLD:
	case OTHER_RELEASE:
		if (sim)
			blk_sim_hold(disks[u], cdb[0] % OTHER_KINDS == OTHER_HOLD);
		return;
	case OTHER_RESIZE:
		if (!sim)
			return;
		settle();
		blk_sim_resize(disks[u], (1 + cdb[1] % 64) * 4096ull);
		ASSERT(!blk_dev_rescan(disks[u], &err));
		return;
	case OTHER_KINDS:
		break;
	}
	UNREACHABLE();
}

static bool step_take(struct bytes *in)
{
	uint8_t cdb[SCSI_CDB_MAX] = { 0 };
	struct step s;

	if (!bytes_take(in, &s, sizeof(s)))
		return false;
	bytes_take(in, cdb, MIN((size_t)s.cdb_bytes % (SCSI_CDB_MAX + 1), in->left_bytes));
	if (s.how & HOW_OTHER)
		other_do(&s, cdb);
	else
		command_send(&s, cdb, in);
	if (s.how & HOW_NO_WAIT) {
		turn();
	} else {
		settle();
	}
	return true;
}

static void world_close(void *arg)
{
	scsi_host_unref(host);
	for (unsigned u = 0; u < UNITS; u++) {
		scsi_lu_unref(units[u]);
		blk_dev_unref(disks[u]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	struct bytes left = bytes_of(in, len);
	uint8_t how = 0;

	if (!main_loop)
		world_make();
	bytes_take(&left, &how, 1);
	world_open(how);
	for (unsigned i = 0; i < STEPS_MAX && step_take(&left); i++)
		;
	settle();
	for (unsigned n = 0; n < NEXUSES; n++)
		nexus_close(n);
	background_wait();
	call_on(main_loop, world_close, NULL);
	turn();
	return 0;
}
