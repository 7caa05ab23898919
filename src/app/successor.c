#include "app/successor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/handover.h"
#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"
#include "loop/inherit.h"
#include "sock/passing.h"

/* How long the predecessor is waited for: it ends the conversation when its own time is over. */
#define SUCCESSOR_WAIT_NS 3600000000000ull
#define SUCCESSOR_SEND_NS 2000000000ull

struct names {
	char **at;
	uint32_t count;
};

static struct {
	bool active;
	int sock;
	char *calls;
	enum log_level level;
	bool socket_inherited[3]; /* management, read-only, metrics */
	struct names inherited;	  /* devices with inherited sockets */
	struct names removed;	  /* devices of the command line that are not there any more */
	struct parcel parcel;	  /* the second one */
} su = { .sock = -1 };

static uint64_t successor_until(uint64_t ns)
{
	return loop_clock_ns() + ns;
}

bool successor_active(void)
{
	return su.active;
}

void successor_fail(const char *text)
{
	if (su.active && su.sock >= 0)
		(void)passing_send(su.sock, PASSING_FAILED, text,
				   successor_until(SUCCESSOR_SEND_NS), NULL);
}

/* ---- the first parcel ---- */

static int names_take(struct names *n, struct parcel *p, struct err *reterr)
{
	char *name;

	while ((name = parcel_take_str(p))) {
		char **more = realloc(n->at, (n->count + 1) * sizeof(*more));

		if (!more) {
			free(name);
			return err_set(reterr, -ENOMEM, "out of memory");
		}
		n->at = more;
		n->at[n->count++] = name;
	}
	return 0;
}

static void names_free(struct names *n)
{
	for (uint32_t i = 0; i < n->count; i++)
		free(n->at[i]);
	free(n->at);
	*n = (struct names){ 0 };
}

static int successor_first_take(struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	uint32_t level;
	int rc = parcel_section_enter(p, &s, HANDOVER_TAG, HANDOVER_VERSION, reterr);

	if (rc < 0)
		return rc;
	free(parcel_take_str(p)); /* its version */
	level = parcel_take_count(p, LOG_DEBUG);
	su.calls = parcel_take_str(p);
	for (size_t i = 0; i < ARRAY_SIZE(su.socket_inherited); i++)
		su.socket_inherited[i] = parcel_take_bool(p);
	rc = names_take(&su.inherited, p, reterr);
	if (rc == 0)
		rc = inherit_unpack(p, reterr);
	if (rc == 0 && parcel_section_has_more(p))
		rc = names_take(&su.removed, p, reterr);
	if (rc == 0)
		rc = parcel_section_end(p, &s, HANDOVER_TAG, reterr);
	if (rc == 0 && !su.calls)
		rc = err_set(reterr, -EPROTO, "hand-over: the calls are missing");
	su.level = (enum log_level)level;
	return rc;
}

static int successor_receive(const char *fd_text, struct err *reterr)
{
	char *end;
	long fd = strtol(fd_text, &end, 10);
	struct parcel p;
	int rc;

	if (*end || !*fd_text || fd < 0 || fd > INT32_MAX || fcntl((int)fd, F_GETFD) < 0)
		return err_set(reterr, -EINVAL,
			       HANDOVER_OPTION
			       ": expected a descriptor that is open, got '%.32s': "
			       "framework_hand_over starts a successor, nobody else",
			       fd_text);
	su.sock = (int)fd;
	fcntl(su.sock, F_SETFD, FD_CLOEXEC);
	rc = FAULT("successor-begin");
	if (rc < 0)
		return err_set(reterr, rc, "fault");
	rc = passing_recv_parcel(su.sock, &p, successor_until(SUCCESSOR_WAIT_NS), reterr);
	if (rc < 0)
		return rc;
	rc = successor_first_take(&p, reterr);
	parcel_fini(&p);
	return rc;
}

bool successor_begin(int *argc, char ***argv, int *ret_rc, struct err *reterr)
{
	const size_t len = strlen(HANDOVER_OPTION);

	if (*argc < 2 || strncmp((*argv)[1], HANDOVER_OPTION, len) != 0)
		return false;
	su.active = true;
	*ret_rc = successor_receive((*argv)[1] + len, reterr);
	(*argv)[1] = (*argv)[0];
	(*argv)++;
	(*argc)--;
	return true;
}

/* ---- opening ---- */

int successor_config(struct app_config *cfg, struct err *reterr)
{
	int *const fds[] = { &cfg->rpc.socket_fd, &cfg->rpc.readonly_fd, &cfg->metrics.socket_fd };
	int rc;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (su.socket_inherited[i])
			*fds[i] = -1; /* not 0: it is in the second parcel */
	cfg->log_level = su.level;
	rc = app_config_inherit(cfg, su.inherited.at, su.inherited.count, reterr);
	return rc < 0 ? rc : app_config_remove(cfg, su.removed.at, su.removed.count, reterr);
}

int successor_replay(struct replay **ret_replay, struct err *reterr)
{
	struct jsonfile file;
	int rc = jsonfile_parse(&file, "hand-over", su.calls, reterr);

	if (rc == 0)
		return replay_new(&file, ret_replay, reterr);
	jsonfile_fini(&file);
	return rc;
}

int successor_ready(struct parcel **ret_parcel, struct err *reterr)
{
	const char *left = inherit_left();
	int rc = FAULT("successor-ready");

	if (rc < 0)
		return err_set(reterr, rc, "fault");
	if (left)
		return err_set(reterr, -ENODEV,
			       "%.300s: the process that serves has it open, and nothing that is "
			       "configured now has",
			       left);
	rc = passing_send(su.sock, PASSING_READY, NULL, successor_until(SUCCESSOR_SEND_NS), reterr);
	if (rc == 0)
		rc = passing_recv_parcel(su.sock, &su.parcel, successor_until(SUCCESSOR_WAIT_NS),
					 reterr);
	*ret_parcel = &su.parcel;
	return rc;
}

int successor_go(struct err *reterr)
{
	int rc = FAULT("successor-unpacked");

	parcel_fini(&su.parcel);
	if (rc < 0)
		return err_set(reterr, rc, "fault");
	rc = passing_send(su.sock, PASSING_UNPACKED, NULL, successor_until(SUCCESSOR_SEND_NS),
			  reterr);
	return rc < 0 ? rc
		      : passing_expect(su.sock, PASSING_GO, successor_until(SUCCESSOR_WAIT_NS),
				       reterr);
}

void successor_serves(void)
{
	struct err err = { 0 };

	if (passing_send(su.sock, PASSING_SERVING, NULL, successor_until(SUCCESSOR_SEND_NS), &err) <
	    0)
		log_warning("hand-over: %s", err.msg);
	close(su.sock);
	su.sock = -1;
	su.active = false;
	free(su.calls);
	names_free(&su.inherited);
	names_free(&su.removed);
	su.calls = NULL;
}
