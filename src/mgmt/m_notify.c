#include "mgmt/tables.h"

const struct rpc_method m_notify[] = {
	{ NULL },
};
