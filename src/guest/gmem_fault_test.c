#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/gmem.h"

#define PAGE 4096

static int memfd(size_t len)
{
	int fd = memfd_create("gmem", 0);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, len), 0);
	return fd;
}

static void touch(char *at)
{
	*(volatile char *)at = 1;
}

static void truncation_is_survived_and_wakes_main(void **state)
{
	/* On a file that cannot be sealed: memfd_create without MFD_ALLOW_SEALING. */
	int fd = memfd(4 * PAGE), wake = eventfd(0, EFD_NONBLOCK);
	struct gmem_region_desc d = { 0, 4 * PAGE, 0, 0 };
	struct gmem *map, *again;
	uint64_t n;

	assert_int_equal(gmem_fault_install(wake, NULL), 0);
	assert_int_equal(gmem_new(&d, &fd, 1, &map, NULL), 0);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_false(gmem_lost(map));
	touch(map->regions[0].base + 2 * PAGE + 5);
	assert_true(gmem_lost(map));
	assert_int_equal(map->regions[0].base[2 * PAGE + 5], 1);
	assert_int_equal(read(wake, &n, sizeof(n)), sizeof(n));
	/* The mapping with a hole healed in it is not handed out again. */
	assert_int_equal(ftruncate(fd, 4 * PAGE), 0);
	assert_int_equal(gmem_new(&d, &fd, 1, &again, NULL), 0);
	assert_false(gmem_lost(again));
	assert_ptr_not_equal(again->regions[0].base, map->regions[0].base);
	gmem_unref(map);
	gmem_unref(again);
	assert_int_equal(gmem_fault_install(-1, NULL), 0);
	close(fd);
	close(wake);
}

static void an_object_that_can_be_sealed_cannot_shrink_afterwards(void **state)
{
	int fd = memfd_create("sealable", MFD_ALLOW_SEALING);
	struct gmem_region_desc d = { 0, PAGE, 0, 0 };
	struct gmem *map;

	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_int_equal(gmem_new(&d, &fd, 1, &map, NULL), 0);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	gmem_unref(map);
	close(fd);
}

/* Runs in a child without core dump; says whether it died by SIGBUS. */
static bool dies_by_sigbus(void (*act)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		alarm(20); /* a handler that returns without healing would fault for ever */
		act();
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS;
}

static char *hole_map(size_t len)
{
	int fd = memfd(len);
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	return p;
}

static void touch_beyond_a_range(void)
{
	char *p = hole_map(2 * PAGE);
	bool lost = false;

	if (!gmem_fault_range_add(p, PAGE, &lost)) {
		touch(p);
		touch(p + PAGE);
	}
}

static void touch_a_removed_range(void)
{
	char *p = hole_map(PAGE);
	bool lost = false;

	if (!gmem_fault_range_add(p, PAGE, &lost)) {
		gmem_fault_range_del(p);
		touch(p);
	}
}

static void send_sigbus(void)
{
	kill(getpid(), SIGBUS);
}

static void sigbus_outside_any_range_still_kills(void **state)
{
	assert_int_equal(gmem_fault_install(-1, NULL), 0);
	assert_true(dies_by_sigbus(touch_beyond_a_range));
	assert_true(dies_by_sigbus(touch_a_removed_range));
	assert_true(dies_by_sigbus(send_sigbus));
}

#define ARENA_PAGES 64
#define ROUNDS	    100

static char *arena, *far_away;
static bool lost_short, lost_far;
static atomic_bool churn_stop;
static atomic_bool churn_failed;
static atomic_ulong churn_count;

/*
 * A torn read of a slot needs the handler to be preempted between two loads, which is rare: a run
 * that fails proves much, one that passes little.
 *
 * Fills and frees slot 0: the arena's first page alone, then a long range elsewhere.
 */
static void *churn_main(void *arg)
{
	while (!atomic_load(&churn_stop)) {
		if (gmem_fault_range_add(arena, PAGE, &lost_short))
			atomic_store(&churn_failed, true);
		gmem_fault_range_del(arena);
		if (gmem_fault_range_add(far_away, ARENA_PAGES * PAGE, &lost_far))
			atomic_store(&churn_failed, true);
		gmem_fault_range_del(far_away);
		atomic_fetch_add(&churn_count, 1);
	}
	return NULL;
}

static void a_slot_reused_meanwhile_never_answers_for_another_range(void **state)
{
	int fd = memfd(PAGE);
	bool lost = false;
	pthread_t churn;

	assert_int_equal(gmem_fault_install(-1, NULL), 0);
	arena = hole_map(ARENA_PAGES * PAGE);
	far_away = hole_map(ARENA_PAGES * PAGE);
	assert_int_equal(ftruncate(fd, 0), 0);
	/* Slot 0 is the churn's, the next one ours: the handler passes by slot 0 each time. */
	assert_int_equal(gmem_fault_range_add(far_away, PAGE, &lost_far), 0);
	assert_int_equal(gmem_fault_range_add(arena + PAGE, (ARENA_PAGES - 1) * PAGE, &lost), 0);
	gmem_fault_range_del(far_away);
	assert_int_equal(pthread_create(&churn, NULL, churn_main, NULL), 0);
	for (int round = 0; round < ROUNDS || atomic_load(&churn_count) < ROUNDS; round++) {
		lost = false;
		for (int i = 1; i < ARENA_PAGES; i++)
			touch(arena + (size_t)i * PAGE);
		assert_true(lost);
		assert_ptr_equal(mmap(arena, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, fd, 0),
				 arena);
	}
	atomic_store(&churn_stop, true);
	pthread_join(churn, NULL);
	assert_false(lost_short);
	assert_false(lost_far);
	assert_false(atomic_load(&churn_failed));
	gmem_fault_range_del(arena + PAGE);
	munmap(arena, ARENA_PAGES * PAGE);
	munmap(far_away, ARENA_PAGES * PAGE);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(truncation_is_survived_and_wakes_main),
		cmocka_unit_test(an_object_that_can_be_sealed_cannot_shrink_afterwards),
		cmocka_unit_test(sigbus_outside_any_range_still_kills),
		cmocka_unit_test(a_slot_reused_meanwhile_never_answers_for_another_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
