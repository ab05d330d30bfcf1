#include "agent/set_aside_calls.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <string>
#include <utility>

#include "agent/grpc_status.h"
#include "agent/unary_answer.h"
#include "crdt/changeset.h"
#include "patina/v1/admin.pb.h"
#include "proto/convert.h"

namespace patina::agent {
namespace {

constexpr int kListMax = 10'000;
constexpr int kRowsMax = 1'000;

/// Finishes the call on the writer thread with what the work answers.
template <class Work>
grpc::ServerUnaryReactor* OnWriter(Writer* writer, grpc::CallbackServerContext* call, Work work) {
  grpc::ServerUnaryReactor* const reactor = call->DefaultReactor();
  auto answer = std::make_shared<UnaryAnswer>(reactor);
  writer->Run([answer, work = std::move(work)](storage::Store& store) {
    const Status done = work(store);
    answer->Finish(done.ok() ? grpc::Status::OK : ToGrpcStatus(done.error()));
  });
  return reactor;
}

Status FillRow(const crdt::TableChange& table, const crdt::RowOp& row,
               v1::ShowSetAsideResponse::Row* out) {
  out->set_table(std::string(table.name));
  out->set_kind(row.says == crdt::Says::kAlive     ? "insert"
                : row.says == crdt::Says::kDeleted ? "delete"
                                                   : "update");
  RETURN_IF_ERROR(proto::UnpackToProto(row.key, out->mutable_key()));
  for (size_t i = 0; i < row.positions.size(); ++i) {
    out->add_columns(std::string(table.columns[row.positions[i]].name));
    proto::ToProto(row.values[i], out->add_values());
  }
  return OkStatus();
}

Status FillRows(const std::string& bytes, v1::ShowSetAsideResponse* response) {
  ASSIGN_OR_RETURN(auto reader, crdt::ChangesetReader::Open(bytes));
  crdt::TableChange table;
  crdt::RowOp row;
  while (true) {
    ASSIGN_OR_RETURN(const bool another_table, reader.NextTable(&table));
    if (!another_table) return OkStatus();
    while (true) {
      ASSIGN_OR_RETURN(const bool another_row, reader.NextRow(&row));
      if (!another_row) break;
      if (response->rows_size() >= kRowsMax) {
        response->set_truncated(true);
        return OkStatus();
      }
      RETURN_IF_ERROR(FillRow(table, row, response->add_rows()));
    }
  }
}

}  // namespace

grpc::ServerUnaryReactor* ListSetAside(Writer* writer, grpc::CallbackServerContext* call,
                                       v1::ListSetAsideResponse* response) {
  return OnWriter(writer, call, [response](storage::Store& store) -> Status {
    ASSIGN_OR_RETURN(const std::vector<storage::SetAsideChange> changes, store.SetAside());
    response->set_total(changes.size());
    for (const storage::SetAsideChange& change : changes) {
      if (response->changes_size() >= kListMax) break;
      v1::SetAsideChange* out = response->add_changes();
      proto::ToProto(change.id, out->mutable_id());
      out->set_time_ns(proto::ToNs(change.time));
      out->set_bytes(change.bytes);
      out->set_reason(change.reason);
    }
    return OkStatus();
  });
}

grpc::ServerUnaryReactor* ShowSetAside(Writer* writer, grpc::CallbackServerContext* call,
                                       const v1::ShowSetAsideRequest& request,
                                       v1::ShowSetAsideResponse* response) {
  return OnWriter(writer, call, [id = request.id(), response](storage::Store& store) -> Status {
    ASSIGN_OR_RETURN(const ChangeId change, proto::FromProto(id));
    ASSIGN_OR_RETURN(const std::string bytes, store.SetAsideBytes(change));
    if (bytes.empty()) return FailedPrecondition("nothing is left of this change");
    return FillRows(bytes, response);
  });
}

grpc::ServerUnaryReactor* ApplySetAside(Writer* writer, grpc::CallbackServerContext* call,
                                        const v1::ApplySetAsideRequest& request,
                                        v1::ApplySetAsideResponse* response) {
  grpc::ServerUnaryReactor* const reactor = call->DefaultReactor();
  const Result<ChangeId> id = proto::FromProto(request.id());
  if (!id.ok()) {
    reactor->Finish(ToGrpcStatus(id.error()));
    return reactor;
  }
  auto answer = std::make_shared<UnaryAnswer>(reactor);
  writer->ApplySetAside(*id, [answer, response](Result<storage::Committed> committed) {
    if (!committed.ok()) return answer->Finish(ToGrpcStatus(committed.error()));
    if (committed->version > 0) {
      proto::ToProto(ChangeId{committed->actor, committed->version}, response->mutable_id());
    }
    answer->Finish(grpc::Status::OK);
  });
  return reactor;
}

grpc::ServerUnaryReactor* DropSetAside(Writer* writer, grpc::CallbackServerContext* call,
                                       const v1::DropSetAsideRequest& request) {
  return OnWriter(writer, call, [id = request.id()](storage::Store& store) -> Status {
    ASSIGN_OR_RETURN(const ChangeId change, proto::FromProto(id));
    return store.DropSetAside(change);
  });
}

}  // namespace patina::agent
