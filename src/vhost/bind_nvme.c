/*
 * Between a vhost-user-nvme session and its controller: what each message means there.
 *
 * The vectors of the controller are the identifiers of completion queues: the front-end keeps the
 * guest's vectors, and gives an eventfd for each queue. A queue that is created twice is replaced
 * by the controller (nvme/qadmin.c).
 *
 * Identify comes from the front-end itself, with garbage in what it does not look at. Commands that
 * a front-end never passes on are refused here, so that each answer is certain to come.
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "guest/gmem.h"
#include "sock/fdkind.h"
#include "vhost/memtable.h"
#include "vhost/nvme_session.h"

#define SET_CQ_CALL_ID_MASK 0xffull
#define SET_CQ_CALL_NOFD    0x100ull

#define IO_CMD_SQ_TAIL 1
#define IO_CMD_CQ_HEAD 2

#define FEATURE_NUMBER_OF_QUEUES 0x07

/* ---- life ---- */

int nvme_session_bind(struct nvme_session *s, struct err *reterr)
{
	const struct vhost_nvme_params *p = &s->params;
	static const struct nvme_port_ops ops;
	int rc = nvme_ctrl_new(p->subsys,
			       &(struct nvme_ctrl_params){
				       .name = p->sock.name,
				       .profile = NVME_PROFILE_VHOST,
				       .num_queues = p->num_queues,
				       .queue_size_max = p->queue_size_max,
				       .vectors = (uint16_t)(p->num_queues + 1),
				       .spin_ns = p->spin_ns,
				       .doorbells_polled = true,
				       .ops = &ops,
				       .port = s,
				       .main_loop = p->sock.main_loop,
				       .loops = s->params.loops,
				       .loop_count = p->loop_count,
				       .limits = p->limits,
			       },
			       &s->ctrl, reterr);

	if (!rc)
		nvme_ctrl_msix_enable(s->ctrl, true);
	return rc;
}

static void nvme_session_on_ctrl_freed(void *port)
{
	struct nvme_session *s = port;

	s->ctrl = NULL;
	nvme_session_unbound(s);
}

/* The controller is freed when it has done what it was asked for last. */
void nvme_session_unbind(struct nvme_session *s)
{
	if (!s->ctrl_busy)
		nvme_ctrl_free(s->ctrl, nvme_session_on_ctrl_freed);
}

void nvme_session_drain(struct nvme_session *s, bool drained)
{
	if (s->ctrl)
		nvme_ctrl_drain(s->ctrl, drained);
}

int nvme_session_queue_move(struct nvme_session *s, uint32_t qid, struct loop *loop,
			    struct err *reterr)
{
	return s->ctrl ? nvme_ctrl_queue_move(s->ctrl, qid, loop, reterr) : 0;
}

bool nvme_session_ctrl_done(struct nvme_session *s)
{
	s->ctrl_busy = false;
	if (s->state != NVME_SESSION_CLOSING)
		return true;
	nvme_session_unbind(s);
	return false;
}

/* ---- memory ---- */

static void on_quiet_for_map(void *port)
{
	struct nvme_session *s = port;
	struct gmem *old = s->map;

	nvme_ctrl_maps_set(s->ctrl, s->next, s->next);
	s->map = s->next;
	s->next = NULL;
	gmem_unref(old);
	nvme_ctrl_resume(s->ctrl);
	if (nvme_session_ctrl_done(s))
		nvme_session_message_end(s, 0);
}

void nvme_session_handle_SET_MEM_TABLE(struct nvme_session *s, struct msg *m)
{
	int rc = memtable_parse(m, &s->next, &s->err);

	if (rc) {
		nvme_session_message_end(s, rc);
		return;
	}
	s->ctrl_busy = true;
	nvme_ctrl_quiesce(s->ctrl, on_quiet_for_map);
}

uint32_t *nvme_session_doorbells(const struct gmem *bar)
{
	return gmem_gpa_to_host(bar, (struct gpa){ NVME_REG_DOORBELLS }, NVME_DOORBELLS_BYTES);
}

static void on_quiet_for_bar(void *port)
{
	struct nvme_session *s = port;
	struct gmem *old = s->bar;

	nvme_ctrl_doorbells_set(s->ctrl, nvme_session_doorbells(s->next));
	s->bar = s->next;
	s->next = NULL;
	gmem_unref(old);
	nvme_ctrl_resume(s->ctrl);
	if (nvme_session_ctrl_done(s))
		nvme_session_message_end(s, 0);
}

/* The region's guest address is the front-end's own: addresses here are offsets in the BAR. */
static int bar_map(struct nvme_session *s, const struct msg *m)
{
	const struct msg_region *r = &m->mem_table.regions[0];
	struct gmem_region_desc desc = { .size_bytes = r->size_bytes,
					 .mmap_offset_bytes = r->mmap_offset };
	const uint64_t need = NVME_REG_DOORBELLS + NVME_DOORBELLS_BYTES;

	if (m->mem_table.count != 1)
		return err_set(&s->err, -EINVAL, "regions: expected 1, got %u", m->mem_table.count);
	if (r->size_bytes < need)
		return err_set(&s->err, -EINVAL, "size: expected at least %llu bytes, got %llu",
			       (unsigned long long)need, (unsigned long long)r->size_bytes);
	if (r->mmap_offset % NVME_PAGE_BYTES)
		return err_set(&s->err, -EINVAL, "offset: expected a multiple of %u, got %llu",
			       NVME_PAGE_BYTES, (unsigned long long)r->mmap_offset);
	/* What lies behind the doorbells is not looked at. */
	desc.size_bytes = need;
	return gmem_new(&desc, m->fds, 1, &s->next, &s->err);
}

void nvme_session_handle_SET_BAR_MR(struct nvme_session *s, struct msg *m)
{
	int rc = bar_map(s, m);

	if (rc) {
		nvme_session_message_end(s, rc);
		return;
	}
	s->ctrl_busy = true;
	nvme_ctrl_quiesce(s->ctrl, on_quiet_for_bar);
}

/* ---- registers and doorbells ---- */

void nvme_session_handle_GET_CAP(struct nvme_session *s, struct msg *m)
{
	nvme_ctrl_reg_read(s->ctrl, NVME_REG_CAP, s->answer, 8);
	s->answer_bytes = 8;
	nvme_session_message_end(s, 0);
}

static void on_stopped(void *port)
{
	struct nvme_session *s = port;

	for (uint32_t i = 0; i <= s->params.num_queues; i++)
		nvme_ctrl_vector_fd_set(s->ctrl, i, -1);
	/* It outlives the start: the next one must not find this one's doorbells. */
	if (s->bar)
		memset(nvme_session_doorbells(s->bar), 0, NVME_DOORBELLS_BYTES);
	if (nvme_session_ctrl_done(s))
		nvme_session_message_end(s, 0);
}

void nvme_session_handle_START_STOP(struct nvme_session *s, struct msg *m)
{
	if (m->u64 > 1) {
		nvme_session_message_end(s, err_set(&s->err, -EINVAL, "expected 0 or 1, got %llu",
						    (unsigned long long)m->u64));
	} else if (m->u64) {
		nvme_ctrl_start(s->ctrl);
		nvme_session_message_end(s, 0);
	} else {
		s->ctrl_busy = true;
		nvme_ctrl_stop(s->ctrl, on_stopped);
	}
}

void nvme_session_handle_IO_CMD(struct nvme_session *s, struct msg *m)
{
	uint32_t type, qid, value;

	memcpy(&type, m->bytes, 4);
	memcpy(&qid, m->bytes + 4, 4);
	memcpy(&value, m->bytes + 8, 4);
	if (type != IO_CMD_SQ_TAIL && type != IO_CMD_CQ_HEAD) {
		nvme_session_message_end(
			s, err_set(&s->err, -EINVAL, "queue type: expected 1 or 2, got %u", type));
		return;
	}
	if (qid < 1 || qid > s->params.num_queues) {
		nvme_session_message_end(s,
					 err_set(&s->err, -EINVAL, "queue: expected 1..%u, got %u",
						 s->params.num_queues, qid));
		return;
	}
	nvme_ctrl_reg_write(s->ctrl,
			    NVME_REG_DOORBELLS + 8 * qid + (type == IO_CMD_CQ_HEAD ? 4 : 0), &value,
			    sizeof(value));
	nvme_session_message_end(s, 0);
}

/* ---- interrupts ---- */

void nvme_session_handle_SET_CQ_CALL(struct nvme_session *s, struct msg *m)
{
	uint32_t cqid = m->u64 & SET_CQ_CALL_ID_MASK;
	bool no_fd = m->u64 & SET_CQ_CALL_NOFD;
	int rc = 0;

	if (m->u64 & ~(SET_CQ_CALL_ID_MASK | SET_CQ_CALL_NOFD) || cqid < 1 ||
	    cqid > s->params.num_queues)
		rc = err_set(&s->err, -EINVAL, "completion queue: expected 1..%u, got 0x%llx",
			     s->params.num_queues, (unsigned long long)m->u64);
	else if (no_fd && m->fd_count)
		rc = err_set(&s->err, -EINVAL, "a descriptor, and the bit that says none");
	else if (m->fd_count)
		rc = fdkind_check_bell(m->fds[0], true, "descriptor", &s->err);
	if (!rc)
		nvme_ctrl_vector_fd_set(s->ctrl, cqid, msg_fd_take(m, 0));
	nvme_session_message_end(s, rc);
}

/* ---- admin commands ---- */

static uint32_t sqe_qid(const struct nvme_sqe *sqe)
{
	return le32_get(sqe->cdw10) & 0xffff;
}

static bool is_feature(const struct nvme_sqe *sqe)
{
	return sqe->opcode == NVME_ADMIN_SET_FEATURES || sqe->opcode == NVME_ADMIN_GET_FEATURES;
}

static void admin_answer(struct nvme_session *s, const struct nvme_cqe *cqe)
{
	bool feature = s->params.generation_1804 && is_feature(&s->sqe);

	memcpy(s->answer, cqe, sizeof(*cqe));
	if (feature)
		memcpy(s->answer + NVME_ANSWER_DATA_OFF, &cqe->dw0, sizeof(cqe->dw0));
	s->answer_bytes = feature || s->sqe.opcode == NVME_ADMIN_IDENTIFY ? NVME_ANSWER_WHOLE_BYTES
									  : sizeof(*cqe);
	nvme_session_message_end(s, 0);
}

static void on_admin_done(void *port, const struct nvme_cqe *cqe)
{
	struct nvme_session *s = port;

	if (nvme_session_ctrl_done(s))
		admin_answer(s, cqe);
}

static enum nvme_status admin_prepare(struct nvme_session *s)
{
	struct nvme_sqe *sqe = &s->sqe;

	switch (sqe->opcode) {
	case NVME_ADMIN_IDENTIFY:
		/* Made of an uninitialised struct: only these were set. */
		*sqe = (struct nvme_sqe){ .opcode = sqe->opcode,
					  .nsid = sqe->nsid,
					  .cdw10 = sqe->cdw10 };
		return NVME_SC_SUCCESS;
	case NVME_ADMIN_CREATE_CQ:
		sqe->cdw11 = le32((le32_get(sqe->cdw11) & 0xffff) | sqe_qid(sqe) << 16);
		return NVME_SC_SUCCESS;
	case NVME_ADMIN_SET_FEATURES:
	case NVME_ADMIN_GET_FEATURES:
		return (le32_get(sqe->cdw10) & 0xff) == FEATURE_NUMBER_OF_QUEUES
			       ? NVME_SC_SUCCESS
			       : NVME_SC_INVALID_FIELD;
	case NVME_ADMIN_CREATE_SQ:
	case NVME_ADMIN_DELETE_SQ:
	case NVME_ADMIN_DELETE_CQ:
	case NVME_ADMIN_ABORT:
	case NVME_ADMIN_DOORBELL_BUFFER_CONFIG:
		return NVME_SC_SUCCESS;
	default:
		return NVME_SC_INVALID_OPCODE;
	}
}

void nvme_session_handle_ADMIN(struct nvme_session *s, struct msg *m)
{
	enum nvme_status status;

	memcpy(&s->sqe, m->bytes, sizeof(s->sqe));
	memset(s->answer, 0, sizeof(s->answer));
	status = admin_prepare(s);
	if (status) {
		struct nvme_cqe cqe = { .cid = s->sqe.cid };

		/* Do Not Retry: the same command will not be known later. */
		cqe.status = le16((uint16_t)(status << 1 | 0x8000));
		admin_answer(s, &cqe);
		return;
	}
	s->ctrl_busy = true;
	nvme_ctrl_admin(s->ctrl, &s->sqe, s->answer + NVME_ANSWER_DATA_OFF, on_admin_done);
}
