/*
 * What survives a restart of a unit: its state file (loop/statefile.h).
 *
 *   vhostd-scsi-state 1
 *   mode PAGE SUBPAGE HEX      saved mode pages (mode.c)
 *   register ..., reserve ...  with APTPL (resv_state.c)
 *   end
 */
#include <stdlib.h>
#include <string.h>

#include "scsi/mode.h"
#include "scsi/resv.h"

struct state_save {
	struct statefile_save save;
	struct scsi_task *t;
	void (*done)(struct scsi_task *t, bool ok);
};

static void state_save_done(struct statefile_save *save, bool ok)
{
	struct state_save *s = container_of(save, struct state_save, save);
	void (*done)(struct scsi_task * t, bool ok) = s->done;
	struct scsi_task *t = s->t;

	free(s);
	done(t, ok);
}

static void state_write(void *arg, FILE *to)
{
	const struct scsi_lu *lu = arg;
	char mode[MODE_STATE_BYTES_MAX];

	mode_state_write(lu, mode, sizeof(mode));
	fputs(mode, to);
	resv_state_write(lu, to);
}

void scsi_state_save(struct scsi_task *t, void (*done)(struct scsi_task *t, bool ok))
{
	struct scsi_lu *lu = task_lu(t);
	struct state_save *s = lu->state_path ? calloc(1, sizeof(*s)) : NULL;

	if (!s) {
		done(t, false);
		return;
	}
	s->t = t;
	s->done = done;
	s->save.done = state_save_done;
	pthread_mutex_lock(&lu->lock);
	statefile_save(&lu->state, &s->save, t->queue->sl->loop, state_write, lu);
	pthread_mutex_unlock(&lu->lock);
}

static const char *state_line(void *arg, char *line)
{
	struct scsi_lu *lu = arg;
	const char *why = NULL;

	if (!strncmp(line, "mode ", 5))
		return mode_state_read(lu, line) ? NULL : "no saved mode page of this unit";
	return resv_state_read(lu, line, &why) ? NULL : why;
}

int scsi_state_load(struct scsi_lu *lu, struct err *reterr)
{
	int rc;

	if (!lu->state_path)
		return 0;
	lu->state = (struct statefile){ .path = lu->state_path, .head = "vhostd-scsi-state 1" };
	pthread_mutex_lock(&lu->lock);
	rc = statefile_load(&lu->state, state_line, lu, reterr);
	pthread_mutex_unlock(&lu->lock);
	return rc;
}
