/* Logical units: identity, gates, unit attentions, turns. See scsi_impl.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "scsi/background.h"
#include "scsi/copy.h"
#include "scsi/scsi_impl.h"

/* ---- the numbers of units ---- */

static pthread_mutex_t idx_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t idx_used[SCSI_LUS_MAX / 64];

static int idx_take(uint32_t *ret_idx)
{
	int rc = -ENOSPC;

	pthread_mutex_lock(&idx_lock);
	for (uint32_t i = 0; i < ARRAY_SIZE(idx_used); i++) {
		if (idx_used[i] == UINT64_MAX)
			continue;
		*ret_idx = i * 64 + (uint32_t)__builtin_ctzll(~idx_used[i]);
		idx_used[i] |= 1ull << (*ret_idx % 64);
		rc = 0;
		break;
	}
	pthread_mutex_unlock(&idx_lock);
	return rc;
}

static void idx_give(uint32_t idx)
{
	pthread_mutex_lock(&idx_lock);
	idx_used[idx / 64] &= ~(1ull << (idx % 64));
	pthread_mutex_unlock(&idx_lock);
}

/* ---- gates and unit attentions (lu->lock held) ---- */

void scsi_gate_set(struct scsi_itl *itl, uint32_t mask, bool on)
{
	if (on)
		atomic_fetch_or_explicit(&itl->gate, mask, memory_order_release);
	else
		atomic_fetch_and_explicit(&itl->gate, ~mask, memory_order_release);
}

void scsi_ua_add(struct scsi_itl *itl, enum scsi_ua ua)
{
	itl->ua_mask |= 1u << ua;
	scsi_gate_set(itl, GATE_UA, true);
}

void scsi_ua_add_others(struct scsi_lu *lu, const struct scsi_itl *but, enum scsi_ua ua)
{
	struct scsi_itl *itl;

	list_for_each(itl, &lu->itls, node)
		if (itl != but)
			scsi_ua_add(itl, ua);
}

void scsi_ua_clear(struct scsi_itl *itl, enum scsi_ua ua)
{
	itl->ua_mask &= ~(1u << ua);
	if (!itl->ua_mask)
		scsi_gate_set(itl, GATE_UA, false);
}

enum scsi_ua scsi_ua_take(struct scsi_itl *itl)
{
	enum scsi_ua ua;

	if (!itl->ua_mask)
		return SCSI_UA_COUNT;
	ua = (enum scsi_ua)__builtin_ctz(itl->ua_mask);
	scsi_ua_clear(itl, ua);
	return ua;
}

void scsi_event_others(struct scsi_lu *lu, const struct scsi_itl *but, enum scsi_ua ua)
{
	struct scsi_event event = { .type = SCSI_EVENT_PARAM_CHANGED };
	struct scsi_itl *itl;

	sense_ua_code(ua, &event.asc, &event.ascq);
	list_for_each(itl, &lu->itls, node) {
		if (itl == but)
			continue;
		event.target = itl->target;
		event.lun = itl->lun;
		itl->nexus->on_event(itl->nexus->arg, &event);
	}
}

void scsi_lu_gates_update(struct scsi_lu *lu)
{
	bool protected = lu->read_only || atomic_load_explicit(&lu->mode.swp, memory_order_relaxed);
	bool not_ready = lu->stopped || lu->ejected || lu->sanitize_running || lu->sanitize_failed;
	struct scsi_itl *itl;

	list_for_each(itl, &lu->itls, node) {
		scsi_gate_set(itl, GATE_MEDIUM, not_ready);
		scsi_gate_set(itl, GATE_ALUA, lu->alua_state >= 2);
		scsi_gate_set(itl, GATE_WRITES, protected || lu->token_count);
	}
}

enum scsi_cause scsi_lu_not_ready(struct scsi_lu *lu, struct sense_extra *ret_extra)
{
	if (lu->sanitize_running) {
		ret_extra->has_progress = true;
		ret_extra->progress = (uint16_t)atomic_load_explicit(&lu->sanitize_progress,
								     memory_order_relaxed);
		return SCSI_CAUSE_SANITIZE_PROGRESS;
	}
	if (lu->sanitize_failed)
		return SCSI_CAUSE_SANITIZE_FAILED;
	if (lu->ejected)
		return SCSI_CAUSE_NO_MEDIUM;
	return lu->stopped ? SCSI_CAUSE_NOT_READY_START : SCSI_CAUSE_NONE;
}

void scsi_lu_reset(struct scsi_lu *lu, const struct scsi_itl *by)
{
	struct scsi_itl *itl;

	scsi_resv_legacy_release(lu, NULL);
	scsi_copy_lu_reset(lu);
	scsi_mode_reset(lu);
	lu->stopped = false;
	list_for_each(itl, &lu->itls, node) {
		itl->prevent_removal = false;
		scsi_ua_add(itl, SCSI_UA_DEVICE_RESET);
	}
	scsi_lu_gates_update(lu);
}

/* ---- turns ---- */

static void turn_msg(struct loop_msg *msg)
{
	struct scsi_task *t = container_of(msg, struct scsi_task, msg);

	if (t->abort_end)
		scsi_task_good(t); /* ends as aborted */
	else
		t->turn(t);
}

void scsi_turn_take(struct scsi_task *t, void (*turn)(struct scsi_task *task))
{
	struct scsi_lu *lu = task_lu(t);
	bool mine;

	ASSERT(!t->exclusive);
	t->exclusive = true;
	t->turn = turn;
	pthread_mutex_lock(&lu->lock);
	mine = !lu->turn_holder;
	if (mine)
		lu->turn_holder = t;
	else
		list_append(&lu->turn_waiters, &t->wait_node);
	pthread_mutex_unlock(&lu->lock);
	if (mine)
		turn(t);
}

void scsi_turn_give(struct scsi_task *t)
{
	struct scsi_lu *lu = task_lu(t);
	struct list *n;

	t->exclusive = false;
	pthread_mutex_lock(&lu->lock);
	ASSERT(lu->turn_holder == t);
	n = list_pop(&lu->turn_waiters);
	lu->turn_holder = n ? list_entry(n, struct scsi_task, wait_node) : NULL;
	if (n) {
		lu->turn_holder->msg.fn = turn_msg;
		loop_post(lu->turn_holder->queue->sl->loop, &lu->turn_holder->msg);
	}
	pthread_mutex_unlock(&lu->lock);
}

/* ---- life (Thread: main) ---- */

static void lu_on_resized(struct blk_listener *l)
{
	struct scsi_lu *lu = container_of(l, struct scsi_lu, listener);

	pthread_mutex_lock(&lu->lock);
	scsi_ua_add_others(lu, NULL, SCSI_UA_CAPACITY_CHANGED);
	scsi_event_others(lu, NULL, SCSI_UA_CAPACITY_CHANGED);
	pthread_mutex_unlock(&lu->lock);
}

/* ASCII field of INQUIRY data (SPC-5, 4.3.1). */
static int lu_text(char *field, size_t size, const char *key, const char *text, const char *def,
		   struct err *reterr)
{
	return text_pad(field, size, key, text ? text : def, reterr);
}

static int lu_identity(struct scsi_lu *lu, const struct scsi_lu_params *p, struct err *reterr)
{
	char serial[64];
	int rc = lu_text(lu->vendor, sizeof(lu->vendor), "vendor", p->vendor, "vhostd", reterr);

	if (rc == 0)
		rc = lu_text(lu->product, sizeof(lu->product), "product", p->product, "disk",
			     reterr);
	if (rc == 0)
		rc = lu_text(lu->revision, sizeof(lu->revision), "revision", p->revision, "0001",
			     reterr);
	if (rc == 0)
		rc = lu_text(serial, sizeof(serial), "serial", p->serial, p->name, reterr);
	if (rc < 0)
		return rc;
	lu->name = strdup(p->name);
	lu->serial = strdup(p->serial ? p->serial : p->name);
	lu->state_path = p->state_path ? strdup(p->state_path) : NULL;
	if (!lu->name || !lu->serial || (p->state_path && !lu->state_path))
		return err_set(reterr, -ENOMEM, "out of memory");
	lu->wwn = p->wwn ? p->wwn : 3ull << 60 | text_hash(TEXT_HASH_START, lu->serial) >> 4;
	return 0;
}

static void lu_free(struct scsi_lu *lu)
{
	void (*closed)(void *arg) = lu->closed;
	void *arg = lu->closed_arg;

	scsi_live_fini(lu);
	scsi_copy_lu_gone(lu);
	if (lu->dev) {
		blk_dev_unlisten(&lu->listener);
		blk_dev_unref(lu->dev);
		scsi_resv_fini(lu);
		idx_give(lu->idx);
	}
	pthread_mutex_destroy(&lu->lock);
	free(lu->name);
	free(lu->serial);
	free(lu->state_path);
	free(lu);
	if (closed)
		closed(arg);
}

static int lu_open(struct scsi_lu *lu, const struct scsi_lu_params *p, struct err *reterr)
{
	int rc = idx_take(&lu->idx);

	if (rc < 0)
		return err_set(reterr, rc, "expected at most %d logical units", SCSI_LUS_MAX);
	lu->dev = blk_dev_ref(p->dev);
	lu->caps = blk_dev_caps(p->dev);
	lu->block_bytes = lu->caps->block_bytes;
	lu->block_shift = (uint32_t)__builtin_ctz(lu->block_bytes);
	lu->read_only = p->read_only || lu->caps->read_only;
	lu->rotation_rpm = p->rotation_rpm;
	lu->removable = p->removable;
	lu->phys_bytes = MAX(p->phys_bytes ? p->phys_bytes : lu->caps->phys_bytes, lu->block_bytes);
	lu->pi_type = lu->caps->pi_type;
	lu->listener.resized = lu_on_resized;
	blk_dev_listen(lu->dev, &lu->listener);
	scsi_mode_init(lu);
	scsi_resv_init(lu);
	return scsi_state_load(lu, reterr);
}

int scsi_lu_new(const struct scsi_lu_params *p, struct scsi_lu **ret_lu, struct err *reterr)
{
	struct scsi_lu *lu = calloc(1, sizeof(*lu));
	int rc;

	if (!lu)
		return err_set(reterr, -ENOMEM, "out of memory");
	cdb_init();
	atomic_store(&lu->refs, 1);
	pthread_mutex_init(&lu->lock, NULL);
	list_init(&lu->itls);
	list_init(&lu->turn_waiters);
	list_init(&lu->expected);
	rc = lu_identity(lu, p, reterr);
	if (rc == 0)
		rc = lu_open(lu, p, reterr);
	if (rc < 0) {
		lu_free(lu);
		return rc;
	}
	lu->closed = p->closed;
	lu->closed_arg = p->arg;
	*ret_lu = lu;
	return 0;
}

struct scsi_lu *scsi_lu_ref(struct scsi_lu *lu)
{
	atomic_fetch_add(&lu->refs, 1);
	return lu;
}

struct lu_closing {
	struct sweep sweep;
	struct scsi_lu *lu;
};

static void lu_closed(struct sweep *sweep)
{
	struct lu_closing *c = container_of(sweep, struct lu_closing, sweep);

	lu_free(c->lu);
	free(c);
}

/* Its channels go first, each on its loop. */
static void lu_close(struct scsi_lu *lu)
{
	struct lu_closing *c;

	if (!scsi_loops_any()) {
		lu_free(lu);
		return;
	}
	c = calloc(1, sizeof(*c));
	ASSERT(c);
	c->lu = lu;
	c->sweep.action = SWEEP_CLOSE_CHAN;
	c->sweep.lu = lu;
	c->sweep.done = lu_closed;
	ASSERT(sweep_start(&c->sweep));
}

void scsi_lu_unref(struct scsi_lu *lu)
{
	if (!lu || atomic_fetch_sub(&lu->refs, 1) != 1)
		return;
	ASSERT(list_empty(&lu->itls));
	if (!scsi_background_defers(lu, lu_close))
		lu_close(lu);
}
