#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "storage/db.h"
#include "storage/schema.h"

namespace patina::storage {

/// Reads one table's declaration as SQLite has it and checks that it can be replicated. Errors name
/// the table and column and say what to do (without file and line: the caller knows them).
Result<Table> IntrospectTable(Db& db, const std::string& table);

/// Names of the user's tables in the file: not SQLite's, not ours.
Result<std::vector<std::string>> UserTables(Db& db);

/// The file's replicated tables, and those that wanted declares, as they are in the file, each with
/// what was dropped before. Merge modes are wanted's: the file does not keep them.
Result<Schema> SchemaInFile(Db& db, const Schema& wanted);

}  // namespace patina::storage
