#include "nvme/nvme_impl.h"
