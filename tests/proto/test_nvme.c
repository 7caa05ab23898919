/*
 * NVMe over vfio-user, the real binary: what a driver sees. Registers, Identify, every I/O command,
 * data pointers of all shapes, queues in all arrangements, two controllers of one subsystem.
 */
#include <errno.h>
#include <string.h>

#include "nvmerig.h"

#define RAM "num-queues=8,ns=1:ram=64M"

static uint64_t get_le(const uint8_t *at, unsigned bytes)
{
	uint64_t v = 0;

	memcpy(&v, at, bytes);
	return v;
}

/* ---- registers and Identify ---- */

static void the_controller_says_what_it_is(void **state)
{
	struct nconn *c;
	uint8_t id[4096];
	uint32_t v;

	nrig_start(NRIG_MAPPED, RAM ":uuid=01234567-89ab-cdef-0123-456789abcdef,ns=5:null=1G");
	c = nrig_up(0, "n.sock", NRIG_MAPPED, 1, 64);
	assert_int_equal(c->n.cap & 0xffff, 1023);
	assert_int_equal(c->n.cap >> 32 & 15, 0);
	assert_ok(nvmedrv_reg32(&c->n, SPEC_NVME_VS, &v));
	assert_int_equal(v, 0x10400);
	assert_ok(nvmedrv_identify(&c->n, 1, 0, id));
	assert_int_equal(get_le(id + 80, 4), 0x10400);
	assert_int_equal(id[111], 1); /* CNTRLTYPE: I/O */
	assert_true(get_le(id + 516, 4) >= 5);
	assert_memory_equal(id + 768, "nqn.", 4);
	assert_ok(nvmedrv_identify(&c->n, 2, 0, id));
	assert_int_equal(get_le(id, 4), 1);
	assert_int_equal(get_le(id + 4, 4), 5);
	assert_int_equal(get_le(id + 8, 4), 0);
	assert_ok(nvmedrv_identify(&c->n, 0, 1, id));
	assert_int_equal(get_le(id, 8) * c->block_bytes, 64 << 20);
	assert_ok(nvmedrv_identify(&c->n, 3, 1, id));
	for (unsigned at = 0; id[at]; at += 4u + id[at + 1]) {
		static const uint8_t uuid[16] = { 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
						  1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef };

		if (id[at] == 3)
			assert_memory_equal(id + at + 4, uuid, 16);
	}
	assert_int_equal(nvmedrv_identify(&c->n, 0x77, 1, id), SPEC_NVME_INVALID_FIELD);
	assert_int_equal(nvmedrv_identify(&c->n, 0, 2000000, id), SPEC_NVME_INVALID_NS);
}

static void a_shutdown_completes_and_a_reset_begins_anew(void **state)
{
	struct nconn *c;

	nrig_start(NRIG_TRAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_TRAPPED, 2, 64);
	nrig_io(c, 1, 0, 8);
	assert_ok(nvmedrv_shutdown(&c->n, false));
	assert_ok(nvmedrv_disable(&c->n));
	nrig_enable(c, 64);
	nrig_io(c, 2, 0, 8);
	assert_ok(nvmedrv_shutdown(&c->n, true));
	assert_ok(nvmedrv_disable(&c->n));
	nrig_enable(c, 64);
	nrig_io(c, 1, 0, 8);
}

static void a_wrong_admin_queue_is_fatal_and_a_reset_heals(void **state)
{
	struct nconn *c;

	nrig_start(NRIG_TRAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_TRAPPED, 0, 64);
	assert_ok(nvmedrv_disable(&c->n));
	assert_ok(nvmedrv_reg64_set(&c->n, SPEC_NVME_ASQ, 0x7ffffffff000));
	assert_ok(nvmedrv_reg32_set(&c->n, SPEC_NVME_CC, SPEC_NVME_CC_SIZES | SPEC_NVME_CC_EN));
	assert_ok(nvmedrv_csts_wait(&c->n, SPEC_NVME_CFS, SPEC_NVME_CFS));
	assert_ok(nvmedrv_disable(&c->n));
	c->queues = 1;
	nrig_enable(c, 64);
	nrig_io(c, 1, 0, 8);
}

/* ---- I/O commands ---- */

static void reads_and_writes_in_each_way_of_ringing(void **state)
{
	for (int way = 0; way < NRIG_WAYS; way++) {
		struct nconn *c;

		nrig_stop();
		nrig_start((enum nrig_way)way, RAM);
		c = nrig_up(0, "n.sock", (enum nrig_way)way, 4, 32);
		for (unsigned i = 0; i < 100; i++)
			nrig_io(c, 1 + i % 4, i * 8, 1 + i % 8);
		if (way == NRIG_SHADOW)
			assert_true(c->n.doorbell_skips > 0);
	}
}

static void compare_and_its_fused_write(void **state)
{
	struct spec_nvme_sqe first, second;
	struct nvmedrv_done done[2], swap;
	uint64_t old, fresh, in;
	struct nconn *c;

	nrig_start(NRIG_MAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_MAPPED, 1, 64);
	old = nrig_data(c, 4096, 1);
	fresh = nrig_data(c, 4096, 2);
	in = nrig_data(c, 4096, 3);
	assert_status_is(nrig_rw(c, 1, SPEC_NVME_WRITE, 16, 8, old), 0);
	assert_status_is(nrig_rw(c, 1, SPEC_NVME_COMPARE, 16, 8, old), 0);
	assert_status_is(nrig_rw(c, 1, SPEC_NVME_COMPARE, 16, 8, fresh), SPEC_NVME_COMPARE_FAILED);
	first = nvmedrv_rw_sqe(SPEC_NVME_COMPARE, 1, 16, 8);
	second = nvmedrv_rw_sqe(SPEC_NVME_WRITE, 1, 16, 8);
	first.flags = SPEC_NVME_FUSE_FIRST;
	second.flags = SPEC_NVME_FUSE_SECOND;
	/* Once it matches, once it does not any more. */
	for (unsigned i = 0; i < 2; i++) {
		assert_ok(nvmedrv_prp(&c->n, &first, old, 4096));
		assert_true(nvmedrv_submit(&c->n, 1, &first, &first) >= 0);
		assert_ok(nvmedrv_prp(&c->n, &second, fresh, 4096));
		assert_true(nvmedrv_submit(&c->n, 1, &second, NULL) >= 0);
		assert_ok(nvmedrv_sq_ring(&c->n, 1));
		nrig_wait(c, 1, &done[0]);
		nrig_wait(c, 1, &done[1]);
		/* Which of the two comes first is not said. */
		if (done[0].tag != &first) {
			swap = done[0];
			done[0] = done[1];
			done[1] = swap;
		}
		assert_status_is(done[0].status, i ? SPEC_NVME_COMPARE_FAILED : 0);
		assert_status_is(done[1].status, i ? SPEC_NVME_FAILED_FUSED : 0);
		assert_status_is(nrig_rw(c, 1, SPEC_NVME_READ, 16, 8, in), 0);
		assert_memory_equal(nrig_host(c, in, 4096), nrig_host(c, fresh, 4096), 4096);
	}
	/* A half is not a pair. */
	assert_ok(nvmedrv_prp(&c->n, &second, fresh, 4096));
	assert_status_is(nrig_do(c, 1, &second), SPEC_NVME_MISSING_FUSED);
}

static void zeroes_deallocation_verify_and_copy(void **state)
{
	struct spec_nvme_range range = { .slba = 8, .blocks = 8 };
	struct spec_nvme_copy_range from = { .slba = 0, .blocks_minus_1 = 7 };
	static const uint8_t zero[4096];
	struct spec_nvme_sqe sqe;
	uint64_t data, in, list;
	struct nconn *c;

	nrig_start(NRIG_MAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_MAPPED, 1, 64);
	data = nrig_data(c, 8 * c->block_bytes, 9);
	in = nrig_data(c, 8 * c->block_bytes, 10);
	list = nrig_data(c, 4096, 0);
	for (unsigned i = 0; i < 4; i++)
		assert_status_is(nrig_rw(c, 1, SPEC_NVME_WRITE, i * 8, 8, data), 0);
	sqe = nvmedrv_rw_sqe(SPEC_NVME_WRITE_ZEROES, 1, 0, 4);
	assert_status_is(nrig_do(c, 1, &sqe), 0);
	memcpy(nrig_host(c, list, sizeof(range)), &range, sizeof(range));
	sqe = (struct spec_nvme_sqe){
		.opcode = SPEC_NVME_DSM, .nsid = 1, .prp1 = list, .cdw10 = 0, .cdw11 = 4
	};
	assert_status_is(nrig_do(c, 1, &sqe), 0);
	sqe = nvmedrv_rw_sqe(SPEC_NVME_VERIFY, 1, 0, 32);
	assert_status_is(nrig_do(c, 1, &sqe), 0);
	sqe = (struct spec_nvme_sqe){ .opcode = SPEC_NVME_FLUSH, .nsid = 1 };
	assert_status_is(nrig_do(c, 1, &sqe), 0);
	assert_status_is(nrig_rw(c, 1, SPEC_NVME_READ, 0, 8, in), 0);
	assert_memory_equal(nrig_host(c, in, 4), zero, 4 * c->block_bytes > 4096 ? 4096 : 2048);
	memcpy(nrig_host(c, list, sizeof(from)), &from, sizeof(from));
	sqe = (struct spec_nvme_sqe){
		.opcode = SPEC_NVME_COPY, .nsid = 1, .prp1 = list, .cdw10 = 24, .cdw12 = 0
	};
	assert_status_is(nrig_do(c, 1, &sqe), 0);
	assert_status_is(nrig_rw(c, 1, SPEC_NVME_COMPARE, 24, 8, in), 0);
	/* Force Unit Access. */
	sqe = nvmedrv_rw_sqe(SPEC_NVME_WRITE, 1, 40, 8);
	sqe.cdw12 |= 1u << 30;
	assert_ok(nvmedrv_prp(&c->n, &sqe, data, 8 * c->block_bytes));
	assert_status_is(nrig_do(c, 1, &sqe), 0);
}

static void blocks_marked_uncorrectable_say_so_until_written(void **state)
{
	struct spec_nvme_sqe sqe;
	struct nconn *c;
	uint64_t data;

	nrig_start(NRIG_TRAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_TRAPPED, 1, 64);
	data = nrig_data(c, 8 * c->block_bytes, 1);
	sqe = nvmedrv_rw_sqe(SPEC_NVME_WRITE_UNCOR, 1, 100, 2);
	assert_status_is(nrig_do(c, 1, &sqe), 0);
	assert_status_is(nrig_rw(c, 1, SPEC_NVME_READ, 96, 8, data), 0x281);
	assert_status_is(nrig_rw(c, 1, SPEC_NVME_WRITE, 96, 8, data), 0);
	assert_status_is(nrig_rw(c, 1, SPEC_NVME_READ, 96, 8, data), 0);
}

static void wrong_commands_get_the_status_of_the_specification(void **state)
{
	struct spec_nvme_sqe sqe = { .opcode = 0x7f, .nsid = 1 };
	struct nvmedrv_done done;
	struct nconn *c;
	uint64_t data;

	nrig_start(NRIG_MAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_MAPPED, 1, 64);
	data = nrig_data(c, 8192, 1);
	assert_int_equal(nvmedrv_do(&c->n, 1, &sqe, &done), SPEC_NVME_INVALID_OPCODE);
	assert_true(done.dnr);
	sqe = nvmedrv_rw_sqe(SPEC_NVME_READ, 9, 0, 1);
	sqe.prp1 = data;
	assert_status_is(nrig_do(c, 1, &sqe), SPEC_NVME_INVALID_NS);
	sqe.nsid = 1;
	sqe.cdw10 = (uint32_t)c->blocks - 1;
	sqe.cdw12 = 1;
	assert_status_is(nrig_do(c, 1, &sqe), SPEC_NVME_LBA_RANGE);
	sqe.cdw11 = 0xffffffff;
	sqe.cdw10 = 0xffffffff;
	assert_status_is(nrig_do(c, 1, &sqe), SPEC_NVME_LBA_RANGE);
	sqe = nvmedrv_rw_sqe(SPEC_NVME_READ, 1, 0, 8192 / c->block_bytes);
	sqe.prp1 = data;
	sqe.prp2 = data + 4096 + 512; /* the second entry has an offset */
	assert_status_is(nrig_do(c, 1, &sqe), SPEC_NVME_PRP_OFFSET);
	sqe.prp2 = 1ull << 60;
	assert_status_is(nrig_do(c, 1, &sqe), SPEC_NVME_DATA_TRANSFER);
	sqe.prp1 = 1ull << 60;
	assert_status_is(nrig_do(c, 1, &sqe), SPEC_NVME_DATA_TRANSFER);
	nrig_io(c, 1, 0, 8);
}

/* ---- data pointers ---- */

static void lists_begin_anywhere_in_a_page_and_are_chained(void **state)
{
	static const uint32_t list_offset[] = { 0, 8, 2048, 4080, 4088 };
	static const uint32_t kib[] = { 4, 8, 12, 128, 1024, 2044 };
	struct nconn *c;
	uint64_t out, in;

	nrig_start(NRIG_MAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_MAPPED, 1, 64);
	out = nrig_data(c, (2 << 20) + 8192, 5);
	in = nrig_data(c, (2 << 20) + 8192, 6);
	for (unsigned i = 0; i < 5; i++) {
		for (unsigned k = 0; k < 6; k++) {
			uint64_t len = kib[k] * 1024ull, off = 512 * (i + k) % 4096;
			uint32_t blocks = (uint32_t)(len / c->block_bytes);

			c->n.list_offset = list_offset[i];
			assert_status_is(nrig_rw(c, 1, SPEC_NVME_WRITE, 0, blocks, out + off), 0);
			assert_status_is(nrig_rw(c, 1, SPEC_NVME_READ, 0, blocks, in + off + 4), 0);
			assert_memory_equal(nrig_host(c, out + off, len),
					    nrig_host(c, in + off + 4, len), len);
		}
	}
}

static void segments_of_all_shapes(void **state)
{
	static const uint32_t per_segment[] = { 0, 2, 3, 7 };
	struct spec_nvme_sgl desc[16];
	struct nconn *c;
	uint64_t out, in;

	nrig_start(NRIG_MAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_MAPPED, 1, 64);
	out = nrig_data(c, 65536, 5);
	in = nrig_data(c, 65536, 6);
	for (unsigned k = 0; k < 4; k++) {
		for (unsigned count = 1; count <= 16; count *= 2) {
			uint32_t piece = 65536 / count, blocks = 65536 / c->block_bytes;
			struct spec_nvme_sqe sqe = nvmedrv_rw_sqe(SPEC_NVME_WRITE, 1, 0, blocks);

			c->n.sgl_per_segment = per_segment[k];
			/* Backwards in memory. */
			for (unsigned i = 0; i < count; i++)
				desc[i] = (struct spec_nvme_sgl){
					.address = out + (count - 1 - i) * piece, .length = piece
				};
			assert_ok(nvmedrv_sgl(&c->n, &sqe, desc, count));
			assert_status_is(nrig_do(c, 1, &sqe), 0);
			for (unsigned i = 0; i < count; i++)
				desc[i].address = in + (count - 1 - i) * piece;
			sqe.opcode = SPEC_NVME_READ;
			assert_ok(nvmedrv_sgl(&c->n, &sqe, desc, count));
			assert_status_is(nrig_do(c, 1, &sqe), 0);
			assert_memory_equal(nrig_host(c, out, 65536), nrig_host(c, in, 65536),
					    65536);
			memset(nrig_host(c, in, 65536), 0, 65536);
		}
	}
}

static void a_bit_bucket_swallows_what_it_is_told_to(void **state)
{
	struct spec_nvme_sgl desc[3];
	struct spec_nvme_sqe sqe;
	uint64_t out, in;
	struct nconn *c;

	nrig_start(NRIG_MAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_MAPPED, 1, 64);
	out = nrig_data(c, 12288, 5);
	in = nrig_data(c, 12288, 6);
	assert_status_is(nrig_rw(c, 1, SPEC_NVME_WRITE, 0, 12288 / c->block_bytes, out), 0);
	memset(nrig_host(c, in, 12288), 0x77, 12288);
	desc[0] = (struct spec_nvme_sgl){ .address = in, .length = 4096 };
	desc[1] = (struct spec_nvme_sgl){ .length = 4096, .type = SPEC_NVME_SGL_BUCKET };
	desc[2] = (struct spec_nvme_sgl){ .address = in + 8192, .length = 4096 };
	sqe = nvmedrv_rw_sqe(SPEC_NVME_READ, 1, 0, 12288 / c->block_bytes);
	assert_ok(nvmedrv_sgl(&c->n, &sqe, desc, 3));
	assert_status_is(nrig_do(c, 1, &sqe), 0);
	assert_memory_equal(nrig_host(c, in, 4096), nrig_host(c, out, 4096), 4096);
	assert_memory_equal(nrig_host(c, in + 8192, 4096), nrig_host(c, out + 8192, 4096), 4096);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(((uint8_t *)nrig_host(c, in + 4096, 4096))[i], 0x77);
}

/* ---- queues ---- */

static void several_submission_queues_share_a_completion_queue(void **state)
{
	struct nconn *c;

	nrig_start(NRIG_MAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_MAPPED, 0, 0);
	assert_ok(nvmedrv_cq_create(&c->n, 3, 16, 3));
	for (unsigned q = 1; q <= 5; q++)
		assert_ok(nvmedrv_sq_create(&c->n, q, 2 + q * 7, 3));
	for (unsigned i = 0; i < 50; i++)
		nrig_io(c, 1 + i % 5, i * 8, 8);
	assert_int_equal(nvmedrv_cq_delete(&c->n, 3), SPEC_NVME_INVALID_DELETION);
	for (unsigned q = 1; q <= 5; q++)
		assert_ok(nvmedrv_sq_delete(&c->n, q));
	assert_ok(nvmedrv_cq_delete(&c->n, 3));
}

static void a_full_completion_queue_loses_nothing(void **state)
{
	struct spec_nvme_sqe sqe = { .opcode = SPEC_NVME_FLUSH, .nsid = 1 };
	struct nvmedrv_done done;
	struct nconn *c;
	unsigned got = 0;

	nrig_start(NRIG_MAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_MAPPED, 0, 0);
	assert_ok(nvmedrv_cq_create(&c->n, 1, 4, -1));
	assert_ok(nvmedrv_sq_create(&c->n, 1, 64, 1));
	c->n.lazy_head = true;
	for (unsigned i = 0; i < 63; i++)
		assert_true(nvmedrv_submit(&c->n, 1, &sqe, NULL) >= 0);
	assert_ok(nvmedrv_sq_ring(&c->n, 1));
	while (got < 63) {
		nrig_wait(c, 1, &done);
		assert_status_is(done.status, 0);
		/* Three of four entries at most before the head is told. */
		if (++got % 3 == 0) {
			pause_us(200);
			assert_ok(nvmedrv_cq_ring(&c->n, 1));
		}
	}
}

static void wrong_queues_are_refused(void **state)
{
	struct nconn *c;

	nrig_start(NRIG_TRAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_TRAPPED, 1, 64);
	assert_int_equal(nvmedrv_cq_create(&c->n, 9, 64, 1), SPEC_NVME_INVALID_QID);
	assert_int_equal(nvmedrv_cq_create(&c->n, 2, 1, 1), SPEC_NVME_INVALID_QSIZE);
	assert_int_equal(nvmedrv_cq_create(&c->n, 2, 1025, 1), SPEC_NVME_INVALID_QSIZE);
	assert_int_equal(nvmedrv_cq_create(&c->n, 2, 64, 500), SPEC_NVME_INVALID_VECTOR);
	assert_int_equal(nvmedrv_sq_create(&c->n, 2, 64, 2), SPEC_NVME_INVALID_CQ);
	assert_int_equal(nvmedrv_sq_delete(&c->n, 2), SPEC_NVME_INVALID_QID);
	assert_int_equal(nvmedrv_cq_delete(&c->n, 2), SPEC_NVME_INVALID_QID);
	nrig_io(c, 1, 0, 8);
}

static void eight_queue_pairs_work_at_once(void **state)
{
	static struct nvmeload load;
	struct nconn *c;

	nrig_start(NRIG_MAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_MAPPED, 8, 1024);
	for (unsigned q = 1; q <= 8; q++)
		nrig_io(c, q, q * 64, 64);
	assert_int_equal(nrig_rw(c, 1, SPEC_NVME_READ, 0, 1, nrig_data(c, 4096, 1)), 0);
	nrig_stop();
	nrig_start(NRIG_MAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_MAPPED, 4, 64);
	nvmeload_init(&load, &c->n, 1, c->block_bytes, 4, now_us());
	nvmeload_run(&load, 5000);
	nvmeload_verify(&load);
}

/* ---- several controllers, and what changes ---- */

static unsigned resv(struct nconn *c, uint8_t opcode, uint32_t cdw10, const uint64_t *words,
		     unsigned count)
{
	uint64_t at = nrig_data(c, 4096, 0);
	struct spec_nvme_sqe sqe = { .opcode = opcode, .nsid = 1, .prp1 = at, .cdw10 = cdw10 };

	memcpy(nrig_host(c, at, count * 8), words, count * 8);
	return nrig_do(c, 1, &sqe);
}

static void host_id_set(struct nconn *c, uint8_t id)
{
	uint8_t bytes[16] = { id };

	/* Extended: 16 bytes. */
	assert_ok(nvmedrv_set_feature(&c->n, 0x81, 1, 0, bytes, sizeof(bytes), NULL));
}

static void two_controllers_respect_each_other_s_reservation(void **state)
{
	const uint64_t key_a[2] = { 0, 0xa }, acquire_a[2] = { 0xa, 0 }, release_a[1] = { 0xa };
	struct nconn *a, *b;
	uint64_t data;

	nrig_config("{\"nsid\": 1, \"ram\": \"64M\"}");
	nrig_start_config();
	a = nrig_up(0, "a.sock", NRIG_TRAPPED, 1, 64);
	b = nrig_up(1, "b.sock", NRIG_TRAPPED, 1, 64);
	host_id_set(a, 1);
	host_id_set(b, 2);
	data = nrig_data(b, 4096, 4);
	/* Register; then Write Exclusive. */
	assert_status_is(resv(a, SPEC_NVME_RESV_REGISTER, 0, key_a, 2), 0);
	assert_status_is(resv(a, SPEC_NVME_RESV_ACQUIRE, 1u << 8, acquire_a, 2), 0);
	assert_status_is(nrig_rw(b, 1, SPEC_NVME_WRITE, 0, 1, data), SPEC_NVME_RESV_CONFLICT);
	assert_status_is(nrig_rw(b, 1, SPEC_NVME_READ, 0, 1, data), 0);
	nrig_io(a, 1, 0, 8);
	assert_status_is(resv(a, SPEC_NVME_RESV_RELEASE, 1u << 8, release_a, 1), 0);
	nrig_io(b, 1, 0, 8);
	/* Both see the same blocks. */
	assert_status_is(nrig_rw(a, 1, SPEC_NVME_READ, 0, 1, nrig_data(a, 4096, 1)), 0);
}

static void a_namespace_that_comes_or_goes_is_announced(void **state)
{
	uint32_t dw0 = 0, list[1024];
	struct nconn *c;
	uint8_t id[4096];

	nrig_config("{\"nsid\": 1, \"ram\": \"64M\"}");
	nrig_start_config();
	c = nrig_up(0, "a.sock", NRIG_TRAPPED, 1, 64);
	assert_ok(nvmedrv_set_feature(&c->n, 0x0b, 0x100, 0, NULL, 0, NULL));
	assert_ok(nvmedrv_aer(&c->n));
	nrig_config("{\"nsid\": 1, \"ram\": \"64M\"}, {\"nsid\": 7, \"null\": \"1G\"}");
	nrig_reload();
	assert_ok(nvmedrv_event_wait(&c->n, &dw0));
	assert_int_equal(dw0 & 0xffff07, 0x040002);
	assert_ok(nvmedrv_get_log(&c->n, 4, SPEC_NVME_NSID_ALL, list, sizeof(list)));
	assert_int_equal(list[0], 7);
	assert_int_equal(list[1], 0);
	assert_ok(nvmedrv_identify(&c->n, 2, 0, id));
	assert_int_equal(get_le(id + 4, 4), 7);
	assert_ok(nvmedrv_aer(&c->n));
	nrig_config("{\"nsid\": 1, \"ram\": \"64M\"}");
	nrig_reload();
	assert_ok(nvmedrv_event_wait(&c->n, &dw0));
	assert_ok(nvmedrv_identify(&c->n, 2, 0, id));
	assert_int_equal(get_le(id + 4, 4), 0);
	nrig_io(c, 1, 0, 8);
}

static void event_requests_have_a_limit(void **state)
{
	uint32_t dw0;
	struct nconn *c;
	uint8_t id[4096];

	nrig_start(NRIG_TRAPPED, RAM);
	c = nrig_up(0, "n.sock", NRIG_TRAPPED, 0, 0);
	assert_ok(nvmedrv_identify(&c->n, 1, 0, id));
	for (unsigned i = 0; i <= id[259] + 1u; i++)
		assert_ok(nvmedrv_aer(&c->n));
	assert_int_equal(nvmedrv_event_wait(&c->n, &dw0), SPEC_NVME_AER_LIMIT);
	assert_ok(nvmedrv_disable(&c->n));
}

#define T(name) cmocka_unit_test_setup_teardown(name, nrig_setup, nrig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_controller_says_what_it_is),
		T(a_shutdown_completes_and_a_reset_begins_anew),
		T(a_wrong_admin_queue_is_fatal_and_a_reset_heals),
		T(reads_and_writes_in_each_way_of_ringing),
		T(compare_and_its_fused_write),
		T(zeroes_deallocation_verify_and_copy),
		T(blocks_marked_uncorrectable_say_so_until_written),
		T(wrong_commands_get_the_status_of_the_specification),
		T(lists_begin_anywhere_in_a_page_and_are_chained),
		T(segments_of_all_shapes),
		T(a_bit_bucket_swallows_what_it_is_told_to),
		T(several_submission_queues_share_a_completion_queue),
		T(a_full_completion_queue_loses_nothing),
		T(wrong_queues_are_refused),
		T(eight_queue_pairs_work_at_once),
		T(two_controllers_respect_each_other_s_reservation),
		T(a_namespace_that_comes_or_goes_is_announced),
		T(event_requests_have_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
