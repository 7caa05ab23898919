/* See statefile.h. */
#include "loop/statefile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/list.h"
#include "base/num.h"

#define STATEFILE_END "end"

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

/* Over what is there: a spare gives its room. */
static bool file_write(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool ok;

	if (fd < 0)
		return false;
	ok = write_all(fd, text, len) && ftruncate(fd, (off_t)len) == 0 &&
	     FAULT("state-fsync") == 0 && fsync(fd) == 0;
	return close(fd) == 0 && ok;
}

/* Its folder; path is cut. */
static const char *folder_of(char *path)
{
	char *slash = strrchr(path, '/');

	if (slash)
		slash[slash == path] = '\0'; /* "/x": the folder is "/" */
	return slash ? path : ".";
}

/* 0, or an errno. */
static int room_make(int fd, size_t bytes)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && (size_t)st.st_size >= bytes &&
	    (size_t)st.st_blocks > bytes / 512)
		return 0;
	return posix_fallocate(fd, 0, (off_t)bytes);
}

/* 0, or an errno. */
static int spare_make(const char *path, size_t bytes)
{
	const int failed = FAULT("state-spare");
	char *temporary;
	int fd, rc;

	if (asprintf(&temporary, "%s.new", path) < 0)
		return ENOMEM;
	fd = open(temporary, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		rc = errno;
	else
		rc = failed ? -failed : room_make(fd, bytes);
	if (rc && fd >= 0)
		unlink(temporary);
	if (fd >= 0)
		close(fd);
	/* renaming needs this, on a file system that can be written */
	if (!rc && access(folder_of(temporary), W_OK | X_OK) < 0)
		rc = errno;
	free(temporary);
	return rc;
}

void statefile_spare_remove(const struct statefile *file)
{
	char *temporary;

	if (asprintf(&temporary, "%s.new", file->path) < 0)
		return;
	unlink(temporary);
	free(temporary);
}

static bool folder_sync(char *path)
{
	int fd = open(folder_of(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok;

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
	struct statefile_save *s = container_of(job, struct statefile_save, job);
	struct statefile *file = s->file;

	pthread_mutex_lock(&lock);
	if (!s->spare_only) {
		errno = 0;
		s->ok = s->seq < file->saved || file_replace(file->path, s->text, s->text_bytes);
		s->error = s->ok ? 0 : errno ? errno : EIO;
		if (s->ok)
			file->saved = MAX(file->saved, s->seq);
	}
	if (s->spare_bytes && (s->spare_only || s->ok)) {
		s->error = spare_make(file->path, s->spare_bytes);
		s->ok |= s->spare_only && !s->error;
	}
	if (s->error)
		s->spare_bytes = 0;
	pthread_mutex_unlock(&lock);
}

/* ---- saving ---- */

static void save_done(struct job *job)
{
	struct statefile_save *s = container_of(job, struct statefile_save, job);

	free(s->text);
	s->done(s, s->ok);
}

static void save_start(struct loop_msg *msg)
{
	struct statefile_save *s = container_of(msg, struct statefile_save, msg);

	if (s->text || s->spare_only) {
		s->job.fn = save_run;
		s->job.done = save_done;
		job_start(&s->job);
	} else {
		s->error = ENOMEM;
		s->spare_bytes = 0;
		save_done(&s->job); /* there was no memory for it */
	}
}

char *statefile_text(const struct statefile *file, void (*write)(void *arg, FILE *to), void *arg,
		     size_t *ret_bytes)
{
	char *text = NULL;
	FILE *to = open_memstream(&text, ret_bytes);
	bool bad;

	if (!to)
		return NULL;
	if (file->head)
		fprintf(to, "%s\n", file->head);
	write(arg, to);
	if (file->head)
		fputs(STATEFILE_END "\n", to);
	bad = ferror(to);
	bad |= fclose(to) != 0;
	if (!bad)
		return text;
	free(text);
	return NULL;
}

void statefile_save(struct statefile *file, struct statefile_save *s, struct loop *loop,
		    void (*write)(void *arg, FILE *to), void *arg)
{
	s->file = file;
	s->ok = false;
	s->spare_only = false;
	s->error = 0;
	s->seq = ++file->seq;
	s->text = statefile_text(file, write, arg, &s->text_bytes);
	s->msg.fn = save_start;
	loop_post(loop, &s->msg);
}

void statefile_spare(struct statefile *file, struct statefile_save *s, struct loop *loop)
{
	s->file = file;
	s->ok = false;
	s->spare_only = true;
	s->error = 0;
	s->text = NULL;
	s->text_bytes = 0;
	s->msg.fn = save_start;
	loop_post(loop, &s->msg);
}

/* ---- loading ---- */

struct state_reader {
	const char *name, *head; /* what it is, and the first line */
	const char *(*take)(void *arg, char *line);
	void *arg;
	FILE *from;
	char *line;
	size_t line_size;
	unsigned int number;
	bool ended;
};

/* NULL, or why the line is wrong. */
static const char *line_take(struct state_reader *r)
{
	if (r->ended)
		return "expected nothing after '" STATEFILE_END "'";
	if (strcmp(r->line, STATEFILE_END) != 0)
		return r->take(r->arg, r->line);
	r->ended = true;
	return NULL;
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
	const char *why;

	while (line_next(r, &why)) {
		if (r->number == 1 && strcmp(r->line, r->head) != 0)
			return err_set(reterr, -EINVAL, "%s: line 1: expected '%s', got '%.80s'",
				       r->name, r->head, r->line);
		why = r->number == 1 ? NULL : line_take(r);
		if (why)
			break;
	}
	if (why)
		return err_set(reterr, -EINVAL, "%s: line %u: %s, got '%.80s'", r->name, r->number,
			       why, r->line);
	if (ferror(r->from))
		return err_set(reterr, -EIO, "%s: read error after line %u", r->name, r->number);
	if (!r->ended)
		return err_set(reterr, -EINVAL, "%s: expected '" STATEFILE_END "' after line %u",
			       r->name, r->number);
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
	if (st.st_size > STATEFILE_BYTES_MAX) {
		close(fd);
		return err_set(reterr, -EFBIG, "state file %s: expected at most %u bytes, got %lld",
			       path, STATEFILE_BYTES_MAX, (long long)st.st_size);
	}
	*ret_from = fdopen(fd, "r");
	if (*ret_from)
		return 0;
	close(fd);
	return err_set(reterr, -ENOMEM, "out of memory");
}

static int state_read_close(struct state_reader *r, struct err *reterr)
{
	int rc = state_read(r, reterr);

	free(r->line);
	fclose(r->from);
	return rc;
}

int statefile_load(const struct statefile *file, const char *(*take)(void *arg, char *line),
		   void *arg, struct err *reterr)
{
	struct state_reader r = { .head = file->head, .take = take, .arg = arg };
	char *name;
	int rc = state_open(file->path, &r.from, reterr);

	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	if (asprintf(&name, "state file %s", file->path) < 0) {
		fclose(r.from);
		return err_set(reterr, -ENOMEM, "out of memory");
	}
	r.name = name;
	rc = state_read_close(&r, reterr);
	free(name);
	return rc;
}

int statefile_read(const char *name, const char *head, const char *text, size_t len_bytes,
		   const char *(*take)(void *arg, char *line), void *arg, struct err *reterr)
{
	struct state_reader r = { .name = name, .head = head, .take = take, .arg = arg };

	if (!len_bytes)
		return err_set(reterr, -EINVAL, "%s: expected '%s', got nothing", name, head);
	if (len_bytes > STATEFILE_BYTES_MAX)
		return err_set(reterr, -EFBIG, "%s: expected at most %u bytes, got %zu", name,
			       STATEFILE_BYTES_MAX, len_bytes);
	/* The bytes are only read. */
	r.from = fmemopen((void *)(uintptr_t)text, len_bytes, "r");
	if (!r.from)
		return err_set(reterr, -ENOMEM, "out of memory");
	return state_read_close(&r, reterr);
}
