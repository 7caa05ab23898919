#include "mgmt/jsonrpc.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mgmt/rpc.h"

/* Errors may follow answers that have filled a batch's room. */
#define JSONRPC_ERRORS_BYTES_MAX (32u << 20)
#define JSONRPC_OUT_BYTES_MIN	 512

/* ---- where a text ends ---- */

/* One byte that is not in a string; false: a limit is passed. */
static bool scan_plain(struct jsonrpc_scan *s, char c)
{
	switch (c) {
	case '"':
		s->in_string = true;
		return true;
	case '{':
	case '[':
		return ++s->depth <= JSONRPC_DEPTH_MAX && ++s->values <= JSONRPC_VALUES_MAX;
	case '}':
	case ']':
		s->depth--;
		return true;
	case ',':
		return ++s->values <= JSONRPC_VALUES_MAX;
	default:
		return true;
	}
}

static enum jsonrpc_found scan_over(const struct jsonrpc_scan *s, struct err *reterr)
{
	if (s->depth > JSONRPC_DEPTH_MAX)
		err_set(reterr, -EINVAL, "nesting: expected at most %d levels", JSONRPC_DEPTH_MAX);
	else
		err_set(reterr, -EINVAL, "expected at most %d values in a request",
			JSONRPC_VALUES_MAX);
	return JSONRPC_BAD;
}

enum jsonrpc_found jsonrpc_scan(struct jsonrpc_scan *s, const char *bytes, size_t len_bytes,
				size_t *ret_used, struct err *reterr)
{
	size_t i = 0;

	*ret_used = len_bytes;
	while (!s->started && i < len_bytes && strchr(" \t\r\n", bytes[i]) && bytes[i])
		i++;
	if (i < len_bytes && !s->started) {
		if (bytes[i] != '{' && bytes[i] != '[') {
			err_set(reterr, -EINVAL, "expected a JSON object or array, got byte 0x%02x",
				(unsigned char)bytes[i]);
			return JSONRPC_BAD;
		}
		s->started = true;
	}
	for (; i < len_bytes; i++) {
		if (s->escaped) {
			s->escaped = false;
		} else if (s->in_string) {
			s->escaped = bytes[i] == '\\';
			s->in_string = bytes[i] != '"';
		} else if (!scan_plain(s, bytes[i])) {
			return scan_over(s, reterr);
		} else if (!s->depth) {
			*s = (struct jsonrpc_scan){ 0 };
			*ret_used = i + 1;
			return JSONRPC_COMPLETE;
		}
	}
	return JSONRPC_MORE;
}

/* ---- what it says ---- */

/* Is the number at p (a digit) an integer that 63 bits do not hold? *ret_end: behind it. */
static bool big_number(const char *p, const char *end, const char **ret_end)
{
	const char *start = p;

	while (p < end && isdigit((unsigned char)*p))
		p++;
	if (p < end && (*p == '.' || *p == 'e' || *p == 'E')) {
		while (p < end && (isalnum((unsigned char)*p) || strchr(".+-", *p)))
			p++;
		*ret_end = p;
		return false;
	}
	*ret_end = p;
	return p - start > 19 || (p - start == 19 && memcmp(start, "9223372036854775807", 19) > 0);
}

/* The same text, with such numbers as strings. NULL: out of memory. */
static char *big_quoted(const char *bytes, size_t len_bytes, size_t *ret_len)
{
	/* A number has at least 19 digits, and 8 characters are added. */
	char *text = malloc(len_bytes + len_bytes / 2 + 16), *to = text;
	const char *p = bytes, *end = bytes + len_bytes;
	bool in_string = false;

	while (text && p < end) {
		const char *number = p + (*p == '-'), *after;

		if (in_string || number == end || !isdigit((unsigned char)*number)) {
			if (in_string && *p == '\\' && p + 1 < end)
				*to++ = *p++;
			else if (*p == '"')
				in_string = !in_string;
			*to++ = *p++;
			continue;
		}
		if (big_number(number, end, &after)) {
			memcpy(to, "\"\\u0001", 7);
			memcpy(to + 7, p, after - p);
			to += 7 + (after - p);
			*to++ = '"';
		} else {
			memcpy(to, p, after - p);
			to += after - p;
		}
		p = after;
	}
	*ret_len = text ? (size_t)(to - text) : 0;
	return text;
}

int jsonrpc_parse(const char *bytes, size_t len_bytes, json_t **ret_value, struct err *reterr)
{
	json_error_t error = { 0 };
	json_t *value = json_loadb(bytes, len_bytes, JSON_REJECT_DUPLICATES, &error);

	if (!value && json_error_code(&error) == json_error_numeric_overflow) {
		char *text = big_quoted(bytes, len_bytes, &len_bytes);

		if (!text)
			return err_set(reterr, -ENOMEM, "out of memory");
		value = json_loadb(text, len_bytes, JSON_REJECT_DUPLICATES, &error);
		free(text);
	}
	if (!value)
		return err_set(reterr, -EINVAL, "line %d, column %d: %s", error.line, error.column,
			       error.text);
	*ret_value = value;
	return 0;
}

/* ---- answers ---- */

void jsonrpc_out_fini(struct jsonrpc_out *out)
{
	free(out->bytes);
	*out = (struct jsonrpc_out){ 0 };
}

bool jsonrpc_out_append(struct jsonrpc_out *out, const char *bytes, size_t len_bytes,
			size_t max_bytes)
{
	size_t need = out->len_bytes + len_bytes;

	if (need > max_bytes)
		return false;
	if (need > out->size_bytes) {
		size_t size = out->size_bytes ? out->size_bytes : JSONRPC_OUT_BYTES_MIN;
		char *more;

		while (size < need)
			size *= 2;
		more = realloc(out->bytes, size);
		if (!more)
			return false;
		out->bytes = more;
		out->size_bytes = size;
	}
	memcpy(out->bytes + out->len_bytes, bytes, len_bytes);
	out->len_bytes = need;
	return true;
}

struct dump {
	struct jsonrpc_out *out;
	size_t max_bytes;
	bool full;
};

static int dump_some(const char *bytes, size_t len_bytes, void *arg)
{
	struct dump *d = arg;

	if (jsonrpc_out_append(d->out, bytes, len_bytes, d->max_bytes))
		return 0;
	d->full = d->out->len_bytes + len_bytes > d->max_bytes;
	return -1;
}

/* {"jsonrpc": "2.0", "id": ID, KEY: VALUE}, SPDK's order. False: out is as it was. */
static bool answer_append(struct dump *d, const json_t *id, const char *key, const json_t *value)
{
	static const char head[] = "{\"jsonrpc\":\"2.0\",\"id\":";
	const size_t before = d->out->len_bytes;
	const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
	json_t *none = json_null();

	if (dump_some(head, sizeof(head) - 1, d) == 0 &&
	    json_dump_callback(id ? id : none, dump_some, d, flags) == 0 &&
	    dump_some(",\"", 2, d) == 0 && dump_some(key, strlen(key), d) == 0 &&
	    dump_some("\":", 2, d) == 0 && json_dump_callback(value, dump_some, d, flags) == 0 &&
	    dump_some("}", 1, d) == 0)
		return true;
	d->out->len_bytes = before;
	return false;
}

bool jsonrpc_error(struct jsonrpc_out *out, const json_t *id, int code, const char *text)
{
	struct dump d = { .out = out,
			  .max_bytes = JSONRPC_REPLY_BYTES_MAX + JSONRPC_ERRORS_BYTES_MAX };
	json_t *error = json_pack("{s:i, s:s}", "code", code, "message", text);
	bool ok;

	if (!error) { /* a character of the request was cut in two */
		char ascii[ERR_MSG_MAX];
		size_t len = strnlen(text, sizeof(ascii) - 1);

		for (size_t i = 0; i < len; i++)
			ascii[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
		ascii[len] = '\0';
		error = json_pack("{s:i, s:s}", "code", code, "message", ascii);
	}
	ok = error && answer_append(&d, id, "error", error);
	json_decref(error);
	return ok;
}

bool jsonrpc_result(struct jsonrpc_out *out, const json_t *id, const json_t *result)
{
	struct dump d = { .out = out, .max_bytes = JSONRPC_REPLY_BYTES_MAX };
	char text[96] = "out of memory";

	if (answer_append(&d, id, "result", result))
		return true;
	if (d.full)
		snprintf(text, sizeof(text),
			 "the answer would be longer than %u bytes: ask for less",
			 JSONRPC_REPLY_BYTES_MAX);
	return jsonrpc_error(out, id, RPC_INTERNAL_ERROR, text);
}
