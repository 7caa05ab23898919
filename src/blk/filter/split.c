/* See part.h: where the parts of an evenly divided node lie. */
#include <errno.h>

#include "base/num.h"
#include "blk/blk_impl.h"
#include "blk/filter/part.h"

static int split_by_count(const struct blk_dev *base, uint32_t count, uint64_t *ret_part_bytes,
			  struct err *reterr)
{
	uint64_t bytes = num_round_down(base->caps.size_bytes / count, base->caps.block_bytes);

	if (!bytes)
		return err_set(reterr, -ERANGE,
			       "%s: %llu bytes are less than a block for each of "
			       "%u parts",
			       base->name, (unsigned long long)base->caps.size_bytes, count);
	*ret_part_bytes = bytes;
	return 0;
}

static int split_by_size(const struct blk_dev *base, uint32_t count, uint64_t part_bytes,
			 uint32_t *ret_count, struct err *reterr)
{
	uint64_t room = base->caps.size_bytes / part_bytes;

	if (part_bytes % base->caps.block_bytes)
		return err_set(reterr, -EINVAL,
			       "%s: parts of %llu bytes: expected a multiple of the block size, %u",
			       base->name, (unsigned long long)part_bytes, base->caps.block_bytes);
	if (!room || count > room)
		return err_set(reterr, -ERANGE,
			       "%s: %u parts of %llu bytes are more than the %llu that it has",
			       base->name, MAX(count, 1u), (unsigned long long)part_bytes,
			       (unsigned long long)base->caps.size_bytes);
	if (!count && room > BLK_SPLIT_MAX)
		return err_set(reterr, -EINVAL, "%s: %llu parts of %llu bytes: expected at most %u",
			       base->name, (unsigned long long)room, (unsigned long long)part_bytes,
			       BLK_SPLIT_MAX);
	*ret_count = count ? count : (uint32_t)room;
	return 0;
}

int blk_split_plan(const struct blk_dev *base, uint32_t count, uint64_t part_bytes,
		   uint32_t *ret_count, uint64_t *ret_part_bytes, struct err *reterr)
{
	if (!count && !part_bytes)
		return err_set(reterr, -EINVAL,
			       "%s: expected a number of parts, or their size, or both",
			       base->name);
	if (count > BLK_SPLIT_MAX)
		return err_set(reterr, -EINVAL, "%s: %u parts: expected at most %u", base->name,
			       count, BLK_SPLIT_MAX);
	*ret_count = count;
	*ret_part_bytes = part_bytes;
	return part_bytes ? split_by_size(base, count, part_bytes, ret_count, reterr)
			  : split_by_count(base, count, ret_part_bytes, reterr);
}
