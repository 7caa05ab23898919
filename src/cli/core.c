/*
 * What the verbs share: calls, arguments, exit codes.
 */
#include <errno.h>
#include <stdlib.h>

#include "cli/cli.h"

int cli_call(struct cli *cli, const char *method, json_t *params, json_t **ret_result)
{
	if (!cli->conn) {
		const int rc = conn_open(cli->socket, cli->timeout_ms, &cli->conn, &cli->err);

		if (rc < 0) {
			json_decref(params);
			/* Whatever connect(2) says, nobody is there. */
			return rc == -ETIMEDOUT || rc == -ENAMETOOLONG ? rc : -ENOTCONN;
		}
	}
	return conn_call(cli->conn, method, params, ret_result, &cli->err);
}

int cli_do(struct cli *cli, const char *method, json_t *params)
{
	json_t *result;
	const int rc = cli_call(cli, method, params, &result);

	if (rc == 0)
		json_decref(result);
	return rc;
}

json_t *cli_params(const struct cli *cli, uint32_t call)
{
	return args_params(cli->verb->args, cli->values, call);
}

const char *cli_str(const struct cli *cli, const char *key)
{
	return json_string_value(json_object_get(cli->values, key));
}

bool cli_flag(const struct cli *cli, const char *key)
{
	return json_is_true(json_object_get(cli->values, key));
}

bool cli_given(const struct cli *cli, const char *key)
{
	return json_object_get(cli->values, key) != NULL;
}

uint64_t cli_u64(const struct cli *cli, const char *key, uint64_t otherwise)
{
	const json_t *v = json_object_get(cli->values, key);

	return v ? (uint64_t)json_integer_value(v) : otherwise;
}

enum cli_exit cli_exit_of(int rc)
{
	switch (rc) {
	case 0:
		return CLI_OK;
	case -EINVAL:
	case -ENAMETOOLONG:
		return CLI_USAGE;
	case -ENOTCONN:
	case -EPIPE:
		return CLI_NO_DAEMON;
	case -ETIMEDOUT:
		return CLI_TIMEOUT;
	case -EPROTO:
		return CLI_PROTOCOL;
	default:
		return CLI_REFUSED;
	}
}

const char *member_str(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

json_int_t member_int(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

bool member_true(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

json_t *object_of(const char *key, const char *value)
{
	return json_pack("{s:s}", key, value);
}
