/* SET_MEM_TABLE, which vhost-user-nvme has too. */
#ifndef VHOST_MEMTABLE_H
#define VHOST_MEMTABLE_H

#include "base/err.h"
#include "guest/gmem.h"
#include "vhost/msg.h"

/* The map of a SET_MEM_TABLE message, whose descriptors stay the message's; one reference. -EINVAL
 * and gmem_new's errors, named. Thread: main. */
int memtable_parse(const struct msg *m, struct gmem **ret_map, struct err *reterr);

#endif
