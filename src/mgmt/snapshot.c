#include "mgmt/snapshot.h"

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "blk/limit.h"

#define NS_PER_S 1000000000ull

const char *const snap_device_state_names[SNAP_DEVICE_STATE_COUNT] = {
#define X(n, s) s,
	SNAP_DEVICE_STATES(X)
#undef X
};

/* Room for one more of count elements: arrays double. NULL: out of memory, the old one stays. */
static void *array_more(void *array, uint32_t count, size_t bytes)
{
	if (count & (count - 1))
		return array;
	return realloc(array, (count ? 2ull * count : 1) * bytes);
}

#define APPEND(snap, array, count, value)                                                          \
	({                                                                                         \
		void *more_ = array_more((snap)->array, (snap)->count, sizeof(*(snap)->array));    \
		if (more_) {                                                                       \
			(snap)->array = more_;                                                     \
			(snap)->array[(snap)->count++] = (value);                                  \
		}                                                                                  \
		more_ != NULL;                                                                     \
	})

struct take {
	struct snapshot *snap;
	bool failed;
};

static void take_disk(const char *unit, const struct blk_dev *blk, void *arg)
{
	struct take *t = arg;
	struct snap_disk disk = { .errors = 0 };

	snprintf(disk.unit, sizeof(disk.unit), "%s", unit);
	blk_dev_stats(blk, &disk.stats);
	for (int st = 0; st < BLK_ST_COUNT; st++)
		disk.errors += disk.stats.errors[st];
	t->failed |= !APPEND(t->snap, disks, disk_count, disk);
}

static void take_conn(const struct conn_stats *conn, void *arg)
{
	struct take *t = arg;

	t->failed |= !APPEND(t->snap, conns, conn_count, *conn);
}

static void take_queue(const struct queue_stats *queue, void *arg)
{
	struct take *t = arg;

	/* Most of the queues that a device could have never are. */
	if (queue->state != QUEUE_STOPPED)
		t->failed |= !APPEND(t->snap, queues, queue_count, *queue);
}

/* A copy of a name that may have any bytes: those that are not UTF-8 become question marks. */
static char *name_copy(const char *name)
{
	json_t *text = json_string(name);
	char *copy = strdup(name);

	for (char *p = copy; copy && !text && *p; p++)
		if (*p & 0x80)
			*p = '?';
	json_decref(text);
	return copy;
}

static enum snap_device_state take_state(const struct device *dev, const struct snapshot *snap,
					 const struct snap_device *d)
{
	if (dev->stopping)
		return SNAP_DEVICE_STOPPING;
	for (uint32_t i = 0; i < d->queue_count; i++)
		if (snap->queues[d->first_queue + i].state == QUEUE_RUNNING)
			return SNAP_DEVICE_SERVING;
	return d->conns.now ? SNAP_DEVICE_CONNECTED : SNAP_DEVICE_DISCONNECTED;
}

static void take_device(struct take *t, const struct device *dev)
{
	struct snapshot *snap = t->snap;
	const struct queue_visitor v = { .conn = take_conn, .queue = take_queue, .arg = t };
	struct snap_device d = {
		.name = name_copy(dev->def->name),
		.type = dev->def->type->name,
		.transport = device_transport_names[dev->def->transport],
		.first_disk = snap->disk_count,
		.first_queue = snap->queue_count,
		.first_conn = snap->conn_count,
	};

	if (dev->limits) {
		d.limit_waiting = blk_limits_waiting(dev->limits);
		d.limit_waited = blk_limits_waited(dev->limits);
	}
	device_conns_get(dev, &d.conns);
	device_disks_visit(dev, take_disk, t);
	device_visit(dev, &v);
	d.disk_count = snap->disk_count - d.first_disk;
	d.queue_count = snap->queue_count - d.first_queue;
	d.conn_count = snap->conn_count - d.first_conn;
	d.state = take_state(dev, snap, &d);
	if (!d.name || !APPEND(snap, devices, device_count, d)) {
		free(d.name);
		t->failed = true;
	}
}

static void take_loop(struct take *t, const struct loop *loop)
{
	struct snap_loop l = { .name = loop_name(loop) };

	loop_stats_get(loop, &l.stats);
	t->failed |= !APPEND(t->snap, loops, loop_count, l);
}

static uint64_t snapshot_begun_ns, snapshot_started_ns; /* monotonic; of the epoch */

void snapshot_init(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	snapshot_started_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
	snapshot_begun_ns = loop_clock_ns();
}

static void take_times(struct snap_process *p)
{
	p->taken_ns = loop_clock_ns();
	p->started_ns = snapshot_started_ns;
	p->uptime_ns = p->taken_ns - snapshot_begun_ns;
}

struct snapshot *snapshot_take(const struct snapshot_source *source)
{
	struct snapshot *snap = calloc(1, sizeof(*snap));
	struct take t = { .snap = snap };

	if (!snap)
		return NULL;
	take_times(&snap->process);
	jobs_counts(snap->jobs.running);
	for (uint32_t i = 0; i < *source->loop_count; i++)
		take_loop(&t, source->loops[i]);
	take_loop(&t, source->main_loop);
	for (const struct device *dev = source->device_next(NULL); dev && !t.failed;
	     dev = source->device_next(dev))
		take_device(&t, dev);
	if (t.failed) {
		snapshot_free(snap);
		return NULL;
	}
	return snap;
}

void snapshot_free(struct snapshot *snap)
{
	if (!snap)
		return;
	for (uint32_t i = 0; i < snap->device_count; i++)
		free(snap->devices[i].name);
	free(snap->loops);
	free(snap->devices);
	free(snap->disks);
	free(snap->queues);
	free(snap->conns);
	free(snap);
}

/* ---- the process ---- */

static uint64_t timeval_ns(struct timeval t)
{
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_usec * 1000;
}

static void process_memory(struct snap_process *p)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	unsigned long long total, resident;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f && fscanf(f, "%llu %llu", &total, &resident) == 2) {
		p->virtual_bytes = total * page;
		p->resident_bytes = resident * page;
	}
	if (f)
		fclose(f);
}

static uint64_t process_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint64_t count = 0;

	if (!dir)
		return 0;
	while (readdir(dir))
		count++;
	closedir(dir);
	return count > 3 ? count - 3 : 0; /* "." and "..", and the folder's own */
}

void snapshot_process(struct snap_process *p)
{
	struct rusage usage;
	struct rlimit lim;

	if (getrusage(RUSAGE_SELF, &usage) == 0)
		p->cpu_ns = timeval_ns(usage.ru_utime) + timeval_ns(usage.ru_stime);
	process_memory(p);
	p->open_fds = process_fds();
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0)
		p->max_fds = lim.rlim_cur;
}
