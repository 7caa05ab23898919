/*
 * The program of fuzz_vhost.c: one byte names the operation, the next ones are its operands. After
 * the input's end operands are 0. OP_SETUP is a whole legal start, so that depth costs few bytes;
 * everything else is a small step, legal or not.
 */
#ifndef FUZZ_VHOST_OPS_H
#define FUZZ_VHOST_OPS_H

enum op {
	OP_MESSAGE, /* a legal message */
	OP_BENT,    /* a legal message with a byte, its size or its descriptors changed */
	OP_RAW,	    /* header, payload and descriptors as the input says */
	OP_BYTES,   /* bytes of no message: half of one, for instance */
	OP_SETUP,   /* features, memory, some rings with everything, enabled */
	OP_CHAIN,   /* a block request, more or less, made available */
	OP_KICK,
	OP_WRITE, /* bytes into guest memory, or the in-flight file */
	OP_TRUNCATE,
	OP_WAIT, /* some turns of the loops */
	OP_DEAF,
	OP_HANG_UP,
	OP_HOLD, /* the disk completes nothing, or goes on */
	OP_RESIZE,
	OP_CRASH, /* of the daemon: it comes back to memory as it was in the middle of work */
	OP_COUNT,
};

struct words {
	struct msg_hdr hdr;
	union {
		uint64_t u64;
		struct msg_state state;
		struct msg_addr addr;
		struct msg_mem_table mem_table;
		struct msg_mem_reg mem_reg;
		struct msg_log log;
		struct msg_config config;
		struct msg_inflight inflight;
		uint8_t bytes[MSG_PAYLOAD_MAX];
	};
	uint32_t fd_count;
	uint8_t fds[MSG_REGIONS_MAX]; /* enum fd_kind */
};

static uint8_t take8(struct front *f)
{
	uint8_t v;

	bytes_take(&f->in, &v, sizeof(v));
	return v;
}

static uint16_t take16(struct front *f)
{
	uint16_t v;

	bytes_take(&f->in, &v, sizeof(v));
	return v;
}

static void words_send(struct front *f, const struct words *w)
{
	uint8_t bytes[MSG_HDR_BYTES + MSG_PAYLOAD_MAX];
	size_t size = MIN(w->hdr.size, (uint32_t)MSG_PAYLOAD_MAX);
	int fds[MSG_REGIONS_MAX];

	for (uint32_t i = 0; i < w->fd_count; i++)
		fds[i] = front_fd(f, w->fds[i]);
	memcpy(bytes, &w->hdr, MSG_HDR_BYTES);
	memcpy(bytes + MSG_HDR_BYTES, w->bytes, size);
	front_send(f, bytes, MSG_HDR_BYTES + size, fds, w->fd_count);
}

/* ---- legal messages ---- */

static void words_fd(struct words *w, enum fd_kind kind)
{
	w->fds[w->fd_count++] = (uint8_t)kind;
}

static struct msg_region region_of(int i)
{
	return (struct msg_region){ .gpa = (uint64_t)i * FILE_BYTES,
				    .size_bytes = FILE_BYTES,
				    .uva = UVA(i) };
}

/* Bits of the operand take features away: 0 is all that is offered but packed and log. */
static uint64_t features_of(struct front *f, uint8_t operand)
{
	uint64_t features = session_features_offered(f->session);
	uint64_t off =
		(operand & 1 ? 0 : VIRTIO_F_RING_PACKED) | (operand & 2 ? 0 : VHOST_F_LOG_ALL) |
		(operand & 4 ? VIRTIO_F_EVENT_IDX : 0) | (operand & 8 ? 0 : VIRTIO_F_IN_ORDER) |
		(operand & 16 ? VIRTIO_F_INDIRECT_DESC : 0) |
		(operand & 32 ? VHOST_USER_F_PROTOCOL : 0) | (operand & 64 ? 1ull << 9 : 0);

	return features & ~off;
}

static void words_features(struct front *f, struct words *w, uint8_t operand)
{
	w->u64 = f->features = features_of(f, operand);
	for (uint32_t r = 0; r < RINGS; r++)
		f->rings[r] = (struct guest_ring){ .wrap = true };
}

static void words_addr(struct front *f, struct words *w, uint8_t operand)
{
	uint64_t ring = UVA(0) + RING_AT(w->addr.idx);

	w->addr.desc = ring;
	w->addr.avail = ring + AVAIL_AT;
	w->addr.used = ring + USED_AT;
	w->addr.flags = operand >> 7;
	w->addr.log = RING_AT(w->addr.idx) + USED_AT;
}

static void words_config(struct words *w, bool set, uint8_t operand)
{
	w->config.offset = set ? 32 : operand & 0x3f;
	w->config.size = set ? 1 : 60;
	w->config.bytes[0] = set ? operand & 1 : 0;
	w->hdr.size = MSG_CONFIG_HDR_BYTES + w->config.size;
}

static void words_ring_state(struct front *f, struct words *w, uint8_t operand)
{
	bool packed = f->features & VIRTIO_F_RING_PACKED;

	w->state.idx = operand & 3;
	if (w->hdr.request == MSG_SET_VRING_NUM)
		w->state.num = operand & 0x80 ? 1u << (operand >> 4 & 7) : RING_ENTRIES;
	else if (w->hdr.request == MSG_SET_VRING_BASE)
		w->state.num = packed ? 0x80008000u : operand >> 2;
	else
		w->state.num = !(operand & 4);
}

static void words_mem_table(struct words *w)
{
	w->mem_table.count = 2;
	w->mem_table.regions[0] = region_of(0);
	w->mem_table.regions[1] = region_of(1);
	w->hdr.size = 8 + 2 * sizeof(struct msg_region);
	words_fd(w, FD_MEM_A);
	words_fd(w, FD_MEM_B);
}

static void words_bell(struct words *w, enum fd_kind kind, uint8_t operand)
{
	w->u64 = (operand & 3) | (operand & 4 ? MSG_VRING_NOFD : 0);
	if (!(operand & 4))
		words_fd(w, kind);
}

static void words_inflight(struct front *f, struct words *w, uint8_t operand)
{
	struct stat st;

	w->inflight.queue_count = 1 + (operand & 1);
	w->inflight.queue_size = RING_ENTRIES << (operand >> 6);
	if (w->hdr.request == MSG_GET_INFLIGHT_FD)
		return;
	ASSERT(!fstat(front_fd(f, FD_INFLIGHT), &st));
	w->inflight.mmap_size = (uint64_t)st.st_size;
	words_fd(w, FD_INFLIGHT);
}

/* The payload of a legal message; those not named have none, or a u64. */
static void words_fill(struct front *f, struct words *w, uint8_t operand)
{
	switch (w->hdr.request) {
	case MSG_SET_FEATURES:
		words_features(f, w, operand);
		break;
	case MSG_SET_PROTOCOL_FEATURES:
		w->u64 = session_proto_features_offered() & ~(uint64_t)operand;
		break;
	case MSG_SET_MEM_TABLE:
		words_mem_table(w);
		break;
	case MSG_ADD_MEM_REG:
	case MSG_REM_MEM_REG:
		w->mem_reg.region = region_of(operand & 3);
		if (w->hdr.request == MSG_ADD_MEM_REG || operand & 4)
			words_fd(w, FD_MEM_A + (operand & 1));
		break;
	case MSG_SET_LOG_BASE:
		w->log.size_bytes = operand & 1 ? 4 : 4096;
		words_fd(w, FD_LOG);
		break;
	case MSG_SET_VRING_ADDR:
		w->addr.idx = operand & 3;
		words_addr(f, w, operand);
		break;
	case MSG_SET_VRING_NUM:
	case MSG_SET_VRING_BASE:
	case MSG_GET_VRING_BASE:
	case MSG_SET_VRING_ENABLE:
		words_ring_state(f, w, operand);
		break;
	case MSG_SET_VRING_KICK:
		words_bell(w, FD_KICK, operand);
		break;
	case MSG_SET_VRING_CALL:
	case MSG_SET_VRING_ERR:
		words_bell(w, FD_CALL, operand);
		break;
	case MSG_SET_BACKEND_REQ_FD:
		words_fd(w, FD_SOCKET);
		break;
	case MSG_GET_CONFIG:
	case MSG_SET_CONFIG:
		words_config(w, w->hdr.request == MSG_SET_CONFIG, operand);
		break;
	case MSG_GET_INFLIGHT_FD:
	case MSG_SET_INFLIGHT_FD:
		words_inflight(f, w, operand);
		break;
	case MSG_SET_STATUS:
		w->u64 = operand;
		break;
	default:
		break;
	}
}

static void words_make(struct front *f, struct words *w, uint32_t request, uint8_t operand)
{
	const struct msg_row *row = msg_row_find(request);

	*w = (struct words){ .hdr = { request, MSG_VERSION, row ? row->shape.size_min : 0 } };
	words_fill(f, w, operand);
}

static void say(struct front *f, uint32_t request, uint8_t operand)
{
	struct words w;

	words_make(f, &w, request, operand);
	words_send(f, &w);
}

/* ---- operations ---- */

static void op_message(struct front *f, bool bent)
{
	uint8_t number = take8(f), operand = take8(f), how = bent ? take8(f) : 0;
	struct words w;

	words_make(f, &w, msg_table[(number & 0x7f) % msg_table_count].shape.number, operand);
	if (number & 0x80)
		w.hdr.flags |= MSG_NEED_REPLY;
	if (how & 1) {
		uint8_t at = take8(f);

		w.bytes[at] ^= take8(f);
	}
	if (how & 2)
		w.hdr.size += (uint32_t)(int8_t)take8(f);
	if (how & 4 && w.fd_count)
		w.fds[take8(f) % w.fd_count] = take8(f);
	if (how & 8)
		words_fd(&w, take8(f));
	if (how & 16 && w.fd_count)
		w.fd_count--;
	if (how & 32)
		w.hdr.flags ^= take8(f);
	if (how & 64)
		bytes_take(&f->in, w.bytes, MIN(MIN(w.hdr.size, 64u), f->in.left_bytes));
	words_send(f, &w);
}

static void op_raw(struct front *f)
{
	uint8_t request = take8(f), flags = take8(f);
	struct words w = { .hdr = { request, flags, take16(f) } };
	uint8_t fds = take8(f) % (MSG_REGIONS_MAX + 1);
	size_t given;

	while (w.fd_count < fds && f->in.left_bytes)
		words_fd(&w, take8(f));
	given = MIN((size_t)w.hdr.size, (size_t)MSG_PAYLOAD_MAX);
	bytes_take(&f->in, w.bytes, MIN(given, f->in.left_bytes));
	words_send(f, &w);
}

/* Also more descriptors than a message may have. */
static void op_bytes(struct front *f)
{
	uint8_t bytes[256], len = take8(f), fd_count = take8(f) & 63, kind = take8(f);
	int fds[64];

	for (uint32_t i = 0; i < fd_count; i++)
		fds[i] = front_fd(f, kind + i);
	len = (uint8_t)MIN((size_t)len, f->in.left_bytes);
	bytes_take(&f->in, bytes, len);
	if (len)
		front_send(f, bytes, len, fds, fd_count);
}

static void op_setup(struct front *f)
{
	uint8_t features = take8(f), rings = take8(f) % RINGS + 1, more = take8(f);

	if (!(more & 1))
		say(f, MSG_SET_PROTOCOL_FEATURES, 0);
	say(f, MSG_SET_FEATURES, features);
	if (more & 2)
		say(f, MSG_SET_LOG_BASE, 0);
	if (more & 8)
		say(f, MSG_GET_INFLIGHT_FD, 0);
	front_settle(f);
	if (more & 4)
		say(f, MSG_SET_INFLIGHT_FD, 0);
	say(f, MSG_SET_MEM_TABLE, 0);
	for (uint8_t r = 0; r < rings; r++) {
		say(f, MSG_SET_VRING_NUM, r);
		say(f, MSG_SET_VRING_BASE, r);
		say(f, MSG_SET_VRING_ADDR, r | (more & 0x80));
		if (!(more & 16))
			say(f, MSG_SET_VRING_CALL, r);
		say(f, MSG_SET_VRING_KICK, r | (more & 32 ? 4 : 0));
		say(f, MSG_SET_VRING_ENABLE, r);
	}
}

/* Where: half of the values are in the data file at a distance of 256, the rest anywhere near. */
static uint64_t take_gpa(struct front *f)
{
	uint8_t where = take8(f);

	if (where < 0x80)
		return FILE_BYTES + where * 256u;
	if (where < 0xf0)
		return (where & 0x7f) * 1024u; /* over the border, and into the rings */
	return where == 0xff ? UINT64_MAX - 15 : 2 * FILE_BYTES - (where & 0xf);
}

static uint32_t take_len(struct front *f)
{
	uint8_t len = take8(f);

	return len < 0x60 ? len : len < 0xf8 ? (len - 0x5fu) * 512 : 1u << (len & 31);
}

/* The chain's descriptors, without regard to the ring: at most 10. */
struct chain_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
};

static uint32_t chain_take(struct front *f, struct chain_desc *d, uint8_t shape)
{
	uint32_t hdr_at = 0x8000u + (f->rings[0].avail & 31) * 64u, n = 0;
	uint8_t type = take8(f);
	uint16_t sector = take16(f);
	/* header, then one segment for those requests that have some */
	uint64_t hdr[4] = { type, sector, sector, (uint64_t)(shape >> 7) << 32 | (shape & 0x4f) };

	front_write(f, FD_MEM_B, hdr_at, hdr, sizeof(hdr));
	d[n++] = (struct chain_desc){ FILE_BYTES + hdr_at, type > 10 ? 32 : 16, 0 };
	for (uint8_t left = shape & 7; left; left--) {
		uint64_t addr = take_gpa(f);
		uint32_t len = take_len(f);

		d[n++] = (struct chain_desc){ addr, len, type & 1 ? 0 : DESC_WRITE };
	}
	if (shape & 8)
		d[n - 1].flags ^= take8(f);
	if (!(shape & 16))
		d[n++] = (struct chain_desc){ FILE_BYTES + 0xf000u, 1, DESC_WRITE };
	return n;
}

/* The last two fields are flags and next in a split ring, id and flags in a packed one. */
static void desc_put(struct front *f, enum fd_kind file, uint32_t at, const struct chain_desc *d,
		     uint16_t third, uint16_t fourth)
{
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t third, fourth;
	} raw = { d->addr, d->len, third, fourth };

	front_write(f, file, at, &raw, sizeof(raw));
}

static void chain_put_split(struct front *f, uint32_t r, struct chain_desc *d, uint32_t n,
			    uint32_t skip)
{
	uint32_t ring = RING_AT(r);
	struct guest_ring *g = &f->rings[r];
	uint16_t head = g->next_desc % RING_ENTRIES;

	for (uint32_t i = 0; i < n; i++) {
		uint16_t next = (uint16_t)(g->next_desc + 1) % RING_ENTRIES;

		desc_put(f, FD_MEM_A, ring + 16 * (g->next_desc++ % RING_ENTRIES), &d[i],
			 d[i].flags | (i + 1 < n ? DESC_NEXT : 0), next);
	}
	front_write(f, FD_MEM_A, ring + AVAIL_AT + 4 + 2 * (g->avail % RING_ENTRIES), &head, 2);
	g->avail += (uint16_t)(1 + skip);
	front_write(f, FD_MEM_A, ring + AVAIL_AT + 2, &g->avail, 2);
}

static void chain_put_packed(struct front *f, uint32_t r, struct chain_desc *d, uint32_t n,
			     uint32_t skip)
{
	uint32_t ring = RING_AT(r);
	struct guest_ring *g = &f->rings[r];
	uint16_t id = (uint16_t)(g->avail + skip) % (RING_ENTRIES + 1);

	for (uint32_t i = 0; i < n; i++) {
		uint16_t flags = d[i].flags | (i + 1 < n ? DESC_NEXT : 0);

		flags |= g->wrap ? DESC_AVAIL : DESC_USED;
		desc_put(f, FD_MEM_A, ring + 16 * g->avail, &d[i], id, flags);
		if (++g->avail == RING_ENTRIES) {
			g->avail = 0;
			g->wrap = !g->wrap;
		}
	}
}

/* The chain becomes an indirect table in the data file, and one descriptor. */
static uint32_t chain_indirect(struct front *f, struct chain_desc *d, uint32_t n, uint16_t at)
{
	bool packed = f->features & VIRTIO_F_RING_PACKED;
	uint32_t table = 0x9000u + (at & 0xf) * 256u;

	for (uint32_t i = 0; i < n; i++) {
		uint16_t flags = d[i].flags | (i + 1 < n ? DESC_NEXT : 0);

		desc_put(f, FD_MEM_B, table + 16 * i, &d[i], packed ? 0 : flags,
			 packed ? d[i].flags : (uint16_t)(i + 1));
	}
	d[0] = (struct chain_desc){ FILE_BYTES + table, 16 * n, DESC_INDIRECT };
	return 1;
}

static void op_kick(struct front *f)
{
	eventfd_write(front_fd(f, FD_KICK), 1);
}

static void op_chain(struct front *f)
{
	uint8_t where = take8(f), shape = take8(f);
	struct chain_desc d[10];
	uint32_t n, r = (where & 3) % RINGS, skip = where >> 4 & 3;

	n = chain_take(f, d, shape);
	if (shape & 32)
		n = chain_indirect(f, d, n, f->rings[r].avail);
	/* a position that an earlier format left behind */
	if (f->features & VIRTIO_F_RING_PACKED)
		f->rings[r].avail %= RING_ENTRIES;
	if (f->features & VIRTIO_F_RING_PACKED)
		chain_put_packed(f, r, d, n, skip);
	else
		chain_put_split(f, r, d, n, skip);
	if (!(where & 8))
		op_kick(f);
}

static void op_write(struct front *f)
{
	uint8_t which = take8(f), len = take8(f) & 63;
	uint16_t at = take16(f);
	uint8_t bytes[64];

	len = (uint8_t)MIN((size_t)len, f->in.left_bytes);
	bytes_take(&f->in, bytes, len);
	front_write(f, which & 2 ? FD_INFLIGHT : FD_MEM_A + (which & 1), at, bytes, len);
}

static void op_truncate(struct front *f)
{
	static const uint8_t kinds[] = { FD_MEM_A, FD_MEM_B, FD_LOG, FD_INFLIGHT };
	uint8_t which = take8(f);

	(void)!ftruncate(front_fd(f, kinds[which & 3]), (which >> 4) * 0x1000);
}

/* What a session does while it ends is undone: as if it had been killed before. */
static void op_crash(struct front *f)
{
	static uint8_t before[3][FILE_BYTES];
	static const uint8_t kinds[] = { FD_MEM_A, FD_MEM_B, FD_INFLIGHT };
	ssize_t have[3];

	for (int i = 0; i < 3; i++)
		have[i] = pread(front_fd(f, kinds[i]), before[i], FILE_BYTES, 0);
	front_disconnect(f);
	for (int i = 0; i < 3; i++)
		if (have[i] > 0)
			front_write(f, kinds[i], 0, before[i], (size_t)have[i]);
	front_connect(f);
}

static void front_op(struct front *f)
{
	switch ((enum op)(take8(f) % OP_COUNT)) {
	case OP_MESSAGE:
		op_message(f, false);
		break;
	case OP_BENT:
		op_message(f, true);
		break;
	case OP_RAW:
		op_raw(f);
		break;
	case OP_BYTES:
		op_bytes(f);
		break;
	case OP_SETUP:
		op_setup(f);
		break;
	case OP_CHAIN:
		op_chain(f);
		break;
	case OP_KICK:
		op_kick(f);
		break;
	case OP_WRITE:
		op_write(f);
		break;
	case OP_TRUNCATE:
		op_truncate(f);
		break;
	case OP_WAIT:
		for (uint8_t n = take8(f) & 31; n; n--)
			loops_turn(f);
		break;
	case OP_DEAF:
		f->deaf = take8(f) & 1;
		break;
	case OP_HANG_UP:
		shutdown(f->peer, take8(f) & 1 ? SHUT_WR : SHUT_RDWR);
		break;
	case OP_HOLD:
		if (f->sim)
			blk_sim_hold(f->disk, take8(f) & 1);
		break;
	case OP_RESIZE:
		if (f->sim)
			blk_sim_resize(f->disk, (take8(f) + 1ull) << 12);
		blk_dev_rescan(f->disk, NULL);
		break;
	case OP_CRASH:
		op_crash(f);
		break;
	case OP_COUNT:
		break;
	}
}

#endif
