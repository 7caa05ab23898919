/*
 * docs/devices.md, printed from the parameter table: what the parser accepts is what is written.
 */
#include <stdio.h>

#include "dev/device.h"
#include "base/check.h"

static void docs_limits(const struct opts_row *row)
{
	char limits[OPTS_LIMITS_TEXT];

	switch (row->type) {
	case OPTS_STR:
		printf("text");
		return;
	case OPTS_BOOL:
		printf("on, off");
		return;
	case OPTS_ENUM:
		for (size_t i = 0; row->names[i]; i++)
			printf("%s%s", i ? ", " : "", row->names[i]);
		return;
	case OPTS_SIZE:
		printf("size (K M G T P)");
		return;
	case OPTS_U64:
	case OPTS_U32:
	case OPTS_U16:
	case OPTS_I32:
		printf("%s", opts_limits(row, limits));
		return;
	case OPTS_JSON:
		printf("JSON");
		return;
	}
	UNREACHABLE();
}

static void docs_table(const struct opts_table *table)
{
	printf("| key | value | default | what |\n|---|---|---|---|\n");
	for (size_t i = 0; i < table->count; i++) {
		const struct opts_row *row = &table->rows[i];

		printf("| %s | ", row->name);
		docs_limits(row);
		printf(" | %s | %s |\n", row->def ? row->def : "", row->help);
	}
}

void device_docs_print(void)
{
	printf("# Devices\n\n"
	       "What `--device TYPE,KEY=VALUE,...` takes, and the same keys in the JSON file\n"
	       "(`{\"devices\": [{\"type\": \"blk\", \"socket\": \"/run/vm1.sock\", ...}]}`).\n"
	       "This page is printed by `vhostd --help-devices`.\n");
	for (size_t i = 0; device_types[i]; i++) {
		printf("\n## %s\n\n", device_types[i]->name);
		docs_table(device_types[i]->table);
		if (device_types[i]->units) {
			printf("\n%s\n", device_types[i]->units->docs);
			docs_table(device_types[i]->units->table);
		}
	}
}
