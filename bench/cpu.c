/* Clocks, the server's CPU time, the ping-pong figure, percentiles. */
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

double cpu_now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

double cpu_tick_ns(void)
{
	double s0 = cpu_now_seconds(), s1;
	uint64_t t0 = tick_now();

	do {
		s1 = cpu_now_seconds();
	} while (s1 - s0 < 0.05);
	return (s1 - s0) * 1e9 / (double)(tick_now() - t0);
}

void cpu_pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Sum of every thread's time on a CPU, in nanoseconds as the scheduler counts; -1: not known. */
double cpu_seconds_of_pid(int pid)
{
	char path[300];
	struct dirent *e;
	double sum = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	if (!d)
		return -1;
	while ((e = readdir(d))) {
		unsigned long long ns;
		FILE *f;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/schedstat", pid, e->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fscanf(f, "%llu", &ns) == 1)
			sum += (double)ns / 1e9;
		fclose(f);
	}
	closedir(d);
	return sum;
}

struct pong {
	_Alignas(128) uint64_t ball;
	_Alignas(128) int cpu;
};

static void *pong_thread(void *arg)
{
	struct pong *p = arg;
	uint64_t v = 1;

	cpu_pin(p->cpu);
	for (;;) {
		uint64_t got = __atomic_load_n(&p->ball, __ATOMIC_ACQUIRE);

		if (got == UINT64_MAX)
			return NULL;
		if (got != v)
			continue;
		__atomic_store_n(&p->ball, v + 1, __ATOMIC_RELEASE);
		v += 2;
	}
}

/* One way of one cache line between two running threads: best of several short rounds. */
double cpu_pingpong_ns(int cpu_a, int cpu_b)
{
	static struct pong p;
	double best = 1e9;
	uint64_t v = 0;
	pthread_t t;

	p.ball = 0;
	p.cpu = cpu_b;
	cpu_pin(cpu_a);
	if (pthread_create(&t, NULL, pong_thread, &p))
		return -1;
	for (int round = 0; round < 30; round++) {
		double s = cpu_now_seconds();

		for (int i = 0; i < 10000; i++) {
			__atomic_store_n(&p.ball, v + 1, __ATOMIC_RELEASE);
			v += 2;
			while (__atomic_load_n(&p.ball, __ATOMIC_ACQUIRE) != v)
				continue;
		}
		s = (cpu_now_seconds() - s) * 1e9 / 20000;
		best = s < best ? s : best;
	}
	__atomic_store_n(&p.ball, UINT64_MAX, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	return best;
}

uint64_t hist_percentile(const struct hist *h, double p)
{
	uint64_t want = (uint64_t)(p * (double)h->total), seen = 0;

	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		seen += h->count[i];
		if (seen > want) {
			unsigned shift = i >> HIST_SUB_BITS;
			uint64_t sub = i & ((1u << HIST_SUB_BITS) - 1);

			/* hist_add() keeps the top bit of (value >> its shift): 64..127. */
			if (!shift)
				return sub;
			return (((uint64_t)(i - ((shift - 1) << HIST_SUB_BITS))) << (shift - 1));
		}
	}
	return h->max;
}
