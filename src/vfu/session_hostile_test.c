/* Clients that break the rules: nothing but their own session may feel it. */
#include "vfu/session_rig.h"

static void a_message_that_does_not_end_ends_the_session(void **state)
{
	struct fixture *f = *state;
	struct vfu_hdr hdr = { 0, VFU_CMD_REGION_WRITE, 1000, 0, 0 };

	negotiate(f);
	f->session->params.stall_ns = 1000000;
	send_bytes(f, &hdr, sizeof(hdr), NULL, 0);
	PUMP_UNTIL(f, !f->session);
}

static void a_client_that_never_listens_costs_one_answer(void **state)
{
	struct fixture *f = *state;
	struct vfu_hdr hdr = { 0, VFU_CMD_REGION_READ, 32, 0, 0 };
	struct vfu_region_io io = { 0, VFU_REGION_CONFIG, 4096 };
	uint8_t bytes[32];

	negotiate(f);
	memcpy(bytes, &hdr, 16);
	memcpy(bytes + 16, &io, 16);
	f->session->params.stall_ns = 50000000;
	/* Until nothing more fits into the socket. */
	for (int full = 0; full < 100 && f->session;) {
		full = fdio_send(f->peer, bytes, 32, NULL, 0) == 32 ? 0 : full + 1;
		pump(f, 1);
	}
	PUMP_UNTIL(f, !f->session);
}

static void an_unknown_type_of_message_ends_the_session(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	send_msg_fds(f, VFU_CMD_DEVICE_RESET, 2, NULL, 0, NULL, 0);
	PUMP_UNTIL(f, !f->session);
}

static void descriptors_where_none_belong_are_refused_and_closed(void **state)
{
	static const struct {
		uint16_t command;
		uint32_t size, fds;
	} wrong[] = {
		{ VFU_CMD_DMA_MAP, 32, 2 },	    { VFU_CMD_DMA_UNMAP, 24, 2 },
		{ VFU_CMD_DEVICE_GET_INFO, 16, 1 }, { VFU_CMD_REGION_READ, 16, 1 },
		{ VFU_CMD_REGION_WRITE, 16, 1 },    { VFU_CMD_DEVICE_RESET, 0, 1 },
		{ VFU_CMD_DEVICE_FEATURE, 8, 1 },
	};
	static const uint8_t zeroes[64];
	struct fixture *f = *state;
	int fds[2] = { f->memfd, f->memfd }, open_before;
	struct reply r;

	negotiate(f);
	open_before = fds_open();
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(
			call_fds(f, wrong[i].command, zeroes, wrong[i].size, fds, wrong[i].fds, &r),
			-EINVAL);
	assert_int_equal(fds_open(), open_before);
	/* The message that was refused leaves none for the next. */
	assert_int_equal(map_at(f, 0, MEM_BYTES, 3, f->memfd), 0);
}

static void a_flood_of_descriptors_ends_the_session(void **state)
{
	struct fixture *f = *state;
	struct vfu_hdr hdr = { 0, VFU_CMD_REGION_WRITE, 1000, 0, 0 };
	int fds[FDIO_FDS_MAX];

	negotiate(f);
	for (uint32_t i = 0; i < FDIO_FDS_MAX; i++)
		fds[i] = f->memfd;
	send_bytes(f, &hdr, sizeof(hdr), fds, FDIO_FDS_MAX);
	PUMP_UNTIL(f, !f->session);
}

/* Every message that there is, cut at every byte; then the client leaves. */
static void leaving_after_any_byte_of_any_message_releases_everything(void **state)
{
	static const struct {
		uint16_t command;
		uint32_t size;
		bool fd;
	} all[] = {
		{ VFU_CMD_VERSION, 4, false },	     { VFU_CMD_DMA_MAP, 32, true },
		{ VFU_CMD_DMA_UNMAP, 24, true },     { VFU_CMD_DEVICE_SET_IRQS, 20, true },
		{ VFU_CMD_REGION_WRITE, 20, false }, { VFU_CMD_DEVICE_FEATURE, 16, false },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		for (uint32_t cut = 1; cut < 16 + all[i].size; cut += 3) {
			struct vfu_hdr hdr = { 0, all[i].command, 16 + all[i].size, 0, 0 };
			uint8_t bytes[64] = { 0 };

			negotiate(f);
			memcpy(bytes, &hdr, 16);
			send_bytes(f, bytes, cut, &f->memfd, all[i].fd);
			close(f->peer);
			PUMP_UNTIL(f, !f->session);
			f->quiet = false;
			connect_session(f);
		}
	}
	f->frees = 0;
}

static void leaving_while_the_device_is_not_quiet_waits_only_for_the_device(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	f->hold_quiet = true;
	send_msg_fds(f, VFU_CMD_DEVICE_RESET, VFU_NO_REPLY, NULL, 0, NULL, 0);
	pump(f, 3);
	close(f->peer);
	f->peer = -1;
	pump(f, 3);
	/* Nothing is read while it waits, so that it does not see the end yet. */
	assert_non_null(f->session);
	dev_quiet_now(f);
	PUMP_UNTIL(f, !f->session);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(a_message_that_does_not_end_ends_the_session),
		T(a_client_that_never_listens_costs_one_answer),
		T(an_unknown_type_of_message_ends_the_session),
		T(descriptors_where_none_belong_are_refused_and_closed),
		T(a_flood_of_descriptors_ends_the_session),
		T(leaving_after_any_byte_of_any_message_releases_everything),
		T(leaving_while_the_device_is_not_quiet_waits_only_for_the_device),
#undef T
	};

	return cmocka_run_group_tests_name("session_hostile", tests, NULL, NULL);
}
