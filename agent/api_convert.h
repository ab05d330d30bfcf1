#pragma once

#include "base/status.h"
#include "storage/store.h"

namespace patina::v1 {
class ExecuteRequest;
class ExecuteResponse;
class Statement;
}  // namespace patina::v1

// Requests of the API into what the core takes, and answers back. Any thread.

namespace patina::agent {

/// INVALID_ARGUMENT: positional and named parameters together, a value without a kind.
Result<storage::Statement> ToStatement(const v1::Statement& statement);
/// INVALID_ARGUMENT names the statement by its number.
Result<storage::Transaction> ToTransaction(const v1::ExecuteRequest& request);
void FillResponse(const storage::Committed& committed, v1::ExecuteResponse* response);

}  // namespace patina::agent
