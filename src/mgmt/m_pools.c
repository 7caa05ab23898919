/*
 * iobuf_*, sock_* and env_*: what SPDK has and we do not need, so that programs and saved
 * configurations that name it go on. Nothing here is kept.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "mgmt/tables.h"

#define NO_EFFECT "no effect"

struct iobuf {
	uint64_t small_pool_count, large_pool_count;
	uint32_t small_bufsize, large_bufsize;
	bool enable_numa;
};

#define IOBUF_ROW(key, kind, lo, hi, dflt)                                                         \
	{                                                                                          \
		.name = #key, .type = kind, .offset = offsetof(struct iobuf, key), .min = lo,      \
		.max = hi, .def = dflt, .help = NO_EFFECT                                          \
	}

static const struct opts_row iobuf_rows[] = {
	IOBUF_ROW(small_pool_count, OPTS_U64, 0, 0, "8192"),
	IOBUF_ROW(large_pool_count, OPTS_U64, 0, 0, "1024"),
	IOBUF_ROW(small_bufsize, OPTS_U32, 0, 0, "8192"),
	IOBUF_ROW(large_bufsize, OPTS_U32, 0, 0, "135168"),
	IOBUF_ROW(enable_numa, OPTS_BOOL, 0, 0, "false"),
};
static const struct opts_table iobuf_params = { "iobuf_set_options", iobuf_rows,
						ARRAY_SIZE(iobuf_rows) };

static void accept_all(struct rpc_call *call, void *params)
{
	rpc_result_true(call);
}

static void iobuf_get_stats(struct rpc_call *call, void *params)
{
	rpc_result(call, json_array());
}

/* ---- sock ---- */

static const char *const sock_impls[] = { "posix", "uring", "ssl", NULL };

struct sock {
	int impl_name;
	uint32_t recv_buf_size, send_buf_size, enable_placement_id, zerocopy_threshold, tls_version;
	bool enable_recv_pipe, enable_quickack, enable_zerocopy_send_server,
		enable_zerocopy_send_client, enable_ktls;
};

#define SOCK_NAME                                                                                  \
	{                                                                                          \
		.name = "impl_name", .type = OPTS_ENUM,                                            \
		.offset = offsetof(struct sock, impl_name), .names = sock_impls,                   \
		.help = "SPDK's name of a kind of sockets", .required = true                       \
	}
#define SOCK_ROW(key, kind)                                                                        \
	{                                                                                          \
		.name = #key, .type = kind, .offset = offsetof(struct sock, key),                  \
		.help = NO_EFFECT                                                                  \
	}

static const struct opts_row sock_rows[] = {
	SOCK_NAME,
	SOCK_ROW(recv_buf_size, OPTS_U32),
	SOCK_ROW(send_buf_size, OPTS_U32),
	SOCK_ROW(enable_recv_pipe, OPTS_BOOL),
	SOCK_ROW(enable_quickack, OPTS_BOOL),
	SOCK_ROW(enable_placement_id, OPTS_U32),
	SOCK_ROW(enable_zerocopy_send_server, OPTS_BOOL),
	SOCK_ROW(enable_zerocopy_send_client, OPTS_BOOL),
	SOCK_ROW(zerocopy_threshold, OPTS_U32),
	SOCK_ROW(tls_version, OPTS_U32),
	SOCK_ROW(enable_ktls, OPTS_BOOL),
};
static const struct opts_table sock_set_params = { "sock_impl_set_options", sock_rows,
						   ARRAY_SIZE(sock_rows) };
static const struct opts_row sock_name_rows[] = { SOCK_NAME };
static const struct opts_table sock_get_params = { "sock_impl_get_options", sock_name_rows,
						   ARRAY_SIZE(sock_name_rows) };
static const struct opts_table sock_default_params = { "sock_set_default_impl", sock_name_rows,
						       ARRAY_SIZE(sock_name_rows) };

/* The kernel's own buffers, and none of what makes TCP faster: all sockets are local. */
static void sock_impl_get_options(struct rpc_call *call, void *params)
{
	json_t *options = json_object();

	for (size_t i = 1; options && i < ARRAY_SIZE(sock_rows); i++)
		json_object_set_new(options, sock_rows[i].name,
				    sock_rows[i].type == OPTS_BOOL ? json_false()
								   : json_integer(0));
	rpc_result(call, options);
}

static void sock_set_default_impl(struct rpc_call *call, void *params)
{
	const struct sock *p = params;

	if (p->impl_name == 0)
		rpc_result_true(call);
	else
		rpc_error(call, RPC_INVALID_PARAMS, "impl_name: expected posix, got '%s'",
			  sock_impls[p->impl_name]);
}

static void sock_get_default_impl(struct rpc_call *call, void *params)
{
	rpc_result(call, json_pack("{s:s}", "impl_name", sock_impls[0]));
}

/* ---- memory ---- */

static void get_mem_stats(struct rpc_call *call, void *params)
{
	char path[] = "/tmp/vhostd_mem_dump-XXXXXX.txt";
	int fd = mkstemps(path, 4);
	FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;

	if (!f) {
		rpc_error(call, -errno, "%s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	if (malloc_info(0, f) < 0 || fclose(f) < 0)
		rpc_error(call, -errno, "%s: %s", path, strerror(errno));
	else
		rpc_result(call, json_pack("{s:s}", "filename", path));
}

const struct rpc_method m_pools[] = {
	{ "iobuf_set_options", NULL, &iobuf_params, sizeof(struct iobuf), RPC_STARTUP, 0,
	  accept_all, "accepts the sizes of SPDK's buffer pools; there are none", "true" },
	{ "iobuf_get_stats", NULL, .flags = RPC_READS, .run = iobuf_get_stats,
	  .help = "statistics of buffer pools, of which there are none", .result = "[]" },
	{ "sock_impl_set_options", NULL, &sock_set_params, sizeof(struct sock), RPC_STARTUP,
	  RPC_INVALID_PARAMS, accept_all, "accepts the options of SPDK's sockets", "true" },
	{ "sock_impl_get_options", NULL, &sock_get_params, sizeof(struct sock),
	  RPC_READS | RPC_ANYTIME, RPC_INVALID_PARAMS, sock_impl_get_options,
	  "the options of SPDK's sockets, none of which is on",
	  "{recv_buf_size, send_buf_size, ...}" },
	{ "sock_set_default_impl", NULL, &sock_default_params, sizeof(struct sock), RPC_STARTUP,
	  RPC_INVALID_PARAMS, sock_set_default_impl, "accepts posix", "true" },
	{ "sock_get_default_impl", NULL, .flags = RPC_READS | RPC_ANYTIME,
	  .run = sock_get_default_impl, .help = "the kind of sockets that is used",
	  .result = "{impl_name}" },
	{ "env_dpdk_get_mem_stats", NULL, .run = get_mem_stats,
	  .help = "writes what the allocator knows of its memory into a new file",
	  .result = "{filename}" },
	{ NULL },
};
