#include "vfu/session_rig.h"

#define ALL_STATES 8

static int feature(struct fixture *f, uint32_t argsz, uint32_t flags, const void *data,
		   uint32_t len, struct reply *r)
{
	uint8_t bytes[8 + 256];

	memcpy(bytes, (uint32_t[]){ argsz, flags }, 8);
	if (len)
		memcpy(bytes + 8, data, len);
	return call(f, VFU_CMD_DEVICE_FEATURE, bytes, 8 + len, r);
}

static int state_set(struct fixture *f, uint32_t state)
{
	struct reply r;
	int rc = feature(f, 16, 2 | VFU_FEATURE_SET, (uint32_t[]){ state, 0 }, 8, &r);

	if (!rc)
		assert_int_equal(r.len, 16);
	return rc;
}

static uint32_t state_get(struct fixture *f)
{
	struct reply r;
	uint32_t words[4];

	assert_int_equal(feature(f, 16, 2 | VFU_FEATURE_GET, NULL, 0, &r), 0);
	assert_int_equal(r.len, 16);
	memcpy(words, r.bytes, 16);
	assert_int_equal(words[0], 16);
	return words[2];
}

static int mig_read(struct fixture *f, void *dst, uint32_t size, struct reply *r)
{
	int rc = call(f, VFU_CMD_MIG_DATA_READ, (uint32_t[]){ 8 + size, size }, 8, r);

	if (rc)
		return rc;
	memcpy(dst, r->bytes + 8, r->len - 8);
	assert_memory_equal(r->bytes, ((uint32_t[]){ r->len, r->len - 8 }), 8);
	return (int)r->len - 8;
}

static int mig_write(struct fixture *f, const void *src, uint32_t size)
{
	uint8_t bytes[8 + 8000];
	struct reply r;
	int rc;

	memcpy(bytes, (uint32_t[]){ 8 + size, size }, 8);
	memcpy(bytes + 8, src, size);
	rc = call(f, VFU_CMD_MIG_DATA_WRITE, bytes, 8 + size, &r);
	assert_int_equal(r.len, 0);
	return rc;
}

/* All of a saved state, in pieces of 1000. */
static uint32_t saved(struct fixture *f, uint8_t *bytes)
{
	struct reply r;
	uint32_t len = 0;
	int n;

	do {
		n = mig_read(f, bytes + len, 1000, &r);
		assert_true(n >= 0);
		len += (uint32_t)n;
	} while (n == 1000);
	assert_int_equal(mig_read(f, bytes + len, 1000, &r), 0);
	return len;
}

static void the_features_are_probed(void **state)
{
	static const struct {
		uint32_t flags;
		int rc;
	} probes[] = {
		{ 1 | VFU_FEATURE_GET, 0 },
		{ 1 | VFU_FEATURE_SET, -ENOTSUP },
		{ 2 | VFU_FEATURE_GET, 0 },
		{ 2 | VFU_FEATURE_SET, 0 },
		{ 2 | VFU_FEATURE_GET | VFU_FEATURE_SET, 0 },
		{ 6 | VFU_FEATURE_SET, 0 },
		{ 6 | VFU_FEATURE_GET, -ENOTSUP },
		{ 7 | VFU_FEATURE_SET, 0 },
		{ 8 | VFU_FEATURE_GET, 0 },
		{ 8 | VFU_FEATURE_SET, -ENOTSUP },
		{ 0, -ENOTSUP },
		{ 3, -ENOTSUP },
		{ 0xffff, -ENOTSUP },
		{ 1, 0 },
	};
	struct fixture *f = *state;
	struct reply r;
	uint64_t flags;

	negotiate(f);
	for (size_t i = 0; i < ARRAY_SIZE(probes); i++)
		assert_int_equal(feature(f, 8, probes[i].flags | VFU_FEATURE_PROBE, NULL, 0, &r),
				 probes[i].rc);
	assert_int_equal(f->quiesces, 0);
	assert_int_equal(feature(f, 16, 1 | VFU_FEATURE_GET, NULL, 0, &r), 0);
	memcpy(&flags, r.bytes + 8, 8);
	assert_int_equal(flags, 5);
	assert_int_equal(r.len, 16);
	assert_int_equal(feature(f, 15, 1 | VFU_FEATURE_GET, NULL, 0, &r), -EINVAL);
	assert_int_equal(feature(f, 7, 1 | VFU_FEATURE_PROBE, NULL, 0, &r), -EINVAL);
	assert_int_equal(feature(f, 16, 2, NULL, 0, &r), -EINVAL);
	assert_int_equal(feature(f, 16, 2 | VFU_FEATURE_GET | VFU_FEATURE_SET, NULL, 0, &r),
			 -EINVAL);
	assert_int_equal(feature(f, 16, 2 | 1u << 20, NULL, 0, &r), -EINVAL);
	assert_int_equal(feature(f, 16, 2 | VFU_FEATURE_SET, "1234567", 7, &r), -EINVAL);
}

static void every_way_between_two_states_is_gone_or_refused(void **state)
{
	/* The states of the protocol; from ERROR only a reset leads away. */
	static const uint32_t states[] = { VFU_MIGR_STOP, VFU_MIGR_RUNNING, VFU_MIGR_STOP_COPY,
					   VFU_MIGR_RESUMING, VFU_MIGR_PRE_COPY };
	struct fixture *f = *state;
	struct reply r;

	negotiate(f);
	for (size_t from = 0; from < ARRAY_SIZE(states); from++) {
		for (uint32_t to = 0; to < ALL_STATES + 1; to++) {
			bool is_state = false, fails;
			bool leaves_resuming =
				states[from] == VFU_MIGR_RESUMING && to != VFU_MIGR_RESUMING;

			for (size_t i = 0; i < ARRAY_SIZE(states); i++)
				is_state |= states[i] == to;
			assert_int_equal(call(f, VFU_CMD_DEVICE_RESET, NULL, 0, &r), 0);
			assert_int_equal(state_set(f, states[from]), 0);
			fails = !is_state ||
				(states[from] == VFU_MIGR_STOP_COPY && to == VFU_MIGR_PRE_COPY) ||
				leaves_resuming; /* nothing was loaded */
			assert_int_equal(state_set(f, to), fails ? -EINVAL : 0);
			assert_int_equal(state_get(f), !fails ? to
						       : leaves_resuming && is_state
							       ? VFU_MIGR_ERROR
							       : states[from]);
			pump(f, 2);
			assert_int_equal(f->quiet, state_get(f) != VFU_MIGR_RUNNING &&
							   state_get(f) != VFU_MIGR_PRE_COPY);
		}
	}
}

static void only_a_reset_leads_out_of_error(void **state)
{
	struct fixture *f = *state;
	struct reply r;

	negotiate(f);
	assert_int_equal(state_set(f, VFU_MIGR_RESUMING), 0);
	assert_int_equal(mig_write(f, "rubbish", 7), 0);
	assert_int_equal(state_set(f, VFU_MIGR_STOP), -EINVAL);
	for (uint32_t to = 0; to < ALL_STATES; to++)
		assert_int_equal(state_set(f, to), -EINVAL);
	assert_int_equal(state_get(f), VFU_MIGR_ERROR);
	assert_true(f->quiet);
	assert_int_equal(call(f, VFU_CMD_DEVICE_RESET, NULL, 0, &r), 0);
	assert_int_equal(state_get(f), VFU_MIGR_RUNNING);
	assert_false(f->quiet);
}

static void what_one_device_saves_another_loads(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[16384];
	uint32_t len, v = 0x11223344;
	struct reply r;

	negotiate(f);
	config_write(f, 0x10, 0xfebf0000, 4);
	config_write(f, 4, 0x406, 2);
	assert_int_equal(region_write(f, 4, 0, &v, 4), 0);
	assert_int_equal(state_set(f, VFU_MIGR_PRE_COPY), 0);
	assert_int_equal(mig_read(f, bytes, 100, &r), 0);
	assert_int_equal(state_set(f, VFU_MIGR_STOP_COPY), 0);
	len = saved(f, bytes);
	assert_true(len > 256 + 2048);
	assert_int_equal(call(f, VFU_CMD_DEVICE_RESET, NULL, 0, &r), 0);
	assert_int_equal(config_read(f, 0x10, 4), 0);

	assert_int_equal(state_set(f, VFU_MIGR_RESUMING), 0);
	for (uint32_t at = 0; at < len; at += 777)
		assert_int_equal(mig_write(f, bytes + at, MIN(777u, len - at)), 0);
	assert_int_equal(state_set(f, VFU_MIGR_RUNNING), 0);
	assert_string_equal(f->loaded, DEV_SAVED);
	assert_int_equal(config_read(f, 0x10, 4), 0xfebf0000);
	assert_int_equal(config_read(f, 4, 2), 0x406);
	v = 0;
	assert_int_equal(region_read(f, 4, 0, &v, 4), 0);
	assert_int_equal(v, 0x11223344);
	assert_false(f->quiet);
}

static int load_of(struct fixture *f, const uint8_t *bytes, uint32_t len)
{
	struct reply r;
	int rc;

	f->loaded[0] = '\0';
	assert_int_equal(call(f, VFU_CMD_DEVICE_RESET, NULL, 0, &r), 0);
	assert_int_equal(state_set(f, VFU_MIGR_RESUMING), 0);
	assert_int_equal(mig_write(f, bytes, len), 0);
	rc = state_set(f, VFU_MIGR_STOP);
	if (rc)
		assert_int_equal(state_get(f), VFU_MIGR_ERROR);
	return rc;
}

static void a_state_that_was_cut_or_changed_is_refused(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[16384];
	uint32_t len;

	negotiate(f);
	assert_int_equal(state_set(f, VFU_MIGR_STOP_COPY), 0);
	len = saved(f, bytes);
	assert_int_equal(load_of(f, bytes, len), 0);
	for (uint32_t cut = 0; cut < len; cut += cut < 64 ? 1 : 97)
		assert_int_equal(load_of(f, bytes, cut), -EINVAL);
	memcpy(bytes + len, "more", 4);
	assert_int_equal(load_of(f, bytes, len + 4), -EINVAL);
	/* The header, and a vendor id that is another's. */
	for (uint32_t at = 0; at < 40 + 4; at += 3) {
		bytes[at] ^= 0x41;
		assert_int_equal(load_of(f, bytes, len), -EINVAL);
		bytes[at] ^= 0x41;
	}
	f->load_rc = -EINVAL;
	assert_int_equal(load_of(f, bytes, len), -EINVAL);
	f->load_rc = 0;
	assert_int_equal(load_of(f, bytes, len), 0);
	f->save_rc = -ENOTSUP;
	assert_int_equal(state_set(f, VFU_MIGR_STOP_COPY), -ENOTSUP);
	assert_int_equal(state_get(f), VFU_MIGR_STOP);
}

static void data_goes_only_in_its_states_and_within_limits(void **state)
{
	static uint8_t big[8 + 8000];
	struct fixture *f = *state;
	struct reply r;

	negotiate(f);
	assert_int_equal(mig_read(f, big, 10, &r), -EINVAL);
	assert_int_equal(mig_write(f, "x", 1), -EINVAL);
	assert_int_equal(state_set(f, VFU_MIGR_STOP_COPY), 0);
	assert_int_equal(mig_write(f, "x", 1), -EINVAL);
	assert_int_equal(call(f, VFU_CMD_MIG_DATA_READ, (uint32_t[]){ 17, 10 }, 8, &r), -EINVAL);
	assert_int_equal(call(f, VFU_CMD_MIG_DATA_READ, (uint32_t[]){ 18, UINT32_MAX }, 8, &r),
			 -EINVAL);
	assert_int_equal(state_set(f, VFU_MIGR_RESUMING), 0);
	assert_int_equal(mig_read(f, big, 10, &r), -EINVAL);
	assert_int_equal(call(f, VFU_CMD_MIG_DATA_WRITE, (uint32_t[]){ 18, 10 }, 8, &r), -EINVAL);
	for (uint32_t n = 0; n + 8000 <= VFU_MIGR_BYTES_MAX; n += 8000)
		assert_int_equal(mig_write(f, big, 8000), 0);
	assert_int_equal(mig_write(f, big, 8000), -ENOSPC);
}

/* ---- dirty pages ---- */

static int log_start(struct fixture *f, uint64_t page, uint32_t ranges, uint64_t iova, uint64_t len,
		     struct reply *r)
{
	uint64_t words[4] = { page, ranges, iova, len };

	return feature(f, 40, 6 | VFU_FEATURE_SET, words, ranges ? 32 : 16, r);
}

static int log_report(struct fixture *f, uint64_t iova, uint64_t len, uint64_t page, uint32_t argsz,
		      uint64_t *bits, struct reply *r)
{
	int rc = feature(f, argsz, 8 | VFU_FEATURE_GET, (uint64_t[]){ iova, len, page }, 24, r);

	if (!rc)
		memcpy(bits, r->bytes + 32, r->len - 32);
	return rc;
}

static void pages_that_the_device_writes_are_reported_once(void **state)
{
	struct fixture *f = *state;
	uint64_t bits[8], page;
	struct reply r;

	negotiate(f);
	assert_int_equal(map_at(f, 0x100000, MEM_BYTES, 3, f->memfd), 0);
	assert_int_equal(log_start(f, 0x10000, 0, 0, 0, &r), 0);
	assert_int_equal(r.len, 24);
	memcpy(&page, r.bytes + 8, 8);
	assert_int_equal(page, 4096);
	assert_non_null(f->dirty);
	gdirty_mark(f->dirty, gpa(0x101fff), 2);
	gdirty_mark(f->dirty, gpa(0x10f000), 1);
	assert_int_equal(log_report(f, 0x100000, MEM_BYTES, 4096, 48, bits, &r), 0);
	assert_int_equal(r.len, 40);
	assert_int_equal(bits[0], 0x8006);
	assert_int_equal(log_report(f, 0x100000, MEM_BYTES, 4096, 48, bits, &r), 0);
	assert_int_equal(bits[0], 0);
	/* Larger units join, smaller ones repeat. */
	gdirty_mark(f->dirty, gpa(0x103000), 1);
	assert_int_equal(log_report(f, 0x100000, MEM_BYTES, 0x4000, 48, bits, &r), 0);
	assert_int_equal(bits[0], 1);
	gdirty_mark(f->dirty, gpa(0x101000), 1);
	assert_int_equal(log_report(f, 0x100000, 0x4000, 1024, 48, bits, &r), 0);
	assert_int_equal(bits[0], 0xf0);
	/* Only what was asked for is cleared, and outside of it no bit is set. */
	gdirty_mark(f->dirty, gpa(0x100000), MEM_BYTES);
	assert_int_equal(log_report(f, 0x102000, 0x3000, 4096, 48, bits, &r), 0);
	assert_int_equal(bits[0], 7);
	assert_int_equal(log_report(f, 0x100000, MEM_BYTES, 4096, 48, bits, &r), 0);
	assert_int_equal(bits[0], 0xffe3);
	assert_int_equal(feature(f, 8, 7 | VFU_FEATURE_SET, NULL, 0, &r), 0);
	assert_null(f->dirty);
	assert_int_equal(feature(f, 8, 7 | VFU_FEATURE_SET, NULL, 0, &r), -EINVAL);
}

static void a_log_of_everything_grows_with_the_memory(void **state)
{
	struct fixture *f = *state;
	uint64_t bits[8];
	struct reply r;

	negotiate(f);
	assert_int_equal(map_at(f, 0x100000, 0x1000, 3, f->memfd), 0);
	assert_int_equal(log_start(f, 4096, 0, 0, 0, &r), 0);
	gdirty_mark(f->dirty, gpa(0x100000), 1);
	assert_int_equal(map_at(f, 0, 0x1000, 3, f->memfd), 0);
	assert_int_equal(map_at(f, 0x10000000, 0x1000, 3, f->memfd), 0);
	gdirty_mark(f->dirty, gpa(0), 1);
	gdirty_mark(f->dirty, gpa(0x10000000), 1);
	assert_int_equal(f->dirty->dropped_pages, 0);
	assert_int_equal(log_report(f, 0, 0x1000, 4096, 48, bits, &r), 0);
	assert_int_equal(bits[0], 1);
	assert_int_equal(log_report(f, 0x100000, 0x1000, 4096, 48, bits, &r), 0);
	assert_int_equal(bits[0], 1);
	assert_int_equal(log_report(f, 0x10000000, 0x1000, 4096, 48, bits, &r), 0);
	assert_int_equal(bits[0], 1);
	assert_int_equal(map_at(f, 1ull << 60, 0x1000, 3, f->memfd), -ENOSPC);
	assert_int_equal(f->session->dma.count, 3);
}

static void wrong_logging_is_refused(void **state)
{
	struct fixture *f = *state;
	uint64_t bits[1024];
	struct reply r;

	negotiate(f);
	assert_int_equal(log_report(f, 0, 4096, 4096, 48, bits, &r), -EINVAL);
	assert_int_equal(log_start(f, 0, 0, 0, 0, &r), -EINVAL);
	assert_int_equal(log_start(f, 4097, 0, 0, 0, &r), -EINVAL);
	assert_int_equal(log_start(f, 4096, 2, 0, 4096, &r), -EINVAL);
	assert_int_equal(log_start(f, 4096, UINT32_MAX, 0, 4096, &r), -EINVAL);
	assert_int_equal(log_start(f, 4096, 1, 0, 0, &r), -EINVAL);
	assert_int_equal(log_start(f, 4096, 1, UINT64_MAX, 4096, &r), -EINVAL);
	assert_int_equal(log_start(f, 4096, 1, 0, 1ull << 50, &r), -ENOSPC);
	assert_null(f->dirty);
	assert_int_equal(log_start(f, 4096, 1, 0x5000, 0x100000, &r), 0);
	assert_int_equal(log_start(f, 4096, 1, 0x5000, 0x100000, &r), -EINVAL);
	assert_int_equal(log_report(f, 0, 0, 4096, 48, bits, &r), -EINVAL);
	assert_int_equal(log_report(f, 0, 4096, 3, 48, bits, &r), -EINVAL);
	assert_int_equal(log_report(f, 1, 4096, 4096, 48, bits, &r), -EINVAL);
	assert_int_equal(log_report(f, UINT64_MAX - 4095, 4096, 4096, 48, bits, &r), -EINVAL);
	assert_int_equal(log_report(f, 0, 65 * 4096, 4096, 40, bits, &r), -E2BIG);
	assert_int_equal(log_report(f, 0, 1ull << 40, 1, 1u << 20, bits, &r), -E2BIG);
	assert_int_equal(log_report(f, 0, 4096, 4096, 31, bits, &r), -EINVAL);
	/* Outside the log nothing is dirty. */
	assert_int_equal(log_report(f, 0, 4096, 4096, 48, bits, &r), 0);
	assert_int_equal(bits[0], 0);
	assert_int_equal(log_report(f, 1ull << 62, 4096, 4096, 48, bits, &r), 0);
	assert_int_equal(bits[0], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(the_features_are_probed),
		T(every_way_between_two_states_is_gone_or_refused),
		T(only_a_reset_leads_out_of_error),
		T(what_one_device_saves_another_loads),
		T(a_state_that_was_cut_or_changed_is_refused),
		T(data_goes_only_in_its_states_and_within_limits),
		T(pages_that_the_device_writes_are_reported_once),
		T(a_log_of_everything_grows_with_the_memory),
		T(wrong_logging_is_refused),
#undef T
	};

	return cmocka_run_group_tests_name("migr", tests, NULL, NULL);
}
