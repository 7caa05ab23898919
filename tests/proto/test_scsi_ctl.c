/*
 * virtio-scsi on the real binary, beside the request queues: task management, asynchronous
 * notification, events and hot plug, two initiators (virtio 1.3, 5.6.6.2 and 5.6.6.3; SAM-6, 7).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scsirig.h"

#define DISK	  "scsi,socket=@a.sock,target=0:ram=8M"
#define ASYNC_ALL 0x7f /* the event classes of 5.6.6.3.3: bits 1 to 6, and one more */

/* ---- task management ---- */

static void each_function_on_an_idle_unit_completes(void **state)
{
	for (unsigned packed = 0; packed < 2; packed++) {
		struct sconn *c;

		if (!packed)
			srig_start(DISK);
		c = srig_ready(0, &(struct fe_up_opts){ .packed = packed });
		for (uint32_t fn = 0; fn <= SPEC_SCSI_TMF_QUERY_TASK_SET; fn++) {
			int got = scsidrv_tmf(&c->ctl, fn, c->lun0, 12345);

			if (fn == SPEC_SCSI_TMF_CLEAR_ACA && got == SPEC_SCSI_S_FUNCTION_REJECTED)
				continue;
			if (got)
				fail_msg("function %u: expected 0, got %d %s", fn, got, c->ctl.why);
			assert_ok(scsidrv_ready(&c->s[0], c->lun0));
		}
		srig_io(c, c->lun0, 0, 8);
	}
}

static void a_function_on_a_lun_that_is_not_there_names_the_lun(void **state)
{
	struct sconn *c;
	uint8_t lun[8];

	srig_start(DISK);
	c = srig_ready(0, NULL);
	scsidrv_lun(lun, 0, 5);
	for (uint32_t fn = 0; fn <= SPEC_SCSI_TMF_QUERY_TASK_SET; fn++) {
		int got = scsidrv_tmf(&c->ctl, fn, lun, 1);

		if (fn == SPEC_SCSI_TMF_I_T_NEXUS_RESET && !got)
			continue; /* it has no LUN to look at */
		if (got != SPEC_SCSI_S_INCORRECT_LUN)
			fail_msg("function %u: expected 12, got %d", fn, got);
	}
}

static void a_function_on_a_target_that_is_not_there_is_a_bad_target(void **state)
{
	struct sconn *c;
	uint8_t lun[8];

	srig_start(DISK);
	c = srig_ready(0, NULL);
	for (uint32_t fn = 0; fn <= SPEC_SCSI_TMF_QUERY_TASK_SET; fn++) {
		scsidrv_lun(lun, 9, 0);
		assert_int_equal(scsidrv_tmf(&c->ctl, fn, lun, 1), SPEC_SCSI_S_BAD_TARGET);
		memset(lun, 0, sizeof(lun));
		assert_int_equal(scsidrv_tmf(&c->ctl, fn, lun, 1), SPEC_SCSI_S_BAD_TARGET);
	}
}

static void functions_and_types_that_do_not_exist_are_rejected(void **state)
{
	static const uint32_t numbers[] = { 8, 9, 255, 0x80000000, 0xffffffff };
	struct sconn *c;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	for (unsigned i = 0; i < 5; i++) {
		struct spec_scsi_tmf wild = { .type = numbers[i] };
		int got = scsidrv_tmf(&c->ctl, numbers[i], c->lun0, 1);
		uint8_t response = 0xff;

		assert_int_equal(got, SPEC_SCSI_S_FUNCTION_REJECTED);
		memcpy(wild.lun, c->lun0, 8);
		assert_true(scsidrv_ctl_raw(&c->ctl, &wild, sizeof(wild), 0, &response, 1) >= 0);
		assert_true(response != SPEC_SCSI_S_OK);
	}
	srig_io(c, c->lun0, 0, 8);
}

static void control_requests_of_any_size_and_cut_come_back(void **state)
{
	static const uint32_t pieces[] = { 0, 1, 3, 4, 5, 23 };
	struct sconn *c;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	for (uint32_t out = 0; out <= 40; out++)
		for (uint32_t in = out ? 0 : 1; in <= 8; in++) {
			struct spec_scsi_tmf tmf[2] = { { .type = out % 3, .subtype = 7 } };
			uint8_t response[8];
			int rc;

			memcpy(tmf[0].lun, c->lun0, 8);
			rc = scsidrv_ctl_raw(&c->ctl, tmf, out, pieces[(out + in) % 6], response,
					     in);
			if (rc < 0)
				fail_msg("%u bytes out, %u in: %d %s", out, in, rc, c->ctl.why);
			assert_true((uint32_t)rc <= in);
		}
	/* And a good one in pieces is a good one. */
	for (unsigned i = 0; i < 6; i++) {
		struct spec_scsi_tmf tmf = { .subtype = SPEC_SCSI_TMF_QUERY_TASK_SET };
		uint8_t response = 0xff;

		memcpy(tmf.lun, c->lun0, 8);
		assert_int_equal(
			scsidrv_ctl_raw(&c->ctl, &tmf, sizeof(tmf), pieces[i], &response, 1), 1);
		assert_int_equal(response, 0);
	}
	srig_io(c, c->lun0, 0, 8);
}

static void resets_leave_the_unit_attention_that_tells_of_them(void **state)
{
	struct scsidrv_result res;
	struct sconn *c;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	assert_int_equal(scsidrv_tmf(&c->ctl, SPEC_SCSI_TMF_LOGICAL_UNIT_RESET, c->lun0, 0), 0);
	res = srig_none(c, c->lun0, CDB(0, 0, 0, 0, 0, 0));
	assert_sense(&res, 6, 0x29, res.ascq);
	res = srig_none(c, c->lun0, CDB(0, 0, 0, 0, 0, 0));
	assert_good(&res);
	assert_int_equal(scsidrv_tmf(&c->ctl, SPEC_SCSI_TMF_I_T_NEXUS_RESET, c->lun0, 0), 0);
	res = srig_none(c, c->lun0, CDB(0, 0, 0, 0, 0, 0));
	assert_sense(&res, 6, 0x29, 0x07);
	res = srig_none(c, c->lun0, CDB(0, 0, 0, 0, 0, 0));
	assert_good(&res);
}

#define BURST 32

/*
 * Many writes are under way on two loops when the function comes. Each is answered once, all that
 * it aborted before it answers itself, and what is good is written.
 */
static void burst(struct sconn *c, uint32_t fn, unsigned round)
{
	static uint8_t data[65536];
	struct scsidrv_req req[2 * BURST], *r;
	struct scsidrv_result res;
	unsigned answered = 0, seen;
	int got;

	fill_pattern(data, sizeof(data), round);
	for (unsigned i = 0; i < 2 * BURST; i++) {
		uint32_t lba = i * 128;
		uint8_t cdb[10] = {
			0x2a, 8, 0, 0, (uint8_t)(lba >> 8), (uint8_t)lba, 0, 0, 128, 0
		};
		struct scsidrv_cmd cmd = {
			.cdb = cdb, .cdb_bytes = 10, .out = data, .out_bytes = sizeof(data)
		};

		memcpy(cmd.lun, c->lun0, 8);
		assert_ok(scsidrv_add(&c->s[i & 1], &req[i], &cmd));
	}
	assert_true(drv_publish(&c->q[0]) >= 0);
	assert_true(drv_publish(&c->q[1]) >= 0);
	pause_us(round * 40);
	got = scsidrv_tmf(&c->ctl, fn, c->lun0, req[2 * BURST - 1].id);
	assert_int_equal(got, 0);
	for (unsigned k = 0; k < 2; k++)
		for (seen = 0; seen < BURST; seen++, answered++) {
			if (scsidrv_reap(&c->s[k], &r, &res, true) != 1)
				fail_msg("%s %s", c->s[k].why, c->q[k].why);
			if (res.response != SPEC_SCSI_S_ABORTED &&
			    res.response != SPEC_SCSI_S_RESET && res.status != 2)
				assert_good(&res);
			scsidrv_put(&c->s[k], r);
		}
	assert_int_equal(answered, 2 * BURST);
	assert_ok(scsidrv_ready(&c->s[0], c->lun0));
}

static void functions_under_io_lose_and_repeat_no_answer(void **state)
{
	static const uint32_t fns[] = { SPEC_SCSI_TMF_ABORT_TASK_SET, SPEC_SCSI_TMF_CLEAR_TASK_SET,
					SPEC_SCSI_TMF_I_T_NEXUS_RESET,
					SPEC_SCSI_TMF_LOGICAL_UNIT_RESET,
					SPEC_SCSI_TMF_ABORT_TASK };

	daemon_image(&rig_get()->d, "disk", 8 << 20);
	srig_start("scsi,socket=@a.sock,target=0:file=@disk,num-queues=4", "--cores", "2");
	for (unsigned how = 0; how < 2; how++) {
		struct sconn *c = srig_ready(0, &(struct fe_up_opts){ .queues = 2,
								      .packed = how,
								      .queue_size = 256,
								      .region_bytes = 64 << 20 });

		for (unsigned round = 0; round < 50; round++)
			burst(c, fns[round % 5], round);
		srig_io(c, c->lun0, 0, 8);
	}
}

/* ---- asynchronous notification ---- */

static void asynchronous_notification_is_answered(void **state)
{
	uint32_t actual = 0xffffffff;
	struct sconn *c;
	uint8_t lun[8];
	int got;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	for (uint32_t type = SPEC_SCSI_T_AN_QUERY; type <= SPEC_SCSI_T_AN_SUBSCRIBE; type++) {
		got = scsidrv_an(&c->ctl, type, c->lun0, ASYNC_ALL, &actual);
		assert_int_equal(got, SPEC_SCSI_S_OK);
		/* What is not asked for is not given. */
		assert_int_equal(actual & ~ASYNC_ALL, 0);
		assert_int_equal(scsidrv_an(&c->ctl, type, c->lun0, 0, &actual), SPEC_SCSI_S_OK);
		assert_int_equal(actual, 0);
		/* Nothing can be had of a unit that is not there; the response may say why. */
		for (unsigned i = 0; i < 2; i++) {
			scsidrv_lun(lun, i ? 0 : 9, i ? 9 : 0);
			got = scsidrv_an(&c->ctl, type, lun, ASYNC_ALL, &actual);
			assert_true(got == SPEC_SCSI_S_OK || got == SPEC_SCSI_S_BAD_TARGET ||
				    got == SPEC_SCSI_S_INCORRECT_LUN);
			assert_int_equal(actual, 0);
		}
	}
}

/* ---- events ---- */

static struct spec_scsi_event event_next(struct sconn *c)
{
	struct spec_scsi_event e;
	uint32_t bytes;
	int rc = scsidrv_event_wait(&c->ev, &e, &bytes);

	if (rc) {
		daemon_log_show(&rig_get()->d);
		fail_msg("event: %d %s", rc, c->ev.why);
	}
	assert_int_equal(bytes, sizeof(e));
	return e;
}

static void post_events(struct sconn *c, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		assert_ok(scsidrv_event_post(&c->ev, sizeof(struct spec_scsi_event), i % 5));
}

#define T0   "{\"target\": 0, \"lun\": 0, \"ram\": \"8M\"}"
#define T0L1 "{\"target\": 0, \"lun\": 1, \"ram\": \"8M\"}"
#define T3   "{\"target\": 3, \"lun\": 0, \"ram\": \"8M\"}"

static void a_target_that_comes_and_goes_is_told_to_the_guest(void **state)
{
	for (unsigned packed = 0; packed < 2; packed++) {
		struct scsidrv_result res;
		struct spec_scsi_event e;
		struct sconn *c;
		uint8_t lun[8];

		srig_config(T0, NULL);
		if (!packed)
			srig_start_config();
		else
			srig_reload();
		c = srig_ready(0, &(struct fe_up_opts){ .packed = packed });
		post_events(c, 8);
		scsidrv_lun(lun, 3, 0);
		res = srig_none(c, lun, CDB(0, 0, 0, 0, 0, 0));
		assert_response(&res, SPEC_SCSI_S_BAD_TARGET);

		srig_config(T0 ", " T3, NULL);
		srig_reload();
		e = event_next(c);
		assert_int_equal(e.event, SPEC_SCSI_TRANSPORT_RESET);
		assert_int_equal(e.reason, SPEC_SCSI_RESET_RESCAN);
		assert_int_equal(e.lun[0], 1);
		assert_int_equal(e.lun[1], 3);
		assert_int_equal(e.lun[3], 0);
		assert_ok(scsidrv_ready(&c->s[0], lun));
		srig_io(c, lun, 0, 8);

		srig_config(T0, NULL);
		srig_reload();
		e = event_next(c);
		assert_int_equal(e.event, SPEC_SCSI_TRANSPORT_RESET);
		assert_int_equal(e.reason, SPEC_SCSI_RESET_REMOVED);
		assert_int_equal(e.lun[1], 3);
		res = srig_none(c, lun, CDB(0, 0, 0, 0, 0, 0));
		assert_response(&res, SPEC_SCSI_S_BAD_TARGET);
		assert_ok(scsidrv_ready(&c->s[0], c->lun0));
		srig_io(c, c->lun0, 0, 8);
		srig_drop(0);
	}
}

static void a_new_lun_changes_the_reported_luns(void **state)
{
	struct scsidrv_result res;
	struct spec_scsi_event e;
	struct sconn *c;
	uint8_t lun[8], in[64];

	srig_config(T0, NULL);
	srig_start_config();
	c = srig_ready(0, NULL);
	post_events(c, 4);
	srig_config(T0 ", " T0L1, NULL);
	srig_reload();
	e = event_next(c);
	assert_int_equal(e.event, SPEC_SCSI_TRANSPORT_RESET);
	assert_int_equal(e.reason, SPEC_SCSI_RESET_RESCAN);
	assert_int_equal(e.lun[1], 0);
	assert_int_equal(e.lun[3], 1);
	res = srig_none(c, c->lun0, CDB(0, 0, 0, 0, 0, 0));
	assert_sense(&res, 6, 0x3f, 0x0e);
	res = srig_cmd(c, c->lun0, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0), NULL, 0, in, 64);
	assert_good(&res);
	assert_int_equal(in[3], 16);
	scsidrv_lun(lun, 0, 1);
	assert_ok(scsidrv_ready(&c->s[0], lun));
	srig_io(c, lun, 0, 8);
	srig_io(c, c->lun0, 0, 8);
}

static void a_configuration_that_is_wrong_changes_nothing(void **state)
{
	struct sconn *c;
	FILE *f;

	srig_config(T0, NULL);
	srig_start_config();
	c = srig_ready(0, NULL);
	srig_io(c, c->lun0, 0, 8);
	f = fopen(daemon_path(&rig_get()->d, "cfg"), "w");
	assert_non_null(f);
	fprintf(f, "{\"devices\": [{\"type\": \"scsi\", ");
	fclose(f);
	srig_reload();
	for (unsigned i = 0; i < 50; i++)
		srig_io(c, c->lun0, i, 8);
	srig_config(T0 ", {\"target\": 999, \"lun\": 0, \"ram\": \"8M\"}", NULL);
	srig_reload();
	srig_config(T0 ", {\"target\": 1, \"lun\": 0, \"file\": \"@none\"}", NULL);
	srig_reload();
	for (unsigned i = 0; i < 50; i++)
		srig_io(c, c->lun0, i, 8);
}

static void an_event_without_a_buffer_is_missed_and_said_so(void **state)
{
	struct spec_scsi_event e;
	struct sconn *c;
	uint8_t lun[8];

	srig_config(T0, NULL);
	srig_start_config();
	c = srig_ready(0, NULL);
	srig_config(T0 ", " T3, NULL);
	srig_reload();
	/* It is there when a command finds it. */
	scsidrv_lun(lun, 3, 0);
	for (uint64_t end = now_us() + 10000000;;) {
		struct scsidrv_result res = srig_none(c, lun, CDB(0, 0, 0, 0, 0, 0));

		if (res.response != SPEC_SCSI_S_BAD_TARGET)
			break;
		assert_true(now_us() < end);
		pause_us(1000);
	}
	pause_us(200000); /* that the event found no buffer shows nowhere */
	post_events(c, 2);
	e = event_next(c);
	assert_true(e.event & SPEC_SCSI_EVENTS_MISSED);
	/* The next one is told as if nothing had been. */
	srig_config(T0, NULL);
	srig_reload();
	e = event_next(c);
	assert_int_equal(e.event, SPEC_SCSI_TRANSPORT_RESET);
	assert_int_equal(e.reason, SPEC_SCSI_RESET_REMOVED);
}

static void a_resize_is_a_parameter_change(void **state)
{
	struct scsidrv_result res;
	struct spec_scsi_event e;
	struct sconn *c;
	uint8_t in[32];

	daemon_image(&rig_get()->d, "disk", 8 << 20);
	srig_config("{\"target\": 0, \"lun\": 0, \"file\": \"@disk\"}", NULL);
	srig_start_config();
	c = srig_ready(0, NULL);
	post_events(c, 4);
	assert_ok(truncate(daemon_path(&rig_get()->d, "disk"), 16 << 20));
	srig_reload();
	e = event_next(c);
	assert_int_equal(e.event, SPEC_SCSI_PARAM_CHANGE);
	assert_int_equal(e.reason, 0x2a | 0x09 << 8);
	assert_int_equal(e.lun[1], 0);
	res = srig_none(c, c->lun0, CDB(0, 0, 0, 0, 0, 0));
	assert_sense(&res, 6, 0x2a, 0x09);
	res = srig_cmd(c, c->lun0, CDB(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0), NULL,
		       0, in, 32);
	assert_good(&res);
	assert_int_equal(in[6] << 8 | in[7], (16 << 20) / 512 - 1);
	srig_io(c, c->lun0, 20000, 8);
}

static void without_the_features_no_event_comes(void **state)
{
	struct drv_used u;
	struct sconn *c;
	uint8_t lun[8];

	srig_config(T0, NULL);
	srig_start_config();
	c = srig_ready(0, &(struct fe_up_opts){ .features = SPEC_F_VERSION_1 | SPEC_F_PROTOCOL });
	post_events(c, 4);
	srig_config(T0 ", " T3, NULL);
	srig_reload();
	scsidrv_lun(lun, 3, 0);
	for (uint64_t end = now_us() + 10000000;;) {
		struct scsidrv_result res = srig_none(c, lun, CDB(0, 0, 0, 0, 0, 0));

		if (res.response != SPEC_SCSI_S_BAD_TARGET)
			break;
		assert_true(now_us() < end);
		pause_us(1000);
	}
	assert_int_equal(drv_used_get(&c->ev, &u), 0);
}

static void event_buffers_of_any_size_come_back_or_stay(void **state)
{
	struct spec_scsi_event e;
	struct sconn *c;

	srig_config(T0, NULL);
	srig_start_config();
	c = srig_ready(0, NULL);
	/* Too small ones first: they may come back empty or cut, and a good one serves. */
	for (uint32_t bytes = 1; bytes < sizeof(e); bytes += 3)
		assert_ok(scsidrv_event_post(&c->ev, bytes, 0));
	assert_ok(scsidrv_event_post(&c->ev, 4096, 100));
	post_events(c, 4);
	for (unsigned i = 0; i < 4; i++) {
		srig_config(i & 1 ? T0 : T0 ", " T3, NULL);
		srig_reload();
		pause_us(50000);
		assert_true(daemon_alive(&rig_get()->d));
	}
	srig_io(c, c->lun0, 0, 8);
}

static void a_target_under_io_goes_without_losing_an_answer(void **state)
{
	static uint8_t data[32768];
	struct sconn *c;
	uint8_t lun[8];

	scsidrv_lun(lun, 3, 0);
	daemon_image(&rig_get()->d, "disk", 8 << 20);
	srig_config(T0, NULL);
	srig_start_config();
	c = srig_ready(0, &(struct fe_up_opts){ .region_bytes = 64 << 20 });
	for (unsigned round = 0; round < 20; round++) {
		struct scsidrv_req req[16], *r;
		struct scsidrv_result res;
		bool gone = false;

		srig_config(T0 ", {\"target\": 3, \"lun\": 0, \"file\": \"@disk\"}", NULL);
		srig_reload();
		/* Its predecessor may not have closed the image yet: then again. */
		for (uint64_t end = now_us() + 10000000; scsidrv_ready(&c->s[0], lun);) {
			assert_true(now_us() < end);
			pause_us(20000);
			srig_reload();
		}
		srig_config(T0, NULL);
		srig_reload();
		for (uint64_t end = now_us() + 10000000; !gone;) {
			for (unsigned i = 0; i < 16; i++) {
				uint8_t cdb[10] = { 0x2a, 0, 0, 0, (uint8_t)i, 0, 0, 0, 64, 0 };
				struct scsidrv_cmd cmd = { .cdb = cdb,
							   .cdb_bytes = 10,
							   .out = data,
							   .out_bytes = sizeof(data) };

				memcpy(cmd.lun, lun, 8);
				assert_ok(scsidrv_add(&c->s[0], &req[i], &cmd));
			}
			assert_true(drv_publish(&c->q[0]) >= 0);
			for (unsigned i = 0; i < 16; i++) {
				if (scsidrv_reap(&c->s[0], &r, &res, true) != 1)
					fail_msg("%s %s", c->s[0].why, c->q[0].why);
				gone |= res.response == SPEC_SCSI_S_BAD_TARGET;
				scsidrv_put(&c->s[0], r);
			}
			assert_true(now_us() < end);
		}
	}
	srig_io(c, c->lun0, 0, 8);
}

/* ---- two initiators ---- */

static struct scsidrv_result pr_out(struct sconn *c, uint8_t sa, uint8_t type, uint64_t key,
				    uint64_t sa_key)
{
	uint8_t list[24] = { 0 };

	for (unsigned i = 0; i < 8; i++) {
		list[i] = (uint8_t)(key >> (56 - 8 * i));
		list[8 + i] = (uint8_t)(sa_key >> (56 - 8 * i));
	}
	return srig_cmd(c, c->lun0, CDB(0x5f, sa, type, 0, 0, 0, 0, 0, 24, 0), list, 24, NULL, 0);
}

static void a_reservation_of_one_initiator_stops_the_other(void **state)
{
	struct sconn *a, *b;
	struct scsidrv_result res;
	uint8_t data[512] = { 7 }, in[512];

	srig_start("scsi,socket=@a.sock,connections=2,target=0:ram=8M", "--cores", "2");
	a = srig_ready(0, NULL);
	b = srig_ready(1, &(struct fe_up_opts){ .packed = true });
	srig_io(a, a->lun0, 0, 8);
	srig_io(b, b->lun0, 0, 8);
	res = pr_out(a, 0, 0, 0, 0xaaaa);
	assert_good(&res);
	res = pr_out(b, 0, 0, 0, 0xbbbb);
	assert_good(&res);
	res = pr_out(a, 1, 1, 0xaaaa, 0); /* write exclusive */
	assert_good(&res);
	res = srig_cmd(b, b->lun0, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0), data, 512, NULL, 0);
	assert_status(&res, 0x18);
	res = srig_cmd(b, b->lun0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), NULL, 0, in, 512);
	assert_good(&res);
	srig_io(a, a->lun0, 0, 8);
	/* Exclusive access stops reads too. */
	res = pr_out(a, 2, 1, 0xaaaa, 0);
	assert_good(&res);
	res = pr_out(a, 1, 3, 0xaaaa, 0);
	assert_good(&res);
	assert_ok(scsidrv_ready(&a->s[0], a->lun0));
	res = srig_cmd(b, b->lun0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), NULL, 0, in, 512);
	assert_status(&res, 0x18);
	/* A reset of either keeps it; preempting takes it over. */
	assert_int_equal(scsidrv_tmf(&b->ctl, SPEC_SCSI_TMF_LOGICAL_UNIT_RESET, b->lun0, 0), 0);
	res = srig_cmd(b, b->lun0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), NULL, 0, in, 512);
	assert_status(&res, 0x18);
	for (unsigned i = 0; i < 3; i++) {
		res = pr_out(b, 4, 3, 0xbbbb, 0xaaaa);
		if (res.status != 2)
			break;
	}
	assert_good(&res);
	srig_io(b, b->lun0, 0, 8);
	for (unsigned i = 0; i < 3; i++) {
		res = srig_cmd(a, a->lun0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), NULL, 0, in, 512);
		if (res.status == 0x18)
			break;
	}
	assert_status(&res, 0x18);
}

static void a_reset_by_one_initiator_is_told_to_the_other(void **state)
{
	struct sconn *a, *b;
	struct scsidrv_result res;

	srig_start("scsi,socket=@a.sock,connections=2,target=0:ram=8M");
	a = srig_ready(0, NULL);
	b = srig_ready(1, NULL);
	assert_int_equal(scsidrv_tmf(&a->ctl, SPEC_SCSI_TMF_LOGICAL_UNIT_RESET, a->lun0, 0), 0);
	res = srig_none(b, b->lun0, CDB(0, 0, 0, 0, 0, 0));
	assert_sense(&res, 6, 0x29, res.ascq);
	/* What one loses is its own only. */
	assert_int_equal(scsidrv_tmf(&a->ctl, SPEC_SCSI_TMF_I_T_NEXUS_RESET, a->lun0, 0), 0);
	res = srig_none(b, b->lun0, CDB(0, 0, 0, 0, 0, 0));
	assert_good(&res);
	assert_ok(scsidrv_ready(&a->s[0], a->lun0));
}

static void reservations_of_reserve_end_with_the_connection(void **state)
{
	struct sconn *a, *b;
	struct scsidrv_result res;

	srig_start("scsi,socket=@a.sock,connections=2,target=0:ram=8M");
	a = srig_ready(0, NULL);
	b = srig_ready(1, NULL);
	res = srig_none(a, a->lun0, CDB(0x16, 0, 0, 0, 0, 0));
	assert_good(&res);
	res = srig_none(b, b->lun0, CDB(0, 0, 0, 0, 0, 0));
	if (!res.status) /* allowed or not, by SPC-2's table */
		res = srig_cmd(b, b->lun0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), NULL, 0, NULL,
			       512);
	assert_status(&res, 0x18);
	srig_drop(0);
	for (uint64_t end = now_us() + 10000000; scsidrv_ready(&b->s[0], b->lun0);) {
		assert_true(now_us() < end);
		pause_us(1000);
	}
	srig_io(b, b->lun0, 0, 8);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, srig_setup, srig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(each_function_on_an_idle_unit_completes),
		T(a_function_on_a_lun_that_is_not_there_names_the_lun),
		T(a_function_on_a_target_that_is_not_there_is_a_bad_target),
		T(functions_and_types_that_do_not_exist_are_rejected),
		T(control_requests_of_any_size_and_cut_come_back),
		T(resets_leave_the_unit_attention_that_tells_of_them),
		T(functions_under_io_lose_and_repeat_no_answer),
		T(asynchronous_notification_is_answered),
		T(a_target_that_comes_and_goes_is_told_to_the_guest),
		T(a_new_lun_changes_the_reported_luns),
		T(a_configuration_that_is_wrong_changes_nothing),
		T(an_event_without_a_buffer_is_missed_and_said_so),
		T(a_resize_is_a_parameter_change),
		T(without_the_features_no_event_comes),
		T(event_buffers_of_any_size_come_back_or_stay),
		T(a_target_under_io_goes_without_losing_an_answer),
		T(a_reservation_of_one_initiator_stops_the_other),
		T(a_reset_by_one_initiator_is_told_to_the_other),
		T(reservations_of_reserve_end_with_the_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
