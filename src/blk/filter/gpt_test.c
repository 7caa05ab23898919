/* gpt: tables that sfdisk made, and the same damaged by hand. */
#include "blk/filter/filter_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"
#include "blk/filter/gpt.h"
#include "blk/filter/part.h"

#define BLOCK	  512u
#define DISK_MIB  8
#define BLOCKS	  (DISK_MIB * 2048u)
#define ENTRY(n)  (2 * BLOCK + ((n)-1) * 128)
#define CRC_AT	  16 /* of the header */
#define ENTRY_CRC 88 /* of the entries, in the header */

#define LINUX "0fc63daf-8483-4772-8e79-3d69d8477de4"
#define DISK  "11111111-2222-3333-4444-555555555555"
#define UUID1 "a1b2c3d4-0001-4002-8003-0a0b0c0d0e0f"

static struct gpt_table table;
static struct err read_err;
static int read_rc;

static void on_read(void *arg, int rc, const struct gpt_table *t, const struct err *err)
{
	read_rc = rc;
	read_err = *err;
	if (t)
		table = *t;
}

static int gpt_read(struct blk_dev *dev)
{
	struct loop_params lp = { .name = "test", .cpu = -1, .sq_count = 64 };
	struct loop *loop;

	read_rc = 1;
	memset(&table, 0, sizeof(table));
	assert_int_equal(loop_new(&lp, &loop, NULL), 0);
	assert_int_equal(blk_gpt_read(dev, loop, on_read, NULL, NULL), 0);
	while (read_rc == 1)
		loop_run_once(loop, true);
	loop_free(loop);
	return read_rc;
}

/* An image that sfdisk made by this script; false: there is no sfdisk here. */
static bool image_make(char *path, const char *script)
{
	const char *dir = getenv("TMPDIR");
	char command[1024];
	int fd;

	snprintf(path, 256, "%s/gpt-XXXXXX", dir ? dir : "/tmp");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, DISK_MIB << 20), 0);
	close(fd);
	snprintf(command, sizeof(command), "PATH=$PATH:/usr/sbin:/sbin; printf '%s' | sfdisk -q %s",
		 script, path);
	if (system("PATH=$PATH:/usr/sbin:/sbin; command -v sfdisk >/dev/null") != 0) {
		unlink(path);
		return false;
	}
	assert_int_equal(system(command), 0);
	return true;
}

static char *image_load(const char *path)
{
	char *disk = malloc(DISK_MIB << 20);
	int fd = open(path, O_RDONLY);

	assert_non_null(disk);
	assert_int_equal(read(fd, disk, DISK_MIB << 20), DISK_MIB << 20);
	close(fd);
	return disk;
}

/* A sim disk with the table of three parts, as sfdisk writes it; NULL without sfdisk. */
static struct blk_dev *disk_of_sfdisk(void)
{
	static char *disk;
	struct blk_dev *dev;
	char path[256];

	if (!disk) {
		if (!image_make(path, "label: gpt\\nlabel-id: " DISK "\\n"
				      "size=1MiB, type=" LINUX ", uuid=" UUID1
				      ", name=\"root \\303\\244\"\\n"
				      "size=2MiB, type=U, name=\"esp\"\\n"
				      "type=" LINUX ", name=\"rest\"\\n"))
			return NULL;
		disk = image_load(path);
		unlink(path);
	}
	dev = filter_base("sim", "size=8M");
	memcpy(blk_sim_memory(dev), disk, DISK_MIB << 20);
	return dev;
}

#define DISK_OR_SKIP(dev)                                                                          \
	struct blk_dev *dev = disk_of_sfdisk();                                                    \
	if (!dev) {                                                                                \
		print_message("sfdisk is not installed\n");                                        \
		skip();                                                                            \
	}                                                                                          \
	uint8_t *disk = blk_sim_memory(dev);                                                       \
	(void)disk

static void put32(uint8_t *at, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(v >> 8 * i);
}

static void put64(uint8_t *at, uint64_t v)
{
	put32(at, (uint32_t)v);
	put32(at + 4, (uint32_t)(v >> 32));
}

/* Makes the checksums of a copy right again. */
static void sign(uint8_t *header, const uint8_t *entries)
{
	put32(header + ENTRY_CRC, gpt_crc(entries, 128 * 128));
	put32(header + CRC_AT, 0);
	put32(header + CRC_AT, gpt_crc(header, 92));
}

static void sign_both(uint8_t *disk)
{
	sign(disk + BLOCK, disk + 2 * BLOCK);
	sign(disk + (BLOCKS - 1) * BLOCK, disk + (BLOCKS - 33) * BLOCK);
}

/* As reading fails: with -EINVAL and this in its text. */
static void assert_damaged(struct blk_dev *dev, const char *word)
{
	assert_int_equal(gpt_read(dev), -EINVAL);
	if (!strstr(read_err.msg, word))
		fail_msg("\"%s\" does not say \"%s\"", read_err.msg, word);
	blk_dev_unref(dev);
}

static void assert_three_parts(void)
{
	char text[TEXT_UUID_BYTES];

	text_uuid(table.disk, text);
	assert_string_equal(text, DISK);
	assert_int_equal(table.count, 3);
	assert_int_equal(table.parts[0].number, 1);
	assert_int_equal(table.parts[0].start_bytes, 1 << 20);
	assert_int_equal(table.parts[0].length_bytes, 1 << 20);
	assert_string_equal(table.parts[0].name, "root \303\244");
	text_uuid(table.parts[0].type, text);
	assert_string_equal(text, LINUX);
	text_uuid(table.parts[0].unique, text);
	assert_string_equal(text, UUID1);
	assert_int_equal(table.parts[1].start_bytes, 2 << 20);
	text_uuid(table.parts[1].type, text);
	assert_string_equal(text, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
	assert_string_equal(table.parts[2].name, "rest");
}

static void table_of_sfdisk_is_read_whole(void **state)
{
	DISK_OR_SKIP(dev);
	assert_int_equal(gpt_read(dev), 0);
	assert_false(table.backup);
	assert_three_parts();
	blk_dev_unref(dev);
}

static void parts_become_nodes(void **state)
{
	struct blk_dev *part;
	DISK_OR_SKIP(dev);

	assert_int_equal(gpt_read(dev), 0);
	assert_int_equal(blk_part_open(dev, "p2", table.parts[1].start_bytes,
				       table.parts[1].length_bytes, &part, NULL),
			 0);
	assert_int_equal(blk_dev_caps(part)->size_bytes, 2 << 20);
	blk_dev_unref(part);
	blk_dev_unref(dev);
}

static void backup_is_used_when_the_primary_header_is_damaged(void **state)
{
	DISK_OR_SKIP(dev);
	disk[BLOCK + 40] ^= 1;
	assert_int_equal(gpt_read(dev), 0);
	assert_true(table.backup);
	assert_three_parts();
	blk_dev_unref(dev);
}

static void backup_is_used_when_the_primary_entries_are_damaged(void **state)
{
	DISK_OR_SKIP(dev);
	disk[ENTRY(3) + 60] ^= 1;
	assert_int_equal(gpt_read(dev), 0);
	assert_true(table.backup);
	assert_three_parts();
	blk_dev_unref(dev);
}

static void backup_is_found_where_the_primary_says_on_a_disk_that_grew(void **state)
{
	struct blk_dev *grown;
	DISK_OR_SKIP(dev);

	grown = filter_base("sim", "size=16M");
	disk[ENTRY(1)] ^= 1;
	memcpy(blk_sim_memory(grown), disk, DISK_MIB << 20);
	assert_int_equal(gpt_read(grown), 0);
	assert_true(table.backup);
	blk_dev_unref(grown);
	blk_dev_unref(dev);
}

static void both_damaged_is_an_error_that_says_where(void **state)
{
	DISK_OR_SKIP(dev);
	disk[BLOCK + 40] ^= 1;
	disk[(BLOCKS - 1) * BLOCK + 40] ^= 1;
	assert_damaged(dev, "header in block 16383: wrong checksum");
}

static void disk_without_protective_mbr_has_no_table(void **state)
{
	struct blk_dev *blank = filter_base("sim", "size=1M");
	struct blk_dev *tiny = filter_base("sim", "size=512");

	assert_int_equal(gpt_read(blank), -ENOENT);
	assert_int_equal(gpt_read(tiny), -ENOENT);
	blk_dev_unref(blank);
	blk_dev_unref(tiny);
	DISK_OR_SKIP(dev);
	disk[446 + 4] = 0x83;
	assert_int_equal(gpt_read(dev), -ENOENT);
	blk_dev_unref(dev);
}

static void disk_that_cannot_be_read_is_an_error(void **state)
{
	struct blk_dev *dev = filter_base("sim", "size=1M,fail-every=1");

	assert_int_equal(gpt_read(dev), -EIO);
	assert_non_null(strstr(read_err.msg, "I/O error"));
	blk_dev_unref(dev);
}

/* Both copies get this at an offset of the header; their checksums are right. */
static void header_damaged(unsigned int at, uint64_t value, bool wide, const char *word)
{
	struct blk_dev *dev = disk_of_sfdisk();
	uint8_t *disk = blk_sim_memory(dev);

	for (int i = 0; i < 2; i++) {
		uint8_t *header = disk + (i ? BLOCKS - 1 : 1) * BLOCK;

		if (wide)
			put64(header + at, value);
		else
			put32(header + at, (uint32_t)value);
	}
	sign_both(disk);
	assert_damaged(dev, word);
}

static void headers_with_right_checksums_and_wrong_values_are_refused(void **state)
{
	DISK_OR_SKIP(dev);
	blk_dev_unref(dev);
	header_damaged(0, 0, false, "no header");
	header_damaged(12, 91, false, "header of 91 bytes");
	header_damaged(12, 513, false, "header of 513 bytes");
	header_damaged(12, UINT32_MAX, false, "header of 4294967295 bytes");
	header_damaged(24, 5, true, "says that it is in 5");
	header_damaged(48, UINT64_MAX, true, "usable blocks");
	header_damaged(40, BLOCKS, true, "usable blocks");
	header_damaged(72, UINT64_MAX, true, "entries at block");
	header_damaged(72, 0, true, "entries at block 0");
	header_damaged(72, 4096, true, "among the parts");
	header_damaged(72, BLOCKS - 2, true, "entries at block");
	header_damaged(80, 0, false, "0 entries");
	header_damaged(80, GPT_ENTRIES_MAX + 1, false, "1025 entries");
	header_damaged(80, UINT32_MAX, false, "entries: expected 1 to 1024");
	header_damaged(84, 0, false, "entries of 0 bytes");
	header_damaged(84, 192, false, "power of two");
	header_damaged(84, 1u << 31, false, "power of two");
}

/* Both copies get other first and last blocks for part 2. */
static void part_damaged(uint64_t first, uint64_t last, const char *word)
{
	struct blk_dev *dev = disk_of_sfdisk();
	uint8_t *disk = blk_sim_memory(dev);

	for (int i = 0; i < 2; i++) {
		uint8_t *entry = disk + (i ? BLOCKS - 33 : 2) * BLOCK + 128;

		put64(entry + 32, first);
		put64(entry + 40, last);
	}
	sign_both(disk);
	assert_damaged(dev, word);
}

static void parts_that_are_no_ranges_or_overlap_are_refused(void **state)
{
	DISK_OR_SKIP(dev);
	blk_dev_unref(dev);
	part_damaged(0, 4096, "part 2: blocks 0 to 4096");
	part_damaged(5000, 4999, "part 2");
	part_damaged(4096, UINT64_MAX, "part 2");
	part_damaged(UINT64_MAX, UINT64_MAX, "part 2");
	part_damaged(4096, BLOCKS - 1, "part 2");
	part_damaged(2048, 2048, "parts 1 and 2 overlap");
	part_damaged(4095, 4096, "parts 1 and 2 overlap");
}

static void name_with_half_a_pair_is_still_utf8(void **state)
{
	static const uint8_t units[] = { 'a', 0, 0x00, 0xd8, 'b', 0, 0x3d, 0xd8, 0x00, 0xde, 0, 0 };
	DISK_OR_SKIP(dev);

	memcpy(disk + ENTRY(1) + 56, units, sizeof(units));
	sign(disk + BLOCK, disk + 2 * BLOCK);
	assert_int_equal(gpt_read(dev), 0);
	assert_string_equal(table.parts[0].name, "a\357\277\275b\360\237\230\200");
	memset(disk + ENTRY(1) + 56, 0xff, 72);
	sign(disk + BLOCK, disk + 2 * BLOCK);
	assert_int_equal(gpt_read(dev), 0);
	assert_int_equal(strlen(table.parts[0].name), GPT_NAME_UNITS * 3);
	blk_dev_unref(dev);
}

static void checksum_is_that_of_ieee_802_3(void **state)
{
	assert_int_equal(gpt_crc("123456789", 9), 0xcbf43926);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_of_sfdisk_is_read_whole),
		cmocka_unit_test(parts_become_nodes),
		cmocka_unit_test(backup_is_used_when_the_primary_header_is_damaged),
		cmocka_unit_test(backup_is_used_when_the_primary_entries_are_damaged),
		cmocka_unit_test(backup_is_found_where_the_primary_says_on_a_disk_that_grew),
		cmocka_unit_test(both_damaged_is_an_error_that_says_where),
		cmocka_unit_test(disk_without_protective_mbr_has_no_table),
		cmocka_unit_test(disk_that_cannot_be_read_is_an_error),
		cmocka_unit_test(headers_with_right_checksums_and_wrong_values_are_refused),
		cmocka_unit_test(parts_that_are_no_ranges_or_overlap_are_refused),
		cmocka_unit_test(name_with_half_a_pair_is_still_utf8),
		cmocka_unit_test(checksum_is_that_of_ieee_802_3),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
