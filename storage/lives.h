#pragma once

#include <map>
#include <string>

#include "base/status.h"
#include "storage/db.h"
#include "storage/schema.h"

// What tables.toml said was dropped when the file was last brought up to it: names dropped earlier
// must stay listed. It stands in __patina_state 'dropped'. Format: u8 format = 1 | tables dropped |
// number of tables | per table: name | columns dropped; each list: number of names | per name:
// name, how often.

namespace patina::storage {

struct DroppedInFile {
  Dropped tables;
  std::map<std::string, Dropped> columns;  // by table
};

/// Nothing was dropped when the file says nothing. DATA_LOSS when it cannot be read.
Result<DroppedInFile> ReadDropped(Db& db);
std::string EncodeDropped(const Schema& schema);

/// The lives of a table of the file and of its columns.
void SetLives(const DroppedInFile& dropped, Table* table);

}  // namespace patina::storage
