#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "mgmt/call.h"
#include "mgmt/exchange.h"
#include "mgmt/registry.h"
#include "mgmt/undo.h"

/* ---- the tables ---- */

static void each_method_is_found_by_its_name_and_by_its_old_name(void **state)
{
	size_t count;
	const struct registry_entry *all = registry_all(&count);

	assert_true(count > 30);
	for (size_t i = 0; i < count; i++) {
		assert_ptr_equal(registry_find(all[i].name), all[i].method);
		if (i)
			assert_true(strcmp(all[i - 1].name, all[i].name) < 0);
	}
	assert_ptr_equal(registry_find("get_rpc_methods"), registry_find("rpc_get_methods"));
	assert_null(registry_find(""));
	assert_null(registry_find("zzz"));
	assert_null(registry_find("spdk_get_versio"));
}

static void each_row_of_each_table_is_whole(void **state)
{
	size_t count;
	const struct registry_entry *all = registry_all(&count);

	for (size_t i = 0; i < count; i++) {
		const struct rpc_method *m = all[i].method;

		assert_non_null(m->run);
		assert_non_null(m->help);
		assert_non_null(m->result);
		assert_int_not_equal(*m->help, '\0');
		assert_false(m->flags & RPC_STARTUP && m->flags & RPC_ANYTIME);
		if (!m->params)
			continue;
		assert_int_not_equal(m->params_bytes, 0);
		assert_non_null(m->params->what);
		for (size_t k = 0; k < m->params->count; k++) {
			const struct opts_row *row = &m->params->rows[k];

			assert_non_null(row->help);
			assert_true(row->type == OPTS_JSON || row->offset < m->params_bytes);
			assert_true((row->type == OPTS_ENUM) == !!row->names);
		}
	}
}

static bool method_has(const struct rpc_method *m, const char *param)
{
	for (size_t i = 0; i < m->params->count; i++)
		if (!strcmp(m->params->rows[i].name, param))
			return true;
	return false;
}

static const struct undo_row *undo_find(const char *method)
{
	for (uint32_t i = 0; i < undo_row_count; i++)
		if (!strcmp(undo_rows[i].method, method))
			return &undo_rows[i];
	return NULL;
}

static void each_call_that_undoes_another_has_methods_and_parameters_that_exist(void **state)
{
	for (uint32_t i = 0; i < undo_row_count; i++) {
		const struct undo_row *u = &undo_rows[i];
		const struct rpc_method *m = registry_find(u->method);
		const struct rpc_method *inverse = registry_find(u->inverse);

		assert_non_null(m);
		assert_non_null(inverse);
		assert_true(m->flags & RPC_SAVES);
		assert_true(inverse->flags & RPC_SAVES);
		for (uint32_t k = 0; k < UNDO_KEYS_MAX && u->keys[k].to; k++) {
			assert_true(method_has(inverse, u->keys[k].to));
			assert_true(!strcmp(u->keys[k].from, UNDO_RESULT) ||
				    method_has(m, u->keys[k].from));
		}
	}
}

static void each_method_that_makes_something_that_is_saved_can_be_undone(void **state)
{
	/* the transport of nvmf_* is made once, and never deleted */
	static const char *const not [] = { "nvmf_create_transport" };
	size_t count;
	const struct registry_entry *all = registry_all(&count);

	for (size_t i = 0; i < count; i++) {
		const struct rpc_method *m = all[i].method;

		if (!(m->flags & RPC_SAVES) || !strcmp(m->name, not [0]) ||
		    (!strstr(m->name, "_create") && !strstr(m->name, "_add_")))
			continue;
		assert_non_null(undo_find(m->name));
	}
}

static void a_call_is_undone_with_its_parameters_and_its_result(void **state)
{
	json_t *params = json_pack("{s:s, s:i}", "ctrlr", "vm1", "scsi_target_num", -1);
	json_t *result = json_integer(3), *inverse = NULL;

	assert_string_equal(undo_call("vhost_scsi_controller_add_target", params, result, &inverse),
			    "vhost_scsi_controller_remove_target");
	assert_int_equal(json_object_size(inverse), 2);
	assert_string_equal(json_string_value(json_object_get(inverse, "ctrlr")), "vm1");
	assert_int_equal(json_integer_value(json_object_get(inverse, "scsi_target_num")), 3);
	json_decref(inverse);
	json_decref(params);
	json_decref(result);

	params = json_pack("{s:s}", "base_name", "N0");
	assert_string_equal(undo_call("bdev_error_create", params, json_true(), &inverse),
			    "bdev_error_delete");
	assert_string_equal(json_string_value(json_object_get(inverse, "name")), "EE_N0");
	json_decref(inverse);
	assert_null(undo_call("bdev_null_delete", params, json_true(), &inverse));
	assert_null(undo_call("vhost_nvme_controller_add_ns", params, json_true(), &inverse));
	json_decref(params);
}

static void the_defaults_of_each_table_are_legal(void **state)
{
	size_t count;
	const struct registry_entry *all = registry_all(&count);

	for (size_t i = 0; i < count; i++) {
		const struct rpc_method *m = all[i].method;
		void *params;

		if (!m->params)
			continue;
		params = calloc(1, m->params_bytes);
		assert_int_equal(opts_defaults(m->params, params, NULL), 0);
		opts_free(m->params, params);
		free(params);
	}
}

/* ---- exchanges ---- */

static char reply[65536];
static int replies;

static void on_done(struct exchange *ex)
{
	assert_false(ex->failed);
	assert_true(ex->reply.len_bytes < sizeof(reply));
	memcpy(reply, ex->reply.bytes ? ex->reply.bytes : "", ex->reply.len_bytes);
	reply[ex->reply.len_bytes] = '\0';
	replies++;
	exchange_free(ex);
}

static const char *ask_as(const char *text, bool admin)
{
	json_t *body;

	replies = 0;
	assert_int_equal(jsonrpc_parse(text, strlen(text), &body, NULL), 0);
	exchange_run(exchange_new(on_done, NULL, admin), body);
	assert_int_equal(replies, 1);
	return reply;
}

static void has(const char *text, const char *what)
{
	if (!strstr(text, what))
		fail_msg("expected '%s' in '%s'", what, text);
}

static const struct {
	const char *ask, *answer;
} cases[] = {
	{ "{\"id\":null,\"method\":\"spdk_get_version\"}",
	  "{\"jsonrpc\":\"2.0\",\"id\":null,\"res" },
	{ "{\"id\":\"abc\",\"method\":\"spdk_get_version\"}", "\"id\":\"abc\",\"result\"" },
	{ "{\"id\":1.5,\"method\":\"spdk_get_version\"}", "\"id\":1.5,\"result\"" },
	{ "{\"id\":1,\"method\":\"spdk_get_version\",\"params\":null}", "\"id\":1,\"result\"" },
	{ "{\"id\":1,\"method\":\"spdk_get_version\",\"params\":{}}", "\"id\":1,\"result\"" },
	{ "{\"id\":1,\"method\":\"spdk_get_version\",\"params\":[1]}",
	  "\"code\":-32602,\"message\":\"spdk_get_version method requires no parameters\"" },
	{ "{\"id\":1,\"method\":\"rpc_get_methods\",\"params\":[1]}", "got an array" },
	{ "{\"id\":1,\"method\":\"spdk_get_version\",\"params\":1}",
	  "\"id\":null,\"error\":{\"code\":-32600" },
	{ "{\"id\":[],\"method\":\"spdk_get_version\"}", "\"id\":null,\"error\":{\"code\":-32600" },
	{ "{\"id\":true,\"method\":\"spdk_get_version\"}",
	  "id: expected a string, a number or null" },
	{ "{\"id\":1,\"method\":7}", "method: expected a string" },
	{ "{\"id\":1}", "\"code\":-32600" },
	{ "{\"id\":1,\"method\":\"spdk_get_version\",\"colour\":1}", "\"code\":-32600" },
	{ "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"spdk_get_version\"}",
	  "\"id\":null,\"error\":{\"code\":-32600" },
	{ "{\"jsonrpc\":2.0,\"id\":1,\"method\":\"spdk_get_version\"}", "\"code\":-32600" },
	{ "{\"id\":1,\"method\":\"nope\"}",
	  "\"code\":-32601,\"message\":\"Method not found: 'nope'" },
	{ "[]", "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600" },
	{ "[1]", "[{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600" },
	{ "[{\"id\":1,\"method\":\"nope\"},{\"method\":\"nope\"},{\"id\":2,\"method\":\"nope\"}]",
	  "}},{\"jsonrpc\":\"2.0\",\"id\":2" },
};

static void each_kind_of_request_has_its_answer(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		has(ask_as(cases[i].ask, true), cases[i].answer);
}

static void notifications_are_not_answered(void **state)
{
	assert_string_equal(ask_as("{\"method\":\"spdk_get_version\"}", true), "");
	assert_string_equal(ask_as("{\"method\":\"nope\"}", true), "");
	assert_string_equal(
		ask_as("[{\"method\":\"nope\"},{\"method\":\"spdk_get_version\"}]", true), "");
}

static void the_phase_and_the_role_decide_who_may_call_what(void **state)
{
	has(ask_as("{\"id\":1,\"method\":\"thread_get_stats\"}", true),
	    "\"code\":-1,\"message\":\"Method may only be called after framework is initialized.");
	has(ask_as("{\"id\":1,\"method\":\"trace_clear\"}", false), "This socket is read-only");
	has(ask_as("{\"id\":1,\"method\":\"trace_clear\"}", true), "\"result\":true");
	has(ask_as("{\"id\":1,\"method\":\"iobuf_set_options\"}", true), "\"result\":true");
	call_runtime_begin();
	has(ask_as("{\"id\":1,\"method\":\"iobuf_set_options\"}", true),
	    "\"code\":-1,\"message\":\"Method may only be called before framework is initialized.");
	has(ask_as("{\"id\":1,\"method\":\"iobuf_get_stats\"}", false), "\"result\":[]");
}

/* ---- events ---- */

static void the_last_1024_events_are_kept_with_their_numbers(void **state)
{
	rpc_notify("bdev_register", "a");
	rpc_notify("bdev_unregister", "b");
	has(ask_as("{\"id\":1,\"method\":\"notify_get_notifications\"}", false),
	    "[{\"type\":\"bdev_register\",\"ctx\":\"a\",\"id\":0},"
	    "{\"type\":\"bdev_unregister\",\"ctx\":\"b\",\"id\":1}]");
	has(ask_as("{\"id\":1,\"method\":\"notify_get_notifications\",\"params\":{\"id\":1}}",
		   false),
	    "\"result\":[{\"type\":\"bdev_unregister\"");
	for (uint32_t i = 0; i < 1024; i++)
		rpc_notify("vhost_connect", "c");
	has(ask_as("{\"id\":1,\"method\":\"notify_get_notifications\",\"params\":{\"max\":1}}",
		   false),
	    "\"result\":[{\"type\":\"vhost_connect\",\"ctx\":\"c\",\"id\":2}]");
	has(ask_as("{\"id\":1,\"method\":\"notify_get_notifications\",\"params\":{\"id\":1026}}",
		   false),
	    "\"result\":[]");
}

static void a_long_name_of_an_event_is_cut_between_characters(void **state)
{
	char name[200];

	memset(name, 'x', sizeof(name));
	memcpy(name + 126, "\xe2\x82\xac", 3);
	name[199] = '\0';
	rpc_notify("vhost_error", name);
	has(ask_as("{\"id\":1,\"method\":\"notify_get_notifications\",\"params\":{\"id\":1026}}",
		   false),
	    "xxx\",\"id\":1026}]");
}

/* ---- calls without a client ---- */

static int run_code;
static char run_text[256];

static void on_run(void *arg, int code, const char *text)
{
	assert_ptr_equal(arg, run_text);
	run_code = code;
	strncpy(run_text, text, sizeof(run_text) - 1);
}

static void a_method_runs_without_a_client(void **state)
{
	json_t *params = json_pack("{s:s}", "name", "vring");

	rpc_run("trace_enable_tpoint_group", params, on_run, run_text);
	assert_int_equal(run_code, 0);
	rpc_run("trace_enable_tpoint_group", NULL, on_run, run_text);
	assert_int_equal(run_code, RPC_INVALID_PARAMS);
	has(run_text, "name: missing");
	rpc_run("nope", params, on_run, run_text);
	assert_int_equal(run_code, RPC_METHOD_NOT_FOUND);
	rpc_run("iobuf_set_options", NULL, on_run, run_text);
	assert_int_equal(run_code, RPC_INVALID_STATE);
	json_decref(params);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_method_is_found_by_its_name_and_by_its_old_name),
		cmocka_unit_test(each_row_of_each_table_is_whole),
		cmocka_unit_test(
			each_call_that_undoes_another_has_methods_and_parameters_that_exist),
		cmocka_unit_test(each_method_that_makes_something_that_is_saved_can_be_undone),
		cmocka_unit_test(a_call_is_undone_with_its_parameters_and_its_result),
		cmocka_unit_test(the_defaults_of_each_table_are_legal),
		cmocka_unit_test(each_kind_of_request_has_its_answer),
		cmocka_unit_test(notifications_are_not_answered),
		cmocka_unit_test(the_phase_and_the_role_decide_who_may_call_what),
		cmocka_unit_test(the_last_1024_events_are_kept_with_their_numbers),
		cmocka_unit_test(a_long_name_of_an_event_is_cut_between_characters),
		cmocka_unit_test(a_method_runs_without_a_client),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
