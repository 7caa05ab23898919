#include "mgmt/http.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/parcel.h"
#include "loop/job.h"
#include "mgmt/metrics.h"
#include "mgmt/page.h"
#include "sock/listen.h"

#define HTTP_SNAPSHOT_NS 20000000ull
#define HTTP_SWEEP_NS	 1000000000ull
#define HTTP_PATIENCE_NS (HTTP_PATIENCE_S * 1000000000ull)
#define HTTP_BACKLOG	 64

#define ROW(key, kind, at, low, high, dflt, text)                                                  \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct http_options, at),            \
		.min = low, .max = high, .def = dflt, .help = text                                 \
	}

static const struct opts_row http_rows[] = {
	ROW("metrics-socket", OPTS_STR, socket, 0, 0, NULL, "path of the socket for metrics"),
	ROW("metrics-socket-mode", OPTS_STR, mode, 0, 0, "0600", "its permissions, octal"),
	ROW("metrics-port", OPTS_U32, port, 0, 65535, NULL,
	    "metrics on this TCP port of 127.0.0.1 (0: any free one)"),
	ROW("no-metrics", OPTS_BOOL, no_metrics, 0, 0, "off", "no socket for metrics"),
};

const struct opts_table http_options_table = { "metrics", http_rows, ARRAY_SIZE(http_rows) };

struct http_client {
	int fd; /* MHD's; -1: a free slot */
	uint64_t since_ns;
};

struct http_door {
	struct MHD_Daemon *daemon; /* NULL: closed */
	int listen_fd;		   /* the daemon's */
	bool tcp;
	struct http_client clients[HTTP_CLIENTS_MAX];
};

enum {
	DOOR_UNIX,
	DOOR_TCP,
	DOOR_COUNT
};

static struct {
	struct http_door doors[DOOR_COUNT];
	struct listen_file file;
	int from_fds[DOOR_COUNT]; /* of a predecessor; -1: none */
	struct listen_file from_file;
	struct snapshot_source source;
	pthread_mutex_t clients_lock; /* of all doors' clients */
	/* snapshot and its use: the doors' threads take turns */
	pthread_mutex_t snapshot_lock;
	struct snapshot *snapshot;
	/* looks for clients without end */
	struct loop_timer sweep;
	bool sweeping, stopping, started; /* main's: not in one word with what others write */
	struct loop_msg client_msg;
	atomic_bool client_posted;
	struct job stop_job;
	struct loop_msg stop_msg;
	void (*stopped)(void *arg);
	void *stopped_arg;
} http = {
	.clients_lock = PTHREAD_MUTEX_INITIALIZER,
	.snapshot_lock = PTHREAD_MUTEX_INITIALIZER,
	.from_fds = { -1, -1 },
};

/* ---- options ---- */

static int http_mode(const struct http_options *o, mode_t *ret_mode, struct err *reterr)
{
	const char *text = o->mode ? o->mode : "0600";
	char *end;
	unsigned long mode = strtoul(text, &end, 8);

	if (*end || *text < '0' || *text > '7' || mode > 0777)
		return err_set(reterr, -EINVAL,
			       "--metrics-socket-mode: expected 0..0777 (octal), got '%.32s'",
			       text);
	*ret_mode = (mode_t)mode;
	return 0;
}

int http_options_check(const struct http_options *o, struct err *reterr)
{
	mode_t mode;

	if (o->no_metrics && (o->socket || o->port_given || o->socket_fd))
		return err_set(reterr, -EINVAL, "--no-metrics: not together with %s",
			       o->socket       ? "--metrics-socket"
			       : o->port_given ? "--metrics-port"
					       : "an inherited socket");
	if (o->socket && o->socket_fd)
		return err_set(reterr, -EINVAL,
			       "--metrics-socket: not together with an inherited socket "
			       "('metrics')");
	return http_mode(o, &mode, reterr);
}

/* ---- clients: neither slow ones nor silent ones stay (Thread: the door's; sweep: main) ---- */

static void http_sweep(struct loop_timer *t)
{
	uint64_t now_ns = loop_clock_ns();
	bool any = false;

	pthread_mutex_lock(&http.clients_lock);
	for (int d = 0; d < DOOR_COUNT; d++) {
		for (int i = 0; i < HTTP_CLIENTS_MAX; i++) {
			const struct http_client *c = &http.doors[d].clients[i];

			if (c->fd < 0)
				continue;
			any = true;
			/* The door's thread sees the end, and closes it. */
			if (now_ns > c->since_ns && now_ns - c->since_ns > HTTP_PATIENCE_NS)
				shutdown(c->fd, SHUT_RDWR);
		}
	}
	pthread_mutex_unlock(&http.clients_lock);
	http.sweeping = any && !http.stopping;
	if (http.sweeping)
		loop_timer_start(http.source.main_loop, t, now_ns + HTTP_SWEEP_NS);
}

static void http_on_client(struct loop_msg *msg)
{
	atomic_store(&http.client_posted, false);
	if (http.sweeping || http.stopping)
		return;
	http.sweeping = true;
	loop_timer_start(http.source.main_loop, &http.sweep, loop_clock_ns() + HTTP_SWEEP_NS);
}

static struct http_client *http_client_slot(struct http_door *door, int fd)
{
	for (int i = 0; i < HTTP_CLIENTS_MAX; i++) {
		struct http_client *c = &door->clients[i];

		if (c->fd < 0) {
			c->fd = fd;
			c->since_ns = loop_clock_ns();
			return c;
		}
	}
	UNREACHABLE(); /* MHD_OPTION_CONNECTION_LIMIT */
}

static void http_on_connection(void *cls, struct MHD_Connection *conn, void **context,
			       enum MHD_ConnectionNotificationCode code)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct http_client *client = *context;

	pthread_mutex_lock(&http.clients_lock);
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		*context = http_client_slot(cls, info->connect_fd);
	else if (client)
		client->fd = -1;
	pthread_mutex_unlock(&http.clients_lock);
	if (code == MHD_CONNECTION_NOTIFY_STARTED && !atomic_exchange(&http.client_posted, true))
		loop_post(http.source.main_loop, &http.client_msg);
}

static void http_on_completed(void *cls, struct MHD_Connection *conn, void **req,
			      enum MHD_RequestTerminationCode code)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct http_client *client = info ? info->socket_context : NULL;

	pthread_mutex_lock(&http.clients_lock);
	if (client)
		client->since_ns = loop_clock_ns();
	pthread_mutex_unlock(&http.clients_lock);
}

/* ---- answers (Thread: the door's) ---- */

static void http_take(void *arg)
{
	struct snapshot **snap = arg;

	*snap = snapshot_take(&http.source);
}

/* With snapshot_lock held; NULL: out of memory. */
static const struct snapshot *http_snapshot(void)
{
	struct snapshot *snap;

	if (http.snapshot && loop_clock_ns() - http.snapshot->process.taken_ns < HTTP_SNAPSHOT_NS)
		return http.snapshot;
	loop_call(http.source.main_loop, http_take, &snap);
	if (snap)
		snapshot_process(&snap->process);
	snapshot_free(http.snapshot);
	http.snapshot = snap;
	return snap;
}

static enum MHD_Result http_answer(struct MHD_Connection *conn, unsigned int status,
				   const char *type, char *text, size_t len, bool owned)
{
	static const char *const headers[][2] = {
		{ "Cache-Control", "no-store" },
		{ "X-Content-Type-Options", "nosniff" },
		{ "X-Frame-Options", "DENY" },
		{ "Referrer-Policy", "no-referrer" },
		{ "Content-Security-Policy",
		  "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
		  "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'" },
	};
	struct MHD_Response *r = MHD_create_response_from_buffer(
		len, text, owned ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	enum MHD_Result result;

	if (!r) {
		if (owned)
			free(text);
		return MHD_NO;
	}
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++)
		MHD_add_response_header(r, headers[i][0], headers[i][1]);
	MHD_add_response_header(r, "Content-Type", type);
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, "Allow", "GET, HEAD");
	result = MHD_queue_response(conn, status, r);
	MHD_destroy_response(r);
	return result;
}

static enum MHD_Result http_refuse(struct MHD_Connection *conn, unsigned int status,
				   const char *text)
{
	return http_answer(conn, status, "text/plain; charset=utf-8", (char *)text, strlen(text),
			   false);
}

struct http_path {
	const char *path;
	int (*write)(const struct snapshot *snap, enum metrics_format format, FILE *out);
	const char *type; /* NULL: the format's */
};

static int http_write_metrics(const struct snapshot *snap, enum metrics_format format, FILE *out)
{
	metrics_write(snap, format, out);
	return 0;
}

static int http_write_page(const struct snapshot *snap, enum metrics_format format, FILE *out)
{
	page_write(snap, out);
	return 0;
}

static int http_write_status(const struct snapshot *snap, enum metrics_format format, FILE *out)
{
	return page_status_write(snap, out);
}

static const struct http_path http_paths[] = {
	{ "/metrics", http_write_metrics, NULL },
	{ "/", http_write_page, "text/html; charset=utf-8" },
	{ "/status.json", http_write_status, "application/json" },
};

/* Malloc'ed; NULL: out of memory. */
static char *http_text(const struct http_path *path, enum metrics_format format, size_t *ret_len)
{
	const struct snapshot *snap;
	char *text = NULL;
	FILE *out;
	int rc = -ENOMEM;

	pthread_mutex_lock(&http.snapshot_lock);
	snap = http_snapshot();
	out = snap ? open_memstream(&text, ret_len) : NULL;
	if (out) {
		rc = path->write(snap, format, out);
		if (ferror(out))
			rc = -ENOMEM;
		if (fclose(out))
			rc = -ENOMEM;
	}
	pthread_mutex_unlock(&http.snapshot_lock);
	if (rc == 0)
		return text;
	free(text);
	return NULL;
}

/* Does the client say that it speaks to this machine itself? */
static bool http_host_is_ours(struct MHD_Connection *conn)
{
	static const char *const names[] = { "127.0.0.1", "localhost", "[::1]" };
	const char *host = MHD_lookup_connection_value(conn, MHD_HEADER_KIND, "Host");

	for (size_t i = 0; host && i < ARRAY_SIZE(names); i++) {
		size_t len = strlen(names[i]);

		if (strncasecmp(host, names[i], len) || (host[len] && host[len] != ':'))
			continue;
		if (!host[len] || strspn(host + len + 1, "0123456789") == strlen(host + len + 1))
			return true;
	}
	return false;
}

static const struct http_path *http_path_find(const char *url)
{
	for (size_t i = 0; i < ARRAY_SIZE(http_paths); i++)
		if (!strcmp(url, http_paths[i].path))
			return &http_paths[i];
	return NULL;
}

static enum MHD_Result http_on_request(void *cls, struct MHD_Connection *conn, const char *url,
				       const char *method, const char *version, const char *upload,
				       size_t *upload_len, void **req)
{
	const struct http_door *door = cls;
	const struct http_path *path = http_path_find(url);
	enum metrics_format format = metrics_format_accepted(
		MHD_lookup_connection_value(conn, MHD_HEADER_KIND, "Accept"));
	char *text;
	size_t len;

	if (door->tcp && !http_host_is_ours(conn))
		return http_refuse(conn, MHD_HTTP_FORBIDDEN,
				   "Host: expected 127.0.0.1 or localhost: this port is for this "
				   "machine alone\n");
	if (strcmp(method, "GET") && strcmp(method, "HEAD"))
		return http_refuse(conn, MHD_HTTP_METHOD_NOT_ALLOWED,
				   "expected GET or HEAD: nothing can be changed here\n");
	/* The first call of two: what is answered now ends the connection. */
	if (!*req) {
		*req = conn;
		return MHD_YES;
	}
	if (!path)
		return http_refuse(conn, MHD_HTTP_NOT_FOUND,
				   "expected /, /metrics or /status.json\n");
	text = http_text(path, format, &len);
	if (!text)
		return http_refuse(conn, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory\n");
	return http_answer(conn, MHD_HTTP_OK,
			   path->type ? path->type : metrics_content_types[format], text, len,
			   true);
}

/* ---- life ---- */

/* Takes fd. */
static int door_open(struct http_door *door, int fd, bool tcp, struct err *reterr)
{
	door->tcp = tcp;
	door->daemon = MHD_start_daemon(
		MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, http_on_request, door,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned int)HTTP_CLIENTS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)HTTP_MEMORY_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned int)HTTP_PATIENCE_S, MHD_OPTION_NOTIFY_CONNECTION, http_on_connection,
		door, MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, door,
		MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
	door->listen_fd = fd;
	if (door->daemon)
		return 0;
	close(fd);
	return err_set(reterr, -ENOMEM, "metrics: no server: %s", strerror(errno));
}

/* ---- hand-over ---- */

#define HTTP_TAG     "http"
#define HTTP_VERSION 1

void http_pack(struct parcel *p)
{
	struct parcel_section s;

	parcel_section_begin(p, &s, HTTP_TAG, HTTP_VERSION);
	for (int d = 0; d < DOOR_COUNT; d++)
		parcel_put_fd(p, http.doors[d].daemon ? http.doors[d].listen_fd : -1);
	parcel_put_str(p, http.file.path);
	parcel_put_u64(p, http.file.dev);
	parcel_put_u64(p, http.file.ino);
	parcel_section_done(p, &s);
}

int http_unpack(struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc = parcel_section_enter(p, &s, HTTP_TAG, HTTP_VERSION, reterr);

	if (rc < 0)
		return rc;
	for (int d = 0; d < DOOR_COUNT; d++)
		http.from_fds[d] = parcel_take_fd(p);
	http.from_file.path = parcel_take_str(p);
	http.from_file.dev = parcel_take_u64(p);
	http.from_file.ino = parcel_take_u64(p);
	return parcel_section_end(p, &s, HTTP_TAG, reterr);
}

/* -1: there is none. The caller's. */
static int http_from_take(int door)
{
	int fd = http.from_fds[door];

	http.from_fds[door] = -1;
	return fd;
}

static int http_listen_unix(const char *path, mode_t mode, int *ret_fd, struct err *reterr)
{
	*ret_fd = http_from_take(DOOR_UNIX);
	if (*ret_fd < 0)
		return listen_open(path, mode, &http.file, ret_fd, reterr);
	http.file = http.from_file;
	http.from_file.path = NULL;
	listen_again(*ret_fd);
	return 0;
}

static int http_open_unix(const char *path, mode_t mode, struct err *reterr)
{
	int fd, rc = http_listen_unix(path, mode, &fd, reterr);

	if (rc < 0)
		return err_prefix(reterr, rc, "metrics");
	rc = door_open(&http.doors[DOOR_UNIX], fd, false, reterr);
	if (rc < 0)
		listen_file_remove(&http.file);
	return rc;
}

static int http_open_tcp(uint32_t port, struct err *reterr)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd = http_from_take(DOOR_TCP), one = 1, rc;

	if (fd >= 0)
		return door_open(&http.doors[DOOR_TCP], fd, true, reterr);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(reterr, -errno, "--metrics-port: socket: %s", strerror(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, HTTP_BACKLOG) ||
	    getsockname(fd, (struct sockaddr *)&at, &len)) {
		rc = err_set(reterr, -errno, "--metrics-port: 127.0.0.1:%u: %s", port,
			     strerror(errno));
		close(fd);
		return rc;
	}
	rc = door_open(&http.doors[DOOR_TCP], fd, true, reterr);
	if (rc == 0)
		log_notice("status page and metrics: http://127.0.0.1:%u/", ntohs(at.sin_port));
	return rc;
}

/* Its file, if it has one, is somebody else's. */
static int http_open_inherited(int fd, struct err *reterr)
{
	int family = AF_UNIX, flags = fcntl(fd, F_GETFL);
	socklen_t len = sizeof(family);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len) < 0 || flags < 0 ||
	    fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_set(reterr, -errno, "metrics: descriptor %d: %s", fd, strerror(errno));
	return door_open(&http.doors[DOOR_UNIX], fd, family != AF_UNIX, reterr);
}

/* Nobody asked for it: what stands in its way is worth a line to who looks for it. */
static void http_try_default(mode_t mode)
{
	struct err err = { 0 };
	int rc;

	if (mkdir("/var/run/vhostd", 0755) < 0 && errno != EEXIST)
		rc = err_set(&err, -errno, "/var/run/vhostd: %s", strerror(errno));
	else
		rc = http_open_unix(HTTP_SOCKET_DEFAULT, mode, &err);
	if (rc < 0)
		log_info("no metrics (--metrics-socket PATH makes a socket for them): %s", err.msg);
}

int http_start(const struct http_options *o, bool try_default, const struct snapshot_source *source,
	       struct err *reterr)
{
	mode_t mode;
	int rc = http_mode(o, &mode, reterr);

	if (rc < 0 || o->no_metrics)
		return rc;
	http.source = *source;
	http.client_msg.fn = http_on_client;
	loop_timer_init(&http.sweep, http_sweep);
	for (int d = 0; d < DOOR_COUNT; d++)
		for (int i = 0; i < HTTP_CLIENTS_MAX; i++)
			http.doors[d].clients[i].fd = -1;
	http.started = true;
	snapshot_init();
	if (o->socket)
		rc = http_open_unix(o->socket, mode, reterr);
	else if (o->socket_fd)
		rc = http_open_inherited(
			o->socket_fd < 0 ? http_from_take(DOOR_UNIX) : o->socket_fd, reterr);
	else if (try_default)
		http_try_default(mode);
	if (rc == 0 && o->port_given)
		rc = http_open_tcp(o->port, reterr);
	return rc;
}

/* Waits for the doors' threads, which may wait for main: so it is a job. Thread: job. */
static void http_stop_run(struct job *job)
{
	for (int d = 0; d < DOOR_COUNT; d++) {
		if (http.doors[d].daemon)
			MHD_stop_daemon(http.doors[d].daemon);
		http.doors[d].daemon = NULL;
	}
}

static void http_stop_done(struct job *job)
{
	loop_timer_stop(&http.sweep);
	listen_file_remove(&http.file);
	snapshot_free(http.snapshot);
	http.snapshot = NULL;
	http.started = false;
	http.stopped(http.stopped_arg);
}

static void http_on_stop_msg(struct loop_msg *msg)
{
	http.stopped(http.stopped_arg);
}

void http_stop(struct loop *main_loop, void (*stopped)(void *arg), void *arg)
{
	http.stopped = stopped;
	http.stopped_arg = arg;
	http.stopping = true;
	if (!http.started) {
		http.stop_msg.fn = http_on_stop_msg;
		loop_post(main_loop, &http.stop_msg);
		return;
	}
	http.stop_job = (struct job){ .fn = http_stop_run, .done = http_stop_done };
	job_start(&http.stop_job);
}

void http_unlink(void)
{
	listen_file_remove(&http.file);
}
