/*
 * What survives a restart: a small text file for each unit, written as a whole.
 *
 *   vhostd-scsi-state 1
 *   mode PAGE SUBPAGE HEX      saved mode pages (mode.c)
 *   register ..., reserve ...  with APTPL (resv_state.c)
 *   end
 *
 * It is written under another name and renamed when it is on disk, so there is always the old one
 * or the new one. Reading is strict: a file that is not as we wrote it is an error that names the
 * line, since to start without a reservation that should be there would lose data.
 *
 * Writers of one unit may run on several job threads. Each has the number of its content, taken
 * under lu->lock; one that comes after a newer content is on disk has nothing to do.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "scsi/mode.h"
#include "scsi/resv.h"

#define STATE_HEAD	"vhostd-scsi-state 1"
#define STATE_END	"end"
#define STATE_BYTES_MAX (8u << 20)

struct state_save {
	struct job job;
	struct loop_msg msg;
	struct scsi_task *t;
	void (*done)(struct scsi_task *t, bool ok);
	uint64_t seq;
	char *text;
	size_t text_bytes;
	bool ok;
};

/* ---- writing (Thread: job) ---- */

static bool write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		text += n;
		len -= (size_t)n;
	}
	return true;
}

static bool file_write(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool ok;

	if (fd < 0)
		return false;
	ok = write_all(fd, text, len) && FAULT("state-fsync") == 0 && fsync(fd) == 0;
	return close(fd) == 0 && ok;
}

static bool folder_sync(char *path)
{
	char *slash = strrchr(path, '/');
	bool ok;
	int fd;

	if (slash)
		slash[slash == path] = '\0'; /* "/x": the folder is "/" */
	fd = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ok = fsync(fd) == 0;
	close(fd);
	return ok;
}

static bool file_replace(const char *path, const char *text, size_t len)
{
	char *temporary;
	bool ok;

	if (asprintf(&temporary, "%s.new", path) < 0)
		return false;
	ok = file_write(temporary, text, len) && rename(temporary, path) == 0;
	if (!ok)
		unlink(temporary);
	else
		ok = folder_sync(temporary);
	free(temporary);
	return ok;
}

static void save_run(struct job *job)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* one writer at a time */
	struct state_save *s = container_of(job, struct state_save, job);
	struct scsi_lu *lu = task_lu(s->t);

	pthread_mutex_lock(&lock);
	s->ok = s->seq < lu->state_saved || file_replace(lu->state_path, s->text, s->text_bytes);
	if (s->ok)
		lu->state_saved = MAX(lu->state_saved, s->seq);
	pthread_mutex_unlock(&lock);
}

/* ---- saving (Thread: owner loop) ---- */

static void save_done(struct job *job)
{
	struct state_save *s = container_of(job, struct state_save, job);
	void (*done)(struct scsi_task * t, bool ok) = s->done;
	struct scsi_task *t = s->t;
	bool ok = s->ok;

	free(s->text);
	free(s);
	done(t, ok);
}

static void save_start(struct loop_msg *msg)
{
	struct state_save *s = container_of(msg, struct state_save, msg);

	if (s->text) {
		s->job.fn = save_run;
		s->job.done = save_done;
		job_start(&s->job);
	} else {
		save_done(&s->job); /* there was no memory for it */
	}
}

/* The whole content and its number. NULL: no memory. */
static char *state_text(struct scsi_lu *lu, uint64_t *ret_seq, size_t *ret_bytes)
{
	char mode[MODE_STATE_BYTES_MAX], *text = NULL;
	FILE *to = open_memstream(&text, ret_bytes);
	bool bad;

	if (!to)
		return NULL;
	fputs(STATE_HEAD "\n", to);
	pthread_mutex_lock(&lu->lock);
	*ret_seq = ++lu->state_seq;
	mode_state_write(lu, mode, sizeof(mode));
	fputs(mode, to);
	resv_state_write(lu, to);
	pthread_mutex_unlock(&lu->lock);
	fputs(STATE_END "\n", to);
	bad = ferror(to);
	bad |= fclose(to) != 0;
	if (!bad)
		return text;
	free(text);
	return NULL;
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
	s->text = state_text(lu, &s->seq, &s->text_bytes);
	s->msg.fn = save_start;
	loop_post(t->queue->sl->loop, &s->msg);
}

/* ---- loading (Thread: main) ---- */

struct state_reader {
	struct scsi_lu *lu;
	FILE *from;
	char *line;
	size_t line_size;
	unsigned int number;
	bool ended;
};

static bool line_take(struct state_reader *r, const char **ret_why)
{
	*ret_why = "expected '" STATE_HEAD "'";
	if (r->number == 1)
		return !strcmp(r->line, STATE_HEAD);
	*ret_why = "expected nothing after '" STATE_END "'";
	if (r->ended)
		return false;
	if (!strcmp(r->line, STATE_END)) {
		r->ended = true;
		return true;
	}
	*ret_why = "no saved mode page of this unit";
	if (!strncmp(r->line, "mode ", 5))
		return mode_state_read(r->lu, r->line);
	return resv_state_read(r->lu, r->line, ret_why);
}

/* false at the end of the file, or with *ret_why. */
static bool line_next(struct state_reader *r, const char **ret_why)
{
	ssize_t n = getline(&r->line, &r->line_size, r->from);

	*ret_why = NULL;
	if (n < 0)
		return false;
	r->number++;
	if (n && r->line[n - 1] == '\n')
		r->line[--n] = '\0';
	else
		*ret_why = "the line is cut off";
	if (strlen(r->line) != (size_t)n)
		*ret_why = "a zero byte";
	return !*ret_why;
}

static int state_read(struct state_reader *r, struct err *reterr)
{
	const char *path = r->lu->state_path, *why;

	while (line_next(r, &why))
		if (!line_take(r, &why))
			break;
	if (why)
		return err_set(reterr, -EINVAL, "state file %s: line %u: %s, got '%.80s'", path,
			       r->number, why, r->line);
	if (ferror(r->from))
		return err_set(reterr, -EIO, "state file %s: read error after line %u", path,
			       r->number);
	if (!r->ended)
		return err_set(reterr, -EINVAL,
			       "state file %s: expected '" STATE_END "' after line %u", path,
			       r->number);
	return 0;
}

static int state_open(const char *path, FILE **ret_from, struct err *reterr)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return err_set(reterr, -errno, "state file %s: %s", path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return err_set(reterr, -EINVAL, "state file %s: expected a regular file", path);
	}
	if (st.st_size > STATE_BYTES_MAX) {
		close(fd);
		return err_set(reterr, -EFBIG, "state file %s: expected at most %u bytes, got %lld",
			       path, STATE_BYTES_MAX, (long long)st.st_size);
	}
	*ret_from = fdopen(fd, "r");
	if (*ret_from)
		return 0;
	close(fd);
	return err_set(reterr, -ENOMEM, "out of memory");
}

int scsi_state_load(struct scsi_lu *lu, struct err *reterr)
{
	struct state_reader r = { .lu = lu };
	int rc;

	if (!lu->state_path)
		return 0;
	rc = state_open(lu->state_path, &r.from, reterr);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	pthread_mutex_lock(&lu->lock);
	rc = state_read(&r, reterr);
	pthread_mutex_unlock(&lu->lock);
	free(r.line);
	fclose(r.from);
	return rc;
}
