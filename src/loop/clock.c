/*
 * Cheap time. Where the CPU's time-stamp counter runs at one rate whatever the CPU does
 * (CPUID 8000_0007h EDX bit 8), reading it costs a tenth of the vDSO call. It is tied to
 * CLOCK_MONOTONIC anew every SPAN_NS, which also refines the rate; an error of the rate is thus
 * never more than that span's. A jump (a migrated virtual machine) looks like a long span.
 */
#include <time.h>

#include "loop_impl.h"

#define SPAN_NS	     10000000ull
#define CALIBRATE_NS 100000ull
#define PAIR_TRIES   3

uint64_t loop_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

#ifdef __x86_64__
#include <cpuid.h>
#include <x86intrin.h>

static bool tsc_is_invariant(void)
{
	unsigned int a, b, c, d;

	return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
}

/* The rate over what passed since base; false when it is no rate a CPU has. */
static bool clock_set_rate(struct loop_clock *c, uint64_t ticks, uint64_t ns)
{
	uint64_t mult;

	if (!ticks || !ns || ns >= 1ull << 32)
		return false;
	mult = (ns << 32) / ticks;
	if (mult < 1ull << 28 || mult > 1ull << 36) /* 16 GHz .. 62 MHz */
		return false;
	c->mult = mult;
	c->span_ticks = (SPAN_NS << 28) / mult << 4;
	return true;
}

/*
 * Both clocks at one moment: the reading of CLOCK_MONOTONIC between the two closest counter
 * readings of a few tries, so that a preemption in between does not become an error of the rate.
 */
static void clock_pair(uint64_t *ret_ns, uint64_t *ret_tsc)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < PAIR_TRIES; i++) {
		uint64_t before = __rdtsc(), ns = loop_clock_ns(), after = __rdtsc();

		if (after - before >= best)
			continue;
		best = after - before;
		*ret_ns = ns;
		*ret_tsc = before + best / 2;
	}
}

static pthread_once_t calibrate_once = PTHREAD_ONCE_INIT;
static struct loop_clock calibrated;

static void calibrate(void)
{
	uint64_t ns, tsc;

	if (!tsc_is_invariant())
		return;
	clock_pair(&calibrated.base_ns, &calibrated.base_tsc);
	do {
		clock_pair(&ns, &tsc);
	} while (ns - calibrated.base_ns < CALIBRATE_NS);
	clock_set_rate(&calibrated, tsc - calibrated.base_tsc, ns - calibrated.base_ns);
}

void clock_init(struct loop_clock *c)
{
	pthread_once(&calibrate_once, calibrate);
	*c = calibrated;
}

static __attribute__((noinline)) uint64_t clock_rebase(struct loop_clock *c)
{
	uint64_t ns, tsc, ticks;

	clock_pair(&ns, &tsc);
	ticks = tsc - c->base_tsc;
	/* A longer span than this may be a sleep in which the machine was suspended. */
	if (ticks < 100 * c->span_ticks)
		clock_set_rate(c, ticks, ns - c->base_ns);
	c->base_ns = ns;
	c->base_tsc = tsc;
	return ns;
}

uint64_t clock_read(struct loop_clock *c)
{
	uint64_t ticks;

	if (unlikely(!c->mult))
		return loop_clock_ns();
	ticks = __rdtsc() - c->base_tsc;
	if (unlikely(ticks > c->span_ticks))
		return clock_rebase(c);
	return c->base_ns + (ticks * c->mult >> 32);
}

#else

void clock_init(struct loop_clock *c)
{
	*c = (struct loop_clock){ 0 };
}

uint64_t clock_read(struct loop_clock *c)
{
	return loop_clock_ns();
}

#endif

void clock_refresh(struct loop *loop)
{
	uint64_t now = clock_read(&loop->clock);

	if (now > loop->fifos.now_ns)
		loop->fifos.now_ns = now;
}
