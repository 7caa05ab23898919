/* The file back-end, on real files (and, as root, a loop device) through a real loop. */
#include "blk/test_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "blk/backend/file.h"
#include "loop/job.h"

#define IMAGE_BYTES (1u << 20)

static char dir[64], image[96];

static void image_make(const char *path, off_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static int image_setup(void **state)
{
	image_make(image, IMAGE_BYTES);
	return 0;
}

static void file_disk_open(struct disk *d, const char *path, const char *more)
{
	char params[256];

	snprintf(params, sizeof(params), "path=%s%s%s", path, *more ? "," : "", more);
	disk_open(d, "file", params);
}

static int try_open(const char *path, const char *more, struct err *reterr)
{
	char params[256];
	struct blk_dev *dev = NULL;
	int r;

	snprintf(params, sizeof(params), "path=%s%s%s", path, *more ? "," : "", more);
	memset(reterr, 0, sizeof(*reterr));
	r = blk_dev_open("file", "d0", params, &dev, reterr);
	blk_dev_unref(dev);
	return r;
}

static uint64_t allocated_bytes(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void check_content(uint64_t off, const char *expected, size_t len)
{
	char *buf = malloc(len);
	int fd = open(image, O_RDONLY | O_CLOEXEC);

	assert_int_equal(pread(fd, buf, len, (off_t)off), (ssize_t)len);
	assert_memory_equal(buf, expected, len);
	close(fd);
	free(buf);
}

/* ---- data ---- */

static void write_read(const char *more)
{
	char *in = disk_buf(65536, 1), *out = disk_buf(65536, 2);
	struct disk_req r = { 0 };
	struct disk d;

	file_disk_open(&d, image, more);
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 8192, 65536, in), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_WRITE, BLK_FUA, 0, 8192, in), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);
	check_content(8192, in, 65536);
	r.iov[0] = (struct iovec){ .iov_base = out, .iov_len = 4096 };
	r.iov[1] = (struct iovec){ .iov_base = out + 4096, .iov_len = 0 };
	r.iov[2] = (struct iovec){ .iov_base = out + 4096, .iov_len = 61440 };
	r.req = (struct blk_req){ .op = BLK_READ,
				  .iov = r.iov,
				  .iov_count = 3,
				  .offset_bytes = 8192,
				  .len_bytes = 65536,
				  .done = disk_req_done };
	blk_submit(d.chan, &r.req);
	assert_int_equal(disk_wait(&d, &r), BLK_ST_OK);
	assert_memory_equal(in, out, 65536);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, 0, NULL), BLK_ST_OK);
	disk_close(&d);
	free(in);
	free(out);
}

static void direct_write_is_read_back_and_is_in_the_file(void **state)
{
	write_read("direct=auto");
}

static void buffered_write_is_read_back_and_is_in_the_file(void **state)
{
	write_read("direct=off");
}

/* What the kernel made of them is not ours to say, but each ends, and the next ones work. */
static void cancelled_requests_complete_once_and_leave_nothing_behind(void **state)
{
	char *buf = disk_buf(65536, 1);
	struct disk_req r[16], flush;
	struct disk d;

	file_disk_open(&d, image, "direct=off");
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 16; i++)
			disk_start(&d, &r[i], BLK_WRITE, 0, (uint64_t)i * 4096, 4096, buf);
		disk_start(&d, &flush, BLK_FLUSH, 0, 0, 0, NULL);
		if (round & 1)
			loop_run_once(d.loop, false);
		for (int i = 0; i < 16; i += 2)
			if (!r[i].done)
				blk_cancel(&r[i].req);
		if (!flush.done)
			blk_cancel(&flush.req);
		for (int i = 0; i < 16; i++) {
			enum blk_status st = disk_wait(&d, &r[i]);

			assert_true(st == BLK_ST_OK || (st == BLK_ST_ABORTED && !(i & 1)));
		}
		disk_wait(&d, &flush);
		assert_true(flush.req.status == BLK_ST_OK || flush.req.status == BLK_ST_ABORTED);
	}
	assert_int_equal(disk_do(&d, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);
	disk_close(&d);
	free(buf);
}

static void misaligned_memory_works_with_direct_io(void **state)
{
	size_t len = 600 << 10;
	char *in = disk_buf(len + 8, 1), *out = disk_buf(len + 8, 2);
	struct disk d;

	file_disk_open(&d, image, "");
	assert_int_equal(disk_do(&d, BLK_WRITE, BLK_FUA, 4096, len, in + 1), BLK_ST_OK);
	check_content(4096, in + 1, len);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 4096, len, out + 3), BLK_ST_OK);
	assert_memory_equal(out + 3, in + 1, len);
	disk_close(&d);
	free(in);
	free(out);
}

static void more_pieces_than_one_vector_takes_continue_at_the_right_place(void **state)
{
	enum {
		COUNT = 2050,
		PIECE = 512
	};
	struct iovec *iov = calloc(COUNT, sizeof(*iov));
	char *in = disk_buf(COUNT * PIECE, 1), *out = disk_buf(COUNT * PIECE, 2);
	struct disk_req r = { 0 };
	struct disk d;

	image_make(image, COUNT * PIECE);
	file_disk_open(&d, image, "direct=off");
	for (int i = 0; i < COUNT; i++)
		iov[i] = (struct iovec){ .iov_base = in + i * PIECE, .iov_len = PIECE };
	r.req = (struct blk_req){ .op = BLK_WRITE,
				  .iov = iov,
				  .iov_count = COUNT,
				  .len_bytes = COUNT * PIECE,
				  .done = disk_req_done };
	blk_submit(d.chan, &r.req);
	assert_int_equal(disk_wait(&d, &r), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, COUNT * PIECE, out), BLK_ST_OK);
	assert_memory_equal(in, out, COUNT * PIECE);
	disk_close(&d);
	free(iov);
	free(in);
	free(out);
}

static void file_cut_short_behind_our_back_is_an_io_error(void **state)
{
	char *out = disk_buf(65536, 1);
	struct disk d;

	file_disk_open(&d, image, "direct=off");
	assert_int_equal(truncate(image, 4096), 0);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, 65536, out), BLK_ST_IOERR);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, 4096, out), BLK_ST_OK);
	disk_close(&d);
	free(out);
}

/* ---- discard and zeroes ---- */

static void holes_of_the_file_are_not_mapped(void **state)
{
	char *buf = disk_buf(65536, 1);
	uint64_t end;
	bool mapped;
	struct disk d;

	file_disk_open(&d, image, "");
	assert_int_equal(disk_do(&d, BLK_WRITE, BLK_FUA, 131072, 65536, buf), BLK_ST_OK);
	assert_int_equal(blk_dev_map(d.dev, 131072, IMAGE_BYTES, &end, &mapped), 0);
	assert_true(mapped);
	assert_int_equal(blk_dev_map(d.dev, 0, IMAGE_BYTES, &end, &mapped), 0);
	if (mapped && end == IMAGE_BYTES) {
		disk_close(&d);
		free(buf);
		print_message("skipped: no holes in %s\n", dir);
		skip();
	}
	assert_false(mapped);
	assert_int_equal(end, 131072);
	assert_int_equal(blk_dev_map(d.dev, 131072 + 4096, IMAGE_BYTES, &end, &mapped), 0);
	assert_true(mapped);
	assert_int_equal(end, 196608);
	assert_int_equal(blk_dev_map(d.dev, 196608, IMAGE_BYTES, &end, &mapped), 0);
	assert_false(mapped);
	assert_int_equal(end, IMAGE_BYTES);
	disk_close(&d);
	free(buf);
}

static void discard_frees_the_files_blocks(void **state)
{
	char *in = disk_buf(IMAGE_BYTES, 1), *out = disk_buf(65536, 2);
	uint64_t before;
	struct disk d;

	file_disk_open(&d, image, "");
	if (!blk_dev_caps(d.dev)->discard) {
		disk_close(&d);
		print_message("skipped: no hole punching in %s\n", dir);
		skip();
	}
	assert_int_equal(disk_do(&d, BLK_WRITE, BLK_FUA, 0, IMAGE_BYTES, in), BLK_ST_OK);
	before = allocated_bytes(image);
	assert_int_equal(disk_do(&d, BLK_DISCARD, 0, 65536, 512 << 10, NULL), BLK_ST_OK);
	assert_true(allocated_bytes(image) <= before - (512 << 10));
	assert_int_equal(disk_do(&d, BLK_READ, 0, 65536, 65536, out), BLK_ST_OK);
	assert_true(disk_all_zero(out, 65536));
	check_content(0, in, 65536);
	disk_close(&d);
	free(in);
	free(out);
}

static void zeroes_check(const char *more, uint32_t flags, bool by_writing)
{
	char *in = disk_buf(IMAGE_BYTES, 1), *out = disk_buf(IMAGE_BYTES, 2);
	struct file_dev *file;
	struct disk d;

	file_disk_open(&d, image, more);
	file = container_of(d.dev, struct file_dev, dev);
	file->no_zero_range = by_writing; /* as after the first EOPNOTSUPP */
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 0, IMAGE_BYTES, in), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_WRITE_ZEROES, flags, 65536, 600 << 10, NULL), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_WRITE_ZEROES, flags, 0, 0, NULL), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, IMAGE_BYTES, out), BLK_ST_OK);
	memset(in + 65536, 0, 600 << 10);
	assert_memory_equal(in, out, IMAGE_BYTES);
	disk_close(&d);
	free(in);
	free(out);
}

static void write_zeroes_reads_as_zeroes_in_every_way_of_doing_it(void **state)
{
	static const char *const modes[] = { "", "direct=off", "discard=off" };

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		for (uint32_t flags = 0; flags <= (BLK_FUA | BLK_UNMAP); flags++) {
			zeroes_check(modes[i], flags, false);
			zeroes_check(modes[i], flags, true);
		}
	}
}

static void write_zeroes_without_unmap_keeps_the_blocks(void **state)
{
	char *in = disk_buf(IMAGE_BYTES, 1);
	uint64_t before;
	struct disk d;

	file_disk_open(&d, image, "");
	assert_int_equal(disk_do(&d, BLK_WRITE, BLK_FUA, 0, IMAGE_BYTES, in), BLK_ST_OK);
	before = allocated_bytes(image);
	assert_int_equal(disk_do(&d, BLK_WRITE_ZEROES, 0, 0, IMAGE_BYTES, NULL), BLK_ST_OK);
	assert_true(allocated_bytes(image) >= before);
	disk_close(&d);
	free(in);
}

/* ---- errors ---- */

static void full_disk_is_no_space(void **state)
{
	char *buf = disk_buf(IMAGE_BYTES, 1), path[128], mnt[96];
	struct disk d;

	snprintf(mnt, sizeof(mnt), "%s/small", dir);
	mkdir(mnt, 0700);
	if (mount("tmpfs", mnt, "tmpfs", 0, "size=256k") < 0) {
		free(buf);
		rmdir(mnt);
		print_message("skipped: mounting a small tmpfs needs root\n");
		skip();
	}
	snprintf(path, sizeof(path), "%s/full.img", mnt);
	image_make(path, IMAGE_BYTES);
	file_disk_open(&d, path, "");
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 0, IMAGE_BYTES, buf), BLK_ST_NO_SPACE);
	/* what fits still works, zeroes too (tmpfs has no zero range: they are written) */
	assert_int_equal(disk_do(&d, BLK_DISCARD, 0, 0, IMAGE_BYTES, NULL), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 0, 65536, buf), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_WRITE_ZEROES, 0, 0, 65536, NULL), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, 65536, buf), BLK_ST_OK);
	assert_true(disk_all_zero(buf, 65536));
	disk_close(&d);
	unlink(path);
	assert_int_equal(umount(mnt), 0);
	rmdir(mnt);
	free(buf);
}

static void flushes_keep_failing_after_a_buffered_one_failed(void **state)
{
	struct disk d;

	file_disk_open(&d, image, "direct=off");
	container_of(d.dev, struct file_dev, dev)->sync_failed = true;
	assert_int_equal(disk_do(&d, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_IOERR);
	disk_close(&d);
}

static void wrong_image_is_refused_with_its_name_and_the_reason(void **state)
{
	char missing[128];
	struct err err;

	snprintf(missing, sizeof(missing), "%s/missing", dir);
	assert_int_equal(try_open(missing, "", &err), -ENOENT);
	assert_non_null(strstr(err.msg, missing));
	assert_int_equal(try_open(dir, "", &err), -ENOTBLK);
	assert_int_equal(try_open("/dev/null", "", &err), -ENOTBLK);
	assert_int_equal(try_open("", "", &err), -EINVAL);

	image_make(image, 1000);
	assert_int_equal(try_open(image, "", &err), -EINVAL);
	assert_non_null(strstr(err.msg, image));
	assert_non_null(strstr(err.msg, "1000"));
	image_make(image, 4096 + 512);
	assert_int_equal(try_open(image, "block-size=4096", &err), -EINVAL);
	assert_non_null(strstr(err.msg, "4608"));
	assert_int_equal(try_open(image, "", &err), 0);
}

static void read_only_image_refuses_writes(void **state)
{
	char *buf = disk_buf(4096, 1);
	struct disk d;

	file_disk_open(&d, image, "read-only=on");
	assert_true(blk_dev_caps(d.dev)->read_only);
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 0, 4096, buf), BLK_ST_READ_ONLY);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, 4096, buf), BLK_ST_OK);
	assert_true(disk_all_zero(buf, 4096));
	assert_int_equal(disk_do(&d, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);
	disk_close(&d);
	free(buf);
}

static void grown_file_is_seen_by_rescan(void **state)
{
	char *buf = disk_buf(4096, 1);
	struct err err = { 0 };
	struct disk d;

	file_disk_open(&d, image, "");
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, IMAGE_BYTES, 4096, buf), BLK_ST_RANGE);
	assert_int_equal(truncate(image, 2 * IMAGE_BYTES), 0);
	assert_int_equal(blk_dev_rescan(d.dev, &err), 0);
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, IMAGE_BYTES, 4096, buf), BLK_ST_OK);
	assert_int_equal(truncate(image, 2 * IMAGE_BYTES + 100), 0);
	assert_int_equal(blk_dev_rescan(d.dev, &err), -EINVAL);
	disk_close(&d);
	free(buf);
}

/* ---- locks ---- */

static void space_beyond_the_end_is_allocated_and_given_back(void **state)
{
	struct disk d;
	struct err err = { 0 };
	uint64_t had = allocated_bytes(image);
	struct stat st;

	file_disk_open(&d, image, "");
	if (blk_dev_allocate(d.dev, IMAGE_BYTES, 4 << 20, 0) == -EOPNOTSUPP)
		skip();
	assert_true(allocated_bytes(image) >= had + (4 << 20));
	assert_int_equal(stat(image, &st), 0);
	assert_int_equal(st.st_size, IMAGE_BYTES);
	blk_dev_allocate_undo(d.dev);
	assert_int_equal(allocated_bytes(image), had);
	/* not a byte of what cannot come to its end */
	assert_int_equal(blk_dev_allocate(d.dev, IMAGE_BYTES, 4096, 1ull << 60), -ENOSPC);
	assert_int_equal(allocated_bytes(image), had);
	assert_int_equal(blk_dev_resize(d.dev, IMAGE_BYTES / 2, false, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "would be lost"));
	assert_int_equal(blk_dev_resize(d.dev, IMAGE_BYTES / 2, true, &err), 0);
	assert_int_equal(blk_dev_caps(d.dev)->size_bytes, IMAGE_BYTES / 2);
	assert_int_equal(blk_dev_resize(d.dev, 0, true, &err), -EINVAL);
	disk_close(&d);
	file_disk_open(&d, image, "read-only=on");
	assert_int_equal(blk_dev_allocate(d.dev, IMAGE_BYTES, 4096, 0), -EROFS);
	disk_close(&d);
}

static void second_writer_in_this_process_is_refused(void **state)
{
	struct err err;
	struct disk d;

	file_disk_open(&d, image, "");
	assert_int_equal(try_open(image, "", &err), -EBUSY);
	assert_int_equal(try_open(image, "read-only=on", &err), -EBUSY);
	assert_int_equal(try_open(image, "lock=off", &err), 0);
	disk_close(&d);
	assert_int_equal(try_open(image, "", &err), 0);
}

static void readers_share_an_image_and_keep_writers_out(void **state)
{
	struct err err;
	struct disk d;

	file_disk_open(&d, image, "read-only=on");
	assert_int_equal(try_open(image, "read-only=on", &err), 0);
	assert_int_equal(try_open(image, "", &err), -EBUSY);
	disk_close(&d);
}

static void other_process_that_holds_the_lock_is_named(void **state)
{
	int ready[2], stop[2], status;
	char byte, expected[160];
	struct err err;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(stop), 0);
	pid = fork();
	if (!pid) {
		char params[128];
		struct blk_dev *dev;

		snprintf(params, sizeof(params), "path=%s", image);
		close(stop[1]);
		if (blk_dev_open("file", "d0", params, &dev, NULL) < 0 ||
		    write(ready[1], "x", 1) != 1 || read(stop[0], &byte, 1) != 0)
			_exit(1);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(try_open(image, "", &err), -EBUSY);
	snprintf(expected, sizeof(expected), "%s is locked by PID %d (", image, (int)pid);
	if (!strstr(err.msg, expected))
		fail_msg("\"%s\" expected in \"%s\"", expected, err.msg);
	close(stop[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(stop[0]);
	close(ready[0]);
	close(ready[1]);
}

/* ---- guest memory as registered buffers ---- */

#define GUEST_BYTES (1u << 20)

/* Memory as a guest's: seen at two addresses, of which requests name the first. */
struct guest {
	char *mem, *view;
};

static void guest_make(struct guest *g)
{
	int fd = memfd_create("guest", MFD_CLOEXEC), prot = PROT_READ | PROT_WRITE;

	assert_int_equal(ftruncate(fd, GUEST_BYTES), 0);
	g->mem = mmap(NULL, GUEST_BYTES, prot, MAP_SHARED, fd, 0);
	g->view = mmap(NULL, GUEST_BYTES, prot, MAP_SHARED, fd, 0);
	assert_true(g->mem != MAP_FAILED && g->view != MAP_FAILED);
	close(fd);
}

/*
 * Other memory at the address of the requests: a registered buffer is pages, so what goes through
 * it is still seen in the other view, and what goes by the address is not.
 */
static void guest_hide(struct guest *g)
{
	assert_ptr_equal(mmap(g->mem, GUEST_BYTES, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 g->mem);
}

static void guest_unmake(struct guest *g)
{
	munmap(g->mem, GUEST_BYTES);
	munmap(g->view, GUEST_BYTES);
}

static int buffers_set(struct disk *d, struct guest *g, struct err *reterr)
{
	/* Two regions, not in the order of their addresses. */
	struct iovec regions[2] = { { g->mem + GUEST_BYTES / 2, GUEST_BYTES / 2 },
				    { g->mem, GUEST_BYTES / 2 } };

	return blk_chan_buffers_set(d->chan, regions, 2, reterr);
}

static void check_guest_io(struct disk *d, struct guest *g, const char *data)
{
	assert_int_equal(disk_do(d, BLK_WRITE, BLK_FUA, 8192, 65536, g->mem), BLK_ST_OK);
	check_content(8192, data, 65536);
	assert_int_equal(disk_do(d, BLK_READ, 0, 8192, 65536, g->mem + GUEST_BYTES / 2), BLK_ST_OK);
	assert_int_equal(disk_do(d, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);
}

static void registered_buffers_check(const char *more)
{
	char *data = disk_buf(65536, 1);
	struct err err = { 0 };
	struct guest g;
	struct disk d;

	guest_make(&g);
	file_disk_open(&d, image, more);
	memcpy(g.view, data, 65536);
	if (buffers_set(&d, &g, &err) < 0)
		fail_msg("%s", err.msg);
	guest_hide(&g);
	check_guest_io(&d, &g, data);
	assert_memory_equal(g.view + GUEST_BYTES / 2, data, 65536);
	assert_true(disk_all_zero(g.mem, GUEST_BYTES));
	/* Over the border of two registered buffers: by address, as memory that is in none. */
	assert_int_equal(disk_do(&d, BLK_READ, 0, 8192, 65536, g.mem + GUEST_BYTES / 2 - 32768),
			 BLK_ST_OK);
	assert_memory_equal(g.mem + GUEST_BYTES / 2 - 32768, data, 65536);
	assert_int_equal(blk_chan_buffers_set(d.chan, NULL, 0, &err), 0);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 8192, 65536, g.mem), BLK_ST_OK);
	assert_memory_equal(g.mem, data, 65536);
	disk_close(&d);
	guest_unmake(&g);
	free(data);
}

static void single_pieces_go_through_registered_guest_memory(void **state)
{
	registered_buffers_check("direct=auto");
	registered_buffers_check("direct=off");
}

static void misaligned_guest_memory_is_bounced_past_the_registered_buffers(void **state)
{
	char *data = disk_buf(65536, 1);
	struct err err = { 0 };
	struct guest g;
	struct disk d;

	guest_make(&g);
	file_disk_open(&d, image, "");
	assert_int_equal(buffers_set(&d, &g, &err), 0);
	memcpy(g.mem + 1, data, 65536);
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 0, 65536, g.mem + 1), BLK_ST_OK);
	check_content(0, data, 65536);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, 65536, g.mem + 3), BLK_ST_OK);
	assert_memory_equal(g.view + 3, data, 65536);
	disk_close(&d);
	guest_unmake(&g);
	free(data);
}

static void channels_of_one_loop_share_registered_buffers(void **state)
{
	char *data = disk_buf(65536, 1);
	struct blk_chan *second;
	struct err err = { 0 };
	struct guest g;
	struct disk d;

	guest_make(&g);
	file_disk_open(&d, image, "");
	assert_int_equal(blk_chan_open(d.dev, d.loop, &second, &err), 0);
	assert_int_equal(buffers_set(&d, &g, &err), 0);
	assert_int_equal(buffers_set(&(struct disk){ .chan = second }, &g, &err), 0);
	assert_int_equal(container_of(d.chan, struct file_chan, chan)->bufs[0].slot,
			 container_of(second, struct file_chan, chan)->bufs[0].slot);
	blk_chan_close(second);
	memcpy(g.view, data, 65536);
	guest_hide(&g);
	check_guest_io(&d, &g, data);
	assert_memory_equal(g.view + GUEST_BYTES / 2, data, 65536);
	disk_close(&d);
	guest_unmake(&g);
	free(data);
}

/* Turns CAP_IPC_LOCK, which knows no RLIMIT_MEMLOCK, off or on again for this thread. */
static void lock_any_memory(bool on)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];

	assert_int_equal(syscall(SYS_capget, &hdr, caps), 0);
	caps[0].effective &= ~(1u << CAP_IPC_LOCK);
	if (on)
		caps[0].effective |= caps[0].permitted & 1u << CAP_IPC_LOCK;
	assert_int_equal(syscall(SYS_capset, &hdr, caps), 0);
}

static void memory_that_may_not_be_locked_is_told_once_and_used_by_address(void **state)
{
	char *data = disk_buf(65536, 1);
	struct rlimit limit, none;
	struct err err = { 0 };
	struct guest g;
	struct disk d;

	getrlimit(RLIMIT_MEMLOCK, &limit);
	none = (struct rlimit){ 0, limit.rlim_max };
	lock_any_memory(false);
	guest_make(&g);
	file_disk_open(&d, image, ""); /* the io_uring itself counts, too, on newer kernels */
	setrlimit(RLIMIT_MEMLOCK, &none);
	assert_int_equal(buffers_set(&d, &g, &err), -ENOMEM);
	assert_non_null(strstr(err.msg, "RLIMIT_MEMLOCK"));
	assert_int_equal(buffers_set(&d, &g, &err), 0);
	memcpy(g.mem, data, 65536);
	check_guest_io(&d, &g, data);
	assert_memory_equal(g.view + GUEST_BYTES / 2, data, 65536);
	disk_close(&d);
	guest_unmake(&g);
	lock_any_memory(true);
	setrlimit(RLIMIT_MEMLOCK, &limit);
	free(data);
}

/* ---- a block device ---- */

struct discard_work {
	struct loop_work work;
	struct disk *disk;
	struct disk_req r;
};

static void discard_start(struct loop_work *work)
{
	struct discard_work *w = container_of(work, struct discard_work, work);

	disk_start(w->disk, &w->r, BLK_DISCARD, 0, 65536, 65536, NULL);
}

/* From within the loop's iteration, as models do: a job needs to know its loop. */
static enum blk_status discard_on_loop(struct disk *d)
{
	struct discard_work w = { .work.fn = discard_start, .disk = d };

	loop_defer(d->loop, &w.work);
	return disk_wait(d, &w.r);
}

static void block_device_reads_writes_discards_and_flushes(void **state)
{
	char cmd[256], path[64] = "", *in = disk_buf(65536, 1), *out = disk_buf(65536, 2);
	struct err err = { 0 };
	struct disk d;
	FILE *f;

	snprintf(cmd, sizeof(cmd), "losetup -f --show --direct-io=on %s 2>/dev/null", image);
	f = geteuid() ? NULL : popen(cmd, "re");
	if (f && fgets(path, sizeof(path), f))
		path[strcspn(path, "\n")] = '\0';
	if (f)
		pclose(f);
	if (!path[0]) {
		free(in);
		free(out);
		print_message("skipped: a loop device needs root and losetup\n");
		skip();
	}
	assert_int_equal(job_threads_start(1, &err), 0);
	file_disk_open(&d, path, "");
	assert_int_equal(blk_dev_caps(d.dev)->size_bytes, IMAGE_BYTES);
	assert_true(blk_dev_caps(d.dev)->discard);
	assert_int_equal(try_open(path, "", &err), -EBUSY);
	for (int way = 0; way < 2; way++) {
		assert_int_equal(disk_do(&d, BLK_WRITE, BLK_FUA, 65536, 65536, in + 0), BLK_ST_OK);
		assert_int_equal(disk_do(&d, BLK_READ, 0, 65536, 65536, out), BLK_ST_OK);
		assert_memory_equal(in, out, 65536);
		assert_int_equal(disk_do(&d, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);
		assert_int_equal(discard_on_loop(&d), BLK_ST_OK);
		container_of(d.dev, struct file_dev, dev)->no_discard_cmd = true;
	}
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 65536, 65536, in), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_WRITE_ZEROES, BLK_UNMAP, 65536, 65536, NULL), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 65536, 65536, out), BLK_ST_OK);
	assert_true(disk_all_zero(out, 65536));
	job_threads_stop(); /* first: a job's last step is to wake the loop */
	disk_close(&d);
	snprintf(cmd, sizeof(cmd), "losetup -d %s", path);
	assert_int_equal(system(cmd), 0);
	free(in);
	free(out);
}

#define T(f) cmocka_unit_test_setup(f, image_setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(direct_write_is_read_back_and_is_in_the_file),
		T(buffered_write_is_read_back_and_is_in_the_file),
		T(misaligned_memory_works_with_direct_io),
		T(cancelled_requests_complete_once_and_leave_nothing_behind),
		T(more_pieces_than_one_vector_takes_continue_at_the_right_place),
		T(file_cut_short_behind_our_back_is_an_io_error),
		T(holes_of_the_file_are_not_mapped),
		T(discard_frees_the_files_blocks),
		T(write_zeroes_reads_as_zeroes_in_every_way_of_doing_it),
		T(write_zeroes_without_unmap_keeps_the_blocks),
		T(full_disk_is_no_space),
		T(flushes_keep_failing_after_a_buffered_one_failed),
		T(wrong_image_is_refused_with_its_name_and_the_reason),
		T(read_only_image_refuses_writes),
		T(grown_file_is_seen_by_rescan),
		T(space_beyond_the_end_is_allocated_and_given_back),
		T(second_writer_in_this_process_is_refused),
		T(readers_share_an_image_and_keep_writers_out),
		T(other_process_that_holds_the_lock_is_named),
		T(single_pieces_go_through_registered_guest_memory),
		T(misaligned_guest_memory_is_bounced_past_the_registered_buffers),
		T(channels_of_one_loop_share_registered_buffers),
		T(memory_that_may_not_be_locked_is_told_once_and_used_by_address),
		T(block_device_reads_writes_discards_and_flushes),
	};
	const char *tmp = getenv("TMPDIR");
	int r;

	snprintf(dir, sizeof(dir), "%.40s/blk-file-XXXXXX", tmp ? tmp : "/var/tmp");
	if (!mkdtemp(dir)) {
		perror(dir);
		return 1;
	}
	snprintf(image, sizeof(image), "%s/disk.img", dir);
	r = cmocka_run_group_tests_name("blk file", tests, NULL, NULL);
	unlink(image);
	rmdir(dir);
	return r;
}
