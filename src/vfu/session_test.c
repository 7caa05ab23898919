#include "vfu/session_rig.h"

static void nothing_but_version_is_answered_before_it(void **state)
{
	struct fixture *f = *state;
	struct reply r;

	assert_int_equal(call(f, VFU_CMD_DEVICE_GET_INFO, (uint32_t[4]){ 16 }, 16, &r), -EINVAL);
	assert_int_equal(f->session->state, VFU_SESSION_NEGOTIATE);
	negotiate(f);
	assert_int_equal(f->session->state, VFU_SESSION_ACTIVE);
	assert_int_equal(call(f, VFU_CMD_DEVICE_GET_INFO, (uint32_t[4]){ 16 }, 16, &r), 0);
	assert_memory_equal(r.bytes, ((uint32_t[4]){ 16, 3, 9, 5 }), 16);
	assert_int_equal(r.len, 16);
}

static void a_version_without_text_is_answered_without_text(void **state)
{
	struct fixture *f = *state;
	struct reply r;

	assert_int_equal(call(f, VFU_CMD_VERSION, (uint16_t[]){ 0, 1 }, 4, &r), 0);
	assert_int_equal(r.len, 4);
	assert_memory_equal(r.bytes, ((uint16_t[]){ 0, 1 }), 4);
	assert_int_equal(call(f, VFU_CMD_VERSION, (uint16_t[]){ 0, 1 }, 4, &r), -EINVAL);
}

static int version_with(struct fixture *f, uint16_t minor, const char *text, uint32_t text_len,
			struct reply *r)
{
	uint8_t bytes[4 + 1024];

	memcpy(bytes, (uint16_t[]){ 0, minor }, 4);
	memcpy(bytes + 4, text, text_len);
	return call(f, VFU_CMD_VERSION, bytes, 4 + text_len, r);
}

static void qemu_s_version_is_answered_with_all_that_we_can(void **state)
{
	static const char text[] =
		"{\"capabilities\": {\"pgsizes\": 4096, \"max_msg_fds\": 16, \"max_dma_maps\": "
		"65535, "
		"\"max_data_xfer_size\": 1048576, \"migration\": {\"max_bitmap_size\": 268435456, "
		"\"pgsize\": 4096}, \"write_multiple\": true}}";
	struct fixture *f = *state;
	struct reply r;

	assert_int_equal(version_with(f, 9, text, sizeof(text), &r), 0);
	assert_memory_equal(r.bytes, ((uint16_t[]){ 0, 2 }), 4);
	assert_true(r.len <= 4 + sizeof(text));
	assert_string_equal(
		(char *)r.bytes + 4,
		"{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,"
		"\"max_dma_maps\":509,\"write_multiple\":true,\"migration\":{\"pgsize\":"
		"4096,\"max_bitmap_size\":1048576},\"pgsizes\":4096}}");
	assert_int_equal(f->session->peer_fds_max, 16);
	assert_int_equal(f->session->peer_xfer_max, 1048576);
}

static void a_short_version_text_gets_no_longer_one_back(void **state)
{
	static const char text[] = "{\"capabilities\":{\"max_data_xfer_size\":4096}}";
	struct fixture *f = *state;
	struct reply r;

	assert_int_equal(version_with(f, 0, text, sizeof(text), &r), 0);
	assert_true(r.len <= 4 + sizeof(text));
	assert_string_equal((char *)r.bytes + 4, "{\"capabilities\":{\"max_msg_fds\":16}}");
	assert_int_equal(f->session->peer_xfer_max, 4096);
}

static void version_texts_that_are_wrong_are_refused(void **state)
{
	static const char *const wrong[] = {
		"[]",
		"{",
		"",
		"{\"capabilities\":3}",
		"{\"capabilities\":{\"max_msg_fds\":0}}",
		"{\"capabilities\":{\"max_msg_fds\":\"many\"}}",
		"{\"capabilities\":{\"max_data_xfer_size\":-1}}",
		"{\"capabilities\":{\"max_data_xfer_size\":99999999999}}",
	};
	struct fixture *f = *state;
	struct reply r;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(version_with(f, 0, wrong[i], (uint32_t)strlen(wrong[i]) + 1, &r),
				 -EINVAL);
	assert_int_equal(version_with(f, 0, "{}", 2, &r), -EINVAL); /* no end */
	assert_int_equal(call(f, VFU_CMD_VERSION, (uint16_t[]){ 1, 0 }, 4, &r), -ENOTSUP);
	assert_int_equal(call(f, VFU_CMD_VERSION, (uint16_t[]){ 0 }, 2, &r), -EINVAL);
	negotiate(f);
}

static void unknown_commands_get_an_error_and_the_session_lives(void **state)
{
	struct fixture *f = *state;
	struct reply r;

	negotiate(f);
	for (uint16_t command = 0; command < 64; command++) {
		if (vfu_row_find(command))
			continue;
		assert_int_equal(call(f, command, NULL, 0, &r), -ENOTSUP);
	}
	assert_int_equal(config_read(f, 0, 2), 0x1234);
}

static void every_command_of_a_wrong_size_is_refused(void **state)
{
	static const struct {
		uint16_t command;
		uint32_t size;
	} wrong[] = {
		{ VFU_CMD_DMA_MAP, 31 },
		{ VFU_CMD_DMA_MAP, 33 },
		{ VFU_CMD_DMA_UNMAP, 23 },
		{ VFU_CMD_DMA_UNMAP, 25 },
		{ VFU_CMD_DEVICE_GET_INFO, 15 },
		{ VFU_CMD_DEVICE_GET_INFO, 4097 },
		{ VFU_CMD_DEVICE_GET_REGION_INFO, 31 },
		{ VFU_CMD_DEVICE_GET_IRQ_INFO, 15 },
		{ VFU_CMD_DEVICE_SET_IRQS, 19 },
		{ VFU_CMD_REGION_READ, 15 },
		{ VFU_CMD_REGION_READ, 17 },
		{ VFU_CMD_REGION_WRITE, 15 },
		{ VFU_CMD_DEVICE_RESET, 1 },
		{ VFU_CMD_REGION_WRITE_MULTI, 7 },
		{ VFU_CMD_DEVICE_FEATURE, 7 },
		{ VFU_CMD_MIG_DATA_READ, 7 },
		{ VFU_CMD_MIG_DATA_WRITE, 7 },
	};
	static const uint8_t zeroes[4200];
	struct fixture *f = *state;
	struct reply r;

	negotiate(f);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(call(f, wrong[i].command, zeroes, wrong[i].size, &r), -EINVAL);
	assert_int_equal(f->quiesces, 0);
}

static void a_command_that_wants_no_answer_gets_none_not_even_an_error(void **state)
{
	struct {
		struct vfu_region_io io;
		uint32_t value;
	} w = { { 0x1000, 0, 4 }, 7 };
	struct fixture *f = *state;

	negotiate(f);
	send_msg_fds(f, VFU_CMD_REGION_WRITE, VFU_NO_REPLY, &w, 20, NULL, 0);
	is_silent(f);
	assert_int_equal(f->bar[0x1000], 7);
	w.io.offset = BAR_BYTES;
	send_msg_fds(f, VFU_CMD_REGION_WRITE, VFU_NO_REPLY, &w, 20, NULL, 0);
	send_msg_fds(f, 77, VFU_NO_REPLY, NULL, 0, NULL, 0);
	is_silent(f);
	assert_int_equal(config_read(f, 0, 2), 0x1234);
}

static void many_commands_in_one_write_are_answered_in_their_order(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[100 * 32];
	struct reply r;

	negotiate(f);
	for (uint16_t i = 0; i < 100; i++) {
		struct vfu_hdr hdr = { (uint16_t)(500 + i), VFU_CMD_REGION_READ, 32, 0, 0 };
		struct vfu_region_io io = { i, VFU_REGION_CONFIG, 1 };

		memcpy(bytes + 32 * i, &hdr, 16);
		memcpy(bytes + 32 * i + 16, &io, 16);
	}
	send_bytes(f, bytes, sizeof(bytes), NULL, 0);
	for (uint16_t i = 0; i < 100; i++) {
		assert_int_equal(answer(f, 500 + i, VFU_CMD_REGION_READ, &r), 0);
		assert_int_equal(r.bytes[16], f->session->pci.bytes[i]);
	}
}

static void a_command_may_come_byte_by_byte(void **state)
{
	struct vfu_hdr hdr = { 9, VFU_CMD_REGION_READ, 32, 0, 0 };
	struct vfu_region_io io = { 0, VFU_REGION_CONFIG, 2 };
	struct fixture *f = *state;
	struct reply r;

	negotiate(f);
	for (size_t i = 0; i < 32; i++) {
		send_bytes(f, i < 16 ? (char *)&hdr + i : (char *)&io + i - 16, 1, NULL, 0);
		pump(f, 1);
	}
	assert_int_equal(answer(f, 9, VFU_CMD_REGION_READ, &r), 0);
}

static void a_reset_waits_for_the_device_and_leaves_memory_and_interrupts(void **state)
{
	struct fixture *f = *state;
	struct reply r;
	uint16_t id;

	negotiate(f);
	assert_int_equal(map_at(f, 0, MEM_BYTES, 3, f->memfd), 0);
	config_write(f, 4, 0x406, 2);
	PUMP_UNTIL(f, !f->quiet);
	f->hold_quiet = true;
	id = send_msg(f, VFU_CMD_DEVICE_RESET, NULL, 0);
	is_silent(f);
	assert_int_equal(f->session->state, VFU_SESSION_PARKED);
	assert_int_equal(f->resets, 0);
	dev_quiet_now(f);
	assert_int_equal(answer(f, id, VFU_CMD_DEVICE_RESET, &r), 0);
	assert_int_equal(r.len, 0);
	assert_int_equal(f->resets, 1);
	assert_int_equal(config_read(f, 4, 2), 0);
	assert_non_null(f->readable);
	assert_false(f->quiet);
	f->hold_quiet = false;
}

static void while_one_command_waits_the_next_is_not_begun(void **state)
{
	struct fixture *f = *state;
	struct vfu_region_io io = { 0, VFU_REGION_CONFIG, 2 };
	struct reply r;
	uint16_t reset, read;

	negotiate(f);
	f->hold_quiet = true;
	reset = send_msg(f, VFU_CMD_DEVICE_RESET, NULL, 0);
	read = send_msg(f, VFU_CMD_REGION_READ, &io, sizeof(io));
	is_silent(f);
	dev_quiet_now(f);
	assert_int_equal(answer(f, reset, VFU_CMD_DEVICE_RESET, &r), 0);
	assert_int_equal(answer(f, read, VFU_CMD_REGION_READ, &r), 0);
}

static void unmaps_and_maps_that_come_together_quiesce_the_device_once(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[40 + 2 * 48];
	struct vfu_hdr hdr = { 60, VFU_CMD_DMA_UNMAP, 40, 0, 0 };
	struct vfu_dma_unmap unmap = { 24, 0, 0, MEM_BYTES };
	struct vfu_dma_map map = { 32, 3, 0, 0, MEM_BYTES / 2 };
	struct reply r;

	negotiate(f);
	assert_int_equal(map_at(f, 0, MEM_BYTES, 3, f->memfd), 0);
	PUMP_UNTIL(f, f->resumes == 1);
	assert_int_equal(f->quiesces, 1);
	memcpy(bytes, &hdr, 16);
	memcpy(bytes + 16, &unmap, 24);
	hdr = (struct vfu_hdr){ 61, VFU_CMD_DMA_MAP, 48, 0, 0 };
	memcpy(bytes + 40, &hdr, 16);
	memcpy(bytes + 56, &map, 32);
	hdr.id = 62;
	map.iova = map.offset = MEM_BYTES / 2;
	memcpy(bytes + 88, &hdr, 16);
	memcpy(bytes + 104, &map, 32);
	send_bytes(f, bytes, 40, NULL, 0);
	send_bytes(f, bytes + 40, 48, &f->memfd, 1);
	send_bytes(f, bytes + 88, 48, &f->memfd, 1);
	assert_int_equal(answer(f, 60, VFU_CMD_DMA_UNMAP, &r), 0);
	assert_int_equal(answer(f, 61, VFU_CMD_DMA_MAP, &r), 0);
	assert_int_equal(answer(f, 62, VFU_CMD_DMA_MAP, &r), 0);
	PUMP_UNTIL(f, f->resumes == 2);
	assert_int_equal(f->quiesces, 2);
	assert_int_equal(f->readable->count, 2);
}

static void a_session_that_ends_while_it_waits_frees_the_device_once(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	f->hold_quiet = f->hold_free = true;
	send_msg(f, VFU_CMD_DEVICE_RESET, NULL, 0);
	pump(f, 5);
	assert_int_equal(f->session->state, VFU_SESSION_PARKED);
	vfu_session_close(f->session, LOG_INFO, "test");
	vfu_session_close(f->session, LOG_INFO, "test");
	pump(f, 5);
	assert_non_null(f->session);
	assert_int_equal(f->frees, 1);
	dev_freed_now(f);
	f->hold_free = false;
	PUMP_UNTIL(f, !f->session);
}

static void a_device_that_cannot_be_is_named_and_freed(void **state)
{
	struct fixture *f = *state;
	struct vfu_session *s;
	struct vfu_dev good = f->dev;
	struct err err;

	for (int i = 0; i < 5; i++) {
		struct vfu_pci *pci = &f->dev.pci;
		int sv[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
		f->dev = good;
		switch (i) {
		case 0:
			pci->msix_vectors = 129;
			break;
		case 1:
			pci->msix_bar = 0;
			break;
		case 2:
			pci->bars[1].size_bytes = 0x1800;
			break;
		case 3:
			pci->cap_count = 6;
			for (int c = 0; c < 6; c++)
				pci->caps[c].len_bytes = 32;
			break;
		default:
			pci->caps[0].len_bytes = 3;
			break;
		}
		f->hold_free = true;
		assert_int_equal(vfu_session_new(&f->params, sv[0], &f->dev, &s, &err), -EINVAL);
		assert_non_null(strstr(err.msg, "test: "));
		close(sv[1]);
	}
	assert_int_equal(f->frees, 5);
	f->frees = 0;
	f->hold_free = false;
	f->dev = good;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(nothing_but_version_is_answered_before_it),
		T(a_version_without_text_is_answered_without_text),
		T(qemu_s_version_is_answered_with_all_that_we_can),
		T(a_short_version_text_gets_no_longer_one_back),
		T(version_texts_that_are_wrong_are_refused),
		T(unknown_commands_get_an_error_and_the_session_lives),
		T(every_command_of_a_wrong_size_is_refused),
		T(a_command_that_wants_no_answer_gets_none_not_even_an_error),
		T(many_commands_in_one_write_are_answered_in_their_order),
		T(a_command_may_come_byte_by_byte),
		T(a_reset_waits_for_the_device_and_leaves_memory_and_interrupts),
		T(while_one_command_waits_the_next_is_not_begun),
		T(unmaps_and_maps_that_come_together_quiesce_the_device_once),
		T(a_session_that_ends_while_it_waits_frees_the_device_once),
		T(a_device_that_cannot_be_is_named_and_freed),
#undef T
	};

	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
