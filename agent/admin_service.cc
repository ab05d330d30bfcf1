#include "agent/admin_service.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "agent/backup_service.h"
#include "agent/grpc_status.h"
#include "agent/schema_reload.h"
#include "agent/set_aside_calls.h"
#include "agent/status_report.h"
#include "agent/unary_answer.h"
#include "base/log.h"
#include "patina/v1/admin.grpc.pb.h"
#include "proto/convert.h"

namespace patina::agent {
namespace {

constexpr auto kVerifyDeadline = std::chrono::seconds(10);
constexpr uint32_t kVerifyDeadlineMsMax = 10 * 60 * 1000;

void FillNode(const VerifyReport::Node& node, v1::VerifyResponse::Node* out) {
  out->set_name(node.name);
  for (const storage::TableDigest& table : node.tables) FillTable(table, out->add_tables());
  out->set_received_digest(node.received_digest);
  out->set_received(node.received);
}

void FillDifference(const VerifyReport::Difference& difference,
                    v1::VerifyResponse::Difference* out) {
  out->set_table(difference.table);
  if (!proto::UnpackToProto(difference.key, out->mutable_key()).ok()) {
    out->clear_key();
    out->add_key()->set_blob(difference.key);  // as it is, rather than nothing
  }
  out->set_column(difference.column);
  for (const VerifyReport::Cell& cell : difference.cells) {
    v1::VerifyResponse::Cell* filled = out->add_cells();
    filled->set_node(cell.node);
    filled->set_value(proto::IsUtf8(cell.value) ? cell.value : "(not UTF-8)");
    filled->set_time_ns(proto::ToNs(cell.time));
    if (cell.id.version > 0) proto::ToProto(cell.id, filled->mutable_id());
  }
}

void FillReport(const VerifyReport& report, v1::VerifyResponse* response) {
  response->set_equal(report.equal);
  for (const auto& node : report.nodes) FillNode(node, response->add_nodes());
  for (const auto& difference : report.differences) {
    FillDifference(difference, response->add_differences());
  }
  for (const std::string& name : report.not_reached) response->add_not_reached(name);
}

/// ["b", "b", "c"] in the words of tables.toml.
std::string ListOf(const storage::Dropped& dropped) {
  std::string list;
  for (const auto& [name, times] : dropped) {
    for (uint32_t i = 0; i < times; ++i)
      list += (list.empty() ? "" : ", ") + storage::QuoteToml(name);
  }
  return "[" + list + "]";
}

void FillOutcome(const storage::ForeignOutcome& outcome, v1::VerifyResponse* response) {
  response->set_foreign_settled(outcome.settled);
  for (const storage::ForeignRowLeft& left : outcome.left) {
    if (static_cast<size_t>(response->foreign_size()) >= kForeignRowsShown) return;
    v1::ForeignRow* out = response->add_foreign();
    FillForeignRow(left.row, out);
    out->set_why(left.why);
  }
}

/// Merge modes and dropped names, in the words of tables.toml.
std::string TablesToml(const storage::Schema& schema) {
  std::string toml;
  if (!schema.dropped_tables.empty())
    toml += "dropped_tables = " + ListOf(schema.dropped_tables) + "\n";
  for (const storage::Table& table : schema.tables) {
    if (!table.merge_row && table.dropped.empty()) continue;
    toml += "[" + storage::QuoteToml(table.name) + "]\n";
    if (table.merge_row) toml += "merge = \"row\"\n";
    if (!table.dropped.empty()) toml += "dropped = " + ListOf(table.dropped) + "\n";
  }
  return toml;
}

void FillSchema(const storage::Schema& schema, v1::SchemaResponse* response) {
  response->set_hash(schema.Hash());
  for (const storage::Table& table : schema.tables) {
    response->add_tables(table.create_sql);
    for (const storage::Index& index : table.indexes) response->add_tables(index.sql);
  }
  for (const storage::SchemaWarning& warning : schema.warnings) {
    response->add_warnings(warning.text);
  }
  response->set_tables_toml(TablesToml(schema));
}

Result<FaultCommand> ToCommand(const v1::FaultRequest& request) {
  using Kind = FaultCommand::Kind;
  static const std::map<v1::FaultRequest::Kind, Kind> kinds = {
      {v1::FaultRequest::KIND_CUT, Kind::kCut},     {v1::FaultRequest::KIND_HEAL, Kind::kHeal},
      {v1::FaultRequest::KIND_DELAY, Kind::kDelay}, {v1::FaultRequest::KIND_DROP, Kind::kDrop},
      {v1::FaultRequest::KIND_CLOCK, Kind::kClock}, {v1::FaultRequest::KIND_SHOW, Kind::kShow}};
  const auto kind = kinds.find(request.kind());
  if (kind == kinds.end()) return InvalidArgument("kind of fault: unknown or missing");
  if (!(request.drop_fraction() >= 0 && request.drop_fraction() <= 1)) {
    return InvalidArgument("drop_fraction must be from 0 to 1");
  }
  FaultCommand command;
  command.kind = kind->second;
  command.peers.assign(request.peers().begin(), request.peers().end());
  command.delay_ms = request.delay_ms();
  command.drop_fraction = request.drop_fraction();
  command.clock_ms = request.clock_ms();
  return command;
}

grpc::ServerUnaryReactor* FinishWith(grpc::CallbackServerContext* call, const Status& status) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  reactor->Finish(status.ok() ? grpc::Status::OK : ToGrpcStatus(status.error()));
  return reactor;
}

class AdminService final : public v1::Admin::CallbackService {
 public:
  AdminService(const ApiContext& context, ApiStreams& streams)
      : context_(context), streams_(streams), started_(SystemClock().Now()) {}

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* call, const v1::StatusRequest*,
                                   v1::StatusResponse* response) override {
    grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
    auto answer = std::make_shared<UnaryAnswer>(reactor);
    response->set_uptime_ms(ToMs(SystemClock().Now() - started_));
    // Then the store cannot be asked.
    if (const Writer::Stats writer = context_.writer->stats(); writer.large_running_ms > 0) {
      response->set_busy(
          "a large transaction runs since " + std::to_string(writer.large_running_ms) + " ms, " +
          std::to_string(writer.large_rows) + " rows so far; other writes wait for it");
      FillFromThreads(context_, streams_, response);
      answer->Finish(grpc::Status::OK);
      return reactor;
    }
    context_.writer->Run([this, answer, response](storage::Store& store) {
      FillFromStore(store, *context_.config, response);
      FillCollection(store, *context_.collection, response);
      FillFromThreads(context_, streams_, response);
      answer->Finish(grpc::Status::OK);
    });
    return reactor;
  }

  grpc::ServerUnaryReactor* Verify(grpc::CallbackServerContext* call,
                                   const v1::VerifyRequest* request,
                                   v1::VerifyResponse* response) override {
    grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
    auto answer = std::make_shared<UnaryAnswer>(reactor);
    Duration deadline = kVerifyDeadline;
    if (request->deadline_ms() > 0) {
      deadline = std::chrono::milliseconds(std::min(request->deadline_ms(), kVerifyDeadlineMsMax));
    }
    const auto verify = [this, answer, response, deadline] {
      context_.verifier->Verify(deadline, [answer, response](const VerifyReport& report) {
        FillReport(report, response);
        answer->Finish(grpc::Status::OK);
      });
    };
    if (request->foreign() == v1::VerifyRequest::FOREIGN_ACTION_UNSPECIFIED) {
      context_.writer->Run([response, verify](storage::Store& store) {
        for (const storage::ForeignRow& row : store.ForeignRows(kForeignRowsShown)) {
          FillForeignRow(row, response->add_foreign());
        }
        verify();
      });
      return reactor;
    }
    const auto action = request->foreign() == v1::VerifyRequest::FOREIGN_ACTION_ADOPT
                            ? storage::ForeignAction::kAdopt
                            : storage::ForeignAction::kDiscard;
    context_.writer->SettleForeignRows(
        action, [answer, response, verify](const Result<storage::ForeignOutcome>& outcome) {
          if (!outcome.ok()) return answer->Finish(ToGrpcStatus(outcome.error()));
          FillOutcome(*outcome, response);
          verify();
        });
    return reactor;
  }

  grpc::ServerUnaryReactor* Schema(grpc::CallbackServerContext* call,
                                   const v1::SchemaRequest* request,
                                   v1::SchemaResponse* response) override {
    if (request->action() == v1::SchemaRequest::ACTION_RELOAD) {
      return Reload(call, request->allow_destructive(), response);
    }
    if (request->action() != v1::SchemaRequest::ACTION_SHOW) {
      return FinishWith(call, InvalidArgument("action of Schema: unknown or missing"));
    }
    FillSchema(*context_.schema->load(), response);
    return FinishWith(call, OkStatus());
  }

  grpc::ServerUnaryReactor* SetLogLevel(grpc::CallbackServerContext* call,
                                        const v1::SetLogLevelRequest* request,
                                        v1::SetLogLevelResponse*) override {
    if (!patina::SetLogLevel(request->level())) {
      return FinishWith(call, InvalidArgument("no such level: " + request->level() +
                                              " (debug, info, warning, error or off)"));
    }
    return FinishWith(call, OkStatus());
  }

  grpc::ServerUnaryReactor* Fault(grpc::CallbackServerContext* call,
                                  const v1::FaultRequest* request,
                                  v1::FaultResponse* response) override {
    const Result<FaultCommand> command = ToCommand(*request);
    if (!command.ok()) return FinishWith(call, command.error());
    const Result<std::vector<std::string>> active = context_.net->Fault(*command);
    if (!active.ok()) return FinishWith(call, active.error());
    for (const std::string& fault : *active) response->add_active(fault);
    return FinishWith(call, OkStatus());
  }

  grpc::ServerWriteReactor<v1::BackupResponse>* Backup(grpc::CallbackServerContext*,
                                                       const v1::BackupRequest* request) override {
    return NewBackupCall(context_, streams_, *request);
  }

  grpc::ServerUnaryReactor* ListSetAside(grpc::CallbackServerContext* call,
                                         const v1::ListSetAsideRequest*,
                                         v1::ListSetAsideResponse* response) override {
    return agent::ListSetAside(context_.writer, call, response);
  }
  grpc::ServerUnaryReactor* ShowSetAside(grpc::CallbackServerContext* call,
                                         const v1::ShowSetAsideRequest* request,
                                         v1::ShowSetAsideResponse* response) override {
    return agent::ShowSetAside(context_.writer, call, *request, response);
  }
  grpc::ServerUnaryReactor* ApplySetAside(grpc::CallbackServerContext* call,
                                          const v1::ApplySetAsideRequest* request,
                                          v1::ApplySetAsideResponse* response) override {
    return agent::ApplySetAside(context_.writer, call, *request, response);
  }
  grpc::ServerUnaryReactor* DropSetAside(grpc::CallbackServerContext* call,
                                         const v1::DropSetAsideRequest* request,
                                         v1::DropSetAsideResponse*) override {
    return agent::DropSetAside(context_.writer, call, *request);
  }

 private:
  /// Reads files, so on a reader's thread; writes wait only while the tables change.
  grpc::ServerUnaryReactor* Reload(grpc::CallbackServerContext* call, bool allow_destructive,
                                   v1::SchemaResponse* response) {
    grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
    auto answer = std::make_shared<UnaryAnswer>(reactor);
    auto done = [answer, response](const Result<storage::SchemaOutcome>& outcome) {
      if (!outcome.ok()) return answer->Finish(ToGrpcStatus(outcome.error()));
      for (const storage::SchemaChange& change : outcome->changes)
        response->add_changes(change.text);
      response->set_waited_us(ToUs(outcome->took));
      answer->Finish(grpc::Status::OK);
    };
    const patina::Status submitted =
        context_.readers->Submit([this, allow_destructive, done](auto&) {
          ReloadSchema(*context_.config, *context_.writer, allow_destructive, done);
        });
    if (!submitted.ok()) answer->Finish(ToGrpcStatus(submitted.error()));
    return reactor;
  }

  const ApiContext context_;
  ApiStreams& streams_;
  const Instant started_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAdminService(const ApiContext& context, ApiStreams& streams) {
  return std::make_unique<AdminService>(context, streams);
}

}  // namespace patina::agent
