#include "loop/queue_stats.h"

#include "loop/loop.h"

const char *const queue_state_names[QUEUE_STATE_COUNT] = {
#define X(n, s) s,
	QUEUE_STATES(X)
#undef X
};

uint64_t queue_age_ns(uint64_t since_ns)
{
	uint64_t now_ns = loop_clock_ns();

	if (!since_ns)
		return 0;
	return now_ns > since_ns ? now_ns - since_ns : 1;
}
