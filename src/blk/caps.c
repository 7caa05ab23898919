/* Capabilities: what a back-end said about itself, checked once when it is opened. */
#include <errno.h>

#include "base/num.h"
#include "blk/blk_impl.h"

int blk_caps_check(struct blk_caps *caps, struct err *reterr)
{
	if (!num_is_pow2(caps->block_bytes) || caps->block_bytes < 512 || caps->block_bytes > 65536)
		return err_set(reterr, -EINVAL,
			       "block size %u: expected a power of two, 512 to 65536",
			       caps->block_bytes);
	if (caps->size_bytes % caps->block_bytes)
		return err_set(reterr, -EINVAL, "size %llu is not a multiple of the block size %u",
			       (unsigned long long)caps->size_bytes, caps->block_bytes);
	if (caps->size_bytes > INT64_MAX)
		return err_set(reterr, -EFBIG, "size %llu is more than 2^63-1",
			       (unsigned long long)caps->size_bytes);
	if (!num_is_pow2(caps->phys_bytes) || caps->phys_bytes < caps->block_bytes)
		caps->phys_bytes = caps->block_bytes;
	if (!caps->mem_align)
		caps->mem_align = 1;
	if (!num_is_pow2(caps->mem_align) || caps->mem_align > 65536)
		return err_set(reterr, -EINVAL, "memory alignment %u: expected a power of two",
			       caps->mem_align);
	if (caps->discard_align_bytes < caps->block_bytes)
		caps->discard_align_bytes = caps->block_bytes;
	if (caps->read_only)
		caps->discard = caps->write_zeroes = caps->zeroes_unmap = caps->secure_erase =
			false;
	return 0;
}
