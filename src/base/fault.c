#include "base/fault.h"

#if VHOSTD_DEBUG
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

#define FAULT_ERRNO_MAX 4095
#define FAULT_DELAY_MAX 1000000000 /* microseconds */

enum fault_action {
	FAULT_ERRNO,
	FAULT_KILL,
	FAULT_DELAY
};

struct fault_spec {
	char name[64];	   /* empty: none armed */
	unsigned long nth; /* 0: every time */
	enum fault_action action;
	unsigned long value; /* errno, or microseconds */
};

static struct fault_spec fault;
static atomic_ulong fault_hit_count;

/* Takes a number in 1..max off *at. */
static bool fault_take_number(const char **at, unsigned long max, unsigned long *ret_v)
{
	char *end;

	if (!isdigit((unsigned char)**at))
		return false;
	*ret_v = strtoul(*at, &end, 10);
	*at = end;
	return *ret_v && *ret_v <= max;
}

static bool fault_parse_action(const char *text, struct fault_spec *spec)
{
	if (!strcmp(text, "kill")) {
		spec->action = FAULT_KILL;
		return true;
	}
	if (!fault_take_number(&text, FAULT_DELAY_MAX, &spec->value))
		return false;
	if (!strcmp(text, "us")) {
		spec->action = FAULT_DELAY;
		return true;
	}
	return !*text && spec->value <= FAULT_ERRNO_MAX;
}

static bool fault_parse(const char *text, struct fault_spec *ret_spec)
{
	struct fault_spec spec = { .action = FAULT_ERRNO, .value = EIO };
	size_t len = strcspn(text, ":=");

	if (!len || len >= sizeof(spec.name))
		return false;
	memcpy(spec.name, text, len);
	text += len;
	if (*text == ':') {
		text++;
		if (!fault_take_number(&text, ULONG_MAX - 1, &spec.nth))
			return false;
	}
	if (*text == '=' && !fault_parse_action(text + 1, &spec))
		return false;
	if (*text && *text != '=')
		return false;
	*ret_spec = spec;
	return true;
}

void fault_init_from_env(void)
{
	const char *text = getenv("VHOSTD_FAULT");

	if (text && !fault_parse(text, &fault))
		log_error("VHOSTD_FAULT: expected name[:nth][=errno|kill|<n>us], got '%s'", text);
}

int fault_hit(const char *name)
{
	struct timespec ts = { fault.value / 1000000, (long)(fault.value % 1000000 * 1000) };

	if (strcmp(fault.name, name))
		return 0;
	if (atomic_fetch_add(&fault_hit_count, 1) + 1 != fault.nth && fault.nth)
		return 0;
	switch (fault.action) {
	case FAULT_ERRNO:
		return -(int)fault.value;
	case FAULT_KILL:
		raise(SIGKILL);
		return 0;
	case FAULT_DELAY:
		nanosleep(&ts, NULL);
		return 0;
	}
	return 0;
}
#endif
