/*
 * Registrations and the reservation as lines of the state file:
 *
 *   register KEY one|all INITIATOR HOST   KEY: 16 hexadecimal digits; all: ALL_TG_PT; names with
 *                                         %XX for what is no printable character, a space or a %
 *   reserve TYPE all|N                    N: the holder is the Nth registration above, from 0
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "scsi/resv.h"

void resv_name_write(const char *name, FILE *to)
{
	for (const uint8_t *c = (const uint8_t *)name; *c; c++) {
		if (*c > ' ' && *c < 0x7f && *c != '%')
			fputc(*c, to);
		else
			fprintf(to, "%%%02x", *c);
	}
}

static void registrations_write(const struct scsi_lu *lu, FILE *to)
{
	const struct scsi_resv *resv = &lu->resv;
	const struct resv_reg *reg;
	uint32_t i = 0, holder = 0;

	list_for_each(reg, &resv->registrations, node) {
		fprintf(to, "register %016" PRIx64 " %s ", reg->key,
			reg->all_ports ? "all" : "one");
		resv_name_write(reg->initiator, to);
		fputc(' ', to);
		resv_name_write(reg->host, to);
		fputc('\n', to);
		if (reg == resv->holder)
			holder = i;
		i++;
	}
	if (resv->all_registrants)
		fprintf(to, "reserve %u all\n", resv->type);
	else if (resv->type)
		fprintf(to, "reserve %u %" PRIu32 "\n", resv->type, holder);
}

void resv_state_write(const struct scsi_lu *lu, FILE *to)
{
	if (lu->resv.aptpl)
		registrations_write(lu, to);
}

void resv_live_write(const struct scsi_lu *lu, FILE *to)
{
	registrations_write(lu, to);
	fprintf(to, "resv %d %" PRIu32 "\n", lu->resv.aptpl, lu->resv.generation);
}

/* ---- reading ---- */

bool resv_name_read(const char **line, char *ret_name, size_t size)
{
	const char *c = *line;
	size_t n = 0;

	while (*c && *c != ' ') {
		int high, low = 0;

		if (n + 1 >= size)
			return false;
		if (*c != '%') {
			ret_name[n++] = *c++;
			continue;
		}
		high = text_hex_digit(c[1]);
		if (high >= 0)
			low = text_hex_digit(c[2]);
		if (high < 0 || low < 0 || !(high | low))
			return false;
		ret_name[n++] = (char)(high << 4 | low);
		c += 3;
	}
	ret_name[n] = '\0';
	*line = c;
	return n > 0;
}

static bool key_read(const char **line, uint64_t *ret_key)
{
	uint64_t key = 0;

	for (int i = 0; i < 16; i++) {
		int digit = text_hex_digit((*line)[i]);

		if (digit < 0)
			return false;
		key = key << 4 | (uint64_t)digit;
	}
	*line += 16;
	*ret_key = key;
	return key != 0;
}

static bool word_read(const char **line, const char *word)
{
	size_t len = strlen(word);

	if (strncmp(*line, word, len) != 0)
		return false;
	*line += len;
	return true;
}

static bool register_read(struct scsi_lu *lu, const char *line, const char **ret_why)
{
	char initiator[SCSI_NAME_MAX + 1], host[RESV_HOST_NAME_MAX];
	struct resv_reg *reg;
	uint64_t key;
	bool all;

	*ret_why = "expected 'register KEY one|all INITIATOR HOST'";
	if (!key_read(&line, &key) ||
	    !((all = word_read(&line, " all ")) || word_read(&line, " one ")))
		return false;
	if (!resv_name_read(&line, initiator, sizeof(initiator)) || !word_read(&line, " ") ||
	    !resv_name_read(&line, host, sizeof(host)) || *line)
		return false;
	*ret_why = "registered twice, or after the reservation";
	if (lu->resv.type || resv_find(lu, initiator, host))
		return false;
	*ret_why = "too many registrations";
	if (lu->resv.registration_count >= RESV_REGISTRATIONS_MAX)
		return false;
	*ret_why = "out of memory";
	reg = resv_add(lu, initiator, host, key);
	if (!reg)
		return false;
	reg->all_ports = all;
	lu->resv.aptpl = true;
	return true;
}

static struct resv_reg *registration_at(const struct scsi_lu *lu, unsigned long n)
{
	struct resv_reg *reg;

	list_for_each(reg, &lu->resv.registrations, node)
		if (!n--)
			return reg;
	return NULL;
}

static bool reserve_read(struct scsi_lu *lu, const char *line, const char **ret_why)
{
	struct resv_reg *holder = NULL;
	uint32_t type = (uint32_t)(*line - '0');
	char *end;

	*ret_why = "expected 'reserve TYPE all|N', once, with a registration for it";
	if (*line < '0' || !resv_type_valid(type) || line[1] != ' ' || lu->resv.type)
		return false;
	line += 2;
	if (resv_type_all_registrants(type)) {
		if (strcmp(line, "all") != 0 || !lu->resv.registration_count)
			return false;
	} else {
		if (*line < '0' || *line > '9')
			return false;
		holder = registration_at(lu, strtoul(line, &end, 10));
		if (*end || !holder)
			return false;
	}
	resv_reserve(lu, (uint8_t)type, holder);
	return true;
}

bool resv_state_read(struct scsi_lu *lu, const char *line, const char **ret_why)
{
	if (word_read(&line, "register "))
		return register_read(lu, line, ret_why);
	if (word_read(&line, "reserve "))
		return reserve_read(lu, line, ret_why);
	*ret_why = "no such line";
	return false;
}

bool resv_live_read(struct scsi_lu *lu, const char *line, const char **ret_why)
{
	uint32_t aptpl, generation;
	int end = 0;

	if (strncmp(line, "resv ", 5) != 0)
		return resv_state_read(lu, line, ret_why);
	*ret_why = "expected 'resv APTPL GENERATION'";
	if (sscanf(line, "resv %1" SCNu32 " %10" SCNu32 "%n", &aptpl, &generation, &end) != 2 ||
	    !end || line[end] || aptpl > 1)
		return false;
	lu->resv.aptpl = aptpl;
	lu->resv.generation = generation;
	return true;
}
