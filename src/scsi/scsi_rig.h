/*
 * For the unit tests of this room: a loop, units on block nodes, a host, nexuses with a queue each,
 * and commands that are run to their end or left in flight.
 *
 *   struct rig rig;
 *   rig_open(&rig, "ram", "size=1M");          unit rig.lu[0] at target 0, LUN 0; nexus 0
 *   rig_cdb(&rig, out, out_len, in_len, 0x12, 0, 0, 0, 96, 0);
 *   assert_int_equal(rig.task.status, SCSI_GOOD); rig.in has the data
 *   rig_close(&rig);
 *
 * rig_nexus_add opens one more nexus; rig.nexus_idx says whose command the next one is. Unit
 * attentions of a new nexus are cleared unless rig.keep_ua was set before.
 */
#ifndef SCSI_SCSI_RIG_H
#define SCSI_SCSI_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scsi/scsi_impl.h"

#define RIG_NEXUSES 4
#define RIG_LUS	    4
#define RIG_DATA    (2u << 20)

struct rig_task {
	struct scsi_task task;
	struct iov_cur out, in;
	struct iovec out_iov, in_iov;
	uint8_t *out_bytes, *in_bytes;
	size_t in_iov_bytes;
	bool done;
};

struct rig {
	struct loop *loop;
	struct blk_dev *dev[RIG_LUS];
	struct scsi_lu *lu[RIG_LUS];
	uint32_t lu_count;
	struct scsi_host *host;
	struct scsi_nexus *nexus[RIG_NEXUSES];
	struct scsi_queue *queue[RIG_NEXUSES];
	uint32_t nexus_count, nexus_idx;
	uint32_t target, lun_number; /* where the next command goes */
	uint32_t events;
	struct scsi_event last_event;
	bool keep_ua;
	struct iov_cur *pi;	/* of the next command, in either direction; NULL: none */
	const char *state_path; /* of units opened from here on */
	struct scsi_task task;	/* a copy of the last one that ended */
	uint8_t in[RIG_DATA];	/* its data-in */
};

static inline void rig_on_event(void *arg, const struct scsi_event *event)
{
	struct rig *rig = arg;

	rig->events++;
	rig->last_event = *event;
}

static inline void rig_task_done(struct scsi_task *t)
{
	struct rig_task *rt = container_of(t, struct rig_task, task);

	assert_false(rt->done);
	rt->done = true;
}

/* Starts a command and leaves it in flight; out is copied. */
static inline struct rig_task *rig_start(struct rig *rig, const uint8_t *cdb, size_t cdb_len,
					 const void *out, size_t out_len, size_t in_len)
{
	struct rig_task *rt = calloc(1, sizeof(*rt));

	assert_non_null(rt);
	rt->out_bytes = malloc(out_len ? out_len : 1);
	rt->in_bytes = calloc(1, in_len ? in_len : 1);
	if (out_len)
		memcpy(rt->out_bytes, out, out_len);
	rt->out_iov = (struct iovec){ rt->out_bytes, out_len };
	rt->in_iov = (struct iovec){ rt->in_bytes, in_len };
	rt->in_iov_bytes = in_len;
	iov_cur_init(&rt->out, &rt->out_iov, out_len ? 1 : 0, out_len);
	iov_cur_init(&rt->in, &rt->in_iov, in_len ? 1 : 0, in_len);
	memcpy(rt->task.cdb, cdb, cdb_len);
	rt->task.target = rig->target;
	rt->task.lun = rig->lun_number;
	rt->task.tag = (uintptr_t)rt;
	rt->task.out = &rt->out;
	rt->task.in = &rt->in;
	rt->task.pi_out = rt->task.pi_in = rig->pi;
	rt->task.done = rig_task_done;
	rig->queue[rig->nexus_idx]->carries_pi = rig->pi;
	scsi_task_start(rig->queue[rig->nexus_idx], &rt->task);
	assert_false(rt->done);
	return rt;
}

static inline void rig_turn(struct rig *rig)
{
	loop_run_once(rig->loop, false);
}

/* Runs the loop until it ended; rig->task and rig->in are its result; rt is gone. */
static inline void rig_finish(struct rig *rig, struct rig_task *rt)
{
	uint64_t limit = loop_clock_ns() + 20000000000ull;

	while (!rt->done) {
		rig_turn(rig);
		assert_true(loop_clock_ns() < limit);
	}
	rig->task = rt->task;
	memset(rig->in, 0, 4096);
	memcpy(rig->in, rt->in_bytes, MIN(rt->task.in_bytes, rt->in_iov_bytes));
	free(rt->out_bytes);
	free(rt->in_bytes);
	free(rt);
}

static inline uint8_t rig_run(struct rig *rig, const uint8_t *cdb, size_t cdb_len, const void *out,
			      size_t out_len, size_t in_len)
{
	rig_finish(rig, rig_start(rig, cdb, cdb_len, out, out_len, in_len));
	assert_int_equal(rig->task.end, SCSI_END_COMPLETE);
	return rig->task.status;
}

#define rig_cdb(rig, out, out_len, in_len, ...)                                                    \
	rig_run(rig, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }),   \
		out, out_len, in_len)

/* What the last command's sense data says, in fixed format. */
#define rig_assert_sense(rig, cause)                                                               \
	do {                                                                                       \
		uint8_t key_, asc_, ascq_;                                                         \
		sense_cause_code(cause, &key_, &asc_, &ascq_);                                     \
		assert_int_equal((rig)->task.status, SCSI_CHECK_CONDITION);                        \
		assert_int_equal((rig)->task.sense[2] & 0xf, key_);                                \
		assert_int_equal((rig)->task.sense[12], asc_);                                     \
		assert_int_equal((rig)->task.sense[13], ascq_);                                    \
	} while (0)

/* INVALID FIELD IN CDB or LIST, with its pointer. */
#define rig_assert_field(rig, in_cdb, byte)                                                        \
	do {                                                                                       \
		rig_assert_sense(rig, (in_cdb) ? SCSI_CAUSE_INVALID_FIELD_CDB                      \
					       : SCSI_CAUSE_INVALID_FIELD_LIST);                   \
		assert_int_equal((rig)->task.sense[15] & 0xc0, (in_cdb) ? 0xc0 : 0x80);            \
		assert_int_equal(cdb_u16((rig)->task.sense + 16), byte);                           \
	} while (0)

static inline void rig_ua_clear_all(struct rig *rig)
{
	for (uint32_t i = 0; i < rig->lu_count; i++) {
		struct scsi_itl *itl;

		pthread_mutex_lock(&rig->lu[i]->lock);
		list_for_each(itl, &rig->lu[i]->itls, node)
			while (scsi_ua_take(itl) != SCSI_UA_COUNT)
				;
		pthread_mutex_unlock(&rig->lu[i]->lock);
	}
}

static inline uint32_t rig_nexus_add(struct rig *rig, const char *initiator_name)
{
	struct err err = { 0 };
	uint32_t i = rig->nexus_count++;

	assert_true(i < RIG_NEXUSES);
	if (scsi_nexus_open(rig->host, initiator_name, rig_on_event, rig, &rig->nexus[i], &err) ||
	    scsi_queue_open(rig->nexus[i], rig->loop, &rig->queue[i], &err))
		fail_msg("%s", err.msg);
	if (!rig->keep_ua)
		rig_ua_clear_all(rig);
	return i;
}

/* One more unit, at target i, LUN 0. Before the first nexus, or as hot plug. */
static inline struct scsi_lu *rig_lu_add(struct rig *rig, const char *type, const char *params)
{
	uint32_t i = rig->lu_count++;
	struct err err = { 0 };
	char name[8] = { 'l', 'u', (char)('0' + i) };
	struct scsi_lu_params p = { .name = name,
				    .rotation_rpm = 1,
				    .state_path = rig->state_path };

	assert_true(i < RIG_LUS);
	if (blk_dev_open(type, name, params, &rig->dev[i], &err))
		fail_msg("%s", err.msg);
	p.dev = rig->dev[i];
	if (scsi_lu_new(&p, &rig->lu[i], &err) ||
	    scsi_host_attach(rig->host, i, 0, rig->lu[i], &err))
		fail_msg("%s", err.msg);
	return rig->lu[i];
}

/* Everything but units and nexuses. */
static inline void rig_init(struct rig *rig)
{
	struct loop_params lp = { .name = "test", .cpu = -1, .sq_count = 64 };
	struct err err = { 0 };

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(loop_new(&lp, &rig->loop, &err), 0);
	assert_int_equal(scsi_host_new("host", &rig->host, &err), 0);
}

static inline void rig_open(struct rig *rig, const char *type, const char *params)
{
	rig_init(rig);
	rig_lu_add(rig, type, params);
	rig_nexus_add(rig, "iqn.2026-01.test:a");
}

static inline void rig_close(struct rig *rig)
{
	for (uint32_t i = 0; i < rig->nexus_count; i++) {
		scsi_queue_close(rig->queue[i]);
		scsi_nexus_close(rig->nexus[i]);
	}
	for (uint32_t i = 0; i < 3; i++)
		rig_turn(rig);
	scsi_host_unref(rig->host);
	for (uint32_t i = 0; i < rig->lu_count; i++) {
		scsi_lu_unref(rig->lu[i]);
		blk_dev_unref(rig->dev[i]);
	}
	loop_free(rig->loop);
}

/* For cmocka: *state is an open rig. */
static inline int rig_setup(void **state, const char *type, const char *params)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig_open(rig, type, params);
	*state = rig;
	return 0;
}

static inline int rig_teardown(void **state)
{
	rig_close(*state);
	free(*state);
	return 0;
}

#endif
