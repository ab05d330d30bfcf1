#pragma once

#include "base/status.h"
#include "storage/db.h"
#include "storage/store.h"

namespace patina::storage {

/// Binds a client's parameters. INVALID_ARGUMENT, with the counts or the name, unless exactly the
/// statement's parameters are given. The values must outlive the statement's run.
Status BindParameters(Stmt& prepared, const Statement& statement);

/// Prepares the one statement in the text. INVALID_ARGUMENT: syntax, unknown names, empty, or
/// several statements in one text.
Result<Stmt> PrepareOne(Db& db, std::string_view sql, size_t bytes_max);

}  // namespace patina::storage
