/* Protection information on the wire: T10_PI (virtio 1.3, 5.6.6.1; SBC-4, 4.21). */
#include <string.h>

#include "scsirig.h"

#define DISK   "scsi,socket=@/a.sock,target=0:ram=8M:pi-type=1"
#define BLOCKS 2
#define PI     (8 * BLOCKS)
#define DATA   (512 * BLOCKS)

static struct sconn *pi_ready(void)
{
	static const struct fe_up_opts opts = { .features = SPEC_F_VERSION_1 | SPEC_F_PROTOCOL |
							    SPEC_SCSI_F_T10_PI };
	struct sconn *c;

	srig_start(DISK);
	c = srig_ready(0, &opts);
	assert_true(c->fe.features & SPEC_SCSI_F_T10_PI);
	assert_true(c->s[0].pi);
	return c;
}

/* CRC-16 of T10, bit by bit: not as src/scsi has it. */
static uint16_t guard_of(const uint8_t *bytes, size_t len)
{
	uint32_t crc = 0;

	for (size_t i = 0; i < len; i++) {
		crc ^= (uint32_t)bytes[i] << 8;
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 0x8000 ? (crc << 1 ^ 0x8bb7) & 0xffff : crc << 1;
	}
	return (uint16_t)crc;
}

static void pi_fill(uint8_t *bytes, const uint8_t *data, uint32_t lba)
{
	for (uint32_t i = 0; i < BLOCKS; i++, bytes += 8) {
		uint16_t guard = guard_of(data + 512 * i, 512);

		memset(bytes, 0, 8);
		bytes[0] = (uint8_t)(guard >> 8);
		bytes[1] = (uint8_t)guard;
		bytes[7] = (uint8_t)(lba + i);
	}
}

/* WRITE(10) or READ(10) of BLOCKS at 9; buf: protection information, then data. */
static struct scsidrv_result rw(struct sconn *c, bool write, uint8_t protect, uint8_t *buf)
{
	const uint8_t cdb[10] = {
		write ? 0x2a : 0x28, (uint8_t)(protect << 5), 0, 0, 0, 9, 0, 0, BLOCKS, 0
	};
	struct scsidrv_cmd cmd = { .cdb = cdb, .cdb_bytes = sizeof(cdb) };

	memcpy(cmd.lun, c->lun0, 8);
	if (write) {
		cmd.out = buf;
		cmd.out_bytes = PI + DATA;
		cmd.pi_out_bytes = PI;
	} else {
		cmd.in = buf;
		cmd.in_bytes = PI + DATA;
		cmd.pi_in_bytes = PI;
	}
	return srig_do(c, &cmd);
}

static void what_was_written_is_read_with_its_protection_information(void **state)
{
	static const uint32_t pieces[] = { 0, 20, 100, 512 };
	uint8_t out[PI + DATA], in[PI + DATA];
	struct scsidrv_result res;
	struct sconn *c = pi_ready();

	for (unsigned i = 0; i < 4; i++) {
		c->s[0].layout.out_piece_bytes = c->s[0].layout.in_piece_bytes = pieces[i];
		c->s[0].layout.join_in = c->s[0].layout.join_out = i & 1;
		memset(out + PI, (int)i + 1, DATA);
		pi_fill(out, out + PI, 9);
		res = rw(c, true, 1, out);
		assert_good(&res);
		memset(in, 0, sizeof(in));
		res = rw(c, false, 1, in);
		assert_good(&res);
		assert_memory_equal(in, out, sizeof(out));
	}
}

static void a_wrong_guard_reference_or_none_is_told_apart(void **state)
{
	uint8_t out[PI + DATA];
	struct scsidrv_result res;
	struct sconn *c = pi_ready();

	memset(out + PI, 7, DATA);
	pi_fill(out, out + PI, 9);
	out[0] ^= 1;
	res = rw(c, true, 1, out);
	assert_sense(&res, 0xb, 0x10, 0x01);
	pi_fill(out, out + PI, 10);
	res = rw(c, true, 1, out);
	assert_sense(&res, 0xb, 0x10, 0x03);
	out[2] = out[3] = out[10] = out[11] = 0xff; /* application tag: do not check */
	res = rw(c, true, 1, out);
	assert_good(&res);
}

static void less_protection_information_than_blocks_is_an_overrun(void **state)
{
	uint8_t buf[PI + DATA] = { 0 };
	const uint8_t cdb[10] = { 0x2a, 0x20, 0, 0, 0, 9, 0, 0, BLOCKS, 0 };
	struct scsidrv_cmd cmd = {
		.cdb = cdb, .cdb_bytes = 10, .out = buf, .out_bytes = 8 + DATA, .pi_out_bytes = 8
	};
	struct sconn *c = pi_ready();
	struct scsidrv_result res;

	memcpy(cmd.lun, c->lun0, 8);
	res = srig_do(c, &cmd);
	assert_response(&res, 1);
	cmd.pi_out_bytes = 1u << 20; /* more than there is at all */
	res = srig_do(c, &cmd);
	assert_response(&res, 9);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, srig_setup, srig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_was_written_is_read_with_its_protection_information),
		T(a_wrong_guard_reference_or_none_is_told_apart),
		T(less_protection_information_than_blocks_is_an_overrun),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
