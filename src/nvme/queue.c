/*
 * Queues on their loop: fetching submission queue entries, posting completion queue entries, and
 * what is to be done between the two when a queue is to be quiet or to end. See queue.h.
 *
 * A doorbell is a word of memory that the guest writes; what is in it is looked at, checked and
 * then only the copy counts. A tail or head out of range is a lie: it is not followed, and the
 * guest gets an event.
 */
#include <string.h>

#include "nvme/nvme_impl.h"
#include "nvme/ring_remote.h"

static inline uint32_t word_get(const uint32_t *word)
{
	return le32toh(__atomic_load_n(word, __ATOMIC_ACQUIRE)) & 0xffff;
}

static inline void word_set(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, htole32(value & 0xffff), __ATOMIC_RELAXED);
}

/* ---- doorbells ---- */

/*
 * The event words. While a queue is polled the guest's next value must not pass the one in there:
 * what lies one behind the last one seen is passed only by a lie.
 */
static inline void sq_event_quiet(struct nvme_sq *sq)
{
	if (unlikely(sq->event_word))
		word_set(sq->event_word, sq->head - 1);
}

static inline void cq_event_quiet(struct nvme_cq *cq)
{
	if (unlikely(cq->event_word))
		word_set(cq->event_word, cq->head - 1);
}

static inline void sq_look(struct nvme_sq *sq)
{
	uint32_t tail = word_get(sq->tail_word);

	if (likely(tail < sq->size))
		sq->tail = tail;
	else
		nvme_sq_lie(sq, tail);
}

/* Entries that the guest took since the last look become credits. Is there one? */
static bool cq_refill(struct nvme_cq *cq)
{
	uint32_t head = word_get(cq->head_word), freed, used;

	if (head == cq->head)
		return cq->credits;
	freed = head >= cq->head ? head - cq->head : head + cq->size - cq->head;
	used = cq->tail >= cq->head ? cq->tail - cq->head : cq->tail + cq->size - cq->head;
	if (unlikely(head >= cq->size || freed > used)) {
		nvme_cq_lie(cq, head);
		return cq->credits;
	}
	cq->head = head;
	cq->credits += freed;
	cq_event_quiet(cq);
	return cq->credits;
}

bool nvme_cq_is_unread(struct nvme_cq *cq)
{
	cq_refill(cq);
	return cq->head != cq->tail;
}

/* ---- commands ---- */

static void cmd_init(struct nvme_sq *sq, struct nvme_cmd *c)
{
	c->sq = sq;
	c->mem = &sq->cq->mem;
}

/* A slot, and a credit for its completion; NULL: later. */
static inline struct nvme_cmd *cmd_take(struct nvme_cq *cq, struct nvme_sq *sq, uint64_t now_ns)
{
	struct nvme_cmd *c = sq->free;

	if (unlikely(!cq->credits) && !cq_refill(cq))
		return NULL;
	if (likely(c)) {
		sq->free = c->free_next;
	} else if (sq->slots_used < sq->slot_count) {
		c = &sq->slots[sq->slots_used++];
		cmd_init(sq, c);
	} else {
		cq->starved = true;
		return NULL;
	}
	cq->credits--;
	sq->outstanding++;
	if (!VHOSTD_UNCOUNTED)
		c->fetched_ns = now_ns;
	c->busy = true;
	return c;
}

static inline void cmd_release(struct nvme_cq *cq, struct nvme_sq *sq, struct nvme_cmd *c)
{
	c->busy = false;
	c->free_next = sq->free;
	sq->free = c;
	sq->outstanding--;
	if (!cq->unpublished++)
		fifo_push(&loop_fifos(cq->loop)->publish, &cq->publish.node);
}

/* The second word has the phase tag: it is stored last, and whole (base 4.6). */
static inline void cqe_store(struct nvme_cqe *to, const struct nvme_cqe *cqe)
{
	uint64_t word[2];

	memcpy(word, cqe, sizeof(word));
	__atomic_store_n((uint64_t *)to, word[0], __ATOMIC_RELAXED);
	__atomic_store_n((uint64_t *)to + 1, word[1], __ATOMIC_RELEASE);
}

/*
 * Writes what is held to the ring, the first entry last: a guest that looks at it all the time
 * neither slows the others down nor finds them one by one.
 */
static void cqes_show(struct nvme_cq *cq)
{
	uint32_t at = cq->tail;

	for (uint32_t i = cq->held; i--;) {
		at = (at ? at : cq->size) - 1;
		cqe_store(&cq->ring[at], &cq->hold[i]);
	}
	cq->held = 0;
}

static inline void cqe_put(struct nvme_cq *cq, struct nvme_sq *sq, struct nvme_cmd *c)
{
	uint32_t status = c->status;
	struct nvme_cqe cqe = {
		.dw0 = le32(c->dw0),
		.dw1 = le32(c->dw1),
		.sqhd = le16((uint16_t)sq->head),
		.sqid = le16(sq->qid),
		.cid = le16(c->cid),
		.status = le16((uint16_t)(status << 1 | cq->phase)),
	};

	if (unlikely(cq->held == NVME_CQES_HELD))
		cqes_show(cq);
	cq->hold[cq->held++] = cqe;
	if (unlikely(++cq->tail == cq->size)) {
		cq->tail = 0;
		cq->phase ^= 1;
	}
}

/*
 * It has ended, and only waits for the guest to take what is in the completion queue. Sweeps do
 * not wait for that: the guest would hold up an Abort, and with it each quiesce.
 */
static void cmd_stick(struct nvme_cq *cq, struct nvme_cmd *c)
{
	list_append(&cq->stuck, &c->wait_node);
	cq->gate |= CQ_STUCK;
	c->extra |= NVME_CMD_STUCK;
	if (!c->swept)
		return;
	c->swept = 0;
	nvme_sweep_cmd_ended(c);
}

/* A parked command has no entry yet: false, and it waits, when there is none now. */
static bool cmd_unpark(struct nvme_cq *cq, struct nvme_cmd *c)
{
	if (cq->gate & CQ_STILL || !(cq->credits || cq_refill(cq))) {
		cmd_stick(cq, c);
		return false;
	}
	cq->credits--;
	c->sq->parked--;
	c->extra &= (uint8_t)~NVME_CMD_PARKED;
	return true;
}

void nvme_cmd_complete(struct nvme_cmd *c)
{
	struct nvme_sq *sq = c->sq;
	struct nvme_cq *cq = sq->cq;
	bool swept;

	if (c->abort == NVME_ABORT_DROP) {
		if (c->extra & NVME_CMD_PARKED)
			sq->parked--;
	} else {
		if (c->extra & NVME_CMD_PARKED && !cmd_unpark(cq, c))
			return;
		if (c->status && nvme_status_dnr((enum nvme_status)c->status))
			c->status |= 1u << 14;
		cqe_put(cq, sq, c);
	}
	swept = c->swept;
	c->unusual = 0;
	cmd_release(cq, sq, c);
	if (swept)
		nvme_sweep_cmd_ended(c);
}

struct nvme_cmd *nvme_cmd_restore(struct nvme_sq *sq, uint16_t cid)
{
	struct nvme_cmd *c = &sq->slots[sq->slots_used++];

	ASSERT(sq->slots_used <= sq->slot_count);
	cmd_init(sq, c);
	c->sqe.opcode = NVME_ADMIN_AER;
	c->sqe.cid = le16(cid);
	c->cid = cid;
	c->row = sq->cq->rows[NVME_ADMIN_AER];
	c->busy = true;
	c->extra = NVME_CMD_PARKED;
	sq->outstanding++;
	sq->parked++;
	return c;
}

void nvme_cmd_restore_done(struct nvme_cmd *c, uint16_t status)
{
	c->status = status;
	cmd_stick(c->sq->cq, c);
}

static void cq_unstick(struct nvme_cq *cq)
{
	struct list stuck;
	struct list *node;

	cq->gate &= ~CQ_STUCK;
	list_init(&stuck);
	while ((node = list_pop(&cq->stuck)))
		list_append(&stuck, node);
	while ((node = list_pop(&stuck)))
		nvme_cmd_complete(list_entry(node, struct nvme_cmd, wait_node));
}

void nvme_cmd_end(struct nvme_cmd *c, enum nvme_status status)
{
	struct nvme_sq *sq = c->sq;
	struct nvme_cq *cq = sq->cq;

	c->status = (uint16_t)status;
	if (unlikely(__atomic_load_n(&c->unusual, __ATOMIC_RELAXED) | status)) {
		nvme_cmd_end_slow(c);
		return;
	}
	cqe_put(cq, sq, c);
	cmd_release(cq, sq, c);
}

/* What a slot may have of an earlier command. */
static inline void cmd_fill(struct nvme_cq *cq, struct nvme_cmd *c)
{
	c->cid = le16_get(c->sqe.cid);
	c->nsid = le32_get(c->sqe.nsid);
	c->dw0 = c->dw1 = 0;
	c->epoch = cq->epoch;
	c->nsq = NULL;
}

static inline void cmd_start(struct nvme_cq *cq, struct nvme_cmd *c)
{
	const struct nvme_row *row = cq->rows[c->sqe.opcode];
	uint32_t nsid = le32_get(c->sqe.nsid);
	struct nvme_nsq *nsq = NULL;

	c->row = row;
	cmd_fill(cq, c);
	if (likely(row && row->flags & CMD_NS)) {
		uint32_t gate;

		nsq = nsid <= NVME_NSID_MAX ? cq->nsqs[nsid] : NULL;
		if (unlikely(!nsq)) {
			nvme_cmd_start_slow(c);
			return;
		}
		c->nsq = nsq;
		gate = atomic_load_explicit(&nsq->att->gate, memory_order_relaxed);
		if (unlikely(gate & (row->flags | GATE_ANA))) {
			nvme_cmd_start_gated(c, gate);
			return;
		}
		row->run(c);
		return;
	}
	nvme_cmd_start_slow(c);
}

/* ---- fetching ---- */

static inline uint32_t sq_next(const struct nvme_sq *sq, uint32_t at)
{
	return at + 1 == sq->size ? 0 : at + 1;
}

/* Once, and from here only the copy counts. */
static inline void sqe_copy(struct nvme_sq *sq, struct nvme_cmd *c)
{
	memcpy(&c->sqe, &sq->ring[sq->head], sizeof(c->sqe));
	__asm__ volatile("" ::: "memory");
}

static void cmd_untake(struct nvme_cq *cq, struct nvme_sq *sq, struct nvme_cmd *c)
{
	c->busy = false;
	c->free_next = sq->free;
	sq->free = c;
	sq->outstanding--;
	cq->credits++;
}

static void cmd_read(struct nvme_cq *cq, struct nvme_cmd *c)
{
	c->row = cq->rows[c->sqe.opcode];
	cmd_fill(cq, c);
}

static void cmd_start_as(struct nvme_cq *cq, struct nvme_cmd *c, enum nvme_status status)
{
	cmd_read(cq, c);
	nvme_cmd_end(c, status);
}

/*
 * A fused pair (base 6.1): two entries, one behind the other, made visible by one write of the
 * doorbell. The first half gets to know the second one and ends both. Returns how many entries
 * were taken; 0: there is no room for both now.
 */
static uint32_t sq_fetch_fused(struct nvme_cq *cq, struct nvme_sq *sq, struct nvme_cmd *first)
{
	struct nvme_cmd *second;
	uint32_t next = sq_next(sq, sq->head);
	uint8_t flags = first->sqe.flags;

	if (flags & NVME_SQE_RESERVED || (flags & NVME_SQE_FUSE_MASK) == NVME_SQE_FUSE_MASK) {
		sq->head = next;
		cmd_start_as(cq, first, NVME_SC_INVALID_FIELD);
		return 1;
	}
	if (next == sq->tail || flags & NVME_SQE_FUSE_SECOND) {
		sq->head = next;
		cmd_start_as(cq, first, NVME_SC_ABORTED_MISSING_FUSED);
		return 1;
	}
	/* An abort of its own, should the queue be too small for two: it would wait for ever. */
	if (cq->size < 3) {
		sq->head = next;
		cmd_start_as(cq, first, NVME_SC_ABORTED_MISSING_FUSED);
		return 1;
	}
	second = cmd_take(cq, sq, first->fetched_ns);
	if (!second) {
		cmd_untake(cq, sq, first);
		return 0;
	}
	sq->head = next;
	sqe_copy(sq, second);
	if ((second->sqe.flags & (NVME_SQE_FUSE_MASK | NVME_SQE_RESERVED)) !=
	    NVME_SQE_FUSE_SECOND) {
		cmd_untake(cq, sq, second);
		cmd_start_as(cq, first, NVME_SC_ABORTED_MISSING_FUSED);
		return 1;
	}
	sq->head = sq_next(sq, sq->head);
	cmd_read(cq, first);
	cmd_read(cq, second);
	nvme_cmd_start_fused(first, second);
	return 2;
}

/* The guest's core has just written them: they come from there side by side, not in turn. */
static inline void sq_prefetch(const struct nvme_sq *sq)
{
	uint32_t end = sq->tail >= sq->head ? sq->tail : sq->size;

	end = MIN(end, sq->head + NVME_POLL_BUDGET);
	for (uint32_t i = sq->head; i < end; i++)
		__builtin_prefetch(&sq->ring[i]);
}

static inline uint32_t sq_fetch(struct nvme_cq *cq, struct nvme_sq *sq)
{
	uint64_t now_ns = loop_now_ns(cq->loop);
	uint32_t n = 0;

	sq_look(sq);
	sq_prefetch(sq);
	while (sq->head != sq->tail && n < NVME_POLL_BUDGET) {
		struct nvme_cmd *c = cmd_take(cq, sq, now_ns);

		if (unlikely(!c))
			break;
		sqe_copy(sq, c);
		if (unlikely(c->sqe.flags & (NVME_SQE_FUSE_MASK | NVME_SQE_RESERVED))) {
			uint32_t taken = sq_fetch_fused(cq, sq, c);

			n += taken;
			if (!taken)
				break;
			continue;
		}
		sq->head = sq_next(sq, sq->head);
		n++;
		cmd_start(cq, c);
	}
	if (n)
		sq_event_quiet(sq);
	return n;
}

/* Submission queues take turns: who had a whole budget goes to the end. */
static uint32_t cq_fetch_many(struct nvme_cq *cq)
{
	struct nvme_sq *sq, *next;
	uint32_t n = 0;

	list_for_each_safe(sq, next, &cq->sqs, node) {
		uint32_t more = sq_fetch(cq, sq);

		n += more;
		if (n < NVME_POLL_BUDGET)
			continue;
		list_remove(&sq->node);
		list_append(&cq->sqs, &sq->node);
		break;
	}
	return n;
}

uint32_t nvme_cq_poll(struct nvme_cq *cq)
{
	struct list *first = cq->sqs.next;

	if (unlikely(atomic_load_explicit(&cq->gate, memory_order_relaxed))) {
		if (cq->gate & CQ_HOLD)
			return 0;
		if (cq->gate & CQ_REMOTE)
			nvme_ring_remote_look(cq);
		cq_unstick(cq);
	}
	if (likely(first != &cq->sqs && first->next == &cq->sqs))
		return sq_fetch(cq, list_entry(first, struct nvme_sq, node));
	return cq_fetch_many(cq);
}

static uint32_t cq_source_poll(struct loop_source *source)
{
	struct nvme_cq *cq = container_of(source, struct nvme_cq, source);
	uint32_t n = nvme_cq_poll(cq);

	queue_count_poll(&cq->counts, n);
	return n;
}

/* ---- sleeping ---- */

static bool cq_has_work(struct nvme_cq *cq)
{
	struct nvme_sq *sq;

	if (!cq->credits && !cq_refill(cq))
		return false;
	if (cq->gate & CQ_STUCK)
		return true;
	list_for_each(sq, &cq->sqs, node) {
		sq_look(sq);
		if (sq->head != sq->tail && (sq->free || sq->slots_used < sq->slot_count))
			return true;
	}
	return false;
}

static void cq_events_quiet(struct nvme_cq *cq)
{
	struct nvme_sq *sq;

	if (cq->gate & CQ_HOLD)
		return;
	cq_event_quiet(cq);
	list_for_each(sq, &cq->sqs, node)
		sq_event_quiet(sq);
}

/*
 * With event words the guest rings from here on: for a new tail, and for a new head when a full
 * completion queue is all that is waited for. Pairs with the guest's barrier between its write of
 * the doorbell and its look at the event word.
 */
static void cq_events_arm(struct nvme_cq *cq)
{
	struct nvme_sq *sq;

	if (cq->event_word)
		word_set(cq->event_word, cq->credits ? cq->head - 1 : cq->head);
	list_for_each(sq, &cq->sqs, node)
		if (sq->event_word)
			word_set(sq->event_word, sq->head);
	atomic_thread_fence(memory_order_seq_cst);
}

static bool cq_source_arm(struct loop_source *source)
{
	struct nvme_cq *cq = container_of(source, struct nvme_cq, source);

	if (cq->gate & CQ_HOLD)
		return true;
	if (source->kick_fd == LOOP_KICK_WAKE)
		cq_events_arm(cq);
	/* What a transfer brings wakes the source. */
	if (cq->gate & CQ_REMOTE)
		nvme_ring_remote_look(cq);
	if (!cq_has_work(cq))
		return true;
	cq_events_quiet(cq);
	return false;
}

static void cq_source_disarm(struct loop_source *source)
{
	cq_events_quiet(container_of(source, struct nvme_cq, source));
}

static const struct loop_source_ops cq_source_ops = {
	.poll = cq_source_poll,
	.arm = cq_source_arm,
	.disarm = cq_source_disarm,
};

/* ---- publishing ---- */

/* What was written since the last time, which may be all of it. */
static void cq_dirty(struct nvme_cq *cq, uint32_t posted)
{
	uint32_t from = cq->tail >= posted ? cq->tail - posted : cq->tail + cq->size - posted;
	const uint64_t entry = sizeof(*cq->ring);

	if (posted >= cq->size || from > cq->tail) {
		gdirty_mark(cq->mem.dirty, gpa(cq->base), cq->size * entry);
		return;
	}
	gdirty_mark(cq->mem.dirty, gpa(cq->base + from * entry), posted * entry);
}

static void cq_publish(struct loop_work *work)
{
	struct nvme_cq *cq = container_of(work, struct nvme_cq, publish);
	uint32_t posted = cq->unpublished;

	cq->unpublished = 0;
	count_add(&cq->counts.publishes, 1);
	count_add(&cq->counts.completed, posted);
	cqes_show(cq);
	if (likely(!(cq->gate & CQ_STOPPING))) {
		if (unlikely(cq->mem.dirty))
			cq_dirty(cq, posted);
		if (unlikely(cq->remote) && nvme_ring_remote_publish(cq))
			; /* told when it is there */
		else if (cq->ien)
			nvme_irq_posted(cq, posted);
	}
	if (unlikely(cq->settle) && nvme_cq_settle(cq))
		return;
	loop_source_answered(&cq->source);
	if (unlikely(cq->starved)) {
		cq->starved = false;
		loop_source_wake(&cq->source);
	}
}

void nvme_cq_loop_init(struct nvme_cq *cq)
{
	cq->publish.fn = cq_publish;
	cq->source = (struct loop_source){
		.ops = &cq_source_ops,
		.kick_fd = cq->ctrl->params.doorbells_polled ? LOOP_KICK_TIMER : LOOP_KICK_WAKE,
		.spin_max_ns = cq->ctrl->params.spin_ns,
	};
}
