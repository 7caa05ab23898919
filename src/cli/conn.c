#include "cli/conn.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"

struct conn {
	int fd;
	uint32_t timeout_ms;
	uint64_t deadline_ms; /* of the call under way */
	json_int_t id;
	int code;
	int failed; /* what ended the connection, -errno; 0: it is good */
	char *path;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* 0: ready; -ETIMEDOUT, or poll's errno. */
static int conn_wait(struct conn *conn, short events)
{
	struct pollfd p = { .fd = conn->fd, .events = events };
	int rc;

	do {
		const uint64_t now = now_ms();
		int wait_ms = -1;

		if (conn->timeout_ms)
			wait_ms = now < conn->deadline_ms
					  ? (int)MIN(conn->deadline_ms - now, 1u << 30)
					  : 0;
		rc = poll(&p, 1, wait_ms);
	} while (rc < 0 && errno == EINTR);
	return rc > 0 ? 0 : rc ? -errno : -ETIMEDOUT;
}

/* What a failed connect(2) means for who typed the command. */
static int connect_failed(int rc, const char *path, struct err *reterr)
{
	switch (rc) {
	case -ENOENT:
	case -ECONNREFUSED:
		return err_set(reterr, rc,
			       "no daemon listens on %s: start vhostd with -r %s, or give --socket",
			       path, path);
	case -EACCES:
	case -EPERM:
		return err_set(reterr, rc,
			       "%s: not permitted: run as its owner or in its group, or start "
			       "vhostd with --rpc-socket-mode or --rpc-socket-group",
			       path);
	case -EAGAIN:
	case -ETIMEDOUT:
		return err_set(reterr, -ETIMEDOUT,
			       "%s: nobody took the connection: too many clients, or the daemon "
			       "hangs; --timeout waits longer",
			       path);
	default:
		return err_set(reterr, rc, "%s: %s", path, strerror(-rc));
	}
}

static int conn_connect(struct conn *conn)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = conn->timeout_ms / 1000,
				 .tv_usec = conn->timeout_ms % 1000 * 1000 };

	memcpy(addr.sun_path, conn->path, strlen(conn->path));
	conn->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (conn->fd < 0)
		return -errno;
	/* A full backlog makes connect wait: for so long only. */
	if (setsockopt(conn->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return -errno;
	if (connect(conn->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return 0;
}

int conn_open(const char *path, uint32_t timeout_ms, struct conn **ret_conn, struct err *reterr)
{
	const size_t limit = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
	struct conn *conn;
	int rc;

	if (!*path || strlen(path) > limit)
		return err_set(reterr, -ENAMETOOLONG,
			       "--socket: expected a path of 1..%zu bytes, got %zu: '%.80s'", limit,
			       strlen(path), path);
	conn = calloc(1, sizeof(*conn));
	if (!conn || !(conn->path = strdup(path))) {
		free(conn);
		return err_set(reterr, -ENOMEM, "out of memory");
	}
	conn->timeout_ms = timeout_ms;
	rc = conn_connect(conn);
	if (rc < 0) {
		connect_failed(rc, path, reterr);
		conn_close(conn);
		return rc == -EAGAIN ? -ETIMEDOUT : rc;
	}
	*ret_conn = conn;
	return 0;
}

void conn_close(struct conn *conn)
{
	if (!conn)
		return;
	if (conn->fd >= 0)
		close(conn->fd);
	free(conn->path);
	free(conn);
}

int conn_code(const struct conn *conn)
{
	return conn->code;
}

void conn_timeout_set(struct conn *conn, uint32_t timeout_ms)
{
	conn->timeout_ms = timeout_ms;
}

static int conn_send(struct conn *conn, const char *bytes, size_t len)
{
	while (len) {
		const ssize_t n = send(conn->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			const int rc = conn_wait(conn, POLLOUT);

			if (rc < 0)
				return rc;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* For json_load_callback: some of what follows. */
static size_t conn_receive(void *buffer, size_t size, void *arg)
{
	struct conn *conn = arg;

	for (;;) {
		const int rc = conn_wait(conn, POLLIN);
		const ssize_t n = rc ? -1 : recv(conn->fd, buffer, size, MSG_DONTWAIT);

		if (n > 0)
			return (size_t)n;
		if (n < 0 && !rc && (errno == EINTR || errno == EAGAIN))
			continue;
		conn->failed = rc ? rc : n ? -errno : -EPIPE;
		return (size_t)-1;
	}
}

/* Why no answer came. rc: of sending, or of the connection. */
static int call_failed(struct conn *conn, int rc, const char *method, const char *detail,
		       struct err *reterr)
{
	conn->failed = rc;
	switch (rc) {
	case -ETIMEDOUT:
		return err_set(reterr, rc,
			       "%s: no answer within %u ms; it may still be done: --timeout waits "
			       "longer",
			       method, conn->timeout_ms);
	case -EPIPE:
	case -ECONNRESET:
		return err_set(reterr, -EPIPE,
			       "%s: the daemon at %s closed the connection: it ended, or does not "
			       "let this user in",
			       method, conn->path);
	case -EPROTO:
		return err_set(reterr, rc, "%s: what listens on %s does not speak JSON-RPC: %s",
			       method, conn->path, detail);
	default:
		return err_set(reterr, rc, "%s: %s", method, strerror(-rc));
	}
}

static int answer_take(struct conn *conn, const char *method, json_t *answer, json_t **ret_result,
		       struct err *reterr)
{
	const json_t *id = json_object_get(answer, "id");
	json_t *error = json_object_get(answer, "error");
	json_t *result = json_object_get(answer, "result");

	if (json_is_object(error)) {
		const char *text = json_string_value(json_object_get(error, "message"));

		conn->code = (int)json_integer_value(json_object_get(error, "code"));
		return err_set(reterr, -EREMOTEIO, "%s", text ? text : "an error without a text");
	}
	if (!result || json_integer_value(id) != conn->id)
		return call_failed(conn, -EPROTO, method, "no result and no error came", reterr);
	*ret_result = json_incref(result);
	return 0;
}

static char *request_text(struct conn *conn, const char *method, json_t *params)
{
	json_t *request =
		json_pack("{s:s, s:I, s:s}", "jsonrpc", "2.0", "id", ++conn->id, "method", method);
	char *text;

	if (params && request)
		json_object_set(request, "params", params);
	json_decref(params);
	text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	json_decref(request);
	return text;
}

int conn_call(struct conn *conn, const char *method, json_t *params, json_t **ret_result,
	      struct err *reterr)
{
	char *text = request_text(conn, method, params);
	json_error_t detail;
	json_t *answer;
	int rc;

	conn->code = 0;
	if (!text)
		return err_set(reterr, -ENOMEM, "%s: out of memory", method);
	if (conn->failed) {
		free(text);
		return call_failed(conn, conn->failed, method, "", reterr);
	}
	conn->deadline_ms = now_ms() + conn->timeout_ms;
	rc = conn_send(conn, text, strlen(text));
	free(text);
	if (rc < 0)
		return call_failed(conn, rc, method, "", reterr);
	answer = json_load_callback(conn_receive, conn, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL,
				    &detail);
	if (!answer)
		return call_failed(conn, conn->failed ? conn->failed : -EPROTO, method, detail.text,
				   reterr);
	rc = answer_take(conn, method, answer, ret_result, reterr);
	json_decref(answer);
	return rc;
}
