/*
 * An image on a file system that is full, and one that grows. The first needs a small tmpfs in a
 * mount namespace of this program's own: without the right to make one it is skipped.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "daemon.h"

static bool small_file_system(struct daemon *d)
{
	if (unshare(CLONE_NEWNS) && unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return false;
	return !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("small", d->dir, "tmpfs", 0, "size=1m,mode=0700");
}

/* What was written before the disk filled up is there; what did not fit is an I/O error. */
static void a_full_file_system_is_an_io_error_and_loses_nothing(void **state)
{
	struct rig *r = rig_get();
	uint8_t want[32768], got[32768];
	unsigned written = 0;
	int status = 0;

	if (!small_file_system(&r->d)) {
		fprintf(stderr, "skipped: may not mount a tmpfs: %s\n", strerror(errno));
		skip();
	}
	daemon_image(&r->d, "disk", 8 << 20);
	daemon_start(&r->d, "--device", "blk,socket=@a.sock,file=@disk", NULL);
	rig_up(r, NULL);
	for (; !status && written < 256; written += !status) {
		fill_pattern(want, sizeof(want), written);
		status = blkdrv_write(&r->b, written * 64ull, want, sizeof(want));
	}
	assert_int_equal(status, SPEC_BLK_S_IOERR);
	assert_true(written > 4 && written <= 32);
	for (unsigned i = 0; i < written; i++) {
		fill_pattern(want, sizeof(want), i);
		assert_ok(blkdrv_read(&r->b, i * 64ull, got, sizeof(got)));
		assert_memory_equal(want, got, sizeof(want));
	}
	/* Room again: the next write succeeds, on the same session. */
	assert_ok(blkdrv_ranges(&r->b, SPEC_BLK_DISCARD, &(struct spec_blk_range){ 0, 256, 0 }, 1));
	assert_ok(blkdrv_write(&r->b, written * 64ull, want, sizeof(want)));
	assert_ok(blkdrv_flush(&r->b));
	rig_drop(r);
	daemon_stop(&r->d);
	umount2(r->d.dir, MNT_DETACH);
}

static void an_image_that_grew_is_told_to_the_front_end(void **state)
{
	struct rig *r = rig_get();
	struct spec_blk_config c;
	struct fe_msg m;

	daemon_image(&r->d, "disk", 8 << 20);
	daemon_start(&r->d, "--device", "blk,socket=@a.sock,file=@disk", NULL);
	rig_up(r, &(struct fe_up_opts){ .back_channel = true });
	assert_int_equal(blkdrv_read(&r->b, 16384, NULL, 512), SPEC_BLK_S_IOERR);
	assert_int_equal(truncate(daemon_path(&r->d, "disk"), 16 << 20), 0);
	kill(r->d.pid, SIGHUP);
	assert_ok(fe_back_recv(&r->fe, &m));
	assert_int_equal(m.hdr.req, FE_BACK_CONFIG_CHANGE);
	fe_msg_close(&m);
	assert_ok(fe_get_config(&r->fe, 0, &c, sizeof(c)));
	assert_int_equal(c.capacity, (16 << 20) / 512);
	rig_io(r, 16384);
}

/* Without the feature or the channel nobody is told, and nothing else changes. */
static void an_image_that_grew_without_a_back_channel_is_simply_larger(void **state)
{
	struct rig *r = rig_get();

	daemon_image(&r->d, "disk", 8 << 20);
	daemon_start(&r->d, "--device", "blk,socket=@a.sock,file=@disk", NULL);
	rig_up(r, NULL);
	assert_int_equal(truncate(daemon_path(&r->d, "disk"), 16 << 20), 0);
	kill(r->d.pid, SIGHUP);
	for (uint64_t end = now_us() + 5000000; now_us() < end; pause_us(1000)) {
		struct spec_blk_config c;

		assert_ok(fe_get_config(&r->fe, 0, &c, sizeof(c)));
		if (c.capacity == (16 << 20) / 512)
			break;
	}
	rig_io(r, 16384);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_own_setup, rig_own_teardown)

int main(void)
{
	const struct CMUnitTest images[] = {
		T(an_image_that_grew_is_told_to_the_front_end),
		T(an_image_that_grew_without_a_back_channel_is_simply_larger),
		T(a_full_file_system_is_an_io_error_and_loses_nothing),
	};

	return cmocka_run_group_tests(images, NULL, NULL);
}
