#include "mgmt/server.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/parcel.h"
#include "loop/loop.h"
#include "mgmt/client.h"
#include "mgmt/exchange.h"
#include "sock/endpoint.h"

#define SERVER_IDS_MAX	  32
#define SERVER_GROUPS_MAX 256 /* supplementary groups of a client that are looked at */
#define SERVER_DOORS	  3

#define ROW(key, kind, at, dflt, text)                                                             \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct server_options, at),          \
		.def = dflt, .help = text                                                          \
	}

static const struct opts_row server_rows[] = {
	ROW("rpc-socket", OPTS_STR, socket, NULL, "path of the management socket"),
	ROW("rpc-socket-mode", OPTS_STR, mode, NULL,
	    "its permissions, octal (0600; with group 0660)"),
	ROW("rpc-socket-owner", OPTS_STR, owner, NULL, "its owner, name or number"),
	ROW("rpc-socket-group", OPTS_STR, group, NULL, "its group, name or number"),
	ROW("rpc-readonly-socket", OPTS_STR, readonly_socket, NULL,
	    "path of a second one, for methods that change nothing"),
	ROW("rpc-readonly-mode", OPTS_STR, readonly_mode, NULL, "its permissions (as the first's)"),
	ROW("rpc-spdk-socket", OPTS_BOOL, spdk_socket, "off", "also " SERVER_SOCKET_SPDK),
	ROW("rpc-allow-uid", OPTS_STR, allow_uids, NULL, "more users that may connect: U,U,..."),
	ROW("rpc-allow-gid", OPTS_STR, allow_gids, NULL, "more groups that may connect: G,G,..."),
	ROW("socket-dir", OPTS_STR, socket_dir, SERVER_DIR_DEFAULT,
	    "folder of the sockets of devices that methods make"),
	ROW("no-rpc", OPTS_BOOL, no_rpc, "off", "no management socket"),
	ROW("wait-for-rpc", OPTS_BOOL, wait_for_rpc, "off",
	    "start with the call of framework_start_init"),
};

const struct opts_table server_options_table = { "the management socket", server_rows,
						 ARRAY_SIZE(server_rows) };

struct server_ids {
	uint32_t ids[SERVER_IDS_MAX + 1]; /* and the socket's owner or group */
	uint32_t count;
};

struct door {
	struct endpoint *ep; /* NULL: closed */
	char *path;
	bool admin;
};

static struct {
	struct door doors[SERVER_DOORS];
	struct server_ids uids, gids;
	struct loop *main_loop;
	struct parcel *from; /* server_unpack: sockets of these doors come from there */
	bool there[SERVER_DOORS];
	uint32_t pending;
	void (*stopped)(void *arg);
	void *stopped_arg;
	struct loop_msg stop_msg;
} server;

/* ---- options ---- */

static int server_mode(const char *what, const char *text, mode_t *ret_mode, struct err *reterr)
{
	char *end;
	unsigned long mode = strtoul(text, &end, 8);

	if (*end || *text < '0' || *text > '7' || mode > 0777)
		return err_set(reterr, -EINVAL, "--%s: expected 0..0777 (octal), got '%.32s'", what,
			       text);
	*ret_mode = (mode_t)mode;
	return 0;
}

/* A number, or the name of a user or group. */
static int server_id(const char *what, const char *text, bool group, uint32_t *ret_id,
		     struct err *reterr)
{
	char *end;
	unsigned long id = strtoul(text, &end, 10);
	const struct passwd *pw;
	const struct group *gr;

	if (*text >= '0' && *text <= '9' && !*end && id < UINT32_MAX) {
		*ret_id = (uint32_t)id;
		return 0;
	}
	if (!group && (pw = getpwnam(text))) {
		*ret_id = pw->pw_uid;
		return 0;
	}
	if (group && (gr = getgrnam(text))) {
		*ret_id = gr->gr_gid;
		return 0;
	}
	return err_set(reterr, -EINVAL, "--%s: expected a %s's name or number, got '%.64s'", what,
		       group ? "group" : "user", text);
}

static int server_ids_add(struct server_ids *to, const char *what, const char *list, bool group,
			  struct err *reterr)
{
	char *copy = list ? strdup(list) : NULL, *rest = copy, *word;
	int rc = list && !copy ? err_set(reterr, -ENOMEM, "out of memory") : 0;

	while (rc == 0 && (word = strsep(&rest, ","))) {
		if (to->count == SERVER_IDS_MAX)
			rc = err_set(reterr, -E2BIG, "--%s: expected at most %d", what,
				     SERVER_IDS_MAX);
		else
			rc = server_id(what, word, group, &to->ids[to->count], reterr);
		to->count += rc == 0;
	}
	free(copy);
	return rc;
}

struct server_rights {
	struct server_ids uids, gids;
	uid_t owner;
	gid_t group;
	mode_t mode, readonly_mode;
};

static int server_rights(const struct server_options *o, struct server_rights *r,
			 struct err *reterr)
{
	int rc;

	*r = (struct server_rights){ .owner = (uid_t)-1,
				     .group = (gid_t)-1,
				     .mode = o->group ? 0660 : 0600 };
	rc = o->mode ? server_mode("rpc-socket-mode", o->mode, &r->mode, reterr) : 0;
	r->readonly_mode = r->mode;
	if (rc == 0 && o->readonly_mode)
		rc = server_mode("rpc-readonly-mode", o->readonly_mode, &r->readonly_mode, reterr);
	if (rc == 0 && o->owner)
		rc = server_id("rpc-socket-owner", o->owner, false, &r->owner, reterr);
	if (rc == 0 && o->group)
		rc = server_id("rpc-socket-group", o->group, true, &r->group, reterr);
	if (rc == 0)
		rc = server_ids_add(&r->uids, "rpc-allow-uid", o->allow_uids, false, reterr);
	if (rc == 0)
		rc = server_ids_add(&r->gids, "rpc-allow-gid", o->allow_gids, true, reterr);
	return rc;
}

/* The default socket must be there: options say how, or nothing could be started without it. */
static bool server_default_wanted(const struct server_options *o)
{
	return !o->socket && !o->socket_fd &&
	       (o->mode || o->owner || o->group || o->allow_uids || o->allow_gids ||
		(o->wait_for_rpc && !o->spdk_socket));
}

bool server_wanted(const struct server_options *o)
{
	return !o->no_rpc && (o->socket || o->socket_fd || o->readonly_socket || o->readonly_fd ||
			      o->spdk_socket || server_default_wanted(o));
}

int server_options_check(const struct server_options *o, struct err *reterr)
{
	struct server_rights rights;

	if (o->no_rpc && o->wait_for_rpc)
		return err_set(reterr, -EINVAL,
			       "--wait-for-rpc: not together with --no-rpc: nobody could call");
	if (o->no_rpc && (o->socket_fd || o->readonly_fd))
		return err_set(reterr, -EINVAL, "--no-rpc: not together with an inherited socket");
	if (o->socket && o->socket_fd)
		return err_set(reterr, -EINVAL,
			       "--rpc-socket: not together with an inherited socket ('rpc')");
	if (o->readonly_socket && o->readonly_fd)
		return err_set(reterr, -EINVAL,
			       "--rpc-readonly-socket: not together with an inherited socket "
			       "('rpc-read-only')");
	return server_rights(o, &rights, reterr);
}

/* ---- who may connect ---- */

static bool server_ids_have(const struct server_ids *ids, uint32_t id)
{
	for (uint32_t i = 0; i < ids->count; i++)
		if (ids->ids[i] == id)
			return true;
	return false;
}

static bool server_group_allowed(int fd, gid_t gid)
{
	gid_t groups[SERVER_GROUPS_MAX];
	socklen_t len = sizeof(groups);

	if (!server.gids.count)
		return false;
	if (server_ids_have(&server.gids, gid))
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(*groups); i++)
		if (server_ids_have(&server.gids, groups[i]))
			return true;
	return false;
}

static int server_peer_check(int fd, struct err *reterr)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return err_set(reterr, -errno, "who it is: %s", strerror(errno));
	if (peer.uid == 0 || peer.uid == geteuid() || server_ids_have(&server.uids, peer.uid) ||
	    server_group_allowed(fd, peer.gid))
		return 0;
	return err_set(reterr, -EACCES,
		       "process %d of user %u, group %u may not connect: --rpc-allow-uid and "
		       "--rpc-allow-gid let others in",
		       (int)peer.pid, peer.uid, peer.gid);
}

static int server_serve(void *arg, struct endpoint *ep, int fd, struct endpoint_conn **ret_conn,
			struct err *reterr)
{
	static const char refusal[] =
		"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-1,\"message\":\"Permission "
		"denied: this user may not use the management socket; --rpc-allow-uid and "
		"--rpc-allow-gid of vhostd let others in\"}}\n";
	const struct door *door = arg;
	int rc = server_peer_check(fd, reterr);

	if (rc < 0) {
		if (send(fd, refusal, sizeof(refusal) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			err_prefix(reterr, rc, "not told");
		close(fd);
		return rc;
	}
	return client_new(fd, door->admin, server.main_loop, ret_conn, reterr);
}

static const struct endpoint_ops server_ops = { .serve = server_serve, .close = client_close };

/* ---- life ---- */

/* path NULL: fd, which was inherited. */
static int door_open(struct door *door, const char *path, int fd, bool admin,
		     const struct server_rights *rights, struct err *reterr)
{
	const struct endpoint_params params = {
		.name = admin ? "management socket" : "read-only management socket",
		.socket_path = path,
		.fd = path ? -1 : fd,
		.socket_mode = admin ? rights->mode : rights->readonly_mode,
		.from = server.there[door - server.doors] ? server.from : NULL,
		.connections_max = SERVER_CLIENTS_MAX,
		.main_loop = server.main_loop,
		.ops = &server_ops,
		.arg = door,
	};
	int rc;

	door->admin = admin;
	door->path = path ? strdup(path) : NULL;
	if (path && !door->path)
		return err_set(reterr, -ENOMEM, "out of memory");
	rc = endpoint_start(&params, &door->ep, reterr);
	if (rc == 0 && path && (rights->owner != (uid_t)-1 || rights->group != (gid_t)-1) &&
	    lchown(path, rights->owner, rights->group) < 0)
		rc = err_set(reterr, -errno, "%s: owner and group: %s", path, strerror(errno));
	return rc;
}

static int door_open_default(struct door *door, const struct server_rights *rights,
			     struct err *reterr)
{
	if (mkdir(SERVER_FOLDER_DEFAULT, 0755) < 0 && errno != EEXIST)
		return err_set(reterr, -errno, SERVER_FOLDER_DEFAULT ": %s", strerror(errno));
	return door_open(door, SERVER_SOCKET_DEFAULT, -1, true, rights, reterr);
}

/* Nobody asked for it: what stands in its way is worth a line to who looks for it. */
static void server_try_default(const struct server_rights *rights)
{
	struct door *door = &server.doors[0];
	struct err err = { 0 };

	if (door_open_default(door, rights, &err) == 0)
		return;
	log_info("no management socket (--rpc-socket PATH makes one): %s", err.msg);
	free(door->path);
	door->path = NULL;
}

static int server_open(const struct server_options *o, bool try_default,
		       const struct server_rights *rights, struct err *reterr)
{
	int rc = 0;

	if (o->socket || o->socket_fd)
		rc = door_open(&server.doors[0], o->socket, o->socket_fd, true, rights, reterr);
	else if (server_default_wanted(o))
		rc = door_open_default(&server.doors[0], rights, reterr);
	else if (try_default)
		server_try_default(rights);
	if (rc == 0 && (o->readonly_socket || o->readonly_fd))
		rc = door_open(&server.doors[1], o->readonly_socket, o->readonly_fd, false, rights,
			       reterr);
	if (rc == 0 && o->spdk_socket)
		rc = door_open(&server.doors[2], SERVER_SOCKET_SPDK, -1, true, rights, reterr);
	return rc;
}

int server_start(const struct server_options *o, bool try_default, struct loop *main_loop,
		 struct err *reterr)
{
	struct server_rights rights;
	int rc = server_rights(o, &rights, reterr);

	if (rc < 0 || o->no_rpc)
		return rc;
	server.main_loop = main_loop;
	server.uids = rights.uids;
	server.gids = rights.gids;
	if (o->owner)
		server.uids.ids[server.uids.count++] = rights.owner;
	if (o->group)
		server.gids.ids[server.gids.count++] = rights.group;
	return server_open(o, try_default, &rights, reterr);
}

/* ---- hand-over ---- */

#define SERVER_TAG     "rpcs"
#define SERVER_VERSION 1

void server_freeze(bool frozen)
{
	for (uint32_t i = 0; i < SERVER_DOORS; i++)
		if (server.doors[i].ep)
			endpoint_freeze(server.doors[i].ep, frozen);
}

int server_pack(struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc = 0;

	parcel_section_begin(p, &s, SERVER_TAG, SERVER_VERSION);
	for (uint32_t i = 0; i < SERVER_DOORS; i++)
		parcel_put_u32(p, server.doors[i].ep != NULL);
	for (uint32_t i = 0; i < SERVER_DOORS && rc == 0; i++)
		if (server.doors[i].ep)
			rc = endpoint_pack(server.doors[i].ep, p, reterr);
	parcel_section_done(p, &s);
	return rc;
}

int server_unpack(const struct server_options *o, bool try_default, struct loop *main_loop,
		  struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc = parcel_section_enter(p, &s, SERVER_TAG, SERVER_VERSION, reterr);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < SERVER_DOORS; i++)
		server.there[i] = parcel_take_bool(p);
	server.from = p;
	rc = server_start(o, try_default, main_loop, reterr);
	server.from = NULL;
	memset(server.there, 0, sizeof(server.there));
	return rc < 0 ? rc : parcel_section_end(p, &s, SERVER_TAG, reterr);
}

static void server_leave(void)
{
	if (--server.pending)
		return;
	server.stopped(server.stopped_arg);
}

static void door_on_stopped(void *arg)
{
	struct door *door = arg;

	door->ep = NULL;
	free(door->path);
	door->path = NULL;
	server_leave();
}

static void server_on_stop_msg(struct loop_msg *msg)
{
	server_leave();
}

void server_stop(struct loop *main_loop, void (*stopped)(void *arg), void *arg)
{
	server.stopped = stopped;
	server.stopped_arg = arg;
	server.pending = 1; /* ours */
	exchanges_stop();
	for (uint32_t i = 0; i < SERVER_DOORS; i++) {
		struct door *door = &server.doors[i];

		if (!door->ep) {
			free(door->path);
			door->path = NULL;
			continue;
		}
		server.pending++;
		endpoint_stop(door->ep, door_on_stopped, door);
	}
	server.stop_msg.fn = server_on_stop_msg;
	loop_post(main_loop, &server.stop_msg);
}

void server_unlink(void)
{
	for (uint32_t i = 0; i < SERVER_DOORS; i++)
		if (server.doors[i].ep && server.doors[i].path)
			unlink(server.doors[i].path);
}
