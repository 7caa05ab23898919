/* Format NVM (base 5.23) of one namespace or of all that a controller has. Thread: main. */
#ifndef NVME_FORMAT_H
#define NVME_FORMAT_H

#include <stdint.h>

struct nvme_ns;

struct nvme_formatting {
	uint64_t done_bytes, total_bytes; /* while it runs */
};

/* FPI of Identify Namespace. */
uint8_t nvme_format_progress(const struct nvme_ns *ns);

#endif
