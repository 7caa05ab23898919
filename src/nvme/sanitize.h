/* Sanitize (base 5.24, 8.15) of all namespaces of a subsystem. Thread: main. */
#ifndef NVME_SANITIZE_H
#define NVME_SANITIZE_H

#include <stdbool.h>
#include <stdint.h>

struct nvme_sanitize {
	bool running, failed, unrestricted;
	uint32_t cdw10;
	uint16_t progress, status;
};

#endif
