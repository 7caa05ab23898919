#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "mgmt/metrics.h"
#include "mgmt/page.h"

/* One device with one disk, one connection and one queue. */
struct rig {
	struct snapshot snap;
	struct snap_loop loop;
	struct snap_device device;
	struct snap_disk disk;
	struct queue_stats queue;
	struct conn_stats conn;
	char name[64];
};

static struct snapshot *rig_init(struct rig *r, const char *name)
{
	memset(r, 0, sizeof(*r));
	strncpy(r->name, name, sizeof(r->name) - 1);
	r->loop = (struct snap_loop){ .name = "vhostd-io0",
				      .stats = { .busy_ns = 1500000001, .sleeps = 7 } };
	r->device = (struct snap_device){ .name = r->name,
					  .type = "blk",
					  .transport = "vhost-user",
					  .state = SNAP_DEVICE_SERVING,
					  .conns = { .now = 1, .accepted = 3, .reconnects = 2 },
					  .disk_count = 1,
					  .queue_count = 1,
					  .conn_count = 1 };
	r->disk.stats.ops[BLK_READ] = 5;
	r->disk.stats.bytes[BLK_READ] = 20480;
	r->disk.stats.latency_ns[BLK_READ] = 9000;
	r->disk.stats.hist[BLK_READ][0] = 1;
	r->disk.stats.hist[BLK_READ][10] = 3; /* 1024 to 2047 ns */
	r->disk.stats.hist[BLK_READ][39] = 1;
	r->disk.stats.errors[BLK_ST_NO_SPACE] = r->disk.errors = 4;
	r->queue = (struct queue_stats){ .idx = 2,
					 .state = QUEUE_RUNNING,
					 .size = 128,
					 .in_flight = 3,
					 .oldest_ns = 2000000,
					 .polls = { 100, 1, 0, 2, [QUEUE_BATCH_MAX] = 1 } };
	r->snap.jobs.running[JOB_COPY] = 3;
	r->conn = (struct conn_stats){ .state = "ACTIVE" };
	r->snap = (struct snapshot){ .loops = &r->loop,
				     .devices = &r->device,
				     .disks = &r->disk,
				     .queues = &r->queue,
				     .conns = &r->conn,
				     .loop_count = 1,
				     .device_count = 1,
				     .disk_count = 1,
				     .queue_count = 1,
				     .conn_count = 1,
				     .jobs = { .running = { [JOB_COPY] = 3 } } };
	return &r->snap;
}

static char *text_of(const struct snapshot *snap, enum metrics_format format)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	metrics_write(snap, format, out);
	ASSERT(!fclose(out));
	return text;
}

static void assert_line(const char *text, const char *line)
{
	size_t len = strlen(line);

	for (const char *at = text; (at = strstr(at, line)); at++)
		if ((at == text || at[-1] == '\n') && at[len] == '\n')
			return;
	fail_msg("no line '%s' in:\n%s", line, text);
}

static void assert_lines(const struct snapshot *snap, enum metrics_format format,
			 const char *const *lines)
{
	char *text = text_of(snap, format);

	for (; *lines; lines++)
		assert_line(text, *lines);
	free(text);
}

static void numbers_have_their_names_labels_and_units(void **state)
{
	static const char *const lines[] = {
		"# TYPE vhostd_loop_busy_seconds counter",
		"# UNIT vhostd_loop_busy_seconds seconds",
		"vhostd_loop_busy_seconds_total{loop=\"vhostd-io0\"} 1.500000001",
		"vhostd_loop_sleeps_total{loop=\"vhostd-io0\"} 7",
		"vhostd_jobs_running{kind=\"copy\"} 3",
		"vhostd_jobs_running{kind=\"format\"} 0",
		"vhostd_device_connections{device=\"d\"} 1",
		"vhostd_device_accepted_connections_total{device=\"d\"} 3",
		"vhostd_device_reconnects_total{device=\"d\"} 2",
		"vhostd_disk_operations_total{device=\"d\",op=\"read\"} 5",
		"vhostd_disk_operations_total{device=\"d\",op=\"secure-erase\"} 0",
		"vhostd_disk_transferred_bytes_total{device=\"d\",op=\"read\"} 20480",
		"vhostd_disk_errors_total{device=\"d\",cause=\"no space\"} 4",
		"vhostd_queue_in_flight{device=\"d\",connection=\"0\",queue=\"2\"} 3",
		"vhostd_queue_oldest_request_seconds{device=\"d\",connection=\"0\",queue=\"2\"} "
		"0.002000000",
		"vhostd_queue_empty_polls_total{device=\"d\",connection=\"0\",queue=\"2\"} 100",
		"vhostd_connection_info{device=\"d\",connection=\"0\",state=\"ACTIVE\"} 1",
		NULL,
	};
	struct rig r;

	assert_lines(rig_init(&r, "d"), METRICS_OPENMETRICS, lines);
}

static void a_histogram_adds_up_to_its_count(void **state)
{
	static const char *const lines[] = {
		"# TYPE vhostd_disk_latency_seconds histogram",
		"vhostd_disk_latency_seconds_bucket{device=\"d\",op=\"read\",le=\"1.024e-06\"} 1",
		"vhostd_disk_latency_seconds_bucket{device=\"d\",op=\"read\",le=\"2.048e-06\"} 4",
		"vhostd_disk_latency_seconds_bucket{device=\"d\",op=\"read\",le=\"34.359738368\"} "
		"4",
		"vhostd_disk_latency_seconds_bucket{device=\"d\",op=\"read\",le=\"+Inf\"} 5",
		"vhostd_disk_latency_seconds_count{device=\"d\",op=\"read\"} 5",
		"vhostd_disk_latency_seconds_sum{device=\"d\",op=\"read\"} 0.000009000",
		"vhostd_queue_batch_requests_bucket{device=\"d\",connection=\"0\",queue=\"2\",le="
		"\"1.0\"} 1",
		"vhostd_queue_batch_requests_bucket{device=\"d\",connection=\"0\",queue=\"2\",le="
		"\"4.0\"} 3",
		"vhostd_queue_batch_requests_bucket{device=\"d\",connection=\"0\",queue=\"2\",le="
		"\"+Inf\"} 4",
		"vhostd_queue_batch_requests_sum{device=\"d\",connection=\"0\",queue=\"2\"} 23",
		NULL,
	};
	struct rig r;

	assert_lines(rig_init(&r, "d"), METRICS_OPENMETRICS, lines);
}

static void one_state_of_a_stateset_is_1(void **state)
{
	static const char *const lines[] = {
		"# TYPE vhostd_device_state stateset",
		"vhostd_device_state{device=\"d\",vhostd_device_state=\"serving\"} 1",
		"vhostd_device_state{device=\"d\",vhostd_device_state=\"stopping\"} 0",
		"vhostd_queue_state{device=\"d\",connection=\"0\",queue=\"2\",vhostd_queue_state="
		"\"running\"} 1",
		NULL,
	};
	struct rig r;

	assert_lines(rig_init(&r, "d"), METRICS_OPENMETRICS, lines);
}

static void an_operation_that_never_was_has_no_histogram(void **state)
{
	struct rig r;
	char *text = text_of(rig_init(&r, "d"), METRICS_OPENMETRICS);

	assert_null(strstr(text, "latency_seconds_bucket{device=\"d\",op=\"write\""));
	free(text);
}

static void openmetrics_ends_with_its_mark_and_prometheus_has_its_own_types(void **state)
{
	static const char *const old[] = {
		"# TYPE vhostd_loop_sleeps_total counter",
		"# TYPE vhostd_build_info gauge",
		"# TYPE vhostd_device_state gauge",
		"vhostd_loop_sleeps_total{loop=\"vhostd-io0\"} 7",
		NULL,
	};
	struct rig r;
	char *text = text_of(rig_init(&r, "d"), METRICS_OPENMETRICS);

	assert_string_equal(text + strlen(text) - 6, "# EOF\n");
	free(text);
	assert_lines(&r.snap, METRICS_PROMETHEUS, old);
	text = text_of(&r.snap, METRICS_PROMETHEUS);
	assert_null(strstr(text, "# EOF"));
	assert_null(strstr(text, "# UNIT"));
	free(text);
}

static void a_label_is_escaped(void **state)
{
	static const char *const lines[] = {
		"vhostd_device_connections{device=\"a\\\\b\\\"c\\nd{}=,\"} 1",
		NULL,
	};
	struct rig r;

	assert_lines(rig_init(&r, "a\\b\"c\nd{}=,"), METRICS_OPENMETRICS, lines);
}

static void a_unit_has_a_label_and_the_only_disk_has_none(void **state)
{
	static const char *const lines[] = {
		"vhostd_disk_operations_total{device=\"d\",unit=\"3/1\",op=\"read\"} 5",
		NULL,
	};
	struct rig r;

	rig_init(&r, "d");
	strncpy(r.disk.unit, "3/1", sizeof(r.disk.unit) - 1);
	assert_lines(&r.snap, METRICS_OPENMETRICS, lines);
}

static void the_format_is_the_one_that_is_accepted(void **state)
{
	static const struct {
		const char *accept;
		enum metrics_format format;
	} rows[] = {
		{ NULL, METRICS_OPENMETRICS },
		{ "*/*", METRICS_OPENMETRICS },
		{ "text/plain", METRICS_PROMETHEUS },
		{ "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5",
		  METRICS_OPENMETRICS },
		{ "text/html", METRICS_OPENMETRICS },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(metrics_format_accepted(rows[i].accept), rows[i].format);
}

static void a_name_cannot_add_to_the_page(void **state)
{
	struct rig r;
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	page_write(rig_init(&r, "<script>'\"&"), out);
	assert_false(fclose(out));
	assert_non_null(strstr(text, "&#60;script&#62;&#39;&#34;&#38;"));
	assert_null(strstr(text, "<script>'"));
	assert_null(strstr(text, PAGE_ROWS_MARK));
	assert_non_null(strstr(text, "</html>"));
	free(text);
}

static void the_status_has_sums_by_operation(void **state)
{
	struct rig r;
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_int_equal(page_status_write(rig_init(&r, "d"), out), 0);
	assert_false(fclose(out));
	assert_non_null(strstr(text, "\"read\":{\"ops\":5,\"bytes\":20480,\"latency_ns\":9000}"));
	assert_non_null(strstr(text, "\"state\":\"serving\",\"connections\":1,\"reconnects\":2"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_have_their_names_labels_and_units),
		cmocka_unit_test(a_histogram_adds_up_to_its_count),
		cmocka_unit_test(one_state_of_a_stateset_is_1),
		cmocka_unit_test(an_operation_that_never_was_has_no_histogram),
		cmocka_unit_test(openmetrics_ends_with_its_mark_and_prometheus_has_its_own_types),
		cmocka_unit_test(a_label_is_escaped),
		cmocka_unit_test(a_unit_has_a_label_and_the_only_disk_has_none),
		cmocka_unit_test(the_format_is_the_one_that_is_accepted),
		cmocka_unit_test(a_name_cannot_add_to_the_page),
		cmocka_unit_test(the_status_has_sums_by_operation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
