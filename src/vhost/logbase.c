/*
 * The dirty log of a migration. It is used while the front-end has VHOST_F_LOG_ALL set.
 * Source: vhost-user, "Migration".
 */
#include <errno.h>

#include "vhost/session.h"

int session_handle_SET_LOG_BASE(struct session *s, struct msg *m, struct err *reterr)
{
	struct gdirty *log;
	int rc = gdirty_new(m->fds[0], m->log.size_bytes, m->log.offset_bytes, &log, reterr);

	if (rc)
		return rc;
	gdirty_unref(s->log);
	s->log = log;
	/* With the log as shared memory the front-end waits for this answer. */
	m->u64 = 0;
	m->hdr.size = sizeof(m->u64);
	return 0;
}

/* We mark pages without telling; the descriptor is closed with the message. */
int session_handle_SET_LOG_FD(struct session *s, struct msg *m, struct err *reterr)
{
	return 0;
}
