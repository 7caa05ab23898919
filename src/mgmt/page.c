#include "mgmt/page.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

/* What a row of the table says: sums over the device's disks and queues. */
struct page_sums {
	uint64_t ops[BLK_OP_COUNT], bytes[BLK_OP_COUNT], ns[BLK_OP_COUNT], errors;
	uint64_t hist[BLK_HIST_BUCKETS]; /* all operations */
	uint64_t in_flight, oldest_ns, kicks, interrupts;
	uint32_t running;
};

static void page_sum(const struct snapshot *snap, const struct snap_device *d,
		     struct page_sums *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (uint32_t i = 0; i < d->disk_count; i++) {
		const struct snap_disk *disk = &snap->disks[d->first_disk + i];

		sum->errors += disk->errors;
		for (int op = 0; op < BLK_OP_COUNT; op++) {
			sum->ops[op] += disk->stats.ops[op];
			sum->bytes[op] += disk->stats.bytes[op];
			sum->ns[op] += disk->stats.latency_ns[op];
			for (int b = 0; b < BLK_HIST_BUCKETS; b++)
				sum->hist[b] += disk->stats.hist[op][b];
		}
	}
	for (uint32_t i = 0; i < d->queue_count; i++) {
		const struct queue_stats *q = &snap->queues[d->first_queue + i].stats;

		sum->running += q->state == QUEUE_RUNNING;
		sum->in_flight += q->in_flight;
		sum->kicks += q->kicks;
		sum->interrupts += q->interrupts;
		if (q->oldest_ns > sum->oldest_ns)
			sum->oldest_ns = q->oldest_ns;
	}
}

/* ---- HTML ---- */

void page_write_escaped(FILE *out, const char *text)
{
	for (const char *p = text; *p; p++) {
		if (strchr("&<>\"'", *p))
			fprintf(out, "&#%d;", *p);
		else
			fputc(*p, out);
	}
}

static void page_row_write(const struct snapshot *snap, const struct snap_device *d, FILE *out)
{
	struct page_sums sum;

	page_sum(snap, d, &sum);
	fputs("<tr><th scope=\"row\">", out);
	page_write_escaped(out, d->name);
	fprintf(out, "</th><td>%s</td><td>%s</td><td><span class=\"state %s\">%s</span></td>",
		d->type, d->transport, snap_device_state_names[d->state],
		snap_device_state_names[d->state]);
	fprintf(out,
		"<td class=\"n\">%u</td><td class=\"n\">%u</td><td class=\"n\">%" PRIu64
		"</td><td class=\"n\">%" PRIu64 "</td><td class=\"n\">%" PRIu64
		"</td><td class=\"n\">%" PRIu64 "</td></tr>\n",
		d->conns.now, sum.running, sum.ops[BLK_READ], sum.ops[BLK_WRITE], sum.in_flight,
		sum.errors);
}

void page_write(const struct snapshot *snap, FILE *out)
{
	const char *mark = strstr(page_html, PAGE_ROWS_MARK);

	fwrite(page_html, 1, (size_t)(mark - page_html), out);
	for (uint32_t i = 0; i < snap->device_count; i++)
		page_row_write(snap, &snap->devices[i], out);
	if (!snap->device_count)
		fputs("<tr><td colspan=\"10\">No devices.</td></tr>\n", out);
	fputs(mark + strlen(PAGE_ROWS_MARK), out);
}

/* ---- JSON ---- */

static json_t *status_number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *status_op(const struct page_sums *sum, enum blk_op op)
{
	return json_pack("{s:o, s:o, s:o}", "ops", status_number(sum->ops[op]), "bytes",
			 status_number(sum->bytes[op]), "latency_ns", status_number(sum->ns[op]));
}

static json_t *status_device(const struct snapshot *snap, const struct snap_device *d)
{
	struct page_sums sum;
	json_t *hist = json_array(), *ops = json_object();

	page_sum(snap, d, &sum);
	for (int b = 0; b < BLK_HIST_BUCKETS; b++)
		json_array_append_new(hist, status_number(sum.hist[b]));
	for (int op = 0; op < BLK_OP_COUNT; op++)
		json_object_set_new(ops, blk_op_name((enum blk_op)op),
				    status_op(&sum, (enum blk_op)op));
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
			 "name", d->name, "type", d->type, "transport", d->transport, "state",
			 snap_device_state_names[d->state], "connections",
			 status_number(d->conns.now), "reconnects",
			 status_number(d->conns.reconnects), "queues", status_number(sum.running),
			 "in_flight", status_number(sum.in_flight), "oldest_ns",
			 status_number(sum.oldest_ns), "kicks", status_number(sum.kicks),
			 "interrupts", status_number(sum.interrupts), "errors",
			 status_number(sum.errors), "operations", ops, "latency_log2_ns", hist);
}

static json_t *status_loop(const struct snap_loop *l)
{
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "name", l->name, "busy_ns",
			 status_number(l->stats.busy_ns), "idle_ns",
			 status_number(l->stats.idle_ns), "iterations",
			 status_number(l->stats.iterations), "sleeps",
			 status_number(l->stats.sleeps), "enters", status_number(l->stats.enters));
}

static json_t *status_process(const struct snap_process *p)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "uptime_ns", status_number(p->uptime_ns), "cpu_ns",
			 status_number(p->cpu_ns), "resident_bytes",
			 status_number(p->resident_bytes), "open_fds", status_number(p->open_fds));
}

int page_status_write(const struct snapshot *snap, FILE *out)
{
	json_t *loops = json_array(), *devices = json_array(), *status;
	int rc;

	for (uint32_t i = 0; i < snap->loop_count; i++)
		json_array_append_new(loops, status_loop(&snap->loops[i]));
	for (uint32_t i = 0; i < snap->device_count; i++)
		json_array_append_new(devices, status_device(snap, &snap->devices[i]));
	status = json_pack("{s:s, s:o, s:o, s:o, s:o}", "version", VHOSTD_VERSION, "time_ns",
			   status_number(snap->process.taken_ns), "process",
			   status_process(&snap->process), "loops", loops, "devices", devices);
	rc = status ? json_dumpf(status, out, JSON_COMPACT) : -1;
	json_decref(status);
	return rc ? -ENOMEM : 0;
}
