/*
 * libFuzzer: bytes on the management socket. The first byte says what the rest is:
 *
 *   even  a stream to a client of the read-only socket, in pieces of a size that the next byte
 *         gives: framing, requests, batches, methods that change nothing. Whatever is answered must
 *         be JSON, one text a line
 *   odd   {"method": ..., "params": ...}, whose parameters go through that method's table; it is
 *         not run, since most methods open files and sockets
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/num.h"
#include "loop/loop.h"
#include "mgmt/call.h"
#include "mgmt/client.h"
#include "mgmt/framework.h"
#include "mgmt/jsonrpc.h"
#include "mgmt/params.h"
#include "mgmt/registry.h"
#include "sock/endpoint.h"

#define ROUNDS_MAX 4096

static struct loop *loop;
static struct loop *no_loops[1];
static const uint32_t no_count;
static bool ended;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct loop_params params = { .name = "fuzz", .cpu = -1 };
	struct framework about = { .loops = no_loops, .loop_count = &no_count };

	log_set_level(LOG_ERROR);
	ASSERT(loop_new(&params, &loop, NULL) == 0);
	loop_run_once(loop, false);
	about.main_loop = loop;
	framework_set(&about);
	call_runtime_begin();
	return 0;
}

/* ---- streams ---- */

static int on_serve(void *arg, struct endpoint *ep, int fd, struct endpoint_conn **ret_conn,
		    struct err *reterr)
{
	return client_new(fd, false, loop, ret_conn, reterr);
}

static const struct endpoint_ops ops = { .serve = on_serve, .close = client_close };

static void on_done(void *arg)
{
	ended = true;
}

static void on_stopped(void *arg)
{
	*(bool *)arg = true;
}

/* Each line is a JSON text. */
static void answers_expected(struct jsonrpc_out *out)
{
	char *line = out->bytes, *end;
	json_t *v;

	while (line && (end = memchr(line, '\n', out->bytes + out->len_bytes - line))) {
		v = json_loadb(line, end - line, 0, NULL);
		ASSERT(v);
		json_decref(v);
		line = end + 1;
	}
	jsonrpc_out_fini(out);
}

static void read_answers(int fd, struct jsonrpc_out *out)
{
	char buf[65536];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		ASSERT(jsonrpc_out_append(out, buf, (size_t)n, SIZE_MAX));
}

static void fuzz_stream(const uint8_t *in, size_t len)
{
	const size_t piece = len && in[0] ? in[0] * 16u : len;
	struct jsonrpc_out out = { 0 };
	struct endpoint_params params = { .name = "fuzz", .connections_max = 1, .ops = &ops };
	struct endpoint *ep;
	bool stopped = false;
	size_t sent = len ? 1 : 0;
	int fds[2];

	ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
	params.fd = fds[0];
	params.main_loop = loop;
	params.on_done = on_done;
	ended = false;
	ASSERT(endpoint_start(&params, &ep, NULL) == 0);
	for (uint32_t i = 0; i < ROUNDS_MAX && !ended; i++) {
		if (sent < len) {
			ssize_t n = send(fds[1], in + sent, MIN(piece, len - sent), MSG_NOSIGNAL);

			sent += n > 0 ? (size_t)n : 0;
			if (n < 0 && errno != EAGAIN)
				sent = len;
		} else if (sent == len) {
			shutdown(fds[1], SHUT_WR);
			sent++;
		}
		loop_run_once(loop, false);
		read_answers(fds[1], &out);
	}
	endpoint_stop(ep, on_stopped, &stopped);
	while (!stopped)
		loop_run_once(loop, false);
	read_answers(fds[1], &out);
	close(fds[1]);
	answers_expected(&out);
}

/* ---- parameters ---- */

static void fuzz_params(const char *text, size_t len)
{
	struct err err = { 0 };
	const struct rpc_method *m;
	const char *name;
	json_t *call;
	void *obj;
	int rc;

	if (jsonrpc_parse(text, len, &call, &err) < 0) {
		ASSERT(err.msg[0]);
		return;
	}
	name = json_string_value(json_object_get(call, "method"));
	m = name ? registry_find(name) : NULL;
	if (m && m->params) {
		const json_t *params = json_object_get(call, "params");

		obj = calloc(1, m->params_bytes);
		ASSERT(obj);
		rc = params_fill(m->params, obj, json_is_object(params) ? params : NULL, &err);
		ASSERT(rc == 0 || (rc < 0 && err.code == rc && err.msg[0]));
		opts_free(m->params, obj);
		free(obj);
	}
	json_decref(call);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	struct jsonrpc_scan scan = { 0 };
	size_t used;

	if (!len)
		return 0;
	if (in[0] & 1) {
		enum jsonrpc_found found =
			jsonrpc_scan(&scan, (const char *)in + 1, len - 1, &used, NULL);

		ASSERT(used <= len - 1);
		if (found == JSONRPC_COMPLETE)
			fuzz_params((const char *)in + 1, used);
	} else {
		fuzz_stream(in + 1, len - 1);
	}
	return 0;
}
