#include "mgmt/jsonfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- lines ---- */

struct json_at {
	const char *at;
	uint32_t line;
};

static void at_space(struct json_at *j)
{
	for (; *j->at && strchr(" \t\r\n", *j->at); j->at++)
		j->line += *j->at == '\n';
}

/* Over a string: it has no newline that is not escaped. */
static void at_string(struct json_at *j)
{
	for (j->at++; *j->at && *j->at != '"'; j->at++)
		if (*j->at == '\\' && j->at[1])
			j->at++;
	j->at += *j->at == '"';
}

/* Over a value, to the comma or bracket behind it. */
static void at_value(struct json_at *j)
{
	uint32_t depth = 0;

	for (;;) {
		at_space(j);
		if (!*j->at || (!depth && strchr(",]}", *j->at)))
			return;
		if (*j->at == '"') {
			at_string(j);
			continue;
		}
		if (strchr("[{", *j->at))
			depth++;
		else if (strchr("]}", *j->at))
			depth--;
		j->at++;
	}
}

/* Into an object or array; false: it is none. */
static bool at_enter(struct json_at *j, char bracket)
{
	at_space(j);
	if (*j->at != bracket)
		return false;
	j->at++;
	at_space(j);
	return true;
}

static bool at_next(struct json_at *j)
{
	at_value(j);
	if (*j->at != ',')
		return false;
	j->at++;
	at_space(j);
	return true;
}

static bool at_key(struct json_at *j, const char *key, size_t len, uint32_t *ret_line)
{
	if (!at_enter(j, '{') || *j->at != '"')
		return false;
	do {
		const char *name = j->at + 1;
		bool found;

		*ret_line = j->line;
		at_string(j);
		found = (size_t)(j->at - name) == len + 1 && !memcmp(name, key, len);
		at_space(j);
		j->at += *j->at == ':';
		if (found)
			return true;
	} while (at_next(j));
	return false;
}

static bool at_index(struct json_at *j, unsigned long idx, uint32_t *ret_line)
{
	if (!at_enter(j, '[') || *j->at == ']')
		return false;
	while (idx--)
		if (!at_next(j))
			return false;
	*ret_line = j->line;
	return true;
}

uint32_t jsonfile_line(const char *text, const char *way)
{
	struct json_at j = { .at = text, .line = 1 };
	uint32_t line, found;
	bool there = true;

	at_space(&j);
	for (line = j.line; *way && there; line = there ? found : line) {
		if (*way == '[') {
			char *end;

			there = at_index(&j, strtoul(way + 1, &end, 10), &found);
			way = end + (*end == ']');
		} else {
			size_t len;

			way += *way == '.';
			len = strcspn(way, ".[");
			there = at_key(&j, way, len, &found);
			way += len;
		}
	}
	return line;
}

uint32_t jsonfile_line_of(const struct jsonfile *f, const char *way, const char *message)
{
	char all[256];
	size_t len = (size_t)snprintf(all, sizeof(all), "%s", way);

	while (len + 1 < sizeof(all)) {
		const size_t word = strcspn(message, ":");

		len += (size_t)snprintf(all + len, sizeof(all) - len, ".%.*s", (int)word, message);
		if (!message[word])
			break;
		message += word + 1;
		message += *message == ' ';
	}
	return jsonfile_line(f->text, all);
}

/* ---- files ---- */

#define TEXT_STEP_BYTES 65536

/* Until its end: it may be a pipe. */
static int text_load(int fd, struct jsonfile *f, struct err *reterr)
{
	size_t len = 0, size = 0;

	for (;;) {
		ssize_t n;

		if (size - len < TEXT_STEP_BYTES) {
			char *more = realloc(f->text, size += len + 2 * TEXT_STEP_BYTES);

			if (!more)
				return err_set(reterr, -ENOMEM, "%s: out of memory", f->path);
			f->text = more;
		}
		n = read(fd, f->text + len, TEXT_STEP_BYTES - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(reterr, -errno, "%s: cannot read: %s", f->path,
				       strerror(errno));
		len += (size_t)n;
		f->text[len] = '\0';
		if (n == 0)
			break;
		if (len > JSONFILE_BYTES_MAX)
			return err_set(reterr, -EFBIG, "%s: expected at most %u bytes, got more",
				       f->path, JSONFILE_BYTES_MAX);
	}
	if (strlen(f->text) != len)
		return err_set(reterr, -EINVAL, "%s: expected JSON, got a zero byte", f->path);
	return 0;
}

static int text_parse(struct jsonfile *f, struct err *reterr)
{
	json_error_t at;

	f->root = json_loads(f->text, JSON_REJECT_DUPLICATES, &at);
	if (!f->root)
		return err_set(reterr, -EINVAL, "%s:%d:%d: %s", f->path, at.line, at.column,
			       at.text);
	return 0;
}

int jsonfile_load(struct jsonfile *f, const char *path, struct err *reterr)
{
	int fd, rc;

	*f = (struct jsonfile){ .path = strdup(path) };
	if (!f->path)
		return err_set(reterr, -ENOMEM, "%s: out of memory", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(reterr, -errno, "%s: cannot read: %s", path, strerror(errno));
	rc = text_load(fd, f, reterr);
	close(fd);
	return rc < 0 ? rc : text_parse(f, reterr);
}

int jsonfile_parse(struct jsonfile *f, const char *name, const char *text, struct err *reterr)
{
	*f = (struct jsonfile){ .path = strdup(name), .text = strdup(text) };
	if (!f->path || !f->text)
		return err_set(reterr, -ENOMEM, "%s: out of memory", name);
	return text_parse(f, reterr);
}

void jsonfile_fini(struct jsonfile *f)
{
	json_decref(f->root);
	free(f->text);
	free(f->path);
	*f = (struct jsonfile){ 0 };
}
