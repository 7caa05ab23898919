/*
 * virtio-scsi on the real binary, the request queues: addressing, how a request is cut and what it
 * may leave out, residuals, the configuration space, rings and queues (virtio 1.3, 5.6).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scsirig.h"

#define DISK "scsi,socket=@a.sock,target=0:ram=8M"
#define TWO  "scsi,socket=@a.sock,target=0:ram=8M,target=7:ram=8M"

/* ---- addressing: virtio 1.3, 5.6.6.1; SAM-6, 4.7 ---- */

static void peripheral_and_flat_luns_name_the_same_unit(void **state)
{
	uint8_t flat[8], peripheral[8], other[8], in[512], data[512];
	struct sconn *c;

	srig_start(TWO);
	c = srig_ready(0, NULL);
	scsidrv_lun(flat, 0, 0);
	scsidrv_lun_peripheral(peripheral, 0, 0);
	scsidrv_lun(other, 7, 0);
	assert_ok(scsidrv_ready(&c->s[0], other));
	fill_pattern(data, sizeof(data), 1);
	assert_ok(scsidrv_write(&c->s[0], flat, 3, 1, 512, data));
	assert_ok(scsidrv_read(&c->s[0], peripheral, 3, 1, 512, in));
	assert_memory_equal(in, data, sizeof(data));
	assert_ok(scsidrv_read(&c->s[0], other, 3, 1, 512, in));
	assert_int_equal(in[0] | in[511], 0);
}

static void a_target_that_is_not_there_is_a_bad_target(void **state)
{
	static const uint8_t targets[] = { 1, 6, 8, 255 };
	struct scsidrv_result res;
	struct sconn *c;
	uint8_t lun[8];

	srig_start(TWO);
	c = srig_ready(0, NULL);
	for (unsigned i = 0; i < sizeof(targets); i++) {
		scsidrv_lun(lun, targets[i], 0);
		res = srig_none(c, lun, CDB(0x12, 0, 0, 0, 36, 0));
		assert_response(&res, SPEC_SCSI_S_BAD_TARGET);
		res = srig_none(c, lun, CDB(0, 0, 0, 0, 0, 0));
		assert_response(&res, SPEC_SCSI_S_BAD_TARGET);
	}
	srig_io(c, c->lun0, 0, 8);
}

static void a_lun_field_that_does_not_start_with_one_is_a_bad_target(void **state)
{
	static const uint8_t first[] = { 0, 2, 3, 0x40, 0x80, 0xc0, 0xff };
	struct scsidrv_result res;
	struct sconn *c;
	uint8_t lun[8];

	srig_start(DISK);
	c = srig_ready(0, NULL);
	for (unsigned i = 0; i < sizeof(first); i++) {
		scsidrv_lun(lun, 0, 0);
		lun[0] = first[i];
		res = srig_none(c, lun, CDB(0, 0, 0, 0, 0, 0));
		assert_response(&res, SPEC_SCSI_S_BAD_TARGET);
	}
}

static void lun_formats_that_we_do_not_know_reach_no_unit(void **state)
{
	static const uint8_t forms[][8] = {
		{ 1, 0, 0x80, 0 },    /* logical unit addressing */
		{ 1, 0, 0xd2, 0 },    /* extended flat */
		{ 1, 0, 0xc1, 2 },    /* well known: ACCESS CONTROLS */
		{ 1, 0, 0x01, 0 },    /* peripheral, bus 1 */
		{ 1, 0, 0x40, 0, 1 }, /* a second level */
		{ 1, 0, 0x40, 0, 0, 0, 0, 1 },
		{ 1, 0, 0, 0, 0x40, 0, 0, 0 },
	};
	uint8_t data[512] = { 0xee };
	struct sconn *c;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct scsidrv_result res = srig_cmd(
			c, forms[i], CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0), data, 512, NULL, 0);

		if (res.response != SPEC_SCSI_S_BAD_TARGET)
			assert_sense(&res, 5, 0x25, 0);
	}
	assert_ok(scsidrv_read(&c->s[0], c->lun0, 0, 1, 512, data));
	assert_int_equal(data[0], 0);
}

static void the_report_luns_well_known_unit_lists_the_luns(void **state)
{
	uint8_t lun[8] = { 1, 0, 0xc1, 0x01 }, in[64];
	struct scsidrv_result res;
	struct sconn *c;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	res = srig_cmd(c, lun, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0), NULL, 0, in, 64);
	assert_good(&res);
	assert_int_equal(in[3], 8);
	assert_int_equal(in[8] | in[9], 0);
	assert_int_equal(res.residual, 64 - 16);
	res = srig_none(c, lun, CDB(0, 0, 0, 0, 0, 0));
	if (res.response || res.status)
		assert_status(&res, 2);
}

static void a_lun_that_is_not_there_answers_inquiry_and_refuses_the_rest(void **state)
{
	struct scsidrv_result res;
	uint8_t lun[8], in[36];
	struct sconn *c;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	for (uint32_t n = 1; n < 16384; n = n * 7 + 1) {
		scsidrv_lun(lun, 0, n);
		res = srig_cmd(c, lun, CDB(0x12, 0, 0, 0, 36, 0), NULL, 0, in, 36);
		assert_good(&res);
		assert_int_equal(in[0], 0x7f);
		res = srig_none(c, lun, CDB(0, 0, 0, 0, 0, 0));
		assert_sense(&res, 5, 0x25, 0);
		res = srig_cmd(c, lun, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), NULL, 0, NULL, 512);
		assert_sense(&res, 5, 0x25, 0);
	}
	res = srig_cmd(c, c->lun0, CDB(0x12, 0, 0, 0, 36, 0), NULL, 0, in, 36);
	assert_good(&res);
	assert_int_equal(in[0], 0);
}

/* ---- what a command does ---- */

static void the_first_command_of_a_nexus_reports_power_on(void **state)
{
	struct scsidrv_result res;
	struct sconn *c;
	uint8_t in[36];

	srig_start(DISK);
	c = srig_up(0, NULL);
	res = srig_cmd(c, c->lun0, CDB(0x12, 0, 0, 0, 36, 0), NULL, 0, in, 36);
	assert_good(&res);
	res = srig_none(c, c->lun0, CDB(0, 0, 0, 0, 0, 0));
	assert_sense(&res, 6, 0x29, res.ascq);
	res = srig_none(c, c->lun0, CDB(0, 0, 0, 0, 0, 0));
	assert_good(&res);
}

static void an_unknown_opcode_is_an_illegal_request(void **state)
{
	struct scsidrv_result res;
	struct sconn *c;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	res = srig_none(c, c->lun0, CDB(0xff));
	assert_sense(&res, 5, 0x20, 0);
	res = srig_none(c, c->lun0, CDB(0x02, 0, 0, 0, 0, 0));
	assert_sense(&res, 5, 0x20, 0);
	/* A CDB of zeroes only is TEST UNIT READY. */
	res = srig_none(c, c->lun0, CDB(0));
	assert_good(&res);
}

static void reads_and_writes_of_every_form_reach_the_same_blocks(void **state)
{
	static const uint8_t writes[][16] = { { 0x0a, 0, 0, 9, 1 },
					      { 0x2a, 0, 0, 0, 0, 9, 0, 0, 1 },
					      { 0xaa, 0, 0, 0, 0, 9, 0, 0, 0, 1 },
					      { 0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1 } };
	static const uint8_t reads[][16] = { { 0x08, 0, 0, 9, 1 },
					     { 0x28, 0, 0, 0, 0, 9, 0, 0, 1 },
					     { 0xa8, 0, 0, 0, 0, 9, 0, 0, 0, 1 },
					     { 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1 } };
	uint8_t data[512], in[512];
	struct scsidrv_result res;
	struct sconn *c;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	for (unsigned w = 0; w < 4; w++) {
		fill_pattern(data, sizeof(data), w);
		res = srig_cmd(c, c->lun0, writes[w], 16, data, 512, NULL, 0);
		assert_good(&res);
		assert_int_equal(res.residual, 0);
		for (unsigned r = 0; r < 4; r++) {
			res = srig_cmd(c, c->lun0, reads[r], 16, NULL, 0, in, 512);
			assert_good(&res);
			assert_memory_equal(in, data, sizeof(data));
		}
	}
	res = srig_cmd(c, c->lun0, CDB(0x28, 0, 0, 0, 0x40, 0, 0, 0, 1, 0), NULL, 0, in, 512);
	assert_sense(&res, 5, 0x21, 0);
}

/* ---- residuals ---- */

static void a_longer_buffer_than_the_cdb_asks_for_leaves_a_residual(void **state)
{
	uint8_t data[4096], in[4096];
	struct scsidrv_result res;
	struct sconn *c;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	fill_pattern(data, sizeof(data), 1);
	res = srig_cmd(c, c->lun0, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 2, 0), data, 4096, NULL, 0);
	assert_good(&res);
	assert_int_equal(res.residual, 3072);
	res = srig_cmd(c, c->lun0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 3, 0), NULL, 0, in, 4096);
	assert_good(&res);
	assert_int_equal(res.residual, 4096 - 1536);
	assert_memory_equal(in, data, 1024);
	for (unsigned i = 1024; i < 1536; i++)
		assert_int_equal(in[i], 0);
	for (unsigned i = 1536; i < 4096; i++)
		assert_int_equal(in[i], 0x5a);
	res = srig_cmd(c, c->lun0, CDB(0x12, 0, 0, 0, 36, 0), NULL, 0, in, 255);
	assert_good(&res);
	assert_int_equal(res.residual, 255 - 36);
	res = srig_cmd(c, c->lun0, CDB(0, 0, 0, 0, 0, 0), data, 512, NULL, 0);
	assert_good(&res);
	assert_int_equal(res.residual, 512);
}

static void a_shorter_buffer_than_the_cdb_asks_for_is_an_overrun(void **state)
{
	uint8_t data[4096], in[4096];
	struct scsidrv_result res;
	struct sconn *c;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	memset(data, 0xee, sizeof(data));
	for (uint32_t len = 0; len < 1024; len += 511) {
		res = srig_cmd(c, c->lun0, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 2, 0), data, len, NULL,
			       0);
		assert_response(&res, SPEC_SCSI_S_OVERRUN);
		res = srig_cmd(c, c->lun0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0), NULL, 0, in, len);
		assert_response(&res, SPEC_SCSI_S_OVERRUN);
	}
	assert_ok(scsidrv_read(&c->s[0], c->lun0, 0, 2, 512, in));
	assert_int_equal(in[0] | in[511] | in[512], 0);
	/* 32 bits of blocks, none of them there. */
	res = srig_cmd(c, c->lun0,
		       CDB(0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0), NULL, 0,
		       in, 4096);
	if (res.response != SPEC_SCSI_S_OVERRUN)
		assert_sense(&res, 5, 0x21, 0);
	/* Parameter data that are announced and missing. */
	res = srig_none(c, c->lun0, CDB(0x55, 0x10, 0, 0, 0, 0, 0, 0, 24, 0));
	if (res.response != SPEC_SCSI_S_OVERRUN)
		assert_status(&res, 2);
	res = srig_none(c, c->lun0, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0));
	if (res.response != SPEC_SCSI_S_OVERRUN)
		assert_status(&res, 2);
	srig_io(c, c->lun0, 0, 8);
}

static void an_allocation_length_beyond_the_buffer_is_cut(void **state)
{
	struct scsidrv_result res;
	uint8_t full[36], in[16];
	struct sconn *c;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	res = srig_cmd(c, c->lun0, CDB(0x12, 0, 0, 0, 36, 0), NULL, 0, full, 36);
	assert_good(&res);
	res = srig_cmd(c, c->lun0, CDB(0x12, 0, 0, 0xff, 0xff, 0), NULL, 0, in, 16);
	if (res.response == SPEC_SCSI_S_OVERRUN)
		return;
	assert_good(&res);
	assert_memory_equal(in, full, 16);
	assert_int_equal(res.residual, 0);
}

/* ---- how a request is cut ---- */

static void every_cut_of_a_request_means_the_same(void **state)
{
	static const uint32_t head[] = { 0, 1, 2, 7, 8, 18, 19, 20, 50 };
	static const uint32_t resp[] = { 0, 1, 3, 4, 11, 12, 13, 107 };
	static const uint32_t piece[] = { 0, 511, 512, 1000 };

	for (unsigned how = 0; how < 4; how++) {
		struct sconn *c;

		if (!how)
			srig_start(DISK);
		c = srig_ready(0, &(struct fe_up_opts){ .packed = how & 1,
							.indirect = how & 2,
							.queue_size = 256 });
		for (unsigned h = 0; h < 9; h++)
			for (unsigned r = 0; r < 8; r++)
				for (unsigned join = 0; join < 4; join++) {
					struct scsidrv_layout *l = &c->s[0].layout;

					l->head_piece_bytes = head[h];
					l->resp_piece_bytes = resp[r];
					l->out_piece_bytes = piece[(h + r) % 4];
					l->in_piece_bytes = piece[(h + join) % 4];
					l->join_out = join & 1;
					l->join_in = join & 2;
					srig_io(c, c->lun0, h * 16 + r, 8);
				}
	}
}

/* Too small for a response: there is nothing to write it to, and the chain comes back. */
static void a_response_that_does_not_fit_costs_its_own_request_alone(void **state)
{
	static const uint32_t cut[] = { 1, 50, 95, 96, 97, 100, 107, 108 };
	uint8_t data[512] = { 0xee };

	for (unsigned packed = 0; packed < 2; packed++) {
		struct sconn *c;

		if (!packed)
			srig_start(DISK);
		c = srig_ready(0, &(struct fe_up_opts){ .packed = packed });
		for (unsigned i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
			static const uint8_t tur[6];
			struct scsidrv_cmd cmd = { .cdb = tur,
						   .cdb_bytes = 6,
						   .resp_cut_bytes = cut[i] };
			struct scsidrv_result res;

			memcpy(cmd.lun, c->lun0, 8);
			res = srig_do(c, &cmd);
			assert_int_equal(res.used_bytes, 0);
			cmd.out = data;
			cmd.out_bytes = 512;
			res = srig_do(c, &cmd);
			assert_int_equal(res.used_bytes, 0);
			srig_io(c, c->lun0, i * 8, 8);
		}
	}
}

static void a_header_that_is_too_short_costs_its_own_request_alone(void **state)
{
	static const uint32_t cut[] = { 1, 16, 31, 32, 33, 40, 50 };
	struct sconn *c;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	for (unsigned i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
		static const uint8_t tur[6];
		struct scsidrv_cmd cmd = { .cdb = tur, .cdb_bytes = 6, .head_cut_bytes = cut[i] };
		struct scsidrv_req req, *r;
		struct scsidrv_result res;

		memcpy(cmd.lun, c->lun0, 8);
		/* It may or may not be answered with a failure. */
		c->q[0].strict = false;
		assert_ok(scsidrv_add(&c->s[0], &req, &cmd));
		assert_true(drv_publish(&c->q[0]) >= 0);
		assert_int_equal(scsidrv_reap(&c->s[0], &r, &res, true), 1);
		if (res.response == 0xff)
			assert_int_equal(res.used_bytes, 0);
		else
			assert_true(res.response != SPEC_SCSI_S_OK);
		scsidrv_put(&c->s[0], r);
		c->q[0].strict = true;
		srig_io(c, c->lun0, i * 8, 8);
	}
}

/* ---- configuration space: virtio 1.3, 5.6.4 ---- */

static void the_configuration_says_what_the_device_can(void **state)
{
	struct spec_scsi_config cfg;
	struct sconn *c;

	srig_start("scsi,socket=@a.sock,target=0:ram=8M,num-queues=253");
	c = srig_up(0, NULL);
	assert_ok(fe_get_config(&c->fe, 0, &cfg, sizeof(cfg)));
	assert_int_equal(cfg.num_queues, 253);
	assert_true(cfg.seg_max >= 1);
	assert_true(cfg.max_sectors >= 8);
	assert_true(cfg.cmd_per_lun >= 1);
	assert_int_equal(cfg.event_info_size, sizeof(struct spec_scsi_event));
	assert_int_equal(cfg.sense_size, SPEC_SCSI_SENSE_SIZE);
	assert_int_equal(cfg.cdb_size, SPEC_SCSI_CDB_SIZE);
	assert_int_equal(cfg.max_channel, 0);
	assert_int_equal(cfg.max_target, 255);
	assert_int_equal(cfg.max_lun, 16383);
}

static void the_driver_may_choose_other_cdb_and_sense_sizes(void **state)
{
	static const uint32_t sense[] = { 96, 18, 32, 252, 95 };
	static const uint32_t cdb[] = { 32, 16, 17, 64, 31 };

	srig_start(DISK);
	for (unsigned s = 0; s < 5; s++)
		for (unsigned d = 0; d < 5; d++) {
			struct sconn *c = srig_up_sized(0, sense[s], cdb[d]);
			struct spec_scsi_config cfg;
			struct scsidrv_result res;

			assert_ok(fe_get_config(&c->fe, 0, &cfg, sizeof(cfg)));
			assert_int_equal(cfg.sense_size, sense[s]);
			assert_int_equal(cfg.cdb_size, cdb[d]);
			assert_ok(scsidrv_ready(&c->s[0], c->lun0));
			srig_io(c, c->lun0, s * 8, 8);
			res = srig_none(c, c->lun0, CDB(0xff));
			assert_sense(&res, 5, 0x20, 0);
		}
}

static void sizes_that_we_cannot_serve_are_refused_and_change_nothing(void **state)
{
	static const uint32_t bad[] = { 0xffffffff, 0x80000000, 65536, 4096 };
	struct spec_scsi_config before, after;
	struct sconn *c;
	uint32_t other = 1;

	srig_start(DISK);
	c = srig_ready(0, NULL);
	assert_ok(fe_get_config(&c->fe, 0, &before, sizeof(before)));
	for (unsigned i = 0; i < 4; i++) {
		assert_true(fe_set_config(&c->fe, offsetof(struct spec_scsi_config, sense_size),
					  &bad[i], 4, 0) < 0);
		assert_true(fe_set_config(&c->fe, offsetof(struct spec_scsi_config, cdb_size),
					  &bad[i], 4, 0) < 0);
	}
	/* What only the device writes. */
	for (uint32_t off = 0; off < 20; off += 4)
		assert_true(fe_set_config(&c->fe, off, &other, 4, 0) < 0);
	assert_ok(fe_get_config(&c->fe, 0, &after, sizeof(after)));
	assert_memory_equal(&before, &after, sizeof(before));
	srig_io(c, c->lun0, 0, 8);
}

/* ---- rings and queues ---- */

static void every_ring_format_carries_commands(void **state)
{
	for (unsigned how = 0; how < 16; how++) {
		struct sconn *c;

		if (!how)
			srig_start(DISK);
		c = srig_ready(0, &(struct fe_up_opts){ .packed = how & 1,
							.indirect = how & 2,
							.event_idx = how & 4,
							.in_order = how & 8,
							.queue_size = 64 });
		for (unsigned i = 0; i < 300; i++)
			srig_io(c, c->lun0, i % 100, 1 + i % 32);
	}
}

static void queue_253_works_as_the_first_does(void **state)
{
	struct fe_up_opts o = { .queues = 253, .queue_size = 16, .region_bytes = 32 << 20 };
	struct sconn *c;
	struct drv last;

	srig_start("scsi,socket=@a.sock,target=0:ram=8M,num-queues=253", "--cores", "2");
	for (o.packed = false;; o.packed = true) {
		struct scsidrv s;
		uint8_t in[512];

		c = srig_ready(0, &o);
		for (unsigned i = 1; i < 253; i += i < 8 || i > 244 ? 1 : 37) {
			assert_ok(drv_init(&last, &c->fe, SPEC_SCSI_Q_REQUEST + i));
			assert_ok(scsidrv_init(&s, &last, 4096));
			if (scsidrv_read(&s, c->lun0, 0, 1, 512, in))
				fail_msg("queue %u: %s %s", i, s.why, last.why);
			drv_fini(&last);
		}
		srig_io(c, c->lun0, 0, 8);
		if (o.packed)
			break;
	}
}

/* Each queue works on its own blocks, sixteen requests at a time. */
#define DEPTH 16

struct worker {
	struct scsidrv_req req[DEPTH];
	uint8_t data[DEPTH][4096];
	uint8_t cdb[16];
	unsigned step;
};

static void worker_send(struct sconn *c, unsigned queue, struct worker *w, bool write)
{
	struct scsidrv *s = &c->s[queue];

	for (unsigned i = 0; i < DEPTH; i++) {
		uint32_t lba = (queue * DEPTH + i) * 8;
		uint8_t cdb[10] = { write ? 0x2a : 0x28, 0, 0, 0, (uint8_t)(lba >> 8),
				    (uint8_t)lba,	 0, 0, 8, 0 };
		struct scsidrv_cmd cmd = { .cdb = cdb, .cdb_bytes = 10 };

		memcpy(cmd.lun, c->lun0, 8);
		if (write) {
			fill_pattern(w->data[i], 4096, w->step * 1000 + i + queue * 77);
			cmd.out = w->data[i];
			cmd.out_bytes = 4096;
		} else {
			cmd.in_bytes = 4096;
		}
		assert_ok(scsidrv_add(s, &w->req[i], &cmd));
	}
	assert_true(drv_publish(&c->q[queue]) >= 0);
}

static void worker_take(struct sconn *c, unsigned queue, struct worker *w, bool write)
{
	struct scsidrv *s = &c->s[queue];

	for (unsigned n = 0; n < DEPTH; n++) {
		struct scsidrv_result res;
		struct scsidrv_req *r;

		if (scsidrv_reap(s, &r, &res, true) != 1)
			fail_msg("queue %u: %s %s", queue, s->why, c->q[queue].why);
		assert_good(&res);
		if (!write)
			assert_memory_equal(scsidrv_in(s, r), w->data[r - w->req], 4096);
		scsidrv_put(s, r);
	}
}

static void queues_on_several_loops_work_at_the_same_time(void **state)
{
	static struct worker w[SRIG_QUEUES_MAX];

	srig_start("scsi,socket=@a.sock,target=0:ram=8M,num-queues=8", "--cores", "3");
	for (unsigned how = 0; how < 4; how++) {
		struct sconn *c = srig_ready(0, &(struct fe_up_opts){ .queues = SRIG_QUEUES_MAX,
								      .packed = how & 1,
								      .indirect = how & 2,
								      .event_idx = true,
								      .region_bytes = 64 << 20 });

		for (unsigned step = 0; step < 60; step++)
			for (unsigned write = 2; write-- > 0;) {
				for (unsigned k = 0; k < SRIG_QUEUES_MAX; k++) {
					w[k].step = step;
					worker_send(c, k, &w[k], write);
				}
				for (unsigned k = 0; k < SRIG_QUEUES_MAX; k++)
					worker_take(c, k, &w[k], write);
			}
	}
}

/* ---- recovery ---- */

static void killed_under_io_every_command_is_answered_by_the_next_server(void **state)
{
	static struct worker w;

	daemon_image(&rig_get()->d, "disk", 8 << 20);
	srig_start("scsi,socket=@a.sock,target=0:file=@disk");
	for (unsigned how = 0; how < 4; how++) {
		struct fe_up_opts o = { .inflight = true,
					.packed = how & 1,
					.indirect = how & 2,
					.queues = 3,
					.queue_size = 128,
					.features = SPEC_F_VERSION_1 | SPEC_F_PROTOCOL };
		struct sconn *c = srig_ready(0, &o);

		assert_non_null(c->fe.inflight.host);
		for (unsigned round = 0; round < 4; round++) {
			struct scsidrv_result res;
			struct scsidrv_req *r;

			w.step = round;
			worker_send(c, 0, &w, true);
			pause_us(round * 50);
			daemon_kill(&rig_get()->d);
			fe_hangup(&c->fe);
			daemon_start_again(&rig_get()->d);
			assert_ok(fe_connect(&c->fe, daemon_path(&rig_get()->d, "a.sock")));
			assert_ok(fe_up(&c->fe, &o));
			/* The one that finds the power-on unit attention is not executed. */
			for (unsigned n = 0; n < DEPTH; n++) {
				if (scsidrv_reap(&c->s[0], &r, &res, true) != 1)
					fail_msg("%s %s", c->s[0].why, c->q[0].why);
				if (res.status)
					assert_sense(&res, 6, 0x29, res.ascq);
				scsidrv_put(&c->s[0], r);
			}
			worker_send(c, 0, &w, true);
			for (unsigned n = 0; n < DEPTH; n++) {
				assert_int_equal(scsidrv_reap(&c->s[0], &r, &res, true), 1);
				if (res.status)
					assert_sense(&res, 6, 0x29, res.ascq);
				scsidrv_put(&c->s[0], r);
			}
			assert_ok(scsidrv_ready(&c->s[0], c->lun0));
			worker_send(c, 0, &w, true);
			worker_take(c, 0, &w, true);
			worker_send(c, 0, &w, false);
			worker_take(c, 0, &w, false);
		}
		srig_drop(0);
	}
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, srig_setup, srig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(peripheral_and_flat_luns_name_the_same_unit),
		T(a_target_that_is_not_there_is_a_bad_target),
		T(a_lun_field_that_does_not_start_with_one_is_a_bad_target),
		T(lun_formats_that_we_do_not_know_reach_no_unit),
		T(the_report_luns_well_known_unit_lists_the_luns),
		T(a_lun_that_is_not_there_answers_inquiry_and_refuses_the_rest),
		T(the_first_command_of_a_nexus_reports_power_on),
		T(an_unknown_opcode_is_an_illegal_request),
		T(reads_and_writes_of_every_form_reach_the_same_blocks),
		T(a_longer_buffer_than_the_cdb_asks_for_leaves_a_residual),
		T(a_shorter_buffer_than_the_cdb_asks_for_is_an_overrun),
		T(an_allocation_length_beyond_the_buffer_is_cut),
		T(every_cut_of_a_request_means_the_same),
		T(a_response_that_does_not_fit_costs_its_own_request_alone),
		T(a_header_that_is_too_short_costs_its_own_request_alone),
		T(the_configuration_says_what_the_device_can),
		T(the_driver_may_choose_other_cdb_and_sense_sizes),
		T(sizes_that_we_cannot_serve_are_refused_and_change_nothing),
		T(every_ring_format_carries_commands),
		T(queue_253_works_as_the_first_does),
		T(queues_on_several_loops_work_at_the_same_time),
		T(killed_under_io_every_command_is_answered_by_the_next_server),
	};

	/* Where a record in flight outlives the server. */
	if (rig_over_vfio_user())
		cmocka_set_skip_filter("killed*");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
