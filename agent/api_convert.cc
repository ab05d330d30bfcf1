#include "agent/api_convert.h"

#include <string>
#include <utility>

#include "patina/v1/state.pb.h"
#include "proto/convert.h"

namespace patina::agent {

Result<storage::Statement> ToStatement(const v1::Statement& statement) {
  if (statement.parameters_size() > 0 && !statement.named_parameters().empty()) {
    return InvalidArgument("a statement has either positional or named parameters, not both");
  }
  storage::Statement result;
  result.sql = statement.sql();
  ASSIGN_OR_RETURN(result.positional, proto::FromProto(statement.parameters()));
  result.named.reserve(statement.named_parameters().size());
  for (const auto& [name, parameter] : statement.named_parameters()) {
    Result<crdt::Value> value = proto::FromProto(parameter);
    if (!value.ok()) return InvalidArgument("parameter " + name + ": " + value.error().message);
    result.named.emplace_back(name, *std::move(value));
  }
  return result;
}

Result<storage::Transaction> ToTransaction(const v1::ExecuteRequest& request) {
  if (request.statements().empty()) return InvalidArgument("the transaction has no statement");
  storage::Transaction transaction;
  transaction.large = request.large();
  transaction.statements.reserve(static_cast<size_t>(request.statements_size()));
  for (const v1::Statement& statement : request.statements()) {
    Result<storage::Statement> converted = ToStatement(statement);
    if (!converted.ok()) {
      return InvalidArgument("statement " + std::to_string(transaction.statements.size() + 1) +
                             ": " + converted.error().message);
    }
    transaction.statements.push_back(*std::move(converted));
  }
  return transaction;
}

void FillResponse(const storage::Committed& committed, v1::ExecuteResponse* response) {
  response->mutable_rows_changed()->Assign(committed.rows_changed.begin(),
                                           committed.rows_changed.end());
  if (committed.version == 0) return;
  proto::ToProto(ChangeId{committed.actor, committed.version}, response->mutable_id());
  response->set_time_ns(proto::ToNs(committed.time));
  response->set_change_number(committed.seq);
}

}  // namespace patina::agent
