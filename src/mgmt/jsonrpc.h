/*
 * JSON-RPC 2.0 as bytes: where a JSON text ends in a stream that has no separators, what it says,
 * and how an answer is written. No sockets here, and no methods.
 *
 * A stream is scanned once, whatever the pieces it comes in: the scan counts brackets outside
 * strings and stops behind the bracket that closes the first one. Whether what is between them is
 * JSON is the parser's business. Nesting and the number of values are limited before anything is
 * built of them.
 * Thread: any.
 */
#ifndef MGMT_JSONRPC_H
#define MGMT_JSONRPC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define JSONRPC_REQUEST_BYTES_MAX (1u << 20)  /* one request, or one batch */
#define JSONRPC_REPLY_BYTES_MAX	  (32u << 20) /* its answer, as SPDK's clients can take it */
#define JSONRPC_DEPTH_MAX	  64
#define JSONRPC_VALUES_MAX	  65536 /* of one request or batch */

/*
 * Integers beyond 63 bits, which jansson has no type for, come as a string: this character and the
 * number as it was written.
 */
#define JSONRPC_BIG '\x01'

struct jsonrpc_scan {
	/* private: */
	uint32_t depth, values;
	bool started, in_string, escaped;
};

enum jsonrpc_found {
	JSONRPC_MORE,	  /* the text goes on */
	JSONRPC_COMPLETE, /* it ends here */
	JSONRPC_BAD,	  /* no object or array begins here, or a limit is passed */
};

/*
 * Scans bytes that follow those scanned before. *ret_used: how many belong to the text, white
 * space before it included. After COMPLETE the next text may be scanned. BAD: reterr tells why.
 */
enum jsonrpc_found jsonrpc_scan(struct jsonrpc_scan *s, const char *bytes, size_t len_bytes,
				size_t *ret_used, struct err *reterr);

/* What came, as a value (a new reference), with no key twice. -EINVAL, -ENOMEM; named. */
int jsonrpc_parse(const char *bytes, size_t len_bytes, json_t **ret_value, struct err *reterr);

/* Bytes to be sent. Zeroed: empty. */
struct jsonrpc_out {
	char *bytes;
	size_t len_bytes, size_bytes;
};

void jsonrpc_out_fini(struct jsonrpc_out *out);
/* False: out of memory, or it would be longer than max_bytes; out is as it was. */
bool jsonrpc_out_append(struct jsonrpc_out *out, const char *bytes, size_t len_bytes,
			size_t max_bytes);
/*
 * Appends an answer to id (NULL: null) with a result, or with an error's code and text. One that
 * would make out longer than JSONRPC_REPLY_BYTES_MAX becomes an error that says so. False: out of
 * memory.
 */
bool jsonrpc_result(struct jsonrpc_out *out, const json_t *id, const json_t *result);
bool jsonrpc_error(struct jsonrpc_out *out, const json_t *id, int code, const char *text);

#endif
