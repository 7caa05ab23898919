/*
 * A SCSI device with two initiators under load while the daemon is handed over to a new process: no
 * answer is lost or comes twice, no data is wrong, and what only the process knew (reservations,
 * unit attentions, mode pages, events without a buffer) is known by the next one.
 */
#include <stdlib.h>
#include <string.h>

#include "scsirig.h"

#define DEVICE	    "scsi,name=s,socket=@a.sock,connections=2,num-queues=2,target=0:ram=8M"
#define DEPTH	    16
#define BLOCKS	    64u
#define BLOCK_BYTES 512u

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

/* ---- writes under way on both, each to places of its own, and what they left ---- */

struct mover {
	struct sconn *c;
	struct scsidrv_req req[DEPTH];
	uint64_t stamp[DEPTH], done;
	uint8_t base; /* of its places */
};

static uint8_t *mover_data(const struct mover *m, unsigned i)
{
	static uint8_t data[BLOCKS * BLOCK_BYTES];

	fill_pattern(data, sizeof(data), m->base * 1000000ull + i * 10000ull + m->stamp[i]);
	return data;
}

static void mover_write(struct mover *m, unsigned i)
{
	uint8_t cdb[10] = {
		0x2a, 0, 0,	 0, (uint8_t)(m->base + i / 4), (uint8_t)(i % 4 * BLOCKS),
		0,    0, BLOCKS, 0
	};
	struct scsidrv_cmd cmd = { .cdb = cdb, .cdb_bytes = 10, .out_bytes = BLOCKS * BLOCK_BYTES };

	m->stamp[i]++;
	cmd.out = mover_data(m, i);
	memcpy(cmd.lun, m->c->lun0, 8);
	assert_ok(scsidrv_add(&m->c->s[0], &m->req[i], &cmd));
}

static void mover_start(struct mover *m, struct sconn *c, uint8_t base)
{
	*m = (struct mover){ .c = c, .base = base };
	for (unsigned i = 0; i < DEPTH; i++)
		mover_write(m, i);
	assert_true(drv_publish(&c->q[0]) >= 0);
}

/* One more answer; again: its place is written anew. */
static unsigned mover_reap(struct mover *m, bool again, bool wait)
{
	struct scsidrv_req *r;
	struct scsidrv_result res;
	int rc = scsidrv_reap(&m->c->s[0], &r, &res, wait);

	if (rc < 0 || (wait && !rc))
		fail_msg("%d %s %s", rc, m->c->s[0].why, m->c->q[0].why);
	if (!rc)
		return 0;
	assert_good(&res);
	scsidrv_put(&m->c->s[0], r);
	m->done++;
	if (again) {
		mover_write(m, (unsigned)(r - m->req));
		assert_true(drv_publish(&m->c->q[0]) >= 0);
	}
	return 1;
}

static void mover_end(struct mover *m)
{
	static uint8_t back[BLOCKS * BLOCK_BYTES];

	for (unsigned i = 0; i < DEPTH; i++)
		mover_reap(m, false, true);
	for (unsigned i = 0; i < DEPTH; i++) {
		uint64_t lba = (m->base + i / 4) * 256ull + i % 4 * BLOCKS;

		assert_ok(scsidrv_read(&m->c->s[0], m->c->lun0, lba, BLOCKS, BLOCK_BYTES, back));
		assert_memory_equal(back, mover_data(m, i), sizeof(back));
	}
}

static void writes_of_two_initiators_go_on_from_process_to_process(void **state)
{
	struct daemon *d = &rig_get()->d;
	struct mover a, b;
	unsigned fds = 0;

	srig_start(DEVICE, "--cores", "2", "--rpc-socket", "@rpc");
	mover_start(&a, srig_ready(0, NULL), 0);
	mover_start(&b, srig_ready(1, &(struct fe_up_opts){ .packed = true }), 16);
	for (unsigned i = 0; i < 20; i++) {
		uint64_t done_a, done_b;

		daemon_hand_over_begin(d);
		do {
			mover_reap(&a, true, false);
			mover_reap(&b, true, false);
		} while (!daemon_hand_over_ended(d));
		done_a = a.done;
		done_b = b.done;
		while (a.done < done_a + 2 * DEPTH || b.done < done_b + 2 * DEPTH) {
			mover_reap(&a, true, false);
			mover_reap(&b, true, false);
		}
		if (i == 2)
			fds = daemon_fd_count(d);
	}
	mover_end(&a);
	mover_end(&b);
	assert_in_range(daemon_fd_settled(d, fds + 2), 1, fds + 2);
}

static void what_initiators_left_is_known_to_the_next_process(void **state)
{
	/* MODE SELECT(6) without SP: control page, D_SENSE */
	static const uint8_t mode[16] = {
		0, 0, 0, 0, 0x0a, 0x0a, 0x06, 0x10, 0, 0, 0, 0, 0xff, 0xff
	};
	struct daemon *d = &rig_get()->d;
	uint8_t data[512] = { 7 }, in[512];
	struct scsidrv_result res;
	struct sconn *a, *b;

	srig_start(DEVICE, "--rpc-socket", "@rpc");
	a = srig_ready(0, NULL);
	b = srig_ready(1, NULL);
	res = pr_out(a, 0, 0, 0, 0xaaaa);
	assert_good(&res);
	res = pr_out(b, 0, 0, 0, 0xbbbb);
	assert_good(&res);
	res = pr_out(a, 1, 1, 0xaaaa, 0); /* write exclusive, APTPL 0 */
	assert_good(&res);
	res = srig_cmd(a, a->lun0, CDB(0x15, 0x10, 0, 0, 16, 0), mode, 16, NULL, 0);
	assert_good(&res);
	for (unsigned i = 0; i < 3; i++) {
		daemon_hand_over(d);
		/* no unit attention for the one; for the other that of the mode pages, once */
		res = srig_none(a, a->lun0, CDB(0, 0, 0, 0, 0, 0));
		assert_good(&res);
		res = srig_none(b, b->lun0, CDB(0, 0, 0, 0, 0, 0));
		if (i == 0)
			assert_sense(&res, 6, 0x2a, 0x01);
		else
			assert_good(&res);
		assert_int_equal(res.status ? res.sense[0] : 0x72, 0x72);
		res = srig_cmd(b, b->lun0, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0), data, 512, NULL,
			       0);
		assert_status(&res, 0x18);
		srig_io(a, a->lun0, 0, 8);
		/* READ FULL STATUS: both are there, with their keys; generation 2 */
		res = srig_cmd(b, b->lun0, CDB(0x5e, 3, 0, 0, 0, 0, 0, 2, 0, 0), NULL, 0, in, 512);
		assert_good(&res);
		assert_int_equal(in[3], 2);
		assert_int_equal(in[8 + 6] << 8 | in[8 + 7], 0xaaaa);
		assert_int_equal(in[8 + 12], 1); /* R_HOLDER */
	}
	/* it ends as it would have */
	res = pr_out(a, 2, 1, 0xaaaa, 0);
	assert_good(&res);
	res = srig_cmd(b, b->lun0, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0), data, 512, NULL, 0);
	assert_good(&res);
}

static void a_reservation_of_spc_2_is_its_connection_s_still(void **state)
{
	struct daemon *d = &rig_get()->d;
	struct scsidrv_result res;
	struct sconn *a, *b;
	uint8_t in[512];

	srig_start(DEVICE, "--rpc-socket", "@rpc");
	a = srig_ready(0, NULL);
	b = srig_ready(1, NULL);
	res = srig_none(a, a->lun0, CDB(0x16, 0, 0, 0, 0, 0));
	assert_good(&res);
	daemon_hand_over(d);
	res = srig_cmd(b, b->lun0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), NULL, 0, in, 512);
	assert_status(&res, 0x18);
	srig_drop(0);
	for (uint64_t end = now_us() + 10000000; scsidrv_ready(&b->s[0], b->lun0);) {
		assert_true(now_us() < end);
		pause_us(1000);
	}
	srig_io(b, b->lun0, 0, 8);
}

static void sanitize_is_waited_for_by_name(void **state)
{
	struct daemon *d = &rig_get()->d;
	uint8_t list[8] = { 1, 0, 0, 4, 1, 2, 3, 4 }; /* overwrite, one pass of this pattern */
	struct scsidrv_result res;
	struct sconn *a;

	srig_start("scsi,name=s,socket=@a.sock,target=0:null=2T", "--rpc-socket", "@rpc");
	a = srig_ready(0, NULL);
	res = srig_cmd(a, a->lun0, CDB(0x48, 0x81, 0, 0, 0, 0, 0, 0, 8, 0), list, 8, NULL, 0);
	assert_good(&res);
	daemon_call_begin(d, "framework_hand_over", "{}");
	daemon_answer(d);
	assert_non_null(strstr(d->answer, "SANITIZE goes on; hand over when it has ended"));
	assert_true(daemon_alive(d));
	/* it goes on, and is served here */
	res = srig_none(a, a->lun0, CDB(0, 0, 0, 0, 0, 0));
	assert_sense(&res, 2, 0x04, 0x1b);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, srig_setup, srig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(writes_of_two_initiators_go_on_from_process_to_process),
		T(what_initiators_left_is_known_to_the_next_process),
		T(a_reservation_of_spc_2_is_its_connection_s_still),
		T(sanitize_is_waited_for_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
