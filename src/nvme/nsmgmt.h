/* Namespace Management and Attachment (base 5.19, 5.20): namespaces as files in a folder. */
#ifndef NVME_NSMGMT_H
#define NVME_NSMGMT_H

#include <stdint.h>

struct nvme_pool {
	char *path; /* NULL: none */
	uint64_t total_bytes, used_bytes;
};

#endif
