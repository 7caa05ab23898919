/*
 * A vhost-user-nvme session in a hand-over: brought to a halt between two messages with its
 * controller quiesced, written, and made again in the successor. The controller is saved and loaded
 * as in a migration; its doorbells are words of the front-end's memory and go on where they are.
 * Thread: main.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/parcel.h"
#include "guest/gmem.h"
#include "sock/fdkind.h"
#include "vhost/nvme_session.h"

#define NVME_SESSION_TAG     "nvse"
#define NVME_SESSION_VERSION 2 /* 1 told of queues, too, which their controller knows */
#define CTRL_BYTES_MAX	     (4u << 20)

/* ---- to a halt ---- */

static void on_quiet_for_hand(void *port)
{
	struct nvme_session *s = port;

	s->still = true;
	if (!nvme_session_ctrl_done(s) || s->frozen)
		return;
	s->still = false;
	nvme_ctrl_resume(s->ctrl);
}

void nvme_session_freeze_step(struct nvme_session *s)
{
	if (!s->frozen || s->still || s->ctrl_busy || s->state != NVME_SESSION_ACTIVE)
		return;
	s->ctrl_busy = true;
	nvme_ctrl_quiesce(s->ctrl, on_quiet_for_hand);
}

void nvme_session_freeze(struct nvme_session *s, bool frozen)
{
	if (s->state == NVME_SESSION_CLOSING || s->frozen == frozen)
		return;
	s->frozen = frozen;
	if (frozen) {
		talk_freeze(&s->talk, true);
		nvme_session_freeze_step(s);
		return;
	}
	if (s->still) {
		s->still = false;
		nvme_ctrl_resume(s->ctrl);
	}
	talk_freeze(&s->talk, false);
}

bool nvme_session_is_quiet(const struct nvme_session *s)
{
	return s->state == NVME_SESSION_ACTIVE && s->still && !s->talk.busy &&
	       nvme_ctrl_is_saveable(s->ctrl);
}

/* ---- the controller ---- */

static int ctrl_pack(const struct nvme_session *s, struct parcel *p, struct err *reterr)
{
	void *bytes;
	size_t len;
	int rc = nvme_ctrl_save(s->ctrl, &bytes, &len);

	if (rc < 0)
		return err_set(reterr, rc, "the controller cannot be saved: %s", strerror(-rc));
	parcel_put_u32(p, (uint32_t)len);
	parcel_put(p, bytes, len);
	free(bytes);
	return 0;
}

static int ctrl_unpack(struct nvme_session *s, struct parcel *p, struct err *reterr)
{
	const uint32_t len = parcel_take_count(p, CTRL_BYTES_MAX);
	void *bytes = malloc(len + 1ul);
	int rc;

	if (!bytes)
		return err_set(reterr, -ENOMEM, "out of memory");
	if (parcel_take(p, bytes, len))
		rc = nvme_ctrl_load(s->ctrl, bytes, len, reterr);
	else
		rc = err_set(reterr, -EPROTO, "the controller's state is cut off");
	free(bytes);
	return rc;
}

static int vectors_unpack(struct nvme_session *s, struct parcel *p, struct err *reterr)
{
	int rc = 0;

	for (uint32_t i = 1; i <= s->params.num_queues && rc == 0; i++) {
		int fd = parcel_take_fd(p);

		if (fd < 0)
			continue;
		rc = fdkind_check_bell(fd, true, "descriptor", reterr);
		if (rc < 0)
			close(fd);
		else
			nvme_ctrl_vector_fd_set(s->ctrl, i, fd);
	}
	return rc;
}

/* ---- the session ---- */

int nvme_session_pack(const struct nvme_session *s, struct parcel *p, struct err *reterr)
{
	struct parcel_section section;
	int rc;

	ASSERT(nvme_session_is_quiet(s));
	parcel_section_begin(p, &section, NVME_SESSION_TAG, NVME_SESSION_VERSION);
	parcel_put_u32(p, s->params.num_queues);
	for (uint32_t i = 1; i <= s->params.num_queues; i++)
		parcel_put_fd(p, nvme_ctrl_vector_fd(s->ctrl, i));
	rc = gmem_pack(s->map, p, reterr);
	if (rc == 0)
		rc = gmem_pack(s->bar, p, reterr);
	if (rc == 0)
		rc = ctrl_pack(s, p, reterr);
	conn_pack(&s->talk.conn, p);
	parcel_section_done(p, &section);
	return rc;
}

/* Memory, doorbells and interrupts come before the queues that are in them. */
static int session_memory_unpack(struct nvme_session *s, struct parcel *p, struct err *reterr)
{
	uint32_t *doorbells;
	int rc = gmem_unpack(p, &s->map, reterr);

	if (rc == 0)
		rc = gmem_unpack(p, &s->bar, reterr);
	if (rc < 0)
		return rc;
	doorbells = s->bar ? nvme_session_doorbells(s->bar) : NULL;
	if (s->bar && !doorbells)
		return err_set(reterr, -EPROTO, "the shadow BAR has no doorbells");
	if (doorbells)
		nvme_ctrl_doorbells_set(s->ctrl, doorbells);
	nvme_ctrl_maps_set(s->ctrl, s->map, s->map);
	return 0;
}

static int session_parts_unpack(struct nvme_session *s, struct parcel *p, uint32_t version,
				struct err *reterr)
{
	uint32_t count = parcel_take_u32(p);
	int rc;

	if (!p->failed && count != s->params.num_queues)
		return err_set(reterr, -EINVAL, "queues: it has %u, and %u are configured now",
			       count, s->params.num_queues);
	for (uint32_t i = 0; version == 1 && i < count && !p->failed; i++)
		parcel_take_u64(p);
	rc = vectors_unpack(s, p, reterr);
	if (rc == 0)
		rc = session_memory_unpack(s, p, reterr);
	if (rc == 0)
		rc = ctrl_unpack(s, p, reterr);
	return rc;
}

static void on_quiet_for_unpack(void *port)
{
	((struct nvme_session *)port)->still = true;
}

/* The conversation last: from then on it is watched. */
static int session_unpack(struct nvme_session *s, struct parcel *p, struct err *reterr)
{
	struct parcel_section section;
	int rc = parcel_section_enter(p, &section, NVME_SESSION_TAG, NVME_SESSION_VERSION, reterr);

	if (rc == 0)
		rc = session_parts_unpack(s, p, section.version, reterr);
	if (rc == 0)
		rc = talk_unpack(&s->talk, s->params.sock.main_loop, p, 0, &nvme_session_talk_ops,
				 reterr);
	if (rc < 0)
		return rc;
	nvme_session_begin(s);
	return parcel_section_end(p, &section, NVME_SESSION_TAG, reterr);
}

int nvme_session_unpack(const struct vhost_nvme_params *params, struct log_limit *limit,
			void (*ended)(struct nvme_session *s), struct parcel *p,
			struct nvme_session **ret_session, struct err *reterr)
{
	struct nvme_session *s;
	int rc = nvme_session_make(params, limit, ended, &s, reterr);

	if (rc < 0)
		return rc;
	s->frozen = true;
	nvme_ctrl_quiesce(s->ctrl, on_quiet_for_unpack);
	ASSERT(s->still); /* a new one has nothing to wait for */
	rc = session_unpack(s, p, reterr);
	if (rc < 0)
		nvme_session_forget(s);
	else
		*ret_session = s;
	return rc;
}
