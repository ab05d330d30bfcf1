#pragma once

#include <cstdint>
#include <string>

namespace patina::v1 {
class ExecuteRequest;
}

// The rows that benchmarks write, on the schema of fleet/schema.sql. Any thread.

namespace patina::tools::bench {

/// Adds an INSERT of one machine of about 120 bytes.
void AddMachine(const std::string& id, uint64_t number, v1::ExecuteRequest* request);
/// Adds an INSERT of `rows` machines in one statement; ids are prefix + number.
void AddMachines(const std::string& prefix, uint64_t first, uint64_t rows,
                 v1::ExecuteRequest* request);
/// Adds an UPDATE of a machine's state and time.
void AddMachineUpdate(const std::string& id, uint64_t number, v1::ExecuteRequest* request);

/// Adds an INSERT of a machine's load, or an UPDATE of its three columns.
void AddLoadInsert(const std::string& machine, v1::ExecuteRequest* request);
void AddLoadReport(const std::string& machine, uint64_t number, v1::ExecuteRequest* request);

/// Adds an UPSERT of updated_ms = value.
void AddLedgerWrite(const std::string& key, int64_t value, v1::ExecuteRequest* request);

/// Prefix that no earlier run used.
std::string UniquePrefix(const std::string& name);

}  // namespace patina::tools::bench
