/*
 * SIGBUS on shared mappings. The handler runs in whatever thread touched the hole, so it reads a
 * table without locks: main alone writes it, one slot a mapping, and each slot has a sequence
 * count that is odd while main writes.
 *
 * The slot of the mapping that faulted stands still meanwhile: it was filled before anybody knew
 * the address, and it is freed only when nobody accesses the mapping any more. Any other slot may
 * be freed and filled again under the handler. So a slot whose count is odd, or moved while its
 * fields were read, is another mapping's: the handler passes it by and never needs to wait.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/gmem.h"
#include "guest/gmem_impl.h"

#define FAULT_RANGES_MAX 16384

struct fault_range {
	atomic_uint seq;	/* odd: main is writing the rest */
	atomic_uintptr_t start; /* 0: free */
	atomic_size_t len_bytes;
	atomic_size_t page_bytes;
	_Atomic(bool *) lost;
};

/* One slot as it stood at one moment. */
struct fault_copy {
	uintptr_t start;
	size_t len_bytes;
	size_t page_bytes;
	bool *lost;
};

static struct fault_range fault_ranges[FAULT_RANGES_MAX];
static atomic_uint fault_ranges_end; /* slots ever used: what the handler walks */
static int fault_wake_fd = -1;

static void gmem_fault_slot_write(struct fault_range *r, const struct fault_copy *c)
{
	unsigned int seq = atomic_load_explicit(&r->seq, memory_order_relaxed);

	atomic_store_explicit(&r->seq, seq + 1, memory_order_relaxed);
	/* Release: who reads one of the new fields finds the odd count, or a later one, after. */
	atomic_store_explicit(&r->start, c->start, memory_order_release);
	atomic_store_explicit(&r->len_bytes, c->len_bytes, memory_order_release);
	atomic_store_explicit(&r->page_bytes, c->page_bytes, memory_order_release);
	atomic_store_explicit(&r->lost, c->lost, memory_order_release);
	/* Release: pairs with the first load of the count in gmem_fault_slot_read. */
	atomic_store_explicit(&r->seq, seq + 2, memory_order_release);
}

/* False: main is at this slot, so it is not that of a mapping in use. */
static bool gmem_fault_slot_read(struct fault_range *r, struct fault_copy *ret_copy)
{
	unsigned int seq = atomic_load_explicit(&r->seq, memory_order_acquire);

	/* Acquire: pairs with the stores of the fields, so that the count below is not older. */
	ret_copy->start = atomic_load_explicit(&r->start, memory_order_acquire);
	ret_copy->len_bytes = atomic_load_explicit(&r->len_bytes, memory_order_acquire);
	ret_copy->page_bytes = atomic_load_explicit(&r->page_bytes, memory_order_acquire);
	ret_copy->lost = atomic_load_explicit(&r->lost, memory_order_acquire);
	return !(seq & 1) && atomic_load_explicit(&r->seq, memory_order_relaxed) == seq;
}

static bool gmem_fault_heal(const struct fault_copy *c, uintptr_t addr)
{
	uintptr_t at = c->start + num_round_down(addr - c->start, c->page_bytes);
	uint64_t one = 1;

	if (mmap((void *)at, c->page_bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		return false;
	__atomic_store_n(c->lost, true, __ATOMIC_RELEASE);
	if (fault_wake_fd >= 0 && write(fault_wake_fd, &one, sizeof(one)) < 0)
		return true; /* a full eventfd is as awake as can be */
	return true;
}

static void gmem_fault_on_sigbus(int sig, siginfo_t *si, void *ucontext)
{
	uintptr_t addr = (uintptr_t)si->si_addr;
	unsigned int end = atomic_load_explicit(&fault_ranges_end, memory_order_acquire);
	int saved_errno = errno;

	/* Positive codes come from the kernel; kill(2) carries no address. */
	for (unsigned int i = 0; si->si_code > 0 && i < end; i++) {
		struct fault_copy c;

		if (gmem_fault_slot_read(&fault_ranges[i], &c) && c.start &&
		    addr - c.start < c.len_bytes && gmem_fault_heal(&c, addr)) {
			errno = saved_errno;
			return;
		}
	}
	signal(sig, SIG_DFL);
	raise(sig);
}

int gmem_fault_install(int wake_fd, struct err *reterr)
{
	struct sigaction sa = { .sa_sigaction = gmem_fault_on_sigbus, .sa_flags = SA_SIGINFO };

	fault_wake_fd = wake_fd;
	sigemptyset(&sa.sa_mask);
	if (sigaction(SIGBUS, &sa, NULL) < 0)
		return err_set(reterr, -errno, "SIGBUS handler: %s", strerror(errno));
	return 0;
}

int gmem_fault_range_add_paged(void *start, size_t len_bytes, size_t page_bytes, bool *lost)
{
	struct fault_copy c = { (uintptr_t)start, len_bytes, page_bytes, lost };
	unsigned int end = atomic_load_explicit(&fault_ranges_end, memory_order_relaxed);
	unsigned int i = 0;

	while (i < end && atomic_load_explicit(&fault_ranges[i].start, memory_order_relaxed))
		i++;
	if (i == FAULT_RANGES_MAX)
		return -ENOSPC;
	gmem_fault_slot_write(&fault_ranges[i], &c);
	/* Release: pairs with the load in the handler; the slot is filled before it is walked. */
	if (i == end)
		atomic_store_explicit(&fault_ranges_end, end + 1, memory_order_release);
	return 0;
}

int gmem_fault_range_add(void *start, size_t len_bytes, bool *lost)
{
	return gmem_fault_range_add_paged(start, len_bytes, sysconf(_SC_PAGESIZE), lost);
}

void gmem_fault_range_del(void *start)
{
	static const struct fault_copy none;
	unsigned int end = atomic_load_explicit(&fault_ranges_end, memory_order_relaxed);

	for (unsigned int i = 0; i < end; i++) {
		struct fault_range *r = &fault_ranges[i];

		if (atomic_load_explicit(&r->start, memory_order_relaxed) == (uintptr_t)start)
			gmem_fault_slot_write(r, &none);
	}
}
