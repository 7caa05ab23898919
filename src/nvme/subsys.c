#include "nvme/nvme_impl.h"

/* filled by its builder */
