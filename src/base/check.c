#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/trace.h"

noreturn void check_failed(const char *cond, const char *file, int line, const char *func)
{
	char buf[512];
	int n = snprintf(buf, sizeof(buf), "vhostd: %s:%d: %s: check failed: %s\n", file, line,
			 func, cond);

	if (n > (int)sizeof(buf) - 1)
		n = sizeof(buf) - 1;
	if (n > 0 && write(STDERR_FILENO, buf, n) < 0)
		abort();
	trace_dump(STDERR_FILENO);
	abort();
}
