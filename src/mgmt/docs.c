/*
 * docs/rpc.md, printed from the tables of methods: what is checked is what is written.
 */
#include <ctype.h>
#include <stdio.h>

#include "base/check.h"
#include "mgmt/registry.h"
#include "mgmt/server.h"

static void docs_values(const struct opts_row *row)
{
	char limits[OPTS_LIMITS_TEXT];

	switch (row->type) {
	case OPTS_STR:
		printf("string");
		return;
	case OPTS_BOOL:
		printf("true, false");
		return;
	case OPTS_ENUM:
		for (size_t i = 0; row->names[i]; i++)
			printf("%s\"%s\"", i ? ", " : "", row->names[i]);
		return;
	case OPTS_SIZE:
	case OPTS_U64:
	case OPTS_U32:
	case OPTS_U16:
	case OPTS_I32:
		printf("%s%s", opts_limits(row, limits),
		       row->type == OPTS_SIZE ? " or text with K M G T P" : "");
		return;
	case OPTS_JSON:
		printf("array or object");
		return;
	}
	UNREACHABLE();
}

static const char *docs_when(const struct rpc_method *m)
{
	return m->flags & RPC_STARTUP	? "Before `framework_start_init` only."
	       : m->flags & RPC_ANYTIME ? "Before `framework_start_init`, too."
					: "";
}

static void docs_method(const struct rpc_method *m)
{
	printf("\n### %s\n\n%c%s.%s%s\n", m->name, toupper((unsigned char)*m->help), m->help + 1,
	       *docs_when(m) ? " " : "", docs_when(m));
	if (m->alias)
		printf("Old name: `%s`.\n", m->alias);
	if (!(m->flags & RPC_READS))
		printf("Not on the read-only socket.%s\n",
		       m->flags & RPC_SAVES ? " Kept by `--state`." : "");
	printf("Result: `%s`.\n", m->result);
	if (!m->params || !m->params->count)
		return;
	printf("\n| parameter | value | default | what |\n|---|---|---|---|\n");
	for (size_t i = 0; i < m->params->count; i++) {
		const struct opts_row *row = &m->params->rows[i];

		printf("| %s%s%s | ", row->required ? "**" : "", row->name,
		       row->required ? "**" : "");
		docs_values(row);
		printf(" | %s | %s |\n", row->def ? row->def : "", row->help ? row->help : "");
	}
}

void rpc_docs_print(void)
{
	size_t count;
	const struct registry_entry *all = registry_all(&count);

	printf("# Methods of the management socket\n\n"
	       "JSON-RPC 2.0 over a unix socket, as SPDK has it. Parameters in **bold** must be "
	       "given.\n"
	       "An answer is at most 32 MiB, a request 1 MiB. This page is printed by\n"
	       "`vhostd --help-rpc`.\n"
	       "\n## The sockets\n\n"
	       "Without `--rpc-socket` (`-r`) " SERVER_SOCKET_DEFAULT " is tried, and not missed "
	       "when it\ncannot be made. Root and vhostd's own user may connect, and those that "
	       "options name.\n\n"
	       "| option | value | what |\n|---|---|---|\n");
	for (size_t i = 0; i < server_options_table.count; i++) {
		const struct opts_row *row = &server_options_table.rows[i];

		printf("| --%s | %s | %s |\n", row->name, row->type == OPTS_BOOL ? "" : "text",
		       row->help);
	}
	printf("\n## The methods\n");
	for (size_t i = 0; i < count; i++)
		if (all[i].name == all[i].method->name)
			docs_method(all[i].method);
}
