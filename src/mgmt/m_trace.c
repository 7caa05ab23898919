#include "mgmt/tables.h"

const struct rpc_method m_trace[] = {
	{ NULL },
};
