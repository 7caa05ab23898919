/*
 * Targets and nexuses: who sees which unit where, and how that changes while commands run.
 *
 * A nexus has an I_T_L nexus for each unit of its host, and a map of them that its queues read
 * without a lock. A change on main builds a new map and publishes it; the old map, and what it
 * alone names, go after a sweep: every loop has been through its mailbox, so none looks at it, and
 * the commands that were under way on the unit have ended.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scsi/copy.h"
#include "scsi/scsi_impl.h"

struct host_lun { /* host->luns, by key */
	struct list node;
	uint32_t target, lun;
	struct scsi_lu *lu; /* a reference */
};

/* What a change left behind until no loop can see it. */
struct host_change {
	struct sweep sweep;
	struct scsi_map *old_map;
	struct scsi_itl *gone; /* NULL: none */
	struct host_detach *detach;
};

struct host_detach {
	uint32_t pending;
	struct scsi_lu *lu;
	struct scsi_host *host;
	void (*detached)(void *arg);
	void *arg;
};

/* ---- look-ups (Thread: owner loop) ---- */

static uint32_t map_lower_bound(const struct scsi_map *map, uint32_t key)
{
	uint32_t lo = 0, hi = map->count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (map->entries[mid].key < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct scsi_itl *scsi_itl_find_slow(struct scsi_queue *queue, uint32_t target, uint32_t lun)
{
	const struct scsi_map *map = atomic_load_explicit(&queue->nexus->map, memory_order_acquire);
	uint32_t key = scsi_map_key(target, lun), at;

	if (lun >= SCSI_LUNS_MAX || target >= SCSI_TARGETS_MAX)
		return NULL;
	at = map_lower_bound(map, key);
	if (at == map->count || map->entries[at].key != key)
		return NULL;
	queue->last_key = key;
	queue->last_generation = map->generation;
	queue->last_itl = map->entries[at].itl;
	queue->last_chan = NULL;
	return queue->last_itl;
}

uint32_t scsi_map_target(const struct scsi_map *map, uint32_t target,
			 const struct scsi_map_entry **ret_first)
{
	uint32_t first = map_lower_bound(map, scsi_map_key(target, 0));
	uint32_t end = map_lower_bound(map, scsi_map_key(target + 1, 0));

	*ret_first = &map->entries[first];
	return end - first;
}

bool scsi_target_exists(struct scsi_queue *queue, uint32_t target)
{
	const struct scsi_map *map = atomic_load_explicit(&queue->nexus->map, memory_order_acquire);
	const struct scsi_map_entry *first;

	return target < SCSI_TARGETS_MAX && scsi_map_target(map, target, &first);
}

struct scsi_itl *scsi_nexus_find_wwn(struct scsi_queue *queue, uint64_t wwn)
{
	const struct scsi_map *map = atomic_load_explicit(&queue->nexus->map, memory_order_acquire);

	for (uint32_t i = 0; i < map->count; i++)
		if (map->entries[i].itl->lu->wwn == wwn)
			return map->entries[i].itl;
	return NULL;
}

/* ---- maps (Thread: main) ---- */

static struct scsi_map *map_new(uint32_t count)
{
	static uint64_t generation;
	struct scsi_map *map = calloc(1, sizeof(*map) + count * sizeof(map->entries[0]));

	if (map)
		map->generation = ++generation;
	return map;
}

/* A copy with itl in its place. */
static struct scsi_map *map_with(const struct scsi_map *old, struct scsi_itl *itl)
{
	uint32_t key = scsi_map_key(itl->target, itl->lun);
	uint32_t at = map_lower_bound(old, key);
	struct scsi_map *map = map_new(old->count + 1);

	if (!map)
		return NULL;
	map->count = old->count + 1;
	memcpy(map->entries, old->entries, at * sizeof(map->entries[0]));
	map->entries[at] = (struct scsi_map_entry){ key, itl };
	memcpy(&map->entries[at + 1], &old->entries[at],
	       (old->count - at) * sizeof(map->entries[0]));
	return map;
}

static struct scsi_map *map_without(const struct scsi_map *old, const struct scsi_itl *itl)
{
	struct scsi_map *map = map_new(old->count);

	if (!map)
		return NULL;
	for (uint32_t i = 0; i < old->count; i++)
		if (old->entries[i].itl != itl)
			map->entries[map->count++] = old->entries[i];
	return map;
}

/* ---- I_T_L nexuses (Thread: main) ---- */

static struct scsi_itl *itl_new(struct scsi_nexus *nexus, const struct host_lun *hl)
{
	struct scsi_itl *itl = calloc(1, sizeof(*itl));
	struct scsi_lu *lu = hl->lu;

	if (!itl)
		return NULL;
	itl->lu = scsi_lu_ref(lu);
	itl->nexus = nexus;
	itl->target = hl->target;
	itl->lun = hl->lun;
	pthread_mutex_lock(&lu->lock);
	list_append(&lu->itls, &itl->node);
	if (!scsi_live_itl_take(itl))
		scsi_ua_add(itl, SCSI_UA_POWER_ON);
	scsi_resv_attach(itl);
	scsi_lu_gates_update(lu);
	pthread_mutex_unlock(&lu->lock);
	return itl;
}

static void itl_unlink(struct scsi_itl *itl)
{
	struct scsi_lu *lu = itl->lu;

	pthread_mutex_lock(&lu->lock);
	scsi_resv_detach(itl);
	list_remove(&itl->node);
	pthread_mutex_unlock(&lu->lock);
}

static void itl_free(struct scsi_itl *itl)
{
	if (!itl)
		return;
	scsi_lu_unref(itl->lu);
	free(itl);
}

/* ---- change while running ---- */

static void change_end(struct host_change *c)
{
	struct host_detach *d = c->detach;

	itl_free(c->gone);
	free(c->old_map);
	free(c);
	if (!d || --d->pending)
		return;
	scsi_lu_unref(d->lu);
	scsi_host_unref(d->host);
	if (d->detached)
		d->detached(d->arg);
	free(d);
}

static void change_swept(struct sweep *sweep)
{
	change_end(container_of(sweep, struct host_change, sweep));
}

static void change_start(struct host_change *c)
{
	c->sweep.action = c->gone ? SWEEP_WAIT : SWEEP_FIND; /* FIND: only a grace period */
	c->sweep.itl = c->gone;
	c->sweep.target = UINT32_MAX;
	c->sweep.done = change_swept;
	if (!scsi_loops_any())
		change_end(c);
	else
		ASSERT(sweep_start(&c->sweep));
}

/* The nexus' other units of that target tell REPORTED LUNS DATA HAS CHANGED. */
static void nexus_luns_changed(struct scsi_nexus *n, uint32_t target, const struct scsi_itl *but,
			       enum scsi_event_type type, uint32_t lun)
{
	const struct scsi_map *map = atomic_load(&n->map);
	const struct scsi_map_entry *e;
	uint32_t count = scsi_map_target(map, target, &e);
	const struct scsi_event event = { .type = type, .target = target, .lun = lun };

	for (uint32_t i = 0; i < count; i++) {
		struct scsi_itl *itl = e[i].itl;

		if (itl == but)
			continue;
		pthread_mutex_lock(&itl->lu->lock);
		scsi_ua_add(itl, SCSI_UA_LUNS_CHANGED);
		pthread_mutex_unlock(&itl->lu->lock);
	}
	n->on_event(n->arg, &event);
}

static int nexus_add(struct scsi_nexus *n, const struct host_lun *hl)
{
	struct host_change *c = calloc(1, sizeof(*c));
	struct scsi_itl *itl = itl_new(n, hl);
	struct scsi_map *map = itl ? map_with(atomic_load(&n->map), itl) : NULL;

	if (!c || !map) {
		if (itl)
			itl_unlink(itl);
		itl_free(itl);
		free(c);
		return -ENOMEM;
	}
	c->old_map = atomic_exchange(&n->map, map);
	nexus_luns_changed(n, hl->target, itl, SCSI_EVENT_LUN_ADDED, hl->lun);
	change_start(c);
	return 0;
}

static void nexus_remove(struct scsi_nexus *n, struct host_detach *d, uint32_t target, uint32_t lun)
{
	const struct scsi_map *old = atomic_load(&n->map);
	uint32_t at = map_lower_bound(old, scsi_map_key(target, lun));
	struct scsi_itl *itl;
	struct scsi_map *map;
	struct host_change *c;

	if (at == old->count || old->entries[at].key != scsi_map_key(target, lun))
		return;
	itl = old->entries[at].itl;
	map = map_without(old, itl);
	c = calloc(1, sizeof(*c));
	ASSERT(map && c);
	itl_unlink(itl); /* no more news for it; commands under way still look at it */
	c->gone = itl;
	c->detach = d;
	d->pending++;
	c->old_map = atomic_exchange(&n->map, map);
	nexus_luns_changed(n, target, itl, SCSI_EVENT_LUN_REMOVED, lun);
	change_start(c);
}

/* ---- hosts ---- */

int scsi_host_new(const char *name, struct scsi_host **ret_host, struct err *reterr)
{
	struct scsi_host *host = calloc(1, sizeof(*host));

	if (host)
		host->name = strdup(name);
	if (!host || !host->name) {
		free(host);
		return err_set(reterr, -ENOMEM, "out of memory");
	}
	cdb_init();
	atomic_store(&host->refs, 1);
	list_init(&host->luns);
	list_init(&host->nexuses);
	*ret_host = host;
	return 0;
}

struct scsi_host *scsi_host_ref(struct scsi_host *host)
{
	atomic_fetch_add(&host->refs, 1);
	return host;
}

static void host_lun_free(struct host_lun *hl)
{
	list_remove(&hl->node);
	scsi_lu_unref(hl->lu);
	free(hl);
}

void scsi_host_unref(struct scsi_host *host)
{
	struct host_lun *hl, *next;

	if (!host || atomic_fetch_sub(&host->refs, 1) != 1)
		return;
	ASSERT(list_empty(&host->nexuses));
	list_for_each_safe(hl, next, &host->luns, node)
		host_lun_free(hl);
	blk_limits_unref(host->limits);
	free(host->name);
	free(host);
}

static struct host_lun *host_lun_find(struct scsi_host *host, uint32_t target, uint32_t lun)
{
	struct host_lun *hl;

	list_for_each(hl, &host->luns, node)
		if (hl->target == target && hl->lun == lun)
			return hl;
	return NULL;
}

int scsi_host_attach(struct scsi_host *host, uint32_t target, uint32_t lun, struct scsi_lu *lu,
		     struct err *reterr)
{
	struct host_lun *hl;
	struct scsi_nexus *n;

	if (target >= SCSI_TARGETS_MAX)
		return err_set(reterr, -ERANGE, "target: expected 0..%d, got %u",
			       SCSI_TARGETS_MAX - 1, target);
	if (lun >= SCSI_LUNS_MAX)
		return err_set(reterr, -ERANGE, "lun: expected 0..%d, got %u", SCSI_LUNS_MAX - 1,
			       lun);
	if (host_lun_find(host, target, lun))
		return err_set(reterr, -EEXIST, "target %u, lun %u: given twice", target, lun);
	hl = calloc(1, sizeof(*hl));
	if (!hl)
		return err_set(reterr, -ENOMEM, "out of memory");
	*hl = (struct host_lun){ .target = target, .lun = lun, .lu = scsi_lu_ref(lu) };
	list_append(&host->luns, &hl->node);
	list_for_each(n, &host->nexuses, node)
		if (nexus_add(n, hl) < 0)
			return err_set(reterr, -ENOMEM, "out of memory");
	return 0;
}

int scsi_host_detach(struct scsi_host *host, uint32_t target, uint32_t lun,
		     void (*detached)(void *arg), void *arg, struct err *reterr)
{
	struct host_lun *hl = host_lun_find(host, target, lun);
	struct host_detach *d;
	struct scsi_nexus *n;

	if (!hl)
		return err_set(reterr, -ENOENT, "target %u, lun %u: not there", target, lun);
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_set(reterr, -ENOMEM, "out of memory");
	*d = (struct host_detach){ .pending = 1,
				   .lu = scsi_lu_ref(hl->lu),
				   .host = scsi_host_ref(host),
				   .detached = detached,
				   .arg = arg };
	host_lun_free(hl);
	list_for_each(n, &host->nexuses, node)
		nexus_remove(n, d, target, lun);
	if (--d->pending)
		return 0;
	scsi_lu_unref(d->lu);
	scsi_host_unref(host);
	free(d);
	if (detached)
		detached(arg);
	return 0;
}

uint32_t scsi_host_target_max(const struct scsi_host *host)
{
	return SCSI_TARGETS_MAX - 1; /* any may be plugged in later */
}

uint32_t scsi_host_lun_max(const struct scsi_host *host)
{
	return SCSI_LUNS_MAX - 1;
}

bool scsi_host_has_pi(const struct scsi_host *host)
{
	const struct host_lun *hl;

	list_for_each(hl, &host->luns, node)
		if (hl->lu->pi_type)
			return true;
	return false;
}

/* ---- nexuses (Thread: main) ---- */

static void nexus_free(struct scsi_nexus *n)
{
	struct scsi_map *map = atomic_load(&n->map);

	for (uint32_t i = 0; map && i < map->count; i++) {
		itl_unlink(map->entries[i].itl);
		itl_free(map->entries[i].itl);
	}
	free(map);
	free(n->name);
	free(n);
}

static int nexus_fill(struct scsi_nexus *n)
{
	struct scsi_map *map = map_new(0), *more;
	struct host_lun *hl;

	atomic_store(&n->map, map);
	if (!map || !n->name)
		return -ENOMEM;
	list_for_each(hl, &n->host->luns, node) {
		struct scsi_itl *itl = itl_new(n, hl);

		more = itl ? map_with(map, itl) : NULL;
		if (!more) {
			if (itl)
				itl_unlink(itl);
			itl_free(itl);
			return -ENOMEM;
		}
		free(map);
		map = more;
		atomic_store(&n->map, map);
	}
	return 0;
}

int scsi_nexus_open(struct scsi_host *host, const char *initiator_name,
		    void (*on_event)(void *arg, const struct scsi_event *event), void *arg,
		    struct scsi_nexus **ret_nexus, struct err *reterr)
{
	struct scsi_nexus *n;

	if (!*initiator_name || strlen(initiator_name) > SCSI_NAME_MAX)
		return err_set(reterr, -EINVAL, "initiator: expected 1..%d characters, got %zu",
			       SCSI_NAME_MAX, strlen(initiator_name));
	list_for_each(n, &host->nexuses, node)
		if (!strcmp(n->name, initiator_name))
			return err_set(reterr, -EEXIST, "initiator: '%s' is connected already",
				       initiator_name);
	n = calloc(1, sizeof(*n));
	if (!n)
		return err_set(reterr, -ENOMEM, "out of memory");
	n->host = host;
	n->name = strdup(initiator_name);
	n->on_event = on_event;
	n->arg = arg;
	if (nexus_fill(n) < 0) {
		nexus_free(n);
		return err_set(reterr, -ENOMEM, "out of memory");
	}
	scsi_host_ref(host);
	list_append(&host->nexuses, &n->node);
	*ret_nexus = n;
	return 0;
}

void scsi_nexus_close(struct scsi_nexus *n)
{
	struct scsi_host *host;

	if (!n)
		return;
	ASSERT(!atomic_load(&n->queue_count));
	host = n->host;
	list_remove(&n->node);
	scsi_copy_nexus_gone(n);
	nexus_free(n);
	scsi_host_unref(host);
}

/* ---- queues (Thread: owner loop) ---- */

int scsi_queue_open(struct scsi_nexus *nexus, struct loop *loop, struct scsi_queue **ret_queue,
		    struct err *reterr)
{
	struct scsi_queue *q = calloc(1, sizeof(*q));

	if (q)
		q->sl = scsi_loop_get(loop);
	if (!q || !q->sl) {
		free(q);
		return err_set(reterr, -ENOMEM, "out of memory");
	}
	q->nexus = nexus;
	if (scsi_queue_limits_open(q) < 0) {
		scsi_loop_put(q->sl);
		free(q);
		return err_set(reterr, -ENOMEM, "out of memory");
	}
	list_append(&q->sl->queues, &q->node);
	atomic_fetch_add(&nexus->queue_count, 1);
	*ret_queue = q;
	return 0;
}

void scsi_queue_tally(struct scsi_queue *q, struct blk_tally *tally)
{
	q->tally = tally;
}

void scsi_queue_carries_pi(struct scsi_queue *q)
{
	q->carries_pi = true;
}

void scsi_queue_close(struct scsi_queue *q)
{
	const struct scsi_task *t;

	if (!q)
		return;
	list_for_each(t, &q->sl->tasks, node)
		ASSERT(t->queue != q);
	scsi_queue_limits_close(q);
	scsi_chans_close(&q->chans);
	list_remove(&q->node);
	scsi_loop_put(q->sl);
	atomic_fetch_sub(&q->nexus->queue_count, 1);
	free(q);
}

/* ---- addresses (SAM-6, 4.7) ---- */

uint32_t scsi_lun_decode(const uint8_t lun[8])
{
	uint32_t method = lun[0] >> 6, value = (uint32_t)(lun[0] & 0x3f) << 8 | lun[1];

	for (int i = 2; i < 8; i++)
		if (lun[i])
			return SCSI_LUN_NONE;
	if (method == 1)
		return value;
	if (method == 0 && !lun[0])
		return value;
	if (lun[0] == 0xc1)
		return SCSI_LUN_WELL_KNOWN + lun[1];
	return SCSI_LUN_NONE;
}

void scsi_lun_encode(uint32_t lun, uint8_t ret_lun[8])
{
	memset(ret_lun, 0, 8);
	if (lun >= SCSI_LUN_WELL_KNOWN) {
		ret_lun[0] = 0xc1;
		ret_lun[1] = (uint8_t)lun;
		return;
	}
	ret_lun[0] = (uint8_t)(lun < 256 ? 0 : 0x40 | lun >> 8);
	ret_lun[1] = (uint8_t)lun;
}
