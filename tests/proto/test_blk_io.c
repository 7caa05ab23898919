/*
 * The data path: every ring format and feature, on a RAM disk and on a file, with random requests
 * of random shape against a shadow of the disk; then what each request type promises.
 *
 * The seed is printed; PROTO_SEED repeats a run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon.h"

#define DISK_BYTES   (8u << 20)
#define DEPTH	     16
#define REQ_MAX	     32768u
#define MATRIX_STEPS 400

static uint64_t seed;

static uint32_t rnd(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 32) % below;
}

/* ---- random requests against a shadow ---- */

struct job {
	struct blkdrv_req req;
	uint32_t type;
	uint64_t off;
	uint32_t len;
	bool busy;
	struct spec_blk_range range[4];
	unsigned range_count;
};

struct oracle {
	struct rig *r;
	struct drv *q;
	struct blkdrv b;
	uint8_t *shadow;
	uint32_t align;
	struct job job[DEPTH];
	uint64_t from, to; /* the part of the disk that is ours */
};

static bool overlaps(struct oracle *o, uint64_t off, uint64_t len)
{
	for (unsigned i = 0; i < DEPTH; i++)
		if (o->job[i].busy && off < o->job[i].off + o->job[i].len &&
		    o->job[i].off < off + len)
			return true;
	return false;
}

static void pick_layout(struct blkdrv *b)
{
	static const uint32_t head[] = { 0, 0, 1, 7, 8, 15 };
	static const uint32_t data[] = { 0, 0, 512, 1024, 4096, 1111 };

	b->layout.head_piece_bytes = head[rnd(6)];
	b->layout.data_piece_bytes = data[rnd(6)];
	b->layout.join_head = rnd(2);
	b->layout.join_status = rnd(2);
}

static void job_ranges(struct oracle *o, struct job *j)
{
	uint32_t each = j->len / 4 / o->align * o->align;

	j->range_count = each ? 4 : 1;
	for (unsigned i = 0; i < j->range_count; i++)
		j->range[i] = (struct spec_blk_range){
			.sector = (j->off + i * each) / 512,
			.sectors512 = (each ? each : j->len) / 512,
			.flags = rnd(2),
		};
	if (each)
		j->range[3].sectors512 += (j->len - 4 * each) / 512;
}

/* Adds one random request; false when the queue is full or the place is busy. */
static bool job_add(struct oracle *o, struct job *j)
{
	uint8_t data[REQ_MAX];
	uint32_t kind = rnd(10);

	j->len = (1 + rnd(REQ_MAX / o->align)) * o->align;
	j->off = o->from +
		 (uint64_t)rnd((uint32_t)((o->to - o->from - j->len) / o->align)) * o->align;
	if (overlaps(o, j->off, j->len))
		return false;
	pick_layout(&o->b);
	if (kind < 4) {
		j->type = SPEC_BLK_IN;
		j->busy = !blkdrv_add(&o->b, &j->req, j->type, j->off / 512, NULL, 0, j->len);
	} else if (kind < 8) {
		j->type = SPEC_BLK_OUT;
		fill_pattern(data, j->len, seed);
		j->busy = !blkdrv_add(&o->b, &j->req, j->type, j->off / 512, data, j->len, 0);
		if (j->busy)
			memcpy(o->shadow + j->off, data, j->len);
	} else if (kind < 9) {
		j->type = SPEC_BLK_WRITE_ZEROES;
		job_ranges(o, j);
		j->busy = !blkdrv_add(&o->b, &j->req, j->type, 0, j->range,
				      j->range_count * (uint32_t)sizeof(j->range[0]), 0);
		if (j->busy)
			memset(o->shadow + j->off, 0, j->len);
	} else {
		j->type = SPEC_BLK_FLUSH;
		j->len = 0;
		j->busy = !blkdrv_add(&o->b, &j->req, j->type, 0, NULL, 0, 0);
	}
	return j->busy;
}

static void job_done(struct oracle *o, struct blkdrv_req *req, uint8_t status)
{
	struct job *j = (struct job *)((char *)req - offsetof(struct job, req));

	if (status != SPEC_BLK_S_OK)
		fail_msg("type %u at %llu+%u: status %u", j->type, (unsigned long long)j->off,
			 j->len, status);
	if (j->type == SPEC_BLK_IN && memcmp(blkdrv_data(&o->b, req), o->shadow + j->off, j->len))
		fail_msg("wrong data at %llu+%u", (unsigned long long)j->off, j->len);
	blkdrv_put(&o->b, req);
	j->busy = false;
}

static unsigned oracle_reap(struct oracle *o, bool wait)
{
	struct blkdrv_req *req;
	uint8_t status;
	unsigned n = 0;
	int rc;

	while ((rc = blkdrv_reap(&o->b, &req, &status, wait && !n)) == 1) {
		job_done(o, req, status);
		n++;
	}
	if (rc < 0)
		fail_msg("completion: %d %s %s", rc, o->q->why, o->b.why);
	return n;
}

static void oracle_step(struct oracle *o)
{
	unsigned added = 0;

	for (unsigned i = 0; i < DEPTH && added < 1 + rnd(DEPTH); i++)
		if (!o->job[i].busy && job_add(o, &o->job[i]))
			added++;
	if (added && drv_publish(o->q) < 0)
		fail_msg("kick");
	if (o->q->in_flight)
		oracle_reap(o, true);
}

static void oracle_finish(struct oracle *o)
{
	uint8_t got[REQ_MAX];

	while (o->q->in_flight)
		oracle_reap(o, true);
	memset(&o->b.layout, 0, sizeof(o->b.layout));
	for (uint64_t off = o->from; off < o->to; off += sizeof(got)) {
		assert_ok(blkdrv_read(&o->b, off / 512, got, sizeof(got)));
		assert_memory_equal(got, o->shadow + off, sizeof(got));
	}
}

static void oracle_init(struct oracle *o, struct rig *r, struct drv *q, uint8_t *shadow,
			uint32_t align)
{
	memset(o, 0, sizeof(*o));
	o->r = r;
	o->q = q;
	o->shadow = shadow;
	o->align = align;
	o->to = DISK_BYTES;
	assert_ok(blkdrv_init(&o->b, q, REQ_MAX));
}

/* Zeroed; one for all tests, so that one that fails half-way leaks nothing. */
static uint8_t *shadow_new(void)
{
	static uint8_t shadow[DISK_BYTES];

	return memset(shadow, 0, sizeof(shadow));
}

/* ---- the matrix ---- */

enum {
	PACKED = 1,
	INDIRECT = 2,
	EVENT_IDX = 4,
	IN_ORDER = 8,
	FILE_DISK = 16,
	BIG_BLOCK = 32,
	FROM_STATE = 128 /* the controller is one that --state restores */
};

static void state_start(struct rig *r)
{
	FILE *f = fopen(daemon_path(&r->d, "state"), "w");

	assert_non_null(f);
	fprintf(f,
		"{\"subsystems\": [{\"subsystem\": \"bdev\", \"config\": [{\"method\": "
		"\"bdev_aio_create\", \"params\": {\"name\": \"disk\", \"filename\": \"%s\", "
		"\"block_size\": 512}}]}, {\"subsystem\": \"vhost_blk\", \"config\": "
		"[{\"method\": \"vhost_create_blk_controller\", \"params\": {\"ctrlr\": "
		"\"a.sock\", \"dev_name\": \"disk\"}}]}]}\n",
		daemon_path(&r->d, "disk"));
	fclose(f);
	daemon_start(&r->d, "--state", "@state", "-S", "@.", "--no-rpc", "--cores", "2", NULL);
}

static void matrix_start(struct rig *r, unsigned how)
{
	if (how & FILE_DISK) {
		daemon_image(&r->d, "disk", DISK_BYTES);
		if (how & FROM_STATE)
			state_start(r);
		else
			daemon_start(&r->d, "--device",
				     how & BIG_BLOCK
					     ? "blk,socket=@a.sock,file=@disk,block-size=4096"
					     : "blk,socket=@a.sock,file=@disk",
				     "--cores", "2", NULL);
	} else {
		daemon_start(&r->d, "--device",
			     how & BIG_BLOCK ? "blk,socket=@a.sock,ram=8M,block-size=4096"
					     : "blk,socket=@a.sock,ram=8M",
			     "--cores", "2", NULL);
	}
}

static void matrix(void **state)
{
	unsigned how = (unsigned)(uintptr_t)*state & 63;
	struct fe_up_opts o = {
		.packed = how & PACKED,
		.indirect = how & INDIRECT,
		.event_idx = how & EVENT_IDX,
		.in_order = how & IN_ORDER,
		.queue_size = 256,
		.regions = 3,
	};
	struct rig *r = rig_get();
	struct oracle oracle;
	uint8_t *shadow = shadow_new();

	matrix_start(r, how);
	rig_up(r, &o);
	oracle_init(&oracle, r, &r->q, shadow, how & BIG_BLOCK ? 4096 : 512);
	for (unsigned i = 0; i < MATRIX_STEPS; i++)
		oracle_step(&oracle);
	oracle_finish(&oracle);
}

/* ---- sizes and queues ---- */

static void queue_sizes_from_1_to_32768(void **state)
{
	static const uint16_t split[] = { 4, 8, 64, 1024, 32768 },
			      packed[] = { 3, 5, 100, 1000, 32768 };
	struct rig *r = rig_get();

	daemon_start(&r->d, "--device", "blk,socket=@a.sock,ram=8M,queue-size=32768", NULL);
	for (unsigned i = 0; i < 20; i++) {
		struct fe_up_opts o = { .packed = i & 1, .indirect = i & 2 };

		o.queue_size = o.packed ? packed[i / 4] : split[i / 4];
		rig_up(r, &o);
		for (unsigned k = 0; k < 3u * (o.queue_size < 100 ? o.queue_size : 100); k++)
			rig_io(r, k * 8ull);
		rig_drop(r);
	}
	/* One and two descriptors: only a table holds a request. */
	for (unsigned i = 0; i < 4; i++) {
		rig_up(r, &(struct fe_up_opts){ .queue_size = (uint16_t)(1 + i / 2),
						.packed = i & 1,
						.indirect = true });
		for (unsigned k = 0; k < 10; k++)
			rig_io(r, k * 8ull);
		rig_drop(r);
	}
}

static void eight_queues_on_two_loops(void **state)
{
	struct rig *r = rig_get();
	static struct oracle o[8];
	struct drv q[8];
	uint8_t *shadow = shadow_new();

	for (unsigned packed = 0; packed < 2; packed++) {
		memset(shadow, 0, DISK_BYTES);
		daemon_start(&r->d, "--device", "blk,socket=@a.sock,ram=8M,num-queues=8", "--cores",
			     "2", NULL);
		rig_up(r, &(struct fe_up_opts){ .queues = 8,
						.packed = packed,
						.event_idx = true,
						.region_bytes = 64 << 20 });
		for (unsigned i = 0; i < 8; i++) {
			assert_ok(drv_init(&q[i], &r->fe, i));
			oracle_init(&o[i], r, &q[i], shadow, 512);
			o[i].from = i * (DISK_BYTES / 8);
			o[i].to = (i + 1) * (DISK_BYTES / 8);
		}
		for (unsigned step = 0; step < 200; step++)
			for (unsigned i = 0; i < 8; i++)
				oracle_step(&o[i]);
		for (unsigned i = 0; i < 8; i++) {
			oracle_finish(&o[i]);
			drv_fini(&q[i]);
		}
		rig_drop(r);
		daemon_stop(&r->d);
	}
}

/* ---- what each request type promises ---- */

static void out_of_range_is_an_io_error_and_writes_nothing(void **state)
{
	const uint64_t end = DISK_BYTES / 512;
	static const uint64_t beyond[] = { 0,	       1,	   1ull << 32,
					   1ull << 54, 1ull << 55, ~0ull - DISK_BYTES / 512 };
	struct rig *r = rig_get();
	uint8_t data[1024] = { 1 };

	matrix_start(r, 0);
	rig_up(r, NULL);
	assert_ok(blkdrv_write(&r->b, end - 2, data, 1024));
	assert_int_equal(blkdrv_write(&r->b, end - 1, data, 1024), SPEC_BLK_S_IOERR);
	for (unsigned i = 0; i < 6; i++) {
		struct spec_blk_range range = { end + beyond[i], 1, 0 };

		assert_int_equal(blkdrv_read(&r->b, end + beyond[i], data, 512), SPEC_BLK_S_IOERR);
		assert_int_equal(blkdrv_write(&r->b, end + beyond[i], data, 512), SPEC_BLK_S_IOERR);
		assert_int_equal(blkdrv_ranges(&r->b, SPEC_BLK_DISCARD, &range, 1),
				 SPEC_BLK_S_IOERR);
		assert_int_equal(blkdrv_ranges(&r->b, SPEC_BLK_WRITE_ZEROES, &range, 1),
				 SPEC_BLK_S_IOERR);
		range = (struct spec_blk_range){ end - 1, 0xffffffff, 0 };
		assert_int_equal(blkdrv_ranges(&r->b, SPEC_BLK_WRITE_ZEROES, &range, 1),
				 SPEC_BLK_S_IOERR);
	}
	/* Not a multiple of a sector, and nothing at all. */
	assert_int_equal(blkdrv_write(&r->b, 0, data, 511), SPEC_BLK_S_IOERR);
	assert_int_equal(blkdrv_do(&r->b, SPEC_BLK_IN, 0, NULL, 0, NULL, 0), SPEC_BLK_S_IOERR);
	rig_io(r, 0);
}

static void unknown_types_and_flags_are_unsupported(void **state)
{
	static const uint32_t types[] = { 2, 3, 5, 6, 7, 9, 12, 15, 26, 0x80000000, 0xffffffff };
	struct spec_blk_range range = { 0, 8, 1 };
	struct rig *r = rig_get();
	uint8_t buf[512];

	matrix_start(r, 0);
	rig_up(r, NULL);
	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_int_equal(blkdrv_do(&r->b, types[i], 0, NULL, 0, buf, 512),
				 SPEC_BLK_S_UNSUPP);
	assert_int_equal(blkdrv_ranges(&r->b, SPEC_BLK_DISCARD, &range, 1), SPEC_BLK_S_UNSUPP);
	range.flags = 2;
	assert_int_equal(blkdrv_ranges(&r->b, SPEC_BLK_WRITE_ZEROES, &range, 1), SPEC_BLK_S_UNSUPP);
	rig_io(r, 0);
}

static void get_id_is_the_serial(void **state)
{
	struct rig *r = rig_get();
	char id[21];

	daemon_start(&r->d, "--device", "blk,socket=@a.sock,ram=8M,serial=twenty-bytes-serial-",
		     NULL);
	rig_up(r, NULL);
	assert_ok(blkdrv_get_id(&r->b, id));
	assert_memory_equal(id, "twenty-bytes-serial-", 20);
}

static void discard_takes_many_segments(void **state)
{
	for (unsigned file = 0; file < 2; file++) {
		struct rig *r = rig_get();
		struct spec_blk_range range[16];
		uint8_t data[65536], got[65536];

		matrix_start(r, file ? FILE_DISK : 0);
		rig_up(r, NULL);
		fill_pattern(data, sizeof(data), 1);
		assert_ok(blkdrv_write(&r->b, 0, data, sizeof(data)));
		for (unsigned i = 0; i < 16; i++)
			range[i] = (struct spec_blk_range){ i * 8, 4, 0 };
		assert_ok(blkdrv_ranges(&r->b, SPEC_BLK_WRITE_ZEROES, range, 16));
		assert_ok(blkdrv_read(&r->b, 0, got, sizeof(got)));
		for (unsigned i = 0; i < 16; i++) {
			memset(data + i * 4096, 0, 2048);
			range[i].sector += 4;
		}
		assert_memory_equal(data, got, sizeof(got));
		assert_ok(blkdrv_ranges(&r->b, SPEC_BLK_DISCARD, range, 16));
		/* One more than max_discard_seg is refused and discards nothing. */
		fill_pattern(data, sizeof(data), 2);
		assert_ok(blkdrv_write(&r->b, 0, data, sizeof(data)));
		struct spec_blk_range many[300];

		for (unsigned i = 0; i < 300; i++)
			many[i] = (struct spec_blk_range){ 0, 8, 0 };
		assert_int_equal(blkdrv_ranges(&r->b, SPEC_BLK_DISCARD, many, 300),
				 SPEC_BLK_S_IOERR);
		assert_ok(blkdrv_read(&r->b, 0, got, sizeof(got)));
		assert_memory_equal(data, got, sizeof(got));
		rig_drop(r);
		daemon_stop(&r->d);
	}
}

static void a_read_only_disk_refuses_all_that_changes_it(void **state)
{
	struct rig *r = rig_get();
	struct spec_blk_range range = { 0, 8, 0 };
	uint8_t data[512] = { 1 };

	daemon_image(&r->d, "disk", DISK_BYTES);
	daemon_start(&r->d, "--device", "blk,socket=@a.sock,file=@disk,read-only=on", NULL);
	rig_up(r, NULL);
	assert_true(r->fe.features & SPEC_BLK_F_RO);
	assert_int_equal(blkdrv_write(&r->b, 0, data, 512), SPEC_BLK_S_IOERR);
	assert_true(blkdrv_ranges(&r->b, SPEC_BLK_DISCARD, &range, 1) > 0);
	assert_true(blkdrv_ranges(&r->b, SPEC_BLK_WRITE_ZEROES, &range, 1) > 0);
	assert_ok(blkdrv_flush(&r->b));
	assert_ok(blkdrv_read(&r->b, 0, data, 512));
	assert_int_equal(data[0], 0);
}

static void blocks_of_4096_refuse_smaller_pieces(void **state)
{
	struct rig *r = rig_get();
	struct spec_blk_config c;
	uint8_t data[4096];

	matrix_start(r, BIG_BLOCK | FILE_DISK);
	rig_up(r, NULL);
	assert_ok(fe_get_config(&r->fe, 0, &c, sizeof(c)));
	assert_int_equal(c.blk_size, 4096);
	assert_int_equal(c.capacity, DISK_BYTES / 512);
	assert_int_equal(blkdrv_write(&r->b, 1, data, 4096), SPEC_BLK_S_IOERR);
	assert_int_equal(blkdrv_write(&r->b, 0, data, 512), SPEC_BLK_S_IOERR);
	rig_io(r, 8);
}

/* ---- recovery ---- */

static void recover(unsigned packed, unsigned how)
{
	struct fe_up_opts o = { .packed = packed,
				.inflight = true,
				.queue_size = 256,
				.indirect = how & 1,
				.in_order = how & 2 };
	struct rig *r = rig_get();
	static struct oracle oracle;
	uint8_t *shadow = shadow_new();

	matrix_start(r, FILE_DISK | (how & FROM_STATE));
	rig_up(r, &o);
	oracle_init(&oracle, r, &r->q, shadow, 512);
	for (unsigned round = 0; round < 8; round++) {
		for (unsigned i = 0; i < 20; i++)
			oracle_step(&oracle);
		for (unsigned i = 0; i < DEPTH; i++)
			if (!oracle.job[i].busy)
				job_add(&oracle, &oracle.job[i]);
		assert_true(drv_publish(&r->q) >= 0);
		pause_us(rnd(400));
		daemon_kill(&r->d);
		fe_hangup(&r->fe);
		daemon_start_again(&r->d);
		rig_connect(r);
		if (fe_up(&r->fe, &o))
			fail_msg("round %u: %s", round, r->fe.why);
		while (r->q.in_flight)
			oracle_reap(&oracle, true);
	}
	oracle_finish(&oracle);
}

static void killed_under_io_a_split_ring_loses_and_repeats_nothing(void **state)
{
	recover(0, (unsigned)(uintptr_t)*state - 1);
}

static void killed_under_io_a_packed_ring_loses_and_repeats_nothing(void **state)
{
	recover(1, (unsigned)(uintptr_t)*state - 1);
}

static void killed_under_io_a_split_ring_finds_its_restored_controller(void **state)
{
	recover(0, FROM_STATE);
}

static void killed_under_io_a_packed_ring_finds_its_restored_controller(void **state)
{
	recover(1, FROM_STATE | 3);
}

static struct CMUnitTest tests[128];
static char names[128][96];
static unsigned count;

static void add(const char *name, CMUnitTestFunction fn, uintptr_t how)
{
	snprintf(names[count], sizeof(names[0]), "%s", name);
	tests[count] = (struct CMUnitTest){ names[count], fn, rig_own_setup, rig_own_teardown,
					    (void *)how };
	count++;
}

static void add_matrix(unsigned how)
{
	char name[96];

	snprintf(name, sizeof(name), "%s%s%s%s on %s, blocks of %u",
		 how & PACKED ? "packed" : "split", how & INDIRECT ? " indirect" : " direct",
		 how & EVENT_IDX ? " event-idx" : "", how & IN_ORDER ? " in-order" : "",
		 how & FILE_DISK ? "a file" : "memory", how & BIG_BLOCK ? 4096 : 512);
	add(name, matrix, how | 64);
}

#define ADD(fn) add(#fn, fn, 0)

int main(void)
{
	const char *s = getenv("PROTO_SEED");

	seed = s ? strtoull(s, NULL, 0) : now_us() * 0x9e3779b97f4a7c15ull;
	fprintf(stderr, "PROTO_SEED=0x%llx\n", (unsigned long long)seed);
	for (unsigned how = 0; how < 64; how++)
		if (!(how & BIG_BLOCK) || (how & 14) == (INDIRECT | EVENT_IDX))
			add_matrix(how);
	ADD(queue_sizes_from_1_to_32768);
	ADD(eight_queues_on_two_loops);
	ADD(out_of_range_is_an_io_error_and_writes_nothing);
	ADD(unknown_types_and_flags_are_unsupported);
	ADD(get_id_is_the_serial);
	ADD(discard_takes_many_segments);
	ADD(a_read_only_disk_refuses_all_that_changes_it);
	ADD(blocks_of_4096_refuse_smaller_pieces);
	/* Where a record in flight outlives the server. */
	for (uintptr_t how = 1; how <= 4 && !rig_over_vfio_user(); how++) {
		add("killed_under_io_a_split_ring_loses_and_repeats_nothing",
		    killed_under_io_a_split_ring_loses_and_repeats_nothing, how);
		add("killed_under_io_a_packed_ring_loses_and_repeats_nothing",
		    killed_under_io_a_packed_ring_loses_and_repeats_nothing, how);
	}
	if (!rig_over_vfio_user()) {
		ADD(killed_under_io_a_split_ring_finds_its_restored_controller);
		ADD(killed_under_io_a_packed_ring_finds_its_restored_controller);
	}
	return _cmocka_run_group_tests("blk_io", tests, count, NULL, NULL);
}
